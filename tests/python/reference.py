"""Naive float64 NumPy references, one function an op of ``convec.ops``, of the same name and keywords.

Written for being read against the definitions, not for speed: loops over windows and taps. Functions that update
arrays in place in ``convec.ops`` return the new values here, after the others.
"""

# ruff: noqa: A001, A002 -- `input` is the word of the field

from __future__ import annotations

import math

import numpy as np

EPSILON = 1e-7  # keras.backend.epsilon()


def pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def window_axis(extent, window, stride, dilation, padding, axis):
    """(output extent, padding before, padding after) of one axis."""
    reach = (window - 1) * dilation + 1
    if padding == "same":
        out = -(-extent // stride)
        total = max((out - 1) * stride + reach - extent, 0)
        return out, total // 2, total - total // 2
    before, after = (0, 0) if padding == "valid" else padding[axis]
    return (extent + before + after - reach) // stride + 1, before, after


def last(x):
    return np.transpose(x, (0, 2, 3, 1))


def first(x):
    return np.transpose(x, (0, 3, 1, 2))


# ---- Convolution ---------------------------------------------------------------------------------------------------


def _geometry(shape, kernel, strides, padding, dilation):
    strides, dilation = pair(strides), pair(dilation)
    return [window_axis(shape[1 + a], kernel[a], strides[a], dilation[a], padding, a) for a in (0, 1)]


def _tap(out, strides, dilation, r, c):
    """The slices of the padded image that tap (r, c) reads."""
    return (
        slice(r * dilation[0], r * dilation[0] + (out[0] - 1) * strides[0] + 1, strides[0]),
        slice(c * dilation[1], c * dilation[1] + (out[1] - 1) * strides[1] + 1, strides[1]),
    )


def conv2d(
    input, filters, bias=None, *, strides=1, padding="valid", dilation=1, groups=1, activation="linear",
    data_format="channels_last",
):  # fmt: skip
    if data_format == "channels_first":
        args = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
        return first(conv2d(last(input), filters, bias, activation=activation, **args))
    (oh, top, bottom), (ow, left, right) = _geometry(input.shape, filters.shape, strides, padding, dilation)
    strides, dilation = pair(strides), pair(dilation)
    padded = np.pad(input, ((0, 0), (top, bottom), (left, right), (0, 0)))
    per_group, out_per_group = filters.shape[2], filters.shape[3] // groups
    output = np.zeros((input.shape[0], oh, ow, filters.shape[3]))
    for r in range(filters.shape[0]):
        for c in range(filters.shape[1]):
            rows, columns = _tap((oh, ow), strides, dilation, r, c)
            for g in range(groups):
                inside = slice(g * per_group, (g + 1) * per_group)
                outside = slice(g * out_per_group, (g + 1) * out_per_group)
                output[..., outside] += padded[:, rows, columns, inside] @ filters[r, c, :, outside]
    if bias is not None:
        output += bias
    return _ACTIVATIONS[activation](output)


def conv2d_backward_input(
    grad_output, filters, input_shape, *, strides=1, padding="valid", dilation=1, groups=1,
    data_format="channels_last",
):  # fmt: skip
    if data_format == "channels_first":
        args = {"strides": strides, "padding": padding, "dilation": dilation, "groups": groups}
        batch, channels, height, width = input_shape
        return first(conv2d_backward_input(last(grad_output), filters, (batch, height, width, channels), **args))
    (oh, top, bottom), (ow, left, right) = _geometry(input_shape, filters.shape, strides, padding, dilation)
    strides, dilation = pair(strides), pair(dilation)
    batch, height, width, channels = input_shape
    padded = np.zeros((batch, height + top + bottom, width + left + right, channels))
    per_group, out_per_group = filters.shape[2], filters.shape[3] // groups
    for r in range(filters.shape[0]):
        for c in range(filters.shape[1]):
            rows, columns = _tap((oh, ow), strides, dilation, r, c)
            for g in range(groups):
                inside = slice(g * per_group, (g + 1) * per_group)
                outside = slice(g * out_per_group, (g + 1) * out_per_group)
                padded[:, rows, columns, inside] += grad_output[..., outside] @ filters[r, c, :, outside].T
    return padded[:, top : top + height, left : left + width]


def conv2d_backward_filters(
    input, grad_output, kernel_size, *, strides=1, padding="valid", dilation=1, groups=1,
    data_format="channels_last",
):  # fmt: skip
    if data_format == "channels_first":
        input, grad_output = last(input), last(grad_output)
    kernel = pair(kernel_size)
    (oh, top, bottom), (ow, left, right) = _geometry(input.shape, kernel, strides, padding, dilation)
    strides, dilation = pair(strides), pair(dilation)
    padded = np.pad(input, ((0, 0), (top, bottom), (left, right), (0, 0)))
    per_group, out_per_group = input.shape[3] // groups, grad_output.shape[3] // groups
    grad_filters = np.zeros((*kernel, per_group, grad_output.shape[3]))
    for r in range(kernel[0]):
        for c in range(kernel[1]):
            rows, columns = _tap((oh, ow), strides, dilation, r, c)
            for g in range(groups):
                inside = slice(g * per_group, (g + 1) * per_group)
                outside = slice(g * out_per_group, (g + 1) * out_per_group)
                x = padded[:, rows, columns, inside].reshape(-1, per_group)
                grad_filters[r, c, :, outside] = x.T @ grad_output[..., outside].reshape(-1, out_per_group)
    return grad_filters, grad_output.sum(axis=(0, 1, 2))


def conv2d_backward(grad_output, input, filters, **options):
    grad_input = conv2d_backward_input(grad_output, filters, input.shape, **options)
    return grad_input, *conv2d_backward_filters(input, grad_output, filters.shape[:2], **options)


# ---- Dense ---------------------------------------------------------------------------------------------------------


def dense(input, weights, bias=None, *, activation="linear"):
    output = input @ weights
    if bias is not None:
        output = output + bias
    return _ACTIVATIONS[activation](output)


def dense_backward_input(grad_output, weights):
    return grad_output @ weights.T


def dense_backward_weights(input, grad_output):
    return input.T @ grad_output, grad_output.sum(axis=0)


def dense_backward(grad_output, input, weights):
    return dense_backward_input(grad_output, weights), *dense_backward_weights(input, grad_output)


# ---- Pooling -------------------------------------------------------------------------------------------------------


def _windows(shape, pool_size, strides, padding):
    """(out row, out column, rows, columns) of every window, cut to the image; and the output's extents."""
    pool = pair(pool_size)
    strides = pool if strides is None else pair(strides)
    (oh, top, _), (ow, left, _) = (window_axis(shape[1 + a], pool[a], strides[a], 1, padding, a) for a in (0, 1))
    windows = []
    for i in range(oh):
        for j in range(ow):
            y, x = i * strides[0] - top, j * strides[1] - left
            rows = slice(max(y, 0), min(y + pool[0], shape[1]))
            columns = slice(max(x, 0), min(x + pool[1], shape[2]))
            windows.append((i, j, rows, columns))
    return windows, (oh, ow)


def max_pool2d(input, pool_size=2, strides=None, padding="valid", *, data_format="channels_last"):
    if data_format == "channels_first":
        return first(max_pool2d(last(input), pool_size, strides, padding))
    windows, (oh, ow) = _windows(input.shape, pool_size, strides, padding)
    output = np.empty((input.shape[0], oh, ow, input.shape[3]))
    for i, j, rows, columns in windows:
        output[:, i, j] = input[:, rows, columns].max(axis=(1, 2))
    return output


def max_pool2d_backward(
    grad_output, input, pool_size=2, strides=None, padding="valid", *, data_format="channels_last"
):  # fmt: skip
    if data_format == "channels_first":
        return first(max_pool2d_backward(last(grad_output), last(input), pool_size, strides, padding))
    windows, _ = _windows(input.shape, pool_size, strides, padding)
    grad_input = np.zeros(input.shape)
    for i, j, rows, columns in windows:
        for n in range(input.shape[0]):
            for c in range(input.shape[3]):
                window = input[n, rows, columns, c]
                y, x = np.unravel_index(np.argmax(window), window.shape)
                grad_input[n, rows.start + y, columns.start + x, c] += grad_output[n, i, j, c]
    return grad_input


def average_pool2d(input, pool_size=2, strides=None, padding="valid", *, data_format="channels_last"):
    if data_format == "channels_first":
        return first(average_pool2d(last(input), pool_size, strides, padding))
    windows, (oh, ow) = _windows(input.shape, pool_size, strides, padding)
    output = np.empty((input.shape[0], oh, ow, input.shape[3]))
    for i, j, rows, columns in windows:
        output[:, i, j] = input[:, rows, columns].mean(axis=(1, 2))
    return output


def average_pool2d_backward(
    grad_output, input_shape, pool_size=2, strides=None, padding="valid", *, data_format="channels_last"
):  # fmt: skip
    if data_format == "channels_first":
        batch, channels, height, width = input_shape
        shape = (batch, height, width, channels)
        return first(average_pool2d_backward(last(grad_output), shape, pool_size, strides, padding))
    windows, _ = _windows(input_shape, pool_size, strides, padding)
    grad_input = np.zeros(input_shape)
    for i, j, rows, columns in windows:
        count = (rows.stop - rows.start) * (columns.stop - columns.start)
        grad_input[:, rows, columns] += grad_output[:, i : i + 1, j : j + 1] / count
    return grad_input


def global_average_pool2d(input, *, data_format="channels_last"):
    return input.mean(axis=(2, 3) if data_format == "channels_first" else (1, 2))


def global_average_pool2d_backward(grad_output, input_shape, *, data_format="channels_last"):
    if data_format == "channels_first":
        batch, channels, height, width = input_shape
        return first(global_average_pool2d_backward(grad_output, (batch, height, width, channels)))
    count = input_shape[1] * input_shape[2]
    return np.broadcast_to(grad_output[:, None, None, :] / count, input_shape)


def global_max_pool2d(input, *, data_format="channels_last"):
    return input.max(axis=(2, 3) if data_format == "channels_first" else (1, 2))


def global_max_pool2d_backward(grad_output, input, *, data_format="channels_last"):
    if data_format == "channels_first":
        return first(global_max_pool2d_backward(grad_output, last(input)))
    whole = input.shape[1:3]
    return max_pool2d_backward(grad_output[:, None, None, :], input, whole, whole)


# ---- Activations ---------------------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])
LEAKY_SLOPE = 0.2
SELU_ALPHA, SELU_SCALE = 1.67326324, 1.05070098


def _sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def _normal_cdf(x):
    return 0.5 * _erfc(-x / math.sqrt(2))


def _normal_density(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


_ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x < 0, LEAKY_SLOPE * x, x),
    "elu": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "selu": lambda x: SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(np.minimum(x, 0)), x),
    "gelu": lambda x: x * _normal_cdf(x),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(0, x),
}
_DERIVATIVES = {
    "linear": np.ones_like,
    "relu": lambda x: (x > 0) * 1.0,
    "relu6": lambda x: ((x > 0) & (x < 6)) * 1.0,
    "leaky_relu": lambda x: np.where(x > 0, 1.0, LEAKY_SLOPE),
    "elu": lambda x: np.where(x < 0, np.exp(np.minimum(x, 0)), 1.0),
    "selu": lambda x: SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.exp(np.minimum(x, 0)), 1.0),
    "gelu": lambda x: _normal_cdf(x) + x * _normal_density(x),
    "silu": lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
    "sigmoid": lambda x: _sigmoid(x) * _sigmoid(-x),
    "tanh": lambda x: 1 / np.cosh(np.clip(x, -300, 300)) ** 2,
    "softplus": _sigmoid,
}
ACTIVATIONS = tuple(_ACTIVATIONS)


