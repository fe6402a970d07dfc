"""Numbers obtained from Keras 3.15.1 (TensorFlow backend, float32), so that conventions are Keras' own: optimizer
rules, clipping of probabilities, label smoothing, 'same' padding, constants of activations, running statistics."""

from __future__ import annotations

import cases
import numpy as np
import pytest
import reference
from convec import ops

START = np.array([0.5, -1.25, 2.0, -0.03125], dtype=np.float32)
GRADIENTS = np.array([[0.1, -0.7, 0.02, 3.0], [-0.25, 0.4, 0.0, -1.5], [0.6, -0.1, -0.3, 0.75]], dtype=np.float32)

# The variable START after three steps with GRADIENTS, for the settings of cases.OPTIMIZERS.
AFTER_THREE_STEPS = {
    "sgd": [0.495499998, -1.24599993, 2.00279999, -0.0537500009],
    "sgd-momentum": [0.496040046, -1.23763001, 2.00245786, -0.09155],
    "sgd-nesterov": [0.459680021, -1.174335, 2.02506113, -0.415100038],
    "sgd-decay": [0.49634999, -1.24762547, 2.00220013, -0.0362401269],
    "adam": [0.498999268, -1.248546, 1.9989332, -0.032856755],
    "adam-settings": [0.490769833, -1.23662388, 1.99566948, -0.0463599823],
    "adam-amsgrad": [0.498999268, -1.248546, 1.99893355, -0.032856755],
    "adamw": [0.498993278, -1.24853098, 1.99890924, -0.0328563713],
    "adamw-decay": [0.488509744, -1.2317363, 1.98336458, -0.0472012311],
    "rmsprop": [0.496881783, -1.2480433, 1.99999821, -0.0336924903],
    "rmsprop-momentum": [0.492489368, -1.24258399, 1.99357831, -0.0395073369],
    "rmsprop-centered": [0.496691018, -1.24787581, 1.99997878, -0.0338663124],
    "rmsprop-centered-momentum": [0.495967001, -1.2462002, 2.00028634, -0.0356236286],
    "adadelta": [0.499997973, -1.24999928, 2.00000048, -0.0312509984],
    "adadelta-one": [0.4954575, -1.24848068, 2.00120211, -0.0334802158],
}


@pytest.mark.parametrize("name", AFTER_THREE_STEPS)
def test_optimizers(name: str, isa: str) -> None:
    optimizer, settings = cases.OPTIMIZERS[name]
    parameter = START.copy()
    slots = [np.zeros_like(START) for _ in range(ops.optimizer_slot_count(optimizer, **settings))]
    for iteration, gradient in enumerate(GRADIENTS, start=1):
        ops.optimizer_step(optimizer, parameter, gradient, slots, iteration=iteration, **settings)
    # Two units in the last place of the parameters: Keras takes the powers of the betas in float32.
    np.testing.assert_allclose(parameter, AFTER_THREE_STEPS[name], rtol=0, atol=2.4e-7)


LOGITS = np.array([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]], dtype=np.float32)
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]], dtype=np.float32)
CLASSES = np.array([0, 1])
ONE_HOT = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)


def test_losses(isa: str) -> None:
    near = {"rtol": 2e-6}
    loss = ops.softmax_cross_entropy
    np.testing.assert_allclose(loss(LOGITS, CLASSES), [0.241311327, 2.90960145], **near)
    np.testing.assert_allclose(loss(PROBABILITIES, CLASSES, from_logits=False), [0.356674969, 0.693147182], **near)
    smoothed = loss(LOGITS, ONE_HOT, label_smoothing=0.1)
    np.testing.assert_allclose(smoothed, [0.391311347, 2.81960154], **near)
    smoothed = loss(PROBABILITIES, ONE_HOT, from_logits=False, label_smoothing=0.1)
    np.testing.assert_allclose(smoothed, [0.463297427, 0.754233241], **near)
    doubled = loss(PROBABILITIES * 2, ONE_HOT, from_logits=False)
    np.testing.assert_allclose(doubled, [0.356674969, 0.693147182], **near)
    loss = ops.pointwise_loss
    binary = loss("binary_crossentropy", PROBABILITIES, ONE_HOT, label_smoothing=0.1)
    np.testing.assert_allclose(binary, [0.302239984, 0.479822606], **near)
    binary = loss("binary_crossentropy", LOGITS, ONE_HOT, from_logits=True)
    np.testing.assert_allclose(binary, [0.471422225, 1.46370757], **near)
    np.testing.assert_allclose(loss("mean_squared_error", LOGITS, ONE_HOT), [0.75, 3.21666646], **near)
    np.testing.assert_allclose(loss("mean_absolute_error", LOGITS, ONE_HOT), [0.833333313, 1.30000007], **near)
    np.testing.assert_allclose(loss("huber", LOGITS, ONE_HOT), [0.375, 0.941666663], **near)


