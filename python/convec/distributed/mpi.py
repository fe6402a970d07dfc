"""Communication by MPI (mpi4py), between processors."""

from __future__ import annotations

import fcntl
import os
import stat
import sys
import termios
import time
from array import array
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from convec.distributed import launch
from convec.distributed.communicator import (
    Communicator,
    ReduceOp,
    Work,
    check_array,
    check_op,
    check_source,
    ranks_text,
    wait_until,
)

if TYPE_CHECKING:
    from mpi4py import MPI

__all__ = ["MpiCommunicator"]

_TAG = 7  # of messages that say "I wait in collective n"
_GRACE = 1.0  # seconds for those messages after a timeout
_PASS_ON = 0.1  # seconds for a launcher to pass on what it has read, before an abort


def _load() -> Any:
    """mpi4py's MPI. Raises RuntimeError where it cannot be used, with the way to mend it."""
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise RuntimeError(
            f"the backend 'mpi' needs mpi4py and an MPI library: pip install convec[mpi] ({error})"
        ) from (error)
    except RuntimeError as error:
        raise RuntimeError(f"mpi4py finds no MPI library: pip install convec[mpi] ({error})") from error
    return MPI


class MpiCommunicator(Communicator):
    """All processes that ``mpiexec`` or ``srun`` started.

    Collectives are begun without blocking and polled, so that Ctrl-C and the timeout end them. After a timeout the
    ranks that wait tell each other so; those not heard of are named, and the communicator is of no more use.

    Args:
        timeout: seconds for a collective.
        comm: mpi4py's communicator; by default all processes.

    Raises:
        RuntimeError: mpi4py or MPI is not there, or the launcher's number of processes is not MPI's.
    """

    backend = "mpi"

    def __init__(self, timeout: float = 60.0, comm: MPI.Intracomm | None = None) -> None:
        mpi = _load()
        self._mpi = mpi
        world = mpi.COMM_WORLD if comm is None else comm
        started = launch.detect() if comm is None else None
        if started is not None and started.size != world.Get_size():
            raise RuntimeError(
                f"{started.launcher} started {started.size} processes, but MPI sees {world.Get_size()}: start them by "
                f"'mpiexec -n {started.size} python {sys.argv[0]}', of the MPI library that mpi4py uses "
                f"({_library(mpi)}); with GPUs use backend='nccl'"
            )
        self.timeout = timeout
        self._comm = world.Dup()
        self._notices = world.Dup()
        self.rank = self._comm.Get_rank()
        self.size = self._comm.Get_size()
        beside = self._comm.Split_type(mpi.COMM_TYPE_SHARED)
        self.local_rank = beside.Get_rank()
        beside.Free()
        self._ops = {"sum": mpi.SUM, "avg": mpi.SUM, "max": mpi.MAX, "min": mpi.MIN}
        self._begun = 0
        self._broken = ""
        self._answered: set[int] = set()
        self._sent: list[Any] = []
        self._closed = False

    # ---- Collectives ----

    def all_reduce_start(self, array: Any, op: ReduceOp = "sum") -> Work:
        """See :class:`Communicator`."""
        _check(array, writable=True)
        check_op(op, array.dtype)
        self._begin()
        request = self._comm.Iallreduce(self._mpi.IN_PLACE, array, self._ops[op])
        after = None
        if op == "avg" and self.size > 1:
            after = partial(_divide, array, self.size)
        return _MpiWork(self, request, "all_reduce", self._begun, array, after)

    def broadcast(self, array: Any, src: int = 0) -> Any:
        """See :class:`Communicator`."""
        check_source(src, self.size)
        _check(array, writable=self.rank != src)
        self._begin()
        _MpiWork(self, self._comm.Ibcast(array, src), "broadcast", self._begun, array).wait()
        return array

    def all_gather(self, array: Any) -> Any:
        """See :class:`Communicator`."""
        _check(array, writable=False)
        self._begin()
        gathered = _like(array, (self.size, *array.shape))
        _MpiWork(self, self._comm.Iallgather(array, gathered), "all_gather", self._begun, (array, gathered)).wait()
        return gathered

    def barrier(self) -> None:
        """See :class:`Communicator`."""
        self._begin()
        _MpiWork(self, self._comm.Ibarrier(), "barrier", self._begun, None).wait()

    def _begin(self) -> None:
        if self._closed:
            raise RuntimeError("this communicator is closed; call init_process_group() again")
        if self._broken:
            raise RuntimeError(f"no more communication is possible after this: {self._broken}")
        self._begun += 1

    # ---- Faults ----

    def _listen(self) -> None:
        """Takes in which ranks wait, and tells them if this one does too."""
        status = self._mpi.Status()
        while self._notices.Iprobe(self._mpi.ANY_SOURCE, _TAG, status):
            collective = np.empty(1, np.int64)
            source = status.Get_source()
            self._notices.Recv(collective, source, _TAG)
            if int(collective[0]) == self._begun and source not in self._answered:
                self._answered.add(source)
                if not self._sent:
                    self._notify()

    def _notify(self) -> None:
        notice = np.array([self._begun], np.int64)
        self._sent = [
            (notice, self._notices.Isend(notice, rank, _TAG)) for rank in range(self.size) if rank != self.rank
        ]

    def _timed_out(self, name: str, number: int) -> RuntimeError:
        if not self._sent:
            self._notify()
        end = time.monotonic() + _GRACE
        while time.monotonic() < end and len(self._answered) < self.size - 1:
            self._listen()
            time.sleep(0.01)
        missing = [rank for rank in range(self.size) if rank != self.rank and rank not in self._answered]
        who = f"{ranks_text(missing, self.size)} did not arrive" if missing else "all ranks arrived, but it did not end"
        self._broken = (
            f"{name} (collective {number}) did not end within {self.timeout:g} s on rank {self.rank}: {who}; it has "
            "ended, stalled, or not called the same collectives; init_process_group(timeout=) sets a longer timeout"
        )
        return RuntimeError(self._broken)

    @property
    def broken(self) -> bool:
        """Whether a collective timed out: MPI can only be aborted then."""
        return bool(self._broken)

    def close(self) -> None:
        """See :class:`Communicator`."""
        if self._closed:
            return
        if not self._broken:
            self.barrier()  # nobody leaves while others still wait for it
            self._comm.Free()
            self._notices.Free()
        self._closed = True

    def abort(self, message: str, code: int = 1) -> None:
        """See :class:`Communicator`."""
        if message:
            print(message, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            _wait_until_read(stream)
        self._mpi.COMM_WORLD.Abort(code)


def _wait_until_read(stream: TextIO, seconds: float = 1.0) -> None:
    """Waits until the launcher has taken what a pipe holds: an aborted job's launcher drops the rest."""
    held = array("i", [0])
    end = time.monotonic() + seconds
    try:
        if not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            return  # a file or a terminal keeps what it was given
        while time.monotonic() < end:
            fcntl.ioctl(stream.fileno(), termios.FIONREAD, held)
            if not held[0]:
                time.sleep(_PASS_ON)
                return
            time.sleep(0.005)
    except (OSError, ValueError):
        pass  # closed, or not a stream of the operating system's


class _MpiWork(Work):
    def __init__(
        self,
        owner: MpiCommunicator,
        request: Any,
        name: str,
        number: int,
        buffers: Any,
        after: Callable[[], object] | None = None,
    ) -> None:
        self._owner = owner
        self._request = request
        self._name = name
        self._number = number
        self._buffers = buffers  # MPI writes to them until it is done
        self._after = after
        self._done = False

    def test(self) -> bool:
        if not self._done and self._request.Test():
            self._done = True
            if self._after is not None:
                self._after()
        return self._done

    def wait(self) -> None:
        owner = self._owner
        if not wait_until(self.test, time.monotonic() + owner.timeout, owner._listen):
            raise owner._timed_out(self._name, self._number)


def _library(mpi: Any) -> str:
    return str(mpi.Get_library_version()).split("\n", 1)[0].strip("\0 ")


def _check(array: Any, writable: bool) -> None:
    if hasattr(array, "__cuda_array_interface__"):
        # Any other MPI would read a GPU's address as one of the host's and crash.
        if os.environ.get("CONVEC_MPI_CUDA") != "1":
            raise TypeError(
                "array is on a GPU, which MPI reaches only where it was built for CUDA; set CONVEC_MPI_CUDA=1 if it "
                "was, or use backend='nccl'"
            )
        if not array.flags.c_contiguous:
            raise ValueError(f"array of shape {array.shape} is not C-contiguous, which would need a copy")
        return
    check_array(array, writable)
    if array.dtype.kind not in "fiu" or array.dtype == np.float16 or array.dtype.itemsize > 8:
        raise TypeError(f"array is of {array.dtype}, but MPI takes float32, float64 and integers of up to 64 bits")


def _like(array: Any, shape: tuple[int, ...]) -> Any:
    if isinstance(array, np.ndarray):
        return np.empty(shape, array.dtype)
    import cupy

    return cupy.empty(shape, array.dtype)


def _divide(array: Any, size: int) -> None:
    array /= size
