"""Metrics, as ``keras.metrics``: classes, functions and names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convec import losses, ops

__all__ = [
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "TopKCategoricalAccuracy",
    "binary_accuracy",
    "categorical_accuracy",
    "resolve",
    "sparse_categorical_accuracy",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
]

Array = npt.NDArray[np.float32]


class Metric:
    """A mean over samples, updated batch by batch.

    Args:
        name: shown in logs.
    """

    #: Which way is better, 'max' or 'min'; None where nobody knows.
    direction: str | None = None

    def __init__(self, name: str, dtype: Any = None) -> None:
        del dtype  # float32, always
        self.name = name
        self.reset_state()

    def core_config(self) -> dict[str, Any] | None:
        """What ``_core.Network.compile`` is given; None for a metric computed in Python, batch by batch."""
        return None

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"name": self.name}

    def rows(self, y_true: Any, y_pred: Any) -> npt.NDArray[Any]:
        """The value of every sample, shape (n,)."""
        raise TypeError(f"{type(self).__name__} does not define its values: override rows(y_true, y_pred)")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in a batch."""
        self._take(np.asarray(self.rows(y_true, y_pred), dtype=np.float64).reshape(-1), sample_weight)

    def _take(self, rows: npt.NDArray[np.float64], sample_weight: Any) -> None:
        weights = np.ones_like(rows) if sample_weight is None else np.asarray(sample_weight, np.float64).reshape(-1)
        self._sum += float(rows @ weights)
        self._weight += float(weights.sum())

    def result(self) -> float:
        """The mean so far; 0 before the first batch."""
        return self._sum / self._weight if self._weight else 0.0

    def reset_state(self) -> None:
        """Starts afresh."""
        self._sum = 0.0
        self._weight = 0.0

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
        """Takes in a batch and returns the mean so far."""
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()


class _CoreMetric(Metric):
    """A metric that the compiled core computes."""

    direction = "max"
    kind: ClassVar[str] = ""
    sparse: ClassVar[bool] = False

    def __init__(self, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(self.kind if name is None else name, dtype)
        self.options: dict[str, Any] = {}

    def core_config(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.options}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), **self.options}

    def rows(self, y_true: Any, y_pred: Any) -> Array:
        predictions = np.ascontiguousarray(y_pred, dtype=np.float32)
        if self.sparse:
            targets = np.ascontiguousarray(y_true)
            targets = targets.astype(np.int64).reshape(-1)
        else:
            targets = np.ascontiguousarray(y_true, dtype=np.float32)
            if targets.size == predictions.size:
                targets = targets.reshape(predictions.shape)
        return ops.metric(self.kind, predictions, targets, **self.options)


class SparseCategoricalAccuracy(_CoreMetric):
    """Share of samples whose largest prediction is at the class number."""

    kind = "sparse_categorical_accuracy"
    sparse = True


class CategoricalAccuracy(_CoreMetric):
    """Share of samples whose largest prediction is where the one-hot target is."""

    kind = "categorical_accuracy"


class BinaryAccuracy(_CoreMetric):
    """Share of elements on the right side of ``threshold``."""

    kind = "binary_accuracy"

    def __init__(self, name: str | None = None, dtype: Any = None, threshold: float = 0.5) -> None:
        super().__init__(name, dtype)
        self.options = {"threshold": float(threshold)}


