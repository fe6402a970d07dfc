"""A full disk: every writer says so by an OSError, keeps the old file and leaves nothing else behind.

The limit on the size of files stands for the disk: the kernel refuses to write beyond it as it refuses on a full disk,
in the middle of a file.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import callbacks, layers, saving
from convec.models import KeyedVectors, Sequential, Word2Vec
from convec.models.callbacks import CallbackAny2Vec

LIMIT = 16384
X = np.zeros((8, 64), np.float32)
Y = np.zeros(8, np.int64)
SENTENCES = [[f"word{(7 * line + word) % 300}" for word in range(20)] for line in range(60)]


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
    return Word2Vec(SENTENCES, vector_size=64, min_count=1, epochs=1, workers=1)


def fill_the_disk() -> None:
    """From now on files hold no more than LIMIT bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@contextmanager
def disk_fills_up() -> Iterator[None]:
    """What runs within, and calls :func:`fill_the_disk`, must raise OSError. There is room again behind it."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def on_a_full_disk(write: Callable[[], object]) -> None:
    """Calls ``write``, which must raise OSError, where files hold no more than LIMIT bytes."""
    with disk_fills_up():
        fill_the_disk()
        write()


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


def test_word2vec_checkpoints(tmp_path: Path) -> None:
    """Training ends at the checkpoint that cannot be written; the last one stays, and can be gone on from."""
    path = tmp_path / "m"
    corpus = 40 * SENTENCES  # several pieces

    def build() -> Word2Vec:
        model = Word2Vec(vector_size=64, min_count=1, workers=1, sample=0)
        model.build_vocab(corpus)
        return model

    def train(model: Word2Vec, resume: bool = False, hooks: Sequence[CallbackAny2Vec] = ()) -> None:
        model.train(
            corpus,
            total_examples=len(corpus),
            epochs=2,
            checkpoint=path,
            checkpoint_every=0,
            resume=resume,
            callbacks=hooks,
        )

    class Fills(CallbackAny2Vec):
        """The disk is full from the second epoch on."""

        first = kept = b""

        def on_epoch_begin(self, model: Word2Vec) -> None:
            self.first = self.first or path.read_bytes()
            if model.epochs_trained == 1:
                self.kept = path.read_bytes()
                fill_the_disk()

    on_a_full_disk(lambda: train(build()))
    assert list(tmp_path.iterdir()) == []
    unbroken = build()
    train(unbroken)
    path.unlink()

    fills = Fills()
    with disk_fills_up():
        train(build(), hooks=[fills])
    assert path.read_bytes() == fills.kept != fills.first
    assert list(tmp_path.iterdir()) == [path]
    resumed = Word2Vec.load(path)
    train(resumed, resume=True)
    np.testing.assert_array_equal(resumed.wv.vectors, unbroken.wv.vectors)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("large", ["vectors", "metadata"])
def test_projector(tmp_path: Path, large: str) -> None:
    """Two files, of which one is too large, by no more than a buffer holds: the other one is not replaced either."""

    def vectors(seed: int) -> KeyedVectors:
        count, length = (300, 5) if large == "vectors" else (20, 840)
        kv = KeyedVectors(64 if large == "vectors" else 1)
        numbers = np.random.default_rng(seed).normal(size=(count, kv.vector_size)).astype(np.float32)
        kv.add_vectors([f"{seed}{word}".ljust(length, "x") for word in range(count)], numbers)
        return kv

    on_a_full_disk(lambda: vectors(0).save_tensorboard(tmp_path))
    assert contents(tmp_path) == {}
    vectors(0).save_tensorboard(tmp_path)
    before = contents(tmp_path)
    assert before.keys() == {"vectors.tsv", "metadata.tsv"}
    assert len(before[f"{large}.tsv"]) > LIMIT
    on_a_full_disk(lambda: vectors(1).save_tensorboard(tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("large", ["model.safetensors", "tokenizer.json"])
def test_sentence_transformers(tmp_path: Path, large: str) -> None:
    count, length, size = (300, 5, 64) if large == "model.safetensors" else (20, 2000, 1)
    kv = KeyedVectors(size)
    kv.add_vectors([str(word).ljust(length, "x") for word in range(count)], np.ones((count, size), np.float32))
    folder = tmp_path / "model"
    on_a_full_disk(lambda: kv.save_sentence_transformers(folder))
    assert list(tmp_path.iterdir()) == []
    kv.save_sentence_transformers(folder)
    before = contents(tmp_path)
    assert len(before[f"model/0_StaticEmbedding/{large}"]) > LIMIT
    on_a_full_disk(lambda: kv.save_sentence_transformers(folder))
    assert contents(tmp_path) == before
    assert list(tmp_path.iterdir()) == [folder]


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


def test_what_does_not_reach_the_disk_replaces_nothing(
    tmp_path: Path, model: Sequential, words: Word2Vec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every writer of Python asks the disk before the old file goes, and then for its new name."""
    writers: dict[str, Callable[[Path], Any]] = {
        "m.npz": model.save_weights,
        "m.bin": lambda path: words.wv.save_word2vec_format(path, binary=True),
        "m.txt.gz": words.wv.save_word2vec_format,
        "log": words.wv.save_tensorboard,
        "folder": words.wv.save_sentence_transformers,
    }
    asked: list[str] = []
    sync = os.fsync

    def noting(descriptor: int) -> None:
        asked.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    for name, write in writers.items():
        asked.clear()
        write(tmp_path / name)
        where = str(tmp_path / name if name == "log" else tmp_path)
        assert asked[-1] == where
        assert len(asked) > 1
        assert where not in asked[:-1]

    def fails(descriptor: int) -> None:
        del descriptor
        raise OSError(5, "Input/output error")

    before = contents(tmp_path)
    monkeypatch.setattr(os, "fsync", fails)
    for name, write in writers.items():
        with pytest.raises(OSError, match="Input/output"):
            write(tmp_path / name)
    with pytest.raises(OSError, match="Input/output"):
        words.wv.save_word2vec_format(tmp_path / "m.txt.gz", append=True)
    assert contents(tmp_path) == before
