"""Initial weights: ranges and moments by closed form, seeds, names."""

from __future__ import annotations

import math
import random
from typing import Any

import convec
import numpy as np
import pytest
from convec import initializers

SHAPE = (3, 3, 32, 64)  # fans 288 and 576; 18,432 numbers
# The mean and the deviation of n numbers are known to 1 / sqrt(n) of a deviation; four of those.
SLACK = 4 / math.sqrt(math.prod(SHAPE))
# A normal distribution cut off at two deviations keeps this share of its deviation.
TRUNCATED = 0.87962566103423978


@pytest.mark.parametrize(
    ("name", "deviation", "limit"),
    [
        ("glorot_uniform", math.sqrt(2 / (288 + 576)), math.sqrt(6 / (288 + 576))),
        ("glorot_normal", math.sqrt(2 / (288 + 576)), 2 * math.sqrt(2 / (288 + 576)) / TRUNCATED),
        ("he_uniform", math.sqrt(2 / 288), math.sqrt(6 / 288)),
        ("he_normal", math.sqrt(2 / 288), 2 * math.sqrt(2 / 288) / TRUNCATED),
        ("lecun_uniform", math.sqrt(1 / 288), math.sqrt(3 / 288)),
        ("lecun_normal", math.sqrt(1 / 288), 2 * math.sqrt(1 / 288) / TRUNCATED),
        ("random_uniform", 0.05 / math.sqrt(3), 0.05),
        ("random_normal", 0.05, math.inf),
        ("truncated_normal", 0.05 * TRUNCATED, 0.1),
    ],
)
def test_moments_and_limits(name: str, deviation: float, limit: float) -> None:
    convec.utils.set_random_seed(0)
    values = initializers.get(name)(SHAPE)
    assert values.dtype == np.float32
    assert values.shape == SHAPE
    assert abs(values.mean()) < SLACK * deviation
    assert values.std() == pytest.approx(deviation, rel=SLACK)
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    if math.isfinite(limit):
        assert np.abs(values).max() > 0.98 * limit


@pytest.mark.parametrize(
    ("shape", "expected"), [((), (1, 1)), ((7,), (7, 7)), ((3, 5), (3, 5)), ((2, 3, 4, 5), (24, 30))]
)
def test_fans_are_those_of_keras(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert initializers.fans(shape) == expected


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "untruncated_normal", "truncated_normal"])
def test_variance_scaling(mode: str, distribution: str) -> None:
    values = initializers.VarianceScaling(3.0, mode, distribution, seed=1)(SHAPE)
    fan = {"fan_in": 288, "fan_out": 576, "fan_avg": 432}[mode]
    assert values.std() == pytest.approx(math.sqrt(3 / fan), rel=SLACK)


def test_fixed_values() -> None:
    assert not initializers.Zeros()((2, 3)).any()
    assert (initializers.Ones()((2, 3)) == 1).all()
    assert (initializers.Constant(2.5)((2, 3)) == 2.5).all()
    assert initializers.RandomNormal(mean=3.0, stddev=0.0)((4,)).tolist() == [3.0] * 4
    assert initializers.RandomUniform(1.0, 2.0, seed=0)((1000,)).min() >= 1.0


def test_seeds() -> None:
    seeded = initializers.GlorotUniform(seed=3)
    np.testing.assert_array_equal(seeded((5, 6)), seeded((5, 6)))
    assert not np.array_equal(seeded((5, 6)), seeded((5, 6), seed=4))
    unseeded = initializers.GlorotUniform()
    convec.utils.set_random_seed(1)
    first, second = unseeded((5, 6)), unseeded((5, 6))
    assert not np.array_equal(first, second)
    convec.utils.set_random_seed(1)
    np.testing.assert_array_equal(unseeded((5, 6)), first)


CLASSES = [name for name in initializers.__all__ if name != "Initializer" and name[0].isupper()]


@pytest.mark.parametrize("name", CLASSES)
def test_names_classes_and_configurations(name: str) -> None:
    made = initializers.get(name)
    assert type(made).__name__ == name
    assert type(initializers.get(type(made))) is type(made)
    assert initializers.get(made) is made
    again = type(made)(**made.get_config())
    assert again.get_config() == made.get_config()
    assert made((2, 3)).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: initializers.get("glorot"), ValueError, "initializer is 'glorot'"),
        (lambda: initializers.get(3), ValueError, "initializer is 3"),
        (lambda: initializers.VarianceScaling(0), ValueError, "scale is 0"),
        (lambda: initializers.VarianceScaling(mode="fan"), ValueError, "mode is 'fan'"),
        (lambda: initializers.VarianceScaling(distribution="normal"), ValueError, "distribution is 'normal'"),
        (lambda: initializers.Zeros()((2,), dtype="float64"), TypeError, "weights are float32"),
        (lambda: initializers.Initializer()((2,)), TypeError, "override _values"),
    ],
)
def test_arguments_are_checked(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**32, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_set_random_seed_checks(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed is"):
        convec.utils.set_random_seed(seed)


def test_set_random_seed_seeds_python_and_numpy() -> None:
    def draw() -> tuple[float, float]:
        convec.utils.set_random_seed(5)
        return random.random(), np.random.rand()  # noqa: NPY002 - the old generator is what is tested

    assert draw() == draw()


# ---- to_categorical ----


@pytest.mark.parametrize("labels", [[0, 2, 1], np.array([[0], [2], [1]]), np.array([0.0, 2.0, 1.0]), (0, 2, 1)])
def test_to_categorical(labels: Any) -> None:
    rows = convec.utils.to_categorical(labels)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, np.eye(3)[[0, 2, 1]])
    assert convec.utils.to_categorical(labels, 5).shape == (3, 5)


def test_to_categorical_keeps_other_axes() -> None:
    assert convec.utils.to_categorical(np.zeros((2, 3), int), 4).shape == (2, 3, 4)
    assert convec.utils.to_categorical([], 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        ([0, 3], 3, ValueError, r"class number 3, but must be in \[0, 3\)"),
        ([-1, 0], None, ValueError, "class number -1"),
        ([0.5], None, TypeError, "must hold class numbers"),
        (["a"], None, TypeError, "must hold class numbers"),
    ],
)
def test_to_categorical_checks(labels: Any, classes: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        convec.utils.to_categorical(labels, classes)
