"""convec."""

from __future__ import annotations

import time
from typing import Any

import convec
import numpy as np
from convec import layers, ops

from libraries.timing import load_arrays, median_seconds, throughput

VERSION = convec.__version__
set_threads = convec.set_num_threads

_state: dict[str, Any] = {}


def _seed_model() -> convec.Sequential:
    model = convec.Sequential(
        [
            layers.Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def build(data: str, seed: int) -> None:
    convec.utils.set_random_seed(seed)
    _state.update(load_arrays(data), model=_seed_model())


def weights() -> list[Any]:
    """The layers' weights in Keras' layout, as nested lists."""
    return [value.tolist() for value in _state["model"].get_weights()]


def train(batch: int) -> float:
    """Seconds of an epoch."""
    start = time.perf_counter()
    _state["model"].fit(_state["x_train"], _state["y_train"], batch_size=batch, epochs=1, verbose=0)
    return time.perf_counter() - start


def accuracy() -> float:
    return float(_state["model"].evaluate(_state["x_test"], _state["y_test"], batch_size=256, verbose=0)[1])


def infer(batch: int, seconds: float) -> float:
    """Images a second."""
    model, x = _state["model"], _state["x_test"][:batch]
    return batch * throughput(lambda: model.predict_on_batch(x), seconds)


def predict(count: int) -> list[Any]:
    result: list[Any] = _state["model"].predict_on_batch(_state["x_test"][:count]).tolist()
    return result


def _call(op: str, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    if op == "conv2d_training":
        y = ops.conv2d(arrays["input"], arrays["filters"], arrays["bias"], **options)
        return y, *ops.conv2d_backward(arrays["grad_output"], arrays["input"], arrays["filters"], **options)
    return getattr(ops, op)(**arrays, **options)


def prepare_op(op: str, data: str, options: dict[str, Any], result: str | None = None) -> bool:
    """Makes ready what time_op() times; writes its results where asked to."""
    arrays = load_arrays(data)
    if "input_shape" in arrays:
        arrays["input_shape"] = tuple(arrays["input_shape"].tolist())
    _state["op"] = lambda: _call(op, arrays, options)
    if result is not None:
        values = _state["op"]()
        np.savez(result, *(values if isinstance(values, tuple) else (values,)))
    return True


def time_op(seconds: float) -> float:
    """Seconds of a call."""
    return median_seconds(_state["op"], seconds)


def call_overhead(op: str, seconds: float) -> float | None:
    """Microseconds of a call on arrays so small that the arithmetic costs nothing."""
    x = np.ones((1, 4, 4, 1), dtype=np.float32)
    w = np.ones((1, 1, 1, 1), dtype=np.float32)
    row, square = np.ones((1, 4), dtype=np.float32), np.ones((4, 4), dtype=np.float32)
    y = np.empty_like(row)
    calls = {
        "relu": lambda: ops.relu(row),
        "relu, out=": lambda: ops.relu(row, out=y),
        "dense": lambda: ops.dense(row, square),
        "softmax": lambda: ops.softmax(row),
        "max_pool2d": lambda: ops.max_pool2d(x),
        "conv2d": lambda: ops.conv2d(x, w),
    }
    return 1e6 / throughput(calls[op], seconds)
