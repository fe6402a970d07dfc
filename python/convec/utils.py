"""One-hot labels and random seeds, as ``keras.utils``; rules for trimming vocabularies, as ``gensim.utils``."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from convec.models._corpus import RULE_DEFAULT, RULE_DISCARD, RULE_KEEP, keep_vocab_item

__all__ = ["RULE_DEFAULT", "RULE_DISCARD", "RULE_KEEP", "keep_vocab_item", "set_random_seed", "to_categorical"]

_OF_CORPORA = frozenset({"RULE_DEFAULT", "RULE_DISCARD", "RULE_KEEP", "keep_vocab_item"})

_generator = np.random.default_rng()


def __getattr__(name: str) -> Any:
    if name in _OF_CORPORA:
        from convec.models import _corpus

        return getattr(_corpus, name)
    raise AttributeError(f"module 'convec.utils' has no attribute '{name}'")


def set_random_seed(seed: int) -> None:
    """Seeds everything random: initial weights, shuffling and dropout of convec, and Python's and NumPy's generators.

    Raises:
        TypeError: ``seed`` is not an integer.
        ValueError: it is outside [0, 2**32).
    """
    global _generator
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed is {seed!r}, but must be an integer")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}, but must be in [0, 2**32)")
    random.seed(int(seed))
    np.random.seed(int(seed))  # noqa: NPY002 - users' own code may still draw from the old global generator
    _generator = np.random.default_rng(int(seed))


def generator() -> np.random.Generator:
    """The generator behind convec's own random choices."""
    return _generator


def generator_in(state: Any) -> np.random.Generator:
    """A generator of the same kind in a saved state. Raises ValueError where it is no such state."""
    bits = np.random.PCG64()
    try:
        bits.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"the state of the random generator is damaged: {error}") from None
    return np.random.Generator(bits)


def next_seed() -> int:
    """A fresh seed out of :func:`generator`."""
    return int(_generator.integers(2**63))


def to_categorical(x: Any, num_classes: int | None = None) -> npt.NDArray[np.float64]:
    """Class numbers as one-hot rows.

    Args:
        x: integers of any shape (a last axis of length 1 is dropped).
        num_classes: length of a row; by default the largest class number plus one.

    Returns:
        Array of shape ``x.shape + (num_classes,)``, float64 as in Keras.

    Raises:
        TypeError: ``x`` does not hold integers.
        ValueError: a class number is negative or not below ``num_classes``.
    """
    labels = np.asarray(x)
    if labels.dtype.kind == "f" and np.array_equal(labels, np.floor(labels)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iub":
        raise TypeError(f"x has dtype {labels.dtype}, but must hold class numbers (integers)")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    classes = int(labels.max(initial=-1)) + 1 if num_classes is None else int(num_classes)
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"x holds the class number {wrong}, but must be in [0, {classes})")
    rows = np.zeros((labels.size, classes))
    rows[np.arange(labels.size), labels.reshape(-1).astype(np.int64)] = 1.0
    return rows.reshape((*labels.shape, classes))
