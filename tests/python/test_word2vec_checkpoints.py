"""Training of Word2Vec that goes on from a checkpoint ends as training that was never interrupted, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core
from convec.models import Word2Vec
from convec.models.callbacks import CallbackAny2Vec
from killing import kill_at_random, kills


class Sentences:
    """About 40,000 words that depend on each other, as an iterable, a list or a file."""

    def __init__(self, count: int = 4000) -> None:
        rng = np.random.default_rng(1)
        numbers = (np.cumsum(rng.integers(-3, 4, (count, 10)), axis=1) + rng.integers(0, 50, (count, 1))) % 60
        self.list = [[f"w{number}" for number in row] for row in numbers.tolist()]

    def __iter__(self) -> Iterator[list[str]]:
        return iter(self.list)

    def file(self, folder: Path) -> str:
        path = folder / "text.txt"
        path.write_text("".join(" ".join(sentence) + "\n" for sentence in self.list))
        return str(path)


SENTENCES = Sentences()
SETTINGS: dict[str, Any] = {"vector_size": 20, "min_count": 1, "epochs": 3, "workers": 1, "sample": 0.01, "seed": 5}


class StopError(Exception):
    pass


def build(corpus: Any, **settings: Any) -> Word2Vec:
    model = Word2Vec(**{**SETTINGS, **settings})
    model.build_vocab(corpus)
    return model


def train(model: Word2Vec, corpus: Any, **arguments: Any) -> tuple[int, int]:
    return model.train(corpus, total_examples=model.corpus_count, epochs=model.epochs, **arguments)


def interrupted(model: Word2Vec, corpus: Any, path: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains with a checkpoint after every piece, and fails once ``after`` of them have been written."""
    written = 0
    write = Word2Vec._write_checkpoint

    def counting(self: Word2Vec, target: str) -> None:
        nonlocal written
        write(self, target)
        written += 1
        if written > after:
            raise StopError

    with monkeypatch.context() as patch:
        patch.setattr(Word2Vec, "_write_checkpoint", counting)
        with pytest.raises(StopError):
            train(model, corpus, checkpoint=path, checkpoint_every=0, compute_loss=model.compute_loss)


