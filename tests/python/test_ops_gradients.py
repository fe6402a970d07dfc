"""The backward references against numerical gradients of the forward references, and the ops against both."""

# ruff: noqa: A002, A006 -- `input` is the word of the field

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
from convec import ops

Function = Callable[..., Any]


def numerical(function: Function, arrays: dict[str, np.ndarray], name: str, grad_output: np.ndarray) -> np.ndarray:
    """d sum(grad_output * function(arrays)) / d arrays[name] by central differences in float64."""
    step = 1e-6
    x = arrays[name]
    gradient = np.empty_like(x)
    for at in np.ndindex(x.shape):
        values = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * step
            values.append((grad_output * function(**(arrays | {name: moved}))).sum())
        gradient[at] = (values[0] - values[1]) / (2 * step)
    return gradient


def check(
    forward: Function, arrays: dict[str, np.ndarray], differentiated: tuple[str, ...], backward: Function, isa: str
) -> None:
    """`backward(module, arrays, grad_output)` gives the gradients with respect to the arrays named."""
    rng = np.random.default_rng(11)
    wide = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
    grad_output = rng.standard_normal(np.shape(forward(**wide))).astype(np.float32)
    wanted = [numerical(forward, wide, name, grad_output.astype(np.float64)) for name in differentiated]
    for module, inputs, grad, tolerance in (
        # Central differences of a float64 function of order 1 are good to about 1e-9 (the step squared) plus 1e-10
        # (rounding over the step).
        (reference, wide, grad_output.astype(np.float64), 1e-7),
        # float32 gradients are good to a few times 1e-7 of their peak.
        (ops, arrays, grad_output, 1e-5),
    ):
        results = backward(module, inputs, grad)
        results = results if isinstance(results, tuple) else (results,)
        assert len(results) == len(differentiated)
        for name, result, want in zip(differentiated, results, wanted, strict=True):
            np.testing.assert_allclose(
                result, want, rtol=tolerance, atol=tolerance * max(1, np.abs(want).max()),
                err_msg=f"gradient with respect to {name}, {module.__name__}, {isa}",
            )  # fmt: skip


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def distinct(*shape: int) -> np.ndarray:
    """Numbers at least 0.01 apart, so that the largest does not change within a step of the difference."""
    size = int(np.prod(shape))
    return (np.random.default_rng(2).permutation(size).reshape(shape) / 50 - size / 100).astype(np.float32)


CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 5, 2), (3, 3, 2, 3), {}),
    ((1, 5, 5, 3), (2, 4, 3, 2), {"padding": "same"}),
    ((1, 7, 6, 2), (3, 2, 2, 3), {"strides": (2, 3), "padding": "same"}),
    ((1, 7, 7, 2), (2, 2, 2, 2), {"dilation": (2, 3), "padding": ((1, 2), (0, 3))}),
    ((2, 4, 4, 4), (3, 3, 2, 6), {"groups": 2, "strides": 2, "padding": ((0, 1), (1, 1))}),
]


@pytest.mark.parametrize(("shape", "kernel", "options"), CONVOLUTIONS)
def test_conv2d(shape: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any], isa: str) -> None:
    arrays = {"input": normal(*shape), "filters": normal(*kernel, seed=1), "bias": normal(kernel[3], seed=2)}
    check(
        lambda input, filters, bias: reference.conv2d(input, filters, bias, **options), arrays,
        ("input", "filters", "bias"),
        lambda module, a, g: module.conv2d_backward(g, a["input"], a["filters"], **options), isa,
    )  # fmt: skip


def test_dense(isa: str) -> None:
    arrays = {"input": normal(3, 5), "weights": normal(5, 7), "bias": normal(7)}
    check(
        reference.dense, arrays, ("input", "weights", "bias"),
        lambda module, a, g: module.dense_backward(g, a["input"], a["weights"]), isa,
    )  # fmt: skip


POOLS: list[dict[str, Any]] = [
    {},
    {"pool_size": 3, "strides": 2},
    {"pool_size": (2, 3), "strides": 1, "padding": "same"},
    {"pool_size": 3, "strides": 2, "padding": ((1, 2), (2, 0))},
]


@pytest.mark.parametrize("options", POOLS)
def test_pool2d(options: dict[str, Any], isa: str) -> None:
    x = distinct(2, 5, 6, 3)
    check(
        lambda input: reference.max_pool2d(input, **options), {"input": x}, ("input",),
        lambda module, a, g: module.max_pool2d_backward(g, a["input"], **options), isa,
    )  # fmt: skip
    check(
        lambda input: reference.average_pool2d(input, **options), {"input": x}, ("input",),
        lambda module, a, g: module.average_pool2d_backward(g, x.shape, **options), isa,
    )  # fmt: skip


def test_global_pool2d(isa: str) -> None:
    x = distinct(2, 3, 4, 5)
    check(
        reference.global_max_pool2d, {"input": x}, ("input",),
        lambda module, a, g: module.global_max_pool2d_backward(g, a["input"]), isa,
    )  # fmt: skip
    check(
        reference.global_average_pool2d, {"input": x}, ("input",),
        lambda module, a, g: module.global_average_pool2d_backward(g, x.shape), isa,
    )  # fmt: skip


@pytest.mark.parametrize("name", reference.ACTIVATIONS)
def test_activation(name: str, isa: str) -> None:
    # None of these is near a corner of the piecewise functions.
    x = np.linspace(-4.03, 8.01, 41, dtype=np.float32)
    check(
        lambda input: reference.activation(input, name), {"input": x}, ("input",),
        lambda module, a, g: module.activation_backward(g, a["input"], name), isa,
    )  # fmt: skip
    if name == "relu":
        check(reference.relu, {"input": x}, ("input",), lambda module, a, g: module.relu_backward(g, a["input"]), isa)


