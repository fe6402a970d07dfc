"""Word2Vec over the ranks of a process group: one vocabulary, a part of the corpus each, tables that are combined."""

from __future__ import annotations

import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convec import _core
from convec.models._word2vec_training import (
    Checkpoints,
    EpochPosition,
    EpochResult,
    LockedTrainer,
    Schedule,
    sentence_from,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from convec.distributed import Communicator
    from convec.models._word2vec_device import DeviceTrainer
    from convec.models._word2vec_report import TrainingReport
    from convec.models._word2vec_shared import SharedMemoryTrainer


__all__ = [
    "DistributedTraining",
    "ReplicatedTables",
    "active_communicator",
    "check_agreement",
    "merge_counts",
    "sum_over_ranks",
]

# Uses of a row in which it goes most of its way.
_OFTEN_SKIP_GRAM = 64.0
_OFTEN_CBOW = 512.0
# What is on the way at a time stays in the cache.
_ROWS_AT_ONCE = 1024


def active_communicator() -> Communicator | None:
    """That of the process group; None where there is none, or one of a single rank."""
    module = sys.modules.get("convec.distributed")
    if module is None or not module.is_initialized():
        return None  # nobody can have initialised what was never imported
    communicator: Communicator = module.get_communicator()
    if communicator.size == 1:
        return None
    if communicator.backend != "mpi":
        raise RuntimeError(
            f"Word2Vec's tables are in the host's memory, which the backend {communicator.backend!r} does not reach: "
            "call init_process_group(backend='mpi')"
        )
    return communicator


def is_first() -> bool:
    """Whether this process is the one that shows progress and writes files."""
    communicator = active_communicator()
    return communicator is None or communicator.rank == 0


def any_rank(flag: bool) -> bool:
    """Whether a flag is set on any rank."""
    communicator = active_communicator()
    return flag if communicator is None else sum_over_ranks(communicator, flag)[0] > 0


def of_rank_0(number: int) -> int:
    """Rank 0's number, of 64 bits, on all ranks."""
    communicator = active_communicator()
    if communicator is None:
        return number
    shared = np.array([number], np.uint64)
    communicator.broadcast(shared)
    return int(shared[0])


def sum_over_ranks(communicator: Communicator, *numbers: float) -> list[float]:
    """The sums of numbers over the ranks."""
    sums = np.array(numbers, np.float64)
    communicator.all_reduce(sums)
    return [float(number) for number in sums]


def check_agreement(communicator: Communicator, what: str, parts: Iterable[str | bytes]) -> None:
    """Raises ValueError, on every rank, unless all have the same ``parts``; ``what`` they are is for the message."""
    digest = hashlib.blake2b(digest_size=7)
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    number = int.from_bytes(digest.digest(), "little")
    ends = np.array([number, -number], np.int64)
    communicator.all_reduce(ends, "max")
    if ends[0] != -ends[1]:
        raise ValueError(f"{what} differ between the ranks of the process group, but must be the same on all")


def merge_counts(communicator: Communicator, words: Sequence[str], counts: npt.NDArray[np.int64]) -> dict[str, int]:
    """The words of all ranks and the sums of their counts, in the same order on every rank.

    Words are in the order of their first appearance, those of rank 0 first. One rank's words at a time are on the way.

    Args:
        communicator: of the ranks.
        words: those that this rank has counted, by first appearance.
        counts: (words,).
    """
    merged: dict[str, int] = {}
    own = json.dumps(words).encode()
    for source in range(communicator.size):
        sizes = np.array([len(words), len(own)], np.int64)
        communicator.broadcast(sizes, source)
        text = np.frombuffer(own, np.uint8) if source == communicator.rank else np.empty(int(sizes[1]), np.uint8)
        numbers = counts if source == communicator.rank else np.empty(int(sizes[0]), np.int64)
        communicator.broadcast(text, source)
        communicator.broadcast(numbers, source)
        for word, count in zip(json.loads(text.tobytes()), numbers.tolist(), strict=True):
            merged[word] = merged.get(word, 0) + count
    return merged


class ReplicatedTable:
    """A table of which every rank has a copy, and in which it adds what the ranks have changed.

    What all ranks learned from the same state is no sum where a row was used often: each has gone the whole way. If a
    use takes a row 1 / ``often`` of its way, u uses take it f = 1 - exp(-u / often) of it, and those of n ranks, one
    after the other, 1 - (1 - f)^n; the sum of the changes, n f, is scaled to that. It is the sum for rare rows, and the
    mean for the most frequent. That is for changes that are alike: the less they are, the nearer their sum is taken
    (Word2VecReplica.apply).

    Args:
        communicator: of the ranks.
        trainer: whose table it is.
        name: 'vectors', 'syn1neg' or 'syn1'.
        shares: (rows,), of a rank's words that use the row.
        order: rows by falling frequency; None: they are in that order.
        often: uses in which a row goes most of its way.
    """

    def __init__(
        self,
        communicator: Communicator,
        trainer: _core.Word2VecTrainer,
        name: str,
        shares: npt.NDArray[np.float64],
        order: npt.NDArray[np.int64] | None,
        often: float,
    ) -> None:
        self._communicator = communicator
        table = getattr(trainer, name)
        # With the padding, which is zero, rows are one piece of memory.
        shape = (len(table), table.strides[0] // table.itemsize)
        rows = np.lib.stride_tricks.as_strided(table, shape)
        communicator.broadcast(rows.reshape(-1).view(np.uint8))
        self._replica = _core.Word2VecReplica(trainer, name)
        self._exchange = np.empty(_ROWS_AT_ONCE * (shape[1] + 1), np.float32)  # changes, then their squares' sums
        self._shares = shares
        self._order = order
        self._often = often
        self._factors: dict[int, tuple[float, npt.NDArray[np.float32]]] = {}  # by the first row

    def __len__(self) -> int:
        return len(self._replica)

    def _factors_of(self, begin: int, end: int, words: float) -> npt.NDArray[np.float32]:
        """What the sums of changes that are alike are scaled by in rows ``[begin, end)``, by frequency."""
        known, factors = self._factors.get(begin, (0.0, None))
        # Rounds differ by a word or two.
        if factors is None or len(factors) != end - begin or abs(words - known) > 1e-3 * words:
            shares = self._shares[begin:end] if self._order is None else self._shares[self._order[begin:end]]
            size = self._communicator.size
            way = np.minimum(-np.expm1(-np.maximum(shares * words, 1e-9) / self._often), 1 - 1e-9)
            factors = (-np.expm1(size * np.log1p(-way)) / (size * way)).astype(np.float32)
            self._factors[begin] = (words, factors)
        return factors

    def combine(self, begin: int, end: int, words: float) -> None:
        """Gives every rank the same rows ``[begin, end)``, by frequency, after each trained on ``words`` words."""
        if begin >= end:
            return
        factors = self._factors_of(begin, end, words)
        for first in range(begin, end, _ROWS_AT_ONCE):
            last = min(first + _ROWS_AT_ONCE, end)
            numbers = (last - first) * self._replica.row_stride
            exchange = self._exchange[: numbers + last - first]
            changes, squares = exchange[:numbers].reshape(last - first, -1), exchange[numbers:]
            self._replica.changes(self._order, first, last, out=changes, squares=squares)
            self._communicator.all_reduce(exchange)
            chosen = factors[first - begin : last - begin]
            self._replica.apply(self._order, first, last, changes, squares, chosen, self._communicator.size)


class ReplicatedTables:
    """All tables of a model.

    The ladder of rows is that of pWord2Vec-MPI (Ji et al., "Parallelizing Word2Vec in Shared and Distributed Memory",
    2016): the most frequent ones after every round, twice as many after every second, four times as many after every
    fourth. The means of the tables, which it takes, lost a tenth of the
    analogies of skip-gram here, and a quarter of those of CBOW.

    Args:
        communicator: of the ranks.
        trainer: whose tables they are.
        occurrences: (words,) expected in the text after sub-sampling.
        skip_gram: rather than CBOW.
        negative: samples a word.
        ns_exponent: of their distribution.
        sync_rows: the rows that are combined after every round.
    """

    def __init__(
        self,
        communicator: Communicator,
        trainer: _core.Word2VecTrainer,
        occurrences: npt.NDArray[np.float64],
        skip_gram: bool,
        negative: int,
        ns_exponent: float,
        sync_rows: int,
    ) -> None:
        self._sync_rows = sync_rows
        often = _OFTEN_SKIP_GRAM if skip_gram else _OFTEN_CBOW
        shares = occurrences / max(occurrences.sum(), 1.0)
        order = None if (shares[1:] <= shares[:-1]).all() else np.argsort(-shares, kind="stable")
        self._tables = [ReplicatedTable(communicator, trainer, "vectors", shares, order, often)]
        if trainer.syn1neg is not None:
            weights = occurrences**ns_exponent
            drawn = shares + negative * weights / max(weights.sum(), 1e-300)
            self._tables.append(ReplicatedTable(communicator, trainer, "syn1neg", drawn, order, often))
        if trainer.syn1 is not None:
            # The inner nodes of the Huffman tree, the root last; as in a balanced tree.
            nodes = np.arange(len(shares))[::-1].copy()
            self._tables.append(ReplicatedTable(communicator, trainer, "syn1", 1.0 / (nodes + 1), nodes, often))
        self._steps = 0  # of the ladder: the last one has all rows
        while sync_rows << self._steps < len(shares):
            self._steps += 1
        self._words = [0.0] * (self._steps + 1)

    def words_a_round(self, sync_words: int) -> int:
        """Encoded words of all ranks between two calls of :meth:`combine`."""
        return sync_words

    def begin_epoch(self) -> None:
        """Nothing: every rank has tables of its own."""

    def is_complete(self, rounds: int) -> bool:
        """Whether all rows are combined after so many rounds of an epoch."""
        return rounds % (1 << self._steps) == 0

    def combine(self, rounds: int, words: float, *, complete: bool) -> None:
        """Combines what is due after so many rounds of an epoch, or all; a rank trained on ``words`` in the last."""
        for step in range(self._steps + 1):
            self._words[step] += words
            if not complete and rounds % (1 << step):
                continue
            begin = self._sync_rows << (step - 1) if step else 0
            for table in self._tables:
                table.combine(begin, min(self._sync_rows << step, len(table)), self._words[step])
            self._words[step] = 0.0


class DistributedTraining:
    """Epochs of a corpus of which each rank has a part, encoded.

    An epoch is a number of rounds, the same on every rank: each trains on the next of its sentences, and then the
    tables are combined, all of their rows at the end of an epoch; or, where they are the same memory, the ranks only
    wait for each other. The learning rate goes by the words of all ranks.

    Args:
        communicator: of the ranks.
        trainer: the tables, held back or not.
        tables: the same, to be combined.
        tokens: this rank's sentences.
        raw_words: of the sentences of all ranks.
        examples: sentences of all ranks.
        schedule: the learning rate.
        settings: further arguments of the trainer.
        report: told about progress.
        sync_words: encoded words of all ranks in a round.
    """

    def __init__(
        self,
        communicator: Communicator,
        trainer: _core.Word2VecTrainer | DeviceTrainer | LockedTrainer | SharedMemoryTrainer,
        tables: ReplicatedTables | SharedMemoryTrainer,
        tokens: npt.NDArray[np.int32],
        raw_words: int,
        examples: int,
        schedule: Schedule,
        settings: dict[str, Any],
        report: TrainingReport,
        sync_words: int,
    ) -> None:
        self._communicator = communicator
        self._trainer = trainer
        self._tables = tables
        self._tokens = tokens
        self._raw_words = raw_words
        self._examples = examples
        self._schedule = schedule
        self._settings = settings
        self._report = report
        self._sizes = np.zeros(communicator.size, np.int64)
        self._sizes[communicator.rank] = len(tokens)
        communicator.all_reduce(self._sizes)
        self._rounds = max(-(-int(self._sizes.sum()) // tables.words_a_round(sync_words)), 1)

    def _done(self, rounds: int) -> int:
        """Encoded words of all ranks in so many rounds of an epoch, before they are cut at the ends of sentences."""
        return int((self._sizes * rounds // self._rounds).sum())

    def __call__(
        self, epoch: int, number: int, position: EpochPosition, checkpoints: Checkpoints | None
    ) -> EpochResult:
        """Trains an epoch from a position on: ``epoch`` of this training, ``number`` of the model's life.

        ``position`` counts the words of all ranks; ``checkpoints`` are those of rank 0 and are written, all ranks
        waiting, where all rows are combined anyway, so that they change nothing.
        """
        first = next((n for n in range(self._rounds) if self._done(n) >= position.tokens), self._rounds)
        before = int(self._sizes[: self._communicator.rank].sum())
        trained_words, loss = 0, 0.0
        self._tables.begin_epoch()
        for index in range(first, self._rounds):
            begin, end = self._cut(index), self._cut(index + 1)
            result = self._train(epoch, number, index, before + begin, self._tokens[begin:end])
            trained_words += result["trained_words"]
            loss += result["loss"]
            words = (self._done(index + 1) - self._done(index)) / self._communicator.size
            last = index + 1 == self._rounds
            self._tables.combine(index + 1, words, complete=last)
            if checkpoints is not None and not last and self._tables.is_complete(index + 1):
                sums = sum_over_ranks(self._communicator, trained_words, loss)
                if self._communicator.rank == 0:
                    checkpoints.end(1, self._position(position, self._done(index + 1), sums))
        done = self._position(position, 0, sum_over_ranks(self._communicator, trained_words, loss))
        return EpochResult(done.trained_words, self._raw_words, self._examples, done.loss)

    def _cut(self, rounds: int) -> int:
        return sentence_from(self._tokens, len(self._tokens) * rounds // self._rounds)

    @staticmethod
    def _position(begun: EpochPosition, tokens: int, sums: list[float]) -> EpochPosition:
        return EpochPosition(
            tokens=tokens, trained_words=begun.trained_words + round(sums[0]), loss=begun.loss + sums[1]
        )

    def _train(
        self, epoch: int, number: int, index: int, position: int, tokens: npt.NDArray[np.int32]
    ) -> dict[str, Any]:
        total = max(int(self._sizes.sum()), 1)
        begin, end = self._done(index) / total, self._done(index + 1) / total
        share = self._schedule.share(self._examples, self._raw_words)

        def rate(done: float) -> float:
            return self._schedule.rate(0, min(epoch + done / share, self._schedule.epochs))

        def progress(words: int, alpha: float) -> None:
            done = begin + (end - begin) * words / max(len(tokens), 1)
            self._report.update(epoch, done, (epoch + done) * self._raw_words, alpha)

        result: dict[str, Any] = self._trainer.train(
            tokens,
            position=position,
            epoch=number,
            words_total=max(len(tokens), 1),
            alpha=rate(begin),
            min_alpha=rate(end),
            progress=progress,
            **self._settings,
        )
        return result
