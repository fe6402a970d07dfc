"""PyTorch in float32, channels_last: its fastest form for this model on a CPU."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- its usual name

from libraries.timing import load_arrays, median_seconds, throughput

VERSION = torch.__version__
set_threads = torch.set_num_threads

_state: dict[str, Any] = {}


class _SeedModel(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1 = torch.nn.Conv2d(1, 32, 3)
        self.c2 = torch.nn.Conv2d(32, 64, 3)
        self.c3 = torch.nn.Conv2d(64, 64, 3)
        self.f1 = torch.nn.Linear(576, 64)
        self.f2 = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.c1(x)), 2)
        x = F.max_pool2d(F.relu(self.c2(x)), 2)
        return self.f2(F.relu(self.f1(F.relu(self.c3(x)).flatten(1))))


def build(data: str, seed: int) -> None:
    torch.manual_seed(seed)
    arrays = load_arrays(data)
    for name in ("x_train", "x_test"):
        image = torch.from_numpy(arrays[name]).permute(0, 3, 1, 2)
        _state[name] = image.contiguous(memory_format=torch.channels_last)
    _state["y_train"] = torch.from_numpy(arrays["y_train"].astype(np.int64))
    _state["y_test"] = torch.from_numpy(arrays["y_test"].astype(np.int64))
    net = _SeedModel().to(memory_format=torch.channels_last)
    _state["net"] = net
    _state["optimizer"] = torch.optim.Adam(net.parameters(), eps=1e-7, fused=True)


def set_weights(weights: list[Any]) -> bool:
    net = _state["net"]
    values = [torch.tensor(value) for value in weights]
    # The first dense layer reads (rows, columns, channels) there and (channels, rows, columns) here.
    values[6] = values[6].reshape(3, 3, 64, 64).permute(2, 0, 1, 3).reshape(576, 64)
    with torch.no_grad():
        for layer, kernel, bias in zip(
            (net.c1, net.c2, net.c3, net.f1, net.f2), values[::2], values[1::2], strict=True
        ):
            layer.weight.copy_(kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T)
            layer.bias.copy_(bias)
    return True


def train(batch: int) -> float:
    net, optimizer, x, y = _state["net"], _state["optimizer"], _state["x_train"], _state["y_train"]
    start = time.perf_counter()
    order = torch.randperm(len(x))
    for begin in range(0, len(x), batch):
        rows = order[begin : begin + batch]
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return time.perf_counter() - start


def accuracy() -> float:
    net, x, y = _state["net"], _state["x_test"], _state["y_test"]
    with torch.inference_mode():
        hits = sum((net(x[i : i + 250]).argmax(1) == y[i : i + 250]).sum().item() for i in range(0, len(x), 250))
    return hits / len(x)


def infer(batch: int, seconds: float) -> float:
    net = _state["net"]
    x = _state["x_test"][:batch].clone(memory_format=torch.preserve_format)
    with torch.inference_mode():
        return batch * throughput(lambda: net(x), seconds)


def predict(count: int) -> list[Any]:
    with torch.inference_mode():
        result: list[Any] = F.softmax(_state["net"](_state["x_test"][:count]), dim=1).tolist()
    return result


def _image(array: np.ndarray) -> torch.Tensor:
    """NHWC memory as the NCHW view that torch calls channels_last."""
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def _filters(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def _size(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _padding(options: dict[str, Any]) -> list[int]:
    padding = options.get("padding", "valid")
    if padding == "valid":
        return [0, 0]
    (top, bottom), (left, right) = padding
    if top != bottom or left != right:
        raise NotImplementedError("torch pads both sides alike")
    return [top, left]


def _conv2d(op: str, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    stride, padding = _size(options.get("strides", 1)), _padding(options)
    x, g = (_image(arrays[name]) if name in arrays else None for name in ("input", "grad_output"))
    bias = torch.from_numpy(arrays["bias"]) if "bias" in arrays else None
    if op == "conv2d":
        w = _filters(arrays["filters"])
        call = F.relu if options.get("activation") == "relu" else lambda y: y
        return lambda: call(F.conv2d(x, w, bias, stride=stride, padding=padding))
    if op == "conv2d_training":
        w = _filters(arrays["filters"]).requires_grad_()
        x, bias = x.requires_grad_(), bias.requires_grad_()

        def training() -> Any:
            for value in (x, w, bias):
                value.grad = None
            y = F.conv2d(x, w, bias, stride=stride, padding=padding)
            y.backward(g)
            return y, x.grad, w.grad, bias.grad

        return training
    if op == "conv2d_backward_input":
        w = _filters(arrays["filters"])
        n, height, width, channels = (int(extent) for extent in arrays["input_shape"])
        x = torch.empty(n, channels, height, width).contiguous(memory_format=torch.channels_last)
        mask = [True, False, False]
    else:
        rows, columns = options["kernel_size"]
        w = torch.empty(g.shape[1], x.shape[1], rows, columns).contiguous(memory_format=torch.channels_last)
        mask = [False, True, True]

    def backward() -> Any:
        gradients = torch.ops.aten.convolution_backward(
            g, x, w, [g.shape[1]], stride, padding, [1, 1], False, [0, 0], 1, mask
        )
        return tuple(value for value in gradients if value is not None)

    return backward


def _op(op: str, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    if op.startswith("conv2d"):
        return _conv2d(op, arrays, options)
    if op == "optimizer_step":
        parameter = torch.from_numpy(arrays["parameter"]).requires_grad_()
        parameter.grad = torch.from_numpy(arrays["gradient"])
        return torch.optim.Adam([parameter], eps=1e-7, fused=True).step
    if op.startswith(("max_pool2d", "average_pool2d")):
        x = _image(arrays["input"])
        size = options["pool_size"]
        stride = options.get("strides", size)
        pool = F.max_pool2d if op.startswith("max") else F.avg_pool2d
        if not op.endswith("_backward"):
            return lambda: pool(x, size, stride)
        g = _image(arrays["grad_output"])
        if op.startswith("average"):
            return lambda: torch.ops.aten.avg_pool2d_backward(
                g, x, _size(size), _size(stride), [0, 0], False, True, None
            )

        def max_backward() -> torch.Tensor:
            # convec finds the maxima in the backward pass; torch hands them over from the forward pass.
            _, where = torch.ops.aten.max_pool2d_with_indices(x, _size(size), _size(stride))
            return torch.ops.aten.max_pool2d_with_indices_backward(
                g, x, _size(size), _size(stride), [0, 0], [1, 1], False, where
            )

        return max_backward
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    if op == "dense":
        return lambda: torch.addmm(tensors["bias"], tensors["input"], tensors["weights"])
    if op == "dense_backward":
        x, w, g = tensors["input"], tensors["weights"], tensors["grad_output"]
        return lambda: (g @ w.T, x.T @ g, g.sum(0))
    if op == "softmax":
        return lambda: F.softmax(tensors["input"], dim=-1)
    if op == "relu":
        return lambda: F.relu(tensors["input"])
    if op == "softmax_cross_entropy":
        labels = tensors["labels"]
        return lambda: F.cross_entropy(tensors["logits"], labels, reduction="none")
    if op == "softmax_cross_entropy_backward":
        x, labels, g = tensors["logits"].requires_grad_(), tensors["labels"], tensors["grad_losses"]

        def loss_backward() -> torch.Tensor | None:
            x.grad = None
            F.cross_entropy(x, labels, reduction="none").backward(g)
            return x.grad

        return loss_backward
    raise NotImplementedError(op)


def _numpy(value: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    array = value.detach().numpy()
    if array.ndim != 4 or array.shape == shape:
        return array
    # Images are NCHW views of NHWC memory, filters OIHW views of what is HWIO there.
    return array.transpose(0, 2, 3, 1) if array.transpose(0, 2, 3, 1).shape == shape else array.transpose(2, 3, 1, 0)


def prepare_op(op: str, data: str, options: dict[str, Any], result: str | None = None) -> bool:
    """As with convec; compares the results with those in the file ``result``. False where the op is not to be had."""
    try:
        _state["op"] = _op(op, load_arrays(data), options)
    except NotImplementedError:
        return False
    values = _state["op"]()
    if result is None or values is None:
        return True
    with np.load(result) as archive:
        expected = [archive[key] for key in archive.files]
    for own, other in zip(values if isinstance(values, tuple) else (values,), expected, strict=True):
        array = _numpy(own, other.shape)
        error = np.abs(array - other).max() / np.abs(other).max()
        if not error < 1e-3:
            raise ValueError(f"{op}: differs from convec by {error:.1e} of the largest element")
    return True


def time_op(seconds: float) -> float:
    return median_seconds(_state["op"], seconds)


def call_overhead(op: str, seconds: float) -> float | None:
    x, w = torch.ones(1, 1, 4, 4).contiguous(memory_format=torch.channels_last), torch.ones(1, 1, 1, 1)
    row, square = torch.ones(1, 4), torch.ones(4, 4)
    calls = {
        "relu": lambda: torch.relu(row),
        "dense": lambda: torch.mm(row, square),
        "softmax": lambda: torch.softmax(row, -1),
        "max_pool2d": lambda: F.max_pool2d(x, 2),
        "conv2d": lambda: F.conv2d(x, w),
    }
    if op not in calls:
        return None
    with torch.inference_mode():
        return 1e6 / throughput(calls[op], seconds)
