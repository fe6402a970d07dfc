"""Reads damaged files of every kind that convec reads: each is refused by an exception, or read.

    python tools/mutate_files.py [--count 100000] [--seed 0] [--keep DIR] [READER...]

For every reader, files are made by convec and damaged: cut at every byte, bits flipped, sizes replaced by absurd
ones, pieces moved, deep nesting, names in archives that lead elsewhere, other element types. What is packed (compressed
files, archives, headers with a length) is also damaged inside and packed again, so that checksums do not hide the
reader.

Readers run in processes of their own. A crash, more than 20 s, an exception that is not documented, or a file that is
refused only after more memory was asked for than 4 times its size and 16 MB (plus what a decompressor takes, see
``Reader.spare``) is a finding: it is printed, and kept in the folder of --keep. Memory is that of the address space,
so memory that is never touched counts, too.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["CONVEC_NUM_THREADS"] = "1"  # threads that start later would count as memory

import convec
import numpy as np
from convec import layers, saving
from convec.datasets import _formats
from convec.models import KeyedVectors, Sequential, Word2Vec, load_model, model_from_json
from convec.models._corpus import TextSource, count_corpus

MEGABYTE = 1 << 20
SECONDS = 20
SIZES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
TEXTS = (
    *(b"9223372036854775807", b"-1", b"1e999", b"NaN", b"null", b'{"a":', b'"', b"\\u", b"\xc3", b"\n", b" ", b"\0"),
    *(b"99999999999999999999999999", b"[" * 2000, b'{"x":' * 500, b"../", b"/etc/passwd", b"float64", b"object", b"|O"),
    *(b"(1000000000, 1000000000)", b"-inf", b"\xff\xfe", b"True"),
)
NAMES = ("../x", "/tmp/x", "a/../../x", "..\\x", "C:x", "", "\0", "x" * 5000, "config.json", "model.weights.h5")

# ---- What is packed ----


@dataclass(frozen=True)
class Packing:
    """Files with something inside that can be taken out, changed and put back."""

    unpack: Callable[[bytes], list[tuple[str, bytes]]]
    pack: Callable[[list[tuple[str, bytes]]], bytes]


def _compressed(compress: Callable[[bytes], bytes], decompress: Callable[[bytes], bytes]) -> Packing:
    return Packing(lambda data: [("", decompress(data))], lambda parts: compress(parts[0][1]))


def _unzip(data: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _zip(parts: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        warnings.simplefilter("ignore")
        for name, data in parts:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _split_header(data: bytes) -> list[tuple[str, bytes]]:
    size = struct.unpack("<Q", data[:8])[0]
    return [("header", data[8 : 8 + size]), ("arrays", data[8 + size :])]


def _join_header(parts: list[tuple[str, bytes]]) -> bytes:
    return struct.pack("<Q", len(parts[0][1])) + b"".join(data for _, data in parts)


def _zstd() -> Packing:
    import zstandard

    return _compressed(
        zstandard.ZstdCompressor().compress, lambda data: zstandard.ZstdDecompressor().decompress(data, 1 << 24)
    )


GZIP = _compressed(lambda data: gzip.compress(data, 1), gzip.decompress)
BZ2 = _compressed(lambda data: bz2.compress(data, 1), bz2.decompress)
XZ = _compressed(lambda data: lzma.compress(data, preset=0), lzma.decompress)
LZMA = _compressed(lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0), lzma.decompress)
ZIP = Packing(_unzip, _zip)
HEADER = Packing(_split_header, _join_header)


# ---- Damage ----


def damage(data: bytes, pick: random.Random, others: Sequence[bytes]) -> bytes:
    """``data`` with one to four changes."""
    changed = bytearray(data)
    for _ in range(pick.choice((1, 1, 1, 2, 4))):
        at = pick.randrange(len(changed) + 1)
        length = min(pick.choice((1, 2, 4, 8, 16, 100)), len(changed) - at)
        kind = pick.randrange(10)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << pick.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = pick.randrange(256)
        elif kind == 2:
            del changed[at:]
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        elif kind == 5:
            width = pick.choice((1, 2, 4, 8))
            size = (pick.choice(SIZES) & ((1 << (8 * width)) - 1)).to_bytes(width, pick.choice(("little", "big")))
            changed[at : at + width] = size
        elif kind == 6:
            changed[at:at] = pick.choice(TEXTS)
        elif kind == 7:
            text = pick.choice(TEXTS)
            changed[at : at + len(text)] = text
        elif kind == 8:
            changed[at:at] = bytes([pick.randrange(256)]) * pick.choice((1, 10, 1000))
        else:
            other = pick.choice(others)
            changed[at:] = other[pick.randrange(len(other) + 1) :]
    return bytes(changed)


def damage_inside(data: bytes, packing: Packing, pick: random.Random, others: Sequence[bytes]) -> bytes:
    """The same, of what is packed; archives also get other names."""
    parts = packing.unpack(data)
    index = pick.randrange(len(parts))
    name, part = parts[index]
    if packing is ZIP and pick.randrange(4) == 0:
        if pick.randrange(2):
            parts[index] = (pick.choice(NAMES), part)
        else:
            parts.append((pick.choice((name, *NAMES)), part))
    elif packing is ZIP and pick.randrange(200) == 0:
        parts[index] = (name, part + bytes(20 * MEGABYTE))  # small when packed
    else:
        parts[index] = (name, damage(part, pick, [part]))
    return packing.pack(parts)


def make_case(seeds: Sequence[bytes], packing: Packing | None, index: int, seed: int) -> bytes:
    """Case number ``index``: first every truncation of the first seed, then random damage."""
    if index < len(seeds[0]):
        return seeds[0][:index]
    pick = random.Random(f"{seed}/{index}")  # not for secrets
    data = pick.choice(seeds)
    if packing is not None and pick.randrange(2):
        with contextlib.suppress(ValueError, RuntimeError, struct.error):  # a name that an archive cannot hold
            return damage_inside(data, packing, pick, seeds)
    return damage(data, pick, seeds)


# ---- Readers ----


@dataclass(frozen=True)
class Reader:
    """How files of one kind are made and read."""

    ending: str
    make: Callable[[Path], list[Path]]
    """Writes good files into a folder."""
    read: Callable[[Path], object]
    packing: Packing | None = None
    errors: tuple[type[BaseException], ...] = (ValueError, OSError, EOFError)
    spare: int = 0
    """Bytes of memory beyond those that every file may take: a decompressor's window."""


