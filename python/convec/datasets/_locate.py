"""Where the files of a data set are looked for, and the download where they are nowhere."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import sys
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from convec.datasets._formats import Data, DataFormatError, check_data, read_idx, read_npz

# stem of the file, rank, in the order x_train, y_train, x_test, y_test
_IDX_FILES = (("train-images", 3), ("train-labels", 1), ("t10k-images", 3), ("t10k-labels", 1))
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be fetched.

    Attributes:
        name: the file's name in the cache.
        urls: where it is, tried in order.
        sha256: checksum of its content: of what is inside where the file is a ``.gz`` (the same data are
            published under different compressions), else of the file.
        most_bytes: size of that content; no more is ever decompressed or fetched.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str
    most_bytes: int


@dataclass(frozen=True)
class DataSet:
    """What is known about a data set.

    Attributes:
        name: its folder's name.
        remote: the files a download fetches.
        system_folders: where operating systems install it.
        train_labels_sha256: checksum of the content of its IDX training labels, or None where it has no fixed one.
            MNIST and Fashion-MNIST have the same file names; this tells them apart in a folder not named after one.
        not_labels_sha256: the same checksum of data sets it could be mistaken for.
    """

    name: str
    remote: tuple[RemoteFile, ...]
    system_folders: tuple[str, ...] = ()
    train_labels_sha256: str | None = None
    not_labels_sha256: tuple[str, ...] = ()


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/convec``, or ``~/.cache/convec``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "convec"


def load(data_set: DataSet, path: str | os.PathLike[str] | None) -> Data:
    """Load a data set from ``path``, else from the first place that has it, else from the net.

    Args:
        data_set: which one.
        path: a ``.npz`` file in Keras' layout, or a folder with one or with IDX files. None: ``CONVEC_DATA``, the
            cache folder, Keras' own and the system's folders are searched, and what is found nowhere is downloaded
            into the cache.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``, all ``uint8``.

    Raises:
        FileNotFoundError: ``path`` does not exist or holds no such files.
        OSError: a file cannot be read, or the download failed.
        ValueError: a file is damaged, or a download has the wrong checksum.
    """
    # Keras' path is a name in its cache: load_data("mnist.npz") means the data set, wherever it is.
    if path is not None and not (os.fspath(path) == f"{data_set.name}.npz" and not Path(path).exists()):
        return _load_path(Path(path).expanduser(), data_set)
    for folder, named in _candidates(data_set):
        files = _find(folder, data_set.name)
        if files is not None and (named or _is_this(files, data_set)):
            return _read(files)
    return _load_path(_download(data_set), data_set)


def _load_path(path: Path, data_set: DataSet) -> Data:
    if path.is_file():
        return read_npz(path)
    if not path.exists():
        raise FileNotFoundError(f"path is '{path}', which does not exist; give a .npz file or a folder with IDX files")
    files = _find(path, data_set.name) or _find(path / data_set.name, data_set.name)
    if files is None:
        raise FileNotFoundError(
            f"path is '{path}', which holds neither {data_set.name}.npz nor the IDX files "
            f"{', '.join(f'{stem}-idx{rank}-ubyte[.gz]' for stem, rank in _IDX_FILES)}"
        )
    return _read(files)


def _candidates(data_set: DataSet) -> Iterator[tuple[Path, bool]]:
    """Folders to look in, and whether the folder's own name says which data set it holds."""
    given = os.environ.get("CONVEC_DATA")
    if given:
        yield Path(given).expanduser() / data_set.name, True
        yield Path(given).expanduser(), Path(given).name == data_set.name
    yield cache_folder() / data_set.name, True
    keras = Path.home() / ".keras" / "datasets"
    yield keras / data_set.name, True
    yield keras, False
    for folder in data_set.system_folders:
        yield Path(folder), True


def _find(folder: Path, name: str) -> tuple[Path, ...] | None:
    """The ``.npz`` (one path) or the four IDX files in ``folder``, or None."""
    for archive in (folder / f"{name}.npz", folder / f"{name.replace('-', '_')}.npz"):
        if archive.is_file():
            return (archive,)
    found = []
    for stem, rank in _IDX_FILES:
        names = (f"{stem}{dot}idx{rank}-ubyte{end}" for dot in "-." for end in ("", ".gz"))
        file = next((folder / name for name in names if (folder / name).is_file()), None)
        if file is None:
            return None
        found.append(file)
    return tuple(found)


def _is_this(files: tuple[Path, ...], data_set: DataSet) -> bool:
    """Whether IDX files in a folder of any name hold this data set and not another of the same file names."""
    if len(files) == 1:
        return True
    labels = hashlib.sha256(_content(files[1], 1 << 24)).hexdigest()
    if data_set.train_labels_sha256 is not None:
        return labels == data_set.train_labels_sha256
    return labels not in data_set.not_labels_sha256


def _read(files: tuple[Path, ...]) -> Data:
    if len(files) == 1:
        return read_npz(files[0])
    x_train, y_train, x_test, y_test = (read_idx(file, rank) for file, (_, rank) in zip(files, _IDX_FILES, strict=True))
    return check_data(((x_train, y_train), (x_test, y_test)), files[0].parent)


def _content(path: Path, most_bytes: int) -> bytes:
    """The file's content, decompressed where it is a gzip file, at most one byte more than ``most_bytes``."""
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not zipped:
            return raw.read(most_bytes + 1)
        try:
            with gzip.GzipFile(fileobj=raw) as unzipped:
                return unzipped.read(most_bytes + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataFormatError(f"{path} is truncated or damaged ({error}); fetch it again") from error


def _download(data_set: DataSet) -> Path:
    """Fetch the files that are not in the cache; returns its folder."""
    folder = cache_folder() / data_set.name
    folder.mkdir(parents=True, exist_ok=True)
    for remote in data_set.remote:
        if not (folder / remote.name).is_file():
            _fetch(remote, folder, data_set)
    return folder


def _fetch(remote: RemoteFile, folder: Path, data_set: DataSet) -> None:
    failures = []
    for url in remote.urls:
        print(f"Downloading {url}", file=sys.stderr)
        handle, name = tempfile.mkstemp(prefix=f".{remote.name}.", dir=folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _copy(url, file, remote.most_bytes + (1 << 20))
            digest = hashlib.sha256(_content(temporary, remote.most_bytes)).hexdigest()
            if digest != remote.sha256:
                raise DataFormatError(f"its SHA-256 is {digest}, but {remote.sha256} was expected")
            temporary.chmod(0o644)
            # Atomic: another process sees the whole file or none.
            temporary.replace(folder / remote.name)
            return
        except (OSError, DataFormatError) as error:
            failures.append(f"{url}: {error}")
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
    raise OSError(
        f"{data_set.name} is on this machine nowhere and could not be downloaded ({'; '.join(failures)}). "
        f"Put {', '.join(file.name for file in data_set.remote)} into '{folder}', or into a folder named by the "
        f"environment variable CONVEC_DATA, or give load_data(path=...). "
        f"convec.datasets.load_sample() needs no files."
    )


def _copy(url: str, file: IO[bytes], most_bytes: int) -> None:
    copied = 0
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
        while piece := response.read(1 << 20):
            copied += len(piece)
            if copied > most_bytes:
                raise DataFormatError(f"it is longer than {most_bytes} bytes")
            file.write(piece)
