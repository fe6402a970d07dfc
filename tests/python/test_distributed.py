"""convec.distributed: collectives, launchers and faults, with real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import convec.distributed as dist
import numpy as np
import pytest
import ranks
from convec.distributed import launch, rendezvous
from convec.distributed.launch import Launch

COLLECTIVES = """
import numpy as np
import convec
import convec.distributed as dist

dist.init_process_group(timeout=30)
rank, size = dist.get_rank(), dist.get_world_size()
assert dist.is_initialized() and dist.get_backend() == "mpi" and dist.get_local_rank() == rank
assert convec.num_threads() == 1
expected = {
    "sum": size * (size - 1) / 2, "avg": (size - 1) / 2, "max": size - 1, "min": 0,
}
for dtype in (np.float32, np.float64, np.int32, np.int64, np.uint8):
    for op, value in expected.items():
        if op == "avg" and np.dtype(dtype).kind != "f":
            continue
        array = np.full((3, 5), rank, dtype)
        before = array.ctypes.data
        assert dist.all_reduce(array, op) is array
        assert array.ctypes.data == before
        np.testing.assert_array_equal(array, np.full((3, 5), value, dtype))
# All ranks have the same bits, whatever order a sum is taken in.
array = np.random.default_rng(rank).normal(size=100_003).astype(np.float32)
dist.all_reduce(array)
rows = dist.all_gather(array)
assert rows.shape == (size, 100_003)
assert all(row.tobytes() == rows[0].tobytes() for row in rows)
work = [dist.all_reduce(part, async_op=True) for part in np.ones((3, 7), np.float32)]
for one in work:
    one.wait()
last = size - 1
array = np.arange(4.0) if rank == last else np.zeros(4)
dist.broadcast(array, src=last)
np.testing.assert_array_equal(array, np.arange(4.0))
value = {"a": [1, 2.5, None], "n": 2**100, "ä": "ö"}
assert dist.broadcast_object(value if rank == 1 else None, src=1) == value
assert dist.all_gather_object({"rank": rank, "pad": "x" * rank}) == [{"rank": r, "pad": "x" * r} for r in range(size)]
dist.barrier()
for wrong, error in (
    (lambda: dist.all_reduce(np.zeros((4, 4))[:, ::2]), ValueError),
    (lambda: dist.all_reduce([1.0]), TypeError),
    (lambda: dist.all_reduce(np.zeros(2, np.float16)), TypeError),
    (lambda: dist.all_reduce(np.zeros(2, np.int32), "avg"), ValueError),
    (lambda: dist.all_reduce(np.zeros(2), "mul"), ValueError),
    (lambda: dist.all_reduce(np.broadcast_to(np.float32(1), (2,))), ValueError),
    (lambda: dist.broadcast(np.zeros(2), src=size), ValueError),
    (lambda: dist.init_process_group(), RuntimeError),
):
    try:
        wrong()
    except error:
        continue
    raise AssertionError(error)
dist.destroy_process_group()
assert not dist.is_initialized() and dist.get_world_size() == 1
dist.init_process_group(timeout=30)
dist.destroy_process_group()
print("fine")
"""


@pytest.mark.parametrize("count", [2, 4])
def test_collectives(count: int) -> None:
    assert ranks.run(count, COLLECTIVES).count("fine") == count


def test_without_a_launcher_this_is_the_only_process() -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install mpi4py mpich")
    program = (
        "import convec.distributed as dist, numpy as np; dist.init_process_group(); "
        "assert (dist.get_rank(), dist.get_world_size()) == (0, 1); assert dist.all_reduce(np.ones(3)).sum() == 3; "
        "dist.barrier(); dist.destroy_process_group()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=ranks.environment(), timeout=60)


# ---- Faults ----

FAULT = """
import os, signal, sys, time
import numpy as np
import convec.distributed as dist

