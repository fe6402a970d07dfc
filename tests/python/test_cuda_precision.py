"""Dense layers and convolutions on tensor cores: the shared case list in every precision, on a GPU where there is one,
and on the emulated device everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cases
import convec
import numpy as np
import pytest
from convec import _device, layers
from emulated_cuda import gpu_problem, switched
from emulated_cuda import to_device as to_emulated

GPU_PROBLEM = gpu_problem()
PRECISIONS = ("tf32", "3xtf32", "mixed_bfloat16")
OPS = (
    "conv2d", "conv2d_backward_input", "conv2d_backward_filters", "conv2d_backward",
    "dense", "dense_backward_input", "dense_backward_weights", "dense_backward",
)  # fmt: skip


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = convec.matmul_precision()
    yield
    convec.set_matmul_precision(before)


#: Before compute capability 9.0 ties go away from zero where float32 becomes TF32.
ties_to_even = True


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """Factors as tensor cores see them: to the nearest, ties to even."""
    bits = array.view(np.uint32)
    if precision == "tf32":
        half = np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1)) if ties_to_even else np.uint32(0x1000)
        bits = (bits + half) & np.uint32(0xFFFFE000)
    elif precision == "mixed_bfloat16":
        bits = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


def terms_of(case: cases.Case) -> float:
    """The products of a sum, from the tolerance that :func:`cases.summed` gave for them."""
    return ((case.tolerance.peak / cases.FLOAT_STEP - 8) / 2) ** 2


def in_float32(case: cases.Case, arrays: dict[str, Any]) -> bool:
    """Forward convolutions of at most 32 products a sum have a kernel of their own."""
    return case.op == "conv2d" and case.options.get("groups", 1) == 1 and arrays["filters"][..., 0].size <= 32


def expected(case: cases.Case, precision: str) -> list[np.ndarray]:
    """The exact result of rounded factors. Biases and their gradients are not multiplied."""
    arrays = case.arrays()
    if precision == "3xtf32" or in_float32(case, arrays):
        return cases.expected(case, arrays)
    factors = {
        name: rounded(value, precision) if isinstance(value, np.ndarray) and name != "bias" else value
        for name, value in arrays.items()
    }
    wanted = cases.expected(case, factors)
    if len(wanted) > 1:
        wanted[-1] = cases.expected(case, arrays)[-1]
    return wanted


def check(op: str, precision: str, move: Any, chosen: Any, on_gpu: bool) -> None:
    convec.set_matmul_precision(precision)
    for case in filter(chosen, cases.CASES[op]):
        arrays = case.arrays()
        tolerance = case.tolerance
        if on_gpu and precision != "3xtf32":
            # Tensor cores cut off what does not fit at each of their additions of eight or more products.
            tolerance = replace(tolerance, peak=tolerance.peak + terms_of(case) / 2 * cases.FLOAT_STEP)
        if precision == "3xtf32":
            # What is left out of a product is up to 2^-22 of it, of either sign: beside sums of few terms it counts.
            tolerance = replace(tolerance, peak=tolerance.peak + 8 * cases.FLOAT_STEP)
        moved = {name: move(v) if isinstance(v, np.ndarray) else v for name, v in arrays.items()}
        results = [result.get() for result in cases.run(case, moved)]
        wanted = expected(case, precision)
        assert len(results) == len(wanted)
        for number, (result, want) in enumerate(zip(results, wanted, strict=True)):
            tolerance.check(result, want, f"{case.id} in {precision}, result {number}")


def small(case: cases.Case) -> bool:
    return cases.small(case, 12_000)


@pytest.mark.parametrize("way", ["pipelined", "registers"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op", OPS)
def test_values_emulated(op: str, precision: str, way: str, emulated: None) -> None:
    # Through registers go all cases that are not loaded in fours, and here some of the others.
    every = 1 if way == "pipelined" else 4
    number = {case.id: index for index, case in enumerate(cases.CASES[op])}
    with switched("pipeline_products", way == "pipelined"):
        check(op, precision, to_emulated, lambda case: small(case) and number[case.id] % every == 0, False)


@pytest.mark.skipif(bool(GPU_PROBLEM), reason=GPU_PROBLEM)
@pytest.mark.parametrize("way", ["pipelined", "registers"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("op", OPS)
def test_values_on_gpu(op: str, precision: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cupy

    major = cupy.cuda.runtime.getDeviceProperties(0)["major"]
    if major < 8:
        pytest.skip("the GPU has no tensor cores for TF32 and bfloat16: it computes in float32")
    monkeypatch.setattr(sys.modules[__name__], "ties_to_even", major >= 9)
    # Under compute-sanitizer, which takes its time: one in so many of the small cases.
    every = int(os.environ.get("CONVEC_TEST_EVERY", "0"))
    number = {case.id: index for index, case in enumerate(cases.CASES[op])}

    def chosen(case: cases.Case) -> bool:
        if every:
            return small(case) and number[case.id] % every == 0
        return not case.name.startswith("winograd")

    with switched("pipeline_products", way == "pipelined"):
        check(op, precision, cupy.asarray, chosen, True)


# ---- Models --------------------------------------------------------------------------------------------------------


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((12, 7, 7, 5)).astype(np.float32), rng.integers(0, 4, 12)


def model_of(precision: str | None, device: str = "cuda:0") -> convec.Sequential:
    convec.utils.set_random_seed(3)
    model = convec.Sequential(
        [
            convec.Input((7, 7, 5)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(9, activation="relu"),
            layers.Dense(4, activation="softmax"),
        ]
    )
    if precision is not None:
        model.matmul_precision = precision
    model.to(device)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def fitted(precision: str | None, device: str = "cuda:0") -> list[np.ndarray]:
    x, y = images()
    model = model_of(precision, device)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
    return model.get_weights()


def largest_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def test_training_follows_the_models_precision(cuda: None) -> None:
    on_cpu = fitted(None, "cpu")
    exact = fitted(None)
    # Six steps of Adam move a weight by at most 0.006; gradients that are off by a factor's rounding turn few of them.
    # The lower bounds: it was not computed in float32 after all.
    for precision, least, most in (("tf32", 1e-6, 2e-3), ("mixed_bfloat16", 1e-5, 6e-3), ("3xtf32", 0.0, 2e-5)):
        weights = fitted(precision)
        difference = largest_difference(weights, on_cpu)
        assert least <= difference <= most, f"{precision}: {difference}"
        assert largest_difference(weights, fitted(precision)) == 0, f"{precision} does not repeat"
        assert largest_difference(weights, exact) > 0, f"{precision} gives the bits of float32"


def test_the_cpu_computes_in_float32() -> None:
    exact = fitted(None, "cpu")
    for precision in PRECISIONS:
        assert largest_difference(fitted(precision, "cpu"), exact) == 0


def test_precision_set_between_epochs_counts(cuda: None) -> None:
    x, y = images()
    model = model_of(None)
    model.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
    trained, state = model.get_weights(), model.predict(x, verbose=0)
    model.matmul_precision = "mixed_bfloat16"
    assert np.abs(model.predict(x, verbose=0) - state).max() > 1e-5
    model.fit(x, y, batch_size=4, epochs=1, verbose=0, shuffle=False)
    other = model_of("mixed_bfloat16")
    other.matmul_precision = "float32"
    other.fit(x, y, batch_size=4, epochs=2, verbose=0, shuffle=False)
    assert largest_difference(other.get_weights(), trained) == 0
    other.matmul_precision = "mixed_bfloat16"
    other.fit(x, y, batch_size=4, epochs=1, verbose=0, shuffle=False)
    assert largest_difference(other.get_weights(), model.get_weights()) == 0
    other.to("cpu")
    assert other.matmul_precision == "mixed_bfloat16"


def test_models_take_the_precision_of_the_day() -> None:
    assert convec.matmul_precision() == "float32"
    before = model_of(None, "cpu")
    convec.set_matmul_precision("tf32")
    after = model_of(None, "cpu")
    assert (before.matmul_precision, after.matmul_precision) == ("float32", "tf32")
    unbuilt = convec.Sequential([layers.Dense(2)])
    unbuilt.matmul_precision = "3xtf32"
    unbuilt.build((None, 3))
    assert unbuilt.matmul_precision == "3xtf32"


def test_other_precisions_are_refused() -> None:
    model = model_of(None, "cpu")
    for name in ("bfloat16", "TF32", "", "float16"):
        with pytest.raises(ValueError, match="must be 'float32', 'tf32', '3xtf32' or 'mixed_bfloat16'"):
            convec.set_matmul_precision(name)
        with pytest.raises(ValueError, match="must be 'float32'"):
            model.matmul_precision = name
    with pytest.raises(TypeError):
        convec.set_matmul_precision(None)  # type: ignore[arg-type]
    assert convec.matmul_precision() == model.matmul_precision == "float32"


@pytest.mark.parametrize(("value", "printed"), [("tf32", "tf32"), ("", "float32"), ("fp8", "CONVEC_MATMUL_PRECISION")])
def test_precision_by_environment(value: str, printed: str) -> None:
    program = "import convec\ntry: print(convec.matmul_precision())\nexcept ValueError as error: print(error)"
    environment = os.environ | {"CONVEC_MATMUL_PRECISION": value}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert printed in done.stdout


# ---- cuBLASLt ------------------------------------------------------------------------------------------------------


def test_the_library_for_dense_layers_is_named(emulated: None) -> None:
    assert "dense layers: the emulated device has no cuBLASLt" in _device.describe_cuda()


@pytest.mark.skipif(bool(GPU_PROBLEM), reason=GPU_PROBLEM)
def test_dense_layers_on_gpu_without_cublas_lt() -> None:
    """The other tests take the library where there is one; convec's own kernels must pass them too."""
    if "CONVEC_TEST_EVERY" in os.environ:
        pytest.skip("another process is not looked into by compute-sanitizer")
    arguments = ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "-k", "on_gpu and dense and not without", __file__]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        env=os.environ | {"CONVEC_CUBLASLT": "0"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
