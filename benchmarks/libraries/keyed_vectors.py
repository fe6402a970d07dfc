"""What is measured of a class with gensim's ``KeyedVectors`` API, convec's or gensim's own."""

from __future__ import annotations

import gc
import pathlib
import time
from typing import Any

import numpy as np

from libraries.timing import median_seconds


class Bench:
    """Functions that ``worker.py`` calls; ``KeyedVectors`` is the class measured."""

    def __init__(self, KeyedVectors: Any) -> None:
        self.KeyedVectors = KeyedVectors
        self.kv: Any = None

    def build(self, vectors: str) -> None:
        """The vectors of a .npy file, with the keys w0, w1, ..."""
        array = np.load(vectors)
        self.kv = self.KeyedVectors(array.shape[1])
        self.kv.index_to_key = [f"w{index}" for index in range(len(array))]
        self.kv.key_to_index = {key: index for index, key in enumerate(self.kv.index_to_key)}
        self.kv.vectors = array
        self.kv.fill_norms()

    def answer(self, word: str) -> list[list[Any]]:
        """The ten nearest keys and their similarities."""
        return [list(pair) for pair in self.kv.most_similar(word)]

    def search(self, kind: str, seconds: float) -> float:
        """Seconds a call."""
        word = f"w{len(self.kv) // 2}"
        calls = {
            "most_similar": lambda: self.kv.most_similar(word),
            "most_similar, analogy": lambda: self.kv.most_similar(["w1", word], ["w2"]),
            "most_similar, topn 1000": lambda: self.kv.most_similar(word, topn=1000),
            "most_similar, topn None": lambda: self.kv.most_similar(word, topn=None),
            "most_similar_cosmul, analogy": lambda: self.kv.most_similar_cosmul(["w1", word], ["w2"]),
            "rank": lambda: self.kv.rank(word, "w1"),
            "fill_norms": lambda: self.kv.fill_norms(force=True),
            "similarity": lambda: self.kv.similarity("w1", "w2"),
        }
        return median_seconds(calls[kind], seconds)

    def analogies(self, path: str) -> float:
        """Seconds to answer the questions of a file."""
        start = time.perf_counter()
        self.kv.evaluate_word_analogies(path, restrict_vocab=None)
        return time.perf_counter() - start

    def write(self, path: str, kind: str) -> float:
        """Seconds to write a file; the disk's own time is left out as far as its cache allows."""
        start = time.perf_counter()
        if kind == "own":
            self.kv.save(path)
        else:
            self.kv.save_word2vec_format(path, binary=kind == "binary")
        return time.perf_counter() - start

    def read(self, path: str, kind: str) -> float:
        """Seconds to read a file that is in the system's cache."""
        with pathlib.Path(path).open("rb") as file:
            while file.read(1 << 24):
                pass
        gc.collect()
        start = time.perf_counter()
        if kind in ("text", "binary"):
            loaded = self.KeyedVectors.load_word2vec_format(path, binary=kind == "binary")
        else:
            loaded = self.KeyedVectors.load(path, mmap="r" if kind == "own, mapped" else None)
        seconds = time.perf_counter() - start
        assert len(loaded) > 0
        return seconds
