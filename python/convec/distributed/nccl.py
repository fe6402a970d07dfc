"""Communication by NCCL (cupy.cuda.nccl), between GPUs."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import numpy as np

from convec.distributed import rendezvous
from convec.distributed.communicator import (
    Communicator,
    ReduceOp,
    Work,
    check_op,
    check_source,
    ranks_text,
    wait_until,
)
from convec.distributed.launch import Launch

__all__ = ["NcclCommunicator"]

_GRACE = 1.0  # seconds for ranks to say, after a timeout, that they wait too

_TYPES = {
    "int8": "NCCL_INT8",
    "uint8": "NCCL_UINT8",
    "int32": "NCCL_INT32",
    "uint32": "NCCL_UINT32",
    "int64": "NCCL_INT64",
    "uint64": "NCCL_UINT64",
    "float16": "NCCL_FLOAT16",
    "float32": "NCCL_FLOAT32",
    "float64": "NCCL_FLOAT64",
}


def _load() -> Any:
    """CuPy with NCCL. Raises RuntimeError where it cannot be used, with the way to mend it."""
    try:
        import cupy
        from cupy.cuda import nccl
    except ImportError as error:
        raise RuntimeError(
            f"the backend 'nccl' needs CuPy and NCCL: pip install convec[cuda13] ({error}); without GPUs use "
            "backend='mpi'"
        ) from error
    if not getattr(nccl, "available", True):
        raise RuntimeError("this CuPy has no NCCL: pip install convec[cuda13]")
    return cupy


class NcclCommunicator(Communicator):
    """One process a GPU: that of the process's local rank, among those it can see.

    Collectives run on a stream of their own, behind what the current stream holds when they are begun; so what is
    launched there later goes on beside them. ``wait()`` polls an event behind them and NCCL's asynchronous error, so
    that Ctrl-C and the timeout end them. After one the communicator is aborted and of no more use.

    Args:
        started: this process's place in the job.
        timeout: seconds for a collective, and until all ranks have joined.
        mpi: where there is MPI, the communicator by which NCCL's id travels; else a rendezvous at MASTER_ADDR.

    Raises:
        RuntimeError: CuPy or NCCL is not there, or a rank does not join in time; the message names it.
    """

    backend = "nccl"

    def __init__(self, started: Launch, timeout: float = 60.0, mpi: Communicator | None = None) -> None:
        cupy = _load()
        nccl = cupy.cuda.nccl
        self._cupy = cupy
        self._nccl = nccl
        self.timeout = timeout
        self.rank = started.rank
        self.size = started.size
        self.local_rank = started.local_rank
        self._begun = 0
        self._broken = ""
        self._mpi = mpi
        self._store: rendezvous.Store | None = None
        # A launcher may have given every process a GPU of its own.
        cupy.cuda.Device(started.local_rank % cupy.cuda.runtime.getDeviceCount()).use()
        ident: list[int] | None = list(nccl.get_unique_id()) if self.rank == 0 else None
        if mpi is not None:
            ident = mpi.broadcast_object(ident)
        elif self.size > 1:
            self._store = rendezvous.Store(
                self.rank, self.size, rendezvous.address_of(started), rendezvous.token_of(started), timeout
            )
            if self.rank == 0:
                self._store.set("nccl id", ident)
            else:
                ident = self._store.get("nccl id")
        assert ident is not None
        self._comm = self._join(tuple(ident))
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def _join(self, ident: tuple[int, ...]) -> Any:
        """NCCL's own start, which blocks: in a thread, so that it has a deadline."""
        device = self._cupy.cuda.Device()
        made: list[Any] = []
        failed: list[BaseException] = []

        def start() -> None:
            try:
                device.use()
                made.append(self._nccl.NcclCommunicator(self.size, ident, self.rank))
            except BaseException as error:  # it is raised again below
                failed.append(error)

        thread = threading.Thread(target=start, name="convec-nccl", daemon=True)
        thread.start()
        if not wait_until(lambda: not thread.is_alive(), time.monotonic() + self.timeout):
            raise RuntimeError(
                f"NCCL did not start within {self.timeout:g} s on rank {self.rank} of {self.size}, though all ranks "
                "have joined: see what NCCL_DEBUG=INFO prints, and whether the hosts reach each other"
            )
        if failed:
            raise RuntimeError(f"NCCL did not start on rank {self.rank} of {self.size}: {failed[0]}") from failed[0]
        return made[0]

    # ---- Collectives ----

    def all_reduce_start(self, array: Any, op: ReduceOp = "sum") -> Work:
        """See :class:`Communicator`."""
        kind = self._check(array)
        check_op(op, np.dtype(array.dtype))
        self._begin()
        code = {"max": self._nccl.NCCL_MAX, "min": self._nccl.NCCL_MIN}.get(op, self._nccl.NCCL_SUM)
        self._comm.allReduce(array.data.ptr, array.data.ptr, array.size, kind, code, self._stream.ptr)
        if op == "avg":
            with self._stream:
                array /= self.size
        return self._work("all_reduce", array)

    def broadcast(self, array: Any, src: int = 0) -> Any:
        """See :class:`Communicator`."""
        check_source(src, self.size)
        kind = self._check(array)
        self._begin()
        self._comm.broadcast(array.data.ptr, array.data.ptr, array.size, kind, src, self._stream.ptr)
        self._work("broadcast", array).wait()
        return array

    def all_gather(self, array: Any) -> Any:
        """See :class:`Communicator`."""
        kind = self._check(array)
        # Its memory may have been used before by the current stream, which is waited for.
        gathered = self._cupy.empty((self.size, *array.shape), array.dtype)
        self._begin()
        self._comm.allGather(array.data.ptr, gathered.data.ptr, array.size, kind, self._stream.ptr)
        self._work("all_gather", (array, gathered)).wait()
        return gathered

    def barrier(self) -> None:
        """See :class:`Communicator`."""
        self.all_reduce(self._cupy.zeros(1, np.int32))

    def _check(self, array: Any) -> int:
        if not hasattr(array, "__cuda_array_interface__"):
            raise TypeError(
                f"array is of type {type(array).__name__}, but NCCL works on CuPy arrays; for NumPy arrays use "
                "backend='mpi'"
            )
        name = np.dtype(array.dtype).name
        if name not in _TYPES:
            raise TypeError(f"array is of {name}, but NCCL takes {', '.join(_TYPES)}")
        if not array.flags.c_contiguous:
            raise ValueError(f"array of shape {array.shape} is not C-contiguous, which would need a copy")
        return int(getattr(self._nccl, _TYPES[name]))

    def _begin(self) -> None:
        if self._comm is None:
            raise RuntimeError("this communicator is closed; call init_process_group() again")
        if self._broken:
            raise RuntimeError(f"no more communication is possible after this: {self._broken}")
        self._begun += 1
        self._stream.wait_event(self._behind(self._cupy.cuda.get_current_stream()))

    def _behind(self, stream: Any) -> Any:
        event = self._cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def _work(self, name: str, buffers: Any) -> Work:
        return _NcclWork(self, self._behind(self._stream), name, self._begun, buffers)

    def synchronize(self, stream: Any) -> None:
        """See :class:`Communicator`."""
        _NcclWork(self, self._behind(stream), "the last collective", self._begun, None).wait()

    # ---- Faults ----

    def _fail(self, name: str, number: int, error: str) -> RuntimeError:
        where = f"{name} (collective {number})"
        if error:
            self._broken = f"{where} failed on rank {self.rank} of {self.size}: {error}"
        else:
            self._broken = f"{where} did not end within {self.timeout:g} s on rank {self.rank}: {self._missing(number)}"
        self._comm.abort()  # else the kernel that waits would occupy the GPU, and the process could not end
        return RuntimeError(self._broken)

    def _missing(self, number: int) -> str:
        if self._store is None:
            return "NCCL does not say who did not arrive; the rank that raised or ended has said so"
        missing = []
        try:
            self._store.set(f"waits {number} {self.rank}", True)
            deadline = time.monotonic() + _GRACE
            for rank in range(self.size):
                try:
                    self._store.get(f"waits {number} {rank}", max(deadline - time.monotonic(), 0.05))
                except RuntimeError as error:
                    if "rank 0" in str(error):
                        raise
                    missing.append(rank)
        except RuntimeError:
            missing = [0]
        if not missing:
            return "all ranks arrived, but it did not end"
        return f"{ranks_text(missing, self.size)} did not arrive; it has ended, stalled, or called other collectives"

    @property
    def broken(self) -> bool:
        """Whether a collective failed."""
        return bool(self._broken)

    def close(self) -> None:
        """See :class:`Communicator`."""
        if self._comm is None:
            return
        if not self._broken:
            self.barrier()
            self._comm.destroy()
        self._comm = None
        if self._store is not None:
            self._store.close()
        if self._mpi is not None:
            self._mpi.close()

    def abort(self, message: str, code: int = 1) -> None:
        """See :class:`Communicator`. torchrun and srun end the other ranks when one ends with an error."""
        if self._mpi is not None:
            self._mpi.abort(message, code)
        if message:
            print(message, file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        if self._comm is not None and not self._broken:
            self._comm.abort()
        os._exit(code)

    def _to_device(self, array: Any) -> Any:
        return self._cupy.asarray(array)

    def _to_host(self, array: Any) -> Any:
        return self._cupy.asnumpy(array)


class _NcclWork(Work):
    def __init__(self, owner: NcclCommunicator, event: Any, name: str, number: int, buffers: Any) -> None:
        self._owner = owner
        self._event = event
        self._name = name
        self._number = number
        self._buffers = buffers  # NCCL writes to them until it is done

    def test(self) -> bool:
        return bool(self._event.done)

    def block_current_stream(self) -> None:
        self._owner._cupy.cuda.get_current_stream().wait_event(self._event)

    def wait(self) -> None:
        owner = self._owner

        def done() -> bool:
            if self._event.done:
                return True
            error = owner._comm.check_async_error()
            if error:
                raise owner._fail(self._name, self._number, f"NCCL reports error {error}")
            return False

        if not wait_until(done, time.monotonic() + owner.timeout):
            raise owner._fail(self._name, self._number, "")
