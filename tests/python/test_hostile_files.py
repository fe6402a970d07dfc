"""Damaged files: a sample of what tools/mutate_files.py reads, and the faults that it has found."""

from __future__ import annotations

import lzma
import struct
import subprocess
import sys
from pathlib import Path

import convec
import numpy as np
import pytest
from convec import _core, layers
from convec._files import open_lzma
from convec.models import KeyedVectors, Sequential, Word2Vec
from convec.models._corpus import TextSource, count_corpus

TOOL = Path(__file__).parents[2] / "tools" / "mutate_files.py"


def test_damaged_files_of_every_kind() -> None:
    """Cases behind every truncation of the longest file; by hand there are 100,000 a reader."""
    pytest.importorskip("h5py")
    pytest.importorskip("zstandard")
    pytest.importorskip("onnx")
    result = subprocess.run(
        [sys.executable, str(TOOL), "--first", "100000", "--count", "500"], capture_output=True, text=True, timeout=250
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count(" 0 findings") == 30


@pytest.mark.parametrize("ending", [".lzma", ".xz"])
def test_a_window_beyond_reason_is_refused(tmp_path: Path, ending: str) -> None:
    """A header of 13 bytes may ask for 4 GB."""
    path = tmp_path / f"text{ending}"
    whole = lzma.compress(b"a b\n" * 100, lzma.FORMAT_ALONE)
    path.write_bytes(whole[:1] + b"\xff\xff\xff\xff" + whole[5:])
    with pytest.raises(OSError, match="Memory usage limit"):
        count_corpus(TextSource((str(path),)))


def test_xz_files_are_read_like_lzma_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "text.xz"
    text = bytes(range(256)) * 3000
    for data, expected in (
        (lzma.compress(text), text),
        (lzma.compress(text, preset=9), text),
        (lzma.compress(text) + bytes(8) + lzma.compress(b"more") + bytes(70000 * 4), text + b"more"),
        (lzma.compress(text, lzma.FORMAT_ALONE), text),
        (lzma.compress(b""), b""),
    ):
        path.write_bytes(data)
        with open_lzma(path) as file:
            assert file.read() == expected
    path.write_bytes(lzma.compress(text)[:-9])
    with open_lzma(path) as file, pytest.raises(EOFError):
        file.read()
    path.write_bytes(lzma.compress(text) + b"rubbish")
    with open_lzma(path) as file, pytest.raises(lzma.LZMAError):
        file.read()


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_small_compressed_files_take_little_memory(tmp_path: Path, ending: str) -> None:
    import bz2
    import gzip

    path = tmp_path / f"v{ending}"
    path.write_bytes((gzip if ending == ".gz" else bz2).compress(b"1 2\nword 0.5 -1\n"))
    program = f"""
import resource
from convec.models import KeyedVectors, Sequential, Word2Vec
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (16 << 20),) * 2)
print(KeyedVectors.load_word2vec_format({str(path)!r})["word"].tolist())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "[0.5, -1.0]\n", result.stderr
    assert KeyedVectors.load_word2vec_format(path)["word"].tolist() == [0.5, -1.0]


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.model"
    Word2Vec([["a", "b"]], min_count=1, vector_size=4, epochs=1).save(path)
    arrays, metadata = _core.safetensors_load(path, mmap=False)
    for text in ("[" * 100_000, '{"a":' * 100_000, "[]", "{", "1"):
        _core.safetensors_save(path, arrays, {**metadata, "parameters": text})
        with pytest.raises(ValueError, match="parameters"):
            Word2Vec.load(path)
    vectors = KeyedVectors(4)
    vectors.add_vectors(["a"], [[1, 2, 3, 4]])
    vectors.save(path)
    arrays, metadata = _core.safetensors_load(path, mmap=False)
    for text in ("[" * 100_000, "[]", '{"a": 1}', '{"a": "xy"}'):
        _core.safetensors_save(path, arrays, {**metadata, "vecattrs": text})
        with pytest.raises(ValueError, match="attribute"):
            KeyedVectors.load(path)


def test_operators_of_onnx_are_spelled_as_they_are(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "m.onnx"
    convec.export_onnx(Sequential([convec.Input((4,)), layers.Dense(3, activation="relu")]), path)
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "RElu"
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"RElu.*not among"):
        convec.import_onnx(path)


def test_hdf5_sees_no_heap_that_it_would_not_return_from(tmp_path: Path) -> None:
    """Free blocks in a circle keep HDF5 busy for ever; a heap of 2 GB takes that much memory."""
    pytest.importorskip("h5py")
    path = tmp_path / "m.weights.h5"
    model = Sequential([convec.Input((4,)), layers.Dense(3)])
    model.save_weights(path)
    model.load_weights(path)
    whole = path.read_bytes()
    heap = whole.index(b"HEAP\0\0\0\0")
    size, _, address = struct.unpack_from("<QQQ", whole, heap + 8)
    root = struct.unpack_from("<Q", whole, 64)[0]
    for changes, message in (
        ({heap + 16: struct.pack("<Q", 8), address + 8: struct.pack("<QQ", 8, 16)}, "no list with an end"),
        ({heap + 16: struct.pack("<Q", size)}, "no list with an end"),
        ({heap + 8: struct.pack("<Q", 1 << 31)}, "beyond the end"),
        ({heap + 24: struct.pack("<Q", 1 << 62)}, "beyond the end"),
        ({root + 8: b"\xff\xff\xff\x7f"}, "beyond the end"),
        ({whole.index(b"SNOD") + 16: struct.pack("<Q", 1 << 62)}, "beyond the end"),
        ({13: b"\x04"}, "addresses"),
        ({24: b"\x08"}, "addresses"),
        ({0: b"\x88"}, "signature"),
    ):
        damaged = bytearray(whole)
        for at, change in changes.items():
            damaged[at : at + len(change)] = change
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=message):
            model.load_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="empty"):
        model.load_weights(path)


def test_hdf5_of_later_formats_is_refused(tmp_path: Path) -> None:
    """Files that h5py writes on request only: what they hold would not be looked at before HDF5 sees it."""
    h5py = pytest.importorskip("h5py")
    model = Sequential([convec.Input((4,)), layers.Dense(3)])
    source, path = tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"
    model.save_weights(source)
    for settings in ({"libver": "latest"}, {"libver": "v108"}, {"track_order": True}):
        with h5py.File(source) as file, h5py.File(path, "w", **settings) as copy:
            for name in file:
                file.copy(file[name], copy, name)
        with pytest.raises(ValueError, match=r"b\.weights\.h5 is laid out in a later format"):
            model.load_weights(path)
    with h5py.File(source) as file, h5py.File(path, "w") as copy:
        for name in file:
            file.copy(file[name], copy, name)
        copy.create_group("later", track_order=True)
    with pytest.raises(ValueError, match="a later object header"):
        model.load_weights(path)
    whole = source.read_bytes()
    root = struct.unpack_from("<Q", whole, 64)[0]
    for kind in (0x02, 0x06, 0x0F, 0x15, 0x18):
        path.write_bytes(whole[: root + 16] + struct.pack("<H", kind) + whole[root + 18 :])
        with pytest.raises(ValueError, match=f"a message of type {kind}"):
            model.load_weights(path)


@pytest.mark.parametrize(
    "settings", [{"compression": "gzip"}, {"chunks": (1 << 12, 1 << 12)}], ids=["packed", "chunks"]
)
def test_hdf5_takes_no_memory_for_what_arrays_claim(tmp_path: Path, settings: dict[str, object]) -> None:
    """A compressed chunk unpacks to a thousand times its size, and a chunk is held whole, however little it is for."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "m.weights.h5"
    model = Sequential([convec.Input((4,)), layers.Dense(3)])
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_dataset("0", (4, 3), "f4", maxshape=(None, None), **settings)
    with pytest.raises(ValueError, match=r"is compressed|claims arrays"):
        model.load_weights(path)
    with h5py.File(path, "a") as file:
        del file["layers/dense/vars/0"]
        values = np.ones((4, 3), np.float32)
        file["layers/dense/vars"].create_dataset("0", data=values, maxshape=(None, None), chunks=(2, 3))
    model.load_weights(path)
    # The list of chunks claims that one of them takes more than any has, which the library would take memory for.
    data = bytearray(path.read_bytes())
    node = data.index(b"TREE\x01")
    assert struct.unpack_from("<I", data, node + 24)[0] == 24
    struct.pack_into("<I", data, node + 24, 1 << 30)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="claims a chunk of 1073741824 bytes, but its chunks have 24"):
        model.load_weights(path)
