"""Word2Vec over the ranks of a process group, with real processes."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
from convec import _core
from convec.models import Word2Vec, _word2vec_shared
from convec.models import word2vec as module
from convec.models._corpus import TextSource, encode_corpus
from convec.models.sentences import Text8Corpus


def lines(count: int, seed: int = 1) -> list[list[str]]:
    """Sentences whose first word numbers them, on topics of ten words each."""
    random = np.random.default_rng(seed)
    topics = random.integers(0, 20, count)
    words = topics[:, None] * 10 + random.zipf(1.5, (count, 8)) % 10
    return [[f"line{index}", *(f"w{word}" for word in row)] for index, row in enumerate(words)]


def write(path: Path, sentences: list[list[str]], end: str = "\n") -> Path:
    path.write_text("\n".join(map(" ".join, sentences)) + end)
    return path


def parts(source: TextSource, count: int, words: list[str]) -> list[np.ndarray[Any, Any]]:
    from dataclasses import replace

    vocabulary = _core.Vocabulary(words, np.ones(len(words), np.int64))
    return [encode_corpus(replace(source, part=(index, count)), vocabulary).tokens() for index in range(count)]


@pytest.mark.parametrize("count", [2, 3, 7, 40])
@pytest.mark.parametrize("end", ["\n", "", "\n\n"])
def test_every_line_is_in_one_part(tmp_path: Path, count: int, end: str) -> None:
    sentences = lines(25)
    words = sorted({word for sentence in sentences for word in sentence})
    text = write(tmp_path / "a.txt", sentences[:20], end)
    packed = tmp_path / "b.txt.gz"
    packed.write_bytes(gzip.compress(write(tmp_path / "b", sentences[20:22], end).read_bytes()))
    more = write(tmp_path / "c.txt", sentences[22:], end)
    paths = (str(text), str(packed), str(more))
    for source in (TextSource(paths), TextSource(paths[:1], limit=7), TextSource(paths[1:], limit=1)):
        whole = parts(source, 1, words)[0]
        cut = parts(source, count, words)
        assert Counter(whole.tolist()) == Counter(np.concatenate(cut).tolist())
        if source.paths == paths[:1]:
            assert np.array_equal(np.concatenate(cut), whole)
        for part in cut:
            assert not len(part) or part[-1] == -1


def test_large_compressed_text_goes_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convec.models import _corpus

    monkeypatch.setattr(_corpus, "_FEED_BYTES", 100)
    sentences = lines(200)
    words = sorted({word for sentence in sentences for word in sentence})
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(write(tmp_path / "a", sentences).read_bytes()))
    for limit in (None, 0, 1, 77, 1000):
        source = TextSource((str(packed),), limit=limit)
        whole, cut = parts(source, 1, words)[0], parts(source, 3, words)
        assert Counter(whole.tolist()) == Counter(np.concatenate(cut).tolist())
        assert limit is not None or min(map(len, cut)) > 200


def test_a_text_without_lines_is_cut_between_words(tmp_path: Path) -> None:
    words = [f"w{index}" for index in range(500)]
    path = tmp_path / "text8"
    path.write_text(" ".join(words))
    source = Text8Corpus(path)._text_source()
    assert source is not None
    tokens = np.concatenate(parts(source, 3, words))
    assert tokens[tokens >= 0].tolist() == list(range(500))


# Each rank with tables of its own, also on one host.
REPLICAS = {"share_tables": False}

PROGRAM = """
import hashlib, json, sys
import numpy as np
import convec.distributed as dist
from convec.models import Word2Vec
from convec.models.callbacks import CallbackAny2Vec

dist.init_process_group(timeout=60)
path, how = sys.argv[1:3]
options = json.loads(sys.argv[3])
sentences = [line.split() for line in open(path)]

class Stream:
    def __iter__(self):
        return iter(sentences)

class Seen(CallbackAny2Vec):
    def on_epoch_end(self, model):
        epochs.append(model.epoch_losses[-1])

