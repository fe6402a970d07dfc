"""Counting and encoding text: against Python's own split and Counter, whatever the threads, sources and sizes."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import os
import signal
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core
from convec.models import _corpus
from convec.models._corpus import TextSource, count_corpus, encode_corpus, select_vocabulary
from convec.models.sentences import BrownCorpus, LineSentence, PathLineSentences, Text8Corpus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PIECE = 1 << 18  # bytes of text that are one task

# ---- references -----------------------------------------------------------------------------------------------------


def split_sentences(text: bytes, longest: int = 10000, limit: int | None = None) -> list[list[str]]:
    """gensim's LineSentence, in so many words."""
    sentences = []
    for line in itertools.islice(text.split(b"\n"), limit):
        words = line.decode("utf-8", "surrogateescape").split()
        sentences += [words[begin : begin + longest] for begin in range(0, len(words), longest)]
    return sentences


def encode_reference(sentences: list[list[str]], ids: dict[str, int], longest: int = 10000) -> list[int]:
    tokens = []
    for sentence in sentences:
        for begin in range(0, max(len(sentence), 1), longest):
            tokens += [ids[word] for word in sentence[begin : begin + longest] if word in ids] + [-1]
    return tokens


def check_counter(counter: _core.WordCounter, sentences: list[list[str]]) -> None:
    counts = Counter(itertools.chain.from_iterable(sentences))
    assert counter.words() == list(counts)  # both by first appearance
    assert counter.counts().tolist() == list(counts.values())
    assert len(counter) == len(counts)
    assert counter.raw_words == sum(counts.values())
    assert counter.sentences == len(sentences)


def check_all(counter: _core.WordCounter, sentences: list[list[str]], min_count: int = 1, longest: int = 10000) -> None:
    """Counts, vocabulary and corpus."""
    check_counter(counter, sentences)
    counts = Counter(itertools.chain.from_iterable(sentences))
    kept = [(word, count) for word, count in counts.most_common() if count >= min_count]  # stable: ties by appearance
    vocabulary = counter.vocabulary(min_count)
    assert vocabulary.words() == [word for word, _ in kept]
    assert vocabulary.counts().tolist() == [count for _, count in kept]
    assert vocabulary.total_count == sum(count for _, count in kept)
    ids = {word: number for number, word in enumerate(vocabulary.words())}
    expected = encode_reference(sentences, ids, longest)
    corpus = counter.corpus(vocabulary)
    check_corpus(corpus, expected, sum(counts.values()))


def check_corpus(corpus: _core.Corpus, expected: list[int], raw_words: int) -> None:
    tokens = corpus.tokens()
    assert tokens.dtype == np.int32
    assert not tokens.flags.writeable
    assert tokens.tolist() == expected
    assert len(corpus) == len(expected)
    assert corpus.sentences == expected.count(-1)
    assert corpus.words == len(expected) - corpus.sentences
    assert corpus.raw_words == raw_words


def write(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    return path


# ---- text -----------------------------------------------------------------------------------------------------------

PIECES = [
    b"", b"a", b"the", b"word", b"sixteen-letters_", b"seventeen-letters", b"eight888", b"nine99999",
    b"a" * 100, b"b" * 1000,
    b" ", b"  ", b"\t", b"\n", b"\n\n", b"\r\n", b"\r", b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x1f",
    b"\0", b"\0\0", b"\x1b", b"\x08", b"\x0e", b"\x7f", b"!",
    b"\xc2\x85", b"\xc2\xa0", b"\xc2", b"\xc2\x86", b"\xe1\x9a\x80", b"\xe1\x9a", b"\xe1\x9a\x81",
    *(b"\xe2\x80" + bytes([third]) for third in range(0x7E, 0xB2)),
    b"\xe2\x81\x9f", b"\xe2\x81\x9e", b"\xe2\x80", b"\xe2",
    b"\xe3\x80\x80", b"\xe3\x80\x81", b"\xe3\x80", b"\xe3", b"\xff", b"\xfe", b"\xed\xb2\x80",
    b"\xf0\x9f\x98\x80", b"\x80", b"\xa0",
    "é".encode(), "日本語".encode(), "\u200b".encode(), "\ufeff".encode(), "\u180e".encode(),
]  # fmt: skip

texts = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(PIECES), max_size=80).map(b"".join),
    st.lists(st.sampled_from([b"a", b"b", b"cc", b" ", b"\n"]), max_size=200).map(b"".join),
)


