"""From corpora to words and ids: text files, compressed or not, and iterables of token lists."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import operator
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

import numpy as np

from convec import _core
from convec._files import open_lzma

__all__ = [
    "COMPRESSED_EXTENSIONS",
    "MAX_WORDS_IN_BATCH",
    "RULE_DEFAULT",
    "RULE_DISCARD",
    "RULE_KEEP",
    "Progress",
    "TextSource",
    "TrimRule",
    "count_corpus",
    "decode_line",
    "encode_corpus",
    "keep_vocab_item",
    "open_text",
    "select_vocabulary",
    "text_source",
]

# gensim's limit: longer sentences are cut.
MAX_WORDS_IN_BATCH = 10000

# What a trim rule returns (gensim.utils).
RULE_DEFAULT = 0
RULE_DISCARD = 1
RULE_KEEP = 2

StrPath: TypeAlias = "str | os.PathLike[str]"
# rule(word, count, min_count) -> RULE_DEFAULT, RULE_DISCARD or RULE_KEEP
TrimRule: TypeAlias = Callable[[str, int, int], int]
# progress(bytes read, bytes known of, raw words, sentences)
Progress: TypeAlias = Callable[[int, int, int, int], object]

_FEED_BYTES = 1 << 22


def _open_gzip(path: str) -> IO[bytes]:
    import gzip

    return cast("IO[bytes]", gzip.open(path, "rb"))


def _open_bz2(path: str) -> IO[bytes]:
    import bz2

    return bz2.open(path, "rb")


def _open_zstd(path: str) -> IO[bytes]:
    import importlib

    try:
        return io.BufferedReader(importlib.import_module("compression.zstd").open(path, "rb"))  # of Python 3.14
    except ModuleNotFoundError:
        pass
    with contextlib.suppress(ModuleNotFoundError):
        return io.BufferedReader(_ZstdReader(path, importlib.import_module("zstandard").ZstdDecompressor()))
    raise ImportError(f"{path}: .zst files need Python 3.14 or the package zstandard: pip install 'convec[zstd]'")


class _ZstdReader(io.RawIOBase):
    """The content of a .zst file by the package zstandard, whose own reader takes a truncated file for a whole one.

    Args:
        path: the file; several frames in it follow each other.
        decompressor: a ``ZstdDecompressor``.
    """

    # What is unpacked of so much takes 64 MB at most: a block of four bytes can stand for 128 KB.
    _BLOCK = 1 << 11

    def __init__(self, path: str, decompressor: Any) -> None:
        self._path = path
        self._file = open(path, "rb")  # noqa: PTH123, SIM115 - closed by close()
        self._decompressor = decompressor
        self._frame: Any = None
        self._rest = b""  # read, but of the next frame
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        """Fills ``buffer``. Raises EOFError where the file is cut off, OSError where it is damaged."""
        while not self._ready:
            data = self._rest or self._file.read(self._BLOCK)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError(f"{self._path} ends within its compressed data; it is truncated")
                return 0
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            try:
                self._ready = memoryview(self._frame.decompress(data))
            except Exception as error:  # the package's own
                raise OSError(f"{self._path}: the compressed data is damaged: {error}") from None
            if self._frame.eof:
                self._rest = self._frame.unused_data
                self._frame = None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


_OPENERS: dict[str, Callable[[str], IO[bytes]]] = {
    ".gz": _open_gzip,
    ".bz2": _open_bz2,
    ".xz": open_lzma,
    ".lzma": open_lzma,
    ".zst": _open_zstd,
}
COMPRESSED_EXTENSIONS = tuple(_OPENERS)


def _check_readable(path: str) -> None:
    """Raises the operating system's own OSError (FileNotFoundError, PermissionError, ...) for what cannot be read."""
    error = 0
    if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116  # a path may be bytes that are not UTF-8
        error = errno.EISDIR
    elif not os.access(path, os.R_OK):
        error = errno.EACCES
    if error:
        raise OSError(error, os.strerror(error), path)


