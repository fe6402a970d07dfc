"""convec on an NVIDIA GPU against PyTorch (cuDNN, cuBLAS), JAX and CuPy, all in one process on one device.

    python benchmarks/bench_cuda.py --json cuda.json
    python benchmarks/bench_cuda.py --parts seed,dense --json cuda.json
    python benchmarks/bench_cuda.py --table a.json b.json --json both.json   # of figures taken before
    python benchmarks/bench_cuda.py --emulated          # no GPU: tiny shapes, to see that it runs

Emulated, convec runs on the emulated device of its tests, and the peers on the CPU with NumPy in CuPy's place.

A peer that is not installed is left out and named; one that fails has a line that says so. Times are wall-clock over
repeated calls with one synchronisation at the end, medians of the rounds, which alternate between the libraries.
Everything is NHWC and float32 without TF32; what is done in TF32, bfloat16 or another layout is named so:
mixed_bfloat16 multiplies float32 arrays, bfloat16 arrays of that type (and needs ml_dtypes). The file
of figures is written anew after each comparison, so that what ends the run early does not lose them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import pathlib
import signal
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


#: As convec names them: what factors of convolutions and dense layers are rounded to.
PRECISIONS = ("float32", "tf32", "3xtf32", "mixed_bfloat16")


#: Of the rows of tensor cores whose tiles come to shared memory through registers, not by asynchronous copies.
THROUGH_REGISTERS = ", through registers"
#: The rows that a precision is compared with: cuDNN's at the same precision; 3xTF32, whose error is float32's, with
#: float32.
CUDNN = {
    "convec": "cuDNN float32", "convec tf32": "cuDNN TF32", "convec 3xtf32": "cuDNN float32",
    "convec mixed_bfloat16": "cuDNN bfloat16", "convec bfloat16": "cuDNN bfloat16",
    "convec bfloat16, by warpgroups": "cuDNN bfloat16",
}  # fmt: skip


def in_every_precision(call: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """A call of convec's by the name of its row, in float32 and, in both ways, on tensor cores."""
    pipeline_products = _device.load_cuda().pipeline_products

    def run(precision: str, pipelined: bool) -> None:
        convec.set_matmul_precision(precision)
        pipeline_products(pipelined)
        call()
        pipeline_products(True)

    calls = {"convec": functools.partial(run, "float32", True)}
    for precision in PRECISIONS[1:]:
        calls[f"convec {precision}"] = functools.partial(run, precision, True)
        calls[f"convec {precision}{THROUGH_REGISTERS}"] = functools.partial(run, precision, False)
    return calls


def as_bfloat16(*arrays: np.ndarray) -> list[_device.DeviceArray]:
    """Rounded copies on the device, or none where there is no such type."""
    try:
        import ml_dtypes
    except ImportError:
        print("bfloat16 arrays are left out: there is no ml_dtypes", flush=True)
        return []
    return [_device.DeviceArray.of(array.astype(ml_dtypes.bfloat16)) for array in arrays]


def by_all_instructions(call: Callable[[], Any]) -> dict[str, Callable[[], Any]]:
    """A call on bfloat16 arrays by the name of its row: multiplied by warps and, on Hopper, by warpgroups."""
    cuda = _device.load_cuda()
    calls = {"convec bfloat16": call}

    def by_warpgroups() -> None:
        cuda.use_warpgroups(True)
        call()
        cuda.use_warpgroups(False)

    if tuple(cuda.device_info(0)["compute_capability"]) == (9, 0):
        calls["convec bfloat16, by warpgroups"] = by_warpgroups
    return calls


