"""Searches among vectors on CUDA devices: here the emulated one (tests/cpp/test_cuda_vectors.cpp has the kernels' own
tests), and on a GPU where there is one."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import _device
from convec.models import KeyedVectors, Word2Vec

_REASON = _device.cuda_problem()
needs_gpu = pytest.mark.skipif(bool(_REASON), reason=f"needs a GPU: {_REASON}")


@pytest.fixture
def emulated(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small searches run on the device, too."""
    monkeypatch.setattr(KeyedVectors, "device_threshold", 0)


def vectors_of(count: int, size: int, dtype: Any = np.float32) -> KeyedVectors:
    """Small integers: dot products are exact, and equal vectors are ties on every device."""
    random = np.random.default_rng(count + size)
    result = KeyedVectors(size, dtype=dtype)
    result.add_vectors([f"W{i}" for i in range(count)], random.integers(-3, 4, (count, size)).astype(dtype))
    return result


def on_both(count: int, size: int, dtype: Any = np.float32) -> tuple[KeyedVectors, KeyedVectors]:
    there = vectors_of(count, size, dtype)
    there.device = "cuda:0"  # type: ignore[assignment]
    return there, vectors_of(count, size, dtype)


def alike(there: list[tuple[str, float]], here: list[tuple[str, float]], vectors: KeyedVectors) -> None:
    """The same neighbours; neighbours of the same similarity but for rounding may have changed places."""
    np.testing.assert_allclose([value for _, value in there], [value for _, value in here], rtol=1e-5, atol=1e-6)
    if [key for key, _ in there] == [key for key, _ in here]:
        return
    for (a, value), (b, _) in zip(there, here, strict=True):
        assert a == b or min(abs(value - other) for key, other in here if key != a) < 1e-5
    assert len({key for key, _ in there}) == len(there)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize(("count", "size"), [(1, 3), (2, 1), (31, 7), (211, 50)])
