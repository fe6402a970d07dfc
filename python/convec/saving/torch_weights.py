"""Weights of a PyTorch module (a ``state_dict`` in a safetensors file) for a Sequential of the same layers.

PyTorch keeps filters as (out, in, rows, columns) and dense weights as (out, in); convec keeps (rows, columns, in, out)
and (in, out). PyTorch flattens images channel by channel, convec pixel by pixel, so the rows of a dense layer behind a
Flatten are reordered, too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import _core
from convec.layers.base import Layer
from convec.layers.convolution import Conv2D
from convec.layers.core import Activation, Dense, Dropout, Flatten, ReLU
from convec.layers.normalization import BatchNormalization
from convec.models.sequential import Sequential

Array = npt.NDArray[Any]

_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_IGNORED = "num_batches_tracked"


def load_torch_weights(
    model: Sequential, filepath: str | os.PathLike[str], names: Mapping[str, str] | None = None
) -> None:
    """Reads the weights of a PyTorch module, saved by ``safetensors.torch.save_file(module.state_dict(), filepath)``.

    Args:
        model: a built model of the same layers in the same order. Images are (height, width, channels) here.
        filepath: the safetensors file.
        names: PyTorch's name of each layer with weights, e.g. ``{"conv2d": "features.0", "dense": "classifier.1"}``. By
            default the modules are taken in the order of their names, numbers in the order of numbers.

    Raises:
        ValueError: the modules do not fit the layers, or the file is damaged; nothing has changed then.
        OSError: it cannot be read.
    """
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: give it an input shape before its weights")
    arrays = {key: value for key, value in _core.safetensors_load(filepath)[0].items() if not key.endswith(_IGNORED)}
    weighted = [layer for layer in model.layers if layer.weight_names]
    modules = dict(_modules(weighted, arrays, names))
    values = []
    used = set()
    for layer, image in _with_images(model):
        for name, expected in zip(layer.weight_names, layer.get_weights(), strict=True):
            key = f"{modules[layer.name]}.{_NAMES[name]}" if modules[layer.name] else _NAMES[name]
            if key not in arrays:
                raise ValueError(
                    f"{os.fspath(filepath)!r} holds no {key!r}, but {layer.name}/{name} of the model needs it"
                )
            value = _convert(layer, name, arrays[key], image)
            if value is None or value.shape != expected.shape or value.dtype.kind != "f":
                raise ValueError(
                    f"{key!r} is {arrays[key].dtype} of shape {arrays[key].shape}, which does not become "
                    f"{layer.name}/{name} of shape {expected.shape}; are the layers the same, and in this order? "
                    "names= says which module is which layer"
                )
            used.add(key)
            values.append(value)
    left = sorted(set(arrays) - used)
    if left:
        raise ValueError(f"the file also holds {', '.join(left[:8])}, which no layer of the model takes")
    model.set_weights(values)


def _natural(name: str) -> list[Any]:
    """A key that sorts 'a.2' before 'a.10'."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _modules(
    layers: list[Layer], arrays: dict[str, Array], names: Mapping[str, str] | None
) -> Iterator[tuple[str, str]]:
    """(layer, module) by name."""
    known = {layer.name for layer in layers}
    if names is not None:
        wrong = (set(names) - known) or (known - set(names))
        if wrong:
            raise ValueError(f"names must have the layers with weights, {sorted(known)}; look at {sorted(wrong)}")
        yield from names.items()
        return
    found = sorted({key.rpartition(".")[0] for key in arrays}, key=_natural)
    if len(found) != len(layers):
        raise ValueError(
            f"the file has {len(found)} modules ({', '.join(found[:8])}), but the model has {len(layers)} layers with "
            f"weights ({', '.join(layer.name for layer in layers[:8])})"
        )
    yield from zip((layer.name for layer in layers), found, strict=True)


def _with_images(model: Sequential) -> Iterator[tuple[Layer, tuple[int, ...] | None]]:
    """Layers with weights, and the shape of the image whose flattened pixels they take, if they do."""
    image: tuple[int, ...] | None = None
    for layer in model.layers:
        if isinstance(layer, Flatten) and len(layer.input_shape) == 4:
            image = tuple(int(extent or 0) for extent in layer.input_shape[1:])
        elif isinstance(layer, (Dense, Conv2D)):
            yield layer, image
            image = None
        elif layer.weight_names:
            yield layer, image
        elif not isinstance(layer, (Activation, Dropout, ReLU, Flatten)):
            image = None


def _convert(layer: Layer, name: str, value: Array, image: tuple[int, ...] | None) -> Array | None:
    if isinstance(layer, Conv2D) and name == "kernel":
        return np.transpose(value, (2, 3, 1, 0)) if value.ndim == 4 else None
    if isinstance(layer, Dense) and name == "kernel":
        if value.ndim != 2:
            return None
        return by_pixel(value.T, image)
    if isinstance(layer, BatchNormalization):
        return by_pixel(value, image)
    return value


def by_pixel(rows: Array, image: tuple[int, ...] | None) -> Array | None:
    """Rows in the order (height, width, channels) out of (channels, height, width)."""
    if image is None:
        return rows
    height, width, channels = image
    if rows.shape[0] != height * width * channels:
        return None
    split = rows.reshape(channels, height, width, *rows.shape[1:])
    return np.ascontiguousarray(np.moveaxis(split, 0, 2)).reshape(rows.shape)