dist.init_process_group(timeout=2)
array = np.ones(10_000, np.float32)
for step in range(1000):
    if step == 20 and dist.get_rank() == 1:
        exec(sys.argv[1])
    dist.all_reduce(array, "avg")
print("never here")
"""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise ValueError('bad data')", "rank 1 of 2 ends the job: ValueError: bad data"),
        ("time.sleep(60)", "did not end within 2 s on rank 0: rank 1 of 2 did not arrive"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "Killed (signal 9)"),
        ("sys.exit(0)", "did not end within 2 s on rank 0: rank 1 of 2 did not arrive"),
        ("dist.barrier()", "did not end within 2 s"),
    ],
    ids=["raises", "stalls", "killed", "leaves", "differs"],
)
def test_a_rank_fails(fault: str, message: str) -> None:
    start = time.monotonic()
    code, output, errors = ranks.finish(ranks.start(2, FAULT, fault), 30)
    assert code != 0
    assert message in errors + output
    assert "never here" not in output
    assert time.monotonic() - start < 20


def test_the_ranks_that_do_not_arrive_are_named() -> None:
    program = """
import time, numpy as np, convec.distributed as dist
dist.init_process_group(timeout=2)
if dist.get_rank() in (1, 2):
    time.sleep(60)
try:
    dist.all_reduce(np.ones(3))
except RuntimeError as error:
    print(error, flush=True)
    try:
        dist.barrier()
    except RuntimeError as error:
        print(error, flush=True)
# Leaving now must not hang in MPI's own end.
"""
    code, output, errors = ranks.finish(ranks.start(4, program), 30)
    assert code != 0
    assert "rank 0: ranks 1 and 2 of 4 did not arrive" in output
    assert "no more communication is possible after this" in output
    assert "ends the job after a failed collective" in errors


def test_ctrl_c_ends_the_job() -> None:
    program = """
import numpy as np, time, convec.distributed as dist
dist.init_process_group(timeout=60)
dist.barrier()
if dist.get_rank() == 0:
    print("ready", flush=True)
    dist.barrier()
else:
    time.sleep(60)
"""
    job = ranks.start(2, program)
    assert job.stdout is not None
    assert job.stdout.readline() == "ready\n"
    time.sleep(0.3)
    job.send_signal(signal.SIGINT)
    code, _, _ = ranks.finish(job, 15)
    assert code != 0


# ---- Launchers ----


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RANK": "3"}, None),
        (
            {"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "8", "SLURM_PROCID": "0"},
            Launch("torchrun", 9, 16, 1, 8),
        ),
        (
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
            Launch("Open MPI", 1, 2, 0, None),
        ),
        (
            {"PMI_RANK": "5", "PMI_SIZE": "8", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "4"},
            Launch("MPICH", 5, 8, 1, 4),
        ),
        (
            {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "6", "SLURM_LOCALID": "2"},
            Launch("SLURM", 2, 6, 2, None),
        ),
        (
            {
                "SLURM_PROCID": "2",
                "SLURM_STEP_NUM_TASKS": "6",
                "SLURM_LOCALID": "0",
                "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
            },
            Launch("SLURM", 2, 6, 0, None),
        ),
        # A batch script of SLURM that srun did not start is not one of several tasks.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "6", "SLURM_LOCALID": "0"}, None),
    ],
)
def test_the_launcher_is_found(environ: dict[str, str], expected: Launch | None) -> None:
    assert launch.detect(environ) == expected


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE is 0"),
    ],
)
def test_a_launcher_that_makes_no_sense(environ: dict[str, str], name: str) -> None:
    with pytest.raises(RuntimeError, match=name):
        launch.detect(environ)


def _torchrun(count: int, program: str, **more: str) -> list[tuple[int, str, str]]:
    """What torchrun does: the same program with each rank's variables."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    jobs = []
    for rank in range(count):
        variables = {
            "RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "none",
            **more,
        }
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-c", program],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=ranks.environment(**variables),
            )
        )
    return [ranks.finish(job, 30) for job in jobs]


