"""The one place where users' data become what the compiled network takes.

Images become C-contiguous float32 (uint8 stays uint8: the numbers 0 to 255), labels int64, other targets float32. What
already is so is passed on without a copy. Nothing is scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import utils
from convec.losses import Loss

Array = npt.NDArray[Any]


@dataclass
class Batch:
    """Inputs, targets and sample weights (or None) of the same length."""

    x: Array
    y: Array
    sample_weight: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: Any) -> Batch:
        """Some of the samples, by a slice or by numbers."""
        return Batch(self.x[rows], self.y[rows], None if self.sample_weight is None else self.sample_weight[rows])


def as_array(data: Any, name: str) -> Array:
    """Anything array-like as an array, without a copy where it is one already.

    Raises:
        TypeError: it holds objects or strings, or is no array at all.
        ValueError: nested lists are ragged.
    """
    if data is None:
        raise ValueError(f"{name} is None, but must be an array")
    if isinstance(data, np.ndarray):
        array: Array = data
    elif hasattr(data, "__dlpack__"):
        array = np.from_dlpack(data)
    else:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ValueError(f"{name} cannot be made an array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {array.dtype}, but must hold numbers")
    return array


def inputs(x: Any, name: str = "x") -> Array:
    """Images for the network. Raises as :func:`as_array`."""
    array = as_array(x, name)
    if array.dtype != np.uint8:
        array = array.astype(np.float32, copy=False)
    return np.asarray(array, order="C")


def check_inputs(array: Array, sample_shape: tuple[int, ...], name: str = "x") -> Array:
    """Inputs of the network's shape; a missing last axis of length 1 is added, as Keras does.

    Raises:
        ValueError: the shape is another.
    """
    if array.shape[1:] == sample_shape and array.ndim == len(sample_shape) + 1:
        return array
    if array.ndim >= 1 and (*array.shape[1:], 1) == sample_shape:
        return array[..., np.newaxis]
    if array.ndim >= 2 and array.shape[-1] == 1 and array.shape[1:-1] == sample_shape:
        return array[..., 0]
    expected = ", ".join(["n", *map(str, sample_shape)])
    raise ValueError(f"{name} has shape {array.shape}, but the model expects ({expected})")


def targets(y: Any, loss: Loss, output_shape: tuple[int, ...], name: str = "y") -> Array:
    """Targets in the form that the loss takes.

    Raises:
        TypeError: not numbers.
        ValueError: class numbers that are not whole.
    """
    array = as_array(y, name)
    if loss.kind == "sparse_categorical_crossentropy":
        if array.ndim > 1 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.dtype.kind == "f":
            with np.errstate(invalid="ignore"):  # NaN and infinity are found right below
                whole = array.astype(np.int64)
            if not np.array_equal(whole, array):
                raise ValueError(f"{name} holds {array.dtype} numbers that are not whole, but must hold class numbers")
            array = whole
        elif array.dtype not in (np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint8)):
            array = array.astype(np.int64)
    else:
        array = array.astype(np.float32, copy=False)
        # (n,) beside outputs of shape (n, 1), and the other way round, mean the same.
        if output_shape == (1,) and array.ndim == 1:
            array = array[:, np.newaxis]
        if array.ndim == len(output_shape) + 2 and array.shape[-1] == 1:
            array = array[..., 0]
    return np.asarray(array, order="C")


def weights(values: Any, samples: int, name: str = "sample_weight") -> npt.NDArray[np.float32]:
    """One finite float32 weight a sample. Raises ValueError."""
    array = as_array(values, name).astype(np.float32, copy=False)
    if array.shape == (samples, 1):
        array = array[:, 0]
    if array.shape != (samples,):
        raise ValueError(f"{name} has shape {array.shape}, but must be ({samples},), one number a sample")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity, but must be finite")
    return np.ascontiguousarray(array)


def class_weights(class_weight: Mapping[int, float], y: Array, loss: Loss) -> npt.NDArray[np.float32]:
    """The weight of each sample's class; classes that are not named weigh 1.

    Raises:
        ValueError: targets are not classes, or a key is not a class number.
    """
    if loss.kind == "sparse_categorical_crossentropy":
        labels = y.reshape(-1)
    elif y.ndim == 2 and y.shape[1] > 1:
        labels = y.argmax(axis=1)
    elif y.ndim <= 2:
        labels = y.reshape(-1).astype(np.int64)
    else:
        raise ValueError(f"class_weight needs class labels, but y has shape {y.shape}")
    keys = np.asarray(list(class_weight), dtype=np.int64)
    if keys.size and keys.min() < 0:
        raise ValueError(f"class_weight has the key {keys.min()}, but class numbers are not negative")
    largest = int(max(labels.max(initial=0), keys.max(initial=0)))
    table = np.ones(largest + 1, np.float32)
    table[keys] = np.asarray(list(class_weight.values()), dtype=np.float32)
    return table[labels]


def same_length(x: Array, y: Array) -> None:
    """Raises ValueError for empty data or lengths that differ."""
    if x.ndim == 0 or len(x) == 0:
        raise ValueError("x is empty, but must hold at least one sample")
    if y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x holds {len(x)} samples, but y holds {len(y) if y.ndim else 0}; both must be as many")


def is_batches(x: Any) -> bool:
    """Whether ``x`` yields batches (a generator, an iterator, a sequence object) rather than being an array."""
    if isinstance(x, (np.ndarray, list, tuple, str)) or hasattr(x, "__dlpack__") or hasattr(x, "__array__"):
        return False
    if _has_buffer(x):
        return False
    return hasattr(x, "__next__") or hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def _has_buffer(x: Any) -> bool:
    try:
        memoryview(x)
    except TypeError:
        return False
    return True


class Passes:
    """The samples of arrays in the order of training: pass after pass, each shuffled anew.

    Args:
        samples: how many there are.
        batch_size: of them in a step.
        steps: steps of an epoch; by default an epoch is a pass. A shorter epoch is followed by one that goes on with
            the samples after it, and an epoch ends where its pass ends, both as in Keras.
        shuffle: whether the order changes.
        generator: draws the orders; by default the one behind all of convec's random choices.
        start: the sample of the first pass to begin with.
        rank: where each rank of a process group has samples of its own: an order of its own, out of the same number of
            draws, so that the ranks' generators stay alike.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        steps: int | None,
        shuffle: bool,
        generator: np.random.Generator | None = None,
        start: int = 0,
        rank: int | None = None,
    ) -> None:
        self._rank = rank
        self._samples = samples
        self._most = samples if steps is None else steps * batch_size
        self._shuffle = shuffle
        self._generator = utils.generator() if generator is None else generator
        self._next = 0
        self._state: Any = None  # of the generator before the order was drawn
        self._order: npt.NDArray[np.int64] | None = None
        if 0 < start < samples:
            self._draw()
            self._next = start

    def _draw(self) -> None:
        self._state = self._generator.bit_generator.state
        if self._shuffle and self._rank is None:
            self._order = self._generator.permutation(self._samples)
        elif self._shuffle:
            seed = [int(self._generator.integers(2**63)), int(self._rank or 0)]
            self._order = np.random.default_rng(seed).permutation(self._samples)

    @property
    def position(self) -> tuple[Any, int]:
        """State of the generator before the order of the next epoch's pass is drawn, and that epoch's first sample."""
        return (self._state if self._next else self._generator.bit_generator.state), self._next

    def epoch(self) -> tuple[slice, npt.NDArray[np.int64] | None]:
        """Where the epoch's samples are; and their numbers, where they are shuffled."""
        if self._next == 0:
            self._draw()
        rows = slice(self._next, min(self._samples, self._next + self._most))
        self._next = rows.stop % self._samples
        return rows, None if self._order is None else self._order[rows]


