"""The compiled trainer against a plain float64 one with the same random numbers, at every ISA level."""

from __future__ import annotations

from typing import Any

import convec
import numpy as np
import pytest
from convec._core import Word2VecTrainer
from reference_word2vec import Reference, philox

DEFAULTS = {"vector_size": 20, "sg": True, "hs": False, "negative": 5, "window": 5, "shrink_windows": True,
            "cbow_mean": True, "seed": 7, "sample": 1e-3, "ns_exponent": 0.75}  # fmt: skip


def zipf_text(words: int, tokens: int, seed: int = 0, longest: int = 30) -> np.ndarray:
    """Sentences of 1 to `longest` words, each followed by -1."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, words + 1)
    text: list[int] = []
    while len(text) < tokens:
        text += rng.choice(words, rng.integers(1, longest + 1), p=share / share.sum()).tolist()
        text.append(-1)
    return np.array(text, np.int32)


def counts_of(text: np.ndarray, words: int) -> np.ndarray:
    return np.maximum(np.bincount(text[text >= 0], minlength=words), 1).astype(np.int64)


def pair_of(text: np.ndarray, words: int, **options: Any) -> tuple[Word2VecTrainer, Reference]:
    """A model whose output tables are not zero, and the reference with the same tables."""
    options = {**DEFAULTS, **options}
    counts = counts_of(text, words)
    model = Word2VecTrainer(counts, **options)
    rng = np.random.default_rng(1)
    for table in (model.vectors, model.syn1neg, model.syn1):
        if table is not None:
            table[...] = rng.normal(0, 0.3, table.shape)
    hs = options.pop("hs")
    size = options.pop("vector_size")
    options.pop("precision", None)
    copies = [None if t is None else t.astype(np.float64) for t in (model.vectors, model.syn1neg, model.syn1)]
    paths = [model.huffman_path(w) for w in range(words)] if hs else []
    assert model.vectors.shape == (words, size)
    return model, Reference(counts, copies[0], copies[1], copies[2], paths, **options)


def check(model: Word2VecTrainer, reference: Reference, result: dict[str, Any]) -> None:
    # Sums of up to 1,024 products of float32 numbers below 2, times a few hundred updates of a row at most.
    for name in ("vectors", "syn1neg", "syn1"):
        mine, expected = getattr(model, name), getattr(reference, name)
        assert (mine is None) == (expected is None)
        if mine is not None:
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=2e-5, err_msg=name)
    assert result["trained_words"] == reference.kept_words
    assert result["loss"] == pytest.approx(reference.loss, rel=1e-5)


@pytest.fixture(params=convec.available_isas())
def isa(request: pytest.FixtureRequest) -> Any:
    level = convec.current_isa()
    convec.set_isa(request.param)
    yield request.param
    convec.set_isa(level)


CASES = {
    "skip-gram": {},
    "CBOW": {"sg": False},
    "CBOW, sum": {"sg": False, "cbow_mean": False},
    "hierarchical softmax": {"hs": True, "negative": 0},
    "CBOW, hierarchical softmax": {"sg": False, "hs": True, "negative": 0},
    "both": {"hs": True, "negative": 3},
    "CBOW, both": {"sg": False, "hs": True, "negative": 3},
    "one negative": {"negative": 1},
    "seven negatives": {"negative": 7},
    "eight negatives": {"negative": 8},
    "twenty negatives": {"negative": 20},
    "CBOW, twenty negatives": {"sg": False, "negative": 20},
    "whole windows": {"shrink_windows": False},
    "window of one": {"window": 1},
    "wide window": {"window": 50, "shrink_windows": False},
    "CBOW, wide window": {"window": 50, "sg": False},
    "no sub-sampling": {"sample": 0.0},
    "strong sub-sampling": {"sample": 1e-5},
    "sub-sampling by a count": {"sample": 3.0},
    "uniform negatives": {"ns_exponent": 0.0},
    "rare negatives": {"ns_exponent": -0.5},
    "another seed": {"seed": 2**63 + 11},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_equals_the_reference(isa: str, options: dict[str, Any]) -> None:
    text = zipf_text(200, 3000, longest=60)
    model, reference = pair_of(text, 200, **options)
    result = model.train(text, epoch=3, alpha=0.05, min_alpha=0.01, workers=1, compute_loss=True)
    reference.train(text.tolist(), epoch=3, words_total=len(text), alpha=0.05, min_alpha=0.01)
    check(model, reference, result)


@pytest.mark.parametrize("sg", [True, False], ids=["skip-gram", "CBOW"])
@pytest.mark.parametrize("size", [1, 15, 16, 17, 50, 100, 128, 300, 301, 1024])
def test_any_vector_size(isa: str, size: int, sg: bool) -> None:
    text = zipf_text(60, 400)
    model, reference = pair_of(text, 60, vector_size=size, sg=sg)
    result = model.train(text, workers=1, compute_loss=True)
    reference.train(text.tolist(), words_total=len(text), alpha=0.025, min_alpha=0.0001)
    check(model, reference, result)


@pytest.mark.parametrize("options", [{}, {"sg": False}, {"hs": True, "negative": 3}, {"negative": 20}])
def test_half_precision_equals_the_reference(isa: str, options: dict[str, Any]) -> None:
    text = zipf_text(200, 600)
    model, reference = pair_of(text, 200, precision="float16", **options)
    assert model.vectors.dtype == np.float16
    assert model.vectors.strides == (64, 2)
    result = model.train(text, workers=1, compute_loss=True)
    reference.train(text.tolist(), words_total=len(text), alpha=0.025, min_alpha=0.0001)
    for name in ("vectors", "syn1neg", "syn1"):
        if getattr(model, name) is not None:
            # Numbers below 2 are rounded to 2^-11 at worst, some hundreds of times, up as often as down.
            np.testing.assert_allclose(getattr(model, name), getattr(reference, name), atol=2e-2, err_msg=name)
    assert result["loss"] == pytest.approx(reference.loss, rel=1e-3)


def test_half_precision_numbers_come_and_go_unchanged(isa: str) -> None:
    """Every finite half is loaded and stored as it is (a step of length 0), and float32 is rounded as by NumPy."""
    bits = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = bits[np.isfinite(bits)][: 63488 // 2].reshape(-1, 1)
    size = 64
    numbers = np.concatenate([finite, -finite]).reshape(-1, size)
    words = len(numbers)
    # Rows of which the dot products overflow would give infinity times zero: one number of each row, the rest zero.
    for column in range(0, size, 16):
        kept = np.zeros_like(numbers)
        kept[:, column : column + 16] = numbers[:, column : column + 16]
        model = Word2VecTrainer(np.full(words, 2), **{**DEFAULTS, "vector_size": size, "precision": "float16"})
        model.vectors[...] = kept
        text = np.append(np.arange(words, dtype=np.int32), np.int32(-1))
        model.train(text, workers=1, alpha=0.0, min_alpha=0.0)
        # Signs of zeros may go: 0 + -0 is 0.
        assert np.array_equal(model.vectors, kept)
    wide = Word2VecTrainer(np.full(500, 2), **{**DEFAULTS, "vector_size": 30})
    half = Word2VecTrainer(np.full(500, 2), **{**DEFAULTS, "vector_size": 30, "precision": "float16"})
    assert np.array_equal(half.vectors, wide.vectors.astype(np.float16))


@pytest.mark.parametrize("words", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"sg": False}, {"hs": True, "negative": 0}, {"hs": True}])
def test_tiny_vocabularies(words: int, options: dict[str, Any]) -> None:
    text = zipf_text(words, 300)
    model, reference = pair_of(text, words, sample=0.0, **options)
    result = model.train(text, workers=1, compute_loss=True)
    reference.train(text.tolist(), words_total=len(text), alpha=0.025, min_alpha=0.0001)
    check(model, reference, result)


@pytest.mark.parametrize("length", [1, 2, 3, 11])
def test_every_word_of_a_sentence_is_updated(length: int) -> None:
    text = np.append(np.arange(length, dtype=np.int32), np.int32(-1))
    for sg in (True, False):
        model, reference = pair_of(text, length, sample=0.0, sg=sg)
        before = model.vectors.copy()
        result = model.train(text, workers=1, compute_loss=True)
        reference.train(text.tolist(), words_total=len(text), alpha=0.025, min_alpha=0.0001)
        check(model, reference, result)
        assert (model.vectors != before).any(axis=1).all() == (length > 1)


def test_windows_end_at_sentences() -> None:
    """Words of different sentences never meet, whatever the window: a vector stays in the space of its output rows."""
    text = np.array([0, 1, -1, 2, 3, -1], np.int32)
    model, _ = pair_of(text, 4, sample=0.0, negative=1, window=100, shrink_windows=False, sg=False)
    model.vectors[...] = 0
    model.vectors[:2, 0] = 1
    model.vectors[2:, 1] = 1
    model.syn1neg[...] = 0
    for epoch in range(50):
        model.train(text, epoch=epoch, workers=1)
    # As positive outputs, words 0 and 1 saw the first axis only, words 2 and 3 the second; negatives only push away.
    assert (model.syn1neg[:2, 0] > 0).all()
    assert (model.syn1neg[2:, 1] > 0).all()
    assert (model.syn1neg[:2, 1] <= 0).all()
    assert (model.syn1neg[2:, 0] <= 0).all()


def test_padding_of_rows_stays_zero(isa: str) -> None:
    text = zipf_text(50, 500)
    model, _ = pair_of(text, 50, vector_size=5)
    model.train(text, workers=1)
    padded = np.lib.stride_tricks.as_strided(model.vectors, (50, 16), model.vectors.strides)
    assert (padded[:, 5:] == 0).all()


@pytest.mark.parametrize("sg", [True, False], ids=["skip-gram", "CBOW"])
def test_one_thread_is_repeatable_and_may_be_fed_in_pieces(sg: bool) -> None:
    text = zipf_text(100, 40000)
    whole, again, pieces = (pair_of(text, 100, sg=sg)[0] for _ in range(3))
    constant = {"alpha": 0.025, "min_alpha": 0.025, "workers": 1}
    whole.train(text, **constant)
    again.train(text, **constant)
    assert np.array_equal(whole.vectors, again.vectors)
    ends = np.flatnonzero(text == -1) + 1
    cut = int(ends[ends >= Word2VecTrainer.piece_alignment][0])
    pieces.train(text[:cut], **constant)
    pieces.train(text[cut:], position=cut, **constant)
    assert np.array_equal(pieces.vectors, whole.vectors)


@pytest.mark.parametrize("options", [{}, {"sg": False}, {"hs": True, "negative": 2}, {"precision": "float16"}])
def test_deterministic_whatever_the_number_of_workers(options: dict[str, Any]) -> None:
    text = zipf_text(300, 40000)
    threads = convec.num_threads()
    convec.set_num_threads(4)
    try:
        results = []
        for workers in (1, 2, 3, 4):
            model, _ = pair_of(text, 300, **options)
            loss = model.train(text, workers=workers, deterministic=True, compute_loss=True)["loss"]
            results.append((model.vectors.copy(), loss))
    finally:
        convec.set_num_threads(threads)
    for vectors, loss in results[1:]:
        assert np.array_equal(vectors, results[0][0])
        assert loss == results[0][1]


@pytest.mark.parametrize("deterministic", [True, False], ids=["deterministic", "Hogwild"])
@pytest.mark.parametrize("words", [3, 20, 300, 3000])
@pytest.mark.parametrize("sg", [True, False], ids=["skip-gram", "CBOW"])
def test_many_threads_learn_as_much_as_one(sg: bool, words: int, deterministic: bool) -> None:
    """Also where a few words make up all of the text, and every thread changes the same rows."""
    text = zipf_text(words, 60000)
    threads = convec.num_threads()
    convec.set_num_threads(4)
    try:
        losses = []
        for workers in (1, 4):
            model = Word2VecTrainer(counts_of(text, words), **{**DEFAULTS, "sg": sg})
            for epoch in range(3):
                result = model.train(text, epoch=epoch, workers=workers, alpha=0.05, compute_loss=True,
                                     deterministic=deterministic and workers > 1)  # fmt: skip
            losses.append(result["loss"])
            assert np.abs(model.vectors).max() < 20
    finally:
        convec.set_num_threads(threads)
    # Some words are learnt later where updates wait for their round or for a busy processor, but nothing overshoots.
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_draws_of_negatives_follow_the_counts() -> None:
    text = zipf_text(40, 200)
    _, reference = pair_of(text, 40)
    table = reference.alias_table()
    drawn = np.bincount([e for s in range(100) for e in reference.negatives_of(s, 0, table)], minlength=40)
    share = reference.counts**0.75 / (reference.counts**0.75).sum()
    # 6,400 independent draws, each used ten times: four standard deviations.
    assert (np.abs(drawn / drawn.sum() - share) < 4 * np.sqrt(share / 6400)).all()


def test_philox_known_answers() -> None:
    # The first known-answer vectors of the Random123 distribution for philox4x32-10.
    assert philox(0, 0, 0) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox(2**64 - 1, 2**64 - 1, 2**64 - 1) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)


def test_initial_vectors() -> None:
    model = Word2VecTrainer(np.full(500, 3), **{**DEFAULTS, "vector_size": 30})
    assert (model.syn1neg == 0).all()
    assert np.abs(model.vectors).max() <= 1 / 30
    assert np.abs(model.vectors.mean()) < 1e-3
    assert model.vectors.std() == pytest.approx(1 / 30 / np.sqrt(3), rel=0.02)
    first = model.vectors.copy()
    model.set_vocabulary(np.full(800, 3), sample=1e-3, ns_exponent=0.75)
    assert np.array_equal(model.vectors[:500], first)
    assert len(np.unique(model.vectors[:, 0])) > 790
    model.initialize(8)
    assert not np.array_equal(model.vectors[:500], first)


def test_arrays_of_tables_outlive_the_model() -> None:
    model = Word2VecTrainer(np.full(50, 3), **DEFAULTS)
    vectors = model.vectors
    expected = vectors.copy()
    model.set_vocabulary(np.full(80, 3), sample=1e-3, ns_exponent=0.75)
    assert not np.shares_memory(vectors, model.vectors)
    del model
    assert np.array_equal(vectors, expected)


def test_huffman_tree_is_optimal() -> None:
    counts = np.array([50, 20, 10, 9, 5, 3, 2, 1])
    model = Word2VecTrainer(counts, **{**DEFAULTS, "hs": True})
    codes = ["".join(map(str, model.huffman_path(w)[1])) for w in range(8)]
    assert len(set(codes)) == 8
    for a in codes:
        assert not any(b != a and b.startswith(a) for b in codes)
    import heapq

    heap = counts.tolist()
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        cost += joined
        heapq.heappush(heap, joined)
    assert sum(n * len(c) for n, c in zip(counts, codes, strict=True)) == cost
    points, _ = model.huffman_path(0)
    assert points[0] == 6  # the root is the node that was made last


def test_scores_are_log_probabilities() -> None:
    text = zipf_text(20, 200)
    for sg in (True, False):
        model, reference = pair_of(text, 20, hs=True, negative=0, sg=sg, window=3)
        expected = []
        for sentence in " ".join(map(str, text)).split("-1")[:-1]:
            words = [int(w) for w in sentence.split()]
            total = 0.0
            for i, word in enumerate(words):
                context = [words[c] for c in range(max(0, i - 3), min(len(words), i + 4)) if c != i]
                if not context:
                    continue
                x = reference.inputs_of(context)
                points, codes = reference.paths[word]
                dots = x @ reference.syn1[points].T
                total -= np.logaddexp(0, np.where(codes == 0, -dots, dots)).sum()
            expected.append(total)
        np.testing.assert_allclose(model.score(text), expected, rtol=1e-6)


def test_progress_is_called_and_may_stop() -> None:
    text = zipf_text(100, 50000)
    model, _ = pair_of(text, 100)
    seen: list[tuple[int, float]] = []
    model.train(text, workers=2, progress=lambda words, alpha: seen.append((words, alpha)), progress_interval=0.0)
    assert seen[-1][0] == len(text)
    assert [w for w, _ in seen] == sorted(w for w, _ in seen)
    assert seen[-1][1] == pytest.approx(0.0001)

    def stop(words: int, alpha: float) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        model.train(text, workers=2, progress=stop, progress_interval=0.0)
    model.train(text, workers=2)
    assert np.isfinite(model.vectors).all()


BAD = {
    "precision": ({"precision": "bfloat16"}, ValueError, "precision is 'bfloat16'"),
    "vector_size": ({"vector_size": 0}, ValueError, "vector_size is 0"),
    "negative": ({"negative": -1}, ValueError, "negative is -1"),
    "neither": ({"negative": 0}, ValueError, "one of them is needed"),
    "window": ({"window": 0}, ValueError, "window is 0"),
    "sample": ({"sample": float("nan")}, ValueError, "sample is nan"),
    "ns_exponent": ({"ns_exponent": float("inf")}, ValueError, "ns_exponent is inf"),
    "counts": ({"counts": np.array([3, 0])}, ValueError, r"counts\[1\] is 0"),
    "no counts": ({"counts": np.array([], np.int64)}, ValueError, "counts is empty"),
    "two dimensions": ({"counts": np.ones((2, 2), np.int64)}, ValueError, "2 dimensions"),
}


@pytest.mark.parametrize(("options", "error", "message"), BAD.values(), ids=BAD.keys())
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    options = {"counts": np.full(5, 3), **DEFAULTS, **options}
    with pytest.raises(error, match=message):
        Word2VecTrainer(**options)


def test_bad_text_changes_nothing() -> None:
    model = Word2VecTrainer(np.full(5, 3), **DEFAULTS)
    before = model.vectors.copy()
    for tokens, error, message in (
        (np.array([0, 1, 5, -1], np.int32), ValueError, r"tokens\[2\] is 5"),
        (np.array([0, -2], np.int32), ValueError, r"tokens\[1\] is -2"),
        (np.array([0, 1], np.int64), TypeError, "int64, but must be int32"),
        (np.zeros((2, 2), np.int32), ValueError, "one dimension"),
        ([0, 1], TypeError, "tokens"),
    ):
        with pytest.raises(error, match=message):
            model.train(tokens)
    for option in ({"workers": 0}, {"alpha": float("nan")}, {"min_alpha": -1.0}, {"epoch": -1}, {"position": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} is"):
            model.train(np.array([0, 1, -1], np.int32), **option)
    assert np.array_equal(model.vectors, before)
    assert model.train(np.array([], np.int32))["trained_words"] == 0
    assert model.train(np.array([-1, -1, -1], np.int32))["trained_words"] == 0
