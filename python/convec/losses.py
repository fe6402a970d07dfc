"""Losses, as ``keras.losses``: classes, functions and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convec import ops

__all__ = [
    "BinaryCrossentropy",
    "CategoricalCrossentropy",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SparseCategoricalCrossentropy",
    "binary_crossentropy",
    "categorical_crossentropy",
    "get",
    "huber",
    "mae",
    "mean_absolute_error",
    "mean_squared_error",
    "mse",
    "sparse_categorical_crossentropy",
]

Array = npt.NDArray[np.float32]


def _floats(values: Any) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)


def _rows(kind: str, y_true: Any, y_pred: Any, from_logits: bool, label_smoothing: float) -> Array:
    predictions = _floats(y_pred)
    if kind == "sparse_categorical_crossentropy":
        labels = np.ascontiguousarray(y_true)
        if labels.dtype.kind == "f":
            labels = labels.astype(np.int64)
        return ops.softmax_cross_entropy(
            predictions, labels.reshape(-1), from_logits=from_logits, label_smoothing=label_smoothing
        )
    if kind == "categorical_crossentropy":
        return ops.softmax_cross_entropy(
            predictions, _floats(y_true), from_logits=from_logits, label_smoothing=label_smoothing
        )
    return ops.pointwise_loss(
        kind, predictions, _floats(y_true), from_logits=from_logits, label_smoothing=label_smoothing
    )


def sparse_categorical_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Array:
    """Cross-entropy of each row of ``y_pred`` (n, classes) with the class numbers ``y_true`` (n,)."""
    return _rows("sparse_categorical_crossentropy", y_true, y_pred, from_logits, 0.0)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0
) -> Array:
    """Cross-entropy of each row of ``y_pred`` (n, classes) with the distributions ``y_true`` (n, classes)."""
    return _rows("categorical_crossentropy", y_true, y_pred, from_logits, label_smoothing)


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0) -> Array:
    """Mean over each row of -(t log p + (1 - t) log(1 - p))."""
    return _rows("binary_crossentropy", y_true, y_pred, from_logits, label_smoothing)


def mean_squared_error(y_true: Any, y_pred: Any) -> Array:
    """Mean over each row of (t - p)^2."""
    return _rows("mean_squared_error", y_true, y_pred, False, 0.0)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Array:
    """Mean over each row of |t - p|."""
    return _rows("mean_absolute_error", y_true, y_pred, False, 0.0)


def huber(y_true: Any, y_pred: Any) -> Array:
    """Mean over each row of Huber's loss with delta 1."""
    return _rows("huber", y_true, y_pred, False, 0.0)


mse = mean_squared_error
mae = mean_absolute_error


