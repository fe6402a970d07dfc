"""The compiled network: gradients against a float64 reference, fused and not, and its promises about threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import reference
from convec import _core

CLASSES = 5

# A gradient is a chain of sums of up to a few thousand products in float32, each relatively exact to about 1e-6
# (Winograd's transforms double that); the bound is relative to the array's largest element.
GRADIENT_TOLERANCE = 2e-5


def conv(filters: int, kernel: Any = 3, activation: str = "relu", **options: Any) -> dict[str, Any]:
    defaults = {"strides": 1, "padding": "valid", "dilation": 1, "groups": 1, "use_bias": True}
    return {
        "kind": "conv2d",
        "filters": filters,
        "kernel_size": kernel,
        "activation": activation,
        **defaults,
        **options,
    }


def pool(size: Any = 2, strides: Any = None, padding: Any = "valid", kind: str = "max_pool2d") -> dict[str, Any]:
    return {"kind": kind, "pool_size": size, "strides": size if strides is None else strides, "padding": padding}


def dense(units: int, activation: str = "linear", use_bias: bool = True) -> dict[str, Any]:
    return {"kind": "dense", "units": units, "activation": activation, "use_bias": use_bias}


FLATTEN = {"kind": "flatten"}
SOFTMAX = {"kind": "softmax"}
HEAD = [FLATTEN, dense(CLASSES), SOFTMAX]

# Each exercises another path of the executor: which one is said in the name.
NETWORKS: dict[str, tuple[tuple[int, int, int], int, list[dict[str, Any]]]] = {
    "one channel under windows": ((12, 11, 1), 3, [conv(19), pool(), *HEAD]),
    "one channel, same padding": ((9, 10, 1), 2, [conv(33, padding="same"), pool(), *HEAD]),
    "winograd": ((9, 9, 16), 3, [conv(16), pool(), *HEAD]),
    "winograd, odd channels, padding": ((8, 7, 21), 2, [conv(37, padding="same"), pool(), *HEAD]),
    "winograd, below another": ((11, 13, 2), 2, [conv(32), pool(), conv(17), pool(), *HEAD]),
    "winograd, no windows": ((12, 12, 16), 7, [conv(17), conv(16), *HEAD]),
    "three channels under windows": ((10, 9, 3), 2, [conv(6), pool(), *HEAD]),
    "windows of 3 x 2 under 5 x 1": ((13, 11, 4), 2, [conv(7, (5, 1)), pool((3, 2)), *HEAD]),
    "strided under windows": ((15, 14, 3), 2, [conv(8, 3, strides=2, padding="same"), pool(), *HEAD]),
    "without ReLU": ((9, 9, 16), 2, [conv(16, activation="linear"), pool(), conv(16, activation="linear"), *HEAD]),
    "without bias": (
        (8, 8, 16),
        2,
        [conv(18, use_bias=False), pool(), FLATTEN, dense(CLASSES, use_bias=False), SOFTMAX],
    ),
    "overlapping windows": ((9, 9, 5), 2, [conv(6), pool(3, 2), *HEAD]),
    "padded windows": ((7, 7, 5), 2, [conv(6), pool(2, 2, "same"), *HEAD]),
    "short rows, many images": ((5, 5, 8), 11, [conv(12), conv(9, 2), *HEAD]),
    "groups and dilation": ((9, 9, 4), 2, [conv(8, 3, groups=2), conv(6, 2, dilation=2, activation="tanh"), *HEAD]),
    "average pooling": ((8, 8, 3), 2, [conv(5, activation="elu"), pool(kind="average_pool2d", padding="same"), *HEAD]),
    "global pooling": ((7, 6, 3), 3, [conv(5), {"kind": "global_max_pool2d", "keepdims": False}, *HEAD[1:]]),
    "global average": ((7, 6, 3), 3, [conv(5), {"kind": "global_average_pool2d", "keepdims": True}, *HEAD]),
    "dense only": ((14, 1, 1), 7, [FLATTEN, dense(33, "relu"), dense(12, "gelu"), dense(CLASSES), SOFTMAX]),
    "rescaled": ((6, 6, 2), 2, [{"kind": "rescaling", "scale": 0.5, "offset": -1.0}, conv(4), *HEAD]),
}


@pytest.fixture(params=[True, False], ids=["winograd", "direct"])
def winograd(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = _core.winograd()
    _core.set_winograd(request.param)
    yield request.param
    _core.set_winograd(before)


def build(name: str, seed: int = 3) -> tuple[Any, np.ndarray, np.ndarray]:
    shape, batch, layers = NETWORKS[name]
    rng = np.random.default_rng(11)
    network = _core.Network(layers, shape, seed)
    for index, info in enumerate(network.parameters()):
        if info["name"] == "bias":  # not the zeros they start with
            network.set_parameter(index, rng.standard_normal(info["shape"], dtype=np.float32) * 0.1)
    x = rng.standard_normal((batch, *shape), dtype=np.float32)
    y = rng.integers(0, CLASSES, batch)
    return network, x, y


def compile_for_gradients(network: Any) -> None:
    # With momentum, the state after one step from zero is -learning_rate * gradient: the gradient itself, unrounded.
    network.compile(
        {"kind": "sparse_categorical_crossentropy"}, {"kind": "sgd", "learning_rate": 1.0, "momentum": 0.5}, []
    )


def reference_gradients(name: str, network: Any, x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Loss and the gradient of every parameter, in float64, layer by layer."""
    _, _, layers = NETWORKS[name]
    parameters = {
        (info["layer"], info["name"]): network.get_parameter(i).astype(np.float64)
        for i, info in enumerate(network.parameters())
    }
    value = x.astype(np.float64)
    steps: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []  # layer, its input, its linear output
    for index, layer in enumerate(layers):
        kind, before = layer["kind"], value
        if kind == "conv2d":
            geometry = {key: layer[key] for key in ("strides", "padding", "dilation", "groups")}
            linear = reference.conv2d(value, parameters[index, "kernel"], parameters.get((index, "bias")), **geometry)
            value = reference.activation(linear, layer["activation"])
        elif kind == "dense":
            linear = reference.dense(value, parameters[index, "kernel"], parameters.get((index, "bias")))
            value = reference.activation(linear, layer["activation"])
        elif kind == "flatten":
            linear = value = value.reshape(len(value), -1)
        elif kind == "rescaling":
            linear = value = value * layer["scale"] + layer["offset"]
        elif kind.startswith("global"):
            linear = value = getattr(reference, kind)(value)
            if layer["keepdims"]:
                value = value[:, None, None, :]
        elif kind == "softmax":
            linear = value  # the loss takes the logits
        else:
            linear = value = getattr(reference, kind)(
                value, layer["pool_size"], layer["strides"], padding=layer["padding"]
            )
        steps.append((layer, before, linear))
    loss = reference.softmax_cross_entropy(value, y).mean()
    gradient = reference.softmax_cross_entropy_backward(np.full(len(y), 1.0 / len(y)), value, y)
    gradients: dict[tuple[int, str], np.ndarray] = {}
    for index in reversed(range(len(layers))):
        layer, before, linear = steps[index]
        kind = layer["kind"]
        if kind in ("conv2d", "dense"):
            gradient = reference.activation_backward(gradient, linear, layer["activation"])
        if kind == "conv2d":
            geometry = {key: layer[key] for key in ("strides", "padding", "dilation", "groups")}
            kernel = parameters[index, "kernel"]
            gradients[index, "kernel"], gradients[index, "bias"] = reference.conv2d_backward_filters(
                before, gradient, kernel.shape[:2], **geometry
            )
            gradient = reference.conv2d_backward_input(gradient, kernel, before.shape, **geometry)
        elif kind == "dense":
            gradients[index, "kernel"] = before.T @ gradient
            gradients[index, "bias"] = gradient.sum(axis=0)
            gradient = gradient @ parameters[index, "kernel"].T
        elif kind == "flatten":
            gradient = gradient.reshape(before.shape)
        elif kind == "rescaling":
            gradient = gradient * layer["scale"]
        elif kind == "global_max_pool2d":
            gradient = reference.global_max_pool2d_backward(gradient.reshape(len(before), -1), before)
        elif kind == "global_average_pool2d":
            gradient = reference.global_average_pool2d_backward(gradient.reshape(len(before), -1), before.shape)
        elif kind == "max_pool2d":
            gradient = reference.max_pool2d_backward(
                gradient, before, layer["pool_size"], layer["strides"], padding=layer["padding"]
            )
        elif kind == "average_pool2d":
            gradient = reference.average_pool2d_backward(
                gradient, before.shape, layer["pool_size"], layer["strides"], padding=layer["padding"]
            )
    return loss, [gradients[info["layer"], info["name"]] for info in network.parameters()]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name: str, isa: str, winograd: bool) -> None:
    network, x, y = build(name)
    loss, expected = reference_gradients(name, network, x, y)
    compile_for_gradients(network)
    totals = network.train_batch(x, y)
    assert totals["loss"] == pytest.approx(loss, rel=1e-5)
    for index, gradient in enumerate(expected):
        (state,) = network.get_optimizer_slots(index)
        error = np.abs(-state - gradient).max() / np.abs(gradient).max()
        assert error < GRADIENT_TOLERANCE, network.parameters()[index]


