"""Word2Vec on a CUDA device: training speed, against convec's own CPU trainer and gensim on the same machine.

    python benchmarks/bench_word2vec_cuda.py --peers-python ~/peers/bin/python
    python benchmarks/bench_word2vec_cuda.py --concurrency 500,1000,2000,4000 --only skip-gram,128,50000
    python benchmarks/bench_word2vec_cuda.py --emulated     # no GPU: a tiny text, to see that it runs

The text is synthetic: words by Zipf's law, in sentences of 20, drawn on the device where CuPy is installed, and kept in
device memory over the epochs (``--streamed`` leaves it on the host). Raw words are those of the text, trained words
those that sub-sampling leaves; a training of one epoch goes before those that are timed. The quality of the vectors is
measured by ``bench_word2vec.py --quality --device cpu,cuda``, with several ``--concurrency``.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import pathlib
import statistics
import sys
import time
from typing import Any

import convec
import harness
import numpy as np
import numpy.typing as npt
from convec import _core, _device

PEERS = ("gensim",)
SENTENCE = 20
# architecture, vector size, vocabulary
CASES = (
    ("skip-gram", 128, 50_000),
    ("skip-gram", 300, 50_000),
    ("skip-gram", 128, 550_000),
    ("CBOW", 128, 50_000),
    ("CBOW", 300, 50_000),
)
# Random numbers in double precision that are held at a time.
DRAWN_AT_ONCE = 16_000_000
# What the words of a text in ids are cut to where a slower trainer is timed, too.
CPU_WORDS = 8_000_000
TEXT_WORDS = 3_000_000


def array_module(emulated: bool) -> Any:
    """CuPy, by which ids are made on the device, or NumPy."""
    if emulated:
        return np
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        print(
            f"CuPy is missing ({error}), so that ids are made on the host, slowly: pip install cupy-cuda13x", flush=True
        )
        return np


def zipf(vocabulary: int, words: int, xp: Any = np) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Ids of a text, each sentence followed by -1, and how often each occurs (at least once).

    Drawn by the inverse of the cumulative distribution, with NumPy or, on the current device, CuPy as ``xp``. The ids
    are returned in the host's memory, where the other trainers want them.
    """
    shares = xp.cumsum(1.0 / xp.arange(1, vocabulary + 1))
    random = xp.random.default_rng(1)
    drawn = xp.empty(words, xp.int32)
    for first in range(0, words, DRAWN_AT_ONCE):
        part = drawn[first : first + DRAWN_AT_ONCE]
        part[...] = xp.searchsorted(shares, random.random(len(part)) * shares[-1])
    # Rounding may lead past the last word.
    drawn = xp.minimum(drawn, xp.int32(vocabulary - 1))
    counts = np.maximum(to_host(xp.bincount(drawn, minlength=vocabulary)), 1)
    # Numbered by falling count, as a vocabulary is.
    order = np.argsort(-counts, kind="stable")
    number = np.empty(vocabulary, np.int32)
    number[order] = np.arange(vocabulary, dtype=np.int32)
    sentences = -(-words // SENTENCE)
    padded = xp.full(sentences * SENTENCE, -1, xp.int32)
    padded[:words] = xp.asarray(number)[drawn]
    text = xp.full((sentences, SENTENCE + 1), -1, xp.int32)
    text[:, :SENTENCE] = padded.reshape(sentences, SENTENCE)
    ids = to_host(text).reshape(-1)
    if xp is not np:
        del shares, drawn, padded, text
        xp.get_default_memory_pool().free_all_blocks()  # the trainer's from now on
    return ids, counts[order].astype(np.int64)


def to_host(array: Any) -> npt.NDArray[Any]:
    """NumPy's array of one of NumPy or CuPy."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def trainer_of(counts: npt.NDArray[np.int64], name: str, size: int) -> _core.Word2VecTrainer:
    return _core.Word2VecTrainer(
        counts, vector_size=size, sg=name == "skip-gram", hs=False, negative=5, window=5, shrink_windows=True,
        cbow_mean=True, seed=1, sample=1e-3, ns_exponent=0.75,
    )  # fmt: skip


def time_training(train: Any, words: int, rounds: int) -> tuple[list[float], list[float]]:
    """Millions of raw and of trained words a second."""
    train(epoch=0)
    raw, trained = [], []
    for epoch in range(1, rounds + 1):
        start = time.perf_counter()
        result = train(epoch=epoch)
        seconds = time.perf_counter() - start
        raw.append(words / seconds / 1e6)
        trained.append(result["trained_words"] / seconds / 1e6)
    return raw, trained


def measure_device(
    report: harness.Report, options: argparse.Namespace, case: str, name: str, size: int,
    tokens: npt.NDArray[np.int32], counts: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    cuda = _device.load_cuda()
    words = int((tokens >= 0).sum())
    index = convec.device(options.device).index
    for tables in options.tables.split(","):
        for concurrency in [int(number) for number in options.concurrency.split(",")]:
            resident = 0 if options.streamed else -1
            there = cuda.Word2VecTables(
                trainer_of(counts, name, size), device=index, tables=tables, concurrency=concurrency,
                resident_bytes=resident,
            )  # fmt: skip
            ids = cuda.Word2VecIds(there, tokens)
            if not ids.resident and not options.streamed:
                print(f"{case}: the text does not fit into device memory and is streamed", flush=True)

            def train(epoch: int, there: Any = there, ids: Any = ids) -> dict[str, Any]:
                result: dict[str, Any] = there.train(ids, epoch=epoch)
                return result

            raw, trained = time_training(train, words, options.rounds or (1 if options.quick else 5))
            label = f"convec, CUDA, {tables}" + (f", {concurrency} teams" if concurrency else "")
            # At once: what comes later may not end in time.
            speeds = f"{statistics.median(raw):.1f} M raw words/s, {statistics.median(trained):.1f} trained"
            print(f"{case}: {label}: {speeds}", flush=True)
            more = {"teams": there.concurrency, "resident": ids.resident}
            report.add(f"{case}: raw", label, raw, "M words/s", lower_is_better=False, **more)
            report.add(f"{case}: trained", label, trained, "M words/s", lower_is_better=False, **more)


def measure_processor(
    report: harness.Report, options: argparse.Namespace, case: str, name: str, size: int,
    tokens: npt.NDArray[np.int32], counts: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    trainer = trainer_of(counts, name, size)
    part = tokens[: CPU_WORDS // SENTENCE * (SENTENCE + 1)]
    words = int((part >= 0).sum())
    raw, trained = time_training(
        lambda epoch: trainer.train(part, epoch=epoch, workers=options.threads), words, 1 if options.quick else 3
    )
    label = f"convec, CPU, {options.threads} threads"
    report.add(f"{case}: raw", label, raw, "M words/s", lower_is_better=False)
    report.add(f"{case}: trained", label, trained, "M words/s", lower_is_better=False)


def measure_peers(
    workers: list[harness.Worker], report: harness.Report, options: argparse.Namespace, case: str, name: str, size: int,
    tokens: npt.NDArray[np.int32], folder: str,
) -> None:  # fmt: skip
    path = pathlib.Path(folder) / "text.txt"
    lines = tokens[: TEXT_WORDS // SENTENCE * (SENTENCE + 1)].reshape(-1, SENTENCE + 1)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(" ".join(f"w{word}" for word in line if word >= 0) + "\n" for line in lines.tolist())
    for worker in workers:
        runs = [
            worker.ask(
                "train", corpus=str(path), workers=options.threads, sg=int(name == "skip-gram"), vector_size=size,
                window=5, negative=5, sample=1e-3, min_count=1, epochs=1, seed=1,
            ) / 1e6
            for _ in range(1 if options.quick else 3)
        ]  # fmt: skip
        report.add(f"{case}: raw", worker.label, runs, "M words/s", lower_is_better=False)


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Word2Vec on a CUDA device: words/s.")
    parser.add_argument("--device", default="cuda", help="which (cuda)")
    parser.add_argument("--words", type=int, default=100_000_000, help="of the text (100,000,000)")
    parser.add_argument("--tables", default="float32", help="element types, e.g. 'float32,bfloat16' (float32)")
    parser.add_argument("--concurrency", default="0", help="teams, e.g. '1000,2000' (0: convec's choice)")
    parser.add_argument("--streamed", action="store_true", help="leave the text in the host's memory")
    parser.add_argument("--emulated", action="store_true", help="a tiny text on the emulated device of the tests")
    parser.add_argument("--only", metavar="CASES", help="e.g. 'skip-gram,128,50000;CBOW,128,50000'")
    options = parser.parse_args(argv)
    convec.set_num_threads(options.threads)
    report = harness.Report("word2vec_cuda", options.threads)
    # convec itself is timed in this process: the device's memory is its alone.
    report.versions["convec"] = convec.__version__
    workers = harness.start(options, PEERS, report, kind="words", own=False)
    with contextlib.ExitStack() as stack:
        if options.emulated:
            sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "python"))
            stack.enter_context(__import__("emulated_cuda").emulated_cuda())
            options.words, options.quick = 2000, True
        index = convec.device(options.device).index
        xp = array_module(options.emulated)
        if xp is not np:
            stack.enter_context(xp.cuda.Device(index))
        folder = stack.enter_context(harness.temporary_folder())
        for name, size, vocabulary in CASES:
            if options.only and f"{name},{size},{vocabulary}" not in options.only.split(";"):
                continue
            case = f"{name}, {size}, {vocabulary:,} words"
            tokens, counts = zipf(vocabulary, options.words, xp)
            measure_device(report, options, case, name, size, tokens, counts)
            if options.json:
                report.save(options.json)
            measure_processor(report, options, case, name, size, tokens, counts)
            measure_peers(workers, report, options, case, name, size, tokens, folder)
            if options.json:
                report.save(options.json)
    for worker in workers:
        worker.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
