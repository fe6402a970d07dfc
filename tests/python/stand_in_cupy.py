"""A stand-in for CuPy with NCCL, for one process a rank: arrays are NumPy's, NCCL sums through files in the folder
FAKE_NCCL, and streams do their work when somebody looks. Importing it puts it in CuPy's place.

What is launched without waiting for what it depends on finds it undone, more surely than on a GPU. With
``emulated_cuda`` in use the streams of convec's emulated device take part."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import time
import types
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = float(os.environ.get("FAKE_SECONDS", "10"))  # for a stream that waits for another one's work


class Stream:
    """Holds work back. A piece of work returns False as long as it cannot go on."""

    def __init__(self, non_blocking: bool = False, ptr: int = 1) -> None:
        assert non_blocking, "a stream that waits for the default stream would hide missing events"
        self.ptr = ptr
        self.work: deque[Callable[[], object]] = deque()
        _streams[self.ptr] = self

    def advance(self) -> bool:
        while self.work:
            if self.work[0]() is False:
                return False
            self.work.popleft()
        return True

    def wait_event(self, event: Event) -> None:
        self.work.append(event.poll)

    def __enter__(self) -> Stream:
        _current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        assert _current.pop() is self


class Prompt(Stream):
    """The default stream: NumPy does its work at once."""

    def __init__(self, ptr: int = 0) -> None:
        super().__init__(non_blocking=True, ptr=ptr)
        self.stuck = False

    def run(self) -> None:
        """Does what it holds."""

    def advance(self) -> bool:
        self.run()
        return not self.stuck

    def wait_event(self, event: Event) -> None:
        end = time.monotonic() + SECONDS
        while not event.poll():
            if time.monotonic() > end:
                self.stuck = True
                return
            time.sleep(0.001)


class ExternalStream(Prompt):
    """A stream of the emulated device."""

    def run(self) -> None:
        importlib.import_module("convec._cuda_emulated").synchronize(0, self.ptr)


class Event:
    def __init__(self, disable_timing: bool) -> None:
        self._passed = False

    def record(self, stream: Stream) -> None:
        self._stream = stream
        if not isinstance(stream, Prompt):
            stream.work.append(self._pass)

    def _pass(self) -> None:
        self._passed = True

    def poll(self) -> bool:
        if isinstance(self._stream, Prompt):
            return self._stream.advance()
        self._stream.advance()
        return self._passed

    @property
    def done(self) -> bool:
        return self.poll()


class Array(np.ndarray):
    __cuda_array_interface__: dict[str, Any] = {}

    @property
    def data(self) -> Any:  # type: ignore[override]
        _arrays[self.ctypes.data] = self
        return types.SimpleNamespace(ptr=self.ctypes.data)

    def __itruediv__(self, other: Any) -> Array:  # type: ignore[misc,override]
        stream = _current[-1]
        stream.work.append(lambda: super(Array, self).__itruediv__(other) is not None)
        if isinstance(stream, Prompt):
            Stream.advance(stream)
        return self


class Nccl:
    def __init__(self, size: int, ident: tuple[int, ...], rank: int) -> None:
        assert len(ident) == 128
        self.size, self.rank, self.count = size, rank, 0
        self.name = bytes(b % 256 for b in ident[:8]).hex()
        self.pending = False
        joined = self._exchange(lambda: np.zeros(1), lambda rows: None)
        while joined() is False:
            time.sleep(0.001)

    def _exchange(self, read: Callable[[], Any], use: Callable[[list[Any]], None]) -> Callable[[], object]:
        self.count += 1
        paths = [Path(os.environ["FAKE_NCCL"], f"{self.name}-{self.count}-{rank}.npy") for rank in range(self.size)]

        def work() -> object:
            own = paths[self.rank]
            if not own.exists():
                part = own.with_suffix(".part.npy")
                np.save(part, np.asarray(read()))
                part.rename(own)
            self.pending = not all(path.exists() for path in paths)
            if self.pending:
                return False
            use([np.load(path) for path in paths])
            return True

        return work

    def _launch(self, stream: int, read: Any, use: Callable[[list[Any]], None]) -> None:
        _streams[stream].work.append(self._exchange(lambda: read, use))

    def allReduce(self, send: int, recv: int, count: int, dtype: int, op: int, stream: int) -> None:
        array = _arrays[send]
        assert (array.size, array.dtype.name) == (count, _types[dtype])
        assert send == recv
        combine: Any = [np.sum, None, np.max, np.min][op]

        def use(rows: list[Any]) -> None:
            array[...] = combine(rows, axis=0)

        self._launch(stream, array, use)

    def broadcast(self, send: int, recv: int, count: int, dtype: int, root: int, stream: int) -> None:
        def use(rows: list[Any]) -> None:
            _arrays[recv][...] = rows[root]

        self._launch(stream, _arrays[send], use)

    def allGather(self, send: int, recv: int, count: int, dtype: int, stream: int) -> None:
        def use(rows: list[Any]) -> None:
            _arrays[recv][...] = rows

        self._launch(stream, _arrays[send], use)

    def check_async_error(self) -> int:
        return int(os.environ.get("FAKE_ERROR", "0")) if self.pending else 0

    def abort(self) -> None:
        print("aborted", flush=True)

    def destroy(self) -> None:
        pass


class Device:
    def __init__(self, number: int | None = None) -> None:
        self.number = number

    def use(self) -> None:
        if self.number is not None:
            print("device", self.number, flush=True)

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _view(shape: tuple[int, ...], dtype: Any, memory: Any) -> Any:
    assert dtype is np.float32
    assert memory.bytes == 4 * shape[0]
    return np.ctypeslib.as_array((ctypes.c_float * shape[0]).from_address(memory.address)).view(Array)


_streams: dict[int, Stream] = {}
_arrays: dict[int, Any] = {}
_current: list[Stream] = [Prompt()]
_names = ["INT8", "UINT8", "INT32", "UINT32", "INT64", "UINT64", "FLOAT16", "FLOAT32", "FLOAT64"]
_types = dict(enumerate(name.lower() for name in _names))
nccl: Any = types.ModuleType("cupy.cuda.nccl")
nccl.available = True
nccl.NcclCommunicator = Nccl
nccl.get_unique_id = lambda: tuple(np.random.default_rng().integers(-128, 128, 128).tolist())
nccl.NCCL_SUM, nccl.NCCL_MAX, nccl.NCCL_MIN = 0, 2, 3
for number, name in enumerate(_names):
    setattr(nccl, "NCCL_" + name, number)
cuda: Any = types.ModuleType("cupy.cuda")
cuda.nccl, cuda.Event, cuda.Device, cuda.Stream, cuda.ExternalStream = nccl, Event, Device, Stream, ExternalStream
cuda.UnownedMemory = lambda address, count, owner: types.SimpleNamespace(address=address, bytes=count)
cuda.MemoryPointer = lambda memory, offset: memory
cuda.runtime = types.SimpleNamespace(getDeviceCount=lambda: 2)
cuda.get_current_stream = lambda device_id=None: _current[-1]
cupy: Any = types.ModuleType("cupy")
cupy.cuda = cuda
cupy.ndarray = _view
cupy.empty = lambda shape, dtype: np.empty(shape, dtype).view(Array)
cupy.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Array)
cupy.asarray = lambda array: np.array(array).view(Array)
cupy.asnumpy = lambda array: np.array(array)
sys.modules.update({"cupy": cupy, "cupy.cuda": cuda, "cupy.cuda.nccl": nccl})
