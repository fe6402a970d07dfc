"""Normalisation."""

from __future__ import annotations

from typing import Any

from convec import initializers
from convec.layers.base import Array, Layer, Shape, last_axis


class BatchNormalization(Layer):
    """Normalises each channel (the last axis) by the batch's mean and variance; in inference by running ones.

    Args:
        axis: the last one: -1, or its number.
        momentum: of the running statistics.
        epsilon: added to the variance.
        center, scale: whether a learned beta is added, a learned gamma multiplied.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: as Keras.
        **kwargs: see :class:`convec.layers.Layer`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}, but must be in [0, 1]")
        if not epsilon > 0:
            raise ValueError(f"epsilon is {epsilon}, but must be positive")
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)
        self.center = bool(center)
        self.scale = bool(scale)
        self._initializers = {
            "beta": initializers.get(beta_initializer),
            "gamma": initializers.get(gamma_initializer),
            "moving_mean": initializers.get(moving_mean_initializer),
            "moving_variance": initializers.get(moving_variance_initializer),
        }

    has_weights = True

    def check_input_shape(self, shape: Shape) -> None:
        """Raises ValueError where ``axis`` is not the last."""
        last_axis(self.axis, shape, self.name)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [
            {
                "kind": "batch_norm",
                "momentum": self.momentum,
                "epsilon": self.epsilon,
                "center": self.center,
                "scale": self.scale,
            }
        ]

    def initial_values(self, name: str, shape: Shape) -> Array:
        """See :meth:`convec.layers.Layer.initial_values`."""
        return self._initializers[name](shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **{f"{name}_initializer": initializers.serialize(value) for name, value in self._initializers.items()},
        }
