"""Corpora on disk as iterables of token lists, as in ``gensim.models.word2vec``.

All can be iterated over in Python. Given to a model as they are, files are read by C++ with all threads instead, which
gives the same sentences. Text is UTF-8; bytes that are not become lone surrogates (``surrogateescape``), where gensim
would stop with a UnicodeDecodeError. Words are separated by white space as ``str.split()`` has it.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from convec.models._corpus import MAX_WORDS_IN_BATCH, StrPath, TextSource, decode_line, open_text

__all__ = ["BrownCorpus", "LineSentence", "PathLineSentences", "Text8Corpus"]

logger = logging.getLogger(__name__)


def _check_length(max_sentence_length: int) -> None:
    if max_sentence_length < 1:
        raise ValueError(f"max_sentence_length is {max_sentence_length}, but must be at least 1")


def _split_lines(lines: Iterable[str | bytes], limit: int | None, max_sentence_length: int) -> Iterator[list[str]]:
    """The words of each of the first ``limit`` lines, cut."""
    for line in itertools.islice(lines, limit):
        words = decode_line(line).split()
        for begin in range(0, len(words), max_sentence_length):
            yield words[begin : begin + max_sentence_length]


class LineSentence:
    """Sentences of a text file: one a line, words separated by white space.

    Args:
        source: a path (``.gz``, ``.bz2``, ``.xz`` and ``.zst`` files are decompressed), or an open file that can
            ``seek(0)``, which is read by Python.
        max_sentence_length: longer sentences are cut.
        limit: only so many lines of the file.

    Raises:
        ValueError: ``max_sentence_length`` is below 1.
    """

    def __init__(
        self,
        source: StrPath | IO[str] | IO[bytes],
        max_sentence_length: int = MAX_WORDS_IN_BATCH,
        limit: int | None = None,
    ) -> None:
        _check_length(max_sentence_length)
        self.source = source
        self.max_sentence_length = max_sentence_length
        self.limit = limit

    def __iter__(self) -> Iterator[list[str]]:
        """The sentences, from the first.

        Raises:
            OSError: the file cannot be read.
        """
        source: Any = self.source
        if hasattr(source, "seek"):
            source.seek(0)
            yield from _split_lines(source, self.limit, self.max_sentence_length)
        else:
            with open_text(source) as file:
                yield from _split_lines(file, self.limit, self.max_sentence_length)

    def _text_source(self) -> TextSource | None:
        if type(self).__iter__ is not LineSentence.__iter__ or not isinstance(self.source, (str, os.PathLike)):
            return None
        return TextSource((os.fspath(self.source),), self.max_sentence_length, self.limit)


class PathLineSentences:
    """As :class:`LineSentence`, for all files of a folder in the order of their names.

    The folder must hold text files only, compressed or not; subfolders are not looked into.

    Args:
        source: path of a folder, or of one file.
        max_sentence_length: longer sentences are cut.
        limit: only so many lines of each file.

    Raises:
        ValueError: there is no such file or folder, or ``max_sentence_length`` is below 1.
    """

    def __init__(
        self, source: StrPath, max_sentence_length: int = MAX_WORDS_IN_BATCH, limit: int | None = None
    ) -> None:
        _check_length(max_sentence_length)
        self.source = os.fspath(source)
        self.max_sentence_length = max_sentence_length
        self.limit = limit
        path = Path(self.source)
        if path.is_file():
            self.input_files = [self.source]
        elif path.is_dir():
            self.source = os.path.join(self.source, "")  # noqa: PTH118  # gensim's spelling, with a slash at the end
            self.input_files = sorted(self.source + entry.name for entry in path.iterdir())
        else:
            raise ValueError(f"source is {self.source!r}, which is neither a file nor a folder")
        logger.info("files read into PathLineSentences:%s", "\n".join(self.input_files))

    def __iter__(self) -> Iterator[list[str]]:
        """The sentences, from the first of the first file.

        Raises:
            OSError: a file cannot be read.
        """
        for path in self.input_files:
            logger.info("reading file %s", path)
            with open_text(path) as file:
                yield from _split_lines(file, self.limit, self.max_sentence_length)

    def _text_source(self) -> TextSource | None:
        if type(self).__iter__ is not PathLineSentences.__iter__:
            return None
        return TextSource(tuple(self.input_files), self.max_sentence_length, self.limit)


class Text8Corpus:
    """Sentences of a text without sentence marks, such as "text8": all words in a row, cut.

    gensim lets the last sentence grow beyond the limit where the file ends in several words with no blank between
    them; here it is cut like the others.

    Args:
        fname: a path, as for :class:`LineSentence`.
        max_sentence_length: words of a sentence; the last one may have fewer.

    Raises:
        ValueError: ``max_sentence_length`` is below 1.
    """

    def __init__(self, fname: StrPath, max_sentence_length: int = MAX_WORDS_IN_BATCH) -> None:
        _check_length(max_sentence_length)
        self.fname = fname
        self.max_sentence_length = max_sentence_length

    def __iter__(self) -> Iterator[list[str]]:
        """The sentences, from the first.

        Raises:
            OSError: the file cannot be read.
        """
        sentence: list[str] = []
        rest = b""
        with open_text(self.fname) as file:
            while text := file.read(1 << 16):
                # The last word may go on in the next piece.
                end = max(text.rfind(b" "), text.rfind(b"\n"))
                if end < 0:
                    rest += text
                    continue
                sentence += decode_line(rest + text[:end]).split()
                rest = text[end:]
                while len(sentence) >= self.max_sentence_length:
                    yield sentence[: self.max_sentence_length]
                    sentence = sentence[self.max_sentence_length :]
        sentence += decode_line(rest).split()
        for begin in range(0, len(sentence), self.max_sentence_length):
            yield sentence[begin : begin + self.max_sentence_length]

    def _text_source(self) -> TextSource | None:
        if type(self).__iter__ is not Text8Corpus.__iter__:
            return None
        return TextSource((os.fspath(self.fname),), self.max_sentence_length, lines=False)


class BrownCorpus:
    """Sentences of the Brown corpus (Francis & Kucera, 1979; part of NLTK's data): words as ``lower case/TAG``.

    Args:
        dirname: the folder with its files, whose tokens are ``word/tag``. Tags are cut to two letters; tokens whose
            tag does not begin with two letters (punctuation) are left out.
    """

    def __init__(self, dirname: StrPath) -> None:
        self.dirname = dirname

    def __iter__(self) -> Iterator[list[str]]:
        """The sentences, file by file.

        Raises:
            OSError: the folder or a file in it cannot be read.
        """
        for path in Path(self.dirname).iterdir():
            if not path.is_file():
                continue
            with open_text(path) as file:
                for line in file:
                    pairs = [token.split("/") for token in decode_line(line).split() if token.count("/") == 1]
                    words = [f"{word.lower()}/{tag[:2]}" for word, tag in pairs if tag[:2].isalpha()]
                    if words:
                        yield words
