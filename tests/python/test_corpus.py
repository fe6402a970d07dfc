"""Counting and encoding text: against Python's own split and Counter, whatever the threads, sources and sizes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core
from convec.models._corpus import count_corpus
from convec.models.sentences import LineSentence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PIECE = 1 << 18  # bytes of text that are one task

# ---- references -----------------------------------------------------------------------------------------------------


def split_sentences(text: bytes, longest: int = 10000, limit: int | None = None) -> list[list[str]]:
    """gensim's LineSentence, in so many words."""
    sentences = []
    for line in itertools.islice(text.split(b"\n"), limit):
        words = line.decode("utf-8", "surrogateescape").split()
        sentences += [words[begin : begin + longest] for begin in range(0, len(words), longest)]
    return sentences


def encode_reference(sentences: list[list[str]], ids: dict[str, int], longest: int = 10000) -> list[int]:
    tokens = []
    for sentence in sentences:
        for begin in range(0, max(len(sentence), 1), longest):
            tokens += [ids[word] for word in sentence[begin : begin + longest] if word in ids] + [-1]
    return tokens


def check_counter(counter: _core.WordCounter, sentences: list[list[str]]) -> None:
    counts = Counter(itertools.chain.from_iterable(sentences))
    assert counter.words() == list(counts)  # both by first appearance
    assert counter.counts().tolist() == list(counts.values())
    assert len(counter) == len(counts)
    assert counter.raw_words == sum(counts.values())
    assert counter.sentences == len(sentences)


def check_all(counter: _core.WordCounter, sentences: list[list[str]], min_count: int = 1, longest: int = 10000) -> None:
    """Counts, vocabulary and corpus."""
    check_counter(counter, sentences)
    counts = Counter(itertools.chain.from_iterable(sentences))
    kept = [(word, count) for word, count in counts.most_common() if count >= min_count]  # stable: ties by appearance
    vocabulary = counter.vocabulary(min_count)
    assert vocabulary.words() == [word for word, _ in kept]
    assert vocabulary.counts().tolist() == [count for _, count in kept]
    assert vocabulary.total_count == sum(count for _, count in kept)
    ids = {word: number for number, word in enumerate(vocabulary.words())}
    expected = encode_reference(sentences, ids, longest)
    corpus = counter.corpus(vocabulary)
    check_corpus(corpus, expected, sum(counts.values()))


def check_corpus(corpus: _core.Corpus, expected: list[int], raw_words: int) -> None:
    tokens = corpus.tokens()
    assert tokens.dtype == np.int32
    assert not tokens.flags.writeable
    assert tokens.tolist() == expected
    assert len(corpus) == len(expected)
    assert corpus.sentences == expected.count(-1)
    assert corpus.words == len(expected) - corpus.sentences
    assert corpus.raw_words == raw_words


def write(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    return path


# ---- text -----------------------------------------------------------------------------------------------------------

PIECES = [
    b"", b"a", b"the", b"word", b"sixteen-letters_", b"seventeen-letters", b"eight888", b"nine99999",
    b"a" * 100, b"b" * 1000,
    b" ", b"  ", b"\t", b"\n", b"\n\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f",
    b"\0", b"\0\0", b"\x1b", b"\x08", b"\x0e", b"\x7f", b"!",
    b"\xc2\x85", b"\xc2\xa0", b"\xc2", b"\xc2\x86", b"\xe1\x9a\x80", b"\xe1\x9a", b"\xe1\x9a\x81",
    *(b"\xe2\x80" + bytes([third]) for third in range(0x7E, 0xB2)),
    b"\xe2\x81\x9f", b"\xe2\x81\x9e", b"\xe2\x80", b"\xe2",
    b"\xe3\x80\x80", b"\xe3\x80\x81", b"\xe3\x80", b"\xe3", b"\xff", b"\xfe", b"\xed\xb2\x80",
    b"\xf0\x9f\x98\x80", b"\x80", b"\xa0",
    "é".encode(), "日本語".encode(), "\u200b".encode(), "\ufeff".encode(), "\u180e".encode(),
]  # fmt: skip

texts = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(PIECES), max_size=80).map(b"".join),
    st.lists(st.sampled_from([b"a", b"b", b"cc", b" ", b"\n"]), max_size=200).map(b"".join),
)


