"""Evaluation of vectors: word pairs with correlations and their p-values, word analogies."""

from __future__ import annotations

import gzip
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core
from convec.models import KeyedVectors


def make(words: list[str], vectors: Any) -> KeyedVectors:
    kv = KeyedVectors(np.asarray(vectors).shape[1])
    kv.add_vectors(words, np.asarray(vectors, np.float32))
    return kv


def unit(vectors: Any) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# ---------------------------------------------------------------- correlations


def p_value(r: float, count: int) -> float:
    """Twice the tail of Student's t distribution, by Simpson's rule in the angle: t = sqrt(n) tan(angle)."""
    freedom = count - 2
    # The density becomes cos(angle)^(freedom - 1) / B(1/2, freedom/2), and r the sine of the angle.
    angles = np.linspace(math.asin(abs(r)), math.pi / 2, 20001)
    values = np.cos(angles) ** (freedom - 1)
    weights = np.ones_like(values)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    beta = math.exp(math.lgamma(0.5) + math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    return float(2 * (values * weights).sum() * (angles[1] - angles[0]) / 3 / beta)


def ranks(values: np.ndarray) -> np.ndarray:
    return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])


@pytest.mark.parametrize("count", [3, 4, 5, 10, 57, 353, 2000])
@pytest.mark.parametrize("strength", [0.0, 0.3, 3.0])
def test_correlations(count: int, strength: float) -> None:
    rng = np.random.default_rng(count)
    x = np.round(rng.standard_normal(count), 1)
    y = strength * x + rng.standard_normal(count)
    for function, a, b in [
        (_core.pearson_correlation, x, y),
        (_core.spearman_correlation, ranks(x), ranks(y)),
    ]:
        r, p = function(x, y)
        wanted = np.corrcoef(a, b)[0, 1]
        assert r == pytest.approx(wanted, abs=1e-13)
        if abs(r) < 1 - 1e-9:
            assert p == pytest.approx(p_value(r, count), rel=1e-7, abs=1e-200)


def test_correlations_at_the_edges() -> None:
    up = np.arange(5.0)
    for count in (3, 5, 10, 353):
        x = np.random.default_rng(count).permutation(count).astype(float)
        assert _core.spearman_correlation(x, x**3) == (1, 0)
    for function in (_core.pearson_correlation, _core.spearman_correlation):
        assert function(up, 3 * up + 1) == pytest.approx((1, 0), abs=1e-15)
        assert function(up, -up) == (-1, 0)
        assert np.isnan(function(up, np.ones(5))).all()
        assert np.isnan(function(up, np.array([0, 1, np.nan, 3, 4]))).all()
        assert function(1e300 * up, 1e-300 * up) == pytest.approx((1, 0), abs=1e-15)
        for wrong, error in [(up[:4], ValueError), (up.astype(np.float32), TypeError), (up[:, None], ValueError)]:
            with pytest.raises(error):
                function(up, wrong)
        with pytest.raises(ValueError, match="at least 2"):
            function(up[:1], up[:1])
    assert _core.pearson_correlation(up[:2], -up[:2]) == (-1, 1)
    r, p = _core.spearman_correlation(up[:2], up[:2])
    assert r == 1
    assert math.isnan(p)


def test_correlations_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for count in (4, 10, 353, 5000):
        x = rng.integers(0, 10, count).astype(float)
        y = x + rng.standard_normal(count) * 5
        assert _core.pearson_correlation(x, y) == pytest.approx(tuple(stats.pearsonr(x, y)), rel=1e-10)
        assert _core.spearman_correlation(x, y) == pytest.approx(tuple(stats.spearmanr(x, y)), rel=1e-10)


# ---------------------------------------------------------------- word pairs


@pytest.fixture
def kv() -> KeyedVectors:
    rng = np.random.default_rng(1)
    return make(["tiger", "cat", "Tiger", "car", "plane", "tree", "Ähre"], rng.standard_normal((7, 9)))


PAIRS = """# a comment
tiger\tcat\t7.35
Tiger\tcar\t1.5
CAR\tplane\t5.77
tree\tunknown\t6
tree
tree\tcar\tmany

ähre\ttree\t4.25
"""


