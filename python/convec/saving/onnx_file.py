"""ONNX files from anywhere: what protobuf would take for one is counted first, and no tensor is believed.

The tensors of a large model lie in files beside it. Those are opened in the model's own folder only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

#: Most that protobuf can hold.
MOST_BYTES = (1 << 31) - 1

# Roughly what protobuf takes besides the content: for a message, and for a number or a string.
_MESSAGE_BYTES = 256
_FIELD_BYTES = 64
_MOST_DEPTH = 32
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIDE = frozenset({"int64_data", "uint64_data", "dims", "ints"})


def load_onnx() -> Any:
    """The package onnx. Raises ImportError that says how to install it."""
    try:
        import onnx
    except ImportError:
        raise ImportError("ONNX files need onnx: pip install 'convec[onnx]'") from None
    return onnx


def read_model(path: Path) -> Any:
    """The ``ModelProto`` of a file; tensors in other files are not read yet.

    Raises:
        ValueError: it is no such file, damaged, or would take more than about twice its size and 16 MB.
        OSError: it cannot be read.
        ImportError: onnx is not installed.
    """
    onnx = load_onnx()
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path} has {size} bytes, but an ONNX file can have {MOST_BYTES}")
    data = path.read_bytes()
    try:
        _check_wire(data, onnx.ModelProto.DESCRIPTOR)
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's own, of a package that onnx brings along
        raise ValueError(f"{path} is damaged or no ONNX file: {error}") from None
    if not model.HasField("graph"):
        raise ValueError(f"{path} is damaged or no ONNX file: it holds no graph")
    return model


def _check_wire(data: bytes, descriptor: Any) -> None:
    """Raises ValueError where protobuf's messages, by their number, would take far more memory than the file has."""
    budget = 2 * len(data) + (1 << 24)
    for cost in _costs(data, descriptor):
        budget -= cost
        if budget < 0:
            raise ValueError("it consists of so many small parts that they would take many times its size in memory")


def _costs(data: bytes, descriptor: Any) -> Iterator[int]:
    """The memory of each field, message by message. Raises ValueError for what is no protobuf message."""
    messages = {descriptor: {field.number: field for field in descriptor.fields}}
    waiting = [(0, len(data), descriptor, 0)]
    while waiting:
        at, end, kind, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            raise ValueError(f"it is nested more than {_MOST_DEPTH} deep")
        fields = messages[kind]
        while at < end:
            tag, at = _varint(data, at, end)
            wire, field = tag & 7, fields.get(tag >> 3)
            if wire == _LENGTH:
                length, at = _varint(data, at, end)
                if length > end - at:
                    raise ValueError("it is truncated")
                if field is not None and field.message_type is not None:
                    message = field.message_type
                    messages.setdefault(message, {one.number: one for one in message.fields})
                    waiting.append((at, at + length, message, depth + 1))
                    yield _MESSAGE_BYTES
                elif field is not None and field.cpp_type != field.CPPTYPE_STRING:
                    # Packed numbers: each ends with a byte below 128, or has a fixed size.
                    ends = int(np.count_nonzero(np.frombuffer(data, np.uint8, length, at) < 128)) if length else 0
                    yield _FIELD_BYTES + max(length, ends * (8 if field.name in _WIDE else 4))
                else:
                    yield _FIELD_BYTES + length
                at += length
            elif wire == _VARINT:
                _, at = _varint(data, at, end)
                yield _FIELD_BYTES
            elif wire in (_FIXED64, _FIXED32):
                at += 8 if wire == _FIXED64 else 4
                yield _FIELD_BYTES
            else:
                raise ValueError("it holds no protobuf message")
        if at != end:
            raise ValueError("it is truncated")


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise ValueError("a number in it has no end")


