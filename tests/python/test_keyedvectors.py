"""Keyed vectors: look-up, similarities against float64 references, attributes, files of its own format."""

from __future__ import annotations

import copy
import logging
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core
from convec.models import KeyedVectors, keyedvectors, keyedvectors_device, keyedvectors_files

# Sums of up to 304 products of numbers near 1, in float32: rounding stays well below this.
TOLERANCE = 2e-6


def make(
    count: int = 200, size: int = 20, *, seed: int = 0, dtype: Any = np.float32, padding: int = 0, prefix: str = "w"
) -> KeyedVectors:
    """Normally distributed vectors of the keys w0, w1, ...; rows ``size + padding`` elements apart."""
    rng = np.random.default_rng(seed)
    padded = np.full((count, size + padding), np.nan, dtype)
    padded[:, :size] = rng.standard_normal((count, size))
    kv = KeyedVectors(size, dtype=dtype)
    kv.index_to_key = [f"{prefix}{index}" for index in range(count)]
    kv.key_to_index = {key: index for index, key in enumerate(kv.index_to_key)}
    kv.vectors = padded[:, :size]
    return kv


def unit(vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def cosines(kv: KeyedVectors, query: Any) -> np.ndarray:
    return unit(kv.vectors) @ unit(query)


def check_neighbours(
    kv: KeyedVectors, found: list[tuple[Any, float]], query: Any, topn: int, without: set[int]
) -> None:
    """The similarities are right, and no row that was left out is more similar."""
    reference = cosines(kv, query)
    rows = [kv.key_to_index[key] for key, _ in found]
    values = [value for _, value in found]
    assert len(set(rows)) == len(rows) == min(topn, len(kv) - len(without))
    assert not without & set(rows)
    assert values == sorted(values, reverse=True)
    np.testing.assert_allclose(values, reference[rows], atol=TOLERANCE)
    rest = np.delete(reference, [*rows, *without])
    if rest.size:
        assert rest.max() <= min(values) + TOLERANCE


# ---------------------------------------------------------------- the core's search

SHAPES = [(1, 1, 0), (3, 2, 14), (15, 16, 0), (100, 7, 9), (1000, 100, 12), (5000, 33, 0), (9001, 304, 0)]


@pytest.mark.parametrize(("count", "size", "padding"), SHAPES)
@pytest.mark.usefixtures("isa")
def test_norms_and_similarities(count: int, size: int, padding: int) -> None:
    kv = make(count, size, padding=padding)
    queries = unit(np.random.default_rng(1).standard_normal((5, size))).astype(np.float32)
    norms = _core.vector_norms(kv.vectors)
    np.testing.assert_allclose(norms, np.linalg.norm(kv.vectors.astype(np.float64), axis=1), rtol=1e-6)
    reference = unit(queries) @ unit(kv.vectors).T
    np.testing.assert_allclose(_core.vector_similarities(kv.vectors, norms, queries), reference, atol=TOLERANCE)
    dots = queries.astype(np.float64) @ kv.vectors.T.astype(np.float64)
    np.testing.assert_allclose(
        _core.vector_similarities(kv.vectors, None, queries), dots, atol=TOLERANCE * max(1.0, norms.max())
    )


@pytest.mark.parametrize(("count", "size", "padding"), SHAPES)
@pytest.mark.parametrize("queries", [1, 3, 4, 17, 70, 300])
@pytest.mark.usefixtures("isa")
def test_nearest(count: int, size: int, padding: int, queries: int) -> None:
    kv = make(count, size, padding=padding)
    query = unit(np.random.default_rng(1).standard_normal((queries, size))).astype(np.float32)
    norms = _core.vector_norms(kv.vectors)
    reference = unit(query) @ unit(kv.vectors).T
    begin, end = count // 5, count - count // 7
    for topn in (1, 10, count):
        rows, values = _core.nearest_vectors(kv.vectors, norms, query, topn=topn, begin=begin, end=end)
        expected = min(topn, end - begin)
        assert rows.shape == values.shape == (queries, expected)
        assert rows.min() >= begin
        assert rows.max() < end
        np.testing.assert_allclose(values, -np.sort(-reference[:, begin:end], axis=1)[:, :expected], atol=TOLERANCE)
        np.testing.assert_allclose(values, np.take_along_axis(reference, rows, axis=1), atol=TOLERANCE)


def test_nearest_does_not_depend_on_threads(threads: None) -> None:
    kv = make(20000, 24)
    query = unit(np.random.default_rng(1).standard_normal((9, 24))).astype(np.float32)
    results = []
    for count in (1, 2, 5):
        _core.set_num_threads(count)
        for queries in (query[:1], query):
            results.append(_core.nearest_vectors(kv.vectors, None, queries, topn=50, begin=0, end=20000))
    for rows, values in results[2:]:
        other = results[0] if len(rows) == 1 else results[1]
        np.testing.assert_array_equal(rows, other[0])
        np.testing.assert_array_equal(values, other[1])


@pytest.mark.parametrize("queries", [1, 8])
@pytest.mark.usefixtures("isa")
def test_ties_are_in_the_order_of_the_rows(queries: int) -> None:
    # Equal rows far apart, in different blocks and tasks.
    vectors = np.random.default_rng(0).standard_normal((10007, 30)).astype(np.float32)
    same = [9000, 4100, 63, 10006, 64, 0, 5000]
    vectors[same] = vectors[0]
    query = np.repeat(unit(vectors[:1]).astype(np.float32), queries, axis=0)
    rows, values = _core.nearest_vectors(vectors, _core.vector_norms(vectors), query, topn=5, begin=0, end=10007)
    assert rows.tolist() == [sorted(same)[:5]] * queries
    assert (values == values[0, 0]).all()
    rows, _ = _core.nearest_vectors(vectors * 0, None, query, topn=4, begin=7, end=10007)
    assert rows.tolist() == [[7, 8, 9, 10]] * queries


def test_excluded_rows_are_left_out() -> None:
    kv = make(100, 8)
    query = unit(kv.vectors[:6]).astype(np.float32)
    excluded = [[0], [1, 5, 50], [], [3] * 20, list(range(100)), [-7, 1000]]
    rows, values = _core.nearest_vectors(kv.vectors, None, query, topn=99, begin=0, end=100, excluded=excluded)
    for found, similar, without in zip(rows, values, excluded, strict=True):
        inside = {row for row in without if 0 <= row < 100}
        expected = min(99, 100 - len(inside))
        assert (found >= 0).sum() == expected
        assert (found[expected:] == -1).all()
        assert np.isnan(similar[expected:]).all()
        assert not inside & set(found.tolist())


@pytest.mark.parametrize("queries", [1, 5])
def test_nan_is_no_neighbour_and_zero_is_not_similar(queries: int) -> None:
    kv = make(50, 4)
    kv.vectors[7, 2] = np.nan
    kv.vectors[8] = 0
    norms = _core.vector_norms(kv.vectors)
    query = np.repeat(unit(kv.vectors[:1]).astype(np.float32), queries, axis=0)
    rows, values = _core.nearest_vectors(kv.vectors, norms, query, topn=50, begin=0, end=50)
    assert (rows[:, -1] == -1).all()
    assert 7 not in rows
    assert values[rows == 8].tolist() == [0.0] * queries


def test_norms_neither_overflow_nor_vanish() -> None:
    vectors = np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0], [3, 4]], np.float32)
    np.testing.assert_allclose(_core.vector_norms(vectors), [5e30, 5e-30, 0, 5], rtol=1e-6)