def test_word_pairs(kv: KeyedVectors, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS, "utf8")
    w = unit(kv.vectors)
    # Of tiger and Tiger the first counts.
    model = np.array([w[0] @ w[1], w[0] @ w[3], w[3] @ w[4], w[6] @ w[5]])
    gold = np.array([7.35, 1.5, 5.77, 4.25])
    with caplog.at_level(logging.INFO):
        pearson, spearman, oov = kv.evaluate_word_pairs(path)
    assert pearson.statistic == pearson[0] == pytest.approx(np.corrcoef(gold, model)[0, 1], abs=1e-6)
    assert spearman[0] == pytest.approx(np.corrcoef(ranks(gold), ranks(model))[0, 1], abs=1e-9)
    assert pearson.pvalue == pytest.approx(p_value(pearson[0], 4), rel=1e-6)
    assert oov == pytest.approx(20)
    assert "Pearson correlation coefficient" in caplog.text
    pearson, _, oov = kv.evaluate_word_pairs(path, dummy4unknown=True)
    gold, model = np.array([7.35, 1.5, 5.77, 6, 4.25]), np.insert(model, 3, 0)
    assert pearson[0] == pytest.approx(np.corrcoef(gold, model)[0, 1], abs=1e-6)
    assert oov == pytest.approx(20)
    _, _, oov = kv.evaluate_word_pairs(path, case_insensitive=False, restrict_vocab=None)
    assert oov == pytest.approx(60)
    with pytest.raises(ValueError, match="only one pair"):
        kv.evaluate_word_pairs(path, restrict_vocab=2)
    with pytest.raises(ValueError, match="No valid similarity"):
        kv.evaluate_word_pairs(path, delimiter=";")
    with gzip.open(tmp_path / "pairs.gz", "wt", encoding="latin1") as file:
        file.write(PAIRS.replace("\t", ";"))
    assert kv.evaluate_word_pairs(tmp_path / "pairs.gz", ";", "latin1")[2] == pytest.approx(20)


# ---------------------------------------------------------------- analogies


