"""Several processes: all-reduce against bare mpi4py; the seed model and word vectors trained by 1 and by 2 ranks.

    python benchmarks/bench_distributed.py --json distributed.json
    python benchmarks/bench_distributed.py --case all_reduce --ranks 2
    python benchmarks/bench_distributed.py --case word2vec --corpus text.txt
    python benchmarks/bench_distributed.py --case model --corpus text.txt
    python benchmarks/bench_distributed.py --case quality --corpus text.txt --evaluations gensim/test/test_data

Every case is a job of its own under mpiexec, one thread a rank. Rounds alternate between what is compared. Jobs of one
rank that run at the same time show what the machine itself leaves of two processors.

The case model measures what the cost model of docs/scaling.md needs, and compares its words a second with those of 1 to
4 ranks, where ranks that are more than the processors share them.

The case quality evaluates vectors of 1 rank and of several, with shared tables and without, on the files of a folder:
wordsim353.tsv and simlex999.txt (Spearman's correlation), questions-words.txt (share of right analogies).
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
from typing import Any

import numpy as np

GRADIENTS = 93_322  # floats: the seed model's weights, 373 KB
BATCH = 256


def all_reduce(repeats: int, corpus: str) -> dict[str, float]:
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


def cnn(epochs: int, corpus: str) -> dict[str, float]:
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


def word2vec(epochs: int, corpus: str, share_tables: bool = True) -> dict[str, float]:
    """Millions of words a second of skip-gram, 100 dimensions, on a text file or else the text in the package."""
    import convec.distributed as dist
    from convec import datasets
    from convec.models import Word2Vec

    dist.init_process_group("mpi")
    settings = {"vector_size": 100, "sg": 1, "min_count": 5, "workers": 1, "seed": 1, "epochs": epochs}
    source = {"corpus_file": corpus} if corpus else {"sentences": datasets.load_text_sample()}
    model = Word2Vec(**source, **settings, share_tables=share_tables, progress=False)
    name = f"{dist.get_world_size()} ranks"
    dist.destroy_process_group()
    return {name: epochs * model.corpus_total_words / model.total_train_time / 1e6}


def word2vec_replicas(epochs: int, corpus: str) -> dict[str, float]:
    """The same where every rank has tables of its own, as on several hosts."""
    return word2vec(epochs, corpus, share_tables=False)


def quality(settings: dict[str, Any]) -> dict[str, float]:
    """What vectors are worth, on rank 0."""
    import convec.distributed as dist
    from convec.models import Word2Vec

    dist.init_process_group("mpi")
    folder = Path(settings.pop("evaluations"))
    model = Word2Vec(**settings, vector_size=100, min_count=5, workers=1, progress=False)
    rank = dist.get_rank()
    dist.destroy_process_group()
    if rank:
        return {}
    return {
        "WordSim-353": float(model.wv.evaluate_word_pairs(folder / "wordsim353.tsv")[1][0]),
        "SimLex-999": float(model.wv.evaluate_word_pairs(folder / "simlex999.txt")[1][0]),
        "analogies": float(model.wv.evaluate_word_analogies(folder / "questions-words.txt")[0]),
    }


def compare_quality(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Prints means and standard deviations over the seeds, of one rank and of 2 to ``--ranks``, a power of two."""
    jobs = [(1, True)]
    while jobs[-1][0] < arguments.ranks:
        jobs += [(2 * jobs[-1][0], shared) for shared in (True, False)]
    found: dict[str, dict[str, list[float]]] = {}
    for sg, architecture in ((1, "skip-gram"), (0, "CBOW")):
        for ranks, shared in jobs:
            label = f"{architecture}, {ranks} ranks" + (", replicas" if not shared else "")
            scores = found.setdefault(label, {})
            for seed in range(1, arguments.seeds + 1):
                settings = {"sg": sg, "seed": seed, "epochs": arguments.epochs, "share_tables": shared,
                            "corpus_file": arguments.corpus, "evaluations": arguments.evaluations}  # fmt: skip
                for test, value in result(start("quality", ranks, json.dumps(settings))).items():
                    scores.setdefault(test, []).append(value)
            means = (
                f"{test} {statistics.mean(values):.3f} +- {statistics.stdev(values) if values[1:] else 0:.3f}"
                for test, values in scores.items()
            )
            print(f"{label:28}", ", ".join(means), flush=True)
    return found


