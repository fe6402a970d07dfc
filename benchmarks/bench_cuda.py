"""convec on an NVIDIA GPU against PyTorch (cuDNN, cuBLAS), JAX and CuPy, all in one process on one device.

    python benchmarks/bench_cuda.py --json cuda.json
    python benchmarks/bench_cuda.py --emulated        # no GPU: tiny shapes on the emulated device, to see that it runs

A peer that is not installed is left out and named. Times are wall-clock over repeated calls with one synchronisation at
the end, medians of the rounds, which alternate between the libraries. Everything is NHWC and float32; what PyTorch does
in TF32 or bfloat16 is named so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import convec
import numpy as np
from convec import _core, _device, layers, ops

# (height and width, channels, filters, kernel, stride) of ResNet-50, one of each.
RESNET50 = (
    (224, 3, 64, 7, 2), (56, 64, 64, 1, 1), (56, 64, 64, 3, 1), (56, 64, 256, 1, 1), (56, 256, 128, 1, 1),
    (56, 128, 128, 3, 2), (28, 128, 512, 1, 1), (28, 512, 256, 1, 1), (28, 256, 256, 3, 2), (14, 256, 1024, 1, 1),
    (14, 1024, 512, 1, 1), (14, 512, 512, 3, 2), (7, 512, 2048, 1, 1), (7, 512, 512, 3, 1),
)  # fmt: skip


class Bench:
    """Rows of (what, library, seconds), and how the device is waited for."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self.rounds = rounds
        self.seconds = seconds
        self.rows: list[dict[str, Any]] = []
        self._flag = _device.DeviceArray((1,))

    def wait(self) -> None:
        """Until all work of the default stream is done."""
        self._flag.get()

    def once(self, call: Callable[[], Any], wait: Callable[[], Any], times: int) -> float:
        """Seconds a call, of `times` calls and one wait."""
        start = time.perf_counter()
        for _ in range(times):
            call()
        wait()
        return (time.perf_counter() - start) / times

    def compare(self, what: str, calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]], **facts: Any) -> None:
        """Times each library's call, alternating; a call that fails is reported and left out."""
        times = {}
        for library, (call, wait) in list(calls.items()):
            try:
                for _ in range(3):
                    call()
                wait()
                times[library] = max(1, int(self.seconds / max(self.once(call, wait, 1), 1e-6)))
            except Exception as error:  # a peer must not end the run
                print(f"{what}: {library} failed: {str(error).splitlines()[0] if str(error) else error!r}", flush=True)
                del calls[library]
        found: dict[str, list[float]] = {library: [] for library in calls}
        for _ in range(self.rounds):
            for library, (call, wait) in calls.items():
                found[library].append(self.once(call, wait, times[library]))
        for library, seconds in found.items():
            row = {"what": what, "library": library, "seconds": statistics.median(seconds), "rounds": seconds} | facts
            self.rows.append(row)
            print(f"{what:<44} {library:<28} {row['seconds'] * 1e6:12.1f} us", flush=True)


def peers() -> dict[str, Any]:
    found = {}
    for name in ("torch", "jax", "cupy"):
        try:
            found[name] = __import__(name)
        except ImportError as error:
            print(f"{name} is left out: {error}")
    if "torch" in found and not found["torch"].cuda.is_available():
        print("torch is left out: it sees no CUDA device")
        del found["torch"]
    return found


# ---- The seed network ----------------------------------------------------------------------------------------------


def seed_model() -> convec.Sequential:
    model = convec.Sequential(
        [
            convec.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2), layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10, activation="softmax"),
        ]
    )  # fmt: skip
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def torch_seed(torch: Any) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
    ).cuda()  # fmt: skip


def torch_steps(torch: Any, batch: int) -> Iterator[tuple[str, Callable[[], Any]]]:
    """A training step by name: eager, compiled, and as one captured graph."""
    x = torch.randn(batch, 1, 28, 28, device="cuda")
    y = torch.randint(0, 10, (batch,), device="cuda")
    loss_of = torch.nn.CrossEntropyLoss()

    def make(graph: bool) -> tuple[Callable[[], Any], Any]:
        model = torch_seed(torch)
        optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=graph)

        def step() -> None:
            optimizer.zero_grad(set_to_none=not graph)
            loss_of(model(x), y).backward()
            optimizer.step()

        return step, model

    yield "torch eager", make(False)[0]
    yield "torch.compile reduce-overhead", torch.compile(make(False)[0], mode="reduce-overhead")
    step, _ = make(True)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    yield "torch whole-step CUDA graph", graph.replay


