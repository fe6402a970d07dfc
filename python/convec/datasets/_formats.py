"""Readers of the two formats the MNIST family comes in: IDX files (plain or gzip) and Keras' ``.npz``.

Files may come from anywhere, so nothing is believed: sizes are checked before memory is allocated, no more is
decompressed than the header promises, and no pickle is ever loaded.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Images: TypeAlias = npt.NDArray[np.uint8]
Split: TypeAlias = tuple[Images, Images]
Data: TypeAlias = tuple[Split, Split]

# Larger than any data set of this family (EMNIST has 814,255 images); a header that asks for more is damaged.
_MOST_BYTES = 1 << 30


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


class DataFormatError(ValueError):
    """A file is not what it claims to be: truncated, damaged or of another kind."""


def read_idx(path: str | os.PathLike[str], rank: int) -> Images:
    """Read an IDX file of unsigned bytes, gzip-compressed or not (by content, not by name).

    Args:
        path: the file.
        rank: number of dimensions it must have: 1 for labels, 3 for images.

    Returns:
        A new ``uint8`` array of that rank.

    Raises:
        OSError: the file cannot be opened or read.
        DataFormatError: the file is not an IDX file of ``rank`` dimensions, is truncated or has bytes left over.
    """
    path = Path(path)
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            if zipped:
                with gzip.GzipFile(fileobj=raw) as unzipped:
                    return _read_idx(unzipped, path, rank)
            return _read_idx(raw, path, rank)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataFormatError(f"{path} is truncated or damaged ({error}); fetch it again") from error


def _read_idx(file: _Reader, path: Path, rank: int) -> Images:
    header = file.read(4 + 4 * rank)
    if len(header) < 4 + 4 * rank:
        raise DataFormatError(f"{path} is truncated: an IDX header of {4 + 4 * rank} bytes was expected")
    if header[:4] != bytes((0, 0, 8, rank)):
        raise DataFormatError(
            f"{path} starts with {header[:4].hex()}, but an IDX file of bytes with {rank} dimensions "
            f"starts with 000008{rank:02x}; it is another kind of file"
        )
    shape = struct.unpack(f">{rank}I", header[4:])
    size = math.prod(shape)
    if size > _MOST_BYTES:
        raise DataFormatError(f"{path} claims shape {shape}, which is more than {_MOST_BYTES} bytes; it is damaged")
    data = _read_exactly(file, size)
    if len(data) < size:
        raise DataFormatError(f"{path} is truncated: shape {shape} needs {size} bytes, but {len(data)} are there")
    if file.read(1):
        raise DataFormatError(f"{path} has more bytes than its shape {shape} needs; it is damaged")
    return np.asarray(np.frombuffer(data, np.uint8).reshape(shape))


def _read_exactly(file: _Reader, size: int) -> bytearray:
    """Up to ``size`` bytes, read in pieces: memory grows with what is really there, not with what is claimed."""
    data = bytearray()
    while len(data) < size:
        piece = file.read(min(size - len(data), 1 << 22))
        if not piece:
            break
        data += piece
    return data


def read_npz(path: str | os.PathLike[str]) -> Data:
    """Read Keras' layout: a ``.npz`` with ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of bytes.

    Args:
        path: the file.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``.

    Raises:
        OSError: the file cannot be opened or read.
        DataFormatError: it is no such archive, an array is missing, damaged, of another type, or lengths differ.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {
                name: _read_member(archive, name, path, rank)
                for name, rank in (("x_train", 3), ("y_train", 1), ("x_test", 3), ("y_test", 1))
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataFormatError(f"{path} is truncated, damaged or not a .npz file ({error}); fetch it again") from error
    return check_data(((arrays["x_train"], arrays["y_train"]), (arrays["x_test"], arrays["y_test"])), path)


def _read_member(archive: zipfile.ZipFile, name: str, path: Path, rank: int) -> Images:
    try:
        member = archive.open(f"{name}.npy")
    except KeyError as error:
        held = ", ".join(sorted(archive.namelist())[:8])
        raise DataFormatError(f"{path} has no array '{name}' (it holds: {held}); Keras' layout is needed") from error
    with member:
        try:
            version = np.lib.format.read_magic(member)
            read_header: Any = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise DataFormatError(f"{name} in {path} has .npy version {version}, but 1.0 or 2.0 is needed")
            shape, fortran_order, dtype = read_header(member)
        except DataFormatError:
            raise
        except Exception as error:  # NumPy's parser raises many kinds, tokenize.TokenError among them
            raise DataFormatError(f"{name} in {path} has a damaged header ({error})") from error
        if dtype != np.uint8 or fortran_order or len(shape) != rank:
            raise DataFormatError(
                f"{name} in {path} is {dtype} of shape {shape}, but must be uint8 with {rank} dimensions"
            )
        size = math.prod(shape)
        if any(extent < 0 for extent in shape) or size > _MOST_BYTES:
            raise DataFormatError(
                f"{name} in {path} claims shape {shape}, more than {_MOST_BYTES} bytes; it is damaged"
            )
        data = _read_exactly(member, size)
        if len(data) != size:
            raise DataFormatError(f"{name} in {path} is truncated: {len(data)} of {size} bytes")
    return np.asarray(np.frombuffer(data, np.uint8).reshape(shape))


def check_data(data: Data, source: object) -> Data:
    """Return ``data`` where images and labels fit each other.

    Raises:
        DataFormatError: lengths differ or the test images have another size than the training images.
    """
    (x_train, y_train), (x_test, y_test) = data
    for images, labels, name in ((x_train, y_train, "train"), (x_test, y_test, "test")):
        if len(images) != len(labels):
            raise DataFormatError(f"{source}: {len(images)} {name} images, but {len(labels)} labels")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataFormatError(f"{source}: train images are {x_train.shape[1:]}, test images {x_test.shape[1:]}")
    return data
