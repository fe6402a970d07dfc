"""A problem small enough to be trained by NumPy in float64: softmax regression on random images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from convec import layers, utils
from convec.models import Sequential

CLASSES = 3
SHAPE = (4, 4, 2)


def samples(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels that a linear model can partly tell apart."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *SHAPE), dtype=np.float32)
    y = x.reshape(count, -1)[:, :CLASSES].argmax(axis=1)
    return x, y


def one_hot(y: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES, dtype=np.float32)[y]


def model(optimizer: Any = "sgd", loss: Any = "sparse_categorical_crossentropy", **compile_: Any) -> Sequential:
    """The regression, compiled, with weights that are always the same."""
    built = Sequential([layers.Input(SHAPE), layers.Flatten(), layers.Dense(CLASSES, activation="softmax")])
    built.set_weights(first_weights())
    built.compile(optimizer=optimizer, loss=loss, **{"metrics": ["accuracy"], **compile_})
    return built


def pooled_model(channels: int, filters: int, *, built: bool = True, seed: int = 1) -> Sequential:
    """A small network of every usual kind of layer on 8 x 8 images, compiled; ``built`` with random weights."""
    utils.set_random_seed(seed)
    network = Sequential(
        [
            *([layers.Input((8, 8, channels))] if built else []),
            layers.Conv2D(filters, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def first_weights() -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    inputs = int(np.prod(SHAPE))
    return [rng.standard_normal(shape).astype(np.float32) * 0.3 for shape in ((inputs, CLASSES), (CLASSES,))]


class Reference:
    """The same regression in float64, trained by plain gradient descent and reported as Keras reports it: losses are
    those before each step, weighted by ``weights`` and averaged over the samples of the epoch."""

    def __init__(self, learning_rate: float = 0.01) -> None:
        self.kernel, self.bias = (value.astype(np.float64) for value in first_weights())
        self.learning_rate = learning_rate

    def predict(self, x: np.ndarray) -> np.ndarray:
        logits = x.reshape(len(x), -1).astype(np.float64) @ self.kernel + self.bias
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

    def rows(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        predictions = self.predict(x)
        return -np.log(predictions[np.arange(len(y)), y]), predictions.argmax(axis=1) == y

    def evaluate(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None) -> dict[str, float]:
        losses, right = self.rows(x, y)
        return {"accuracy": right.mean(), "loss": (losses * (1.0 if weights is None else weights)).mean()}

    def step(self, x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> None:
        gradient = (self.predict(x) - np.eye(CLASSES)[y]) * weights[:, None] / len(y)
        self.kernel -= self.learning_rate * x.reshape(len(x), -1).astype(np.float64).T @ gradient
        self.bias -= self.learning_rate * gradient.sum(axis=0)

    def epoch(
        self, x: np.ndarray, y: np.ndarray, batches: Sequence[slice], weights: np.ndarray | None = None
    ) -> dict[str, float]:
        weights = np.ones(len(y)) if weights is None else weights
        totals = np.zeros(3)
        for rows in batches:
            losses, right = self.rows(x[rows], y[rows])
            totals += [(losses * weights[rows]).sum(), right.sum(), len(losses)]
            self.step(x[rows], y[rows], weights[rows])
        return {"accuracy": totals[1] / totals[2], "loss": totals[0] / totals[2]}


def slices(start: int, stop: int, size: int) -> list[slice]:
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]
