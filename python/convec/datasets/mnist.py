"""MNIST (LeCun, Cortes and Burges, 1998): 70,000 grey images of handwritten digits."""

from __future__ import annotations

import os

from convec.datasets._formats import Data
from convec.datasets._locate import DataSet, RemoteFile, load
from convec.datasets.fashion_mnist import TRAIN_LABELS_SHA256 as _FASHION_LABELS_SHA256

_DATA_SET = DataSet(
    name="mnist",
    remote=(
        RemoteFile(
            "mnist.npz",
            ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",),
            "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
            1 << 24,
        ),
    ),
    not_labels_sha256=(_FASHION_LABELS_SHA256,),
)


def load_data(path: str | os.PathLike[str] | None = None) -> Data:
    """Load MNIST: 60,000 images to train on and 10,000 to test with, in ten classes (the digits).

    Args:
        path: a ``.npz`` file in Keras' layout (``x_train``, ``y_train``, ``x_test``, ``y_test``), or a folder with one
            or with the four IDX files, plain or ``.gz``. None searches, in this order: the folder named by the
            environment variable ``CONVEC_DATA`` and its subfolder ``mnist``, ``~/.cache/convec/mnist``
            (``$XDG_CACHE_HOME`` is honoured) and Keras' cache; where nothing is found, ``mnist.npz`` is downloaded
            into the cache and its SHA-256 is checked.

    Returns:
        ``((x_train, y_train), (x_test, y_test))``: images ``uint8`` (n, 28, 28) with 0 for the background, labels
        ``uint8`` (n,).

    Raises:
        FileNotFoundError: ``path`` does not exist or holds no such files.
        OSError: a file cannot be read, or the download failed; the message says where to put the files.
        ValueError: a file is truncated, damaged or of another kind.
    """
    return load(_DATA_SET, path)
