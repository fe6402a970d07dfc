"""Vectors for TensorBoard's projector, and for sentence-transformers, which loads them where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec.models import KeyedVectors
from convec.saving import load_arrays

RNG = np.random.default_rng(7)


def make(words: list[Any], dim: int = 5) -> KeyedVectors:
    kv = KeyedVectors(dim)
    kv.add_vectors(words, RNG.normal(size=(len(words), dim)).astype(np.float32))
    return kv


def test_projector(tmp_path: Path) -> None:
    kv = make(["king", "café", "new york", "\u2028", "\udce9"], 40)
    kv.save_tensorboard(tmp_path / "log")
    lines = (tmp_path / "log" / "metadata.tsv").read_bytes().split(b"\n")
    assert [line.decode("utf-8", "surrogateescape") for line in lines] == [*kv.index_to_key, ""]
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "log" / "vectors.tsv", np.float32, delimiter="\t"), kv.vectors)
    for key, count in zip(kv.index_to_key, (9, 8, 7, 6, 5), strict=True):
        kv.set_vecattr(key, "count", count)
    kv.save_tensorboard(tmp_path / "log", attributes=("count", "absent"))
    text = (tmp_path / "log" / "metadata.tsv").read_bytes().decode("utf-8", "surrogateescape")
    assert text.startswith("word\tcount\nking\t9\ncafé\t8\n")
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["metadata.tsv", "vectors.tsv"]
    before = (tmp_path / "log" / "metadata.tsv").read_bytes()
    for word in ("a\tb", "a\nb", "a\r"):
        with pytest.raises(ValueError, match="holds a tab or a line break"):
            make(["x", word]).save_tensorboard(tmp_path / "log")
    with pytest.raises(ValueError, match="no key yet"):
        KeyedVectors(3, count=1).save_tensorboard(tmp_path / "log")
    assert (tmp_path / "log" / "metadata.tsv").read_bytes() == before


def test_projector_of_many_vectors(tmp_path: Path) -> None:
    """More text than is passed on at a time."""
    kv = make([f"w{number}" for number in range(3000)], 50)
    kv.save_tensorboard(tmp_path)
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "vectors.tsv", np.float32, delimiter="\t"), kv.vectors)


TEXTS = ["king and queen", "  queen\u00a0unknown king ", "Queen, king!", "nothing known", "café"]


def mean(kv: KeyedVectors, words: list[str]) -> Any:
    """The mean with zeros for unknown words."""
    return np.mean([kv[word] if word in kv else np.zeros(kv.vector_size) for word in words], axis=0)


def test_sentence_transformers_folder(tmp_path: Path) -> None:
    kv = make(["king", "and", "queen", "café", "[UNK]", "\udce9"])
    kv.save_sentence_transformers(tmp_path / "model")
    (module,) = json.loads((tmp_path / "model" / "modules.json").read_text())
    folder = tmp_path / "model" / module["path"]
    arrays, _ = load_arrays(folder / "model.safetensors")
    table = arrays["embedding.weight"]
    np.testing.assert_array_equal(table[:-1], kv.vectors)
    assert not table[-1].any()
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    assert tokenizer["model"]["vocab"] == {"king": 0, "and": 1, "queen": 2, "café": 3, "[UNK]": 4, "_[UNK]": 6}
    assert tokenizer["model"]["unk_token"] == "_[UNK]"


def test_a_folder_is_replaced_or_kept(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make(["a"]).save_sentence_transformers(folder)
    (folder / "left").touch()
    make(["b"]).save_sentence_transformers(folder)
    assert not (folder / "left").exists()
    assert "b" in (folder / "0_StaticEmbedding" / "tokenizer.json").read_text()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make(["c"]).save_sentence_transformers(folder, overwrite=False)
    other = tmp_path / "home"
    other.mkdir()
    (other / "thesis").touch()
    with pytest.raises(FileExistsError, match="something else"):
        make(["c"]).save_sentence_transformers(other)
    with pytest.raises(FileExistsError, match="is a file"):
        make(["c"]).save_sentence_transformers(other / "thesis")
    with pytest.raises(TypeError, match="the key 3"):
        make(["c", 3]).save_sentence_transformers(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "model"]


def test_tokenizers_reads_the_vocabulary(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    kv = make(["king", "and", "queen", "café"])
    for options, expected in (
        ({}, [[0, 1, 2], [2, 4, 0], [4, 4], [4, 4], [3]]),
        ({"lowercase": True, "punctuation": True}, [[0, 1, 2], [2, 4, 0], [2, 4, 0, 4], [4, 4], [3]]),
    ):
        kv.save_sentence_transformers(tmp_path / "model", **options)
        tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "model" / "0_StaticEmbedding" / "tokenizer.json"))
        assert [encoding.ids for encoding in tokenizer.encode_batch(TEXTS, add_special_tokens=False)] == expected


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_computes_the_mean(tmp_path: Path) -> None:
    transformers = pytest.importorskip("sentence_transformers")
    kv = make(["king", "and", "queen", "café"], 300)
    kv.save_sentence_transformers(tmp_path / "model")
    found = transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    expected = np.stack([mean(kv, text.split()) for text in TEXTS])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    module = transformers.models.StaticEmbedding.load(str(tmp_path / "model" / "0_StaticEmbedding"))
    np.testing.assert_array_equal(module.embedding.weight.detach().numpy()[:-1], kv.vectors)
