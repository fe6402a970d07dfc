"""Timing and data shared by the libraries' modules."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


def throughput(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, over at least ``seconds``, after a short warm-up."""
    warm = time.perf_counter() + 0.2 * seconds
    call()
    while time.perf_counter() < warm:
        call()
    calls = 0
    start = time.perf_counter()
    while True:
        call()
        calls += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return calls / elapsed


def median_seconds(call: Callable[[], object], seconds: float) -> float:
    """Median duration of a call, over at least ``seconds`` and three calls, after a warm-up."""
    call()
    call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def load_arrays(path: str) -> dict[str, Any]:
    """The arrays of ``harness.save_arrays``, lists put together again."""
    arrays: dict[str, Any] = {}
    with np.load(path) as archive:
        for key in archive.files:
            name, dot, index = key.partition(".")
            if dot:
                arrays.setdefault(name, {})[int(index)] = archive[key]
            else:
                arrays[name] = archive[key]
    return {
        name: [value[index] for index in sorted(value)] if isinstance(value, dict) else value
        for name, value in arrays.items()
    }
