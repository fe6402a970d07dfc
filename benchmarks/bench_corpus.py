"""From text to words and ids: convec counts and encodes, gensim's build_vocab counts.

    python benchmarks/bench_corpus.py --corpus text.txt --peers-python ~/peers/bin/python --json corpus.json

Without --corpus the text is made up: words by Zipf's law, 17 to a line. Before anything is measured, the libraries'
vocabularies are compared.
"""

from __future__ import annotations

import pathlib

import harness
import numpy as np

PEERS = ("gensim",)
MIN_COUNT = 5


def make_up_text(path: pathlib.Path, words: int) -> None:
    """Words w0, w1, ... with frequencies that fall as 1 / rank, on the whole 6 bytes long."""
    generator = np.random.default_rng(0)
    names = np.array([f"w{number}" for number in range(200_000)])
    with path.open("w") as file:
        for begin in range(0, words, 1_700_000):
            count = min(1_700_000, words - begin)
            ranks = np.exp(generator.random(count) * np.log(len(names))).astype(np.int64)
            chosen = names[np.minimum(ranks, len(names)) - 1]
            for line in range(0, count, 17):
                print(*chosen[line : line + 17], file=file)


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Counting and encoding text.")
    parser.add_argument("--corpus", metavar="FILE", help="a text file, one sentence a line (default: made up)")
    options = parser.parse_args(argv)
    rounds = options.rounds or (2 if options.quick else 5)
    report = harness.Report("corpus", options.threads)
    with harness.temporary_folder() as folder:
        path = options.corpus
        if path is None:
            made_up = pathlib.Path(folder) / "text.txt"
            make_up_text(made_up, 2_000_000 if options.quick else 17_000_000)
            path = str(made_up)
        arguments = {"path": path, "min_count": MIN_COUNT}
        workers = harness.start(options, PEERS, report, kind="corpus")
        # The peak is that of one build_vocab: nothing else has run yet.
        for worker in workers:
            before = worker.ask("peak_memory")
            worker.ask("build_vocab", **arguments)
            grown = worker.ask("peak_memory") - before
            report.add("build_vocab", worker.label, [grown], "MB, growth of the peak memory", lower_is_better=True)
        answers = {worker.label: worker.ask("answer", **arguments) for worker in workers}
        if any(answer != answers["convec"] for answer in answers.values()):
            raise SystemExit(f"the libraries count differently: {answers}")
        words = answers["convec"][2]
        size = pathlib.Path(path).stat().st_size
        print(f"{size / 1e6:.1f} MB, {words:,} words, {answers['convec'][0]:,} in the vocabulary", flush=True)
        for function, more in (("build_vocab", {}), ("encode", {}), ("build_vocab_lists", {"lines": 200_000})):
            for worker, runs in harness.alternate(workers, rounds, function, **arguments, **more).items():
                report.add(function, worker.label, runs, "s", lower_is_better=True)
        for worker in workers:
            worker.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
