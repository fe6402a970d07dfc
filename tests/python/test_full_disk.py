"""A full disk: every writer says so by an OSError, keeps the old file and leaves nothing else behind.

The limit on the size of files stands for the disk: the kernel refuses to write beyond it as it refuses on a full disk,
in the middle of a file.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import callbacks, layers, saving
from convec.models import Sequential, Word2Vec

LIMIT = 16384
X = np.zeros((8, 64), np.float32)
Y = np.zeros(8, np.int64)


@pytest.fixture(scope="module")
def model() -> Sequential:
    built = Sequential(
        [convec.Input((64,)), layers.Dense(128, activation="relu"), layers.Dense(3, activation="softmax")]
    )
    built.compile("adam", "sparse_categorical_crossentropy")
    built.fit(X, Y, verbose=0)
    return built


@pytest.fixture(scope="module")
def words() -> Word2Vec:
    sentences = [[f"word{(7 * line + word) % 300}" for word in range(20)] for line in range(60)]
    return Word2Vec(sentences, vector_size=64, min_count=1, epochs=1, workers=1)


def on_a_full_disk(write: Callable[[], object]) -> None:
    """Calls ``write``, which must raise OSError, where files hold no more than LIMIT bytes."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
        with pytest.raises(OSError):
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def check(path: Path, write: Callable[[], object]) -> None:
    """Without an old file, none is left; an old one stays as it was; afterwards all is well again."""
    on_a_full_disk(write)
    assert list(path.parent.iterdir()) == []
    write()
    before = path.read_bytes()
    assert len(before) > LIMIT
    on_a_full_disk(write)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    write()


@pytest.mark.parametrize("ending", [".safetensors", ".keras"])
def test_models(tmp_path: Path, model: Sequential, ending: str) -> None:
    if ending == ".keras":
        pytest.importorskip("h5py")
    path = tmp_path / f"m{ending}"
    check(path, lambda: model.save(path))
    np.testing.assert_array_equal(saving.load_model(path).get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5", ".npz"])
def test_weights(tmp_path: Path, model: Sequential, ending: str) -> None:
    if ending == ".weights.h5":
        pytest.importorskip("h5py")
    path = tmp_path / f"m{ending}"
    check(path, lambda: model.save_weights(path))
    model.load_weights(path)


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    check(path, lambda: saving.save_arrays(path, {"x": np.zeros(9999)}))


def test_onnx(tmp_path: Path, model: Sequential) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "m.onnx"
    check(path, lambda: convec.export_onnx(model, path))


def test_checkpoints(tmp_path: Path, model: Sequential) -> None:
    path = tmp_path / "m.safetensors"
    check(path, lambda: model.fit(X, Y, verbose=0, callbacks=[callbacks.ModelCheckpoint(path)]))
    saving.load_model(path)


def test_logs(tmp_path: Path, model: Sequential) -> None:
    """A log grows line by line: what is written stays, and the error is raised."""
    path = tmp_path / "log.csv"
    path.write_text("x" * LIMIT)
    on_a_full_disk(lambda: model.fit(X, Y, verbose=0, callbacks=[callbacks.CSVLogger(path, append=True)]))
    assert path.read_text() == "x" * LIMIT


@pytest.mark.parametrize("what", ["model", "vectors"])
def test_word_vectors(tmp_path: Path, words: Word2Vec, what: str) -> None:
    path = tmp_path / "m"
    saved: Any = words if what == "model" else words.wv
    check(path, lambda: saved.save(path))
    assert type(saved).load(path) is not None


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("binary", [False, True])
def test_word2vec_formats(tmp_path: Path, words: Word2Vec, binary: bool, ending: str) -> None:
    path = tmp_path / f"m{ending}"
    check(path, lambda: words.wv.save_word2vec_format(path, binary=binary))
    before = path.read_bytes()
    on_a_full_disk(lambda: words.wv.save_word2vec_format(path, binary=binary, append=True))
    assert path.read_bytes() == before


def test_a_real_full_disk(tmp_path: Path, model: Sequential, words: Word2Vec) -> None:
    """A file system of 24 KB, where this is run by root and may mount one."""
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "none", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        for name, write in (
            ("m.safetensors", model.save),
            ("m.npz", model.save_weights),
            ("m.kv", words.wv.save),
            ("m.bin", lambda path: words.wv.save_word2vec_format(path, binary=True)),
        ):
            path = disk / name
            path.write_text("old")
            with pytest.raises(OSError, match="No space left"):
                write(path)
            assert path.read_text() == "old"
            assert list(disk.iterdir()) == [path]
            path.unlink()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
