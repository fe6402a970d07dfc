"""Keras 3's files: both ways against Keras itself where it is installed, and archives that mean harm."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import callbacks, layers, metrics
from convec.models import Sequential, load_model, model_from_json
from test_saving import OPTIMIZERS, X, Y, fit, make, same_weights

h5py = pytest.importorskip("h5py")


# ---- Without Keras ----


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumes_from_a_keras_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.keras"
    unbroken = fit(make(optimizer=OPTIMIZERS[name]()), 4)
    fit(make(optimizer=OPTIMIZERS[name]()), 2, callbacks=[callbacks.ModelCheckpoint(path)])
    resumed = load_model(path)
    assert resumed.initial_epoch == 2
    fit(resumed, 4, initial_epoch=2)
    same_weights(resumed, unbroken)


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    model = fit(make(), 1)
    model.save(path)
    loaded = load_model(path)
    same_weights(model, loaded)
    assert loaded.name == model.name
    assert [one.get_config() for one in loaded.layers] == [one.get_config() for one in model.layers]
    assert loaded.metrics_names == model.metrics_names
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    assert load_model(path, compile=False).optimizer is None
    assert [file.name for file in tmp_path.iterdir()] == ["model.keras"]


def test_weights_come_back(tmp_path: Path) -> None:
    path = tmp_path / "model.weights.h5"
    model = fit(make(), 1)
    model.save_weights(path)
    other = make()
    other.load_weights(path)
    same_weights(model, other)
    small = Sequential([convec.Input((4,)), layers.Dense(3)])
    with pytest.raises(ValueError, match=r"\(6, 5\), but 'dense.*\(4, 3\)|arrays for layer"):
        small.load_weights(path)
    fit(model, 1, callbacks=[callbacks.ModelCheckpoint(tmp_path / "c.weights.h5", save_weights_only=True)])
    other.load_weights(tmp_path / "c.weights.h5")
    same_weights(model, other)


def test_a_model_without_h5py_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match="pip install"):
        make().save(tmp_path / "m.keras")
    with pytest.raises(ImportError, match="pip install"):
        make().save_weights(tmp_path / "m.weights.h5")
    assert not list(tmp_path.iterdir())


# ---- With Keras ----


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("keras")


def keras_model(keras: Any, **kwargs: Any) -> Any:
    keras.utils.set_random_seed(0)
    k = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            k.Rescaling(2.0, -0.5),
            k.Conv2D(4, (3, 2), padding="same", activation="relu", kernel_regularizer=kwargs.get("regularizer")),
            k.MaxPooling2D(2),
            k.Conv2D(6, 3, strides=(1, 1), groups=2, use_bias=False, kernel_initializer="he_normal"),
            k.BatchNormalization(momentum=0.8, epsilon=1e-2),
            k.ReLU(max_value=6),
            k.AveragePooling2D((2, 1), strides=1, padding="same"),
            k.Activation("elu"),
            k.Dropout(0.0),
            k.GlobalAveragePooling2D(keepdims=True),
            k.Flatten(),
            k.Dense(5, activation="tanh"),
            k.Dense(3, activation="softmax", name="probabilities"),
        ]
    )
    model.compile(
        kwargs.get("optimizer", "adam"),
        kwargs.get("loss", "sparse_categorical_crossentropy"),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(k=2)],
        weighted_metrics=["acc"],
    )
    return model


def keras_optimizers(keras: Any) -> dict[str, Any]:
    o = keras.optimizers
    return {
        "sgd": o.SGD(0.05, momentum=0.9, nesterov=True, clipnorm=1.0),
        "plain": o.SGD(0.05),
        "adam": o.Adam(0.01, amsgrad=True),
        "adamw": o.AdamW(0.01, weight_decay=0.01, global_clipnorm=2.0),
        "rmsprop": o.RMSprop(0.01, momentum=0.5, centered=True),
        "adadelta": o.Adadelta(1.0, clipvalue=0.5),
        "schedule": o.Adam(o.schedules.CosineDecay(0.01, 20)),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["sgd", "plain", "adam", "adamw", "rmsprop", "adadelta", "schedule"])
def test_convec_goes_on_with_what_keras_saved(tmp_path: Path, keras: Any, name: str) -> None:
    path = tmp_path / "model.keras"
    theirs = keras_model(keras, optimizer=keras_optimizers(keras)[name])
    theirs.fit(X, Y, batch_size=8, epochs=2, verbose=0, shuffle=False)
    theirs.save(path)
    ours = load_model(path)
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=2e-6)
    assert ours.optimizer.iterations == 14
    assert ours.metrics_names == ["loss", "accuracy", "sparse_top_k_categorical_accuracy", "acc"]
    ours.fit(X, Y, batch_size=8, epochs=1, verbose=0, shuffle=False)
    theirs.fit(X, Y, batch_size=8, epochs=1, verbose=0, shuffle=False)
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=2e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_keras_goes_on_with_what_convec_saved(tmp_path: Path, keras: Any, name: str) -> None:
    path = tmp_path / "model.keras"
    # Without dropout, whose random numbers differ.
    ours = Sequential.from_config(json.loads(make().to_json().replace('"rate": 0.3', '"rate": 0.0'))["config"])
    followed = ["accuracy", metrics.SparseTopKCategoricalAccuracy(k=2)]
    ours.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy", metrics=followed, weighted_metrics=["acc"])
    fit(ours, 2, shuffle=False)
    ours.save(path)
    theirs = keras.models.load_model(path)
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=2e-6)
    assert int(theirs.optimizer.iterations) == 14
    assert [layer.name for layer in theirs.layers] == [layer.name for layer in ours.layers]
    fit(ours, 1, shuffle=False)
    theirs.fit(X, Y, batch_size=8, epochs=1, verbose=0, shuffle=False)
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=2e-4)


@pytest.mark.filterwarnings("ignore")
def test_weights_go_both_ways(tmp_path: Path, keras: Any) -> None:
    path = tmp_path / "m.weights.h5"
    theirs = keras_model(keras)
    theirs.fit(X, Y, epochs=1, verbose=0)
    theirs.save_weights(path)
    ours = model_from_json(theirs.to_json())
    ours.load_weights(path)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    ours.save_weights(tmp_path / "ours.weights.h5")
    other = keras_model(keras)
    other.load_weights(tmp_path / "ours.weights.h5")
    for a, b in zip(other.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    copy = keras.models.model_from_json(ours.to_json())
    assert [w.shape for w in copy.get_weights()] == [w.shape for w in ours.get_weights()]


@pytest.mark.filterwarnings("ignore")
def test_regularizers_are_left_out_with_a_warning(tmp_path: Path, keras: Any) -> None:
    path = tmp_path / "model.keras"
    theirs = keras_model(keras, regularizer="l2")
    theirs.save(path)
    with pytest.warns(UserWarning, match="kernel_regularizer of layer"):
        ours = load_model(path)
    np.testing.assert_allclose(ours.predict(X, verbose=0), theirs.predict(X, verbose=0), atol=2e-6)


@pytest.mark.filterwarnings("ignore")
def test_what_convec_has_not_is_named(tmp_path: Path, keras: Any) -> None:
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((4, 4)), keras.layers.LSTM(3)]).save(path)
    with pytest.raises(ValueError, match="'LSTM' is not known"):
        load_model(path)
    keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x)]).save(path)
    with pytest.raises(ValueError, match="holds code"):
        load_model(path)
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(path)
    with pytest.raises(ValueError, match="'Functional'"):
        load_model(path)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("lion", "mse")
    model.save(path)
    with pytest.raises(ValueError, match=r"'Lion' is not known.*compile=False"):
        load_model(path)
    np.testing.assert_allclose(load_model(path, compile=False)(np.eye(4)), model(np.eye(4)), atol=1e-6)


# ---- Harm ----


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("good") / "m.keras"
    model = Sequential([convec.Input((4, 4, 1)), layers.Conv2D(2, 3, name="c"), layers.Flatten(), layers.Dense(3)])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((2, 4, 4, 1)), np.ones((2, 3)))
    model.save(path)
    return members(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:evil", "a\\..\\evil"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, good: dict[str, bytes], name: str) -> None:
    with pytest.raises(ValueError, match="outside"):
        load_model(pack(tmp_path / "m.keras", {**good, name: b"x"}))


def test_members_of_the_same_name_are_refused(tmp_path: Path, good: dict[str, bytes]) -> None:
    path = pack(tmp_path / "m.keras", good)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", b"{}")
    with pytest.raises(ValueError, match="two files"):
        load_model(path)


@pytest.mark.parametrize("missing", ["config.json", "metadata.json", "model.weights.h5"])
def test_missing_members_are_named(tmp_path: Path, good: dict[str, bytes], missing: str) -> None:
    files = {name: data for name, data in good.items() if name != missing}
    with pytest.raises(ValueError, match=missing):
        load_model(pack(tmp_path / "m.keras", files))


def test_bombs_are_not_unpacked(tmp_path: Path, good: dict[str, bytes]) -> None:
    for name in ("config.json", "model.weights.h5"):
        path = pack(tmp_path / "m.keras", {**good, name: bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
        program = f"""
