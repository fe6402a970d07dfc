"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 grey images of ten kinds of clothing, MIT licence."""

from __future__ import annotations

import os

from convec.datasets._formats import Data
from convec.datasets._locate import DataSet, RemoteFile, load

# Names of the classes 0 to 9.
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

TRAIN_LABELS_SHA256 = "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"

_HOMES = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)


def _remote(name: str, sha256: str, most_bytes: int) -> RemoteFile:
    return RemoteFile(name, tuple(home + name for home in _HOMES), sha256, most_bytes)


_DATA_SET = DataSet(
    name="fashion-mnist",
    remote=(
        _remote(
            "train-images-idx3-ubyte.gz", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 47040016
        ),
        _remote("train-labels-idx1-ubyte.gz", TRAIN_LABELS_SHA256, 60008),
        _remote(
            "t10k-images-idx3-ubyte.gz", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7840016
        ),
        _remote("t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10008),
    ),
    system_folders=("/usr/share/datasets/fashion-mnist",),
    train_labels_sha256=TRAIN_LABELS_SHA256,
)


def load_data(path: str | os.PathLike[str] | None = None) -> Data:
    """Load Fashion-MNIST: 60,000 images to train on and 10,000 to test with, in ten classes.

    Args:
        path: a ``.npz`` file in Keras' layout (``x_train``, ``y_train``, ``x_test``, ``y_test``), or a folder with one
            or with the four IDX files, plain or ``.gz``. None searches, in this order: the folder named by the
            environment variable ``CONVEC_DATA`` and its subfolder ``fashion-mnist``, ``~/.cache/convec/fashion-mnist``
            (``$XDG_CACHE_HOME`` is honoured), Keras' cache and ``/usr/share/datasets/fashion-mnist`` (Debian's package
            dataset-fashion-mnist); where nothing is found, the files are downloaded into the cache and their
            SHA-256 is checked.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: images ``uint8`` (n, 28, 28) with 0 for the background, labels
        ``uint8`` (n,); see :data:`CLASS_NAMES`.

    Raises:
        FileNotFoundError: ``path`` does not exist or holds no such files.
        OSError: a file cannot be read, or the download failed; the message says where to put the files.
        ValueError: a file is truncated, damaged or of another kind.
    """
    return load(_DATA_SET, path)
