"""ONNX graphs as Sequential models. Needs the package ``onnx``.

A graph is walked from its input to its output. Each operator on the way becomes a layer, or what it does to the order
of a layer's weights: images are (batch, channels, height, width) in most graphs and (batch, height, width, channels)
here, so that the rows of a dense layer behind a Flatten are reordered. Operators that convec has not are gathered, and
named in one error.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from convec import _core, layers
from convec.layers.base import Layer
from convec.models.sequential import Sequential
from convec.saving.onnx_file import TensorReader, load_onnx, read_model
from convec.saving.onnx_formulas import ACTIVATIONS, activation_of, find_formulas
from convec.saving.onnx_nodes import (
    Array,
    Node,
    Pads,
    UnsupportedError,
    ceiling_pads,
    fold,
    needed_nodes,
    padding_of,
    window_extent,
    window_pads,
)
from convec.saving.torch_weights import by_pixel

Image = tuple[int, int, int]

_SPARE_BYTES = 1 << 24
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_SHAPE_KEEPING = frozenset({
    "Celu", "Clip", "Dropout", "Elu", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish",
    "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "LogSoftmax", "Mish", "PRelu", "Selu",
    "Softmax", "Softsign", "Swish", "ThresholdedRelu",
})  # fmt: skip
_UNBOUNDED = 3e38  # what exporters write for no bound of Clip


def import_onnx(
    filepath: str | os.PathLike[str],
    input_shape: Sequence[int] | None = None,
    data_format: str | None = None,
) -> Sequential:
    """A Sequential model out of an ONNX file, not compiled; ``compile`` it to train on.

    Images are (batch, height, width, channels) in the model, whatever they are in the graph: its inputs and outputs are
    transposed where the graph's are channels first. A graph that ends in flattened images has them pixel by pixel.

    Args:
        filepath: the file. Tensors that it keeps in other files are looked for in its own folder.
        input_shape: of one sample, in the model's order, where the graph leaves extents open.
        data_format: ``'channels_first'`` or ``'channels_last'``: the order of the graph's input. By default it is
            that of the first operator that tells; (batch, channels, height, width), ONNX' own, where none does.

    Raises:
        ValueError: the file is damaged, or its graph is no chain of what convec has; the message lists every operator
            that convec cannot express, by its name.
        OSError: it cannot be read.
        ImportError: onnx is not installed.
    """
    if data_format not in (None, "channels_first", "channels_last"):
        raise ValueError(f"data_format is {data_format!r}, but must be 'channels_first', 'channels_last' or None")
    path = Path(filepath)
    model = read_model(path)
    size = path.stat().st_size
    tensors = TensorReader(path)
    try:
        walk = _Walk(model, tensors, size, input_shape, data_format)
        shape, entries = walk.run()
        return _build(shape, entries)
    except (UnsupportedError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path} cannot be imported: {error}") from None


@dataclass
class _Entry:
    """A layer to be, with its weights by name."""

    layer: type[Layer]
    config: dict[str, Any]
    weights: dict[str, Array] = field(default_factory=dict)
    affine: bool = False  # made of Mul and Add
    node: str = ""


def _build(shape: Sequence[int], entries: list[_Entry]) -> Sequential:
    """The model, after its weights were found to fit: a file from anywhere may describe layers of any size."""
    made = [entry.layer(**entry.config) for entry in entries]
    parts = [(number, part) for number, layer in enumerate(made) for part in layer.core_layers()]
    weights: list[Array] = []
    for info in _core.network_parameters([part for _, part in parts], shape):
        entry = entries[parts[info["layer"]][0]]
        array = entry.weights[info["name"]]
        if array.shape != info["shape"]:
            raise ValueError(f"the {info['name']} of {entry.node} has shape {array.shape}, but needs {info['shape']}")
        weights.append(array)
    model = Sequential([layers.Input(shape), *made])
    model.set_weights(weights)
    return model


@dataclass(frozen=True)
class _Data:
    """A value that depends on the input: what a graph knows about it."""

    number: int  # of all values, so that a branch is noticed
    shape: tuple[int, ...]  # of one sample, in the graph's order
    channels_first: bool = False  # an image whose channels come first in the graph
    image: Image | None = None  # height, width and channels where it is such an image, flattened
    pads: Pads = (0, 0, 0, 0)  # zeros still to be added: top, left, bottom, right

    @property
    def channel_axis(self) -> int:
        return 1 if self.channels_first else len(self.shape)

    @property
    def channels(self) -> int:
        return self.shape[self.channel_axis - 1]

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of an image."""
        return (self.shape[1], self.shape[2]) if self.channels_first else (self.shape[0], self.shape[1])


