"""Use an installed convec as its users do: import it, look at what that costs, train with it, run its command.

Usage: ``python tools/smoke_wheel.py [WHEEL]``, by the interpreter of an environment that holds convec and NumPy only.
With a WHEEL, its size and contents are checked first. ``tools/check_wheel.sh`` and cibuildwheel call this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

MOST_SECONDS = 0.15
MOST_MEGABYTES = 40.0  # of a process that has imported convec
MOST_BYTES_OF_CODE = 3_000_000
MOST_BYTES_OF_DATA = 5_000_000
MOST_BYTES_WITH_CUDA = 25_000_000  # of a whole wheel that has the CUDA module for all architectures


def check_archive(path: str) -> None:
    with zipfile.ZipFile(path) as wheel:
        sizes = {info.filename: info.compress_size for info in wheel.infolist()}
    data = sum(size for name, size in sizes.items() if name.startswith("convec/datasets/data/"))
    cuda = sum(size for name, size in sizes.items() if name.startswith("convec/_cuda."))
    whole = Path(path).stat().st_size
    code = sum(sizes.values()) - data - cuda
    with_cuda = f", {cuda / 1e6:.2f} MB of CUDA" if cuda else ""
    print(f"wheel: {whole / 1e6:.2f} MB: {code / 1e6:.2f} MB of code, {data / 1e6:.2f} MB of data{with_cuda}")
    stray = [
        name
        for name in sizes
        if not name.startswith(("convec/", "convec-")) or name.startswith("convec/_cuda_emulated.")  # of the tests
    ]
    missing = {"convec/py.typed", "convec/_core.pyi"} - set(sizes)
    large = code > MOST_BYTES_OF_CODE or data > MOST_BYTES_OF_DATA or (cuda > 0 and whole > MOST_BYTES_WITH_CUDA)
    if large or stray or missing:
        sys.exit(f"the wheel is too large, holds {stray} or lacks {missing}")


def check_import() -> None:
    """Best of five new interpreters, so that a busy machine is not taken for a slow package."""
    program = "import time; start = time.perf_counter(); import convec; print(time.perf_counter() - start)"
    if os.name == "posix":
        program += "; import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    else:
        program += "; print(0)"
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    seconds, megabytes = min((float(run[0]), float(run[1])) for run in runs)
    print(f"import convec: {seconds:.3f} s, {megabytes:.1f} MB in all")
    if seconds > MOST_SECONDS or megabytes > MOST_MEGABYTES:
        sys.exit("import convec takes too long or too much memory")


def check_training() -> None:
    import convec
    from convec import datasets, layers

    (x_train, y_train), (x_test, y_test) = datasets.load_sample()
    model = convec.Sequential(
        [
            convec.Input((28, 28)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x_train, y_train, epochs=1, verbose=0)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    print(f"accuracy of one epoch of a linear model: {accuracy:.2f}")
    if accuracy < 0.5:
        sys.exit("the installed package does not train")
    words = convec.Word2Vec(corpus_file=datasets.text_sample_path(), sg=1, vector_size=50, epochs=3, alpha=0.05)
    near = [word for word, _ in words.wv.most_similar("monday")]
    print(f"words near 'monday': {', '.join(near)}")
    if "tuesday" not in near:
        sys.exit("the installed package does not learn words")
    if sysconfig.get_config_var("Py_GIL_DISABLED") and sys._is_gil_enabled():
        sys.exit("convec turns a free-threaded interpreter's lock on")


def main() -> None:
    if len(sys.argv) > 1:
        check_archive(sys.argv[1])
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # the project's own has files that would be found first
        os.chdir(folder)
        check_import()
        check_training()
        subprocess.run([sys.executable, "-m", "convec", "info"], check=True)
        os.chdir(here)


if __name__ == "__main__":
    main()
