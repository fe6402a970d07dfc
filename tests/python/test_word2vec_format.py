"""The word2vec file formats: round trips, every option, damaged and hostile files, both ways with gensim."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convec import _core
from convec.models import KeyedVectors, _word2vec_format
from convec.models.keyedvectors import load_word2vec_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

OPENERS: dict[str, Any] = {"": open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def make(words: list[str], vectors: Any) -> KeyedVectors:
    kv = KeyedVectors(np.asarray(vectors).shape[1])
    kv.add_vectors(words, np.asarray(vectors, np.float32))
    return kv


def bits(array: Any) -> Any:
    """The bits of float32 numbers, so that -0.0 differs from 0.0; all NaN are alike."""
    array = np.asarray(array, np.float32)
    return np.where(np.isnan(array), np.uint32(0x7FC00000), array.view(np.uint32))


# ---------------------------------------------------------------- round trips

# What a word may hold: anything but the space and the line breaks that end it. A text line's trailing white space is
# cut off behind the numbers, not behind the word.
WORDS = st.text(st.characters(exclude_characters=" \n\r", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(WORDS, max_size=20, unique=True),
    size=st.integers(1, 9),
    binary=st.booleans(),
    suffix=st.sampled_from([*OPENERS]),
    data=st.data(),
)
def test_round_trip(
    words: list[str], size: int, binary: bool, suffix: str, data: st.DataObject, tmp_path: Path
) -> None:
    vectors = data.draw(hnp.arrays(np.float32, (len(words), size), elements=st.floats(width=32)))
    path = tmp_path / f"vectors{suffix}"
    make(words, vectors).save_word2vec_format(path, binary=binary)
    loaded = load_word2vec_format(path, binary=binary)
    assert loaded.index_to_key == words
    np.testing.assert_array_equal(bits(loaded.vectors), bits(vectors))
    assert loaded.vectors.shape == (len(words), size)


@pytest.mark.usefixtures("isa")
def test_all_kinds_of_numbers_survive_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**32, 40000, dtype=np.uint32).view(np.float32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1.1754942e-38, 3.4028235e38, 1e10, 0.1, 1 / 3]
    vectors = np.concatenate([numbers, np.array(special + [0] * (8 - len(special) % 8), np.float32)])[: 40000 + 8]
    vectors = vectors[: len(vectors) // 8 * 8].reshape(-1, 8)
    path = tmp_path / "vectors.txt"
    words = [f"w{index}" for index in range(len(vectors))]
    make(words, vectors).save_word2vec_format(path)
    np.testing.assert_array_equal(bits(KeyedVectors.load_word2vec_format(path).vectors), bits(vectors))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("suffix", list(OPENERS))
def test_large_files_are_read_in_blocks(
    binary: bool, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_word2vec_format, "_BLOCK", 5000)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 30)).astype(np.float32)
    # One word that is longer than several blocks.
    words = [f"w{index}" for index in range(2999)]
    words.insert(1500, "ü" * 20000)
    path = tmp_path / f"vectors{suffix}"
    make(words, vectors).save_word2vec_format(path, binary=binary)
    loaded = KeyedVectors.load_word2vec_format(path, binary=binary)
    assert loaded.index_to_key == words
    np.testing.assert_array_equal(loaded.vectors, vectors)


def test_padded_vectors_are_written_without_their_padding(tmp_path: Path) -> None:
    table = np.full((5, 16), np.nan, np.float32)
    table[:, :3] = np.arange(15).reshape(5, 3)
    kv = make(list("abcde"), np.zeros((5, 3)))
    kv.vectors = table[:, :3]
    for binary in (False, True):
        kv.save_word2vec_format(tmp_path / "vectors", binary=binary)
        loaded = KeyedVectors.load_word2vec_format(tmp_path / "vectors", binary=binary)
        np.testing.assert_array_equal(loaded.vectors, table[:, :3])


# ---------------------------------------------------------------- writing


def test_what_is_written(tmp_path: Path) -> None:
    kv = make(["a", "b", "ü"], [[1, 0.5], [-2, 1e-5], [3, 1e10]])
    kv.expandos["count"] = np.array([2, 9, 2])
    path = tmp_path / "vectors"
    kv.save_word2vec_format(path)
    assert path.read_text("utf8") == "3 2\nb -2 1e-05\na 1 0.5\nü 3 1e+10\n"
    kv.save_word2vec_format(path, binary=True, prefix="*dt_", fvocab=tmp_path / "vocabulary")
    expected = b"3 2\n" + b"".join(b"*dt_" + word.encode() + b" " + kv[word].tobytes() for word in ("b", "a", "ü"))
    assert path.read_bytes() == expected
    assert (tmp_path / "vocabulary").read_text("utf8") == "*dt_b 9\n*dt_a 2\n*dt_ü 2\n"
    kv.save_word2vec_format(path, write_header=False, sort_attr="none")
    assert path.read_text("utf8") == "a 1 0.5\nb -2 1e-05\nü 3 1e+10\n"
    kv.save_word2vec_format(path, total_vec=7, sort_attr="none")
    kv.save_word2vec_format(path, write_header=False, append=True, prefix="x", sort_attr="none")
    assert path.read_text("utf8").startswith("7 2\na 1 0.5\nb -2 1e-05\nü 3 1e+10\nxa 1 0.5\n")
    numbers = KeyedVectors(1)
    numbers.add_vectors([3, 1], [[1], [2]])
    numbers.save_word2vec_format(path)
    assert path.read_text() == "2 1\n3 1\n1 2\n"
    with pytest.raises(ValueError, match="'rank'"):
        kv.save_word2vec_format(path, fvocab=tmp_path / "vocabulary", sort_attr="rank")
    assert {entry.name for entry in tmp_path.iterdir()} == {"vectors", "vocabulary"}


def test_counts_come_back(tmp_path: Path) -> None:
    kv = make(["a", "b", "c"], np.eye(3))
    kv.expandos["count"] = np.array([2, 9, 4])
    kv.save_word2vec_format(tmp_path / "v", fvocab=tmp_path / "c.gz")
    loaded = KeyedVectors.load_word2vec_format(tmp_path / "v", fvocab=tmp_path / "c.gz")
    assert {key: loaded.get_vecattr(key, "count") for key in "abc"} == {"a": 2, "b": 9, "c": 4}
    loaded = KeyedVectors.load_word2vec_format(tmp_path / "v")
    assert loaded.expandos["count"].tolist() == [3, 2, 1]
    (tmp_path / "c").write_text("b 9\n")
    loaded = KeyedVectors.load_word2vec_format(tmp_path / "v", fvocab=tmp_path / "c")
    assert loaded.expandos["count"].tolist() == [9, 0, 0]
    (tmp_path / "c").write_text("b 9\nnine\n")
    with pytest.raises(ValueError, match="line 2"):
        KeyedVectors.load_word2vec_format(tmp_path / "v", fvocab=tmp_path / "c")


@pytest.mark.parametrize("word", ["two words", "line\nbreak", "return\r"])
def test_words_the_format_cannot_hold_leave_the_file_alone(word: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_text("before")
    for binary in (False, True):
        for append in (False, True):
            with pytest.raises(ValueError, match=r"space or a line break|line breaks"):
                make(["a", word], np.eye(2)).save_word2vec_format(path, binary=binary, append=append)
            with pytest.raises(ValueError, match="prefix"):
                make(["a"], np.eye(1)).save_word2vec_format(path, binary=binary, append=append, prefix=word)
    with pytest.raises(UnicodeEncodeError):
        make(["\ud800"], np.eye(1)).save_word2vec_format(path)
    with pytest.raises(ValueError, match="no key"):
        KeyedVectors(2, count=3).save_word2vec_format(path)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_is_replaced_with_its_permissions_and_through_links(tmp_path: Path) -> None:
    kv = make(["a"], [[1, 2]])
    path, link = tmp_path / "vectors", tmp_path / "link"
    path.write_text("before")
    path.chmod(0o640)
    link.symlink_to(path)
    kv.save_word2vec_format(link)
    assert link.is_symlink()
    assert path.read_text() == "1 2\na 1 2\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    with pytest.raises(OSError):
        kv.save_word2vec_format(tmp_path / "absent" / "vectors")


# ---------------------------------------------------------------- reading


def load(text: str | bytes, path: Path, **options: Any) -> KeyedVectors:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return KeyedVectors.load_word2vec_format(path, **options)


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    for text in (
        "2 3\na 1 2 3\nb 4 5 6\n",
        "2 3\na 1 2 3\nb 4 5 6",
        "2 3\r\na 1 2 3\r\nb 4 5 6\r\n",
        "2 3\na 1 2 3 \nb 4 5 6 \n",
        "2 3 \na 1.0  +2e0 30.0e-1\nb 4 5 6\nc 7 8 9\n",
        " 2  3\na 1 2 3\nb 4\t5 6\nwhatever follows",
    ):
        kv = load(text, path)
        assert kv.index_to_key == ["a", "b"]
        assert kv.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert kv.vectors.dtype == np.float32
    assert load("0 5\n", path).vectors.shape == (0, 5)
    assert load("1 2\n 1 2\n", path).index_to_key == [""]
    kv = load("1 6\na inf -inf nan 1e99 -1e99 1e-99\n", path)
    np.testing.assert_array_equal(kv.vectors, [[np.inf, -np.inf, np.nan, np.inf, -np.inf, 0]])
    kv = load("1 4\na 1e999 -1e999 1e-999 " + "0" * 50 + "1" + "0" * 40 + "e-40\n", path)
    np.testing.assert_array_equal(kv.vectors, [[np.inf, -np.inf, 0, 1]])


def test_no_header(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    for text in ("a 1 2\nb 3 4\n", "a 1 2\nb 3 4", "a 1 2\r\nb 3 4\r\n\r\n"):
        kv = load(text, path, no_header=True)
        assert kv.index_to_key == ["a", "b"]
        assert kv.vectors.tolist() == [[1, 2], [3, 4]]
        assert kv.expandos["count"].tolist() == [2, 1]
    kv = load("a 1 2\nb 3 4\nc 5 6\n", path, no_header=True, limit=2)
    assert kv.index_to_key == ["a", "b"]
    assert len(load("a 1 2\nb 3 4\n", path, no_header=True, limit=9)) == 2
    with pytest.raises(NotImplementedError):
        load("", path, no_header=True, binary=True)
    for text, error in [("", EOFError), ("\n\n", ValueError), ("a\n", ValueError), ("a 1 2\nb 1\n", ValueError)]:
        with pytest.raises(error):
            load(text, path, no_header=True)


@pytest.mark.parametrize("separator", [b"", b"\n"])
def test_binary_with_and_without_line_breaks(separator: bytes, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    data = b"3 4\n" + b"".join(
        word + b" " + vector.tobytes() + separator for word, vector in zip((b"a", b"b", b"c"), vectors, strict=True)
    )
    kv = load(data, tmp_path / "vectors", binary=True)
    assert kv.index_to_key == ["a", "b", "c"]
    np.testing.assert_array_equal(kv.vectors, vectors)
    kv = load(data, tmp_path / "vectors", binary=True, limit=2)
    np.testing.assert_array_equal(kv.vectors, vectors[:2])


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_text_read_as_binary_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"vectors.txt{suffix}"
    kv = KeyedVectors(4)
    kv.add_vectors(["a", "b"], np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32))
    kv.save_word2vec_format(path)
    with pytest.raises(ValueError, match=r"vectors\.txt.*: the file goes on after .* is this the binary format\?"):
        KeyedVectors.load_word2vec_format(path, binary=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("binary", [False, True])
def test_datatype(dtype: Any, binary: bool, tmp_path: Path) -> None:
    # Rounded to float32 on its way, the last of these would be infinite in float16.
    values = np.array([[0.1, 1 / 3, 0.5 if binary else 65519.999]])
    if binary:
        text: Any = b"1 3\na " + values.astype(np.float32).tobytes()
        expected = values.astype(np.float32).astype(dtype)
    else:
        text = "1 3\na " + " ".join(map(repr, values[0].tolist())) + "\n"
        expected = values.astype(dtype)
    kv = load(text, tmp_path / "v", binary=binary, datatype=dtype)
    assert kv.vectors.dtype == dtype
    np.testing.assert_array_equal(kv.vectors, expected)
    with pytest.raises(ValueError, match="datatype"):
        load(text, tmp_path / "v", binary=binary, datatype=np.int32)


def test_duplicates_keep_the_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kv = load("4 1\na 1\nb 2\na 3\nc 4\n", tmp_path / "v")
    assert kv.index_to_key == ["a", "b", "c"]
    assert kv.vectors.tolist() == [[1], [2], [4]]
    assert kv.key_to_index == {"a": 0, "b": 1, "c": 2}
    assert kv.expandos["count"].tolist() == [4, 3, 2]
    assert "duplicate word 'a'" in caplog.text


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "v"
    assert load("1 1\nmädchen 1\n".encode("latin1"), path, encoding="latin1").index_to_key == ["mädchen"]
    cut = b"1 1\nm\xc3 1\n"
    with pytest.raises(UnicodeDecodeError):
        load(cut, path)
    assert load(cut, path, unicode_errors="ignore").index_to_key == ["m"]
    assert load(cut, path, unicode_errors="replace").index_to_key == ["m\ufffd"]
    assert load(b"1 1\n\x00\x01 1\n", path).index_to_key == ["\0\1"]
    with pytest.raises(LookupError):
        load(b"1 1\na 1\n", path, encoding="no such encoding")


def test_limit(tmp_path: Path) -> None:
    text = "3 1\na 1\nb 2\nc 3\n"
    for limit, count in [(1, 1), (2, 2), (3, 3), (4, 3), (None, 3), (0, 3)]:
        kv = load(text, tmp_path / "v", limit=limit)
        assert len(kv) == count
        assert kv.expandos["count"].tolist() == list(range(count, 0, -1))
    # What is not wanted need not be there.
    assert len(load("1000000000000 1\na 1\nb 2\n", tmp_path / "v", limit=2)) == 2
    with pytest.raises(ValueError, match="limit"):
        load(text, tmp_path / "v", limit=-1)


def test_file_objects_and_pipes(tmp_path: Path) -> None:
    text = b"2 1\na 1\nb 2\n"
    assert len(KeyedVectors.load_word2vec_format(io.BytesIO(text))) == 2  # type: ignore[arg-type]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write({text!r})"])
    assert KeyedVectors.load_word2vec_format(pipe).vectors.tolist() == [[1], [2]]
    assert writer.wait() == 0


# ---------------------------------------------------------------- damaged and hostile files


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("binary", [False, True])
def test_truncated_at_any_byte(binary: bool, suffix: str, tmp_path: Path) -> None:
    vectors = np.arange(9, dtype=np.float32).reshape(3, 3) + 0.25
    path = tmp_path / f"vectors{suffix}"
    make(["alpha", "beta", "gamma"], vectors).save_word2vec_format(path, binary=binary)
    with OPENERS[suffix](path, "rb") as file:
        whole = file.read()
    for size in range(len(whole)):
        with OPENERS[suffix](path, "wb") as file:
            file.write(whole[:size])
        try:
            loaded = KeyedVectors.load_word2vec_format(path, binary=binary)
        except (EOFError, ValueError):
            continue
        # Text may lose its last line break, or the last digits of its last number.
        assert not binary
        assert size >= len(whole) - 4
        assert loaded.index_to_key == ["alpha", "beta", "gamma"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_damaged_compression(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"vectors{suffix}"
    vectors = np.random.default_rng(0).standard_normal((200, 8))
    make([f"w{index}" for index in range(200)], vectors).save_word2vec_format(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 97):
        path.write_bytes(whole[:size])
        with pytest.raises((EOFError, OSError, ValueError)):
            KeyedVectors.load_word2vec_format(path)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises((OSError, EOFError, ValueError)):
        KeyedVectors.load_word2vec_format(path)


BAD = [
    ("", EOFError, "empty"),
    ("\n", ValueError, "first line"),
    ("5\n", ValueError, "first line is '5'"),
    ("5 2 7\na 1 2\n", ValueError, "first line"),
    ("a 1 2\nb 1 2\n", ValueError, "no_header"),
    ("1.5 2\n", ValueError, "first line"),
    ("-5 2\n", ValueError, "promises -5"),
    ("5 -2\n", ValueError, "-2"),
    ("5 0\n", ValueError, "of 0 numbers"),
    ("99999999999999999999 2\n", ValueError, "first line"),
    ("1 99999999999\n", ValueError, "99999999999"),
    ("999999999999999 100\na 1 2\n", EOFError, "too short"),
    ("9223372036854775807 1048576\na 1 2\n", EOFError, "too short"),
    ("1" * 5000, ValueError, "first line"),
    ("x" * 5000 + "\n", ValueError, "first line"),
    ("\x1f\x8b\x08\x00\x00", ValueError, "first line"),
    ("3 2\na 1 2\nb 3 4\n\n\n\n\n", ValueError, "line 4 has 0 numbers"),
    ("2 2\na 1 2\nb 3 4 5\n", ValueError, "line 3 has 3 numbers"),
    ("2 2\na 1 2 3 4\nb 3\n", ValueError, "line 2 has 4 numbers"),
    ("2 2\na 1 x2\nb 3 4\n", ValueError, "line 2: 'x2' is not a number"),
    ("2 2\na 1 2x\nb 3 4\n", ValueError, "line 2: '2x' is not a number"),
    ("2 2\na 1 0x10\nb 3 4\n", ValueError, "line 2: '0x10' is not a number"),
    ("2 2\na 1 1_0\nb 3 4\n", ValueError, "line 2: '1_0' is not a number"),
    ("2 2\na 1 --1\nb 3 4\n", ValueError, "line 2: '--1' is not a number"),
    ("2 2\na 1 +\nb 3 4\n", ValueError, "line 2: '[+]' is not a number"),
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("text", "error", "message"), BAD, ids=range(len(BAD)))
def test_malformed_text(text: str, error: type[Exception], message: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"vectors{suffix}"
    with OPENERS[suffix](path, "wb") as file:
        file.write(text.encode("latin1"))
    if suffix and message == "too short":
        # Of a compressed file the size is known at its end only.
        error, message = (ValueError, "numbers after its word") if "a 1 2" in text else (error, "")
    with pytest.raises(error, match=message) as caught:
        KeyedVectors.load_word2vec_format(path)
    assert str(path) in str(caught.value)


def test_the_first_error_is_reported(tmp_path: Path) -> None:
    lines = [f"w{index} " + " ".join(["0.125"] * 50) for index in range(20000)]
    lines[15000] = lines[12345] = "wrong 1"
    with pytest.raises(ValueError, match="line 12347 has 1 numbers"):
        load("20000 50\n" + "\n".join(lines), tmp_path / "v")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"2 2\na 12345678b 1234", EOFError, "too short"),
        (b"2 2\n" + b"a" * 30, EOFError, "ends after 0 of the 2"),
        (b"1 2\n" + b"a" * 3_000_000, ValueError, "has no end"),
        (b"1 2\n" + b"a" * 3_000_000 + b" 12345678", ValueError, "has no end"),
        (b"1000000 100\n", EOFError, "too short"),
    ],
    ids=range(5),
)
def test_malformed_binary(data: bytes, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        load(data, tmp_path / "v", binary=True)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(-2, 6), st.integers(-1, 4), st.binary(max_size=100)).map(
            lambda parts: f"{parts[0]} {parts[1]}\n".encode() + parts[2]
        ),
        st.tuples(st.integers(0, 4), st.integers(1, 3), st.text(st.sampled_from("ab 12.e-+\n\t\0"), max_size=80)).map(
            lambda parts: f"{parts[0]} {parts[1]}\n{parts[2]}".encode()
        ),
    ),
    binary=st.booleans(),
    no_header=st.booleans(),
    block=st.sampled_from([1, 3, 7, 1 << 20]),
)
def test_any_bytes_give_vectors_or_an_error(
    data: bytes, binary: bool, no_header: bool, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_header = no_header and not binary
    outcomes = []
    for size, suffix in ((1 << 25, ""), (block, ""), (block, ".gz")):
        monkeypatch.setattr(_word2vec_format, "_BLOCK", size)
        path = tmp_path / f"v{suffix}"
        with OPENERS[suffix](path, "wb") as file:
            file.write(data)
        try:
            kv = KeyedVectors.load_word2vec_format(path, binary=binary, no_header=no_header, unicode_errors="replace")
            outcomes.append((kv.index_to_key, bits(kv.vectors).tolist()))
        except (ValueError, EOFError):
            outcomes.append(None)
    # However the bytes are cut into blocks, the outcome is the same.
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_memory_is_bounded_by_the_file(tmp_path: Path) -> None:
    """Headers that promise the moon, in little address space."""
    code = f"""
