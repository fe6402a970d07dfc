"""Activation functions on arrays, and their names. Formulas and constants are Keras 3's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import ops

__all__ = [
    "elu",
    "gelu",
    "get",
    "leaky_relu",
    "linear",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "swish",
    "tanh",
]

Array = npt.NDArray[np.float32]


def linear(x: Array) -> Array:
    """``x`` itself."""
    return x


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return ops.relu(x)


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return ops.activation(x, "relu6")


def leaky_relu(x: Array) -> Array:
    """``x`` where positive, else 0.2 x."""
    return ops.activation(x, "leaky_relu")


def elu(x: Array) -> Array:
    """``x`` where positive, else exp(x) - 1."""
    return ops.activation(x, "elu")


def selu(x: Array) -> Array:
    """1.05070098 (x where positive, else 1.67326324 (exp(x) - 1))."""
    return ops.activation(x, "selu")


def gelu(x: Array) -> Array:
    """X times the standard normal distribution function of x, by erf."""
    return ops.activation(x, "gelu")


def silu(x: Array) -> Array:
    """X sigmoid(x)."""
    return ops.activation(x, "silu")


swish = silu


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return ops.activation(x, "sigmoid")


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return ops.activation(x, "tanh")


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return ops.activation(x, "softplus")


def softmax(x: Array) -> Array:
    """exp(x) over its sum along the last axis."""
    return ops.softmax(x)


_FUNCTIONS: tuple[Callable[[Array], Array], ...] = (
    linear, relu, relu6, leaky_relu, elu, selu, gelu, silu, sigmoid, tanh, softplus, softmax,
)  # fmt: skip
_NAMES: dict[str, str] = {function.__name__: function.__name__ for function in _FUNCTIONS}
_NAMES["swish"] = "silu"


def get(identifier: Any) -> str:
    """The name of an activation given as ``None`` (linear), a name or a function of this module.

    Raises:
        ValueError: it is none of them.
    """
    if identifier is None:
        return "linear"
    if isinstance(identifier, str) and identifier.lower() in _NAMES:
        return _NAMES[identifier.lower()]
    for function in _FUNCTIONS:
        if identifier is function:
            return str(function.__name__)
    raise ValueError(f"activation is {identifier!r}, but must be one of {', '.join(sorted(_NAMES))}")
