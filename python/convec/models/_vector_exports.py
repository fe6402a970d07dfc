"""Vectors by key as other programs take them: TensorBoard's projector, and sentence-transformers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from convec import _core
from convec._files import replacing_all, replacing_folder

PathLike = str | os.PathLike[str]

logger = logging.getLogger("convec.models.keyedvectors")

_MODULE = "0_StaticEmbedding"
_UNKNOWN = "[UNK]"


# ---- TensorBoard ----


def write_projector(folder: PathLike, vectors: NDArray[np.float32], columns: dict[str, Sequence[Any]]) -> None:
    """Writes ``vectors.tsv`` and ``metadata.tsv``, which has a line with the columns' names where there are several.

    Raises:
        ValueError: a value holds a tab or a line break.
        OSError: a file cannot be written; what was there is untouched.
    """
    labels = {name: [str(value) for value in values] for name, values in columns.items()}
    for name, values in labels.items():
        for value in values:
            if any(character in value for character in "\t\n\r"):
                raise ValueError(f"the {name} {value!r} holds a tab or a line break, which a .tsv file cannot express")
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    with replacing_all(target / "metadata.tsv", target / "vectors.tsv") as (names, numbers):
        if len(labels) > 1:
            names.write(("\t".join(labels) + "\n").encode())
        for line in zip(*labels.values(), strict=True):
            names.write(("\t".join(line) + "\n").encode("utf-8", "surrogateescape"))
        _write_numbers(numbers, vectors)


def _write_numbers(file: IO[bytes], vectors: NDArray[np.float32]) -> None:
    """One vector a line, its numbers (as few digits as read back to the same float32) separated by tabs."""
    rest = b""

    def sink(data: Any) -> None:
        # The text format with empty words: each line begins with a blank.
        nonlocal rest
        text = rest + bytes(data)
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        file.write(text[:end].replace(b"\n ", b"\n")[1:].replace(b" ", b"\t"))

    order = np.arange(len(vectors), dtype=np.int64)
    _core.write_word2vec(
        vectors, [""] * len(vectors), order, sink, binary=False, header=False, total=len(vectors), prefix=""
    )


# ---- sentence-transformers ----


def write_sentence_transformers(
    folder: PathLike,
    vectors: NDArray[np.float32],
    words: list[str],
    *,
    lowercase: bool,
    punctuation: bool,
    overwrite: bool,
) -> None:
    """Writes a model of one StaticEmbedding; see :meth:`convec.models.KeyedVectors.save_sentence_transformers`.

    Raises:
        FileExistsError: the folder is there and may not be replaced, or holds something else.
        OSError: it cannot be written; what was there is untouched.
    """
    target = Path(os.path.realpath(folder))
    if target.exists():
        if not target.is_dir():
            raise FileExistsError(f"{target} is a file, but a folder is to be written")
        known = (target / "modules.json").is_file() or not any(target.iterdir())
        if not (overwrite and known):
            raise FileExistsError(
                f"{target} exists" + ("; pass overwrite=True to replace it" if known else " and holds something else")
            )
    with replacing_folder(target) as made:
        _write_module(made / _MODULE, vectors, words, lowercase, punctuation)
        module = {"idx": 0, "name": "0", "path": _MODULE, "type": "sentence_transformers.models.StaticEmbedding"}
        (made / "modules.json").write_text(json.dumps([module], indent=2), "utf-8")
        settings: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        (made / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=2), "utf-8")


def _write_module(
    folder: Path, vectors: NDArray[np.float32], words: list[str], lowercase: bool, punctuation: bool
) -> None:
    folder.mkdir(parents=True)
    vocabulary = {}
    for number, word in enumerate(words):
        try:
            word.encode()
        except UnicodeEncodeError:  # bytes that were no UTF-8: no text holds them
            logger.warning("the key %r is no Unicode text and is left out", word)
            continue
        vocabulary[word] = number
    unknown = _UNKNOWN
    while unknown in vocabulary:
        unknown = f"_{unknown}"
    vocabulary[unknown] = len(words)
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"} if lowercase else None,
        "pre_tokenizer": {"type": "Whitespace" if punctuation else "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": unknown},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    # A row of zeros for unknown words.
    table = np.zeros((len(vectors) + 1, vectors.shape[1]), np.float32)
    table[:-1] = vectors
    _core.safetensors_save(folder / "model.safetensors", {"embedding.weight": table}, {"format": "pt"})