def jax_epoch(jax: Any, batch: int, steps: int) -> Callable[[], Any]:
    """An epoch of the same training in one jitted scan."""
    jnp, lax = jax.numpy, jax.lax
    keys = jax.random.split(jax.random.PRNGKey(0), 5)
    shapes = ((3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 64), (576, 64), (64, 10))
    weights = [jax.random.normal(k, s) * 0.05 for k, s in zip(keys, shapes, strict=True)]
    biases = [jnp.zeros(s[-1]) for s in shapes]
    parameters = (weights, biases)
    zeros = jax.tree_util.tree_map(jnp.zeros_like, parameters)
    x = jax.random.normal(keys[0], (steps, batch, 28, 28, 1))
    y = jax.random.randint(keys[1], (steps, batch), 0, 10)

    def conv(a: Any, w: Any, b: Any) -> Any:
        return jax.nn.relu(
            lax.conv_general_dilated(a, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b
        )

    def pool(a: Any) -> Any:
        return lax.reduce_window(a, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def loss_of(p: Any, a: Any, t: Any) -> Any:
        w, b = p
        a = pool(conv(a, w[0], b[0]))
        a = pool(conv(a, w[1], b[1]))
        a = conv(a, w[2], b[2]).reshape(batch, -1)
        a = jax.nn.relu(a @ w[3] + b[3]) @ w[4] + b[4]
        return -jnp.mean(jax.nn.log_softmax(a)[jnp.arange(batch), t])

    def step(carry: Any, data: Any) -> tuple[Any, Any]:
        p, m, v, n = carry
        loss, g = jax.value_and_grad(loss_of)(p, *data)
        tree = jax.tree_util.tree_map
        m = tree(lambda a, b: 0.9 * a + 0.1 * b, m, g)
        v = tree(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**n) / (1 - 0.9**n)
        p = tree(lambda a, b, c: a - rate * b / (jnp.sqrt(c) + 1e-7), p, m, v)
        return (p, m, v, n + 1), loss

    epoch = jax.jit(lambda: lax.scan(step, (parameters, zeros, zeros, 1.0), (x, y))[1])
    return lambda: epoch().block_until_ready()


def bench_seed(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    batch, steps = (4, 3) if tiny else (32, 500)
    rng = np.random.default_rng(0)
    network = seed_model().to("cuda:0")._built()
    x = _device.DeviceArray.of(rng.standard_normal((batch * steps, 28, 28, 1), dtype=np.float32))
    y = _device.DeviceArray.of(rng.integers(0, 10, batch * steps))
    order = rng.permutation(batch * steps)
    calls: dict[str, Any] = {"convec": (lambda: network.train_epoch(x, y, batch_size=batch, order=order), lambda: None)}
    what = f"seed CNN, {steps} training steps, batch {batch}"
    if "torch" in found:
        torch = found["torch"]
        try:
            for name, step in torch_steps(torch, batch):
                calls[name] = (lambda step=step: [step() for _ in range(steps)] and None, torch.cuda.synchronize)
        except Exception as error:
            print(f"{what}: torch failed: {error}")
    if "jax" in found:
        calls["jax jit, lax.scan"] = (jax_epoch(found["jax"], batch, steps), lambda: None)
    bench.compare(what, calls, steps=steps)


# ---- Ops -----------------------------------------------------------------------------------------------------------


def bench_convolutions(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    for shape in ((6, 4, 8, 3, 1),) if tiny else RESNET50:
        bench_convolution(bench, found, 1 if tiny else 32, *shape)


def bench_convolution(
    bench: Bench, found: dict[str, Any], batch: int, extent: int, channels: int, filters: int, kernel: int, stride: int
) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, extent, extent, channels), dtype=np.float32)
    w = rng.standard_normal((kernel, kernel, channels, filters), dtype=np.float32)
    pad = kernel // 2
    options: dict[str, Any] = {"strides": stride, "padding": ((pad, pad), (pad, pad))}
    out = (extent + 2 * pad - kernel) // stride + 1
    g = rng.standard_normal((batch, out, out, filters), dtype=np.float32)
    dx, dw, dg = (_device.DeviceArray.of(a) for a in (x, w, g))
    y, grad = _device.DeviceArray(g.shape), _device.DeviceArray(x.shape)
    calls: dict[str, dict[str, Any]] = {
        "forward": {"convec": lambda: ops.conv2d(dx, dw, out=y, **options)},
        "backward input": {"convec": lambda: ops.conv2d_backward_input(dg, dw, x.shape, out=grad, **options)},
        "backward filters": {"convec": lambda: ops.conv2d_backward_filters(dx, dg, kernel, **options)},
    }
    if "torch" in found:
        add_torch_convolutions(found["torch"], calls, x, w, g, stride, pad)
    for direction, by_library in calls.items():
        waits = {name: bench.wait if name == "convec" else found["torch"].cuda.synchronize for name in by_library}
        bench.compare(
            f"conv {extent}x{extent}x{channels} {kernel}x{kernel}/{stride} {filters}, {direction}",
            {name: (call, waits[name]) for name, call in by_library.items()},
            flops=2 * g.size * kernel * kernel * channels,
        )


def add_torch_convolutions(
    torch: Any, calls: dict[str, dict[str, Any]], x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: int, pad: int
) -> None:
    torch.backends.cudnn.benchmark = True
    for label, dtype, tf32 in (
        ("cuDNN float32", torch.float32, False),
        ("cuDNN TF32", torch.float32, True),
        ("cuDNN bfloat16", torch.bfloat16, False),
    ):
        for direction, call in torch_convolution(torch, dtype, tf32, x, w, g, stride, pad).items():
            calls[direction][label] = call


def torch_convolution(
    torch: Any, dtype: Any, tf32: bool, x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: int, pad: int
) -> dict[str, Callable[[], Any]]:
    def on_gpu(array: np.ndarray, axes: tuple[int, ...]) -> Any:
        tensor = torch.from_numpy(array).cuda().permute(*axes).to(dtype)
        return tensor.contiguous(memory_format=torch.channels_last)

    tx, tw, tg = on_gpu(x, (0, 3, 1, 2)), on_gpu(w, (3, 2, 0, 1)), on_gpu(g, (0, 3, 1, 2))

    def forward() -> None:
        torch.backends.cudnn.allow_tf32 = tf32
        torch.nn.functional.conv2d(tx, tw, stride=stride, padding=pad)

    def backward(mask: list[bool]) -> None:
        torch.backends.cudnn.allow_tf32 = tf32
        torch.ops.aten.convolution_backward(tg, tx, tw, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, mask)

    return {
        "forward": forward,
        "backward input": lambda: backward([True, False, False]),
        "backward filters": lambda: backward([False, True, False]),
    }


def bench_bandwidth(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    rng = np.random.default_rng(2)
    torch = found.get("torch")
    sync = None if torch is None else torch.cuda.synchronize
    size = 2000 if tiny else 64 << 20
    if "cupy" in found:
        a = found["cupy"].zeros(size, "float32")
        b = found["cupy"].zeros(size, "float32")
        bench.compare("device copy", {"cupy": (lambda: found["cupy"].copyto(b, a), bench.wait)}, bytes=8 * size)
    shape = (2, 8, 8, 4) if tiny else (64, 112, 112, 64)
    x = _device.DeviceArray.of(rng.standard_normal(shape, dtype=np.float32))
    pooled = _device.DeviceArray((shape[0], shape[1] // 2, shape[2] // 2, shape[3]))
    calls: dict[str, Any] = {"convec": (lambda: ops.max_pool2d(x, 2, out=pooled), bench.wait)}
    if torch is not None:
        tx = torch.from_numpy(x.get()).cuda().permute(0, 3, 1, 2)
        calls["torch"] = (lambda: torch.nn.functional.max_pool2d(tx, 2), sync)
    bench.compare("max_pool2d 2x2", calls, bytes=5 * x.get().nbytes // 4)

    rows, classes = (8, 10) if tiny else (65536, 1000)
    logits = rng.standard_normal((rows, classes), dtype=np.float32)
    labels = rng.integers(0, classes, rows)
    dl, dt = _device.DeviceArray.of(logits), _device.DeviceArray.of(labels)
    loss = _device.DeviceArray((rows,))
    calls = {"convec": (lambda: ops.softmax_cross_entropy(dl, dt, out=loss), bench.wait)}
    if torch is not None:
        tl, tt = torch.from_numpy(logits).cuda(), torch.from_numpy(labels).cuda()
        calls["torch"] = (lambda: torch.nn.functional.cross_entropy(tl, tt, reduction="none"), sync)
    bench.compare("softmax cross-entropy (labels checked)", calls, bytes=logits.nbytes)

    parameter, gradient, m, v = (_device.DeviceArray((size,)) for _ in range(4))
    calls = {"convec": (lambda: ops.optimizer_step("adam", parameter, gradient, [m, v], iteration=3), bench.wait)}
    if torch is not None:
        tp = torch.zeros(size, device="cuda", requires_grad=True)
        tp.grad = torch.zeros_like(tp)
        calls["torch fused"] = (torch.optim.Adam([tp], fused=True).step, sync)
    bench.compare("Adam", calls, bytes=28 * size)


def bench_dense(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    rng = np.random.default_rng(3)
    for batch, inputs, units in ((3, 8, 5),) if tiny else ((32, 576, 64), (256, 1024, 1024), (4096, 4096, 4096)):
        x, w, g = (
            _device.DeviceArray.of(rng.standard_normal(s, dtype=np.float32))
            for s in ((batch, inputs), (inputs, units), (batch, units))
        )
        y, dx = _device.DeviceArray((batch, units)), _device.DeviceArray((batch, inputs))

        def own(x: Any = x, w: Any = w, g: Any = g, y: Any = y, dx: Any = dx) -> None:
            ops.dense(x, w, out=y)
            ops.dense_backward_input(g, w, out=dx)
            ops.dense_backward_weights(x, g)

        calls: dict[str, Any] = {"convec": (own, bench.wait)}
        if "torch" in found:
            torch = found["torch"]
            tx, tw, tg = (torch.from_numpy(a.get()).cuda() for a in (x, w, g))

            def theirs(tx: Any = tx, tw: Any = tw, tg: Any = tg, torch: Any = torch) -> None:
                torch.mm(tx, tw)
                torch.mm(tg, tw.t())
                torch.mm(tx.t(), tg)
                tg.sum(0)

            calls["torch float32"] = (theirs, torch.cuda.synchronize)
        bench.compare(f"dense {batch}x{inputs}x{units}, all three", calls, flops=6 * batch * inputs * units)


# ---- The table -----------------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]], device: str) -> None:
    print(f"\n{device}\n{'what':<44} {'library':<28} {'us':>12} {'GB/s':>8} {'TFLOP/s':>8} {'convec is':>10}")
    own = {row["what"]: row["seconds"] for row in rows if row["library"] == "convec"}
    for row in rows:
        seconds = row["seconds"]
        rate = f"{row['bytes'] / seconds / 1e9:.0f}" if "bytes" in row else ""
        flops = f"{row['flops'] / seconds / 1e12:.1f}" if "flops" in row else ""
        each = seconds / row.get("steps", 1)
        compared = row["library"] != "convec" and row["what"] in own
        factor = f"{seconds / own[row['what']]:.2f}x" if compared else ""
        print(f"{row['what']:<44} {row['library']:<28} {each * 1e6:12.1f} {rate:>8} {flops:>8} {factor:>10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a round for each library (0.1)")
    parser.add_argument("--emulated", action="store_true", help="tiny shapes on the emulated device of the tests")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        found: dict[str, Any] = {}
        if options.emulated:
            sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "python"))
            stack.enter_context(__import__("emulated_cuda").emulated_cuda())
        else:
            convec.device("cuda:0")
            found = peers()
            if "torch" in found:
                found["torch"].backends.cuda.matmul.allow_tf32 = False
        bench = Bench(1 if options.emulated else options.rounds, 0.0 if options.emulated else options.seconds)
        for part in (bench_seed, bench_bandwidth, bench_dense, bench_convolutions):
            part(bench, found, options.emulated)
        device = _device.describe_cuda()[0]
        if options.json:
            versions = {name: module.__version__ for name, module in found.items()} | {"convec": convec.__version__}
            report = {"device": device, "versions": versions, "rows": bench.rows, "isa": _core.current_isa()}
            pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
        table(bench.rows, device)


if __name__ == "__main__":
    main()
