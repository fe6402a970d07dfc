"""The shared case list on CUDA: on a GPU where there is one, and on the emulated device everywhere."""

from __future__ import annotations

import math
import os
from typing import Any

import cases
import numpy as np
import pytest
from emulated_cuda import gpu_problem
from emulated_cuda import to_device as to_emulated

GPU_PROBLEM = gpu_problem()


def to_device(value: Any, move: Any) -> Any:
    if isinstance(value, (list, tuple)) and not all(isinstance(item, int) for item in value):
        return [to_device(item, move) for item in value]
    return move(value) if isinstance(value, np.ndarray) else value


def to_host(value: Any) -> np.ndarray:
    return value.get() if hasattr(value, "get") else np.asarray(value)


def run(case: cases.Case, move: Any) -> list[np.ndarray]:
    arrays = {name: to_device(value, move) for name, value in case.arrays().items()}
    return [to_host(result) for result in cases.run(case, arrays)]


def check(op: str, move: Any, chosen: Any = lambda case: True) -> None:
    for case in filter(chosen, cases.CASES[op]):
        wanted = cases.expected(case, case.arrays())
        results = run(case, move)
        assert len(results) == len(wanted)
        for number, (result, want) in enumerate(zip(results, wanted, strict=True)):
            case.tolerance.check(result, want, f"{case.id}, result {number}")
        for result, again in zip(results, run(case, move), strict=True):
            np.testing.assert_array_equal(result, again, err_msg=f"{case.id} does not repeat")


def small(case: cases.Case) -> bool:
    """Large cases are left to GPUs: what takes one a nanosecond takes an emulated thread a millisecond."""
    work = sum(math.prod(np.shape(a)) for a in cases.flatten(list(case.arrays().values())) if isinstance(a, np.ndarray))
    return not case.large and work <= 40_000


@pytest.mark.parametrize("op", cases.CASES)
def test_values_emulated(op: str, emulated: None) -> None:
    check(op, to_emulated, small)


@pytest.mark.skipif(bool(GPU_PROBLEM), reason=GPU_PROBLEM)
@pytest.mark.parametrize("op", cases.CASES)
def test_values_on_gpu(op: str) -> None:
    import cupy

    # Under compute-sanitizer, which takes its time: every so-manieth of the small cases.
    every = int(os.environ.get("CONVEC_TEST_EVERY", "0"))
    number = {case.id: index for index, case in enumerate(cases.CASES[op])}
    check(op, cupy.asarray, lambda case: every == 0 or (small(case) and number[case.id] % every == 0))
