"""Which process of a job this is, from what launchers put into the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Launch", "detect"]


@dataclass(frozen=True)
class Launch:
    """A process of a job.

    Attributes:
        launcher: 'torchrun', 'Open MPI', 'MPICH' or 'SLURM'.
        rank: this process's number, from 0.
        size: processes in all.
        local_rank: its number among those of its host.
        local_size: processes of this host, or None where the launcher does not say.
    """

    launcher: str
    rank: int
    size: int
    local_rank: int
    local_size: int | None


# Rank, size, local rank, local size; the first launcher whose rank and size are there counts. A launcher within an
# allocation of SLURM comes before it.
_VARIABLES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    "Open MPI": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "MPICH": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "SLURM": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"),
}


def detect(environ: Mapping[str, str] | None = None) -> Launch | None:
    """The launcher that started this process, or None where none did.

    Args:
        environ: by default ``os.environ``.

    Raises:
        RuntimeError: a launcher's numbers do not make sense; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    for launcher, (rank, size, local_rank, local_size) in _VARIABLES.items():
        if rank not in environ or size not in environ:
            continue
        processes = _number(environ, size, 1, None)
        number = _number(environ, rank, 0, processes)
        local = _number(environ, local_rank, 0, processes) if local_rank in environ else number
        beside = None
        if local_size in environ and environ[local_size].isdigit():  # SLURM counts hosts in it as well: "2(x3)"
            beside = _number(environ, local_size, local + 1, processes + 1)
        return Launch(launcher, number, processes, local, beside)
    return None


def _number(environ: Mapping[str, str], name: str, least: int, below: int | None) -> int:
    text = environ[name]
    try:
        value = int(text)
    except ValueError:
        raise RuntimeError(f"the environment variable {name} is {text!r}, but must be a whole number") from None
    if value < least or (below is not None and value >= below):
        allowed = f"at least {least}" if below is None else f"in [{least}, {below})"
        raise RuntimeError(f"the environment variable {name} is {value}, but must be {allowed}")
    return value
