#!/usr/bin/env bash
# Builds a wheel, checks its size, installs it into an empty environment and uses it there.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/.venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation \
  -Cbuild-dir="$work/build" --wheel-dir "$work/dist" .
"$python" - "$work"/dist/*.whl <<'PY'
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    sizes = {info.filename: info.compress_size for info in wheel.infolist()}
data = sum(size for name, size in sizes.items() if name.startswith("convec/datasets/data/"))
code = sum(sizes.values()) - data
print(f"wheel: {code / 1e6:.2f} MB of code, {data / 1e6:.2f} MB of data")
stray = [name for name in sizes if name.startswith(("tests/", "benchmarks/"))]
if code > 3e6 or data > 5e6 or stray:
    sys.exit(f"the wheel is too large or holds what it should not: {stray}")
PY
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$work"/dist/*.whl
cd "$work"
"$work/venv/bin/python" - <<'PY'
import resource
import subprocess
import sys

def fresh(code):
    """Best of five runs: (seconds, peak memory in MB) of a new interpreter."""
    program = (
        "import time, resource; start = time.perf_counter(); " + code +
        "; print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in range(5)]
    return min(tuple(map(float, run.stdout.split())) for run in runs)

seconds, megabytes = fresh("import convec")
print(f"import convec: {seconds:.3f} s, {megabytes:.1f} MB in all")
if seconds > 0.15 or megabytes > 40:
    sys.exit("import convec takes too long or too much memory")

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
PY
"$work/venv/bin/convec" info
