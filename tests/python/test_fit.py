"""fit, evaluate, predict and their relatives on a model that NumPy trains as well."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import convec
import numpy as np
import pytest
import toy
from convec import layers
from convec.models import Sequential
from convec.models import data as data_

X, Y = toy.samples(53)
VX, VY = toy.samples(17, seed=1)
WEIGHTS = np.random.default_rng(2).uniform(0.2, 2.0, len(X)).astype(np.float32)
CLASS_WEIGHT = {0: 0.5, 1: 2.0, 2: 3.0}
BY_CLASS = np.array([0.5, 2.0, 3.0])[Y]


def fit(model: Sequential | None = None, **arguments: Any) -> dict[str, list[float]]:
    model = model or toy.model()
    defaults = {"x": X, "y": Y, "batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}
    return model.fit(**{**defaults, **arguments}).history


def agree(history: dict[str, list[float]], expected: list[dict[str, float]]) -> None:
    assert list(history) == sorted(expected[-1], key=lambda name: (name.startswith("val_"), name))
    for name, values in history.items():
        assert values == pytest.approx([one[name] for one in expected if name in one], rel=1e-5), name


# ---- What an epoch is ----


def test_loss_and_accuracy_are_those_before_each_step_averaged_over_samples() -> None:
    reference = toy.Reference()
    model = toy.model()
    agree(fit(model), [reference.epoch(X, Y, toy.slices(0, 53, 16)) for _ in range(3)])
    np.testing.assert_allclose(model.get_weights()[0], reference.kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], reference.bias, rtol=1e-5, atol=1e-6)


def test_the_batch_is_32_by_default() -> None:
    reference = toy.Reference()
    agree(fit(batch_size=None, epochs=1), [reference.epoch(X, Y, toy.slices(0, 53, 32))])


@pytest.mark.parametrize(
    ("arguments", "weights"),
    [
        ({"sample_weight": WEIGHTS}, WEIGHTS),
        ({"sample_weight": WEIGHTS[:, None].tolist()}, WEIGHTS),
        ({"class_weight": CLASS_WEIGHT}, BY_CLASS),
        ({"class_weight": {1: 2.0}}, np.where(Y == 1, 2.0, 1.0)),
        ({"class_weight": CLASS_WEIGHT, "sample_weight": WEIGHTS}, WEIGHTS * BY_CLASS),
    ],
    ids=["sample", "sample, as a list", "class", "one class", "both"],
)
def test_weights_scale_losses_and_not_metrics(arguments: dict[str, Any], weights: np.ndarray) -> None:
    reference = toy.Reference()
    agree(fit(**arguments), [reference.epoch(X, Y, toy.slices(0, 53, 16), weights) for _ in range(3)])


def test_class_weight_reads_one_hot_targets() -> None:
    model = toy.model(loss="categorical_crossentropy")
    reference = toy.Reference()
    expected = [reference.epoch(X, Y, toy.slices(0, 53, 16), BY_CLASS) for _ in range(3)]
    agree(fit(model, y=toy.one_hot(Y), class_weight=CLASS_WEIGHT), expected)


def test_weighted_metrics_are_weighted_means() -> None:
    model = toy.model(weighted_metrics=["accuracy"])
    history = fit(model, sample_weight=WEIGHTS, epochs=1)
    reference = toy.Reference()
    totals = np.zeros(2)
    for rows in toy.slices(0, 53, 16):
        _, right = reference.rows(X[rows], Y[rows])
        totals += [(right * WEIGHTS[rows]).sum(), WEIGHTS[rows].sum()]
        reference.step(X[rows], Y[rows], WEIGHTS[rows])
    assert sorted(history) == ["accuracy", "loss", "weighted_accuracy"]
    assert history["weighted_accuracy"] == pytest.approx([totals[0] / totals[1]], rel=1e-6)


def test_names_that_occur_twice_are_numbered() -> None:
    model = toy.model(metrics=["accuracy", "accuracy", "acc"], weighted_metrics=["accuracy", "accuracy"])
    assert model.metrics_names == [
        "loss", "accuracy", "accuracy_1", "acc", "weighted_accuracy", "weighted_accuracy_1",
    ]  # fmt: skip
    assert len(model.evaluate(X, Y, verbose=0)) == 6


# ---- Validation ----


def test_validation_split_takes_the_last_part() -> None:
    reference = toy.Reference()
    at = int(53 * (1.0 - 0.3))
    expected = []
    for _ in range(3):
        logs = reference.epoch(X, Y, toy.slices(0, at, 16))
        expected.append(logs | {f"val_{k}": v for k, v in reference.evaluate(X[at:], Y[at:]).items()})
    agree(fit(validation_split=0.3), expected)


def test_validation_split_before_shuffling() -> None:
    """The last part is set aside whatever the order of training: its labels are ones no training sample has."""
    y = np.where(np.arange(53) < 40, 0, 1)
    model = toy.model(optimizer=convec.optimizers.SGD(0.5))
    history = model.fit(X, y, validation_split=13 / 53, epochs=20, verbose=0).history
    assert history["accuracy"][-1] == 1.0
    assert history["val_accuracy"][-1] < 0.5


def test_class_weight_is_for_training_and_sample_weight_for_both() -> None:
    at = int(53 * (1.0 - 0.25))
    reference = toy.Reference()
    logs = reference.epoch(X, Y, toy.slices(0, at, 16), WEIGHTS * BY_CLASS)
    logs |= {f"val_{k}": v for k, v in reference.evaluate(X[at:], Y[at:], WEIGHTS[at:]).items()}
    agree(fit(epochs=1, validation_split=0.25, class_weight=CLASS_WEIGHT, sample_weight=WEIGHTS), [logs])


@pytest.mark.parametrize("freq", [2, [1, 3], {1, 3}], ids=str)
def test_validation_freq(freq: Any) -> None:
    history = fit(validation_data=(VX, VY), validation_freq=freq, epochs=4)
    assert len(history["loss"]) == 4
    assert len(history["val_loss"]) == 2


def test_validation_data_weights_steps_and_batch_size() -> None:
    weights = np.linspace(0, 1, 17, dtype=np.float32)
    reference = toy.Reference()
    logs = reference.epoch(X, Y, toy.slices(0, 53, 16))
    whole = {f"val_{k}": v for k, v in reference.evaluate(VX, VY, weights).items()}
    agree(fit(epochs=1, validation_data=(VX, VY, weights), validation_batch_size=5), [logs | whole])
    part = {f"val_{k}": v for k, v in reference.evaluate(VX[:8], VY[:8]).items()}
    arguments = {"validation_data": (VX, VY), "validation_steps": 2, "validation_batch_size": 4}
    agree(fit(epochs=1, **arguments), [logs | part])


# ---- Epochs and steps ----


def test_initial_epoch() -> None:
    model = toy.model()
    history = model.fit(X, Y, epochs=5, initial_epoch=2, verbose=0)
    assert history.epoch == [2, 3, 4]
    assert model.history is history
    assert model.fit(X, Y, epochs=2, initial_epoch=5, verbose=0).epoch == []


def test_steps_per_epoch_goes_on_through_the_data() -> None:
    reference = toy.Reference()
    expected = [
        reference.epoch(X, Y, toy.slices(start, stop, 16)) for start, stop in [(0, 32), (32, 53), (0, 32), (32, 53)]
    ]
    agree(fit(steps_per_epoch=2, epochs=4), expected)


@pytest.mark.parametrize(("steps", "ends"), [(3, [(0, 48), (48, 53), (0, 48)]), (9, [(0, 53)] * 3)])
def test_an_epoch_ends_where_the_data_end(steps: int, ends: list[tuple[int, int]]) -> None:
    reference = toy.Reference()
    expected = [reference.epoch(X, Y, toy.slices(*end, 16)) for end in ends]
    with pytest.warns(RuntimeWarning, match=rf"the data ended after \d of the {steps} steps"):
        agree(fit(steps_per_epoch=steps), expected)


def test_steps_per_epoch_covers_shuffled_data_once_a_pass() -> None:
    seen: list[int] = []

    def spy(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        seen.extend(y_true.tolist())
        return 0.0

    x = np.zeros((12, *toy.SHAPE), np.float32)
    model = Sequential([layers.Input(toy.SHAPE), layers.Flatten(), layers.Dense(12, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[spy])
    model.fit(x, np.arange(12), batch_size=2, steps_per_epoch=3, epochs=4, verbose=0)
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]


def test_shuffle_is_on_by_default_and_repeats_for_a_seed() -> None:
    def run(**arguments: Any) -> list[np.ndarray]:
        convec.utils.set_random_seed(3)
        model = toy.model("adam")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, **arguments)
        return model.get_weights()

    first, again, ordered = run(), run(), run(shuffle=False)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], ordered[0])


def test_a_whole_model_repeats_for_a_seed(threads: None) -> None:
    def run(count: int) -> list[np.ndarray]:
        convec.set_num_threads(count)
        convec.utils.set_random_seed(11)
        model = Sequential(
            [
                layers.Conv2D(4, 2, activation="relu", input_shape=toy.SHAPE),
                layers.BatchNormalization(),
                layers.Dropout(0.3),
                layers.Flatten(),
                layers.Dense(3),
                layers.Softmax(),
            ]
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0)
        return model.get_weights()

    first = run(1)
    for one, other in zip(first, run(3), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- Batches from elsewhere ----


def batches(count: int | None, weighted: bool = False, size: int = 10) -> Iterator[tuple[np.ndarray, ...]]:
    number = 0
    while count is None or number < count:
        rows = slice(number * size % 50, number * size % 50 + size)
        yield (X[rows], Y[rows], WEIGHTS[rows]) if weighted else (X[rows], Y[rows])
        number += 1


class Sequence:
    """As keras.utils.PyDataset."""

    def __init__(self) -> None:
        self.passes = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return X[index * 10 : index * 10 + 10], Y[index * 10 : index * 10 + 10]

    def on_epoch_end(self) -> None:
        self.passes += 1


def test_a_generator_goes_on_from_epoch_to_epoch() -> None:
    reference = toy.Reference()
    expected = [
        reference.epoch(X, Y, [slice(10 * (n % 5), 10 * (n % 5) + 10) for n in steps])
        for steps in ([0, 1, 2], [3, 4, 5], [6, 7, 8])
    ]
    agree(fit(x=batches(None), y=None, batch_size=None, steps_per_epoch=3), expected)


def test_a_generator_may_weight_its_samples() -> None:
    reference = toy.Reference()
    expected = [reference.epoch(X, Y, toy.slices(0, 50, 10), WEIGHTS)]
    agree(fit(x=batches(5, weighted=True), y=None, epochs=1), expected)


def test_a_generator_that_ends_ends_the_training() -> None:
    with pytest.warns(RuntimeWarning, match="no more batches after 1 of 3 epochs"):
        assert len(fit(x=batches(4), y=None)["loss"]) == 1
    with pytest.warns(RuntimeWarning) as caught:
        assert len(fit(x=batches(4), y=None, steps_per_epoch=3)["loss"]) == 2
    assert [str(one.message).split()[0:3] for one in caught] == [["the", "data", "ended"], ["x", "has", "no"]]


def test_a_sequence_starts_over_every_epoch() -> None:
    source = Sequence()
    reference = toy.Reference()
    agree(fit(x=source, y=None, batch_size=None), [reference.epoch(X, Y, toy.slices(0, 40, 10)) for _ in range(3)])
    assert source.passes == 3


def test_anything_that_can_be_iterated_again() -> None:
    class Loader:
        def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
            return batches(4)

    reference = toy.Reference()
    agree(fit(x=Loader(), y=None), [reference.epoch(X, Y, toy.slices(0, 40, 10)) for _ in range(3)])


def test_validation_batches() -> None:
    history = fit(x=batches(None), y=None, steps_per_epoch=2, validation_data=Sequence())
    assert len(history["val_loss"]) == 3
    with pytest.warns(RuntimeWarning, match="validation_data has no more batches in epoch 3"):
        history = fit(validation_data=batches(4), validation_steps=2)
    assert len(history["val_loss"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": batches(2), "y": Y}, "y is given"),
        ({"x": batches(2), "y": None, "validation_split": 0.5}, "validation_split needs arrays"),
        ({"x": iter([]), "y": None}, "yielded no batch"),
        ({"x": iter([(X,)]), "y": None}, "a batch must be"),
        ({"x": iter([(X, Y[:-1])]), "y": None}, "53 samples, but y holds 52"),
    ],
)
def test_bad_batches(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(**arguments)


# ---- evaluate, predict and single batches ----


def test_evaluate() -> None:
    model = toy.model()
    expected = toy.Reference().evaluate(X, Y)
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    assert (loss, accuracy) == pytest.approx((expected["loss"], expected["accuracy"]), rel=1e-6)
    assert model.evaluate(X, Y, verbose=0, return_dict=True) == pytest.approx(expected, rel=1e-6)
    weighted = toy.Reference().evaluate(X, Y, WEIGHTS)
    assert model.evaluate(X, Y, sample_weight=WEIGHTS, verbose=0)[0] == pytest.approx(weighted["loss"], rel=1e-6)
    part = toy.Reference().evaluate(X[:8], Y[:8])
    assert model.evaluate(X, Y, batch_size=4, steps=2, verbose=0)[0] == pytest.approx(part["loss"], rel=1e-6)
    assert isinstance(toy.model(metrics=None).evaluate(X, Y, verbose=0), float)
    by_batches = model.evaluate(batches(5), verbose=0, return_dict=True)
    assert by_batches == pytest.approx(toy.Reference().evaluate(X[:50], Y[:50]), rel=1e-6)


def test_predict() -> None:
    model = toy.model()
    expected = toy.Reference().predict(X)
    np.testing.assert_allclose(model.predict(X, verbose=0), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict(X, batch_size=7, steps=2, verbose=0), expected[:14], rtol=1e-5)
    np.testing.assert_allclose(model.predict(iter([X[:5], X[5:9]]), verbose=0), expected[:9], rtol=1e-5)
    np.testing.assert_allclose(model.predict(batches(3), verbose=0), expected[:30], rtol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(X[:3]), expected[:3], rtol=1e-5)
    np.testing.assert_allclose(model(X[:3]), expected[:3], rtol=1e-5)
    with pytest.raises(ValueError, match="training is True"):
        model(X, training=True)
    assert model.predict(X[:0], verbose=0).shape == (0, 3)
    with pytest.raises(ValueError, match="no batch"):
        model.predict(iter([]), verbose=0)


def test_single_batches() -> None:
    model = toy.model()
    reference = toy.Reference()
    for _ in range(3):
        expected = reference.epoch(X[:8], Y[:8], [slice(0, 8)], WEIGHTS[:8])
        found = model.train_on_batch(X[:8], Y[:8], sample_weight=WEIGHTS[:8], return_dict=True)
        assert found == pytest.approx(expected, rel=1e-5)
    expected = reference.evaluate(X[:5], Y[:5])
    assert model.test_on_batch(X[:5], Y[:5]) == pytest.approx([expected["loss"], expected["accuracy"]], rel=1e-5)
    by_class = toy.model().train_on_batch(X[:8], Y[:8], class_weight=CLASS_WEIGHT)[0]
    assert by_class == pytest.approx(toy.Reference().evaluate(X[:8], Y[:8], BY_CLASS[:8])["loss"], rel=1e-5)


def test_a_python_function_is_a_metric() -> None:
    def rows(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
        return y_pred[:, 0]

    def whole(y_true: np.ndarray, y_pred: np.ndarray) -> float:
        return float(y_pred[:, 0].mean())

    model = toy.model(metrics=[rows, whole, "accuracy"], weighted_metrics=[rows])
    found = model.evaluate(X, Y, batch_size=20, sample_weight=WEIGHTS, verbose=0, return_dict=True)
    first = toy.Reference().predict(X)[:, 0]
    assert found["rows"] == pytest.approx(first.mean(), rel=1e-5)
    # One value a batch: batches count alike, however long, as in Keras.
    assert found["whole"] == pytest.approx(np.mean([first[rows].mean() for rows in toy.slices(0, 53, 20)]), rel=1e-5)
    assert found["weighted_rows"] == pytest.approx(np.average(first, weights=WEIGHTS), rel=1e-5)
    history = fit(model, validation_data=(VX, VY))
    assert {"rows", "val_rows", "val_whole", "weighted_rows"} <= set(history)


# ---- What goes in ----


class Exporter:
    """Any other library's array: DLPack and nothing else."""

    def __init__(self, value: np.ndarray) -> None:
        self._value = value

    def __dlpack__(self, **options: Any) -> Any:
        return self._value.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._value.__dlpack_device__()