def test_neighbours_are_those_of_the_cpu(emulated: None, count: int, size: int, dtype: Any) -> None:
    there, here = on_both(count, size, dtype)
    for topn in (1, 10, count + 5, 150):
        for positive, negative in ((["W0"], []), (["W0", there.vectors[0] * 2], [f"W{count - 1}"])):
            alike(
                there.most_similar(positive, negative, topn=topn),
                here.most_similar(positive, negative, topn=topn),
                here,
            )
            alike(
                there.most_similar_cosmul(positive, negative, topn=topn),
                here.most_similar_cosmul(positive, negative, topn=topn),
                here,
            )
    for end in (1, count // 2 + 1):
        alike(there.most_similar("W0", restrict_vocab=end), here.most_similar("W0", restrict_vocab=end), here)
    alike(there.most_similar("W0", clip_start=count // 3), here.most_similar("W0", clip_start=count // 3), here)
    for get in (
        lambda wv: wv.most_similar("W0", topn=None),
        lambda wv: wv.most_similar_cosmul("W0", f"W{count - 1}", topn=None),
        lambda wv: wv.most_similar("W0", topn=None, restrict_vocab=count // 2 + 1),
        lambda wv: wv.distances("W0"),
    ):
        np.testing.assert_allclose(get(there), get(here), rtol=1e-5, atol=1e-6)
    assert there._copy is not None  # on the device, not beside it
    assert there.most_similar("W0", topn=0) == []


def test_equal_vectors_come_in_the_order_of_their_rows(emulated: None) -> None:
    there, _ = on_both(64, 5)
    there.vectors = np.tile(np.arange(1, 6, dtype=np.float32), (64, 1))
    for topn in (5, 150):
        found = there.most_similar("W7", topn=topn)
        assert [key for key, _ in found] == [f"W{i}" for i in range(64) if i != 7][:topn]


def test_everything_that_looks_for_neighbours_does_so_there(emulated: None) -> None:
    there, here = on_both(97, 12)
    for call in (
        lambda wv: [key for key, _ in wv.similar_by_word("W3", 5)],
        lambda wv: [key for key, _ in wv.similar_by_key("W3", 5)],
        lambda wv: [key for key, _ in wv.similar_by_vector(wv.vectors[4], 5)],
        lambda wv: wv.closer_than("W3", "W9"),
        lambda wv: wv.rank("W3", "W9"),
        lambda wv: wv.most_similar_to_given("W3", ["W1", "W2"]),
    ):
        there.forget_device()
        assert call(there) == call(here)
    assert there.relative_cosine_similarity("W3", "W9") == pytest.approx(here.relative_cosine_similarity("W3", "W9"))


def test_evaluations_are_those_of_the_cpu(emulated: None, tmp_path: Path) -> None:
    there, here = on_both(150, 10)
    random = np.random.default_rng(1)
    path = tmp_path / "questions.txt"
    lines = [": some"] + [" ".join(f"w{i}" for i in random.choice(150, 4, replace=False)) for _ in range(40)]
    # Questions that have an answer.
    for wv in (there, here):
        wv.vectors[3] = wv.vectors[1] + wv.vectors[2] - wv.vectors[0]
        wv.fill_norms(force=True)
    path.write_text("\n".join([*lines, "w0 w1 w2 w3"]))
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"w{i}\tw{i + 1}\t{random.random()}\n" for i in range(30)))
    for function in ("most_similar", "most_similar_cosmul"):
        score, sections = there.evaluate_word_analogies(path, similarity_function=function)
        assert (score, sections) == here.evaluate_word_analogies(path, similarity_function=function)
    assert score > 0
    assert there._copy is not None
    assert there.evaluate_word_pairs(pairs) == here.evaluate_word_pairs(pairs)


def test_changed_vectors_are_copied_again(emulated: None) -> None:
    there, _ = on_both(20, 4)
    there.most_similar("W0")
    copy_there = there._copy
    there.most_similar("W1")
    assert there._copy is copy_there  # once for all searches
    there["W5"] = there["W0"] * 2
    assert there.most_similar("W0", topn=1)[0][0] == "W5"
    there.add_vectors(["new"], there["W0"][np.newaxis])
    assert [key for key, _ in there.most_similar("W0", topn=2)] == ["W5", "new"]
    there.vectors[6] = there.vectors[0]
    there.fill_norms(force=True)
    assert [key for key, _ in there.most_similar("W0", topn=3)] == ["W5", "W6", "new"]
    there.vectors = there.vectors[::-1]
    assert [key for key, _ in there.most_similar("W0", topn=3)] == ["W14", "W15", "new"]


def test_small_searches_stay_on_the_cpu(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = on_both(30, 4)
    monkeypatch.setattr(KeyedVectors, "device_threshold", 31)
    assert there.most_similar("W0") == here.most_similar("W0")
    assert there._copy is None
    there.most_similar_cosmul("W0", "W1")  # two queries
    assert there._copy is not None
    there.device = "cpu"  # type: ignore[assignment]
    assert there._copy is None
    assert there.most_similar("W0") == here.most_similar("W0")


def test_vectors_that_do_not_fit_are_searched_on_the_cpu(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    there, here = on_both(30, 4)

    class Full:
        calls = 0

        @staticmethod
        def VectorsOnDevice(*_: Any, **__: Any) -> None:
            Full.calls += 1
            raise RuntimeError("out of memory on cuda:0: a table of 30 vectors of 4 numbers needs 1 MB")

    monkeypatch.setattr(_device, "load_cuda", lambda: Full)
    with pytest.warns(RuntimeWarning, match="searched for on the cpu, .*: out of memory on cuda:0: a table") as record:
        assert there.most_similar("W0") == here.most_similar("W0")
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert there.most_similar("W1") == here.most_similar("W1")
    assert Full.calls == 1
    monkeypatch.undo()
    monkeypatch.setattr(KeyedVectors, "device_threshold", 0)
    there.device = "cuda"  # type: ignore[assignment]
    alike(there.most_similar("W0"), here.most_similar("W0"), here)
    assert there._copy is not None
    assert there._copy.table is not None


def test_a_device_that_fails_says_so(emulated: None) -> None:
    there, _ = on_both(30, 4)
    there.most_similar("W0")

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("the device is lost")

    assert there._copy is not None
    there._copy.table = Broken()
    with pytest.raises(RuntimeError, match="lost"):
        there.most_similar("W0")


def test_a_model_takes_its_vectors_along(emulated: None, tmp_path: Path) -> None:
    sentences = [[f"w{i % 7}", f"w{i % 5}", f"w{i % 3}"] for i in range(60)]
    model = Word2Vec(sentences, vector_size=8, min_count=1, device="cuda", epochs=1)
    assert str(model.wv.device) == "cuda:0"
    here = copy.deepcopy(model.wv)
    here.device = "cpu"  # type: ignore[assignment]
    alike(model.wv.most_similar("w1"), here.most_similar("w1"), here)
    before = model.wv._copy
    assert before is not None
    model.train(sentences, total_examples=60, epochs=1)
    assert model.wv._copy is None  # its memory is the training's
    assert model.wv.most_similar("w1") != here.most_similar("w1")
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert str(again.wv.device) == "cpu"
        assert again.wv._copy is None
    model.device = "cpu"  # type: ignore[assignment]
    assert str(model.wv.device) == "cpu"
    model.save(str(tmp_path / "model"))
    with convec.device("cuda"):
        loaded = Word2Vec.load(str(tmp_path / "model"))
        vectors = KeyedVectors(3)
    assert str(loaded.wv.device) == str(vectors.device) == "cuda:0"
    assert str(KeyedVectors(3).device) == "cpu"
    with pytest.raises(ValueError, match="device is 'gpu', but must be"):
        vectors.device = "gpu"  # type: ignore[assignment]


def test_bad_arrays_are_refused(emulated: None) -> None:
    table = _device.load_cuda().VectorsOnDevice(5, 3)
    assert (table.rows, table.dim) == (5, 3)
    with pytest.raises(TypeError, match="float32"):
        table.copy_in(0, np.zeros((5, 3)), None)
    with pytest.raises(ValueError, match="norms has shape"):
        table.copy_in(0, np.zeros((5, 3), np.float32), np.ones(4, np.float32))
    with pytest.raises(ValueError, match=r"queries has shape \(1, 4\)"):
        table.similarities(np.zeros((1, 4), np.float32), 0, 5)
    with pytest.raises(ValueError, match="excluded has 2 lists"):
        table.nearest(np.zeros((1, 3), np.float32), topn=1, begin=0, end=5, excluded=[[1], [2]])
    with pytest.raises(ValueError, match="topn is -1"):
        table.nearest(np.zeros((1, 3), np.float32), topn=-1, begin=0, end=5)
    with pytest.raises(ValueError, match="shape"):
        _device.load_cuda().VectorsOnDevice(-1, 3)


# ---- On a GPU ------------------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize(("count", "size"), [(1, 3), (70_001, 1), (50_000, 100), (20_011, 301), (300_000, 64)])
def test_a_gpu_finds_what_the_cpu_finds(count: int, size: int) -> None:
    there, here = on_both(count, size)
    for topn in (10, 128, 1000):
        alike(there.most_similar("W0", topn=topn), here.most_similar("W0", topn=topn), here)
    queries = here.get_normed_vectors()[: min(count, 600)].copy()
    rows = [[i] for i in range(len(queries))]
    found, values = there._nearest(queries, 10, 0, count, rows)
    _, wanted = here._nearest(queries, 10, 0, count, rows)
    np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)
    assert not (found == np.arange(len(queries))[:, np.newaxis]).any()
    assert (there._copy is not None) == (count * len(queries) >= there.device_threshold)
