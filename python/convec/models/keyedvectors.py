"""Vectors by key, as ``gensim.models.keyedvectors``: look-up, similarity, nearest neighbours, evaluation, files.

Searches run in the compiled core, in threads and without the GIL, over any number of vectors.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convec import _core
from convec.models._word2vec_format import open_binary, read_word2vec, replacing, write_word2vec

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

logger = logging.getLogger(__name__)

Key = str | int | np.integer[Any]
Vector = NDArray[Any]
PathLike = str | os.PathLike[str]
_Self = TypeVar("_Self", bound="KeyedVectors")

_KEY_TYPES = (str, int, np.integer)
_FORMAT = "convec.KeyedVectors"
# Rows that are converted at a time where the vectors are not float32.
_CONVERTED_ROWS = 1 << 16
# Analogies that are answered by one product of matrices.
_ANALOGIES_AT_ONCE = 4096

# Names of gensim 3 and where their content is now.
_MOVED = {
    "accuracy": "evaluate_word_analogies(...)",
    "index2entity": "index_to_key",
    "index2word": "index_to_key",
    "syn0": "vectors",
    "syn0norm": "get_normed_vectors()",
    "vectors_norm": "get_normed_vectors()",
    "vocab": "key_to_index (a dict), index_to_key (a list) and get_vecattr(key, 'count')",
    "wv": "the object itself: these are the KeyedVectors already",
}


class Correlation(NamedTuple):
    """A correlation coefficient and its two-sided p-value."""

    statistic: float
    pvalue: float


class _AbsentKeyError(KeyError):
    """A key is absent. Near spellings are looked for when the message is read: not by code that expects the error."""

    def __init__(self, key: Any, keys: list[Any]) -> None:
        super().__init__(f"Key '{key}' not present")
        self._key = key
        self._keys = keys

    def __str__(self) -> str:
        near = []
        if isinstance(self._key, str):
            wanted = self._key.encode("utf8", "replace").decode()
            near = [self._keys[index] for index in _core.near_spellings(wanted, self._keys, 5)]
        hint = f"; near it are {', '.join(repr(key) for key in near)}" if near else ""
        return f"{self.args[0]}{hint}"

    def __reduce__(self) -> tuple[type[KeyError], tuple[str]]:
        return KeyError, (str(self),)


def _as_list(value: Any) -> list[Any]:
    """One key or vector, or several of them, as a list."""
    if value is None:
        return []
    if isinstance(value, _KEY_TYPES) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return [value]
    return list(value)


def _stack_level() -> int:
    """The ``stacklevel`` of a warning that is to point at the first caller outside of this module."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        level, frame = level + 1, frame.f_back
    return level


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=3)


