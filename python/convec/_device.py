"""Devices: which there are, which new models use, and what the compiled core asks for where an array is on a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import pathlib
import sys
from contextvars import ContextVar, Token
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convec import _core

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Device", "current_device", "device", "list_devices", "set_device"]

#: Commands that mend what is missing.
_BUILD = (
    "install a CUDA toolkit (12.8 or later, nvcc on PATH) and build convec from source: "
    "CMAKE_ARGS=-DCONVEC_CUDA=ON pip install --no-binary convec convec"
)
_DRIVER = "install NVIDIA's driver and check it with nvidia-smi"
_DEVICE = "check nvidia-smi and the environment variable CUDA_VISIBLE_DEVICES"
_CUPY = "pip install cupy-cuda13x"


class Device:
    """A place where models are trained and run: the CPU or a CUDA device.

    Made by :func:`device`; a context within which models are built for it::

        with convec.device("cuda:0"):
            model = convec.Sequential([...])

    Attributes:
        type: 'cpu' or 'cuda'.
        index: the CUDA device's number; 0 for the CPU.
    """

    __slots__ = ("_tokens", "index", "type")

    def __init__(self, type: str, index: int = 0) -> None:  # noqa: A002 -- the field's word
        self.type = type
        self.index = index
        self._tokens: list[Token[Device | None]] = []

    def __enter__(self) -> Device:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._tokens.pop())

    def __str__(self) -> str:
        return self.type if self.type == "cpu" else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        return f"convec.device({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))


_current: ContextVar[Device | None] = ContextVar("convec_device", default=None)
_default: Device | None = None
_cuda: ModuleType | None = None


def _cuda_module() -> ModuleType:
    """The extension module with the CUDA backend, without asking for a device."""
    global _cuda
    if _cuda is None:
        try:
            _cuda = importlib.import_module("convec._cuda")
        except ModuleNotFoundError:
            raise RuntimeError(
                f"this convec was built without CUDA (there is no module convec._cuda); {_BUILD}"
            ) from None
        except ImportError as error:
            raise RuntimeError(f"the module convec._cuda cannot be loaded: {error}; {_BUILD}") from None
        for library in cublas_lt_of_pip():
            _cuda.add_cublas_lt(library)
    return _cuda


def cublas_lt_of_pip() -> list[str]:
    """The files of NVIDIA's cuBLASLt that pip has installed, newest first: no loader looks there by itself."""
    try:
        found = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return []
    folders = [] if found is None else list(found.submodule_search_locations or ())
    return [
        str(file)
        for number in (13, 12)
        for folder in folders
        for file in sorted(pathlib.Path(folder).glob(f"*/lib/libcublasLt.so.{number}"))
    ]


def cuda_problem() -> str:
    """Why CUDA cannot be used here and how to mend it, or ''."""
    try:
        status = _cuda_module().status()
    except RuntimeError as error:
        return str(error)
    if status["driver_version"] == 0:
        return f"there is no NVIDIA driver on this machine; {_DRIVER}"
    if status["devices"] == 0:
        problem = status["problem"] or "no CUDA-capable device is detected"
        return f"there is no CUDA device ({problem}); {_DEVICE}"
    return ""


def load_cuda() -> ModuleType:
    """Makes CUDA devices usable.

    Raises:
        RuntimeError: they cannot be; the message says why and how to mend it.
    """
    if not _core.has_cuda_backend():
        problem = cuda_problem()
        if problem:
            raise RuntimeError(f"CUDA is asked for, but {problem}")
        _core.set_cuda_backend(_cuda_module().backend())
    return _cuda_module()


def device(name: str | Device) -> Device:
    """A device by name.

    Args:
        name: 'cpu', 'cuda' (the first), 'cuda:1', ..., or 'auto': the first CUDA device where one can be used, else the
            CPU.

    Returns:
        The device, which also serves as a context: models built within it use it.

    Raises:
        RuntimeError: the device cannot be used; the message says whether the module was not built, there is no driver,
            or no such device, and how to mend it.
        ValueError: name is none of these. TypeError: name is no text.
    """
    if isinstance(name, Device):
        return name
    if not isinstance(name, str):
        raise TypeError(f"device is {name!r}, but must be a name such as 'cpu' or 'cuda:0'")
    if name == "cpu":
        return Device("cpu")
    if name == "auto":
        return Device("cpu") if cuda_problem() else Device("cuda")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (":" in name and not number.isdecimal()):
        raise ValueError(f"device is {name!r}, but must be 'cpu', 'cuda', 'cuda:0', 'cuda:1', ... or 'auto'")
    count: int = load_cuda().status()["devices"]
    index = int(number or 0)
    if index >= count:
        raise RuntimeError(f"device is {name!r}, but there are {count} CUDA devices: cuda:0 to cuda:{count - 1}")
    return Device("cuda", index)


