"""Word2Vec: training speed, and the quality of the vectors, against gensim and pWord2Vec.

    python benchmarks/bench_word2vec.py --corpus text.txt --peers-python ~/peers/bin/python
    python benchmarks/bench_word2vec.py --corpus text.txt --quality --epochs 5 --seeds 3
    python benchmarks/bench_word2vec.py --corpus text.txt --quality --epochs 5 --device cpu,cuda --concurrency 0,999

The corpus is a text file, one sentence a line, words parted by spaces; without one the text in the package is used,
which is too small for figures to quote. Words/s are the words of the file times the epochs, by the seconds of training
(vocabulary not included), for every library. pWord2Vec is a program: name it by --pword2vec. Qualities are Spearman's
correlation on WordSim-353 and SimLex-999, and the share of right analogies (files of gensim's).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import harness
from convec.models import KeyedVectors

PEERS = ("gensim",)
CASES = (("skip-gram", 1, 100), ("CBOW", 0, 100), ("skip-gram", 1, 300), ("CBOW", 0, 300))


def corpus_file(options: argparse.Namespace, folder: str) -> str:
    if options.corpus:
        return str(options.corpus)
    from convec import datasets

    path = pathlib.Path(folder) / "sample.txt"
    sentences = datasets.load_text_sample()
    path.write_text("\n".join(" ".join(sentence) for sentence in sentences) + "\n", encoding="utf-8")
    return str(path)


def pword2vec(program: str, corpus: str, case: dict[str, Any], threads: int, folder: str) -> float:
    """Words/s as the program prints them (its clock starts after the vocabulary)."""
    command = [
        program, "-train", corpus, "-output", str(pathlib.Path(folder) / "pword2vec.bin"), "-binary", "1",
        "-size", str(case["vector_size"]), "-window", str(case["window"]), "-negative", str(case["negative"]),
        "-sample", str(case["sample"]), "-min-count", str(case["min_count"]), "-iter", str(case["epochs"]),
        "-threads", str(threads), "-batch-size", str(2 * case["window"] + 1),
    ]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return 1000 * float(re.findall(r"Words/sec: ([\d.]+)k", text)[-1])


def measure_speed(
    workers: list[harness.Worker], report: harness.Report, options: argparse.Namespace, corpus: str, folder: str
) -> None:
    rounds = options.rounds or (1 if options.quick else 3)
    alone = [harness.Worker("convec_words", sys.executable, 1) for _ in range(options.threads)]
    for name, sg, size in CASES:
        if options.only and f"{name},{size}" not in options.only.split(";"):
            continue
        case = {"sg": sg, "vector_size": size, "window": 5, "negative": 5, "sample": 1e-3,
                "min_count": options.min_count, "epochs": options.epochs, "seed": 1}  # fmt: skip
        runs: dict[str, list[float]] = {}
        more: dict[str, dict[str, float]] = {}
        for _ in range(rounds):
            for worker in workers:
                speed = worker.ask("train", corpus=corpus, workers=options.threads, **case)
                runs.setdefault(worker.label, []).append(speed / 1e6)
                more[worker.label] = worker.ask("trained")
            for label, threads, precision in (
                ("convec, one thread", 1, "float32"),
                ("convec, float16", options.threads, "float16"),
            ):
                speed = workers[0].ask("train", corpus=corpus, workers=threads, precision=precision, **case)
                runs.setdefault(label, []).append(speed / 1e6)
            if options.threads > 1:
                # What the processors give to jobs that share nothing: the most that threads can bring.
                with ThreadPoolExecutor(options.threads) as pool:
                    jobs = [pool.submit(worker.ask, "train", corpus=corpus, workers=1, **case) for worker in alone]
                    speed = sum(job.result() for job in jobs)
                runs.setdefault(f"convec, {options.threads} jobs of one thread", []).append(speed / 1e6)
            if options.pword2vec and sg:
                speed = pword2vec(options.pword2vec, corpus, case, options.threads, folder)
                runs.setdefault("pWord2Vec", []).append(speed / 1e6)
        for label, speeds in runs.items():
            report.add(f"{name}, {size}", label, speeds, "M words/s", lower_is_better=False, **more.get(label, {}))
    for worker in alone:
        worker.close()


def quality_of(path: str, files: dict[str, str]) -> dict[str, float]:
    vectors = KeyedVectors.load_word2vec_format(path, binary=True)
    return {
        "WordSim-353": float(vectors.evaluate_word_pairs(files["WordSim-353"])[1][0]),
        "SimLex-999": float(vectors.evaluate_word_pairs(files["SimLex-999"])[1][0]),
        "analogies": float(vectors.evaluate_word_analogies(files["analogies"])[0]),
    }


def trainers(options: argparse.Namespace) -> list[tuple[str, dict[str, Any]]]:
    """The ways in which convec trains in --quality: their labels, and what they are asked for."""
    found: list[tuple[str, dict[str, Any]]] = []
    for device in options.device.split(","):
        own = {"precision": options.precision, "device": device}
        if device == "cpu":
            found.append(("convec", own))
            continue
        for number in [int(text) for text in options.concurrency.split(",")]:
            label = f"convec, {device}" + (f", {number} teams" if number else "")
            found.append((label, {**own, "concurrency": number or None}))
    return found


def measure_quality(
    workers: list[harness.Worker], report: harness.Report, options: argparse.Namespace, corpus: str, folder: str
) -> None:
    gensim = next((worker for worker in workers if worker.label == "gensim"), None)
    if gensim is None:
        raise SystemExit("the evaluation files come with gensim, which is not installed: name its --peers-python")
    files = gensim.ask("evaluations")
    output = str(pathlib.Path(folder) / "vectors.bin")
    for name, sg, size in CASES:
        if options.only and f"{name},{size}" not in options.only.split(";"):
            continue
        found: dict[tuple[str, str], list[float]] = {}
        for seed in range(1, options.seeds + 1):
            for worker in workers:
                for label, own in [(worker.label, {"mended": True})] if worker is gensim else trainers(options):
                    worker.ask(
                        "train", corpus=corpus, workers=options.threads, output=output, sg=sg, vector_size=size,
                        window=5, negative=5, sample=1e-3, min_count=options.min_count, epochs=options.epochs,
                        seed=seed, **own,
                    )  # fmt: skip
                    for test, value in quality_of(output, files).items():
                        found.setdefault((test, label), []).append(value)
        for (test, label), values in found.items():
            report.add(
                f"{name}, {size}, {options.epochs} epochs: {test}", label, values, "quality", lower_is_better=False,
                mean=statistics.mean(values), deviation=statistics.stdev(values) if len(values) > 1 else 0.0,
            )  # fmt: skip
            print(json.dumps(report.results[-1]), flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Training of word vectors: words/s, or their quality.")
    parser.add_argument("--corpus", metavar="FILE", help="text, one sentence a line (default: the text in the package)")
    parser.add_argument("--min-count", type=int, default=5, help="as in Word2Vec (5)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the text (1)")
    parser.add_argument("--pword2vec", metavar="PROGRAM", help="pWord2Vec's program")
    parser.add_argument("--quality", action="store_true", help="evaluate the vectors instead of timing")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of --quality (3)")
    parser.add_argument("--precision", default="float32", help="of convec's tables in --quality (float32)")
    parser.add_argument("--device", default="cpu", help="where convec trains in --quality, e.g. 'cpu,cuda' (cpu)")
    parser.add_argument(
        "--concurrency", default="0", help="teams on a CUDA device in --quality, e.g. '0,500,4000' (0: convec's choice)"
    )
    parser.add_argument("--only", metavar="CASES", help="some of the cases, e.g. 'skip-gram,100;CBOW,100'")
    options = parser.parse_args(argv)
    report = harness.Report("word2vec", options.threads)
    workers = harness.start(options, PEERS, report, kind="words")
    with harness.temporary_folder() as folder:
        corpus = corpus_file(options, folder)
        measure = measure_quality if options.quality else measure_speed
        measure(workers, report, options, corpus, folder)
    for worker in workers:
        worker.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
