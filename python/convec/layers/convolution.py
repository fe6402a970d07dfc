"""Convolution."""

from __future__ import annotations

from typing import Any

from convec import activations, initializers
from convec.layers.base import WeightedLayer, channels_last, pair, positive, window_padding


def with_activation(entry: dict[str, Any], activation: str) -> list[dict[str, Any]]:
    """A network entry and its activation; softmax is an entry of its own."""
    if activation == "softmax":
        return [{**entry, "activation": "linear"}, {"kind": "softmax"}]
    return [{**entry, "activation": activation}]


class Conv2D(WeightedLayer):
    """2-D convolution of images (batch, height, width, channels).

    Args:
        filters: number of output channels.
        kernel_size: rows and columns of a filter.
        strides: rows and columns between two outputs.
        padding: 'valid' (none), 'same' (output = input / strides, rounded up), or pixels of zeros,
            ``((top, bottom), (left, right))``, which Keras has not.
        data_format: 'channels_last' or None.
        dilation_rate: rows and columns between two taps of a filter.
        groups: input channels and filters are split into that many groups.
        activation: name or function, applied last.
        use_bias, kernel_initializer, bias_initializer: as Keras.
        **kwargs: see :class:`convec.layers.Layer`.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: str | tuple[tuple[int, int], tuple[int, int]] = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(use_bias, kernel_initializer, bias_initializer, **kwargs)
        self.filters = positive(filters, "filters")
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.strides = pair(strides, "strides")
        self.padding = window_padding(padding)
        self.data_format = channels_last(data_format)
        self.dilation_rate = pair(dilation_rate, "dilation_rate")
        self.groups = positive(groups, "groups")
        if self.filters % self.groups:
            raise ValueError(f"filters is {filters}, which groups={groups} does not divide")
        self.activation = activations.get(activation)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        entry = {
            "kind": "conv2d",
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation": self.dilation_rate,
            "groups": self.groups,
            "use_bias": self.use_bias,
        }
        return with_activation(entry, self.activation)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }
