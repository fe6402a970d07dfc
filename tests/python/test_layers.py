"""Every layer by itself: what it computes, its weights, its configuration and what it refuses."""

from __future__ import annotations

from typing import Any

import convec
import numpy as np
import pytest
import reference
from convec import activations, backend, layers
from convec.models import Sequential

SHAPE = (7, 6, 4)
X = np.random.default_rng(0).standard_normal((5, *SHAPE), dtype=np.float32)


def one(layer: layers.Layer, shape: tuple[int, ...] = SHAPE) -> Sequential:
    return Sequential([layers.Input(shape), layer])


def randomise(model: Sequential) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    # Positive, so that they do as variances too.
    weights = [rng.uniform(0.1, 1.0, value.shape).astype(np.float32) for value in model.get_weights()]
    model.set_weights(weights)
    return [value.astype(np.float64) for value in weights]


def conv2d(w: list[np.ndarray], **geometry: Any) -> np.ndarray:
    return reference.conv2d(X, w[0], w[1] if len(w) > 1 else None, **geometry)


def batch_norm(x: np.ndarray, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float) -> np.ndarray:
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


X64 = X.astype(np.float64)

# The layer, and what it makes of X with the weights w.
COMPUTED: dict[str, tuple[Any, Any]] = {
    "conv2d": (lambda: layers.Conv2D(3, 3), lambda w: conv2d(w)),
    "conv2d, pixels": (
        lambda: layers.Conv2D(3, (3, 2), padding=((1, 0), [2, 1])),
        lambda w: conv2d(w, padding=((1, 0), (2, 1))),
    ),
    "conv2d, same": (lambda: layers.Conv2D(3, (3, 2), padding="SAME"), lambda w: conv2d(w, padding="same")),
    "conv2d, strides": (lambda: layers.Conv2D(3, 2, strides=[2, 1]), lambda w: conv2d(w, strides=(2, 1))),
    "conv2d, dilation": (lambda: layers.Conv2D(3, 2, dilation_rate=2), lambda w: conv2d(w, dilation=2)),
    "conv2d, groups": (lambda: layers.Conv2D(6, 3, groups=2), lambda w: conv2d(w, groups=2)),
    "conv2d, no bias": (lambda: layers.Conv2D(3, 3, use_bias=False), lambda w: conv2d(w)),
    "conv2d, softmax": (lambda: layers.Conv2D(3, 3, activation="softmax"), lambda w: reference.softmax(conv2d(w))),
    "max": (lambda: layers.MaxPooling2D(), lambda w: reference.max_pool2d(X64, 2, 2, padding="valid")),
    "max, same": (
        lambda: layers.MaxPool2D(3, strides=2, padding="same"),
        lambda w: reference.max_pool2d(X64, 3, 2, padding="same"),
    ),
    "average, same": (
        lambda: layers.AvgPool2D((2, 3), padding="same"),
        lambda w: reference.average_pool2d(X64, (2, 3), (2, 3), padding="same"),
    ),
    "global max": (lambda: layers.GlobalMaxPool2D(), lambda w: X64.max(axis=(1, 2))),
    "global average": (
        lambda: layers.GlobalAvgPool2D(keepdims=True),
        lambda w: X64.mean(axis=(1, 2), keepdims=True),
    ),
    "flatten": (lambda: layers.Flatten(), lambda w: X64.reshape(5, -1)),
    "dense": (lambda: layers.Dense(3), lambda w: X64 @ w[0] + w[1]),
    "dense, no bias": (lambda: layers.Dense(3, "tanh", use_bias=False), lambda w: np.tanh(X64 @ w[0])),
    "dropout": (lambda: layers.Dropout(0.5), lambda w: X64),
    "rescaling": (lambda: layers.Rescaling(1 / 127.5, offset=-1), lambda w: X64 / 127.5 - 1),
    "rescaling down": (lambda: layers.Rescaling(-2.0), lambda w: -2 * X64),
    "relu": (lambda: layers.ReLU(), lambda w: np.maximum(X64, 0)),
    "relu6": (lambda: layers.ReLU(max_value=6.0), lambda w: np.clip(X64, 0, 6)),
    "softmax": (lambda: layers.Softmax(), lambda w: reference.softmax(X64)),
    "batch norm": (lambda: layers.BatchNormalization(epsilon=0.01), lambda w: batch_norm(X64, *w, 0.01)),
    "batch norm, its axis": (lambda: layers.BatchNormalization(axis=3), lambda w: batch_norm(X64, *w, 1e-3)),
    "batch norm, no centre": (
        lambda: layers.BatchNormalization(center=False),
        lambda w: batch_norm(X64, w[0], 0, w[1], w[2], 1e-3),
    ),
    "batch norm, no scale": (
        lambda: layers.BatchNormalization(scale=False),
        lambda w: batch_norm(X64, 1, *w, 1e-3),
    ),
    **{
        f"activation {name}": (
            lambda name=name: layers.Activation(name),
            lambda w, name=name: reference.softmax(X64) if name == "softmax" else reference.activation(X64, name),
        )
        for name in (
            "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "softplus",
            "softmax",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_values_and_shapes(name: str) -> None:
    make, expected = COMPUTED[name]
    layer = make()
    model = one(layer)
    wanted = expected(randomise(model))
    # Sums of at most 36 products of numbers near 1.
    np.testing.assert_allclose(model.predict(X, verbose=0), wanted, rtol=1e-5, atol=1e-5)
    assert layer.output_shape == model.output_shape == (None, *wanted.shape[1:])
    assert layer.input_shape == model.input_shape == (None, *SHAPE)


@pytest.mark.parametrize("name", COMPUTED)
def test_configurations_make_the_same_layer(name: str) -> None:
    layer = COMPUTED[name][0]()
    model = one(layer)
    again = type(layer).from_config(layer.get_config())
    twin = one(again)
    randomise(model)
    twin.set_weights(model.get_weights())
    assert again.name == layer.name
    assert set(again.get_config()) == set(layer.get_config())
    np.testing.assert_array_equal(twin.predict(X, verbose=0), model.predict(X, verbose=0))


def test_functions_are_activations_too() -> None:
    for name in activations.__all__:
        if name == "get":
            continue
        function = getattr(activations, name)
        model = one(layers.Activation(function))
        np.testing.assert_array_equal(model.predict(X, verbose=0), function(X))
        assert activations.get(function) == activations.get(name)
    assert activations.get(None) == "linear"
    with pytest.raises(ValueError, match="activation is 'mish'"):
        layers.Dense(3, activation="mish")


# ---- Weights ----


def test_weights_are_named_shaped_and_copied() -> None:
    layer = layers.Conv2D(3, 2)
    assert layer.get_weights() == []
    assert not layer.built
    with pytest.raises(ValueError, match="is not built"):
        layer.count_params()
    with pytest.raises(AttributeError, match="no shape yet"):
        _ = layer.output_shape
    one(layer)
    assert layer.built
    assert layer.weight_names == ["kernel", "bias"]
    assert [value.shape for value in layer.weights] == [(2, 2, 4, 3), (3,)]
    assert layer.count_params() == 51
    layer.get_weights()[0][:] = 5
    assert not (layer.kernel == 5).any()
    assert layer.bias is not None
    assert not layer.bias.any()
    assert layers.Dense(3, use_bias=False).bias is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([], "has 2 weight arrays, but 0 were given"),
        ([np.zeros((4, 3)), np.zeros(4)], r"weights\[1\] of layer '.*' has shape \(4,\), but must be \(3,\)"),
        ([np.zeros((3, 4)), np.zeros(3)], r"weights\[0\]"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(weights: list[np.ndarray], message: str) -> None:
    layer = layers.Dense(3)
    one(layer)
    before = layer.get_weights()
    with pytest.raises(ValueError, match=message):
        layer.set_weights(weights)
    for first, second in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_trainable_weights_and_counts() -> None:
    layer = layers.BatchNormalization()
    one(layer)
    assert layer.parameter_counts() == (8, 8)
    assert [value.shape for value in layer.trainable_weights] == [(4,), (4,)]
    assert len(layer.non_trainable_weights) == 2
    layer.trainable = False
    assert layer.parameter_counts() == (0, 16)
    assert layer.trainable_weights == []


def test_initializers_give_the_first_weights() -> None:
    layer = layers.Dense(
        3, kernel_initializer=convec.initializers.Constant(2.0), bias_initializer="ones"
    )  # an object and a name
    one(layer)
    assert (layer.kernel == 2).all()
    assert (layer.bias == 1).all()
    norm = layers.BatchNormalization(
        beta_initializer="ones",
        gamma_initializer=convec.initializers.Constant(3.0),
        moving_mean_initializer=convec.initializers.Constant(4.0),
        moving_variance_initializer=convec.initializers.Constant(5.0),
    )
    one(norm)
    assert [float(value[0]) for value in norm.get_weights()] == [3, 1, 4, 5]


# ---- Training forms ----


def test_batch_norm_follows_the_batches() -> None:
    layer = layers.BatchNormalization(momentum=0.9)
    model = Sequential([layers.Input(SHAPE), layer, layers.Flatten(), layers.Dense(2, activation="softmax")])
    model.compile(convec.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    model.train_on_batch(X, np.zeros(5))
    mean, variance = X64.mean(axis=(0, 1, 2)), X64.var(axis=(0, 1, 2))
    np.testing.assert_allclose(layer.get_weights()[2], 0.1 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.get_weights()[3], 0.9 + 0.1 * variance, rtol=1e-5)


def trained_through(dropout: layers.Dropout, steps: int = 1) -> np.ndarray:
    """The kernel of a dense layer of ones behind the dropout: its gradient is the mask's share of the input."""
    dense = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = Sequential([layers.Input((20000,)), dropout, dense])
    model.compile("sgd", "mse")
    for _ in range(steps):
        dense.set_weights([np.zeros((20000, 1))])
        model.train_on_batch(np.ones((1, 20000), np.float32), np.ones((1, 1)))
    return dense.kernel[:, 0]


def test_dropout_keeps_the_mean() -> None:
    kernel = trained_through(layers.Dropout(0.3))
    dropped = kernel == 0
    assert dropped.mean() == pytest.approx(0.3, abs=0.02)  # six standard deviations of 20,000 draws
    # The gradient of (1 - p)^2 at p = 0 is -2, the learning rate 0.01, the others are scaled by 1 / 0.7.
    np.testing.assert_allclose(kernel[~dropped], 0.02 / 0.7, rtol=1e-5)


def test_dropout_has_a_seed_of_its_own() -> None:
    convec.utils.set_random_seed(0)
    first, unseeded = trained_through(layers.Dropout(0.5, seed=4)), trained_through(layers.Dropout(0.5))
    convec.utils.set_random_seed(1)
    again, other = trained_through(layers.Dropout(0.5, seed=4)), trained_through(layers.Dropout(0.5))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(unseeded, other)
    assert not np.array_equal(first, trained_through(layers.Dropout(0.5, seed=5)))
    assert not np.array_equal(first, trained_through(layers.Dropout(0.5, seed=4), steps=2))


# ---- Names and arguments ----


def test_names_count_up() -> None:
    backend.clear_session()
    made = [layers.Conv2D(1, 1), layers.Conv2D(1, 1), layers.MaxPooling2D(), layers.GlobalAveragePooling2D()]
    assert [layer.name for layer in made] == [
        "conv2d", "conv2d_1", "max_pooling2d", "global_average_pooling2d",
    ]  # fmt: skip
    assert layers.Dense(1, name="head").name == "head"
    assert repr(made[0]) == "<Conv2D name=conv2d, built=False>"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Conv2D(0, 3), ValueError, "filters is 0"),
        (lambda: layers.Conv2D(-2, 3), ValueError, "filters is -2"),
        (lambda: layers.Conv2D(2.5, 3), TypeError, "filters is 2.5"),
        (lambda: layers.Conv2D(float("nan"), 3), TypeError, "filters is nan"),
        (lambda: layers.Conv2D(True, 3), TypeError, "filters is True"),
        (lambda: layers.Conv2D(2, (3, 3, 3)), ValueError, "kernel_size is"),
        (lambda: layers.Conv2D(2, 3, strides=0), ValueError, "strides is 0"),
        (lambda: layers.Conv2D(2, 3, dilation_rate=-1), ValueError, "dilation_rate is -1"),
        (lambda: layers.Conv2D(2, 3, padding="full"), ValueError, "padding is 'full'"),
        (lambda: layers.Conv2D(2, 3, padding=1), ValueError, "padding is 1"),
        (lambda: layers.Conv2D(2, 3, padding=((1, 1), (1, -1))), ValueError, "padding is .*pixels"),
        (lambda: layers.MaxPooling2D(2, padding=((1, 1), 1)), ValueError, "padding is .*pixels"),
        (lambda: layers.Conv2D(3, 3, groups=2), ValueError, "groups=2"),
        (lambda: layers.Conv2D(3, 3, data_format="channels_first"), ValueError, "data_format is 'channels_first'"),
        (lambda: layers.Conv2D(3, 3, colour=1), TypeError, "Conv2D has no argument 'colour'"),
        (lambda: layers.Conv2D(3, 3, kernel_regularizer="l2"), ValueError, "kernel_regularizer is 'l2'"),
        (lambda: layers.Conv2D(3, 3, dtype="float16"), ValueError, "dtype is 'float16'"),
        (lambda: layers.Dense(None), TypeError, "units is None"),
        (lambda: layers.Dense(3, kernel_initializer="magic"), ValueError, "initializer is 'magic'"),
        (lambda: layers.MaxPooling2D(0), ValueError, "pool_size is 0"),
        (lambda: layers.MaxPooling2D(2, strides=-1), ValueError, "strides is -1"),
        (lambda: layers.Dropout(1.0), ValueError, "rate is 1.0"),
        (lambda: layers.Dropout(float("nan")), ValueError, "rate is nan"),
        (lambda: layers.Dropout(0.5, noise_shape=(1,)), ValueError, "noise_shape"),
        (lambda: layers.Dropout(0.5, seed=-1), ValueError, "seed is -1"),
        (lambda: layers.ReLU(negative_slope=0.1), ValueError, "negative_slope=0.1"),
        (lambda: layers.BatchNormalization(momentum=2), ValueError, "momentum is 2"),
        (lambda: layers.BatchNormalization(epsilon=0), ValueError, "epsilon is 0"),
        (lambda: one(layers.BatchNormalization(axis=1)), ValueError, "axis 1, but must have -1, the last, or its"),
        (lambda: one(layers.Softmax(axis=0)), ValueError, "axis 0"),
        (lambda: layers.Input(), ValueError, "Input needs a shape"),
        (lambda: layers.Input((None, 28)), ValueError, "every extent must be known"),
        (lambda: layers.Input((28, -1)), ValueError, "must be at least 1"),
        (lambda: layers.Input((28.5,)), TypeError, "must be an integer"),
        (lambda: layers.Input((28,), sparse=True), ValueError, "sparse is True"),
        (lambda: layers.Input((28,), dtype="int32"), ValueError, "dtype is 'int32'"),
        (lambda: one(layers.Layer()), TypeError, "no compiled kernel for a layer of your own"),
        (lambda: backend.set_image_data_format("channels_first"), ValueError, "transpose images"),
        (lambda: backend.set_floatx("float64"), ValueError, "computes in 'float32' only"),
    ],
)
def test_arguments_are_checked(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("stack", "shape", "message"),
    [
        ([layers.Conv2D(2, 9)], (8, 8, 1), r"layer 'conv2d.*below 1"),
        ([layers.MaxPooling2D(9)], (8, 8, 1), "layer 'max_pooling2d"),
        ([layers.Conv2D(3, 3, groups=3)], (8, 8, 2), "groups"),
        ([layers.Flatten(), layers.Conv2D(2, 3)], (8, 8, 1), r"layer 'conv2d.*must be an image"),
        ([layers.Dense(2**31)], (8,), "units"),
        ([layers.Flatten(), layers.Dense(2**30)], (2**15, 2**15), "too large"),
        ([layers.Flatten()], (2**31,), "must be below 2"),
        ([layers.Flatten()], (2**30, 2**30, 2**30), "too large"),
    ],
)
def test_stacks_that_do_not_fit(stack: list[layers.Layer], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sequential([layers.Input(shape), *stack])


def test_backend() -> None:
    assert backend.image_data_format() == "channels_last"
    backend.set_image_data_format("channels_last")
    assert backend.floatx() == "float32"
    backend.set_floatx("float32")
    assert backend.epsilon() == 1e-7


def test_input_forms() -> None:
    for first in (
        layers.Input((28, 28, 1)),
        layers.Input(shape=[28, 28, 1], batch_size=32, dtype="float32", name="images"),
        layers.Input(batch_shape=(None, 28, 28, 1)),
        layers.InputLayer(shape=(28, 28, 1)),
        layers.InputLayer(input_shape=(28, 28, 1)),
        layers.InputLayer(batch_input_shape=(None, 28, 28, 1)),
    ):
        assert first.shape == (None, 28, 28, 1)
        assert Sequential([first, layers.Flatten()]).output_shape == (None, 784)
    for keyword in ({"input_shape": (8,)}, {"input_shape": 8}, {"input_dim": 8}, {"batch_input_shape": (None, 8)}):
        assert Sequential([layers.Dense(2, **keyword)]).input_shape == (None, 8)
