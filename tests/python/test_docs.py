"""The code in the guides runs, and the files they name exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import datasets

ROOT = Path(__file__).resolve().parents[2]
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def code(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for both loaders: the guides' programs are what is tested, not how well they learn."""
    (x_train, y_train), (x_test, y_test) = datasets.load_sample()
    part = ((x_train[:640], y_train[:640]), (x_test[:64], y_test[:64]))
    monkeypatch.setattr(datasets, "load_sample", lambda: part)
    monkeypatch.setattr(datasets.fashion_mnist, "load_data", lambda: part)


def test_cookbook(small: None) -> None:
    pieces = code(ROOT / "docs" / "cookbook.md")
    assert len(pieces) > 8
    names: dict[str, Any] = {}
    for piece in pieces:
        exec(compile(piece, "cookbook.md", "exec"), names)
    for first, second in zip(names["weights"], names["again"].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_readme(small: None) -> None:
    for piece in code(ROOT / "README.md"):
        exec(compile(piece, "README.md", "exec"), {})


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), f"{path.name} links to {target}, which does not exist"


def test_named_paths_exist() -> None:
    for name in re.findall(
        r"`((?:cpp|python|tests|tools|docs|examples|cuda)/[\w./]*\w)`", (ROOT / "CONTRIBUTING.md").read_text()
    ):
        if "scale" not in name:  # the op of the recipe
            assert (ROOT / name).exists(), f"CONTRIBUTING.md names {name}, which does not exist"
