"""Vectors by key, as ``gensim.models.keyedvectors``: look-up, similarity, nearest neighbours, evaluation, files.

Searches run in the compiled core, in threads and without the GIL, over any number of vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convec.models.keyedvectors_evaluation import Correlation, Evaluation
from convec.models.keyedvectors_files import VectorFiles
from convec.models.keyedvectors_table import prep_vectors

__all__ = [
    "Correlation",
    "Doc2VecKeyedVectors",
    "EuclideanKeyedVectors",
    "KeyedVectors",
    "Word2VecKeyedVectors",
    "load_word2vec_format",
    "prep_vectors",
    "pseudorandom_weak_vector",
]


class KeyedVectors(Evaluation, VectorFiles):
    """A mapping of keys (words) to vectors, and similarity look-ups, as ``gensim.models.KeyedVectors``.

    Args:
        vector_size: elements of each vector.
        count: slots to prepare for :meth:`add_vector`.
        dtype: element type of the vectors. Searches are fastest in float32.
        mapfile_path: kept for gensim's sake; has no effect.

    Attributes:
        device: where large searches run.
        device_threshold: similarities, queries times rows, from which on they do so on a CUDA device.
        vector_size: elements of each vector.
        vectors: the (count, vector_size) array. Rows may lie further apart in memory than they are long. Whoever
            writes to it calls ``fill_norms(force=True)`` afterwards; assigning another array does so by itself.
        index_to_key: the key of each row.
        key_to_index: the row of each key.
        norms: Euclidean length of each vector, or None until :meth:`fill_norms` is called.
        expandos: the arrays behind :meth:`get_vecattr`, by name.
        next_index: the slot the next :meth:`add_vector` fills.
    """


# Names under which older code knows the same class.
Word2VecKeyedVectors = KeyedVectors
Doc2VecKeyedVectors = KeyedVectors
EuclideanKeyedVectors = KeyedVectors


def load_word2vec_format(*args: Any, **kwargs: Any) -> KeyedVectors:
    """:meth:`KeyedVectors.load_word2vec_format`."""
    return KeyedVectors.load_word2vec_format(*args, **kwargs)


def pseudorandom_weak_vector(
    size: int, seed_string: str | None = None, hashfxn: Callable[[str], int] = hash
) -> NDArray[np.float32]:
    """Random numbers in [-0.5, 0.5) / size, the same for the same ``seed_string`` and ``hashfxn``."""
    seed = hashfxn(seed_string) & 0xFFFFFFFF if seed_string else None
    generator = np.random.Generator(np.random.SFC64(seed))
    return cast("NDArray[np.float32]", (generator.random(size).astype(np.float32) - np.float32(0.5)) / np.float32(size))
