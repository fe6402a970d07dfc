"""ONNX files of other programs as convec models: graphs made here, against onnx's own reference, and PyTorch's."""

from __future__ import annotations

import os
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import layers
from convec.models import Sequential

onnx = pytest.importorskip("onnx")

RNG = np.random.default_rng(5)


def weights(*shape: int) -> Any:
    return RNG.uniform(-0.5, 0.5, shape).astype(np.float32)


class Graph:
    """A chain of nodes on ``x``."""

    def __init__(self, *shape: Any, opset: int = 17, dtype: int = 1, batch: Any = "batch") -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = "x"
        self.opset = opset
        self.input = onnx.helper.make_tensor_value_info("x", dtype, [batch, *shape])

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *constants: Any, inputs: list[str] | None = None, **attributes: Any) -> Graph:
        """A node on the current value and arrays; None leaves an input out."""
        given = [self.value] if inputs is None else inputs
        given += ["" if value is None else self.constant(value) for value in constants]
        self.nodes.append(
            onnx.helper.make_node(op, given, [f"v{len(self.nodes)}"], name=f"n{len(self.nodes)}", **attributes)
        )
        self.value = self.nodes[-1].output[0]
        return self

    def model(self, producer: str = "test") -> Any:
        output = onnx.helper.make_tensor_value_info(self.value, 1, None)
        graph = onnx.helper.make_graph(self.nodes, "graph", [self.input], [output], self.constants)
        opsets = [onnx.helper.make_opsetid("", self.opset), onnx.helper.make_opsetid("other", 1)]
        return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=producer)

    def save(self, folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(self.model().SerializeToString())
        return path


def first(x: Any) -> Any:
    """(batch, height, width, channels) as (batch, channels, height, width)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x


def last(x: Any) -> Any:
    return np.moveaxis(x, 1, -1) if x.ndim == 4 else x


def check(path: Path, model: Sequential, channels_first: bool = True, tolerance: float = 1e-5) -> None:
    """The model computes what onnx's reference does of the file, and so does what is exported of it."""
    from onnx.reference import ReferenceEvaluator

    x = RNG.normal(size=(3, *model.input_shape[1:])).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run(None, {"x": first(x) if channels_first else x})
    found = model.predict(x, verbose=0)
    expected = last(expected) if channels_first else expected
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    again = path.with_name("again.onnx")
    convec.export_onnx(model, again)
    np.testing.assert_allclose(convec.import_onnx(again).predict(x, verbose=0), found, rtol=1e-5, atol=1e-5)


def images(*, height: int = 9, width: int = 10, opset: int = 17) -> Graph:
    return Graph(4, height, width, opset=opset)


SHAPE_OF_X = {"inputs": ["x"]}
CHAINS: dict[str, Callable[[], Graph]] = {
    "convolution": lambda: images().add("Conv", weights(6, 4, 3, 2), weights(6)),
    "pads before and after": lambda: images().add("Conv", weights(6, 4, 3, 3), pads=[1, 0, 2, 1], strides=[2, 2]),
    "same upper": lambda: images().add("Conv", weights(6, 4, 3, 2), auto_pad="SAME_UPPER", strides=[2, 2]),
    "same lower": lambda: images().add("Conv", weights(6, 4, 3, 2), auto_pad="SAME_LOWER", strides=[2, 3]),
    "valid, groups, dilations": lambda: images().add(
        "Conv", weights(6, 2, 3, 2), auto_pad="VALID", group=2, dilations=[2, 1]
    ),
    "depthwise": lambda: images().add("Conv", weights(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    "pad": lambda: (
        images().add("Pad", np.array([0, 0, 1, 2, 0, 0, 0, 1])).add("Conv", weights(2, 4, 3, 3), pads=[1] * 4)
    ),
    "bias added": lambda: images().add("Conv", weights(6, 4, 3, 2)).add("Add", weights(6, 1, 1)).add("Relu"),
    "max, ceiling": lambda: images().add("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max, ceiling without a window": lambda: images(width=7).add(
        "MaxPool", kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1, pads=[1, 1, 1, 1]
    ),
    "max, pads": lambda: images().add("MaxPool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 1, 1]),
    "mean, pads": lambda: images().add("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0]),
    "mean": lambda: images().add("AveragePool", kernel_shape=[2, 2], count_include_pad=1),
    "global, flattened": lambda: images().add("GlobalAveragePool").add("Flatten").add("Gemm", weights(4, 2)),
    "global, squeezed": lambda: images().add("GlobalMaxPool").add("Squeeze", np.array([2, 3])),
    "global, kept": lambda: images().add("GlobalMaxPool").add("Conv", weights(2, 4, 1, 1)),
    "reduced": lambda: images(opset=18).add("ReduceMean", np.array([-1, -2]), keepdims=0),
    "reduced by an attribute": lambda: images(opset=13).add("ReduceMax", axes=[2, 3], keepdims=1).add("Flatten"),
    "flatten": lambda: (
        images()
        .add("Conv", weights(3, 4, 3, 3))
        .add("Relu")
        .add("Flatten")
        .add("Gemm", weights(5, 3 * 7 * 8), weights(5), transB=1, alpha=0.5, beta=2.0)
    ),
    "flattened, then more": lambda: (
        images(height=3, width=2)
        .add("Flatten")
        .add("BatchNormalization", *(weights(24) + 1 for _ in range(4)))
        .add("Mul", weights(24))
        .add("Relu")
        .add("MatMul", weights(24, 5))
        .add("Add", weights(5))
        .add("Softmax")
    ),
    "reshape": lambda: images().add("Reshape", np.array([-1, 360])).add("Gemm", weights(360, 2)),
    "reshape, zero": lambda: images().add("Reshape", np.array([0, -1])).add("Gemm", weights(360, 2), weights(1, 2)),
    "normalised": lambda: images().add("BatchNormalization", *(weights(4) + 1 for _ in range(4)), epsilon=0.01),
    "scale and offset": lambda: (
        images()
        .add("Sub", np.float32(0.5))
        .add("Div", np.float32(0.25))
        .add("Mul", weights(4, 1, 1))
        .add("Add", weights(1, 4, 1, 1))
    ),
    "from and to channels last": lambda: (
        Graph(9, 10, 4)
        .add("Transpose", perm=[0, 3, 1, 2])
        .add("Conv", weights(3, 4, 3, 3))
        .add("Transpose", perm=[0, 2, 3, 1])
        .add("Reshape", np.array([-1, 168]))
        .add("MatMul", weights(168, 2))
    ),
    "one channel put first by a reshape": lambda: (
        Graph(9, 10, 1).add("Reshape", np.array([-1, 1, 9, 10])).add("Conv", weights(3, 1, 3, 3))
    ),
    "softmax over channels": lambda: images().add("Softmax", axis=1),
    "softmax of old": lambda: images(opset=11).add("Flatten").add("Gemm", weights(360, 3), weights(3)).add("Softmax"),
    "activations": lambda: (
        images()
        .add("Elu")
        .add("Selu")
        .add("Tanh")
        .add("LeakyRelu", alpha=0.2)
        .add("Softplus")
        .add("Sigmoid")
        .add("Clip", np.float32(0), np.float32(6))
        .add("Clip", np.float32(0), None)
    ),
    "clip of old": lambda: images(opset=10).add("Clip", min=0.0, max=6.0),
    "gelu": lambda: images(opset=20).add("Gelu"),
    "nothing": lambda: images().add("Identity").add("Dropout").add("Cast", to=1).add("Relu"),
    "rows": lambda: Graph(7).add("Gemm", weights(7, 3), np.float32(2)).add("Softmax", axis=1),
    "sequences": lambda: Graph(6, 2).add("MatMul", weights(2, 3)).add("Add", weights(3)).add("Softmax", axis=-1),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_reference_computes_the_same(tmp_path: Path, name: str) -> None:
    graph = CHAINS[name]()
    path = graph.save(tmp_path)
    last_channels = name in ("from and to channels last", "one channel put first by a reshape")
    model = convec.import_onnx(path)
    if name == "one channel put first by a reshape":
        model_output = model.output_shape
        assert model_output == (None, 7, 8, 3)
        return
    check(path, model, channels_first=not last_channels and len(model.input_shape) == 4)


def test_layers_have_what_keras_has_a_name_for(tmp_path: Path) -> None:
    graph = (
        images()
        .add("Conv", weights(6, 4, 3, 3), pads=[1, 1, 1, 1])
        .add("Relu")
        .add("Flatten")
        .add("Gemm", weights(540, 2))
    )
    model = convec.import_onnx(graph.save(tmp_path))
    conv, flatten, dense = model.layers
    assert isinstance(conv, layers.Conv2D)
    assert (conv.padding, conv.activation, conv.use_bias) == ("same", "relu", False)
    assert isinstance(flatten, layers.Flatten)
    assert isinstance(dense, layers.Dense)
    assert not dense.use_bias
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(RNG.normal(size=(4, 9, 10, 4)).astype(np.float32), np.array([0, 1, 1, 0]), verbose=0)


def test_a_shape_that_the_graph_computes(tmp_path: Path) -> None:
    """``x.view(x.size(0), -1)`` as PyTorch traces it."""
    graph = images().add("Relu")
    before = graph.value
    graph.add("Shape").add("Gather", np.array(0)).add("Unsqueeze", np.array([0]))
    batch = graph.value
    graph.add("Concat", np.array([-1]), inputs=[batch], axis=0)
    target = graph.value
    graph.add("Reshape", inputs=[before, target]).add("Gemm", weights(360, 2))
    path = graph.save(tmp_path)
    check(path, convec.import_onnx(path))


@pytest.mark.parametrize("name", ["silu", "gelu", "leaky"])
def test_activations_that_are_written_as_formulas(tmp_path: Path, name: str) -> None:
    graph = images().add("Conv", weights(3, 4, 2, 2))
    x = graph.value
    if name == "silu":
        graph.add("Sigmoid").add("Mul", inputs=[x, graph.value])
    elif name == "gelu":
        graph.add("Div", np.float32(2**0.5)).add("Erf").add("Add", np.float32(1))
        graph.add("Mul", inputs=[x, graph.value]).add("Mul", np.float32(0.5))
    else:
        graph.add("Mul", np.float32(0.2)).add("Max", inputs=[x, graph.value])
    graph.add("Flatten").add("Gemm", weights(3 * 8 * 9, 2))
    path = graph.save(tmp_path)
    model = convec.import_onnx(path)
    assert model.layers[0].activation == {"leaky": "leaky_relu"}.get(name, name)  # type: ignore[attr-defined]
    if name != "gelu":
        check(path, model)


def test_extents_that_are_open(tmp_path: Path) -> None:
    path = Graph(4, "height", "width").add("Conv", weights(2, 4, 3, 3)).save(tmp_path)
    with pytest.raises(ValueError, match=r"extents must be known; give input_shape="):
        convec.import_onnx(path)
    check(path, convec.import_onnx(path, input_shape=(5, 7, 4)))
    for wrong in ((5, 7, 3), (5, 7)):
        with pytest.raises(ValueError, match="input_shape is"):
            convec.import_onnx(path, input_shape=wrong)


def test_the_order_of_the_input(tmp_path: Path) -> None:
    path = Graph(3, 4, 5).add("Flatten").add("Gemm", weights(60, 2)).save(tmp_path)
    assert convec.import_onnx(path).input_shape == (None, 4, 5, 3)
    assert convec.import_onnx(path, data_format="channels_last").input_shape == (None, 3, 4, 5)
    check(path, convec.import_onnx(path))
    check(path, convec.import_onnx(path, data_format="channels_last"), channels_first=False)
    with pytest.raises(ValueError, match="data_format is 'first'"):
        convec.import_onnx(path, data_format="first")


def test_all_that_is_unsupported_is_named_at_once(tmp_path: Path) -> None:
    graph = (
        images()
        .add("LeakyRelu", alpha=0.01)
        .add("HardSwish")
        .add("AveragePool", kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1)
    )
    graph.add("ConvTranspose", weights(4, 2, 2, 2)).add("LSTM").add("Thing", domain="other").add("Elu", alpha=0.5)
    with pytest.raises(ValueError, match="convec cannot express this of it") as caught:
        convec.import_onnx(graph.save(tmp_path))
    lines = str(caught.value).splitlines()[1:]
    for line, part in zip(
        lines,
        (
            "LeakyRelu 'n0': alpha is 0.01, but that of convec's 'leaky_relu' is 0.2",
            "HardSwish 'n1': the operator is not among those convec has",
            "AveragePool 'n2': count_include_pad is 1",
            "ConvTranspose 'n3': the operator",
            "LSTM 'n4': the operator",
            "Thing 'n5': the operator of 'other'",
            "Elu 'n6': alpha is 0.5",
        ),
        strict=True,
    ):
        assert part in line


def two_branches() -> Graph:
    graph = images().add("Relu")
    before = graph.value
    return graph.add("Conv", weights(4, 4, 1, 1)).add("Add", inputs=[before, graph.value])


WRONG: dict[str, tuple[Callable[[], Graph], str]] = {
    "branches": (two_branches, "Add 'n2': it joins two branches"),
    "one dimension": (lambda: Graph(4, 9).add("Conv", weights(2, 4, 3)), "filters is float32 of shape|is no image"),
    "filters that do not fit": (lambda: images().add("Conv", weights(2, 3, 3, 3)), "do not fit 4 channels"),
    "a kernel too large": (lambda: images().add("Conv", weights(2, 4, 30, 3)), "layer 0 .conv2d.*output height"),
    "weights that do not fit": (lambda: images().add("Flatten").add("Gemm", weights(9, 2)), "do not work on"),
    "a bias that does not fit": (
        lambda: images().add("Conv", weights(2, 4, 3, 3), weights(3)),
        "bias of Conv 'n0' has shape",
    ),
    "a reshape": (lambda: images().add("Reshape", np.array([-1, 4, 90])), "only flattens"),
    "a transpose": (lambda: images().add("Transpose", perm=[0, 1, 3, 2]), "no change of channels"),
    "reversed": (lambda: images().add("Transpose"), "no change of channels"),
    "a softmax": (lambda: images().add("Softmax", axis=2), "softmax is over channels"),
    "a gelu": (lambda: images(opset=20).add("Gelu", approximate="tanh"), "approximates by tanh"),
    "a clip": (lambda: images().add("Clip", np.float32(-1), np.float32(1)), "bounds are -1 and 1"),
    "a pad": (lambda: images().add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1])).add("Relu"), "a Pad comes before it"),
    "a pad of ones": (lambda: images().add("Pad", np.array([0] * 8), np.float32(1)), "something else than zeros"),
    "a pad at the end": (
        lambda: images().add("Relu").add("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1])),
        "not what a last layer",
    ),
    "an axis": (lambda: images().add("ReduceMean", axes=[1]), "other axes than height and width"),
    "a missing value": (lambda: images().add("Relu", inputs=["nowhere"]), "nothing computes 'nowhere'"),
    "no layers": (lambda: images().add("Identity"), "not what a last layer computes"),
    "integers": (lambda: Graph(4, dtype=7).add("Relu"), "takes float32 and uint8"),
    "an attribute": (lambda: images().add("Flatten", axis=1.5), "axis is 1.5, which is of another type"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(ValueError, match=message) as caught:
        convec.import_onnx(make().save(tmp_path))
    assert str(tmp_path) in str(caught.value)


# ---- Files from anywhere ----


def external(folder: Path, location: str, content: bytes = b"", **entries: Any) -> Path:
    graph = Graph(4).add("Gemm", weights(4, 2))
    model = graph.model()
    tensor = model.graph.initializer[0]
    if content:
        (folder / location).write_bytes(content)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_tensors_in_a_file_of_their_own(tmp_path: Path) -> None:
    values = weights(4, 2)
    path = external(tmp_path, "model.data", b"\0" * 8 + values.tobytes(), offset=8, length=32)
    np.testing.assert_array_equal(convec.import_onnx(path).get_weights()[0], values)


@pytest.mark.parametrize(
    ("location", "entries", "message"),
    [
        ("../secret", {}, "not a file in the model's folder"),
        ("/etc/passwd", {}, "not a file in the model's folder"),
        ("a/../../secret", {}, "not a file in the model's folder"),
        ("C:\\secret", {}, "not a file in the model's folder"),
        ("", {}, "not a file in the model's folder"),
        ("link", {}, "is a link"),
        ("folder/secret", {}, "is a link"),
        ("pipe", {}, "is no file"),
        ("data", {"offset": 10}, "is said to be"),
        ("data", {"length": 1 << 40}, "is said to be"),
        ("data", {"offset": "9" * 400}, "must be a number of bytes"),
        ("data", {"offset": -1}, "must be a number of bytes"),
    ],
)
def test_other_files_are_not_opened(tmp_path: Path, location: str, entries: dict[str, Any], message: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 32)
    (folder / "data").write_bytes(b"\0" * 32)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ValueError, match=message):
        convec.import_onnx(external(folder, location, **entries))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        convec.import_onnx(external(folder, "nothing"))


def test_absurd_sizes_take_no_memory(tmp_path: Path) -> None:
    """Shapes without bytes, one tensor for many layers, and messages that are all overhead."""
    path = tmp_path / "model.onnx"
    model = Graph(4).add("Gemm", weights(4, 2)).model()
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 40]
    absurd = {"shape": model.SerializeToString()}
    shared = Graph(500, batch="n")
    name = shared.constant(weights(500, 500))
    for _ in range(100):
        shared.add("Gemm", inputs=[shared.value, name])
    absurd["shared"] = shared.model().SerializeToString()
    absurd["small messages"] = b"\x3a\x80\x80\x80\x01" + b"\x0a\x00" * (1 << 20)
    absurd["deep"] = deep(60)
    messages = {
        "shape": "needs .* bytes",
        "shared": "many times the size",
        "small messages": "small parts",
        "deep": "deep",
    }
    for what, content in absurd.items():
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(ValueError, match=messages[what]):
            convec.import_onnx(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * len(content) + (1 << 24), what


def deep(levels: int) -> bytes:
    """Graphs within graphs: ``attribute { g { node { attribute ...``."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + content

    content = b""
    for _ in range(levels):
        content = field(1, field(5, field(6, content)))
    return field(7, content)


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    content = images().add("Conv", weights(1, 4, 1, 1)).add("Relu").model().SerializeToString()
    path = tmp_path / "model.onnx"
    # What stands last is the version of operators that no node is of.
    for size in range(len(content) - len(onnx.helper.make_opsetid("other", 1).SerializeToString()) - 2):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"model\.onnx"):
            convec.import_onnx(path)
    with pytest.raises(FileNotFoundError):
        convec.import_onnx(tmp_path / "nothing")


# ---- PyTorch ----


@pytest.mark.parametrize("dynamo", [False, True])
def test_what_pytorch_exports(tmp_path: Path, dynamo: bool) -> None:
    torch = pytest.importorskip("torch")
    onnxruntime = pytest.importorskip("onnxruntime")
    if dynamo:
        pytest.importorskip("onnxscript")
    nn = torch.nn
    torch.manual_seed(0)
    parts = {
        "first": [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)],
        "second": [nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.SiLU(), nn.Conv2d(8, 6, 1), nn.GELU()],
        "third": [nn.AvgPool2d(2, ceil_mode=True), nn.ReLU6(), nn.Dropout(), nn.Identity()],
    }
    flat = [nn.Flatten(), nn.Linear(6 * 3 * 2, 7), nn.BatchNorm1d(7), nn.ELU(), nn.Linear(7, 5), nn.Softmax(1)]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Tanh()]
    for tail in (flat, pooled):
        module = nn.Sequential(*(layer for part in parts.values() for layer in part), *tail)
        x = torch.randn(4, 3, 20, 16)
        module(x)  # moves the running statistics
        module.eval()
        path = tmp_path / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            free = (
                {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamo else {"dynamic_axes": {"x": {0: "n"}}}
            )
            torch.onnx.export(module, (x,), str(path), input_names=["x"], dynamo=dynamo, verbose=False, **free)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        expected = session.run(None, {"x": x.numpy()})[0]
        found = convec.import_onnx(path).predict(x.permute(0, 2, 3, 1).contiguous().numpy(), verbose=0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
