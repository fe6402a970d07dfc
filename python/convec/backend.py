"""What scripts ask ``keras.backend`` for: image layout, epsilon, float type and the numbering of layer names."""

from __future__ import annotations

import os
import threading
from collections import Counter

__all__ = ["clear_session", "epsilon", "floatx", "image_data_format", "set_floatx", "set_image_data_format"]

_names: Counter[str] = Counter()
_naming = threading.Lock()


def _after_fork() -> None:
    global _naming
    _naming = threading.Lock()  # the one there was may be held by a thread that does not exist here


os.register_at_fork(after_in_child=_after_fork)


def image_data_format() -> str:
    """Always ``'channels_last'``: images are (batch, height, width, channels)."""
    return "channels_last"


def set_image_data_format(data_format: str) -> None:
    """Accepts ``'channels_last'``.

    Raises:
        ValueError: anything else; :mod:`convec.ops` converts ``channels_first`` arrays one by one.
    """
    if data_format != "channels_last":
        raise ValueError(
            f"data_format is {data_format!r}, but networks work on 'channels_last' only; transpose images with "
            "numpy.transpose(x, (0, 2, 3, 1))"
        )


def epsilon() -> float:
    """The small number that keeps logarithms and divisions finite: 1e-7."""
    return 1e-7


def floatx() -> str:
    """Always ``'float32'``."""
    return "float32"


def set_floatx(dtype: str) -> None:
    """Accepts ``'float32'``.

    Raises:
        ValueError: anything else.
    """
    if dtype != "float32":
        raise ValueError(f"dtype is {dtype!r}, but convec computes in 'float32' only")


def clear_session() -> None:
    """Starts the numbering of layer names afresh."""
    _names.clear()


def next_name(prefix: str) -> str:
    """``prefix``, then ``prefix_1``, ``prefix_2``, ... as Keras names layers."""
    with _naming:
        number = _names[prefix]
        _names[prefix] += 1
    return prefix if number == 0 else f"{prefix}_{number}"