@pytest.mark.parametrize("name", NETWORKS)
def test_training_and_inference_agree(name: str, isa: str, winograd: bool) -> None:
    """Inference keeps weights in a layout of its own; a change of weights, level or algorithm must remake it."""
    network, x, y = build(name)
    compile_for_gradients(network)
    before = network.predict(x, batch_size=len(x))
    loss = network.test_batch(x, y)["loss"]
    assert loss == pytest.approx(-np.log(before[np.arange(len(y)), y]).mean(), rel=1e-4)
    assert network.train_batch(x, y)["loss"] == pytest.approx(loss, rel=1e-6)
    after = network.predict(x, batch_size=len(x))
    assert not np.array_equal(before, after)
    fresh, _, _ = build(name)
    for index in range(len(network.parameters())):
        fresh.set_parameter(index, network.get_parameter(index))
    np.testing.assert_array_equal(fresh.predict(x, batch_size=len(x)), after)


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_splits_do_not_matter_to_predictions(name: str) -> None:
    network, x, _ = build(name)
    whole = network.predict(x, batch_size=len(x))
    # Another batch size may choose other tiles; each output is still the same sum in float32.
    np.testing.assert_allclose(network.predict(x, batch_size=1), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_bitwise_independent_of_threads(name: str, threads: None) -> None:
    results = []
    for count in (1, 2, 3, 5):
        _core.set_num_threads(count)
        network, x, y = build(name)
        network.compile({"kind": "sparse_categorical_crossentropy"}, {"kind": "adam"}, [])
        for _ in range(3):
            network.train_batch(x, y)
        results.append([network.get_parameter(i) for i in range(len(network.parameters()))])
    for other in results[1:]:
        for first, again in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(first, again)


def test_dropout_and_batch_norm_repeat_for_a_seed(threads: None) -> None:
    layers = [
        conv(8), {"kind": "batch_norm"}, {"kind": "dropout", "rate": 0.4}, FLATTEN, dense(CLASSES), SOFTMAX,
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((13, 9, 9, 2), dtype=np.float32), rng.integers(0, CLASSES, 13)

    def run(seed: int, count: int) -> tuple[float, np.ndarray]:
        _core.set_num_threads(count)
        network = _core.Network(layers, (9, 9, 2), 5)
        network.set_seed(seed)
        network.compile({"kind": "sparse_categorical_crossentropy"}, {"kind": "sgd"}, [])
        totals = network.train_epoch(x, y, batch_size=4)
        return totals["loss"], network.predict(x, batch_size=4)

    first_loss, first = run(1, 1)
    again_loss, again = run(1, 3)
    other_loss, _ = run(2, 1)
    assert first_loss == again_loss
    np.testing.assert_array_equal(first, again)
    assert other_loss != first_loss


def test_predicts_from_many_threads() -> None:
    network, x, _ = build("winograd, below another")
    expected = network.predict(x, batch_size=2)
    failures = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(network.predict(x, batch_size=2), expected):
                failures.append("predictions differ")

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_frozen_layer_stays(isa: str) -> None:
    network, x, y = build("winograd, below another")
    compile_for_gradients(network)
    network.set_trainable(0, False)
    before = [network.get_parameter(i) for i in range(len(network.parameters()))]
    network.train_batch(x, y)
    for index, info in enumerate(network.parameters()):
        same = np.array_equal(before[index], network.get_parameter(index))
        assert same == (info["layer"] == 0), info


def test_names_the_layer_a_nan_came_from() -> None:
    network, x, _ = build("winograd, below another")
    assert network.first_nonfinite_layer(x) == -1
    kernel = network.get_parameter(2)
    kernel[0, 0, 0, 0] = np.nan
    network.set_parameter(2, kernel)
    assert network.first_nonfinite_layer(x) == 2


def test_uint8_images_are_numbers() -> None:
    layers = [conv(4), FLATTEN, dense(3), SOFTMAX]
    network = _core.Network(layers, (6, 6, 1), 0)
    x = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 1), dtype=np.uint8)
    np.testing.assert_array_equal(network.predict(x, batch_size=2), network.predict(x.astype(np.float32), batch_size=2))


