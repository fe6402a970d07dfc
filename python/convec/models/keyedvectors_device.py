"""Vectors by key on a CUDA device, for searches among many of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convec import _device
from convec.models import _sharing
from convec.models._callers import stack_level
from convec.models.keyedvectors_table import KeyTable, PathLike

_Found = TypeVar("_Found")

# Rows that are converted at a time where the vectors are not float32.
_CONVERTED_ROWS = 1 << 16


# Attributes that files and other processes know nothing of.
_NOT_KEPT = frozenset({"_where", "_copy", *_sharing.OWN})


class _Copy:
    """A copy of the vectors on a device.

    Args:
        norms: those of the vectors; other norms mean that the vectors have changed.
        table: the copy, or None where there is no room for one.
    """

    def __init__(self, norms: NDArray[Any] | None, table: Any) -> None:
        self.norms = norms
        self.table = table


class DeviceTable(KeyTable):
    """A mapping of keys to vectors that may be searched on a CUDA device."""

    #: Similarities (queries times rows searched) from which on a search runs on the device. An estimate, not measured:
    #: below it, the launches and copies of a search there take longer than the search on the CPU.
    device_threshold: ClassVar[int] = 100_000

    _where: _device.Device | None = None
    _copy: _Copy | None = None

    def __init__(
        self, vector_size: int, count: int = 0, dtype: DTypeLike = np.float32, mapfile_path: PathLike | None = None
    ) -> None:
        super().__init__(vector_size, count, dtype, mapfile_path)
        self._where = _device.current_device()

    @property
    def device(self) -> _device.Device:
        """Where large searches run; may be assigned a name such as ``'cuda:0'``.

        On a CUDA device the first of them, and the first after vectors have changed, copies all vectors there. The
        vectors of a :class:`convec.models.Word2Vec` are searched where the model trains; others where
        :func:`convec.current_device` says when they are made.

        Raises:
            RuntimeError: the device cannot be used; the message says why. ValueError: the name is none.
        """
        if self._where is None:
            self._where = _device.current_device()
        return self._where

    @device.setter
    def device(self, name: str | _device.Device) -> None:
        self._where = _device.device(name)
        self._copy = None

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the device, and who uses the vectors: files and other processes know nothing of them."""
        return {name: value for name, value in vars(self).items() if name not in _NOT_KEPT}

    def forget_device(self) -> None:
        """Gives back the device's memory. The next large search takes it again."""
        self._copy = None

    def _blocks(self, begin: int, end: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
        """Rows [begin, end) as float32: the first row's number, the rows and their norms. One block if they are."""
        norms = self._norms()
        if self._vectors.dtype == np.float32:
            yield begin, self._vectors[begin:end], np.ascontiguousarray(norms[begin:end], np.float32)
            return
        for first in range(begin, end, _CONVERTED_ROWS):
            rows = slice(first, min(end, first + _CONVERTED_ROWS))
            yield first, self._vectors[rows].astype(np.float32), norms[rows].astype(np.float32)

    def _on_device(self, queries: int, begin: int, end: int, find: Callable[[Any], _Found]) -> _Found | None:
        """``find(table)`` with the vectors on the device, or None where the CPU is to search rows [begin, end).

        Raises:
            RuntimeError: the device fails.
        """
        if queries * (end - begin) < self.device_threshold or self.device.type == "cpu":
            return None
        norms = self._norms()
        try:
            with self._filling:
                if self._copy is None or self._copy.norms is not norms:
                    self._copy = None  # gives its memory back first
                    self._copy = _Copy(norms, self._copied())
                table = self._copy.table
            return None if table is None else find(table)
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            self._copy = _Copy(norms, None)
            warnings.warn(
                f"neighbours are searched for on the cpu, until the vectors change or a device is assigned: {error}",
                RuntimeWarning,
                stacklevel=stack_level(),
            )
            return None

    def _copied(self) -> Any:
        table = _device.load_cuda().VectorsOnDevice(*self._vectors.shape, device=self.device.index)
        for first, vectors, norms in self._blocks(0, len(self._vectors)):
            table.copy_in(first, vectors, norms)
        return table
