"""Shapes and settings that Hypothesis thinks up, for the ops with the most geometry."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import reference
from convec import ops
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# The instruction-set fixture is set once for all examples of a test, which is what is meant.
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

extents = st.integers(1, 12)
small = st.integers(1, 4)


@st.composite
def paddings(draw: st.DrawFn, most: tuple[int, int]) -> Any:
    if draw(st.booleans()):
        return draw(st.sampled_from(["valid", "same"]))
    return tuple((draw(st.integers(0, high)), draw(st.integers(0, high))) for high in most)


def check_sum(result: np.ndarray, want: np.ndarray, magnitude: np.ndarray, terms: int, what: str) -> None:
    """Whatever is drawn, a float32 sum of products is off by at most (terms + 1) roundings of the sum of magnitudes."""
    assert result.shape == want.shape
    assert (np.abs(result - want) <= (terms + 2) * cases.FLOAT_STEP * magnitude).all(), what


def array(draw: st.DrawFn, *shape: int) -> np.ndarray:
    return np.random.default_rng(draw(st.integers(0, 2**32))).standard_normal(shape).astype(np.float32)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    groups = draw(st.integers(1, 3))
    channels, filters = groups * draw(st.integers(1, 7)), groups * draw(st.integers(1, 20))
    kernel = draw(small), draw(small)
    dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    options = {
        "strides": (draw(small), draw(small)),
        "dilation": dilation,
        "groups": groups,
        "padding": draw(paddings((5, 5))),
    }
    reach = [(kernel[a] - 1) * dilation[a] + 1 for a in (0, 1)]
    size = [draw(extents) for _ in (0, 1)]
    if options["padding"] != "same":
        pad = ((0, 0), (0, 0)) if options["padding"] == "valid" else options["padding"]
        size = [max(size[a], reach[a] - sum(pad[a])) for a in (0, 1)]
    x = array(draw, draw(st.integers(1, 3)), size[0], size[1], channels)
    return x, array(draw, *kernel, channels // groups, filters), options


@quick
@given(convolutions())
def test_conv2d(isa: str, convolution: tuple[np.ndarray, np.ndarray, dict[str, Any]]) -> None:
    x, filters, options = convolution
    wide, wide_filters = x.astype(np.float64), filters.astype(np.float64)
    want = reference.conv2d(wide, wide_filters, **options)
    area = filters.shape[0] * filters.shape[1]
    magnitudes = np.abs(wide), np.abs(wide_filters)
    check_sum(
        ops.conv2d(x, filters, **options), want, reference.conv2d(*magnitudes, **options),
        area * filters.shape[2], "conv2d",
    )  # fmt: skip
    grad = np.random.default_rng(0).standard_normal(want.shape).astype(np.float32)
    results = ops.conv2d_backward(grad, x, filters, **options)
    wide_grad = grad.astype(np.float64)
    wanted = reference.conv2d_backward(wide_grad, wide, wide_filters, **options)
    sums = reference.conv2d_backward(np.abs(wide_grad), *magnitudes, **options)
    terms = max(area * filters.shape[3], want[..., 0].size)
    for name, *three in zip(("input", "filters", "bias"), results, wanted, sums, strict=True):
        check_sum(*three, terms, f"gradient with respect to {name}")


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    pool = draw(small), draw(small)
    options = {
        "pool_size": pool,
        "strides": (draw(small), draw(small)),
        "padding": draw(paddings((pool[0] - 1, pool[1] - 1))),
    }
    size = [max(draw(extents), pool[a]) for a in (0, 1)]
    return array(draw, draw(st.integers(1, 3)), size[0], size[1], draw(st.integers(1, 20))), options


@quick
@given(pools())
def test_pool2d(isa: str, pool: tuple[np.ndarray, dict[str, Any]]) -> None:
    x, options = pool
    wide = x.astype(np.float64)
    want = reference.max_pool2d(wide, **options)
    np.testing.assert_array_equal(ops.max_pool2d(x, **options), want)
    check_sum(
        ops.average_pool2d(x, **options), reference.average_pool2d(wide, **options),
        reference.average_pool2d(np.abs(wide), **options), 17, "average_pool2d",
    )  # fmt: skip
    grad = np.random.default_rng(0).standard_normal(want.shape).astype(np.float32)
    wide_grad = grad.astype(np.float64)
    for what, result, function in (
        ("max_pool2d_backward", ops.max_pool2d_backward(grad, x, **options),
         lambda g: reference.max_pool2d_backward(g, wide, **options)),
        ("average_pool2d_backward", ops.average_pool2d_backward(grad, x.shape, **options),
         lambda g: reference.average_pool2d_backward(g, x.shape, **options)),
    ):  # fmt: skip
        check_sum(result, function(wide_grad), function(np.abs(wide_grad)), 17, what)


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch, inputs, units = (draw(st.integers(1, 70)) for _ in range(3))
    return array(draw, batch, inputs), array(draw, inputs, units), array(draw, units)


@quick
@given(matrices())
def test_dense(isa: str, layer: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, weights, bias = layer
    wide = [a.astype(np.float64) for a in layer]
    magnitudes = [np.abs(a) for a in wide]
    result = ops.dense(x, weights, bias)
    check_sum(result, reference.dense(*wide), reference.dense(*magnitudes), x.shape[1] + 1, "dense")
    grad = np.random.default_rng(0).standard_normal((len(x), weights.shape[1])).astype(np.float32)
    results = ops.dense_backward(grad, x, weights)
    wanted = reference.dense_backward(grad.astype(np.float64), *wide[:2])
    sums = reference.dense_backward(np.abs(grad).astype(np.float64), *magnitudes[:2])
    for name, *three in zip(("input", "weights", "bias"), results, wanted, sums, strict=True):
        check_sum(*three, 70, f"gradient with respect to {name}")


@quick
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 2**32))
def test_softmax(isa: str, shape: list[int], seed: int) -> None:
    x = (np.random.default_rng(seed).standard_normal(shape) * 5).astype(np.float32)
    result = ops.softmax(x)
    np.testing.assert_allclose(result.sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(result, reference.softmax(x.astype(np.float64)), rtol=2e-6, atol=1e-12)