def set_device(name: str | Device) -> None:
    """Sets the device that models are built for from now on, outside a ``with convec.device(...)``.

    At first it is that of the environment variable ``CONVEC_DEVICE``, or the CPU.

    Args:
        name: as in :func:`device`.

    Raises:
        RuntimeError, ValueError, TypeError: as :func:`device`.
    """
    global _default
    _default = device(name)


def current_device() -> Device:
    """The device that a model built now would use.

    Raises:
        RuntimeError, ValueError: ``CONVEC_DEVICE`` names one that cannot be used, or none.
    """
    global _default
    inner = _current.get()
    if inner is not None:
        return inner
    if _default is None:
        name = os.environ.get("CONVEC_DEVICE", "cpu") or "cpu"
        try:
            _default = device(name)
        except (RuntimeError, ValueError) as error:
            raise type(error)(f"the environment variable CONVEC_DEVICE is {name!r}: {error}") from None
    return _default


def list_devices() -> list[str]:
    """Names of the devices that can be used: 'cpu', and 'cuda:0' on where there are CUDA devices."""
    if cuda_problem():
        return ["cpu"]
    return ["cpu", *(f"cuda:{index}" for index in range(_cuda_module().status()["devices"]))]


def describe_cuda() -> list[str]:
    """Lines for ``convec info``: the devices, or why there are none."""
    problem = cuda_problem()
    if problem:
        return [problem]
    lines = []
    for index in range(_cuda_module().status()["devices"]):
        info = _cuda_module().device_info(index)
        major, minor = info["compute_capability"]
        lines.append(
            f"cuda:{index}: {info['name']}, compute capability {major}.{minor}, {info['multiprocessors']} "
            f"multiprocessors, {info['memory'] / 2**30:.0f} GB"
        )
    lines.append(f"dense layers: {_cuda_module().cublas_lt()}")
    return lines


# ---- For the compiled core -----------------------------------------------------------------------------------------


def _cupy() -> ModuleType:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise RuntimeError(
            f"arrays on a CUDA device are made with CuPy, which cannot be imported ({error}); {_CUPY}, or pass out="
        ) from None


def empty(shape: tuple[int, ...], index: int, dtype: str = "float32") -> Any:
    """An uninitialised array on a CUDA device, from CuPy's memory pool."""
    cupy = _cupy()
    with cupy.cuda.Device(index):
        return cupy.empty(shape, dtype=_bfloat16() if dtype == "bfloat16" else dtype)


def _bfloat16() -> Any:
    try:
        return importlib.import_module("ml_dtypes").bfloat16
    except ImportError as error:
        raise RuntimeError(
            f"bfloat16 arrays are made with CuPy 14 or later and ml_dtypes, which cannot be imported ({error}); "
            "pip install ml_dtypes, or pass out="
        ) from None


def from_dlpack(array: Any) -> Any:
    """A view of an array that offers a CUDA device's memory through DLPack alone."""
    return _cupy().from_dlpack(array)


def current_stream(index: int) -> int:
    """Address of CuPy's current stream on a device; the default stream's, 0, where CuPy is not in use."""
    cupy = sys.modules.get("cupy")
    return 0 if cupy is None else int(cupy.cuda.get_current_stream(index).ptr)


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The memory of a C-contiguous array, whose element type may be one that the core has not."""
    return array.reshape(-1).view(np.uint8)


class DeviceArray:
    """An array of convec's own in a CUDA device's memory.

    Attributes:
        shape: its extents.
        dtype: its element type.
        memory: what holds it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike = "float32", index: int = 0) -> None:
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.memory = _core.DeviceMemory(index, math.prod(self.shape) * self.dtype.itemsize)

    @classmethod
    def of(cls, array: npt.NDArray[Any], index: int = 0) -> Self:
        """A copy of a NumPy array on a device. Raises RuntimeError where it does not fit."""
        there = cls(array.shape, array.dtype, index)
        if array.size:
            there.memory.copy_in(_bytes(np.ascontiguousarray(array)))
        return there

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        address = self.memory.address if math.prod(self.shape) else 0
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (address, False),
            "strides": None,
            "version": 3,
        }

    def get(self) -> npt.NDArray[Any]:
        """A copy as a NumPy array."""
        host = np.empty(self.shape, self.dtype)
        if host.size:
            self.memory.copy_out(_bytes(host))
        return host


def index_of(array: Any) -> int:
    """Number of the CUDA device of an array without elements, whose address says nothing."""
    own = getattr(array, "device", None)
    return int(getattr(own, "id", None) or getattr(own, "index", None) or 0)


def transposed(array: Any, axes: tuple[int, ...]) -> Any:
    """A C-contiguous copy of a CUDA array with its axes in another order."""
    cupy = _cupy()
    return cupy.ascontiguousarray(cupy.transpose(cupy.asarray(array), axes))
