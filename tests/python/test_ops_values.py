"""Every op against the float64 reference, at every instruction-set level, for every case of its list."""

from __future__ import annotations

import math

import cases
import numpy as np
import pytest
import reference
from convec import _core, ops


@pytest.mark.parametrize("op", cases.CASES)
def test_values(op: str, isa: str) -> None:
    for case in cases.CASES[op]:
        arrays = case.arrays()
        wanted = cases.expected(case, arrays)
        results = cases.run(case, arrays)
        assert len(results) == len(wanted)
        for number, (result, want) in enumerate(zip(results, wanted, strict=True)):
            case.tolerance.check(np.asarray(result), want, f"{case.id}, result {number}, {isa}")
            if isinstance(result, np.ndarray):
                assert result.dtype == np.float32
                assert result.flags.c_contiguous


@pytest.mark.parametrize("op", ["conv2d", "conv2d_backward", "conv2d_backward_input", "conv2d_backward_filters"])
def test_winograd_can_be_switched_off(op: str, isa: str) -> None:
    before = _core.winograd()
    try:
        for case in cases.CASES[op]:
            if not case.name.startswith("winograd"):
                continue
            arrays = case.arrays()
            _core.set_winograd(True)
            fast = cases.run(case, arrays)
            _core.set_winograd(False)
            direct = cases.run(case, arrays)
            for number, (result, want) in enumerate(zip(direct, cases.expected(case, arrays), strict=True)):
                case.tolerance.check(result, want, f"{case.id}, result {number}, {isa}, direct")
            # Other roundings: it was indeed another algorithm.
            assert not np.array_equal(fast[0], direct[0]), f"{case.id} is not computed by Winograd's algorithm"
    finally:
        _core.set_winograd(before)


