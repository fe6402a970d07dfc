"""Runs the benchmarks one after the other: ``python benchmarks/run.py [--quick] [--only NAMES] [--output FOLDER]``.

What is not listed here goes to each of them, e.g. ``--threads 2 --peers-python ~/peers/bin/python``.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib

BENCHMARKS = ("cnn", "ops", "corpus", "word2vec", "vectors", "import", "first_prediction", "distributed")


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the benchmarks; further options go to each of them.")
    parser.add_argument("--only", metavar="NAMES", help=f"some of: {','.join(BENCHMARKS)}")
    parser.add_argument("--output", metavar="FOLDER", help="write <FOLDER>/<benchmark>.json")
    parser.add_argument("--data", metavar="FOLDER", help="the four files of Fashion-MNIST (default: the sample)")
    parser.add_argument("--corpus", metavar="FILE", help="text for corpus and word2vec, one sentence a line")
    options, rest = parser.parse_known_args()
    wanted = options.only.split(",") if options.only else BENCHMARKS
    unknown = sorted(set(wanted) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    if options.output:
        pathlib.Path(options.output).mkdir(parents=True, exist_ok=True)
    for name in wanted:
        print(f"\n== {name}", flush=True)
        arguments = list(rest)
        if options.output:
            arguments += ["--json", str(pathlib.Path(options.output) / f"{name}.json")]
        if options.data and name == "cnn":
            arguments += ["--data", options.data]
        if options.corpus and name in ("corpus", "word2vec"):
            arguments += ["--corpus", options.corpus]
        importlib.import_module(f"bench_{name}").main(arguments)


if __name__ == "__main__":
    main()