def feed(text: bytes, sizes: Iterator[int], **options: Any) -> _core.WordCounter:
    counter = _core.WordCounter()
    at = 0
    while at < len(text):
        size = next(sizes)
        counter.feed(text[at : at + size], **options)
        at += size
    counter.end_text()
    return counter


@settings(max_examples=400, deadline=None)
@given(text=texts, min_count=st.integers(0, 3), longest=st.sampled_from([1, 2, 3, 7, 10000]))
def test_fed_text_is_split_like_python(text: bytes, min_count: int, longest: int) -> None:
    counter = feed(text, itertools.repeat(1 << 20), max_sentence_length=longest)
    check_all(counter, split_sentences(text, longest), min_count)


@settings(max_examples=150, deadline=None)
@given(text=texts, sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any))
def test_pieces_may_end_anywhere(text: bytes, sizes: list[int]) -> None:
    check_all(feed(text, itertools.cycle(sizes)), split_sentences(text))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, limit=st.none() | st.integers(0, 5), longest=st.sampled_from([1, 3, 10000]))
def test_files_are_split_like_python(tmp_path: Path, text: bytes, limit: int | None, longest: int) -> None:
    source = LineSentence(write(tmp_path / "text", text), max_sentence_length=longest, limit=limit)
    sentences = split_sentences(text, longest, limit)
    assert list(source) == sentences
    check_all(count_corpus(source), sentences, longest=longest)


def random_text(size: int, seed: int, separators: list[bytes], words: int = 5000) -> bytes:
    generator = np.random.default_rng(seed)
    names = [
        bytes(generator.integers(97, 123, generator.integers(1, 24), dtype=np.uint8)) + b"\xc3\xa9" * (n % 7 == 0)
        for n in range(words)
    ]
    count = size // 14
    chosen = np.minimum(generator.zipf(1.3, count), words) - 1
    gaps = generator.integers(0, len(separators), count)
    return b"".join(itertools.chain.from_iterable((names[w], separators[g]) for w, g in zip(chosen, gaps, strict=True)))


LINES = [b" "] * 12 + [b"\n", b" \n", b"\r\n", b"\n\n", b"\t", b"\xe2\x80\x83", b"\xc2\xa0", b"\xe3\x80\x80"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.usefixtures("threads")
def test_results_do_not_depend_on_threads(tmp_path: Path, count: int) -> None:
    text = random_text(5 * PIECE, 1, LINES)
    path = write(tmp_path / "text", text)
    _core.set_num_threads(count)
    sentences = split_sentences(text, 50)
    check_all(count_corpus(LineSentence(path, max_sentence_length=50)), sentences, 3, longest=50)
    check_all(feed(text, itertools.cycle([100_000, 1, 777]), max_sentence_length=50), sentences, 2, longest=50)


@pytest.mark.parametrize("shift", range(-4, 3))
@pytest.mark.parametrize("separator", [b" ", b"\n", b"\xc2\xa0", b"\xe3\x80\x80", b"\xe3\x80\x81", b"x"])
def test_words_at_the_border_of_two_pieces(tmp_path: Path, shift: int, separator: bytes) -> None:
    text = b"one " * (PIECE // 4 - 4) + b"." * (16 + shift) + separator + b"two three\nfour " + b"five " * PIECE
    sentences = split_sentences(text)
    check_all(count_corpus(LineSentence(write(tmp_path / "text", text))), sentences)
    check_all(feed(text, itertools.repeat(len(text))), sentences)
