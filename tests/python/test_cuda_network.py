"""Networks on a CUDA device, a GPU where there is one and the emulated one everywhere, against the same networks on
the CPU: whole steps as replayed graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import convec
import numpy as np
import pytest
from convec import _core, _device, layers, losses, metrics, optimizers

pytestmark = pytest.mark.usefixtures("cuda")


def images(samples: int = 21) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, 9, 8, 3)).astype(np.float32), rng.integers(0, 4, samples)


def small_cnn() -> list[Any]:
    return [
        layers.Conv2D(6, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(7, activation="relu"),
        layers.Dense(4, activation="softmax"),
    ]


def everything() -> list[Any]:
    return [
        layers.Rescaling(0.5, 0.1),
        layers.Conv2D(6, 3, padding="same", strides=2, use_bias=False),
        layers.BatchNormalization(),
        layers.Activation("gelu"),
        layers.Conv2D(6, (3, 2), groups=2, activation="tanh"),
        layers.AveragePooling2D(2, strides=1),
        layers.Dropout(0.25),
        layers.GlobalMaxPooling2D(),
        layers.Dense(4),
        layers.Softmax(),
    ]


def model_of(make: Callable[[], list[Any]], device: str, **settings: Any) -> convec.Sequential:
    convec.utils.set_random_seed(3)
    model = convec.Sequential([convec.Input((9, 8, 3)), *make()])
    model.to(device)
    arguments: dict[str, Any] = {
        "optimizer": "adam", "loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"],
    } | settings  # fmt: skip
    model.compile(**arguments)
    return model


def close(one: convec.Sequential, other: convec.Sequential, tolerance: float = 2e-5) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def both(make: Callable[[], list[Any]], fit: dict[str, Any] | None = None, **settings: Any) -> None:
    x, y = images()
    found = []
    for device in ("cpu", "cuda:0"):
        model = model_of(make, device, **settings)
        assert model.device == device
        history = model.fit(x, y, **({"batch_size": 4, "epochs": 3, "verbose": 0} | (fit or {})))
        found.append(
            (model, history.history, model.evaluate(x, y, batch_size=8, verbose=0), model.predict(x, verbose=0))
        )
    (host, host_history, host_results, host_out), (there, history, results, out) = found
    close(host, there)
    for name, values in host_history.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(results, host_results, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out, host_out, atol=1e-5)
    there.to("cpu")
    np.testing.assert_allclose(there.predict(x, verbose=0), host_out, atol=1e-5)


def test_small_cnn() -> None:
    both(small_cnn)


def test_every_kind_of_layer() -> None:
    both(everything)


def test_pooling_in_the_kernel_of_the_convolution_or_apart() -> None:
    def deep() -> list[Any]:
        return [
            layers.Conv2D(8, (2, 3), padding="same", activation="relu"), layers.MaxPooling2D(2),
            layers.Conv2D(5, 3, padding="same"), layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(4),
            layers.Softmax(),
        ]  # fmt: skip

    x, y = images()
    found = []
    for fused in (True, False):
        before = _device.load_cuda().fuse_pooling(fused)
        try:
            model = model_of(deep, "cuda:0")
            model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
            found.append((model, model.predict(x, verbose=0)))
        finally:
            _device.load_cuda().fuse_pooling(before)
    close(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)


def test_weights_and_metrics() -> None:
    weights = np.linspace(0.2, 2, 21).astype(np.float32)
    both(
        small_cnn, {"sample_weight": weights}, metrics=["accuracy", metrics.SparseTopKCategoricalAccuracy(2)],
        weighted_metrics=["accuracy"],
    )  # fmt: skip


def test_other_losses() -> None:
    x, _ = images()
    rng = np.random.default_rng(1)
    for loss, y in (
        (losses.CategoricalCrossentropy(label_smoothing=0.1), np.eye(4, dtype=np.float32)[rng.integers(0, 4, 21)]),
        ("mse", rng.standard_normal((21, 4)).astype(np.float32)),
        ("binary_crossentropy", rng.integers(0, 2, (21, 4)).astype(np.float32)),
    ):
        pair = [model_of(small_cnn, device, loss=loss, metrics=["mae"]) for device in ("cpu", "cuda:0")]
        for model in pair:
            model.fit(x, y, batch_size=6, epochs=2, verbose=0, shuffle=False)
        close(*pair)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        lambda: optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=0.05),
        lambda: optimizers.RMSprop(0.003, centered=True, global_clipnorm=0.1),
        lambda: optimizers.Adadelta(1.0, clipvalue=0.01),
        lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 3, 0.5), amsgrad=True),
    ],
)
def test_optimizers(optimizer: Callable[[], Any]) -> None:
    x, y = images()
    pair = [model_of(small_cnn, device, optimizer=optimizer()) for device in ("cpu", "cuda:0")]
    for model in pair:
        convec.utils.set_random_seed(5)
        model.fit(x, y, batch_size=5, epochs=2, verbose=0)
    close(*pair)
    for one, other in zip(pair[0].optimizer_slots(), pair[1].optimizer_slots(), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)


def test_frozen_layers() -> None:
    x, y = images()
    pair = []
    for device in ("cpu", "cuda:0"):
        model = model_of(everything, device)
        model.fit(x, y, batch_size=7, verbose=0)
        model.layers[1].trainable = False
        model.layers[2].trainable = False
        model.compile("sgd", "sparse_categorical_crossentropy")
        before = model.layers[1].get_weights()[0]
        model.fit(x, y, batch_size=7, verbose=0)
        np.testing.assert_array_equal(model.layers[1].get_weights()[0], before)
        pair.append(model)
    close(*pair)


def test_bits_repeat() -> None:
    x, y = images()
    weights = []
    for _ in range(2):
        model = model_of(everything, "cuda:0")
        model.fit(x, y, batch_size=4, epochs=2, verbose=0)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bytes_and_arrays_on_the_device() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(0, 256, (10, 9, 8, 3)).astype(np.uint8)
    y = rng.integers(0, 4, 10)
    reference = model_of(everything, "cpu")
    want = reference._built().train_epoch(x, y, batch_size=3)
    for place in (lambda array: array, _device.DeviceArray.of):
        model = model_of(everything, "cuda:0")
        found = model._built().train_epoch(place(x), place(y), batch_size=3)
        np.testing.assert_allclose(found["loss"], want["loss"], rtol=1e-5)
        np.testing.assert_allclose(found["metrics"], want["metrics"])
        close(reference, model)
        np.testing.assert_allclose(
            model._built().predict(place(x), batch_size=4), reference._built().predict(x, batch_size=4), atol=1e-5
        )


def test_rates_set_between_batches_count() -> None:
    class Halve(convec.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = float(self.model.optimizer.learning_rate) / 2

    x, y = images()
    pair = [model_of(small_cnn, device, optimizer=optimizers.SGD(0.1)) for device in ("cpu", "cuda:0")]
    for model in pair:
        convec.utils.set_random_seed(5)
        model.fit(x, y, batch_size=5, verbose=0, callbacks=[Halve()])
    close(*pair)


def test_the_host_waits_for_progress_alone() -> None:
    x, y = images()
    network = model_of(small_cnn, "cuda:0")._built()
    calls: list[int] = []
    network.train_epoch(
        x, y, batch_size=2, progress=lambda totals: calls.append(totals["batches"]), progress_interval=60
    )
    assert calls == [11]
    calls.clear()
    network.train_epoch(
        x, y, batch_size=2, progress=lambda totals: calls.append(totals["batches"]), progress_interval=0
    )
    assert calls == list(range(1, 12))


def test_state_moves_with_the_model() -> None:
    x, y = images()
    stayed = model_of(small_cnn, "cpu")
    moved = model_of(small_cnn, "cpu")
    for step, device in enumerate(("cpu", "cuda:0", "cpu", "cuda:0")):
        moved.to(device)
        for model in (stayed, moved):
            convec.utils.set_random_seed(step)
            model.fit(x, y, batch_size=8, verbose=0)
    close(stayed, moved)
    assert moved.optimizer is not None
    assert stayed.optimizer is not None
    assert moved.optimizer.iterations == stayed.optimizer.iterations


def test_a_nan_is_traced_to_its_layer() -> None:
    x, _ = images()
    model = model_of(small_cnn, "cuda:0")
    assert model._built().first_nonfinite_layer(x) == -1
    weights = model.layers[3].get_weights()
    weights[0][0, 0] = np.nan
    model.layers[3].set_weights(weights)
    entry = model._built().first_nonfinite_layer(x)
    assert model._layer_name(entry) == model.layers[3].name


def test_bad_labels_and_places_are_refused() -> None:
    x, y = images()
    model = model_of(small_cnn, "cuda:0")
    before = model.get_weights()
    bad = y.copy()
    bad[13] = 4
    for labels in (bad, _device.DeviceArray.of(bad)):
        inputs = x if labels is bad else _device.DeviceArray.of(x)
        with pytest.raises(ValueError, match=r"\[13\]"):
            model._built().train_epoch(inputs, labels, batch_size=4)
    with pytest.raises(RuntimeError, match="same device"):
        model._built().train_epoch(_device.DeviceArray.of(x), y, batch_size=4)
    with pytest.raises(RuntimeError, match="network is on cpu"):
        model_of(small_cnn, "cpu")._built().predict(_device.DeviceArray.of(x), batch_size=4)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_devices() -> None:
    devices = convec.list_devices()
    assert devices[:2] == ["cpu", "cuda:0"]
    assert str(convec.device("cuda")) == "cuda:0"
    assert str(convec.device("auto")) == "cuda:0"
    with pytest.raises(RuntimeError, match=f"there are {len(devices) - 1} CUDA devices"):
        convec.device(f"cuda:{len(devices) - 1}")
    for name in ("gpu", "cuda:x", "cuda:-1", ""):
        with pytest.raises(ValueError, match="must be"):
            convec.device(name)
    with convec.device("cuda:0"):
        model = convec.Sequential([convec.Input((4,)), layers.Dense(2)])
        with convec.device("cpu"):
            assert convec.Sequential([convec.Input((4,)), layers.Dense(2)]).device == "cpu"
    assert model.device == "cuda:0"
    assert convec.Sequential([convec.Input((4,)), layers.Dense(2)]).device == "cpu"


def test_the_default_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_device, "_default", None)
    monkeypatch.setenv("CONVEC_DEVICE", "cuda:0")
    assert str(convec.current_device()) == "cuda:0"
    convec.set_device("cpu")
    assert str(convec.current_device()) == "cpu"
    monkeypatch.setattr(_device, "_default", None)
    monkeypatch.setenv("CONVEC_DEVICE", "tpu")
    with pytest.raises(ValueError, match="CONVEC_DEVICE"):
        convec.current_device()


def test_without_a_backend_it_is_said_what_is_missing() -> None:
    _core.set_cuda_backend(None)
    try:
        with pytest.raises(RuntimeError, match="the CUDA backend is not loaded"):
            _core.DeviceMemory(0, 4)
    finally:
        _core.set_cuda_backend(_device._cuda_module().backend())
