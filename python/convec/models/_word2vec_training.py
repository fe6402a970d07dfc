"""The epochs of Word2Vec: of a corpus that is encoded as a whole, and of one that is iterated anew each time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convec import _core
from convec.models._word2vec_device import DeviceTrainer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from convec.models._word2vec_corpus import StreamCorpus
    from convec.models._word2vec_report import TrainingReport

__all__ = [
    "Checkpoints",
    "EpochPosition",
    "EpochResult",
    "LockedTrainer",
    "Piece",
    "Schedule",
    "StreamTraining",
    "TrainingPosition",
    "WholeTraining",
    "align",
]

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
class EpochPosition:
    """How far an epoch has come: encoded words done, sentences, all words, words trained on, and the loss."""

    tokens: int = 0
    examples: int = 0
    raw_words: int = 0
    trained_words: int = 0
    loss: float = 0.0

    def after(self, piece: Piece, result: Mapping[str, Any]) -> EpochPosition:
        """The position after a piece that was trained on with a result."""
        return EpochPosition(
            self.tokens + len(piece.tokens),
            self.examples + piece.examples,
            self.raw_words + piece.raw_words,
            self.trained_words + result["trained_words"],
            self.loss + result["loss"],
        )


@dataclass(frozen=True)
class TrainingPosition:
    """What a call of ``train`` was asked for and how far it has come: what it takes to go on from a saved model."""

    alpha: float
    min_alpha: float
    epochs: int
    total_examples: int | None
    total_words: int | None
    compute_loss: bool
    epoch: int = 0  # epochs done
    trained_words: int = 0  # in those
    raw_words: int = 0
    finished: bool = False
    within: EpochPosition = EpochPosition()  # of the epoch after those

    def to_json(self) -> dict[str, Any]:
        """The same as a dictionary of numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Any) -> TrainingPosition:
        """The inverse of :meth:`to_json`. Raises ValueError where it is something else."""
        values = dict(_numbers(stored, cls, apart="within"))
        return cls(**values, within=EpochPosition(**dict(_numbers(stored["within"], EpochPosition))))


