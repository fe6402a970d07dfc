"""Keras 3's files: ``.weights.h5`` and ``.keras``, a ZIP of ``config.json``, ``metadata.json`` and HDF5.

Weights lie under ``layers/<class>[_<number>]/vars/<number>``, numbered by class and not by name. HDF5 is read through
h5py. Nothing is unpacked to disk, links to other files are refused, and sizes are checked before memory is taken.
"""

from __future__ import annotations

import datetime
import io
import itertools
import json
import math
import mmap
import os
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import _core
from convec._files import replacing
from convec.layers.base import InputLayer, Layer, snake_case
from convec.models.sequential import Sequential
from convec.saving import config
from convec.saving.hdf5_check import check_hdf5
from convec.saving.weights import check_size, pick

Array = npt.NDArray[Any]
Shapes = list[tuple[str, tuple[int, ...]]]

_CONFIG = "config.json"
_METADATA = "metadata.json"
_WEIGHTS = "model.weights.h5"
# A Sequential of thousands of layers takes less.
_MOST_JSON_BYTES = 1 << 21
# What is written is what Keras 3.0 understands.
_KERAS_VERSION = "3.0.0"
# Keras' order of the optimizer's arrays: for each group, those of the first weight, those of the second, ...
_SLOT_GROUPS = {"adam": ((0, 1), (2,)), "adamw": ((0, 1), (2,)), "adadelta": ((0, 1),)}


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise ImportError("Keras' files need h5py: pip install 'convec[h5py]', or save as .safetensors") from None
    return h5py


# ---- HDF5 ----


def _groups(layers: Sequence[Layer]) -> Iterator[str]:
    """Keras' name of each layer's group."""
    used: Counter[str] = Counter()
    for layer in layers:
        name = snake_case(type(layer).__name__)
        yield name if used[name] == 0 else f"{name}_{used[name]}"
        used[name] += 1


def _optimizer_order(kind: str, slots: Sequence[Sequence[Any]]) -> Iterator[tuple[int, int]]:
    """(weight, slot) of the optimizer's arrays in the order of Keras."""
    most = max((len(arrays) for arrays in slots), default=0)
    for group in _SLOT_GROUPS.get(kind, tuple((slot,) for slot in range(most))):
        for weight, arrays in enumerate(slots):
            for slot in group:
                if slot < len(arrays):
                    yield weight, slot


def _write(file: Any, model: Sequential, include_optimizer: bool) -> None:
    """The weights, and where asked the optimizer's arrays, into an open HDF5 file."""

    def make(path: str, name: str) -> Any:
        group = file.create_group(f"{path}/vars")
        group.attrs["name"] = name
        return group

    for group, layer in zip(_groups(model.layers), model.layers, strict=True):
        held = make(f"layers/{group}", layer.name)
        for number, value in enumerate(layer.get_weights()):
            held[str(number)] = value
    file.create_group("vars").attrs["name"] = model.name
    optimizer = model.optimizer
    if not include_optimizer or optimizer is None or model.loss is None:
        return
    held = make("optimizer", optimizer.name)
    values: list[Any] = [np.int64(optimizer.iterations)]
    if optimizer.schedule is None:
        values.append(np.float32(optimizer.learning_rate))
    slots = model.optimizer_slots()
    values += [slots[weight][slot] for weight, slot in _optimizer_order(optimizer.kind, slots)]
    for number, value in enumerate(values):
        held[str(number)] = value