import resource, convec
from convec.models import load_model
import convec.saving.keras_archive, h5py
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_model({str(path)!r})
except ValueError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        grown, message = done.stdout.split(maxsplit=1)
        assert "are believed" in message
        assert int(grown) * 1024 < 4 * path.stat().st_size + (16 << 20)


def with_weights(good: dict[str, bytes], change: Any) -> dict[str, bytes]:
    memory = io.BytesIO(good["model.weights.h5"])
    with h5py.File(memory, "r+") as file:
        change(file)
    return {**good, "model.weights.h5": memory.getvalue()}


def test_links_and_bytes_elsewhere_are_refused(tmp_path: Path, good: dict[str, bytes]) -> None:
    kernel = "layers/dense/vars/0"
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((8, 3), np.float32)

    def external_link(file: Any) -> None:
        del file[kernel]
        file[kernel] = h5py.ExternalLink(str(other), "x")

    def soft_link(file: Any) -> None:
        del file[kernel]
        file[kernel] = h5py.SoftLink("/layers/c/vars/0")

    def external_bytes(file: Any) -> None:
        del file[kernel]
        file.create_dataset(kernel, (8, 3), np.float32, external=[("/etc/passwd", 0, 96)])

    def virtual(file: Any) -> None:
        del file[kernel]
        layout = h5py.VirtualLayout((8, 3), np.float32)
        layout[:] = h5py.VirtualSource(str(other), "x", (8, 3))
        file.create_virtual_dataset(kernel, layout)

    def group(file: Any) -> None:
        del file[kernel]
        file.create_group(kernel)

    def text(file: Any) -> None:
        del file[kernel]
        file[kernel] = "text"

    def huge(file: Any) -> None:
        del file[kernel]
        file.create_dataset(kernel, (1 << 40, 3), np.float32, chunks=(1 << 10, 3))

    for change, message in (
        (external_link, "link"),
        (soft_link, "link"),
        (external_bytes, "another file"),
        (virtual, "another file"),
        (group, "Group"),
        (text, "no array of numbers"),
        (huge, "float32 of"),
    ):
        with pytest.raises(ValueError, match=message):
            load_model(pack(tmp_path / "m.keras", with_weights(good, change)))


