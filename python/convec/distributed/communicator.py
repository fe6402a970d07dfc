"""What every means of communication offers: the interface behind ``convec.distributed``."""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Communicator", "ReduceOp", "Work", "check_op", "check_source", "ranks_text", "wait_until"]

ReduceOp = Literal["sum", "avg", "max", "min"]
_OPS = ("sum", "avg", "max", "min")


class Work(ABC):
    """A collective that has begun."""

    @abstractmethod
    def wait(self) -> None:
        """Returns when it is done. Raises RuntimeError as the collective itself."""

    @abstractmethod
    def test(self) -> bool:
        """Whether it is done; lets it go on where that needs the processor."""

    def block_current_stream(self) -> None:
        """Lets the GPU's current stream wait for it, and not the host; elsewhere as :meth:`wait`."""
        self.wait()


class Communicator(ABC):
    """The processes of a job.

    Collectives are called by all ranks in the same order, with arrays of the same shape and dtype; they work in place.

    Attributes:
        rank: this process's number, from 0.
        size: processes in all.
        local_rank: this process's number among those of its host, e.g. to choose a GPU.
        timeout: seconds after which a collective that has not ended raises.
    """

    backend: str
    rank: int
    size: int
    local_rank: int
    timeout: float

    @abstractmethod
    def all_reduce_start(self, array: Any, op: ReduceOp = "sum") -> Work:
        """Begins :meth:`all_reduce`; the array is not to be touched before ``wait()`` has returned."""

    def all_reduce(self, array: Any, op: ReduceOp = "sum") -> Any:
        """Combines the ranks' arrays element by element, in place; every rank has the same bits then.

        Args:
            array: C-contiguous and writable, of float32, float64 or an integer type.
            op: 'sum', 'avg' (floating point only), 'max' or 'min'.

        Returns:
            ``array``.

        Raises:
            TypeError, ValueError: the array or op cannot be used; nothing was sent.
            RuntimeError: a rank did not arrive within the timeout; the message names it.
        """
        self.all_reduce_start(array, op).wait()
        return array

    def all_reduce_host(self, array: npt.NDArray[Any], op: ReduceOp = "sum") -> npt.NDArray[Any]:
        """As :meth:`all_reduce`, of a NumPy array, by way of the GPU where the ranks are joined there."""
        sent = self._to_device(array)
        self.all_reduce(sent, op)
        if sent is not array:
            array[...] = self._to_host(sent)
        return array

    def broadcast_host(self, array: npt.NDArray[Any], src: int = 0) -> npt.NDArray[Any]:
        """As :meth:`broadcast`, of a NumPy array, by way of the GPU where the ranks are joined there."""
        sent = self._to_device(array)
        self.broadcast(sent, src)
        if sent is not array:
            array[...] = self._to_host(sent)
        return array

    def synchronize(self, stream: Any) -> None:
        """Returns when a GPU's stream, with the collectives it waits for, is done. Raises as :meth:`all_reduce`."""
        stream.synchronize()

    @abstractmethod
    def broadcast(self, array: Any, src: int = 0) -> Any:
        """Overwrites every rank's array by that of rank ``src``; returns it. Raises as :meth:`all_reduce`."""

    @abstractmethod
    def all_gather(self, array: Any) -> Any:
        """A new array of shape (size, *array.shape): every rank's, in order. Raises as :meth:`all_reduce`."""

    @abstractmethod
    def barrier(self) -> None:
        """Returns when every rank has come here. Raises RuntimeError as :meth:`all_reduce`."""

    def broadcast_object(self, value: Any, src: int = 0) -> Any:
        """A small value of rank ``src`` on all ranks: what JSON holds, of which tuples become lists.

        Raises:
            TypeError: JSON does not hold it. RuntimeError: as :meth:`all_reduce`.
        """
        check_source(src, self.size)
        text = json.dumps(value).encode() if self.rank == src else b""
        length = self._to_device(np.array([len(text)], np.int64))
        self.broadcast(length, src)
        count = int(self._to_host(length)[0])
        content = np.frombuffer(text, np.uint8) if self.rank == src else np.empty(count, np.uint8)
        received = self._to_device(content.copy())
        self.broadcast(received, src)
        return json.loads(self._to_host(received).tobytes())

    def all_gather_object(self, value: Any) -> list[Any]:
        """Every rank's value, in order; values as in :meth:`broadcast_object`, which says what it raises."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = self._to_host(self.all_gather(self._to_device(np.array([len(text)], np.int64))))[:, 0]
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(text)] = text
        rows = self._to_host(self.all_gather(self._to_device(padded)))
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    @abstractmethod
    def close(self) -> None:
        """Ends the communication; all ranks call it."""

    @abstractmethod
    def abort(self, message: str, code: int = 1) -> None:
        """Ends all ranks of the job with a non-zero exit code, after ``message`` on standard error; never returns."""

    def _to_device(self, array: Any) -> Any:
        """An array where this communicator works. Its own memory."""
        return array

    def _to_host(self, array: Any) -> Any:
        """The same as a NumPy array."""
        return array


def check_op(op: str, dtype: np.dtype[Any]) -> None:
    """Raises ValueError for an op that is not known or does not go with the dtype."""
    if op not in _OPS:
        raise ValueError(f"op is {op!r}, but must be one of {', '.join(map(repr, _OPS))}")
    if op == "avg" and dtype.kind != "f":
        raise ValueError(f"op is 'avg' of an array of {dtype}, but a mean needs floating point; use 'sum'")


def check_source(src: int, size: int) -> None:
    """Raises ValueError for a rank that is not there."""
    if isinstance(src, bool) or not isinstance(src, (int, np.integer)):
        raise TypeError(f"src is {src!r}, but must be a rank")
    if not 0 <= src < size:
        raise ValueError(f"src is {src}, but there are ranks 0 to {size - 1}")


def check_array(array: Any, writable: bool) -> None:
    """Raises TypeError, ValueError for a NumPy array that cannot be sent, or received into, without a copy."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array is of type {type(array).__name__}, but must be a NumPy or CuPy array")
    if not array.flags.c_contiguous:
        raise ValueError(
            f"array of shape {array.shape} is not C-contiguous, which would need a copy; pass np.ascontiguousarray()"
        )
    if writable and not array.flags.writeable:
        raise ValueError("array is read-only, but is to be overwritten; pass a copy")


