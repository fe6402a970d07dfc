"""What Word2Vec says while it works: a progress line on a terminal, log lines otherwise."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from convec._progress import WordsBar, redraws

if TYPE_CHECKING:
    from convec import _core
    from convec.models._word2vec_training import EpochResult

__all__ = ["ScanReport", "TrainingReport", "check_progress"]


def check_progress(progress: bool | str) -> bool | str:
    """``progress`` if it is True, False or 'auto'. Raises ValueError otherwise."""
    if progress in (True, False, "auto"):
        return progress
    raise ValueError(f"progress is {progress!r}, but must be 'auto', True or False")


def _make_bar(logger: logging.Logger, progress: bool | str) -> WordsBar | None:
    """A bar where it is asked for, or 'auto' on a terminal to which no log lines go."""
    if progress == "auto":
        progress = redraws(sys.stderr) and not logger.isEnabledFor(logging.INFO)
    return WordsBar() if progress else None


class ScanReport:
    """Progress of counting and encoding words.

    Args:
        logger: for lines of level INFO.
        progress: True, False or 'auto'.
        progress_per: sentences between two log lines.
    """

    def __init__(self, logger: logging.Logger, progress: bool | str, progress_per: int = 10000) -> None:
        self._logger = logger
        self._bar = _make_bar(logger, progress)
        self._progress_per = progress_per
        self._logged = 0
        self._words = 0

    def update(self, fraction: float, raw_words: int, sentences: int, counter: _core.WordCounter | None = None) -> None:
        """Shows how much of the corpus, or of what is known of it, has been counted, by ``counter``."""
        self._words = raw_words
        if self._bar is not None:
            self._bar.update("Vocabulary", fraction, raw_words, {})
        if sentences - self._logged >= self._progress_per:
            self._logged = sentences
            # The number of words is not for nothing: it takes milliseconds.
            if self._logger.isEnabledFor(logging.INFO):
                kept = "" if counter is None else f", keeping {len(counter)} word types"
                self._logger.info("PROGRESS: at sentence #%i, processed %i words%s", sentences, raw_words, kept)

    def close(self) -> None:
        """Ends the line."""
        if self._bar is not None:
            self._bar.finish("Vocabulary", self._words, {})


class TrainingReport:
    """Progress of training: where it is, at what learning rate, how fast.

    Args:
        logger: for lines of level INFO, and warnings.
        progress: True, False or 'auto'.
        epochs: how many there will be.
        delay: seconds between two log lines.
    """

    def __init__(self, logger: logging.Logger, progress: bool | str, epochs: int, delay: float) -> None:
        self.alpha = 0.0
        self._logger = logger
        self._bar = _make_bar(logger, progress)
        self._epochs = epochs
        self._delay = delay
        self._start = self._logged = self._epoch_start = time.perf_counter()
        self._raw_words = 0.0
        self._epoch = 0

    @property
    def elapsed(self) -> float:
        """Seconds since training began."""
        return max(time.perf_counter() - self._start, 1e-9)

    def update(self, epoch: int, done: float, raw_words: float, alpha: float) -> None:
        """Shows that ``done`` of an epoch (from 0) is done, and ``raw_words`` since training began."""
        self.alpha = alpha
        self._raw_words = raw_words
        self._epoch = epoch
        if self._bar is not None:
            self._bar.update(self._title(), (epoch + done) / self._epochs, raw_words, {"alpha": alpha})
        now = time.perf_counter()
        if now - self._logged >= self._delay:
            self._logged = now
            self._logger.info(
                "EPOCH %i - PROGRESS: at %.2f%% words, %.0f words/s, alpha %.5f",
                epoch,
                100.0 * done,
                raw_words / self.elapsed,
                alpha,
            )

    def begin_epoch(self) -> None:
        """Starts the clock of an epoch."""
        self._epoch_start = time.perf_counter()

    def end_epoch(self, epoch: int, result: EpochResult) -> None:
        """Sums an epoch up."""
        elapsed = max(time.perf_counter() - self._epoch_start, 1e-9)
        self._logger.info(
            "EPOCH %i: training on %i raw words (%i effective words) took %.1fs, %.0f effective words/s",
            epoch,
            result.raw_words,
            result.trained_words,
            elapsed,
            result.trained_words / elapsed,
        )

    def _title(self) -> str:
        return f"Epoch {self._epoch + 1}/{self._epochs}"

    def finish(self) -> None:
        """Shows all as done."""
        if self._bar is not None:
            self._bar.finish(self._title(), self._raw_words, {"alpha": self.alpha})

    def close(self) -> None:
        """Ends a line that is still open."""
        if self._bar is not None:
            self._bar.close()
