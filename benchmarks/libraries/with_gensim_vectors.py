"""gensim's KeyedVectors."""

from __future__ import annotations

import warnings

import gensim

from libraries.keyed_vectors import Bench

warnings.simplefilter("ignore")
VERSION = gensim.__version__


def set_threads(threads: int) -> None:
    """NumPy's BLAS has read its environment by now."""


_bench = Bench(gensim.models.KeyedVectors)
build, answer, search, analogies = _bench.build, _bench.answer, _bench.search, _bench.analogies
read, write = _bench.read, _bench.write
