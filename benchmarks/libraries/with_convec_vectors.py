"""convec's KeyedVectors."""

from __future__ import annotations

import convec
from convec.models import KeyedVectors

from libraries.keyed_vectors import Bench

VERSION = convec.__version__
set_threads = convec.set_num_threads

_bench = Bench(KeyedVectors)
build, answer, search, analogies = _bench.build, _bench.answer, _bench.search, _bench.analogies
read, write = _bench.read, _bench.write