def open_text(path: StrPath) -> IO[bytes]:
    """Opens a text file for reading bytes; ``.gz``, ``.bz2``, ``.xz``, ``.lzma`` and ``.zst`` are decompressed.

    Raises:
        OSError: the file cannot be read.
        ImportError: a ``.zst`` file, Python before 3.14 and no package ``zstandard``.
    """
    name = os.fspath(path)
    _check_readable(name)
    opener = _OPENERS.get(Path(name).suffix.lower())
    return Path(name).open("rb") if opener is None else opener(name)


def decode_line(line: str | bytes) -> str:
    """A line of text as ``str``; bytes that are not UTF-8 become lone surrogates (``surrogateescape``)."""
    return line if isinstance(line, str) else line.decode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class TextSource:
    """Text files that C++ can read itself.

    Attributes:
        paths: the files, read one after the other; see :func:`open_text` for the compressed ones.
        max_sentence_length: longer sentences are cut.
        limit: only so many lines of each file.
        lines: one sentence a line; False: line ends are white space, and each file is one sentence, cut.
        part: (number, of how many): reads only that part of the text. The parts of plain files together are equal in
            bytes and cut at line ends (at white space without ``lines``); of a compressed file, each takes its turn at
            the blocks.
    """

    paths: tuple[str, ...]
    max_sentence_length: int = MAX_WORDS_IN_BATCH
    limit: int | None = None
    lines: bool = True
    part: tuple[int, int] = (0, 1)


def text_source(corpus: object) -> TextSource | None:
    """The files behind a corpus, or None where it has to be iterated over.

    That is a :class:`TextSource` itself, or what a method ``_text_source()`` returns (see
    :class:`convec.models.sentences.LineSentence`).
    """
    if isinstance(corpus, TextSource):
        return corpus
    method = getattr(corpus, "_text_source", None)
    source = method() if callable(method) else None
    return source if isinstance(source, TextSource) else None


def _read_compressed(reader: _core.WordCounter | _core.CorpusEncoder, path: str, options: dict[str, Any]) -> None:
    with open_text(path) as file:
        reader.feed(b"", **options)
        while not reader.text_complete:
            try:
                text = file.read(_FEED_BYTES)
            except MemoryError:
                raise
            except Exception as error:  # each decompressor has errors of its own for a file that is damaged
                raise OSError(f"{path}: cannot decompress the text file: {error}") from error
            if not text:
                break
            reader.feed(text, **options)
        reader.end_text()


def _cut(file: IO[bytes], at: int, ends: bytes) -> int:
    """The first position from ``at`` on that follows one of ``ends``, or the end of the file."""
    if at <= 0:
        return 0
    file.seek(at - 1)
    while text := file.read(_FEED_BYTES):
        found = [place for place in (text.find(end) for end in ends) if place >= 0]
        if found:
            return file.tell() - len(text) + min(found) + 1
    return file.tell()


def _bytes_of_lines(path: str, lines: int | None) -> int:
    """Bytes of the first lines of a file, or of all."""
    size = Path(path).stat().st_size
    if lines is None:
        return size
    with Path(path).open("rb") as file:
        return min(sum(map(len, itertools.islice(file, lines))), size)


def _blocks(file: IO[bytes], ends: bytes, limit: int | None) -> Iterator[bytes]:
    """The first ``limit`` lines in blocks of about _FEED_BYTES, which end with one of ``ends``."""
    rest = b""
    while text := file.read(_FEED_BYTES):
        text = rest + text
        if limit is not None:
            lines = text.count(b"\n")
            if lines >= limit:
                yield b"".join(line + b"\n" for line in text.split(b"\n", limit)[:limit])
                return
        last = max(text.rfind(end) for end in ends) + 1
        rest = text[last:]
        if last:
            if limit is not None:
                limit -= text.count(b"\n", 0, last)
            yield text[:last]
    if rest:
        yield rest


