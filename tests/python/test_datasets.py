"""Data sets: where they are found, what is refused, and the shipped sample."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import importlib.util
import io
import re
import struct
import threading
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from convec import datasets
from convec.datasets import _locate, fashion_mnist, mnist
from convec.datasets._formats import DataFormatError, read_idx, read_npz

IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def make_data(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    x_train, x_test = (rng.integers(0, 256, (count, 28, 28), np.uint8) for count in (20, 7))
    y_train, y_test = (rng.integers(0, 10, count).astype(np.uint8) for count in (20, 7))
    return x_train, y_train, x_test, y_test


def write_idx(folder: Path, data: tuple[np.ndarray, ...], *, dotted: bool = False, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(IDX_NAMES, data, strict=True):
        content = idx(array)
        name = name.replace("-idx", ".idx") if dotted else name
        (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(content) if zipped else content)


def write_npz(path: Path, data: tuple[np.ndarray, ...]) -> None:
    np.savez_compressed(path, **dict(zip(("x_train", "y_train", "x_test", "y_test"), data, strict=True)))


def assert_same(loaded, data: tuple[np.ndarray, ...]) -> None:
    flat = (*loaded[0], *loaded[1])
    for got, expected in zip(flat, data, strict=True):
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, expected)


@pytest.fixture(autouse=True)
def _no_data_anywhere(monkeypatch, tmp_path):
    """An empty home, no variables, no system folders, and a network that refuses."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CONVEC_DATA", raising=False)

    def refuse(url, timeout):
        raise OSError("no network in this test")

    monkeypatch.setattr(_locate.urllib.request, "urlopen", refuse)
    for module in (mnist, fashion_mnist):
        offline = dataclasses.replace(module._DATA_SET, system_folders=())
        monkeypatch.setattr(module, "_DATA_SET", offline)


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_in_a_folder(tmp_path, module, dotted, zipped):
    data = make_data()
    write_idx(tmp_path / "files", data, dotted=dotted, zipped=zipped)
    assert_same(module.load_data(tmp_path / "files"), data)
    assert_same(module.load_data(str(tmp_path / "files")), data)


def test_npz_file_and_folder_with_one(tmp_path):
    data = make_data()
    write_npz(tmp_path / "mnist.npz", data)
    assert_same(mnist.load_data(tmp_path / "mnist.npz"), data)
    assert_same(mnist.load_data(tmp_path), data)


def test_order_of_the_search(tmp_path, monkeypatch):
    places = [
        tmp_path / "data" / "mnist",
        tmp_path / "home" / ".cache" / "convec" / "mnist",
        tmp_path / "home" / ".keras" / "datasets",
    ]
    monkeypatch.setenv("CONVEC_DATA", str(tmp_path / "data"))
    for seed, place in reversed(list(enumerate(places))):
        place.mkdir(parents=True)
        write_npz(place / "mnist.npz", make_data(seed))
        assert_same(mnist.load_data(), make_data(seed))
        # Keras' argument is a name in the cache, not a path.
        assert_same(mnist.load_data("mnist.npz"), make_data(seed))


def test_xdg_cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    write_idx(tmp_path / "xdg" / "convec" / "fashion-mnist", make_data())
    assert_same(fashion_mnist.load_data(), make_data())


def test_files_of_the_other_data_set_are_not_taken(tmp_path, monkeypatch):
    """Both data sets have the same file names, so a folder of any name is judged by its labels."""
    data = make_data()
    write_idx(tmp_path / "anything", data)
    digest = hashlib.sha256(idx(data[1])).hexdigest()
    monkeypatch.setenv("CONVEC_DATA", str(tmp_path / "anything"))
    assert_same(mnist.load_data(), data)
    with pytest.raises(OSError, match="CONVEC_DATA"):
        fashion_mnist.load_data()
    fashion = dataclasses.replace(fashion_mnist._DATA_SET, train_labels_sha256=digest)
    monkeypatch.setattr(fashion_mnist, "_DATA_SET", fashion)
    monkeypatch.setattr(mnist, "_DATA_SET", dataclasses.replace(mnist._DATA_SET, not_labels_sha256=(digest,)))
    assert_same(fashion_mnist.load_data(), data)
    with pytest.raises(OSError, match="could not be downloaded"):
        mnist.load_data()