epochs = []
corpus = {
    "file": {"corpus_file": path},
    "list": {"sentences": sentences},
    "stream": {"sentences": Stream()},
    "own": {"sentences": sentences[dist.get_rank() :: dist.get_world_size()], "shard_corpus": False},
}[how]
arguments = {"vector_size": 20, "min_count": 1, "workers": 1, "epochs": 2, "compute_loss": True}
model = Word2Vec(**corpus, **{**arguments, **options}, callbacks=[Seen()])
tables = [table for table in (model.wv.vectors, getattr(model, "syn1neg", None), getattr(model, "syn1", None))
          if table is not None]
digest = hashlib.sha256(b"".join(table.tobytes() for table in tables)).hexdigest()
assert all(np.isfinite(table).all() for table in tables)
mine = [digest, model.corpus_count, model.corpus_total_words, model.train_count, epochs]
assert dist.all_gather_object(mine) == [mine] * dist.get_world_size()
if dist.get_rank() == 0:
    model.save(sys.argv[4])
assert "memfd:convec" not in open("/proc/self/maps").read()  # nothing is left of what was shared
dist.destroy_process_group()
"""


def train(tmp_path: Path, count: int, sentences: list[list[str]], how: str, **options: Any) -> Word2Vec:
    text = write(tmp_path / "corpus.txt", sentences)
    saved = str(tmp_path / "model")
    ranks.run(count, PROGRAM, str(text), how, json.dumps(options), saved)
    return Word2Vec.load(saved)


@pytest.mark.parametrize(
    ("count", "how", "options"),
    [
        (2, "file", {"sync_words": 2000, "sync_rows": 16, "share_tables": False}),
        (4, "list", {"hs": 1, "negative": 0, "sync_words": 5000, "sync_rows": 50, "sorted_vocab": 0, **REPLICAS}),
        (2, "stream", {"precision": "float16", "sg": 1, "sync_words": 5000, "sync_rows": 100, "deterministic": True}),
        (2, "own", {"hs": 1, "sync_words": 3000, "null_word": 1, "seed": None, "share_tables": False}),
        (2, "file", {"sync_words": 200}),
        (4, "list", {"hs": 1, "negative": 0, "sorted_vocab": 0, "workers": 2}),
        (2, "stream", {"precision": "float16", "sg": 1, "sync_words": 200}),
        (2, "own", {"hs": 1, "null_word": 1, "seed": None}),
    ],
)
def test_ranks_agree(tmp_path: Path, count: int, how: str, options: dict[str, Any]) -> None:
    sentences = lines(3000)
    model = train(tmp_path, count, sentences, how, **options)
    vocabulary_options = {name: options[name] for name in ("null_word", "sorted_vocab") if name in options}
    alone = Word2Vec(min_count=1, **vocabulary_options)
    alone.build_vocab(sentences)
    assert (model.corpus_count, model.corpus_total_words) == (3000, 27000)
    assert dict(zip(model.wv.index_to_key, model.wv.expandos["count"], strict=True)) == dict(
        zip(alone.wv.index_to_key, alone.wv.expandos["count"], strict=True)
    )
    if how in ("file", "list"):
        assert model.wv.index_to_key == alone.wv.index_to_key
    assert model.epochs_trained == 2
    assert model.epoch_losses[1] < model.epoch_losses[0]


def test_more_ranks_than_lines(tmp_path: Path) -> None:
    model = train(tmp_path, 4, [["one", "two", "three"], ["two", "three"]], "file", epochs=3)
    assert model.wv.index_to_key == ["two", "three", "one"]
    assert model.epochs_trained == 3


def closeness(model: Word2Vec) -> float:
    """How much nearer words of a topic are to each other than to those of other topics, in cosines."""
    words = [
        [f"w{10 * topic + word}" for word in range(10) if f"w{10 * topic + word}" in model.wv] for topic in range(20)
    ]
    vectors = model.wv.get_normed_vectors()
    topics = np.concatenate([np.full(len(group), index) for index, group in enumerate(words)])
    rows = vectors[[model.wv.key_to_index[word] for group in words for word in group]]
    cosines = rows @ rows.T
    same = topics[:, None] == topics
    return float(cosines[same].mean() - cosines[~same].mean())


@pytest.mark.parametrize("options", [{}, {**REPLICAS, "sync_words": 4096, "sync_rows": 64}], ids=["shared", "replicas"])
def test_quality_is_that_of_one_rank(tmp_path: Path, options: dict[str, Any]) -> None:
    sentences = [sentence[1:] for sentence in lines(20000)]
    alone = Word2Vec(sentences, vector_size=20, min_count=1, workers=1, epochs=2)
    model = train(tmp_path, 4, sentences, "file", **options)
    assert closeness(model) > 0.9 * closeness(alone) > 0.3


CHECKPOINTS = """
import sys
import convec.distributed as dist
from convec.models import Word2Vec
from convec.models import _word2vec_file as files