def activation(input, name):
    return _ACTIVATIONS[name](input)


def activation_backward(grad_output, input, name):
    return grad_output * _DERIVATIVES[name](input)


def relu(input):
    return activation(input, "relu")


def relu_backward(grad_output, input):
    return activation_backward(grad_output, input, "relu")


def softmax(input):
    e = np.exp(input - input.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(grad_output, output):
    return output * (grad_output - (grad_output * output).sum(axis=-1, keepdims=True))


def philox4x32(key, counter, stream):
    """Philox4x32-10 on Python integers: four words from a 64-bit key and the two halves of a 128-bit counter."""
    mask = 0xFFFFFFFF
    c = [counter & mask, counter >> 32, stream & mask, stream >> 32]
    k = [key & mask, key >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & mask, (a >> 32) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
    return c


def dropout(input, rate, *, seed, offset=0):
    words = []
    for counter in range(-(-input.size // 4)):
        words += philox4x32(seed, counter, offset)
    # The op takes the rate as a float32.
    rate = float(np.float32(rate))
    keep = np.array(words[: input.size], dtype=np.float64).reshape(input.shape) >= math.floor(rate * 2**32)
    return np.where(keep, input / (1 - rate), 0.0)


def rescale(input, scale, offset=0.0):
    return input * scale + offset


# ---- Losses and metrics --------------------------------------------------------------------------------------------


def _targets(labels, classes, smoothing):
    q = np.eye(classes)[labels] if labels.ndim == 1 else labels
    return q * (1 - smoothing) + smoothing / classes


def _probabilities(logits, labels):
    """Before clipping. The bounds are those of float32 arithmetic, which the op and Keras clip to."""
    return logits / logits.sum(axis=1, keepdims=True) if labels.ndim == 2 else logits


_LOW, _HIGH = float(np.float32(EPSILON)), float(np.float32(1) - np.float32(EPSILON))


def softmax_cross_entropy(logits, labels, *, from_logits=True, label_smoothing=0.0):
    q = _targets(labels, logits.shape[1], label_smoothing)
    if from_logits:
        peak = logits.max(axis=1, keepdims=True)
        log_p = logits - peak - np.log(np.exp(logits - peak).sum(axis=1, keepdims=True))
    else:
        log_p = np.log(np.clip(_probabilities(logits, labels), _LOW, _HIGH))
    return -(q * log_p).sum(axis=1)


def softmax_cross_entropy_backward(grad_losses, logits, labels, *, from_logits=True, label_smoothing=0.0):
    q = _targets(labels, logits.shape[1], label_smoothing)
    g = grad_losses[:, None]
    if from_logits:
        return g * (softmax(logits) * q.sum(axis=1, keepdims=True) - q)
    p = _probabilities(logits, labels)
    inside = (p >= _LOW) & (p <= _HIGH)
    own = np.where(inside, q / p, 0.0)
    if labels.ndim == 1:
        return -g * own
    return g * ((q * inside).sum(axis=1, keepdims=True) - own) / logits.sum(axis=1, keepdims=True)


def _rows(x):
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def pointwise_loss(loss, predictions, targets, *, from_logits=False, label_smoothing=0.0):
    p, t = _rows(predictions), _rows(targets)
    if loss == "binary_crossentropy":
        t = t * (1 - label_smoothing) + 0.5 * label_smoothing
        if from_logits:
            values = np.maximum(p, 0) - p * t + np.log1p(np.exp(-np.abs(p)))
        else:
            p = np.clip(p, _LOW, _HIGH)
            values = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    elif loss == "mean_squared_error":
        values = (p - t) ** 2
    elif loss == "mean_absolute_error":
        values = np.abs(p - t)
    else:
        error = np.abs(p - t)
        values = np.where(error <= 1, 0.5 * error**2, error - 0.5)
    return values.mean(axis=1)


def pointwise_loss_backward(loss, grad_losses, predictions, targets, *, from_logits=False, label_smoothing=0.0):
    p, t = _rows(predictions), _rows(targets)
    if loss == "binary_crossentropy":
        t = t * (1 - label_smoothing) + 0.5 * label_smoothing
        if from_logits:
            slope = _sigmoid(p) - t
        else:
            inside = (p >= _LOW) & (p <= _HIGH)
            safe = np.where(inside, p, 0.5)
            slope = np.where(inside, (safe - t) / (safe * (1 - safe)), 0.0)
    elif loss == "mean_squared_error":
        slope = 2 * (p - t)
    elif loss == "mean_absolute_error":
        slope = np.sign(p - t)
    else:
        slope = np.clip(p - t, -1, 1)
    return (grad_losses[:, None] * slope / p.shape[1]).reshape(predictions.shape)


def metric(name, predictions, targets, *, k=5, threshold=0.5):
    if name == "binary_accuracy":
        return ((_rows(predictions) > threshold) == _rows(targets)).mean(axis=1)
    labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
    if "top_k" in name:
        own = predictions[np.arange(len(predictions)), labels][:, None]
        return ((predictions > own).sum(axis=1) < k) * 1.0
    return (predictions.argmax(axis=1) == labels) * 1.0


# ---- Batch normalisation -------------------------------------------------------------------------------------------


def batch_norm_training(input, gamma, beta, moving_mean, moving_variance, *, momentum=0.99, epsilon=1e-3):
    axes = tuple(range(input.ndim - 1))
    mean, variance = input.mean(axis=axes), input.var(axis=axes)
    inverse_std = 1 / np.sqrt(variance + epsilon)
    output = (input - mean) * inverse_std * (1 if gamma is None else gamma) + (0 if beta is None else beta)
    new_mean = moving_mean * momentum + mean * (1 - momentum)
    new_variance = moving_variance * momentum + variance * (1 - momentum)
    return output, mean, inverse_std, new_mean, new_variance


def batch_norm_inference(input, gamma, beta, moving_mean, moving_variance, *, epsilon=1e-3):
    scale = (1 if gamma is None else gamma) / np.sqrt(moving_variance + epsilon)
    return (input - moving_mean) * scale + (0 if beta is None else beta)


def batch_norm_backward(grad_output, input, gamma, batch_mean, batch_inverse_std):
    axes = tuple(range(input.ndim - 1))
    normalised = (input - batch_mean) * batch_inverse_std
    grad_gamma, grad_beta = (grad_output * normalised).sum(axis=axes), grad_output.sum(axis=axes)
    rows = input.size // input.shape[-1]
    centred = grad_output - grad_beta / rows - normalised * grad_gamma / rows
    return centred * batch_inverse_std * (1 if gamma is None else gamma), grad_gamma, grad_beta


# ---- Optimizers ----------------------------------------------------------------------------------------------------

OPTIMIZER_DEFAULTS = {
    "sgd": {"learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "adam": {"learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "amsgrad": False},
    "adamw": {
        "learning_rate": 0.001,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
        "amsgrad": False,
        "weight_decay": 0.004,
    },
    "rmsprop": {"learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
    "adadelta": {"learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7},
}


def optimizer_slot_count(optimizer, **settings):
    o = OPTIMIZER_DEFAULTS[optimizer] | settings
    if optimizer == "sgd":
        return int(o["momentum"] != 0)
    if optimizer in ("adam", "adamw"):
        return 3 if o["amsgrad"] else 2
    if optimizer == "rmsprop":
        return 1 + int(o["momentum"] > 0) + int(o["centered"])
    return 2


def optimizer_step(optimizer, parameter, gradient, slots=(), *, iteration=1, gradient_scale=1.0, **settings):
    """The rules of keras.optimizers (Keras 3), written out. Returns (parameter, *slots)."""
    o = {"weight_decay": 0.0, "clipvalue": 0.0} | OPTIMIZER_DEFAULTS[optimizer] | settings
    lr = o["learning_rate"]
    g = gradient * gradient_scale
    if o["clipvalue"]:
        g = np.clip(g, -o["clipvalue"], o["clipvalue"])
    w = parameter - parameter * o["weight_decay"] * lr
    if optimizer == "sgd":
        if not o["momentum"]:
            return (w - lr * g,)
        m = slots[0] * o["momentum"] - lr * g
        return w + (m * o["momentum"] - lr * g if o["nesterov"] else m), m
    if optimizer in ("adam", "adamw"):
        m = slots[0] + (g - slots[0]) * (1 - o["beta_1"])
        v = slots[1] + (g * g - slots[1]) * (1 - o["beta_2"])
        alpha = lr * math.sqrt(1 - o["beta_2"] ** iteration) / (1 - o["beta_1"] ** iteration)
        if not o["amsgrad"]:
            return w - alpha * m / (np.sqrt(v) + o["epsilon"]), m, v
        highest = np.maximum(slots[2], v)
        return w - alpha * m / (np.sqrt(highest) + o["epsilon"]), m, v, highest
    if optimizer == "rmsprop":
        slots = list(slots)
        velocity = slots[0] = o["rho"] * slots[0] + (1 - o["rho"]) * g * g
        if o["centered"]:
            slots[-1] = o["rho"] * slots[-1] + (1 - o["rho"]) * g
            velocity = velocity - slots[-1] ** 2
        step = lr * g / np.sqrt(velocity + o["epsilon"])
        if o["momentum"] > 0:
            step = slots[1] = o["momentum"] * slots[1] + step
        return w - step, *slots
    squares = o["rho"] * slots[0] + (1 - o["rho"]) * g * g
    delta = -np.sqrt(slots[1] + o["epsilon"]) * g / np.sqrt(squares + o["epsilon"])
    return w + lr * delta, squares, o["rho"] * slots[1] + (1 - o["rho"]) * delta**2


def sum_of_squares(array):
    return float((array * array).sum())