def feed(text: bytes, sizes: Iterator[int], **options: Any) -> _core.WordCounter:
    counter = _core.WordCounter()
    at = 0
    while at < len(text):
        size = next(sizes)
        counter.feed(text[at : at + size], **options)
        at += size
    counter.end_text()
    return counter


@settings(max_examples=400, deadline=None)
@given(text=texts, min_count=st.integers(0, 3), longest=st.sampled_from([1, 2, 3, 7, 10000]))
def test_fed_text_is_split_like_python(text: bytes, min_count: int, longest: int) -> None:
    counter = feed(text, itertools.repeat(1 << 20), max_sentence_length=longest)
    check_all(counter, split_sentences(text, longest), min_count)


@settings(max_examples=150, deadline=None)
@given(text=texts, sizes=st.lists(st.integers(0, 5), min_size=1, max_size=5).filter(any))
def test_pieces_may_end_anywhere(text: bytes, sizes: list[int]) -> None:
    check_all(feed(text, itertools.cycle(sizes)), split_sentences(text))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, limit=st.none() | st.integers(0, 5), longest=st.sampled_from([1, 3, 10000]))
def test_files_are_split_like_python(tmp_path: Path, text: bytes, limit: int | None, longest: int) -> None:
    source = LineSentence(write(tmp_path / "text", text), max_sentence_length=longest, limit=limit)
    sentences = split_sentences(text, longest, limit)
    assert list(source) == sentences
    check_all(count_corpus(source), sentences, longest=longest)


def random_text(size: int, seed: int, separators: list[bytes], words: int = 5000) -> bytes:
    generator = np.random.default_rng(seed)
    names = [
        bytes(generator.integers(97, 123, generator.integers(1, 24), dtype=np.uint8)) + b"\xc3\xa9" * (n % 7 == 0)
        for n in range(words)
    ]
    count = size // 14
    chosen = np.minimum(generator.zipf(1.3, count), words) - 1
    gaps = generator.integers(0, len(separators), count)
    return b"".join(itertools.chain.from_iterable((names[w], separators[g]) for w, g in zip(chosen, gaps, strict=True)))


