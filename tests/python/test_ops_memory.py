"""What ops read and write: nothing outside their arguments, the same bits at any number of threads and every time."""

from __future__ import annotations

import ctypes
import inspect
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
from convec import _core, ops

HAS_OUT = {name for name in cases.CASES if "out" in inspect.signature(getattr(ops, name)).parameters}
CANARY = 0xA5


def guarded(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy of an array within a buffer, and the buffer. The copy is aligned to its element and to nothing more.

    Around floats there are NaNs, which would spread from any element that is read too much; around labels, numbers
    out of range.
    """
    margin = 256
    item = array.dtype.itemsize
    buffer = np.full(2 * margin + array.nbytes + item, CANARY, dtype=np.uint8)
    if array.dtype == np.float32:
        # A quiet NaN: the canary's own bits would be a small number.
        words = buffer[: buffer.size // 4 * 4].view(np.uint32)
        words[:] = 0x7FC0A5A5
    start = margin + item
    inside = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    inside[...] = array
    return inside, buffer


def around(inside: np.ndarray, buffer: np.ndarray) -> bytes:
    """The bytes of the buffer that are not the array's."""
    start = inside.__array_interface__["data"][0] - buffer.__array_interface__["data"][0]
    return buffer[:start].tobytes() + buffer[start + inside.nbytes :].tobytes()


def map_arrays(value: Any, function: Any) -> Any:
    if isinstance(value, dict):
        return {name: map_arrays(item, function) for name, item in value.items()}
    if isinstance(value, list):
        return [map_arrays(item, function) for item in value]
    return function(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("op", cases.CASES)
def test_no_byte_around_the_arguments_is_used(op: str, isa: str) -> None:
    for case in cases.CASES[op]:
        buffers: list[tuple[np.ndarray, np.ndarray, bytes]] = []

        def guard(array: np.ndarray, buffers: list[tuple[np.ndarray, np.ndarray, bytes]] = buffers) -> np.ndarray:
            inside, buffer = guarded(array)
            buffers.append((inside, buffer, around(inside, buffer)))
            return inside

        plain = cases.run(case, case.arrays())
        extra: dict[str, Any] = {}
        if op in HAS_OUT:
            extra["out"] = guard(np.full(plain[0].shape, np.nan, dtype=np.float32))
        results = cases.run(case, map_arrays(case.arrays(), guard), **extra)
        for result, want in zip(results, plain, strict=True):
            # The alignment of the arguments must not matter to a single bit either.
            np.testing.assert_array_equal(result, want, err_msg=f"{case.id}, {isa}")
        for inside, buffer, before in buffers:
            assert around(inside, buffer) == before, f"{case.id}, {isa}: bytes around an argument have changed"


@pytest.mark.parametrize("op", cases.CASES)
def test_inputs_are_not_written(op: str, isa: str) -> None:
    for case in cases.CASES[op]:
        arrays = case.arrays()

        def freeze(array: np.ndarray) -> np.ndarray:
            array.flags.writeable = False
            return array

        written = cases.IN_PLACE.get(op, ())
        arrays = {name: value if name in written else map_arrays(value, freeze) for name, value in arrays.items()}
        copies = map_arrays(arrays, np.copy)
        cases.run(case, arrays)
        for name, value in arrays.items():
            if name not in written:
                np.testing.assert_equal(value, copies[name], err_msg=f"{case.id}: {name} has changed")


class GuardPages:
    """Arrays whose last byte is followed (or whose first is preceded) by a page that may not be touched."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.maps: list[mmap.mmap] = []

    def __call__(self, array: np.ndarray, at_end: bool) -> np.ndarray:
        page = mmap.PAGESIZE
        size = max(1, -(-array.nbytes // page)) * page
        memory = mmap.mmap(-1, size + 2 * page)
        self.maps.append(memory)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (base, base + page + size):
            if self.libc.mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        start = page + (size - array.nbytes if at_end else 0)
        inside = np.frombuffer(memory, dtype=array.dtype, count=array.size, offset=start).reshape(array.shape)
        inside[...] = array
        return inside


def run_between_guard_pages(isa: str) -> None:
    _core.set_isa(isa)
    for case in cases.ALL:
        if case.large:
            continue
        for at_end in (True, False):
            # Seen when the process dies: the last line names the case.
            print(case.id, "end" if at_end else "start", flush=True)
            pages = GuardPages()
            plain = cases.run(case, case.arrays())
            extra = {}
            if case.op in HAS_OUT:
                extra["out"] = pages(np.zeros(plain[0].shape, dtype=np.float32), at_end)
            results = cases.run(case, map_arrays(case.arrays(), lambda a, p=pages, e=at_end: p(a, e)), **extra)
            for result, want in zip(results, plain, strict=True):
                np.testing.assert_array_equal(result, want)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")
def test_no_page_around_the_arguments_is_touched(isa: str) -> None:
    # In a process of its own, because a read of a guarded page kills it.
    here = Path(__file__).parent
    code = f"import test_ops_memory; test_ops_memory.run_between_guard_pages({isa!r})"
    path = os.pathsep.join([str(here), *(p for p in sys.path if p)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here, env=os.environ | {"PYTHONPATH": path},
        check=False,
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "none"
    assert done.returncode == 0, f"{isa}: died or failed in case {last}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("op", cases.CASES)
def test_bits_do_not_depend_on_threads(op: str, isa: str, threads: None) -> None:
    large = [case for case in cases.CASES[op] if case.large]
    assert large or op == "optimizer_slot_count", f"{op} has no case large enough to be split over threads"
    for case in large:
        _core.set_num_threads(1)
        single = cases.run(case, case.arrays())
        for count in (2, 3, 5):
            _core.set_num_threads(count)
            for result, want in zip(cases.run(case, case.arrays()), single, strict=True):
                np.testing.assert_array_equal(result, want, err_msg=f"{case.id}, {isa}, {count} threads")


@pytest.mark.parametrize("op", cases.CASES)
def test_bits_repeat(op: str, isa: str) -> None:
    for case in cases.CASES[op]:
        once = cases.run(case, case.arrays())
        for _ in range(3):
            for result, want in zip(cases.run(case, case.arrays()), once, strict=True):
                np.testing.assert_array_equal(result, want, err_msg=f"{case.id}, {isa}")


# By chance NumPy's own arrays begin at a cache line one time in four.
def test_large_results_begin_at_a_cache_line() -> None:
    x = np.ones((3, 40, 40, 8), dtype=np.float32)
    results = [ops.relu(x) for _ in range(20)]
    results += ops.conv2d_backward(x, x, np.ones((3, 3, 8, 8), dtype=np.float32), padding="same")[:1]
    assert all(y.ctypes.data % 64 == 0 and y.flags.writeable and y.flags.c_contiguous for y in results)
    kept = results[0].copy()
    first = results[0]
    del results
    np.testing.assert_array_equal(first, kept)