def as_torch(value: np.ndarray) -> Any:
    return pytest.importorskip("torch").from_numpy(value)


@pytest.mark.parametrize(
    "form",
    [
        np.asfortranarray,
        lambda a: a.astype(np.float64),
        lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a.tolist(),
        memoryview,
        Exporter,
        as_torch,
        lambda a: a.astype(a.dtype.newbyteorder()),
    ],
    ids=["fortran", "float64", "strided", "list", "buffer", "dlpack", "torch", "other byte order"],
)
def test_forms_of_input(form: Any) -> None:
    model = toy.model()
    expected = model.predict(X, verbose=0)
    np.testing.assert_array_equal(model.predict(form(X), verbose=0), expected)
    reference = toy.Reference()
    agree(fit(x=form(X), y=form(Y)), [reference.epoch(X, Y, toy.slices(0, 53, 16)) for _ in range(3)])


def test_what_fits_is_not_copied() -> None:
    assert data_.inputs(X) is X
    assert np.shares_memory(data_.inputs(Exporter(X)), X)
    assert np.shares_memory(data_.inputs(memoryview(X)), X)
    images = np.zeros((3, 4), np.uint8)
    assert data_.inputs(images) is images
    locked = X.copy()
    locked.flags.writeable = False
    assert data_.inputs(locked) is locked
    fit(x=locked)
    np.testing.assert_array_equal(locked, X)