def test_weights_that_are_not_there_cost_no_memory(tmp_path: Path, good: dict[str, bytes]) -> None:
    """A file of a few kilobytes with a layer of 40 GB, all of which HDF5 would make up."""

    def change(file: Any) -> None:
        for key, shape in (("0", (8, 1 << 30)), ("1", (1 << 30,))):
            del file[f"layers/dense/vars/{key}"]
            file.create_dataset(
                f"layers/dense/vars/{key}", shape, np.float32, chunks=tuple(min(n, 1024) for n in shape)
            )

    files = with_weights(good, change)
    files["config.json"] = files["config.json"].replace(b'"units":3', b'"units":1073741824')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="claims arrays"):
        load_model(pack(tmp_path / "m.keras", files))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16_000


@pytest.mark.filterwarnings("ignore:the saved state of the optimizer")
def test_damage_is_an_error_or_a_model(tmp_path: Path, good: dict[str, bytes]) -> None:
    """Truncated at every 61st byte, and bits flipped everywhere: never a crash, in a process of its own."""
    program = """
import sys, warnings, random
from pathlib import Path
from convec.models import load_model
warnings.simplefilter("ignore")
path = Path(sys.argv[1])
whole = path.read_bytes()
bad = path.with_name("bad.keras")
rng = random.Random(0)
loaded = 0
def attempt(data):
    global loaded
    bad.write_bytes(data)
    try:
        load_model(bad)
        loaded += 1
    except (ValueError, TypeError):
        pass
for size in range(0, len(whole), 61):
    attempt(whole[:size])
assert loaded == 0
for _ in range(int(sys.argv[2])):
    damaged = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
    attempt(bytes(damaged))
print(loaded)
"""
    path = pack(tmp_path / "m.keras", good)
    done = subprocess.run([sys.executable, "-c", program, path, "500"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_damaged_hdf5_is_an_error(tmp_path: Path, good: dict[str, bytes]) -> None:
    """Behind the checksums of the archive: the HDF5 file itself is damaged."""
    weights = good["model.weights.h5"]
    path = tmp_path / "m.weights.h5"
    model = Sequential([convec.Input((4, 4, 1)), layers.Conv2D(2, 3, name="c"), layers.Flatten(), layers.Dense(3)])
    for size in range(0, len(weights), 97):
        path.write_bytes(weights[:size])
        with pytest.raises(ValueError):
            model.load_weights(path)
    rng = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(weights)
        damaged[rng.integers(len(weights))] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ValueError):
            model.load_weights(path)
