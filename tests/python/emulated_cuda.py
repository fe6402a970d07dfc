"""The CUDA backend on its emulated device, and a stand-in for the part of CuPy that convec uses."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from convec import _core, _device


def to_device(array: np.ndarray) -> CupyArray:
    return CupyArray.of(array)


def gpu_problem() -> str:
    """Why tests cannot run on a GPU here, or ''."""
    problem = _device.cuda_problem()
    if not problem:
        try:
            importlib.import_module("cupy")
        except ImportError as error:
            problem = str(error)
    return problem


@contextmanager
def switched(name: str, enabled: bool) -> Iterator[None]:
    """A switch of the CUDA module, such as ``pipeline_products``, set within."""
    switch = getattr(_device.load_cuda(), name)
    before = switch(enabled)
    try:
        yield
    finally:
        switch(before)


class CupyArray(_device.DeviceArray):
    """An array with the methods of CuPy's that convec calls."""

    def transpose(self, axes: tuple[int, ...]) -> np.ndarray:
        return np.transpose(self.get(), axes)


def fake_cupy() -> types.ModuleType:
    cupy: Any = types.ModuleType("cupy")
    cupy.empty = CupyArray
    cupy.asarray = lambda array: array
    cupy.transpose = lambda array, axes: np.transpose(array.get(), axes)
    cupy.ascontiguousarray = to_device
    cupy.cuda = types.SimpleNamespace(
        Device=lambda index: _Nothing(), get_current_stream=lambda device_id=None: types.SimpleNamespace(ptr=0)
    )
    return cupy


class _Nothing:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def emulated_cuda(cupy: types.ModuleType | None = None) -> Iterator[None]:
    """CUDA devices are the emulated one within; CuPy is ``cupy``, or a stand-in for what networks ask of it."""
    module = importlib.import_module("convec._cuda_emulated")
    before = (_device._cuda, sys.modules.get("cupy"))
    _device._cuda = module
    _core.set_cuda_backend(module.backend())
    sys.modules["cupy"] = fake_cupy() if cupy is None else cupy
    try:
        yield
    finally:
        _device._cuda = before[0]
        _core.set_cuda_backend(None)
        if before[1] is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before[1]