def _unit(vectors: Vector) -> Vector:
    """The vectors (along the last axis) at unit length; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms))


class KeyedVectors:
    """A mapping of keys (words) to vectors, and similarity look-ups, as ``gensim.models.KeyedVectors``.

    Args:
        vector_size: elements of each vector.
        count: slots to prepare for :meth:`add_vector`.
        dtype: element type of the vectors. Searches are fastest in float32.
        mapfile_path: kept for gensim's sake; has no effect.

    Attributes:
        vector_size: elements of each vector.
        vectors: the (count, vector_size) array. Rows may lie further apart in memory than they are long. Whoever
            writes to it calls ``fill_norms(force=True)`` afterwards; assigning another array does so by itself.
        index_to_key: the key of each row.
        key_to_index: the row of each key.
        norms: Euclidean length of each vector, or None until :meth:`fill_norms` is called.
        expandos: the arrays behind :meth:`get_vecattr`, by name.
        next_index: the slot the next :meth:`add_vector` fills.
    """

    def __init__(
        self, vector_size: int, count: int = 0, dtype: DTypeLike = np.float32, mapfile_path: PathLike | None = None
    ) -> None:
        self.vector_size = vector_size
        self.index_to_key: list[Any] = [None] * count
        self.key_to_index: dict[Any, int] = {}
        self.next_index = 0
        self.norms: NDArray[Any] | None = None
        self._vectors: Vector = np.zeros((count, vector_size), dtype=dtype)
        self.expandos: dict[str, NDArray[Any]] = {}
        self.mapfile_path = mapfile_path

    def __str__(self) -> str:
        return f"{type(self).__name__}<vector_size={self.vector_size}, {len(self)} keys>"

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        if name in _MOVED:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}' since gensim 4: use {_MOVED[name]}")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    # ------------------------------------------------------------------ vectors

    @property
    def vectors(self) -> Vector:
        """The (count, vector_size) array of vectors."""
        return self._vectors

    @vectors.setter
    def vectors(self, vectors: Vector) -> None:
        vectors = np.asanyarray(vectors)
        if vectors.ndim != 2:
            raise ValueError(f"vectors has shape {vectors.shape}, but must be (count, vector_size)")
        rows_apart, elements_apart = vectors.strides
        size = vectors.shape[1] * vectors.itemsize
        if (elements_apart != vectors.itemsize and vectors.shape[1] > 1) or (rows_apart < size and len(vectors) > 1):
            vectors = np.ascontiguousarray(vectors)
        self._vectors = vectors
        self.norms = None

    def __len__(self) -> int:
        return len(self.index_to_key)

    def __getitem__(self, key_or_keys: Key | Iterable[Key]) -> Vector:
        """The vector of a key (read-only), or the (count, vector_size) vectors of several (a copy)."""
        if isinstance(key_or_keys, _KEY_TYPES):
            return self.get_vector(key_or_keys)
        return self._vectors[[self.get_index(key) for key in key_or_keys]]

    def __setitem__(self, keys: Key | list[Key], weights: Any) -> None:
        """Adds keys and their vectors; vectors of keys that are present are replaced."""
        if not isinstance(keys, list):
            keys, weights = [keys], np.asarray(weights).reshape(1, -1)
        self.add_vectors(keys, weights, replace=True)

    def __contains__(self, key: object) -> bool:
        return self.has_index_for(key)

    def has_index_for(self, key: Any) -> bool:
        """Whether the key, or row number, is present."""
        return self.get_index(key, -1) >= 0

    def get_index(self, key: Any, default: int | None = None) -> int:
        """The row of a key. An integer that is no key is taken as a row number.

        Args:
            key: the key.
            default: returned for an absent key.

        Raises:
            KeyError: the key is absent and there is no default; the message lists near spellings.
        """
        index = self.key_to_index.get(key, -1)
        if index >= 0:
            return index
        if isinstance(key, (int, np.integer)) and 0 <= key < len(self.index_to_key):
            return int(key)
        if default is not None:
            return default
        raise _AbsentKeyError(key, self.index_to_key)

    def get_vector(self, key: Key, norm: bool = False) -> Vector:
        """The vector of a key, read-only.

        Args:
            key: the key, or a row number.
            norm: at unit length.

        Raises:
            KeyError: the key is absent.
        """
        index = self.get_index(key)
        vector: Vector = self._vectors[index]
        if norm:
            length = self._norms()[index]
            vector = vector / (length if length != 0 else length.dtype.type(1))
        vector.setflags(write=False)
        return vector

    def word_vec(self, *args: Any, **kwargs: Any) -> Vector:
        """Deprecated name of :meth:`get_vector`."""
        _deprecated("word_vec", "get_vector")
        return self.get_vector(*args, **kwargs)

    def get_mean_vector(
        self,
        keys: Any,
        weights: Sequence[float] | NDArray[Any] | None = None,
        pre_normalize: bool = True,
        post_normalize: bool = False,
        ignore_missing: bool = True,
    ) -> Vector:
        """The weighted mean of several vectors.

        Args:
            keys: keys, row numbers or arrays of ``vector_size`` numbers.
            weights: one number a key; 1 without. The sum is divided by the sum of their absolute values.
            pre_normalize: vectors of keys (not arrays) are taken at unit length.
            post_normalize: the mean is returned at unit length.
            ignore_missing: absent keys are left out instead of raising.

        Returns:
            (vector_size,), of the vectors' dtype (float32 with ``post_normalize``).

        Raises:
            ValueError: there are no keys, or not as many weights, or an array has another size.
            KeyError: a key is absent and ``ignore_missing`` is False.
        """
        keys = _as_list(keys)
        if not keys:
            raise ValueError("cannot compute mean with no input")
        factors = np.ones(len(keys)) if weights is None else np.asarray(weights, np.float64)
        if factors.shape != (len(keys),):
            raise ValueError(
                f"keys and weights array must have same number of elements; there are {len(keys)} keys and weights of "
                f"shape {factors.shape}"
            )
        rows, used = [], []
        for key, factor in zip(keys, factors, strict=True):
            if isinstance(key, np.ndarray):
                if key.shape != (self.vector_size,):
                    raise ValueError(f"a vector has shape {key.shape}, but must be ({self.vector_size},)")
                rows.append(key)
            elif key in self:
                rows.append(self.get_vector(key, norm=pre_normalize))
            elif ignore_missing:
                continue
            else:
                raise _AbsentKeyError(key, self.index_to_key)
            used.append(factor)
        mean = np.zeros(self.vector_size)
        if rows:
            mean = np.asarray(used) @ np.stack(rows).astype(np.float64)
        total = np.abs(used).sum() if used else 0.0
        if total > 0:
            mean /= total
        return _unit(mean).astype(np.float32) if post_normalize else mean.astype(self._vectors.dtype)

    def _make_writable(self) -> None:
        """Before vectors are changed in place: a copy of mapped ones, and no norms."""
        if not self._vectors.flags.writeable:
            self._vectors = np.array(self._vectors)
        self.norms = None

    def _norms(self) -> NDArray[Any]:
        self.fill_norms()
        return cast("NDArray[Any]", self.norms)

    def fill_norms(self, force: bool = False) -> None:
        """Computes :attr:`norms` where they are not there yet, or again with ``force`` after vectors were changed."""
        if self.norms is None or force or len(self.norms) != len(self._vectors):
            if self._vectors.dtype == np.float32:
                self.norms = _core.vector_norms(self._vectors)
            else:
                self.norms = np.linalg.norm(self._vectors, axis=1)

    def get_normed_vectors(self) -> Vector:
        """All vectors at unit length, a new (count, vector_size) array. Zero vectors stay zero."""
        norms = self._norms()
        return np.asarray(self._vectors / np.where(norms == 0, 1, norms).astype(norms.dtype)[:, np.newaxis])

    def unit_normalize_all(self) -> None:
        """Scales all vectors to unit length, in place. Training cannot sensibly go on after that."""
        norms = self._norms()
        self._make_writable()
        self._vectors /= np.where(norms == 0, 1, norms).astype(norms.dtype)[:, np.newaxis]
        self.fill_norms()

    def init_sims(self, replace: bool = False) -> None:
        """Deprecated: :meth:`fill_norms`, or :meth:`unit_normalize_all` with ``replace``."""
        _deprecated("init_sims", "fill_norms")
        self.fill_norms()
        if replace:
            self.unit_normalize_all()

    # ------------------------------------------------------------------ adding and ordering

    def add_vector(self, key: Key, vector: Any) -> int:
        """Adds one vector, into a prepared slot where there is one (see ``count``).

        A key that is present keeps its vector.

        Returns:
            The row of the key.

        Raises:
            ValueError: the vector has another size.
        """
        vector = np.asarray(vector)
        if vector.shape != (self.vector_size,):
            raise ValueError(f"vector has shape {vector.shape}, but must be ({self.vector_size},)")
        if key in self.key_to_index:
            logger.warning("key %r is present; its vector is kept (assign to [key] to replace it)", key)
            return self.key_to_index[key]
        index = self.next_index
        if index < len(self) and self.index_to_key[index] is None:
            self.index_to_key[index] = key
            self.key_to_index[key] = index
            self._make_writable()
            self._vectors[index] = vector
            self.next_index += 1
            return index
        warnings.warn(
            "Adding single vectors to a KeyedVectors which grows by one each time can be costly. Consider adding in "
            "batches or preallocating to the required size.",
            UserWarning,
            stacklevel=2,
        )
        index = len(self)
        self.add_vectors([key], vector[np.newaxis])
        self.next_index = index + 1
        return index

    def add_vectors(
        self,
        keys: Key | Sequence[Key],
        weights: Any,
        extras: Mapping[str, NDArray[Any]] | None = None,
        replace: bool = False,
    ) -> None:
        """Adds keys and their vectors at the end.

        Args:
            keys: the keys.
            weights: one vector a key, (count, vector_size).
            extras: arrays of one value a key, by the name of their attribute (:meth:`get_vecattr`).
            replace: keys that are present take the new vector and extras, instead of keeping theirs.

        Raises:
            ValueError: the numbers of keys, vectors and extras differ, or a vector has another size.
            TypeError: an extra does not fit its attribute's type.
        """
        if isinstance(keys, _KEY_TYPES):
            keys, weights = [keys], np.asarray(weights).reshape(1, -1)
        keys = list(keys)
        weights = np.asarray(weights)
        if not keys and weights.size == 0:
            return
        if weights.shape != (len(keys), self.vector_size):
            raise ValueError(
                f"weights has shape {weights.shape}, but must be ({len(keys)}, {self.vector_size}): one vector a key"
            )
        values = {name: np.asarray(array) for name, array in (extras or {}).items()}
        for name, array in values.items():
            if len(array) != len(keys):
                raise ValueError(f"extras[{name!r}] has {len(array)} values, but there are {len(keys)} keys")
        self.allocate_vecattrs(list(values), [array.dtype.type for array in values.values()])

        old = len(self)
        fresh = []
        for position, key in enumerate(keys):
            if key not in self.key_to_index:
                self.key_to_index[key] = len(self.index_to_key)
                self.index_to_key.append(key)
                fresh.append(position)
        if fresh:
            self.vectors = np.concatenate((self._vectors, weights[fresh].astype(self._vectors.dtype)))
            self.allocate_vecattrs()
        for name, array in values.items():
            self.expandos[name][old:] = array[fresh]
        if replace:
            added = set(fresh)
            rest = [position for position in range(len(keys)) if position not in added]
            indices = [self.key_to_index[keys[position]] for position in rest]
            self._make_writable()
            self._vectors[indices] = weights[rest]
            for name, array in values.items():
                self.expandos[name][indices] = array[rest]

    def resize_vectors(self, seed: int = 0) -> None:
        """Gives :attr:`vectors` a row for every key; new rows are random."""
        self.vectors = prep_vectors((len(self.index_to_key), self.vector_size), prior_vectors=self._vectors, seed=seed)
        self.allocate_vecattrs()

    def vectors_for_all(
        self, keys: Iterable[Hashable], allow_inference: bool = True, copy_vecattrs: bool = False
    ) -> KeyedVectors:
        """Vectors of those of the keys that are present, as new KeyedVectors in the order of the keys.

        Args:
            keys: the keys; duplicates are left out.
            allow_inference: also those for which a subclass finds a vector although they are no keys.
            copy_vecattrs: attributes are copied too.
        """
        known: Any = self if allow_inference else self.key_to_index
        chosen = [key for key in dict.fromkeys(keys) if key in known]
        indices = [self.get_index(key, -1) for key in chosen]
        result = KeyedVectors(self.vector_size, 0, dtype=self._vectors.dtype)
        result.index_to_key = chosen
        result.key_to_index = {key: index for index, key in enumerate(chosen)}
        vectors = np.array(self._vectors[indices])
        for row, index in enumerate(indices):
            if index < 0:
                vectors[row] = self.get_vector(cast("Key", chosen[row]))
        result.vectors = vectors
        result.next_index = len(chosen)
        result.expandos["count"] = np.arange(len(chosen), 0, -1, dtype=np.int64)
        if copy_vecattrs:
            present = np.asarray(indices, np.int64) >= 0
            for name, array in self.expandos.items():
                if name not in result.expandos:
                    result.expandos[name] = np.zeros(len(chosen), array.dtype)
                result.expandos[name] = result.expandos[name].astype(array.dtype, copy=False)
                result.expandos[name][present] = array[np.asarray(indices, np.int64)[present]]
        return result

    def sort_by_descending_frequency(self) -> None:
        """Puts the keys in the order of their attribute 'count', the most frequent first; equal ones keep theirs."""
        if not len(self):
            return
        order = np.argsort(-np.asarray(self.expandos["count"], np.int64), kind="stable")
        self.index_to_key = [self.index_to_key[index] for index in order]
        self.allocate_vecattrs()
        for name, array in self.expandos.items():
            self.expandos[name] = array[order]
        if len(self._vectors):
            logger.warning("sorting after vectors have been allocated is expensive & error-prone")
            self.vectors = self._vectors[order]
        self.key_to_index = {key: index for index, key in enumerate(self.index_to_key)}

    # ------------------------------------------------------------------ attributes

    def allocate_vecattrs(self, attrs: Sequence[str] | None = None, types: Sequence[Any] | None = None) -> None:
        """Makes arrays of attributes, or lengthens them, to one element a key.

        Args:
            attrs: names; all there are without.
            types: their element types.

        Raises:
            TypeError: an attribute is there with a type that cannot hold the new one.
        """
        if attrs is None or types is None:
            attrs = list(self.expandos)
            types = [array.dtype for array in self.expandos.values()]
        size = len(self.index_to_key)
        for name, wanted in zip(attrs, types, strict=True):
            dtype = np.dtype(np.int64 if wanted is int else wanted)
            if dtype.kind in "US":
                # NumPy's own strings take the space of the longest each.
                dtype = np.dtype(object)
            old = self.expandos.get(name)
            if old is None:
                self.expandos[name] = np.zeros(size, dtype)
                continue
            if not np.issubdtype(dtype, old.dtype):
                raise TypeError(
                    f"Can't allocate type {wanted} for attribute {name}, conflicts with its existing type {old.dtype}"
                )
            if len(old) != size:
                self.expandos[name] = np.zeros(size, old.dtype)
                kept = min(size, len(old))
                self.expandos[name][:kept] = old[:kept]

    def set_vecattr(self, key: Key, attr: str, val: Any) -> None:
        """Sets an attribute of a key. The first value of an attribute sets its type.

        Raises:
            KeyError: the key is absent.
            TypeError: the value does not fit the attribute's type.
        """
        index = self.get_index(key)
        self.allocate_vecattrs([attr], [type(val)])
        self.expandos[attr][index] = val

    def get_vecattr(self, key: Key, attr: str) -> Any:
        """An attribute of a key.

        Raises:
            KeyError: the key or the attribute is absent.
        """
        return self.expandos[attr][self.get_index(key)]

    # ------------------------------------------------------------------ nearest neighbours

    def _blocks(self, begin: int, end: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """Rows [begin, end) as float32: the first row's number, the rows and their norms. One block if they are."""
        norms = self._norms()
        if self._vectors.dtype == np.float32:
            yield begin, self._vectors[begin:end], np.ascontiguousarray(norms[begin:end], np.float32)
            return
        for first in range(begin, end, _CONVERTED_ROWS):
            rows = slice(first, min(end, first + _CONVERTED_ROWS))
            yield first, self._vectors[rows].astype(np.float32), norms[rows].astype(np.float32)

    def _search(
        self, find: Callable[..., tuple[NDArray[np.int64], NDArray[np.float32]]], topn: int, begin: int, end: int,
        excluded: list[list[int]],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:  # fmt: skip
        """Calls ``find(vectors, norms, topn=, begin=, end=, excluded=)``, block by block; (queries, topn) each."""
        parts = []
        for first, vectors, norms in self._blocks(begin, end):
            moved = [[row - first for row in rows] for rows in excluded]
            rows, values = find(vectors, norms, topn=topn, begin=0, end=len(vectors), excluded=moved)
            parts.append((np.where(rows < 0, rows, rows + first), values))
        if not parts:
            return np.empty((1, 0), np.int64), np.empty((1, 0), np.float32)
        if len(parts) == 1:
            return parts[0]
        rows = np.concatenate([part[0] for part in parts], axis=-1)
        values = np.concatenate([part[1] for part in parts], axis=-1)
        order = np.lexsort((rows, -values), axis=-1)[..., :topn]
        return np.take_along_axis(rows, order, -1), np.take_along_axis(values, order, -1)

    def _nearest(
        self, queries: NDArray[np.float32], topn: int, begin: int, end: int, excluded: list[list[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        def find(vectors: Any, norms: Any, **options: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            return _core.nearest_vectors(vectors, norms, queries, **options)

        return self._search(find, topn, begin, end, excluded)

    def _cosines(self, vector: Vector, begin: int = 0, end: int | None = None) -> NDArray[np.float32]:
        """Similarity of a vector of unit length and rows [begin, end)."""
        query = np.ascontiguousarray(vector, np.float32)[np.newaxis]
        blocks = self._blocks(begin, len(self._vectors) if end is None else end)
        parts = [_core.vector_similarities(vectors, norms, query)[0] for _, vectors, norms in blocks]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _pairs(self, rows: NDArray[np.int64], values: NDArray[np.float32]) -> list[tuple[Any, float]]:
        keys = self.index_to_key
        return [(keys[row], value) for row, value in zip(rows.tolist(), values.tolist(), strict=True) if row >= 0]

    def _words_of(self, key: Any) -> list[str]:
        """The words of an absent key that can stand in for it, or nothing."""
        if not isinstance(key, str) or key in self:
            return []
        words = key.split()
        return words if len(words) > 1 and all(word in self for word in words) else []

    def _terms(self, positive: Any, negative: Any, weighted: bool = True) -> tuple[list[Any], list[float]]:
        """Keys and vectors with their weights. An absent key of several words that are present becomes these.

        ``weighted``: pairs of a key or vector and its weight are allowed.
        """
        keys: list[Any] = []
        weights: list[float] = []
        for items, default in ((_as_list(positive), 1.0), (_as_list(negative), -1.0)):
            for item in items:
                key, weight = item, default
                if weighted and isinstance(item, (tuple, list)) and len(item) == 2:
                    key, weight = item
                if not isinstance(key, (*_KEY_TYPES, np.ndarray)):
                    raise TypeError(
                        f"{item!r} is neither a key nor a vector"
                        f"{' nor a pair of one and its weight' if weighted else ''}; several of them go into a list"
                    )
                words = self._words_of(key)
                if words:
                    shown = ", ".join(repr(word) for word in words)
                    warnings.warn(
                        f"Key {key!r} is not present; the mean of its words answers instead. Pass [{shown}] to ask for "
                        "that.",
                        UserWarning,
                        stacklevel=_stack_level(),
                    )
                parts: list[Any] = words if words else [key]
                keys.extend(parts)
                weights.extend([weight / len(parts)] * len(parts))
        return keys, weights

    def _rows_of(self, keys: Iterable[Any]) -> list[int]:
        return [self.get_index(key) for key in keys if isinstance(key, _KEY_TYPES) and key in self]

    def _clip(self, clip_start: int, clip_end: int | None, restrict_vocab: int | None) -> tuple[int, int]:
        if restrict_vocab:
            clip_start, clip_end = 0, restrict_vocab
        begin, end, _ = slice(clip_start, clip_end or None).indices(len(self._vectors))
        return begin, max(begin, end)

    def most_similar(
        self,
        positive: Any = None,
        negative: Any = None,
        topn: int | None = 10,
        clip_start: int = 0,
        clip_end: int | None = None,
        restrict_vocab: int | None = None,
        indexer: Any = None,
    ) -> Any:
        """The keys nearest to a mean of vectors, by cosine similarity; the keys asked with are left out.

        A key that is absent, but all of whose words (split at white space) are present, is answered by their mean,
        with a UserWarning.

        Args:
            positive: a key, a vector, or a list of keys, row numbers, vectors and ``(key or vector, weight)`` pairs;
                the weight is 1 without.
            negative: the same; the weight is -1 without.
            topn: neighbours to return; None returns the similarities of all vectors.
            clip_start: first row to search.
            clip_end: row to stop before.
            restrict_vocab: searches the first rows only, whatever the clips say.
            indexer: an object whose ``most_similar(vector, topn)`` answers instead.

        Returns:
            ``[(key, similarity), ...]``, the most similar first, ties in the order of the rows; an array of one float
            a row where topn is None.

        Raises:
            KeyError: a key is absent; the message lists near spellings.
            ValueError: there is neither a positive nor a negative term.
        """
        if topn is not None and topn < 1:
            return []
        keys, weights = self._terms(positive, negative)
        mean = self.get_mean_vector(keys, weights, pre_normalize=True, post_normalize=True, ignore_missing=False)
        if indexer is not None and topn is not None:
            return indexer.most_similar(mean, topn)
        begin, end = self._clip(clip_start, clip_end, restrict_vocab)
        if topn is None:
            return self._cosines(mean, begin, end)
        rows, values = self._nearest(mean[np.newaxis], int(topn), begin, end, [self._rows_of(keys)])
        return self._pairs(rows[0], values[0])

    def most_similar_cosmul(
        self, positive: Any = None, negative: Any = None, topn: int | None = 10, restrict_vocab: int | None = None
    ) -> Any:
        """As :meth:`most_similar`, by the product of similarities (3CosMul, Levy and Goldberg, 2014, equation 4).

        Args:
            positive: a key, a vector or a list of them.
            negative: the same.
            topn: neighbours to return; None returns the value of every row.
            restrict_vocab: searches the first rows only.

        Returns:
            As :meth:`most_similar`.

        Raises:
            KeyError: a key is absent.
            TypeError: a term has a weight, which would not change the order.
            ValueError: there is no positive term.
        """
        if topn is not None and topn < 1:
            return []
        terms = [self._terms(positive, None, weighted=False)[0], self._terms(None, negative, weighted=False)[0]]
        if not terms[0]:
            raise ValueError("cannot compute similarity with no input")
        plus, minus = (
            np.array(
                [key if isinstance(key, np.ndarray) else self.get_vector(key, norm=True) for key in keys], np.float32
            ).reshape(len(keys), self.vector_size)
            for keys in terms
        )
        begin, end = self._clip(0, None, restrict_vocab)
        if topn is None:
            blocks = self._blocks(begin, end)
            parts = [_core.multiplicative_similarities(v, norms, plus, minus) for _, v, norms in blocks]
            return np.concatenate(parts) if parts else np.empty(0, np.float32)

        def find(vectors: Any, norms: Any, *, excluded: Any, **options: Any) -> Any:
            rows, values = _core.nearest_multiplicative(vectors, norms, plus, minus, excluded=excluded[0], **options)
            return rows[np.newaxis], values[np.newaxis]

        rows, values = self._search(find, int(topn), begin, end, [self._rows_of(terms[0] + terms[1])])
        return self._pairs(rows[0], values[0])

    def similar_by_word(self, word: Key, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """:meth:`most_similar` of one key."""
        return self.similar_by_key(word, topn, restrict_vocab)

    def similar_by_key(self, key: Key, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """:meth:`most_similar` of one key."""
        return self.most_similar(positive=[key], topn=topn, restrict_vocab=restrict_vocab)

    def similar_by_vector(self, vector: Vector, topn: int | None = 10, restrict_vocab: int | None = None) -> Any:
        """:meth:`most_similar` of one vector."""
        return self.most_similar(positive=[np.asarray(vector)], topn=topn, restrict_vocab=restrict_vocab)

    def most_similar_to_given(self, key1: Key, keys_list: Sequence[Key]) -> Key:
        """The one of several keys that is most similar to another."""
        return keys_list[int(np.argmax([self.similarity(key1, key) for key in keys_list]))]

    def closer_than(self, key1: Key, key2: Key) -> list[Any]:
        """All keys that are nearer to key1 than key2 is, in the order of the rows.

        Raises:
            KeyError: a key is absent.
        """
        return [self.index_to_key[index] for index in self._nearer(key1, key2).tolist()]

    def _nearer(self, key1: Key, key2: Key) -> NDArray[np.intp]:
        distances = self.distances(key1)
        nearer: NDArray[np.intp] = np.flatnonzero(distances < distances[self.get_index(key2)])
        return np.asarray(nearer[nearer != self.get_index(key1)])

    def words_closer_than(self, word1: Key, word2: Key) -> list[Any]:
        """Deprecated name of :meth:`closer_than`."""
        _deprecated("words_closer_than", "closer_than")
        return self.closer_than(word1, word2)

    def rank(self, key1: Key, key2: Key) -> int:
        """The place of key2 among all keys by their distance from key1; the nearest has rank 1."""
        return len(self._nearer(key1, key2)) + 1

    # ------------------------------------------------------------------ similarities

    def similarity(self, w1: Key, w2: Key) -> Any:
        """Cosine similarity of two keys.

        Raises:
            KeyError: a key is absent.
        """
        # In float64 no square of a float32 number overflows or vanishes.
        first, second = self.get_vector(w1).astype(np.float64), self.get_vector(w2).astype(np.float64)
        squares = float(np.dot(first, first)) * float(np.dot(second, second))
        return self._vectors.dtype.type(float(np.dot(first, second)) / math.sqrt(squares) if squares > 0 else 0)

    def distance(self, w1: Key, w2: Key) -> Any:
        """1 - :meth:`similarity`."""
        return 1 - self.similarity(w1, w2)

    def distances(self, word_or_vector: Key | Vector, other_words: Iterable[Key] = ()) -> NDArray[Any]:
        """1 - cosine similarity of a key or vector and all keys, or some.

        Args:
            word_or_vector: the key or the vector.
            other_words: the keys; all, in the order of the rows, where there are none.

        Raises:
            KeyError: a key is absent.
        """
        vector = self.get_vector(word_or_vector) if isinstance(word_or_vector, _KEY_TYPES) else word_or_vector
        others = list(other_words)
        if others:
            return np.asarray(1 - self.cosine_similarities(vector, self[others]))
        return np.asarray(1 - self._cosines(_unit(vector)))

    @staticmethod
    def cosine_similarities(vector_1: Vector, vectors_all: Vector) -> NDArray[Any]:
        """Cosine similarities of one vector (dim,) and others (count, dim): (count,). 0 for a vector of zeros."""
        return np.asarray(_unit(np.asarray(vectors_all)) @ _unit(np.asarray(vector_1)))

    def n_similarity(self, ws1: Any, ws2: Any) -> Any:
        """Cosine similarity of the means of two sets of keys; absent keys are left out.

        Raises:
            ZeroDivisionError: a set is empty.
        """
        first, second = _as_list(ws1), _as_list(ws2)
        if not (first and second):
            raise ZeroDivisionError("At least one of the passed list is empty.")
        means = [self.get_mean_vector(keys, pre_normalize=False) for keys in (first, second)]
        return np.dot(_unit(means[0]), _unit(means[1]))

    def relative_cosine_similarity(self, wa: Key, wb: Key, topn: int = 10) -> float:
        """Similarity of two keys divided by the sum of those of the first and its ``topn`` neighbours.

        Leeuwenberg et al., "A Minimally Supervised Approach for Synonym Extraction with Word Embeddings", 2016,
        equation 1.

        Raises:
            KeyError: a key is absent.
            ValueError: there are no neighbours.
        """
        neighbours = self.similar_by_word(wa, topn)
        if not neighbours:
            raise ValueError("Cannot calculate relative cosine similarity without any similar words.")
        total: float = sum(similarity for _, similarity in neighbours)
        return float(self.similarity(wa, wb)) / total

    def rank_by_centrality(self, words: Sequence[Key], use_norm: bool = True) -> list[tuple[Any, Key]]:
        """Keys by their similarity to the mean of all of them, ``[(similarity, key), ...]``, the nearest first.

        Args:
            words: the keys; absent ones are left out, with a log line.
            use_norm: vectors are taken at unit length.

        Raises:
            ValueError: no key is present.
        """
        used = [word for word in words if word in self]
        if len(used) != len(words):
            logger.warning(
                "vectors for words %s are not present in the model, ignoring these words", set(words) - set(used)
            )
        if not used:
            raise ValueError("cannot select a word from an empty list")
        vectors = np.stack([self.get_vector(word, norm=use_norm) for word in used]).astype(np.float32)
        mean = self.get_mean_vector(vectors, post_normalize=True)
        return sorted(zip(vectors @ mean, used, strict=True), reverse=True)

    def doesnt_match(self, words: Sequence[Key]) -> Key:
        """The key that is furthest from the mean of all of them.

        Raises:
            ValueError: no key is present.
        """
        return self.rank_by_centrality(words)[-1][1]

    def wmdistance(self, document1: Sequence[Key], document2: Sequence[Key], norm: bool = True) -> float:
        """Word Mover's Distance of two lists of keys (Kusner et al., "From Word Embeddings To Document Distances").

        Args:
            document1: the keys; absent ones are left out.
            document2: the same.
            norm: vectors are taken at unit length.

        Returns:
            The distance; infinity where a document has no key that is present.

        Raises:
            ImportError: POT, which solves the transport problem, is not installed.
        """
        try:
            from ot import emd2
        except ImportError as error:
            raise ImportError("wmdistance needs POT: pip install 'convec[wmd]' (or POT)") from error
        documents = [[word for word in document if word in self] for document in (document1, document2)]
        left_out = [len(document1) - len(documents[0]), len(document2) - len(documents[1])]
        if any(left_out):
            logger.info("Removed %d and %d OOV words from document 1 and 2 (respectively).", *left_out)
        if not all(documents):
            logger.warning("At least one of the documents had no words that were in the vocabulary.")
            return float("inf")
        vectors, masses = [], []
        for document in documents:
            words, counts = np.unique([self.get_index(word) for word in document], return_counts=True)
            vectors.append(np.stack([self.get_vector(word, norm=norm) for word in words]).astype(np.float64))
            masses.append(counts / len(document))
        distances = np.linalg.norm(vectors[0][:, np.newaxis] - vectors[1][np.newaxis], axis=-1)
        return float(emd2(*masses, distances)) if distances.any() else 0.0

    def similarity_unseen_docs(self, *args: Any, **kwargs: Any) -> None:
        """Not for vectors alone: raises NotImplementedError, as in gensim."""
        raise NotImplementedError("Call similarity_unseen_docs on a Doc2Vec model instead.")

    # ------------------------------------------------------------------ evaluation

    def _vocabulary(self, restrict_vocab: int | None, case_insensitive: bool) -> dict[Any, int]:
        """Rows of the first keys; the first of those that differ in case only counts."""
        vocabulary: dict[Any, int] = {}
        for index, key in enumerate(self.index_to_key[:restrict_vocab]):
            vocabulary.setdefault(key.upper() if case_insensitive and isinstance(key, str) else key, index)
        return vocabulary

    def evaluate_word_pairs(
        self,
        pairs: PathLike,
        delimiter: str = "\t",
        encoding: str = "utf8",
        restrict_vocab: int | None = 300000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
    ) -> tuple[Correlation, Correlation, float]:
        """Correlation of similarities with human judgements, such as WordSim-353 or SimLex-999.

        Args:
            pairs: path of a file with two words and a number a line; lines that start with # are comments.
            delimiter: what separates them.
            encoding: of the file.
            restrict_vocab: uses the first keys only; None for all.
            case_insensitive: compares words in upper case; of keys that differ in case the first counts.
            dummy4unknown: pairs with an absent word count as similarity 0 instead of being left out.

        Returns:
            Pearson's correlation, Spearman's (each with its two-sided p-value), and the percentage of pairs with an
            absent word.

        Raises:
            ValueError: no pair can be used, or only one.
        """
        vocabulary = self._vocabulary(restrict_vocab, case_insensitive)
        gold: list[float] = []
        rows: list[tuple[int, int]] = []
        unknown = 0
        with open_binary(pairs) as file:
            for number, data in enumerate(file):
                line = data.decode(encoding)
                if line.startswith("#"):
                    continue
                try:
                    first, second, judgement = line.split(delimiter)
                    value = float(judgement)
                except ValueError:
                    logger.info("Skipping invalid line #%d in %s", number, pairs)
                    continue
                if case_insensitive:
                    first, second = first.upper(), second.upper()
                if first in vocabulary and second in vocabulary:
                    gold.append(value)
                    rows.append((vocabulary[first], vocabulary[second]))
                    continue
                unknown += 1
                if dummy4unknown:
                    gold.append(value)
                    rows.append((-1, -1))
                else:
                    logger.info("Skipping line #%d with OOV words: %s", number, line.strip())
        if not gold:
            raise ValueError(
                f"No valid similarity judgements found in {pairs}: either invalid format or all are out-of-vocabulary "
                f"in {self}"
            )
        if len(gold) == 1:
            raise ValueError(f"only one pair of {pairs} can be used in {self}, but a correlation needs two")
        indices = np.asarray(rows, np.int64)
        vectors = _unit(self._vectors[indices].astype(np.float64))
        # Rounded to what the vectors can tell apart, so that equal similarities are ties.
        similarities = np.einsum("ij,ij->i", vectors[:, 0], vectors[:, 1]).astype(np.float32).astype(np.float64)
        model = np.where(indices[:, 0] < 0, 0.0, similarities)
        judgements = np.asarray(gold, np.float64)
        pearson = Correlation(*_core.pearson_correlation(judgements, model))
        spearman = Correlation(*_core.spearman_correlation(judgements, model))
        oov_ratio = 100.0 * unknown / (len(gold) if dummy4unknown else len(gold) + unknown)
        self.log_evaluate_word_pairs(pearson, spearman, oov_ratio, pairs)
        return pearson, spearman, oov_ratio

    @staticmethod
    def log_evaluate_word_pairs(
        pearson: tuple[float, float], spearman: tuple[float, float], oov: float, pairs: PathLike
    ) -> None:
        """Logs what :meth:`evaluate_word_pairs` found."""
        logger.info("Pearson correlation coefficient against %s: %.4f", pairs, pearson[0])
        logger.info("Spearman rank-order correlation coefficient against %s: %.4f", pairs, spearman[0])
        logger.info("Pairs with unknown words ratio: %.1f%%", oov)

    def evaluate_word_analogies(
        self,
        analogies: PathLike,
        restrict_vocab: int | None = 300000,
        case_insensitive: bool = True,
        dummy4unknown: bool = False,
        similarity_function: str = "most_similar",
    ) -> tuple[float, list[dict[str, Any]]]:
        """Accuracy in questions 'a is to b as c is to ...', answered by the nearest neighbour of b - a + c.

        Args:
            analogies: path of a file with four words a line, in sections that begin with ``: name``.
            restrict_vocab: uses and searches the first keys only; None for all.
            case_insensitive: compares words in upper case; of keys that differ in case the first counts.
            dummy4unknown: questions with an absent word count as wrong instead of being left out.
            similarity_function: name of the method that answers: 'most_similar' (all questions at once, as products
                of matrices) or another, such as 'most_similar_cosmul' (one by one).

        Returns:
            The share of correct answers, and a dictionary a section, the last for the total: its name ('section') and
            the lists of questions answered correctly ('correct') and wrongly ('incorrect').

        Raises:
            ValueError: there is no question, or one before the first section.
        """
        vocabulary = self._vocabulary(restrict_vocab, case_insensitive)
        logger.info("Evaluating word analogies for top %s words in the model on %s", restrict_vocab, analogies)
        sections: list[dict[str, Any]] = []
        # Of each question: its section, its words, and their rows where all are there.
        questions: list[tuple[dict[str, Any], tuple[Any, ...], list[int]]] = []
        unknown = 0
        with open_binary(analogies) as file:
            for number, data in enumerate(file):
                line = data.decode("utf8")
                if line.startswith(": "):
                    sections.append({"section": line.lstrip(": ").strip(), "correct": [], "incorrect": []})
                    continue
                if not sections:
                    raise ValueError(f"Missing section header before line #{number} in {analogies}")
                words = tuple((line.upper() if case_insensitive else line).split())
                if len(words) != 4:
                    logger.info("Skipping invalid line #%i in %s", number, analogies)
                    continue
                rows = [vocabulary[word] for word in words if word in vocabulary]
                if len(rows) < 4:
                    unknown += 1
                questions.append((sections[-1], words, rows if len(rows) == 4 else []))
        if not questions:
            raise ValueError(f"No analogies found in {analogies}: four words a line are expected")

        answers = iter(self._answers([rows for _, _, rows in questions if rows], restrict_vocab, similarity_function))
        for section, words, rows in questions:
            if not rows:
                if dummy4unknown:
                    section["incorrect"].append(words)
                continue
            predicted = None
            for key in next(answers):
                predicted = key.upper() if case_insensitive and isinstance(key, str) else key
                if predicted in vocabulary and predicted not in words[:3]:
                    break
            section["correct" if predicted == words[3] else "incorrect"].append(words)
        total = {
            "section": "Total accuracy",
            "correct": [words for section in sections for words in section["correct"]],
            "incorrect": [words for section in sections for words in section["incorrect"]],
        }
        for section in sections:
            self._log_evaluate_word_analogies(section)
        logger.info("Quadruplets with out-of-vocabulary words: %.1f%%", 100.0 * unknown / len(questions))
        if not dummy4unknown:
            logger.info(
                "NB: analogies containing OOV words were skipped from evaluation! "
                'To change this behavior, use "dummy4unknown=True"'
            )
        score = self._log_evaluate_word_analogies(total)
        return score, [*sections, total]

    def _answers(self, rows: list[list[int]], restrict_vocab: int | None, function: str) -> Iterator[list[Any]]:
        """The five nearest keys for each question, given by the rows of a, b and c (and of the answer)."""
        if function != "most_similar":
            method = getattr(self, function)
            for a, b, c, _ in rows:
                found = method(
                    positive=[self.index_to_key[b], self.index_to_key[c]],
                    negative=[self.index_to_key[a]],
                    topn=5,
                    restrict_vocab=restrict_vocab,
                )
                yield [key for key, _ in found]
            return
        begin, end = self._clip(0, None, restrict_vocab)
        for first in range(0, len(rows), _ANALOGIES_AT_ONCE):
            terms = np.asarray(rows[first : first + _ANALOGIES_AT_ONCE], np.int64)[:, :3]
            first_term, second, third = (_unit(self._vectors[column].astype(np.float32)) for column in terms.T)
            queries = np.ascontiguousarray(_unit(second + third - first_term))
            found, _ = self._nearest(queries, 5, begin, end, terms.tolist())
            for neighbours in found.tolist():
                yield [self.index_to_key[row] for row in neighbours if row >= 0]

    @staticmethod
    def _log_evaluate_word_analogies(section: Mapping[str, Any]) -> float:
        correct, incorrect = len(section["correct"]), len(section["incorrect"])
        if correct + incorrect == 0:
            return 0.0
        KeyedVectors.log_accuracy(section)
        return correct / (correct + incorrect)

    @staticmethod
    def log_accuracy(section: Mapping[str, Any]) -> None:
        """Logs the share of correct answers in a section of :meth:`evaluate_word_analogies`."""
        correct, incorrect = len(section["correct"]), len(section["incorrect"])
        if correct + incorrect > 0:
            score = 100.0 * correct / (correct + incorrect)
            logger.info("%s: %.1f%% (%i/%i)", section["section"], score, correct, correct + incorrect)

    # ------------------------------------------------------------------ files

    def save(
        self,
        fname_or_handle: PathLike | IO[bytes],
        separately: Any = None,
        sep_limit: int = 10 * 1024**2,
        ignore: Iterable[str] = frozenset(),
        pickle_protocol: int = 4,
    ) -> None:
        """Writes everything to one file, in the safetensors format. The file is complete or left as it was.

        Args:
            fname_or_handle: path or binary file object.
            separately: kept for gensim's sake, as the two after ``ignore``; concerns pickles.
            sep_limit: see ``separately``.
            ignore: names of attributes (:meth:`get_vecattr`) that are left out.
            pickle_protocol: see ``separately``.

        Raises:
            TypeError: a key is neither a str nor an int, or an attribute holds objects that JSON cannot express.
            OSError: the file cannot be written.
        """
        tensors, metadata = self._to_tensors(ignore)
        if isinstance(fname_or_handle, (str, os.PathLike)):
            _core.safetensors_save(fname_or_handle, tensors, metadata)
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "vectors"
            _core.safetensors_save(path, tensors, metadata, sync=False)
            with path.open("rb") as file:
                shutil.copyfileobj(file, fname_or_handle)

    @classmethod
    def load(cls: type[_Self], fname: PathLike, mmap: str | None = None) -> _Self:
        """Reads what :meth:`save` wrote.

        Args:
            fname: path.
            mmap: 'r' maps the vectors instead of reading them, so that they are shared between processes and read
                when they are used. 'c' reads them, as None does: changes never reach the file.

        Raises:
            ValueError: the file is damaged or of another kind.
            OSError: the file cannot be read.
        """
        if mmap not in (None, "r", "c"):
            raise ValueError(f"mmap is {mmap!r}, but must be None, 'r' or 'c'")
        with open(fname, "rb") as file:  # noqa: PTH123
            start = file.read(2)
        if start[:1] == b"\x80":
            raise ValueError(
                f"{os.fspath(fname)} is a pickle, as gensim writes; convec reads none, because they can run any code. "
                "In gensim, call save_word2vec_format(name, binary=True), and load_word2vec_format here"
            )
        tensors, metadata = _core.safetensors_load(fname, mmap=mmap == "r")
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{os.fspath(fname)} holds no KeyedVectors (its format is {metadata.get('format')!r})")
        return cls._from_tensors(tensors, metadata)

    def _to_tensors(self, ignore: Iterable[str] = ()) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
        """Arrays and strings that hold everything, for a file."""
        kinds = [_kind_of(key) for key in self.index_to_key]
        encoded = [
            str(key if kind else "").encode("utf8", "surrogatepass")
            for key, kind in zip(self.index_to_key, kinds, strict=True)
        ]
        tensors = {
            "vectors": self._vectors,
            "keys": np.frombuffer(b"".join(encoded), np.uint8),
            "key_ends": np.cumsum([len(key) for key in encoded], dtype=np.int64),
        }
        if any(kind != 1 for kind in kinds):
            tensors["key_kinds"] = np.asarray(kinds, np.uint8)
        metadata = {"format": _FORMAT, "vector_size": str(self.vector_size), "next_index": str(self.next_index)}
        objects = {}
        for name, array in self.expandos.items():
            if name in ignore:
                continue
            if array.dtype == object:
                objects[name] = array.tolist()
            else:
                tensors[f"vecattr.{name}"] = array
        if objects:
            metadata["vecattrs"] = json.dumps(objects)
        if "vectors_lockf" in vars(self):
            tensors["vectors_lockf"] = self.vectors_lockf
        return tensors, metadata

    @classmethod
    def _from_tensors(cls: type[_Self], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> _Self:
        """The inverse of :meth:`_to_tensors`."""
        missing = [name for name in ("vectors", "keys", "key_ends") if name not in tensors]
        if missing:
            raise ValueError(f"the file holds no KeyedVectors: {missing[0]} is missing")
        vectors = tensors["vectors"]
        keys: list[Any] = _core.decode_strings(np.ascontiguousarray(tensors["keys"]), tensors["key_ends"])
        if vectors.ndim != 2:
            raise ValueError(f"vectors has shape {vectors.shape}, but must have two dimensions")
        if len(keys) != len(vectors):
            raise ValueError(f"there are {len(keys)} keys for {len(vectors)} vectors")
        if "key_kinds" in tensors:
            read: list[Callable[[str], Any]] = [lambda _: None, str, int]
            keys = [read[min(int(kind), 2)](key) for key, kind in zip(keys, tensors["key_kinds"], strict=True)]
        result = cls(int(metadata.get("vector_size", vectors.shape[1])), 0, dtype=vectors.dtype)
        result.index_to_key = keys
        result.key_to_index = {key: index for index, key in enumerate(keys) if key is not None}
        result.vectors = vectors
        result.next_index = int(metadata.get("next_index", len(keys)))
        for name, array in tensors.items():
            if name.startswith("vecattr."):
                result.expandos[name.removeprefix("vecattr.")] = np.array(array)
        for name, values in json.loads(metadata.get("vecattrs", "{}")).items():
            result.expandos[name] = np.array([*values, None], object)[:-1]
        if "vectors_lockf" in tensors:
            result.vectors_lockf = tensors["vectors_lockf"]
        return result

    def save_word2vec_format(
        self,
        fname: PathLike,
        fvocab: PathLike | None = None,
        binary: bool = False,
        total_vec: int | None = None,
        write_header: bool = True,
        prefix: str = "",
        append: bool = False,
        sort_attr: str = "count",
    ) -> None:
        """Writes the format of the original word2vec tool; a name in .gz, .bz2 or .xz is compressed.

        Numbers in text read back as exactly the same float32. The file is complete or left as it was.

        Args:
            fname: path.
            fvocab: path of a second file, with the keys and their ``sort_attr``.
            binary: vectors as bytes instead of text.
            total_vec: the number of vectors to state in the header, where more are to be appended.
            write_header: the first line states the number of vectors and their size; GloVe's files lack it.
            prefix: before each key.
            append: adds to the end of the files.
            sort_attr: the attribute by which keys are sorted, the largest first.

        Raises:
            ValueError: a key holds a space or a line break, or ``fvocab`` is given without the attribute.
            OSError: a file cannot be written.
        """
        if any(key is None for key in self.index_to_key):
            raise ValueError("some prepared slots have no key yet, and cannot be written")
        if sort_attr in self.expandos:
            values = np.asarray(self.expandos[sort_attr])
            order = np.argsort(-values.astype(np.float64), kind="stable").astype(np.int64)
        elif fvocab is not None:
            raise ValueError(f"Cannot store vocabulary with '{sort_attr}' because that attribute does not exist")
        else:
            logger.warning("attribute %s not present in %s; will store in internal index_to_key order", sort_attr, self)
            order = np.arange(len(self), dtype=np.int64)
        words = [str(self.index_to_key[row]) for row in order.tolist()]
        if fvocab is not None:
            logger.info("storing vocabulary in %s", fvocab)
            with replacing(fvocab, append=append) as file:
                counts = np.asarray(self.expandos[sort_attr])[order].tolist()
                file.write("".join(f"{prefix}{w} {n}\n" for w, n in zip(words, counts, strict=True)).encode())
        total = len(self) if total_vec is None else total_vec
        logger.info("storing %sx%s projection weights into %s", total, self.vector_size, fname)
        write_word2vec(
            fname,
            self._vectors.astype(np.float32, copy=False),
            words,
            order,
            binary=binary,
            header=write_header,
            total=total,
            prefix=prefix,
            append=append,
        )

    @classmethod
    def load_word2vec_format(
        cls: type[_Self],
        fname: PathLike,
        fvocab: PathLike | None = None,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
        limit: int | None = None,
        datatype: DTypeLike = np.float32,
        no_header: bool = False,
    ) -> _Self:
        """Reads the format of the original word2vec tool, mapped into memory and parsed in threads.

        Args:
            fname: path; also of a .gz, .bz2 or .xz file.
            fvocab: path of a file with the keys and their counts.
            binary: vectors are bytes instead of text.
            encoding: of the keys.
            unicode_errors: 'strict', 'ignore' or 'replace': what is done with bytes that are not of that encoding.
            limit: reads the first vectors only.
            datatype: of the vectors.
            no_header: the first line is a vector already (text only; GloVe's files).

        Returns:
            The vectors; of words that occur twice the first counts. Their attribute 'count' falls from the number of
            vectors to 1 where there is no ``fvocab``.

        Raises:
            ValueError: the file is malformed; the message says where.
            EOFError: the file ends early.
            OSError: the file cannot be read.
        """
        counts = None
        if fvocab is not None:
            logger.info("loading word counts from %s", fvocab)
            counts = _read_counts(fvocab, unicode_errors)
        logger.info("loading projection weights from %s", fname)
        words, vectors, promised = read_word2vec(
            fname,
            binary=binary,
            no_header=no_header,
            limit=limit,
            encoding=encoding,
            unicode_errors=unicode_errors,
            datatype=datatype,
        )
        index = dict(zip(reversed(words), range(len(words) - 1, -1, -1), strict=True))
        if len(index) != len(words):
            kept = sorted(index.values())
            present = set(kept)
            for row, word in enumerate(words):
                if row not in present:
                    logger.warning("duplicate word '%s' in word2vec file, ignoring all but first", word)
            logger.info("duplicate words detected, shrinking matrix size from %i to %i", len(words), len(kept))
            words, vectors = [words[row] for row in kept], vectors[kept]
        result = cls(vectors.shape[1], 0, dtype=vectors.dtype)
        result.index_to_key = words
        result.key_to_index = {word: row for row, word in enumerate(words)}
        result.vectors = vectors
        result.next_index = len(words)
        if counts is None:
            result.expandos["count"] = promised - np.arange(len(words), dtype=np.int64)
        else:
            for word in words:
                if word not in counts:
                    logger.warning("vocabulary file is incomplete: '%s' is missing", word)
            result.expandos["count"] = np.asarray([counts.get(word, 0) for word in words], np.int64)
        result.add_lifecycle_event(
            "load_word2vec_format",
            msg=f"loaded {vectors.shape} matrix of type {vectors.dtype} from {fname}",
            binary=binary,
            encoding=encoding,
        )
        return result

    def intersect_word2vec_format(
        self,
        fname: PathLike,
        lockf: float = 0.0,
        binary: bool = False,
        encoding: str = "utf8",
        unicode_errors: str = "strict",
    ) -> None:
        """Takes the vectors of those keys that are present from a file in a word2vec format.

        Args:
            fname: path.
            lockf: goes to ``vectors_lockf`` of these keys: 0 keeps training from changing them, 1 lets it.
            binary: vectors are bytes instead of text.
            encoding: of the keys.
            unicode_errors: what is done with bytes that are not of that encoding.

        Raises:
            ValueError: the file is malformed, or its vectors have another size.
            EOFError: the file ends early.
            OSError: the file cannot be read.
        """

        def check_size(size: int) -> None:
            if size != self.vector_size:
                raise ValueError(f"incompatible vector size {size}; the vectors here have {self.vector_size}")

        logger.info("loading projection weights from %s", fname)
        words, vectors, _ = read_word2vec(
            fname, binary=binary, encoding=encoding, unicode_errors=unicode_errors, check_size=check_size
        )
        # Of a word that occurs twice the last counts.
        found = {self.key_to_index[word]: row for row, word in enumerate(words) if word in self.key_to_index}
        if found:
            rows = list(found)
            locks = vars(self).get("vectors_lockf")
            if locks is None or len(locks) != len(self):
                self.vectors_lockf = np.ones(len(self), np.float32) * (1 if locks is None else locks[:1])
            self._make_writable()
            self._vectors[rows] = vectors[list(found.values())]
            self.vectors_lockf[rows] = lockf
        self.add_lifecycle_event(
            "intersect_word2vec_format",
            msg=f"merged {len(found)} vectors into {self._vectors.shape} matrix from {fname}",
        )

    lifecycle_events: ClassVar[Any] = ()

    def add_lifecycle_event(self, event_name: str, log_level: int | bool = logging.INFO, **event: Any) -> None:
        """Logs an event of these vectors' life and keeps it in ``lifecycle_events``.

        Args:
            event_name: its name.
            log_level: level of the log line; False for none.
            event: what else is to be kept.
        """
        record = {"event": event_name, "datetime": time.strftime("%Y-%m-%dT%H:%M:%S"), **event}
        vars(self)["lifecycle_events"] = [*self.lifecycle_events, record]
        if log_level:
            logger.log(int(log_level), "%s lifecycle event %s", type(self).__name__, record)


# Names under which older code knows the same class.
Word2VecKeyedVectors = KeyedVectors
Doc2VecKeyedVectors = KeyedVectors
EuclideanKeyedVectors = KeyedVectors


def _kind_of(key: Any) -> int:
    """How a key is stored: 0 none, 1 str, 2 int."""
    if isinstance(key, str):
        return 1
    if key is None:
        return 0
    if isinstance(key, (int, np.integer)):
        return 2
    raise TypeError(f"the key {key!r} is of type {type(key).__name__}, but only str and int can be saved")


def _read_counts(path: PathLike, unicode_errors: str) -> dict[str, int]:
    """Words and their counts, two a line."""
    counts = {}
    with open_binary(path) as file:
        for number, line in enumerate(file, 1):
            try:
                word, count = line.decode("utf8", unicode_errors).strip().split()
                counts[word] = int(count)
            except UnicodeError:
                raise
            except ValueError:
                raise ValueError(f"{os.fspath(path)}: line {number} must be a word and its count") from None
    return counts


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


def prep_vectors(
    target_shape: tuple[int, int],
    prior_vectors: Vector | None = None,
    seed: int = 0,
    dtype: DTypeLike = np.float32,
) -> Vector:
    """Vectors of a shape: those there are, and random numbers in [-1, 1) / size for the rest.

    Args:
        target_shape: (count, size).
        prior_vectors: kept, in the corner that they fill; returned themselves where they have the shape.
        seed: of the random numbers.
        dtype: float32 or float64.
    """
    prior = np.zeros((0, 0), dtype) if prior_vectors is None else prior_vectors
    if prior.shape == target_shape:
        return prior
    generator: Any = np.random.default_rng(seed=seed)
    random = generator.random(target_shape, dtype=dtype)
    vectors = np.asarray((random * 2 - 1) / target_shape[1], dtype)
    vectors[: prior.shape[0], : prior.shape[1]] = prior
    return vectors