def test_missing_paths_say_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        mnist.load_data(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte"):
        mnist.load_data(tmp_path)


@pytest.mark.parametrize("module", [mnist, fashion_mnist])
def test_offline_says_where_to_put_the_files(module, tmp_path):
    with pytest.raises(OSError, match=r"no network in this test.*\.cache/convec.*CONVEC_DATA.*load_sample"):
        module.load_data()
    left = [file for file in (tmp_path / "home").rglob("*") if file.is_file()]
    assert left == []


def test_truncated_files_are_refused_at_every_length(tmp_path):
    whole = idx(make_data()[2])
    path = tmp_path / "images"
    for length in [*range(20), 100, len(whole) - 1]:
        for content in (whole[:length], gzip.compress(whole[:length])):
            path.write_bytes(content)
            with pytest.raises(DataFormatError, match="images"):
                read_idx(path, 3)
    zipped = gzip.compress(whole)
    for length in range(2, len(zipped), 97):
        path.write_bytes(zipped[:length])
        with pytest.raises(DataFormatError, match="truncated or damaged"):
            read_idx(path, 3)


def test_damaged_idx_files_are_refused(tmp_path):
    path = tmp_path / "images"
    whole = idx(make_data()[2])
    for content, message in (
        (whole + b"x", "more bytes"),
        (idx(make_data()[1]), "another kind"),
        (b"\0\0\x0d\3" + whole[4:], "another kind"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), "damaged"),
        # A claim of a gigabyte with nothing behind it takes no gigabyte.
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 1 << 20, 32, 32), "truncated"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataFormatError, match=message):
            read_idx(path, 3)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(idx(np.zeros(10, np.uint8)) + bytes(50_000_000), compresslevel=1))
    with pytest.raises(DataFormatError, match="more bytes"):
        read_idx(path, 1)


def npz_with(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(array: np.ndarray, **options) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, **options)
    return content.getvalue()


def test_hostile_npz_files_are_refused(tmp_path):
    path = tmp_path / "mnist.npz"
    images, labels = (npy(array) for array in make_data()[:2])
    huge = images.replace(b"(20, 28, 28)", b"(9**9**9,1)".ljust(12))
    negative = images.replace(b"(20, 28, 28)", b"(-20,28,-28)")
    enormous = images.replace(b"(20, 28, 28)", b"(999999,9,9999)"[:12].ljust(12))
    for members, message in (
        ({}, "no array 'x_train'"),
        ({"x_train": b""}, "damaged header"),
        ({"x_train": images[:60]}, "damaged header"),
        ({"x_train": images[:-5]}, "truncated"),
        ({"x_train": huge}, "damaged header"),
        ({"x_train": negative}, "damaged"),
        ({"x_train": enormous}, "damaged"),
        ({"x_train": npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)}, "object"),
        ({"x_train": npy(np.zeros((2, 28, 28), np.float32))}, "float32"),
        ({"x_train": labels}, "3 dimensions"),
        ({"x_train": images, "y_train": labels, "x_test": images, "y_test": npy(np.zeros(3, np.uint8))}, "3 labels"),
    ):
        npz_with(path, **members)
        with pytest.raises(DataFormatError, match=message):
            read_npz(path)
    path.write_bytes(b"PK\x03\x04 no archive at all")
    with pytest.raises(DataFormatError, match=r"not a \.npz"):
        read_npz(path)


def test_labels_must_fit_images(tmp_path):
    x_train, y_train, x_test, y_test = make_data()
    write_idx(tmp_path, (x_train, y_train[:-1], x_test, y_test))
    with pytest.raises(ValueError, match="20 train images, but 19 labels"):
        mnist.load_data(tmp_path)


