"""The epochs of Word2Vec: of a corpus that is encoded as a whole, and of one that is iterated anew each time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convec import _core

if TYPE_CHECKING:
    from concurrent.futures import Future

    from convec.models._word2vec_corpus import StreamCorpus
    from convec.models._word2vec_report import TrainingReport

__all__ = ["EpochResult", "LockedTrainer", "Piece", "Schedule", "StreamTraining", "WholeTraining", "align"]

Tokens = npt.NDArray[np.int32]


class EpochResult(NamedTuple):
    """What an epoch came to: words trained on, all words, sentences, and the loss (0 where it is not asked for)."""

    trained_words: int
    raw_words: int
    examples: int
    loss: float


class Piece(NamedTuple):
    """Part of a corpus: its encoded whole sentences, each followed by -1, and what it was made from."""

    tokens: Tokens
    raw_words: int
    examples: int


@dataclass(frozen=True)
class Schedule:
    """The learning rate: it falls linearly from ``alpha`` to ``min_alpha`` over the epochs.

    How far an epoch is goes by the sentences done of ``total_examples``, else by the words done of ``total_words``, as
    in gensim: the totals may be those of another corpus.
    """

    alpha: float
    min_alpha: float
    epochs: int
    total_examples: int | None
    total_words: int | None

    def done(self, examples: int, raw_words: int) -> float:
        """How much of an epoch that many sentences of that many words are, in [0, 1]."""
        if self.total_examples:
            return min(examples / self.total_examples, 1.0)
        return min(raw_words / self.total_words, 1.0) if self.total_words else 1.0

    def share(self, examples: int, raw_words: int) -> float:
        """The declared size of an epoch in units of a corpus of that many sentences and words."""
        declared, actual = (self.total_examples, examples) if self.total_examples else (self.total_words, raw_words)
        return declared / actual if declared and actual else 1.0

    def rate(self, epoch: int, done: float) -> float:
        """The learning rate in an epoch (from 0) of which ``done`` is done."""
        return self.alpha - (self.alpha - self.min_alpha) * (epoch + done) / self.epochs


class WholeTraining:
    """Epochs of a corpus that has been encoded: one call into C++ each.

    Args:
        trainer: the tables.
        corpus: all of it, encoded.
        examples: its sentences.
        schedule: the learning rate.
        settings: further arguments of the trainer.
        report: told about progress.
    """

    def __init__(
        self,
        trainer: _core.Word2VecTrainer | LockedTrainer,
        corpus: _core.Corpus,
        examples: int,
        schedule: Schedule,
        settings: dict[str, Any],
        report: TrainingReport,
    ) -> None:
        self._trainer = trainer
        self._tokens = corpus.tokens()
        self._raw_words = corpus.raw_words
        self._examples = examples
        self._schedule = schedule
        self._settings = settings
        self._report = report

    def __call__(self, epoch: int, number: int) -> EpochResult:
        """Trains an epoch: ``epoch`` of this training, ``number`` of the model's life."""
        size = max(len(self._tokens), 1)
        declared = size * self._schedule.share(self._examples, self._raw_words)

        def progress(done: int, alpha: float) -> None:
            self._report.update(epoch, done / size, (epoch + done / size) * self._raw_words, alpha)

        result = self._trainer.train(
            self._tokens,
            epoch=number,
            words_done=round(epoch * declared),
            words_total=max(round(self._schedule.epochs * declared), 1),
            alpha=self._schedule.alpha,
            min_alpha=self._schedule.min_alpha,
            progress=progress,
            **self._settings,
        )
        return EpochResult(result["trained_words"], self._raw_words, self._examples, result["loss"])