LINES = [b" "] * 12 + [b"\n", b" \n", b"\r\n", b"\n\n", b"\t", b"\xe2\x80\x83", b"\xc2\xa0", b"\xe3\x80\x80"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.usefixtures("threads")
def test_results_do_not_depend_on_threads(tmp_path: Path, count: int) -> None:
    text = random_text(5 * PIECE, 1, LINES)
    path = write(tmp_path / "text", text)
    _core.set_num_threads(count)
    sentences = split_sentences(text, 50)
    check_all(count_corpus(LineSentence(path, max_sentence_length=50)), sentences, 3, longest=50)
    check_all(feed(text, itertools.cycle([100_000, 1, 777]), max_sentence_length=50), sentences, 2, longest=50)


@pytest.mark.parametrize("shift", range(-4, 3))
@pytest.mark.parametrize("separator", [b" ", b"\n", b"\xc2\xa0", b"\xe3\x80\x80", b"\xe3\x80\x81", b"x"])
def test_words_at_the_border_of_two_pieces(tmp_path: Path, shift: int, separator: bytes) -> None:
    text = b"one " * (PIECE // 4 - 4) + b"." * (16 + shift) + separator + b"two three\nfour " + b"five " * PIECE
    sentences = split_sentences(text)
    check_all(count_corpus(LineSentence(write(tmp_path / "text", text))), sentences)
    check_all(feed(text, itertools.repeat(len(text))), sentences)


@pytest.mark.usefixtures("threads")
def test_first_appearance_does_not_depend_on_who_sees_it_first(tmp_path: Path) -> None:
    # Any two pieces have a word in common, and the second half of the text is done sooner than the first: a thread
    # that helps out with the first half sees some words in a later piece before the earlier.
    pieces = 40
    text = b""
    for number in range(pieces):
        pairs = b" ".join(b"%d-%d" % (min(number, n), max(number, n)) for n in range(pieces))
        filler = b" a" if number < pieces // 2 else b" " + b"a" * 20_000
        text += pairs + filler * ((PIECE - len(pairs)) // len(filler)) + b"\n"
    path = write(tmp_path / "text", text)
    expected = list(Counter(itertools.chain.from_iterable(split_sentences(text))))
    for count in (1, 2, 4):
        _core.set_num_threads(count)
        assert count_corpus(TextSource((str(path),))).words() == expected


def test_more_lines_than_words(tmp_path: Path) -> None:
    text = b"\n" * (2 * PIECE) + b"a\n" * PIECE + b"\r\n" * PIECE + b"b"
    check_all(count_corpus(LineSentence(write(tmp_path / "text", text))), split_sentences(text))


def test_one_line_of_many_pieces(tmp_path: Path) -> None:
    text = b"a bb ccc " * PIECE
    for longest in (10000, 4096, 1):
        source = LineSentence(write(tmp_path / "text", text), max_sentence_length=longest)
        check_all(count_corpus(source), split_sentences(text, longest), longest=longest)


def test_long_words(tmp_path: Path) -> None:
    words = [
        bytes([97 + n]) * size for n, size in enumerate((100_000, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 5_000_000))
    ]
    text = b"a " + b" b\n".join(words) + b" " + b" ".join(reversed(words)) + b"\0" * 1_000_000
    sentences = split_sentences(text)
    check_all(count_corpus(LineSentence(write(tmp_path / "text", text))), sentences)
    check_all(feed(text, itertools.cycle([700_000, 5])), sentences)


def test_a_word_of_more_than_64_mib_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "zeros", b"some words ")
    os.truncate(path, 70 << 20)
    with pytest.raises(ValueError, match=r"zeros: a word is longer than 64 MiB; is this text"):
        count_corpus(LineSentence(path))
    for sizes in ([1 << 20] * 65, [(64 << 20) + 1]):
        with pytest.raises(ValueError, match=r"^a word is longer than 64 MiB"):
            feed(bytes(sum(sizes)), iter(sizes))
    assert feed(bytes(64 << 20), itertools.repeat(1 << 22)).raw_words == 1


def test_several_files_are_one_corpus(tmp_path: Path) -> None:
    texts_of_files = [b"a b\nc", b"", b"d\n\n", b" e a", b"\n"]
    paths = [str(write(tmp_path / f"{n}", text)) for n, text in enumerate(texts_of_files)]
    sentences = [sentence for text in texts_of_files for sentence in split_sentences(text)]
    check_all(count_corpus(TextSource(tuple(paths))), sentences)
    # A path given twice is read twice.
    check_all(count_corpus(TextSource((paths[0], paths[0]))), split_sentences(texts_of_files[0]) * 2)


# ---- lists of words -------------------------------------------------------------------------------------------------

words_of_lists = st.one_of(
    st.sampled_from(
        ["a", "b", "", " ", "machine learning", "x" * 8, "x" * 16, "x" * 17, "é", "日本", "😀", "\udcff", "\0"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)


@settings(max_examples=200, deadline=None)
@given(sentences=st.lists(st.lists(words_of_lists, max_size=12), max_size=12), longest=st.sampled_from([1, 3, 10000]))
def test_lists_are_taken_as_they_are(sentences: list[list[str]], longest: int) -> None:
    counter = _core.WordCounter()
    counter.count_sentences(sentences, longest)
    check_all(counter, sentences, longest=longest)
    vocabulary = counter.vocabulary(2)
    ids = {word: number for number, word in enumerate(vocabulary.words())}
    assert _core.encode_sentences(vocabulary, sentences, longest).tolist() == encode_reference(sentences, ids, longest)


def test_many_lists_from_one_reused_list() -> None:
    def produce() -> Iterator[list[str]]:
        sentence: list[str] = []
        for number in range(150_000):
            sentence[:] = [f"w{number % 1000}", f"v{number % 77}"] * (number % 9)
            yield sentence

    check_all(count_corpus(produce()), [list(sentence) for sentence in produce()], min_count=3000)


@pytest.mark.parametrize(
    "sentence", [("a", "b"), iter("ab"), {"a": 1, "b": 2}, np.array(["a", "b"]), [np.str_("a"), "b"]]
)
def test_any_sequence_is_a_sentence(sentence: Any) -> None:
    counter = count_corpus([sentence])
    assert counter.words() == ["a", "b"]
    assert counter.sentences == 1


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ([["a", 1]], r"sentences\[0\]\[1\] is 1 of type int, but words must be str"),
        ([["a"], [b"b"]], r"sentences\[1\]\[0\] is b'b' of type bytes"),
        ([["a"], [None]], r"sentences\[1\]\[0\] is None"),
        (["a b"], r"sentences\[0\] is a str, but must be a list of str"),
        ([["a"], b"b"], r"sentences\[1\] is a bytes"),
        ([["a"], 3], r"sentences\[1\] is a int"),
        ([None], r"sentences\[0\] is a NoneType"),
        ("a b", "sentences is a str"),
        (b"a b", "sentences is a bytes"),
        (3, "sentences is a int"),
        (None, "sentences is a NoneType"),
    ],
)
def test_other_types_are_refused(corpus: Any, message: str) -> None:
    vocabulary = _core.Vocabulary(["a"], [1])
    for take in (
        count_corpus,
        lambda it: encode_corpus(it, vocabulary),
        lambda it: _core.encode_sentences(vocabulary, it),
    ):
        with pytest.raises(TypeError, match=message):
            take(corpus)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sentences\[0\]\[1\] is 'x\\ud800', which holds half of a surrogate pair"):
        count_corpus([["a", "x\ud800"]])


def test_an_iterators_own_exception_arrives() -> None:
    def produce() -> Iterator[list[str]]:
        yield ["a"]
        raise LookupError("my own")

    with pytest.raises(LookupError, match="my own"):
        count_corpus(produce())


# ---- vocabulary -----------------------------------------------------------------------------------------------------


def scan_reference(
    sentences: list[list[str]], max_vocab_size: int, rule: Callable[[str, int, int], int] | None
) -> tuple[dict[str, int], int]:
    """gensim's Word2Vec._scan_vocab."""
    vocabulary: dict[str, int] = {}
    min_reduce = 1
    for sentence in sentences:
        for word in sentence:
            vocabulary[word] = vocabulary.get(word, 0) + 1
        if len(vocabulary) > max_vocab_size:
            for word, count in list(vocabulary.items()):
                chosen = rule(word, count, min_reduce) if rule else _corpus.RULE_DEFAULT
                if chosen == _corpus.RULE_DISCARD or (chosen == _corpus.RULE_DEFAULT and count < min_reduce):
                    del vocabulary[word]
            min_reduce += 1
    return vocabulary, min_reduce


def keep_vowels(word: str, count: int, min_count: int) -> int:
    if word[0] in "aeiou":
        return _corpus.RULE_KEEP
    return _corpus.RULE_DISCARD if word[0] == "x" else _corpus.RULE_DEFAULT


@pytest.mark.parametrize("rule", [None, keep_vowels])
@pytest.mark.parametrize("size", [1, 10, 300, 100_000])
def test_max_vocab_size_prunes_as_gensim(tmp_path: Path, size: int, rule: Any) -> None:
    text = random_text(PIECE // 3, 5, LINES, words=1500)
    path = write(tmp_path / "text", text)
    for longest, corpus in (
        (10000, LineSentence(path)),
        (20, LineSentence(path, 20)),
        (10000, list(LineSentence(path))),
    ):
        sentences = split_sentences(text, longest)
        expected, min_reduce = scan_reference(sentences, size, rule)
        counter = count_corpus(corpus, max_vocab_size=size, trim_rule=rule)
        assert dict(zip(counter.words(), counter.counts().tolist(), strict=True)) == expected
        assert counter.words() == list(expected)
        assert counter.min_reduce == min_reduce
        assert counter.raw_words == sum(map(len, sentences))
        assert counter.sentences == len(sentences)
        assert not counter.has_corpus


def test_max_vocab_size_with_empty_and_long_lists() -> None:
    sentences = [list("abcdefg"), [], list("abc"), [], list("xyzxyzxyz") * 3000, ["a"]]
    expected, min_reduce = scan_reference(sentences, 4, None)
    counter = count_corpus(sentences, max_vocab_size=4)
    assert dict(zip(counter.words(), counter.counts().tolist(), strict=True)) == expected
    assert counter.min_reduce == min_reduce


def test_a_trim_rules_exception_arrives() -> None:
    def rule(word: str, count: int, min_count: int) -> int:
        raise LookupError(word)

    with pytest.raises(LookupError, match="a"):
        count_corpus([["a", "b"]], max_vocab_size=1, trim_rule=rule)
    with pytest.raises(LookupError, match="a"):
        select_vocabulary(count_corpus([["a", "b"]]), trim_rule=rule)


@pytest.mark.parametrize("rule", [None, keep_vowels])
@pytest.mark.parametrize("min_count", [1, 2, 5])
@pytest.mark.parametrize("max_final_vocab", [None, 1, 7, 50, 10_000])
@pytest.mark.parametrize("sorted_vocab", [True, False])
def test_selection(rule: Any, min_count: int, max_final_vocab: int | None, sorted_vocab: bool) -> None:
    sentences = split_sentences(random_text(20_000, 3, [b" "], words=300))
    counts = Counter(itertools.chain.from_iterable(sentences))
    least = min_count
    if max_final_vocab is not None and max_final_vocab < len(counts):  # as gensim's prepare_vocab
        least = max(least, sorted(counts.values(), reverse=True)[max_final_vocab] + 1)
    kept = {word: count for word, count in counts.items() if _corpus.keep_vocab_item(word, count, least, rule)}
    if sorted_vocab:
        kept = dict(Counter(kept).most_common())
    counter = count_corpus(sentences)
    assert counter.effective_min_count(min_count, max_final_vocab or 0) == least
    vocabulary = select_vocabulary(
        counter, min_count=min_count, max_final_vocab=max_final_vocab, sorted_vocab=sorted_vocab, trim_rule=rule
    )
    assert dict(zip(vocabulary.words(), vocabulary.counts().tolist(), strict=True)) == kept
    assert vocabulary.words() == list(kept)


@given(words=st.lists(words_of_lists, unique=True, max_size=50))
def test_vocabulary_finds_its_words(words: list[str]) -> None:
    vocabulary = _core.Vocabulary(words, np.arange(len(words)))
    assert len(vocabulary) == len(words)
    assert vocabulary.words() == words
    assert [vocabulary.find(word) for word in words] == list(range(len(words)))
    assert vocabulary.find("not a word of these") == -1


def test_bad_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match=r"words\[2\], 'a', has come before"):
        _core.Vocabulary(["a", "b", "a"], [1, 1, 1])
    with pytest.raises(ValueError, match="counts has 2 numbers, but there are 1 words"):
        _core.Vocabulary(["a"], [1, 2])
    with pytest.raises(ValueError, match="counts has 2 dimensions"):
        _core.Vocabulary(["a"], [[1]])
    with pytest.raises(ValueError, match=r"counts\[0\] is -1"):
        _core.Vocabulary(["a"], [-1])
    with pytest.raises(TypeError, match=r"words\[1\] is 2 of type int"):
        _core.Vocabulary(["a", 2], [1, 1])
    with pytest.raises(TypeError, match="words is a str"):
        _core.Vocabulary("ab", [1, 1])
    with pytest.raises(ValueError, match="max_vocab_size is -1"):
        count_corpus([["a"]], max_vocab_size=-1)
    with pytest.raises(ValueError, match="max_final_vocab is -1"):
        select_vocabulary(count_corpus([["a"]]), max_final_vocab=-1)


def test_a_million_words() -> None:
    size = 1_000_000
    counter = _core.WordCounter()
    for begin in range(0, size, 100_000):
        counter.feed(b" ".join(b"word%d" % number for number in range(begin, begin + 100_000)) + b"\n")
    counter.end_text()
    vocabulary = counter.vocabulary(1)
    assert len(vocabulary) == size
    assert vocabulary.words() == [f"word{number}" for number in range(size)]
    assert vocabulary.find("word999999") == 999_999
    tokens = counter.corpus(vocabulary).tokens()
    assert np.array_equal(tokens[tokens >= 0], np.arange(size))


# ---- encoding -------------------------------------------------------------------------------------------------------


def test_encoders_agree_whatever_the_source(tmp_path: Path) -> None:
    text = random_text(3 * PIECE, 7, LINES)
    path = write(tmp_path / "text", text)
    sentences = split_sentences(text, 30)
    counter = count_corpus(LineSentence(path, 30))
    some = counter.vocabulary(1).words()[3:200:2]
    vocabulary = _core.Vocabulary(some, np.ones(len(some)))
    expected = encode_reference(sentences, {word: number for number, word in enumerate(some)}, 30)
    words = counter.raw_words
    check_corpus(counter.corpus(vocabulary), expected, words)
    check_corpus(encode_corpus(LineSentence(path, 30), vocabulary), expected, words)
    check_corpus(encode_corpus(sentences, vocabulary), expected, words)
    assert _core.encode_sentences(vocabulary, sentences).tolist() == expected
    encoder = _core.CorpusEncoder(vocabulary)
    for at in range(0, len(text), 70_001):
        encoder.feed(text[at : at + 70_001], max_sentence_length=30)
    check_corpus(encoder.finish(), expected, words)
    assert len(encoder.finish()) == 0  # used up, and ready for another
    encoder.add_sentences([["no such word"], some[:2]])
    assert encoder.finish().tokens().tolist() == [-1, 0, 1, -1]


def test_ids_above_the_limit_spill(tmp_path: Path) -> None:
    text = random_text(2 * PIECE, 11, LINES)
    counter = feed(text, itertools.repeat(1 << 20))
    vocabulary = counter.vocabulary(1)
    spilled = counter.corpus(vocabulary, memory_limit=1000, spill_directory=str(tmp_path))
    assert spilled.spilled
    assert list(tmp_path.iterdir()) == []  # the file has no name
    sentences = split_sentences(text)
    expected = encode_reference(sentences, {word: number for number, word in enumerate(vocabulary.words())})
    check_corpus(spilled, expected, counter.raw_words)
    tokens = spilled.tokens()
    del spilled, counter  # the array keeps the ids
    assert tokens.tolist() == expected
    grown = encode_corpus(sentences, vocabulary, memory_limit=len(expected) * 2, spill_directory=str(tmp_path))
    assert grown.spilled
    assert grown.tokens().tolist() == expected
    assert not encode_corpus(sentences, vocabulary, memory_limit=len(expected) * 4).spilled
    with pytest.raises(OSError, match="no-such: cannot make a temporary file"):
        encode_corpus(sentences, vocabulary, memory_limit=0, spill_directory=str(tmp_path / "no-such"))


def test_ids_that_do_not_fit_are_not_kept() -> None:
    counter = count_corpus([["a", "b"]] * 1000, memory_limit=100)
    assert not counter.has_corpus
    assert counter.words() == ["a", "b"]
    with pytest.raises(ValueError, match="read the text again with a CorpusEncoder"):
        counter.corpus(counter.vocabulary(1))
    assert not count_corpus([["a"]], keep_ids=False).has_corpus


# ---- files ----------------------------------------------------------------------------------------------------------


def compress_zstd(text: bytes) -> bytes:
    return pytest.importorskip("zstandard").ZstdCompressor().compress(text)


COMPRESSORS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lzma.compress,
    ".zst": compress_zstd,
}


@pytest.mark.parametrize("extension", COMPRESSORS)
@pytest.mark.parametrize("limit", [None, 0, 17])
def test_compressed_files(tmp_path: Path, extension: str, limit: int | None) -> None:
    text = random_text(2 * PIECE, 13, LINES)
    path = write(tmp_path / f"text{extension.upper()}", COMPRESSORS[extension](text))
    source = LineSentence(path, limit=limit)
    sentences = split_sentences(text, limit=limit)
    assert list(source) == sentences
    counter = count_corpus(source)
    vocabulary = counter.vocabulary(1)
    again = encode_corpus(source, vocabulary).tokens().tolist()
    check_all(counter, sentences)
    assert again == encode_reference(sentences, {word: number for number, word in enumerate(vocabulary.words())})


def test_a_zst_file_of_several_frames(tmp_path: Path) -> None:
    """One after the other, as `zstd` and `cat` make them; a bomb is unpacked piece by piece."""
    whole = compress_zstd(b"a b\n") + compress_zstd(b"") + compress_zstd(b"c " * 100_000)
    path = write(tmp_path / "text.zst", whole)
    assert count_corpus(LineSentence(path)).counts().tolist() == [1, 1, 100_000]
    for size in (len(whole) - 1, len(compress_zstd(b"a b\n")) + 3):
        with pytest.raises(OSError, match=r"cannot decompress.*truncated"):
            count_corpus(LineSentence(write(path, whole[:size])))
    zeros = write(path, compress_zstd(b" " * (1 << 28)))
    tracemalloc.start()
    assert len(count_corpus(LineSentence(zeros))) == 0
    assert tracemalloc.get_traced_memory()[1] < 160 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("extension", COMPRESSORS)
def test_damaged_compressed_files_are_errors(tmp_path: Path, extension: str) -> None:
    whole = COMPRESSORS[extension](random_text(PIECE, 13, LINES))
    half = write(tmp_path / f"half{extension}", whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"half.*cannot decompress"):
        count_corpus(LineSentence(half))
    other = write(tmp_path / f"other{extension}", b"no such format, at any rate")
    with pytest.raises(OSError, match=r"other.*cannot decompress"):
        count_corpus(LineSentence(other))


def test_zst_without_its_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def nothing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", nothing)
    with pytest.raises(ImportError, match=r"pip install 'convec\[zstd\]'"):
        count_corpus(LineSentence(write(tmp_path / "text.zst", b"")))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    folder = tmp_path / "folder.txt"
    folder.mkdir()
    vocabulary = _core.Vocabulary(["a"], [1])
    for path in (missing, missing.with_suffix(".gz")):
        with pytest.raises(FileNotFoundError, match=str(path)):
            count_corpus(LineSentence(path))
        with pytest.raises(FileNotFoundError, match=str(path)):
            encode_corpus(LineSentence(path), vocabulary)
        with pytest.raises(FileNotFoundError, match=str(path)):
            list(LineSentence(path))
    with pytest.raises(IsADirectoryError, match=str(folder)):
        count_corpus(LineSentence(folder))
    with pytest.raises(OSError, match=r"missing\.txt: cannot open the text file: No such file"):
        _core.WordCounter().count_file(missing)
    with pytest.raises(OSError, match=r"folder\.txt: cannot read the text file: Is a directory"):
        _core.WordCounter().count_file(folder)
    if os.geteuid() != 0:  # root may read anything
        locked = write(tmp_path / "locked.txt", b"a")
        locked.chmod(0)
        with pytest.raises(PermissionError, match=str(locked)):
            count_corpus(LineSentence(locked))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")
    try:
        Path(path).write_bytes(b"a b")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    assert count_corpus(LineSentence(path)).words() == ["a", "b"]


def test_a_file_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"a b c d\n" * (40 << 17))  # 40 MB, more than is read between two reports

    def cut(*state: int) -> None:
        os.truncate(path, 1000)

    with pytest.raises(OSError, match="text: the text file was cut short while it was read"):
        count_corpus(LineSentence(path), progress=cut, progress_interval=0)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = random_text(2 * PIECE, 17, LINES)
    writer = threading.Thread(target=pipe.write_bytes, args=(text,))  # runs while C++ reads: the GIL is free
    writer.start()
    counter = count_corpus(LineSentence(pipe))
    writer.join()
    check_all(counter, split_sentences(text))