def _read_part(
    reader: _core.WordCounter | _core.CorpusEncoder, source: TextSource, limit: int, options: dict[str, Any]
) -> None:
    """Reads a part of the files: see :class:`TextSource`."""
    number, parts = source.part
    ends = b"\n" if source.lines else b" \n"
    compressed = [Path(path).suffix.lower() in _OPENERS for path in source.paths]
    lines = None if limit < 0 else limit
    sizes = [
        0 if packed else _bytes_of_lines(path, lines) for path, packed in zip(source.paths, compressed, strict=True)
    ]
    options = {**options, "max_lines": -1}
    begin, end = sum(sizes) * number // parts, sum(sizes) * (number + 1) // parts
    before = 0
    for index, (path, packed, size) in enumerate(zip(source.paths, compressed, sizes, strict=True)):
        with open_text(path) as file:
            if packed:
                reader.feed(b"", **options)
                for block, text in enumerate(_unpacked(path, _blocks(file, ends, lines))):
                    if (index + block) % parts == number:
                        reader.feed(text, **options)
                reader.end_text()
            elif begin < before + size and end > before:
                first = _cut(file, max(begin - before, 0), ends)
                last = size if end - before >= size else _cut(file, end - before, ends)
                reader.feed(b"", **options)
                file.seek(first)
                while first < last:
                    text = file.read(min(_FEED_BYTES, last - first))
                    if not text:
                        raise OSError(f"{path}: the text file was cut short while it was read")
                    reader.feed(text, **options)
                    first += len(text)
                reader.end_text()
        before += size


