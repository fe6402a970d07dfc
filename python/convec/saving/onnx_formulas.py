"""Activations in ONNX graphs: single operators, and the formulas that exporters write others as."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from convec.saving.onnx_file import TensorReader, load_onnx
from convec.saving.onnx_nodes import Node

Array = npt.NDArray[Any]

#: Operators that are activations: convec's name, and of each parameter ONNX' default and what convec's is made with.
ACTIVATIONS: dict[str, tuple[str, dict[str, tuple[float, float]]]] = {
    "Relu": ("relu", {}),
    "Sigmoid": ("sigmoid", {}),
    "Tanh": ("tanh", {}),
    "Softplus": ("softplus", {}),
    "LeakyRelu": ("leaky_relu", {"alpha": (0.01, 0.2)}),
    "Elu": ("elu", {"alpha": (1.0, 1.0)}),
    "Selu": ("selu", {"alpha": (1.6732632423543772, 1.6732632423543772), "gamma": (1.0507009873554805,) * 2}),
    "Swish": ("silu", {"alpha": (1.0, 1.0)}),
}
_ERF = np.vectorize(math.erf, otypes=[np.float64])
_FORMULAS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x * (1 + _ERF(x * math.sqrt(0.5))) / 2,
    "softplus": lambda x: np.log1p(np.exp(x)),
}
# Operators on single numbers, for the formulas that exporters write some activations as.
_NUMBERS: dict[str, Callable[..., Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power, "Neg": np.negative,
    "Max": lambda *values: np.max(np.broadcast_arrays(*values), axis=0),
    "Min": lambda *values: np.min(np.broadcast_arrays(*values), axis=0),
    "Exp": np.exp, "Log": np.log, "Erf": _ERF, "Tanh": np.tanh, "Sqrt": np.sqrt, "Abs": np.abs, "Identity": np.array,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Relu": lambda x: np.maximum(x, 0), "Softplus": _FORMULAS["softplus"],
}  # fmt: skip
_GRID = np.linspace(-8, 8, 401)
_MOST_NODES_OF_FORMULA = 16


def activation_of(node: Node) -> str:
    """The activation a node is. Raises UnsupportedError where it has parameters that convec's has not."""
    if node.op not in ACTIVATIONS:  # in another spelling, as 'RElu'
        raise node.unsupported("the operator is not among those convec has")
    name, parameters = ACTIVATIONS[node.op]
    for key, (default, ours) in parameters.items():
        value = node.get(key, default)
        if not math.isclose(value, ours, rel_tol=1e-6):
            raise node.unsupported(f"{key} is {value:g}, but that of convec's {name!r} is {ours:g}")
    return name


def find_formulas(
    nodes: list[Node], protos: dict[str, Any], tensors: TensorReader
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Activations by the value that they put out: their name, and the values within, of which the first is the input.

    gelu and silu, and others by some exporters, are small graphs of their own. Where a value is used twice, what is
    computed of it is evaluated on numbers until one value is left, and compared to the activations that there are.
    """
    users: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        for name in set(node.inputs):
            users.setdefault(name, []).append(number)
    constants = dict(_scalars(nodes, protos, tensors))
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    inner: set[str] = set()
    for name, used in users.items():
        if len(used) < 2 or name in constants or name in inner or name in protos:
            continue
        match = _formula_from(name, nodes, users, constants)
        if match is not None:
            found[match[0]] = (match[1], match[2])
            inner.update(match[2])
    return found


def _scalars(nodes: list[Node], protos: dict[str, Any], tensors: TensorReader) -> Iterator[tuple[str, float]]:
    """Constants of one element."""
    for name, tensor in protos.items():
        if _is_number(tensor):
            yield name, float(tensors.read(tensor).reshape(-1)[0])
    for node in nodes:
        if node.op == "Constant":
            tensor = node.get("value", None)
            if tensor is not None and _is_number(tensor):
                yield node.outputs[0], float(tensors.read(tensor).reshape(-1)[0])
            elif node.has("value_float"):
                yield node.outputs[0], float(node.get("value_float", None))


def _is_number(tensor: Any) -> bool:
    proto = load_onnx().TensorProto
    return tensor.data_type in (proto.FLOAT, proto.DOUBLE, proto.FLOAT16) and math.prod(tensor.dims) == 1


def _formula_from(
    start: str, nodes: list[Node], users: dict[str, list[int]], constants: dict[str, float]
) -> tuple[str, str, tuple[str, ...]] | None:
    """(last value, activation, values before it), where what is computed of ``start`` is an activation."""
    values: dict[str, Array] = {start: _GRID}
    waiting = sorted(users[start])
    done: set[int] = set()
    while waiting and len(done) < _MOST_NODES_OF_FORMULA:
        number = waiting.pop(0)
        node = nodes[number]
        if number in done:
            continue
        if node.op not in _NUMBERS or len(node.outputs) != 1 or not node.inputs or node.domain not in ("", "ai.onnx"):
            return None
        if any(name not in values and name not in constants for name in node.inputs):
            return None
        operands = [values[name] if name in values else np.float64(constants[name]) for name in node.inputs]
        try:
            with np.errstate(all="ignore"):
                values[node.outputs[0]] = np.asarray(_NUMBERS[node.op](*operands), np.float64)
        except (TypeError, ValueError):  # another number of operands
            return None
        done.add(number)
        waiting = sorted({*waiting, *users.get(node.outputs[0], ())})
        last = node.outputs[0]
        if all(user in done for name in values if name != last for user in users.get(name, ())):
            result = np.broadcast_to(values[last], _GRID.shape)
            for activation, formula in _FORMULAS.items():
                if np.allclose(result, formula(_GRID), rtol=1e-5, atol=1e-6):
                    return last, activation, tuple(name for name in values if name != last)
    return None
