"""Several processes: all-reduce against bare mpi4py, and training of the seed model by 1 and by 2 ranks.

    python benchmarks/bench_distributed.py --json distributed.json
    python benchmarks/bench_distributed.py --case all_reduce --ranks 2

Every case is a job of its own under mpiexec, one thread a rank. Rounds alternate between what is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

GRADIENTS = 93_322  # floats: the seed model's weights, 373 KB
BATCH = 256


def all_reduce(repeats: int) -> dict[str, float]:
    """Median microseconds of an all-reduce of the seed model's gradients by mpi4py alone and by convec."""
    import convec.distributed as dist
    from mpi4py import MPI

    dist.init_process_group("mpi")
    array = np.full(GRADIENTS, 1e-30, np.float32)

    def bare() -> None:
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, array)

    def convec() -> None:
        dist.all_reduce(array)

    times: dict[str, list[float]] = {"mpi4py Allreduce": [], "convec.distributed.all_reduce": []}
    functions: list[Callable[[], None]] = [bare, convec]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, found in zip(functions, times.values(), strict=True):
            array[:] = 1e-30  # sums would overflow
            dist.barrier()
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
    dist.destroy_process_group()
    return {name: statistics.median(found) * 1e6 for name, found in times.items()}


def cnn(epochs: int) -> dict[str, float]:
    """Best images a second of the seed model at a global batch of 256, an epoch of 12,288 images."""
    import convec.distributed as dist
    from convec.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
    from convec.models import Sequential

    dist.init_process_group("mpi")
    rng = np.random.default_rng(0)
    x = rng.random((48 * BATCH, 28, 28, 1), np.float32)
    y = rng.integers(0, 10, len(x))
    model = Sequential(
        [
            Input((28, 28, 1)),
            Conv2D(32, 3, activation="relu"),
            MaxPooling2D(2),
            Conv2D(64, 3, activation="relu"),
            MaxPooling2D(2),
            Conv2D(64, 3, activation="relu"),
            Flatten(),
            Dense(64, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[: 4 * BATCH], y[: 4 * BATCH], batch_size=BATCH, verbose=0)
    rates = []
    for _ in range(epochs):
        dist.barrier()
        start = time.perf_counter()
        model.fit(x, y, batch_size=BATCH, verbose=0)
        rates.append(len(x) / (time.perf_counter() - start))
    name = f"{dist.get_world_size()} ranks"
    dist.destroy_process_group()
    return {name: max(rates)}


CASES = {"all_reduce": all_reduce, "cnn": cnn}


def job(case: str, ranks: int, repeats: int) -> dict[str, float]:
    """Runs a case under mpiexec. Raises CalledProcessError."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(ranks), sys.executable, __file__]
    done = subprocess.run(
        [*command, "--rank-of", case, "--repeats", str(repeats)],
        check=True, capture_output=True, text=True, env={**os.environ, "CONVEC_NUM_THREADS": "1"},
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Several processes, by MPI.")
    parser.add_argument("--case", choices=CASES, help="one case only")
    parser.add_argument("--ranks", type=int, default=2, help="ranks beside one (2)")
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each kind, in turns (3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--rank-of", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round")
    # run.py passes on what other benchmarks take.
    arguments, _ = parser.parse_known_args(argv)
    if arguments.rank_of:
        found = CASES[arguments.rank_of](arguments.repeats)
        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0":
            print(json.dumps(found))
        return
    figures: dict[str, dict[str, list[float]]] = {}
    for case, repeats in (("all_reduce", 400), ("cnn", 3)):
        if arguments.case not in (None, case):
            continue
        rows = figures.setdefault(case, {})
        for _ in range(1 if arguments.quick else arguments.rounds):
            for ranks in (arguments.ranks,) if case == "all_reduce" else (1, arguments.ranks):
                for name, value in job(case, ranks, repeats).items():
                    rows.setdefault(name, []).append(value)
        unit = "us" if case == "all_reduce" else "images/s"
        medians = {name: statistics.median(values) for name, values in rows.items()}
        for name, value in medians.items():
            print(f"{case:12} {name:32} {value:10,.1f} {unit}  ({', '.join(f'{one:,.1f}' for one in rows[name])})")
        first, last = list(medians.values())
        print(f"{case:12} {last / first:.2f} times")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