def _model() -> Sequential:
    convec.backend.clear_session()
    model = Sequential(
        [
            convec.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _trained() -> Sequential:
    model = _model()
    model.fit(np.ones((4, 6, 6, 2), np.float32), np.zeros(4, np.int64), verbose=0)
    return model


_UNTOUCHED = _model()


def _saved(ending: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        path = folder / f"m{ending}"
        _trained().save(path)
        return [path]

    return make


def _weights(ending: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        path = folder / f"m{ending}"
        _trained().save_weights(path)
        return [path]

    return make


def _make_hdf5(folder: Path) -> list[Path]:
    """As h5py writes by default, in chunks and compressed, and in later formats: all but the first two are refused."""
    import h5py

    paths = _weights(".weights.h5")(folder)
    for name, settings, packing in (
        ("chunks", {}, {"chunks": (2,)}),
        ("packed", {}, {"compression": "gzip"}),
        ("order", {"track_order": True}, {}),
        ("latest", {"libver": "latest"}, {}),
    ):
        paths.append(folder / f"{name}.weights.h5")
        with h5py.File(paths[0]) as file, h5py.File(paths[-1], "w", **settings) as copy:

            def take(key: str, found: Any, copy: Any = copy, packing: dict[str, Any] = packing) -> None:
                if isinstance(found, h5py.Dataset):
                    copy.create_dataset(key, data=found[()], **(packing if found.ndim == 1 else {}))
                else:
                    copy.require_group(key).attrs.update(found.attrs)

            file.visititems(take)
    return paths


def _load_weights(path: Path) -> None:
    _UNTOUCHED.load_weights(path)


def _make_arrays(folder: Path) -> list[Path]:
    path = folder / "m.safetensors"
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.arange(5, dtype=np.uint8), "z": np.float64(1)}
    saving.save_arrays(path, arrays, {"format": "pt"})
    return [path]


def _load_arrays(path: Path) -> None:
    for mapped in (True, False):
        for value in saving.load_arrays(path, mmap=mapped)[0].values():
            value.tobytes()


def _make_torch(folder: Path) -> list[Path]:
    path = folder / "m.safetensors"
    conv, norm, dense = (layer.get_weights() for layer in _model().layers if layer.get_weights())
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = {"0.weight": np.ascontiguousarray(conv[0].transpose(3, 2, 0, 1)), "0.bias": conv[1]}
    arrays |= {f"1.{name}": value for name, value in zip(names, norm, strict=True)}
    arrays |= {"5.weight": np.ascontiguousarray(dense[0].T), "5.bias": dense[1]}
    saving.save_arrays(path, arrays)
    saving.load_torch_weights(_UNTOUCHED, path)
    return [path]


def _make_onnx(folder: Path) -> list[Path]:
    path = folder / "m.onnx"
    convec.export_onnx(_trained(), path)
    return [path]


def _make_json(folder: Path) -> list[Path]:
    path = folder / "m.json"
    path.write_text(_model().to_json())
    return [path]


def _make_idx(folder: Path) -> list[Path]:
    path = folder / "images.idx"
    path.write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 3, 4, 5) + bytes(range(60)))
    return [path]


def _make_npz(folder: Path) -> list[Path]:
    path = folder / "data.npz"
    images, labels = np.zeros((3, 4, 5), np.uint8), np.zeros(3, np.uint8)
    np.savez_compressed(path, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])
    return [path]


