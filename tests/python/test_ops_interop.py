"""Arrays of other libraries go in without a copy."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest
from convec import ops


class OnlyDLPack:
    """What offers its memory through DLPack alone."""

    def __init__(self, owner: np.ndarray) -> None:
        self.owner = owner

    def __dlpack__(self, **keywords: Any) -> Any:
        return self.owner.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self.owner.__dlpack_device__()


def test_buffer_protocol() -> None:
    numbers = array.array("f", [-1.0, 2.0, -3.0, 4.0])
    np.testing.assert_array_equal(ops.relu(numbers), [0, 2, 0, 4])
    np.testing.assert_array_equal(ops.relu(memoryview(numbers)), [0, 2, 0, 4])
    labels = array.array("B", [1, 0])
    assert ops.softmax_cross_entropy(np.zeros((2, 3), dtype=np.float32), labels).shape == (2,)


def test_dlpack() -> None:
    x = np.array([[-1.0, 2.0], [3.0, -4.0]], dtype=np.float32)
    np.testing.assert_array_equal(ops.relu(OnlyDLPack(x)), np.maximum(x, 0))


def test_buffers_are_written_in_place() -> None:
    # If the binding had copied, the owner's memory would not change.
    parameter = array.array("f", [1.0, 2.0])
    ops.optimizer_step("sgd", parameter, array.array("f", [10.0, 10.0]), learning_rate=0.1)
    assert list(parameter) == [0.0, 1.0]
    out = array.array("f", [0.0, 0.0])
    ops.relu(array.array("f", [5.0, -5.0]), out=out)
    assert list(out) == [5.0, 0.0]


def test_read_only_buffers_are_read() -> None:
    data = np.array([-1.0, 1.0], dtype=np.float32).tobytes()
    view = memoryview(data).cast("f")
    np.testing.assert_array_equal(ops.relu(view), [0, 1])
    with pytest.raises(ValueError, match="read-only"):
        ops.relu(view, out=view)


def test_objects_are_let_go() -> None:
    import sys

    x = np.ones((2, 4, 4, 3), dtype=np.float32)
    before = sys.getrefcount(x)
    result = ops.max_pool2d(x)
    assert sys.getrefcount(x) == before
    with pytest.raises(ValueError, match="below 1"):
        ops.max_pool2d(x, 9)
    assert sys.getrefcount(x) == before
    assert result.flags.owndata


def test_channels_first_is_the_transposed_call() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 6, 3)).astype(np.float32)
    w = rng.standard_normal((3, 3, 3, 4)).astype(np.float32)
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    want = ops.conv2d(x, w)
    out = np.empty((2, 4, 3, 4), dtype=np.float32)
    assert ops.conv2d(first, w, data_format="channels_first", out=out) is out
    np.testing.assert_array_equal(out.transpose(0, 2, 3, 1), want)
    # A view that is channels-first in memory order already costs no second copy and is accepted.
    np.testing.assert_array_equal(ops.conv2d(x.transpose(0, 3, 1, 2), w, data_format="channels_first"), out)


def test_torch_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 6, 6, 3)
    result = ops.max_pool2d(x)
    np.testing.assert_array_equal(result, ops.max_pool2d(x.numpy()))
    with pytest.raises((TypeError, RuntimeError, BufferError)):
        ops.max_pool2d(torch.randn(2, 6, 6, 3, requires_grad=True))
    with pytest.raises(ValueError, match="C-contiguous"):
        ops.max_pool2d(x.permute(0, 3, 1, 2))
    with pytest.raises(TypeError, match="float64"):
        ops.max_pool2d(x.double())


def test_ops_run_from_many_threads() -> None:
    # The lock is released around compute, and the pool serves one caller at a time.
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 20, 20, 8)).astype(np.float32)
    w = rng.standard_normal((3, 3, 8, 16)).astype(np.float32)
    want = ops.conv2d(x, w)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: ops.conv2d(x, w), range(40)):
            np.testing.assert_array_equal(result, want)