def parts(epochs: int, corpus: str) -> dict[str, float]:
    """Where a Word2Vec job's seconds go (means of the ranks), and what the model of docs/scaling.md needs."""
    import convec.distributed as dist
    from convec.models import _word2vec_distributed as ranks

    seconds = {"train": 0.0, "wait": 0.0, "exchange": 0.0}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **more)
            seconds[name] += time.perf_counter() - start
            return result

        return call

    train, combine, leave = ranks.DistributedTraining._train, ranks.ReplicatedTables.combine, dist.destroy_process_group
    exchange, wait = timed("exchange", combine), timed("wait", dist.barrier)
    seen: list[Any] = []

    def waited(tables: Any, *arguments: Any, **more: Any) -> None:
        wait()
        seen.append(tables)
        exchange(tables, *arguments, **more)

    # The benchmark's own, in place of the methods: the product has no timers.
    setattr(ranks.DistributedTraining, "_train", timed("train", train))  # noqa: B010
    setattr(ranks.ReplicatedTables, "combine", waited)  # noqa: B010
    setattr(dist, "destroy_process_group", lambda: None)  # noqa: B010
    rate = next(iter(word2vec_replicas(epochs, corpus).values()))
    size = dist.get_world_size()
    if size > 1:
        means = np.array(list(seconds.values()))
        dist.all_reduce(means, "avg")
        seconds = dict(zip(seconds, means.tolist(), strict=True))
    tables = seen[0]._tables if seen else []
    found = {"M words/s": rate, "rounds": float(len(seen)), **seconds}
    if tables:
        ladder = seen[0]._sync_rows * (1 + seen[0]._steps / 2)
        found["MB a round"] = sum(4 * ladder * table._replica.row_stride for table in tables) / 1e6
        found["latency us"], found["all-reduce GB/s"], found["memory GB/s"] = bandwidths()
    leave()
    return found


def bandwidths() -> tuple[float, float, float]:
    """Microseconds of an all-reduce of one number; GB/s of one of 463 KB, 2 (n - 1) / n of it sent; GB/s of a copy."""
    import convec.distributed as dist

    def seconds(function: Callable[[], object], repeats: int) -> float:
        found = []
        for _ in range(repeats):
            dist.barrier()
            start = time.perf_counter()
            function()
            found.append(time.perf_counter() - start)
        return statistics.median(found)

    one, rows = np.zeros(1, np.float32), np.zeros(1024 * 113, np.float32)
    large = np.zeros(1 << 24, np.float32)
    other = np.ones_like(large)
    latency = seconds(lambda: dist.all_reduce(one), 400)
    sent = 2 * (1 - 1 / dist.get_world_size()) * rows.nbytes
    network = sent / (seconds(lambda: dist.all_reduce(rows), 200) - latency)
    memory = 2 * large.nbytes / seconds(lambda: np.copyto(large, other), 10)
    return latency * 1e6, network / 1e9, memory / 1e9


