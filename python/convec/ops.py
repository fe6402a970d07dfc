"""The operations themselves, without layers or models: thin, typed wrappers around the compiled core.

Everything is float32, but for what convolutions and dense layers may multiply in its place, bfloat16 (ml_dtypes', which
NumPy and CuPy 14 know, and on a CUDA device torch's; it saves time there alone): input and weights, or the gradient of
the output in place of either. Their results with the batch's extent are bfloat16 then, rounded once from float32 sums;
bias and gradients of weights, which are sums over the batch, stay float32. Images are ``(batch, height, width,
channels)``, filters ``(rows, columns, in, out)``, dense weights ``(in, units)``, all C-contiguous: Keras' own order.
``data_format='channels_first'`` is accepted where there is an image and costs a transposed copy; filters and gradients
of filters keep their order.

Arguments may be NumPy arrays or anything with ``__dlpack__`` or the buffer protocol (torch CPU tensors, memoryviews),
or arrays on a CUDA device: CuPy's, and whatever has ``__cuda_array_interface__`` or is on one by DLPack (torch CUDA
tensors). None is copied. An op runs where its arguments are, which must be one device; on CUDA it is launched on CuPy's
current stream, and results are CuPy arrays from its memory pool. What cannot be used as it is (another dtype, not
C-contiguous, a wrong shape) is refused with a message that says how to mend it; nothing is converted silently. ``out=``
takes an array to write to, of exactly the result's shape, and returns it.

Errors: ``ValueError`` for shapes and values, ``TypeError`` for element types and objects that are no arrays,
``RuntimeError`` for arguments on different devices and for a device that cannot be used.

A ``*_backward`` function takes the gradient of a scalar with respect to the forward function's output and returns that
with respect to its inputs.
"""

# ruff: noqa: A001, A002 -- `input` is the word of the field and of the C++ contract

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from convec import _core, _device

__all__ = [
    "activation",
    "activation_backward",
    "average_pool2d",
    "average_pool2d_backward",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_training",
    "conv2d",
    "conv2d_backward",
    "conv2d_backward_filters",
    "conv2d_backward_input",
    "dense",
    "dense_backward",
    "dense_backward_input",
    "dense_backward_weights",
    "dropout",
    "global_average_pool2d",
    "global_average_pool2d_backward",
    "global_max_pool2d",
    "global_max_pool2d_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "metric",
    "optimizer_slot_count",
    "optimizer_step",
    "pointwise_loss",
    "pointwise_loss_backward",
    "relu",
    "relu_backward",
    "rescale",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "sum_of_squares",
]

Array: TypeAlias = npt.NDArray[np.float32]
#: A NumPy array or anything with ``__dlpack__`` or the buffer protocol.
ArrayLike: TypeAlias = Any
Size: TypeAlias = int | tuple[int, int]
Padding: TypeAlias = Literal["valid", "same"] | tuple[tuple[int, int], tuple[int, int]]
DataFormat: TypeAlias = Literal["channels_last", "channels_first"]

_LAST_TO_FIRST = (0, 3, 1, 2)
_FIRST_TO_LAST = (0, 2, 3, 1)


def _channels_first(data_format: str) -> bool:
    if data_format == "channels_last":
        return False
    if data_format == "channels_first":
        return True
    raise ValueError(f"data_format is {data_format!r}, but must be 'channels_last' or 'channels_first'")


def _transposed(image: ArrayLike, axes: tuple[int, int, int, int], name: str) -> Array:
    on_device = hasattr(image, "__cuda_array_interface__")
    array = image if isinstance(image, np.ndarray) or on_device else np.asarray(image)
    if len(array.shape) != 4:
        raise ValueError(f"{name} has shape {array.shape}, but must have 4 dimensions (batch, channels, height, width)")
    if on_device:
        return cast(Array, _device.transposed(array, axes))
    return np.ascontiguousarray(np.transpose(array, axes))


def _last(image: ArrayLike, name: str) -> Array:
    """A copy of an image (batch, channels, height, width) as (batch, height, width, channels)."""
    return _transposed(image, _FIRST_TO_LAST, name)


