"""Dense layers, activations, dropout and reshaping."""

from __future__ import annotations

from typing import Any

from convec import activations, initializers
from convec.layers.base import Layer, Shape, WeightedLayer, channels_last, last_axis, positive
from convec.layers.convolution import with_activation


class Dense(WeightedLayer):
    """activation(input @ kernel + bias), over the last axis.

    Args:
        units: number of outputs.
        activation: name or function, applied last.
        use_bias, kernel_initializer, bias_initializer: as Keras.
        **kwargs: see :class:`convec.layers.Layer`.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(use_bias, kernel_initializer, bias_initializer, **kwargs)
        self.units = positive(units, "units")
        self.activation = activations.get(activation)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return with_activation({"kind": "dense", "units": self.units, "use_bias": self.use_bias}, self.activation)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }


class Activation(Layer):
    """An activation as a layer of its own. ``activation``: name or function."""

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        if self.activation == "softmax":
            return [{"kind": "softmax"}]
        return [{"kind": "activation", "activation": self.activation}]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "activation": self.activation}


class ReLU(Layer):
    """max(x, 0), or min(max(x, 0), 6) with ``max_value=6``.

    Raises:
        ValueError: another max_value, a negative_slope or a threshold.
    """

    def __init__(
        self, max_value: float | None = None, negative_slope: float = 0.0, threshold: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if max_value not in (None, 6) or negative_slope or threshold:
            raise ValueError(
                f"ReLU has max_value={max_value}, negative_slope={negative_slope}, threshold={threshold}, but convec "
                "knows max_value=None and 6, and 0 for the others; 'leaky_relu' is an activation of its own"
            )
        self.max_value = max_value

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [{"kind": "activation", "activation": "relu" if self.max_value is None else "relu6"}]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "max_value": self.max_value}


class Softmax(Layer):
    """Softmax over the last axis: ``axis`` is -1 or its number."""

    def __init__(self, axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis

    def check_input_shape(self, shape: Shape) -> None:
        """Raises ValueError where ``axis`` is not the last."""
        last_axis(self.axis, shape, self.name)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "axis": self.axis}

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [{"kind": "softmax"}]


class Flatten(Layer):
    """Each sample as one row."""

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = channels_last(data_format)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [{"kind": "flatten"}]


class Dropout(Layer):
    """In training, zeroes each element with probability ``rate`` and scales the others by 1 / (1 - rate).

    ``seed`` gives the layer random numbers of its own; by default they follow :func:`convec.utils.set_random_seed`.

    Raises:
        ValueError: ``rate`` is outside [0, 1), or a noise_shape is given.
    """

    def __init__(self, rate: float, noise_shape: None = None, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate is {rate}, but must be at least 0 and below 1")
        if noise_shape is not None:
            raise ValueError("noise_shape is not supported: every element is dropped on its own")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
            raise ValueError(f"seed is {seed!r}, but must be an integer that is not negative, or None")
        self.rate = float(rate)
        self.seed = seed

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        own = {} if self.seed is None else {"seed": self.seed}
        return [{"kind": "dropout", "rate": self.rate, **own}]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


class Rescaling(Layer):
    """x * scale + offset, e.g. ``Rescaling(1 / 255)`` for uint8 images."""

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = float(scale)
        self.offset = float(offset)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [{"kind": "rescaling", "scale": self.scale, "offset": self.offset}]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale": self.scale, "offset": self.offset}
