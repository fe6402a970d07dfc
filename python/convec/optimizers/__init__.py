"""Optimizers and learning-rate schedules, as ``keras.optimizers``. The steps themselves run in the compiled core."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from convec._core import Network
from convec.optimizers import schedules
from convec.optimizers.schedules import LearningRateSchedule

__all__ = ["SGD", "Adadelta", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "schedules"]


class Optimizer:
    """Base of the optimizers.

    Args:
        learning_rate: a number or a :class:`convec.optimizers.schedules.LearningRateSchedule`.
        weight_decay: before each step every weight shrinks by this share of the learning rate.
        clipnorm: gradients of each weight array are scaled down to this length.
        clipvalue: gradients are cut off at plus and minus this.
        global_clipnorm: all gradients together are scaled down to this length.
        name: kept, not used.

    Raises:
        TypeError: an argument is not known; old spellings are named.
        ValueError: an argument is out of range.
    """

    kind: ClassVar[str] = ""

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        for key, neutral in (
            ("use_ema", False),
            ("ema_momentum", 0.99),
            ("ema_overwrite_frequency", None),
            ("loss_scale_factor", None),
            ("gradient_accumulation_steps", None),
            ("jit_compile", None),
        ):
            if kwargs.pop(key, neutral) not in (neutral, True if key == "jit_compile" else neutral):
                raise ValueError(f"{key} is not supported by convec")
        if "lr" in kwargs:
            raise TypeError("lr is not an argument; its name is learning_rate")
        if "decay" in kwargs:
            raise TypeError("decay is not an argument; use learning_rate=convec.optimizers.schedules.InverseTimeDecay")
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no argument {next(iter(kwargs))!r}")
        if sum(value is not None for value in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise ValueError("only one of clipnorm, clipvalue and global_clipnorm may be given")
        self.name = self.kind if name is None else name
        self._network: Network | None = None
        self._schedule: LearningRateSchedule | None = None
        self._learning_rate = 0.0
        self.learning_rate = learning_rate
        self._settings: dict[str, Any] = {}
        self._set(weight_decay=weight_decay, clipnorm=clipnorm, clipvalue=clipvalue, global_clipnorm=global_clipnorm)

    def _set(self, **settings: float | bool | None) -> None:
        for key, value in settings.items():
            if isinstance(value, bool) or value is None:
                self._settings[key] = value
                continue
            number = float(value)
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"{key} is {value}, but must be finite and not negative")
            self._settings[key] = number

    @property
    def learning_rate(self) -> Any:
        """The learning rate of the next step, or the schedule it follows. May be set at any time."""
        return self._learning_rate if self._schedule is None else self._schedule

    @learning_rate.setter
    def learning_rate(self, value: float | LearningRateSchedule) -> None:
        if isinstance(value, LearningRateSchedule):
            self._schedule = value
            return
        rate = float(value)
        if not (np.isfinite(rate) and rate >= 0):
            raise ValueError(f"learning_rate is {value}, but must be finite and not negative")
        self._schedule = None
        self._learning_rate = rate
        if self._network is not None:
            self._network.learning_rate = rate

    @property
    def lr(self) -> Any:
        """The old name of :attr:`learning_rate`."""
        return self.learning_rate

    @lr.setter
    def lr(self, value: float | LearningRateSchedule) -> None:
        self.learning_rate = value

    @property
    def iterations(self) -> int:
        """Steps taken since the model was compiled."""
        return 0 if self._network is None else self._network.iterations

    @property
    def schedule(self) -> LearningRateSchedule | None:
        """The schedule in use, if any."""
        return self._schedule

    def bind(self, network: Network | None) -> None:
        """Makes this the optimizer of a network, whose steps and learning rate it then shows."""
        self._network = network

    def core_config(self) -> dict[str, Any]:
        """What ``_core.Network.compile`` is given."""
        rate = self._learning_rate if self._schedule is None else float(self._schedule(0))
        settings = {key: value for key, value in self._settings.items() if value is not None}
        return {"kind": self.kind, "learning_rate": rate, **settings}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name, "learning_rate": self.learning_rate, **self._settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """An optimizer from :meth:`get_config`'s dictionary."""
        return cls(**config)


class SGD(Optimizer):
    """Gradient descent with momentum, Nesterov's if asked: v = momentum v - lr g; w += v."""

    kind = "sgd"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        if not 0.0 <= momentum <= 1.0:
            raise ValueError(f"momentum is {momentum}, but must be in [0, 1]")
        self._set(momentum=momentum, nesterov=bool(nesterov))


class Adam(Optimizer):
    """Adam (Kingma & Ba, 2014), with the bias correction folded into the learning rate as in Keras."""

    kind = "adam"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        for name, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} is {value}, but must be in [0, 1)")
        self._set(beta_1=beta_1, beta_2=beta_2, epsilon=epsilon, amsgrad=bool(amsgrad))


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    kind = "adamw"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay=weight_decay, **kwargs)


class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton, 2012), with momentum and centring as in Keras."""

    kind = "rmsprop"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self._set(rho=rho, momentum=momentum, epsilon=epsilon, centered=bool(centered))


class Adadelta(Optimizer):
    """Adadelta (Zeiler, 2012)."""

    kind = "adadelta"

    def __init__(
        self,
        learning_rate: float | LearningRateSchedule = 0.001,
        rho: float = 0.95,
        epsilon: float = 1e-7,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self._set(rho=rho, epsilon=epsilon)


_CLASSES: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop, Adadelta)


def get(identifier: Any) -> Optimizer:
    """An optimizer given as an instance, a class, a name, or a dictionary of ``class_name`` and ``config``.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Optimizer) and identifier.kind:
        return identifier()  # type: ignore[call-arg]
    if isinstance(identifier, dict) and "class_name" in identifier:
        return type(get(identifier["class_name"])).from_config(identifier.get("config", {}))
    if isinstance(identifier, str):
        for candidate in _CLASSES:
            if identifier.lower() == candidate.kind:
                return candidate()  # type: ignore[call-arg]
    names = ", ".join(candidate.kind for candidate in _CLASSES)
    raise ValueError(f"optimizer is {identifier!r}, but must be one of {names} or an object of convec.optimizers")
