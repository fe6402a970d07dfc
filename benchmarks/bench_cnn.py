"""The seed model (the classic Keras MNIST network) on Fashion-MNIST: training, inference and accuracy.

    python benchmarks/bench_cnn.py --data FOLDER --peers-python ~/peers/bin/python --json cnn.json
    python benchmarks/bench_cnn.py --data FOLDER --accuracy 3

FOLDER holds the four files of Fashion-MNIST; without it, the sample in the package is used. Training is measured
through each library's own way to fit a model; the peers' weights are set to convec's, and their predictions compared,
before inference is measured.
"""

from __future__ import annotations

import argparse
import statistics

import harness
import numpy as np
from convec import datasets

PEERS = ("torch", "keras", "onnxruntime")
BATCH = 32


def load_data(folder: str | None) -> dict[str, np.ndarray]:
    if folder is None:
        (x_train, y_train), (x_test, y_test) = datasets.load_sample()
    else:
        (x_train, y_train), (x_test, y_test) = datasets.fashion_mnist.load_data(folder)

    def scaled(images: np.ndarray) -> np.ndarray:
        return images[..., np.newaxis].astype(np.float32) / np.float32(255)

    return {"x_train": scaled(x_train), "y_train": y_train, "x_test": scaled(x_test), "y_test": y_test}


def measure_training(workers: list[harness.Worker], report: harness.Report, images: int, rounds: int) -> None:
    runs = harness.alternate(workers, rounds + 1, "train", batch=BATCH)
    for worker, seconds in runs.items():
        # The first epoch traces, tunes and allocates.
        report.add(
            f"training, batch {BATCH}, {images:,} images", worker.label, seconds[1:], "s an epoch", lower_is_better=True
        )


def measure_inference(workers: list[harness.Worker], report: harness.Report, rounds: int, seconds: float) -> None:
    weights = workers[0].ask("weights")
    expected = np.array(workers[0].ask("predict", count=64))
    for worker in workers[1:]:
        worker.ask("set_weights", weights=weights)
        difference = np.abs(np.array(worker.ask("predict", count=64)) - expected).max()
        if not difference < 1e-3:
            raise SystemExit(f"{worker.label} predicts something else than convec: {difference:.1e} away")
    for batch in (1, 32, 256):
        for worker, rates in harness.alternate(workers, rounds, "infer", batch=batch, seconds=seconds).items():
            report.add(f"inference, batch {batch}", worker.label, rates, "images/s", lower_is_better=False)


def measure_accuracy(workers: list[harness.Worker], report: harness.Report, data: str, seeds: int, epochs: int) -> None:
    for worker in workers:
        if worker.library == "onnxruntime":
            continue
        accuracies = []
        for seed in range(seeds):
            worker.ask("build", data=data, seed=seed)
            for _ in range(epochs):
                worker.ask("train", batch=BATCH)
            accuracies.append(worker.ask("accuracy"))
        report.add(
            f"test accuracy after {epochs} epochs, {seeds} seeds", worker.label, accuracies, "accuracy",
            lower_is_better=False, mean=statistics.fmean(accuracies),
        )  # fmt: skip
        print(f"{worker.label}: mean {statistics.fmean(accuracies):.4f}, {accuracies}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Training and inference of the seed model.")
    parser.add_argument("--data", metavar="FOLDER", help="the four files of Fashion-MNIST (default: the sample)")
    parser.add_argument("--accuracy", metavar="SEEDS", type=int, default=0, help="compare accuracy instead of speed")
    parser.add_argument("--epochs", type=int, default=5, help="epochs before accuracy is compared (5)")
    parser.add_argument(
        "--memory", choices=("fresh", "both"), default="fresh",
        help="both: also PyTorch with an allocator that keeps freed memory, which its users have to set up (fresh)",
    )  # fmt: skip
    options: argparse.Namespace = parser.parse_args(argv)
    rounds = options.rounds or (1 if options.quick else 3)

    report = harness.Report("cnn", options.threads)
    arrays = load_data(options.data)
    with harness.temporary_folder() as folder:
        data = harness.save_arrays(folder, "data", arrays)
        workers = harness.start(options, PEERS, report)
        if options.memory == "both" and not options.accuracy:
            workers += harness.start(options, ["torch"], report, kept=True, own=False)
        try:
            if options.accuracy:
                measure_accuracy(workers, report, data, options.accuracy, options.epochs)
            else:
                for worker in workers:
                    worker.ask("build", data=data, seed=0)
                measure_training(workers, report, len(arrays["x_train"]), rounds)
                measure_inference(workers, report, rounds, 0.5 if options.quick else 2.0)
        finally:
            for worker in workers:
                worker.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
