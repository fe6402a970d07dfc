"""Learning rates that change with the step, as ``keras.optimizers.schedules``: functions of step numbers or arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "CosineDecay",
    "ExponentialDecay",
    "InverseTimeDecay",
    "LearningRateSchedule",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
]

Steps = Any
Rates = npt.NDArray[np.float32]


class LearningRateSchedule:
    """Base: ``schedule(step)`` gives the learning rate of step 0, 1, ..., for a number or an array of them."""

    def __call__(self, step: Steps) -> Rates:
        """Learning rate of each step, float32."""
        return np.asarray(self._rates(np.asarray(step, dtype=np.float64)), dtype=np.float32)

    def _rates(self, step: npt.NDArray[np.float64]) -> Any:
        raise TypeError(f"{type(self).__name__} does not define its rates: override _rates(step)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = dict(vars(self))
        if config.get("name", "") is None:
            config["name"] = type(self).__name__
        return config


class _Decay(LearningRateSchedule):
    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        if decay_steps <= 0:
            raise ValueError(f"decay_steps is {decay_steps}, but must be positive")
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.decay_rate = decay_rate
        self.staircase = staircase
        self.name = name

    def _progress(self, step: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        progress = step / self.decay_steps
        return np.floor(progress) if self.staircase else progress


class ExponentialDecay(_Decay):
    """initial * decay_rate ^ (step / decay_steps)."""

    def _rates(self, step: npt.NDArray[np.float64]) -> Any:
        return self.initial_learning_rate * self.decay_rate ** self._progress(step)


class InverseTimeDecay(_Decay):
    """initial / (1 + decay_rate * step / decay_steps)."""

    def _rates(self, step: npt.NDArray[np.float64]) -> Any:
        return self.initial_learning_rate / (1.0 + self.decay_rate * self._progress(step))


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` up to and including step ``boundaries[i]``, the last value after."""

    def __init__(self, boundaries: Sequence[float], values: Sequence[float], name: str | None = None) -> None:
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                f"values has {len(values)} numbers, but boundaries has {len(boundaries)}: it must have one more"
            )
        self.boundaries = list(boundaries)
        self.values = list(values)
        self.name = name

    def _rates(self, step: npt.NDArray[np.float64]) -> Any:
        return np.asarray(self.values)[np.searchsorted(np.asarray(self.boundaries), step, side="left")]


class PolynomialDecay(LearningRateSchedule):
    """From initial to end in ``decay_steps`` along (1 - step / decay_steps) ^ power; ``cycle`` starts over."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str | None = None,
    ) -> None:
        if decay_steps <= 0:
            raise ValueError(f"decay_steps is {decay_steps}, but must be positive")
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.end_learning_rate = end_learning_rate
        self.power = power
        self.cycle = cycle
        self.name = name

    def _rates(self, step: npt.NDArray[np.float64]) -> Any:
        if self.cycle:
            span = self.decay_steps * np.maximum(np.ceil(step / self.decay_steps), 1.0)
        else:
            span = np.float64(self.decay_steps)
            step = np.minimum(step, span)
        drop = self.initial_learning_rate - self.end_learning_rate
        return drop * (1.0 - step / span) ** self.power + self.end_learning_rate


class CosineDecay(LearningRateSchedule):
    """Half a cosine from initial down to ``alpha`` times it (Loshchilov & Hutter, 2016), after an optional warm-up."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str | None = None,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        if decay_steps <= 0:
            raise ValueError(f"decay_steps is {decay_steps}, but must be positive")
        self.initial_learning_rate = initial_learning_rate
        self.decay_steps = decay_steps
        self.alpha = alpha
        self.name = name
        self.warmup_target = warmup_target
        self.warmup_steps = warmup_steps

    def _rates(self, step: npt.NDArray[np.float64]) -> Any:
        if self.warmup_target is None:
            return self._cosine(step, self.initial_learning_rate)
        share = step / max(self.warmup_steps, 1)
        warm = self.initial_learning_rate + share * (self.warmup_target - self.initial_learning_rate)
        after = self._cosine(step - self.warmup_steps, self.warmup_target)
        return np.where(step < self.warmup_steps, warm, after)

    def _cosine(self, step: npt.NDArray[np.float64], top: float) -> Any:
        share = np.minimum(step, self.decay_steps) / self.decay_steps
        return top * ((1.0 - self.alpha) * 0.5 * (1.0 + np.cos(math.pi * share)) + self.alpha)
