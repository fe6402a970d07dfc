"""The samples that are part of the package: images of Fashion-MNIST and a text."""

from __future__ import annotations

import gzip
from pathlib import Path

from convec.datasets._formats import Data, read_npz


def load_sample() -> Data:
    """Load the shipped sample of Fashion-MNIST: 5,800 images to train on and 1,000 to test with.

    Needs neither files nor a network. All ten classes occur equally often, in the data set's own order. It is cut from
    the files of Debian's package dataset-fashion-mnist (MIT licence, see ``convec/datasets/data/LICENSE``).

    Returns:
        ``((x_train, y_train), (x_test, y_test))`` as :func:`convec.datasets.fashion_mnist.load_data`: images ``uint8``
        (n, 28, 28), labels ``uint8`` (n,).

    Raises:
        OSError: the file is missing from the installation.
    """
    return read_npz(Path(__file__).parent / "data" / "fashion_mnist_sample.npz")


def text_sample_path() -> Path:
    """Path of the shipped text sample, for ``Word2Vec(corpus_file=...)``; see :func:`load_text_sample`."""
    return Path(__file__).parent / "data" / "text_sample.txt.gz"


def load_text_sample() -> list[list[str]]:
    """Load the shipped text: Jane Austen's six novels, 32,767 sentences of 724,480 words in all.

    Needs neither files nor a network. Words are in lower case, without punctuation. The text is in the public domain;
    it is cut from Debian's package r-cran-janeaustenr (see ``convec/datasets/data/LICENSE``).

    Returns:
        A list of sentences, each a list of words, as :class:`convec.models.Word2Vec` takes them.

    Raises:
        OSError: the file is missing from the installation.
    """
    with gzip.open(text_sample_path(), "rt", encoding="utf-8") as file:
        return [line.split() for line in file]
