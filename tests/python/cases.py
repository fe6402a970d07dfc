"""One case list an op of ``convec.ops``: shapes, settings and tolerance. The value, gradient, overrun, thread and
instruction-set tests, and the benchmarks, are all fed from here.

A case is called with keywords only, ``op(**arrays, **options)``; arrays that the op updates in place count as results.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
from convec import ops

FLOAT_STEP = 2.0**-24  # half the distance of 1 and the next float32: the largest relative error of one rounding


@dataclass(frozen=True)
class Tolerance:
    """|result - reference| <= relative * |reference| + peak * max|reference|."""

    relative: float
    peak: float
    reason: str

    def check(self, result: np.ndarray, expected: np.ndarray, what: str) -> None:
        assert result.shape == expected.shape, f"{what}: shape {result.shape}, expected {expected.shape}"
        if expected.size == 0:
            return
        bound = self.relative * np.abs(expected) + self.peak * np.abs(expected).max()
        error = np.abs(result.astype(np.float64) - expected)
        bad = ~(error <= bound)
        if bad.any():
            at = np.unravel_index(np.argmax(np.where(bad, error, -1.0)), error.shape)
            raise AssertionError(
                f"{what}: {bad.sum()} of {bad.size} elements are off, e.g. at {tuple(map(int, at))}: {result[at]!r}, "
                f"expected {expected[at]!r}; the tolerance is {self.relative:g} relative and {self.peak:g} of the "
                f"peak ({self.reason})"
            )


EXACT = Tolerance(0.0, 0.0, "no arithmetic: elements are chosen, not computed")


def rounding(steps: float, reason: str) -> Tolerance:
    return Tolerance(steps * FLOAT_STEP, 0.0, reason)


def summed(terms: int) -> Tolerance:
    """Sums of products of independent numbers."""
    return Tolerance(
        0.0, (8 + 2 * math.sqrt(terms)) * FLOAT_STEP,
        f"float32 sums of {terms} terms: rounding errors add up like a random walk, here five standard deviations",
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    op: str
    name: str
    build: Callable[[np.random.Generator], dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    tolerance: Tolerance = EXACT
    # Large enough to be split over threads.
    large: bool = False

    @property
    def id(self) -> str:
        return f"{self.op}-{self.name}"

    def arrays(self) -> dict[str, Any]:
        """Fresh arrays, the same at every call."""
        return self.build(np.random.default_rng(zlib.crc32(self.id.encode())))


def small(case: Case, most: int) -> bool:
    """Of at most so many numbers: what a GPU does at once takes the emulation a while."""
    sizes = [value.size for value in case.arrays().values() if isinstance(value, np.ndarray)]
    return not case.large and not case.name.startswith("winograd") and sum(sizes) <= most


# Arrays that an op updates in place, in the order the reference returns them after the results.
IN_PLACE = {
    "batch_norm_training": ("moving_mean", "moving_variance"),
    "optimizer_step": ("parameter", "slots"),
}


def flatten(values: Any) -> list[Any]:
    if isinstance(values, (list, tuple)):
        return [leaf for value in values for leaf in flatten(value)]
    return [] if values is None else [values]


def run(case: Case, arrays: dict[str, Any], **extra: Any) -> list[Any]:
    """Results of the op and the arrays it updated, as one list."""
    results = flatten(getattr(ops, case.op)(**arrays, **case.options, **extra))
    return results + flatten([arrays[name] for name in IN_PLACE.get(case.op, ())])


def expected(case: Case, arrays: dict[str, Any]) -> list[np.ndarray]:
    """The reference's results in float64."""

    def widen(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [widen(item) for item in value]
        return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value

    widened = {name: value if name == "input_shape" else widen(value) for name, value in arrays.items()}
    results = flatten(getattr(reference, case.op)(**widened, **case.options))
    return [np.asarray(result, dtype=np.float64) for result in results]


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def uniform(rng: np.random.Generator, low: float, high: float, *shape: int) -> np.ndarray:
    return rng.uniform(low, high, shape).astype(np.float32)


CASES: dict[str, list[Case]] = {}


def add(op: str, name: str, build: Callable[[np.random.Generator], dict[str, Any]], **rest: Any) -> None:
    CASES.setdefault(op, []).append(Case(op, name, build, **rest))


# ---- Convolution ---------------------------------------------------------------------------------------------------


def add_conv2d(
    name: str, batch: int, height: int, width: int, channels: int, filters: int, kernel: tuple[int, int] = (3, 3), *,
    bias: bool = True, activation: str = "linear", large: bool = False, groups: int = 1, data_format: str | None = None,
    **options: Any,
) -> None:  # fmt: skip
    if groups != 1:
        options["groups"] = groups
    shape = (batch, height, width, channels)
    filters_shape = (*kernel, channels // groups, filters)
    out = reference.conv2d(np.zeros(shape, dtype=np.float32), np.zeros(filters_shape, dtype=np.float32), **options)
    out_shape = out.shape
    if data_format == "channels_first":
        options["data_format"] = data_format
        shape = (batch, channels, height, width)
        out_shape = (batch, filters, *out.shape[1:3])
    area = kernel[0] * kernel[1]
    pixels = batch * out.shape[1] * out.shape[2]

    def image(rng):
        return normal(rng, *shape)

    def weights(rng):
        return normal(rng, *filters_shape, scale=1 / math.sqrt(area * channels // groups))

    def gradient(rng):
        return normal(rng, *out_shape)

    add(
        "conv2d", name,
        lambda rng: {"input": image(rng), "filters": weights(rng), "bias": normal(rng, filters) if bias else None},
        options=options | ({} if activation == "linear" else {"activation": activation}),
        tolerance=summed(area * channels // groups), large=large,
    )  # fmt: skip
    if activation != "linear":
        return
    add(
        "conv2d_backward_input", name,
        lambda rng: {"grad_output": gradient(rng), "filters": weights(rng), "input_shape": shape},
        options=options, tolerance=summed(area * filters // groups), large=large,
    )  # fmt: skip
    add(
        "conv2d_backward_filters", name,
        lambda rng: {"input": image(rng), "grad_output": gradient(rng)},
        options=options | {"kernel_size": kernel}, tolerance=summed(pixels), large=large,
    )  # fmt: skip
    add(
        "conv2d_backward", name,
        lambda rng: {"grad_output": gradient(rng), "input": image(rng), "filters": weights(rng)},
        options=options, tolerance=summed(max(pixels, area * filters // groups)), large=large,
    )  # fmt: skip


# Around every vector (4, 8, 16), panel (32) and tile tail.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 63, 64, 65)
for count in CHANNELS:
    add_conv2d(f"filters{count}", 2, 6, 7, 3, count)
    add_conv2d(f"channels{count}", 1, 5, 6, count, 5)
for extent in (3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 23, 28, 29, 31):
    add_conv2d(f"width{extent}", 1, 3, extent, 2, 9)
    add_conv2d(f"height{extent}", 1, extent, 3, 2, 17)
add_conv2d("first-layer", 2, 28, 28, 1, 32)
add_conv2d("second-layer", 2, 13, 13, 32, 64)
add_conv2d("third-layer", 2, 5, 5, 64, 64)
add_conv2d("prime", 3, 11, 13, 7, 19)
add_conv2d("batch1", 1, 9, 9, 5, 11)
add_conv2d("one-pixel", 1, 1, 1, 1, 1, (1, 1))
add_conv2d("one-output", 3, 5, 5, 6, 10, (5, 5))
add_conv2d("pointwise", 2, 7, 5, 37, 41, (1, 1))
add_conv2d("pointwise-strided", 2, 7, 6, 8, 18, (1, 1), strides=2)
add_conv2d("row-filter", 2, 6, 11, 4, 6, (1, 5))
add_conv2d("column-filter", 2, 11, 6, 4, 6, (5, 1))
add_conv2d("even-filter", 2, 8, 9, 3, 20, (2, 4))
add_conv2d("large-filter", 1, 17, 17, 3, 9, (7, 7), strides=2)
add_conv2d("same", 2, 7, 8, 5, 9, padding="same")
add_conv2d("same-even-filter", 2, 7, 8, 5, 9, (2, 4), padding="same")
add_conv2d("same-stride2", 2, 7, 8, 5, 9, padding="same", strides=2)
add_conv2d("same-stride3", 2, 10, 11, 3, 17, (5, 4), padding="same", strides=(3, 2))
add_conv2d("same-filter-over-image", 1, 3, 2, 4, 33, (5, 7), padding="same")
add_conv2d("same-stride-over-filter", 2, 9, 9, 3, 7, (2, 2), padding="same", strides=3)
add_conv2d("padded", 2, 6, 5, 3, 9, padding=((1, 1), (1, 1)))
add_conv2d("padded-unevenly", 2, 6, 5, 3, 9, padding=((2, 0), (0, 3)))
add_conv2d("padded-beyond-filter", 1, 4, 4, 3, 9, padding=((4, 5), (6, 3)))
add_conv2d("stride2", 2, 9, 10, 4, 16, strides=2)
add_conv2d("stride-skips-rows", 2, 11, 11, 4, 6, (2, 2), strides=(4, 3))
add_conv2d("stride-leaves-rest", 2, 8, 9, 3, 6, strides=(3, 4))
add_conv2d("dilated", 2, 9, 9, 5, 8, dilation=2)
add_conv2d("dilated-unevenly", 2, 11, 12, 3, 17, dilation=(3, 2), padding="same")
add_conv2d("dilated-beyond-the-image", 2, 5, 6, 3, 7, dilation=(40, 50), padding="same")
add_conv2d("dilated-strided", 2, 13, 12, 3, 9, dilation=(2, 3), strides=(2, 1), padding=((2, 1), (3, 0)))
add_conv2d("groups2", 2, 7, 7, 6, 10, groups=2)
add_conv2d("groups3", 2, 6, 8, 9, 51, groups=3, padding="same", strides=2)
add_conv2d("groups-vector-tails", 1, 5, 5, 34, 66, groups=2)
add_conv2d("depthwise", 2, 8, 7, 19, 19, groups=19, padding="same")
add_conv2d("depthwise-multiplier", 2, 6, 6, 5, 15, groups=5, dilation=2)
# Lines of whole eights, which bfloat16 arrays are loaded in: around the tiles of 64 and 128.
add_conv2d("eights", 1, 5, 7, 8, 8)
add_conv2d("eights-prime", 2, 7, 5, 24, 40, (2, 3), padding="same")
add_conv2d("eights-strided", 2, 9, 8, 16, 72, strides=(2, 3), padding="same")
add_conv2d("eights-dilated", 1, 9, 10, 40, 16, dilation=(2, 3), padding=((1, 2), (3, 0)))
add_conv2d("eights-groups", 2, 6, 7, 48, 24, groups=3, padding="same")
add_conv2d("eights-pointwise", 1, 13, 11, 56, 88, (1, 1))
add_conv2d("eights-but-channels", 2, 9, 8, 3, 16, (5, 4), padding="same", strides=2)
add_conv2d("eights-but-filters", 1, 5, 6, 16, 12)
add_conv2d("eights-one-output", 1, 4, 4, 8, 136, (4, 4))
add_conv2d("no-bias", 2, 6, 6, 3, 8, bias=False)
add_conv2d("channels-first", 2, 6, 7, 3, 8, padding="same", strides=2, data_format="channels_first")
for function in reference.ACTIVATIONS[1:]:
    add_conv2d(f"{function}", 2, 5, 6, 3, 21, activation=function)
add_conv2d("relu-no-bias", 2, 6, 6, 3, 8, bias=False, activation="relu")
add_conv2d("empty-batch", 0, 6, 6, 3, 8)
add_conv2d("large", 9, 30, 30, 16, 33, padding="same", large=True)
add_conv2d("large-grouped", 5, 31, 33, 6, 40, groups=2, strides=2, large=True)
add_conv2d("large-one-image", 1, 64, 61, 3, 20, large=True)
add_conv2d("large-deep", 1, 6, 6, 160, 150, large=True)
# The gradient to the filters: pixels packed and not, blocks of some rows and of some images, several chunks of images.
add_conv2d("large-strided", 3, 41, 43, 20, 36, padding="same", strides=2, large=True)
add_conv2d("large-pointwise", 4, 29, 31, 23, 150, (1, 1), large=True)
add_conv2d("large-pointwise-deep", 3, 17, 19, 140, 24, (1, 1), large=True)
add_conv2d("large-batch", 37, 5, 6, 24, 40, (2, 3), padding="same", large=True)
add_conv2d("large-strided-deep", 2, 15, 14, 130, 270, padding="same", strides=2, large=True)

# By Winograd's algorithm: around tiles of 4 x 4, panels and vectors, few and many tiles, one block of them or several.
for extent in (7, 8, 10, 11, 12, 15):
    add_conv2d(f"winograd-extent{extent}", 15, extent, extent, 16, 16, padding="same")
for count in (16, 17, 31, 32, 33, 47, 65):
    add_conv2d(f"winograd-filters{count}", 2, 16, 15, 19, count)
    add_conv2d(f"winograd-channels{count}", 2, 15, 16, count, 18, padding="same")
add_conv2d("winograd-padded-unevenly", 3, 15, 14, 20, 24, padding=((2, 0), (0, 3)))
add_conv2d("winograd-padded-beyond-filter", 3, 12, 13, 16, 16, padding=((4, 5), (6, 3)))
add_conv2d("winograd-relu", 2, 15, 16, 17, 33, padding="same", activation="relu")
add_conv2d("winograd-no-bias", 2, 15, 16, 16, 32, padding="same", bias=False)
add_conv2d("winograd-deep", 8, 8, 7, 256, 48, padding="same", large=True)
add_conv2d("winograd-many-tiles", 4, 62, 63, 16, 17, padding="same", large=True)
add_conv2d("winograd-blocks-of-tiles", 2, 50, 94, 128, 96, large=True)


# ---- Dense ---------------------------------------------------------------------------------------------------------


def add_dense(
    name: str, batch: int, inputs: int, units: int, *, bias: bool = True, activation: str = "linear",
    large: bool = False,
) -> None:  # fmt: skip
    def weights(rng):
        return normal(rng, inputs, units, scale=1 / math.sqrt(inputs))

    add(
        "dense", name,
        lambda rng: {
            "input": normal(rng, batch, inputs), "weights": weights(rng), "bias": normal(rng, units) if bias else None,
        },
        options={} if activation == "linear" else {"activation": activation}, tolerance=summed(inputs), large=large,
    )  # fmt: skip
    if activation != "linear":
        return
    add(
        "dense_backward_input", name,
        lambda rng: {"grad_output": normal(rng, batch, units), "weights": weights(rng)},
        tolerance=summed(units), large=large,
    )  # fmt: skip
    add(
        "dense_backward_weights", name,
        lambda rng: {"input": normal(rng, batch, inputs), "grad_output": normal(rng, batch, units)},
        tolerance=summed(batch), large=large,
    )  # fmt: skip
    add(
        "dense_backward", name,
        lambda rng: {
            "grad_output": normal(rng, batch, units), "input": normal(rng, batch, inputs), "weights": weights(rng),
        },
        tolerance=summed(max(batch, units)), large=large,
    )  # fmt: skip


for count in CHANNELS:
    add_dense(f"units{count}", 3, 6, count)
    add_dense(f"in{count}", 3, count, 6)
    add_dense(f"batch{count}", count, 5, 18)
add_dense("eights", 5, 8, 16)
add_dense("eights-wide", 19, 40, 136)
add_dense("eights-long", 3, 1032, 24)
add_dense("seed-hidden", 32, 576, 64)
add_dense("seed-output", 32, 64, 10)
add_dense("one", 1, 1, 1)
add_dense("prime", 13, 97, 101)
add_dense("long-reduction", 2, 2053, 7)
add_dense("no-bias", 3, 5, 7, bias=False)
for function in reference.ACTIVATIONS[1:]:
    add_dense(function, 5, 9, 21, activation=function)
add_dense("empty-batch", 0, 5, 7)
add_dense("large", 130, 310, 290, large=True)
add_dense("large-one-row", 1, 3000, 500, large=True)


# ---- Pooling -------------------------------------------------------------------------------------------------------

MEAN = rounding(24, "a sum of at most a few hundred terms and a division")


def add_pool2d(
    name: str, batch: int, height: int, width: int, channels: int, *, ties: bool = False, large: bool = False,
    data_format: str | None = None, **options: Any,
) -> None:  # fmt: skip
    shape = (batch, height, width, channels)
    out_shape = reference.average_pool2d(np.zeros(shape), **options).shape
    if data_format == "channels_first":
        options["data_format"] = data_format
        shape = (batch, channels, height, width)
        out_shape = (out_shape[0], out_shape[3], *out_shape[1:3])

    def image(rng):
        return rng.integers(-1, 2, shape).astype(np.float32) if ties else normal(rng, *shape)

    def gradient(rng):
        return normal(rng, *out_shape)

    overlapping = Tolerance(0.0, 32 * FLOAT_STEP, "sums over the windows that overlap in a pixel")
    add("max_pool2d", name, lambda rng: {"input": image(rng)}, options=options, large=large)
    add(
        "max_pool2d_backward", name, lambda rng: {"grad_output": gradient(rng), "input": image(rng)},
        options=options, tolerance=overlapping, large=large,
    )  # fmt: skip
    if ties:
        return
    add(
        "average_pool2d", name, lambda rng: {"input": image(rng)}, options=options,
        tolerance=Tolerance(0.0, 32 * FLOAT_STEP, MEAN.reason), large=large,
    )  # fmt: skip
    add(
        "average_pool2d_backward", name, lambda rng: {"grad_output": gradient(rng), "input_shape": shape},
        options=options, tolerance=overlapping, large=large,
    )  # fmt: skip


for count in CHANNELS:
    add_pool2d(f"channels{count}", 2, 5, 6, count)
add_pool2d("one-pixel", 1, 1, 1, 1, pool_size=1)
add_pool2d("odd", 2, 7, 9, 5)
add_pool2d("prime", 3, 11, 13, 7, pool_size=3)
add_pool2d("overlapping", 2, 8, 9, 6, pool_size=3, strides=1)
add_pool2d("overlapping-stride2", 2, 9, 8, 17, pool_size=3, strides=2)
add_pool2d("apart", 2, 9, 11, 4, pool_size=2, strides=3)
add_pool2d("uneven", 2, 9, 11, 4, pool_size=(3, 2), strides=(2, 3))
add_pool2d("same", 2, 7, 7, 3, padding="same")
add_pool2d("same-overlapping", 2, 7, 8, 9, pool_size=3, strides=2, padding="same")
add_pool2d("same-uneven", 1, 5, 8, 9, pool_size=(4, 3), strides=(3, 1), padding="same")
add_pool2d("same-pool-over-image", 1, 2, 3, 4, pool_size=5, strides=1, padding="same")
add_pool2d("padded", 2, 6, 5, 4, pool_size=3, strides=2, padding=((1, 0), (2, 1)))
add_pool2d("whole-image", 2, 6, 5, 4, pool_size=(6, 5))
add_pool2d("ties", 3, 8, 8, 5, ties=True)
add_pool2d("ties-overlapping", 3, 8, 9, 18, ties=True, pool_size=3, strides=2, padding="same")
add_pool2d("channels-first", 2, 6, 7, 3, padding="same", data_format="channels_first")
add_pool2d("empty-batch", 0, 6, 6, 3)
add_pool2d("large", 8, 33, 34, 19, large=True)
add_pool2d("large-same", 3, 40, 41, 70, pool_size=3, strides=2, padding="same", large=True)
add_pool2d("large-ties", 5, 30, 30, 65, ties=True, large=True)


def add_global_pool2d(
    name: str, batch: int, height: int, width: int, channels: int, *, ties: bool = False, large: bool = False,
    **options: Any,
) -> None:  # fmt: skip
    shape = (batch, height, width, channels)
    if options:
        shape = (batch, channels, height, width)

    def image(rng):
        return rng.integers(-1, 2, shape).astype(np.float32) if ties else normal(rng, *shape)

    def gradient(rng):
        return normal(rng, batch, channels)

    rest = {"options": options, "large": large}
    add("global_max_pool2d", name, lambda rng: {"input": image(rng)}, **rest)
    add("global_max_pool2d_backward", name, lambda rng: {"grad_output": gradient(rng), "input": image(rng)}, **rest)
    if ties:
        return
    add(
        "global_average_pool2d", name, lambda rng: {"input": image(rng)},
        tolerance=Tolerance(0.0, 32 * FLOAT_STEP, "sums in blocks of 64"), **rest,
    )  # fmt: skip
    add(
        "global_average_pool2d_backward", name, lambda rng: {"grad_output": gradient(rng), "input_shape": shape},
        tolerance=rounding(1, "one division"), **rest,
    )  # fmt: skip


for count in CHANNELS:
    add_global_pool2d(f"channels{count}", 2, 5, 3, count)
add_global_pool2d("one-pixel", 3, 1, 1, 2)
add_global_pool2d("many-pixels", 2, 37, 41, 3)
add_global_pool2d("ties", 3, 4, 4, 7, ties=True)
add_global_pool2d("channels-first", 2, 4, 5, 3, data_format="channels_first")
add_global_pool2d("empty-batch", 0, 4, 5, 3)
add_global_pool2d("large", 6, 19, 23, 130, large=True)


# ---- Activations ---------------------------------------------------------------------------------------------------

# Sizes around every vector tail.
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65)
FUNCTION = Tolerance(16 * FLOAT_STEP, 2 * FLOAT_STEP, "polynomials good to a few units in the last place")

for function in reference.ACTIVATIONS:
    shapes = {f"{function}-large": (3, 20011)} | {f"{function}-{size}": (size,) for size in SIZES}
    shapes |= {f"{function}-rank4": (2, 3, 5, 7), f"{function}-scalar": (), f"{function}-empty": (0, 3)}
    for case_name, case_shape in shapes.items():
        exact = function in ("linear", "relu", "relu6")
        big = case_name.endswith("large")
        add(
            "activation", case_name, lambda rng, s=case_shape: {"input": normal(rng, *s, scale=3)},
            options={"name": function}, tolerance=EXACT if exact else FUNCTION, large=big,
        )  # fmt: skip
        add(
            "activation_backward", case_name,
            lambda rng, s=case_shape: {"grad_output": normal(rng, *s), "input": normal(rng, *s, scale=3)},
            options={"name": function}, tolerance=EXACT if exact else FUNCTION, large=big,
        )  # fmt: skip
for size in (*SIZES, 40000):
    add("relu", f"{size}", lambda rng, s=size: {"input": normal(rng, s)}, large=size > 1000)
    add(
        "relu_backward", f"{size}", lambda rng, s=size: {"grad_output": normal(rng, s), "input": normal(rng, s)},
        large=size > 1000,
    )  # fmt: skip
    add(
        "rescale", f"{size}", lambda rng, s=size: {"input": uniform(rng, 0, 255, s)},
        options={"scale": 2 / 255, "offset": -1.0}, large=size > 1000,
        tolerance=Tolerance(0, 6 * FLOAT_STEP, "scale is rounded to float32; the difference of a product and 1"),
    )  # fmt: skip
for size in (*SIZES, 257):
    for rate in (0.0, 0.25, 0.5, 0.9):
        add(
            "dropout", f"{size}-rate{rate}", lambda rng, s=size: {"input": normal(rng, s)},
            options={"rate": rate, "seed": 2**63 + 12345, "offset": 2**40 + 7},
            tolerance=rounding(3, "1 / (1 - rate) is rounded to float32, and a product"),
        )  # fmt: skip
add(
    "dropout", "large", lambda rng: {"input": normal(rng, 3, 5003)}, options={"rate": 0.3, "seed": 1},
    tolerance=rounding(3, "1 / (1 - rate) is rounded to float32, and a product"), large=True,
)  # fmt: skip

SOFTMAX = Tolerance(24 * FLOAT_STEP, FLOAT_STEP, "an exponential, a sum and a division")


def add_softmax(name: str, *shape: int, large: bool = False) -> None:
    add("softmax", name, lambda rng: {"input": normal(rng, *shape, scale=2)}, tolerance=SOFTMAX, large=large)
    add(
        "softmax_backward", name,
        lambda rng: {
            "grad_output": normal(rng, *shape),
            "output": reference.softmax(normal(rng, *shape, scale=2).astype(np.float64)).astype(np.float32),
        },
        tolerance=Tolerance(8 * FLOAT_STEP, 16 * FLOAT_STEP, "a sum of products, a difference that may cancel"),
        large=large,
    )  # fmt: skip


for size in (*SIZES, 10, 100, 1000):
    add_softmax(f"classes{size}", 3, size)
add_softmax("rank1", 10)
add_softmax("rank3", 2, 3, 5)
add("softmax", "steep", lambda rng: {"input": normal(rng, 5, 10, scale=50)}, tolerance=SOFTMAX)
add_softmax("large", 2001, 17, large=True)


# ---- Losses and metrics --------------------------------------------------------------------------------------------


def labels_of(rng: np.random.Generator, rows: int, classes: int, kind: str) -> np.ndarray:
    labels = rng.integers(0, classes, rows)
    if kind == "one-hot":
        return np.eye(classes, dtype=np.float32)[labels]
    if kind == "soft":
        return reference.softmax(rng.standard_normal((rows, classes))).astype(np.float32)
    return labels.astype(kind)


def add_cross_entropy(
    name: str, rows: int, classes: int, *, labels: str = "int64", scale: float = 2.0, large: bool = False,
    **options: Any,
) -> None:  # fmt: skip
    def logits(rng):
        x = normal(rng, rows, classes, scale=scale)
        if options.get("from_logits", True):
            return x
        return reference.softmax(x.astype(np.float64)).astype(np.float32)

    add(
        "softmax_cross_entropy", name,
        lambda rng: {"logits": logits(rng), "labels": labels_of(rng, rows, classes, labels)},
        options=options, large=large,
        tolerance=Tolerance(16 * FLOAT_STEP, 8 * FLOAT_STEP, "an exponential, a sum, a logarithm; near 0 they cancel"),
    )  # fmt: skip
    add(
        "softmax_cross_entropy_backward", name,
        lambda rng: {
            "grad_losses": normal(rng, rows), "logits": logits(rng), "labels": labels_of(rng, rows, classes, labels),
        },
        options=options, large=large,
        tolerance=Tolerance(16 * FLOAT_STEP, 8 * FLOAT_STEP, "an exponential, a sum, a division; p - q may cancel"),
    )  # fmt: skip


for size in (*SIZES, 10, 100, 1000):
    for kind in ("int64", "soft"):
        add_cross_entropy(f"{kind}-classes{size}", 4, size, labels=kind)
for kind in ("int32", "int64", "uint8", "one-hot", "soft"):
    add_cross_entropy(f"{kind}", 32, 10, labels=kind)
    add_cross_entropy(f"{kind}-smoothed", 7, 10, labels=kind, label_smoothing=0.1)
    add_cross_entropy(f"{kind}-probabilities", 7, 10, labels=kind, from_logits=False)
    add_cross_entropy(f"{kind}-probabilities-smoothed", 7, 17, labels=kind, from_logits=False, label_smoothing=0.2)
    add_cross_entropy(f"{kind}-large", 1501, 11, labels=kind, large=True)
add_cross_entropy("one-row", 1, 3)
add_cross_entropy("one-class", 3, 1)
add_cross_entropy("steep", 9, 10, scale=30.0)
add_cross_entropy("steep-soft", 9, 10, scale=30.0, labels="soft")
add_cross_entropy("empty-batch", 0, 10)


def add_pointwise(name: str, loss: str, *shape: int, large: bool = False, **options: Any) -> None:
    options = {"loss": loss} | options

    def predictions(rng):
        if loss == "binary_crossentropy" and not options.get("from_logits"):
            return uniform(rng, 0.02, 0.98, *shape)
        return normal(rng, *shape, scale=1.5)

    def targets(rng):
        if loss == "binary_crossentropy":
            return rng.integers(0, 2, shape).astype(np.float32)
        return normal(rng, *shape)

    tolerance = Tolerance(16 * FLOAT_STEP, 8 * FLOAT_STEP, "logarithms and a mean of a few terms; differences cancel")
    add(
        "pointwise_loss", name, lambda rng: {"predictions": predictions(rng), "targets": targets(rng)},
        options=options, tolerance=tolerance, large=large,
    )  # fmt: skip
    add(
        "pointwise_loss_backward", name,
        lambda rng: {
            "grad_losses": normal(rng, *shape[:1]), "predictions": predictions(rng), "targets": targets(rng),
        },
        options=options, tolerance=tolerance, large=large,
    )  # fmt: skip


for kind in ("binary_crossentropy", "mean_squared_error", "mean_absolute_error", "huber"):
    for size in SIZES:
        add_pointwise(f"{kind}-columns{size}", kind, 3, size)
    add_pointwise(f"{kind}-rank1", kind, 9)
    add_pointwise(f"{kind}-rank3", kind, 4, 3, 5)
    add_pointwise(f"{kind}-empty-batch", kind, 0, 5)
    add_pointwise(f"{kind}-large", kind, 700, 19, large=True)
add_pointwise("logits", "binary_crossentropy", 6, 21, from_logits=True)
add_pointwise("logits-smoothed", "binary_crossentropy", 6, 21, from_logits=True, label_smoothing=0.1)
add_pointwise("smoothed", "binary_crossentropy", 6, 21, label_smoothing=0.1)


def add_metric(name: str, metric: str, rows: int, classes: int, *, large: bool = False, **options: Any) -> None:
    kind = "int64" if metric.startswith("sparse") else "soft"

    def build(rng):
        # Few distinct values, so that there are ties.
        predictions = (rng.integers(0, 8, (rows, classes)) / 8).astype(np.float32)
        if metric == "binary_accuracy":
            return {"predictions": predictions, "targets": rng.integers(0, 2, (rows, classes)).astype(np.float32)}
        return {"predictions": predictions, "targets": labels_of(rng, rows, classes, kind)}

    add("metric", name, build, options={"name": metric} | options, tolerance=rounding(1, "one division"), large=large)


for kind in ("sparse_categorical_accuracy", "categorical_accuracy", "binary_accuracy"):
    for size in (1, 2, 7, 10, 33):
        add_metric(f"{kind}-classes{size}", kind, 20, size)
    add_metric(f"{kind}-large", kind, 2000, 10, large=True)
for kind in ("sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy"):
    for top in (1, 2, 5, 100):
        add_metric(f"{kind}-k{top}", kind, 20, 10, k=top)
add_metric("threshold", "binary_accuracy", 9, 5, threshold=0.25)


# ---- Batch normalisation -------------------------------------------------------------------------------------------

NORMALISED = Tolerance(8 * FLOAT_STEP, 24 * FLOAT_STEP, "sums in blocks of 64; a product and a sum that may cancel")


def add_batch_norm(
    name: str, *shape: int, affine: bool = True, mean: float = 0.5, large: bool = False, **options: Any
) -> None:
    channels = shape[-1]

    def image(rng):
        return normal(rng, *shape) * np.float32(1.5) + np.float32(mean)

    def affine_of(rng):
        return {
            "gamma": uniform(rng, 0.5, 1.5, channels) if affine else None,
            "beta": normal(rng, channels) if affine else None,
        }

    def moving(rng):
        return {"moving_mean": normal(rng, channels), "moving_variance": uniform(rng, 0.5, 2, channels)}

    def saved(rng):
        x = image(rng)
        axes = tuple(range(x.ndim - 1))
        mean_ = x.mean(axis=axes, dtype=np.float64)
        inverse_std = 1 / np.sqrt(x.var(axis=axes, dtype=np.float64) + 1e-3)
        return {
            "grad_output": normal(rng, *shape), "input": x, "gamma": affine_of(rng)["gamma"],
            "batch_mean": mean_.astype(np.float32), "batch_inverse_std": inverse_std.astype(np.float32),
        }  # fmt: skip

    rest = {"tolerance": NORMALISED, "large": large}
    add(
        "batch_norm_training", name,
        lambda rng: {"input": image(rng)} | affine_of(rng) | moving(rng), options=options, **rest,
    )  # fmt: skip
    add("batch_norm_backward", name, saved, **rest)
    options = {key: value for key, value in options.items() if key != "momentum"}
    add(
        "batch_norm_inference", name,
        lambda rng: {"input": image(rng)} | affine_of(rng) | moving(rng), options=options, **rest,
    )  # fmt: skip


for count in CHANNELS:
    add_batch_norm(f"channels{count}", 3, 4, 5, count)
add_batch_norm("dense", 32, 64)
add_batch_norm("rows67", 67, 3)
add_batch_norm("plain", 5, 3, 3, 9, affine=False)
add_batch_norm("settings", 4, 4, 4, 6, momentum=0.9, epsilon=1e-5)
add_batch_norm("large", 16, 20, 21, 33, large=True)


# ---- Optimizers ----------------------------------------------------------------------------------------------------

STEP = Tolerance(8 * FLOAT_STEP, 8 * FLOAT_STEP, "a dozen float32 operations an element")

OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {}),
    "sgd-momentum": ("sgd", {"momentum": 0.9}),
    "sgd-nesterov": ("sgd", {"momentum": 0.9, "nesterov": True, "learning_rate": 0.05}),
    "sgd-decay": ("sgd", {"weight_decay": 0.01, "clipvalue": 0.5}),
    "adam": ("adam", {}),
    "adam-settings": ("adam", {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3}),
    "adam-amsgrad": ("adam", {"amsgrad": True}),
    "adam-clip": ("adam", {"clipvalue": 0.3, "gradient_scale": 0.5}),
    "adamw": ("adamw", {}),
    "adamw-decay": ("adamw", {"weight_decay": 0.1, "learning_rate": 0.01}),
    "rmsprop": ("rmsprop", {}),
    "rmsprop-momentum": ("rmsprop", {"momentum": 0.8, "rho": 0.95}),
    "rmsprop-centered": ("rmsprop", {"centered": True}),
    "rmsprop-centered-momentum": ("rmsprop", {"centered": True, "momentum": 0.5, "epsilon": 1e-4}),
    "adadelta": ("adadelta", {}),
    "adadelta-one": ("adadelta", {"learning_rate": 1.0, "rho": 0.9, "epsilon": 1e-6}),
}


def slot_names(optimizer: str, settings: dict[str, Any]) -> int:
    known = {key: value for key, value in settings.items() if key != "gradient_scale"}
    return reference.optimizer_slot_count(optimizer, **known)


def add_optimizer(name: str, optimizer: str, settings: dict[str, Any], *shape: int, large: bool = False) -> None:
    def build(rng):
        slots = [uniform(rng, 0.2, 1.0, *shape) for _ in range(slot_names(optimizer, settings))]
        if settings.get("centered"):
            slots[-1] = uniform(rng, -0.3, 0.3, *shape)
        return {"parameter": normal(rng, *shape), "gradient": normal(rng, *shape), "slots": slots}

    add(
        "optimizer_step", name, build, options={"optimizer": optimizer, "iteration": 3} | settings, tolerance=STEP,
        large=large,
    )  # fmt: skip


for label, (optimizer_name, optimizer_settings) in OPTIMIZERS.items():
    add_optimizer(label, optimizer_name, optimizer_settings, 3, 3, 7)
    add_optimizer(f"{label}-large", optimizer_name, optimizer_settings, 36867, large=True)
    add(
        "optimizer_slot_count", label, lambda rng: {},
        options={"optimizer": optimizer_name}
        | {key: value for key, value in optimizer_settings.items() if key != "gradient_scale"},
    )  # fmt: skip
for size in SIZES:
    for kind in ("sgd", "adam", "rmsprop", "adadelta"):
        add_optimizer(f"{kind}-{size}", kind, {}, size)
for size in (*SIZES, 40000):
    add(
        "sum_of_squares", f"{size}", lambda rng, s=size: {"array": normal(rng, s)},
        tolerance=Tolerance(1e-13, 0.0, "double precision"), large=size > 1000,
    )  # fmt: skip

ALL: list[Case] = [case for cases in CASES.values() for case in cases]