class SparseTopKCategoricalAccuracy(_CoreMetric):
    """Share of samples whose class number is among the ``k`` largest predictions."""

    kind = "sparse_top_k_categorical_accuracy"
    sparse = True

    def __init__(self, k: int = 5, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(name, dtype)
        self.options = {"k": int(k)}


class TopKCategoricalAccuracy(SparseTopKCategoricalAccuracy):
    """Share of samples whose one-hot target is among the ``k`` largest predictions."""

    kind = "top_k_categorical_accuracy"
    sparse = False


class _LossMetric(Metric):
    """A loss followed as a metric."""

    direction = "min"

    def __init__(self, loss: losses.Loss, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(loss.name if name is None else name, dtype)
        self.loss = loss

    def core_config(self) -> dict[str, Any]:
        return self.loss.core_config()

    def rows(self, y_true: Any, y_pred: Any) -> Array:
        return self.loss.rows(y_true, y_pred)


class MeanSquaredError(_LossMetric):
    """Mean of (t - p)^2."""

    def __init__(self, name: str = "mean_squared_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanSquaredError(), name, dtype)


class MeanAbsoluteError(_LossMetric):
    """Mean of |t - p|."""

    def __init__(self, name: str = "mean_absolute_error", dtype: Any = None) -> None:
        super().__init__(losses.MeanAbsoluteError(), name, dtype)


class BinaryCrossentropy(_LossMetric):
    """Cross-entropy of yes-or-no predictions."""

    def __init__(
        self,
        name: str = "binary_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(losses.BinaryCrossentropy(from_logits, label_smoothing), name, dtype)


class CategoricalCrossentropy(_LossMetric):
    """Cross-entropy with one-hot targets."""

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        dtype: Any = None,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(losses.CategoricalCrossentropy(from_logits, label_smoothing), name, dtype)


class SparseCategoricalCrossentropy(_LossMetric):
    """Cross-entropy with class numbers."""

    def __init__(
        self, name: str = "sparse_categorical_crossentropy", dtype: Any = None, from_logits: bool = False
    ) -> None:
        super().__init__(losses.SparseCategoricalCrossentropy(from_logits), name, dtype)


class _FunctionMetric(Metric):
    """A Python function ``fn(y_true, y_pred)`` of a batch: one value a sample, or one for the batch."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        super().__init__(getattr(function, "__name__", type(function).__name__))
        self.function = function

    def rows(self, y_true: Any, y_pred: Any) -> npt.NDArray[Any]:
        values = np.asarray(self.function(y_true, y_pred), dtype=np.float64)
        return values if values.ndim == 0 else np.asarray(values.reshape(len(y_pred), -1).mean(axis=1))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in a batch; one value for all of it counts once and is not weighted."""
        values = self.rows(y_true, y_pred)
        if values.ndim == 0:
            self._sum += float(values)
            self._weight += 1.0
        else:
            self._take(values, sample_weight)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 for every sample whose largest prediction is at the class number, else 0."""
    return SparseCategoricalAccuracy().rows(y_true, y_pred)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 for every sample whose largest prediction is where the one-hot target is, else 0."""
    return CategoricalAccuracy().rows(y_true, y_pred)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """Share of each sample's elements on the right side of ``threshold``."""
    return BinaryAccuracy(threshold=threshold).rows(y_true, y_pred)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 for every sample whose class number is among the ``k`` largest predictions, else 0."""
    return SparseTopKCategoricalAccuracy(k).rows(y_true, y_pred)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 for every sample whose one-hot target is among the ``k`` largest predictions, else 0."""
    return TopKCategoricalAccuracy(k).rows(y_true, y_pred)


_CLASSES: tuple[type[_CoreMetric], ...] = (
    SparseCategoricalAccuracy, CategoricalAccuracy, BinaryAccuracy, SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
)  # fmt: skip
_LOSS_CLASSES: tuple[Callable[[], _LossMetric], ...] = (
    MeanSquaredError, MeanAbsoluteError, BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy,
)  # fmt: skip
_FUNCTIONS: dict[Callable[..., Array], type[_CoreMetric]] = {
    sparse_categorical_accuracy: SparseCategoricalAccuracy,
    categorical_accuracy: CategoricalAccuracy,
    binary_accuracy: BinaryAccuracy,
    sparse_top_k_categorical_accuracy: SparseTopKCategoricalAccuracy,
    top_k_categorical_accuracy: TopKCategoricalAccuracy,
}


def by_kind(kind: str) -> type[_CoreMetric] | None:
    """The class whose metric the compiled core knows by that name, or None."""
    for candidate in _CLASSES:
        if candidate.kind == kind:
            return candidate
    return None


def _for_loss(loss: losses.Loss, output_shape: tuple[int, ...], name: str, crossentropy: bool) -> Metric:
    """What 'accuracy' (or 'crossentropy') means beside a loss, as Keras decides it."""
    if loss.kind == "sparse_categorical_crossentropy":
        family = "sparse_categorical"
    elif output_shape[-1] == 1:
        family = "binary"
    else:
        family = "categorical"
    if crossentropy:
        found = losses.get(f"{family}_crossentropy")
        found.from_logits = loss.from_logits
        return _LossMetric(found, name)
    for candidate in _CLASSES:
        if candidate.kind == f"{family}_accuracy":
            return candidate(name)
    raise ValueError(f"metric is {name!r}, which does not fit the loss {loss.name}")


def resolve(identifier: Any, loss: losses.Loss, output_shape: tuple[int, ...]) -> Metric:
    """The metric that an identifier means beside a loss.

    Args:
        identifier: an instance, a class, a name, a function of this module or of :mod:`convec.losses`, or a Python
            function ``fn(y_true, y_pred)``. 'accuracy' and 'acc' are chosen by the loss.
        loss: the model's loss.
        output_shape: of one sample.

    Raises:
        ValueError: it is none of them.
    """
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, losses.Loss):
        return _LossMetric(identifier, identifier.name)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        made: Metric = identifier()  # type: ignore[call-arg]
        return made
    if isinstance(identifier, str):
        if identifier.lower() in ("accuracy", "acc"):
            return _for_loss(loss, output_shape, identifier, crossentropy=False)
        if identifier.lower() in ("crossentropy", "ce"):
            return _for_loss(loss, output_shape, identifier, crossentropy=True)
        for candidate in _CLASSES:
            if identifier in (candidate.kind, candidate.__name__):
                return candidate()
        for one in _LOSS_CLASSES:
            if identifier == one.__name__:
                return one()
        found = losses.by_name(identifier)
        if found is not None:
            return _LossMetric(found, identifier)
    elif callable(identifier):
        if identifier in _FUNCTIONS:
            return _FUNCTIONS[identifier]()
        try:
            found = losses.get(identifier)
        except ValueError:
            return _FunctionMetric(identifier)
        return _LossMetric(found, found.name)
    names = ", ".join(["accuracy", "crossentropy", *(candidate.kind for candidate in _CLASSES)])
    raise ValueError(f"metric is {identifier!r}, but must be one of {names}, a loss, or a function of (y_true, y_pred)")