@dataclass(frozen=True)
class _Shape:
    """A vector of extents computed in the graph; None stands for the batch."""

    extents: tuple[int | None, ...]


class _Broken:
    """A value behind something unsupported."""


_BROKEN = _Broken()
_Value = Array | _Data | _Shape | _Broken


class _Walk:
    """A graph's nodes from the input to the output."""

    def __init__(
        self, model: Any, tensors: TensorReader, size: int, input_shape: Sequence[int] | None, data_format: str | None
    ) -> None:
        onnx = load_onnx()
        self._problems: list[str] = []
        self._entries: list[_Entry] = []
        self._tensors = tensors
        self._graph = model.graph
        self._input_shape = input_shape
        self._data_format = data_format
        self._producer = str(model.producer_name)
        self._opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)
        if self._opset < 1:
            raise ValueError("the file is damaged: it does not say which version of the operators it uses")
        self._protos = {tensor.name: tensor for tensor in self._graph.initializer}
        self._nodes = needed_nodes([Node(proto, onnx) for proto in self._graph.node], self._graph.output)
        self._values: dict[str, _Value] = {}
        self._size = size
        self._bytes = 0  # of the layers' weights
        self._folding = size + _SPARE_BYTES  # bytes that constants computed from others may take
        self._head = 0
        self._batch: int | None = None
        self._kinds = onnx.TensorProto
        self._formulas = find_formulas(self._nodes, self._protos, tensors)
        # The input of a formula is computed by itself.
        self._inner = {value for _, values in self._formulas.values() for value in values[1:]}

    # ---- The walk ----

    def run(self) -> tuple[tuple[int, ...], list[_Entry]]:
        """The input shape in convec's order, and the layers. Raises UnsupportedError that names all it can."""
        name, shape = self._input()
        first = self._channels_first(name) if len(shape) == 3 else False
        if self._input_shape is not None:
            own = tuple(self._input_shape)
            given = (own[2], own[0], own[1]) if first and len(own) == 3 else own
            if len(given) != len(shape) or any(
                extent not in (None, one) for extent, one in zip(shape, given, strict=True)
            ):
                raise UnsupportedError(
                    f"the input of shape {shape} (a sample, in the graph's order): input_shape is {own}"
                )
            shape = given
        if any(extent is None for extent in shape):
            raise UnsupportedError(
                f"the input {name!r} of shape {shape} (a sample, in the graph's order): extents must be known; give "
                "input_shape=, in the order height, width, channels"
            )
        known = tuple(int(extent or 0) for extent in shape)
        self._values[name] = _Data(0, known, channels_first=first)
        for node in self._nodes:
            self._step(node)
        if self._problems:
            raise UnsupportedError("convec cannot express this of it:\n  " + "\n  ".join(self._problems))
        output = self._graph.output[0].name
        end = self._values.get(output)
        if not isinstance(end, _Data) or end.number != self._head or any(end.pads) or not self._entries:
            raise UnsupportedError(f"the output {output!r} is not what a last layer computes")
        return (known[1], known[2], known[0]) if first else known, self._entries

    def _input(self) -> tuple[str, tuple[int | None, ...]]:
        """Name and shape of a sample of the only input."""
        inputs = [one for one in self._graph.input if one.name not in self._protos]
        if len(inputs) != 1 or len(self._graph.output) != 1:
            raise UnsupportedError(
                f"{len(inputs)} inputs and {len(self._graph.output)} outputs: Sequential models have one of each"
            )
        described = inputs[0].type
        if not described.HasField("tensor_type") or not described.tensor_type.HasField("shape"):
            raise UnsupportedError(f"the input {inputs[0].name!r}: it is no tensor of a known number of dimensions")
        kinds = self._kinds
        kind = described.tensor_type.elem_type
        if kind not in (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.UINT8):
            raise UnsupportedError(f"the input {inputs[0].name!r}: convec takes float32 and uint8, not type {kind}")
        extents = [
            one.dim_value if one.HasField("dim_value") and one.dim_value > 0 else None
            for one in described.tensor_type.shape.dim
        ]
        if not 2 <= len(extents) <= 4:
            raise UnsupportedError(
                f"the input {inputs[0].name!r} of {len(extents)} dimensions: convec takes rows, sequences and images"
            )
        self._batch = extents[0]
        return inputs[0].name, tuple(extents[1:])

    def _channels_first(self, name: str) -> bool:
        """Whether images come in as (batch, channels, height, width)."""
        if self._data_format is not None:
            return self._data_format == "channels_first"
        names = {name}
        for node in self._nodes:
            if not names.intersection(node.inputs):
                continue
            if node.op in (
                "Conv",
                "MaxPool",
                "AveragePool",
                "GlobalMaxPool",
                "GlobalAveragePool",
                "BatchNormalization",
            ):
                return True
            if node.op == "Transpose":
                return tuple(node.get("perm", [])) != _TO_FIRST
            if node.op == "MatMul":
                return False
            if node.op == "Reshape":
                extents = self._protos.get(node.inputs[1]) if len(node.inputs) > 1 else None
                if extents is not None and list(extents.dims) == [4]:
                    return False  # an image of one channel whose channels are put first
            if node.op in ("Flatten", "Reshape"):
                break
            names.update(node.outputs)
        return self._producer != "convec"

    def _step(self, node: Node) -> None:
        """Computes what a node puts out."""
        data: list[_Data] = []
        try:
            if node.outputs[0] in self._formulas:
                self._formula(node)
                return
            if node.outputs[0] in self._inner:
                return
            values = [self._value(name) for name in node.inputs if name]
            data = [value for value in values if isinstance(value, _Data)]
            add = getattr(self, f"_on_{node.op.lower()}", None) if node.domain in ("", "ai.onnx") else None
            if add is None:
                where = f" of {node.domain!r}" if node.domain not in ("", "ai.onnx") else ""
                raise node.unsupported(f"the operator{where} is not among those convec has")
            if any(isinstance(value, _Broken) for value in values):
                if node.op in ACTIVATIONS:
                    activation_of(node)
                found: _Value = _BROKEN
            elif not data:
                found = self._fold(node, values)
            else:
                if len(data) > 1:
                    raise node.unsupported("it joins two branches, but Sequential models are a chain")
                if data[0].number != self._head and node.op != "Shape":
                    raise node.unsupported("it begins a second branch, but Sequential models are a chain")
                if any(data[0].pads) and node.op != "Conv":
                    raise node.unsupported("a Pad comes before it, which convec has as part of a convolution only")
                found = add(node, data[0])
            self._set(node, found)
        except UnsupportedError as error:
            self._problems.append(str(error))
            # What is behind it is looked at as well, where the shape is known.
            kept = data[0] if len(data) == 1 and node.op in _SHAPE_KEEPING else None
            self._set(node, _BROKEN if kept is None else self._next(kept))

    def _set(self, node: Node, value: _Value) -> None:
        for number, name in enumerate(node.outputs):
            self._values[name] = value if number == 0 else _BROKEN

    def _value(self, name: str) -> _Value:
        if name not in self._values:
            if name not in self._protos:
                raise ValueError(f"the graph is damaged: nothing computes {name!r} before it is used")
            self._values[name] = self._tensors.read(self._protos[name])
        return self._values[name]

    def _formula(self, node: Node) -> None:
        """An activation that is written as several nodes, of which ``node`` is the last."""
        name, inner = self._formulas[node.outputs[0]]
        before = self._value(inner[0])
        found: _Value = _BROKEN
        if isinstance(before, _Data):
            if before.number != self._head:
                raise node.unsupported("it begins a second branch, but Sequential models are a chain")
            found = self._activate(name, before)
        self._set(node, found)

    # ---- Constants and shapes ----

    def _fold(self, node: Node, values: list[_Value]) -> _Value:
        """The value of a node without data among its inputs: of few operators, which do not make arrays grow."""
        if node.op == "Constant":
            return self._constant(node)
        if any(isinstance(value, _Shape) for value in values):
            return self._fold_shape(node, values)
        arrays = [np.asarray(value) for value in values]
        try:
            found = fold(node, arrays)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise node.unsupported(f"it computes a constant in a way that convec does not follow ({error})") from None
        if not any(np.may_share_memory(found, array) for array in arrays):
            self._folding -= found.nbytes
            if self._folding < 0:
                raise node.unsupported("constants computed from constants take more memory than the file")
        return found

    def _constant(self, node: Node) -> Array:
        tensor = node.get("value", None)
        if tensor is not None:
            return self._tensors.read(tensor)
        for name, dtype in (("value_float", np.float32), ("value_int", np.int64)):
            if node.has(name):
                return np.asarray(node.get(name, None), dtype)
        for name, dtype in (("value_floats", np.float32), ("value_ints", np.int64)):
            if node.has(name):
                return np.asarray(list(node.get(name, None)), dtype)
        raise node.unsupported("a constant of a kind that convec does not read")

    def _fold_shape(self, node: Node, values: list[_Value]) -> _Value:
        """A node of the few that exporters compute the target of a Reshape with."""
        vectors = [
            value.extents if isinstance(value, _Shape) else tuple(np.asarray(value).reshape(-1).tolist())
            for value in values
        ]
        if sum(len(vector) for vector in vectors) <= 64:
            if node.op in ("Identity", "Cast", "Unsqueeze", "Squeeze"):
                return _Shape(vectors[0])
            if node.op == "Concat":
                return _Shape(tuple(extent for vector in vectors for extent in vector))
            if node.op == "Gather" and all(
                isinstance(one, int) and -len(vectors[0]) <= one < len(vectors[0]) for one in vectors[1]
            ):
                return _Shape(tuple(vectors[0][int(one or 0)] for one in vectors[1]))
            if (
                node.op == "Slice"
                and 3 <= len(vectors) <= 5
                and all(isinstance(v, int) for part in vectors[1:] for v in part)
            ):
                step = vectors[4][0] if len(vectors) == 5 else 1
                return _Shape(vectors[0][slice(vectors[1][0], vectors[2][0], step or 1)])
        raise node.unsupported("it computes with shapes in a way that convec does not follow")

    def _on_shape(self, node: Node, data: _Data) -> _Shape:
        extents = (None, *data.shape)
        return _Shape(extents[slice(node.get("start", 0), node.get("end", len(extents)))])

    def _parameter(self, node: Node, number: int, what: str) -> Array | None:
        """A constant input, or None where it is left out."""
        if number >= len(node.inputs) or not node.inputs[number]:
            return None
        value = self._value(node.inputs[number])
        if isinstance(value, (_Data, _Shape)):
            raise node.unsupported(f"its {what} is computed from the input, but must be a constant")
        return np.asarray(value)

    def _weights(self, node: Node, number: int, what: str, rank: int) -> Array:
        value = self._parameter(node, number, what)
        if value is None or value.ndim != rank or value.dtype.kind not in "fV":
            found = "absent" if value is None else f"{value.dtype} of shape {value.shape}"
            raise node.unsupported(f"its {what} is {found}, but must be an array of {rank} dimensions of floats")
        return value

    # ---- Layers ----

    def _append(
        self, node: Node, layer: type[Layer], config: dict[str, Any], weights: dict[str, Array] | None = None
    ) -> _Entry:
        self._bytes += sum(4 * value.size for value in (weights or {}).values())
        if self._bytes > 4 * (self._size + self._tensors.external_bytes) + _SPARE_BYTES:
            raise ValueError(
                f"the weights up to {node.name} take many times the size of the file; do layers share them?"
            )
        stored = {name: np.asarray(value, np.float32) for name, value in (weights or {}).items()}
        self._entries.append(_Entry(layer, config, stored, node=node.name))
        return self._entries[-1]

    def _next(self, data: _Data, **changes: Any) -> _Data:
        """The value after the layer that was added last."""
        self._head += 1
        return replace(data, number=self._head, **changes)

    def _activate(self, name: str, data: _Data) -> _Data:
        last = self._entries[-1] if self._entries else None
        if last is not None and last.config.get("activation") == "linear":
            last.config["activation"] = name
        else:
            self._entries.append(_Entry(layers.Activation, {"activation": name}))
        return self._next(data)

    def _images(self, node: Node, data: _Data) -> None:
        if len(data.shape) != 3 or not data.channels_first:
            raise node.unsupported(
                f"its input of shape {('batch', *data.shape)} is no image whose channels come first: it works on "
                "another axis than convec's, or on another number of axes"
            )

    def _on_conv(self, node: Node, data: _Data) -> _Data:
        self._images(node, data)
        kernel = self._weights(node, 1, "filters", 4)
        bias = self._parameter(node, 2, "bias")
        size, strides = (kernel.shape[2], kernel.shape[3]), node.ints("strides", 2, 1)
        dilation, groups = node.ints("dilations", 2, 1), node.get("group", 1)
        if node.has("kernel_shape") and node.ints("kernel_shape", 2, 0) != size:
            raise node.unsupported(f"kernel_shape is {node.get('kernel_shape', [])}, but its filters have {size}")
        pads = window_pads(node, data.extent, size, strides, dilation)
        pads = (pads[0] + data.pads[0], pads[1] + data.pads[1], pads[2] + data.pads[2], pads[3] + data.pads[3])
        if groups < 1 or kernel.shape[1] * groups != data.channels:
            raise node.unsupported(
                f"its filters of shape {kernel.shape} in {groups} groups do not fit {data.channels} channels"
            )
        weights = {"kernel": np.transpose(kernel, (2, 3, 1, 0))}
        if bias is not None:
            weights["bias"] = bias
        self._append(
            node,
            layers.Conv2D,
            {
                "filters": kernel.shape[0],
                "kernel_size": size,
                "strides": strides,
                "padding": padding_of(pads, data.extent, size, strides, dilation),
                "dilation_rate": dilation,
                "groups": groups,
                "use_bias": bias is not None,
                "activation": "linear",
            },
            weights,
        )
        extent = window_extent(data.extent, size, strides, dilation, pads)
        return self._next(data, shape=(kernel.shape[0], *extent), pads=(0, 0, 0, 0))

    def _pool(self, node: Node, data: _Data, layer: type[Layer]) -> _Data:
        self._images(node, data)
        size, strides, ones = node.ints("kernel_shape", 2, 0), node.ints("strides", 2, 1), (1, 1)
        if node.ints("dilations", 2, 1) != ones:
            raise node.unsupported("its window has dilations, which convec's has not")
        pads = window_pads(node, data.extent, size, strides, ones)
        explicit = any(pads)
        if node.get("ceil_mode", 0):
            pads = ceiling_pads(data.extent, size, strides, pads)
        if layer is layers.AveragePooling2D and any(pads) and (node.get("count_include_pad", 0) and explicit):
            raise node.unsupported("count_include_pad is 1, but convec takes the mean over pixels of the image only")
        padding = padding_of(pads, data.extent, size, strides, ones)
        self._append(node, layer, {"pool_size": size, "strides": strides, "padding": padding})
        return self._next(data, shape=(data.channels, *window_extent(data.extent, size, strides, ones, pads)))

    def _on_maxpool(self, node: Node, data: _Data) -> _Data:
        return self._pool(node, data, layers.MaxPooling2D)

    def _on_averagepool(self, node: Node, data: _Data) -> _Data:
        return self._pool(node, data, layers.AveragePooling2D)

    def _global_pool(self, node: Node, data: _Data, layer: type[Layer], keepdims: bool = True) -> _Data:
        self._append(node, layer, {"keepdims": keepdims})
        shape: tuple[int, ...] = (data.channels,)
        if keepdims:
            shape = (data.channels, 1, 1) if data.channels_first else (1, 1, data.channels)
        return self._next(data, shape=shape, channels_first=data.channels_first and keepdims)

    def _on_globalmaxpool(self, node: Node, data: _Data) -> _Data:
        self._images(node, data)
        return self._global_pool(node, data, layers.GlobalMaxPooling2D)

    def _on_globalaveragepool(self, node: Node, data: _Data) -> _Data:
        self._images(node, data)
        return self._global_pool(node, data, layers.GlobalAveragePooling2D)

    def _reduce(self, node: Node, data: _Data, layer: type[Layer]) -> _Data:
        axes = self._axes(node, data, 1)
        spatial = {2, 3} if data.channels_first else {1, 2}
        if len(data.shape) != 3 or axes != spatial:
            raise node.unsupported("it reduces other axes than height and width of an image")
        return self._global_pool(node, data, layer, bool(node.get("keepdims", 1)))

    def _on_reducemean(self, node: Node, data: _Data) -> _Data:
        return self._reduce(node, data, layers.GlobalAveragePooling2D)

    def _on_reducemax(self, node: Node, data: _Data) -> _Data:
        return self._reduce(node, data, layers.GlobalMaxPooling2D)

    def _axes(self, node: Node, data: _Data, number: int) -> set[int]:
        """The attribute, or in newer graphs the input, ``axes``; counted from 0."""
        given = self._parameter(node, number, "axes")
        axes = node.get("axes", None) if given is None else given.reshape(-1).tolist()
        rank = len(data.shape) + 1
        return {int(axis) % rank for axis in axes or ()}

    def _on_batchnormalization(self, node: Node, data: _Data) -> _Data:
        if (
            node.get("training_mode", 0)
            or len([name for name in node.outputs if name]) > 1
            or not node.get("spatial", 1)
        ):
            raise node.unsupported("it is in training mode, or normalises each pixel by itself")
        if data.channel_axis != 1:
            raise node.unsupported(f"it normalises axis 1 of {('batch', *data.shape)}, which is not the channels' here")
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        values = {name: self._weights(node, number, name, 1) for number, name in enumerate(names, 1)}
        weights = {name: self._by_pixel(node, value, data) for name, value in values.items()}
        config = {"momentum": node.get("momentum", 0.9), "epsilon": node.get("epsilon", 1e-5)}
        self._append(node, layers.BatchNormalization, config, weights)
        return self._next(data)

    def _by_pixel(self, node: Node, rows: Array, data: _Data) -> Array:
        """Rows that belong to the elements of a flattened image, in convec's order."""
        ordered = by_pixel(rows, data.image)
        if ordered is None:
            raise node.unsupported(f"an array of shape {rows.shape} does not fit its input {('batch', *data.shape)}")
        return ordered

    def _dense(self, node: Node, data: _Data, kernel: Array, bias: Array | None) -> _Data:
        if data.channels_first or kernel.shape[0] != data.shape[-1]:
            raise node.unsupported(
                f"its weights {kernel.shape} do not work on the channels of {('batch', *data.shape)}"
            )
        weights = {"kernel": self._by_pixel(node, kernel, data)}
        if bias is not None:
            weights["bias"] = bias
        config = {"units": kernel.shape[1], "use_bias": bias is not None, "activation": "linear"}
        self._append(node, layers.Dense, config, weights)
        return self._next(data, shape=(*data.shape[:-1], kernel.shape[1]), image=None)

    def _on_gemm(self, node: Node, data: _Data) -> _Data:
        kernel = self._weights(node, 1, "weights", 2)
        if node.get("transA", 0) or node.inputs[0] == node.inputs[1] or len(data.shape) != 1:
            raise node.unsupported("it multiplies something else than rows by weights")
        kernel = kernel.T if node.get("transB", 0) else kernel
        if node.get("alpha", 1.0) != 1:
            kernel = kernel * np.float32(node.get("alpha", 1.0))
        bias = self._parameter(node, 2, "bias")
        if bias is not None:
            if bias.size not in (1, kernel.shape[1]):
                raise node.unsupported(f"its bias has shape {bias.shape}, but must be ({kernel.shape[1]},)")
            bias = np.broadcast_to(bias.reshape(-1), (kernel.shape[1],)) * np.float32(node.get("beta", 1.0))
        return self._dense(node, data, kernel, bias)

    def _on_matmul(self, node: Node, data: _Data) -> _Data:
        if self._values.get(node.inputs[0]) is not data:
            raise node.unsupported("it multiplies a constant by the input, not the input by weights")
        return self._dense(node, data, self._weights(node, 1, "weights", 2), None)

    # ---- Scales and offsets ----

    def _on_add(self, node: Node, data: _Data) -> _Data:
        return self._affine(node, data, None, self._operand(node, data)[0])

    def _on_sub(self, node: Node, data: _Data) -> _Data:
        value, second = self._operand(node, data)
        return self._affine(node, data, None, -value) if second else self._affine(node, data, -np.ones(1), value)

    def _on_mul(self, node: Node, data: _Data) -> _Data:
        return self._affine(node, data, self._operand(node, data)[0], None)

    def _on_div(self, node: Node, data: _Data) -> _Data:
        value, second = self._operand(node, data)
        if not second or not np.all(value):
            raise node.unsupported("it divides by the input, or by zero")
        return self._affine(node, data, 1 / value, None)

    def _on_neg(self, node: Node, data: _Data) -> _Data:
        return self._affine(node, data, -np.ones(1), None)

    def _operand(self, node: Node, data: _Data) -> tuple[Array, bool]:
        """The constant of two inputs as (1,) or a number a channel, float64; and whether it is the second."""
        second = self._values.get(node.inputs[0]) is data
        value = self._parameter(node, 1 if second else 0, "operand")
        rank = len(data.shape) + 1
        if value is None or value.ndim > rank or value.dtype.kind not in "fiuV":
            raise node.unsupported("its operand is no array that fits")
        value = value.astype(np.float64)
        if value.size == 1:
            return value.reshape(1), second
        shape = (1,) * (rank - value.ndim) + value.shape
        expected = [1] * rank
        expected[data.channel_axis] = data.channels
        if shape != tuple(expected):
            raise node.unsupported(
                f"its operand of shape {value.shape} is neither a number nor one a channel of {('batch', *data.shape)}"
            )
        return self._by_pixel(node, value.reshape(-1), data), second

    def _affine(self, node: Node, data: _Data, scale: Array | None, offset: Array | None) -> _Data:
        """The input times ``scale`` plus ``offset``."""
        last = self._entries[-1] if self._entries else None
        if last is not None and scale is None and offset is not None and last.config.get("activation") == "linear":
            units = int(last.config.get("filters") or last.config["units"])
            if not last.config["use_bias"] and offset.size in (1, units):
                last.config["use_bias"] = True
                last.weights["bias"] = np.broadcast_to(offset, (units,)).astype(np.float32)
                return self._next(data)
        scale = np.ones(1) if scale is None else scale
        offset = np.zeros(1) if offset is None else offset
        if scale.size == 1 and offset.size == 1:
            if last is None or last.layer is not layers.Rescaling:
                last = self._append(node, layers.Rescaling, {"scale": 1.0, "offset": 0.0})
            last.config["scale"] *= float(scale[0])
            last.config["offset"] = last.config["offset"] * float(scale[0]) + float(offset[0])
            return self._next(data)
        if last is None or not last.affine:
            # Normalisation by mean 0 and variance 1.
            ones = np.ones(data.channels)
            last = self._append(
                node,
                layers.BatchNormalization,
                {"epsilon": 1e-3},
                {"gamma": ones, "beta": 0 * ones, "moving_mean": 0 * ones, "moving_variance": (1 - 1e-3) * ones},
            )
            last.affine = True
        last.weights["gamma"] = (last.weights["gamma"] * scale).astype(np.float32)
        last.weights["beta"] = (last.weights["beta"] * scale + offset).astype(np.float32)
        return self._next(data)

    # ---- Order and shape ----

    def _on_transpose(self, node: Node, data: _Data) -> _Data:
        rank = len(data.shape) + 1
        perm = tuple(node.get("perm", list(range(rank))[::-1]))
        if perm == tuple(range(rank)):
            return self._next(data)
        if len(data.shape) == 3 and perm == (_TO_LAST if data.channels_first else _TO_FIRST):
            shape = tuple(data.shape[axis - 1] for axis in perm[1:])
            return self._next(data, shape=shape, channels_first=not data.channels_first)
        raise node.unsupported(f"perm {perm} of {('batch', *data.shape)} is no change of channels first and last")

    def _flatten(self, node: Node, data: _Data) -> _Data:
        if len(data.shape) == 1:
            return self._next(data)
        last = self._entries[-1] if self._entries else None
        if last is not None and last.config.get("keepdims") and math.prod(data.shape) == data.channels:
            last.config["keepdims"] = False
        else:
            self._append(node, layers.Flatten, {})
        image = (data.shape[1], data.shape[2], data.shape[0]) if data.channels_first else None
        return self._next(data, shape=(math.prod(data.shape),), channels_first=False, image=image)

    def _on_flatten(self, node: Node, data: _Data) -> _Data:
        if node.get("axis", 1) not in (1, -len(data.shape)):
            raise node.unsupported(f"axis is {node.get('axis', 1)}, but convec flattens each sample: 1")
        return self._flatten(node, data)

    def _on_reshape(self, node: Node, data: _Data) -> _Data:
        given = self._value(node.inputs[1]) if len(node.inputs) > 1 else np.asarray(node.get("shape", []))
        if isinstance(given, _Data):
            raise node.unsupported("its shape is computed from the input")
        target = list(given.extents if isinstance(given, _Shape) else np.asarray(given).reshape(-1).tolist())
        size, rest = math.prod(data.shape), target[1:]
        rest = [data.shape[n] if extent == 0 and n < len(data.shape) else extent for n, extent in enumerate(rest)]
        if rest.count(-1) == 1:
            known = -math.prod(extent or 0 for extent in rest)
            rest = [size // known if extent == -1 and known else extent for extent in rest]
        # The batch stays: it is kept as it is, inferred from what the others leave, or was fixed for all of the graph.
        whole = None not in rest and math.prod(extent or 0 for extent in rest) == size
        batch = target[0] if target else 0
        if not whole or not (batch in (None, 0, -1) or batch == self._batch):
            raise node.unsupported(
                f"it makes {target} of {('batch', *data.shape)}, but convec only flattens each sample"
            )
        shape = tuple(int(extent or 0) for extent in rest)
        if shape == data.shape:
            return self._next(data)
        if len(shape) == 1:
            return self._flatten(node, data)
        if len(shape) == len(data.shape) == 3 and min(data.channels, math.prod(data.extent)) == 1:
            # Of images of one channel or one pixel the order does not change when channels go first or last.
            height, width = data.extent
            turned = (height, width, data.channels) if data.channels_first else (data.channels, height, width)
            if shape == turned:
                return self._next(data, shape=shape, channels_first=not data.channels_first)
        raise node.unsupported(f"it makes {target} of {('batch', *data.shape)}, but convec only flattens each sample")

    def _on_squeeze(self, node: Node, data: _Data) -> _Data:
        axes = self._axes(node, data, 1)
        spatial = {2, 3} if data.channels_first else {1, 2}
        if len(data.shape) != 3 or axes != spatial or data.extent != (1, 1):
            raise node.unsupported("it removes other axes than height and width of one pixel")
        return self._flatten(node, data)

    def _on_pad(self, node: Node, data: _Data) -> _Data:
        given = self._parameter(node, 1, "pads")
        pads = node.get("pads", []) if given is None else given.reshape(-1).tolist()
        axes = self._axes(node, data, 3) if len(node.inputs) > 3 and node.inputs[3] else None
        value = self._parameter(node, 2, "value")
        if node.get("mode", "constant") != "constant" or (
            node.get("value", 0.0) if value is None else float(value.reshape(-1)[0])
        ):
            raise node.unsupported("it pads with something else than zeros")
        rank = len(data.shape) + 1
        order = sorted(axes) if axes is not None else list(range(rank))
        if len(pads) != 2 * len(order):
            raise node.unsupported(f"it has {len(pads)} pads for {len(order)} axes")
        sides = {axis: (int(pads[n]), int(pads[n + len(order)])) for n, axis in enumerate(order)}
        if not any(any(pair) for pair in sides.values()):
            return self._next(data)
        self._images(node, data)
        if any(any(pair) for axis, pair in sides.items() if axis < 2) or any(min(pair) < 0 for pair in sides.values()):
            raise node.unsupported("it pads the batch or the channels, or crops")
        (top, bottom), (left, right) = sides.get(2, (0, 0)), sides.get(3, (0, 0))
        return self._next(data, pads=(top, left, bottom, right))

    # ---- Element by element ----

    def _on_softmax(self, node: Node, data: _Data) -> _Data:
        axis = node.get("axis", -1 if self._opset >= 13 else 1) % (len(data.shape) + 1)
        # Before opset 13 all axes from `axis` on are taken together.
        together = self._opset < 13 and math.prod(data.shape[axis:]) != 1
        if axis != data.channel_axis or together:
            raise node.unsupported(f"axis is {axis} of {('batch', *data.shape)}, but convec's softmax is over channels")
        return self._activate("softmax", data)

    def _plain(self, node: Node, data: _Data) -> _Data:
        return self._activate(activation_of(node), data)

    _on_relu = _on_sigmoid = _on_tanh = _on_softplus = _on_leakyrelu = _on_elu = _on_selu = _on_swish = _plain

    def _on_gelu(self, node: Node, data: _Data) -> _Data:
        if node.get("approximate", "none") != "none":
            raise node.unsupported("it approximates by tanh, but convec's gelu is exact")
        return self._activate("gelu", data)

    def _on_clip(self, node: Node, data: _Data) -> _Data:
        bounds = []
        for number, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), 1):
            given = self._parameter(node, number, name)
            bounds.append(float(given.reshape(-1)[0]) if given is not None and given.size else node.get(name, default))
        low, high = bounds
        if low == 0 and (high == 6 or high >= _UNBOUNDED):
            return self._activate("relu6" if high == 6 else "relu", data)
        if low <= -_UNBOUNDED and high >= _UNBOUNDED:
            return self._next(data)
        raise node.unsupported(f"its bounds are {low:g} and {high:g}, but convec has 0 and 6 (relu6) or none (relu)")

    def _on_dropout(self, node: Node, data: _Data) -> _Data:
        training = self._parameter(node, 2, "training_mode")
        if training is not None and training.any():
            raise node.unsupported("it is in training mode")
        given = self._parameter(node, 1, "ratio")
        rate = node.get("ratio", 0.5) if given is None or not given.size else float(given.reshape(-1)[0])
        if 0 <= rate < 1:
            self._append(node, layers.Dropout, {"rate": rate})
        return self._next(data)

    def _on_identity(self, node: Node, data: _Data) -> _Data:
        return self._next(data)

    def _on_cast(self, node: Node, data: _Data) -> _Data:
        if node.get("to", 0) not in (self._kinds.FLOAT, self._kinds.FLOAT16, self._kinds.DOUBLE, self._kinds.BFLOAT16):
            raise node.unsupported("it makes integers of the input")
        return self._next(data)

    def _only_constants(self, node: Node, data: _Data) -> _Data:
        raise node.unsupported("convec knows it between constants and shapes only")

    _on_constant = _on_concat = _on_gather = _on_slice = _on_unsqueeze = _only_constants