@pytest.fixture
def server():
    """A web server on this machine: ``server.files`` by path; anything else is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = self.server.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *arguments):
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    http.files = {}
    http.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


def data_set_on(server, data, monkeypatch) -> _locate.DataSet:
    import urllib.request

    monkeypatch.setattr(_locate.urllib.request, "urlopen", urllib.request.build_opener().open)
    remote = []
    for name, array in zip(IDX_NAMES, data, strict=True):
        content = idx(array)
        server.files[f"/{name}.gz"] = gzip.compress(content)
        urls = (f"{server.url}/missing", f"{server.url}/{name}.gz")
        remote.append(_locate.RemoteFile(f"{name}.gz", urls, hashlib.sha256(content).hexdigest(), len(content)))
    return _locate.DataSet("shapes", tuple(remote))


def test_download_into_the_cache(server, monkeypatch, tmp_path):
    data = make_data()
    data_set = data_set_on(server, data, monkeypatch)
    assert_same(_locate.load(data_set, None), data)
    server.files.clear()
    assert_same(_locate.load(data_set, None), data)
    folder = tmp_path / "home" / ".cache" / "convec" / "shapes"
    assert sorted(file.name for file in folder.iterdir()) == sorted(f"{name}.gz" for name in IDX_NAMES)


@pytest.mark.parametrize("damage", ["other bytes", "cut short", "much longer", "a bomb"])
def test_a_damaged_download_is_not_kept(server, monkeypatch, tmp_path, damage):
    data_set = data_set_on(server, make_data(), monkeypatch)
    path = f"/{IDX_NAMES[1]}.gz"
    good = server.files[path]
    server.files[path] = {
        "other bytes": gzip.compress(idx(make_data(5)[1])),
        "cut short": good[: len(good) // 2],
        "much longer": bytes(4_000_000),
        "a bomb": gzip.compress(gzip.decompress(good) + bytes(3_000_000)),
    }[damage]
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        _locate.load(data_set, None)
    assert "404" in str(caught.value)
    folder = tmp_path / "home" / ".cache" / "convec" / "shapes"
    assert [file.name for file in folder.iterdir()] == [f"{IDX_NAMES[0]}.gz"]


def test_sample():
    (x_train, y_train), (x_test, y_test) = datasets.load_sample()
    assert x_train.shape == (5800, 28, 28)
    assert x_test.shape == (1000, 28, 28)
    assert all(array.dtype == np.uint8 for array in (x_train, y_train, x_test, y_test))
    np.testing.assert_array_equal(np.bincount(y_train), np.full(10, 580))
    np.testing.assert_array_equal(np.bincount(y_test), np.full(10, 100))
    # Shuffled enough that the last tenth, which validation_split takes, holds every class.
    assert set(y_train[-580:]) == set(range(10))
    # Facts of Fashion-MNIST: its first training label is an ankle boot; ink is 29% of the range on average.
    assert y_train[0] == 9
    assert 0.25 < x_train.mean() / 255 < 0.32
    file = Path(datasets.__file__).parent / "data" / "fashion_mnist_sample.npz"
    assert file.stat().st_size <= 3_000_000
    assert "MIT License" in (file.parent / "LICENSE").read_text()


def test_text_sample():
    sentences = datasets.load_text_sample()
    assert len(sentences) == 32_767
    assert sum(map(len, sentences)) == 724_480
    assert sentences[0] == ["pride", "and", "prejudice"]
    assert " ".join(sentences[2]).startswith("it is a truth universally acknowledged that a single man")
    words = {word for sentence in sentences for word in sentence}
    assert all(re.fullmatch(r"[a-z]+('[a-z]+)?", word) for word in words)
    assert 14_000 < len(words) < 15_000
    file = datasets.text_sample_path()
    assert file.stat().st_size <= 2_000_000
    assert "public domain" in (file.parent / "LICENSE").read_text()


def test_text_sample_is_cut_from_the_files_of_its_package(tmp_path):
    """The reader of R's format, on a package made here."""
    tools = Path(__file__).parents[2] / "tools"
    spec = importlib.util.spec_from_file_location("make_text_sample", tools / "make_text_sample.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def integers(*values: int) -> bytes:
        return struct.pack(f">{len(values)}i", *values)

    def text(value: str) -> bytes:
        return integers(0x40009, len(value)) + value.encode()

    def serialized(body: bytes) -> bytes:
        return b"X\n" + integers(3, 0x030500, 0x030500, 5) + b"UTF-8" + body

    lines = ["CHAPTER I", "", '"Mr. Bennet," said he. It', "is _done_!", "", "The end.", ""]
    blocks, places = b"", []
    for _ in module.BOOKS:
        book = serialized(integers(16, len(lines)) + b"".join(map(text, lines)))
        block = struct.pack(">I", len(book)) + zlib.compress(book)
        places.append((len(blocks), len(block)))
        blocks += block
    names = integers(0x402, 1) + text("names") + integers(16, len(places)) + b"".join(map(text, module.BOOKS))
    entries = b"".join(integers(13, 2, *place) for place in places)
    variables = integers(0x213, len(places)) + entries + names + integers(254)
    index = integers(0x213, 1) + variables
    index += integers(0x402, 0x1FF) + integers(16, 1) + text("variables") + integers(254)
    (tmp_path / "Rdata.rdb").write_bytes(blocks)
    (tmp_path / "Rdata.rdx").write_bytes(gzip.compress(serialized(index)))
    books = module.read_books(tmp_path)
    assert list(books) == list(module.BOOKS)
    assert all(book == lines for book in books.values())
    assert module.sentences(lines) == ["mr bennet said he", "it is done", "the end"]
