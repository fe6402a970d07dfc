"""Pooling over windows and over whole images."""

from __future__ import annotations

from typing import Any, ClassVar

from convec.layers.base import Layer, channels_last, pair, window_padding


class _Pooling2D(Layer):
    kind: ClassVar[str]

    def __init__(
        self,
        pool_size: int | tuple[int, int] = (2, 2),
        strides: int | tuple[int, int] | None = None,
        padding: str | tuple[tuple[int, int], tuple[int, int]] = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_size = pair(pool_size, "pool_size")
        self.strides = self.pool_size if strides is None else pair(strides, "strides")
        self.padding = window_padding(padding)
        self.data_format = channels_last(data_format)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [{"kind": self.kind, "pool_size": self.pool_size, "strides": self.strides, "padding": self.padding}]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
        }


class MaxPooling2D(_Pooling2D):
    """Largest value of each window.

    Args:
        pool_size: rows and columns of a window.
        strides: between two windows; by default the window's size.
        padding: 'valid' (windows inside the image only), 'same', or pixels that never win nor count,
            ``((top, bottom), (left, right))``, which Keras has not.
        data_format: 'channels_last' or None.
        **kwargs: see :class:`convec.layers.Layer`.
    """

    kind = "max_pool2d"


class AveragePooling2D(_Pooling2D):
    """Mean of each window; with padding over the pixels inside the image. Arguments as MaxPooling2D."""

    kind = "average_pool2d"


class _GlobalPooling2D(Layer):
    kind: ClassVar[str]

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = channels_last(data_format)
        self.keepdims = bool(keepdims)

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return [{"kind": self.kind, "keepdims": self.keepdims}]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_format": self.data_format, "keepdims": self.keepdims}


class GlobalMaxPooling2D(_GlobalPooling2D):
    """Largest value of each channel: (batch, channels), or (batch, 1, 1, channels) with ``keepdims``."""

    kind = "global_max_pool2d"


class GlobalAveragePooling2D(_GlobalPooling2D):
    """Mean of each channel: (batch, channels), or (batch, 1, 1, channels) with ``keepdims``."""

    kind = "global_average_pool2d"
