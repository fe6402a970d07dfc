"""gensim's Word2Vec.build_vocab, which counts and chooses words, and encodes nothing."""

from __future__ import annotations

import resource
import time
import warnings
from typing import Any

import gensim
from gensim.models.word2vec import LineSentence, Word2Vec

warnings.simplefilter("ignore")
VERSION = gensim.__version__


def set_threads(threads: int) -> None:
    """One thread counts, whatever is asked for."""


def _model(min_count: int, **corpus: Any) -> Any:
    # One dimension: allocating the vectors is no part of this.
    model = Word2Vec(vector_size=1, min_count=min_count)
    model.build_vocab(**corpus)
    return model


def build_vocab(path: str, min_count: int) -> float:
    """Seconds of build_vocab on the file."""
    start = time.perf_counter()
    _model(min_count, corpus_file=path)
    return time.perf_counter() - start


def build_vocab_lists(path: str, min_count: int, lines: int) -> float:
    """Seconds of build_vocab on lists of words that are in memory."""
    sentences = list(LineSentence(path, limit=lines))
    start = time.perf_counter()
    _model(min_count, corpus_iterable=sentences)
    return time.perf_counter() - start


def answer(path: str, min_count: int) -> list[int]:
    """Words in the vocabulary, words and sentences of the text."""
    model = _model(min_count, corpus_file=path)
    total = sum(model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key)
    return [len(model.wv), int(total), model.corpus_total_words, model.corpus_count]


def peak_memory() -> float:
    """The process's peak resident memory, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
