"""What does not fit is refused at the door, with a message that names the argument and says how to mend it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from convec import _core, ops


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=np.float32)


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


X = f32(2, 6, 6, 3)
W = f32(3, 3, 3, 8)
HUGE = 2**31
# One element stands for an array of any shape, so that absurd shapes cost no memory.
VAST = np.broadcast_to(np.float32(1), (1, 2**20, 2**20, 2**10))

BAD: list[tuple[str, type[Exception], str, Callable[[], Any]]] = [
    # ---- ranks and shapes
    ("conv2d rank", ValueError, r"input has shape \(6, 6, 3\).*4 dimensions", lambda: ops.conv2d(f32(6, 6, 3), W)),
    ("conv2d filters rank", ValueError, r"filters has shape \(3, 3, 3\)", lambda: ops.conv2d(X, f32(3, 3, 3))),
    ("conv2d channels", ValueError, "input has 3 channels.*expect 4", lambda: ops.conv2d(X, f32(3, 3, 4, 8))),
    ("conv2d bias", ValueError, r"bias has shape \(7,\).*\(8,\)", lambda: ops.conv2d(X, W, f32(7))),
    ("conv2d groups", ValueError, "expect", lambda: ops.conv2d(X, W, groups=2)),
    ("conv2d groups of filters", ValueError, "groups=3 does not divide",
     lambda: ops.conv2d(X, f32(3, 3, 1, 8), groups=3)),
    ("conv2d output below 1", ValueError, "output height would be below 1.*padding='same'",
     lambda: ops.conv2d(f32(1, 2, 6, 3), W)),
    ("conv2d dilated output below 1", ValueError, "output width would be below 1",
     lambda: ops.conv2d(X, W, dilation=(1, 3))),
    ("conv2d empty image", ValueError, r"input.shape\[1\] is 0", lambda: ops.conv2d(f32(1, 0, 6, 3), W)),
    ("conv2d out shape", ValueError, r"output has shape \(2, 4, 4, 7\).*\(2, 4, 4, 8\)",
     lambda: ops.conv2d(X, W, out=f32(2, 4, 4, 7))),
    ("conv2d_backward_input grad", ValueError, "grad_output has shape",
     lambda: ops.conv2d_backward_input(f32(2, 4, 5, 8), W, X.shape)),
    ("conv2d_backward_filters grad", ValueError, "grad_output has shape",
     lambda: ops.conv2d_backward_filters(X, f32(2, 4, 5, 8), 3)),
    ("conv2d_backward_filters batch", ValueError, "grad_output has shape",
     lambda: ops.conv2d_backward_filters(X, f32(3, 4, 4, 8), 3)),
    ("conv2d_backward filters rank", ValueError, "filters has shape", lambda: ops.conv2d_backward(X, X, f32(3, 3))),
    ("dense rank", ValueError, "input has shape.*2 dimensions", lambda: ops.dense(f32(2, 3, 4), f32(4, 5))),
    ("dense weights", ValueError, r"input has shape \(2, 3\)", lambda: ops.dense(f32(2, 3), f32(4, 5))),
    ("dense bias", ValueError, r"bias has shape \(4,\)", lambda: ops.dense(f32(2, 3), f32(3, 5), f32(4))),
    ("dense_backward_weights batch", ValueError, "grad_output has shape",
     lambda: ops.dense_backward_weights(f32(2, 3), f32(3, 5))),
    ("max_pool2d rank", ValueError, "4 dimensions", lambda: ops.max_pool2d(f32(6, 6))),
    ("max_pool2d output below 1", ValueError, "output height would be below 1", lambda: ops.max_pool2d(X, 7)),
    ("max_pool2d_backward grad", ValueError, "grad_output has shape", lambda: ops.max_pool2d_backward(X, X)),
    ("average_pool2d_backward shape", ValueError, "grad_output has shape",
     lambda: ops.average_pool2d_backward(f32(2, 3, 3, 4), (2, 6, 6, 3))),
    ("global_average_pool2d rank", ValueError, "4 dimensions", lambda: ops.global_average_pool2d(f32(6, 6))),
    ("global_max_pool2d empty", ValueError, "at least 1", lambda: ops.global_max_pool2d(f32(2, 0, 3, 4))),
    ("global_average_pool2d_backward", ValueError, "grad_output has shape",
     lambda: ops.global_average_pool2d_backward(f32(2, 4), (2, 6, 6, 3))),
    ("activation_backward shapes", ValueError, "grad_output has shape",
     lambda: ops.activation_backward(f32(3), f32(4), "relu")),
    ("softmax scalar", ValueError, "input is a scalar", lambda: ops.softmax(f32())),
    ("softmax empty axis", ValueError, "last axis must not be empty", lambda: ops.softmax(f32(3, 0))),
    ("softmax_backward shapes", ValueError, "grad_output has shape", lambda: ops.softmax_backward(f32(3), f32(4))),
    ("cross entropy rank", ValueError, r"\(rows, classes\)",
     lambda: ops.softmax_cross_entropy(f32(3), np.zeros(3, dtype=np.int64))),
    ("cross entropy lengths", ValueError, r"labels has shape \(4,\).*\(3,\)",
     lambda: ops.softmax_cross_entropy(f32(3, 5), np.zeros(4, dtype=np.int64))),
    ("cross entropy one-hot", ValueError, r"labels has shape \(3, 4\)",
     lambda: ops.softmax_cross_entropy(f32(3, 5), f32(3, 4))),
    ("cross entropy grad", ValueError, "grad_losses has shape",
     lambda: ops.softmax_cross_entropy_backward(f32(4), f32(3, 5), np.zeros(3, dtype=np.int64))),
    ("pointwise lengths", ValueError, "targets has shape",
     lambda: ops.pointwise_loss("huber", f32(3, 2), f32(4, 2))),
    ("pointwise empty rows", ValueError, "rows must not be empty",
     lambda: ops.pointwise_loss("huber", f32(3, 0), f32(3, 0))),
    ("metric lengths", ValueError, "targets has shape",
     lambda: ops.metric("sparse_categorical_accuracy", f32(3, 2), np.zeros(4, dtype=np.int64))),
    ("batch_norm rank", ValueError, "2 dimensions",
     lambda: ops.batch_norm_inference(f32(3), None, None, f32(3), f32(3))),
    ("batch_norm gamma", ValueError, "gamma has shape",
     lambda: ops.batch_norm_inference(f32(2, 3), f32(2), None, f32(3), f32(3))),
    ("batch_norm empty batch", ValueError, "empty batch",
     lambda: ops.batch_norm_training(f32(0, 3), None, None, f32(3), f32(3))),
    ("optimizer gradient", ValueError, "gradient has shape",
     lambda: ops.optimizer_step("sgd", f32(3), f32(4))),
    ("optimizer slots", ValueError, "slots has 1 arrays.*keeps 2",
     lambda: ops.optimizer_step("adam", f32(3), f32(3), [f32(3)])),
    ("optimizer slot shape", ValueError, r"slots\[1\] has shape",
     lambda: ops.optimizer_step("adam", f32(3), f32(3), [f32(3), f32(4)])),
    # ---- values
    ("strides 0", ValueError, r"strides\[0\] is 0", lambda: ops.conv2d(X, W, strides=0)),
    ("strides negative", ValueError, r"strides\[1\] is -1", lambda: ops.max_pool2d(X, 2, (1, -1))),
    ("dilation 0", ValueError, r"dilation\[0\] is 0", lambda: ops.conv2d(X, W, dilation=0)),
    ("groups 0", ValueError, "groups is 0", lambda: ops.conv2d(X, W, groups=0)),
    ("groups negative", ValueError, "groups is -1",
     lambda: ops.conv2d_backward_filters(X, f32(2, 4, 4, 8), 3, groups=-1)),
    ("padding negative", ValueError, r"padding\[1\]\[0\] is -1",
     lambda: ops.conv2d(X, W, padding=((0, 0), (-1, 0)))),
    ("padding name", ValueError, "padding is 'full'", lambda: ops.conv2d(X, W, padding="full")),  # type: ignore[arg-type]
    ("padding number", ValueError, "padding is 3", lambda: ops.conv2d(X, W, padding=3)),  # type: ignore[arg-type]
    ("pool padding", ValueError, "must be below the window's 2",
     lambda: ops.max_pool2d(X, 2, 2, ((2, 0), (0, 0)))),
    ("pool_size 0", ValueError, r"pool_size\[0\] is 0", lambda: ops.max_pool2d(X, 0)),
    ("kernel_size negative", ValueError, "negative|at least 1",
     lambda: ops.conv2d_backward_filters(X, f32(2, 4, 4, 8), -3)),
    ("activation name", ValueError, "activation is 'reluu'.*relu6", lambda: ops.activation(X, "reluu")),
    ("fused activation name", ValueError, "activation is 'reluu'", lambda: ops.conv2d(X, W, activation="reluu")),
    ("data_format", ValueError, "data_format is 'nchw'", lambda: ops.max_pool2d(X, data_format="nchw")),  # type: ignore[arg-type]
    ("channels_first rank", ValueError, "4 dimensions",
     lambda: ops.conv2d(f32(3, 3), W, data_format="channels_first")),
    ("rate 1", ValueError, "rate is 1", lambda: ops.dropout(X, 1.0, seed=0)),
    ("rate NaN", ValueError, "rate is nan", lambda: ops.dropout(X, float("nan"), seed=0)),
    ("smoothing", ValueError, "label_smoothing is 1",
     lambda: ops.softmax_cross_entropy(f32(3, 5), np.zeros(3, dtype=np.int64), label_smoothing=1.0)),
    ("label above", ValueError, r"labels\[1\] is 5.*below 5, the number of classes",
     lambda: ops.softmax_cross_entropy(f32(3, 5), np.array([4, 5, 9]))),
    ("label below", ValueError, r"labels\[2\] is -1",
     lambda: ops.softmax_cross_entropy(f32(3, 5), np.array([4, 0, -1], dtype=np.int32))),
    ("label of uint8", ValueError, r"labels\[0\] is 255",
     lambda: ops.softmax_cross_entropy(f32(2, 5), np.array([255, 0], dtype=np.uint8))),
    ("label above 32 bits", ValueError, rf"labels\[0\] is {2**32}",
     lambda: ops.softmax_cross_entropy(f32(1, 5), np.array([2**32]))),
    ("label in backward", ValueError, r"labels\[0\] is 5",
     lambda: ops.softmax_cross_entropy_backward(f32(1), f32(1, 5), np.array([5]))),
    ("label of metric", ValueError, r"targets\[0\] is -7",
     lambda: ops.metric("sparse_categorical_accuracy", f32(1, 5), np.array([-7]))),
    ("k", ValueError, "k is 0",
     lambda: ops.metric("sparse_top_k_categorical_accuracy", f32(1, 5), np.array([0]), k=0)),
    ("loss name", ValueError, "loss is 'hinge'.*huber", lambda: ops.pointwise_loss("hinge", X, X)),
    ("metric name", ValueError, "metric is 'auc'", lambda: ops.metric("auc", X, X)),
    ("batch_norm epsilon", ValueError, "epsilon is 0",
     lambda: ops.batch_norm_training(X, None, None, f32(3), f32(3), epsilon=0)),
    ("batch_norm epsilon NaN", ValueError, "epsilon is nan",
     lambda: ops.batch_norm_inference(X, None, None, f32(3), f32(3), epsilon=float("nan"))),
    ("batch_norm momentum", ValueError, "momentum is 1.5",
     lambda: ops.batch_norm_training(X, None, None, f32(3), f32(3), momentum=1.5)),
    ("optimizer name", ValueError, "optimizer is 'lion'.*adamw", lambda: ops.optimizer_step("lion", f32(1), f32(1))),
    ("optimizer setting", ValueError, "'beta1' is not a setting", lambda: ops.optimizer_slot_count("adam", beta1=0.5)),
    ("optimizer beta", ValueError, "beta_1 is 1",
     lambda: ops.optimizer_step("adam", f32(1), f32(1), [f32(1), f32(1)], beta_1=1.0)),
    ("optimizer rate", ValueError, "learning_rate is -0.1",
     lambda: ops.optimizer_step("sgd", f32(1), f32(1), learning_rate=-0.1)),
    ("optimizer rate NaN", ValueError, "learning_rate is nan",
     lambda: ops.optimizer_step("sgd", f32(1), f32(1), learning_rate=float("nan"))),
    ("optimizer iteration", ValueError, "iteration is 0",
     lambda: ops.optimizer_step("sgd", f32(1), f32(1), iteration=0)),
    ("optimizer clips", ValueError, "at most one of clipnorm",
     lambda: ops.optimizer_step("sgd", f32(1), f32(1), clipnorm=1.0, clipvalue=1.0)),
    ("uniform NaN", ValueError, "finite", lambda: _core.random_uniform((2,), 0, float("nan"), 1)),
    ("uniform reversed", ValueError, "low must not be above high", lambda: _core.random_uniform((2,), 1, 0, 1)),
    ("normal stddev", ValueError, "stddev is -1", lambda: _core.random_normal((2,), 0, -1, 1)),
    ("random negative extent", ValueError, "negative extent", lambda: _core.random_normal((2, -1), 0, 1, 1)),
    # ---- element types and objects
    ("float64 image", TypeError, r"input is float64.*astype\('float32'\)",
     lambda: ops.conv2d(np.ones((1, 6, 6, 3)), W)),
    ("uint8 image", TypeError, "input is uint8", lambda: ops.conv2d(np.ones((1, 6, 6, 3), dtype=np.uint8), W)),
    ("int64 image", TypeError, "input is int64", lambda: ops.max_pool2d(np.ones((1, 6, 6, 3), dtype=np.int64))),
    ("bool image", TypeError, "input has dtype bool", lambda: ops.relu(np.ones(3, dtype=bool))),
    ("float16 image", TypeError, "input has dtype float16", lambda: ops.relu(np.ones(3, dtype=np.float16))),
    ("complex image", TypeError, "input has dtype complex64", lambda: ops.relu(np.ones(3, dtype=np.complex64))),
    ("big-endian image", TypeError, "input has dtype >f4", lambda: ops.relu(np.ones(3, dtype=">f4"))),
    ("object image", TypeError, "input has dtype object", lambda: ops.relu(np.ones(3, dtype=object))),
    ("float64 filters", TypeError, "filters is float64", lambda: ops.conv2d(X, np.ones((3, 3, 3, 8)))),
    ("float64 bias", TypeError, "bias is float64", lambda: ops.conv2d(X, W, np.ones(8))),
    ("float64 out", TypeError, "output is float64", lambda: ops.relu(f32(3), out=np.ones(3))),
    ("list", TypeError, "input is of type list", lambda: ops.relu([1.0, 2.0])),
    ("None", TypeError, "input is of type NoneType", lambda: ops.relu(None)),
    ("number", TypeError, "input is of type float", lambda: ops.relu(1.0)),
    ("string", TypeError, "input is of type str", lambda: ops.relu("image")),
    ("float labels", TypeError, r"labels.*float32.*astype\('int64'\)",
     lambda: ops.softmax_cross_entropy(f32(3, 5), f32(3))),
    ("float64 labels", TypeError, "labels is float64", lambda: ops.softmax_cross_entropy(f32(3, 5), np.ones(3))),
    ("int one-hot", ValueError, "labels has shape",
     lambda: ops.softmax_cross_entropy(f32(3, 5), np.ones((3, 5), dtype=np.int64))),
    ("float stride", TypeError, "strides is 1.5", lambda: ops.conv2d(X, W, strides=1.5)),  # type: ignore[arg-type]
    ("NaN size", TypeError, "pool_size is nan", lambda: ops.max_pool2d(X, float("nan"))),  # type: ignore[arg-type]
    ("bool stride", TypeError, "strides is True", lambda: ops.conv2d(X, W, strides=True)),
    ("three strides", TypeError, r"strides is \(1, 2, 3\)", lambda: ops.conv2d(X, W, strides=(1, 2, 3))),  # type: ignore[arg-type]
    ("float shape", TypeError, "input_shape is", lambda: ops.average_pool2d_backward(X, (2, 6.0, 6, 3))),  # type: ignore[list-item]
    ("setting type", TypeError, "learning_rate is 'fast'",
     lambda: ops.optimizer_slot_count("adam", learning_rate="fast")),
    ("setting flag", TypeError, "nesterov is 1", lambda: ops.optimizer_slot_count("sgd", nesterov=1)),
    ("negative seed", TypeError, "", lambda: ops.dropout(X, 0.5, seed=-1)),
    # ---- memory
    ("transposed", ValueError, "input is not C-contiguous.*ascontiguousarray",
     lambda: ops.conv2d(np.ones((3, 6, 6, 2), dtype=np.float32).T, W)),
    ("sliced", ValueError, "input is not C-contiguous", lambda: ops.relu(f32(10)[::2])),
    ("reversed", ValueError, "input is not C-contiguous", lambda: ops.relu(f32(10)[::-1])),
    ("unaligned", ValueError, "not C-contiguous|aligned",
     lambda: ops.relu(np.zeros(41, dtype=np.uint8)[1:].view(np.float32))),
    ("broadcast", ValueError, "not C-contiguous", lambda: ops.relu(np.broadcast_to(np.float32(1), (4, 4)))),
    ("strided out", ValueError, "out is not C-contiguous", lambda: ops.relu(f32(5), out=f32(10)[::2])),
    ("read-only out", ValueError, "out is read-only", lambda: ops.relu(f32(3), out=read_only(f32(3)))),
    ("read-only parameter", ValueError, "parameter is read-only",
     lambda: ops.optimizer_step("sgd", read_only(f32(3)), f32(3))),
    ("read-only slot", ValueError, r"slots\[0\] is read-only",
     lambda: ops.optimizer_step("adam", f32(3), f32(3), [read_only(f32(3)), f32(3)])),
    ("read-only moving mean", ValueError, "moving_mean is read-only",
     lambda: ops.batch_norm_training(X, None, None, read_only(f32(3)), f32(3))),
    ("nine dimensions", ValueError, "9 dimensions.*at most 8", lambda: ops.relu(f32(*[1] * 9))),
    # ---- absurd sizes
    ("vast image", ValueError, "C-contiguous", lambda: ops.max_pool2d(VAST)),
    ("strides of 2^31", ValueError, "below 2", lambda: ops.conv2d(X, W, strides=HUGE)),
    ("pool of 2^63", ValueError, "does not fit 64 bits", lambda: ops.max_pool2d(X, 2**63)),
    ("padding of 2^31", ValueError, "below 2", lambda: ops.conv2d(X, W, padding=((HUGE, 0), (0, 0)))),
    ("overflowing shape", ValueError, "too large|below 2",
     lambda: ops.average_pool2d_backward(f32(1, 1, 1, 1), (2**30, 2**30, 2**30, 2**30))),
    ("overflowing output", ValueError, "too large",
     lambda: ops.conv2d(f32(1, 1, 1, 1), f32(1, 1, 1, 1), padding=((2**30, 2**30), (2**30, 2**30)))),
    ("overflowing gradient", ValueError, "too large",
     lambda: ops.global_average_pool2d_backward(f32(1, 1), (2**20, 2**20, 2**20, 2**20))),
    ("overflowing random", ValueError, "too large", lambda: _core.random_normal((2**40, 2**40), 0, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "call"), [pytest.param(*rest, id=name) for name, *rest in BAD])
def test_bad_input(error: type[Exception], message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert re.search(message, str(caught.value), re.DOTALL), f"{caught.value} does not match {message!r}"


def test_overlapping_arguments() -> None:
    memory = f32(1000)
    x, overlapping = memory[: X.size].reshape(X.shape), memory[X.size - 1 : X.size + 255].reshape(2, 4, 4, 8)
    with pytest.raises(ValueError, match="output overlaps input"):
        ops.conv2d(x, W, out=overlapping)
    assert ops.conv2d(x, W, out=memory[X.size : X.size + 256].reshape(2, 4, 4, 8)).shape == (2, 4, 4, 8)
    with pytest.raises(ValueError, match="output overlaps input"):
        ops.relu(memory[:-1], out=memory[1:])
    with pytest.raises(ValueError, match="overlaps"):
        ops.optimizer_step("adam", memory[:8], f32(8), [memory[8:16], memory[12:20]])


def test_nothing_is_written_where_a_label_is_bad() -> None:
    out = np.full(3, 7, dtype=np.float32)
    with pytest.raises(ValueError, match="labels"):
        ops.softmax_cross_entropy(f32(3, 5), np.array([0, 1, 5]), out=out)
    np.testing.assert_array_equal(out, 7)


def test_message_of_a_float64_image_can_be_followed() -> None:
    image = np.ones((1, 6, 6, 3))
    with pytest.raises(TypeError) as caught:
        ops.conv2d(image, W)
    advice = re.search(r"input(\.astype\('float32'\))", str(caught.value))
    assert advice is not None
    assert ops.conv2d(image.astype("float32"), W).shape == (1, 4, 4, 8)
