"""Weights only: ``.npz``, ``.safetensors`` and Keras 3's ``.weights.h5``."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convec import _core
from convec._files import replacing

if TYPE_CHECKING:
    from convec.models.sequential import Sequential

Array = npt.NDArray[Any]


def names(model: Sequential) -> Iterator[tuple[str, tuple[int, ...]]]:
    """``<layer>/<weight>`` and the shape of every weight, in the order of ``get_weights``."""
    for layer in model.layers:
        for name, value in zip(layer.weight_names, layer.get_weights(), strict=True):
            yield f"{layer.name}/{name}", value.shape


def named(model: Sequential) -> dict[str, Array]:
    """Copies of all weights by name."""
    return {name: value for (name, _), value in zip(names(model), model.get_weights(), strict=True)}


def _by_kind(names: Iterable[str]) -> dict[tuple[str, int, str], str]:
    """Names ``<layer>/<weight>`` by what a layer's name says without its number, and its place among those alike."""
    parts = [name.rpartition("/") for name in names]
    numbered: dict[str, list[tuple[int, str]]] = {}
    for layer in dict.fromkeys(layer for layer, _, _ in parts):
        kind, number = re.fullmatch(r"(.*?)(?:_(\d{1,9}))?", layer, re.DOTALL).groups()  # type: ignore[union-attr]
        numbered.setdefault(kind, []).append((int(number or 0), layer))
    place = {
        layer: (kind, index)
        for kind, layers in numbered.items()
        for index, (_, layer) in enumerate(sorted(layers))
    }  # fmt: skip
    return {(*place[layer], weight): f"{layer}/{weight}" for layer, _, weight in parts}


def locate(held: Iterable[str], model: Sequential) -> dict[str, str]:
    """The name in a file of each weight of the model.

    The same name, where the file has them all. Else layers are matched by kind and order: the numbers of automatic
    names count through a program, so that the second model made has ``dense_2`` where the file has ``dense``.
    """
    wanted = [name for name, _ in names(model)]
    held = list(held)
    if not set(wanted) <= set(held):
        of_file, of_model = _by_kind(held), _by_kind(wanted)
        if set(of_file) == set(of_model):
            return {of_model[key]: of_file[key] for key in of_model}
    return {name: name for name in wanted}


def check(path: Path, name: str, value: Array, shape: tuple[int, ...]) -> Array:
    """``value``, if it is an array of floats of that shape. Raises ValueError."""
    if value.dtype.kind != "f" or value.shape != shape:
        raise ValueError(
            f"{name!r} in {path} is {value.dtype} of shape {value.shape}, but the model needs float32 of {shape}"
        )
    return value


def check_size(name: str, size: int, needed: int) -> None:
    """Raises ValueError for a file of ``size`` bytes whose arrays take ``needed``, far more than it can hold."""
    if needed > 4 * size + (1 << 24):
        raise ValueError(
            f"{name} claims arrays of {needed} bytes, but has {size}: it is damaged, or packed beyond reason"
        )


def pick(path: Path, arrays: dict[str, Array], model: Sequential) -> list[Array]:
    """The model's weights out of arrays by name. Raises ValueError where one is missing or does not fit."""
    found = []
    located = locate(arrays, model)
    for name, shape in names(model):
        if located[name] not in arrays:
            held = ", ".join(sorted(arrays)[:8])
            raise ValueError(f"{path} holds no {name!r}, but the model has it (the file has {held or 'nothing'})")
        found.append(check(path, located[name], arrays[located[name]], shape))
    return found


# ---- .safetensors ----


def save_safetensors(model: Sequential, path: Path) -> None:
    """Writes the weights. Raises OSError."""
    _core.safetensors_save(path, named(model))


def load_safetensors(model: Sequential, path: Path) -> list[Array]:
    """Reads the weights. Raises ValueError, OSError."""
    return pick(path, _core.safetensors_load(path)[0], model)


# ---- .npz ----


def save_npz(model: Sequential, path: Path) -> None:
    """Writes the weights. Raises OSError."""
    arrays: dict[str, Any] = named(model)
    with replacing(path) as file:
        np.savez(file, **arrays)


def load_npz(model: Sequential, path: Path) -> list[Array]:
    """Reads the weights. Nothing is unpacked that is not of the model's own size. Raises ValueError, OSError."""
    found = []
    try:
        with zipfile.ZipFile(path) as archive:
            held = {member.removesuffix(".npy") for member in archive.namelist() if member.endswith(".npy")}
            located = locate(held, model)
            for name, shape in names(model):
                if located[name] not in held:
                    raise ValueError(f"{path} holds no {name!r}, but the model has it")
                with archive.open(f"{located[name]}.npy") as member:
                    found.append(_read_npy(member, path, located[name], shape))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is not a file of weights, or is damaged: {error}") from None
    return found


def _read_npy(member: Any, path: Path, name: str, shape: tuple[int, ...]) -> Array:
    try:
        version = np.lib.format.read_magic(member)
        read: Any = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        stored, fortran, dtype = read(member)
    except Exception as error:  # NumPy's parser raises many kinds, tokenize.TokenError among them
        raise ValueError(f"{name!r} in {path} has a damaged header ({error})") from None
    if stored != shape or dtype.kind != "f" or fortran:
        raise ValueError(f"{name!r} in {path} is {dtype} of shape {stored}, but the model needs float32 of {shape}")
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    data = member.read(size + 1)
    if len(data) != size:
        raise ValueError(f"{name!r} in {path} has {len(data)} bytes, but must have {size}; the file is damaged")
    return np.asarray(np.frombuffer(data, dtype).reshape(shape))


# ---- .weights.h5 ----


def save_h5(model: Sequential, path: Path) -> None:
    """Writes the weights in Keras' layout. Raises OSError, ImportError."""
    from convec.saving import keras_archive

    keras_archive.save_h5(model, path)


def load_h5(model: Sequential, path: Path) -> list[Array]:
    """Reads weights in Keras' layout. Raises ValueError, OSError, ImportError."""
    from convec.saving import keras_archive

    return keras_archive.load_h5(model, path)


SAVE: dict[str, Callable[[Any, Path], None]] = {".safetensors": save_safetensors, ".h5": save_h5, ".npz": save_npz}
LOAD: dict[str, Callable[[Any, Path], list[Array]]] = {
    ".safetensors": load_safetensors,
    ".h5": load_h5,
    ".npz": load_npz,
}