def test_metrics(isa: str) -> None:
    predictions = np.array([[0.1, 0.1, 0.3], [0.2, 0.2, 0.2], [0.5, 0.4, 0.1]], dtype=np.float32)
    labels = np.array([0, 1, 2])
    name = "sparse_top_k_categorical_accuracy"
    np.testing.assert_array_equal(ops.metric(name, predictions, labels, k=1), [0, 1, 0])
    np.testing.assert_array_equal(ops.metric(name, predictions, labels, k=2), [1, 1, 0])
    scores = np.array([[0.5, 0.6, 0.1], [0.2, 0.9, 0.7]], dtype=np.float32)
    np.testing.assert_allclose(ops.metric("binary_accuracy", scores, ONE_HOT), [1 / 3, 2 / 3], rtol=1e-7)


ACTIVATED = {
    "relu6": [0, 0, 0, 0.699999988, 4, 6],
    "leaky_relu": [-0.600000024, -0.100000001, 0, 0.699999988, 4, 7],
    "elu": [-0.950212955, -0.393469334, 0, 0.699999988, 4, 7],
    "selu": [-1.6705687, -0.691758156, 0, 0.73549068, 4.20280409, 7.35490704],
    "gelu": [-0.00404969556, -0.154268771, 0, 0.530625403, 3.9998734, 7],
    "silu": [-0.142277628, -0.188770339, 0, 0.467731446, 3.92805505, 6.99362278],
    "softplus": [0.048587352, 0.474076986, 0.693147182, 1.10318601, 4.01814985, 7.00091171],
}


@pytest.mark.parametrize("name", ACTIVATED)
def test_activations(name: str, isa: str) -> None:
    x = np.array([-3, -0.5, 0, 0.7, 4, 7], dtype=np.float32)
    # gelu(-3) is 0.00405 by a difference of nearly equal numbers in Keras: good to 1e-7 of 3.
    np.testing.assert_allclose(ops.activation(x, name), ACTIVATED[name], rtol=5e-7, atol=4e-7)


def test_same_padding(isa: str) -> None:
    x = np.arange(40, dtype=np.float32).reshape(1, 5, 4, 2)
    average = ops.average_pool2d(x, (2, 3), (2, 2), "same")
    np.testing.assert_array_equal(average.ravel(), [6, 7, 9, 10, 22, 23, 25, 26, 34, 35, 37, 38])
    largest = ops.max_pool2d(x, (2, 3), (2, 2), "same")
    np.testing.assert_array_equal(largest.ravel(), [12, 13, 14, 15, 28, 29, 30, 31, 36, 37, 38, 39])
    filters = (np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1) - 5) / 10
    convolved = ops.conv2d(x / 10, filters, strides=2, padding="same")
    np.testing.assert_allclose(convolved.ravel(), [2.18, 0.68, 3.14, 0.04, -5, -5.2], rtol=0, atol=3e-6)


def test_batch_norm(isa: str) -> None:
    x = np.array([[1, 2], [3, 8], [5, 2]], dtype=np.float32)
    mean, variance = np.zeros(2, dtype=np.float32), np.ones(2, dtype=np.float32)
    output, *_ = ops.batch_norm_training(x, None, None, mean, variance)
    want = [[-1.22451520, -0.70706254], [0, 1.41412508], [1.22451544, -0.70706254]]
    np.testing.assert_allclose(output, want, rtol=0, atol=5e-7)
    np.testing.assert_allclose(mean, [0.03, 0.04], rtol=1e-6)
    np.testing.assert_allclose(variance, [1.01666665, 1.07], rtol=1e-6)


@pytest.mark.parametrize("name", cases.OPTIMIZERS)
def test_trajectories(name: str, isa: str) -> None:
    """A hundred steps against the rules in float64."""
    optimizer, settings = cases.OPTIMIZERS[name]
    settings = {key: value for key, value in settings.items() if key != "gradient_scale"}
    rng = np.random.default_rng(4)
    parameter = rng.standard_normal(37).astype(np.float32)
    slots = [np.zeros_like(parameter) for _ in range(ops.optimizer_slot_count(optimizer, **settings))]
    wide, wide_slots = parameter.astype(np.float64), [slot.astype(np.float64) for slot in slots]
    start = parameter.copy()
    for iteration in range(1, 101):
        gradient = (parameter + 0.3 * rng.standard_normal(37)).astype(np.float32)
        ops.optimizer_step(optimizer, parameter, gradient, slots, iteration=iteration, **settings)
        wide, *wide_slots = reference.optimizer_step(
            optimizer, wide, gradient.astype(np.float64), wide_slots, iteration=iteration, **settings
        )
    assert (parameter != start).all()
    # A hundred roundings of numbers up to 3, each at most 1.2e-7, and the error each leaves in the next gradient.
    np.testing.assert_allclose(parameter, wide, rtol=0, atol=2e-5 if optimizer != "adadelta" else 5e-5)


@pytest.mark.parametrize("optimizer", reference.OPTIMIZER_DEFAULTS)
def test_zero_gradients_leave_no_nan(optimizer: str, isa: str) -> None:
    parameter = np.ones(21, dtype=np.float32)
    slots = [np.zeros_like(parameter) for _ in range(ops.optimizer_slot_count(optimizer))]
    for iteration in range(1, 4):
        ops.optimizer_step(optimizer, parameter, np.zeros_like(parameter), slots, iteration=iteration)
    assert np.isfinite(parameter).all()
