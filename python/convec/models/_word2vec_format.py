"""The file formats of the original word2vec tool, for :class:`convec.models.KeyedVectors`."""

from __future__ import annotations

import bz2
import gzip
import lzma
import mmap
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convec import _core, _files

# Bytes that are parsed at a time: many tasks for the threads, few enough that Ctrl-C is heard at once.
_BLOCK = 1 << 25
# The same for what comes piece by piece; Python takes the memory for a piece before it knows how much there is.
_PIECE = 1 << 22
_COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

PathLike = str | os.PathLike[str]


class Word2VecContent(NamedTuple):
    """What a file holds."""

    words: list[str]
    vectors: NDArray[Any]
    promised: int
    """Vectors the header promises, duplicates included."""


def open_binary(path: PathLike) -> IO[bytes]:
    """Opens a file for reading, a compressed one (.gz, .bz2, .xz) as if it were not."""
    if Path(path).suffix == ".xz":
        return _files.open_lzma(path)
    opener = _COMPRESSED.get(Path(path).suffix)
    return cast("IO[bytes]", open(path, "rb") if opener is None else opener(path, "rb"))  # noqa: PTH123


def read_word2vec(
    source: PathLike | BinaryIO,
    *,
    binary: bool,
    no_header: bool = False,
    limit: int | None = None,
    encoding: str = "utf8",
    unicode_errors: str = "strict",
    datatype: DTypeLike = np.float32,
) -> Word2VecContent:
    """Reads a file in a word2vec format.

    Args:
        source: path, also of a .gz, .bz2 or .xz file, or a binary file object.
        binary: the vectors are bytes instead of text.
        no_header: the file does not start with its number of vectors and their size.
        limit: vectors to read.
        encoding: of the words.
        unicode_errors: what to do with bytes that are not of that encoding.
        datatype: of the vectors returned.

    Raises:
        ValueError: the file is malformed.
        EOFError: the file ends early.
        OSError: the file cannot be read, or its compression is damaged.
        NotImplementedError: ``no_header`` with ``binary``, as in gensim.
    """
    if binary and no_header:
        raise NotImplementedError("no_header only available for text-format files")
    if limit is not None and limit < 0:
        raise ValueError(f"limit is {limit}, but must be at least 1, or None for all vectors")
    dtype = np.dtype(datatype)
    if dtype.kind != "f":
        raise ValueError(f"datatype is {datatype!r}, but must be a floating-point type, such as numpy.float32")
    # Text is rounded once: to float32, or through float64 to anything else.
    float64 = not binary and dtype != np.float32
    reader = _core.Word2VecReader(
        binary=binary, no_header=no_header, limit=limit or -1, float64=float64, size=_plain_size(source)
    )
    for _ in _blocks(source, reader):
        pass
    words = reader.words(encoding, unicode_errors)
    return Word2VecContent(words, reader.take_vectors(float64).astype(dtype, copy=False), reader.promised)


def iterate_word2vec(
    source: PathLike | BinaryIO, *, binary: bool, encoding: str = "utf8", unicode_errors: str = "strict"
) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Words and vectors of a file in a word2vec format, piece by piece, so that it may be larger than the memory.

    The arguments and errors are those of :func:`read_word2vec`.
    """
    reader = _core.Word2VecReader(
        binary=binary, no_header=False, limit=-1, float64=False, size=_plain_size(source), pieces=True
    )
    for _ in _blocks(source, reader):
        if reader.dim:
            yield reader.words(encoding, unicode_errors), reader.take_vectors(False)


def _plain_size(source: PathLike | BinaryIO) -> int:
    """Bytes of a file that can be mapped into memory, or -1."""
    if not isinstance(source, (str, os.PathLike)):
        return -1
    path = Path(source)
    return path.stat().st_size if path.suffix not in _COMPRESSED and path.is_file() else -1


def _blocks(source: PathLike | BinaryIO, reader: _core.Word2VecReader) -> Iterator[None]:
    """Lets a reader read, block after block, and stops after each."""
    try:
        if _plain_size(source) > 0:
            with (
                open(cast("PathLike", source), "rb") as file,  # noqa: PTH123
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            ):
                yield from _feed_mapped(mapped, reader)
        elif isinstance(source, (str, os.PathLike)):
            with open_binary(source) as stream:
                yield from _feed_stream(stream, reader)
        else:
            yield from _feed_stream(source, reader)
    except UnicodeError:
        raise
    except (ValueError, EOFError) as error:
        raise type(error)(f"{_name_of(source)}: {error}") from None
    except (zlib.error, lzma.LZMAError) as error:
        raise OSError(f"{_name_of(source)}: the compressed data is damaged: {error}") from None


def _name_of(source: Any) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else str(getattr(source, "name", source))


def _feed_mapped(mapped: mmap.mmap, reader: _core.Word2VecReader) -> Iterator[None]:
    begin, step, size = 0, _BLOCK, len(mapped)
    while not reader.done:
        end = min(begin + step, size)
        used = reader.read(mapped, begin, end, end == size)
        # Nothing whole in the block: a larger one.
        step = _BLOCK if used else 2 * step
        begin += used
        yield


def _feed_stream(stream: Any, reader: _core.Word2VecReader) -> Iterator[None]:
    rest = b""
    step = _PIECE
    while not reader.done:
        fresh = stream.read(step)
        block = rest + fresh
        used = reader.read(block, 0, len(block), not fresh)
        step = _PIECE if used else max(_PIECE, len(block))
        rest = block[used:]
        yield


def write_word2vec(
    target: PathLike,
    vectors: NDArray[np.float32],
    words: list[str],
    order: NDArray[np.int64],
    *,
    binary: bool,
    header: bool,
    total: int,
    prefix: str,
    append: bool,
) -> None:
    """Writes rows of ``vectors``, in an order, to a file in a word2vec format (.gz, .bz2 and .xz are compressed).

    The file is complete or left as it was.

    Raises:
        ValueError: a word or the prefix holds a space or a line break.
        OSError: the file cannot be written.
    """
    with replacing(target, append=append) as file:
        _core.write_word2vec(
            vectors, words, order, file.write, binary=binary, header=header, total=total, prefix=prefix
        )


@contextmanager
def replacing(target: PathLike, *, append: bool = False) -> Iterator[IO[bytes]]:
    """A file object whose content becomes the file ``target``, compressed as its name says, when all went well.

    With ``append`` it is added to the end of the file, which is cut back to what it was when something fails. What is
    no file, such as a pipe, is written to.
    """
    path = Path(os.path.realpath(target))
    if append and path.exists():
        before = path.stat().st_size
        try:
            with path.open("ab") as whole:
                with _compressing(whole, path) as file:
                    yield file
                whole.flush()
                os.fsync(whole.fileno())
        except BaseException:
            os.truncate(path, before)
            raise
    elif path.exists() and not path.is_file():  # a pipe or a device
        with path.open("wb") as pipe, _compressing(pipe, path) as file:
            yield file
    else:
        with _files.replacing(path) as raw, _compressing(raw, path) as file:
            yield file


@contextmanager
def _compressing(raw: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """A file object that writes to ``raw``, compressed as the name ``path`` says."""
    opener = _COMPRESSED.get(path.suffix)
    if opener is None:
        yield raw
        return
    with opener(raw, "wb") as file:
        yield file