import resource, sys
import numpy as np
from convec import set_num_threads
from convec.models import KeyedVectors
set_num_threads(1)
KeyedVectors(3).fill_norms()
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
for data in (b"1000000000 1000\\n", b"1 1000000\\n", b"9999999999999 300\\na 1\\n", b"3 1000000\\na 1\\nb 1\\nc 1\\n"):
    for suffix in ("", ".gz"):
        for binary in (False, True):
            path = {str(tmp_path)!r} + "/v" + suffix
            import gzip
            with (gzip.open if suffix else open)(path, "wb") as file:
                file.write(data)
            try:
                KeyedVectors.load_word2vec_format(path, binary=binary)
            except (ValueError, EOFError):
                continue
            raise SystemExit("read " + repr(data))
"""
    assert resource.RLIMIT_AS
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reader_refuses_bad_arguments() -> None:
    reader = _core.Word2VecReader(binary=False, no_header=False, limit=-1, float64=False, size=-1)
    with pytest.raises(ValueError, match="3"):
        reader.read(b"abc", 0, 4, True)
    with pytest.raises(ValueError, match="3"):
        reader.read(b"abc", -1, 2, True)
    with pytest.raises(ValueError, match="no_header"):
        _core.Word2VecReader(binary=True, no_header=True, limit=-1, float64=False, size=-1)
    vectors = np.zeros((3, 2), np.float32)
    for order, words, error in [
        ([0, 3], ["a", "b"], ValueError),
        ([0, -1], ["a", "b"], ValueError),
        ([0, 1], ["a"], ValueError),
        ([0], [b"a"], TypeError),
    ]:
        with pytest.raises(error):
            _core.write_word2vec(
                vectors,
                words,  # type: ignore[arg-type]
                np.array(order),
                lambda _: None,
                binary=False,
                header=True,
                total=-1,
                prefix="",
            )
    with pytest.raises(RuntimeError, match="full"):
        _core.write_word2vec(vectors, ["a"], np.array([0]), _full_disk, binary=False, header=True, total=-1, prefix="")


def _full_disk(data: Any) -> None:
    raise RuntimeError("full")


# ---------------------------------------------------------------- intersect


@pytest.mark.parametrize("binary", [False, True])
def test_intersect(binary: bool, tmp_path: Path) -> None:
    make(["b", "x", "a"], [[1, 1], [2, 2], [3, 3]]).save_word2vec_format(tmp_path / "v", binary=binary)
    kv = make(["a", "b", "c"], np.zeros((3, 2)))
    kv.fill_norms()
    kv.intersect_word2vec_format(tmp_path / "v", binary=binary, lockf=0.5)
    assert kv.vectors.tolist() == [[3, 3], [1, 1], [0, 0]]
    assert kv.vectors_lockf.tolist() == [0.5, 0.5, 1]
    assert "x" not in kv
    kv.fill_norms()
    np.testing.assert_allclose(kv.norms, [18**0.5, 2**0.5, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="incompatible vector size 2"):
        make(["a"], np.zeros((1, 3))).intersect_word2vec_format(tmp_path / "v", binary=binary)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("binary", [False, True])
def test_intersect_reads_piece_by_piece(
    binary: bool, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a word that occurs twice the last counts; a file whose end is bad changes nothing."""
    for size in ("_BLOCK", "_PIECE"):
        monkeypatch.setattr(_word2vec_format, size, 100)
    words = [f"w{number}" for number in range(200)]
    values = np.arange(400, dtype=np.float32).reshape(200, 2)
    path = tmp_path / f"v{suffix}"
    make(words, values).save_word2vec_format(path, binary=binary)
    pieces = list(_word2vec_format.iterate_word2vec(path, binary=binary))
    assert len(pieces) > 10
    assert [word for piece, _ in pieces for word in piece] == words
    np.testing.assert_array_equal(np.concatenate([vectors for _, vectors in pieces]), values)
    kv = make([*words[::3], "other"], np.zeros((68, 2)))
    kv.intersect_word2vec_format(path, binary=binary)
    np.testing.assert_array_equal(kv.vectors[:-1], values[::3])
    assert not kv.vectors[-1].any()
    twice = make(["a"], [[1, 1]])
    twice.save_word2vec_format(path, binary=binary, total_vec=3)
    for number in (2, 3):
        make(["a"], [[number, number]]).save_word2vec_format(path, binary=binary, write_header=False, append=True)
    twice.intersect_word2vec_format(path, binary=binary)
    assert twice.vectors.tolist() == [[3, 3]]
    make(words, values).save_word2vec_format(path, binary=binary, total_vec=201)
    before = kv.vectors + 1
    kv.vectors = before.copy()
    with pytest.raises(EOFError):
        kv.intersect_word2vec_format(path, binary=binary)
    np.testing.assert_array_equal(kv.vectors, before)