def ranks_text(ranks: list[int], size: int) -> str:
    """'rank 2 of 4', 'ranks 1 and 3 of 4' or 'ranks 0 to 6 of 8'."""
    if len(ranks) == 1:
        return f"rank {ranks[0]} of {size}"
    if len(ranks) > 2 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"ranks {ranks[0]} to {ranks[-1]} of {size}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]} of {size}"


def check_timeout(timeout: Any) -> float:
    """Seconds from a number or a ``datetime.timedelta``. Raises TypeError, ValueError."""
    seconds = timeout.total_seconds() if hasattr(timeout, "total_seconds") else timeout
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"timeout is {timeout!r}, but must be seconds or a datetime.timedelta")
    if not (seconds > 0 and math.isfinite(seconds)):
        raise ValueError(f"timeout is {timeout!r}, but must be above 0 and finite")
    return float(seconds)


_SPIN = 2e-3  # seconds: longer than the collectives of small models take
_NAPS = (5e-5, 2e-3)  # seconds, the shortest and the longest
_OVERSLEPT = 1 / 32  # of a wait, at most


def wait_until(done: Callable[[], bool], deadline: float, idle: Callable[[], object] | None = None) -> bool:
    """Polls until ``done()``, at first without sleeping, so that Ctrl-C is seen and a deadline kept.

    Args:
        done: looked at again and again.
        deadline: of ``time.monotonic()``.
        idle: called between two naps.

    Returns:
        Whether it is done; False at the deadline.
    """
    if done():
        return True
    start = time.monotonic()
    while not done():
        now = time.monotonic()
        if now >= deadline:
            return False
        if now - start < _SPIN:
            os.sched_yield()  # to another rank on the same core, if there is one
            continue
        if idle is not None:
            idle()
        time.sleep(min(max((now - start) * _OVERSLEPT, _NAPS[0]), _NAPS[1]))
    return True
