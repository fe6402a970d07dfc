"""Whole models and weights in files: everything comes back, training goes on bit for bit, damaged files are refused."""

from __future__ import annotations

import contextlib
import json
import resource
import zipfile
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import _core, callbacks, layers, metrics, optimizers, saving
from convec.models import Sequential, load_model, model_from_json
from killing import kill_at_random

RNG = np.random.default_rng(5)
X = RNG.random((50, 8, 8, 2), dtype=np.float32)
Y = RNG.integers(0, 3, 50)


def make(**kwargs: Any) -> Sequential:
    """A model with every kind of layer."""
    convec.backend.clear_session()
    convec.utils.set_random_seed(3)
    model = Sequential(
        [
            convec.Input((8, 8, 2)),
            layers.Rescaling(2.0, -0.5),
            layers.Conv2D(4, (3, 2), padding="same", activation="relu", kernel_initializer="he_normal"),
            layers.MaxPooling2D(2),
            layers.Conv2D(6, 3, strides=(1, 2), groups=2, use_bias=False, dilation_rate=1),
            layers.BatchNormalization(momentum=0.8, epsilon=1e-2, gamma_initializer=convec.initializers.Constant(0.9)),
            layers.ReLU(max_value=6),
            layers.AveragePooling2D((2, 1), strides=1, padding="same"),
            layers.Activation("elu"),
            layers.Dropout(0.3),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Dense(5, activation="tanh", trainable=False),
            layers.Dense(3, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(
        kwargs.get("optimizer", "adam"),
        kwargs.get("loss", "sparse_categorical_crossentropy"),
        metrics=kwargs.get("metrics", ["accuracy", metrics.SparseTopKCategoricalAccuracy(k=2, name="top2")]),
        weighted_metrics=kwargs.get("weighted_metrics", ["acc"]),
    )
    return model


def same_weights(a: Sequential, b: Sequential) -> None:
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


def fit(model: Sequential, epochs: int, **kwargs: Any) -> Sequential:
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, **kwargs)
    return model


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=1.0),
    "plain sgd": lambda: optimizers.SGD(0.05),
    "adam": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.01, global_clipnorm=2.0),
    "rmsprop": lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adadelta": lambda: optimizers.Adadelta(1.0, clipvalue=0.5),
    "schedule": lambda: optimizers.Adam(optimizers.schedules.CosineDecay(0.01, 20, warmup_target=0.02, warmup_steps=5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    unbroken = fit(make(optimizer=OPTIMIZERS[name]()), 5)
    fit(make(optimizer=OPTIMIZERS[name]()), 2, callbacks=[callbacks.ModelCheckpoint(path)])
    convec.utils.set_random_seed(99)  # a new process would have another one, too
    resumed = load_model(path)
    assert resumed.initial_epoch == 2
    fit(resumed, 5, initial_epoch=resumed.initial_epoch)
    same_weights(resumed, unbroken)
    assert resumed.optimizer.iterations == unbroken.optimizer.iterations
    assert resumed.evaluate(X, Y, verbose=0) == unbroken.evaluate(X, Y, verbose=0)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("steps", [1, 3, 7, 9, 14])
@pytest.mark.parametrize("python_metric", [False, True])
def test_a_run_resumes_within_an_epoch(tmp_path: Path, steps: int, shuffle: bool, python_metric: bool) -> None:
    """50 samples in batches of 8: 7 steps an epoch."""
    options: dict[str, Any] = {"metrics": [mean_prediction]} if python_metric else {}
    unbroken = fit(make(**options), 3, shuffle=shuffle)

    class Stop(callbacks.Callback):
        count = 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.count += 1
            if self.count == steps:
                self.model.save(tmp_path / "model.safetensors")
                raise KeyboardInterrupt

    interrupted = make(**options)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, 3, callbacks=[Stop()], shuffle=shuffle)
    resumed = load_model(tmp_path / "model.safetensors", {"mean_prediction": mean_prediction})
    assert resumed.initial_epoch == (steps - 1) // 7
    # Saved and loaded again before it goes on.
    resumed.save(tmp_path / "again.safetensors")
    resumed = load_model(tmp_path / "again.safetensors", {"mean_prediction": mean_prediction})
    fit(resumed, 3, initial_epoch=resumed.initial_epoch, shuffle=shuffle)
    same_weights(resumed, unbroken)


@pytest.mark.filterwarnings("ignore:the data ended after")
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_run_of_short_epochs_resumes(tmp_path: Path, steps: int) -> None:
    """Epochs of 3 steps in passes of 7: an epoch begins in the middle of a pass."""
    path = tmp_path / "{epoch}.safetensors"
    options: dict[str, Any] = {"steps_per_epoch": 3, "batch_size": 8, "verbose": 0}
    unbroken = make()
    unbroken.fit(X, Y, epochs=6, callbacks=[callbacks.ModelCheckpoint(path, save_freq=steps)], **options)
    for file in tmp_path.iterdir():
        resumed = load_model(file)
        resumed.fit(X, Y, epochs=6, initial_epoch=resumed.initial_epoch, **options)
        same_weights(resumed, unbroken)


def mean_prediction(y_true: Any, y_pred: Any) -> Any:
    return np.mean(y_pred, axis=-1)


def test_a_run_over_batches_resumes(tmp_path: Path) -> None:
    class Batches:
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return X[index * 10 : index * 10 + 10], Y[index * 10 : index * 10 + 10]

    path = tmp_path / "{epoch}.safetensors"
    unbroken = make()
    unbroken.fit(Batches(), epochs=3, verbose=0, callbacks=[callbacks.ModelCheckpoint(path, save_freq=7)])
    resumed = load_model(tmp_path / "2.safetensors")
    resumed.fit(Batches(), epochs=3, initial_epoch=resumed.initial_epoch, verbose=0)
    same_weights(resumed, unbroken)


def test_an_unfinished_position_is_not_used_for_another_epoch(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fit(make(), 2).save(path)
    results = []
    for seed in (1, 2):
        model = load_model(path)
        convec.utils.set_random_seed(seed)
        fit(model, 1)
        results.append(model.get_weights()[0])
    assert not np.array_equal(*results)


@pytest.mark.parametrize("include_optimizer", [True, False])
def test_everything_comes_back(tmp_path: Path, include_optimizer: bool) -> None:
    path = tmp_path / "folder" / "model.safetensors"
    model = fit(make(), 2)
    model.optimizer.learning_rate = 0.5
    model.save(path, include_optimizer=include_optimizer)
    loaded = load_model(path)
    same_weights(model, loaded)
    assert loaded.name == model.name
    assert json.loads(loaded.to_json()) == json.loads(model.to_json())
    assert [type(one) for one in loaded.layers] == [type(one) for one in model.layers]
    assert [one.trainable for one in loaded.layers] == [one.trainable for one in model.layers]
    assert loaded.metrics_names == ["loss", "accuracy", "top2", "acc"]
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.learning_rate == 0.5
    assert loaded.optimizer.iterations == (14 if include_optimizer else 0)
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert not load_model(path, compile=False).compiled
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]


def test_names_of_the_arrays(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fit(make(), 1).save(path)
    arrays, metadata = _core.safetensors_load(path)
    assert arrays["probabilities/kernel"].shape == (5, 3)
    assert arrays["batch_normalization/moving_mean"].shape == (6,)
    assert arrays["optimizer/conv2d/kernel/1"].shape == (3, 2, 2, 4)
    assert "optimizer/batch_normalization/moving_mean/0" not in arrays
    assert json.loads(metadata["convec.training"])["iterations"] == 7


def test_an_uncompiled_model_and_one_built_from_data(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = Sequential([layers.Flatten(), layers.Dense(4)])
    with pytest.raises(ValueError, match="not built"):
        model.save(path)
    model(X)
    model.save(path)
    loaded = load_model(path)
    assert not loaded.compiled
    assert loaded.input_shape == (None, 8, 8, 2)
    np.testing.assert_array_equal(loaded(X), model(X))


def test_objects_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"

    class Half(metrics.SparseCategoricalAccuracy):
        pass

    class Wide(layers.Dense):
        pass

    model = Sequential([convec.Input((4,)), Wide(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[Half(), mean_prediction])
    model.save(path)
    with pytest.raises(ValueError, match=r"'Wide' is not known.*custom_objects"):
        load_model(path)
    custom = {"Wide": Wide, "Half": Half, "mean_prediction": mean_prediction}
    loaded = load_model(path, custom)
    assert isinstance(loaded.layers[0], Wide)
    loaded.fit(np.ones((4, 4)), [0, 1, 2, 0], verbose=0)
    model.compile("sgd", "mse", metrics=[lambda y_true, y_pred: 0.0])
    with pytest.raises(TypeError, match="lambda"):
        model.save(path)


@pytest.mark.parametrize(
    "loss",
    [
        convec.losses.SparseCategoricalCrossentropy(from_logits=True),
        convec.losses.CategoricalCrossentropy(label_smoothing=0.1),
        convec.losses.BinaryCrossentropy(),
        "huber",
        convec.losses.mean_absolute_error,
        "mse",
    ],
    ids=["sparse", "categorical", "binary", "huber", "a function", "mse"],
)
def test_losses_come_back(tmp_path: Path, loss: Any) -> None:
    path = tmp_path / "model.safetensors"
    model = make(loss=loss, metrics=["mae", convec.losses.Huber()], weighted_metrics=None)
    model.save(path)
    loaded = load_model(path)
    assert loaded.loss.core_config() == model.loss.core_config()
    assert [one.core_config() for one in loaded.metrics] == [one.core_config() for one in model.metrics]


def test_configurations(tmp_path: Path) -> None:
    model = make()
    for copy in (model_from_json(model.to_json(indent=1)), Sequential.from_config(model.get_config())):
        assert copy.get_config() == model.get_config()
        assert [w.shape for w in copy.get_weights()] == [w.shape for w in model.get_weights()]
    json.dumps(model.get_config())
    for text, message in (
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"class_name": "Sequential", "class_name": "Sequential"}', "twice"),
        ('{"class_name": "Model", "config": {}}', "Sequential models only"),
        (
            '{"class_name": "Sequential", "config": {"layers": [{"class_name": "os.system", "config": {}}]}}',
            "not known",
        ),
        ('{"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda", "config": {}}]}}', "holds code"),
        ('{"class_name": "Sequential", "config": {"layers": [{"class_name": "Layer", "config": [1]}]}}', "dictionary"),
        ('{"class_name": "Sequential", "config": {"layers": 1}}', "list of 'layers'"),
        ('{"class_name": "Sequential", "config": {"name": NaN, "layers": []}}', "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            model_from_json(text)


# ---- C++ ----


def test_cpp_loads_what_python_saves(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = fit(make(), 2)
    model.save(path)
    network = _core.network_load(path)
    np.testing.assert_array_equal(network.predict(X, batch_size=8), model.predict(X, batch_size=8, verbose=0))
    order = np.arange(50)
    network.train_epoch(X, Y, batch_size=8, order=order)
    fit(model, 1, shuffle=False)
    for index, value in enumerate(model.get_weights()):
        np.testing.assert_array_equal(network.get_parameter(index), value)


def test_python_loads_what_cpp_saves(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = fit(make(optimizer=optimizers.SGD(0.1, momentum=0.5)), 1)
    model.save(path)
    network = _core.network_load(path)
    entries = json.loads(_core.safetensors_load(path)[1]["convec.network"])["layers"]
    _core.network_save(path, network, [f"layer {number}" for number in range(len(entries))])
    loaded = load_model(path)
    same_weights(model, loaded)
    assert loaded.optimizer.get_config() == {**model.optimizer.get_config(), "learning_rate": pytest.approx(0.1)}
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    fit(model, 1, shuffle=False)
    fit(loaded, 1, shuffle=False)
    same_weights(model, loaded)


def test_cpp_keeps_what_python_wrote(tmp_path: Path) -> None:
    path, again = tmp_path / "model.safetensors", tmp_path / "again.safetensors"
    model = fit(make(), 2)
    model.save(path)
    network = _core.network_load(path)
    _core.network_save(again, network, [])
    assert _core.safetensors_load(again)[1] == _core.safetensors_load(path)[1]
    loaded = load_model(again)
    assert loaded.get_config() == load_model(path).get_config() == model.get_config()
    assert loaded.initial_epoch == 2
    # After more steps the position is no longer that of Python's training.
    network.train_epoch(X, Y, batch_size=8, order=np.arange(50))
    _core.network_save(again, network, [])
    loaded = load_model(again)
    assert loaded.get_config() == model.get_config()
    assert loaded.initial_epoch == 0
    fit(model, 1, shuffle=False)
    same_weights(loaded, model)


# ---- Weights only ----


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".weights.npz"])
def test_weights_come_back(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"m{ending}"
    model = fit(make(), 1)
    model.save_weights(path)
    other = make()
    other.load_weights(path)
    same_weights(model, other)
    with pytest.raises(FileExistsError):
        model.save_weights(path, overwrite=False)
    small = Sequential([convec.Input((4,)), layers.Dense(3, name="probabilities")])
    before = small.get_weights()
    with pytest.raises(ValueError, match=r"probabilities/kernel.*\(4, 3\)"):
        small.load_weights(path)
    with pytest.raises(ValueError, match="holds no 'elsewhere/kernel'"):
        Sequential([convec.Input((4,)), layers.Dense(3, name="elsewhere")]).load_weights(path)
    for x, y in zip(before, small.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(ValueError, match="not built"):
        Sequential([layers.Dense(3)]).load_weights(path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", [".safetensors", ".weights.npz"])
def test_automatic_names_may_count_from_elsewhere(tmp_path: Path, ending: str) -> None:
    """The second model of a program has other numbers in its layers' names; the layers are the same."""

    def build(units: int = 4) -> Sequential:
        return Sequential([layers.Input((6,)), layers.Dense(units), layers.Dense(5, name="middle"), layers.Dense(5)])

    first, second = build(), build()
    assert [layer.name for layer in first.layers] != [layer.name for layer in second.layers]
    path = tmp_path / f"model{ending}"
    first.save_weights(path)
    assert not np.array_equal(first.get_weights()[0], second.get_weights()[0])
    second.load_weights(path)
    same_weights(first, second)
    with pytest.raises(ValueError, match="shape"):
        build(3).load_weights(path)
    with pytest.raises(ValueError, match="holds no"):
        Sequential([layers.Input((6,)), layers.Dense(4)]).load_weights(path)
    with pytest.raises(ValueError, match="holds no"):
        Sequential([layers.Input((6,)), layers.Dense(4), layers.Dense(5, name="other"), layers.Dense(5)]).load_weights(
            path
        )


def test_weights_of_a_whole_model_and_of_half_width(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = fit(make(), 1)
    model.save(path)
    other = make()
    other.load_weights(path)
    same_weights(model, other)
    model.save_weights(path)
    with pytest.raises(ValueError, match="weights only"):
        load_model(path)


@pytest.mark.parametrize("name", ["model.h5", "model", "model.pkl", "model.npz"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="end in"):
        make().save(tmp_path / name)
    with pytest.raises(ValueError, match="end in"):
        load_model(tmp_path / name)


def test_checkpoints(tmp_path: Path) -> None:
    model = make()
    fit(model, 2, callbacks=[callbacks.ModelCheckpoint(tmp_path / "w{epoch}.safetensors", save_weights_only=True)])
    assert _core.safetensors_load(tmp_path / "w2.safetensors")[1] == {}
    fit(model, 1, callbacks=[callbacks.ModelCheckpoint(tmp_path / "n{epoch}.weights.npz")])
    with zipfile.ZipFile(tmp_path / "n1.weights.npz") as archive:
        assert "conv2d/kernel.npy" in archive.namelist()
    with pytest.raises(ValueError, match="end in"):
        callbacks.ModelCheckpoint("m.pkl")
    with pytest.raises(ValueError, match="of weights"):
        callbacks.ModelCheckpoint("m.keras", save_weights_only=True)


# ---- Damage ----


def write(path: Path, arrays: Any, metadata: dict[str, str]) -> None:
    _core.safetensors_save(path, arrays, metadata, sync=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, str]]:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    fit(make(), 1).save(path)
    arrays, metadata = _core.safetensors_load(path)
    return dict(arrays), metadata


@pytest.mark.parametrize(
    ("key", "old", "new", "message"),
    [
        ("convec.format", "1", "7", "format '7'"),
        ("convec.network", "[8,8,2]", "[8,8]", "cannot be loaded"),
        ("convec.network", "[8,8,2]", "[8,8,-2]", "positive"),
        ("convec.network", "[8,8,2]", "[8,8,2e0]", "positive"),
        ("convec.network", "[8,8,2]", "{}", "list"),
        ("convec.network", '"input_shape"', '"x"', "damaged"),
        ("convec.model", '"units":5', '"units":6', "dense/kernel"),
        ("convec.model", '"units":5', '"units":1000000000', "dense/kernel"),
        ("convec.model", '"units":5', '"units":"5"', "units"),
        ("convec.model", '"units":5', '"units":{"a":[]}', "units"),
        ("convec.model", '"units":5', '"units":5,"units":5', "twice"),
        ("convec.model", '"class_name":"Dense"', '"class_name":"Dance"', "not known"),
        ("convec.model", '"class_name":"Dense"', '"class_name":"__init__"', "not known"),
        ("convec.model", '"class_name":"Dense"', '"class_name":["Dense"]', "class_name"),
        ("convec.model", '"name":"dense"', '"name":"conv2d"', "conv2d"),
        ("convec.model", '"epsilon":0.01', '"epsilon":NaN', "NaN"),
        ("convec.compile", '"Adam"', '"Adem"', "not known"),
        ("convec.compile", '"learning_rate":0.001', '"learning_rate":"x"', "cannot be loaded"),
        ("convec.compile", '"learning_rate":0.001', '"learning_rate":-1', "learning_rate"),
        ("convec.compile", '"SparseCategoricalCrossentropy"', '"Nothing"', "Nothing"),
        ("convec.training", '"iterations":7', '"iterations":-7', "cannot be loaded"),
        ("convec.training", '"iterations":7', '"iterations":7.5', "cannot be loaded"),
        ("convec.position", '"epoch":1', '"epoch":"x"', "epoch"),
        ("convec.position", '"state":{', '"state":{"x":1},"other":{', "generator"),
    ],
)
def test_damaged_descriptions_are_refused(
    tmp_path: Path, saved: tuple[dict[str, Any], dict[str, str]], key: str, old: str, new: str, message: str
) -> None:
    arrays, metadata = saved
    assert old in metadata[key]
    path = tmp_path / "model.safetensors"
    write(path, arrays, {**metadata, key: metadata[key].replace(old, new, 1)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message):
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16_000


def test_missing_arrays_are_named(tmp_path: Path, saved: tuple[dict[str, Any], dict[str, str]]) -> None:
    arrays, metadata = saved
    path = tmp_path / "model.safetensors"
    for name in ("conv2d/bias", "optimizer/conv2d/bias/1"):
        write(path, {key: value for key, value in arrays.items() if key != name}, metadata)
        with pytest.raises(ValueError, match=name):
            load_model(path)
    write(path, {**arrays, "conv2d/bias": arrays["conv2d/bias"].astype(np.int32)}, metadata)
    with pytest.raises(ValueError, match="int32"):
        load_model(path)


def test_random_damage_never_crashes(tmp_path: Path, saved: tuple[dict[str, Any], dict[str, str]]) -> None:
    """Bytes of the descriptions are changed at random: an error, or a model."""
    arrays, metadata = saved
    path = tmp_path / "model.safetensors"
    rng = np.random.default_rng(0)
    keys = ["convec.model", "convec.network", "convec.compile", "convec.training", "convec.position"]
    loaded = 0
    for round_ in range(300):
        key = keys[round_ % len(keys)]
        text = bytearray(metadata[key].encode())
        for _ in range(rng.integers(1, 3)):
            text[rng.integers(len(text))] = rng.choice(np.frombuffer(b'{}[]",:0179eE-.tfn ', np.uint8))
        write(path, arrays, {**metadata, key: text.decode()})
        try:
            load_model(path)
            loaded += 1
        except ValueError:
            pass
    assert loaded < 150


def test_damaged_npz_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    model = Sequential([convec.Input((4,)), layers.Dense(3, name="d")])
    model.save_weights(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError):
            model.load_weights(path)
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ValueError, OSError):
            model.load_weights(path)
    # An array that unpacks to more than the model needs, and one that would need pickle.
    for array in (np.zeros((4, 3_000_000), np.float32), np.array([[None] * 3] * 4)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("d/kernel.npy", "w") as member:
            np.lib.format.write_array(member, array, allow_pickle=True)
        with pytest.raises(ValueError, match="kernel"):
            model.load_weights(path)


def test_a_killed_program_leaves_a_readable_checkpoint(tmp_path: Path) -> None:
    """kill -9 at random moments; CONVEC_KILLS=50 tries it more often. The resumed run ends as an unbroken one."""
    path = tmp_path / "model.safetensors"
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import pathlib, test_saving as t
path = pathlib.Path({str(path)!r})
model = t.load_model(path) if path.exists() else t.make()
print("ready", flush=True)
# The last run, which nobody kills, need not wait for the disk.
checkpoints = [] if "last" in sys.argv else [t.callbacks.ModelCheckpoint(path, save_freq=3)]
t.fit(model, 400, initial_epoch=model.initial_epoch, callbacks=checkpoints)
model.save({str(tmp_path / "done.safetensors")!r})
"""
    kill_at_random(program, 0.4, lambda: path.exists() and load_model(path))
    unbroken = fit(make(), 400)
    same_weights(load_model(tmp_path / "done.safetensors"), unbroken)


def test_saving_is_documented() -> None:
    for name in saving.__all__:
        assert "Raises:" in (getattr(saving, name).__doc__ or "")
