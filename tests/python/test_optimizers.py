"""Optimizers through a model against their published rules in float64, schedules, and arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import toy
from convec import optimizers
from convec.optimizers import schedules

X, Y = toy.samples(24)
Slots = dict[str, Any]


def sgd(w: np.ndarray, g: np.ndarray, s: Slots, t: int, lr: float, momentum: float, nesterov: bool) -> np.ndarray:
    v = s["v"] = momentum * s.get("v", 0.0) - lr * g
    return w + (momentum * v - lr * g if nesterov else v)


def adam(w: np.ndarray, g: np.ndarray, s: Slots, t: int, lr: float, amsgrad: bool = False) -> np.ndarray:
    m = s["m"] = s.get("m", 0.0) * 0.9 + 0.1 * g
    v = s["v"] = s.get("v", 0.0) * 0.999 + 0.001 * g * g
    if amsgrad:
        v = s["top"] = np.maximum(s.get("top", 0.0), v)
    return w - lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)


def rmsprop(w: np.ndarray, g: np.ndarray, s: Slots, t: int, lr: float, momentum: float, centered: bool) -> np.ndarray:
    v = s["v"] = 0.9 * s.get("v", 0.0) + 0.1 * g * g
    mean = s["mean"] = 0.9 * s.get("mean", 0.0) + 0.1 * g
    step = lr * g / np.sqrt((v - mean * mean if centered else v) + 1e-7)
    if momentum:
        step = s["m"] = momentum * s.get("m", 0.0) + step
    return w - step


def adadelta(w: np.ndarray, g: np.ndarray, s: Slots, t: int, lr: float) -> np.ndarray:
    v = s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g * g
    change = -np.sqrt(s.get("d", 0.0) + 1e-7) * g / np.sqrt(v + 1e-7)
    s["d"] = 0.95 * s.get("d", 0.0) + 0.05 * change * change
    return w + lr * change


def by_norm(most: float) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    return lambda gs: [g * min(1.0, most / np.linalg.norm(g)) for g in gs]


def by_global_norm(most: float) -> Callable[[list[np.ndarray]], list[np.ndarray]]:
    def clip(gs: list[np.ndarray]) -> list[np.ndarray]:
        norm = math.sqrt(sum((g * g).sum() for g in gs))
        return [g * most / max(norm, most) for g in gs]

    return clip


Rule = Callable[[np.ndarray, np.ndarray, Slots, int], np.ndarray]
# name: (optimizer, rule of a step, what happens to the gradients first, weight decay times learning rate)
RULES: dict[str, tuple[Callable[[], optimizers.Optimizer], Rule, Any, float]] = {
    "sgd": (lambda: optimizers.SGD(0.1), lambda *a: sgd(*a, 0.1, 0.0, False), None, 0),
    "momentum": (lambda: optimizers.SGD(0.1, 0.9), lambda *a: sgd(*a, 0.1, 0.9, False), None, 0),
    "nesterov": (lambda: optimizers.SGD(0.1, 0.9, True), lambda *a: sgd(*a, 0.1, 0.9, True), None, 0),
    "adam": (lambda: optimizers.Adam(), lambda *a: adam(*a, 0.001), None, 0),
    "amsgrad": (lambda: optimizers.Adam(0.02, amsgrad=True), lambda *a: adam(*a, 0.02, True), None, 0),
    "adamw": (lambda: optimizers.AdamW(0.01), lambda *a: adam(*a, 0.01), None, 0.01 * 0.004),
    "decay": (
        lambda: optimizers.SGD(0.1, weight_decay=0.05), lambda *a: sgd(*a, 0.1, 0.0, False), None, 0.1 * 0.05,
    ),
    "rmsprop": (lambda: optimizers.RMSprop(), lambda *a: rmsprop(*a, 0.001, 0.0, False), None, 0),
    "centred": (
        lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True), lambda *a: rmsprop(*a, 0.01, 0.5, True), None, 0,
    ),
    "adadelta": (lambda: optimizers.Adadelta(), lambda *a: adadelta(*a, 0.001), None, 0),
    "adadelta at 1": (lambda: optimizers.Adadelta(1.0), lambda *a: adadelta(*a, 1.0), None, 0),
    "clipnorm": (lambda: optimizers.SGD(0.5, clipnorm=0.1), lambda *a: sgd(*a, 0.5, 0.0, False), by_norm(0.1), 0),
    "clipvalue": (
        lambda: optimizers.SGD(0.5, clipvalue=0.02), lambda *a: sgd(*a, 0.5, 0.0, False),
        lambda gs: [np.clip(g, -0.02, 0.02) for g in gs], 0,
    ),
    "global_clipnorm": (
        lambda: optimizers.Adam(0.05, global_clipnorm=0.1), lambda *a: adam(*a, 0.05), by_global_norm(0.1), 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_ten_steps(name: str) -> None:
    make, rule, clip, decay = RULES[name]
    model = toy.model(make())
    reference = toy.Reference()
    slots: list[Slots] = [{}, {}]
    for step in range(1, 11):
        model.train_on_batch(X, Y)
        error = (reference.predict(X) - np.eye(toy.CLASSES)[Y]) / len(Y)
        gradients = [X.reshape(len(X), -1).astype(np.float64).T @ error, error.sum(axis=0)]
        gradients = clip(gradients) if clip else gradients
        values = [reference.kernel * (1 - decay), reference.bias * (1 - decay)]
        reference.kernel, reference.bias = (
            rule(w, g, s, step) for w, g, s in zip(values, gradients, slots, strict=True)
        )
    moved = np.abs(reference.kernel - toy.first_weights()[0]).max()
    # Ten float32 steps; errors are relative to how far the weights have gone.
    assert np.abs(model.get_weights()[0] - reference.kernel).max() < 1e-4 * moved + 1e-6
    np.testing.assert_allclose(model.get_weights()[1], reference.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "adadelta", "Adam", "RMSPROP"])
def test_by_name_class_and_dictionary(name: str) -> None:
    made = optimizers.get(name)
    assert made.kind == name.lower()
    again = type(made).from_config(made.get_config())
    assert again.core_config() == made.core_config()
    assert type(optimizers.get(type(made))) is type(made)
    assert optimizers.get(made) is made
    twin = optimizers.get({"class_name": name, "config": {"learning_rate": 0.5}})
    assert type(twin) is type(made)
    assert twin.learning_rate == 0.5


def test_defaults_are_those_of_keras() -> None:
    rates = {name: optimizers.get(name).learning_rate for name in ("sgd", "adam", "adamw", "rmsprop", "adadelta")}
    assert rates == {"sgd": 0.01, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001, "adadelta": 0.001}


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.get("adagrad"), ValueError, "optimizer is 'adagrad'"),
        (lambda: optimizers.get(3), ValueError, "optimizer is 3"),
        (lambda: optimizers.Adam(lr=0.1), TypeError, "its name is learning_rate"),
        (lambda: optimizers.SGD(decay=0.1), TypeError, "InverseTimeDecay"),
        (lambda: optimizers.SGD(colour=1), TypeError, "SGD has no argument 'colour'"),
        (lambda: optimizers.SGD(-0.1), ValueError, "learning_rate is -0.1"),
        (lambda: optimizers.SGD(math.nan), ValueError, "learning_rate is nan"),
        (lambda: optimizers.SGD(momentum=1.5), ValueError, "momentum is 1.5"),
        (lambda: optimizers.Adam(beta_1=1.0), ValueError, "beta_1 is 1.0"),
        (lambda: optimizers.Adam(epsilon=-1), ValueError, "epsilon is -1"),
        (lambda: optimizers.Adam(clipnorm=1, clipvalue=1), ValueError, "only one of"),
        (lambda: optimizers.Adam(use_ema=True), ValueError, "use_ema is not supported"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), ValueError, "decay_steps is 0"),
        (lambda: schedules.PiecewiseConstantDecay([1], [0.1]), ValueError, "it must have one more"),
        (lambda: schedules.LearningRateSchedule()(0), TypeError, "override _rates"),
    ],
)
def test_arguments_are_checked(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_learning_rate_may_be_set_at_any_time() -> None:
    optimizer = optimizers.SGD(0.1)
    model = toy.model(optimizer)
    model.train_on_batch(X, Y)
    assert optimizer.iterations == 1
    before = model.get_weights()[0]
    optimizer.learning_rate = 0.0
    assert model.optimizer is optimizer
    model.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], before)
    optimizer.lr = 0.2
    assert optimizer.learning_rate == 0.2
    model.train_on_batch(X, Y)
    assert not np.array_equal(model.get_weights()[0], before)
    with pytest.raises(ValueError, match="learning_rate is -1"):
        optimizer.learning_rate = -1


def test_compiling_again_starts_afresh() -> None:
    model = toy.model("adam")
    model.train_on_batch(X, Y)
    model.compile("adam", "sparse_categorical_crossentropy")
    assert model.optimizer is not None
    assert model.optimizer.iterations == 0
    fresh = toy.model("adam", metrics=None)
    fresh.set_weights(model.get_weights())
    assert model.train_on_batch(X, Y) == fresh.train_on_batch(X, Y)
    np.testing.assert_array_equal(model.get_weights()[0], fresh.get_weights()[0])


# ---- Schedules, by hand ----


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (schedules.ExponentialDecay(0.5, 2, 0.25), [0.5, 0.25, 0.125, 0.0625]),
        (schedules.ExponentialDecay(0.5, 2, 0.25, staircase=True), [0.5, 0.5, 0.125, 0.125]),
        (schedules.InverseTimeDecay(0.5, 2, 1.0), [0.5, 0.5 / 1.5, 0.25, 0.5 / 2.5]),
        (schedules.PiecewiseConstantDecay([1, 2], [0.5, 0.1, 0.01]), [0.5, 0.5, 0.1, 0.01]),
        (schedules.PolynomialDecay(0.5, 2, 0.1), [0.5, 0.3, 0.1, 0.1]),
        (schedules.PolynomialDecay(0.5, 2, 0.1, power=2.0), [0.5, 0.2, 0.1, 0.1]),
        (schedules.PolynomialDecay(0.5, 2, 0.1, cycle=True), [0.5, 0.3, 0.1, 0.2]),
        (schedules.CosineDecay(0.4, 2, alpha=0.5), [0.4, 0.3, 0.2, 0.2]),
        (schedules.CosineDecay(0.0, 2, warmup_target=0.4, warmup_steps=2), [0.0, 0.2, 0.4, 0.2]),
    ],
)
def test_schedules(schedule: schedules.LearningRateSchedule, expected: list[float]) -> None:
    np.testing.assert_allclose(schedule(np.arange(4)), expected, rtol=1e-6)
    assert float(schedule(1)) == pytest.approx(expected[1])
    again = type(schedule)(**schedule.get_config())
    np.testing.assert_array_equal(again(np.arange(9)), schedule(np.arange(9)))


def test_a_schedule_is_followed_step_by_step() -> None:
    rates = [0.5, 0.25, 0.125]
    model = toy.model(optimizers.SGD(schedules.ExponentialDecay(0.5, 1, 0.5)))
    model.fit(X[:16], Y[:16], batch_size=8, shuffle=False, verbose=0)
    model.train_on_batch(X[16:], Y[16:])
    reference = toy.Reference()
    for rate, rows in zip(rates, toy.slices(0, 24, 8), strict=True):
        reference.learning_rate = rate
        reference.step(X[rows], Y[rows], np.ones(8))
    np.testing.assert_allclose(model.get_weights()[0], reference.kernel, rtol=1e-5, atol=1e-6)
    assert isinstance(model.optimizer, optimizers.SGD)
    assert isinstance(model.optimizer.learning_rate, schedules.ExponentialDecay)
    model.optimizer.learning_rate = 0.125  # and back to a number
    assert model.optimizer.learning_rate == 0.125
