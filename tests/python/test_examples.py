"""The scripts of examples/ run as they are, on the sample that is in the package."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from convec import datasets

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# What a script must reach on 2,000 images: far above the tenth that guessing gives, below what it usually reaches.
# Adadelta's default rate is so low that the oldest script only starts to learn, as with Keras itself.
ACCURACY = {
    "keras3_mnist_convnet.py": 0.70,
    "tensorflow_tutorial_cnn.py": 0.65,
    "keras2017_mnist_cnn.py": 0.05,
}
# Scripts that need other data have tests of their own.
OTHERS = {path.name for path in EXAMPLES.glob("*.py") if "keras" not in path.name and "tensorflow" not in path.name}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for CONVEC_DATA with a part of the sample under the names of both data sets."""
    folder = tmp_path_factory.mktemp("data")
    (x_train, y_train), (x_test, y_test) = datasets.load_sample()
    for name in ("mnist", "fashion-mnist"):
        (folder / name).mkdir()
        np.savez(
            folder / name / f"{name}.npz",
            x_train=x_train[:2000], y_train=y_train[:2000], x_test=x_test[:500], y_test=y_test[:500],
        )  # fmt: skip
    return folder


def test_every_keras_script_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} - OTHERS == set(ACCURACY)


@pytest.mark.parametrize("name", ACCURACY)
def test_script(name: str, data: Path) -> None:
    environment = {**os.environ, "CONVEC_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Total params" in done.stdout or "summary" not in (EXAMPLES / name).read_text()
    accuracy = float(re.findall(r"[0-9]\.[0-9]+", done.stdout.splitlines()[-1])[-1])
    assert ACCURACY[name] < accuracy < 1, done.stdout
    losses = [float(loss) for loss in re.findall(r" loss: ([0-9.]+)", done.stdout)]
    assert losses[4] < losses[0]


@pytest.mark.parametrize("name", ACCURACY)
def test_only_the_imports_are_convecs(name: str) -> None:
    """The word does not occur in a script's statements, save where it is imported."""
    tree = ast.parse((EXAMPLES / name).read_text())
    body = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    assert isinstance(body[0], ast.Expr)  # the docstring says what it is
    assert not [node for statement in body[1:] for node in ast.walk(statement) if "convec" in ast.dump(node).lower()]
