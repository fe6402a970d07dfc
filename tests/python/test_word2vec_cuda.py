"""Word2Vec on CUDA devices: here the emulated one (tests/cpp/test_cuda_word2vec.cpp has the kernels' own tests), and on
a GPU where there is one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import _core, _device
from convec.models import Word2Vec
from convec.models._word2vec_device import DeviceTrainer
from convec.models.callbacks import CallbackAny2Vec

_REASON = _device.cuda_problem()
needs_gpu = pytest.mark.skipif(bool(_REASON), reason=f"needs a GPU: {_REASON}")


def sentences(count: int = 60, words: int = 25, seed: int = 3) -> list[list[str]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 12, count)
    return [[f"w{int(w)}" for w in random.random(n) ** 2 * words] for n in lengths]


SETTINGS = {"vector_size": 20, "min_count": 1, "seed": 7, "sample": 0.05, "epochs": 2, "workers": 1, "sg": 1}


def model_of(**settings: object) -> Word2Vec:
    return Word2Vec(sentences(), **{**SETTINGS, **settings})  # type: ignore[arg-type]


def test_the_tables_are_those_of_the_cpu_but_for_the_order(emulated: None) -> None:
    # At a small learning rate the order of the updates is of no account, the draws are.
    settings = {"alpha": 1e-4, "min_alpha": 1e-4, "compute_loss": True}
    there = model_of(device="cuda", concurrency=1, **settings)
    here = model_of(**settings)
    assert there.epoch_losses == pytest.approx(here.epoch_losses, rel=1e-4)
    np.testing.assert_allclose(there.wv.vectors, here.wv.vectors, atol=1e-6)
    np.testing.assert_allclose(there.syn1neg, here.syn1neg, atol=1e-6)
    assert np.abs(there.syn1neg).max() > 1e-4


def test_training_on_the_device_teaches_the_model(emulated: None) -> None:
    pairs = [[f"a{i % 4}", f"b{i % 4}", f"a{i % 4}", f"b{i % 4}"] for i in range(240)]
    model = Word2Vec(pairs, vector_size=16, min_count=1, sg=1, epochs=5, alpha=0.1, window=2, sample=0,
                     device="cuda:0", compute_loss=True)  # fmt: skip
    assert model.epoch_losses[-1] < 0.8 * model.epoch_losses[0]
    assert model.wv.vectors.dtype == np.float32
    assert model.wv.most_similar("a2", topn=1)[0][0] == "b2"


@pytest.mark.parametrize("sg", [0, 1])
def test_one_team_repeats_itself(emulated: None, sg: int) -> None:
    first = model_of(device="cuda", concurrency=1, deterministic=True, sg=sg)
    again = model_of(device="cuda", concurrency=1, sg=sg)
    np.testing.assert_array_equal(first.wv.vectors, again.wv.vectors)


def test_a_streamed_corpus_gives_the_same(emulated: None) -> None:
    class Again:
        def __iter__(self) -> Iterator[list[str]]:
            yield from sentences()

    whole = model_of(device="cuda", concurrency=1)
    streamed = Word2Vec(Again(), **SETTINGS, device="cuda", concurrency=1)  # type: ignore[arg-type]
    np.testing.assert_allclose(streamed.wv.vectors, whole.wv.vectors, atol=1e-6)


def test_the_current_device_is_taken(emulated: None) -> None:
    with convec.device("cuda"):
        model = Word2Vec(**SETTINGS)  # type: ignore[arg-type]
    assert str(model.device) == "cuda:0"
    assert str(Word2Vec(**SETTINGS).device) == "cpu"  # type: ignore[arg-type]
    model.device = "cpu"  # type: ignore[assignment]
    assert model.device == convec.device("cpu")


def test_saving_and_loading_moves_between_devices(emulated: None, tmp_path: Path) -> None:
    model = model_of(device="cuda", concurrency=1, precision="bfloat16")
    path = str(tmp_path / "model")
    model.save(path)
    loaded = Word2Vec.load(path)
    np.testing.assert_array_equal(loaded.wv.vectors, model.wv.vectors)
    np.testing.assert_array_equal(loaded.syn1neg, model.syn1neg)
    assert str(loaded.device) == "cpu"
    with pytest.raises(ValueError, match="precision is 'bfloat16', but the cpu"):
        loaded.train(sentences(), total_examples=60, epochs=1)
    loaded.precision = "float32"
    loaded.train(sentences(), total_examples=60, epochs=1)
    loaded.device = "cuda"  # type: ignore[assignment]
    loaded.train(sentences(), total_examples=60, epochs=1)
    assert loaded.epochs_trained == 4


def test_callbacks_see_what_was_learned(emulated: None) -> None:
    class Watch(CallbackAny2Vec):
        def __init__(self) -> None:
            self.seen: list[np.ndarray] = []

        def on_epoch_end(self, model: Word2Vec) -> None:
            self.seen.append(model.wv.vectors.copy())

    watch = Watch()
    model = model_of(device="cuda", callbacks=[watch], precision="float16", epochs=3)
    assert not np.array_equal(watch.seen[0], watch.seen[1])
    np.testing.assert_array_equal(watch.seen[2], model.wv.vectors)


def test_locked_vectors_stay(emulated: None) -> None:
    model = Word2Vec(**SETTINGS, device="cuda")  # type: ignore[arg-type]
    model.build_vocab(sentences())
    lock = np.ones(len(model.wv), np.float32)
    lock[[0, 3]] = 0
    model.wv.vectors_lockf = lock
    before = model.wv.vectors.copy()
    model.train(sentences(), total_examples=60, epochs=2)
    same = (model.wv.vectors == before).all(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(same), [0, 3])


def test_checkpoints_hold_what_was_learned(emulated: None, tmp_path: Path) -> None:
    path = str(tmp_path / "checkpoint")
    model = Word2Vec(**SETTINGS, device="cuda", concurrency=1)  # type: ignore[arg-type]
    model.build_vocab(sentences())
    model.train(sentences(), total_examples=60, epochs=2, checkpoint=path, checkpoint_every=0)
    np.testing.assert_array_equal(Word2Vec.load(path).wv.vectors, model.wv.vectors)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hs": 1}, "hs is 1, but hierarchical softmax is trained on the cpu only, not on cuda:0"),
        ({"vector_size": 1025}, "vector_size is 1025, but cuda:0 trains vectors of at most 1024"),
        ({"deterministic": True}, "deterministic is True, but cuda:0"),
        ({"concurrency": 0}, "concurrency is 0, but must be in"),
        ({"device": "gpu"}, "device is 'gpu', but must be 'cpu', 'cuda'"),
        ({"precision": "bf16"}, "precision is 'bf16'"),
    ],
)
def test_what_a_device_cannot_do_is_refused(emulated: None, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Word2Vec(**{"device": "cuda", **settings})  # type: ignore[arg-type]


@pytest.mark.skipif(not _REASON, reason="CUDA devices can be used here")
def test_a_machine_without_cuda_says_why() -> None:
    with pytest.raises(RuntimeError, match="CUDA is asked for, but "):
        Word2Vec(device="cuda")


def test_ctrl_c_keeps_what_was_learned(emulated: None) -> None:
    model = Word2Vec(**SETTINGS, device="cuda")  # type: ignore[arg-type]
    model.build_vocab(sentences())
    before = model.wv.vectors.copy()

    class Stop(CallbackAny2Vec):
        def on_epoch_end(self, model: Word2Vec) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.train(sentences(), total_examples=60, epochs=2, callbacks=[Stop()])
    assert not np.array_equal(before, model.wv.vectors)
    assert model.train(sentences(), total_examples=60, epochs=1)[1] > 0


def test_a_lost_device_leaves_the_epoch_before(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Word2Vec(**SETTINGS, device="cuda", concurrency=1)  # type: ignore[arg-type]
    model.build_vocab(sentences())
    good = model_of(device="cuda", concurrency=1, epochs=1, min_alpha=0.025)
    train, calls = DeviceTrainer.train, 0

    def lost(self: DeviceTrainer, *args: Any, **settings: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        result = train(self, *args, **settings)
        if calls == 2:

            def fetch() -> None:
                raise RuntimeError("the device is lost")

            monkeypatch.setattr(self, "fetch", fetch)
            raise RuntimeError("the device is lost")
        return result

    monkeypatch.setattr(DeviceTrainer, "train", lost)
    with pytest.raises(RuntimeError, match="the device is lost"):
        model.train(sentences(), total_examples=60, epochs=2, start_alpha=0.025, end_alpha=0.025)
    assert calls == 2
    np.testing.assert_array_equal(model.wv.vectors, good.wv.vectors)
    np.testing.assert_array_equal(model.syn1neg, good.syn1neg)
    monkeypatch.undo()
    model.device = "cpu"  # type: ignore[assignment]
    assert model.train(sentences(), total_examples=60, epochs=1)[1] > 0


def trainer_of(words: int = 300) -> _core.Word2VecTrainer:
    return _core.Word2VecTrainer(
        np.full(words, 10), vector_size=8, sg=True, hs=False, negative=5, window=2, shrink_windows=True,
        cbow_mean=True, seed=1, sample=0.0, ns_exponent=0.75,
    )  # fmt: skip


def test_progress_stops_training(emulated: None) -> None:
    cuda = _device.load_cuda()
    tables = cuda.Word2VecTables(trainer_of(), piece_tokens=256)
    tokens = np.random.default_rng(0).integers(0, 300, 5000).astype(np.int32)
    tokens[::20] = -1
    calls: list[tuple[int, float]] = []

    def progress(done: int, alpha: float) -> None:
        calls.append((done, alpha))
        if done > 1000:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        tables.train(tokens, progress=progress, progress_interval=0.0)
    assert 1000 < calls[-1][0] < 2000
    ids = cuda.Word2VecIds(tables, tokens)
    assert ids.resident
    assert len(ids) == 5000
    assert tables.train(ids)["trained_words"] == int((tokens >= 0).sum())


class OwnStream:
    """Ids on the device whose producer names a stream."""

    def __init__(self, array: _device.DeviceArray, stream: int) -> None:
        self.__cuda_array_interface__ = array.__cuda_array_interface__ | {"stream": stream}


def test_ids_on_the_device_stay_there(emulated: None) -> None:
    cuda = _device.load_cuda()
    tokens = np.random.default_rng(0).integers(0, 300, 5000).astype(np.int32)
    tokens[::20] = -1
    tokens[1000:3000] = 7  # a sentence that is longer than pieces, and than what is fetched of them at once
    there = _device.DeviceArray.of(tokens)
    found = []
    for make in (lambda: tokens, lambda: there, lambda: OwnStream(there, 1)):
        trainer = trainer_of()
        tables = cuda.Word2VecTables(trainer, concurrency=1, piece_tokens=256)
        free = _core.free_device_memory(0)
        ids = cuda.Word2VecIds(tables, make())
        assert ids.resident
        assert len(ids) == len(tokens)
        assert (_core.free_device_memory(0) == free) == (make() is not tokens)
        tables.train(ids)
        tables.download()
        found.append(trainer.vectors.copy())
        del ids, tables
    for vectors in found[1:]:
        np.testing.assert_array_equal(vectors, found[0])


def test_bad_ids_on_the_device_are_refused(emulated: None) -> None:
    cuda = _device.load_cuda()
    tables = cuda.Word2VecTables(trainer_of(5))
    of = _device.DeviceArray.of
    with pytest.raises(ValueError, match=r"tokens\[2\] is 5, but must be -1 or below 5"):
        cuda.Word2VecIds(tables, of(np.array([1, -1, 5, 9], np.int32)))
    with pytest.raises(ValueError, match=r"tokens\[0\] is -2"):
        cuda.Word2VecIds(tables, of(np.array([-2], np.int32)))
    with pytest.raises(TypeError, match="tokens is int64"):
        cuda.Word2VecIds(tables, of(np.array([1, 2])))
    with pytest.raises(ValueError, match="2 dimensions"):
        cuda.Word2VecIds(tables, of(np.zeros((2, 2), np.int32)))
    with pytest.raises(TypeError, match="tokens is of type list"):
        cuda.Word2VecIds(tables, [1, 2])
    assert len(cuda.Word2VecIds(tables, of(np.zeros(0, np.int32)))) == 0


def test_bad_tokens_are_refused(emulated: None) -> None:
    cuda = _device.load_cuda()
    tables = cuda.Word2VecTables(trainer_of(5), tables="bfloat16", concurrency=3)
    assert tables.concurrency == 3
    with pytest.raises(ValueError, match=r"tokens\[1\] is 5"):
        tables.train(np.array([1, 5], np.int32))
    with pytest.raises(TypeError, match="int32"):
        tables.train(np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="2 dimensions"):
        cuda.Word2VecIds(tables, np.zeros((2, 2), np.int32))
    with pytest.raises(ValueError, match="tables is 'half'"):
        cuda.Word2VecTables(trainer_of(5), tables="half")
    assert cuda.word2vec_memory_needed(trainer_of(5)) > 2 * 5 * 16 * 4


def test_training_releases_the_gil(emulated: None) -> None:
    cuda = _device.load_cuda()
    tables = cuda.Word2VecTables(trainer_of())
    tokens = np.arange(300, dtype=np.int32).repeat(10)
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    tables.train(tokens)
    done.set()
    thread.join()
    assert ticks > 0


# ---- On a GPU ------------------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("vector_size", [1, 50, 64, 100, 128, 200, 256, 300, 301, 1024])
@pytest.mark.parametrize("sg", [0, 1])
def test_a_gpu_learns_as_the_cpu(vector_size: int, sg: int) -> None:
    settings = {"alpha": 2e-4, "min_alpha": 2e-4, "compute_loss": True, "vector_size": vector_size, "sg": sg}
    there = model_of(device="cuda", concurrency=1, **settings)
    here = model_of(**settings)
    assert there.epoch_losses == pytest.approx(here.epoch_losses, rel=1e-4)
    np.testing.assert_allclose(there.wv.vectors, here.wv.vectors, atol=2e-6)
    np.testing.assert_allclose(there.syn1neg, here.syn1neg, atol=2e-6)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_full_gpu_reaches_the_loss_of_the_cpu(precision: str) -> None:
    text = sentences(20000, 2000)
    settings = {"vector_size": 100, "min_count": 1, "epochs": 3, "sg": 1, "compute_loss": True}
    there = Word2Vec(text, device="cuda", precision=precision, **settings)  # type: ignore[arg-type]
    here = Word2Vec(text, **settings)  # type: ignore[arg-type]
    assert there.epoch_losses[-1] == pytest.approx(here.epoch_losses[-1], rel=0.02)
