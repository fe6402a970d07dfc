"""Where text comes in: a corpus as Word2Vec's users give it, looked at once, counted and encoded."""

from __future__ import annotations

import itertools
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any

import numpy as np

from convec import _core
from convec.models._callers import stack_level
from convec.models._corpus import MAX_WORDS_IN_BATCH, TextSource, count_corpus, encode_corpus, text_source
from convec.models._word2vec_training import Piece
from convec.models.sentences import LineSentence

if TYPE_CHECKING:
    from convec.models._word2vec_report import ScanReport

__all__ = ["Corpus", "FileCorpus", "ListCorpus", "StreamCorpus", "WholeCorpus", "open_corpus"]

# Sentences that are taken from an iterator at a time.
_BATCH = 1000
# Modules of the iterators that are used up by one pass.
_ONE_PASS_MODULES = frozenset({"builtins", "itertools", "_io", "_csv"})


class Corpus(ABC):
    """Sentences that can be counted and encoded.

    Attributes:
        examples: sentences, known once it has been counted or encoded.
        separators: the -1s among its encoded words, known at the same time.
        keep_ids: counting keeps the words' places, so that encoding need not read again.
    """

    def __init__(self) -> None:
        self.examples = 0
        self.separators = 0
        self.keep_ids = False

    @abstractmethod
    def count(self, options: dict[str, Any], report: ScanReport) -> _core.WordCounter:
        """Counts the words. ``options`` are those of ``_core.WordCounter``."""

    @abstractmethod
    def encode(self, vocabulary: _core.Vocabulary, report: ScanReport) -> _core.Corpus:
        """All of it as word numbers."""

    @abstractmethod
    def part(self, number: int, parts: int) -> Corpus:
        """One of several parts that have each sentence once between them; some may be empty."""

    @abstractmethod
    def pieces(self, vocabulary: _core.Vocabulary, words: int, most: int | None = None) -> Iterator[Piece]:
        """The encoded sentences, at most ``most``, in pieces of about ``words`` words."""


class _Words:
    """Makes lists of words of whatever stands for a sentence."""

    def __init__(self) -> None:
        self._warned = False

    def __call__(self, sentences: Sequence[Any]) -> Sequence[Sequence[str]]:
        """The same sentences, with those split that are plain strings, and anything iterable made a list.

        Raises TypeError for bytes and for what is no sentence.
        """
        if all(type(sentence) is list or type(sentence) is tuple for sentence in sentences):
            return sentences
        return [self._words(sentence) for sentence in sentences]

    def _words(self, sentence: Any) -> Sequence[str]:
        if isinstance(sentence, (list, tuple)):
            return sentence
        if isinstance(sentence, str):
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"a sentence is the plain str {_shorten(sentence)!r} and is split on white space; give lists of "
                    "words instead, e.g. [sentence.split() for sentence in sentences]",
                    UserWarning,
                    stacklevel=stack_level(),
                )
            return sentence.split()
        if isinstance(sentence, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"a sentence is {_shorten(bytes(sentence))!r}, but bytes are no words: decode them, e.g. "
                "sentence.decode('utf-8').split()"
            )
        if isinstance(sentence, np.ndarray) and sentence.ndim != 1:
            raise TypeError(f"a sentence is an array of shape {sentence.shape}, but must be a list of words")
        try:
            return list(sentence)
        except TypeError:
            raise TypeError(
                f"a sentence is {sentence!r} of type {type(sentence).__name__}, but must be a list of words (str)"
            ) from None


def _shorten(text: Any) -> Any:
    return text if len(text) <= 40 else text[:37] + type(text)(b"..." if isinstance(text, bytes) else "...")


class WholeCorpus(Corpus):
    """A corpus that is encoded once for all epochs."""


