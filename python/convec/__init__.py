"""Convolutional image classifiers at hardware speed: a compiled C++ core behind a Keras-like API.

Submodules (:mod:`convec.layers`, :mod:`convec.models`, :mod:`convec.ops`, ...) and the compiled core are loaded when
they are first used, so that ``import convec`` itself costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convec import (
        activations,
        backend,
        callbacks,
        datasets,
        distributed,
        initializers,
        layers,
        losses,
        metrics,
        models,
        ops,
        optimizers,
        saving,
        utils,
    )
    from convec._core import (
        __version__,
        available_isas,
        cpu_name,
        current_isa,
        detected_isa,
        matmul_precision,
        num_threads,
        set_isa,
        set_matmul_precision,
        set_num_threads,
        set_winograd,
        winograd,
    )
    from convec._device import current_device, device, list_devices, set_device
    from convec.layers import Input
    from convec.models import KeyedVectors, Sequential, Word2Vec
    from convec.saving import export_onnx, import_onnx, load_model

_SUBMODULES = frozenset(
    {
        "activations",
        "backend",
        "callbacks",
        "cli",
        "datasets",
        "distributed",
        "initializers",
        "layers",
        "losses",
        "metrics",
        "models",
        "ops",
        "optimizers",
        "saving",
        "utils",
    }
)
_ATTRIBUTES = {
    "Input": "convec.layers",
    "KeyedVectors": "convec.models",
    "Sequential": "convec.models",
    "Word2Vec": "convec.models",
    "export_onnx": "convec.saving",
    "import_onnx": "convec.saving",
    "load_model": "convec.saving",
    **dict.fromkeys(("current_device", "device", "list_devices", "set_device"), "convec._device"),
    **dict.fromkeys(
        (
            "__version__",
            "available_isas",
            "cpu_name",
            "current_isa",
            "detected_isa",
            "num_threads",
            "matmul_precision",
            "set_isa",
            "set_num_threads",
            "set_matmul_precision",
            "set_winograd",
            "winograd",
        ),
        "convec._core",
    ),
}

__all__ = [
    "Input",
    "KeyedVectors",
    "Sequential",
    "Word2Vec",
    "__version__",
    "activations",
    "available_isas",
    "backend",
    "callbacks",
    "cpu_name",
    "current_device",
    "current_isa",
    "datasets",
    "detected_isa",
    "device",
    "distributed",
    "export_onnx",
    "import_onnx",
    "initializers",
    "layers",
    "list_devices",
    "load_model",
    "losses",
    "matmul_precision",
    "metrics",
    "models",
    "num_threads",
    "ops",
    "optimizers",
    "saving",
    "set_device",
    "set_isa",
    "set_matmul_precision",
    "set_num_threads",
    "set_winograd",
    "utils",
    "winograd",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"convec.{name}")
    if name in _ATTRIBUTES:
        value = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'convec' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
