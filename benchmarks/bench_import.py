"""What it costs to have a library: import time, memory, size on disk.

    python benchmarks/bench_import.py --peers-python ~/peers/bin/python --wheel dist/convec-0.1.0-*.whl

Each import runs in a fresh interpreter, in turns. Memory is the interpreter's peak, its own part
(``nothing``) included. convec loads its core and NumPy when they are first used; ``convec, in use`` is with
all of it.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import subprocess
import sys
import zipfile

import harness

PEERS = ("nothing", "torch", "keras", "onnxruntime")
# Where it is not `import <name>`.
STATEMENTS = {"nothing": "pass", "convec, in use": "from convec import callbacks, datasets, layers, models, ops"}
PROGRAM = """
import json, resource, sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
# Sizes of what is installed, the library's own distributions without those they need.
SIZES = """
import importlib.metadata, json, os
def size(name):
    files = importlib.metadata.files(name) or []
    return sum(os.path.getsize(f.locate()) for f in files if os.path.exists(f.locate())) / 1e6
print(json.dumps(sum(size(name) for name in {names!r})))
"""
DISTRIBUTIONS = {"torch": ["torch"], "keras": ["keras", "tensorflow_cpu"], "onnxruntime": ["onnxruntime"]}


def run(python: str, program: str) -> list[float] | float | None:
    """What a program prints as JSON in a fresh interpreter; None where it fails."""
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, cwd="/")
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def wheel_sizes(path: pathlib.Path) -> tuple[float, float]:
    """Megabytes of code and of data in a wheel, compressed."""
    with zipfile.ZipFile(path) as wheel:
        sizes = {info.filename: info.compress_size / 1e6 for info in wheel.infolist()}
    data = sum(size for name, size in sizes.items() if "/data/" in name)
    return sum(sizes.values()) - data, data


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Import time, memory and size.")
    parser.add_argument("--wheel", metavar="FILE", help="convec's wheel (default: the newest in dist/)")
    options: argparse.Namespace = parser.parse_args(argv)
    rounds = options.rounds or (3 if options.quick else 9)
    report = harness.Report("import", options.threads)

    interpreters = {"convec": sys.executable, "convec, in use": sys.executable}
    for name in PEERS:
        if options.peers is None or name in options.peers.split(","):
            interpreters[name] = options.peers_python
    runs: dict[str, list[list[float]]] = {name: [] for name in interpreters}
    for turn in range(rounds + 1):
        for name, python in interpreters.items():
            if name not in runs:
                continue
            measured = run(python, PROGRAM.format(statement=STATEMENTS.get(name, f"import {name}")))
            if not isinstance(measured, list):
                print(f"{name} is left out: it cannot be imported in {python}")
                del runs[name]
            elif turn > 0:  # the first one reads the files from the disk
                runs[name].append(measured)
    for name, measured_runs in runs.items():
        report.add("import", name, [seconds for seconds, _ in measured_runs], "s", lower_is_better=True)
        report.add("peak memory", name, [memory for _, memory in measured_runs], "MB", lower_is_better=True)

    wheels = sorted((harness.HERE.parent / "dist").glob("convec-*.whl"), key=lambda path: path.stat().st_mtime)
    wheel = pathlib.Path(options.wheel) if options.wheel else (wheels[-1] if wheels else None)
    if wheel is None:
        print("The wheel's size is left out: there is none in dist/; `make wheel` makes one")
    else:
        code, data = wheel_sizes(wheel)
        report.add("wheel, code", "convec", [code], "MB", lower_is_better=True)
        report.add("wheel, sample of images", "convec", [data], "MB", lower_is_better=True)
    for name, distributions in DISTRIBUTIONS.items():
        size = run(options.peers_python, SIZES.format(names=distributions)) if name in runs else None
        if isinstance(size, float):
            report.add("installed", name, [size], "MB", lower_is_better=True)
    report.finish(options.json)


if __name__ == "__main__":
    main()
