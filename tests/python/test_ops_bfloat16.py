"""Convolutions and dense layers of bfloat16 arrays: on the CPU, on a GPU where there is one, and on the emulated device
everywhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cases
import numpy as np
import pytest
from convec import ops
from emulated_cuda import CupyArray, gpu_problem, switched
from emulated_cuda import to_device as to_emulated

ml_dtypes = pytest.importorskip("ml_dtypes")
bfloat16 = ml_dtypes.bfloat16

GPU_PROBLEM = gpu_problem()
#: The arguments that are multiplied; a bias is added, and stays float32.
FACTORS = ("input", "filters", "weights", "grad_output")
OPS = (
    "conv2d", "conv2d_backward_input", "conv2d_backward_filters", "conv2d_backward",
    "dense", "dense_backward_input", "dense_backward_weights", "dense_backward",
)  # fmt: skip
#: What the results of an op are: those with the batch's extent bfloat16, sums over the batch float32.
RESULTS: dict[str, tuple[Any, ...]] = {
    "conv2d": (bfloat16,),
    "conv2d_backward_input": (bfloat16,),
    "conv2d_backward_filters": (np.float32, np.float32),
    "conv2d_backward": (bfloat16, np.float32, np.float32),
    "dense": (bfloat16,),
    "dense_backward_input": (bfloat16,),
    "dense_backward_weights": (np.float32, np.float32),
    "dense_backward": (bfloat16, np.float32, np.float32),
}


def check(op: str, move: Callable[[np.ndarray], Any], chosen: Callable[[cases.Case], bool], on_gpu: bool) -> None:
    for case in cases.CASES[op]:
        if not chosen(case):
            continue
        arrays = case.arrays()
        there = dict(arrays)
        for name, value in arrays.items():
            if name in FACTORS:
                factor = value.astype(bfloat16)
                arrays[name] = factor.astype(np.float32)
                there[name] = move(factor)
            elif isinstance(value, np.ndarray):
                there[name] = move(value)
        results = [np.asarray(result.get() if hasattr(result, "get") else result) for result in cases.run(case, there)]
        wanted = cases.expected(case, arrays)
        assert [result.dtype for result in results] == list(RESULTS[op])
        for number, (result, want) in enumerate(zip(results, wanted, strict=True)):
            tolerance = case.tolerance
            if on_gpu:
                # Tensor cores cut off what does not fit at each of their additions of eight or more products.
                terms = ((tolerance.peak / cases.FLOAT_STEP - 8) / 2) ** 2
                tolerance = replace(tolerance, peak=tolerance.peak + terms / 2 * cases.FLOAT_STEP)
            if result.dtype == bfloat16:
                # Rounded once at the end, to 8 bits; what a sum is off by may turn the rounding.
                tolerance = replace(tolerance, relative=2.0**-8)
            tolerance.check(result.astype(np.float32), want, f"{case.id}, result {number}")


@pytest.mark.parametrize("op", OPS)
def test_values_on_cpu(op: str) -> None:
    number = {case.id: index for index, case in enumerate(cases.CASES[op])}
    check(op, lambda array: array, lambda case: not case.large and number[case.id] % 3 == 0, False)


def test_rounding_on_cpu() -> None:
    """Once, to the nearest, ties to even, as ml_dtypes does it."""
    values = np.array([1.00390625, 1.01171875, 3.4e38, -3.3e38, np.inf, np.nan, 1.3e-38], np.float32)
    identity = np.eye(len(values)).astype(bfloat16)
    # The bias is float32, so that it is what is rounded.
    result = ops.dense(np.zeros_like(identity), identity, values)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(result[0].astype(np.float32), values.astype(bfloat16).astype(np.float32))


def small(case: cases.Case) -> bool:
    return cases.small(case, 30_000)


@pytest.mark.parametrize("way", ["warps", "warpgroups"])
@pytest.mark.parametrize("op", OPS)
def test_values_emulated(op: str, way: str, emulated: None) -> None:
    # Lines that are no multiple of eight go to the kernels of float32, which have tests of their own.
    number = {case.id: index for index, case in enumerate(cases.CASES[op])}
    every = 4 if way == "warps" else 16

    def chosen(case: cases.Case) -> bool:
        return small(case) and ("eights" in case.name or number[case.id] % every == 0)

    with switched("use_warpgroups", way == "warpgroups"):
        check(op, to_emulated, chosen, False)


@pytest.mark.skipif(bool(GPU_PROBLEM), reason=GPU_PROBLEM)
@pytest.mark.parametrize("way", ["warps", "warpgroups"])
@pytest.mark.parametrize("op", OPS)
def test_values_on_gpu(op: str, way: str) -> None:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    if way == "warpgroups" and (properties["major"], properties["minor"]) != (9, 0):
        pytest.skip("the GPU is not of compute capability 9.0, the only one with these instructions")
    # Under compute-sanitizer, which takes its time: one in so many of the small cases.
    every = int(os.environ.get("CONVEC_TEST_EVERY", "0"))
    number = {case.id: index for index, case in enumerate(cases.CASES[op])}

    def chosen(case: cases.Case) -> bool:
        if every:
            return small(case) and number[case.id] % every == 0
        return not case.name.startswith("winograd")

    with switched("use_warpgroups", way == "warpgroups"):
        check(op, cupy.asarray, chosen, True)


def random(*shape: int, dtype: Any = bfloat16) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32).astype(dtype)


def test_without_tensor_cores_results_are_the_same(emulated: None) -> None:
    """The way through float32 has the same exact products, so that the results differ by an ulp at most."""
    x, w, g = random(2, 6, 5, 16), random(3, 3, 16, 24), random(2, 4, 3, 24)

    def results(x: np.ndarray, w: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
        forward = ops.conv2d(to_emulated(x), to_emulated(w))
        backward = ops.conv2d_backward(to_emulated(g), to_emulated(x), to_emulated(w))
        return [array.get().astype(np.float32) for array in (forward, *backward)]

    native = results(x, w, g)
    # Five more filters: no whole eights.
    more = [np.concatenate([array, array[..., :5]], axis=-1) for array in (w, g)]
    widened = results(x, *more)
    np.testing.assert_allclose(widened[0][..., :24], native[0], rtol=2.0**-7)
    np.testing.assert_allclose(widened[2][..., :24], native[2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(widened[3][:24], native[3], rtol=1e-5, atol=1e-5)


def test_arrays_that_begin_anywhere(emulated: None) -> None:
    """A view from the second element on is not aligned for loads of eight."""
    x, w = random(4, 16), random(16, 8)

    class Shifted(CupyArray):
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            whole = super().__cuda_array_interface__
            return whole | {"shape": x.shape, "data": (whole["data"][0] + 2, False)}

    shifted = Shifted.of(np.concatenate([np.zeros(1, bfloat16), x.ravel()]))
    straight = ops.dense(to_emulated(x), to_emulated(w)).get()
    np.testing.assert_array_equal(ops.dense(shifted, to_emulated(w)).get(), straight)


def test_out(emulated: None) -> None:
    x, w = to_emulated(random(4, 16)), to_emulated(random(16, 8))
    out = to_emulated(np.zeros((4, 8), bfloat16))
    assert ops.dense(x, w, out=out) is out
    np.testing.assert_array_equal(out.get(), ops.dense(x, w).get())
    with pytest.raises(TypeError, match="output is float32, but input is bfloat16; convert one of them"):
        ops.dense(x, w, out=to_emulated(np.zeros((4, 8), np.float32)))


def test_channels_first() -> None:
    x, w = random(2, 8, 5, 6), random(3, 3, 8, 16)
    straight = ops.conv2d(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), w)
    turned = ops.conv2d(x, w, data_format="channels_first")
    assert turned.dtype == bfloat16
    np.testing.assert_array_equal(turned, straight.transpose(0, 3, 1, 2))
    out = np.zeros(turned.shape, bfloat16)
    assert ops.conv2d(x, w, data_format="channels_first", out=out) is out
    np.testing.assert_array_equal(out, turned)
    with pytest.raises(ValueError, match=r"out is float32 of shape .* but must be bfloat16"):
        ops.conv2d(x, w, data_format="channels_first", out=np.zeros(turned.shape, np.float32))


def test_what_does_not_fit_is_refused(emulated: None) -> None:
    x, w = random(4, 16), random(16, 8)
    image, filters = random(1, 5, 5, 8), random(3, 3, 8, 8)

    def f32(array: np.ndarray) -> np.ndarray:
        return array.astype(np.float32)

    calls: list[tuple[str, Callable[[], Any]]] = [
        ("weights is float32, but input is bfloat16; convert one of them",
         lambda: ops.dense(to_emulated(x), to_emulated(f32(w)))),
        ("weights is bfloat16, but must be float32", lambda: ops.dense(to_emulated(f32(x)), to_emulated(w))),
        ("bias is bfloat16, but must be float32", lambda: ops.dense(to_emulated(x), to_emulated(w), to_emulated(w[0]))),
        ("input is float64, but must be float32",
         lambda: ops.conv2d(to_emulated(image.astype(np.float64)), to_emulated(filters))),
        ("filters is float32, but input is bfloat16",
         lambda: ops.conv2d(to_emulated(image), to_emulated(f32(filters)))),
        ("filters is bfloat16, but must be float32",
         lambda: ops.conv2d_backward_input(to_emulated(f32(image)), to_emulated(filters), (1, 7, 7, 8))),
        ("grad_output is float32, but input is bfloat16",
         lambda: ops.conv2d_backward_filters(to_emulated(image), to_emulated(f32(image)), 1)),
        ("input is bfloat16, but must be float32", lambda: ops.max_pool2d(to_emulated(image))),
        ("input is bfloat16, but must be float32", lambda: ops.relu(to_emulated(image))),
        ("weights is float32, but input is bfloat16", lambda: ops.dense(x, f32(w))),
        ("input is bfloat16, but must be float32", lambda: ops.softmax(x)),
        ("input has dtype float16, which convec does not handle", lambda: ops.dense(x.astype(np.float16), w)),
    ]  # fmt: skip
    for message, call in calls:
        with pytest.raises(TypeError, match=message):
            call()


def test_a_missing_ml_dtypes_is_named(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = to_emulated(random(4, 16)), to_emulated(random(16, 8))
    out = to_emulated(np.zeros((4, 8), bfloat16))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(RuntimeError, match=r"CuPy 14 or later and ml_dtypes.*pip install ml_dtypes, or pass out="):
        ops.dense(x, w)
    assert ops.dense(x, w, out=out) is out