dist.init_process_group(timeout=60)
corpus, path, result = sys.argv[1:4]
written = 0
save = files.save

def stopping(name, *rest):
    global written
    save(name, *rest)
    written += 1
    if written == 4 and sys.argv[4] == "stop":
        raise KeyboardInterrupt

if sys.argv[4] == "resume":
    model = Word2Vec.load(path)
else:
    model = Word2Vec(vector_size=20, min_count=1, workers=1, share_tables=sys.argv[5] == "shared",
                     sync_words=30 if sys.argv[5] == "shared" else 500, sync_rows=1024)
    model.build_vocab(corpus_file=corpus)
files.save = stopping
model.train(corpus_file=corpus, total_examples=model.corpus_count, epochs=2, compute_loss=True, resume=True,
            checkpoint=path, checkpoint_every=0)
assert written == (0 if dist.get_rank() else written)
files.save = save
if dist.get_rank() == 0:
    assert written > 4 or sys.argv[4] == "resume"
    model.save(result)
"""


@pytest.mark.parametrize("tables", ["replicas", "shared"])
def test_resumes_from_a_checkpoint_as_if_it_was_never_interrupted(tmp_path: Path, tables: str) -> None:
    corpus = str(write(tmp_path / "corpus.txt", lines(3000)))
    path, results = str(tmp_path / "checkpoint"), [str(tmp_path / name) for name in ("whole", "resumed")]
    ranks.run(2, CHECKPOINTS, corpus, str(tmp_path / "other"), results[0], "whole", tables)
    code, _, errors = ranks.finish(ranks.start(2, CHECKPOINTS, corpus, path, results[1], "stop", tables))
    assert code != 0
    assert "KeyboardInterrupt" in errors
    position = Word2Vec.load(path)._position
    assert position is not None
    assert position.within.tokens > 0
    ranks.run(2, CHECKPOINTS, corpus, path, results[1], "resume", tables)
    whole, resumed = map(Word2Vec.load, results)
    if tables == "replicas":
        assert np.array_equal(whole.wv.vectors, resumed.wv.vectors)
        assert np.array_equal(whole.syn1neg, resumed.syn1neg)
        assert whole.epoch_losses == pytest.approx(resumed.epoch_losses, rel=1e-9)
    else:
        # What the ranks change in shared tables depends on their timing, but they go through the same text.
        assert resumed.epochs_trained == whole.epochs_trained
        assert whole.epoch_losses == pytest.approx(resumed.epoch_losses, rel=0.05)
    # On another number of ranks it goes on as well.
    ranks.run(3, CHECKPOINTS, corpus, path, results[1], "resume", tables)


def test_ranks_without_memory_in_common_have_tables_of_their_own(tmp_path: Path) -> None:
    text = write(tmp_path / "corpus.txt", lines(2000))
    program = """
import sys
import numpy as np
import convec.distributed as dist
from convec.models import Word2Vec, _word2vec_distributed, _word2vec_shared

dist.init_process_group(timeout=60)
if dist.get_rank() == 1:  # as on another host
    _word2vec_shared._open = lambda *where: None