class TensorReader:
    """The tensors of a model as arrays.

    Args:
        path: the model's file, in whose folder other files may be.
    """

    def __init__(self, path: Path) -> None:
        self._onnx = load_onnx()
        self._folder = path.parent
        self._sizes: dict[str, int] = {}
        proto = self._onnx.TensorProto
        self._items = {
            proto.FLOAT: 4, proto.DOUBLE: 8, proto.FLOAT16: 2, proto.BFLOAT16: 2,
            proto.INT64: 8, proto.INT32: 4, proto.UINT8: 1, proto.INT8: 1, proto.BOOL: 1,
        }  # fmt: skip

    @property
    def external_bytes(self) -> int:
        """Size of the other files that were used so far."""
        return sum(self._sizes.values())

    def read(self, tensor: Any) -> Array:
        """The array of a ``TensorProto``; a read-only view of the mapped file where it lies in another one.

        Raises:
            ValueError: its bytes do not fit its shape, its type is none that convec reads, or it lies in a file that
                must not be opened.
            OSError: that file cannot be read.
        """
        name = tensor.name
        if tensor.data_type not in self._items:
            kinds = self._onnx.TensorProto.DataType
            kind = kinds.Name(tensor.data_type) if tensor.data_type in kinds.values() else tensor.data_type
            raise ValueError(f"tensor {name!r} is of type {kind}, which convec does not read")
        if tensor.HasField("segment") or any(extent < 0 for extent in tensor.dims) or len(tensor.dims) > 8:
            raise ValueError(f"tensor {name!r} has no shape that convec reads")
        count = 1
        for extent in tensor.dims:
            count *= extent
        size = count * self._items[tensor.data_type]
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            return self._external(tensor, count, size)
        if tensor.HasField("raw_data"):
            found = len(tensor.raw_data)
        else:
            proto = self._onnx.TensorProto
            numbers = {proto.FLOAT: "float_data", proto.DOUBLE: "double_data", proto.INT64: "int64_data"}
            found = len(getattr(tensor, numbers.get(tensor.data_type, "int32_data"))) * self._items[tensor.data_type]
        if found != size:
            raise ValueError(f"tensor {name!r} of shape {tuple(tensor.dims)} needs {size} bytes, but has {found}")
        return np.asarray(self._onnx.numpy_helper.to_array(tensor))

    def _external(self, tensor: Any, count: int, size: int) -> Array:
        name = tensor.name
        entries = {entry.key: entry.value for entry in tensor.external_data}
        target = self._target(name, entries.get("location", ""))
        offset = _count(name, "offset", entries.get("offset", "0"))
        length = _count(name, "length", entries.get("length", str(size)))
        available = self._sizes[str(target)]
        if length != size or offset > available or size > available - offset:
            raise ValueError(
                f"tensor {name!r} of shape {tuple(tensor.dims)} needs {size} bytes, but is said to be {length} at "
                f"byte {offset} of '{target}', which has {available}"
            )
        dtype = self._onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if count == 0:
            return np.zeros(tuple(tensor.dims), dtype)
        flat = np.memmap(target, np.dtype(dtype), "r", offset, (count,))
        return np.asarray(flat).reshape(tuple(tensor.dims))

    def _target(self, name: str, location: str) -> Path:
        """The file a tensor lies in: a plain one, in the model's folder or below, reached over no link."""
        parts = PurePosixPath(location).parts
        if not parts or location.startswith("/") or "\\" in location or ":" in location or ".." in parts:
            raise ValueError(f"tensor {name!r} lies in {location!r}, which is not a file in the model's folder")
        target = self._folder
        try:
            for part in parts:
                target = target / part
                status = os.lstat(target)
                if stat.S_ISLNK(status.st_mode):
                    raise ValueError(
                        f"tensor {name!r} lies in {location!r}, which is a link, and links are not followed"
                    )
        except FileNotFoundError:
            raise FileNotFoundError(f"tensor {name!r} lies in '{target}', which does not exist") from None
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"tensor {name!r} lies in {location!r}, which is no file")
        self._sizes[str(target)] = status.st_size
        return target


def _count(name: str, what: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(f"the {what} of tensor {name!r} is {text[:40]!r}, but must be a number of bytes")
    return int(text)
