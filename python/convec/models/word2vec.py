"""Word2Vec (Mikolov et al., 2013), as ``gensim.models.word2vec``.

Skip-gram and continuous bag of words, by negative sampling or hierarchical softmax:

>>> from convec.models import Word2Vec
>>> sentences = [["the", "cat", "sat"], ["the", "dog", "ran"]]
>>> model = Word2Vec(sentences, vector_size=50, min_count=1)
>>> model.wv.most_similar("cat")  # doctest: +SKIP

What of gensim is there and what differs is in docs/word2vec.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from convec import __version__, _core, _device, utils
from convec.models import _word2vec_distributed as ranks
from convec.models import _word2vec_file as model_file
from convec.models._corpus import (
    MAX_WORDS_IN_BATCH,
    RULE_DEFAULT,
    RULE_DISCARD,
    RULE_KEEP,
    TrimRule,
    keep_vocab_item,
    select_vocabulary,
)
from convec.models._sharing import changes, looks
from convec.models._word2vec_corpus import Corpus, FileCorpus, StreamCorpus, WholeCorpus, open_corpus
from convec.models._word2vec_device import DeviceTrainer
from convec.models._word2vec_report import ScanReport, TrainingReport, check_progress
from convec.models._word2vec_shared import SharedMemoryTrainer
from convec.models._word2vec_training import (
    Checkpoints,
    EpochPosition,
    EpochResult,
    LockedTrainer,
    Schedule,
    StreamTraining,
    TrainingPosition,
    WholeTraining,
)
from convec.models.callbacks import CallbackAny2Vec
from convec.models.keyedvectors import KeyedVectors
from convec.models.sentences import BrownCorpus, LineSentence, PathLineSentences, Text8Corpus

if TYPE_CHECKING:
    from convec.distributed import Communicator

__all__ = [
    "RULE_DEFAULT",
    "RULE_DISCARD",
    "RULE_KEEP",
    "BrownCorpus",
    "LineSentence",
    "PathLineSentences",
    "Text8Corpus",
    "Word2Vec",
]

logger = logging.getLogger(__name__)

Array = npt.NDArray[np.float32]
_NULL_WORD = "\0"
# A streamed corpus is handed to the trainer in chunks of so many batches: large enough for all threads, small enough
# that memory and the wait for the first chunk do not matter.
_BATCHES_IN_CHUNK = 50

# gensim 3 -> gensim 4
_RENAMED_ARGUMENTS = {"size": "vector_size", "iter": "epochs"}
_RENAMED_CORPUS = {"sentences": "corpus_iterable"}
_MOVED_TO_WV = frozenset(
    {
        "closer_than",
        "distance",
        "distances",
        "doesnt_match",
        "evaluate_word_analogies",
        "evaluate_word_pairs",
        "get_vector",
        "log_accuracy",
        "most_similar",
        "most_similar_cosmul",
        "most_similar_to_given",
        "n_similarity",
        "rank",
        "relative_cosine_similarity",
        "save_word2vec_format",
        "similar_by_vector",
        "similar_by_word",
        "similarity",
        "wmdistance",
        "word_vec",
        "words_closer_than",
    }
)
_MOVED = {
    "accuracy": "model.wv.evaluate_word_analogies",
    "index2word": "model.wv.index_to_key",
    "intersect_word2vec_format": "model.wv.intersect_word2vec_format",
    "iter": "model.epochs",
    "load_word2vec_format": "KeyedVectors.load_word2vec_format",
    "size": "model.vector_size",
    "syn0": "model.wv.vectors",
    "syn0norm": "model.wv.get_normed_vectors()",
    "trainables": "model",
    "vocab": "model.wv.key_to_index",
    "vocabulary": "model",
}
_NEEDLESS = {
    "clear_sims": "norms are computed when they are needed",
    "create_binary_tree": "the Huffman tree is built with the vocabulary",
    "delete_temporary_training_data": "keep model.wv and drop the model instead",
    "make_cum_table": "the table of negatives is built with the vocabulary",
}


def _refuse_arguments(function: str, given: Mapping[str, object], renamed: Mapping[str, str]) -> None:
    for name in given:
        hint = f"; it is called {renamed[name]} now, as in gensim 4" if name in renamed else ""
        raise TypeError(f"{function}() has no argument '{name}'{hint}")


def _integer(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """``value`` as an int within the bounds. Raises TypeError or ValueError with the name."""
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    if not whole and not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, but must be an integer")
    number = int(value)
    if number < lowest or (highest is not None and number > highest):
        bounds = f"at least {lowest}" if highest is None else f"in [{lowest}, {highest}]"
        raise ValueError(f"{name} is {number}, but must be {bounds}")
    return number


def _number(name: str, value: Any, lowest: float | None = None) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}, but must be a number") from None
    if not np.isfinite(number) or (lowest is not None and number < lowest):
        raise ValueError(f"{name} is {number}, but must be {'finite' if lowest is None else f'at least {lowest:g}'}")
    return number


def _check_callbacks(callbacks: Any) -> tuple[CallbackAny2Vec, ...]:
    found = (callbacks,) if hasattr(callbacks, "on_epoch_end") else tuple(callbacks)
    for callback in found:
        for hook in ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"):
            if isinstance(callback, type) or not callable(getattr(callback, hook, None)):
                raise TypeError(
                    f"callbacks holds {callback!r}, but must hold objects with the methods of "
                    "convec.models.callbacks.CallbackAny2Vec"
                )
    return found


class Word2Vec:
    """Word vectors learned from text, with gensim 4's arguments, attributes and methods.

    With a corpus the vocabulary is built and the model trained at once; without one call :meth:`build_vocab` and
    :meth:`train`. Lists and tuples of sentences, :class:`LineSentence` and its like, and ``corpus_file`` are encoded
    once and trained on without Python; any other re-iterable is iterated anew each epoch.

    Args:
        sentences: re-iterable of sentences, each a list of words. A sentence that is a plain str is split on white
            space, with a warning.
        corpus_file: path of a text instead, one sentence a line, words separated by white space; .gz, .bz2, .xz and
            .zst are unpacked while it is read.
        vector_size: dimensions of the vectors.
        alpha: learning rate at the beginning.
        window: largest distance between a word and a word of its context.
        min_count: rarer words are left out.
        max_vocab_size: while words are counted, the rarest are dropped whenever there are more than this.
        sample: words that make up more than this share of the text are randomly left out (0: none; 1 and above: those
            that occur more often than this).
        seed: of all random numbers, in [0, 2**64). With one worker, or ``deterministic``, the same seed gives the same
            vectors. None draws one that follows :func:`convec.utils.set_random_seed`.
        workers: threads; at most ``convec.num_threads()`` are used.
        min_alpha: learning rate at the end; it falls linearly with the words processed.
        sg: 1 for skip-gram, 0 for continuous bag of words (CBOW).
        hs: 1 for hierarchical softmax.
        negative: negative samples a word; 0 for none.
        ns_exponent: negatives are drawn in proportion to count ** ns_exponent.
        cbow_mean: CBOW uses the mean (1) or the sum (0) of the context vectors.
        hashfxn: kept for gensim's sake: vectors depend on ``seed`` alone.
        epochs: passes over the corpus.
        null_word: 1 adds a pseudo-word, a single NUL character.
        trim_rule: ``rule(word, count, min_count)`` returns RULE_KEEP, RULE_DISCARD or RULE_DEFAULT. Not stored.
        sorted_vocab: 1 numbers words by falling count, 0 by first appearance.
        batch_words: a streamed corpus is trained in pieces of about 50 times so many words.
        compute_loss: adds up the loss, see :meth:`get_latest_training_loss` and ``epoch_losses``.
        callbacks: objects of :class:`convec.models.callbacks.CallbackAny2Vec`.
        comment: anything; stored.
        max_final_vocab: min_count is raised until at most so many words are left.
        shrink_windows: each word draws its window from 1 to ``window``, which weighs near words more.
        deterministic: the same vectors for a seed whatever the number of workers; slower with several.
        precision: of the tables in training, ``'float32'`` or ``'float16'``, which takes half the memory; ``wv`` holds
            a float32 copy then. ``'bfloat16'`` halves the tables on a CUDA device alone. Arithmetic is float32 in each.
        device: where it trains, such as ``'cpu'`` or ``'cuda:0'``; None: where :func:`convec.current_device` says. Not
            stored.
        concurrency: on a CUDA device, how many stretches of text are in work at once; None: chosen. With 1 the same
            seed gives the same vectors.
        checkpoint: path of a file to which the model is saved during training, at most every ``checkpoint_every``
            seconds, and when it is done. After an interruption, ``Word2Vec.load(path)`` and ``train(..., resume=True)``
            go on from there.
        checkpoint_every: seconds between two of them.
        shard_corpus: under a process group of :mod:`convec.distributed`, every rank is given the same corpus and takes
            its part of it; False: each is given a part of its own.
        share_tables: under a process group, ranks that are all on one host train the same tables in shared memory, as
            threads do, and as fast; the result depends on their timing. False, or ``deterministic``: each has tables of
            its own, as it has on several hosts, and their rows are exchanged.
        sync_words: words that all ranks together train on between two exchanges of the most frequent rows.
        sync_rows: rows that are exchanged each time; twice as many every second time, and so on.
        progress: a progress line on stderr: True, False, or ``'auto'``: on a terminal, when log lines of level INFO are
            not asked for.

    Attributes:
        wv: the vectors, a :class:`convec.models.KeyedVectors` on the memory that training writes to.
        syn1neg, syn1: (words, vector_size) float32 output tables of negative sampling and hierarchical softmax.
        epoch_losses: the loss of each epoch of the latest training, with ``compute_loss``.
        epochs_trained: epochs completed since the weights were initialised.
        stop_training: set by a callback, ends training after the epoch.
        corpus_count, corpus_total_words: sentences and words of the corpus that the vocabulary was built from.

    Raises:
        TypeError: an argument is of the wrong type, has been renamed, or the corpus can be iterated only once.
        ValueError: an argument is out of range.
        RuntimeError: no word is left for the vocabulary.
        OSError: the corpus cannot be read.
    """

    def __init__(
        self,
        sentences: Iterable[Sequence[str]] | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        vector_size: int = 100,
        alpha: float = 0.025,
        window: int = 5,
        min_count: int = 5,
        max_vocab_size: int | None = None,
        sample: float = 1e-3,
        seed: int | None = 1,
        workers: int = 3,
        min_alpha: float = 0.0001,
        sg: int = 0,
        hs: int = 0,
        negative: int = 5,
        ns_exponent: float = 0.75,
        cbow_mean: int = 1,
        hashfxn: Callable[[str], int] = hash,
        epochs: int = 5,
        null_word: int = 0,
        trim_rule: TrimRule | None = None,
        sorted_vocab: int = 1,
        batch_words: int = MAX_WORDS_IN_BATCH,
        compute_loss: bool = False,
        callbacks: Iterable[CallbackAny2Vec] = (),
        comment: Any = None,
        max_final_vocab: int | None = None,
        shrink_windows: bool = True,
        *,
        deterministic: bool = False,
        precision: str = "float32",
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 300.0,
        shard_corpus: bool = True,
        share_tables: bool = True,
        sync_words: int = 262144,
        sync_rows: int = 1024,
        progress: bool | str = "auto",
        device: str | _device.Device | None = None,
        concurrency: int | None = None,
        **renamed: Any,
    ) -> None:
        _refuse_arguments("Word2Vec", renamed, _RENAMED_ARGUMENTS)
        self.vector_size = _integer("vector_size", vector_size, 1, 65536)
        self.layer1_size = self.vector_size
        self.alpha = _number("alpha", alpha, 0)
        self.min_alpha = _number("min_alpha", min_alpha, 0)
        self.window = _integer("window", window, 1, 1_000_000)
        self.min_count = _integer("min_count", min_count, 0)
        self.max_vocab_size = None if max_vocab_size is None else _integer("max_vocab_size", max_vocab_size, 0)
        self.max_final_vocab = None if max_final_vocab is None else _integer("max_final_vocab", max_final_vocab, 1)
        self.sample = 0.0 if sample is None else _number("sample", sample, 0)
        self.seed = ranks.of_rank_0(utils.next_seed()) if seed is None else _integer("seed", seed, 0, 2**64 - 1)
        self.workers = _integer("workers", workers, 1)
        self.sg = _integer("sg", sg, 0, 1)
        self.hs = _integer("hs", hs, 0, 1)
        self.negative = _integer("negative", negative, 0, 1000)
        self.ns_exponent = _number("ns_exponent", ns_exponent)
        self.cbow_mean = _integer("cbow_mean", cbow_mean, 0, 1)
        self.hashfxn = hashfxn
        self.epochs = _integer("epochs", epochs, 0)
        self.null_word = _integer("null_word", null_word, 0, 1)
        self.sorted_vocab = _integer("sorted_vocab", sorted_vocab, 0, 1)
        self.batch_words = _integer("batch_words", batch_words, 1)
        self.compute_loss = bool(compute_loss)
        self.comment = comment
        self.shrink_windows = bool(shrink_windows)
        self.deterministic = bool(deterministic)
        if precision not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"precision is {precision!r}, but must be 'float32', 'float16' or 'bfloat16'")
        self.precision = precision
        self.device = _device.current_device() if device is None else device
        self.concurrency = None if concurrency is None else _integer("concurrency", concurrency, 1, 1 << 20)
        self.shard_corpus = bool(shard_corpus)
        self.share_tables = bool(share_tables)
        self.sync_words = _integer("sync_words", sync_words, 1)
        self.sync_rows = _integer("sync_rows", sync_rows, 1)
        self.progress = check_progress(progress)
        self._check_objective()
        self._check_device()
        if not callable(hashfxn):
            raise TypeError(f"hashfxn is {hashfxn!r}, but must be a function")
        hooks = _check_callbacks(callbacks)

        self.train_count = 0
        self.total_train_time = 0.0
        self.running_training_loss = 0.0
        self.epoch_losses: list[float] = []
        self.epochs_trained = 0
        self.effective_min_count = self.min_count
        self.min_alpha_yet_reached = self.alpha
        self.corpus_count = 0
        self.corpus_total_words = 0
        self.stop_training = False
        self.lifecycle_events: list[dict[str, Any]] | None = []
        self.wv = KeyedVectors(self.vector_size)
        self.wv.vectors_lockf = np.ones(1, np.float32)
        self._start()

        if sentences is not None or corpus_file is not None:
            # build_vocab() and train() take it as it is, so that it is looked at, counted and encoded once.
            corpus: Any = self._open(sentences, corpus_file, passes=self.epochs + 1, what="sentences")
            corpus.keep_ids = self.epochs > 0
            self.build_vocab(corpus, trim_rule=trim_rule)
            self.train(
                corpus,
                total_examples=self.corpus_count,
                total_words=self.corpus_total_words,
                epochs=self.epochs,
                start_alpha=self.alpha,
                end_alpha=self.min_alpha,
                compute_loss=self.compute_loss,
                callbacks=hooks,
                checkpoint=checkpoint,
                checkpoint_every=checkpoint_every,
            )
        else:
            if trim_rule is not None:
                logger.warning(
                    "trim_rule is used while a vocabulary is built and not stored; without sentences it has no effect "
                    "here: give it to build_vocab()"
                )
            if hooks or checkpoint is not None:
                logger.warning(
                    "callbacks and checkpoint are not stored; without sentences they have no effect here: give them to "
                    "train()"
                )
        self.add_lifecycle_event("created", params=str(self))

    def _start(self) -> None:
        """What a model holds besides its parameters: made by the constructor and load()."""
        self._trainer: _core.Word2VecTrainer | None = None
        self._elsewhere: DeviceTrainer | SharedMemoryTrainer | None = None  # while it trains, and not its own tables
        self._trained_with: dict[str, Any] = {}
        self._counts = np.zeros(0, np.int64)
        self._encoder: tuple[list[str], int, _core.Vocabulary] | None = None
        self._raw: dict[str, int] | None = None
        self._counter: _core.WordCounter | None = None
        self._scanned: FileCorpus | None = None
        self._separators = 0
        self._encoded_size = 0
        self._position: TrainingPosition | None = None
        self._busy = threading.Lock()
        self._in_use = _core.InUse()
        # As in gensim, load() is called on the class: on a model it would look as if it changed the model.
        vars(self)["load"] = _refuse_load

    # ---- Vocabulary ----

    @changes
    def build_vocab(
        self,
        corpus_iterable: Iterable[Sequence[str]] | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        update: bool = False,
        progress_per: int = 10000,
        keep_raw_vocab: bool = False,
        trim_rule: TrimRule | None = None,
        **settings: Any,
    ) -> None:
        """Counts the words of a corpus, chooses those to learn and initialises their vectors.

        Args:
            corpus_iterable: sentences, as the constructor's; a generator will do.
            corpus_file: path of a text instead.
            update: adds new words to the vocabulary and keeps what has been learned.
            progress_per: sentences between two log lines about a streamed corpus.
            keep_raw_vocab: keeps all counts in ``raw_vocab``.
            trim_rule: as the constructor's, for this call.
            settings: ``min_count``, ``sample`` and ``dry_run`` for :meth:`prepare_vocab`.

        Raises:
            TypeError: no corpus or two, or something in it is not a sentence.
            RuntimeError: ``update`` without a vocabulary.
            OSError: the corpus cannot be read.
        """
        for name in settings:
            if name not in ("min_count", "sample", "dry_run"):
                _refuse_arguments("build_vocab", {name: None}, _RENAMED_CORPUS)
        if update:
            self._check_update()
        total_words, corpus_count = self.scan_vocab(
            corpus_iterable, corpus_file, progress_per=progress_per, trim_rule=trim_rule
        )
        self.corpus_count = corpus_count
        self.corpus_total_words = total_words
        report = self.prepare_vocab(update=update, keep_raw_vocab=keep_raw_vocab, trim_rule=trim_rule, **settings)
        report["memory"] = self.estimate_memory(report["num_retained_words"])
        if settings.get("dry_run"):
            return
        self.prepare_weights(update=update)
        self.add_lifecycle_event("build_vocab", update=bool(update), trim_rule=str(trim_rule))

    @changes
    def build_vocab_from_freq(
        self,
        word_freq: Mapping[str, int],
        keep_raw_vocab: bool = False,
        corpus_count: int | None = None,
        trim_rule: TrimRule | None = None,
        update: bool = False,
    ) -> None:
        """Builds the vocabulary from counts that are known.

        Args:
            word_freq: count of each word.
            keep_raw_vocab: keeps all counts in ``raw_vocab``.
            corpus_count: sentences of the corpus, for ``train(total_examples=model.corpus_count)``.
            trim_rule: as the constructor's, for this call.
            update: adds new words to the vocabulary and keeps what has been learned.

        Raises:
            TypeError: a word is not a str or a count not an integer.
            ValueError: a count is negative.
            RuntimeError: ``update`` without a vocabulary.
        """
        if not isinstance(word_freq, Mapping):
            raise TypeError(f"word_freq is of type {type(word_freq).__name__}, but must be a dictionary of counts")
        for word in word_freq:
            if not isinstance(word, str):
                raise TypeError(f"word_freq has the key {word!r}, but words must be str")
        if update:
            self._check_update()
        raw = {word: _integer(f"word_freq[{word!r}]", count, 0) for word, count in word_freq.items()}
        logger.info("collected %i unique words, %i occurrences in all", len(raw), sum(raw.values()))
        self.corpus_count = corpus_count or 0
        self.corpus_total_words = 0
        self.raw_vocab = raw
        self._separators = 0
        report = self.prepare_vocab(update=update, keep_raw_vocab=keep_raw_vocab, trim_rule=trim_rule)
        report["memory"] = self.estimate_memory(report["num_retained_words"])
        self.prepare_weights(update=update)
        self.add_lifecycle_event("build_vocab_from_freq", update=bool(update), trim_rule=str(trim_rule))

    def _check_update(self) -> None:
        if self._trainer is None:
            raise RuntimeError(
                "update=True adds words to a vocabulary, but this model has none yet: build one without update first"
            )

    def _open(self, sentences: Any, corpus_file: Any, *, passes: int, what: str) -> Corpus:
        """The corpus that is given, or this rank's part of it."""
        corpus = open_corpus(sentences, corpus_file, passes=passes, what=what)
        communicator = ranks.active_communicator()
        # One that has been opened before is a part already.
        if communicator is None or not self.shard_corpus or corpus is sentences:
            return corpus
        return corpus.part(communicator.rank, communicator.size)

    def _progress(self) -> bool | str:
        """``progress`` on the rank that shows it, False on others."""
        return self.progress if ranks.is_first() else False

    @property
    def raw_vocab(self) -> Mapping[str, int]:
        """Counts of all words seen, common or not: after :meth:`scan_vocab`, or with ``keep_raw_vocab``."""
        if self._raw is None:
            counter = self._counter
            self._raw = {} if counter is None else dict(zip(counter.words(), counter.counts().tolist(), strict=True))
        return self._raw

    @raw_vocab.setter
    def raw_vocab(self, counts: Mapping[str, int] | None) -> None:
        self._raw = dict(counts or {})
        self._counter = None
        self._scanned = None

    @changes
    def scan_vocab(
        self,
        corpus_iterable: Iterable[Sequence[str]] | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        progress_per: int = 10000,
        workers: int | None = None,
        trim_rule: TrimRule | None = None,
    ) -> tuple[int, int]:
        """Counts the words of a corpus into ``raw_vocab``; part of :meth:`build_vocab`.

        Returns:
            (words, sentences) of the corpus.
        """
        logger.info("collecting all words and their counts")
        corpus = self._open(corpus_iterable, corpus_file, passes=1, what="corpus_iterable")
        options = {"max_vocab_size": self.max_vocab_size, "trim_rule": trim_rule}
        progress = self._progress()
        with contextlib.closing(ScanReport(logger, progress, _integer("progress_per", progress_per, 1))) as report:
            counter = corpus.count(options, report)
        self._raw = None
        self._counter = counter
        raw_words, examples, self._separators = counter.raw_words, corpus.examples, corpus.separators
        unique = len(counter)
        communicator = ranks.active_communicator()
        if communicator is not None:
            self.raw_vocab = ranks.merge_counts(communicator, counter.words(), counter.counts())
            unique = len(self.raw_vocab)
            raw_words, examples, self._separators = map(
                round, ranks.sum_over_ranks(communicator, raw_words, examples, self._separators)
            )
        self._scanned = corpus if isinstance(corpus, FileCorpus) else None
        logger.info(
            "collected %i unique words from a corpus of %i raw words and %i sentences", unique, raw_words, examples
        )
        return raw_words, examples

    @changes
    def prepare_vocab(
        self,
        update: bool = False,
        keep_raw_vocab: bool = False,
        trim_rule: TrimRule | None = None,
        min_count: int | None = None,
        sample: float | None = None,
        dry_run: bool = False,
    ) -> dict[str, Any]:
        """Chooses the words to learn from ``raw_vocab``; part of :meth:`build_vocab`.

        Args:
            update: adds to the vocabulary instead of replacing it.
            keep_raw_vocab: keeps ``raw_vocab``.
            trim_rule: as the constructor's, for this call.
            min_count: replaces the model's, unless 0 or None.
            sample: replaces the model's, unless 0 or None.
            dry_run: changes nothing, only reports.

        Returns:
            Numbers of words: ``drop_unique``, ``retain_total``, ``downsample_unique``, ``downsample_total``,
            ``num_retained_words``.
        """
        min_count = _integer("min_count", min_count, 0) if min_count else self.min_count
        sample = _number("sample", sample, 0) if sample else self.sample
        words, counts, unique, total = self._select_words(min_count, trim_rule, by_count=not update)
        retained = int(counts.sum())
        event = self.add_lifecycle_event if not dry_run else lambda name, **values: logger.info("%s", values["msg"])
        if not update:
            event(
                "prepare_vocab",
                msg=f"min_count={self.effective_min_count} keeps {len(words)} of {unique} unique words "
                f"({_percent(len(words), unique)}) and {retained} of {total} occurrences ({_percent(retained, total)})",
            )
            new_words, new_counts = words, counts
        else:
            known = self.wv.key_to_index
            fresh = np.fromiter((word not in known for word in words), np.bool_, len(words))
            new_words = [word for word, is_new in zip(words, fresh, strict=True) if is_new]
            new_counts = counts[fresh]
            event(
                "prepare_vocab",
                msg=f"added {len(new_words)} new unique words ({_percent(len(new_words), unique)} of {unique}) and "
                f"raised the counts of {len(words) - len(new_words)} known ones",
            )
        left = _expected_occurrences(counts, sample)
        downsampled = int(np.count_nonzero(left < counts))
        event(
            "prepare_vocab",
            msg=f"sample={sample:g} thins out the {downsampled} most common words and leaves about "
            f"{left.sum():.0f} occurrences ({_percent(left.sum(), retained)})",
        )
        report: dict[str, Any] = {
            "drop_unique": unique - len(words),
            "retain_total": retained,
            "downsample_unique": downsampled,
            "downsample_total": int(left.sum()),
            "num_retained_words": len(words),
        }
        if dry_run:
            return report

        self.min_count = min_count
        self.sample = sample
        self._encoded_size = retained + self._separators
        if update:
            old = np.asarray(self.wv.expandos["count"], np.int64).copy()
            rows = [known[word] for word, is_new in zip(words, fresh, strict=True) if not is_new]
            old[rows] += counts[~fresh]
            self._set_words([*self.wv.index_to_key, *new_words], np.concatenate([old, new_counts]))
        else:
            self._trainer = None
            self.wv.expandos.clear()
            self._set_words(new_words, new_counts)
        if not keep_raw_vocab:
            self._raw = {}
            self._counter = None
        return report

    def _select_words(
        self, min_count: int, trim_rule: TrimRule | None, *, by_count: bool
    ) -> tuple[list[str], npt.NDArray[np.int64], int, int]:
        """The words to learn, their counts, and how many unique words and occurrences there are in all.

        Sets ``effective_min_count``. Before anybody has asked for ``raw_vocab``, the counts stay in C++.
        """
        by_count = by_count and bool(self.sorted_vocab)
        counter = self._counter
        if counter is not None and self._raw is None:
            self.effective_min_count = counter.effective_min_count(min_count, self.max_final_vocab or 0)
            vocabulary = select_vocabulary(
                counter, min_count=self.effective_min_count, sorted_vocab=by_count, trim_rule=trim_rule
            )
            # Where nothing was pruned all words are counted; the counts of all are memory that training could use.
            total = counter.raw_words if counter.min_reduce == 1 else int(counter.counts().sum())
            return vocabulary.words(), vocabulary.counts(), len(counter), total
        raw = self.raw_vocab
        counts = np.fromiter(raw.values(), np.int64, len(raw))
        self.effective_min_count = min_count
        if self.max_final_vocab is not None and self.max_final_vocab < len(raw):
            rarest = np.partition(counts, len(raw) - 1 - self.max_final_vocab)[len(raw) - 1 - self.max_final_vocab]
            self.effective_min_count = max(min_count, int(rarest) + 1)
        if trim_rule is None:
            kept = counts >= self.effective_min_count
        else:
            kept = np.fromiter(
                (keep_vocab_item(word, count, self.effective_min_count, trim_rule) for word, count in raw.items()),
                np.bool_,
                len(raw),
            )
        order = np.flatnonzero(kept)
        if by_count:
            order = order[np.argsort(-counts[order], kind="stable")]
        words = list(raw)
        return [words[index] for index in order], counts[order], len(raw), int(counts.sum())

    def _set_words(self, words: list[str], counts: npt.NDArray[np.int64]) -> None:
        if self.null_word and _NULL_WORD not in self.wv.key_to_index and _NULL_WORD not in words:
            words = [*words, _NULL_WORD]
            counts = np.append(counts, 1)
        wv = self.wv
        with wv.writing():
            wv.index_to_key = words
            wv.key_to_index = {word: index for index, word in enumerate(words)}
            for name, values in list(wv.expandos.items()):
                grown = np.zeros(len(words), values.dtype)
                grown[: len(values)] = values
                wv.expandos[name] = grown
            wv.expandos["count"] = counts
        self._encoder = None

    def estimate_memory(self, vocab_size: int | None = None, report: dict[str, int] | None = None) -> dict[str, int]:
        """Estimates the memory of a model with the present settings.

        Args:
            vocab_size: words; by default the model's own.
            report: further parts and their bytes, to which those of the model are added.

        Returns:
            Bytes of ``vocab``, ``vectors``, ``syn1`` and ``syn1neg`` (where there are such tables), and ``total``. Rows
            of tables are padded to 64 bytes.
        """
        words = len(self.wv) if vocab_size is None else _integer("vocab_size", vocab_size, 0)
        report = {name: size for name, size in (report or {}).items() if name != "total"}
        numbers = words * (-(-self.vector_size // 16) * 16)
        table = numbers * (2 if self.precision == "float16" else 4)
        report["vocab"] = words * (500 if self.hs else 300)
        report["vectors"] = table + (4 * numbers if self.precision == "float16" else 0)
        if self.hs:
            report["syn1"] = table
        if self.negative:
            report["syn1neg"] = table
        report["total"] = sum(report.values())
        logger.info(
            "estimated memory for %i words and %i dimensions: %i bytes", words, self.vector_size, report["total"]
        )
        return report

    # ---- Weights ----

    @changes
    def prepare_weights(self, update: bool = False) -> None:
        """Makes the tables for the vocabulary; part of :meth:`build_vocab`. ``update`` keeps what has been learned."""
        if update:
            self.update_weights()
        else:
            self.init_weights()

    @changes
    def init_weights(self) -> None:
        """Forgets what has been learned: random vectors (a function of ``seed``), zero output tables."""
        self._trainer = None
        self._position = None
        self.epochs_trained = 0
        if len(self.wv.index_to_key):
            self._make_trainer()
            self._attach()
        else:
            self.wv.vectors = np.zeros((0, self.vector_size), np.float32)
            self.wv.norms = None

    @changes
    def update_weights(self) -> None:
        """Adds rows for the words that the vocabulary has gained."""
        self._check_update()
        assert self._trainer is not None
        with self._exclusive():
            self._position = None
            self._keep_vectors()
            self._counts = self._vocabulary_counts()
            self._trainer.set_vocabulary(self._counts, sample=self.sample, ns_exponent=self.ns_exponent)
            self._attach()

    def _vocabulary_counts(self) -> npt.NDArray[np.int64]:
        return np.array(self.wv.expandos["count"], np.int64)

    def _architecture(self) -> dict[str, Any]:
        """What a trainer is made with, as the attributes are now."""
        return {
            "vector_size": self.vector_size,
            "sg": bool(self.sg),
            "hs": bool(self.hs),
            "negative": _integer("negative", self.negative, 0, 1000),
            "window": _integer("window", self.window, 1, 1_000_000),
            "shrink_windows": bool(self.shrink_windows),
            "cbow_mean": bool(self.cbow_mean),
            "seed": self.seed,
            "sample": self.sample,
            "ns_exponent": self.ns_exponent,
            # A device's business.
            "precision": "float32" if self.precision == "bfloat16" else self.precision,
        }

    def _make_trainer(self) -> None:
        architecture = self._architecture()
        self._counts = self._vocabulary_counts()
        self._trainer = _core.Word2VecTrainer(self._counts, **architecture)
        self._trained_with = architecture

    def _attach(self) -> None:
        """Lets ``wv`` look at the trainer's own table, or at a float32 copy of it."""
        assert self._trainer is not None
        table = self._trainer.vectors
        if table.dtype != np.float32:
            table = np.ascontiguousarray(table, np.float32)
        self.wv.vectors = table
        self.wv.norms = None

    def _keep_vectors(self) -> None:
        """Takes over vectors that somebody has put into ``wv``."""
        assert self._trainer is not None
        table = self._trainer.vectors
        vectors = np.asarray(self.wv.vectors)
        if vectors.dtype == table.dtype and vectors.ctypes.data == table.ctypes.data and vectors.shape == table.shape:
            return
        if vectors.shape[1:] != table.shape[1:] or len(vectors) > len(table):
            raise ValueError(
                f"wv.vectors has shape {vectors.shape}, but the model trains {table.shape}; words are added by "
                "build_vocab(..., update=True)"
            )
        table[: len(vectors)] = vectors

    def _ready_trainer(self) -> _core.Word2VecTrainer:
        """The trainer for the attributes as they are now, looking at the vectors as they are now."""
        assert self._trainer is not None
        if len(self.wv.index_to_key) != len(self._trainer.vectors):
            raise RuntimeError(
                f"wv has {len(self.wv.index_to_key)} keys, but the model trains {len(self._trainer.vectors)} words; "
                "words are added by build_vocab(..., update=True)"
            )
        self._keep_vectors()
        if self._architecture() != self._trained_with:
            old = self._trainer
            vectors, syn1neg, syn1 = old.vectors, old.syn1neg, old.syn1
            self._make_trainer()
            self._trainer.vectors[...] = vectors
            for table, values in ((self._trainer.syn1neg, syn1neg), (self._trainer.syn1, syn1)):
                if table is not None and values is not None:
                    table[...] = values
        elif not np.array_equal(self._vocabulary_counts(), self._counts):
            self._counts = self._vocabulary_counts()
            self._trainer.set_vocabulary(self._counts, sample=self.sample, ns_exponent=self.ns_exponent)
        self._attach()
        return self._trainer

    @property
    def device(self) -> _device.Device:
        """Where the model trains; may be assigned a name such as ``'cuda:0'``. Its tables stay on the host otherwise.

        Raises:
            RuntimeError: the device cannot be used; the message says why. ValueError: the name is none.
        """
        return self._where

    @device.setter
    def device(self, name: str | _device.Device) -> None:
        self._where = _device.device(name)
        if "_wv" in vars(self):
            self._wv.device = self._where

    @property
    def wv(self) -> KeyedVectors:
        """The vectors. Large searches among them run on the model's device."""
        return self._wv

    @wv.setter
    def wv(self, vectors: KeyedVectors) -> None:
        vectors.device = self._where
        self._wv = vectors

    def _check_device(self) -> None:
        if self.device.type == "cpu":
            if self.precision == "bfloat16":
                raise ValueError(
                    "precision is 'bfloat16', but the cpu trains 'float32' or 'float16': choose one of them, or a CUDA "
                    "device"
                )
            return
        if self.hs:
            raise ValueError(
                f"hs is 1, but hierarchical softmax is trained on the cpu only, not on {self.device}: set hs=0 and "
                "negative, e.g. to 5, or device='cpu'"
            )
        if self.vector_size > 1024:
            raise ValueError(
                f"vector_size is {self.vector_size}, but {self.device} trains vectors of at most 1024 numbers: use "
                "smaller vectors, or device='cpu'"
            )
        if self.deterministic and self.concurrency != 1:
            raise ValueError(
                f"deterministic is True, but {self.device} works on many stretches of text at once, and its result "
                "depends on their timing: set concurrency=1, or device='cpu'"
            )

    def _on_device(self, trainer: _core.Word2VecTrainer) -> _core.Word2VecTrainer | DeviceTrainer:
        """The trainer on the model's device."""
        self._check_device()
        if self.device.type == "cpu":
            return trainer
        tables = "bfloat16" if self.precision == "bfloat16" else "float32"
        self.wv.forget_device()
        self._elsewhere = DeviceTrainer(trainer, self.device.index, tables, self.concurrency or 0)
        return self._elsewhere

    def _team(self) -> str:
        """Who trains, for the log."""
        if isinstance(self._elsewhere, DeviceTrainer):
            return f"on {self.device} with {self._elsewhere.concurrency} teams"
        return f"with {min(self.workers, _core.num_threads())} threads"

    def _fetch(self) -> None:
        """Takes over what was learned on a device, or by all ranks in shared memory."""
        if self._elsewhere is not None:
            self._elsewhere.fetch()

    def _locked(
        self, trainer: _core.Word2VecTrainer | DeviceTrainer
    ) -> _core.Word2VecTrainer | DeviceTrainer | LockedTrainer:
        """The trainer, held back where ``wv.vectors_lockf`` says so."""
        factors = np.asarray(getattr(self.wv, "vectors_lockf", 1), np.float32)
        return trainer if (factors == 1).all() else LockedTrainer(trainer, factors)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One training at a time. Raises RuntimeError when another thread is training this model."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this model is being trained already, by another thread or a callback's caller")
        try:
            with self._in_use.changing("train"):
                yield
        finally:
            self._busy.release()

    @property
    def syn1neg(self) -> Array:
        """(words, vector_size) float32: output vectors of negative sampling, a view. May be assigned to."""
        return self._output_table("syn1neg")

    @syn1neg.setter
    def syn1neg(self, values: npt.ArrayLike) -> None:
        _fill(self.syn1neg, values, "syn1neg")

    @property
    def syn1(self) -> Array:
        """(words, vector_size) float32: vectors of the Huffman tree's inner nodes, a view. May be assigned to."""
        return self._output_table("syn1")

    @syn1.setter
    def syn1(self, values: npt.ArrayLike) -> None:
        _fill(self.syn1, values, "syn1")

    def _output_table(self, name: str) -> Array:
        table: Array | None = None if self._trainer is None else getattr(self._trainer, name)
        if table is None:
            raise AttributeError(name)  # whose message is that of __getattr__
        return table

    @property
    def cum_table(self) -> npt.NDArray[np.uint32] | None:
        """(words,) uint32: the cumulative distribution of negatives in units of 2^-31, or None. A copy."""
        if not self.negative or self._trainer is None:
            return None
        weights = self._counts.astype(np.float64) ** self.ns_exponent
        table: npt.NDArray[np.float64] = np.round(np.cumsum(weights) / weights.sum() * (2**31 - 1))
        return table.astype(np.uint32)

    # ---- Training ----

    def train(
        self,
        corpus_iterable: Iterable[Sequence[str]] | None = None,
        corpus_file: str | os.PathLike[str] | None = None,
        total_examples: int | None = None,
        total_words: int | None = None,
        epochs: int | None = None,
        start_alpha: float | None = None,
        end_alpha: float | None = None,
        word_count: int = 0,
        queue_factor: int = 2,
        report_delay: float = 1.0,
        compute_loss: bool = False,
        callbacks: Iterable[CallbackAny2Vec] = (),
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 300.0,
        resume: bool = False,
        **renamed: Any,
    ) -> tuple[int, int]:
        """Trains on a corpus; may be called again and again.

        Ctrl-C, and whatever a callback or the corpus raises, ends training and leaves a model that works. To go on from
        there: ``train(corpus, total_examples=..., epochs=epochs_left, start_alpha=model.min_alpha_yet_reached)``.

        A program that may be killed at any moment asks for a ``checkpoint``, and begins like this::

            if os.path.exists("checkpoint"):
                model = Word2Vec.load("checkpoint")
            else:
                model = Word2Vec(vector_size=100)
                model.build_vocab(corpus)
            model.train(corpus, total_examples=model.corpus_count, epochs=5, checkpoint="checkpoint", resume=True)

        With one worker, or ``deterministic``, the vectors are in the end those of a run that was never interrupted, bit
        for bit.

        Args:
            corpus_iterable: re-iterable of sentences, each a list of words. Unknown words are passed over.
            corpus_file: path of a text instead.
            total_examples: sentences of the corpus, for the learning rate: ``model.corpus_count`` for that of the
                vocabulary.
            total_words: its words, known or not; looked at where ``total_examples`` is not given.
            epochs: passes over the corpus, usually ``model.epochs``.
            start_alpha: learning rate at the beginning; by default the model's ``alpha``.
            end_alpha: learning rate at the end; by default the model's ``min_alpha``.
            word_count: kept for gensim's sake, without effect.
            queue_factor: kept for gensim's sake, without effect.
            report_delay: seconds between two log lines.
            compute_loss: as the constructor's.
            callbacks: as the constructor's.
            checkpoint: as the constructor's.
            checkpoint_every: as the constructor's.
            resume: goes on with the training that a loaded model was saved in the middle of, to the epochs and learning
                rates that it was asked for; ``epochs`` and the like need not be given, and must be the same where they
                are. Returns at once where that was finished; a model that was never trained begins.
            renamed: refused, with the new name of what gensim 3 called otherwise.

        Returns:
            (words trained on: known and not left out by ``sample``; all words), summed over the epochs.

        Raises:
            TypeError: no corpus or two, or one that can be iterated only once.
            ValueError: no ``epochs``, or neither ``total_examples`` nor ``total_words``; with ``resume``, another
                corpus or other arguments.
            RuntimeError: there is no vocabulary, or the model is being trained by another thread; with ``resume``, it
                was trained but not saved in the middle of that.
            OSError: the corpus cannot be read, or a checkpoint not written: the last one stays.
        """
        _refuse_arguments("train", renamed, _RENAMED_CORPUS)
        hooks = _check_callbacks(callbacks)
        path = None if checkpoint is None else model_file.check_path("checkpoint", checkpoint)
        seconds = _number("checkpoint_every", checkpoint_every, 0)
        start = self._resumed(epochs, start_alpha, end_alpha, total_examples, total_words) if resume else None
        if start is None:
            alpha = _number("start_alpha", start_alpha, 0) if start_alpha else self.alpha
            min_alpha = _number("end_alpha", end_alpha, 0) if end_alpha else self.min_alpha
            passes = self._check_training_sanity(epochs, total_examples, total_words, alpha)
            start = TrainingPosition(
                alpha, min_alpha, passes, total_examples or None, total_words or None, bool(compute_loss)
            )
        elif start.finished:
            logger.info("the training to go on with was finished")
            return start.trained_words, start.raw_words
        total_examples, total_words = start.total_examples, start.total_words
        corpus = self._open(corpus_iterable, corpus_file, passes=start.epochs - start.epoch, what="corpus_iterable")
        communicator = ranks.active_communicator()
        if communicator is not None and self.device.type != "cpu":
            raise RuntimeError(
                f"the model trains on {self.device}, but the ranks of a process group train Word2Vec on the cpu only: "
                "set device='cpu', or use one process"
            )
        with self._exclusive():
            trainer = self._locked(self._on_device(self._ready_trainer()))
            self.alpha, self.min_alpha, self.epochs = start.alpha, start.min_alpha, start.epochs
            self.compute_loss = start.compute_loss
            if start is not self._position:
                self.running_training_loss = 0.0
                self.epoch_losses = []
            self._position = start
            self.stop_training = False
            self.add_lifecycle_event(
                "train",
                msg=f"training {self._team()} on {len(self.wv)} words and "
                f"{self.vector_size} dimensions, sg={self.sg} hs={self.hs} negative={self.negative} "
                f"sample={self.sample:g} window={self.window} shrink_windows={self.shrink_windows}",
            )
            report = TrainingReport(logger, self._progress(), start.epochs, report_delay)
            try:
                with contextlib.closing(report):
                    report.alpha = start.alpha
                    checkpoints = None
                    if path is not None:
                        self._write_checkpoint(path)
                        checkpoints = Checkpoints(lambda within: self._checkpoint(path, within), seconds)
                    if communicator is None:
                        run = self._plan(trainer, corpus, total_examples, total_words, report, checkpoints)
                    else:
                        run = self._plan_rank(communicator, trainer, corpus, report, checkpoints)
                    totals = None if isinstance(corpus, FileCorpus) else (total_examples, total_words)
                    trained, raw = self._run_epochs(run, hooks, report, totals)
                    report.finish()
            except BaseException:
                # The tables are somewhere after the position.
                self._position = None
                raise
            finally:
                self._elsewhere = None
                self.total_train_time += report.elapsed
                self.wv.norms = None
        self.add_lifecycle_event(
            "train",
            msg=f"training on {raw} raw words ({trained} effective words) took {report.elapsed:.1f}s, "
            f"{trained / report.elapsed:.0f} effective words/s",
        )
        self.train_count += 1
        if path is not None:
            self._write_checkpoint(path)
        for hook in hooks:
            hook.on_train_end(self)
        return trained, raw

    def _resumed(
        self,
        epochs: int | None,
        start_alpha: float | None,
        end_alpha: float | None,
        total_examples: int | None,
        total_words: int | None,
    ) -> TrainingPosition | None:
        """The training to go on with; None for a model that was never trained. The arguments are those of train()."""
        position = self._position
        if position is None:
            if self.train_count or self.epochs_trained:
                raise RuntimeError(
                    "resume is True, but this model was not saved in the middle of a training: load a checkpoint"
                )
            return None
        for name, given, begun in (
            ("epochs", epochs, position.epochs),
            ("start_alpha", start_alpha, position.alpha),
            ("end_alpha", end_alpha, position.min_alpha),
            ("total_examples", total_examples, position.total_examples),
            ("total_words", total_words, position.total_words),
        ):
            if given and given != begun:
                raise ValueError(f"{name} is {given}, but the training to go on with was begun with {begun}")
        return position

    def _checkpoint(self, path: str, within: EpochPosition) -> None:
        """Saves the model as it is at a position within an epoch."""
        assert self._position is not None
        self._position = replace(self._position, within=within)
        self._fetch()
        self._write_checkpoint(path)

    def _write_checkpoint(self, path: str) -> None:
        if not ranks.is_first():
            return
        if self.precision == "float16":
            self._attach()  # to a new copy
        self._write(path)

    def _check_objective(self) -> None:
        if not self.hs and not self.negative:
            raise ValueError("hs and negative are both 0, so that there is nothing to learn by: set one of them")

    def _check_training_sanity(
        self, epochs: int | None, total_examples: int | None, total_words: int | None, alpha: float
    ) -> int:
        self._check_objective()
        if self.hs and self.negative:
            logger.warning(
                "hierarchical softmax and negative sampling are both on, which is rarely meant: set hs=0 or negative=0"
            )
        if alpha > self.min_alpha_yet_reached * (1 + 1e-6):  # which has been a float32
            logger.warning("alpha=%g is higher than in the training before", alpha)
        if not self.wv.key_to_index:
            what = (
                f"no word occurs min_count={self.min_count} times or more in the corpus of its vocabulary"
                if self.corpus_total_words
                else "build_vocab() has not been called, or saw an empty corpus"
            )
            raise RuntimeError(f"you must first build vocabulary before training the model: {what}")
        if total_examples is None and total_words is None:
            raise ValueError(
                "total_examples or total_words must be given, so that the learning rate can fall: usually "
                "total_examples=model.corpus_count"
            )
        if not (_integer("total_examples", total_examples or 0, 0) or _integer("total_words", total_words or 0, 0)):
            raise ValueError(
                f"total_examples is {total_examples} and total_words is {total_words}, but one must be above 0: the "
                "number of sentences, or of words, that the corpus has"
            )
        if epochs is None or epochs <= 0:
            raise ValueError(f"epochs is {epochs}, but must be given and above 0: usually epochs=model.epochs")
        if self._trainer is None:
            raise RuntimeError(
                "wv has words, but the model has no tables for them, and cannot go on from vectors alone: build the "
                "vocabulary with build_vocab(), and put vectors into wv after that"
            )
        return _integer("epochs", epochs, 1)

    def _vocabulary(self) -> _core.Vocabulary:
        """The words for encoding; made once for a list of words."""
        words = self.wv.index_to_key
        if self._encoder is None or self._encoder[0] is not words or self._encoder[1] != len(words):
            self._encoder = words, len(words), _core.Vocabulary(words, self._vocabulary_counts())
        return self._encoder[2]

    def _plan(
        self,
        trainer: _core.Word2VecTrainer | DeviceTrainer | LockedTrainer,
        corpus: Corpus,
        total_examples: int | None,
        total_words: int | None,
        report: TrainingReport,
        checkpoints: Checkpoints | None,
    ) -> Callable[[int, EpochPosition], EpochResult]:
        """A function that trains the epoch of a number, from a position on."""
        assert self._position is not None
        how = Schedule(self.alpha, self.min_alpha, self.epochs, total_examples or None, total_words or None)
        settings = {
            "workers": self.workers,
            "deterministic": self.deterministic,
            "compute_loss": self.compute_loss,
        }
        if isinstance(corpus, StreamCorpus):
            same = total_examples == self.corpus_count if total_examples else total_words == self.corpus_total_words
            epoch_size = self._encoded_size if same else None
            chunk = _BATCHES_IN_CHUNK * self.batch_words
            stream = StreamTraining(
                trainer, corpus, self._vocabulary(), how, settings, report, epoch_size, chunk, self._position.raw_words
            )
            return lambda epoch, within: stream(epoch, self.epochs_trained, within, checkpoints)
        assert isinstance(corpus, WholeCorpus)
        scanned, self._scanned = self._scanned, None
        if scanned is not None and isinstance(corpus, FileCorpus) and scanned.same_text(corpus):
            corpus = scanned
        encoded = self._encode(corpus)
        whole = WholeTraining(trainer, encoded, corpus.examples, how, settings, report)
        return lambda epoch, within: whole(epoch, self.epochs_trained, within, checkpoints)

    def _encode(self, corpus: Corpus) -> _core.Corpus:
        progress = self._progress()
        with contextlib.closing(ScanReport(logger, progress)) as scan:
            return corpus.encode(self._vocabulary(), scan)

    def _plan_rank(
        self,
        communicator: Communicator,
        trainer: _core.Word2VecTrainer | DeviceTrainer | LockedTrainer,
        corpus: Corpus,
        report: TrainingReport,
        checkpoints: Checkpoints | None,
    ) -> Callable[[int, EpochPosition], EpochResult]:
        """As :meth:`_plan`, for a rank with its part of the corpus."""
        assert self._position is not None
        assert self._trainer is not None
        start = self._position
        words = self.wv.index_to_key
        share = self.share_tables and not self.deterministic and not isinstance(trainer, LockedTrainer)
        sync = (share, self.sync_words, self.sync_rows)
        settings = {**self._architecture(), "sync": sync, "start": start.to_json()}
        ranks.check_agreement(communicator, "the parameters of Word2Vec", [repr(sorted(settings.items()))])
        ranks.check_agreement(communicator, "the vocabularies", ["\n".join(words), self._vocabulary_counts().tobytes()])
        scanned, self._scanned = self._scanned, None
        if scanned is not None and isinstance(corpus, FileCorpus) and scanned.same_text(corpus):
            corpus = scanned
        encoded = self._encode(corpus)
        raw_words, examples = ranks.sum_over_ranks(communicator, encoded.raw_words, corpus.examples)
        shared = SharedMemoryTrainer.open(communicator, self._trainer) if share else None
        if shared is not None:
            self._elsewhere = shared
        run = ranks.DistributedTraining(
            communicator,
            shared or trainer,
            shared or self._replicated_tables(communicator),
            encoded.tokens(),
            round(raw_words),
            round(examples),
            Schedule(start.alpha, start.min_alpha, start.epochs, start.total_examples, start.total_words),
            {"workers": self.workers, "deterministic": self.deterministic, "compute_loss": self.compute_loss},
            report,
            self.sync_words,
        )
        return lambda epoch, within: run(epoch, self.epochs_trained, within, checkpoints)

    def _replicated_tables(self, communicator: Communicator) -> ranks.ReplicatedTables:
        assert self._trainer is not None
        occurrences = _expected_occurrences(self._counts, self.sample)
        return ranks.ReplicatedTables(
            communicator, self._trainer, occurrences, bool(self.sg), self.negative, self.ns_exponent, self.sync_rows
        )

    def _run_epochs(
        self,
        run: Callable[[int, EpochPosition], EpochResult],
        hooks: tuple[CallbackAny2Vec, ...],
        report: TrainingReport,
        totals: tuple[int | None, int | None] | None,
    ) -> tuple[int, int]:
        for hook in hooks:
            hook.on_train_begin(self)
        position = self._position
        assert position is not None
        for epoch in range(position.epoch, self.epochs):
            for hook in hooks:
                hook.on_epoch_begin(self)
            report.begin_epoch()
            try:
                result = run(epoch, position.within)
            finally:
                self._fetch()
                self.min_alpha_yet_reached = report.alpha
                if self.precision == "float16":
                    self._attach()  # to a new copy
                self.wv.norms = None
            report.end_epoch(epoch, result)
            self._compare_totals(epoch, result, totals)
            self.epochs_trained += 1
            position = self._position = replace(
                position,
                epoch=epoch + 1,
                trained_words=position.trained_words + result.trained_words,
                raw_words=position.raw_words + result.raw_words,
                finished=epoch + 1 == self.epochs,
                within=EpochPosition(),
            )
            if self.compute_loss:
                self.running_training_loss += result.loss
                self.epoch_losses.append(result.loss)
            for hook in hooks:
                hook.on_epoch_end(self)
            self.stop_training = ranks.any_rank(self.stop_training)
            if self.stop_training:
                position = self._position = replace(position, finished=True)
                break
        return position.trained_words, position.raw_words

    def _compare_totals(self, epoch: int, result: EpochResult, totals: tuple[int | None, int | None] | None) -> None:
        """Warns where a corpus is not as large as was said. ``totals``: sentences and words; None for a file."""
        if not result.examples and not self.train_count:
            logger.warning(
                "EPOCH %i: the corpus is empty; if it should not be, give one that can be iterated over more than once",
                epoch,
            )
        for name, said, found in zip(
            ("total_examples", "total_words"), totals or (None, None), (result.examples, result.raw_words), strict=True
        ):
            if said and said != found:
                logger.warning("EPOCH %i: %s is %i, but the corpus has %i", epoch, name, said, found)

    def get_latest_training_loss(self) -> float:
        """The loss of the latest training so far: the sum over all pairs of -log of their probability.

        0 unless it was trained with ``compute_loss=True``. ``epoch_losses`` has it by epochs.
        """
        return self.running_training_loss

    # ---- Use ----

    @looks
    def predict_output_word(
        self, context_words_list: Sequence[str | int], topn: int = 10
    ) -> list[tuple[str, float]] | None:
        """The most probable words in the middle of a context: softmax of the output vectors, as CBOW propagates.

        Args:
            context_words_list: words, or their numbers; those unknown are passed over.
            topn: how many.

        Returns:
            ``[(word, probability), ...]``, the most probable first; None, with a log line, where no word is known.

        Raises:
            RuntimeError: the model has no negative sampling or no vocabulary.
        """
        if not self.negative:
            raise RuntimeError("predict_output_word() needs negative sampling, but this model has negative=0")
        if self._trainer is None:
            raise RuntimeError("predict_output_word() needs a vocabulary: call build_vocab() and train() first")
        rows = [self.wv.get_index(word) for word in context_words_list if word in self.wv]
        if not rows:
            logger.warning("none of the context words is in the vocabulary")
            return None
        hidden = self.wv.vectors[rows].sum(axis=0, dtype=np.float64)
        if self.cbow_mean:
            hidden /= len(rows)
        logits = (self.syn1neg @ hidden.astype(np.float32)).astype(np.float64)
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        best = np.argsort(-weights, kind="stable")[: max(_integer("topn", topn, 0), 0)]
        return [(self.wv.index_to_key[row], float(weights[row])) for row in best]

    def score(
        self,
        sentences: Iterable[Sequence[str]],
        total_sentences: int = 1_000_000,
        chunksize: int = 100,
        queue_factor: int = 2,
        report_delay: float = 1,
    ) -> npt.NDArray[np.float64]:
        """Log probability of each sentence; needs hierarchical softmax.

        As in Taddy, "Document Classification by Inversion of Distributed Language Representations" (2015).

        Args:
            sentences: iterable of lists of words; unknown words are passed over.
            total_sentences: at most so many are scored.
            chunksize: kept for gensim's sake, without effect.
            queue_factor: kept for gensim's sake, without effect.
            report_delay: kept for gensim's sake, without effect.

        Returns:
            (sentences,) float64.

        Raises:
            RuntimeError: the model has no hierarchical softmax or no vocabulary.
        """
        if self._trainer is None:
            raise RuntimeError("score() needs a vocabulary: call build_vocab() and train() first")
        if not self.hs:
            raise RuntimeError("score() needs hierarchical softmax: train with hs=1, negative=0")
        most = _integer("total_sentences", total_sentences, 0)
        corpus = open_corpus(sentences, None, passes=1, what="sentences")
        with self._exclusive():
            trainer = self._ready_trainer()
            scores = [
                trainer.score(piece.tokens)
                for piece in corpus.pieces(self._vocabulary(), _BATCHES_IN_CHUNK * self.batch_words, most)
            ]
        return np.concatenate(scores) if scores else np.zeros(0)

    @changes
    def reset_from(self, other_model: Word2Vec) -> None:
        """Takes over another model's vocabulary and forgets what has been learned.

        Raises:
            TypeError: ``other_model`` is not a Word2Vec.
        """
        if not isinstance(other_model, Word2Vec):
            raise TypeError(f"other_model is of type {type(other_model).__name__}, but must be a Word2Vec")
        self.wv = KeyedVectors(self.vector_size)
        self.wv.index_to_key = list(other_model.wv.index_to_key)
        self.wv.key_to_index = dict(other_model.wv.key_to_index)
        self.wv.expandos = {name: values.copy() for name, values in other_model.wv.expandos.items()}
        self.corpus_count = other_model.corpus_count
        self.corpus_total_words = other_model.corpus_total_words
        self._encoded_size = other_model._encoded_size
        self._encoder = None
        self.init_weights()

    def init_sims(self, replace: bool = False) -> None:
        """Obsolete, as in gensim 4: norms are computed when they are needed.

        ``replace=True`` normalises the vectors in place, which loses what further training would need.
        """
        import warnings

        warnings.warn(
            "init_sims() is obsolete: norms are computed when they are needed; for vectors of unit length call "
            "wv.get_normed_vectors() or wv.unit_normalize_all()",
            DeprecationWarning,
            stacklevel=2,
        )
        if replace:
            self.wv.unit_normalize_all()

    # ---- Files ----

    @looks
    def save(self, fname_or_handle: str | os.PathLike[str], **ignored: Any) -> None:
        """Saves all of the model in one safetensors file, from which training can go on.

        The file is complete or absent, whatever happens. It is no pickle and holds no code.

        Args:
            fname_or_handle: path of the file, used as it is.
            ignored: gensim's ``separately``, ``sep_limit``, ``ignore`` and ``pickle_protocol``, without effect.

        Raises:
            TypeError: an unknown argument, a path that is none, or a ``comment`` that JSON cannot express.
            OSError: the file cannot be written.
        """
        for name in ignored:
            if name not in ("separately", "sep_limit", "ignore", "pickle_protocol"):
                _refuse_arguments("save", {name: None}, {})
        path = model_file.check_path("fname_or_handle", fname_or_handle)
        self.add_lifecycle_event("saving", fname_or_handle=path)
        self._write(path)

    def _write(self, path: str) -> None:
        tables = {name: np.asarray(table, np.float32) for name, table in self._tables().items()}
        model_file.save(path, self._parameters(), self.wv, tables)
        logger.info("saved %s to %s", type(self).__name__, path)

    @classmethod
    def load(cls, fname: str | os.PathLike[str], mmap: str | None = None, rethrow: bool = False) -> Word2Vec:
        """Loads a model saved by :meth:`save`.

        Args:
            fname: path of the file.
            mmap: kept for gensim's sake, without effect: a model is writable and lives in memory.
            rethrow: kept for gensim's sake, without effect.

        Raises:
            ValueError: the file is damaged or something else, such as a pickle of gensim's.
            OSError: it cannot be read.
        """
        path = model_file.check_path("fname", fname)
        parameters, wv, tables = model_file.load(path)
        model = cls.__new__(cls)
        try:
            model._restore(parameters, wv, tables)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged, or was saved by another version of convec: {error}") from error
        model.add_lifecycle_event("loaded", fname=path)
        return model

    def _parameters(self) -> dict[str, Any]:
        """All that makes a model besides its arrays and words, fit for JSON."""
        position = None if self._position is None else self._position.to_json()
        return {**{name: getattr(self, name) for name in _STORED}, "position": position}

    def _tables(self) -> dict[str, Array]:
        """The output tables that there are."""
        if self._trainer is None:
            return {}
        tables = {"syn1neg": self._trainer.syn1neg, "syn1": self._trainer.syn1}
        return {name: table for name, table in tables.items() if table is not None}

    def _restore(self, parameters: Mapping[str, Any], wv: KeyedVectors, tables: Mapping[str, Array]) -> None:
        """Makes a model of what :meth:`_parameters`, ``wv`` and :meth:`_tables` were."""
        for name in _STORED:
            setattr(self, name, parameters[name] if name in parameters else _LATER[name])
        self.layer1_size = self.vector_size
        self.device = _device.current_device()
        self.concurrency = None
        self.hashfxn = hash
        self.stop_training = False
        self._start()
        self._encoded_size = parameters["_encoded_size"]
        if parameters.get("position") is not None:  # files of before have none
            self._position = TrainingPosition.from_json(parameters["position"])
        self.wv = wv
        if len(wv.index_to_key):
            self._make_trainer()
            self._keep_vectors()
            for name, table in self._tables().items():
                if name not in tables:
                    raise ValueError(f"{name} is missing")
                _fill(table, tables[name], name)
            self._attach()

    def __getstate__(self) -> dict[str, Any]:
        with self._in_use.looking("copy"):
            tables = {name: np.ascontiguousarray(table) for name, table in self._tables().items()}
            return {"parameters": self._parameters(), "wv": self.wv, "tables": tables}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._restore(state["parameters"], state["wv"], state["tables"])

    # ---- About the model ----

    def add_lifecycle_event(self, event_name: str, log_level: int = logging.INFO, **event: Any) -> None:
        """Appends a dictionary to ``lifecycle_events`` (unless that is None) and logs it.

        Args:
            event_name: what has happened.
            log_level: of the log line; 0 for none.
            event: more to note; values must be fit for JSON.
        """
        entry = {
            **event,
            "datetime": datetime.now().isoformat(),
            "convec": __version__,
            "python": sys.version,
            "platform": platform.platform(),
            "event": event_name,
        }
        if log_level:
            logger.log(log_level, "%s lifecycle event %s", type(self).__name__, entry)
        if self.lifecycle_events is not None:
            self.lifecycle_events.append(entry)

    def __str__(self) -> str:
        return (
            f"{type(self).__name__}<vocab={len(self.wv.index_to_key)}, vector_size={self.vector_size}, "
            f"alpha={self.alpha}>"
        )

    __repr__ = __str__

    def __getattr__(self, name: str) -> NoReturn:
        hint = ""
        if name in ("syn1neg", "syn1"):
            needed = "negative" if name == "syn1neg" else "hs"
            hint = f": {'it has no vocabulary yet' if getattr(self, needed, 0) else f'{needed} is 0'}"
        elif name in _MOVED_TO_WV:
            hint = f"; it is model.wv.{name} now, as in gensim 4"
        elif name in _MOVED:
            hint = f"; use {_MOVED[name]}, as in gensim 4"
        elif name in _NEEDLESS:
            hint = f"; there is no need for it: {_NEEDLESS[name]}"
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'{hint}")

    def __getitem__(self, words: object) -> NoReturn:
        raise TypeError("a Word2Vec model cannot be indexed; its vectors are in model.wv, e.g. model.wv['word']")

    def __contains__(self, word: object) -> NoReturn:
        raise TypeError("words are looked for in model.wv, e.g. 'word' in model.wv")


def _refuse_load(*_: Any, **__: Any) -> NoReturn:
    raise AttributeError("load() is called on the class, and returns the model: model = Word2Vec.load(path)")


# What a saved model has besides its tables and words.
_STORED = (
    "vector_size",
    "alpha",
    "min_alpha",
    "window",
    "min_count",
    "max_vocab_size",
    "max_final_vocab",
    "sample",
    "seed",
    "workers",
    "sg",
    "hs",
    "negative",
    "ns_exponent",
    "cbow_mean",
    "epochs",
    "null_word",
    "sorted_vocab",
    "batch_words",
    "compute_loss",
    "comment",
    "shrink_windows",
    "deterministic",
    "precision",
    "progress",
    "shard_corpus",
    "share_tables",
    "sync_words",
    "sync_rows",
    "train_count",
    "total_train_time",
    "running_training_loss",
    "epoch_losses",
    "epochs_trained",
    "min_alpha_yet_reached",
    "corpus_count",
    "corpus_total_words",
    "effective_min_count",
    "lifecycle_events",
    "_encoded_size",
)


# What files of before such parameters stand for.
_LATER = {"shard_corpus": True, "share_tables": True, "sync_words": 262144, "sync_rows": 1024}


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 1):.2f}%"


def _expected_occurrences(counts: npt.NDArray[np.int64], sample: float) -> npt.NDArray[np.float64]:
    """How often words are expected to survive sub-sampling: those of gensim's formula (Mikolov et al., word2vec.c)."""
    total = int(counts.sum())
    if not sample or not total:
        return counts.astype(np.float64)
    threshold = sample * total if sample < 1 else float(int(sample * (3 + np.sqrt(5)) / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = (np.sqrt(counts / threshold) + 1) * (threshold / counts)
    return np.where(counts > 0, np.minimum(kept, 1.0), 0.0) * counts


def _fill(table: Array, values: npt.ArrayLike, name: str) -> None:
    if np.shape(values) != table.shape:
        raise ValueError(f"{name} has shape {np.shape(values)}, but must be {table.shape}")
    table[...] = values