def test_torch_goes_in_without_a_copy() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, 4)
    assert np.shares_memory(data_.inputs(tensor), tensor.numpy())
    with pytest.raises((ValueError, TypeError, RuntimeError, BufferError), match="grad"):
        data_.inputs(torch.zeros(3, 4, requires_grad=True))


def test_uint8_images_are_scaled_by_rescaling_only() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *toy.SHAPE), dtype=np.uint8)
    labels = np.arange(40) % 3

    def run(x: np.ndarray, *first: layers.Layer) -> np.ndarray:
        convec.utils.set_random_seed(0)
        model = Sequential([layers.Input(toy.SHAPE), *first, layers.Flatten(), layers.Dense(3, activation="softmax")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x, labels, verbose=0)
        return model.predict(x, verbose=0)

    np.testing.assert_array_equal(run(images), run(images.astype(np.float32)))
    scaled = run(images, layers.Rescaling(1 / 255))
    np.testing.assert_array_equal(scaled, run(images.astype(np.float32), layers.Rescaling(1 / 255)))
    assert not np.allclose(scaled, run(images))


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.uint16, np.int32, np.uint32, np.uint64, np.float32, np.float64]
)
def test_labels_of_any_number_type(dtype: Any) -> None:
    expected = toy.model().evaluate(X, Y, verbose=0)
    assert toy.model().evaluate(X, Y.astype(dtype), verbose=0) == expected
    assert toy.model().evaluate(X, Y.astype(dtype)[:, None], verbose=0) == expected