def same(a: Word2Vec, b: Word2Vec) -> None:
    np.testing.assert_array_equal(a.wv.vectors, b.wv.vectors)
    for name, table in a._tables().items():
        np.testing.assert_array_equal(table, b._tables()[name])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("list", {"sg": 1}),
        ("file", {"hs": 1, "negative": 0}),
        ("stream", {"batch_words": 100, "compute_loss": True}),
        ("list", {"deterministic": True, "workers": 2}),
        ("list", {"precision": "float16"}),
    ],
)
def test_it_ends_with_the_same_vectors(
    tmp_path: Path, kind: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus: Any = SENTENCES if kind == "stream" else SENTENCES.list
    unbroken = build(corpus, **settings)
    loss = bool(settings.get("compute_loss"))
    expected = train(unbroken, corpus, compute_loss=loss)
    path = tmp_path / "checkpoint"
    for after in (0, 1, 2, 4, 5):
        interrupted(build(corpus, **settings), corpus, path, after, monkeypatch)
        model = Word2Vec.load(path)
        arguments: dict[str, Any] = {"corpus_iterable": corpus}
        if kind == "file":
            arguments = {"corpus_file": SENTENCES.file(tmp_path)}
        assert model.train(**arguments, resume=True) == expected
        same(model, unbroken)
        assert model.epochs_trained == 3
        assert model.epoch_losses == pytest.approx(unbroken.epoch_losses, rel=1e-12)
        assert model.min_alpha_yet_reached == unbroken.min_alpha_yet_reached


def test_vectors_that_are_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Sentences(60_000).list
    models = [build(corpus, epochs=1), build(corpus, epochs=1)]
    for model in models:
        model.wv.vectors_lockf = np.ones(len(model.wv), np.float32)
        model.wv.vectors_lockf[:5] = 0.5
    train(models[0], corpus)
    path = tmp_path / "checkpoint"
    interrupted(models[1], corpus, path, 1, monkeypatch)
    resumed = Word2Vec.load(path)
    resumed.train(corpus, resume=True)
    same(models[0], resumed)


def test_what_was_finished_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    model = Word2Vec(SENTENCES.list, checkpoint=path, **SETTINGS)
    again = Word2Vec.load(path)
    same(model, again)
    assert train(again, SENTENCES.list, resume=True) == train(Word2Vec.load(path), SENTENCES.list, resume=True)
    same(model, again)
    assert again.epochs_trained == 3


def test_a_model_saved_by_a_callback_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "model"

    class Save(CallbackAny2Vec):
        def on_epoch_end(self, model: Word2Vec) -> None:
            if model.epochs_trained == 1:
                model.save(path)

    unbroken = Word2Vec(SENTENCES.list, callbacks=[Save()], **SETTINGS)
    model = Word2Vec.load(path)
    model.train(SENTENCES.list, resume=True)
    same(model, unbroken)


def test_a_model_that_was_never_trained_begins() -> None:
    model = build(SENTENCES.list)
    train(model, SENTENCES.list, resume=True)
    same(model, Word2Vec(SENTENCES.list, **SETTINGS))


def test_seconds_between_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few where they are far apart, and the same vectors as without any."""
    written: list[str] = []
    write = Word2Vec._write_checkpoint
    monkeypatch.setattr(Word2Vec, "_write_checkpoint", lambda self, path: (written.append(path), write(self, path)))
    model = Word2Vec(SENTENCES.list, checkpoint=tmp_path / "m", checkpoint_every=1000, **SETTINGS)
    assert len(written) == 2
    same(model, Word2Vec(SENTENCES.list, **SETTINGS))


def test_what_is_wrong_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint"
    interrupted(build(SENTENCES.list), SENTENCES.list, path, 2, monkeypatch)
    for arguments, message in (
        ({"epochs": 4}, "epochs is 4, but the training to go on with was begun with 3"),
        ({"total_examples": 3}, "total_examples is 3"),
        ({"start_alpha": 0.5}, "start_alpha is 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            Word2Vec.load(path).train(SENTENCES.list, resume=True, **arguments)
    for other in (SENTENCES.list[:10], Sentences(7)):
        with pytest.raises(ValueError, match="the corpus is not the one"):
            Word2Vec.load(path).train(other, resume=True)
    trained = Word2Vec(SENTENCES.list, **SETTINGS)
    trained._position = None
    with pytest.raises(RuntimeError, match="not saved in the middle"):
        train(trained, SENTENCES.list, resume=True)
    with pytest.raises(ValueError, match="checkpoint_every is -1"):
        train(trained, SENTENCES.list, checkpoint=path, checkpoint_every=-1)
    with pytest.raises(TypeError, match="checkpoint is 3"):
        train(trained, SENTENCES.list, checkpoint=3)
    with pytest.raises(OSError, match="nowhere"):
        train(build(SENTENCES.list), SENTENCES.list, checkpoint=tmp_path / "nowhere" / "m")


@pytest.mark.parametrize(
    "damage",
    [
        lambda position: position.pop("epoch"),
        lambda position: position.update(epoch=-1),
        lambda position: position.update(epoch=True),
        lambda position: position.update(alpha="0.1"),
        lambda position: position.update(alpha=float("nan")),
        lambda position: position.update(within=[]),
        lambda position: position["within"].update(tokens=1.5),
    ],
)
def test_a_damaged_position_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], Any]) -> None:
    path = tmp_path / "m"
    Word2Vec(SENTENCES.list[:50], **SETTINGS).save(path)
    arrays, metadata = _core.safetensors_load(path, mmap=False)
    parameters = json.loads(metadata["parameters"])
    damage(parameters["position"])
    _core.safetensors_save(path, arrays, {**metadata, "parameters": json.dumps(parameters)})
    with pytest.raises(ValueError, match="position of its training"):
        Word2Vec.load(path)


def test_a_killed_program_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """kill -9 at random moments; CONVEC_KILLS=50 tries it more often."""
    path = tmp_path / "checkpoint"
    epochs = 4 * kills()
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_word2vec_checkpoints as t
path = {str(path)!r}
corpus = t.Sentences(40_000).list
model = t.Word2Vec.load(path) if os.path.exists(path) else t.build(corpus, epochs={epochs})
print("ready", flush=True)
# The last run, which nobody kills, need not wait for the disk.
seconds = 1000 if "last" in sys.argv else 0.01
t.train(model, corpus, checkpoint=path, checkpoint_every=seconds, resume=True)
"""
    seen = []

    def check() -> None:
        if path.exists():
            position = Word2Vec.load(path)._position
            assert position is not None
            assert not position.finished  # else there was nothing to interrupt
            seen.append((position.epoch, position.within.tokens))

    kill_at_random(program, 0.25, check)
    assert seen == sorted(seen)
    corpus = Sentences(40_000).list
    unbroken = build(corpus, epochs=epochs)
    train(unbroken, corpus)
    model = Word2Vec.load(path)
    same(model, unbroken)
    assert model.epochs_trained == epochs
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == ["checkpoint"]
