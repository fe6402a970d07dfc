"""safetensors files from Python: both ways against the safetensors package, damaged files, memory and interruption."""

from __future__ import annotations

import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core

DTYPES = ("float32", "float64", "int32", "int64", "uint8")


def example() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        name: rng.integers(0, 200, (3, 2 + number, 5)).astype(name) for number, name in enumerate(DTYPES)
    }
    arrays["scalar"] = np.array(2.5, dtype=np.float32)
    arrays["empty"] = np.zeros((0, 3), np.float32)
    arrays["größe/ß"] = np.arange(7, dtype=np.int64)
    return arrays


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert set(a) == set(b)
    for name, value in a.items():
        assert b[name].dtype == value.dtype, name
        assert b[name].shape == value.shape, name
        np.testing.assert_array_equal(b[name], value, err_msg=name)


def write(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("mmap", [False, True])
def test_round_trip(tmp_path: Path, mmap: bool) -> None:
    path = tmp_path / "x.safetensors"
    metadata = {"a": "b", "ü": '\n\x01"\\ 😀', "": ""}
    _core.safetensors_save(path, example(), metadata)
    arrays, found = _core.safetensors_load(path, mmap=mmap)
    same(example(), arrays)
    assert found == metadata
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_safetensors_reads_what_convec_writes(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    _core.safetensors_save(path, example(), {"a": "ü\n"})
    same(example(), numpy.load_file(path))
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata() == {"a": "ü\n"}


def test_convec_reads_what_safetensors_writes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    arrays = example()
    for name in ("bool", "int8", "uint16", "int16", "float16", "uint32", "uint64"):
        arrays[name] = np.arange(9).astype(name).reshape(3, 3)
    numpy.save_file(arrays, path, {"a": "ü\n"})
    for mmap in (False, True):
        found, metadata = _core.safetensors_load(path, mmap=mmap)
        same(arrays, found)
        assert metadata == {"a": "ü\n"}


def test_both_refuse_the_same_files(tmp_path: Path) -> None:
    """What the safetensors package takes, convec takes, and the other way round, byte by byte damaged."""
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    numpy.save_file({"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 1), np.uint8)}, path, {"k": "v"})
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    differ = []
    for _ in range(4000):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(0, len(damaged) - 26)] = rng.choice(
                np.frombuffer(b'{}[]",:0179FUI\\ue \x00\xff', np.uint8)
            )
        try:
            theirs = set(numpy.load(bytes(damaged)))
        except Exception:
            theirs = None
        try:
            ours = set(_core.safetensors_parse(bytes(damaged))[0])
        except (ValueError, TypeError):
            ours = None
        if ours != theirs:
            differ.append((bytes(damaged), ours, theirs))
    # Stricter in two points: entries that the format does not name, and arrays NumPy has no type for.
    unexplained = [
        (text, ours, theirs) for text, ours, theirs in differ if ours is not None or not _only_stricter(text)
    ]
    assert not unexplained, unexplained[:3]


def _only_stricter(data: bytes) -> bool:
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    known = {"dtype", "shape", "data_offsets"}
    return any(key != "__metadata__" and not set(entry) <= known for key, entry in header.items()) or any(
        entry.get("dtype", "")[:2] == "F8" for key, entry in header.items() if key != "__metadata__"
    )


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\x80\x3f\x49\xc0")
    for mmap in (False, True):
        x = _core.safetensors_load(path, mmap=mmap)[0]["x"]
        assert x.dtype == np.float32
        assert x.tolist() == [1.0, -3.140625]
    assert _core.safetensors_describe(path) == ({"x": ("BF16", (2,))}, {})


def test_types_that_numpy_lacks_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x", {"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"\0\0")
    with pytest.raises(TypeError, match="F8_E4M3"):
        _core.safetensors_load(path)


def test_mapped_arrays_are_read_only_and_outlive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    _core.safetensors_save(path, {"x": np.arange(1000, dtype=np.float32)})
    x = _core.safetensors_load(path)[0]["x"]
    assert not x.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        x.setflags(write=True)
    _core.safetensors_save(path, {})
    path.unlink()
    np.testing.assert_array_equal(x, np.arange(1000))
    copy = _core.safetensors_parse(b"\x02\0\0\0\0\0\0\0{}")
    assert copy == ({}, {})


def test_any_strides_can_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "x"
    base = np.arange(240, dtype=np.float32).reshape(10, 24)
    arrays = {
        "padded": base[:, :20],
        "every other row": base[::2],
        "both": base[1::3, :7],
        "transposed": base.T,
        "backwards": base[::-1],
        "columns": base[:, ::2],
        "repeated": np.broadcast_to(base[0], (4, 24)),
        "one row": base[3:4, :5],
        "deep": base.reshape(10, 4, 6)[:, :2],
        "askew": np.frombuffer(b"\0" + base.tobytes(), np.uint8)[1:].view(np.float32),
    }
    _core.safetensors_save(path, arrays)
    same(arrays, _core.safetensors_load(path)[0])


def test_padded_rows_are_not_copied(tmp_path: Path) -> None:
    """Saving a (V, D) view of padded rows takes far less memory than the array."""
    program = f"""
import resource, numpy as np
from convec import _core
table = np.ones((300_000, 128), np.float32)[:, :100]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_core.safetensors_save({str(tmp_path / "x")!r}, {{"x": table}}, sync=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # kilobytes; the rows are 120 MB
    assert (tmp_path / "x").stat().st_size > 120_000_000


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "message"),
    [
        ({"x": [1, 2]}, {}, TypeError, "x is of type list"),
        ({"x": np.zeros(2, np.float16)}, {}, TypeError, "float16"),
        ({"x": np.zeros(2, ">f4")}, {}, TypeError, "astype"),
        ({"x": np.array([None])}, {}, TypeError, "object"),
        ({"__metadata__": np.zeros(2)}, {}, ValueError, "__metadata__"),
        ({1: np.zeros(2)}, {}, TypeError, "names must be str"),
        ({"x": np.zeros(2)}, {"a": 1}, TypeError, "incompatible"),
        ({"x": np.zeros((1,) * 9)}, {}, ValueError, "at most 8"),
    ],
)
def test_bad_arguments(tmp_path: Path, arrays: Any, metadata: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _core.safetensors_save(tmp_path / "x", arrays, metadata)
    assert not list(tmp_path.iterdir())


def test_system_errors_have_their_own_classes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="cannot be opened"):
        _core.safetensors_load(tmp_path / "absent")
    with pytest.raises(IsADirectoryError):
        _core.safetensors_load(tmp_path)
    with pytest.raises(IsADirectoryError):
        _core.safetensors_save(tmp_path, {})
    with pytest.raises(FileNotFoundError):
        _core.safetensors_save(tmp_path / "absent" / "x", {})
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no regular file"):
        _core.safetensors_load(tmp_path / "fifo")


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk's: both fail in the middle of a write."""
    path = tmp_path / "x"
    _core.safetensors_save(path, {"x": np.arange(5, dtype=np.int64)})
    before = path.read_bytes()
    program = f"""
import resource, signal, numpy as np
from convec import _core
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    _core.safetensors_save({str(path)!r}, {{"x": np.zeros(1 << 20)}})
except OSError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OSError")
    assert "cannot be written" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_ctrl_c_stops_a_long_write(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    program = f"""
import os, signal, threading, time, numpy as np
from convec import _core
table = np.zeros((200_000, 256), np.float32)
threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True:
        _core.safetensors_save({str(path)!r} + ".other", {{"x": table}}, sync=False)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "interrupted\n"
    assert not [file for file in tmp_path.iterdir() if file.name.endswith(".tmp")]


@pytest.mark.parametrize(
    "header",
    [
        b"{" * 3_000_000,
        b'{"x":' + b"[" * 3_000_000,
        b'{"__metadata__":{' + b",".join(b'"%d":""' % i for i in range(300_000)) + b"}}",
        b'{"x":"' + b"\\u00e9" * 500_000,
        b"{"
        + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % i for i in range(60_000))
        + b',"0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    ],
    ids=["braces", "brackets", "metadata", "string", "entries"],
)
def test_memory_is_bounded_until_the_header_is_checked(tmp_path: Path, header: bytes) -> None:
    path = write(tmp_path / "x", header)
    program = f"""
import resource
from convec import _core
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    _core.safetensors_describe({str(path)!r})
except ValueError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 4 * path.stat().st_size + (16 << 20)


def test_absurd_sizes_cost_nothing(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in (0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1):
        path = tmp_path / "x"
        path.write_bytes(struct.pack("<Q", size) + b"{}")
        with pytest.raises(ValueError):
            _core.safetensors_load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16_000
