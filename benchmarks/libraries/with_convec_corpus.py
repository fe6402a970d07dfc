"""convec's way from a text file to ids."""

from __future__ import annotations

import resource
import time

import convec
from convec import _core
from convec.models._corpus import count_corpus, encode_corpus, select_vocabulary
from convec.models.sentences import LineSentence

VERSION = convec.__version__


def set_threads(threads: int) -> None:
    convec.set_num_threads(threads)


def build_vocab(path: str, min_count: int) -> float:
    """Seconds to count and choose the words, list them in Python, and encode the text."""
    start = time.perf_counter()
    counter = count_corpus(LineSentence(path))
    vocabulary = select_vocabulary(counter, min_count=min_count)
    key_to_index = {word: index for index, word in enumerate(vocabulary.words())}
    corpus = counter.corpus(vocabulary)
    assert corpus.words == vocabulary.total_count
    assert len(key_to_index) == len(vocabulary)
    return time.perf_counter() - start


def encode(path: str, min_count: int) -> float:
    """Seconds to encode the text by a vocabulary that is known."""
    vocabulary = select_vocabulary(count_corpus(LineSentence(path), keep_ids=False), min_count=min_count)
    start = time.perf_counter()
    encode_corpus(LineSentence(path), vocabulary)
    return time.perf_counter() - start


def build_vocab_lists(path: str, min_count: int, lines: int) -> float:
    """Seconds to count and encode lists of words that are in memory."""
    sentences = list(LineSentence(path, limit=lines))
    start = time.perf_counter()
    counter = count_corpus(sentences, keep_ids=False)
    _core.encode_sentences(select_vocabulary(counter, min_count=min_count), sentences)
    return time.perf_counter() - start


def answer(path: str, min_count: int) -> list[int]:
    """Words in the vocabulary, words and sentences of the text."""
    counter = count_corpus(LineSentence(path), keep_ids=False)
    vocabulary = select_vocabulary(counter, min_count=min_count)
    return [len(vocabulary), vocabulary.total_count, counter.raw_words, counter.sentences]


def peak_memory() -> float:
    """The process's peak resident memory, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
