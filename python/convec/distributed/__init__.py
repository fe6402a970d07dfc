"""Several processes that train as one: ``mpiexec -n 8 python train.py``, ``srun`` or, with GPUs, ``torchrun``.

The names are those of ``torch.distributed``::

    import convec.distributed as dist

    dist.init_process_group()
    model.fit(x, y, batch_size=256)  # 256 samples a step, over all ranks
    dist.destroy_process_group()

Between processors MPI carries the data (``pip install convec[mpi]``), between GPUs NCCL. A rank that dies, raises or
stalls makes the others stop with an error that names it, and the job end with an exit code that is not 0.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import TYPE_CHECKING, Any

from convec.distributed import launch
from convec.distributed.communicator import Communicator, ReduceOp, Work, check_timeout

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

__all__ = [
    "Communicator",
    "ReduceOp",
    "Work",
    "all_gather",
    "all_gather_object",
    "all_reduce",
    "barrier",
    "broadcast",
    "broadcast_object",
    "destroy_process_group",
    "get_backend",
    "get_communicator",
    "get_local_rank",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_initialized",
]

DEFAULT_TIMEOUT = 600.0  # seconds; one rank may read files or compute long while the others wait

_group: Communicator | None = None


def init_process_group(backend: str | None = None, timeout: float | timedelta = DEFAULT_TIMEOUT) -> None:
    """Joins this process to its job. Called once by every rank, before other calls.

    Rank and number of processes come from the launcher: torchrun, Open MPI's or MPICH's mpiexec, or srun; without one
    this is the only process. Each rank then uses its share of the host's processors, unless CONVEC_NUM_THREADS says how
    many. An exception that nobody catches ends all ranks from now on.

    Args:
        backend: 'mpi' for NumPy arrays and models on the CPU, 'nccl' for CuPy arrays; by default by the device that
            convec uses (:func:`convec.current_device`).
        timeout: seconds (or a ``datetime.timedelta``) after which a collective raises that a rank does not arrive at.

    Raises:
        RuntimeError: there is a process group already, a package is missing, or ranks do not join in time.
        TypeError, ValueError: backend or timeout is not one.
    """
    global _group
    if _group is not None:
        raise RuntimeError("the process group is initialized already; call destroy_process_group() first")
    seconds = check_timeout(timeout)
    started = launch.detect()
    name = _default_backend() if backend is None else backend
    if name == "mpi":
        from convec.distributed.mpi import MpiCommunicator

        _group = MpiCommunicator(seconds)
        _share_processors(_group)
    elif name == "nccl":
        from convec.distributed.nccl import NcclCommunicator

        alone = launch.Launch("none", 0, 1, 0, 1)
        _group = NcclCommunicator(started or alone, seconds, _mpi_beside(started, seconds))
    else:
        raise ValueError(f"backend is {backend!r}, but must be 'mpi', 'nccl' or None")
    _guard()


def _default_backend() -> str:
    from convec import _device

    return "nccl" if _device.current_device().type == "cuda" else "mpi"


def _mpi_beside(started: launch.Launch | None, timeout: float) -> Communicator | None:
    """MPI to carry NCCL's id, where MPI started the job."""
    if started is None or started.launcher not in ("Open MPI", "MPICH"):
        return None
    from convec.distributed.mpi import MpiCommunicator

    try:
        return MpiCommunicator(timeout)
    except RuntimeError:
        return None  # mpi4py is not there, or belongs to another MPI: the rendezvous does


def _share_processors(group: Communicator) -> None:
    if "CONVEC_NUM_THREADS" in os.environ:
        return
    import platform

    from convec import _core

    allowed = sorted(os.sched_getaffinity(0))
    own = [platform.node(), allowed]
    # Ranks that the launcher bound to processors of their own share with nobody.
    beside = sum(other == own for other in group.all_gather_object(own))
    _core.set_num_threads(max(len(allowed) // beside, 1))


def _guard() -> None:
    """From now on what ends this rank ends all."""
    if not getattr(sys.excepthook, "convec_guard", False):
        sys.excepthook = _Hook(sys.excepthook)
        atexit.register(_at_exit)


class _Hook:
    convec_guard = True

    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._before(kind, error, trace)
        if _group is not None and _group.size > 1:
            interrupted = issubclass(kind, KeyboardInterrupt)
            what = f"{kind.__name__}: {error}" if str(error) else kind.__name__
            _group.abort(f"convec: rank {_group.rank} of {_group.size} ends the job: {what}", 130 if interrupted else 1)


def _at_exit() -> None:
    # MPI cannot be finalized while a collective has not ended.
    if _group is not None and getattr(_group, "broken", False):
        _group.abort(f"convec: rank {_group.rank} of {_group.size} ends the job after a failed collective")


def is_initialized() -> bool:
    """Whether :func:`init_process_group` was called."""
    return _group is not None


def get_communicator() -> Communicator:
    """The job's :class:`Communicator`. Raises RuntimeError before :func:`init_process_group`."""
    if _group is None:
        raise RuntimeError("there is no process group: call convec.distributed.init_process_group() first")
    return _group


def get_backend() -> str:
    """'mpi' or 'nccl'. Raises RuntimeError before :func:`init_process_group`."""
    return get_communicator().backend


def get_rank() -> int:
    """This process's number, from 0; 0 before :func:`init_process_group`."""
    return 0 if _group is None else _group.rank


def get_local_rank() -> int:
    """This process's number among those of its host; 0 before :func:`init_process_group`."""
    return 0 if _group is None else _group.local_rank


def get_world_size() -> int:
    """Processes in all; 1 before :func:`init_process_group`."""
    return 1 if _group is None else _group.size


def all_reduce(array: Any, op: ReduceOp = "sum", async_op: bool = False) -> Any:
    """Combines the ranks' arrays element by element, in place: :meth:`Communicator.all_reduce`.

    Args:
        array: C-contiguous and writable; NumPy with the backend 'mpi', CuPy with 'nccl'.
        op: 'sum', 'avg', 'max' or 'min'.
        async_op: only begin it.

    Returns:
        The array; with ``async_op`` the :class:`Work` to ``wait()`` for.

    Raises:
        TypeError, ValueError: the array or op cannot be used.
        RuntimeError: a rank does not arrive within the timeout; the message names it.
    """
    group = get_communicator()
    return group.all_reduce_start(array, op) if async_op else group.all_reduce(array, op)


def broadcast(array: Any, src: int = 0) -> Any:
    """Overwrites every rank's array by that of rank ``src``, in place. Raises as :func:`all_reduce`."""
    return get_communicator().broadcast(array, src)


def all_gather(array: Any) -> Any:
    """A new array (size, *array.shape) of every rank's, in order. Raises as :func:`all_reduce`."""
    return get_communicator().all_gather(array)


def broadcast_object(value: Any, src: int = 0) -> Any:
    """A small value (what JSON holds) of rank ``src`` on all ranks. Raises TypeError, or as :func:`all_reduce`."""
    return get_communicator().broadcast_object(value, src)


def all_gather_object(value: Any) -> list[Any]:
    """Every rank's small value (what JSON holds), in order. Raises TypeError, or as :func:`all_reduce`."""
    return get_communicator().all_gather_object(value)


def barrier() -> None:
    """Returns when every rank has come here. Raises RuntimeError as :func:`all_reduce`."""
    get_communicator().barrier()


def destroy_process_group() -> None:
    """Leaves the job; all ranks call it. Raises RuntimeError where one does not come."""
    global _group
    group = get_communicator()
    group.close()
    _group = None