def test_torchrun_without_mpi_says_what_to_do() -> None:
    pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install mpi4py mpich")
    program = "import convec.distributed as dist; dist.init_process_group('mpi')"
    for code, _, errors in _torchrun(2, program):
        assert code != 0
        assert "torchrun started 2 processes, but MPI sees 1: start them by 'mpiexec -n 2 python" in errors


FAKE_CUPY = """
import os, time
import numpy as np
from stand_in_cupy import cupy
"""

NCCL = (
    FAKE_CUPY
    + """
import convec.distributed as dist

dist.init_process_group("nccl", timeout=10)
rank, size = dist.get_rank(), dist.get_world_size()
array = cupy.asarray(np.full(5, rank, np.float32))
assert dist.all_reduce(array, "avg") is array
np.testing.assert_array_equal(array, np.full(5, (size - 1) / 2, np.float32))
assert dist.all_reduce(cupy.asarray(np.full(5, rank)), "max")[0] == size - 1
rows = dist.all_gather(cupy.asarray(np.full(2, rank, np.float64)))
np.testing.assert_array_equal(rows, np.repeat(np.arange(size), 2).reshape(size, 2))
assert dist.broadcast_object({"x": [rank]}, src=1) == {"x": [1]}
assert dist.all_gather_object("r" * rank) == ["r" * other for other in range(size)]
for wrong, error in (
    (lambda: dist.all_reduce(np.zeros(2)), TypeError),
    (lambda: dist.all_reduce(cupy.zeros((4, 4), np.float32)[:, ::2]), ValueError),
    (lambda: dist.all_reduce(cupy.zeros(2, np.complex64)), TypeError),
):
    try:
        wrong()
    except error:
        continue
    raise AssertionError(error)
dist.barrier()
dist.destroy_process_group()
print("fine")
"""
)


def test_nccl_through_the_rendezvous(tmp_path: Any) -> None:
    results = _torchrun(3, NCCL, FAKE_NCCL=str(tmp_path))
    for rank, (code, output, errors) in enumerate(results):
        assert code == 0, errors
        assert output.splitlines()[0] == f"device {rank % 2}"
        assert output.splitlines()[-1] == "fine"


def test_nccl_by_mpi(tmp_path: Any) -> None:
    assert ranks.run(2, NCCL, FAKE_NCCL=str(tmp_path)).count("fine") == 2


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "did not end within 1 s on rank 0: rank 1 of 2 did not arrive"),
        ({"FAKE_ERROR": "6"}, "failed on rank 0 of 2: NCCL reports error 6"),
    ],
)
def test_nccl_stalls(tmp_path: Any, variables: dict[str, str], message: str) -> None:
    program = (
        FAKE_CUPY
        + """
import convec.distributed as dist
dist.init_process_group("nccl", timeout=20)
dist.get_communicator().timeout = 1
if dist.get_rank() == 1:
    time.sleep(3)
    os._exit(0)
dist.all_reduce(cupy.zeros(3, np.float32))
"""
    )
    (code, output, errors), _ = _torchrun(2, program, FAKE_NCCL=str(tmp_path), **variables)
    assert code == 1
    assert message in errors
    assert "aborted" in output