def _numbers(stored: Any, kind: type[Any], apart: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass out of a dictionary that may hold anything."""
    names = {field.name: field for field in fields(kind)}
    if not isinstance(stored, dict) or set(stored) != set(names):
        raise ValueError("the position of its training cannot be read")
    for name, field in names.items():
        value = stored[name]
        if name == apart:
            continue
        allowed = {"float": (int, float), "bool": (bool,), "int": (int,), "int | None": (int, type(None))}
        number = isinstance(value, allowed[str(field.type)]) and (isinstance(value, bool) == (field.type == "bool"))
        if not number or (isinstance(value, (int, float)) and not 0 <= value < math.inf):
            raise ValueError(f"the position of its training has {name}={value!r}")
        yield name, value


class Checkpoints:
    """When the next checkpoint is due.

    Args:
        save: writes one, of a position within the epoch that is being trained.
        seconds: between two.
    """

    def __init__(self, save: Callable[[EpochPosition], None], seconds: float) -> None:
        self._save = save
        self._seconds = seconds
        self._last = self._piece = time.perf_counter()
        self._speed = 0.0

    def begin(self, alignment: int) -> int:
        """How many encoded words can be trained on at once, a multiple of ``alignment``."""
        self._piece = time.perf_counter()
        left = self._last + self._seconds - self._piece
        # Before the speed is known: enough to measure it by.
        words = self._speed * left if self._speed else (1 << 18 if self._seconds else 0)
        return max(int(words) // alignment, 1) * alignment

    def end(self, words: int, position: EpochPosition) -> None:
        """Notes that so many words were trained on, and writes a checkpoint where it is due."""
        now = time.perf_counter()
        self._speed = words / max(now - self._piece, 1e-6)
        # What is left of the time would not be worth a piece of its own.
        if now - self._last >= 0.95 * self._seconds:
            self._save(position)
            self._last = time.perf_counter()


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
        trainer: _core.Word2VecTrainer | DeviceTrainer | LockedTrainer,
        corpus: _core.Corpus,
        examples: int,
        schedule: Schedule,
        settings: dict[str, Any],
        report: TrainingReport,
    ) -> None:
        self._trainer = trainer
        self._tokens = corpus.tokens()
        if isinstance(trainer, DeviceTrainer):
            trainer.keep(self._tokens)
        self._raw_words = corpus.raw_words
        self._examples = examples
        self._schedule = schedule
        self._settings = settings
        self._report = report

    def __call__(
        self, epoch: int, number: int, position: EpochPosition, checkpoints: Checkpoints | None
    ) -> EpochResult:
        """Trains an epoch from a position on: ``epoch`` of this training, ``number`` of the model's life."""
        size = len(self._tokens)
        if position.tokens > size or (position.tokens and self._tokens[position.tokens - 1] >= 0):
            raise ValueError("the corpus is not the one that the training to go on with was begun on")
        declared = max(size, 1) * self._schedule.share(self._examples, self._raw_words)
        while True:
            begin, end = position.tokens, size
            if checkpoints is not None:
                step = self._trainer.piece_alignment
                end = sentence_from(self._tokens, begin // step * step + checkpoints.begin(step))

            def progress(done: int, alpha: float, begin: int = begin) -> None:
                share = (begin + done) / max(size, 1)
                self._report.update(epoch, share, (epoch + share) * self._raw_words, alpha)

            tokens = self._tokens[begin:end]
            result = self._trainer.train(
                tokens,
                position=begin,
                epoch=number,
                words_done=round(epoch * declared) + begin,
                words_total=max(round(self._schedule.epochs * declared), 1),
                alpha=self._schedule.alpha,
                min_alpha=self._schedule.min_alpha,
                progress=progress,
                **self._settings,
            )
            position = position.after(Piece(tokens, 0, 0), result)
            if end >= size:
                return EpochResult(position.trained_words, self._raw_words, self._examples, position.loss)
            if checkpoints is not None:
                checkpoints.end(end - begin, position)


class LockedTrainer:
    """A trainer whose vectors learn only in part, as gensim's ``vectors_lockf`` has it.

    What a row has learned is scaled by its factor after every 262,144 tokens or so; between those the other rows see it
    move. gensim scales each single step.

    Args:
        trainer: the tables.
        factors: (words,) or (1,): 0 keeps a row as it is, 1 lets it learn.
    """

    _ALIGNMENTS = 16

    def __init__(self, trainer: _core.Word2VecTrainer | DeviceTrainer, factors: npt.NDArray[np.float32]) -> None:
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
        before = self._trainer.vectors[self._rows]
        try:
            return self._trainer.train(tokens, **settings)
        finally:
            vectors = self._trainer.vectors
            vectors[self._rows] = before + self._factors * (vectors[self._rows] - before)


def _later(progress: Callable[[int, float], None], before: int) -> Callable[[int, float], None]:
    return lambda done, alpha: progress(before + done, alpha)


def sentence_from(tokens: Tokens, at: int) -> int:
    """Index of the first token at or after ``at`` that begins a sentence, or the number of tokens."""
    if at <= 0:
        return 0
    # Most sentences end soon; the tokens may be many and in a file.
    step = 1 << 12
    for begin in range(at - 1, len(tokens), step):
        ends = np.flatnonzero(tokens[begin : begin + step] < 0)
        if len(ends):
            return begin + int(ends[0]) + 1
    return len(tokens)


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
        raw_words: words of the epochs that were trained before.
    """

    def __init__(
        self,
        trainer: _core.Word2VecTrainer | DeviceTrainer | LockedTrainer,
        corpus: StreamCorpus,
        vocabulary: _core.Vocabulary,
        schedule: Schedule,
        settings: dict[str, Any],
        report: TrainingReport,
        epoch_size: int | None,
        piece_words: int,
        raw_words: int = 0,
    ) -> None:
        self._trainer = trainer
        self._corpus = corpus
        self._vocabulary = vocabulary
        self._schedule = schedule
        self._settings = settings
        self._report = report
        self._epoch_size = epoch_size
        self._piece_words = piece_words
        self._raw_words = raw_words

    def __call__(
        self, epoch: int, number: int, position: EpochPosition, checkpoints: Checkpoints | None
    ) -> EpochResult:
        """Trains an epoch from a position on: ``epoch`` of this training, ``number`` of the model's life."""
        from concurrent.futures import ThreadPoolExecutor

        done, skipped = position, EpochPosition()
        stop = threading.Event()
        running: Future[EpochPosition] | None = None
        pieces = self._corpus.pieces(self._vocabulary, self._piece_words)
        with ThreadPoolExecutor(1, "convec-word2vec") as pool:
            try:
                for piece in align(pieces, self._trainer.piece_alignment):
                    if skipped.tokens < position.tokens:
                        skipped = skipped.after(piece, {"trained_words": 0, "loss": 0.0})
                        continue
                    if running is not None:
                        before, done = done, running.result()
                        if checkpoints is not None:
                            checkpoints.end(done.tokens - before.tokens, done)
                    elif (skipped.tokens, skipped.examples) != (position.tokens, position.examples):
                        break
                    running = pool.submit(self._train, piece, stop, epoch, number, done)
                if running is not None:
                    done = running.result()
                elif (skipped.tokens, skipped.examples) != (position.tokens, position.examples):
                    raise ValueError("the corpus is not the one that the training to go on with was begun on")
            except BaseException:
                stop.set()
                raise
        self._raw_words += done.raw_words
        return EpochResult(done.trained_words, done.raw_words, done.examples, done.loss)

    def _train(
        self, piece: Piece, stop: threading.Event, epoch: int, number: int, position: EpochPosition
    ) -> EpochPosition:
        """Trains on a piece of an epoch that has come to ``position`` before."""
        raw_words_before = self._raw_words + position.raw_words
        begin = self._schedule.done(position.examples, position.raw_words)
        end = self._schedule.done(position.examples + piece.examples, position.raw_words + piece.raw_words)
        size = max(len(piece.tokens), 1)

        def progress(done: int, alpha: float) -> None:
            if stop.is_set():
                raise _StoppedError
            share = done / size
            self._report.update(epoch, begin + (end - begin) * share, raw_words_before + share * piece.raw_words, alpha)

        if self._epoch_size is not None:
            rates: dict[str, Any] = {
                "words_done": epoch * self._epoch_size + position.tokens,
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
        result = self._trainer.train(
            piece.tokens, position=position.tokens, epoch=number, progress=progress, **rates, **self._settings
        )
        return position.after(piece, result)


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