def test_a_channel_axis_of_one_may_be_left_out() -> None:
    model = Sequential([layers.Conv2D(2, 3, input_shape=(6, 5, 1))])
    x = np.random.default_rng(0).standard_normal((3, 6, 5, 1), dtype=np.float32)
    np.testing.assert_array_equal(model.predict(x[..., 0], verbose=0), model.predict(x, verbose=0))


# ---- Bad input ----


def fit_with(**arguments: Any) -> None:
    fit(**arguments)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "rank": ({"x": X[:, 0]}, ValueError, r"x has shape \(53, 4, 2\), but the model expects \(n, 4, 4, 2\)"),
    "channels": ({"x": X[..., :1]}, ValueError, r"x has shape \(53, 4, 4, 1\)"),
    "empty": ({"x": X[:0], "y": Y[:0]}, ValueError, "x is empty"),
    "scalar": ({"x": np.float32(3)}, ValueError, r"x has shape \(\)"),
    "ragged": ({"x": [[1, 2], [3]]}, ValueError, "x cannot be made an array"),
    "objects": ({"x": np.array([None] * 53)}, TypeError, "x has dtype object"),
    "strings": ({"y": np.array(["a"] * 53)}, TypeError, "y has dtype <U1"),
    "complex": ({"x": X.astype(complex)}, TypeError, "x has dtype complex128"),
    "none": ({"x": None}, ValueError, "x is None"),
    "no targets": ({"y": None}, ValueError, "y is None"),
    "lengths": ({"y": Y[:-1]}, ValueError, "x holds 53 samples, but y holds 52"),
    "label too large": ({"y": np.where(np.arange(53) == 7, 3, Y)}, ValueError, r"targets\[7\] is 3"),
    "label negative": ({"y": np.where(np.arange(53) == 50, -1, Y)}, ValueError, r"targets\[50\] is -1"),
    "label a fraction": ({"y": Y + 0.5}, ValueError, "not whole"),
    "label NaN": ({"y": np.full(53, np.nan)}, ValueError, "not whole"),
    "one-hot": ({"y": toy.one_hot(Y)}, ValueError, "class numbers"),
    "weights' length": ({"sample_weight": WEIGHTS[:-1]}, ValueError, r"sample_weight has shape \(52,\)"),
    "weights' NaN": ({"sample_weight": np.full(53, np.nan)}, ValueError, "sample_weight holds NaN"),
    "class weight": ({"class_weight": {-1: 1.0}}, ValueError, "class_weight has the key -1"),
    "batch size 0": ({"batch_size": 0}, ValueError, "batch_size is 0"),
    "batch size a float": ({"batch_size": 1.5}, TypeError, "batch_size is 1.5"),
    "batch size NaN": ({"batch_size": float("nan")}, TypeError, "batch_size is nan"),
    "epochs": ({"epochs": -1}, ValueError, "epochs is -1"),
    "steps": ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch is 0"),
    "split": ({"validation_split": 1.5}, ValueError, "validation_split is 1.5"),
    "split of nothing": ({"x": X[:1], "y": Y[:1], "validation_split": 0.5}, ValueError, "leaves none"),
    "validation": ({"validation_data": X}, ValueError, "validation_data must be"),
    "validation's shape": ({"validation_data": (X[:, 0], Y)}, ValueError, "validation_x has shape"),
    "validation's labels": ({"validation_data": (X, Y[:3])}, ValueError, "53 samples"),
    "verbose": ({"verbose": 3}, ValueError, "verbose is 3"),
    "callback": ({"callbacks": [print]}, TypeError, "a callback is of type builtin_function_or_method"),
    "validation_freq": ({"validation_data": (VX, VY), "validation_freq": 0}, ValueError, "validation_freq is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_and_changes_nothing(name: str) -> None:
    arguments, error, message = BAD[name]
    model = toy.model()
    with pytest.raises(error, match=message):
        fit(model, **arguments)
    assert model.optimizer is not None
    for before, after in zip(toy.first_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.optimizer.iterations == 0
    fit(model)  # and it still trains


def test_a_model_must_be_compiled() -> None:
    model = Sequential([layers.Input(toy.SHAPE), layers.Flatten(), layers.Dense(3)])
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="not compiled"):
            call(X, Y)
    assert model.predict(X, verbose=0).shape == (53, 3)
    model.compile("adam")
    with pytest.raises(ValueError, match="no loss"):
        model.fit(X, Y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"optimizer": "adamm"}, "optimizer is 'adamm'"),
        ({"loss": "cross"}, "loss is 'cross'"),
        ({"loss": lambda t, p: p}, "a function of your own cannot be one"),
        ({"metrics": ["precise"]}, "metric is 'precise'"),
        ({"loss_weights": [1.0]}, "loss_weights"),
    ],
)
def test_compile_refuses_what_it_does_not_know(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        toy.model(**arguments)


def test_compile_accepts_keras_switches() -> None:
    model = toy.model(run_eagerly=True, steps_per_execution=4, jit_compile=True, auto_scale_loss=False)
    agree(fit(model, epochs=1), [toy.Reference().epoch(X, Y, toy.slices(0, 53, 16))])


@pytest.mark.parametrize("batches", [False, True], ids=["arrays", "batches"])
def test_a_nan_loss_is_reported_once_with_its_layer(batches: bool) -> None:
    model = toy.model()
    kernel, bias = model.get_weights()
    kernel[0, 0] = np.nan
    model.set_weights([kernel, bias])
    one_by_one = {"x": iter([(X[:16], Y[:16]), (X[16:], Y[16:])]), "y": None, "batch_size": None, "epochs": 1}
    with pytest.warns(
        RuntimeWarning, match=r"the loss is nan: the first NaN or infinity comes from layer 'dense"
    ) as caught:
        fit(model, **(one_by_one if batches else {}))
    assert len(caught) == 1


def test_a_callback_that_fails_leaves_a_model_that_works() -> None:
    class Failing(convec.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                raise RuntimeError("enough")

    model = toy.model()
    with pytest.raises(RuntimeError, match="enough"):
        fit(model, callbacks=[Failing()])
    assert model.optimizer is not None
    assert model.optimizer.iterations == 2
    fit(model)


# ---- Ctrl-C ----

SCRIPT = textwrap.dedent("""
    import sys, time
    import numpy as np
    import convec
    from convec import layers
    from convec.models import Sequential

    x = np.random.default_rng(0).random((20000, 28, 28, 1), dtype=np.float32)
    y = np.arange(20000) % 10
    model = Sequential([
        layers.Conv2D(32, 3, activation="relu", input_shape=(28, 28, 1)), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"), layers.Flatten(), layers.Dense(10, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.train_on_batch(x[:32], y[:32])
    print("ready", flush=True)
    try:
        if sys.argv[1] == "fit":
            model.fit(x, y, epochs=1000, verbose=1)
        elif sys.argv[1] == "evaluate":
            while True:
                model.evaluate(x, y, verbose=0)
        else:
            while True:
                model.predict(x, verbose=0)
    except KeyboardInterrupt:
        print("stopped", time.time(), flush=True)
    steps = model.optimizer.iterations
    loss = model.train_on_batch(x[:32], y[:32])[0]
    print("alive", steps, model.optimizer.iterations - steps, bool(np.isfinite(loss)), flush=True)
""")


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("what", ["fit", "evaluate", "predict"])
def test_ctrl_c_stops_in_the_middle_of_an_epoch(what: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    sent = time.time()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    lines = out.splitlines()
    stopped = next(line for line in lines if line.startswith("stopped"))  # on a line of its own
    assert float(stopped.split()[1]) - sent < 2.0  # an epoch takes longer; loaded machines get some grace
    _, steps, more, finite = lines[-1].split()
    assert (more, finite) == ("1", "True")
    if what == "fit":
        assert int(steps) < 20000 // 32


def test_labels_from_the_buffer_protocol() -> None:
    labels = array.array("q", Y.tolist())
    assert toy.model().evaluate(X, labels, verbose=0) == toy.model().evaluate(X, Y, verbose=0)
