"""gensim's Word2Vec."""

from __future__ import annotations

import warnings

import gensim
from gensim.models import Word2Vec
from gensim.test.utils import datapath

from libraries.words import Bench

warnings.simplefilter("ignore")
VERSION = gensim.__version__


def set_threads(threads: int) -> None:
    """Threads are an argument of each call."""


_bench = Bench(Word2Vec)
train, trained = _bench.train, _bench.trained


def evaluations() -> dict[str, str]:
    """The word pairs and analogies that come with gensim."""
    names = {"WordSim-353": "wordsim353.tsv", "SimLex-999": "simlex999.txt", "analogies": "questions-words.txt"}
    return {name: datapath(file) for name, file in names.items()}