# ---- progress and interruption --------------------------------------------------------------------------------------


def test_progress_grows_to_the_whole(tmp_path: Path) -> None:
    text = b"a b c d\n" * (70 << 17)
    states: list[tuple[int, ...]] = []
    counter = count_corpus(
        LineSentence(write(tmp_path / "text", text)), progress=lambda *state: states.append(state), progress_interval=0
    )
    assert len(states) >= 3
    assert states == sorted(states)
    assert all(state[1] == len(text) for state in states)
    assert states[-1] == (len(text), len(text), counter.raw_words, counter.sentences)


def test_what_progress_raises_stops_the_scan(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"a b c d\n" * (40 << 17))

    def stop(*state: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        count_corpus(LineSentence(path), progress=stop)
    counter = _core.WordCounter()
    with pytest.raises(LookupError, match="enough"):
        counter.feed(path.read_bytes(), progress=stop)
    del counter, stop


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_ctrl_c_stops_within_a_second(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sent: list[float] = []

    def interrupt() -> None:
        with pipe.open("wb") as file:
            file.write(b"some words ")
            file.flush()
            time.sleep(0.3)
            sent.append(time.monotonic())
            signal.raise_signal(signal.SIGINT)
            time.sleep(2)

    writer = threading.Thread(target=interrupt)
    writer.start()
    with pytest.raises(KeyboardInterrupt):
        count_corpus(LineSentence(pipe))
    assert time.monotonic() - sent[0] < 1
    writer.join()
    path = write(tmp_path / "text", b"a b c d\n" * (40 << 17))
    previous = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            count_corpus(TextSource((str(path),) * 100))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


# ---- gensim's corpora -----------------------------------------------------------------------------------------------


def test_line_sentence_takes_open_files(tmp_path: Path) -> None:
    text = "a b\n\nc é\u00a0d\n".encode()
    path = write(tmp_path / "text", text)
    with path.open("rb") as binary, path.open(encoding="utf-8") as decoded:
        for file in (binary, decoded):
            source = LineSentence(file)
            assert list(source) == list(source) == [["a", "b"], ["c", "é", "d"]]
            assert _corpus.text_source(source) is None
            check_all(count_corpus(source), split_sentences(text))
            assert list(LineSentence(file, max_sentence_length=2, limit=3)) == [["a", "b"], ["c", "é"], ["d"]]


def test_files_are_read_by_cpp_unless_iteration_was_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"a b\nc")

    class Upper(LineSentence):
        def __iter__(self) -> Iterator[list[str]]:
            for sentence in super().__iter__():
                yield [word.upper() for word in sentence]

    class Named(LineSentence):
        pass

    assert _corpus.text_source(Upper(path)) is None
    assert count_corpus(Upper(path)).words() == ["A", "B", "C"]
    assert _corpus.text_source(Named(path, 7, 8)) == TextSource((str(path),), 7, 8)
    assert _corpus.text_source([["a"]]) is None


def test_path_line_sentences(tmp_path: Path) -> None:
    contents = {"b.txt": b"b1\nb2\nb3", "a.gz": gzip.compress(b"a1 a2\na3\n"), "c.bz2": bz2.compress(b"c1")}
    for name, content in contents.items():
        write(tmp_path / name, content)
    source = PathLineSentences(tmp_path, limit=2)
    assert [Path(name).name for name in source.input_files] == ["a.gz", "b.txt", "c.bz2"]
    sentences = [["a1", "a2"], ["a3"], ["b1"], ["b2"], ["c1"]]
    assert list(source) == sentences
    check_all(count_corpus(source), sentences)
    one = PathLineSentences(str(tmp_path / "b.txt"))
    assert list(one) == [["b1"], ["b2"], ["b3"]]
    check_all(count_corpus(one), [["b1"], ["b2"], ["b3"]])
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        PathLineSentences(tmp_path / "missing")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, longest=st.sampled_from([1, 2, 5, 10000]))
def test_text8_corpus(tmp_path: Path, text: bytes, longest: int) -> None:
    source = Text8Corpus(write(tmp_path / "text", text), longest)
    words = text.decode("utf-8", "surrogateescape").split()
    sentences = [words[begin : begin + longest] for begin in range(0, len(words), longest)]
    assert list(source) == sentences
    check_all(count_corpus(source), sentences, longest=longest)