class LockedTrainer:
    """A trainer whose vectors learn only in part, as gensim's ``vectors_lockf`` has it.

    What a row has learned is scaled by its factor after every 262,144 tokens or so; between those the other rows see it
    move. gensim scales each single step.

    Args:
        trainer: the tables.
        factors: (words,) or (1,): 0 keeps a row as it is, 1 lets it learn.
    """

    _ALIGNMENTS = 16

    def __init__(self, trainer: _core.Word2VecTrainer, factors: npt.NDArray[np.float32]) -> None:
        self._trainer = trainer
        words = len(trainer.vectors)
        if factors.shape not in ((1,), (words,)):
            raise ValueError(f"wv.vectors_lockf has shape {factors.shape}, but must be (1,) or ({words},)")
        factors = np.broadcast_to(factors, (words,))
        self._rows = np.flatnonzero(factors != 1)
        self._factors = factors[self._rows, np.newaxis]
        self.piece_alignment = self._ALIGNMENTS * trainer.piece_alignment

    def train(
        self,
        tokens: Tokens,
        *,
        position: int = 0,
        words_done: int = 0,
        words_total: int = 0,
        progress: Callable[[int, float], None] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """As ``_core.Word2VecTrainer.train``."""
        step = self.piece_alignment
        result = {"trained_words": 0, "loss": 0.0}
        begin = 0
        while begin < len(tokens):
            end = sentence_from(tokens, ((position + begin) // step + 1) * step - position)
            learned = self._train_piece(
                tokens[begin:end],
                position=position + begin,
                words_done=words_done + begin,
                words_total=words_total or len(tokens),
                progress=None if progress is None else _later(progress, begin),
                **settings,
            )
            result["trained_words"] += learned["trained_words"]
            result["loss"] += learned["loss"]
            begin = end
        return result

    def _train_piece(self, tokens: Tokens, **settings: Any) -> dict[str, Any]:
        vectors = self._trainer.vectors
        before = vectors[self._rows]
        try:
            return self._trainer.train(tokens, **settings)
        finally:
            vectors[self._rows] = before + self._factors * (vectors[self._rows] - before)


def _later(progress: Callable[[int, float], None], before: int) -> Callable[[int, float], None]:
    return lambda done, alpha: progress(before + done, alpha)


def sentence_from(tokens: Tokens, at: int) -> int:
    """Index of the first token at or after ``at`` that begins a sentence, or the number of tokens."""
    if at <= 0:
        return 0
    ends = np.flatnonzero(tokens[at - 1 :] < 0)
    return at + int(ends[0]) if len(ends) else len(tokens)


class _StoppedError(Exception):
    """Ends the training thread when the thread that feeds it has failed."""


class StreamTraining:
    """Epochs of a corpus that is iterated anew each time.

    It is encoded piece by piece in the calling thread while another thread trains on the piece before.

    Args:
        trainer: the tables.
        corpus: the sentences.
        vocabulary: the words to encode by.
        schedule: the learning rate.
        settings: further arguments of the trainer.
        report: told about progress.
        epoch_size: encoded size of an epoch where it is known: the result is then that of
            :class:`WholeTraining`.
        piece_words: words of a piece, about.
    """

    def __init__(
        self,
        trainer: _core.Word2VecTrainer | LockedTrainer,
        corpus: StreamCorpus,
        vocabulary: _core.Vocabulary,
        schedule: Schedule,
        settings: dict[str, Any],
        report: TrainingReport,
        epoch_size: int | None,
        piece_words: int,
    ) -> None:
        self._trainer = trainer
        self._corpus = corpus
        self._vocabulary = vocabulary
        self._schedule = schedule
        self._settings = settings
        self._report = report
        self._epoch_size = epoch_size
        self._piece_words = piece_words
        self._raw_words = 0  # of all epochs

    def __call__(self, epoch: int, number: int) -> EpochResult:
        """Trains an epoch: ``epoch`` of this training, ``number`` of the model's life."""
        from concurrent.futures import ThreadPoolExecutor

        position = examples = raw_words = trained = 0
        loss = 0.0
        stop = threading.Event()
        running: Future[dict[str, Any]] | None = None
        pieces = self._corpus.pieces(self._vocabulary, self._piece_words)
        with ThreadPoolExecutor(1, "convec-word2vec") as pool:
            try:
                for piece in align(pieces, self._trainer.piece_alignment):
                    if running is not None:
                        result = running.result()
                        trained += result["trained_words"]
                        loss += result["loss"]
                    running = pool.submit(
                        self._train, piece, stop, epoch, number, position, examples, raw_words, self._raw_words
                    )
                    position += len(piece.tokens)
                    examples += piece.examples
                    raw_words += piece.raw_words
                    self._raw_words += piece.raw_words
                if running is not None:
                    result = running.result()
                    trained += result["trained_words"]
                    loss += result["loss"]
            except BaseException:
                stop.set()
                raise
        return EpochResult(trained, raw_words, examples, loss)

    def _train(
        self,
        piece: Piece,
        stop: threading.Event,
        epoch: int,
        number: int,
        position: int,
        examples: int,
        raw_words: int,
        raw_words_before: int,
    ) -> dict[str, Any]:
        """Trains on a piece before which the epoch has had ``position`` tokens of ``examples`` sentences."""
        begin = self._schedule.done(examples, raw_words)
        end = self._schedule.done(examples + piece.examples, raw_words + piece.raw_words)
        size = max(len(piece.tokens), 1)

        def progress(done: int, alpha: float) -> None:
            if stop.is_set():
                raise _StoppedError
            share = done / size
            self._report.update(epoch, begin + (end - begin) * share, raw_words_before + share * piece.raw_words, alpha)

        if self._epoch_size is not None:
            rates: dict[str, Any] = {
                "words_done": epoch * self._epoch_size + position,
                "words_total": max(self._schedule.epochs * self._epoch_size, 1),
                "alpha": self._schedule.alpha,
                "min_alpha": self._schedule.min_alpha,
            }
        else:
            rates = {
                "words_total": size,
                "alpha": self._schedule.rate(epoch, begin),
                "min_alpha": self._schedule.rate(epoch, end),
            }
        return self._trainer.train(
            piece.tokens, position=position, epoch=number, progress=progress, **rates, **self._settings
        )


def align(pieces: Iterable[Piece], alignment: int) -> Iterator[Piece]:
    """Cuts a stream of pieces anew, so that it is trained as if it came at once.

    Each piece begins with the first sentence that begins at or after a multiple of ``alignment`` tokens.
    """
    begin = 0  # of what is held back, in the stream
    held = Piece(np.zeros(0, np.int32), 0, 0)
    for piece in pieces:
        tokens = np.concatenate([held.tokens, piece.tokens]) if len(held.tokens) else piece.tokens
        raw_words, examples = held.raw_words + piece.raw_words, held.examples + piece.examples
        # The last boundary inside, and the first sentence from there on.
        boundary = (begin + len(tokens)) // alignment * alignment - begin
        cut = sentence_from(tokens, boundary)
        if cut:
            yield Piece(tokens[:cut], raw_words, examples)
            raw_words = examples = 0
        held = Piece(tokens[cut:], raw_words, examples)
        begin += cut
    if len(held.tokens) or held.raw_words or held.examples:
        yield held