exchanged = []
combine = _word2vec_distributed.ReplicatedTables.combine
_word2vec_distributed.ReplicatedTables.combine = lambda *given, **more: (exchanged.append(1), combine(*given, **more))
model = Word2Vec(corpus_file=sys.argv[1], vector_size=8, min_count=1, epochs=1)
assert exchanged and np.ptp(dist.all_gather(model.wv.vectors.copy()), axis=0).max() == 0
"""
    ranks.run(2, program, str(text))


def test_the_memory_of_another_process_is_known_by_its_name() -> None:
    with contextlib.ExitStack() as files:
        created = _word2vec_shared._create(100, files)
        if created is None:
            pytest.skip("this system has no files in memory")
        process, descriptor, name = created
        mapped = _word2vec_shared._open(process, descriptor, name, 100)
        assert mapped is not None
        assert mapped.tolist() == [0] * 100
        assert _word2vec_shared._open(process, descriptor, name + "0", 100) is None
        assert _word2vec_shared._open(process, 0, name, 100) is None
        assert _word2vec_shared._open(process, descriptor, name, 1 << 30) is None
    assert _word2vec_shared._open(process, descriptor, name, 100) is None
    mapped[:] = 7  # it outlives the file


def test_a_killed_rank_ends_all(tmp_path: Path) -> None:
    text = write(tmp_path / "corpus.txt", lines(3000))
    program = """
import os, signal, sys
import convec.distributed as dist
from convec.models import Word2Vec, _word2vec_distributed

dist.init_process_group(timeout=60)
if dist.get_rank() == 1:
    kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    _word2vec_distributed.DistributedTraining._train = kill
Word2Vec(corpus_file=sys.argv[1], min_count=1, epochs=1000)
"""
    code, _, _ = ranks.finish(ranks.start(2, program, str(text)), 30)
    assert code != 0


def test_ranks_that_differ_are_told() -> None:
    program = """
import convec.distributed as dist
from convec.models import Word2Vec
dist.init_process_group(timeout=60)
rank = dist.get_rank()
for options, message in (({"window": 3 + rank}, "parameters"), ({"min_count": 1 + rank}, "vocab")):
    try:
        Word2Vec([["a", "b", "c"], ["a", "b"]] * 10 + [["rare", "a"]], **{"min_count": 1, **options})
    except ValueError as error:
        assert message in str(error) and "differ between the ranks" in str(error), error
        print("told")
"""
    # mpiexec may put lines of several ranks together.
    assert ranks.run(2, program).count("told") == 4


def test_an_error_on_one_rank_ends_all(tmp_path: Path) -> None:
    text = write(tmp_path / "corpus.txt", lines(3000))
    program = """
import sys
import convec.distributed as dist
from convec.models import Word2Vec
from convec.models.callbacks import CallbackAny2Vec

class Fails(CallbackAny2Vec):
    def on_epoch_end(self, model):
        if dist.get_rank() == 1:
            raise OSError("the disk is full")

dist.init_process_group(timeout=60)
Word2Vec(corpus_file=sys.argv[1], min_count=1, epochs=3, callbacks=[Fails()])
"""
    code, _, errors = ranks.finish(ranks.start(2, program, str(text)), 30)
    assert code != 0
    assert "rank 1 of 2 ends the job: OSError: the disk is full" in errors


def test_files_of_before_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Word2Vec([["a", "b"]] * 10, min_count=1)
    later = ("shard_corpus", "share_tables", "sync_words", "sync_rows")
    monkeypatch.setattr(module, "_STORED", tuple(name for name in module._STORED if name not in later))
    model.save(tmp_path / "model")
    monkeypatch.undo()
    assert Word2Vec.load(tmp_path / "model").sync_words == model.sync_words


def test_a_part_of_a_list_and_of_a_stream() -> None:
    from convec.models._word2vec_corpus import open_corpus

    sentences = [[str(index)] for index in range(10)]
    words = [str(index) for index in range(10)]
    vocabulary = _core.Vocabulary(words, np.ones(10, np.int64))

    class Stream:
        def __iter__(self) -> Any:
            return iter(sentences)

    for given in (sentences, Stream()):
        corpus = open_corpus(given, None, passes=2, what="sentences")
        found = []
        for index in range(3):
            report: Any = type("Report", (), {"update": lambda *_: None})()
            found += corpus.part(index, 3).encode(vocabulary, report).tokens().tolist()
        assert sorted(token for token in found if token >= 0) == list(range(10))


def test_arguments_are_checked() -> None:
    for name in ("sync_words", "sync_rows"):
        with pytest.raises(ValueError, match=name):
            Word2Vec(**{name: 0})
