"""ONNX: onnxruntime, and OpenCV where it is installed, compute from an exported model what convec computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import layers
from convec.models import Sequential
from convec.saving import export_onnx

onnx = pytest.importorskip("onnx")

RNG = np.random.default_rng(2)


def trained(model: Sequential) -> Sequential:
    """Weights of every size, running statistics included."""
    model.set_weights([RNG.uniform(0.1, 0.9, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def run(path: Path, x: Any) -> Any:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


MODELS: dict[str, Any] = {
    "cnn": lambda: [
        convec.Input((28, 28, 1)),
        layers.Conv2D(8, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(6, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax"),
    ],
    "every layer": lambda: [
        convec.Input((9, 10, 4)),
        layers.Rescaling(1 / 3, -0.5),
        layers.Conv2D(6, (3, 2), strides=2, padding="same", groups=2, use_bias=False),
        layers.BatchNormalization(epsilon=0.01),
        layers.ReLU(max_value=6),
        layers.Conv2D(4, 2, padding="same", dilation_rate=2, activation="tanh"),
        layers.AveragePooling2D(3, strides=2, padding="same"),
        layers.MaxPooling2D(2, strides=1, padding="same"),
        layers.Dropout(0.5),
        layers.GlobalAveragePooling2D(keepdims=True),
        layers.Flatten(),
        layers.Dense(5, use_bias=False),
        layers.BatchNormalization(scale=False),
        layers.Softmax(),
    ],
    "pads": lambda: [
        convec.Input((9, 10, 4)),
        layers.Conv2D(6, 3, strides=2, padding=((1, 0), (2, 1)), activation="selu"),
        layers.MaxPooling2D(2, padding=((0, 1), (1, 1))),
        layers.AveragePooling2D(3, strides=1, padding=((1, 2), (0, 1))),
    ],
    "images out": lambda: [convec.Input((6, 5, 2)), layers.Conv2D(3, 3, padding="same"), layers.Softmax()],
    "global max": lambda: [convec.Input((6, 5, 2)), layers.Conv2D(3, 2), layers.GlobalMaxPooling2D(), layers.Dense(2)],
    "dense on images": lambda: [
        convec.Input((6, 5, 2)),
        layers.Dense(3, activation="elu"),
        layers.BatchNormalization(center=False),
        layers.Conv2D(2, 2),
    ],
    "sequence": lambda: [convec.Input((6, 2)), layers.BatchNormalization(), layers.Dense(3), layers.Softmax()],
    "row": lambda: [convec.Input((7,)), layers.Flatten(), layers.Dense(3)],
    **{
        name: (lambda name=name: [convec.Input((5,)), layers.Dense(8), layers.Activation(name)])
        for name in ("relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh", "softplus")
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_onnxruntime_computes_the_same(tmp_path: Path, name: str) -> None:
    model = trained(Sequential(MODELS[name]()))
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    for batch in (1, 5):
        x = RNG.normal(size=(batch, *model.input_shape[1:])).astype(np.float32)
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(run(path, x), expected, rtol=1e-5, atol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("name", MODELS)
def test_opencv_computes_the_same(tmp_path: Path, name: str) -> None:
    cv2 = pytest.importorskip("cv2")
    model = trained(Sequential(MODELS[name]()))
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    x = RNG.normal(size=(1, *model.input_shape[1:])).astype(np.float32)
    network = cv2.dnn.readNetFromONNX(str(path))
    network.setInput(x)
    np.testing.assert_allclose(network.forward(), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_exported_can_be_imported(tmp_path: Path, name: str) -> None:
    model = trained(Sequential(MODELS[name]()))
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    again = convec.import_onnx(path)
    x = RNG.normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5)


def test_an_unbuilt_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not built"):
        export_onnx(Sequential([layers.Dense(2)]), tmp_path / "m.onnx")
    assert convec.export_onnx is export_onnx