class Bench:
    """Rows of (what, library, seconds), and how the devices are waited for.

    Args:
        options: of the command line.
        found: the peers' modules by name.
    """

    def __init__(self, options: argparse.Namespace, found: dict[str, Any]) -> None:
        self.rounds = 1 if options.emulated else options.rounds
        self.seconds = 0.0 if options.emulated else options.seconds
        self.patience = options.patience
        self.rows: list[dict[str, Any]] = []
        #: Where PyTorch's tensors lie.
        self.torch_device = "cpu" if options.emulated else "cuda"
        self._emulated = options.emulated
        self._found = found
        self._json = options.json
        self._flag = _device.DeviceArray((1,))

    def wait(self) -> None:
        """Until all work of the default stream is done."""
        self._flag.get()

    def torch_wait(self) -> None:
        """Until PyTorch's work is done."""
        if self.torch_device == "cuda":
            self._found["torch"].cuda.synchronize()

    def once(self, call: Callable[[], Any], wait: Callable[[], Any], times: int) -> float:
        """Seconds a call, of `times` calls and one wait."""
        start = time.perf_counter()
        for _ in range(times):
            call()
        wait()
        return (time.perf_counter() - start) / times

    def compare(self, what: str, calls: dict[str, tuple[Callable[[], Any], Callable[[], Any]]], **facts: Any) -> None:
        """Times each library's call, alternating; one that fails, or is not ready in time, has a row that says so."""
        times = {}
        for library, (call, wait) in list(calls.items()):
            try:
                with time_limit(self.patience):
                    for _ in range(3):
                        call()
                    wait()
                    times[library] = max(1, int(self.seconds / max(self.once(call, wait, 1), 1e-6)))
            except Exception as error:  # a peer must not end the run
                self.fail(what, library, error)
                del calls[library]
        found: dict[str, list[float]] = {library: [] for library in calls}
        for _ in range(self.rounds):
            for library, (call, wait) in calls.items():
                found[library].append(self.once(call, wait, times[library]))
        for library, seconds in found.items():
            row = {"what": what, "library": library, "seconds": statistics.median(seconds), "rounds": seconds} | facts
            self.rows.append(row)
            print(f"{what:<44} {library:<28} {row['seconds'] * 1e6:12.1f} us", flush=True)
        self.save()

    def fail(self, what: str, library: str, error: Exception) -> None:
        """A row for a library that could not be timed."""
        message = next(iter(str(error).splitlines()), "") or repr(error)
        self.rows.append({"what": what, "library": library, "failed": message})
        print(f"{what}: {library} failed: {message}", flush=True)
        self.save()

    def note(self, what: str, text: str) -> None:
        """A row of words."""
        self.rows.append({"what": what, "library": "convec", "note": text})
        print(f"{what}: {text}", flush=True)
        self.save()

    def save(self) -> None:
        """Writes the figures so far, where a file was named."""
        if not self._json:
            return
        versions = {name: module.__version__ for name, module in self._found.items()} | {"convec": convec.__version__}
        report = {
            "device": _device.describe_cuda()[0], "emulated": self._emulated, "versions": versions, "rows": self.rows,
            "isa": _core.current_isa(),
        }  # fmt: skip
        write(self._json, report)


def write(path: str, report: dict[str, Any]) -> None:
    target = pathlib.Path(path)
    temporary = target.with_name(target.name + ".part")
    temporary.write_text(json.dumps(report, indent=1) + "\n")
    temporary.replace(target)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError within, once so many seconds have passed."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"not ready after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peers(emulated: bool) -> dict[str, Any]:
    """The modules of the peers that are installed and see a GPU; emulated, whatever is installed."""
    # Else JAX takes three quarters of the device's memory for itself.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    usable: dict[str, Callable[[Any], bool]] = {
        "torch": lambda torch: torch.cuda.is_available(),
        "jax": lambda jax: jax.default_backend() != "cpu",
        "cupy": lambda cupy: cupy.cuda.is_available(),
    }
    found = {}
    for name, sees_device in usable.items():
        try:
            module = np if emulated and name == "cupy" else __import__(name)
            if emulated or sees_device(module):
                found[name] = module
            else:
                print(f"{name} is left out: it sees no CUDA device", flush=True)
        except Exception as error:  # a broken installation says so in many ways
            print(f"{name} is left out: {error}", flush=True)
    if "torch" in found:
        found["torch"].backends.cudnn.benchmark = True
        found["torch"].backends.cudnn.allow_tf32 = False
        found["torch"].backends.cuda.matmul.allow_tf32 = False
    if "jax" in found:
        found["jax"].config.update("jax_default_matmul_precision", "float32")
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


def torch_seed(torch: Any, device: str) -> Any:
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 64), nn.ReLU(), nn.Linear(64, 10),
    ).to(device)  # fmt: skip


