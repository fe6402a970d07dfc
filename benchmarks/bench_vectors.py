"""Keyed vectors: nearest neighbours, analogies and files, against gensim and plain NumPy.

    python benchmarks/bench_vectors.py --peers-python ~/peers/bin/python --json vectors.json
    python benchmarks/bench_vectors.py --sizes 1000000x300 --only search

Beside the libraries stands what writing and reading as many bytes takes ("bytes"). Vectors are random; before anything
is measured, the libraries' answers are compared. Files are written to a temporary folder and read back from the
system's cache.
"""

from __future__ import annotations

import os
import pathlib
import time

import harness
import numpy as np

PEERS = ("gensim", "numpy")
SEARCHES = (
    "most_similar",
    "most_similar, analogy",
    "most_similar, topn 1000",
    "most_similar, topn None",
    "most_similar_cosmul, analogy",
    "rank",
    "fill_norms",
    "similarity",
)
PARTS = ("search", "analogies", "files")


def compare_answers(workers: list[harness.Worker]) -> None:
    expected = workers[0].ask("answer", word="w7")
    for worker in workers[1:]:
        found = worker.ask("answer", word="w7")
        if [key for key, _ in found] != [key for key, _ in expected]:
            raise SystemExit(f"{worker.label} finds other neighbours than convec: {found}, {expected}")


def write_bytes(path: pathlib.Path, size: int) -> float:
    """Seconds to write random bytes to a file, to the disk."""
    content = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    begin = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for start in range(0, size, 1 << 24):
            file.write(content[start : start + (1 << 24)])
        os.fsync(file.fileno())
    return time.perf_counter() - begin


def read_bytes(path: pathlib.Path) -> float:
    """Seconds to read a file from the system's cache into new memory."""
    begin = time.perf_counter()
    content = np.empty(path.stat().st_size, np.uint8)
    with path.open("rb", buffering=0) as file:
        done = 0
        while done < len(content):
            done += file.readinto(content[done : done + (1 << 28)])
    return time.perf_counter() - begin


def measure_files(workers: list[harness.Worker], report: harness.Report, folder: str, case: str, rounds: int) -> None:
    able = [worker for worker in workers if worker.label != "numpy"]
    for kind in ("text", "binary", "own"):
        paths = {worker: str(pathlib.Path(folder) / f"{worker.label}.{kind}") for worker in able}
        for function, name in (("write", kind), ("read", kind), ("read", "own, mapped")):
            if name == "own, mapped" and kind != "own":
                continue
            # In turns: a disk's speed changes from minute to minute.
            runs: dict[str, list[float]] = {}
            for _ in range(rounds):
                for worker in able:
                    runs.setdefault(worker.label, []).append(worker.ask(function, path=paths[worker], kind=name))
                if name == "own":
                    # What no file of that size can be faster than.
                    path = pathlib.Path(folder) / f"bytes.{kind}"
                    size = pathlib.Path(paths[workers[0]]).stat().st_size
                    seconds = write_bytes(path, size) if function == "write" else read_bytes(path)
                    runs.setdefault("bytes", []).append(seconds)
            for label, found in runs.items():
                report.add(f"{case} {function} {name}", label, found, "s, files", lower_is_better=True)
        for entry in pathlib.Path(folder).iterdir():
            if f".{kind}" in entry.name:
                entry.unlink()


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Nearest neighbours, analogies and files of keyed vectors.")
    parser.add_argument("--sizes", metavar="LIST", help="vectors x size, separated by commas")
    parser.add_argument("--only", metavar="LIST", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    parser.add_argument("--questions", type=int, default=2000, help="analogies a run (2000)")
    options = parser.parse_args(argv)
    sizes = options.sizes or ("50000x100" if options.quick else "1000000x100,1000000x300")
    rounds = options.rounds or (1 if options.quick else 3)
    report = harness.Report("vectors", options.threads)

    for size in sizes.split(","):
        count, dim = map(int, size.split("x"))
        workers = harness.start(options, PEERS, report, kind="vectors")
        with harness.temporary_folder() as folder:
            path = str(pathlib.Path(folder) / "vectors.npy")
            rng = np.random.default_rng(0)
            np.save(path, rng.random((count, dim), dtype=np.float32) - np.float32(0.5))
            for worker in workers:
                worker.ask("build", vectors=path)
            pathlib.Path(path).unlink()
            compare_answers(workers)
            case = f"{count:,} x {dim},"
            if "search" in options.only:
                for kind in SEARCHES:
                    runs = harness.alternate(workers, rounds, "search", kind=kind, seconds=0.2)
                    for worker, seconds in runs.items():
                        report.add(
                            f"{case} {kind}", worker.label, [1000 * s for s in seconds], "ms a call",
                            lower_is_better=True,
                        )  # fmt: skip
            if "analogies" in options.only:
                questions = pathlib.Path(folder) / "questions"
                rows = rng.integers(0, count, (options.questions, 4))
                lines = [" ".join(f"w{row}" for row in question) for question in rows.tolist()]
                questions.write_text("\n".join([": random", *lines, ""]))
                for worker, seconds in harness.alternate(
                    [worker for worker in workers if worker.label != "numpy"], 1, "analogies", path=str(questions)
                ).items():
                    report.add(
                        f"{case} analogies", worker.label, [options.questions / s for s in seconds], "questions/s",
                        lower_is_better=False,
                    )  # fmt: skip
            if "files" in options.only:
                measure_files(workers, report, folder, case, rounds)
        for worker in workers:
            worker.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
