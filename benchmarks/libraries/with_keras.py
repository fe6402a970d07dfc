"""Keras on TensorFlow: the script as its users write it."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from libraries.timing import load_arrays, throughput

VERSION = f"{keras.__version__} (TensorFlow {tf.__version__})"

_state: dict[str, Any] = {}


def set_threads(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


class _Stopwatch(keras.callbacks.Callback):
    seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds = time.perf_counter() - self._start


def build(data: str, seed: int) -> None:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    _state.update(load_arrays(data), model=model)


def set_weights(weights: list[Any]) -> bool:
    _state["model"].set_weights([np.asarray(value, dtype=np.float32) for value in weights])
    return True


def train(batch: int) -> float:
    stopwatch = _Stopwatch()
    _state["model"].fit(
        _state["x_train"], _state["y_train"], batch_size=batch, epochs=1, verbose=0, callbacks=[stopwatch]
    )
    return stopwatch.seconds


def accuracy() -> float:
    return float(_state["model"].evaluate(_state["x_test"], _state["y_test"], batch_size=256, verbose=0)[1])


def infer(batch: int, seconds: float) -> float:
    model, x = _state["model"], _state["x_test"][:batch]
    return batch * throughput(lambda: model.predict_on_batch(x), seconds)


def predict(count: int) -> list[Any]:
    result: list[Any] = _state["model"].predict_on_batch(_state["x_test"][:count]).tolist()
    return result