def _unpacked(path: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from blocks
    except MemoryError:
        raise
    except Exception as error:  # each decompressor has errors of its own for a file that is damaged
        raise OSError(f"{path}: cannot decompress the text file: {error}") from error


def _read_files(
    reader: _core.WordCounter | _core.CorpusEncoder, source: TextSource, progress: Progress | None, interval: float
) -> None:
    limit = -1 if source.limit is None else operator.index(source.limit)
    if source.limit is not None and limit < 0:
        raise ValueError(f"limit is {source.limit}, but must be None or at least 0")
    options: dict[str, Any] = {
        "max_sentence_length": source.max_sentence_length,
        "max_lines": limit,
        "lines": source.lines,
        "progress": progress,
        "progress_interval": interval,
    }
    if source.part != (0, 1):
        for path in source.paths:
            _check_readable(path)
        _read_part(reader, source, limit, options)
        return
    for path in source.paths:
        _check_readable(path)
        if Path(path).suffix.lower() in _OPENERS:
            _read_compressed(reader, path, options)
        elif isinstance(reader, _core.WordCounter):
            reader.count_file(path, **options)
        else:
            reader.add_file(path, **options)


def count_corpus(
    corpus: object,
    *,
    max_vocab_size: int | None = None,
    trim_rule: TrimRule | None = None,
    keep_ids: bool = True,
    memory_limit: int = -1,
    progress: Progress | None = None,
    progress_interval: float = 0.1,
) -> _core.WordCounter:
    """Counts the words of a corpus with all threads.

    Args:
        corpus: what :func:`text_source` knows, or an iterable of lists of ``str``.
        max_vocab_size: prune rare words whenever there are more words than this, as gensim; None or 0: never.
        trim_rule: decides about pruning, as gensim's ``trim_rule``; called with ``min_reduce`` for its ``min_count``.
        keep_ids: keep what is needed for ``WordCounter.corpus()``, 4 bytes a word.
        memory_limit: bytes that may take; below 0: half of the free memory.
        progress: called with bytes read, bytes known of, raw words and sentences, now and then (files only).
        progress_interval: seconds between calls.

    Returns:
        The counter; its ``has_corpus`` tells whether ids were kept.

    Raises:
        OSError: a file cannot be read, or is damaged.
        TypeError: the corpus or a sentence of it is of the wrong type; words must be ``str``.
        ValueError: an option is out of range, or a word longer than 64 MiB.
        ImportError: see :func:`open_text`.
    """
    prune_rule = None
    if trim_rule is not None:

        def prune_rule(word: str, count: int, min_reduce: int) -> bool:
            return keep_vocab_item(word, count, min_reduce, trim_rule)

    counter = _core.WordCounter(
        max_vocab_size=max_vocab_size or 0, prune_rule=prune_rule, keep_ids=keep_ids, memory_limit=memory_limit
    )
    source = text_source(corpus)
    if source is None:
        counter.count_sentences(corpus)
    else:
        _read_files(counter, source, progress, progress_interval)
    return counter


def encode_corpus(
    corpus: object,
    vocabulary: _core.Vocabulary,
    *,
    memory_limit: int = -1,
    spill_directory: str = "",
    progress: Progress | None = None,
    progress_interval: float = 0.1,
) -> _core.Corpus:
    """Encodes a corpus by a vocabulary, with all threads.

    Args:
        corpus: what :func:`text_source` knows, or an iterable of lists of ``str``.
        vocabulary: words that are not in it are left out.
        memory_limit: above so many bytes of ids they live in a temporary file; below 0: half of the free memory.
        spill_directory: folder of that file; empty: ``TMPDIR``, else ``/var/tmp``, else ``/tmp``.
        progress: see :func:`count_corpus`.
        progress_interval: seconds between calls.

    Raises:
        OSError: a file cannot be read, or the temporary file cannot be written.
        TypeError, ValueError, ImportError: see :func:`count_corpus`.
    """
    encoder = _core.CorpusEncoder(vocabulary, memory_limit=memory_limit, spill_directory=spill_directory)
    source = text_source(corpus)
    if source is None:
        encoder.add_sentences(corpus)
    else:
        _read_files(encoder, source, progress, progress_interval)
    return encoder.finish()


def keep_vocab_item(word: str, count: int, min_count: int, trim_rule: TrimRule | None = None) -> bool:
    """Whether a word stays in the vocabulary (``gensim.utils.keep_vocab_item``).

    Args:
        word: the word.
        count: how often it occurs.
        min_count: words that occur less often go, unless ``trim_rule`` decides otherwise.
        trim_rule: called with the three; returns :data:`RULE_DEFAULT`, :data:`RULE_DISCARD` or :data:`RULE_KEEP`.
    """
    rule = RULE_DEFAULT if trim_rule is None else trim_rule(word, count, min_count)
    return rule == RULE_KEEP or (rule != RULE_DISCARD and count >= min_count)


def select_vocabulary(
    counter: _core.WordCounter,
    *,
    min_count: int = 5,
    max_final_vocab: int | None = None,
    sorted_vocab: bool = True,
    trim_rule: TrimRule | None = None,
) -> _core.Vocabulary:
    """The counted words that get an id.

    Args:
        counter: what was counted.
        min_count: words that occur less often are left out.
        max_final_vocab: raise ``min_count`` until at most so many words stay; None or 0: do not.
        sorted_vocab: ids by descending count, equal counts by first appearance; False: all by first appearance.
        trim_rule: decides instead of ``min_count``; see :func:`keep_vocab_item`.

    Raises:
        ValueError: a number is out of range.
    """
    limit = max_final_vocab or 0
    if trim_rule is None:
        return counter.vocabulary(min_count, limit, sorted_vocab)
    least = counter.effective_min_count(min_count, limit)
    words: Sequence[str] = counter.words()
    counts = counter.counts()
    kept = np.fromiter(
        (keep_vocab_item(word, count, least, trim_rule) for word, count in zip(words, counts.tolist(), strict=True)),
        dtype=bool,
        count=len(words),
    ).nonzero()[0]
    if sorted_vocab:
        kept = kept[np.argsort(-counts[kept], kind="stable")]
    return _core.Vocabulary([words[index] for index in kept.tolist()], counts[kept])