def torch_step(
    torch: Any, batch: int, device: str, *, compiled: bool = False, graph: bool = False, nhwc: bool = False
) -> Callable[[], Any]:
    """A training step: eager, compiled, or captured as one CUDA graph and replayed."""
    model = torch_seed(torch, device)
    x = torch.randn(batch, 1, 28, 28, device=device)
    y = torch.randint(0, 10, (batch,), device=device)
    if nhwc:
        model, x = model.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=graph)

    def loss_of(x: Any, y: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(x), y)

    if compiled:
        # There are no CUDA graphs on a CPU: what is left is that the step can be traced.
        how = {"mode": "reduce-overhead"} if device == "cuda" else {"backend": "aot_eager"}
        loss_of = torch.compile(loss_of, **how)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(x, y).backward()
        optimizer.step()

    if not graph:
        return step
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    # Gradients are made anew within the capture, from the graph's own memory, and overwritten by each replay.
    optimizer.zero_grad(set_to_none=True)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        loss_of(x, y).backward()
        optimizer.step()

    def replay(_alive: Any = (model, optimizer, x, y)) -> None:
        captured.replay()

    return replay


TORCH_STEPS: dict[str, dict[str, bool]] = {
    "torch eager": {},
    "torch whole-step CUDA graph": {"graph": True},
    "torch CUDA graph, channels last": {"graph": True, "nhwc": True},
    "torch.compile reduce-overhead": {"compiled": True},
}


def jax_epoch(jax: Any, batch: int, steps: int) -> Callable[[], Any]:
    """An epoch of the same training in one jitted scan."""
    jnp, lax = jax.numpy, jax.lax
    keys = jax.random.split(jax.random.PRNGKey(0), 5)
    shapes = ((3, 3, 1, 32), (3, 3, 32, 64), (3, 3, 64, 64), (576, 64), (64, 10))
    weights = [jax.random.normal(k, s) * 0.05 for k, s in zip(keys, shapes, strict=True)]
    biases = [jnp.zeros(s[-1]) for s in shapes]
    parameters = (weights, biases)
    first, second = (jax.tree_util.tree_map(jnp.zeros_like, parameters) for _ in range(2))
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

    state = (parameters, first, second, jnp.float32(1))
    # The data are arguments: as constants of the program they would be folded while it is compiled.
    epoch = jax.jit(lambda state, x, y: lax.scan(step, state, (x, y)), donate_argnums=0)

    def run() -> None:
        nonlocal state
        state, losses = epoch(state, x, y)
        losses.block_until_ready()

    return run