class Loss:
    """Base of the losses. Calling one gives the mean over the batch of the weighted losses.

    Args:
        reduction: ``'sum_over_batch_size'``, the only one a network trains with.
        name: shown by a metric made of the loss.

    Raises:
        ValueError: another reduction.
    """

    kind: ClassVar[str] = ""

    def __init__(self, reduction: str | None = "sum_over_batch_size", name: str | None = None) -> None:
        if reduction not in ("sum_over_batch_size", "auto"):
            raise ValueError(f"reduction is {reduction!r}, but must be 'sum_over_batch_size'")
        self.reduction = "sum_over_batch_size"
        self.name = self.kind if name is None else name
        self.from_logits = False
        self.label_smoothing = 0.0

    def core_config(self) -> dict[str, Any]:
        """What ``_core.Network.compile`` is given."""
        return {"kind": self.kind, "from_logits": self.from_logits, "label_smoothing": self.label_smoothing}

    def rows(self, y_true: Any, y_pred: Any) -> Array:
        """The loss of every sample, shape (n,)."""
        return _rows(self.kind, y_true, y_pred, self.from_logits, self.label_smoothing)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Mean over the batch of the weighted losses."""
        rows = self.rows(y_true, y_pred)
        if sample_weight is not None:
            rows = rows * _floats(sample_weight).reshape(rows.shape)
        return float(np.mean(rows, dtype=np.float64))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"reduction": self.reduction, "name": self.name}


def _smoothing(label_smoothing: float) -> float:
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}, but must be in [0, 1)")
    return float(label_smoothing)


class SparseCategoricalCrossentropy(Loss):
    """Cross-entropy with class numbers. ``from_logits``: predictions come before a softmax."""

    kind = "sparse_categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        if ignore_class is not None:
            raise ValueError("ignore_class is not supported; give those samples a sample_weight of 0")
        self.from_logits = bool(from_logits)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}


class CategoricalCrossentropy(Loss):
    """Cross-entropy with one-hot (or other) distributions. ``from_logits``: predictions come before a softmax."""

    kind = "categorical_crossentropy"

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
    ) -> None:
        super().__init__(reduction, name)
        if axis != -1:
            raise ValueError(f"axis is {axis}, but must be -1, the last")
        self.from_logits = bool(from_logits)
        self.label_smoothing = _smoothing(label_smoothing)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "from_logits": self.from_logits, "label_smoothing": self.label_smoothing}


class BinaryCrossentropy(CategoricalCrossentropy):
    """Cross-entropy of yes-or-no predictions. ``from_logits``: predictions come before a sigmoid."""

    kind = "binary_crossentropy"


class MeanSquaredError(Loss):
    """Mean of (t - p)^2."""

    kind = "mean_squared_error"


class MeanAbsoluteError(Loss):
    """Mean of |t - p|."""

    kind = "mean_absolute_error"


class Huber(Loss):
    """Huber's loss, with ``delta`` 1."""

    kind = "huber"

    def __init__(
        self, delta: float = 1.0, reduction: str | None = "sum_over_batch_size", name: str | None = None
    ) -> None:
        super().__init__(reduction, name)
        if delta != 1.0:
            raise ValueError(f"delta is {delta}, but only 1.0 is supported; scale targets and predictions instead")


_CLASSES: dict[str, type[Loss]] = {
    loss.kind: loss
    for loss in (
        SparseCategoricalCrossentropy, CategoricalCrossentropy, BinaryCrossentropy, MeanSquaredError,
        MeanAbsoluteError, Huber,
    )
}  # fmt: skip
_ALIASES = {"mse": "mean_squared_error", "mae": "mean_absolute_error", "bce": "binary_crossentropy"}
_FUNCTIONS: dict[Callable[..., Array], str] = {
    sparse_categorical_crossentropy: "sparse_categorical_crossentropy",
    categorical_crossentropy: "categorical_crossentropy",
    binary_crossentropy: "binary_crossentropy",
    mean_squared_error: "mean_squared_error",
    mean_absolute_error: "mean_absolute_error",
    huber: "huber",
}


def by_name(name: str) -> Loss | None:
    """The loss of that name, alias or class name, or None."""
    key = _ALIASES.get(name.lower(), name)
    for kind, loss in _CLASSES.items():
        if key in (kind, loss.__name__) or name == loss.__name__:
            return loss()
    return None


def get(identifier: Any) -> Loss:
    """A loss given as an instance, a class, a name or a function of this module.

    Raises:
        ValueError: it is none of them. A loss is differentiated in the compiled core, so a Python function of your own
            cannot be one.
    """
    if isinstance(identifier, Loss):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Loss) and identifier.kind:
        return identifier()
    found = by_name(identifier) if isinstance(identifier, str) else None
    if found is None and callable(identifier) and identifier in _FUNCTIONS:
        found = _CLASSES[_FUNCTIONS[identifier]]()
    if found is None:
        raise ValueError(
            f"loss is {identifier!r}, but must be one of {', '.join(_CLASSES)} (losses are differentiated in the "
            "compiled core, so a function of your own cannot be one)"
        )
    return found
