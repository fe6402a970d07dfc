"""The random arrays behind the initializers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import reference
from convec import _core

SIZE = 200_003
FILLS: dict[str, Callable[[tuple[int, ...], int], np.ndarray]] = {
    "uniform": lambda shape, seed: _core.random_uniform(shape, -1.0, 3.0, seed),
    "normal": lambda shape, seed: _core.random_normal(shape, 0.5, 2.0, seed),
    "truncated": lambda shape, seed: _core.random_truncated_normal(shape, 0.5, 2.0, seed),
}
# Mean and standard deviation. A normal distribution cut at two standard deviations keeps 0.8796 of its own.
MOMENTS = {"uniform": (1.0, 4 / math.sqrt(12)), "normal": (0.5, 2.0), "truncated": (0.5, 2.0 * 0.87962566)}


@pytest.mark.parametrize("name", FILLS)
def test_moments(name: str) -> None:
    x = FILLS[name]((SIZE,), 1).astype(np.float64)
    mean, stddev = MOMENTS[name]
    # Five standard deviations of a sample's own mean and (for tails no heavier than a normal's) spread.
    assert abs(x.mean() - mean) < 5 * stddev / math.sqrt(SIZE)
    assert abs(x.std() - stddev) < 5 * stddev / math.sqrt(2 * SIZE)
    # Neighbours and elements four apart (one counter gives four) are unrelated.
    centred = (x - mean) / stddev
    for lag in (1, 2, 3, 4):
        assert abs((centred[:-lag] * centred[lag:]).mean()) < 5 / math.sqrt(SIZE)


@pytest.mark.parametrize("name", FILLS)
def test_a_seed_gives_the_same_bits(name: str, threads: None) -> None:
    fill = FILLS[name]
    want = fill((37, 1001), 7)
    assert want.shape == (37, 1001)
    assert want.dtype == np.float32
    for count in (1, 2, 5):
        _core.set_num_threads(count)
        np.testing.assert_array_equal(fill((37, 1001), 7), want)
    assert (fill((37, 1001), 8) != want).mean() > 0.99
    # An element depends on its index, not on the array's size.
    np.testing.assert_array_equal(fill((11,), 7), want.ravel()[:11])


def test_bounds() -> None:
    uniform = _core.random_uniform((SIZE,), -0.25, 0.5, 3)
    assert uniform.min() >= -0.25
    assert uniform.max() < 0.5
    truncated = _core.random_truncated_normal((SIZE,), 1.0, 0.5, 3)
    assert truncated.min() >= 0.0
    assert truncated.max() <= 2.0
    # The bound is where it should be, not nearer.
    assert truncated.max() > 1.99
    normal = _core.random_normal((SIZE,), 0.0, 1.0, 3)
    assert 3.5 < np.abs(normal).max() < 7


def test_degenerate_distributions() -> None:
    np.testing.assert_array_equal(_core.random_uniform((5,), 2.0, 2.0, 1), 2)
    np.testing.assert_array_equal(_core.random_normal((5,), 2.0, 0.0, 1), 2)
    np.testing.assert_array_equal(_core.random_truncated_normal((5,), 2.0, 0.0, 1), 2)
    assert _core.random_normal((0, 3), 0.0, 1.0, 1).shape == (0, 3)
    assert _core.random_normal((), 0.0, 1.0, 1).shape == ()


def test_uniform_is_philox() -> None:
    seed = 2**64 - 59
    words = [word for counter in range(3) for word in reference.philox4x32(seed, counter, 1)]
    want = np.array([(word >> 8) * 2.0**-24 for word in words[:10]], dtype=np.float32)
    np.testing.assert_array_equal(_core.random_uniform((10,), 0.0, 1.0, seed), want)


def test_normal_is_normal() -> None:
    # Kolmogorov's statistic of 200,000 numbers stays below 2 / sqrt(n) but for one sample in 1,500.
    x = np.sort(_core.random_normal((SIZE,), 0.0, 1.0, 5).astype(np.float64))
    cdf = reference._normal_cdf(x)
    steps = np.arange(SIZE) / SIZE
    assert np.abs(cdf - steps).max() < 2 / math.sqrt(SIZE)
