"""Models and weights in files. The ending of the file's name decides what is written.

========================  ============================================================================================
``.safetensors``          whole models (convec's own form, which C++ programs load too), or weights only
``.keras``                whole models, as Keras 3 writes them (needs h5py)
``.weights.h5``           weights only, as Keras 3 writes them (needs h5py)
``.npz``                  weights only, for NumPy
========================  ============================================================================================

No reader loads code: there is no pickle, and nothing is imported by a name from a file.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convec.models.sequential import Sequential
    from convec.saving.onnx_export import export_onnx
    from convec.saving.onnx_import import import_onnx
    from convec.saving.torch_weights import load_torch_weights

__all__ = [
    "export_onnx",
    "import_onnx",
    "load_arrays",
    "load_model",
    "load_torch_weights",
    "load_weights",
    "save_arrays",
    "save_model",
    "save_weights",
]

_LAZY = {
    "export_onnx": "convec.saving.onnx_export",
    "import_onnx": "convec.saving.onnx_import",
    "load_torch_weights": "convec.saving.torch_weights",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'convec.saving' has no attribute {name!r}")


StrPath = str | os.PathLike[str]


def _unknown(path: Path, what: str, endings: str) -> ValueError:
    return ValueError(f"filepath is '{path}', but {what} are files that end in {endings}")


def _ready(model: Any, path: Path, overwrite: bool) -> None:
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: it has no weights to save; give it an input shape first")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)


def save_model(model: Sequential, filepath: StrPath, overwrite: bool = True, include_optimizer: bool = True) -> None:
    """Writes a whole model: layers, weights, what ``compile`` was given, and the state of training.

    The file is complete or absent: it is written under another name first.

    Args:
        model: a built model.
        filepath: ends in ``.safetensors`` or ``.keras``.
        overwrite: whether a file that exists is replaced.
        include_optimizer: whether the optimizer's state and the position of training are written.

    Raises:
        ValueError: another ending, or the model is not built.
        TypeError: a metric or layer of your own cannot be written (a lambda, an object without ``get_config``).
        FileExistsError: it exists and ``overwrite`` is False.
        OSError: it cannot be written; what was there is untouched.
        ImportError: ``.keras`` without h5py.
    """
    path = Path(filepath)
    if path.suffix == ".safetensors":
        from convec.saving import native

        _ready(model, path, overwrite)
        native.save(model, path, include_optimizer)
    elif path.suffix == ".keras":
        from convec.saving import keras_archive

        _ready(model, path, overwrite)
        keras_archive.save(model, path, include_optimizer)
    else:
        raise _unknown(path, "models", ".safetensors or .keras")


def load_model(
    filepath: StrPath,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,  # noqa: A002 - Keras' name
    safe_mode: bool = True,
) -> Sequential:
    """The model of a file that :func:`save_model`, Keras 3 (``.keras``) or C++'s ``save_network`` wrote.

    Args:
        filepath: ends in ``.safetensors`` or ``.keras``.
        custom_objects: metrics, layers, ... of your own by their names.
        compile: whether the model comes compiled, with the optimizer's state. ``fit(..., initial_epoch=
            model.initial_epoch)`` then goes on exactly as the saved model would have.
        safe_mode: True; convec loads no code from files, so there is no other mode.

    Raises:
        ValueError: the file is damaged, or holds something convec has not; the message says what.
        OSError: it cannot be read.
        ImportError: ``.keras`` without h5py.
    """
    if not safe_mode:
        raise ValueError("safe_mode is False, but convec never runs code from a file")
    path = Path(filepath)
    if path.suffix == ".safetensors":
        from convec.saving import native

        return native.load(path, compile, custom_objects or {})
    if path.suffix == ".keras":
        from convec.saving import keras_archive

        return keras_archive.load(path, compile, custom_objects or {})
    raise _unknown(path, "models", ".safetensors or .keras")


def to_bytes(model: Sequential) -> bytes:
    """The bytes of the ``.safetensors`` file of a built model. Raises as :func:`save_model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_model(model, path)
        return path.read_bytes()


def from_bytes(data: bytes, custom_objects: Mapping[str, Any] | None = None) -> Sequential:
    """The model of :func:`to_bytes`. Raises as :func:`load_model`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(data)
        return load_model(path, custom_objects)


def own_objects(model: Sequential) -> dict[str, Any]:
    """The classes and functions of a model that are not convec's own, by name: ``custom_objects`` to load it with."""
    used = [*model.layers, *model.metrics, model.loss, model.optimizer]
    kinds = {getattr(one, "function", type(one)) for one in used}
    return {kind.__name__: kind for kind in kinds if not f"{kind.__module__}.".startswith(("convec.", "builtins."))}


def save_weights(model: Sequential, filepath: StrPath, overwrite: bool = True) -> None:
    """Writes the weights, as ``<layer>/<weight>`` (in Keras' own layout to ``.h5``).

    Raises:
        ValueError: the name does not end in ``.safetensors``, ``.npz`` or ``.h5``, or the model is not built.
        FileExistsError: it exists and ``overwrite`` is False.
        OSError: it cannot be written; what was there is untouched.
        ImportError: ``.h5`` without h5py.
    """
    from convec.saving import weights

    path = Path(filepath)
    save = weights.SAVE.get(path.suffix)
    if save is None:
        raise _unknown(path, "weights", ", ".join(weights.SAVE))
    _ready(model, path, overwrite)
    save(model, path)


def load_weights(model: Sequential, filepath: StrPath) -> None:
    """Reads what :func:`save_weights` wrote, or the weights of a whole model in ``.safetensors``.

    Raises:
        ValueError: another ending, the file is damaged, or a weight is missing or has another shape; nothing has
            changed then.
        OSError: it cannot be read.
        ImportError: ``.h5`` without h5py.
    """
    from convec.saving import weights

    path = Path(filepath)
    load = weights.LOAD.get(path.suffix)
    if load is None:
        raise _unknown(path, "weights", ", ".join(weights.LOAD))
    if not model.built:
        raise ValueError(f"model {model.name!r} is not built: give it an input shape before its weights")
    model.set_weights(load(model, path))


def save_arrays(filepath: StrPath, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Writes arrays to a safetensors file, complete or not at all.

    Args:
        filepath: the file.
        arrays: NumPy arrays (or what can be seen as one without a copy) by name: float32, float64, int32, int64 or
            uint8. Rows that are further apart in memory than they are long are written without a copy.
        metadata: strings by name.

    Raises:
        TypeError: an array has another element type, or a name is no string.
        OSError: it cannot be written; what was there is untouched.
    """
    from convec import _core

    _core.safetensors_save(filepath, dict(arrays), dict(metadata or {}))


def load_arrays(filepath: StrPath, mmap: bool = True) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays and the metadata of a safetensors file.

    Args:
        filepath: the file.
        mmap: the arrays are read-only views of the mapped file, read from disk when they are used; else copies.

    Returns:
        Arrays by name (bfloat16 as float32), and the metadata.

    Raises:
        ValueError: it is no such file, or damaged.
        TypeError: it holds an element type that NumPy has not.
        OSError: it cannot be read.
    """
    from convec import _core

    arrays, found = _core.safetensors_load(filepath, mmap=mmap)
    return arrays, found