def compare_model(corpus: str, most: int) -> dict[str, dict[str, float]]:
    """Prints what 1 to ``most`` ranks reach beside as many jobs that share nothing, and what the model predicts."""
    processors = len(os.sched_getaffinity(0))
    rates: dict[str, dict[str, float]] = {}
    for count in range(1, most + 1):
        found = result(start("parts", count, corpus))
        jobs = [start("word2vec", 1, corpus) for _ in range(count)]
        found["jobs at once, M words/s"] = sum(sum(result(job).values()) for job in jobs)
        if count == 1:
            alone = found["M words/s"]
        else:
            total = found["M words/s"] * (found["train"] + found["wait"] + found["exchange"])
            size = found["MB a round"] * 1e6
            messages = -(-size // (1024 * 113 * 4))
            step = messages * found["latency us"] / 1e6 + 2 * (1 - 1 / count) * size / found["all-reduce GB/s"] / 1e9
            step += 6 * size / found["memory GB/s"] / 1e9
            # Ranks beyond the processors take turns; the bandwidths were measured so.
            predicted = total / (min(count, processors) * alone) + found["rounds"] * step
            found["predicted exchange ms"] = step * 1e3
            found["measured exchange ms"] = found["exchange"] / found["rounds"] * 1e3
            found["predicted M words/s"] = total / predicted
        rates[f"{count} ranks"] = found
        print(f"{count} ranks  " + ", ".join(f"{name} {value:,.2f}" for name, value in found.items()), flush=True)
    return rates


CASES: dict[str, tuple[Callable[[int, str], dict[str, float]], int, str]] = {
    "all_reduce": (all_reduce, 400, "us"),
    "cnn": (cnn, 3, "images/s"),
    "word2vec": (word2vec, 2, "M words/s"),
    "word2vec_replicas": (word2vec_replicas, 2, "M words/s"),
    "parts": (parts, 2, ""),
}


def start(case: str, ranks: int, corpus: str) -> subprocess.Popen[str]:
    """A case under mpiexec."""
    mpiexec = Path(sys.executable).parent / "mpiexec"
    command = [str(mpiexec) if mpiexec.exists() else "mpiexec", "-n", str(ranks), sys.executable, __file__]
    return subprocess.Popen(
        [*command, "--rank-of", case, "--corpus", corpus],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "CONVEC_NUM_THREADS": "1"},
    )  # fmt: skip


def result(job: subprocess.Popen[str]) -> dict[str, float]:
    """What a job found. Raises CalledProcessError where it failed."""
    output, _ = job.communicate()
    if job.returncode != 0:
        raise subprocess.CalledProcessError(job.returncode, job.args)
    return dict(json.loads(output))


def measure(case: str, ranks: int, corpus: str) -> dict[str, float]:
    """One round of a case."""
    if case == "all_reduce":
        return result(start(case, ranks, corpus))
    found = {**result(start(case, 1, corpus)), **result(start(case, ranks, corpus))}
    jobs = [start(case, 1, corpus) for _ in range(ranks)]
    found[f"{ranks} jobs of one rank at once"] = sum(sum(result(job).values()) for job in jobs)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Several processes, by MPI.")
    cases = [*(name for name in CASES if name != "parts"), "model", "quality"]
    parser.add_argument("--case", choices=cases, help="one case only")
    parser.add_argument("--corpus", metavar="FILE", default="", help="text of word2vec (default: that in the package)")
    parser.add_argument("--ranks", type=int, default=2, help="ranks beside one (2)")
    parser.add_argument("--rounds", type=int, default=3, help="jobs of each kind, in turns (3)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--evaluations", metavar="FOLDER", default="", help="test sets of --case quality")
    parser.add_argument("--seeds", type=int, default=3, help="of --case quality (3)")
    parser.add_argument("--epochs", type=int, default=5, help="of --case quality (5)")
    parser.add_argument("--rank-of", choices=[*CASES, "quality"], help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one round")
    # run.py passes on what other benchmarks take.
    arguments, _ = parser.parse_known_args(argv)
    if arguments.rank_of:
        if arguments.rank_of == "quality":
            found = quality(json.loads(arguments.corpus))
        else:
            run, repeats, _ = CASES[arguments.rank_of]
            found = run(repeats, arguments.corpus)
        if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == "0":
            print(json.dumps(found))
        return
    figures: dict[str, Any] = {}
    if arguments.case == "model":
        figures["model"] = compare_model(arguments.corpus, 4)
    if arguments.case == "quality":
        figures["quality"] = compare_quality(arguments)
    for case, (_, _, unit) in CASES.items():
        if case == "parts" or arguments.case not in (None, case):
            continue
        rows = figures.setdefault(case, {})
        for _ in range(1 if arguments.quick else arguments.rounds):
            for name, value in measure(case, arguments.ranks, arguments.corpus).items():
                rows.setdefault(name, []).append(value)
        medians = {name: statistics.median(values) for name, values in rows.items()}
        first = next(iter(medians.values()))
        for name, value in medians.items():
            runs = ", ".join(f"{one:,.1f}" for one in rows[name])
            print(f"{case:17} {name:32} {value:10,.1f} {unit:9} {value / first:5.2f} times  ({runs})")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