def analogies(count: int, vocabulary: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    lines = [": first section"]
    for number in range(count):
        if number == count // 2:
            lines.append(": second  ")
        lines.append(" ".join(f"w{index}" for index in rng.integers(0, vocabulary, 4)))
    return "\n".join([*lines, "too few words", "", "one two many words here", ": empty", ""])


def answer(kv: KeyedVectors, a: str, b: str, c: str, limit: int) -> str:
    w = unit(kv.vectors[:limit])
    rows = [kv.key_to_index[word] for word in (a, b, c)]
    similar = w @ (w[rows[1]] + w[rows[2]] - w[rows[0]])
    similar[rows] = -np.inf
    return kv.index_to_key[int(similar.argmax())]


@pytest.mark.parametrize("dummy4unknown", [False, True])
@pytest.mark.parametrize("limit", [None, 120])
@pytest.mark.usefixtures("isa")
def test_analogies(dummy4unknown: bool, limit: int | None, tmp_path: Path) -> None:
    # Few directions, so that many answers are right.
    rng = np.random.default_rng(0)
    base, step = rng.standard_normal((50, 12)), rng.standard_normal((3, 12))
    kv = make([f"w{index}" for index in range(150)], np.concatenate([base + 2 * shift for shift in step]))
    text = [": shifts"]
    for number in range(300):
        i, j = rng.integers(0, 55, 2)
        first, second = rng.choice(3, 2, replace=False)
        text.append(f"w{i + 50 * first} w{i + 50 * second} w{j + 50 * first} W{j + 50 * second}")
        if number == 150:
            text.append(": more shifts")
    path = tmp_path / "analogies"
    path.write_text("\n".join(text))
    score, sections = kv.evaluate_word_analogies(path, restrict_vocab=limit, dummy4unknown=dummy4unknown)

    expected: dict[str, list[Any]] = {"correct": [], "incorrect": []}
    for line in text:
        if line.startswith(":"):
            continue
        words = line.lower().split()
        question = tuple(word.upper() for word in words)
        if all(word in kv.key_to_index and kv.key_to_index[word] < (limit or 150) for word in words):
            right = answer(kv, *words[:3], limit or 150) == words[3]
            expected["correct" if right else "incorrect"].append(question)
        elif dummy4unknown:
            expected["incorrect"].append(question)
    assert [section["section"] for section in sections] == ["shifts", "more shifts", "Total accuracy"]
    assert sections[-1]["correct"] == expected["correct"]
    assert sections[-1]["incorrect"] == expected["incorrect"]
    assert len(expected["correct"]) > 20
    assert score == len(expected["correct"]) / (len(expected["correct"]) + len(expected["incorrect"]))
    assert sections[0]["correct"] + sections[1]["correct"] == sections[2]["correct"]


def test_analogies_one_by_one(tmp_path: Path) -> None:
    kv = make([f"w{index}" for index in range(80)], np.random.default_rng(0).standard_normal((80, 6)))
    path = tmp_path / "analogies.gz"
    with gzip.open(path, "wt") as file:
        file.write(analogies(200, 82))
    _, sections = kv.evaluate_word_analogies(path, similarity_function="most_similar_cosmul")
    assert [section["section"] for section in sections] == ["first section", "second", "empty", "Total accuracy"]
    for a, b, c, d in sections[-1]["correct"]:
        found = kv.most_similar_cosmul([b.lower(), c.lower()], [a.lower()], topn=1)
        assert found[0][0] == d.lower()
    # Asked about one at a time, the usual function answers as it does about all at once.
    kv.same = kv.most_similar  # type: ignore[attr-defined]
    one_by_one = kv.evaluate_word_analogies(path, similarity_function="same")
    assert one_by_one == kv.evaluate_word_analogies(path)


def test_analogies_distinguish_case(tmp_path: Path) -> None:
    kv = make(["a", "A", "b", "c", "d"], np.random.default_rng(0).standard_normal((5, 4)))
    path = tmp_path / "analogies"
    path.write_text(": s\na b c d\n")
    assert len(kv.evaluate_word_analogies(path, case_insensitive=False)[1][0]["incorrect"]) in (0, 1)
    path.write_text(": s\nA B c d\n")
    _, sections = kv.evaluate_word_analogies(path, case_insensitive=False, dummy4unknown=True)
    assert sections[0]["incorrect"] == [("A", "B", "c", "d")]


@pytest.mark.parametrize(
    ("text", "match"), [("", "No analogies"), ("a b c d\n", "Missing section header"), (": s\na b\n", "No analogies")]
)
def test_malformed_analogies(text: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "analogies"
    path.write_text(text)
    with pytest.raises(ValueError, match=match):
        make(["a"], [[1.0]]).evaluate_word_analogies(path)


def test_same_results_as_gensim(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(0)
    words = [f"w{index}" for index in range(60)] + [f"W{index}" for index in range(30)]
    ours = make(words, rng.standard_normal((90, 5)))
    theirs = gensim.KeyedVectors(5)
    theirs.add_vectors(words, ours.vectors)
    (tmp_path / "analogies").write_text(analogies(2000, 64))
    (tmp_path / "pairs").write_text(
        "".join(f"w{a}\tw{b}\t{c}\n" for a, b, c in rng.integers(0, 62, (300, 3)).tolist() if a != b)
    )
    for options in (
        {}, {"case_insensitive": False}, {"dummy4unknown": True}, {"restrict_vocab": 40},
    ):  # fmt: skip
        assert ours.evaluate_word_analogies(tmp_path / "analogies", **options) == theirs.evaluate_word_analogies(
            str(tmp_path / "analogies"), **options
        )
        found = ours.evaluate_word_pairs(tmp_path / "pairs", **options)
        wanted = theirs.evaluate_word_pairs(str(tmp_path / "pairs"), **options)
        assert found[0] == pytest.approx(tuple(wanted[0]), rel=1e-5)
        assert found[1] == pytest.approx(tuple(wanted[1]), rel=1e-5)
        assert found[2] == wanted[2]