_TEXT = "the cat sat on the mat\nthe dog  barked at the cat\n\n\u00e9t\u00e9 \u65e5\u672c\u8a9e one\x1ctwo\n" * 6


def _word2vec() -> Word2Vec:
    return Word2Vec([line.split() for line in _TEXT.splitlines()], vector_size=6, min_count=1, epochs=1, workers=1)


def _make_vectors(folder: Path) -> list[Path]:
    _word2vec().wv.save(folder / "m.kv")
    return [folder / "m.kv"]


def _make_word2vec(folder: Path) -> list[Path]:
    _word2vec().save(folder / "m.model")
    model = Word2Vec([["a", "b"], ["b"]], vector_size=4, min_count=1, epochs=1, hs=1, negative=0, workers=1)
    model.save(folder / "n.model")
    return [folder / "m.model", folder / "n.model"]


def _format(binary: bool) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        _word2vec().wv.save_word2vec_format(folder / "m.vec", binary=binary)
        return [folder / "m.vec"]

    return make


def _read_format(**options: Any) -> Callable[[Path], object]:
    return lambda path: KeyedVectors.load_word2vec_format(path, **options)


def _make_text(folder: Path) -> list[Path]:
    path = folder / "text.txt"
    path.write_text(_TEXT, encoding="utf-8")
    return [path]


def _packed(make: Callable[[Path], list[Path]], packing: Packing) -> Callable[[Path], list[Path]]:
    def pack(folder: Path) -> list[Path]:
        paths = make(folder)
        for path in paths:
            path.write_bytes(packing.pack([("", path.read_bytes())]))
        return paths

    return pack


def _read_corpus(path: Path) -> None:
    counter = count_corpus(TextSource((str(path),)))
    counter.corpus(counter.vocabulary(1, 0, True))


def _make_pairs(folder: Path) -> list[Path]:
    path = folder / "pairs.txt"
    path.write_text("# a comment\nthe\tcat\t5.5\ncat\tdog\t7\nmat\tthe\t1e0\nsat\tzebra\t3\n")
    return [path]


def _make_analogies(folder: Path) -> list[Path]:
    path = folder / "analogies.txt"
    path.write_text(": section one\nthe cat the dog\ncat dog the mat\n: section two\nsat on at barked\n")
    return [path]


_VECTORS = _word2vec().wv
# What a file may ask for as the window of xz (see convec/_files.py) and of Zstandard.
_WINDOW = 144 * MEGABYTE

