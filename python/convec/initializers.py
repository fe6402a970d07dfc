"""Initial values of weights, as ``keras.initializers``. All are float32 and repeat for a seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import _core
from convec.utils import next_seed

__all__ = [
    "Constant",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "get",
    "serialize",
]

Array = npt.NDArray[np.float32]


def fans(shape: Sequence[int]) -> tuple[float, float]:
    """(fan in, fan out) of a kernel as Keras counts them: channels times the receptive field."""
    if len(shape) < 2:
        size = float(math.prod(shape))
        return size, size
    field = math.prod(shape[:-2])
    return float(field * shape[-2]), float(field * shape[-1])


class Initializer:
    """Base: ``initializer(shape)`` gives a new array.

    Args:
        seed: makes every call give the same values; by default each call draws a fresh seed.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed

    def __call__(self, shape: Sequence[int], dtype: Any = None, seed: int | None = None) -> Array:
        """A new float32 array. ``seed`` overrides the initializer's own. Raises TypeError for another ``dtype``."""
        if dtype is not None and np.dtype(dtype) != np.float32:
            raise TypeError(f"dtype is {dtype}, but weights are float32")
        own = self.seed if seed is None else seed
        return self._values(tuple(int(extent) for extent in shape), next_seed() if own is None else int(own))

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        raise TypeError(f"{type(self).__name__} does not define its values: override _values(shape, seed)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(vars(self))


class Zeros(Initializer):
    """All zero."""

    def __init__(self) -> None:
        super().__init__()

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        return np.zeros(shape, np.float32)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments: none."""
        return {}


class Ones(Zeros):
    """All one."""

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        return np.ones(shape, np.float32)


class Constant(Initializer):
    """All ``value``."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = value

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        return np.full(shape, self.value, np.float32)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"value": self.value}


class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = minval
        self.maxval = maxval

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        return _core.random_uniform(shape, self.minval, self.maxval, seed)


class RandomNormal(Initializer):
    """Normal with the given mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = mean
        self.stddev = stddev

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        return _core.random_normal(shape, self.mean, self.stddev, seed)


class TruncatedNormal(RandomNormal):
    """Normal; values beyond two standard deviations are drawn again."""

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        return _core.random_truncated_normal(shape, self.mean, self.stddev, seed)


class VarianceScaling(Initializer):
    """Random values whose variance is ``scale`` over the fan (Glorot & Bengio, 2010; He et al., 2015).

    Args:
        scale: positive factor.
        mode: 'fan_in', 'fan_out' or 'fan_avg'.
        distribution: 'truncated_normal', 'untruncated_normal' or 'uniform'.
        seed: see :class:`Initializer`.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        if not scale > 0:
            raise ValueError(f"scale is {scale}, but must be positive")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"mode is {mode!r}, but must be 'fan_in', 'fan_out' or 'fan_avg'")
        if distribution not in ("truncated_normal", "untruncated_normal", "uniform"):
            raise ValueError(
                f"distribution is {distribution!r}, but must be 'truncated_normal', 'untruncated_normal' or 'uniform'"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def _values(self, shape: tuple[int, ...], seed: int) -> Array:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(fan, 1.0)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return _core.random_uniform(shape, -limit, limit, seed)
        if self.distribution == "untruncated_normal":
            return _core.random_normal(shape, 0.0, math.sqrt(variance), seed)
        # A normal distribution cut at two deviations has this standard deviation: divide it out.
        return _core.random_truncated_normal(shape, 0.0, math.sqrt(variance) / 0.87962566103423978, seed)


class _Scaled(VarianceScaling):
    """A variance scaling with its three arguments fixed."""

    _arguments: tuple[float, str, str] = (1.0, "fan_in", "uniform")

    def __init__(self, seed: int | None = None) -> None:
        scale, mode, distribution = self._arguments
        super().__init__(scale, mode, distribution, seed)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"seed": self.seed}


class GlorotUniform(_Scaled):
    """Uniform in +-sqrt(6 / (fan_in + fan_out))."""

    _arguments = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Scaled):
    """Truncated normal with variance 2 / (fan_in + fan_out)."""

    _arguments = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Scaled):
    """Uniform in +-sqrt(6 / fan_in)."""

    _arguments = (2.0, "fan_in", "uniform")


class HeNormal(_Scaled):
    """Truncated normal with variance 2 / fan_in."""

    _arguments = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Scaled):
    """Uniform in +-sqrt(3 / fan_in)."""

    _arguments = (1.0, "fan_in", "uniform")


class LecunNormal(_Scaled):
    """Truncated normal with variance 1 / fan_in."""

    _arguments = (1.0, "fan_in", "truncated_normal")


_CLASSES: tuple[type[Initializer], ...] = (
    Zeros, Ones, Constant, RandomUniform, RandomNormal, TruncatedNormal, VarianceScaling, GlorotUniform, GlorotNormal,
    HeUniform, HeNormal, LecunUniform, LecunNormal,
)  # fmt: skip


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def serialize(initializer: Initializer) -> dict[str, Any]:
    """Class name and configuration, as Keras writes them; :func:`get` reads them."""
    return {
        "module": "keras.initializers",
        "class_name": type(initializer).__name__,
        "config": initializer.get_config(),
        "registered_name": None,
    }


def get(identifier: Any) -> Initializer:
    """An initializer given as an instance, a class, :func:`serialize`'s dictionary or a name in either spelling.

    Spellings are 'GlorotUniform' and 'glorot_uniform'.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(identifier, Initializer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Initializer):
        return identifier()
    if isinstance(identifier, str):
        for candidate in _CLASSES:
            if _key(candidate.__name__) == _key(identifier):
                return candidate()
    if isinstance(identifier, dict) and isinstance(identifier.get("class_name"), str):
        made = type(get(identifier["class_name"]))
        # Keras names axes where convec takes the usual ones.
        config = dict(identifier.get("config") or {})
        for axes in ("input_axes", "output_axes"):
            if config.get(axes) is None:
                config.pop(axes, None)
        return made(**config)
    names = ", ".join(candidate.__name__ for candidate in _CLASSES)
    raise ValueError(f"initializer is {identifier!r}, but must be one of {names}")
