"""Jobs of several real processes, started by mpiexec."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_LAUNCHERS = ("OMPI_", "PMI", "MPI_", "SLURM_", "TORCHELASTIC_", "MASTER_", "HYDI", "HYDRA_")


def environment(**more: str) -> dict[str, str]:
    """This process's environment without what a launcher has put there; one thread a rank."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHERS) and key not in names}
    # Programs may import what lies beside this file.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    return {**clean, "CONVEC_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def mpiexec() -> str:
    """The mpiexec beside this Python; skips the test where there is none, or no mpi4py."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install mpi4py mpich")
    found = Path(sys.executable).parent / "mpiexec"
    if not found.exists():
        pytest.skip("mpich's wheel is not installed: pip install mpich")
    return str(found)


def start(count: int, program: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """``mpiexec -n count python -c program arguments`` with its output in pipes; ``more`` goes to the environment."""
    command = [mpiexec(), "-n", str(count), sys.executable, "-c", program, *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(**more),
    )


def finish(job: subprocess.Popen[str], seconds: float = 60.0) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a job; fails where it hangs."""
    try:
        output, errors = job.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        job.terminate()  # mpiexec ends its ranks
        output, errors = job.communicate(timeout=10)
        pytest.fail(f"the job hangs\n{output}\n{errors}")
    return job.returncode, output, errors


def run(count: int, program: str, *arguments: str, **more: str) -> str:
    """What a job that must succeed prints."""
    code, output, errors = finish(start(count, program, *arguments, **more))
    assert code == 0, f"exit code {code}\n{output}\n{errors}"
    return output