def test_text8_corpus_of_many_reads(tmp_path: Path) -> None:
    text = random_text(3 * PIECE, 19, [b" "] * 9 + [b"\n"])
    words = text.decode().split()
    sentences = [words[begin : begin + 10000] for begin in range(0, len(words), 10000)]
    source = Text8Corpus(write(tmp_path / "text", text))
    assert list(source) == sentences
    check_all(count_corpus(source), sentences)


def test_brown_corpus(tmp_path: Path) -> None:
    write(tmp_path / "ca01", b"The/at Fulton/np-tl ./. broken a/b/c 3/cd\n\n,/,\n")
    (tmp_path / "folder").mkdir()
    assert list(BrownCorpus(tmp_path)) == [["the/at", "fulton/np", "3/cd"]]


def test_bad_limits_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"a")
    for make in (LineSentence, PathLineSentences, Text8Corpus):
        with pytest.raises(ValueError, match="max_sentence_length is 0"):
            make(path, max_sentence_length=0)
    with pytest.raises(ValueError, match="limit is -1"):
        count_corpus(LineSentence(path, limit=-1))
    with pytest.raises(ValueError, match="max_sentence_length is 0, but must be at least 1"):
        _core.WordCounter().count_sentences([["a"]], 0)
    counter = _core.WordCounter()
    counter.feed(b"a")
    with pytest.raises(ValueError, match="call end_text"):
        counter.count_sentences([["a"]])
    with pytest.raises(TypeError, match="text must be bytes"):
        _core.WordCounter().feed(np.zeros(3))