def _first(image: Array, out: Array | None) -> Array:
    """The way back, into ``out`` where given."""
    if out is None:
        return _transposed(image, _LAST_TO_FIRST, "output")
    view: Any = (
        np.transpose(image, _LAST_TO_FIRST) if isinstance(image, np.ndarray) else image.transpose(_LAST_TO_FIRST)
    )
    if out.shape != view.shape or out.dtype != view.dtype:
        raise ValueError(f"out is {out.dtype} of shape {out.shape}, but must be {view.dtype} of shape {view.shape}")
    out[...] = view
    return out


def _shape(array: ArrayLike) -> tuple[int, ...]:
    """Shape of an array anywhere; NumPy cannot ask those on a device."""
    return tuple(array.shape) if hasattr(array, "shape") else np.shape(array)


def _last_shape(shape: Sequence[int], name: str) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise ValueError(f"{name} is {tuple(shape)}, but must have 4 extents (batch, channels, height, width)")
    batch, channels, height, width = shape
    return batch, height, width, channels


# ---- Convolution ---------------------------------------------------------------------------------------------------


def conv2d(
    input: ArrayLike,
    filters: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation: Size = 1,
    groups: int = 1,
    activation: str = "linear",
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """2-D convolution (cross-correlation, as in every deep-learning library) with bias and activation fused.

    Args:
        input: (batch, height, width, channels) float32.
        filters: (rows, columns, channels / groups, filters) float32.
        bias: (filters) float32, or None.
        strides: pixels between windows, one number or (vertical, horizontal).
        padding: 'valid' (none), 'same' (output = ceil(input / stride); an odd total puts the extra row below and the
            extra column right, as Keras) or ((top, bottom), (left, right)) zeros.
        dilation: pixels between the taps of a filter, one number or (vertical, horizontal).
        groups: input channels and filters are split into this many groups that do not see each other.
        activation: name of an element-wise activation, see :func:`activation`.
        data_format: 'channels_first' for images (batch, channels, height, width).
        out: array for the result.

    Returns:
        (batch, out_height, out_width, filters) float32.

    Raises:
        ValueError: shapes do not match, an output extent would be below 1, a setting is out of range.
        TypeError: an argument is neither float32 nor bfloat16, or not an array, or types are mixed.
    """
    if data_format == "channels_last":
        return _core.conv2d(input, filters, bias, strides, padding, dilation, groups, activation, out)
    _channels_first(data_format)
    image = _last(input, "input")
    return _first(_core.conv2d(image, filters, bias, strides, padding, dilation, groups, activation, None), out)


def conv2d_backward_input(
    grad_output: ArrayLike,
    filters: ArrayLike,
    input_shape: Sequence[int],
    *,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation: Size = 1,
    groups: int = 1,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`conv2d` (before its activation) with respect to its input.

    Args:
        grad_output: gradient with respect to the output, of the output's shape, float32.
        filters: (rows, columns, channels / groups, filters) float32.
        input_shape: shape of the forward input.
        strides: as in the forward call.
        padding: as in the forward call.
        dilation: as in the forward call.
        groups: as in the forward call.
        data_format: as in the forward call.
        out: array for the result.

    Returns:
        An array of ``input_shape``, float32.

    Raises:
        ValueError: as :func:`conv2d`.
        TypeError: as :func:`conv2d`.
    """
    if data_format == "channels_last":
        return _core.conv2d_backward_input(grad_output, filters, input_shape, strides, padding, dilation, groups, out)
    _channels_first(data_format)
    shape = _last_shape(input_shape, "input_shape")
    grad = _last(grad_output, "grad_output")
    return _first(_core.conv2d_backward_input(grad, filters, shape, strides, padding, dilation, groups, None), out)


def conv2d_backward_filters(
    input: ArrayLike,
    grad_output: ArrayLike,
    kernel_size: Size,
    *,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation: Size = 1,
    groups: int = 1,
    data_format: DataFormat = "channels_last",
) -> tuple[Array, Array]:
    """Gradients of :func:`conv2d` (before its activation) with respect to its filters and bias.

    Args:
        input: the forward input, float32.
        grad_output: gradient with respect to the output, of the output's shape, float32.
        kernel_size: rows and columns of the filters, one number or a pair.
        strides: as in the forward call.
        padding: as in the forward call.
        dilation: as in the forward call.
        groups: as in the forward call.
        data_format: as in the forward call.

    Returns:
        (rows, columns, channels / groups, filters) and (filters), float32. The sums run in a fixed order: the result
        does not depend on the number of threads.

    Raises:
        ValueError: as :func:`conv2d`.
        TypeError: as :func:`conv2d`.
    """
    if data_format != "channels_last":
        _channels_first(data_format)
        input = _last(input, "input")
        grad_output = _last(grad_output, "grad_output")
    return _core.conv2d_backward_filters(input, grad_output, kernel_size, strides, padding, dilation, groups)


def conv2d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    filters: ArrayLike,
    *,
    strides: Size = 1,
    padding: Padding = "valid",
    dilation: Size = 1,
    groups: int = 1,
    data_format: DataFormat = "channels_last",
) -> tuple[Array, Array, Array]:
    """All gradients of :func:`conv2d` (before its activation).

    Args:
        grad_output: gradient with respect to the output, of the output's shape, float32.
        input: the forward input, float32.
        filters: the forward filters, float32.
        strides: as in the forward call.
        padding: as in the forward call.
        dilation: as in the forward call.
        groups: as in the forward call.
        data_format: as in the forward call.

    Returns:
        Gradients with respect to the input, the filters and the bias, float32.

    Raises:
        ValueError: as :func:`conv2d`.
        TypeError: as :func:`conv2d`.
    """
    first = _channels_first(data_format)
    if first:
        input = _last(input, "input")
        grad_output = _last(grad_output, "grad_output")
    input_shape = _shape(input)
    filters_shape = _shape(filters)
    if len(filters_shape) != 4:
        raise ValueError(
            f"filters has shape {filters_shape}, but must have 4 dimensions (rows, columns, channels / groups, filters)"
        )
    grad_input = _core.conv2d_backward_input(
        grad_output, filters, input_shape, strides, padding, dilation, groups, None
    )
    grad_filters, grad_bias = _core.conv2d_backward_filters(
        input, grad_output, filters_shape[:2], strides, padding, dilation, groups
    )
    return (_first(grad_input, None) if first else grad_input), grad_filters, grad_bias


# ---- Dense ---------------------------------------------------------------------------------------------------------


def dense(
    input: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: str = "linear",
    out: Array | None = None,
) -> Array:
    """A fully connected layer: activation(input @ weights + bias).

    Args:
        input: (batch, in) float32.
        weights: (in, units) float32.
        bias: (units) float32, or None.
        activation: name of an element-wise activation, see :func:`activation`.
        out: array for the result.

    Returns:
        (batch, units) float32.

    Raises:
        ValueError: shapes do not match. TypeError: an argument is neither float32 nor bfloat16, or not an array, or
            types are mixed.
    """
    return _core.dense(input, weights, bias, activation, out)


def dense_backward_input(grad_output: ArrayLike, weights: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of :func:`dense` (before its activation) with respect to its input: grad_output @ weights.T.

    Args:
        grad_output: (batch, units) float32.
        weights: (in, units) float32.
        out: array for the result.

    Returns:
        (batch, in) float32.

    Raises:
        ValueError: as :func:`dense`.
        TypeError: as :func:`dense`.
    """
    return _core.dense_backward_input(grad_output, weights, out)


def dense_backward_weights(input: ArrayLike, grad_output: ArrayLike) -> tuple[Array, Array]:
    """Gradients of :func:`dense` (before its activation) with respect to weights and bias.

    Args:
        input: (batch, in) float32.
        grad_output: (batch, units) float32.

    Returns:
        input.T @ grad_output of shape (in, units) and the column sums of grad_output of shape (units), float32.

    Raises:
        ValueError: as :func:`dense`.
        TypeError: as :func:`dense`.
    """
    return _core.dense_backward_weights(input, grad_output)


def dense_backward(grad_output: ArrayLike, input: ArrayLike, weights: ArrayLike) -> tuple[Array, Array, Array]:
    """All gradients of :func:`dense` (before its activation).

    Args:
        grad_output: (batch, units) float32.
        input: (batch, in) float32.
        weights: (in, units) float32.

    Returns:
        Gradients with respect to the input, the weights and the bias, float32.

    Raises:
        ValueError: as :func:`dense`.
        TypeError: as :func:`dense`.
    """
    grad_input = _core.dense_backward_input(grad_output, weights, None)
    grad_weights, grad_bias = _core.dense_backward_weights(input, grad_output)
    return grad_input, grad_weights, grad_bias


# ---- Pooling -------------------------------------------------------------------------------------------------------


def max_pool2d(
    input: ArrayLike,
    pool_size: Size = 2,
    strides: Size | None = None,
    padding: Padding = "valid",
    *,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """The largest element of each window. Padding never wins; NaN in a window gives NaN.

    Args:
        input: (batch, height, width, channels) float32.
        pool_size: the window, one number or (height, width).
        strides: pixels between windows; None is ``pool_size``.
        padding: 'valid', 'same' (output = ceil(input / stride)) or ((top, bottom), (left, right)).
        data_format: 'channels_first' for images (batch, channels, height, width).
        out: array for the result.

    Returns:
        (batch, out_height, out_width, channels) float32.

    Raises:
        ValueError: rank is not 4, an output extent would be below 1, padding as large as the window.
        TypeError: input is not float32 or not an array.
    """
    if data_format == "channels_last":
        return _core.max_pool2d(input, pool_size, strides, padding, out)
    _channels_first(data_format)
    return _first(_core.max_pool2d(_last(input, "input"), pool_size, strides, padding, None), out)


def max_pool2d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    pool_size: Size = 2,
    strides: Size | None = None,
    padding: Padding = "valid",
    *,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`max_pool2d`: that of each window goes to its largest element, of equal ones to the first.

    Args:
        grad_output: gradient with respect to the output, of the output's shape, float32.
        input: the forward input, float32.
        pool_size: as in the forward call.
        strides: as in the forward call.
        padding: as in the forward call.
        data_format: as in the forward call.
        out: array for the result.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: as :func:`max_pool2d`.
        TypeError: as :func:`max_pool2d`.
    """
    if data_format == "channels_last":
        return _core.max_pool2d_backward(grad_output, input, pool_size, strides, padding, out)
    _channels_first(data_format)
    grad = _last(grad_output, "grad_output")
    return _first(_core.max_pool2d_backward(grad, _last(input, "input"), pool_size, strides, padding, None), out)


def average_pool2d(
    input: ArrayLike,
    pool_size: Size = 2,
    strides: Size | None = None,
    padding: Padding = "valid",
    *,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """The mean of each window over the pixels that lie inside the image: padding is not counted, as in Keras.

    Args:
        input: (batch, height, width, channels) float32.
        pool_size: as in :func:`max_pool2d`.
        strides: as in :func:`max_pool2d`.
        padding: as in :func:`max_pool2d`.
        data_format: as in :func:`max_pool2d`.
        out: as in :func:`max_pool2d`.

    Returns:
        (batch, out_height, out_width, channels) float32.

    Raises:
        ValueError: as :func:`max_pool2d`.
        TypeError: as :func:`max_pool2d`.
    """
    if data_format == "channels_last":
        return _core.average_pool2d(input, pool_size, strides, padding, out)
    _channels_first(data_format)
    return _first(_core.average_pool2d(_last(input, "input"), pool_size, strides, padding, None), out)


def average_pool2d_backward(
    grad_output: ArrayLike,
    input_shape: Sequence[int],
    pool_size: Size = 2,
    strides: Size | None = None,
    padding: Padding = "valid",
    *,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`average_pool2d`: that of each window is spread evenly over its pixels inside the image.

    Args:
        grad_output: gradient with respect to the output, of the output's shape, float32.
        input_shape: shape of the forward input.
        pool_size: as in the forward call.
        strides: as in the forward call.
        padding: as in the forward call.
        data_format: as in the forward call.
        out: array for the result.

    Returns:
        An array of ``input_shape``, float32.

    Raises:
        ValueError: as :func:`max_pool2d`.
        TypeError: as :func:`max_pool2d`.
    """
    if data_format == "channels_last":
        return _core.average_pool2d_backward(grad_output, input_shape, pool_size, strides, padding, out)
    _channels_first(data_format)
    shape = _last_shape(input_shape, "input_shape")
    grad = _last(grad_output, "grad_output")
    return _first(_core.average_pool2d_backward(grad, shape, pool_size, strides, padding, None), out)


def global_average_pool2d(
    input: ArrayLike, *, data_format: DataFormat = "channels_last", out: Array | None = None
) -> Array:
    """The mean of each channel over the whole image.

    Args:
        input: (batch, height, width, channels) float32.
        data_format: 'channels_first' for images (batch, channels, height, width).
        out: array for the result.

    Returns:
        (batch, channels) float32.

    Raises:
        ValueError: rank is not 4 or the image is empty. TypeError: input is not float32 or not an array.
    """
    if data_format != "channels_last":
        _channels_first(data_format)
        input = _last(input, "input")
    return _core.global_average_pool2d(input, out)


def global_average_pool2d_backward(
    grad_output: ArrayLike,
    input_shape: Sequence[int],
    *,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`global_average_pool2d`.

    Args:
        grad_output: (batch, channels) float32.
        input_shape: shape of the forward input.
        data_format: as in the forward call.
        out: array for the result.

    Returns:
        An array of ``input_shape``, float32.

    Raises:
        ValueError: as :func:`global_average_pool2d`.
        TypeError: as :func:`global_average_pool2d`.
    """
    if data_format == "channels_last":
        return _core.global_average_pool2d_backward(grad_output, input_shape, out)
    _channels_first(data_format)
    shape = _last_shape(input_shape, "input_shape")
    return _first(_core.global_average_pool2d_backward(grad_output, shape, None), out)


def global_max_pool2d(
    input: ArrayLike, *, data_format: DataFormat = "channels_last", out: Array | None = None
) -> Array:
    """The largest element of each channel over the whole image. NaN in an image gives NaN.

    Args:
        input: (batch, height, width, channels) float32.
        data_format: 'channels_first' for images (batch, channels, height, width).
        out: array for the result.

    Returns:
        (batch, channels) float32.

    Raises:
        ValueError: rank is not 4 or the image is empty. TypeError: input is not float32 or not an array.
    """
    if data_format != "channels_last":
        _channels_first(data_format)
        input = _last(input, "input")
    return _core.global_max_pool2d(input, out)


def global_max_pool2d_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    *,
    data_format: DataFormat = "channels_last",
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`global_max_pool2d`: it goes to the largest element, of equal ones to the first.

    Args:
        grad_output: (batch, channels) float32.
        input: the forward input, float32.
        data_format: as in the forward call.
        out: array for the result.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: as :func:`global_max_pool2d`.
        TypeError: as :func:`global_max_pool2d`.
    """
    if data_format == "channels_last":
        return _core.global_max_pool2d_backward(grad_output, input, out)
    _channels_first(data_format)
    return _first(_core.global_max_pool2d_backward(grad_output, _last(input, "input"), None), out)


# ---- Activations ---------------------------------------------------------------------------------------------------


def activation(input: ArrayLike, name: str, *, out: Array | None = None) -> Array:
    """An element-wise activation; formulas and constants are those of keras.activations.

    Args:
        input: any shape, float32.
        name: 'linear', 'relu', 'relu6', 'leaky_relu' (slope 0.2), 'elu', 'selu', 'gelu' (the exact form), 'silu',
            'sigmoid', 'tanh' or 'softplus'.
        out: array for the result; may be ``input`` itself.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: the name is none of these. TypeError: input is not float32 or not an array.
    """
    return _core.activation(input, name, out)


def activation_backward(grad_output: ArrayLike, input: ArrayLike, name: str, *, out: Array | None = None) -> Array:
    """Gradient of :func:`activation`: grad_output * f'(input).

    Args:
        grad_output: any shape, float32.
        input: the forward input, of the same shape, float32.
        name: as in the forward call.
        out: array for the result; may be one of the arguments.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: as :func:`activation`, or the shapes differ.
        TypeError: as :func:`activation`, or the shapes differ.
    """
    return _core.activation_backward(grad_output, input, name, out)


def relu(input: ArrayLike, *, out: Array | None = None) -> Array:
    """max(input, 0). NaN stays NaN.

    Args:
        input: any shape, float32.
        out: array for the result; may be ``input`` itself.

    Returns:
        An array of the input's shape, float32.

    Raises:
        TypeError: input is not float32 or not an array.
    """
    return _core.activation(input, "relu", out)


def relu_backward(grad_output: ArrayLike, input: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of :func:`relu`: grad_output where input > 0, else 0.

    Args:
        grad_output: any shape, float32.
        input: the forward input or output, of the same shape, float32.
        out: array for the result; may be one of the arguments.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: the shapes differ. TypeError: an argument is not float32 or not an array.
    """
    return _core.activation_backward(grad_output, input, "relu", out)


def softmax(input: ArrayLike, *, out: Array | None = None) -> Array:
    """Softmax over the last axis: exp(x - max) / sum(exp(x - max)).

    Args:
        input: (..., classes) float32.
        out: array for the result; may be ``input`` itself.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: input is a scalar or its last axis is empty. TypeError: input is not float32 or not an array.
    """
    return _core.softmax(input, out)


def softmax_backward(grad_output: ArrayLike, output: ArrayLike, *, out: Array | None = None) -> Array:
    """Gradient of :func:`softmax`: output * (grad_output - sum(grad_output * output)) over the last axis.

    Args:
        grad_output: (..., classes) float32.
        output: what :func:`softmax` returned, float32.
        out: array for the result; may be one of the arguments.

    Returns:
        An array of the output's shape, float32.

    Raises:
        ValueError: as :func:`softmax`, or the shapes differ.
        TypeError: as :func:`softmax`, or the shapes differ.
    """
    return _core.softmax_backward(grad_output, output, out)


def dropout(input: ArrayLike, rate: float, *, seed: int, offset: int = 0, out: Array | None = None) -> Array:
    """Inverted dropout: each element is zeroed with probability ``rate``, the others scaled by 1 / (1 - rate).

    Whether element i is kept depends on (seed, offset, i) alone (Philox4x32-10, Salmon et al., 2011), so the gradient
    is the same call on the output's gradient.

    Args:
        input: any shape, float32.
        rate: at least 0 and below 1.
        seed: key and stream of the random numbers, at least 0 and below 2^64.
        offset: key and stream of the random numbers, at least 0 and below 2^64.
        out: array for the result; may be ``input`` itself.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: rate is out of range. TypeError: input is not float32 or not an array; seed is not such an integer.
    """
    return _core.dropout(input, rate, seed, offset, out)


def rescale(input: ArrayLike, scale: float, offset: float = 0.0, *, out: Array | None = None) -> Array:
    """Input * scale + offset.

    Args:
        input: any shape, float32.
        scale: numbers.
        offset: numbers.
        out: array for the result; may be ``input`` itself.

    Returns:
        An array of the input's shape, float32.

    Raises:
        TypeError: input is not float32 or not an array.
    """
    return _core.rescale(input, scale, offset, out)


# ---- Losses and metrics --------------------------------------------------------------------------------------------


def softmax_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = True,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """Categorical cross-entropy of each row: -sum(target * log p).

    Args:
        logits: (rows, classes) float32; with ``from_logits=False`` probabilities, which are clipped to
            [1e-7, 1 - 1e-7], after division by their sum where labels are distributions (as Keras).
        labels: class numbers (rows), int32, int64 or uint8; or distributions (rows, classes), float32.
        from_logits: whether softmax is part of the loss.
        label_smoothing: s in [0, 1): a target q becomes q (1 - s) + s / classes.
        out: array for the result.

    Returns:
        (rows) float32.

    Raises:
        ValueError: shapes do not match, a label is outside [0, classes), label_smoothing is out of range.
        TypeError: another element type.
    """
    return _core.softmax_cross_entropy(logits, labels, from_logits, label_smoothing, out)


def softmax_cross_entropy_backward(
    grad_losses: ArrayLike,
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    from_logits: bool = True,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`softmax_cross_entropy` with respect to its logits (or probabilities).

    Args:
        grad_losses: (rows) float32, e.g. 1 / rows each for a mean.
        logits: as in the forward call.
        labels: as in the forward call.
        from_logits: as in the forward call.
        label_smoothing: as in the forward call.
        out: array for the result.

    Returns:
        (rows, classes) float32.

    Raises:
        ValueError: as :func:`softmax_cross_entropy`.
        TypeError: as :func:`softmax_cross_entropy`.
    """
    return _core.softmax_cross_entropy_backward(grad_losses, logits, labels, from_logits, label_smoothing, out)


def pointwise_loss(
    loss: str,
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """An element-wise loss, averaged over each row; definitions are those of keras.losses.

    Args:
        loss: 'binary_crossentropy' (probabilities are clipped to [1e-7, 1 - 1e-7]), 'mean_squared_error',
            'mean_absolute_error' or 'huber' (delta 1).
        predictions: (rows, ...) float32.
        targets: of the same shape, float32.
        from_logits: binary_crossentropy only: predictions are logits.
        label_smoothing: binary_crossentropy only: s in [0, 1), a target t becomes t (1 - s) + s / 2.
        out: array for the result.

    Returns:
        (rows) float32.

    Raises:
        ValueError: shapes differ, rows are empty, an unknown loss. TypeError: an argument is not float32.
    """
    return _core.pointwise_loss(loss, predictions, targets, from_logits, label_smoothing, out)


def pointwise_loss_backward(
    loss: str,
    grad_losses: ArrayLike,
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    out: Array | None = None,
) -> Array:
    """Gradient of :func:`pointwise_loss` with respect to its predictions.

    Args:
        loss: as in the forward call.
        predictions: as in the forward call.
        targets: as in the forward call.
        from_logits: as in the forward call.
        label_smoothing: as in the forward call.
        grad_losses: (rows) float32.
        out: array for the result.

    Returns:
        An array of the predictions' shape, float32.

    Raises:
        ValueError: as :func:`pointwise_loss`.
        TypeError: as :func:`pointwise_loss`.
    """
    return _core.pointwise_loss_backward(loss, grad_losses, predictions, targets, from_logits, label_smoothing, out)


def metric(
    name: str,
    predictions: ArrayLike,
    targets: ArrayLike,
    *,
    k: int = 5,
    threshold: float = 0.5,
    out: Array | None = None,
) -> Array:
    """A metric of each row; definitions are those of keras.metrics.

    Args:
        name: 'sparse_categorical_accuracy', 'categorical_accuracy', 'binary_accuracy',
            'sparse_top_k_categorical_accuracy' or 'top_k_categorical_accuracy'.
        predictions: (rows, classes) float32; for binary_accuracy (rows, ...).
        targets: for the sparse ones class numbers (rows), int32, int64 or uint8; else of the predictions' shape,
            float32.
        k: for the top-k ones: 1 where fewer than k predictions exceed that of the label.
        threshold: for binary_accuracy: a prediction above it counts as 1.
        out: array for the result.

    Returns:
        (rows) float32: 1 where the row is right, 0 where it is not; for binary_accuracy the share that is right.

    Raises:
        ValueError: shapes do not match, a label is out of range, an unknown metric. TypeError: other element types.
    """
    return _core.metric(name, predictions, targets, k, threshold, out)


# ---- Batch normalisation -------------------------------------------------------------------------------------------


def batch_norm_training(
    input: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    moving_mean: ArrayLike,
    moving_variance: ArrayLike,
    *,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Batch normalisation over all axes but the last by the batch's own statistics (Ioffe & Szegedy, 2015).

    Moves the running statistics in place: moving = moving * momentum + batch * (1 - momentum).

    Args:
        input: (batch, ..., channels) float32.
        gamma: (channels) float32, or None for 1 and 0.
        beta: (channels) float32, or None for 1 and 0.
        moving_mean: (channels) float32, updated in place.
        moving_variance: (channels) float32, updated in place.
        momentum: of the running statistics, in [0, 1].
        epsilon: added to the variance, positive.
        out: array for the result.

    Returns:
        The normalised array, and (channels) the batch's mean and 1 / sqrt(variance + epsilon) (variance of the
        sample, not corrected) for :func:`batch_norm_backward`.

    Raises:
        ValueError: shapes do not match, an empty batch, a setting out of range. TypeError: an argument is not float32.
    """
    return _core.batch_norm_training(input, gamma, beta, moving_mean, moving_variance, momentum, epsilon, out)


def batch_norm_inference(
    input: ArrayLike,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    moving_mean: ArrayLike,
    moving_variance: ArrayLike,
    *,
    epsilon: float = 1e-3,
    out: Array | None = None,
) -> Array:
    """Batch normalisation by the running statistics: gamma (x - mean) / sqrt(variance + epsilon) + beta.

    Args:
        input: (batch, ..., channels) float32.
        gamma: (channels) float32, or None for 1 and 0.
        beta: (channels) float32, or None for 1 and 0.
        moving_mean: (channels) float32.
        moving_variance: (channels) float32.
        epsilon: added to the variance, positive.
        out: array for the result; may be ``input`` itself.

    Returns:
        An array of the input's shape, float32.

    Raises:
        ValueError: as :func:`batch_norm_training`.
        TypeError: as :func:`batch_norm_training`.
    """
    return _core.batch_norm_inference(input, gamma, beta, moving_mean, moving_variance, epsilon, out)


def batch_norm_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    gamma: ArrayLike | None,
    batch_mean: ArrayLike,
    batch_inverse_std: ArrayLike,
    *,
    out: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Gradients of :func:`batch_norm_training`.

    Args:
        grad_output: (batch, ..., channels) float32.
        input: the forward input, float32.
        gamma: (channels) float32, or None for 1.
        batch_mean: what :func:`batch_norm_training` returned.
        batch_inverse_std: what :func:`batch_norm_training` returned.
        out: array for the gradient with respect to the input.

    Returns:
        Gradients with respect to the input, gamma and beta, float32.

    Raises:
        ValueError: as :func:`batch_norm_training`.
        TypeError: as :func:`batch_norm_training`.
    """
    return _core.batch_norm_backward(grad_output, input, gamma, batch_mean, batch_inverse_std, out)


# ---- Optimizers ----------------------------------------------------------------------------------------------------


def optimizer_slot_count(optimizer: str, **settings: Any) -> int:
    """Number of state arrays, of the parameter's shape, that an optimizer keeps.

    Args:
        optimizer: 'sgd', 'adam', 'adamw', 'rmsprop' or 'adadelta'.
        **settings: as in :func:`optimizer_step`.

    Raises:
        ValueError: an unknown optimizer or setting. TypeError: a setting of the wrong type.
    """
    return _core.optimizer_slot_count(optimizer, settings)


def optimizer_step(
    optimizer: str,
    parameter: ArrayLike,
    gradient: ArrayLike,
    slots: Sequence[ArrayLike] = (),
    *,
    iteration: int = 1,
    gradient_scale: float = 1.0,
    **settings: Any,
) -> None:
    """One step of an optimizer, in place, by Keras 3's update rule.

    Args:
        optimizer: 'sgd', 'adam', 'adamw', 'rmsprop' or 'adadelta'.
        parameter: any shape, float32, updated in place.
        gradient: of the same shape, float32.
        slots: :func:`optimizer_slot_count` arrays of the same shape, zero before the first step, updated in place.
            SGD: momentum; Adam: m, v, largest v (amsgrad); RMSprop: velocity, momentum, average gradient (centered);
            Adadelta: accumulated gradient, accumulated delta.
        iteration: 1 for the first step.
        gradient_scale: factor on the gradient, for clipping by norm.
        **settings: what differs from Keras' defaults: learning_rate, momentum, nesterov, beta_1, beta_2, rho,
            epsilon, amsgrad, centered, weight_decay, clipvalue.

    Raises:
        ValueError: shapes or the number of slots do not match, a setting is unknown or out of range, an array is
            read-only. TypeError: an array is not float32, a setting of the wrong type.
    """
    _core.optimizer_step(optimizer, parameter, gradient, slots, iteration, settings, gradient_scale)


def sum_of_squares(array: ArrayLike) -> float:
    """Sum of the squares of an array's elements, in double precision and a fixed order.

    Args:
        array: any shape, float32.

    Raises:
        TypeError: array is not float32 or not an array.
    """
    return _core.sum_of_squares(array)
