"""Word2Vec's tables in memory that the ranks of one host share."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convec import _core

if TYPE_CHECKING:
    from convec.distributed import Communicator

__all__ = ["SharedMemoryTrainer"]

# Words of an epoch, in units of sync_words, between two meetings of the ranks, which exchange nothing there: short
# enough that a rank that has died is missed soon, long enough that waiting for the slowest costs little.
_ROUNDS_A_MEETING = 16


class SharedMemoryTrainer:
    """Trains a model's tables in memory that all ranks train at once, as the threads of one process do.

    The model of each rank changes in :meth:`fetch` alone.

    Args:
        communicator: of the ranks.
        trainer: the model's own tables; those of rank 0 are where it begins.
        memory: the same on all ranks.
    """

    piece_alignment = _core.Word2VecTrainer.piece_alignment

    def __init__(
        self, communicator: Communicator, trainer: _core.Word2VecTrainer, memory: npt.NDArray[np.uint8]
    ) -> None:
        self._communicator = communicator
        self._tables = _core.Word2VecSharedTables(trainer, memory)
        if communicator.rank == 0:
            self._tables.upload()

    @classmethod
    def open(cls, communicator: Communicator, trainer: _core.Word2VecTrainer) -> SharedMemoryTrainer | None:
        """Shares the tables of rank 0's model; None, on all ranks, where they have no memory in common.

        That is so where they are on several hosts or in several containers, on systems other than Linux, and where
        there is too little memory.
        """
        memory = _map(communicator, _core.Word2VecSharedTables.memory_size(trainer))
        return None if memory is None else cls(communicator, trainer, memory)

    def train(self, tokens: npt.NDArray[np.int32], **settings: Any) -> dict[str, Any]:
        """As ``_core.Word2VecTrainer.train``."""
        result: dict[str, Any] = self._tables.train(tokens, **settings)
        return result

    def fetch(self) -> None:
        """Copies what all ranks have learned so far into the model's own tables."""
        self._tables.download()

    # ---- What DistributedTraining asks of tables ----

    def words_a_round(self, sync_words: int) -> int:
        """Encoded words of all ranks between two calls of :meth:`combine`."""
        return _ROUNDS_A_MEETING * sync_words

    def begin_epoch(self) -> None:
        """Waits until every rank has fetched what the last epoch came to, or has seen the first state."""
        self._communicator.barrier()

    def is_complete(self, rounds: int) -> bool:
        """Always: there is one state only."""
        return True

    def combine(self, rounds: int, words: float, *, complete: bool) -> None:
        """Waits for the other ranks."""
        self._communicator.barrier()


def _map(communicator: Communicator, size: int) -> npt.NDArray[np.uint8] | None:
    """The same memory on all ranks, zeroed; or None on all. It is gone when the last of them has ended, however."""
    with contextlib.ExitStack() as files:
        where = communicator.broadcast_object(_create(size, files) if communicator.rank == 0 else None)
        mapped = None
        if where is not None:
            process, descriptor, name = where
            mapped = _open(process, descriptor, name, size)
        # Rank 0 keeps its file open until all have opened it.
        agreed = np.array([mapped is not None], np.int64)
        communicator.all_reduce(agreed, "min")
    return mapped if agreed[0] else None


def _create(size: int, files: contextlib.ExitStack) -> tuple[int, int, str] | None:
    """Process, descriptor and name of a file in memory of so many bytes, or None."""
    if not hasattr(os, "memfd_create"):
        return None
    name = f"convec-{secrets.token_hex(8)}"
    try:
        descriptor = os.memfd_create(name)
        files.callback(os.close, descriptor)
        os.ftruncate(descriptor, size)
    except OSError:
        return None
    return os.getpid(), descriptor, name


def _open(process: int, descriptor: int, name: str, size: int) -> npt.NDArray[np.uint8] | None:
    """The memory of another process's file; None where there is no such process or file, e.g. on another host."""
    path = Path(f"/proc/{process}/fd/{descriptor}")
    try:
        # The number may be that of any file on another host; the name is of this job alone.
        if path.readlink().name.split(" ", 1)[0] != f"memfd:{name}":
            return None
        with path.open("r+b") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)
    except (OSError, ValueError):
        return None