def test_softmax(isa: str) -> None:
    check(
        reference.softmax, {"input": normal(3, 7)}, ("input",),
        lambda module, a, g: module.softmax_backward(g, module.softmax(a["input"])), isa,
    )  # fmt: skip


def test_dropout(isa: str) -> None:
    # The gradient of dropout is dropout of the gradient.
    options = {"rate": 0.4, "seed": 9, "offset": 2}
    check(
        lambda input: reference.dropout(input, **options), {"input": normal(3, 7)}, ("input",),
        lambda module, a, g: module.dropout(g, **options), isa,
    )  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("kind", ["classes", "one-hot", "soft", "unnormalised"])
def test_softmax_cross_entropy(kind: str, from_logits: bool, smoothing: float, isa: str) -> None:
    rows, classes = 5, 7
    labels = np.random.default_rng(3).integers(0, classes, rows)
    if kind != "classes":
        labels = np.eye(classes, dtype=np.float32)[labels]
    if kind in ("soft", "unnormalised"):
        labels = labels * np.float32(0.5) + np.abs(normal(rows, classes)) * np.float32(0.2)
    if kind == "soft":
        labels /= labels.sum(axis=1, keepdims=True)
    logits = normal(rows, classes) if from_logits else np.abs(normal(rows, classes)) * np.float32(0.3) + np.float32(0.1)
    options = {"from_logits": from_logits, "label_smoothing": smoothing}

    def labels_like(x: np.ndarray) -> np.ndarray:
        return labels if kind == "classes" else labels.astype(x.dtype)

    check(
        lambda logits: reference.softmax_cross_entropy(logits, labels_like(logits), **options),
        {"logits": logits},
        ("logits",),
        lambda module, a, g: module.softmax_cross_entropy_backward(g, a["logits"], labels_like(a["logits"]), **options),
        isa,
    )


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("binary_crossentropy", {}),
        ("binary_crossentropy", {"label_smoothing": 0.2}),
        ("binary_crossentropy", {"from_logits": True, "label_smoothing": 0.2}),
        ("mean_squared_error", {}),
        ("mean_absolute_error", {}),
        ("huber", {}),
    ],
)
def test_pointwise_loss(loss: str, options: dict[str, Any], isa: str) -> None:
    predictions = normal(4, 3, 3) * np.float32(1.5)
    if loss == "binary_crossentropy" and not options.get("from_logits"):
        predictions = np.random.default_rng(0).uniform(0.1, 0.9, (4, 3, 3)).astype(np.float32)
    targets = np.random.default_rng(1).integers(0, 2, (4, 3, 3)).astype(np.float32)
    check(
        lambda predictions: reference.pointwise_loss(loss, predictions, targets.astype(np.float64), **options),
        {"predictions": predictions}, ("predictions",),
        lambda module, a, g: module.pointwise_loss_backward(
            loss, g, a["predictions"], targets.astype(a["predictions"].dtype), **options
        ), isa,
    )  # fmt: skip


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(affine: bool, isa: str) -> None:
    arrays = {"input": normal(3, 2, 2, 5)}
    if affine:
        arrays |= {"gamma": normal(5, seed=4), "beta": normal(5, seed=5)}

    def forward(input, gamma=None, beta=None):
        return reference.batch_norm_training(input, gamma, beta, np.zeros(5), np.ones(5))[0]

    def backward(module, a, g):
        moving = np.zeros(5, dtype=a["input"].dtype), np.ones(5, dtype=a["input"].dtype)
        _, mean, inverse_std, *_ = module.batch_norm_training(a["input"], a.get("gamma"), a.get("beta"), *moving)
        gradients = module.batch_norm_backward(g, a["input"], a.get("gamma"), mean, inverse_std)
        return gradients if affine else gradients[0]

    check(forward, arrays, tuple(arrays), backward, isa)


# ---- Ties ----------------------------------------------------------------------------------------------------------


def test_ties_in_max_pooling_go_to_the_first(isa: str) -> None:
    x = np.ones((1, 4, 4, 21), dtype=np.float32)
    gradient = ops.max_pool2d_backward(np.ones((1, 2, 2, 21), dtype=np.float32), x)
    want = np.zeros((4, 4))
    want[::2, ::2] = 1
    np.testing.assert_array_equal(gradient[0], np.broadcast_to(want[..., None], (4, 4, 21)))


def test_ties_of_both_zeros_go_to_the_first(isa: str) -> None:
    # 0 and -0 are equal.
    x = np.array([-0.0, 0.0, 0.0, -0.0], dtype=np.float32).reshape(1, 2, 2, 1)
    gradient = ops.max_pool2d_backward(np.ones((1, 1, 1, 1), dtype=np.float32), x)
    np.testing.assert_array_equal(gradient.ravel(), [1, 0, 0, 0])


def test_ties_in_global_max_pooling_go_to_the_first(isa: str) -> None:
    x = np.zeros((2, 3, 3, 9), dtype=np.float32)
    x[:, 1, 1] = x[:, 2, 0] = 5
    gradient = ops.global_max_pool2d_backward(np.full((2, 9), 2, dtype=np.float32), x)
    want = np.zeros_like(x)
    want[:, 1, 1] = 2
    np.testing.assert_array_equal(gradient, want)