READERS: dict[str, Reader] = {
    "arrays.safetensors": Reader(".safetensors", _make_arrays, _load_arrays, HEADER),
    "model.safetensors": Reader(".safetensors", _saved(".safetensors"), load_model, HEADER),
    "network.safetensors": Reader(
        ".safetensors", _saved(".safetensors"), lambda path: convec._core.network_load(path), HEADER
    ),
    "weights.safetensors": Reader(".safetensors", _weights(".safetensors"), _load_weights, HEADER),
    "torch.safetensors": Reader(
        ".safetensors", _make_torch, lambda path: saving.load_torch_weights(_UNTOUCHED, path), HEADER
    ),
    "weights.npz": Reader(".npz", _weights(".npz"), _load_weights, ZIP),
    "model.keras": Reader(".keras", _saved(".keras"), load_model, ZIP),
    "weights.h5": Reader(".weights.h5", _make_hdf5, _load_weights),
    "model.json": Reader(
        ".json",
        _make_json,
        lambda path: model_from_json(path.read_text("utf-8", "replace")),
        errors=(ValueError, TypeError),
    ),
    "model.onnx": Reader(".onnx", _make_onnx, lambda path: convec.import_onnx(path)),
    "images.idx": Reader(".idx", _make_idx, lambda path: _formats.read_idx(path, 3)),
    "images.idx.gz": Reader(".gz", _packed(_make_idx, GZIP), lambda path: _formats.read_idx(path, 3), GZIP),
    "data.npz": Reader(".npz", _make_npz, _formats.read_npz, ZIP),
    "vectors.kv": Reader(".kv", _make_vectors, lambda path: KeyedVectors.load(path), HEADER),
    "word2vec.model": Reader(".model", _make_word2vec, Word2Vec.load, HEADER),
    "word2vec.txt": Reader(".txt", _format(binary=False), _read_format(binary=False)),
    "glove.txt": Reader(".txt", _format(binary=False), _read_format(no_header=True)),
    "word2vec.bin": Reader(".bin", _format(binary=True), _read_format(binary=True)),
    "word2vec.txt.gz": Reader(".gz", _packed(_format(binary=False), GZIP), _read_format(binary=False), GZIP),
    "word2vec.bin.gz": Reader(".gz", _packed(_format(binary=True), GZIP), _read_format(binary=True), GZIP),
    "word2vec.bin.bz2": Reader(".bz2", _packed(_format(binary=True), BZ2), _read_format(binary=True), BZ2),
    "word2vec.bin.xz": Reader(".xz", _packed(_format(binary=True), XZ), _read_format(binary=True), XZ, spare=_WINDOW),
    "corpus.txt": Reader(".txt", _make_text, _read_corpus),
    "corpus.gz": Reader(".gz", _packed(_make_text, GZIP), _read_corpus, GZIP),
    "corpus.bz2": Reader(".bz2", _packed(_make_text, BZ2), _read_corpus, BZ2),
    "corpus.xz": Reader(".xz", _packed(_make_text, XZ), _read_corpus, XZ, spare=_WINDOW),
    "corpus.lzma": Reader(".lzma", _packed(_make_text, LZMA), _read_corpus, LZMA, spare=_WINDOW),
    "corpus.zst": Reader(".zst", _packed(_make_text, _zstd()), _read_corpus, _zstd(), spare=_WINDOW),
    "pairs.txt": Reader(".txt", _make_pairs, lambda path: _VECTORS.evaluate_word_pairs(path, dummy4unknown=True)),
    "analogies.txt": Reader(".txt", _make_analogies, _VECTORS.evaluate_word_analogies),
}


# ---- Running ----


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # many times
        return int(file.read().split()[0]) * resource.getpagesize()


