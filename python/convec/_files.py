"""Files that are complete or absent, and what is read from those that come from anywhere."""

from __future__ import annotations

import contextlib
import io
import json
import lzma
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Memory for the window that an .xz or .lzma file asks for: `xz -9` takes 65 MB, but a damaged header may ask for 4 GB.
_MOST_LZMA_BYTES = 1 << 27
_PIECE = 1 << 16


class _LzmaReader(io.RawIOBase):
    """The bytes of an .xz or .lzma file: :class:`lzma.LZMAFile` with a bound on memory, which that has not."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._file = Path(path).open("rb")  # noqa: SIM115
        self._decompressor = lzma.LZMADecompressor(memlimit=_MOST_LZMA_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer).cast("B") as view:
            data = self._read(len(view))
            view[: len(data)] = data
            return len(data)

    def _read(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof:
                # Another stream may follow, or zeros.
                rest = self._decompressor.unused_data or self._file.read(_PIECE)
                while rest and not (rest := rest.lstrip(b"\0")):
                    rest = self._file.read(_PIECE)
                if not rest:
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=_MOST_LZMA_BYTES)
            elif self._decompressor.needs_input:
                rest = self._file.read(_PIECE)
                if not rest:
                    raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            else:
                rest = b""
            data = self._decompressor.decompress(rest, size)
            if data:
                return data

    def close(self) -> None:
        self._file.close()
        super().close()


def open_lzma(path: str | os.PathLike[str]) -> IO[bytes]:
    """An .xz or .lzma file for reading.

    Reading raises :class:`lzma.LZMAError` (damaged, or it wants more than 128 MB of memory) or EOFError.

    Raises:
        OSError: it cannot be opened.
    """
    return io.BufferedReader(_LzmaReader(path))


def json_object(text: str, what: str) -> dict[str, Any]:
    """The object that a text from a file says.

    Raises:
        ValueError: it is no such text, or is nested beyond reason; ``what`` names it.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} must be an object in braces")
    return found


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` when the block ends without an exception.

    It is written under another name in the same folder, and reaches the disk before it is renamed; so does the new name
    before this returns. A symbolic link is followed, and the permissions of a file that is replaced are kept.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    with replacing_all(path) as (file,):
        yield file


@contextlib.contextmanager
def replacing_all(*paths: str | os.PathLike[str]) -> Iterator[list[IO[bytes]]]:
    """As :func:`replacing`, several files, all of which reach the disk before the first one is renamed."""
    with contextlib.ExitStack() as opened:
        files = [opened.enter_context(_temporary(path)) for path in paths]
        yield [file for file, _, _ in files]
        for file, _, _ in files:
            file.flush()
            os.fsync(file.fileno())
        for file, target, mode in files:
            temporary = Path(file.name)
            temporary.chmod(mode)
            temporary.replace(target)
        for folder in {target.parent for _, target, _ in files}:
            _sync(folder)


@contextlib.contextmanager
def replacing_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder that takes the place of ``folder`` when the block ends without an exception.

    It is filled under another name beside it, and all of it reaches the disk before it is renamed. Between two
    renamings there is for a moment no folder of this name; whoever is killed then leaves the old one beside it, its
    name with a point in front and ``.old`` behind. A symbolic link is followed.

    Raises:
        OSError: it cannot be written; what was there is untouched.
    """
    target = Path(os.path.realpath(folder))
    name = f".{target.name[:100]}.{secrets.token_hex(6)}"
    temporary, old = target.with_name(f"{name}.tmp"), target.with_name(f"{name}.old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for here, _, files in os.walk(temporary, topdown=False):
            for file in files:
                _sync(Path(here, file))
            _sync(Path(here))
        if target.exists():
            target.rename(old)
        try:
            temporary.rename(target)
        except BaseException:
            if old.exists():
                old.rename(target)
            raise
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk. Raises OSError for a file that cannot be."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system can do it for a folder
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary(path: str | os.PathLike[str]) -> Iterator[tuple[IO[bytes], Path, int]]:
    """A file beside ``path``, which goes unless it is renamed; what it is to replace; and with what permissions."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but must be a file")
    mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=f".{target.name[:100]}.", suffix=".tmp", delete=False
    ) as file:
        try:
            yield file, target, mode
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _umask() -> int:
    # There is no call that only reads it; Linux shows it without setting it.
    with contextlib.suppress(OSError), Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o022
