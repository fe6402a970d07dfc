"""convec's Word2Vec."""

from __future__ import annotations

import convec
from convec.models import Word2Vec

from libraries.words import Bench

VERSION = convec.__version__


def set_threads(threads: int) -> None:
    convec.set_num_threads(threads)


_bench = Bench(Word2Vec)
train, trained = _bench.train, _bench.trained