class Batches:
    """Batches ``(x, y)`` or ``(x, y, sample_weight)`` from a generator, an iterable or a sequence object.

    A sequence object (with ``__getitem__`` and ``__len__``, as keras.utils.PyDataset) is told by ``on_epoch_end()``
    where a pass over it ends. An iterator, such as a generator, has one pass; everything else starts over.
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.once = hasattr(source, "__next__")
        self._iterator: Iterator[Any] | None = None
        self._ahead: list[Any] = []  # a batch that was looked for and not yet used
        self.last: tuple[Any, ...] = ()
        """The batch that :meth:`epoch` gave last."""

    @property
    def length(self) -> int | None:
        """Batches of a pass, where known."""
        return len(self.source) if hasattr(self.source, "__len__") else None

    @property
    def ended(self) -> bool:
        """Whether this is an iterator without a further batch."""
        if self.once and not self._ahead:
            self._ahead.extend(_first(iter(self.source)))
        return self.once and not self._ahead

    def restart(self) -> None:
        """Lets the next epoch begin with the first batch, where that is possible."""
        self._iterator = None

    def epoch(self, steps: int | None) -> Iterator[tuple[Any, ...]]:
        """The batches of one epoch: to the end of the pass, at most ``steps``, from where the epoch before stopped."""
        if self._iterator is None:
            self._iterator = self._pass()
        done = 0
        while steps is None or done < steps:
            found = _first(self._iterator)
            if not found:
                self._iterator = self._pass()
                # The epoch before ended with the pass, which nobody could know.
                found = [] if done else _first(self._iterator)
                if not found:
                    return
            self.last = _parts(found[0])
            yield self.last
            done += 1

    def _pass(self) -> Iterator[Any]:
        if self.once:
            while self._ahead or not self.ended:
                yield self._ahead.pop()
        elif hasattr(self.source, "__getitem__") and hasattr(self.source, "__len__"):
            for index in range(len(self.source)):
                yield self.source[index]
            if hasattr(self.source, "on_epoch_end"):
                self.source.on_epoch_end()
        else:
            yield from self.source


def _first(iterator: Iterator[Any]) -> list[Any]:
    """The next element, or nothing."""
    for element in iterator:
        return [element]
    return []


def _parts(batch: Any) -> tuple[Any, ...]:
    if isinstance(batch, (tuple, list)) and len(batch) in (2, 3):
        return tuple(batch)
    raise ValueError("a batch must be (x, y) or (x, y, sample_weight)")


def split(batch: Batch, share: float) -> tuple[Batch, Batch]:
    """The first part and the last ``share`` of the samples, for validation.

    Raises:
        ValueError: ``share`` is outside (0, 1) or leaves one side empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"validation_split is {share}, but must be between 0 and 1")
    at = int(len(batch) * (1.0 - share))
    if at in (0, len(batch)):
        raise ValueError(f"validation_split={share} of {len(batch)} samples leaves none for training or validation")
    return batch.part(slice(None, at)), batch.part(slice(at, None))


def validation_parts(data: Any) -> Sequence[Any]:
    """``(x, y)`` or ``(x, y, sample_weight)``. Raises ValueError for anything else."""
    if isinstance(data, (tuple, list)) and len(data) in (2, 3):
        return data
    raise ValueError("validation_data must be (x, y) or (x, y, sample_weight), or yield such batches")
