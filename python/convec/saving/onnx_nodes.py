"""Nodes of an ONNX graph: their attributes, and what can be said of one without its neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convec.saving.onnx_export import same_padding
from convec.saving.onnx_file import load_onnx

Array = npt.NDArray[Any]
#: Top, left, bottom, right.
Pads = tuple[int, int, int, int]

# Shapes and other small things; weights are never computed.
_MOST_COMPUTED = 64


class UnsupportedError(Exception):
    """Something that convec cannot express."""


class Node:
    """A node with its attributes by name."""

    def __init__(self, proto: Any, onnx: Any) -> None:
        self.op = str(proto.op_type)
        self.inputs = list(proto.input)
        self.outputs = list(proto.output)
        self.name = f"{self.op} {proto.name or (self.outputs[0] if self.outputs else '')!r}"
        self.domain = str(proto.domain)
        kinds = onnx.AttributeProto
        self._attributes: dict[str, Any] = {}
        for one in proto.attribute:
            if one.type in (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS, kinds.TENSOR):
                self._attributes[one.name] = onnx.helper.get_attribute_value(one)

    def get(self, name: str, default: Any) -> Any:
        """An attribute. Raises UnsupportedError where it is of another type than ``default`` is."""
        value = self._attributes.get(name, default)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        number = isinstance(default, float) and isinstance(value, (int, float))
        if value is default or number or default is None or isinstance(value, type(default)):
            return value
        raise UnsupportedError(f"{self.name}: {name} is {value!r}, which is of another type than ONNX has it")

    def ints(self, name: str, count: int, default: int) -> tuple[int, ...]:
        """An attribute of several integers."""
        value = self.get(name, None)
        if value is None:
            return (default,) * count
        if (
            not isinstance(value, (list, tuple))
            or not all(isinstance(one, int) for one in value)
            or len(value) != count
        ):
            raise self.unsupported(f"{name} is {value!r}, but must be {count} integers: convec works on two dimensions")
        return tuple(value)

    def has(self, name: str) -> bool:
        """Whether an attribute is given."""
        return name in self._attributes

    def unsupported(self, why: str) -> UnsupportedError:
        """An error that names the node."""
        return UnsupportedError(f"{self.name}: {why}")


def needed_nodes(nodes: list[Node], outputs: Iterable[Any]) -> list[Node]:
    """The nodes that an output depends on, in their order."""
    wanted = {one.name for one in outputs}
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def fold(node: Node, arrays: list[Array]) -> Array:
    """The value of a node on constants. Raises ValueError, TypeError, IndexError where that is not known."""
    if node.op in ("Identity", "Dropout"):
        return arrays[0]
    if node.op == "Cast":
        onnx = load_onnx()
        return arrays[0].astype(onnx.helper.tensor_dtype_to_np_dtype(node.get("to", 1)), copy=False)
    if node.op == "Transpose":
        return np.transpose(arrays[0], node.get("perm", None))
    if node.op in ("Reshape", "Squeeze", "Unsqueeze"):
        extents = arrays[1].reshape(-1).tolist() if len(arrays) > 1 else list(node.get("axes", None) or [])
        if node.op == "Reshape":
            kept = [arrays[0].shape[n] if extent == 0 else extent for n, extent in enumerate(extents)]
            return arrays[0].reshape(kept)
        if node.op == "Unsqueeze":
            return np.expand_dims(arrays[0], tuple(extents))
        return np.squeeze(arrays[0], tuple(extents) if extents else None)
    if node.op == "Concat" and sum(array.size for array in arrays) <= _MOST_COMPUTED:
        return np.concatenate(arrays, axis=node.get("axis", 0))
    if node.op in ("Gather", "Slice") and arrays[0].size <= _MOST_COMPUTED and arrays[1].size <= _MOST_COMPUTED:
        if node.op == "Gather":
            return np.take(arrays[0], arrays[1], axis=node.get("axis", 0))
        if arrays[0].ndim == 1:
            return arrays[0][int(arrays[1][0]) : int(arrays[2][0])]
    raise ValueError("the operator on constants is not known")


def window_pads(
    node: Node, extent: Sequence[int], size: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """Zeros around an image: top, left, bottom, right."""
    if min(*size, *strides, *dilation) < 1:
        raise node.unsupported("kernel_shape, strides and dilations must be at least 1")
    how = node.get("auto_pad", "NOTSET")
    if how == "NOTSET":
        pads = node.ints("pads", 4, 0)
        if min(pads) < 0:
            raise node.unsupported(f"pads are {list(pads)}, but convec does not crop")
        return pads[0], pads[1], pads[2], pads[3]
    if how == "VALID":
        return 0, 0, 0, 0
    if how not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.unsupported(f"auto_pad is {how!r}, which ONNX has not")
    pairs = [same_padding(*numbers) for numbers in zip(extent, size, strides, dilation, strict=True)]
    if how == "SAME_LOWER":
        pairs = [(after, before) for before, after in pairs]
    return pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]


def padding_of(
    pads: Pads,
    extent: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> str | tuple[tuple[int, int], tuple[int, int]]:
    """A layer's padding, by its name where it has one."""
    if not any(pads):
        return "valid"
    pairs = (pads[0], pads[2]), (pads[1], pads[3])
    same = tuple(same_padding(*numbers) for numbers in zip(extent, size, strides, dilation, strict=True))
    return "same" if pairs == same else pairs


def ceiling_pads(extent: Sequence[int], size: Sequence[int], strides: Sequence[int], pads: Pads) -> Pads:
    """``pads`` with so much after the image that the last windows are whole where ceil_mode rounds their number up.

    A window that would begin behind the image and its padding before it is left out, as PyTorch has it.
    """
    after = []
    for axis in (0, 1):
        before = pads[axis]
        outputs = -(-(extent[axis] + before + pads[axis + 2] - size[axis]) // strides[axis]) + 1
        if (outputs - 1) * strides[axis] >= extent[axis] + before:
            outputs -= 1
        after.append(max((outputs - 1) * strides[axis] + size[axis] - extent[axis] - before, 0))
    return pads[0], pads[1], after[0], after[1]


def window_extent(
    extent: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    pads: Pads,
) -> tuple[int, int]:
    """Height and width after a window has gone over an image."""
    height, width = (
        (extent[axis] + pads[axis] + pads[axis + 2] - (size[axis] - 1) * dilation[axis] - 1) // strides[axis] + 1
        for axis in (0, 1)
    )
    return height, width
