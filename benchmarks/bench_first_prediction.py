"""From a saved network's file to its first prediction: a C++ program of convec's, and onnxruntime in Python.

    python benchmarks/bench_first_prediction.py --peers-python ~/peers/bin/python

The program is examples/embed_cpp, built against the convec that Python imports; onnxruntime loads the same network,
exported to ONNX. Each prediction is the first one of a fresh process, in turns. What comes before the loading is left
out: the start of the process and of Python, and the import of onnxruntime and NumPy, which has a line of its own.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys

import harness

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "build" / "first_prediction"
ONNXRUNTIME = """
import json, sys, time
started = time.perf_counter()
import numpy as np
import onnxruntime
imported = time.perf_counter()
image = np.load(sys.argv[2])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
begin = time.perf_counter()
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
session.run(None, {session.get_inputs()[0].name: image})
print(json.dumps([time.perf_counter() - begin, imported - started]))
"""


def prepare(folder: pathlib.Path) -> None:
    """Makes the program and its files, where they are not there yet."""
    import convec
    import numpy as np
    from convec import saving

    if (folder / "image.npy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    example = ROOT / "examples" / "embed_cpp"
    subprocess.run([sys.executable, str(example / "make_files.py"), str(folder)], check=True)
    prefix = subprocess.run(
        [sys.executable, "-m", "convec", "--cmake-dir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    build = folder / "build"
    subprocess.run(
        ["cmake", "-S", str(example), "-B", str(build), "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_PREFIX_PATH={prefix}"],
        check=True,
    )
    subprocess.run(["cmake", "--build", str(build)], check=True)
    convec.export_onnx(saving.load_model(folder / "network.safetensors"), folder / "network.onnx")
    images = saving.load_arrays(folder / "images.safetensors")[0]["images"]
    np.save(folder / "image.npy", np.asarray(images[:1], np.float32))


def run_convec(folder: pathlib.Path, threads: int) -> float:
    """Seconds of one run."""
    files = [str(folder / f"{name}.safetensors") for name in ("images", "network", "vectors")]
    done = subprocess.run(
        [str(folder / "build" / "embed"), *files, "monday"],
        check=True,
        capture_output=True,
        text=True,
        env={"CONVEC_NUM_THREADS": str(threads)},
    )
    found = re.search(r"loaded and predicted in ([\d.]+) ms", done.stdout)
    assert found is not None, done.stdout
    return float(found[1]) / 1000


def run_onnxruntime(python: str, folder: pathlib.Path, threads: int) -> list[float] | None:
    """Seconds from the file to the prediction and of the imports; None where it fails."""
    arguments = [str(folder / "network.onnx"), str(folder / "image.npy"), str(threads)]
    done = subprocess.run([python, "-c", ONNXRUNTIME, *arguments], capture_output=True, text=True)
    return json.loads(done.stdout) if done.returncode == 0 else None


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("From a file to the first prediction.")
    parser.add_argument(
        "--folder", type=pathlib.Path, default=FOLDER, help="of the program; made where it is not there"
    )
    parser.add_argument("--prepare", action="store_true", help="make the program and its files only")
    options: argparse.Namespace = parser.parse_args(argv)
    prepare(options.folder)
    if options.prepare:
        return
    report = harness.Report("first_prediction", options.threads)
    ours: list[float] = []
    theirs: list[list[float]] = []
    for turn in range((options.rounds or (5 if options.quick else 21)) + 1):
        seconds = run_convec(options.folder, report.threads)
        other = run_onnxruntime(options.peers_python, options.folder, report.threads)
        if turn > 0:  # the first one reads the files from the disk
            ours.append(seconds)
            if other is not None:
                theirs.append(other)
    report.add("file to first prediction", "convec", [1000 * run for run in ours], "ms", lower_is_better=True)
    if theirs:
        report.add(
            "file to first prediction", "onnxruntime", [1000 * run[0] for run in theirs], "ms", lower_is_better=True
        )
        report.add("imports before it", "onnxruntime", [1000 * run[1] for run in theirs], "ms", lower_is_better=True)
    else:
        print(f"onnxruntime is left out: it does not run in {options.peers_python}")
    report.finish(options.json)


if __name__ == "__main__":
    main()
