"""The file of a Word2Vec model: its vectors as a file of KeyedVectors has them, the output tables, and parameters."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import _core
from convec._files import json_object
from convec.models.keyedvectors import KeyedVectors

__all__ = ["check_path", "load", "save"]

_FORMAT = "convec.Word2Vec"
_VERSION = 1
_TABLES = ("syn1neg", "syn1")


def check_path(name: str, path: Any) -> str:
    """``path`` as a str. Raises TypeError with the argument's name for an open file or anything else."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"{name} is {path!r}, but must be a path: models are saved to files only")
    return os.fsdecode(path)


def save(
    path: str, parameters: Mapping[str, Any], wv: KeyedVectors, tables: Mapping[str, npt.NDArray[np.float32]]
) -> None:
    """Writes a model.

    Args:
        path: where to; the file is complete or left as it was.
        parameters: fit for JSON.
        wv: the vectors.
        tables: output tables by name.

    Raises:
        TypeError: a parameter is not fit for JSON.
        OSError: the file cannot be written.
    """
    tensors, metadata = wv._to_tensors()
    try:
        text = json.dumps(dict(parameters))
    except TypeError as error:
        raise TypeError(
            f"the model cannot be saved, since an attribute (comment, or one of lifecycle_events) is {error}"
        ) from None
    metadata = {
        **metadata,
        "keyed_vectors_format": metadata["format"],
        "format": _FORMAT,
        "version": str(_VERSION),
        "parameters": text,
    }
    _core.safetensors_save(path, {**tensors, **tables}, metadata)


def load(path: str) -> tuple[dict[str, Any], KeyedVectors, dict[str, npt.NDArray[np.float32]]]:
    """Reads a model.

    Returns:
        What :func:`save` was given.

    Raises:
        ValueError: the file is damaged or something else.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(2)
    if start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise ValueError(
            f"{path} is a pickle, such as gensim saves; convec loads none, since a pickle can run any code. In gensim "
            "call model.wv.save_word2vec_format(...), and here KeyedVectors.load_word2vec_format(...)"
        )
    tensors, metadata = _core.safetensors_load(path, mmap=False)
    if metadata.get("format") != _FORMAT:
        raise ValueError(f"{path} holds no Word2Vec model (its format is {metadata.get('format')!r})")
    if metadata.get("version") != str(_VERSION):
        raise ValueError(f"{path} has version {metadata.get('version')}, but this convec reads version {_VERSION}")
    if "parameters" not in metadata:
        raise ValueError(f"{path} is damaged: its metadata have no 'parameters'")
    parameters = json_object(metadata["parameters"], f"{path} is damaged: the text of its parameters")
    tables = {name: tensors.pop(name) for name in _TABLES if name in tensors}
    wv = KeyedVectors._from_tensors(tensors, {**metadata, "format": metadata.get("keyed_vectors_format", "")})
    return parameters, wv, tables