@pytest.mark.parametrize("name", ["LineSentence", "PathLineSentences", "Text8Corpus"])
@pytest.mark.parametrize("longest", [7, 10000])
def test_same_sentences_as_gensim(tmp_path: Path, name: str, longest: int) -> None:
    word2vec = pytest.importorskip("gensim.models.word2vec")
    import convec.models.sentences as ours

    text = random_text(PIECE // 4, 23, [b" "] * 15 if name == "Text8Corpus" else LINES)
    path = str(write(tmp_path / "text", text))
    mine = getattr(ours, name)(path, max_sentence_length=longest)
    assert list(mine) == list(getattr(word2vec, name)(path, max_sentence_length=longest))


def test_same_vocabulary_as_gensim(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim")
    path = str(write(tmp_path / "text", random_text(PIECE, 29, LINES)))
    for options in ({}, {"max_vocab_size": 400}, {"max_final_vocab": 100}):
        model = gensim.models.Word2Vec(min_count=2, sorted_vocab=0, **options)
        model.build_vocab(corpus_file=path)
        counter = count_corpus(LineSentence(path), max_vocab_size=options.get("max_vocab_size"))
        vocabulary = select_vocabulary(
            counter, min_count=2, max_final_vocab=options.get("max_final_vocab"), sorted_vocab=False
        )
        assert vocabulary.words() == model.wv.index_to_key
        assert vocabulary.counts().tolist() == [model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key]
        assert counter.raw_words == model.corpus_total_words
        assert counter.sentences == model.corpus_count