def steps_off(result: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Error in units in the last place of the float32 nearest to the reference."""
    return np.abs(result.astype(np.float64) - want) / np.spacing(np.abs(want).astype(np.float32)).astype(np.float64)


# Units in the last place, over the ranges that end where results underflow or saturate. Measured at every level, and
# rounded up; the polynomials themselves are good to 0.1.
ACCURACY = {
    "elu": (-20.0, 5.0, 1.5),
    "selu": (-20.0, 5.0, 2.0),
    "gelu": (-3.0, 20.0, 10.0),
    "silu": (-80.0, 80.0, 3.5),
    "sigmoid": (-80.0, 40.0, 3.0),
    "tanh": (-12.0, 12.0, 3.0),
    "softplus": (-80.0, 80.0, 2.5),
}


@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy_of_functions(name: str, isa: str) -> None:
    low, high, allowed = ACCURACY[name]
    # Dense over the range, and denser near 0, where cancellation would show.
    x = np.concatenate([np.linspace(low, high, 60001), np.geomspace(1e-30, 1, 5001), -np.geomspace(1e-30, 1, 5001)])
    x = x[(x >= low) & (x <= high)].astype(np.float32)
    error = steps_off(ops.activation(x, name), reference.activation(x.astype(np.float64), name))
    worst = int(np.argmax(error))
    assert error[worst] <= allowed, f"{name}({x[worst]!r}) is off by {error[worst]:.2f} units in the last place"


def test_accuracy_of_gelu_tail(isa: str) -> None:
    # Where x^2 / 2 is large, its rounding error under the exponential dominates.
    x = np.linspace(-12, -3, 20001).astype(np.float32)
    want = reference.activation(x.astype(np.float64), "gelu")
    error = np.abs(ops.activation(x, "gelu") - want) / np.abs(want)
    assert (error <= 2e-7 * (1 + x.astype(np.float64) ** 2)).all()


def test_accuracy_of_exponential_and_logarithm(isa: str) -> None:
    # The loss of class 0 of two, of which the other has logit x, is log(1 + e^x): the logarithm over a wide range.
    x = np.linspace(-10, 80, 20001).astype(np.float32)
    logits = np.stack([np.zeros_like(x), x], axis=1)
    losses = ops.softmax_cross_entropy(logits, np.zeros(x.size, dtype=np.int64))
    want = np.logaddexp(0, x.astype(np.float64))
    # Below 1 the sum 1 + e^x itself is rounded.
    assert (np.abs(losses - want) <= 4 * np.spacing(np.maximum(want, 1).astype(np.float32))).all()


EXTREMES = np.array([0.0, -0.0, 1e-38, -1e-38, 100.0, -100.0, 1e38, -1e38, np.inf, -np.inf], dtype=np.float32)
LIMITS = {
    "linear": EXTREMES,
    "relu": [0, 0, 1e-38, 0, 100, 0, 1e38, 0, np.inf, 0],
    "relu6": [0, 0, 1e-38, 0, 6, 0, 6, 0, 6, 0],
    "leaky_relu": [0, 0, 1e-38, -2e-39, 100, -20, 1e38, -2e37, np.inf, -np.inf],
    "elu": [0, 0, 1e-38, -1e-38, 100, -1, 1e38, -1, np.inf, -1],
    "selu": [0, 0, 1e-38, -1e-38, 105.0701, -1.7580993, 1.0507010e38, -1.7580993, np.inf, -1.7580993],
    "gelu": [0, 0, 5e-39, -5e-39, 100, 0, 1e38, 0, np.inf, 0],
    "silu": [0, 0, 5e-39, -5e-39, 100, 0, 1e38, 0, np.inf, 0],
    "sigmoid": [0.5, 0.5, 0.5, 0.5, 1, 0, 1, 0, 1, 0],
    "tanh": [0, 0, 1e-38, -1e-38, 1, -1, 1, -1, 1, -1],
    "softplus": [0.6931472, 0.6931472, 0.6931472, 0.6931472, 100, 0, 1e38, 0, np.inf, 0],
}


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_extremes_of_activations(name: str, isa: str) -> None:
    # 1e-37 absolute: denormals are flushed to zero.
    np.testing.assert_allclose(ops.activation(EXTREMES, name), LIMITS[name], rtol=1e-6, atol=1e-37)
    assert np.isnan(ops.activation(np.full(21, np.nan, dtype=np.float32), name)).all()
    gradient = ops.activation_backward(np.ones_like(EXTREMES), EXTREMES, name)
    assert np.isfinite(gradient).all()


def test_softmax_of_extremes(isa: str) -> None:
    x = np.array([[1e38, 0, -1e38], [-np.inf, 0, 0], [1000, 1000, 1000], [-1e38, -1e38, -np.inf]], dtype=np.float32)
    want = [[1, 0, 0], [0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]]
    np.testing.assert_allclose(ops.softmax(x), want, rtol=1e-6)
    assert np.isnan(ops.softmax(np.array([0, np.nan, 1], dtype=np.float32))).all()


def test_cross_entropy_of_extremes(isa: str) -> None:
    x = np.array([[1000, 0], [0, 1000], [-np.inf, 0], [1e30, 1e30]], dtype=np.float32)
    np.testing.assert_allclose(
        ops.softmax_cross_entropy(x, np.array([0, 0, 1, 0])), [0, 1000, 0, math.log(2)], rtol=1e-6
    )
    # A class without weight does not count, even where it is impossible.
    one_hot = np.array([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    np.testing.assert_allclose(ops.softmax_cross_entropy(x, one_hot), [0, 1000, 0, math.log(2)], rtol=1e-6)
    assert np.isnan(ops.softmax_cross_entropy(np.full((1, 3), np.nan, dtype=np.float32), np.array([1])))[0]


def test_probabilities_are_clipped_as_in_keras(isa: str) -> None:
    p = np.array([[1, 0], [0, 1]], dtype=np.float32)
    labels = np.array([0, 0])
    low = -math.log(1e-7)
    losses = ops.softmax_cross_entropy(p, labels, from_logits=False)
    np.testing.assert_allclose(losses, [1.192093e-07, low], rtol=1e-5)
    # No gradient flows where the clip holds.
    gradient = ops.softmax_cross_entropy_backward(np.ones(2, dtype=np.float32), p, labels, from_logits=False)
    np.testing.assert_array_equal(gradient, 0)
    loss = ops.pointwise_loss("binary_crossentropy", p, np.ones_like(p))
    np.testing.assert_allclose(loss, [low / 2, low / 2], rtol=1e-5)


def test_max_pooling_propagates_nan(isa: str) -> None:
    rng = np.random.default_rng(0)
    for position in range(4):
        x = rng.standard_normal((1, 2, 2, 19)).astype(np.float32)
        x.reshape(4, 19)[position] = np.nan
        assert np.isnan(ops.max_pool2d(x)).all()
        assert np.isnan(ops.global_max_pool2d(x)).all()


def test_max_pooling_of_minus_infinity(isa: str) -> None:
    x = np.full((1, 3, 3, 5), -np.inf, dtype=np.float32)
    assert (ops.max_pool2d(x, 3, 1, "same") == -np.inf).all()
    gradient = ops.max_pool2d_backward(np.ones((1, 1, 1, 5), dtype=np.float32), x, 3)
    np.testing.assert_array_equal(gradient.sum(axis=(1, 2)), 1)
    np.testing.assert_array_equal(gradient[0, 0, 0], 1)


def test_relu_keeps_nan_when_fused(isa: str) -> None:
    x = np.full((2, 4), np.nan, dtype=np.float32)
    assert np.isnan(ops.relu(x)).all()
    assert np.isnan(ops.dense(x, np.ones((4, 9), dtype=np.float32), activation="relu")).all()


# Known answers of the generator from the Random123 library's test vectors.
KNOWN_ANSWERS = [
    (0, 0, 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (2**64 - 1, 2**64 - 1, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        0x299F31D0A4093822, 0x85A308D3243F6A88, 0x0370734413198A2E,
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "counter", "stream", "words"), KNOWN_ANSWERS)
def test_philox_reference_gives_the_known_answers(key: int, counter: int, stream: int, words: list[int]) -> None:
    assert reference.philox4x32(key, counter, stream) == words


def test_dropout_keeps_the_right_share(isa: str) -> None:
    x = np.ones(200_000, dtype=np.float32)
    for rate in (0.1, 0.5, 0.8):
        kept = ops.dropout(x, rate, seed=3) > 0
        # Five standard deviations of a binomial share.
        assert abs(kept.mean() - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / x.size)


def test_dropout_zeroes_even_what_is_not_finite(isa: str) -> None:
    y = ops.dropout(np.full(64, np.nan, dtype=np.float32), 0.5, seed=1)
    assert (y == 0).any()
    assert np.isnan(y).any()


def test_dropout_streams_differ() -> None:
    x = np.ones(4096, dtype=np.float32)
    base = ops.dropout(x, 0.5, seed=1)
    assert (base != ops.dropout(x, 0.5, seed=2)).any()
    assert (base != ops.dropout(x, 0.5, seed=1, offset=1)).any()
    np.testing.assert_array_equal(base, ops.dropout(x, 0.5, seed=1))


@pytest.mark.parametrize("offset", [0, 1000])
def test_batch_norm_of_offset_data(offset: float, isa: str) -> None:
    # The variance of data far from 0 must not cancel: mean 1000, standard deviation 1.
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((4, 16, 16, 6)) + offset).astype(np.float32)
    zeros, ones = np.zeros(6, dtype=np.float32), np.ones(6, dtype=np.float32)
    _, mean, inverse_std = ops.batch_norm_training(x, None, None, zeros, ones, epsilon=1e-5)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(inverse_std, 1 / np.sqrt(wide.var(axis=(0, 1, 2)) + 1e-5), rtol=2e-6)


def test_in_place(isa: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 37)).astype(np.float32)
    for call in (
        lambda a, out: ops.relu(a, out=out),
        lambda a, out: ops.activation(a, "gelu", out=out),
        lambda a, out: ops.softmax(a, out=out),
        lambda a, out: ops.dropout(a, 0.5, seed=1, out=out),
        lambda a, out: ops.rescale(a, 2.0, 1.0, out=out),
    ):
        apart = call(x, None)
        same = x.copy()
        assert call(same, same) is same
        np.testing.assert_array_equal(same, apart)
