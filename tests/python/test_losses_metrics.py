"""Losses and metrics: classes, functions and names against NumPy, by themselves and in a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import convec
import numpy as np
import pytest
import toy
from convec import layers, losses, metrics
from convec.models import Sequential

RNG = np.random.default_rng(0)
ROWS, CLASSES = 11, 4
LABELS = RNG.integers(0, CLASSES, ROWS)
HOT = np.eye(CLASSES)[LABELS]
LOGITS = RNG.standard_normal((ROWS, CLASSES)) * 2
SOFT = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
SIGMOID = 1 / (1 + np.exp(-LOGITS))
BITS = RNG.integers(0, 2, (ROWS, CLASSES)).astype(np.float64)
WEIGHTS = RNG.uniform(0.1, 2, ROWS)


def binary(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=1)


def huber(t: np.ndarray, p: np.ndarray) -> np.ndarray:
    e = np.abs(t - p)
    return np.where(e <= 1, 0.5 * e * e, e - 0.5).mean(axis=1)


# name: (the loss, targets, predictions, the rows expected)
LOSSES: dict[str, tuple[losses.Loss, Any, np.ndarray, np.ndarray]] = {
    "sparse": (losses.SparseCategoricalCrossentropy(), LABELS, SOFT, -np.log(SOFT[np.arange(ROWS), LABELS])),
    "sparse, logits": (
        losses.SparseCategoricalCrossentropy(from_logits=True), LABELS, LOGITS, -np.log(SOFT[np.arange(ROWS), LABELS]),
    ),
    "categorical": (losses.CategoricalCrossentropy(), HOT, SOFT, -(HOT * np.log(SOFT)).sum(axis=1)),
    "categorical, logits": (
        losses.CategoricalCrossentropy(from_logits=True), HOT, LOGITS, -(HOT * np.log(SOFT)).sum(axis=1),
    ),
    "categorical, smoothed": (
        losses.CategoricalCrossentropy(label_smoothing=0.2), HOT, SOFT,
        -((0.8 * HOT + 0.2 / CLASSES) * np.log(SOFT)).sum(axis=1),
    ),
    "binary": (losses.BinaryCrossentropy(), BITS, SIGMOID, binary(BITS, SIGMOID)),
    "binary, logits": (losses.BinaryCrossentropy(from_logits=True), BITS, LOGITS, binary(BITS, SIGMOID)),
    "binary, smoothed": (
        losses.BinaryCrossentropy(label_smoothing=0.2), BITS, SIGMOID, binary(0.8 * BITS + 0.1, SIGMOID),
    ),
    "mse": (losses.MeanSquaredError(), HOT, LOGITS, ((HOT - LOGITS) ** 2).mean(axis=1)),
    "mae": (losses.MeanAbsoluteError(), HOT, LOGITS, np.abs(HOT - LOGITS).mean(axis=1)),
    "huber": (losses.Huber(), HOT, LOGITS, huber(HOT, LOGITS)),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_loss_values(name: str) -> None:
    loss, targets, predictions, rows = LOSSES[name]
    np.testing.assert_allclose(loss.rows(targets, predictions), rows, rtol=1e-5)
    assert loss(targets, predictions) == pytest.approx(rows.mean(), rel=1e-5)
    assert loss(targets, predictions, sample_weight=WEIGHTS) == pytest.approx((rows * WEIGHTS).mean(), rel=1e-5)
    config = loss.get_config()
    assert type(loss)(**config).get_config() == config


@pytest.mark.parametrize("name", LOSSES)
def test_loss_functions_are_the_rows(name: str) -> None:
    loss, targets, predictions, rows = LOSSES[name]
    function = getattr(losses, loss.kind)
    extra = {}
    if loss.from_logits:
        extra["from_logits"] = True
    if loss.label_smoothing:
        extra["label_smoothing"] = loss.label_smoothing
    np.testing.assert_allclose(function(targets, predictions, **extra), rows, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_model_reports_and_descends_the_loss(name: str) -> None:
    """One layer that passes its input on, so that its predictions are the case's own."""
    loss, targets, predictions, rows = LOSSES[name]
    model = Sequential([layers.Input((CLASSES,)), layers.Dense(CLASSES, use_bias=False)])
    model.set_weights([np.eye(CLASSES)])
    model.compile(convec.optimizers.SGD(0.01), loss, metrics=[type(loss)(**loss.get_config())])
    found = model.evaluate(predictions, targets, sample_weight=WEIGHTS, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx((rows * WEIGHTS).mean(), rel=1e-5)
    assert found[loss.kind] == pytest.approx(rows.mean(), rel=1e-5)
    before = model.train_on_batch(predictions, targets)[0]
    assert before == pytest.approx(rows.mean(), rel=1e-5)
    assert model.test_on_batch(predictions, targets)[0] < before


@pytest.mark.parametrize(
    ("identifier", "kind"),
    [
        ("mse", "mean_squared_error"),
        ("MSE", "mean_squared_error"),
        ("mae", "mean_absolute_error"),
        ("bce", "binary_crossentropy"),
        ("MeanSquaredError", "mean_squared_error"),
        ("categorical_crossentropy", "categorical_crossentropy"),
        (losses.categorical_crossentropy, "categorical_crossentropy"),
        (losses.mse, "mean_squared_error"),
        (losses.Huber, "huber"),
        (losses.Huber(), "huber"),
    ],
)
def test_losses_by_name_class_and_function(identifier: Any, kind: str) -> None:
    assert losses.get(identifier).kind == kind


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.get("hinge"), "loss is 'hinge'"),
        (lambda: losses.get(np.mean), "a function of your own cannot be one"),
        (lambda: losses.MeanSquaredError(reduction="sum"), "reduction is 'sum'"),
        (lambda: losses.CategoricalCrossentropy(label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda: losses.CategoricalCrossentropy(axis=1), "axis is 1"),
        (lambda: losses.Huber(delta=2.0), "delta is 2.0"),
        (lambda: losses.SparseCategoricalCrossentropy(ignore_class=0), "ignore_class"),
        (lambda: losses.sparse_categorical_crossentropy([4], SOFT[:1]), r"\[0\] is 4"),
    ],
)
def test_losses_refuse(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# ---- Metrics ----


def top(k: int) -> np.ndarray:
    order = np.argsort(-SOFT, axis=1)[:, :k]
    return (order == LABELS[:, None]).any(axis=1).astype(float)


RIGHT = (SOFT.argmax(axis=1) == LABELS).astype(float)

METRICS: dict[str, tuple[Callable[[], metrics.Metric], Any, np.ndarray, np.ndarray]] = {
    "sparse_categorical_accuracy": (metrics.SparseCategoricalAccuracy, LABELS, SOFT, RIGHT),
    "categorical_accuracy": (metrics.CategoricalAccuracy, HOT, SOFT, RIGHT),
    "binary_accuracy": (metrics.BinaryAccuracy, BITS, SIGMOID, ((SIGMOID > 0.5) == BITS).mean(axis=1)),
    "binary at 0.7": (
        lambda: metrics.BinaryAccuracy(threshold=0.7), BITS, SIGMOID, ((SIGMOID > 0.7) == BITS).mean(axis=1),
    ),
    "sparse_top_k_categorical_accuracy": (
        lambda: metrics.SparseTopKCategoricalAccuracy(k=2), LABELS, SOFT, top(2),
    ),
    "top_k_categorical_accuracy": (lambda: metrics.TopKCategoricalAccuracy(k=3), HOT, SOFT, top(3)),
    "mean_squared_error": (metrics.MeanSquaredError, HOT, SOFT, ((HOT - SOFT) ** 2).mean(axis=1)),
    "mean_absolute_error": (metrics.MeanAbsoluteError, HOT, SOFT, np.abs(HOT - SOFT).mean(axis=1)),
    "binary_crossentropy": (metrics.BinaryCrossentropy, BITS, SIGMOID, binary(BITS, SIGMOID)),
    "categorical_crossentropy": (metrics.CategoricalCrossentropy, HOT, SOFT, -(HOT * np.log(SOFT)).sum(axis=1)),
    "sparse_categorical_crossentropy": (
        lambda: metrics.SparseCategoricalCrossentropy(from_logits=True), LABELS, LOGITS,
        -np.log(SOFT[np.arange(ROWS), LABELS]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_means_over_what_they_have_seen(name: str) -> None:
    make, targets, predictions, rows = METRICS[name]
    metric = make()
    assert metric.result() == 0.0
    metric.update_state(targets[:4], predictions[:4])
    assert metric(targets[4:], predictions[4:]) == pytest.approx(rows.mean(), rel=1e-5)
    metric.reset_state()
    metric.update_state(targets, predictions, sample_weight=WEIGHTS)
    assert metric.result() == pytest.approx(np.average(rows, weights=WEIGHTS), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in METRICS if hasattr(metrics, name)])
def test_metric_functions_are_the_rows(name: str) -> None:
    _, targets, predictions, rows = METRICS[name]
    extra = {"sparse_top_k_categorical_accuracy": {"k": 2}, "top_k_categorical_accuracy": {"k": 3}}.get(name, {})
    np.testing.assert_allclose(getattr(metrics, name)(targets, predictions, **extra), rows, rtol=1e-6)


def test_ties_and_nan_in_top_k() -> None:
    flat = np.zeros((2, 4))
    assert metrics.sparse_top_k_categorical_accuracy([3, 0], flat, k=1).tolist() == [1, 1]
    flat[0, 3] = np.nan
    assert metrics.sparse_top_k_categorical_accuracy([3, 0], flat, k=4)[0] == 0


def resolved(loss: Any, classes: int = 3) -> str:
    activation = "sigmoid" if classes == 1 else "softmax"
    model = Sequential([layers.Input((5,)), layers.Dense(classes, activation=activation)])
    model.compile("sgd", loss, metrics=["accuracy"])
    (metric,) = model.metrics
    assert metric.name == "accuracy"
    config = metric.core_config()
    assert config is not None
    return str(config["kind"])


@pytest.mark.parametrize(
    ("loss", "classes", "kind"),
    [
        ("sparse_categorical_crossentropy", 3, "sparse_categorical_accuracy"),
        ("categorical_crossentropy", 3, "categorical_accuracy"),
        ("binary_crossentropy", 1, "binary_accuracy"),
        ("binary_crossentropy", 3, "categorical_accuracy"),
        ("mse", 3, "categorical_accuracy"),
        ("mse", 1, "binary_accuracy"),
    ],
)
def test_accuracy_resolves_by_loss_and_output(loss: str, classes: int, kind: str) -> None:
    """As Keras decides: by the widths of targets and predictions."""
    assert resolved(loss, classes) == kind


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("acc", "acc"),
        ("sparse_categorical_accuracy", "sparse_categorical_accuracy"),
        ("SparseCategoricalAccuracy", "sparse_categorical_accuracy"),
        (metrics.sparse_categorical_accuracy, "sparse_categorical_accuracy"),
        (metrics.SparseTopKCategoricalAccuracy(k=2, name="top2"), "top2"),
        (metrics.SparseCategoricalAccuracy, "sparse_categorical_accuracy"),
        ("crossentropy", "crossentropy"),
        ("sparse_categorical_crossentropy", "sparse_categorical_crossentropy"),
        (losses.sparse_categorical_crossentropy, "sparse_categorical_crossentropy"),
        (metrics.SparseCategoricalCrossentropy(name="ce"), "ce"),
        ("SparseCategoricalCrossentropy", "sparse_categorical_crossentropy"),
    ],
)
def test_metrics_by_name_class_and_function(identifier: Any, name: str) -> None:
    x, y = toy.samples(9)
    model = toy.model(metrics=[identifier])
    found = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(found) == {"loss", name}
    if "entropy" in name or name == "ce":
        assert found[name] == pytest.approx(found["loss"], rel=1e-6)


def test_a_metric_of_ones_own() -> None:
    class Largest(metrics.Metric):
        """The largest prediction of all."""

        def __init__(self) -> None:
            super().__init__("largest")

        def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
            self.most = max(self.most, float(np.max(y_pred)))

        def result(self) -> float:
            return self.most

        def reset_state(self) -> None:
            self.most = 0.0

    x, y = toy.samples(30)
    for given in (Largest, Largest()):
        model = toy.model(metrics=[given])
        for _ in range(2):  # reset in between
            found = model.evaluate(x, y, verbose=0, return_dict=True)
            assert found["largest"] == pytest.approx(toy.Reference().predict(x).max(), rel=1e-6)


def test_metrics_refuse() -> None:
    with pytest.raises(ValueError, match="metric is 'auc'"):
        toy.model(metrics=["auc"])
    with pytest.raises(ValueError, match="metric is 3"):
        toy.model(metrics=[3])
    with pytest.raises(TypeError, match="override rows"):
        metrics.Metric("mine").update_state([0], [0])


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        ("categorical_crossentropy", LABELS % 3, "use sparse_categorical_crossentropy"),
        ("mse", np.zeros((ROWS, 2)), r"targets has shape \(11, 2\), but must be \(11, 3\)"),
    ],
)
def test_targets_must_fit_the_loss(loss: str, targets: np.ndarray, message: str) -> None:
    x, _ = toy.samples(ROWS)
    with pytest.raises(ValueError, match=message):
        toy.model(loss=loss).fit(x, targets, verbose=0)


def test_one_output_takes_flat_targets() -> None:
    x, y = toy.samples(20)
    model = Sequential([layers.Input(toy.SHAPE), layers.Flatten(), layers.Dense(1)])
    model.compile("sgd", "mse")
    flat = model.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y[:, None], verbose=0) == flat
    assert flat == pytest.approx(((model.predict(x, verbose=0)[:, 0] - y) ** 2).mean(), rel=1e-5)
