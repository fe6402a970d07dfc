"""onnxruntime: inference of the seed model, exported with its weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from libraries.timing import load_arrays, throughput

VERSION = onnxruntime.__version__

_state: dict[str, Any] = {"threads": 1}


def set_threads(threads: int) -> None:
    _state["threads"] = threads


def build(data: str, seed: int) -> None:
    # ONNX images are (batch, channels, height, width); with one channel the memory is the same.
    _state["x_test"] = np.ascontiguousarray(load_arrays(data)["x_test"].transpose(0, 3, 1, 2))


def set_weights(weights: list[Any]) -> bool:
    values = [np.asarray(value, dtype=np.float32) for value in weights]
    values[6] = values[6].reshape(3, 3, 64, 64).transpose(2, 0, 1, 3).reshape(576, 64)
    constants, nodes = [], []
    for index, (kernel, bias) in enumerate(zip(values[::2], values[1::2], strict=True)):
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)) if kernel.ndim == 4 else kernel
        constants += [numpy_helper.from_array(kernel, f"w{index}"), numpy_helper.from_array(bias, f"b{index}")]
    name = "x"

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"n{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    for index in range(3):
        name = node("Relu", node("Conv", name, f"w{index}", f"b{index}", kernel_shape=[3, 3]))
        if index < 2:
            name = node("MaxPool", name, kernel_shape=[2, 2], strides=[2, 2])
    name = node("Relu", node("Gemm", node("Flatten", name), "w3", "b3"))
    name = node("Softmax", node("Gemm", name, "w4", "b4"))
    graph = helper.make_graph(
        nodes, "seed", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 10])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _state["threads"]
    _state["session"] = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return True


def infer(batch: int, seconds: float) -> float:
    session, x = _state["session"], _state["x_test"][:batch]
    return batch * throughput(lambda: session.run(None, {"x": x}), seconds)


def predict(count: int) -> list[Any]:
    result: list[Any] = _state["session"].run(None, {"x": _state["x_test"][:count]})[0].tolist()
    return result
