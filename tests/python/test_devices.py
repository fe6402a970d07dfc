"""What is said where CUDA is asked for and absent: which of module, driver, device and CuPy is missing, and what mends
it."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import _core, _device, ops


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    if _core.has_cuda_backend():
        pytest.skip("a CUDA backend is in use")
    monkeypatch.setattr(_device, "_cuda", None)


def status_of(monkeypatch: pytest.MonkeyPatch, **status: Any) -> None:
    module = types.SimpleNamespace(
        status=lambda: {"devices": 0, "driver_version": 0, "runtime_version": 13000, "problem": ""} | status
    )
    monkeypatch.setattr(_device, "_cuda", module)


def test_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "convec._cuda", None)
    with pytest.raises(RuntimeError, match=r"built without CUDA.*CONVEC_CUDA=ON pip install"):
        convec.device("cuda:0")
    assert convec.list_devices() == ["cpu"]
    assert str(convec.device("auto")) == "cpu"


def test_a_module_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ImportError("undefined symbol: x")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="undefined symbol"):
        convec.device("cuda")


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    status_of(monkeypatch)
    with pytest.raises(RuntimeError, match=r"no NVIDIA driver.*nvidia-smi"):
        convec.device("cuda:0")


def test_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    status_of(monkeypatch, driver_version=13000, problem="no CUDA-capable device is detected")
    with pytest.raises(RuntimeError, match=r"no CUDA device \(no CUDA-capable.*CUDA_VISIBLE_DEVICES"):
        convec.Sequential().to("cuda:0")


def test_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"CuPy.*pip install cupy-cuda13x"):
        _device.empty((2, 3), 0)


def test_arrays_on_a_device_say_why_they_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    status_of(monkeypatch)
    interface = {"shape": (3,), "typestr": "<f4", "data": (256, False), "version": 3}
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        ops.relu(types.SimpleNamespace(__cuda_array_interface__=interface))


@pytest.mark.parametrize("name", ["CPU", "gpu:0", "cuda:", "cuda:x", "cuda:-1", ""])
def test_other_names(name: str) -> None:
    with pytest.raises(ValueError, match="must be 'cpu', 'cuda'"):
        convec.device(name)
    with pytest.raises(TypeError, match="must be a name"):
        convec.device(0)  # type: ignore[arg-type]


def test_the_cpu_is_a_device() -> None:
    assert repr(convec.device("cpu")) == "convec.device('cpu')"
    assert convec.device(convec.device("cpu")) == convec.device("cpu")
    model = convec.Sequential([convec.Input((3,)), convec.layers.Dense(2)])
    assert model.to("cpu").device == "cpu"
    assert model.predict(np.zeros((1, 3), np.float32), verbose=0).shape == (1, 2)


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from convec import cli

    status_of(monkeypatch)
    assert cli.main(["info"]) == 0
    assert "no NVIDIA driver" in capsys.readouterr().out


def test_cublas_lt_of_pip_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []
    for package, number in (("cu13", 13), ("cublas", 12)):
        folder = tmp_path / "nvidia" / package / "lib"
        folder.mkdir(parents=True)
        wanted.append(folder / f"libcublasLt.so.{number}")
        wanted[-1].touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    assert _device.cublas_lt_of_pip() == [str(file) for file in wanted]
    monkeypatch.setattr(sys, "path", [])
    assert _device.cublas_lt_of_pip() == []
