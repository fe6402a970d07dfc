"""Models, as ``keras.models`` and ``gensim.models``; each is loaded when it is first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convec.models import callbacks, keyedvectors, word2vec
    from convec.models.keyedvectors import KeyedVectors
    from convec.models.sequential import Sequential, model_from_json
    from convec.models.word2vec import Word2Vec
    from convec.saving import load_model, save_model

_SUBMODULES = frozenset({"callbacks", "keyedvectors", "word2vec"})
_ATTRIBUTES = {
    "KeyedVectors": "convec.models.keyedvectors",
    "Sequential": "convec.models.sequential",
    "Word2Vec": "convec.models.word2vec",
    "load_model": "convec.saving",
    "model_from_json": "convec.models.sequential",
    "save_model": "convec.saving",
}

__all__ = [
    "KeyedVectors",
    "Sequential",
    "Word2Vec",
    "callbacks",
    "keyedvectors",
    "load_model",
    "model_from_json",
    "save_model",
    "word2vec",
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"convec.models.{name}")
    if name in _ATTRIBUTES:
        value = getattr(importlib.import_module(_ATTRIBUTES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'convec.models' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
