"""What convec and gensim are both asked about Word2Vec."""

from __future__ import annotations

import resource
import time
from typing import Any


class Bench:
    """The functions of a worker, for a Word2Vec class with gensim's interface."""

    def __init__(self, model_class: Any) -> None:
        self._class = model_class
        self._model: Any = None
        self._trained: dict[str, float] = {}

    def train(
        self, *, corpus: str, workers: int, mended: bool = False, output: str | None = None, **options: Any
    ) -> float:
        """Words of the file times epochs, by the second of training.

        Args:
            corpus: a text file, one sentence a line.
            workers: threads.
            mended: name each worker's share of the sentences as their number. gensim's workers count for themselves, so
                that otherwise the learning rate ends far above min_alpha.
            output: write the vectors there.
            options: of the model.
        """
        model = self._class(workers=workers, **options)
        start = time.perf_counter()
        model.build_vocab(corpus_file=corpus)
        built = time.perf_counter()
        share = workers if mended else 1
        _, raw_words = model.train(
            corpus_file=corpus, total_examples=model.corpus_count // share, epochs=model.epochs,
            total_words=model.corpus_total_words,
        )  # fmt: skip
        end = time.perf_counter()
        words = model.corpus_total_words * model.epochs
        self._trained = {
            "vocabulary_s": built - start,
            "train_s": end - built,
            "whole_words_per_s": words / (end - start),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "raw_words": float(raw_words),
        }
        if output:
            model.wv.save_word2vec_format(output, binary=True)
        return words / (end - built)

    def trained(self) -> dict[str, float]:
        """More about the last training."""
        return self._trained