def test_nccl_without_cupy() -> None:
    if "cupy" in sys.modules:
        pytest.skip("CuPy is installed")
    with pytest.raises(RuntimeError, match=r"pip install convec\[cuda13\]"):
        dist.init_process_group("nccl")
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"backend": "gloo"}, ValueError, "backend is 'gloo'"),
        ({"timeout": 0}, ValueError, "timeout is 0"),
        ({"timeout": "1"}, TypeError, "timeout is '1'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dist.init_process_group(**arguments)
    assert not dist.is_initialized()


def test_without_a_process_group() -> None:
    assert (dist.get_rank(), dist.get_local_rank(), dist.get_world_size()) == (0, 0, 1)
    with pytest.raises(RuntimeError, match="init_process_group"):
        dist.all_reduce(np.zeros(2))


# ---- The rendezvous ----


def _address() -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[0], probe.getsockname()[1]


def test_the_store_names_who_did_not_join() -> None:
    address = _address()
    problems: dict[int, str] = {}

    def join(rank: int) -> None:
        try:
            rendezvous.Store(rank, 4, address, b"token", 1.0)
        except RuntimeError as error:
            problems[rank] = str(error)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in (0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert problems[0] == problems[2] == "ranks 1 and 3 of 4 did not join within 1 s"


def test_only_the_jobs_ranks_can_join() -> None:
    address = _address()
    stores: dict[int, rendezvous.Store] = {}
    thread = threading.Thread(target=lambda: stores.update({0: rendezvous.Store(0, 2, address, b"right", 10.0)}))
    thread.start()
    with pytest.raises(RuntimeError, match="the token"):
        rendezvous.Store(1, 2, address, b"wrong", 5.0)
    for rank in (0, 2, 7):
        with pytest.raises(RuntimeError, match="refused rank"):
            rendezvous.Store._connect(
                SimpleNamespace(  # type: ignore[arg-type]
                    _address=address,
                    _rank=rank,
                    _size=2,
                    _timeout=1.0,
                    _token=b"right",
                    _proof=lambda *parts: rendezvous.Store._proof(SimpleNamespace(_token=b"right"), *parts),  # type: ignore[arg-type]
                ),
                time.monotonic() + 1,
            )
    # Noise does not disturb it.
    with socket.create_connection(address) as noise:
        noise.sendall(os.urandom(4096))
    one = rendezvous.Store(1, 2, address, b"right", 5.0)
    thread.join(10)
    stores[0].set("id", [1, 2, 3])
    assert one.get("id") == [1, 2, 3]
    one.set("back", "ä")
    assert stores[0].get("back") == "ä"
    with pytest.raises(RuntimeError, match="no rank has set 'nothing'"):
        one.get("nothing", 0.1)
    with pytest.raises(RuntimeError, match="refused rank 1"):
        rendezvous.Store(1, 2, address, b"right", 1.0)
    one.close()
    stores[0].close()


def test_nobody_listens() -> None:
    with pytest.raises(RuntimeError, match="rank 0 of 2 did not answer at"):
        rendezvous.Store(1, 2, _address(), b"token", 0.3)


def test_tokens_and_addresses() -> None:
    one_host, hosts = Launch("torchrun", 0, 2, 0, 2), Launch("torchrun", 0, 4, 0, 2)
    assert rendezvous.token_of(hosts, {"CONVEC_TOKEN": "secret", "TORCHELASTIC_RUN_ID": "7"}) == b"secret"
    assert b"7" in rendezvous.token_of(hosts, {"TORCHELASTIC_RUN_ID": "7"})
    assert b"42" in rendezvous.token_of(hosts, {"SLURM_JOB_ID": "42"})
    assert rendezvous.token_of(one_host, {"TORCHELASTIC_RUN_ID": "none"})
    with pytest.raises(RuntimeError, match="CONVEC_TOKEN"):
        rendezvous.token_of(hosts, {"TORCHELASTIC_RUN_ID": "none"})
    assert rendezvous.address_of(hosts, {"MASTER_ADDR": "a", "MASTER_PORT": "1234"}) == ("a", 1234)
    agent = {"MASTER_ADDR": "a", "MASTER_PORT": "1234", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert rendezvous.address_of(hosts, agent) == ("a", 1235)
    with pytest.raises(RuntimeError, match="MASTER_ADDR"):
        rendezvous.address_of(hosts, {})
    with pytest.raises(RuntimeError, match="MASTER_PORT"):
        rendezvous.address_of(one_host, {"MASTER_PORT": "http"})
