"""Fixtures shared by the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from convec import _core
from emulated_cuda import emulated_cuda, gpu_problem

# A shell's background job ignores Ctrl-C, and so would the programs that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test at every instruction-set level of this machine."""
    before = _core.current_isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Restores the number of threads after a test that changes it."""
    before = _core.num_threads()
    yield
    _core.set_num_threads(before)


@pytest.fixture
def emulated() -> Iterator[None]:
    """CUDA devices are the emulated one."""
    pytest.importorskip("convec._cuda_emulated", reason="built without the emulated CUDA device")
    with emulated_cuda():
        yield


@pytest.fixture(params=["emulated", "gpu"])
def cuda(request: pytest.FixtureRequest) -> None:
    """Runs the test on the emulated CUDA device, and on a GPU where there is one."""
    if request.param == "emulated":
        request.getfixturevalue("emulated")
    elif problem := gpu_problem():
        pytest.skip(problem)
