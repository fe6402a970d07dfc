"""Plain NumPy: one product with vectors of unit length, then a partial sort."""

from __future__ import annotations

import numpy as np

from libraries.timing import median_seconds

VERSION = np.__version__
_state: dict[str, np.ndarray] = {}


def set_threads(threads: int) -> None:
    """NumPy's BLAS has read its environment by now."""


def build(vectors: str) -> None:
    array = np.load(vectors)
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    _state["unit"] = array


def _most_similar(row: int, topn: int) -> list[tuple[int, float]]:
    unit = _state["unit"]
    similar = unit @ unit[row]
    similar[row] = -np.inf
    best = np.argpartition(similar, -topn)[-topn:]
    best = best[np.argsort(-similar[best])]
    return list(zip(best.tolist(), similar[best].tolist(), strict=True))


def answer(word: str) -> list[list[object]]:
    return [[f"w{row}", value] for row, value in _most_similar(int(word[1:]), 10)]


def search(kind: str, seconds: float) -> float | None:
    row = len(_state["unit"]) // 2
    topn = {"most_similar": 10, "most_similar, topn 1000": 1000}.get(kind)
    return None if topn is None else median_seconds(lambda: _most_similar(row, topn), seconds)