class _Reader:
    """Arrays of an open HDF5 file that nothing is known about."""

    def __init__(self, file: Any, name: str, size: int) -> None:
        self._h5py = _h5py()
        self._file = file
        self._name = name
        self._size = size
        self.root = "layers"
        if "_layer_checkpoint_dependencies" in file:  # the first versions of Keras 3
            self.root = "_layer_checkpoint_dependencies"
        elif "layer_names" in file.attrs or "layers" not in file:
            raise ValueError(f"{name} has no group 'layers': it is no weights file of Keras 3 (one of Keras 2?)")

    def group(self, path: str) -> Any:
        """A group inside the file, or None. Raises ValueError for a link or something else."""
        at = self._file
        for part in path.split("/"):
            found = self._child(at, part, self._h5py.Group)
            if found is None:
                return None
            at = found
        return at

    def _child(self, group: Any, key: str, kind: Any) -> Any:
        link = group.get(key, getlink=True)
        if link is None:
            return None
        if not isinstance(link, self._h5py.HardLink):
            raise ValueError(f"{key!r} in {self._name} is a link to another place, which is never followed")
        found = group[key]
        if not isinstance(found, kind):
            raise ValueError(f"{key!r} in {self._name} is a {type(found).__name__}, but must be a {kind.__name__}")
        return found

    def dataset(self, group: Any, key: str) -> Any:
        """An array that is not read yet. Raises ValueError where its bytes are elsewhere, or it is none."""
        found = self._child(group, key, self._h5py.Dataset)
        if found is None:
            raise ValueError(f"{self._name} holds no {group.name}/{key}, but the model needs it")
        if found.is_virtual or found.external:
            raise ValueError(f"{found.name} in {self._name} has its bytes in another file, which is never opened")
        if found.id.get_create_plist().get_nfilters():
            raise ValueError(
                f"{found.name} in {self._name} is compressed, which Keras' arrays are not: HDF5 would unpack any size"
            )
        if found.chunks is not None:  # one is held at a time, as large as it claims to be
            check_size(self._name, self._size, math.prod(found.chunks) * found.dtype.itemsize)
        if found.shape is None or found.dtype.kind not in "fiu":
            raise ValueError(
                f"{found.name} in {self._name} is {found.dtype} of shape {found.shape}: no array of numbers"
            )
        return found

    def _check_sizes(self, arrays: Sequence[Any]) -> None:
        """Raises ValueError where arrays, or their chunks, claim more than the file can hold."""
        check_size(self._name, self._size, sum(array.nbytes for array in arrays))
        for array in arrays:
            if array.chunks is not None:
                self._check_chunks(array)

    def _check_chunks(self, found: Any) -> None:
        """Raises ValueError where an array's chunks claim more than they can hold: HDF5 would take memory for it."""
        item = math.prod(found.chunks) * found.dtype.itemsize
        counts = [-(-extent // step) for extent, step in zip(found.shape, found.chunks, strict=True)]
        check_size(self._name, self._size, math.prod(counts) * item)
        for place in itertools.product(*map(range, counts)):
            stored = found.id.get_chunk_info_by_coord(
                tuple(number * step for number, step in zip(place, found.chunks, strict=True))
            )
            if stored.size > item:
                raise ValueError(
                    f"{found.name} in {self._name} claims a chunk of {stored.size} bytes, but its chunks have {item}"
                )

    def weights(self, layers: Sequence[Layer], expected: Sequence[Shapes]) -> list[tuple[str, Any]]:
        """The arrays of all layers, by ``<layer>/<weight>``. ``expected``: names and shapes of each layer's weights."""
        found: list[tuple[str, Any]] = []
        for name, layer, shapes in zip(_groups(layers), layers, expected, strict=True):
            held = self.group(f"{self.root}/{name}/vars")
            count = 0 if held is None else len(held)
            if count != len(shapes):
                raise ValueError(
                    f"{self._name} has {count} arrays for layer {layer.name!r} ({self.root}/{name}), but the model has "
                    f"{len(shapes)}"
                )
            for number, (key, shape) in enumerate(shapes):
                array = self.dataset(held, str(number))
                if array.shape != shape or array.dtype.kind != "f":
                    raise ValueError(
                        f"{array.name} in {self._name} is {array.dtype} of shape {array.shape}, but {key!r} of the "
                        f"model is float32 of {shape}"
                    )
                found.append((key, array))
        self._check_sizes([array for _, array in found])
        return found

    def optimizer(self) -> list[Any]:
        """The optimizer's arrays in their order."""
        held = self.group("optimizer/vars")
        arrays = [] if held is None else [self.dataset(held, str(number)) for number in range(len(held))]
        self._check_sizes(arrays)
        return arrays


@contextmanager
def _opened(source: Any, name: str) -> Iterator[Any]:
    h5py = _h5py()
    if isinstance(source, io.BytesIO):
        check_hdf5(source.getvalue(), name)
    elif os.fstat(source.fileno()).st_size == 0:
        raise ValueError(f"{name} is empty")
    else:
        with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_hdf5(data, name)
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (OSError, RuntimeError, KeyError, OverflowError, UnicodeError, TypeError, MemoryError) as error:
        raise ValueError(f"{name} is truncated, damaged or no HDF5 file: {error}") from None


def _expected(model: Sequential) -> list[Shapes]:
    return [
        [
            (f"{layer.name}/{info}", value.shape)
            for info, value in zip(layer.weight_names, layer.get_weights(), strict=True)
        ]
        for layer in model.layers
    ]


# ---- .weights.h5 ----


def save_h5(model: Sequential, path: Path) -> None:
    """Writes the weights. Raises OSError, ImportError."""
    h5py = _h5py()
    with replacing(path) as file, h5py.File(file, "w") as h5:
        _write(h5, model, include_optimizer=False)


def load_h5(model: Sequential, path: Path) -> list[Array]:
    """Reads the weights. Raises ValueError, OSError, ImportError."""
    size = path.stat().st_size
    with path.open("rb") as source, _opened(source, str(path)) as file:
        arrays = _Reader(file, str(path), size).weights(model.layers, _expected(model))
        return [np.asarray(array[()], dtype=np.float32) for _, array in arrays]


# ---- .keras ----


def _keras_config(model: Sequential) -> dict[str, Any]:
    """The model's configuration as Keras reads it: with an Input, and input shapes nowhere else."""
    described = model.get_config()
    entries = [entry for entry in described["layers"] if entry["class_name"] != InputLayer.__name__]
    for entry in entries:
        entry["config"].pop("input_shape", None)
        if not isinstance(entry["config"].get("padding", ""), str):
            raise ValueError(
                f"layer {entry['config']['name']!r} has padding={entry['config']['padding']}, but Keras has 'valid' "
                "and 'same' only: save the model as .safetensors or export_onnx() it"
            )
    source = model.input_layer
    first = {
        "batch_shape": list(model.input_shape),
        "dtype": "float32",
        "sparse": False,
        "ragged": False,
        "name": "input_layer" if source is None else source.name,
    }
    described["layers"] = [
        {"module": "keras.layers", "class_name": InputLayer.__name__, "config": first, "registered_name": None},
        *entries,
    ]
    return described


def save(model: Sequential, path: Path, include_optimizer: bool) -> None:
    """Writes a built model. Raises TypeError, ValueError (Keras has not what it needs), OSError, ImportError."""
    h5py = _h5py()
    shape = {"input_shape": list(model.input_shape)}
    whole: dict[str, Any] = {
        "module": "keras",
        "class_name": "Sequential",
        "config": _keras_config(model),
        "registered_name": None,
        "build_config": shape,
    }
    compilation = model.get_compile_config()
    if compilation is not None:
        whole["compile_config"] = {**compilation, "loss_weights": None, "jit_compile": False}
    metadata: dict[str, Any] = {
        "keras_version": _KERAS_VERSION,
        "date_saved": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d@%H:%M:%S"),
    }
    if include_optimizer and compilation is not None:
        # Keras does not look at it.
        metadata["convec"] = {"position": model.get_position(), "seed": str(model.dropout_seed())}
    text = config.dumps(whole)
    weights = io.BytesIO()
    with h5py.File(weights, "w") as h5:
        _write(h5, model, include_optimizer)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_METADATA, json.dumps(metadata))
        archive.writestr(_CONFIG, text)
        archive.writestr(_WEIGHTS, weights.getbuffer())


def _member(archive: zipfile.ZipFile, name: str, path: Path, most: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"{path} holds no {name}, so it is no model of Keras 3") from None
    if info.file_size > most:
        raise ValueError(f"{name} in {path} unpacks to {info.file_size} bytes, but at most {most} are believed")
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise ValueError(f"{name} in {path} has {len(data)} bytes, but must have {info.file_size}; the file is damaged")
    return data


def _check_names(archive: zipfile.ZipFile, path: Path) -> None:
    names = [info.filename for info in archive.infolist()]
    if len(set(names)) != len(names):
        raise ValueError(f"{path} holds two files of the same name")
    for name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise ValueError(f"{path} holds a file called {name!r}, which would lie outside of it; nothing was read")


def load(path: Path, compiled: bool, custom: config.Custom) -> Sequential:
    """Reads a model. Raises ValueError, TypeError, OSError, ImportError."""
    _h5py()
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(archive, path)
            whole = config.loads(_member(archive, _CONFIG, path, _MOST_JSON_BYTES), _CONFIG)
            metadata = config.loads(_member(archive, _METADATA, path, _MOST_JSON_BYTES), _METADATA)
            weights = _member(archive, _WEIGHTS, path, 2 * size + (1 << 20))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ValueError(f"{path} is truncated, damaged or no Keras file: {error}") from None
    try:
        return _load(str(path), whole, metadata, weights, size, compiled, custom)
    except (KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: its description lacks or has a wrong {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from None


def _load(
    name: str, whole: Any, metadata: Any, weights: bytes, size: int, compiled: bool, custom: config.Custom
) -> Sequential:
    kind, described = config.entry_of(whole, "the model")
    if kind != "Sequential":
        raise ValueError(f"the model is a {kind!r}, but convec has Sequential models only")
    model_name, entry, layers, dropped = config.model_layers(described, custom)
    shape = _input_shape(entry, layers, whole, described)
    core = [(layer, part) for layer in layers for part in layer.core_layers()]
    expected: list[Shapes] = [[] for _ in layers]
    numbers = {id(layer): number for number, layer in enumerate(layers)}
    for info in _core.network_parameters([part for _, part in core], shape):
        layer = core[info["layer"]][0]
        expected[numbers[id(layer)]].append((f"{layer.name}/{info['name']}", tuple(info["shape"])))
    with _opened(io.BytesIO(weights), name) as file:
        reader = _Reader(file, name, size)
        found = reader.weights(layers, expected)
        config.warn_dropped(dropped)
        model = Sequential([*([] if entry is None else [entry]), *layers], name=model_name)
        if not model.built:
            model.build((None, *shape))
        model.set_weights(pick(Path(name), {key: array[()] for key, array in found}, model))
        described = whole.get("compile_config")
        if not compiled or described is None:
            return model
        try:
            arguments = config.compilation(described, custom)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{error} (compile=False loads the model without its training)") from None
        model.compile(**arguments)
        if arguments["loss"] is not None:
            _restore(model, reader.optimizer(), metadata)
    return model


def _input_shape(entry: InputLayer | None, layers: Sequence[Layer], whole: Any, described: Any) -> tuple[int, ...]:
    declared = entry.declared_shape if entry is not None else (layers[0].declared_shape if layers else None)
    if declared is not None:
        return declared
    shape = described.get("build_input_shape") or whole.get("build_config", {}).get("input_shape")
    if not isinstance(shape, list) or not all(type(extent) is int and extent > 0 for extent in shape[1:]):
        raise ValueError("the input shape is not in it: build the model in Keras before it is saved")
    return tuple(shape[1:])


def _restore(model: Sequential, arrays: list[Any], metadata: Any) -> None:
    """Puts the optimizer into the saved state, where its arrays are those this optimizer has."""
    optimizer = model.optimizer
    assert optimizer is not None
    if not arrays:
        return
    slots = model.optimizer_slots()
    order = list(_optimizer_order(optimizer.kind, slots))
    first = 1 if optimizer.schedule is not None else 2
    fits = len(arrays) == first + len(order) and all(array.shape == () for array in arrays[:first])
    if not fits or any(arrays[first + i].shape != slots[w][s].shape for i, (w, s) in enumerate(order)):
        warnings.warn("the saved state of the optimizer does not fit it and was left out", UserWarning, stacklevel=5)
        return
    for i, (weight, slot) in enumerate(order):
        slots[weight][slot] = np.asarray(arrays[first + i][()], dtype=np.float32)
    rate = float(arrays[1][()]) if first == 2 else 0.0
    model.set_optimizer_state(int(arrays[0][()]), slots, rate)
    own = metadata.get("convec") if isinstance(metadata, dict) else None
    if own is not None:
        model.set_dropout_seed(int(own["seed"]))
        model.set_position(own["position"])
