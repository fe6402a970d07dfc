"""Single operations: convolution layers, pooling, dense, softmax-cross-entropy, optimizer, and the cost of a call.

    python benchmarks/bench_ops.py --peers-python ~/peers/bin/python --json ops.json
    python benchmarks/bench_ops.py --only conv2d --memory kept

A case has the form of those of ``tests/python/cases.py``, and ``--tests PATTERN`` times the tests' own cases. PyTorch's
result is compared with convec's before either is timed. GFLOP/s count the multiplications and additions of the direct
algorithm, whichever is used.

``fresh`` memory is what a plain call costs: results of several megabytes come from the system and every page is touched
for the first time. ``kept`` is with an allocator that keeps what was freed, as in a program that reuses its arrays.
"""

from __future__ import annotations

import argparse
import fnmatch
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

import harness
import numpy as np

sys.path.insert(0, str(harness.HERE.parent / "tests" / "python"))

import cases
from cases import Case, labels_of, normal, uniform

# name: batch, height and width, channels, filters, filter size, stride, padding
LAYERS = {
    "seed model, 1: 3x3 1->32, 28x28": (32, 28, 1, 32, 3, 1, 0),
    "seed model, 2: 3x3 32->64, 13x13": (32, 13, 32, 64, 3, 1, 0),
    "seed model, 3: 3x3 64->64, 5x5": (32, 5, 64, 64, 3, 1, 0),
    "3x3 64->64, 56x56": (16, 56, 64, 64, 3, 1, 1),
    "3x3 128->128, 28x28": (16, 28, 128, 128, 3, 1, 1),
    "3x3 256->256, 14x14": (16, 14, 256, 256, 3, 1, 1),
    "3x3 512->512, 7x7": (16, 7, 512, 512, 3, 1, 1),
    "stem: 7x7/2 3->64, 224x224": (16, 224, 3, 64, 7, 2, 3),
    "1x1 256->64, 56x56": (16, 56, 256, 64, 1, 1, 0),
    "1x1 64->256, 56x56": (16, 56, 64, 256, 1, 1, 0),
    "3x3/2 128->128, 56x56": (16, 56, 128, 128, 3, 2, 1),
}
OVERHEADS = ("relu", "relu, out=", "dense", "softmax", "max_pool2d", "conv2d")


@dataclass(frozen=True)
class Timed:
    """A case, and the floating-point operations of one call (0: report microseconds)."""

    case: Case
    operations: float = 0.0


def conv2d_cases() -> list[Timed]:
    timed = []
    for name, (batch, extent, channels, filters, size, stride, pad) in LAYERS.items():
        out = (extent + 2 * pad - size) // stride + 1
        image, kernel = (batch, extent, extent, channels), (size, size, channels, filters)

        def build(
            rng: np.random.Generator, *wanted: str, image: Any = image, kernel: Any = kernel,
            grad: Any = (batch, out, out, filters),
        ) -> dict[str, Any]:  # fmt: skip
            arrays = {
                "input": normal(rng, *image),
                "filters": normal(rng, *kernel, scale=1 / np.sqrt(np.prod(kernel[:3]))),
                "bias": normal(rng, kernel[3]),
                "grad_output": normal(rng, *grad),
                "input_shape": image,
            }
            return {key: arrays[key] for key in wanted}

        options: dict[str, Any] = {"strides": stride, "padding": [[pad, pad], [pad, pad]]}
        operations = 2.0 * batch * out * out * filters * channels * size * size
        wanted = {
            "conv2d": ("input", "filters", "bias"),
            "conv2d_backward_input": ("grad_output", "filters", "input_shape"),
            "conv2d_backward_filters": ("input", "grad_output"),
            "conv2d_training": ("input", "filters", "bias", "grad_output"),
        }
        for op, keys in wanted.items():
            more = {"kernel_size": [size, size]} if op == "conv2d_backward_filters" else {}
            timed.append(
                Timed(
                    Case(op, name, lambda rng, build=build, keys=keys: build(rng, *keys), options | more),
                    operations * (3 if op == "conv2d_training" else 1),
                )
            )
    return timed


def dense_cases() -> list[Timed]:
    timed = []
    for batch, units_in, units in ((32, 576, 64), (256, 1024, 1024), (64, 4096, 4096)):

        def build(rng: np.random.Generator, n: int = batch, k: int = units_in, m: int = units) -> dict[str, Any]:
            return {"input": normal(rng, n, k), "weights": normal(rng, k, m, scale=1 / np.sqrt(k))}

        name, operations = f"{batch} x {units_in}->{units}", 2.0 * batch * units_in * units
        timed += [
            Timed(
                Case("dense", name, lambda rng, b=build, m=units: b(rng) | {"bias": normal(rng, m)}), operations
            ),
            Timed(
                Case(
                    "dense_backward", name,
                    lambda rng, b=build, n=batch, m=units: {"grad_output": normal(rng, n, m)} | b(rng),
                ),
                2 * operations,
            ),
        ]  # fmt: skip
    return timed