class ListCorpus(WholeCorpus):
    """A list or tuple of sentences: encoded as a whole, without an iterator."""

    def __init__(self, sentences: Sequence[Any]) -> None:
        super().__init__()
        self._sentences = sentences
        self._words = _Words()
        self._counter: _core.WordCounter | None = None

    def part(self, number: int, parts: int) -> ListCorpus:
        """A slice of the list."""
        size = len(self._sentences)
        return ListCorpus(self._sentences[size * number // parts : size * (number + 1) // parts])

    def count(self, options: dict[str, Any], report: ScanReport) -> _core.WordCounter:
        """Counts the words."""
        sentences = self._words(self._sentences)
        counter = count_corpus(sentences, keep_ids=self.keep_ids, **options)
        self.examples = len(sentences)
        self.separators = _separators(sentences)
        report.update(1.0, counter.raw_words, self.examples)
        self._counter = counter if counter.has_corpus else None
        return counter

    def encode(self, vocabulary: _core.Vocabulary, report: ScanReport) -> _core.Corpus:
        """All of it as word numbers."""
        counter, self._counter = self._counter, None
        if counter is not None:
            return counter.corpus(vocabulary)
        sentences = self._words(self._sentences)
        corpus = encode_corpus(sentences, vocabulary)
        self.examples = len(sentences)
        report.update(1.0, corpus.raw_words, self.examples)
        return corpus

    def pieces(self, vocabulary: _core.Vocabulary, words: int, most: int | None = None) -> Iterator[Piece]:
        """The encoded sentences in pieces."""
        return _encode_stream(self._sentences, self._words, vocabulary, words, most)


class FileCorpus(WholeCorpus):
    """Text files: read, counted and encoded by all threads, without Python.

    Args:
        source: the files, and how they are read.
        reader: iterates over their sentences, for :meth:`pieces`.
    """

    def __init__(self, source: TextSource, reader: Iterable[Sequence[str]]) -> None:
        super().__init__()
        self.keep_ids = True
        self._source = source
        self._reader = reader
        self._counter: _core.WordCounter | None = None
        self._counted: tuple[Any, ...] | None = None

    def part(self, number: int, parts: int) -> FileCorpus:
        """A range of the files' bytes, cut at line ends."""
        return FileCorpus(replace(self._source, part=(number, parts)), self._reader)

    def _look(self) -> tuple[Any, ...]:
        """What changes when one of the files does."""
        states = [Path(path).stat() for path in self._source.paths]
        return self._source, [(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for s in states]

    def same_text(self, other: FileCorpus) -> bool:
        """Whether ``other`` reads the same files in the same way, unchanged since this one counted them."""
        return self._counted == other._look()

    def count(self, options: dict[str, Any], report: ScanReport) -> _core.WordCounter:
        """Counts the words."""
        self._counted = self._look()
        counter = count_corpus(self._source, keep_ids=self.keep_ids, progress=_progress(report), **options)
        self.examples = self.separators = counter.sentences
        self._counter = counter if counter.has_corpus else None
        return counter

    def encode(self, vocabulary: _core.Vocabulary, report: ScanReport) -> _core.Corpus:
        """All of it as word numbers."""
        counter, self._counter = self._counter, None
        if counter is not None:
            return counter.corpus(vocabulary)
        corpus = encode_corpus(self._source, vocabulary, progress=_progress(report))
        self.examples = self.separators = corpus.sentences
        return corpus

    def pieces(self, vocabulary: _core.Vocabulary, words: int, most: int | None = None) -> Iterator[Piece]:
        """The encoded sentences in pieces."""
        return _encode_stream(self._reader, _Words(), vocabulary, words, most)


def _progress(report: ScanReport) -> Callable[[int, int, int, int], None]:
    def update(read: int, known: int, raw_words: int, sentences: int) -> None:
        report.update(read / max(known, 1), raw_words, sentences)

    return update


class StreamCorpus(Corpus):
    """Any other iterable of sentences: iterated anew for every use."""

    def __init__(self, sentences: Iterable[Any]) -> None:
        super().__init__()
        self._sentences = sentences
        self._words = _Words()

    def part(self, number: int, parts: int) -> StreamCorpus:
        """Each ``parts``-th sentence: all are iterated over."""
        return StreamCorpus(_EveryNth(self._sentences, number, parts))

    def encode(self, vocabulary: _core.Vocabulary, report: ScanReport) -> _core.Corpus:
        """All of it as word numbers, iterated over once."""
        encoder = _core.CorpusEncoder(vocabulary)
        self.examples = self.separators = 0
        for batch in _batches(self._sentences):
            sentences = self._words(batch)
            encoder.add_sentences(sentences)
            self.examples += len(sentences)
            self.separators += _separators(sentences)
        return encoder.finish()

    def count(self, options: dict[str, Any], report: ScanReport) -> _core.WordCounter:
        """Counts the words."""
        counter = count_corpus([], keep_ids=False, **options)
        self.examples = self.separators = 0
        for batch in _batches(self._sentences):
            sentences = self._words(batch)
            counter.count_sentences(sentences)
            self.examples += len(sentences)
            self.separators += _separators(sentences)
            report.update(0.0, counter.raw_words, self.examples, counter)
        return counter

    def pieces(self, vocabulary: _core.Vocabulary, words: int, most: int | None = None) -> Iterator[Piece]:
        """The encoded sentences in pieces."""
        return _encode_stream(self._sentences, self._words, vocabulary, words, most)


class _EveryNth:
    def __init__(self, sentences: Iterable[Any], first: int, step: int) -> None:
        self._sentences = sentences
        self._first = first
        self._step = step

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._sentences, self._first, None, self._step)


def _separators(sentences: Sequence[Sequence[str]]) -> int:
    """How many pieces the sentences are cut into."""
    longest = max(map(len, sentences), default=0)
    if longest <= MAX_WORDS_IN_BATCH:
        return len(sentences)
    return sum(max(-(-len(sentence) // MAX_WORDS_IN_BATCH), 1) for sentence in sentences)


def _batches(sentences: Iterable[Any]) -> Iterator[list[Any]]:
    # One iter() for a pass: there are corpora that are their own iterator and start anew with each.
    batch = []
    for sentence in sentences:
        batch.append(sentence)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _encode_stream(
    sentences: Iterable[Any], split: _Words, vocabulary: _core.Vocabulary, words: int, most: int | None
) -> Iterator[Piece]:
    parts: list[Any] = []
    raw_words = examples = 0
    if most is not None:
        sentences = itertools.islice(sentences, most)
    for batch in _batches(sentences):
        lists = split(batch)
        parts.append(_core.encode_sentences(vocabulary, lists))
        raw_words += sum(map(len, lists))
        examples += len(lists)
        if raw_words >= words:
            yield Piece(np.concatenate(parts), raw_words, examples)
            parts, raw_words, examples = [], 0, 0
    if parts:
        yield Piece(np.concatenate(parts), raw_words, examples)


def open_corpus(sentences: Any, corpus_file: Any, *, passes: int, what: str) -> Corpus:
    """The corpus that is given in one of two ways, checked as gensim checks it.

    Args:
        sentences: iterable of sentences, or None.
        corpus_file: path of a text, or None.
        passes: how often it will be iterated over.
        what: name of the argument ``sentences``, for messages.

    Raises:
        TypeError: neither or both are given, the path is none of a file, or ``sentences`` is no corpus, or one that can
            be iterated over fewer than ``passes`` times.
    """
    if sentences is None and corpus_file is None:
        raise TypeError(f"either {what} or corpus_file must be given")
    if sentences is not None and corpus_file is not None:
        raise TypeError(f"{what} and corpus_file are both given, but there can be only one corpus")
    if corpus_file is not None:
        if not isinstance(corpus_file, (str, os.PathLike)) or not Path(corpus_file).is_file():
            raise TypeError(f"corpus_file is {corpus_file!r}, but must be the path of a file that exists")
        sentences = LineSentence(os.fspath(corpus_file))
    if isinstance(sentences, Corpus):
        return sentences
    if isinstance(sentences, os.PathLike):
        sentences = os.fspath(sentences)
    if isinstance(sentences, (str, bytes, bytearray)):
        raise TypeError(
            f"{what} is {_shorten(sentences)!r}, but must be a list of sentences, each a list of words; the "
            "path of a text is given as corpus_file="
        )
    if isinstance(sentences, np.ndarray):
        raise TypeError(
            f"{what} is an array of shape {sentences.shape} and dtype {sentences.dtype}, but must be a list of "
            "sentences, each a list of words (str)"
        )
    if not isinstance(sentences, Iterable):
        raise TypeError(f"{what} is {sentences!r}, but must be an iterable of lists of words")
    if passes > 1 and _one_pass(sentences):
        raise TypeError(
            f"{what} is a {type(sentences).__name__}, which can be iterated over only once, but {passes} passes are "
            "needed: give a list, or an object whose __iter__ starts anew"
        )
    source = text_source(sentences)
    if source is not None:
        return FileCorpus(source, sentences)
    # A subclass may iterate in a way of its own.
    if isinstance(sentences, (list, tuple)) and type(sentences) in (list, tuple):
        return ListCorpus(sentences)
    return StreamCorpus(sentences)


def _one_pass(sentences: Iterable[Any]) -> bool:
    if isinstance(sentences, GeneratorType):
        return True
    return type(sentences).__module__ in _ONE_PASS_MODULES and iter(sentences) is sentences