# ---------------------------------------------------------------- gensim


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_both_ways_with_gensim(binary: bool, suffix: str, tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models")
    rng = np.random.default_rng(0)
    words = [f"wörd{index}" for index in range(300)]
    vectors = (rng.standard_normal((300, 20)) * 10.0 ** rng.integers(-30, 30, (300, 20))).astype(np.float32)
    ours = make(words, vectors)
    ours.expandos["count"] = rng.integers(1, 50, 300)
    theirs = gensim.KeyedVectors(20)
    theirs.add_vectors(words, vectors)
    theirs.expandos["count"] = ours.expandos["count"]
    first, second = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
    ours.save_word2vec_format(first, binary=binary, fvocab=tmp_path / "ours.vocab")
    theirs.save_word2vec_format(str(second), binary=binary, fvocab=str(tmp_path / "theirs.vocab"))
    assert (tmp_path / "ours.vocab").read_bytes() == (tmp_path / "theirs.vocab").read_bytes()
    if binary and not suffix:
        assert first.read_bytes() == second.read_bytes()
    for path in (first, second):
        a = KeyedVectors.load_word2vec_format(path, binary=binary, fvocab=tmp_path / "ours.vocab", limit=200)
        b = gensim.KeyedVectors.load_word2vec_format(
            str(path), binary=binary, fvocab=str(tmp_path / "ours.vocab"), limit=200
        )
        assert a.index_to_key == b.index_to_key
        assert a.key_to_index == b.key_to_index
        np.testing.assert_array_equal(a.vectors, b.vectors)
        np.testing.assert_array_equal(a.vectors, vectors[[words.index(word) for word in a.index_to_key]])
        assert a.expandos["count"].tolist() == b.expandos["count"].tolist()