def _attempt(reader: Reader, path: Path, budget: int) -> tuple[str, str]:
    """(what became of it, what it said): accepted, refused, or a kind of finding."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    try:
        if budget:
            resource.setrlimit(resource.RLIMIT_AS, (_address_space() + budget, hard))
        reader.read(path)
        return "accepted", ""
    except MemoryError as error:
        return "memory", str(error)
    except reader.errors as error:
        said = str(error)
        # HDF5 says so by an error of its own.
        if budget and ("alloc" in said or "memory" in said.lower()):
            return "memory", said
        return "refused", said
    except Exception:
        return "exception", traceback.format_exc(limit=-4)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _read_case(reader: Reader, path: Path, data: bytes) -> tuple[str, str]:
    path.write_bytes(data)
    outcome, said = _attempt(reader, path, 4 * len(data) + 16 * MEGABYTE + reader.spare)
    if outcome != "memory":
        return outcome, said
    # A good file may take more. Else: was it refused for what is wrong with it, or for want of memory?
    again, reason = _attempt(reader, path, 0)
    if again == "accepted" or (again == "refused" and reason == said):
        return again, reason
    return ("memory" if again in ("refused", "memory") else again), f"{said}; without a limit: {reason}"


class _Shared:
    """Numbers that a reading process leaves to its parent: the case it is at, and counts of outcomes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 64)

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("<q", self._memory, 8 * index)[0])

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("<q", self._memory, 8 * index, value)


def _run_range(
    reader: Reader, seeds: Sequence[bytes], folder: Path, begin: int, end: int, seed: int, shared: _Shared, report: int
) -> None:
    """Cases [begin, end), in a process of their own."""
    warnings.simplefilter("ignore")
    path = folder / f"case{os.getpid()}{reader.ending}"
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    shared[1] = shared[2] = 0
    for index in range(begin, end):
        shared[0] = index
        data = make_case(seeds, reader.packing, index, seed)
        signal.alarm(SECONDS)
        outcome, said = _read_case(reader, path, data)
        signal.alarm(0)
        if outcome == "accepted":
            shared[1] += 1
        elif outcome == "refused":
            shared[2] += 1
        else:
            os.write(report, json.dumps([index, outcome, said[:3000]]).encode() + b"\n")
    path.unlink(missing_ok=True)


def run(name: str, count: int, seed: int, keep: Path | None, first: int = 0) -> Counter[str]:
    """Outcomes of cases [first, first + count) of a reader; findings are printed."""
    reader = READERS[name]
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as text:
        folder = Path(text)
        (folder / "seeds").mkdir()
        seeds = [path.read_bytes() for path in reader.make(folder / "seeds")]
        shared = _Shared()
        begin, end = first, first + count
        while begin < end:
            # A new process now and then: what leaks must not add up.
            stop = min(begin + 5000, end)
            reports, report = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(reports)
                status = 1
                try:
                    _run_range(reader, seeds, folder, begin, stop, seed, shared, report)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(status)
            os.close(report)
            with os.fdopen(reports, "rb") as stream:
                findings = [json.loads(line) for line in stream]
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            outcomes["accepted"] += shared[1]
            outcomes["refused"] += shared[2]
            if status != 0:
                at = shared[0]
                cause = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
                findings.append([at, "time" if status == -signal.SIGALRM else "crash", cause])
                stop = at + 1
            for index, outcome, said in findings:
                outcomes[outcome] += 1
                if outcomes[outcome] <= 3:
                    print(f"{name} {index}: {outcome}: {said}", flush=True)
                if keep is not None and outcomes[outcome] <= 20:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{name}-{outcome}-{index}").write_bytes(make_case(seeds, reader.packing, index, seed))
            begin = stop
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"one of {', '.join(READERS)}; by default all")
    parser.add_argument("--count", type=int, default=100_000, help="files a reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that were findings")
    options = parser.parse_args()
    unknown = [name for name in options.readers if name not in READERS]
    if unknown:
        parser.error(f"there is no reader {unknown[0]!r}; there are {', '.join(READERS)}")
    found = 0
    for name in options.readers or READERS:
        started = time.monotonic()
        outcomes = run(name, options.count, options.seed, options.keep, options.first)
        bad = sum(outcomes.values()) - outcomes["accepted"] - outcomes["refused"]
        found += bad
        print(
            f"{name}: {outcomes['refused']} refused, {outcomes['accepted']} read, {bad} findings "
            f"({time.monotonic() - started:.0f} s)",
            flush=True,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
