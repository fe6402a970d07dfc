"""What the benchmarks share: workers, alternating runs, a description of the machine, tables and JSON.

A library is measured in a process of its own (``worker.py``), which waits while the others run. Runs alternate: every
library once, then every library again, and so on; the figure is the median. A library that cannot be imported is left
out, with a line that says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import convec
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent

# glibc gives large arrays back to the system when they are freed, and the next one costs a page fault every 4 KB. With
# these settings it keeps them.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "268435456"}
KEPT = "memory kept"


class MissingError(Exception):
    """A library is not installed in the interpreter that would run it."""


class Worker:
    """One library in a process of its own, asked over its standard input and output."""

    def __init__(
        self, library: str, python: str, threads: int, settings: Mapping[str, str] | None = None, label: str = ""
    ) -> None:
        self.library = library
        self.label = label or library
        count = str(threads)
        environment = os.environ | {
            "CONVEC_NUM_THREADS": count,
            "OMP_NUM_THREADS": count,
            "MKL_NUM_THREADS": count,
            "CUDA_VISIBLE_DEVICES": "",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **(settings or {}),
        }
        self._process = subprocess.Popen(
            [python, str(HERE / "worker.py"), library, count],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        answer = self._read()
        if "missing" in answer:
            self.close()
            raise MissingError(answer["missing"])
        self.version: str = answer["version"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.label}: the worker ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, function: str, **arguments: Any) -> Any:
        """The result of a function of ``libraries/with_<library>.py``; None where the library does not have it."""
        assert self._process.stdin is not None
        print(json.dumps({"function": function, "arguments": arguments}), file=self._process.stdin, flush=True)
        answer = self._read()
        if "error" in answer:
            raise RuntimeError(f"{self.label}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _processor_seconds() -> tuple[float, float]:
    """Seconds that all processors of the machine, and this process and its ended children, were busy."""
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    try:
        fields = [int(value) for value in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return mine, mine  # not Linux: unknown
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK"), mine


@dataclass
class Report:
    """Figures of one benchmark, printed as tables and written as JSON."""

    name: str
    threads: int
    results: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)
    _busy: tuple[float, float] = field(default_factory=_processor_seconds)

    def other_load(self) -> float:
        """Share of the processors that other programs took meanwhile; to be asked once the workers have ended."""
        busy, mine = _processor_seconds()
        others = (busy - self._busy[0]) - (mine - self._busy[1])
        return max(others, 0.0) / (time.perf_counter() - self._started) / (os.cpu_count() or 1)

    def add(self, case: str, label: str, runs: list[float], unit: str, *, lower_is_better: bool, **more: Any) -> None:
        """Adds the runs of one library in one case."""
        self.results.append(
            {"case": case, "library": label, "unit": unit, "lower_is_better": lower_is_better,
             "median": statistics.median(runs), "runs": runs, **more}
        )  # fmt: skip

    def tables(self) -> str:
        """One table a unit: the libraries' medians and, behind each peer's, how many times convec is better."""
        lines: list[str] = []
        for unit in dict.fromkeys(result["unit"] for result in self.results):
            rows = [result for result in self.results if result["unit"] == unit]
            labels = list(dict.fromkeys(row["library"] for row in rows))
            lines += [
                "",
                f"| {unit} | " + " | ".join(labels) + " |",
                "| --- " * (len(labels) + 1) + "|",
            ]
            for case in dict.fromkeys(row["case"] for row in rows):
                found = {row["library"]: row for row in rows if row["case"] == case}
                lines.append("| " + " | ".join([case, *(self._cell(found, label) for label in labels)]) + " |")
        return "\n".join(lines)

    @staticmethod
    def _cell(found: dict[str, dict[str, Any]], label: str) -> str:
        if label not in found:
            return ""
        row = found[label]
        text = f"{row['median']:,.4g}" if row["median"] < 10000 else f"{row['median']:,.0f}"
        # A variant ("convec, memory kept") is compared with the same variant.
        variant = label.partition(", ")[2]
        own = found.get("convec" + (f", {variant}" if variant else ""), found.get("convec"))
        if own is None or label.startswith("convec") or not row["median"]:
            return text
        ratio = own["median"] / row["median"]
        return f"{text} ({1 / ratio if row['lower_is_better'] else ratio:.2f}x)"

    def finish(self, path: str | None) -> None:
        """Prints the tables and, where a path is given, writes the JSON."""
        print(self.tables())
        print("\nIn brackets: how many times better convec is. Medians of alternating runs on:")
        for name, value in machine().items():
            print(f"  {name}: {value}")
        load = self.other_load()
        if load > 0.05:
            print(f"Other programs took {load:.0%} of the processors meanwhile: measure again on a quiet machine.")
        if path is not None:
            self.save(path, load)
            print(f"Written to {path}")

    def save(self, path: str, load: float | None = None) -> None:
        """Writes the figures so far as JSON; the load of other programs is not known before the end."""
        content = {
            "benchmark": self.name,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "machine": machine(),
            "threads": self.threads,
            "other_load": None if load is None else round(load, 3),
            "versions": self.versions,
            "results": self.results,
        }
        target = pathlib.Path(path)
        temporary = target.with_name(target.name + ".part")
        temporary.write_text(json.dumps(content, indent=1) + "\n")
        temporary.replace(target)


def machine() -> dict[str, Any]:
    """Processor, processors available, kernels, system and Python."""
    return {
        "processor": convec.cpu_name(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instruction set": convec.current_isa(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def arguments(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, for a first look")
    parser.add_argument("--threads", type=int, default=convec.num_threads(), help="threads of every library")
    parser.add_argument("--rounds", type=int, help="alternating runs of each library")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument(
        "--peers-python", metavar="PATH", default=sys.executable,
        help="interpreter of an environment with the peers (default: this one)",
    )  # fmt: skip
    parser.add_argument(
        "--peers", metavar="NAMES", help="peers to measure, separated by commas; 'none' for convec alone (default: all)"
    )
    return parser


def start(
    options: argparse.Namespace,
    peers: Iterable[str],
    report: Report,
    *,
    kind: str = "",
    kept: bool = False,
    own: bool = True,
) -> list[Worker]:
    """A worker for convec and for each peer that is wanted and installed.

    Args:
        options: of :func:`arguments`.
        peers: their names, as in ``libraries``.
        report: takes the versions.
        kind: of the functions wanted, which are those of ``libraries/with_<name>_<kind>.py``.
        kept: run them with an allocator that keeps freed memory.
        own: convec too.
    """
    wanted = [name for name in peers if options.peers is None or name in options.peers.split(",")]
    workers = []
    for library in (["convec"] if own else []) + wanted:
        label = f"{library}, {KEPT}" if kept else library
        python = sys.executable if library == "convec" else options.peers_python
        try:
            worker = Worker(
                f"{library}_{kind}" if kind else library, python, options.threads, KEEP_MEMORY if kept else None, label
            )
        except MissingError as error:
            print(f"{library} is left out: {error}", flush=True)
            continue
        workers.append(worker)
        report.versions[library] = worker.version
    return workers


def alternate(workers: list[Worker], rounds: int, function: str, **arguments_: Any) -> dict[Worker, list[float]]:
    """``rounds`` answers of each worker, taken in turns. Workers without the function are left out."""
    answers: dict[Worker, list[float]] = {worker: [] for worker in workers}
    for _ in range(rounds):
        for worker in workers:
            if worker not in answers:
                continue
            answer = worker.ask(function, **arguments_)
            if answer is None:
                del answers[worker]
            else:
                answers[worker].append(float(answer))
    return answers


def save_arrays(folder: str, name: str, arrays: Mapping[str, Any]) -> str:
    """Writes arrays for the workers; lists of arrays become ``name.0``, ``name.1``, ..."""
    flat: dict[str, Any] = {}
    for key, value in arrays.items():
        if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
            flat |= {f"{key}.{index}": item for index, item in enumerate(value)}
        elif value is not None:
            flat[key] = np.asarray(value)
    path = pathlib.Path(folder) / f"{name}.npz"
    np.savez(path, **flat)
    return str(path)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="convec-benchmark-")
