"""convec beside Keras itself, wherever Keras can be imported: the same programs, run by both.

The other tests hold expected numbers from closed forms; these are the check that those are what Keras does.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import convec
import convec.models
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras")

# Keras' back ends warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")

BOTH = (keras, convec)
RNG = np.random.default_rng(0)
SHAPE = (12, 11, 3)
IMAGES = RNG.standard_normal((4, *SHAPE), dtype=np.float32) * 2
X = RNG.standard_normal((53, 6, 6, 2), dtype=np.float32)
Y = RNG.integers(0, 3, 53)
HOT = np.eye(3, dtype=np.float32)[Y]
BITS = (Y[:, None] > 0).astype(np.float32)
WEIGHTS = RNG.uniform(0.2, 2, 53).astype(np.float32)
VX, VY = RNG.standard_normal((17, 6, 6, 2), dtype=np.float32), RNG.integers(0, 3, 17)
CLASS_WEIGHT = {0: 0.5, 1: 2.0, 2: 3.0}


def agree(first: Any, second: Any, tolerance: float = 2e-5) -> None:
    """Nested results are the same: names exactly, numbers nearly."""
    if isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            agree(first[name], second[name], tolerance)
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            agree(one, other, tolerance)
    elif isinstance(first, str) or first is None:
        assert first == second
    else:
        np.testing.assert_allclose(np.asarray(second), np.asarray(first), rtol=tolerance, atol=tolerance)


# ---- Layers ----

LAYERS: dict[str, Callable[[Any], Any]] = {
    "conv": lambda L: L.Conv2D(5, 3),
    "conv, same, strided": lambda L: L.Conv2D(5, (3, 2), strides=2, padding="same", activation="relu"),
    "conv, dilated groups": lambda L: L.Conv2D(6, 3, dilation_rate=2, groups=3, use_bias=False, activation="tanh"),
    "max": lambda L: L.MaxPooling2D(),
    "max, same": lambda L: L.MaxPool2D(3, 2, "same"),
    "average, same": lambda L: L.AveragePooling2D((2, 3), padding="same"),
    "global average": lambda L: L.GlobalAveragePooling2D(),
    "global max": lambda L: L.GlobalMaxPooling2D(keepdims=True),
    "flatten": lambda L: L.Flatten(),
    "dense": lambda L: L.Dense(7, activation="softmax"),
    "batch norm": lambda L: L.BatchNormalization(momentum=0.9, epsilon=1e-2),
    "batch norm, no centre": lambda L: L.BatchNormalization(center=False),
    "batch norm, no scale": lambda L: L.BatchNormalization(scale=False),
    "rescaling": lambda L: L.Rescaling(1 / 255, offset=-0.5),
    "dropout": lambda L: L.Dropout(0.5),
    "relu6": lambda L: L.ReLU(max_value=6),
    "softmax": lambda L: L.Softmax(),
    **{
        name: lambda L, name=name: L.Activation(name)
        for name in (
            "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "softplus",
            "softmax",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    models = [k.models.Sequential([k.layers.Input(SHAPE), LAYERS[name](k.layers)]) for k in BOTH]
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.1, 0.5, value.shape).astype(np.float32) for value in models[0].get_weights()]
    for model in models:
        model.set_weights(weights)
    agree(*(model.predict(IMAGES, verbose=0) for model in models))
    assert models[0].output_shape == models[1].output_shape
    assert models[0].count_params() == models[1].count_params()
    assert models[0].layers[0].name == models[1].layers[0].name or "_" in models[0].layers[0].name


# ---- Training ----


def build(k: Any, activation: str | None = "softmax", units: int = 3) -> Any:
    layers = k.layers
    model = k.models.Sequential(
        [
            layers.Input((6, 6, 2)), layers.Conv2D(4, 3, activation="tanh"), layers.Flatten(),
            layers.Dense(units, activation=activation),
        ]
    )  # fmt: skip
    rng = np.random.default_rng(1)
    model.set_weights([rng.standard_normal(value.shape).astype(np.float32) * 0.2 for value in model.get_weights()])
    return model


def made(value: Any, k: Any) -> Any:
    """The value for a library: functions make it."""
    return value(k) if callable(value) else value


def run(
    k: Any, *, optimizer: Any = "sgd", loss: Any = "sparse_categorical_crossentropy", metrics: Any = ("accuracy",),
    weighted_metrics: Any = None, activation: str | None = "softmax", units: int = 3, **arguments: Any,
) -> dict[str, Any]:  # fmt: skip
    model = build(k, activation, units)
    metrics = made(metrics, k)
    model.compile(made(optimizer, k), made(loss, k), metrics=list(metrics), weighted_metrics=weighted_metrics)
    defaults = {"x": X, "y": Y, "shuffle": False, "batch_size": 16, "epochs": 3, "verbose": 0}
    given = {**defaults, **arguments}
    given = {
        name: made(value, k) if name in ("x", "callbacks", "validation_data") else value
        for name, value in given.items()
    }
    history = model.fit(**given)
    return {"history": history.history, "epoch": history.epoch, "weights": model.get_weights()}


def of(name: str, **arguments: Any) -> Callable[[Any], Any]:
    return lambda k: getattr(k.optimizers, name)(**arguments)


def scheduled(name: str, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
    return lambda k: k.optimizers.SGD(getattr(k.optimizers.schedules, name)(*arguments, **named))


OPTIMIZERS: dict[str, Any] = {
    "sgd": "sgd",
    "momentum": of("SGD", learning_rate=0.1, momentum=0.9),
    "nesterov": of("SGD", learning_rate=0.1, momentum=0.9, nesterov=True),
    "sgd, decay": of("SGD", learning_rate=0.1, weight_decay=0.01, momentum=0.5),
    "adam": "adam",
    "amsgrad": of("Adam", amsgrad=True, learning_rate=0.02),
    "adam, decay": of("Adam", weight_decay=0.1),
    "adamw": "adamw",
    "adamw, more": of("AdamW", learning_rate=0.01, weight_decay=0.2),
    "rmsprop": "rmsprop",
    "rmsprop, centred": of("RMSprop", centered=True, momentum=0.5, learning_rate=0.01),
    "adadelta": "adadelta",
    "adadelta at 1": of("Adadelta", learning_rate=1.0),
    "clipnorm": of("SGD", learning_rate=0.5, clipnorm=0.1),
    "clipvalue": of("SGD", learning_rate=0.5, clipvalue=0.01),
    "global_clipnorm": of("Adam", learning_rate=0.05, global_clipnorm=0.1),
    "exponential": scheduled("ExponentialDecay", 0.5, 3, 0.5),
    "staircase": scheduled("ExponentialDecay", 0.5, 3, 0.5, staircase=True),
    "inverse time": scheduled("InverseTimeDecay", 0.5, 3, 0.5),
    "piecewise": scheduled("PiecewiseConstantDecay", [2, 4], [0.5, 0.1, 0.01]),
    "polynomial": scheduled("PolynomialDecay", 0.5, 5, power=2.0),
    "polynomial, cycling": scheduled("PolynomialDecay", 0.5, 3, cycle=True),
    "cosine": scheduled("CosineDecay", 0.5, 6, alpha=0.1),
    "cosine, warm": scheduled("CosineDecay", 0.0, 6, warmup_target=0.5, warmup_steps=3),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    agree(*(run(k, optimizer=OPTIMIZERS[name]) for k in BOTH))


def endless(weighted: bool = False) -> Iterator[tuple[np.ndarray, ...]]:
    while True:
        for start in range(0, 50, 10):
            rows = slice(start, start + 10)
            yield (X[rows], Y[rows], WEIGHTS[rows]) if weighted else (X[rows], Y[rows])


class Batches(keras.utils.PyDataset):  # type: ignore[misc,name-defined]
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[index * 10 : index * 10 + 10], Y[index * 10 : index * 10 + 10]


FITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "validation_split": {"validation_split": 0.3},
    "validation_split, weights": {"validation_split": 0.3, "sample_weight": WEIGHTS},
    "validation_split, class weights": {"validation_split": 0.25, "class_weight": CLASS_WEIGHT},
    "validation_data": {"validation_data": (VX, VY)},
    "validation_data, weights": {"validation_data": (VX, VY, np.linspace(0, 1, 17, dtype=np.float32))},
    "class_weight": {"class_weight": CLASS_WEIGHT},
    "class_weight, some": {"class_weight": {0: 0.5, 1: 2.0}},
    "sample_weight": {"sample_weight": WEIGHTS},
    "weighted metrics": {"sample_weight": WEIGHTS, "weighted_metrics": ["accuracy"]},
    "weighted metrics, classes": {"class_weight": CLASS_WEIGHT, "weighted_metrics": ["accuracy", "accuracy"]},
    "steps_per_epoch": {"steps_per_epoch": 2, "epochs": 4},
    "steps_per_epoch, uneven": {"steps_per_epoch": 3, "epochs": 4},
    "steps_per_epoch, too many": {"steps_per_epoch": 10},
    "validation_freq": {"validation_data": (VX, VY), "validation_freq": 2, "epochs": 5},
    "validation_freq, list": {"validation_data": (VX, VY), "validation_freq": [1, 3], "epochs": 4},
    "validation steps": {"validation_data": (VX, VY), "validation_steps": 1, "validation_batch_size": 4},
    "initial_epoch": {"initial_epoch": 2, "epochs": 5},
    "initial_epoch, past the end": {"initial_epoch": 5, "epochs": 3},
    "one batch": {"batch_size": 100},
    "same metric twice": {"metrics": ("accuracy", "accuracy")},
    "generator": {"x": lambda k: endless(), "y": None, "batch_size": None, "steps_per_epoch": 3},
    "generator, weights": {"x": lambda k: endless(True), "y": None, "batch_size": None, "steps_per_epoch": 3},
    "sequence": {"x": lambda k: Batches(), "y": None, "batch_size": None},
    "sequence, steps": {"x": lambda k: Batches(), "y": None, "batch_size": None, "steps_per_epoch": 3},
    "categorical": {"loss": "categorical_crossentropy", "y": HOT},
    "categorical, function": {"loss": lambda k: k.losses.categorical_crossentropy, "y": HOT},
    "categorical, smoothed": {"loss": lambda k: k.losses.CategoricalCrossentropy(label_smoothing=0.1), "y": HOT},
    "categorical, logits": {
        "loss": lambda k: k.losses.CategoricalCrossentropy(from_logits=True), "y": HOT, "activation": None,
    },
    "sparse, logits": {
        "loss": lambda k: k.losses.SparseCategoricalCrossentropy(from_logits=True), "activation": None,
    },
    "mse": {"loss": "mse", "y": HOT, "metrics": ("mae", "mse")},
    "mae": {"loss": "mae", "y": HOT},
    "huber": {"loss": "huber", "y": HOT},
    "binary": {"loss": "binary_crossentropy", "y": BITS, "activation": "sigmoid", "units": 1},
    "binary, flat targets": {"loss": "binary_crossentropy", "y": BITS[:, 0], "activation": "sigmoid", "units": 1},
    "binary, three outputs": {"loss": "binary_crossentropy", "y": HOT, "activation": "sigmoid"},
    "binary, logits": {
        "loss": lambda k: k.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2),
        "y": BITS, "activation": None, "units": 1,
    },
    "top k": {"metrics": lambda k: [k.metrics.SparseTopKCategoricalAccuracy(k=2)]},
    "metric objects": {
        "metrics": lambda k: [k.metrics.MeanSquaredError(), k.metrics.MeanAbsoluteError(name="mine")],
        "loss": "categorical_crossentropy", "y": HOT,
    },
    "metric function": {
        "metrics": lambda k: [k.metrics.categorical_accuracy], "loss": "categorical_crossentropy", "y": HOT,
    },
    "labels in a column": {"y": Y[:, None]},
    "labels as floats": {"y": Y.astype(np.float32)},
}  # fmt: skip


@pytest.mark.parametrize("name", FITS)
def test_fit(name: str) -> None:
    agree(*(run(k, **FITS[name]) for k in BOTH))


def test_single_batches_and_evaluation() -> None:
    results = []
    for k in BOTH:
        model = build(k)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        results.append(
            [
                model.evaluate(X, Y, verbose=0),
                model.evaluate(X, Y, verbose=0, return_dict=True),
                model.evaluate(X, Y, verbose=0, sample_weight=WEIGHTS),
                model.evaluate(X, Y, verbose=0, steps=1, batch_size=8),
                model.predict(X, verbose=0, steps=2, batch_size=5),
                model.predict_on_batch(X[:3]),
                model.train_on_batch(X[:8], Y[:8], return_dict=True),
            ]
        )
    agree(*results)


# ---- Callbacks ----


def events(k: Any, batches: bool) -> list[Any]:
    noted: list[Any] = []
    hooks = [name for name in dir(k.callbacks.Callback) if name.startswith("on_")]
    names = [name for name in hooks if "_batch_" not in name or (batches and not name.startswith("on_batch"))]

    def noting(name: str) -> Any:
        def hook(self: Any, *arguments: Any, **named: Any) -> None:
            logs = named.get("logs")
            numbers = list(arguments)
            if numbers and (isinstance(numbers[-1], dict) or numbers[-1] is None):
                logs = numbers.pop()
            logs = {key: float(value) for key, value in sorted((logs or {}).items()) if np.ndim(value) == 0}
            noted.append([name, numbers, logs])

        return hook

    callback = type("Noting", (k.callbacks.Callback,), {name: noting(name) for name in names})()
    model = build(k)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        X[:20], Y[:20], validation_data=(VX[:6], VY[:6]), batch_size=8, epochs=2, shuffle=False, verbose=0,
        callbacks=[callback],
    )  # fmt: skip
    noted.append(sorted(callback.params))
    model.evaluate(X[:9], Y[:9], batch_size=4, verbose=0, callbacks=[callback])
    model.predict(X[:9], batch_size=4, verbose=0, callbacks=[callback])
    return noted


@pytest.mark.parametrize("batches", [True, False])
def test_callbacks_are_called_alike(batches: bool) -> None:
    agree(*(events(k, batches) for k in BOTH))


class Scripted:
    """Stands in for a model."""

    def __init__(self) -> None:
        self.stop_training = False
        self.optimizer = type("Optimizer", (), {"learning_rate": 0.1})()
        self.metrics: list[Any] = []
        self.epoch = -1
        self.restored = -1

    def get_weights(self) -> int:
        return self.epoch

    def set_weights(self, weights: int) -> None:
        self.restored = weights


def play(callback: Any, values: list[float]) -> list[Any]:
    model = Scripted()
    callback.set_model(model)
    callback.on_train_begin({})
    trace = []
    for epoch, value in enumerate(values):
        model.epoch = epoch
        callback.on_epoch_begin(epoch, {})
        callback.on_epoch_end(epoch, {"val_loss": value, "loss": value})
        trace.append([float(model.stop_training), float(model.optimizer.learning_rate)])
        if model.stop_training:
            break
    callback.on_train_end({})
    return [*trace, model.restored]


@pytest.mark.parametrize("seed", range(60))
def test_monitors_on_random_walks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Quarters: Keras compares in float32.
    values = [float(value) / 4 for value in np.round(4 * rng.standard_normal(12).cumsum())]
    stopping = {
        "min_delta": float(rng.choice([0, 0.5])), "patience": int(rng.integers(0, 4)),
        "mode": str(rng.choice(["min", "max"])), "baseline": [None, 0.0][rng.integers(2)],
        "restore_best_weights": bool(rng.integers(2)), "start_from_epoch": int(rng.integers(0, 3)),
    }  # fmt: skip
    agree(*(play(k.callbacks.EarlyStopping(**stopping), values) for k in BOTH))
    plateau = {
        "min_delta": float(rng.choice([0, 0.5])), "patience": int(rng.integers(1, 4)),
        "mode": str(rng.choice(["min", "max"])), "factor": 0.5, "cooldown": int(rng.integers(0, 3)),
        "min_lr": float(rng.choice([0, 0.02])),
    }  # fmt: skip
    agree(*(play(k.callbacks.ReduceLROnPlateau(**plateau), values) for k in BOTH))


def test_csv_files(tmp_path: Any) -> None:
    tables = []
    for k in BOTH:
        path = tmp_path / f"{k.__name__}.csv"
        run(k, callbacks=lambda k, path=path: [k.callbacks.CSVLogger(str(path))])
        tables.append(path.read_text().splitlines())
    assert tables[0][0] == tables[1][0]
    numbers = [
        [[float(cell) if cell != "NA" else cell for cell in line.split(",")] for line in table[1:]] for table in tables
    ]
    agree(*numbers)


# ---- What is printed ----


def printed(k: Any, callbacks: Callable[[Any], list[Any]]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        run(k, callbacks=callbacks, verbose=2, validation_data=(VX, VY), epochs=4)
    # Durations, and numbers that Keras shows after a round trip through float32, differ.
    out = re.sub(r"[0-9]+(ms|us|s)/step", "T/step", text.getvalue())
    out = re.sub(r"- [0-9]+s -", "- N s -", out)
    return re.sub(r"learning rate to ([0-9.e-]+)\.?\n", lambda m: f"rate {float(m[1].rstrip('.')):.5g}\n", out)


@pytest.mark.parametrize(
    "callbacks",
    [
        lambda k: [],
        lambda k: [k.callbacks.EarlyStopping("loss", min_delta=1, patience=1, verbose=1, restore_best_weights=True)],
        lambda k: [k.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.7, verbose=1)],
        lambda k: [k.callbacks.ReduceLROnPlateau("loss", min_delta=1.0, patience=1, verbose=1)],
    ],
    ids=["none", "early stopping", "scheduler", "plateau"],
)
def test_lines(callbacks: Callable[[Any], list[Any]]) -> None:
    assert printed(convec, callbacks) == printed(keras, callbacks)


def summarised(k: Any, built: bool, trained: bool, **arguments: Any) -> str:
    k.backend.clear_session()
    layers = k.layers
    model = k.models.Sequential(
        [
            *([layers.Input((28, 28, 1))] if built else []),
            layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2), layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(name="a_rather_long_name_for_a_layer_here"), layers.Dropout(0.5),
            layers.ReLU(), layers.Activation("tanh"), layers.Dense(10), layers.Softmax(),
        ]
    )  # fmt: skip
    model.layers[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    if trained:
        model.fit(np.zeros((8, 28, 28, 1), np.float32), np.zeros(8), verbose=0)
    texts: list[str] = []
    model.summary(print_fn=lambda text, **_: texts.append(text), **arguments)
    return "\n".join(texts).rstrip()


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        {}, {"show_trainable": True}, {"line_length": 60}, {"positions": [0.5, 0.7, 1.0]},
        {"layer_range": ("max.*", "drop.*")},
    ],
    ids=str,
)  # fmt: skip
def test_summaries(built: bool, trained: bool, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first, second = (summarised(k, built, trained, **arguments) for k in BOTH)
    assert second == first


# ---- The rest ----


@pytest.mark.parametrize("labels", [[0, 1, 2], [[0], [1]], np.array([2.0, 1.0])], ids=str)
def test_to_categorical(labels: Any) -> None:
    first, second = (k.utils.to_categorical(labels) for k in BOTH)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == second.dtype


@pytest.mark.parametrize(
    "name",
    [
        "GlorotUniform", "GlorotNormal", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform", "RandomNormal",
        "RandomUniform", "TruncatedNormal", "Zeros", "Ones",
    ],
)  # fmt: skip
def test_initializers(name: str) -> None:
    shape = (3, 3, 32, 64)
    first, second = (np.asarray(getattr(k.initializers, name)()(shape)) for k in BOTH)
    slack = 8 / np.sqrt(first.size)  # two samples of so many numbers
    assert second.std() == pytest.approx(first.std(), rel=slack)
    assert second.mean() == pytest.approx(first.mean(), abs=slack * first.std() + 1e-12)
    if "RandomNormal" not in name:
        assert np.abs(second).max() == pytest.approx(np.abs(first).max(), rel=0.02)
