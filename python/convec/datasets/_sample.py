"""The sample of Fashion-MNIST that is part of the package."""

from __future__ import annotations

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
