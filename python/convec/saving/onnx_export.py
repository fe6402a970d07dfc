"""Models as ONNX graphs, for onnxruntime, OpenCV and others. Needs the package ``onnx``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convec._files import replacing
from convec.models.sequential import Sequential
from convec.saving.onnx_file import MOST_BYTES, load_onnx

Array = npt.NDArray[Any]

# Of 2021: what runs today reads it.
_OPSET = 15
_IR_VERSION = 8

_PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus"}


def export_onnx(model: Sequential, filepath: str | os.PathLike[str]) -> None:
    """Writes a model in inference form to an ONNX file.

    The graph's input ``input`` is (batch, ...) in the model's own order, images (batch, height, width, channels), and
    so is its output ``output``; the batch size is free. Dropout is left out.

    Args:
        model: a built model.
        filepath: the file, e.g. ``'model.onnx'``.

    Raises:
        ValueError: the model is not built, or is larger than the 2 GB an ONNX file can be.
        OSError: it cannot be written; what was there is untouched.
        ImportError: onnx is not installed.
    """
    load_onnx()
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: give it an input shape first")
    text = _Graph(model).to_model().SerializeToString()
    if len(text) > MOST_BYTES:
        raise ValueError(f"the model takes {len(text)} bytes, but an ONNX file can have {MOST_BYTES}")
    with replacing(filepath) as file:
        file.write(text)


class _Graph:
    """A chain of ONNX nodes. Images are turned to (batch, channels, height, width) where an operator needs it."""

    def __init__(self, model: Sequential) -> None:
        self._onnx = load_onnx()
        self._model = model
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._value = "input"
        self._channels_first = False
        self._shape = self._sample(model.input_shape)

    @staticmethod
    def _sample(shape: Sequence[int | None]) -> tuple[int, ...]:
        return tuple(int(extent or 0) for extent in shape[1:])

    def to_model(self) -> Any:
        helper = self._onnx.helper
        for part in self._model.network_parts():
            self._add(part.config, part.weights)
            self._shape = part.output_shape
        self._turn(channels_first=False)
        self._emit("Identity", name="output")
        graph = helper.make_graph(
            self._nodes,
            self._model.name,
            [self._described("input", self._sample(self._model.input_shape))],
            [self._described("output", self._sample(self._model.output_shape))],
            initializer=self._constants,
        )
        return helper.make_model(
            graph,
            producer_name="convec",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )

    def _described(self, name: str, shape: tuple[int, ...]) -> Any:
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, ["batch", *shape])

    def _constant(self, value: Any) -> str:
        name = f"constant_{len(self._constants)}"
        array = np.ascontiguousarray(value, dtype=np.float32)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _emit(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """A node on the current value (or on ``inputs``), whose output becomes the current value."""
        output = f"value_{len(self._nodes)}" if name is None else name
        self._nodes.append(
            self._onnx.helper.make_node(op, list(inputs) or [self._value], [output], name=output, **attributes)
        )
        self._value = output
        return output

    def _turn(self, channels_first: bool) -> None:
        if len(self._shape) == 3 and self._channels_first != channels_first:
            self._emit("Transpose", perm=[0, 3, 1, 2] if channels_first else [0, 2, 3, 1])
        self._channels_first = channels_first and len(self._shape) == 3

    def _add(self, config: dict[str, Any], weights: dict[str, Array]) -> None:
        add: Callable[..., None] = getattr(self, f"_add_{config['kind']}")
        add(config, **weights)

    # ---- One of each kind of layer ----

    def _add_conv2d(self, config: dict[str, Any], kernel: Array, bias: Array | None = None) -> None:
        self._turn(channels_first=True)
        filters = self._constant(np.transpose(kernel, (3, 2, 0, 1)))
        inputs = [self._value, filters] + ([] if bias is None else [self._constant(bias)])
        self._emit(
            "Conv",
            *inputs,
            kernel_shape=list(config["kernel_size"]),
            dilations=list(config["dilation"]),
            group=config["groups"],
            **self._window(config, config["kernel_size"], config["dilation"]),
        )
        self._activate(config["activation"])

    def _window(self, config: dict[str, Any], size: Sequence[int], dilation: Sequence[int]) -> dict[str, Any]:
        pads = [(0, 0), (0, 0)]
        if config["padding"] == "same":
            pads = [
                same_padding(extent, taps, stride, step)
                for extent, taps, stride, step in zip(self._shape, size, config["strides"], dilation, strict=False)
            ]
        elif config["padding"] != "valid":
            pads = [tuple(pair) for pair in config["padding"]]
        return {"strides": list(config["strides"]), "pads": [pair[0] for pair in pads] + [pair[1] for pair in pads]}

    def _pool(self, op: str, config: dict[str, Any], **attributes: Any) -> None:
        self._turn(channels_first=True)
        size = config["pool_size"]
        self._emit(op, kernel_shape=list(size), **self._window(config, size, (1, 1)), **attributes)

    def _add_max_pool2d(self, config: dict[str, Any]) -> None:
        self._pool("MaxPool", config)

    def _add_average_pool2d(self, config: dict[str, Any]) -> None:
        self._pool("AveragePool", config, count_include_pad=0)

    def _global_pool(self, op: str, config: dict[str, Any]) -> None:
        self._turn(channels_first=True)
        self._emit(op)
        if not config["keepdims"]:
            self._emit("Flatten", axis=1)
            self._channels_first = False

    def _add_global_max_pool2d(self, config: dict[str, Any]) -> None:
        self._global_pool("GlobalMaxPool", config)

    def _add_global_average_pool2d(self, config: dict[str, Any]) -> None:
        self._global_pool("GlobalAveragePool", config)

    def _add_flatten(self, config: dict[str, Any]) -> None:
        self._turn(channels_first=False)
        if len(self._shape) != 1:
            self._emit("Flatten", axis=1)

    def _add_dense(self, config: dict[str, Any], kernel: Array, bias: Array | None = None) -> None:
        self._turn(channels_first=False)
        if len(self._shape) == 1:
            inputs = [self._value, self._constant(kernel)] + ([] if bias is None else [self._constant(bias)])
            self._emit("Gemm", *inputs)
        else:
            self._emit("MatMul", self._value, self._constant(kernel))
            if bias is not None:
                self._emit("Add", self._value, self._constant(bias))
        self._activate(config["activation"])

    def _add_activation(self, config: dict[str, Any]) -> None:
        self._activate(config["activation"])

    def _add_softmax(self, config: dict[str, Any]) -> None:
        self._emit("Softmax", axis=1 if self._channels_first else -1)

    def _add_dropout(self, config: dict[str, Any]) -> None:
        """Nothing in inference."""

    def _add_rescaling(self, config: dict[str, Any]) -> None:
        self._emit("Mul", self._value, self._constant(config["scale"]))
        if config["offset"]:
            self._emit("Add", self._value, self._constant(config["offset"]))

    def _add_batch_norm(
        self,
        config: dict[str, Any],
        moving_mean: Array,
        moving_variance: Array,
        gamma: Array | None = None,
        beta: Array | None = None,
    ) -> None:
        gamma = np.ones_like(moving_mean) if gamma is None else gamma
        beta = np.zeros_like(moving_mean) if beta is None else beta
        if self._channels_first or len(self._shape) == 1:
            values = [self._constant(value) for value in (gamma, beta, moving_mean, moving_variance)]
            self._emit("BatchNormalization", self._value, *values, epsilon=config["epsilon"])
            return
        scale = gamma.astype(np.float64) / np.sqrt(moving_variance.astype(np.float64) + config["epsilon"])
        self._emit("Mul", self._value, self._constant(scale))
        self._emit("Add", self._value, self._constant(beta - moving_mean * scale))

    def _activate(self, name: str) -> None:
        before = self._value
        if name == "linear":
            return
        if name in _PLAIN:
            self._emit(_PLAIN[name])
        elif name == "relu6":
            self._emit("Clip", before, self._constant(0.0), self._constant(6.0))
        elif name == "leaky_relu":
            self._emit("LeakyRelu", alpha=0.2)
        elif name == "elu":
            self._emit("Elu", alpha=1.0)
        elif name == "selu":
            self._emit("Selu", alpha=1.6732632423543772, gamma=1.0507009873554805)
        elif name == "silu":
            self._emit("Mul", before, self._emit("Sigmoid"))
        elif name == "gelu":
            # x Phi(x) = x (1 + erf(x / sqrt 2)) / 2
            self._emit("Mul", before, self._constant(np.sqrt(0.5)))
            self._emit("Erf")
            self._emit("Add", self._value, self._constant(1.0))
            self._emit("Mul", before, self._value)
            self._emit("Mul", self._value, self._constant(0.5))
        else:
            raise ValueError(f"the activation {name!r} has no form in ONNX")


def same_padding(extent: int, taps: int, stride: int, dilation: int) -> tuple[int, int]:
    """Pixels before and after an extent under Keras' 'same': output = extent / stride, rounded up."""
    total = max((-(-extent // stride) - 1) * stride + (taps - 1) * dilation + 1 - extent, 0)
    return total // 2, total - total // 2