def test_search_can_be_interrupted() -> None:
    vectors = np.random.default_rng(0).random((100000, 64), dtype=np.float32)
    queries = np.repeat(vectors[:1000], 100, axis=0)

    def stop(*_: Any) -> None:
        raise TimeoutError("interrupted")

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        start = time.monotonic()
        # Seconds of work on any machine that has no more than a hundred processors.
        with pytest.raises(TimeoutError, match="interrupted"):
            _core.nearest_vectors(vectors, None, queries, topn=10, begin=0, end=100000)
        assert time.monotonic() - start < 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_search_refuses_bad_input() -> None:
    vectors = np.zeros((10, 4), np.float32)
    query = np.zeros((1, 4), np.float32)
    norms = np.zeros(10, np.float32)

    def nearest(vectors: Any = vectors, norms: Any = norms, query: Any = query, **options: Any) -> Any:
        return _core.nearest_vectors(vectors, norms, query, **{"topn": 1, "begin": 0, "end": 10, **options})

    for wrong, match in [
        ({"vectors": vectors.astype(np.float64)}, "float32"),
        ({"norms": norms.astype(np.float64)}, "float32"),
        ({"query": query.astype(np.float64)}, "float32"),
    ]:
        with pytest.raises(TypeError, match=match):
            nearest(**wrong)
    for wrong, match in [
        ({"vectors": vectors[0]}, "2"),
        ({"vectors": vectors[:, ::-1]}, "contiguous"),
        ({"vectors": np.asfortranarray(vectors)}, "contiguous"),
        ({"vectors": vectors[::-1]}, "contiguous"),
        ({"vectors": np.broadcast_to(vectors[:1], (10, 4))}, "overlap"),
        ({"norms": norms[:9]}, r"\(10,\)"),
        ({"query": query[:, :3]}, r"\(count, 4\)"),
        ({"query": query[0]}, r"\(count, 4\)"),
        ({"topn": -1}, "topn"),
        ({"end": 11}, "10"),
        ({"begin": -1}, "10"),
        ({"begin": 5, "end": 4}, "10"),
        ({"excluded": [[1], [2]]}, "excluded"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=match):
            nearest(**wrong)


# ---------------------------------------------------------------- look-up


def test_look_up() -> None:
    kv = make(10, 4)
    assert len(kv) == 10
    assert str(kv) == repr(kv) == "KeyedVectors<vector_size=4, 10 keys>"
    np.testing.assert_array_equal(kv["w3"], kv.vectors[3])
    np.testing.assert_array_equal(kv[3], kv.vectors[3])
    np.testing.assert_array_equal(kv[np.int64(3)], kv.vectors[3])
    np.testing.assert_array_equal(kv[["w3", 1, "w1"]], kv.vectors[[3, 1, 1]])
    assert kv[[]].shape == (0, 4)
    assert "w9" in kv
    assert 9 in kv
    assert "w10" not in kv
    assert 10 not in kv
    assert -1 not in kv
    assert kv.has_index_for("w1")
    assert kv.get_index("w2") == 2
    assert kv.get_index("x", default=-3) == -3
    np.testing.assert_allclose(kv.get_vector("w2", norm=True), unit(kv.vectors[2]), rtol=1e-6)
    for vector in (kv["w1"], kv.get_vector("w1", norm=True)):
        assert not vector.flags.writeable
    assert kv.vectors.flags.writeable


def test_integer_keys_come_before_row_numbers() -> None:
    kv = KeyedVectors(2)
    kv.add_vectors([1, 0], np.eye(2))
    np.testing.assert_array_equal(kv[1], [1, 0])
    np.testing.assert_array_equal(kv[0], [0, 1])


def test_absent_key_names_near_spellings_when_the_message_is_read() -> None:
    kv = KeyedVectors(2)
    kv.add_vectors(["machine", "Machines", "learning", "king", "queen", "naïve"], np.zeros((6, 2)))
    for wrong, near in [
        ("machin", "'machine', 'Machines'"),
        ("mahcine", "'machine'"),
        ("KING", "'king'"),
        ("lerning", "'learning'"),
        ("naive", "'naïve'"),
    ]:
        with pytest.raises(KeyError) as caught:
            kv[wrong]
        assert str(caught.value).startswith(f"Key '{wrong}' not present; near it are {near}")
        assert caught.value.args == (f"Key '{wrong}' not present",)
    for wrong in ("", "zzzzzzzzz", "\ud800", "x" * 100000, 77, None, ("a", "b")):
        with pytest.raises(KeyError) as caught:
            kv.get_index(wrong)
        assert "near" not in str(caught.value)
    with pytest.raises(KeyError) as caught:
        kv["machin"]
    assert "machine" in str(pickle.loads(pickle.dumps(caught.value)))


def test_near_spellings_are_those_of_a_plain_edit_distance() -> None:
    def distance(a: str, b: str) -> int:
        a, b = a.replace("A", "a"), b.replace("A", "a")
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        table[:, 0] = range(len(a) + 1)
        table[0] = range(len(b) + 1)
        for i in range(1, len(a) + 1):
            for j in range(1, len(b) + 1):
                best = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
                if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                    best = min(best, table[i - 2, j - 2] + 1)
                table[i, j] = best
        return int(table[-1, -1])

    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abAé"), rng.integers(1, 9))) for _ in range(300)]
    for wanted in words[:30]:
        limit = max(1, len(wanted) // 3)
        distances = [(distance(wanted, word), index) for index, word in enumerate(words)]
        expected = [index for d, index in sorted(distances) if d <= limit][:7]
        assert _core.near_spellings(wanted, words, 7) == expected


def test_names_of_gensim_3_are_explained() -> None:
    kv = make(3, 2)
    for old, new in [
        ("vocab", "key_to_index"), ("index2word", "index_to_key"), ("index2entity", "index_to_key"),
        ("syn0", "vectors"), ("syn0norm", "get_normed_vectors"), ("vectors_norm", "get_normed_vectors"),
        ("wv", "KeyedVectors"), ("accuracy", "evaluate_word_analogies"),
    ]:  # fmt: skip
        assert not hasattr(kv, old)
        with pytest.raises(AttributeError, match=new):
            getattr(kv, old)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kv.nothing  # noqa: B018
    for call, new in [
        (lambda: kv.word_vec("w1"), "get_vector"),
        (lambda: kv.words_closer_than("w1", "w2"), "closer_than"),
        (lambda: kv.init_sims(), "fill_norms"),
    ]:
        with pytest.warns(DeprecationWarning, match=new):
            call()
    with pytest.raises(NotImplementedError):
        kv.similarity_unseen_docs()


def test_copies_and_pickles() -> None:
    kv = make(5, 3, padding=13)
    for other in (copy.deepcopy(kv), copy.copy(kv), pickle.loads(pickle.dumps(kv))):
        assert other.index_to_key == kv.index_to_key
        np.testing.assert_array_equal(other.vectors, kv.vectors)


# ---------------------------------------------------------------- most_similar


def test_most_similar_in_all_its_forms() -> None:
    kv = make(300, 20, padding=12)
    v = kv.vectors
    w = unit(v)
    for positive, negative, query, without in [
        ("w5", None, w[5], {5}),
        (["w5"], None, w[5], {5}),
        (5, None, w[5], {5}),
        (np.int32(5), None, w[5], {5}),
        (v[5], None, w[5], set()),
        ([v[5]], [], w[5], set()),
        (v[5:7], None, v[5].astype(float) + v[6], set()),
        (("w5", "w6"), None, w[5] + w[6], {5, 6}),
        (["w5", 6, v[7]], None, w[5] + w[6] + v[7], {5, 6}),
        ("w5", "w6", w[5] - w[6], {5, 6}),
        (["w5", "w6"], ["w7"], w[5] + w[6] - w[7], {5, 6, 7}),
        ([("w5", 0.3), ("w6", 2)], [("w7", -0.5)], 0.3 * w[5] + 2 * w[6] - 0.5 * w[7], {5, 6, 7}),
        ([(v[5], 0.3), (6, 2)], None, 0.3 * v[5] + 2 * w[6], {6}),
        (None, "w7", -w[7], {7}),
    ]:
        check_neighbours(kv, kv.most_similar(positive, negative), query, 10, without)
        check_neighbours(kv, kv.most_similar(positive, negative, topn=3), query, 3, without)
        everything = kv.most_similar(positive, negative, topn=None)
        assert everything.dtype == np.float32
        np.testing.assert_allclose(everything, cosines(kv, query), atol=TOLERANCE)
    check_neighbours(kv, kv.similar_by_word("w5", 4), w[5], 4, {5})
    check_neighbours(kv, kv.similar_by_key("w5", topn=4), w[5], 4, {5})
    check_neighbours(kv, kv.similar_by_vector(v[5], topn=4), w[5], 4, set())
    check_neighbours(kv, kv.most_similar("w5", topn=1000), w[5], 1000, {5})
    assert kv.most_similar("w5", topn=0) == kv.most_similar("w5", topn=-2) == []
    key, value = kv.most_similar("w5")[0]
    assert type(key) is str
    assert type(value) is float


def test_most_similar_within_bounds() -> None:
    kv = make(100, 6)
    full = kv.most_similar("w50", topn=None)
    for options, rows in [
        ({"clip_start": 20}, range(20, 100)),
        ({"clip_end": 30}, range(30)),
        ({"clip_start": 20, "clip_end": 60}, range(20, 60)),
        ({"clip_start": -10}, range(90, 100)),
        ({"clip_end": 1000}, range(100)),
        ({"clip_start": 60, "clip_end": 20}, range(0)),
        ({"restrict_vocab": 25}, range(25)),
        ({"restrict_vocab": 25, "clip_start": 50}, range(25)),
        ({"restrict_vocab": 1000}, range(100)),
    ]:
        np.testing.assert_array_equal(kv.most_similar("w50", topn=None, **options), full[rows])
        found = [kv.key_to_index[key] for key, _ in kv.most_similar("w50", topn=100, **options)]
        assert sorted(found) == [row for row in rows if row != 50]
        assert found == sorted(found, key=lambda row: (-full[row], row))


def test_most_similar_of_an_absent_key_with_known_words() -> None:
    kv = KeyedVectors(8)
    kv.add_vectors(["machine", "learning", "deep", "art"], np.random.default_rng(0).standard_normal((4, 8)))
    with pytest.warns(UserWarning, match=r"'machine learning'.*\['machine', 'learning'\]") as caught:
        found = kv.most_similar("machine learning")
    assert caught[0].filename == __file__
    assert found == kv.most_similar(["machine", "learning"])
    with pytest.warns(UserWarning, match=r"deep\\tart"):
        found = kv.most_similar(["machine"], ["deep\tart"])
    wanted = [("machine", 1.0)], [("deep", -0.5), ("art", -0.5)]
    assert found == kv.most_similar(*wanted)
    with pytest.warns(UserWarning, match="'machine learning'"):
        assert kv.similar_by_word("machine learning", topn=1)
    with pytest.warns(UserWarning, match="'machine learning'"):
        assert [key for key, _ in kv.most_similar_cosmul("machine learning")] == [
            key for key, _ in kv.most_similar_cosmul(["machine", "learning"])
        ]
    for absent in ("machine lerning", "xmachine", " machine", ""):
        with pytest.raises(KeyError, match=f"Key '{absent}' not present"):
            kv.most_similar(absent)
    kv.add_vectors(["machine learning"], np.ones((1, 8)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "machine" in dict(kv.most_similar("machine learning"))


def test_most_similar_refuses_bad_input() -> None:
    kv = make(10, 4)
    with pytest.raises(ValueError, match="no input"):
        kv.most_similar()
    with pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        kv.most_similar(np.zeros(3))
    with pytest.raises(KeyError, match="'x' not present"):
        kv.most_similar(["w1", "x"])
    with pytest.raises(KeyError, match="77"):
        kv.most_similar(77)
    with pytest.raises(TypeError, match="neither a key nor a vector"):
        kv.most_similar(("w1", 0.5))
    with pytest.raises(TypeError, match="neither a key nor a vector"):
        kv.most_similar([None])
    with pytest.raises(ValueError, match="no input"):
        kv.most_similar_cosmul(negative="w1")
    with pytest.raises(TypeError, match="neither a key nor a vector"):
        kv.most_similar_cosmul([("w1", 0.5)])


def test_indexer_answers() -> None:
    class Indexer:
        def most_similar(self, vector: np.ndarray, topn: int) -> list[Any]:
            return [(vector, topn)]

    kv = make(10, 4)
    [(vector, topn)] = kv.most_similar("w3", topn=7, indexer=Indexer())
    np.testing.assert_allclose(vector, unit(kv.vectors[3]), rtol=1e-6)
    assert topn == 7


@pytest.mark.usefixtures("isa")
def test_most_similar_cosmul() -> None:
    kv = make(500, 20, padding=12)
    w = unit(kv.vectors)
    for positive, negative, plus, minus in [
        ("w1", None, [1], []),
        (["w1", "w2"], ["w3"], [1, 2], [3]),
        (["w1", 2, kv.vectors[4] / np.linalg.norm(kv.vectors[4])], "w3", [1, 2, 4], [3]),
    ]:
        reference = np.prod([(1 + w @ w[row]) / 2 for row in plus], axis=0)
        reference = reference / (np.prod([(1 + w @ w[row]) / 2 for row in minus], axis=0) + 1e-6)
        everything = kv.most_similar_cosmul(positive, negative, topn=None)
        np.testing.assert_allclose(everything, reference, rtol=1e-5)
        without = {row for row in plus + minus if row != 4}
        for options, limit in [({}, 500), ({"restrict_vocab": 50}, 50)]:
            found = kv.most_similar_cosmul(positive, negative, topn=20, **options)
            rows = [row for row in np.argsort(-everything[:limit], kind="stable").tolist() if row not in without]
            assert [kv.key_to_index[key] for key, _ in found] == rows[:20]
    assert kv.most_similar_cosmul("w1", topn=0) == []


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_element_types(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyedvectors_device, "_CONVERTED_ROWS", 64)
    kv = make(300, 10, dtype=dtype)
    same = make(300, 10)
    same.vectors = kv.vectors.astype(np.float32)
    assert kv.vectors.dtype == dtype
    found, wanted = kv.most_similar("w7", topn=50), same.most_similar("w7", topn=50)
    assert [key for key, _ in found] == [key for key, _ in wanted]
    # float16 norms are rounded to 11 bits.
    tolerance = 1e-3 if dtype == np.float16 else 1e-6
    np.testing.assert_allclose([x for _, x in found], [x for _, x in wanted], rtol=tolerance)
    np.testing.assert_allclose(kv.most_similar("w7", topn=None), same.most_similar("w7", topn=None), atol=tolerance)
    assert len(kv.most_similar_cosmul(["w7", "w8"], ["w9"], topn=297)) == 297


def test_searches_may_run_at_once() -> None:
    kv = make(20000, 16)
    expected = [kv.most_similar(f"w{index}") for index in range(8)]
    results: list[Any] = [None] * 8

    def search(index: int) -> None:
        for _ in range(10):
            results[index] = kv.most_similar(f"w{index}")

    workers = [threading.Thread(target=search, args=(index,)) for index in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == expected


# ---------------------------------------------------------------- similarities


def make_scaled(kv: KeyedVectors, scale: float) -> KeyedVectors:
    other = copy.copy(kv)
    other.vectors = (kv.vectors * scale).astype(np.float32)
    return other


def test_similarities() -> None:
    kv = make(100, 12)
    w = unit(kv.vectors)
    assert kv.similarity("w1", "w2") == pytest.approx(w[1] @ w[2], abs=TOLERANCE)
    assert kv.similarity("w1", "w1") == pytest.approx(1, abs=TOLERANCE)
    for scale in (1e-30, 1e30):
        assert make_scaled(kv, scale).similarity("w1", "w2") == pytest.approx(w[1] @ w[2], abs=TOLERANCE)
    assert make_scaled(kv, 0).similarity("w1", "w2") == 0
    assert kv.distance("w1", "w2") == pytest.approx(1 - w[1] @ w[2], abs=TOLERANCE)
    np.testing.assert_allclose(kv.distances("w1"), 1 - w @ w[1], atol=TOLERANCE)
    np.testing.assert_allclose(kv.distances(3 * kv.vectors[1]), 1 - w @ w[1], atol=TOLERANCE)
    np.testing.assert_allclose(kv.distances("w1", ["w4", "w2"]), 1 - w[[4, 2]] @ w[1], atol=TOLERANCE)
    np.testing.assert_allclose(KeyedVectors.cosine_similarities(kv.vectors[1], kv.vectors), w @ w[1], atol=TOLERANCE)
    mean1, mean2 = kv.vectors[[1, 2]].mean(axis=0), kv.vectors[[3]].mean(axis=0)
    assert kv.n_similarity(["w1", "w2"], "w3") == pytest.approx(unit(mean1) @ unit(mean2), abs=TOLERANCE)
    assert kv.n_similarity(["w1", "w2", "absent"], ["w3"]) == kv.n_similarity(["w1", "w2"], ["w3"])
    with pytest.raises(ZeroDivisionError):
        kv.n_similarity([], ["w1"])
    order = np.argsort(-(w @ w[1]))
    for place, row in enumerate(order[1:].tolist(), 1):
        assert kv.rank("w1", f"w{row}") == place
    assert kv.closer_than("w1", f"w{order[5]}") == [f"w{row}" for row in sorted(order[1:5].tolist())]
    assert kv.most_similar_to_given("w1", [f"w{row}" for row in order[[30, 7, 60]]]) == f"w{order[7]}"
    near = sorted((w @ w[1]).tolist(), reverse=True)[1:11]
    assert kv.relative_cosine_similarity("w1", "w2") == pytest.approx(w[1] @ w[2] / sum(near), rel=1e-4)
    with pytest.raises(ValueError, match="similar words"):
        kv.relative_cosine_similarity("w1", "w2", topn=0)


def test_mean_vector() -> None:
    kv = make(10, 5)
    v, w = kv.vectors.astype(np.float64), unit(kv.vectors)
    for options, expected in [
        ({"keys": ["w1", 2]}, (w[1] + w[2]) / 2),
        ({"keys": "w1"}, w[1]),
        ({"keys": ["w1", "w2"], "pre_normalize": False}, (v[1] + v[2]) / 2),
        ({"keys": ["w1", kv.vectors[2]], "weights": [1, -3]}, (w[1] - 3 * v[2]) / 4),
        ({"keys": ["w1", "w2"], "weights": np.array([2.0, 1.0]), "post_normalize": True}, unit(2 * w[1] + w[2])),
        ({"keys": ["w1", "absent"]}, w[1]),
        ({"keys": ["absent"]}, 0 * w[1]),
        ({"keys": kv.vectors[1:3]}, (v[1] + v[2]) / 2),
    ]:
        mean = kv.get_mean_vector(**options)
        assert mean.dtype == np.float32
        np.testing.assert_allclose(mean, expected, atol=TOLERANCE)
    with pytest.raises(ValueError, match="no input"):
        kv.get_mean_vector([])
    with pytest.raises(ValueError, match="same number"):
        kv.get_mean_vector(["w1", "w2"], weights=[1])
    with pytest.raises(KeyError, match="absent"):
        kv.get_mean_vector(["w1", "absent"], ignore_missing=False)


def test_centrality() -> None:
    kv = KeyedVectors(3)
    kv.add_vectors(["breakfast", "lunch", "dinner", "cereal"], [[1, 0.1, 0], [1, 0, 0.1], [1, 0.05, 0], [0, 1, 1]])
    assert kv.doesnt_match(["breakfast", "cereal", "lunch", "dinner"]) == "cereal"
    ranked = kv.rank_by_centrality(["breakfast", "cereal", "lunch", "dinner", "absent"])
    assert [word for _, word in ranked][-1] == "cereal"
    assert [value for value, _ in ranked] == sorted((value for value, _ in ranked), reverse=True)
    assert len(kv.rank_by_centrality(["lunch", "dinner"], use_norm=False)) == 2
    with pytest.raises(ValueError, match="empty list"):
        kv.doesnt_match(["absent"])


def test_word_movers_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    kv = make(10, 3)
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(ImportError, match=r"convec\[wmd\]"):
        kv.wmdistance(["w1"], ["w2"])

    class Transport:
        """Stands in for POT where one side has a single word: all mass goes there."""

        @staticmethod
        def emd2(a: np.ndarray, b: np.ndarray, costs: np.ndarray) -> float:
            assert a.sum() == b.sum() == 1
            assert costs.shape == (len(a), len(b))
            return float(a @ costs @ b)

    monkeypatch.setitem(sys.modules, "ot", Transport)
    w = unit(kv.vectors)
    expected = (2 * np.linalg.norm(w[1] - w[3]) + np.linalg.norm(w[2] - w[3])) / 3
    assert kv.wmdistance(["w1", "w2", "w1", "absent"], ["w3"]) == pytest.approx(expected, rel=1e-5)
    assert kv.wmdistance(["w1"], ["w2"], norm=False) == pytest.approx(
        np.linalg.norm(kv.vectors[1] - kv.vectors[2]), rel=1e-5
    )
    assert kv.wmdistance(["w1"], ["w1"]) == 0
    assert kv.wmdistance(["absent"], ["w1"]) == float("inf")


# ---------------------------------------------------------------- norms


def test_norms_follow_the_vectors() -> None:
    kv = make(20, 4)
    assert kv.norms is None
    kv.fill_norms()
    first = kv.norms
    kv.fill_norms()
    assert kv.norms is first
    kv.vectors[3] *= 2
    kv.fill_norms(force=True)
    np.testing.assert_allclose(kv.norms, np.linalg.norm(kv.vectors, axis=1), rtol=1e-6)
    for change in (
        lambda: kv.add_vectors(["new"], np.ones((1, 4))),
        lambda: kv.__setitem__("new", 5 * np.ones(4)),
        lambda: kv.sort_by_descending_frequency(),
    ):
        kv.fill_norms()
        kv.expandos["count"] = np.random.default_rng(0).integers(0, 9, len(kv))
        change()
        kv.fill_norms()
        np.testing.assert_allclose(kv.norms, np.linalg.norm(kv.vectors, axis=1), rtol=1e-6)
    kv.vectors[0] = 0
    kv.fill_norms(force=True)
    before = kv.vectors.copy()
    normed = kv.get_normed_vectors()
    np.testing.assert_allclose(normed[1:], unit(before[1:]), rtol=1e-5)
    assert not normed[0].any()
    np.testing.assert_array_equal(kv.vectors, before)
    table = kv.vectors
    kv.unit_normalize_all()
    assert kv.vectors is table
    np.testing.assert_allclose(kv.vectors, normed, rtol=1e-5)
    np.testing.assert_allclose(kv.norms[1:], 1, rtol=1e-6)


def test_assigned_vectors_have_contiguous_rows() -> None:
    kv = make(4, 3)
    table = np.zeros((4, 16), np.float32)
    kv.vectors = table[:, :3]
    assert kv.vectors.base is table
    kv.vectors = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(4, 3))
    assert kv.vectors.flags.c_contiguous
    kv.vectors = np.broadcast_to(np.float32(1), (4, 3))
    assert kv.most_similar("w1", topn=1)[0] == ("w0", pytest.approx(1, abs=1e-6))
    with pytest.raises(ValueError, match=r"\(12,\)"):
        kv.vectors = np.zeros(12)


# ---------------------------------------------------------------- adding, ordering, attributes


def test_adding_vectors() -> None:
    kv = KeyedVectors(3)
    kv.add_vectors(["a", "b"], np.arange(6).reshape(2, 3), extras={"count": np.array([5, 7])})
    kv.add_vectors(["b", "c"], [[9, 9, 9], [1, 1, 1]], extras={"count": np.array([1, 2])})
    np.testing.assert_array_equal(kv.vectors, [[0, 1, 2], [3, 4, 5], [1, 1, 1]])
    assert kv.expandos["count"].tolist() == [5, 7, 2]
    kv.add_vectors(["c", "b", "d"], np.full((3, 3), 8), extras={"count": np.array([3, 4, 6])}, replace=True)
    np.testing.assert_array_equal(kv.vectors, [[0, 1, 2], [8, 8, 8], [8, 8, 8], [8, 8, 8]])
    assert kv.expandos["count"].tolist() == [5, 4, 3, 6]
    kv["a"] = np.ones(3)
    kv[["e", "f"]] = [[1, 2, 3], [4, 5, 6]]
    assert kv.index_to_key == list("abcdef")
    np.testing.assert_array_equal(kv["a"], [1, 1, 1])
    np.testing.assert_array_equal(kv["f"], [4, 5, 6])
    kv.add_vectors("g", [7, 7, 7])
    np.testing.assert_array_equal(kv["g"], [7, 7, 7])
    kv.add_vectors([], [])
    assert len(kv.expandos["count"]) == len(kv) == 7
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        kv.add_vectors(["x", "y"], np.zeros((2, 4)))
    with pytest.raises(ValueError, match="1 values"):
        kv.add_vectors(["x", "y"], np.zeros((2, 3)), extras={"count": np.zeros(1, int)})
    with pytest.raises(TypeError, match="float64"):
        kv.add_vectors(["x"], np.zeros((1, 3)), extras={"count": np.zeros(1)})
    assert "x" not in kv


def test_adding_one_by_one() -> None:
    kv = KeyedVectors(2, count=2)
    assert kv.index_to_key == [None, None]
    assert kv.add_vector("a", [1, 2]) == 0
    assert kv.add_vector("b", [3, 4]) == 1
    with pytest.warns(UserWarning, match="can be costly") as caught:
        assert kv.add_vector("c", [5, 6]) == 2
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(kv.vectors, [[1, 2], [3, 4], [5, 6]])
    assert kv.add_vector("a", [9, 9]) == 0
    np.testing.assert_array_equal(kv["a"], [1, 2])
    with pytest.raises(ValueError, match=r"\(3,\)"):
        kv.add_vector("d", [1, 2, 3])


def test_replacing_keeps_the_table() -> None:
    kv = make(5, 3, padding=13)
    table = kv.vectors
    kv["w2"] = np.ones(3)
    assert kv.vectors is table


def test_attributes() -> None:
    kv = make(4, 2)
    kv.set_vecattr("w1", "count", 7)
    kv.set_vecattr("w2", "label", "longer than others")
    kv.set_vecattr(3, "weight", 0.5)
    assert kv.get_vecattr("w1", "count") == 7
    assert kv.get_vecattr("w0", "count") == 0
    assert kv.get_vecattr("w2", "label") == "longer than others"
    assert kv.get_vecattr("w3", "weight") == 0.5
    assert kv.expandos["count"].dtype == np.int64
    assert kv.expandos["label"].dtype == object
    with pytest.raises(TypeError, match="conflicts"):
        kv.set_vecattr("w1", "count", 0.5)
    with pytest.raises(KeyError):
        kv.get_vecattr("w1", "nothing")
    with pytest.raises(KeyError):
        kv.set_vecattr("absent", "count", 1)
    kv.index_to_key.append("w4")
    kv.allocate_vecattrs()
    assert {len(array) for array in kv.expandos.values()} == {5}
    kv.resize_vectors(seed=3)
    assert kv.vectors.shape == (5, 2)
    assert 0 < np.abs(kv.vectors[4]).max() <= 0.5


def test_sorting_by_frequency(caplog: pytest.LogCaptureFixture) -> None:
    kv = make(6, 2)
    kv.expandos["count"] = np.array([1, 5, 5, 9, 1, 5])
    kv.expandos["other"] = np.arange(6)
    vectors = kv.vectors.copy()
    kv.sort_by_descending_frequency()
    assert "expensive" in caplog.text
    order = [3, 1, 2, 5, 0, 4]
    assert kv.index_to_key == [f"w{index}" for index in order]
    assert kv.key_to_index == {f"w{index}": row for row, index in enumerate(order)}
    assert kv.expandos["other"].tolist() == order
    np.testing.assert_array_equal(kv.vectors, vectors[order])
    KeyedVectors(2).sort_by_descending_frequency()


def test_vectors_for_all() -> None:
    kv = make(10, 3)
    kv.expandos["count"] = np.arange(10, 0, -1)
    kv.expandos["label"] = np.array([f"l{index}" for index in range(10)], object)
    other = kv.vectors_for_all(["w7", "absent", "w2", "w7"])
    assert other.index_to_key == ["w7", "w2"]
    np.testing.assert_array_equal(other.vectors, kv.vectors[[7, 2]])
    assert other.expandos["count"].tolist() == [2, 1]
    other = kv.vectors_for_all(["w7", "w2"], allow_inference=False, copy_vecattrs=True)
    assert other.expandos["count"].tolist() == [3, 8]
    assert other.expandos["label"].tolist() == ["l7", "l2"]
    assert len(kv.vectors_for_all([])) == 0

    class Infers(KeyedVectors):
        def has_index_for(self, key: Any) -> bool:
            return super().has_index_for(key) or key == "made up"

        def get_vector(self, key: Any, norm: bool = False) -> Any:
            return np.full(3, 7.0) if key == "made up" else super().get_vector(key, norm)

    infers = Infers(3)
    infers.add_vectors(["a"], np.ones((1, 3)))
    other = infers.vectors_for_all(["made up", "a"])
    np.testing.assert_array_equal(other.vectors, [[7, 7, 7], [1, 1, 1]])


def test_a_file_whose_keys_are_decoded_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as from a small file; also where the file is replaced in between, or damaged."""
    monkeypatch.setattr(keyedvectors_files, "_OVERLAPPED_BYTES", 0)
    kv, other = make(50, 4), make(60, 4)
    kv.save(tmp_path / "kv")
    other.save(tmp_path / "other")
    loaded = KeyedVectors.load(tmp_path / "kv")
    assert (loaded.index_to_key, loaded.key_to_index) == (kv.index_to_key, kv.key_to_index)
    np.testing.assert_array_equal(loaded.vectors, kv.vectors)
    original = _core.safetensors_load
    monkeypatch.setattr(
        keyedvectors_files._core,
        "safetensors_load",
        lambda path, mmap=True: original(tmp_path / "other" if mmap else path, mmap=mmap),
    )
    assert KeyedVectors.load(tmp_path / "kv").key_to_index == kv.key_to_index
    (tmp_path / "kv").write_bytes((tmp_path / "kv").read_bytes()[:-1])
    with pytest.raises(ValueError, match="kv"):
        KeyedVectors.load(tmp_path / "kv")


def test_module_functions() -> None:
    assert keyedvectors.Word2VecKeyedVectors is KeyedVectors
    a = keyedvectors.pseudorandom_weak_vector(10, "seed", hashfxn=len)
    np.testing.assert_array_equal(a, keyedvectors.pseudorandom_weak_vector(10, "seed", hashfxn=len))
    assert np.abs(a).max() <= 0.05
    assert a.dtype == np.float32
    assert not np.array_equal(keyedvectors.pseudorandom_weak_vector(10), keyedvectors.pseudorandom_weak_vector(10))
    prior = np.ones((2, 3), np.float32)
    grown = keyedvectors.prep_vectors((4, 3), prior, seed=1)
    np.testing.assert_array_equal(grown[:2], prior)
    assert np.abs(grown[2:]).max() <= 1 / 3
    assert keyedvectors.prep_vectors((2, 3), prior) is prior


# ---------------------------------------------------------------- own files


def test_save_and_load(tmp_path: Path) -> None:
    kv = make(50, 7, padding=9)
    kv.add_vectors(["naïve", "\ud800", "", "two words\n", 12], np.ones((5, 7)))
    kv.expandos["count"] = np.arange(55)
    kv.expandos["label"] = np.array(["x", None, *range(53)], object)
    path = tmp_path / "vectors.kv"
    kv.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["vectors.kv"]
    for mmap in (None, "r", "c"):
        other = KeyedVectors.load(str(path), mmap=mmap)
        assert other.index_to_key == kv.index_to_key
        assert other.key_to_index == kv.key_to_index
        np.testing.assert_array_equal(other.vectors, kv.vectors)
        assert other.vectors.flags.writeable == (mmap != "r")
        assert other.expandos["count"].tolist() == list(range(55))
        assert other.expandos["label"].tolist() == kv.expandos["label"].tolist()
        other["w1"] = np.zeros(7)
        assert not other["w1"].any()
        assert other.most_similar("w2") == KeyedVectors.load(path).most_similar("w2") or mmap is not None
    np.testing.assert_array_equal(KeyedVectors.load(path).vectors, kv.vectors)
    kv.save(path, ignore=["label"])
    assert list(KeyedVectors.load(path).expandos) == ["count"]
    empty = KeyedVectors(5)
    empty.save(path)
    assert KeyedVectors.load(path).vectors.shape == (0, 5)
    with path.open("wb") as file:
        kv.save(file)
    assert len(KeyedVectors.load(path)) == 55


def test_save_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    kv = make(2, 3)
    path = tmp_path / "vectors.kv"
    kv.save(path)
    before = path.read_bytes()
    kv.expandos["object"] = np.array([object(), object()], object)
    with pytest.raises(TypeError):
        kv.save(path)
    del kv.expandos["object"]
    kv.index_to_key[0] = (1, 2)
    with pytest.raises(TypeError, match="tuple"):
        kv.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OSError, match="absent"):
        make(2, 3).save(tmp_path / "absent" / "vectors.kv")


def test_load_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="save_word2vec_format"):
        KeyedVectors.load(path)
    for data in (b"", b"short", b"3 2\na 1 2\nb 1 2\nc 1 2\n", bytes(100)):
        path.write_bytes(data)
        with pytest.raises(ValueError):
            KeyedVectors.load(path)
    make(5, 3).save(path)
    good = path.read_bytes()
    for size in range(0, len(good), 3):
        path.write_bytes(good[:size])
        with pytest.raises(ValueError):
            KeyedVectors.load(path)
    with pytest.raises(OSError):
        KeyedVectors.load(tmp_path / "absent")


# ---------------------------------------------------------------- the module


def test_import_is_light() -> None:
    code = (
        "import sys; from convec.models import KeyedVectors; "
        "print([name for name in ('convec.layers', 'convec.models.sequential', 'scipy', 'ot') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert output.stdout.strip() == "[]"


def test_lifecycle_events(caplog: pytest.LogCaptureFixture) -> None:
    kv = KeyedVectors(2)
    with caplog.at_level(logging.INFO):
        kv.add_lifecycle_event("something", msg="happened")
    assert "happened" in caplog.text
    assert kv.lifecycle_events[0]["event"] == "something"
    assert not KeyedVectors(2).lifecycle_events


def test_every_name_of_gensim() -> None:
    gensim = pytest.importorskip("gensim.models.keyedvectors")
    import inspect

    private_or_pickle = {"add_lifecycle_event", "vectors_norm", "index2entity", "index2word", "vocab"}
    for name, theirs in inspect.getmembers(gensim.KeyedVectors):
        if name.startswith("_") or name in private_or_pickle:
            continue
        ours = getattr(KeyedVectors, name)
        if not callable(theirs) or name in {"save", "load", "word_vec", "words_closer_than"}:
            continue
        if name in {"log_accuracy", "log_evaluate_word_pairs", "similarity_unseen_docs"}:
            continue
        wanted = {
            key: (parameter.default, parameter.kind) for key, parameter in inspect.signature(theirs).parameters.items()
        }
        found = {
            key: (parameter.default, parameter.kind) for key, parameter in inspect.signature(ours).parameters.items()
        }
        assert found == wanted, name


def test_same_answers_as_gensim() -> None:
    gensim = pytest.importorskip("gensim.models")
    ours = make(400, 25)
    theirs = gensim.KeyedVectors(25)
    theirs.add_vectors(ours.index_to_key, ours.vectors)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
        ("most_similar", ("w1",), {}),
        ("most_similar", (["w1", "w2"], ["w3"]), {"topn": 20}),
        ("most_similar", ([("w1", 0.5), ("w2", 2.0)], [("w3", -0.1)]), {"restrict_vocab": 50}),
        ("most_similar", ("w1",), {"clip_start": 10, "clip_end": 90}),
        ("most_similar", ("w1",), {"topn": None}),
        ("most_similar", (ours.vectors[4],), {}),
        ("similar_by_word", ("w7",), {}),
        ("similar_by_vector", (ours.vectors[9],), {}),
        ("similarity", ("w1", "w2"), {}),
        ("distance", ("w1", "w2"), {}),
        ("distances", ("w1",), {}),
        ("distances", ("w1", ["w2", "w3"]), {}),
        ("n_similarity", (["w1", "w2"], ["w3", "w4"]), {}),
        ("doesnt_match", (["w1", "w2", "w3", "w4"],), {}),
        ("rank_by_centrality", (["w1", "w2", "w3", "w4"],), {}),
        ("rank", ("w1", "w2"), {}),
        ("closer_than", ("w1", "w2"), {}),
        ("relative_cosine_similarity", ("w1", "w2"), {}),
        ("get_mean_vector", (["w1", "w2", "x"],), {"weights": [1.0, 2.0, 3.0]}),
        ("get_mean_vector", (["w1", "w2"],), {"pre_normalize": False, "post_normalize": True}),
        ("most_similar_to_given", ("w1", ["w2", "w3"]), {}),
        ("get_normed_vectors", (), {}),
    ]

    def check(found: Any, wanted: Any) -> None:
        if isinstance(wanted, (list, tuple)) and not isinstance(wanted, str):
            assert len(found) == len(wanted)
            for pair in zip(found, wanted, strict=True):
                check(*pair)
        elif isinstance(wanted, str):
            assert found == wanted
        else:
            np.testing.assert_allclose(found, wanted, atol=1e-5)

    for name, arguments, options in calls:
        check(getattr(ours, name)(*arguments, **options), getattr(theirs, name)(*arguments, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = theirs.most_similar_cosmul(["w1", "w2"], ["w3"])
    check(ours.most_similar_cosmul(["w1", "w2"], ["w3"]), wanted)