def bench_seed(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    batch, steps = (4, 3) if tiny else (32, 500)
    rng = np.random.default_rng(0)
    x = _device.DeviceArray.of(rng.standard_normal((batch * steps, 28, 28, 1), dtype=np.float32))
    y = _device.DeviceArray.of(rng.integers(0, 10, batch * steps))
    order = rng.permutation(batch * steps)
    what = f"seed CNN, {steps} training steps, batch {batch}"
    calls: dict[str, Any] = {}
    cuda = _device.load_cuda()
    for name, fused, precision, library in (
        ("convec", True, "float32", True),
        ("convec without cuBLASLt", True, "float32", False),
        ("convec, pooling apart", False, "float32", True),
        ("convec tf32", True, "tf32", True),
        ("convec mixed_bfloat16", True, "mixed_bfloat16", True),
    ):
        network = seed_model().to("cuda:0")._built()
        network.matmul_precision = precision

        def epoch(network: Any = network) -> None:
            network.train_epoch(x, y, batch_size=batch, order=order)

        # The second step is captured and replayed from then on, with the kernels that it was captured with.
        before = cuda.fuse_pooling(fused), cuda.use_cublas_lt(library)
        try:
            epoch()
        except Exception as error:  # the other ways are wanted all the same
            bench.fail(what, name, error)
            continue
        finally:
            cuda.fuse_pooling(before[0])
            cuda.use_cublas_lt(before[1])
        calls[name] = (epoch, lambda: None)

    def repeat(step: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(steps):
                step()

        return run

    if "torch" in found:
        for name, how in TORCH_STEPS.items():
            if how.get("graph") and bench.torch_device != "cuda":
                print(f"{what}: {name} is left out: there are no CUDA graphs on a CPU", flush=True)
                continue
            try:
                step = torch_step(found["torch"], batch, bench.torch_device, **how)
                calls[name] = (repeat(step), bench.torch_wait)
            except Exception as error:
                bench.fail(what, name, error)
    if "jax" in found:
        try:
            calls["jax jit, lax.scan"] = (jax_epoch(found["jax"], batch, steps), lambda: None)
        except Exception as error:
            bench.fail(what, "jax jit, lax.scan", error)
    bench.compare(what, calls, steps=steps)


# ---- Ops -----------------------------------------------------------------------------------------------------------


def bench_convolutions(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    for shape in ((6, 8, 8, 3, 1),) if tiny else RESNET50:
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
    own = own_convolution(*(_device.DeviceArray.of(a) for a in (x, w, g)), kernel, options)
    calls: dict[str, dict[str, Any]] = {direction: in_every_precision(call) for direction, call in own.items()}
    rounded = as_bfloat16(x, w, g)
    if rounded:
        for direction, call in own_convolution(*rounded, kernel, options).items():
            calls[direction] |= by_all_instructions(call)
    if "torch" in found:
        add_torch_convolutions(found["torch"], bench.torch_device, calls, x, w, g, stride, pad)
    for direction, by_library in calls.items():
        waits = {name: bench.wait if name.startswith("convec") else bench.torch_wait for name in by_library}
        bench.compare(
            f"conv {extent}x{extent}x{channels} {kernel}x{kernel}/{stride} {filters}, {direction}",
            {name: (call, waits[name]) for name, call in by_library.items()},
            flops=2 * g.size * kernel * kernel * channels,
        )


def own_convolution(
    x: _device.DeviceArray, w: _device.DeviceArray, g: _device.DeviceArray, kernel: int, options: dict[str, Any]
) -> dict[str, Callable[[], Any]]:
    y, grad = _device.DeviceArray(g.shape, g.dtype), _device.DeviceArray(x.shape, x.dtype)
    return {
        "forward": lambda: ops.conv2d(x, w, out=y, **options),
        "backward input": lambda: ops.conv2d_backward_input(g, w, x.shape, out=grad, **options),
        "backward filters": lambda: ops.conv2d_backward_filters(x, g, kernel, **options),
    }


def add_torch_convolutions(
    torch: Any, device: str, calls: dict[str, dict[str, Any]], x: np.ndarray, w: np.ndarray, g: np.ndarray,
    stride: int, pad: int,
) -> None:  # fmt: skip
    for label, dtype, tf32 in (
        ("cuDNN float32", torch.float32, False),
        ("cuDNN TF32", torch.float32, True),
        ("cuDNN bfloat16", torch.bfloat16, False),
    ):
        for direction, call in torch_convolution(torch, device, dtype, tf32, x, w, g, stride, pad).items():
            calls[direction][label] = call


def torch_convolution(
    torch: Any, device: str, dtype: Any, tf32: bool, x: np.ndarray, w: np.ndarray, g: np.ndarray, stride: int, pad: int
) -> dict[str, Callable[[], Any]]:
    def on_gpu(array: np.ndarray, axes: tuple[int, ...]) -> Any:
        tensor = torch.from_numpy(array).to(device).permute(*axes).to(dtype)
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
        tx = torch.from_numpy(x.get()).to(bench.torch_device).permute(0, 3, 1, 2)
        calls["torch"] = (lambda: torch.nn.functional.max_pool2d(tx, 2), bench.torch_wait)
    bench.compare("max_pool2d 2x2", calls, bytes=5 * x.get().nbytes // 4)

    rows, classes = (8, 10) if tiny else (65536, 1000)
    logits = rng.standard_normal((rows, classes), dtype=np.float32)
    labels = rng.integers(0, classes, rows)
    dl, dt = _device.DeviceArray.of(logits), _device.DeviceArray.of(labels)
    loss = _device.DeviceArray((rows,))
    calls = {"convec": (lambda: ops.softmax_cross_entropy(dl, dt, out=loss), bench.wait)}
    if torch is not None:
        tl, tt = (torch.from_numpy(a).to(bench.torch_device) for a in (logits, labels))
        calls["torch"] = (lambda: torch.nn.functional.cross_entropy(tl, tt, reduction="none"), bench.torch_wait)
    bench.compare("softmax cross-entropy (labels checked)", calls, bytes=logits.nbytes)

    parameter, gradient, m, v = (_device.DeviceArray((size,)) for _ in range(4))
    calls = {"convec": (lambda: ops.optimizer_step("adam", parameter, gradient, [m, v], iteration=3), bench.wait)}
    if torch is not None:
        tp = torch.zeros(size, device=bench.torch_device, requires_grad=True)
        tp.grad = torch.zeros_like(tp)
        calls["torch fused"] = (torch.optim.Adam([tp], fused=True).step, bench.torch_wait)
    bench.compare("Adam", calls, bytes=28 * size)


def bench_dense(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    cuda = _device.load_cuda()
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

        calls: dict[str, Any] = {name: (call, bench.wait) for name, call in in_every_precision(own).items()}
        rounded = as_bfloat16(*(a.get() for a in (x, w, g, y, dx)))
        if rounded:
            for name, call in by_all_instructions(functools.partial(own, *rounded)).items():
                calls[name] = (call, bench.wait)
        if cuda.use_cublas_lt(True):

            def by_own_kernels(own: Callable[[], Any] = own) -> None:
                convec.set_matmul_precision("float32")
                cuda.use_cublas_lt(False)
                own()
                cuda.use_cublas_lt(True)

            calls["convec without cuBLASLt"] = (by_own_kernels, bench.wait)
        if "torch" in found:
            torch = found["torch"]
            tx, tw, tg = (torch.from_numpy(a.get()).to(bench.torch_device) for a in (x, w, g))

            def theirs(tf32: bool, tx: Any, tw: Any, tg: Any, torch: Any = torch) -> None:
                torch.backends.cuda.matmul.allow_tf32 = tf32
                torch.mm(tx, tw)
                torch.mm(tg, tw.t())
                torch.mm(tx.t(), tg)
                tg.sum(0)

            for name, dtype, tf32 in (
                ("torch float32", torch.float32, False),
                ("torch TF32", torch.float32, True),
                ("torch bfloat16", torch.bfloat16, False),
            ):
                call = functools.partial(theirs, tf32, tx.to(dtype), tw.to(dtype), tg.to(dtype))
                calls[name] = (call, bench.torch_wait)
        bench.compare(f"dense {batch}x{inputs}x{units}, all three", calls, flops=6 * batch * inputs * units)


# ---- Neighbours ----------------------------------------------------------------------------------------------------


def bench_neighbours(bench: Bench, found: dict[str, Any], tiny: bool) -> None:
    for rows, dim, counts in ((900, 8, (1, 5)),) if tiny else ((50_000, 128, (1, 256)), (1_000_000, 300, (1, 32, 256))):
        table = Neighbours(rows, dim)
        for count in counts:
            queries = table.vectors[np.arange(count) * 7 % rows]
            own = {
                "convec": functools.partial(table.search, queries),
                "convec, CPU": functools.partial(table.on_cpu, queries),
            }
            if count > 32:  # of which one call would take seconds
                del own["convec, CPU"]
            bench_search(
                bench, found, f"{count} nearest of {rows:,} x {dim}", table, queries, own, np.zeros((count, 0), int)
            )
        # Of a question a : b = c : ? the three words are no answers.
        questions = np.random.default_rng(5).integers(0, rows, (5 if tiny else 1024, 3))
        a, b, c = (table.vectors[questions[:, i]] for i in range(3))
        queries = b - a + c
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        own = {"convec": functools.partial(table.search, queries, 1, questions.tolist())}
        bench_search(bench, found, f"{len(queries)} analogies of {rows:,} x {dim}", table, queries, own, questions, 1)
    bench_threshold(bench, tiny)


class Neighbours:
    """Random vectors of unit length on both sides."""

    def __init__(self, rows: int, dim: int) -> None:
        self.vectors = np.random.default_rng(4).random((rows, dim), dtype=np.float32) - np.float32(0.5)
        self.vectors /= np.linalg.norm(self.vectors, axis=1, keepdims=True)
        self.there = _device.load_cuda().VectorsOnDevice(rows, dim)
        self.there.copy_in(0, self.vectors, None)

    def search(self, queries: np.ndarray, topn: int = 10, excluded: Any = ()) -> tuple[Any, Any]:
        """NumPy in, NumPy out, as KeyedVectors does it."""
        found: tuple[Any, Any] = self.there.nearest(
            queries, topn=topn, begin=0, end=len(self.vectors), excluded=list(excluded)
        )
        return found

    def on_cpu(self, queries: np.ndarray) -> tuple[Any, Any]:
        """The same on the CPU."""
        return _core.nearest_vectors(self.vectors, None, queries, topn=10, begin=0, end=len(self.vectors))


def bench_search(
    bench: Bench, found: dict[str, Any], what: str, table: Neighbours, queries: np.ndarray, own: dict[str, Any],
    excluded: np.ndarray, topn: int = 10,
) -> None:  # fmt: skip
    """The best `topn` rows for each query without the excluded ones, from and to the host's memory."""
    calls = dict(own)
    if "cupy" in found:
        calls["cupy matmul, argpartition"] = cupy_search(found["cupy"], table.vectors, queries, excluded, topn)
    if "torch" in found:
        calls["torch matmul, topk"] = torch_search(
            found["torch"], bench.torch_device, table.vectors, queries, excluded, topn
        )
    expected = own["convec"]()[1]
    for library, call in list(calls.items()):
        try:
            with time_limit(bench.patience):
                np.testing.assert_allclose(np.sort(call()[1], axis=1), np.sort(expected, axis=1), atol=1e-4)
        except Exception as error:
            bench.fail(what, library, error)
            del calls[library]
    # All of them wait for their own results.
    rows, dim = table.vectors.shape
    bench.compare(
        what, {name: (call, lambda: None) for name, call in calls.items()}, flops=2 * len(queries) * rows * dim
    )


def cupy_search(
    xp: Any, vectors: np.ndarray, queries: np.ndarray, excluded: np.ndarray, topn: int
) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    there = xp.asarray(vectors)
    left_out = xp.asarray(excluded)

    def to_host(array: Any) -> np.ndarray:
        return np.asarray(array.get() if hasattr(array, "get") else array)

    def run() -> tuple[np.ndarray, np.ndarray]:
        similarities = xp.matmul(xp.asarray(queries), there.T)
        if left_out.size:
            similarities[xp.arange(len(queries))[:, None], left_out] = -xp.inf
        rows = xp.argpartition(similarities, len(vectors) - topn, axis=1)[:, len(vectors) - topn :]
        values = xp.take_along_axis(similarities, rows, axis=1)
        order = xp.argsort(-values, axis=1)
        return to_host(xp.take_along_axis(rows, order, axis=1)), to_host(xp.take_along_axis(values, order, axis=1))

    return run


def torch_search(
    torch: Any, device: str, vectors: np.ndarray, queries: np.ndarray, excluded: np.ndarray, topn: int
) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    there = torch.from_numpy(vectors).to(device)
    left_out = torch.from_numpy(excluded).to(device)

    def run() -> tuple[np.ndarray, np.ndarray]:
        torch.backends.cuda.matmul.allow_tf32 = False
        similarities = torch.from_numpy(queries).to(device) @ there.T
        if left_out.numel():
            similarities.scatter_(1, left_out, -float("inf"))
        values, rows = torch.topk(similarities, topn, dim=1)
        return rows.cpu().numpy(), values.cpu().numpy()

    return run


def bench_threshold(bench: Bench, tiny: bool) -> None:
    """How many similarities make a search on the device worth it, for KeyedVectors.device_threshold."""
    faster: list[int] = []
    default = convec.models.KeyedVectors.device_threshold
    for rows in (50, 200) if tiny else (1000, 3000, 10_000, 30_000, 100_000, 300_000):
        table = Neighbours(rows, 8 if tiny else 300)
        query = table.vectors[:1]
        what = f"threshold, 1 nearest of {rows:,} x {table.vectors.shape[1]}"
        calls = {
            "convec": functools.partial(table.search, query),
            "convec, CPU": functools.partial(table.on_cpu, query),
        }
        bench.compare(what, {name: (call, lambda: None) for name, call in calls.items()})
        times = {row["library"]: row.get("seconds", float("inf")) for row in bench.rows if row["what"] == what}
        if times["convec"] < times["convec, CPU"]:
            faster.append(rows)
        else:
            faster.clear()
    measured = f"{faster[0]:,}" if faster else "more than was tried"
    bench.note("device_threshold", f"measured here: {measured}; KeyedVectors.device_threshold is {default:,}")


# ---- The table -----------------------------------------------------------------------------------------------------


def table(rows: list[dict[str, Any]], device: str) -> None:
    print(f"\n{device}\n{'what':<44} {'library':<31} {'us':>12} {'GB/s':>8} {'TFLOP/s':>8} {'convec is':>10}")
    own = {row["what"]: row["seconds"] for row in rows if row["library"] == "convec" and "seconds" in row}
    for row in rows:
        if "failed" in row:
            print(f"{row['what']:<44} {row['library']:<31} failed: {row['failed']}")
            continue
        if "note" in row:
            print(f"{row['what']:<44} {row['note']}")
            continue
        seconds = row["seconds"]
        rate = f"{row['bytes'] / seconds / 1e9:.0f}" if "bytes" in row else ""
        flops = f"{row['flops'] / seconds / 1e12:.1f}" if "flops" in row else ""
        each = seconds / row.get("steps", 1)
        compared = row["library"] != "convec" and row["what"] in own
        factor = f"{seconds / own[row['what']]:.2f}x" if compared else ""
        print(f"{row['what']:<44} {row['library']:<31} {each * 1e6:12.1f} {rate:>8} {flops:>8} {factor:>10}")


def means(rows: list[dict[str, Any]]) -> None:
    """Prints geometric means over the convolutions: which way is to be kept, and how far from cuDNN it is."""
    seconds: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        shape, _, direction = row["what"].partition(", ")
        if shape.startswith("conv ") and "seconds" in row:
            seconds.setdefault(direction, {}).setdefault(row["library"], {})[shape] = row["seconds"]

    def factor(slower: dict[str, float], faster: dict[str, float]) -> str:
        shapes = slower.keys() & faster.keys()
        if not shapes:
            return ""
        return f"{statistics.geometric_mean(slower[shape] / faster[shape] for shape in shapes):.2f}x ({len(shapes)})"

    if seconds:
        print(f"\n{'times of convec, geometric means (of shapes)':<44} {'through registers':>20} {'cuDNN':>12}")
    for direction, by_library in seconds.items():
        for library, cudnn in CUDNN.items():
            own = by_library.get(library, {})
            ways = factor(by_library.get(library + THROUGH_REGISTERS, {}), own)
            print(f"{direction + ', ' + library:<44} {ways:>20} {factor(by_library.get(cudnn, {}), own):>12}")


def show(paths: list[str], merged: str | None) -> None:
    """Prints the table of the figures in files, of one device, and writes them as one where a path is given."""
    reports = [json.loads(pathlib.Path(path).read_text()) for path in paths]
    report = reports[0] | {
        "versions": {name: version for each in reports for name, version in each["versions"].items()},
        "rows": [row for each in reports for row in each["rows"]],
    }
    if merged:
        write(merged, report)
    table(report["rows"], report["device"])
    means(report["rows"])


PARTS: dict[str, Callable[[Bench, dict[str, Any], bool], None]] = {
    "seed": bench_seed, "bandwidth": bench_bandwidth, "dense": bench_dense,
    "neighbours": bench_neighbours, "convolutions": bench_convolutions,
}  # fmt: skip


def parts_of(text: str) -> list[str]:
    """Names of parts, separated by commas."""
    names = text.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--parts", type=parts_of, default=list(PARTS), help=f"of {','.join(PARTS)} (all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a round for each library (0.1)")
    parser.add_argument("--patience", type=float, default=60, help="seconds that a library may take to warm up (60)")
    parser.add_argument("--emulated", action="store_true", help="tiny shapes on the emulated device of the tests")
    parser.add_argument(
        "--table",
        nargs="+",
        metavar="FILE",
        help="print the figures of these files, and write them into the one of --json",
    )
    options = parser.parse_args()
    if options.table:
        show(options.table, options.json)
        return
    failed = []
    with contextlib.ExitStack() as stack:
        if options.emulated:
            sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "python"))
            stack.enter_context(__import__("emulated_cuda").emulated_cuda())
        else:
            convec.device("cuda:0")
        found = peers(options.emulated)
        bench = Bench(options, found)
        for name in options.parts:
            try:
                PARTS[name](bench, found, options.emulated)
            except Exception as error:  # the other parts are wanted all the same
                failed.append(name)
                bench.fail(name, "convec", error)
        failed += [row["what"] for row in bench.rows if "failed" in row and row["library"].startswith("convec")]
        table(bench.rows, _device.describe_cuda()[0])
        means(bench.rows)
    if failed:
        sys.exit(f"failed: {'; '.join(dict.fromkeys(failed))}")


if __name__ == "__main__":
    main()