def test_progress_may_stop_an_epoch() -> None:
    network, x, y = build("dense only")
    compile_for_gradients(network)

    def progress(totals: dict[str, Any]) -> None:
        if totals["batches"] == 2:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        network.train_epoch(x, y, batch_size=1, progress=progress, progress_interval=0)
    assert network.iterations == 2
    network.train_epoch(x, y, batch_size=2)
    assert network.iterations == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((7, 14, 1), np.float32)}, "inputs has shape"),
        ({"x": np.zeros((7, 14, 1, 1), np.float64)}, "float32 or uint8"),
        ({"y": np.full(7, CLASSES)}, r"targets\[0\]"),
        ({"y": np.array([0, 1, 2, -1, 0, 0, 0])}, r"targets\[3\]"),
        ({"y": np.zeros(6, np.int64)}, "same length"),
        ({"y": np.zeros((7, CLASSES), np.float32)}, "class numbers"),
        ({"sample_weight": np.ones(3, np.float32)}, "sample_weights"),
        ({"batch_size": 0}, "batch_size"),
        ({"order": np.array([0, 7])}, r"order\[1\]"),
        ({"x": np.zeros((0, 14, 1, 1), np.float32), "y": np.zeros(0, np.int64)}, "empty"),
    ],
)
def test_bad_data_changes_nothing(change: dict[str, Any], message: str) -> None:
    network, x, y = build("dense only")
    compile_for_gradients(network)
    before = [network.get_parameter(i) for i in range(len(network.parameters()))]
    arguments = {"x": x, "y": y, "batch_size": 2, **change}
    with pytest.raises((ValueError, TypeError), match=message):
        network.train_epoch(**arguments)
    assert network.iterations == 0
    for index, value in enumerate(before):
        np.testing.assert_array_equal(network.get_parameter(index), value)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one layer"),
        ([conv(4, 9)], r"layer 0 \(conv2d\).*below 1"),
        ([conv(0)], "filters is 0"),
        ([FLATTEN, conv(4)], r"layer 1 \(conv2d\).*must be an image"),
        ([conv(4, groups=3)], "groups is 3"),
        ([conv(4), pool(9)], r"layer 1 \(max_pool2d\)"),
        ([dense(1 << 40)], "units"),
        ([{"kind": "dropout", "rate": 1.0}], "rate"),
        ([{"kind": "mystery"}], "not a layer"),
        ([{**dense(3), "colour": 1}], "not known"),
    ],
)
def test_bad_layers_are_named(layers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Network(layers, (8, 8, 2), 0)