def small_cases() -> list[Timed]:
    timed = []
    for name, shape in (("32 x 26x26x32", (32, 26, 26, 32)), ("16 x 112x112x64", (16, 112, 112, 64))):
        pooled = (shape[0], shape[1] // 2, shape[2] // 2, shape[3])
        for op in ("max_pool2d", "average_pool2d"):

            def image(rng: np.random.Generator, s: Any = shape) -> dict[str, Any]:
                return {"input": normal(rng, *s)}

            timed.append(Timed(Case(op, name, image, {"pool_size": 2})))
            if op == "max_pool2d":
                timed.append(
                    Timed(
                        Case(
                            "max_pool2d_backward", name,
                            lambda rng, i=image, g=pooled: {"grad_output": normal(rng, *g)} | i(rng), {"pool_size": 2},
                        )
                    )
                )  # fmt: skip
    for rows, classes in ((32, 10), (256, 1000)):
        name = f"{rows} x {classes}"
        timed.append(Timed(Case("softmax", name, lambda rng, r=rows, c=classes: {"input": normal(rng, r, c)})))

        def logits(rng: np.random.Generator, r: int = rows, c: int = classes) -> dict[str, Any]:
            return {"logits": normal(rng, r, c), "labels": labels_of(rng, r, c, "int64")}

        timed.append(Timed(Case("softmax_cross_entropy", name, logits, {"from_logits": True})))
        timed.append(
            Timed(
                Case(
                    "softmax_cross_entropy_backward", name,
                    lambda rng, b=logits, r=rows: {"grad_losses": normal(rng, r)} | b(rng), {"from_logits": True},
                )
            )
        )  # fmt: skip
    for size in (93322, 25_000_000):
        timed.append(
            Timed(
                Case(
                    "optimizer_step", f"adam, {size:,} parameters",
                    lambda rng, s=size: {
                        "parameter": normal(rng, s), "gradient": normal(rng, s),
                        "slots": [uniform(rng, 0.2, 1.0, s) for _ in range(2)],
                    },
                    {"optimizer": "adam", "iteration": 3},
                )
            )
        )  # fmt: skip
    return timed


def measure(
    timed: Timed, workers: list[harness.Worker], report: harness.Report, folder: str, rounds: int, seconds: float
) -> None:
    case = timed.case
    data = harness.save_arrays(folder, "case", case.arrays())
    result = str(pathlib.Path(folder) / "result.npz")
    # What an optimizer does in place is compared by the tests.
    check = None if case.op == "optimizer_step" else result
    ready = [
        worker for worker in workers if worker.ask("prepare_op", op=case.op, data=data, options=case.options,
                                                   result=check)
    ]  # fmt: skip
    for worker, times in harness.alternate(ready, rounds, "time_op", seconds=seconds).items():
        name = f"{case.op}, {case.name}"
        if timed.operations:
            rates = [timed.operations / time / 1e9 for time in times]
            report.add(name, worker.label, rates, "GFLOP/s", lower_is_better=False)
        else:
            report.add(name, worker.label, [time * 1e6 for time in times], "us a call", lower_is_better=True)
        print(f"{name}: {worker.label} {report.results[-1]['median']:.4g} {report.results[-1]['unit']}", flush=True)


def main(argv: list[str] | None = None) -> None:
    parser = harness.arguments("Single operations, forward and backward.")
    parser.add_argument(
        "--only", metavar="PATTERN", default="*", help="ops or cases whose name matches, e.g. 'conv2d*'"
    )
    parser.add_argument("--tests", metavar="PATTERN", help="time matching cases of the tests instead, e.g. '*-large'")
    parser.add_argument("--memory", choices=("fresh", "kept", "both"), default="fresh", help="see above (fresh)")
    options: argparse.Namespace = parser.parse_args(argv)
    rounds = options.rounds or 3
    seconds = 0.05 if options.quick else 0.3

    report = harness.Report("ops", options.threads)
    if options.tests is not None:
        chosen = [Timed(case) for case in cases.ALL if fnmatch.fnmatch(case.id, options.tests)]
    else:
        chosen = [
            timed
            for timed in conv2d_cases() + dense_cases() + small_cases()
            if fnmatch.fnmatch(timed.case.op, options.only) or fnmatch.fnmatch(timed.case.id, options.only)
        ]
    with harness.temporary_folder() as folder:
        workers: list[harness.Worker] = []
        if options.memory in ("fresh", "both"):
            workers += harness.start(options, ["torch"], report)
        if options.memory in ("kept", "both"):
            workers += harness.start(options, ["torch"], report, kept=True)
        try:
            for timed in chosen:
                measure(timed, workers, report, folder, rounds, seconds)
            if options.tests is None and fnmatch.fnmatch("call_overhead", options.only):
                for op in OVERHEADS:
                    for worker, times in harness.alternate(
                        workers, rounds, "call_overhead", op=op, seconds=seconds
                    ).items():
                        report.add(f"overhead of {op}", worker.label, times, "us a call", lower_is_better=True)
        finally:
            for worker in workers:
                worker.close()
    report.finish(options.json)


if __name__ == "__main__":
    main()
