"""The Sequential model: building, layers in and out, weights, the printed summary."""

from __future__ import annotations

import textwrap
from typing import Any

import convec
import numpy as np
import pytest
from convec import backend, layers
from convec.models import Sequential

X = np.random.default_rng(0).standard_normal((4, 8, 8, 1), dtype=np.float32)


def stack() -> list[layers.Layer]:
    return [layers.Conv2D(2, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(3)]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# ---- Building ----


def by_list() -> Sequential:
    return Sequential([layers.Input((8, 8, 1)), *stack()])


def by_add() -> Sequential:
    model = Sequential()
    model.add(layers.Input(shape=(8, 8, 1)))
    for layer in stack():
        model.add(layer)
    return model


def by_input_shape() -> Sequential:
    model = Sequential()
    model.add(layers.Conv2D(2, 3, activation="relu", input_shape=(8, 8, 1)))
    for layer in stack()[1:]:
        model.add(layer)
    return model


def by_build() -> Sequential:
    model = Sequential(stack())
    assert not model.built
    model.build((None, 8, 8, 1))
    return model


def by_data() -> Sequential:
    model = Sequential(stack())
    model.predict(X, verbose=0)
    return model


@pytest.mark.parametrize("make", [by_list, by_add, by_input_shape, by_build, by_data])
def test_ways_to_build(make: Any) -> None:
    convec.utils.set_random_seed(1)
    model = make()
    assert model.built
    assert model.input_shape == (None, 8, 8, 1)
    assert model.output_shape == (None, 3)
    assert len(model.layers) == 4
    assert model.count_params() == 20 + 18 * 3 + 3
    assert [value.shape for value in model.get_weights()] == [(3, 3, 1, 2), (2,), (18, 3), (3,)]
    convec.utils.set_random_seed(1)
    # However a model is put together, a seed gives the same weights.
    assert same(model.get_weights(), by_list().get_weights())


def test_deferred_build_by_training() -> None:
    model = Sequential(stack())
    model.compile("sgd", "mse")
    with pytest.raises(AttributeError, match="output_shape is not known yet"):
        _ = model.output_shape
    with pytest.raises(ValueError, match="is not built"):
        model.count_params()
    with pytest.raises(ValueError, match="the input shape is not known"):
        model.build()
    with pytest.raises(ValueError, match=r"layer 'conv2d.*must be an image"):
        model.fit(X[:, 0, 0], np.zeros((4, 3)))
    assert not model.built
    model.fit(X, np.zeros((4, 3)), verbose=0)
    assert model.output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"the model expects \(n, 8, 8, 1\)"):
        model.predict(X[:, 1:], verbose=0)


def test_a_model_without_layers() -> None:
    model = Sequential()
    assert model.layers == []
    assert model.pop() is None
    with pytest.raises(ValueError, match="the model has no layers"):
        model.predict(X)


# ---- Layers in and out ----


def test_add_keeps_weights_and_pop_takes_the_last() -> None:
    model = by_list()
    before = model.get_weights()
    model.add(layers.Softmax())
    model.add(layers.Dense(5))
    assert same(model.get_weights()[:4], before)
    assert model.output_shape == (None, 5)
    popped = model.pop()
    assert isinstance(popped, layers.Dense)
    assert popped.units == 5
    assert model.output_shape == (None, 3)
    assert same(model.get_weights(), before)
    while model.layers:
        model.pop()
    assert not model.built
    model.add(layers.Flatten())
    assert model.output_shape == (None, 64)  # the Input is still there


def test_pop_after_compile_and_training() -> None:
    model = by_list()
    model.compile("adam", "mse")
    model.fit(X, np.zeros((4, 3)), verbose=0)
    trained = model.get_weights()[:2]
    model.pop()
    model.add(layers.Dense(2))
    assert same(model.get_weights()[:2], trained)
    model.fit(X, np.zeros((4, 2)), verbose=0)
    assert model.optimizer is not None
    assert model.optimizer.iterations == 1


def test_get_layer() -> None:
    model = Sequential([layers.Input((8, 8, 1)), layers.Flatten(name="flat"), layers.Dense(3, name="head")])
    assert model.get_layer("head") is model.layers[1]
    assert model.get_layer(index=0).name == "flat"
    assert model.get_layer(index=-1).name == "head"
    for arguments, message in (
        ({}, "either the name or the index"),
        ({"name": "flat", "index": 0}, "either the name or the index"),
        ({"index": 2}, "the model has 2 layers"),
        ({"name": "tail"}, "no layer is called 'tail'; there are flat, head"),
    ):
        with pytest.raises(ValueError, match=message):
            model.get_layer(**arguments)


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ([layers.Dense(1, name="a"), layers.Dense(1, name="a")], ValueError, "'a' occurs twice"),
        ([layers.Dense(1), layers.Input((3,))], ValueError, "Input must be the first entry"),
        ([layers.Input((3,)), layers.Input((3,))], ValueError, "Input must be the first entry"),
        (["dense"], TypeError, "a layer is of type str"),
        ([layers.Flatten], TypeError, "with parentheses"),
    ],
)
def test_entries_are_checked(entries: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Sequential(entries)


def test_an_entry_that_does_not_fit_leaves_the_others() -> None:
    model = by_list()
    with pytest.raises(TypeError, match="a layer is of type int"):
        model.add(3)
    assert model.output_shape == (None, 3)


def test_a_layer_that_does_not_fit_is_not_added() -> None:
    model = by_list()
    before = model.get_weights()
    with pytest.raises(ValueError, match="must be an image"):
        model.add(layers.Conv2D(2, 3))
    assert len(model.layers) == 4
    assert same(model.get_weights(), before)
    assert model.predict(X, verbose=0).shape == (4, 3)


# ---- Weights ----


def test_weights_come_and_go() -> None:
    model, other = by_list(), by_list()
    assert not same(model.get_weights(), other.get_weights())
    other.set_weights(model.get_weights())
    assert same(model.weights, other.weights)
    np.testing.assert_array_equal(model.predict(X, verbose=0), other.predict(X, verbose=0))
    before = model.get_weights()
    for wrong in (before[:-1], [*before[:-1], np.zeros(4)], []):
        with pytest.raises(ValueError, match=r"weight arrays, but|weights\[3\] of model"):
            model.set_weights(wrong)
    assert same(model.get_weights(), before)


def test_freezing() -> None:
    model = by_list()
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    assert len(model.trainable_weights) == len(model.non_trainable_weights) == 2
    before = model.get_weights()
    model.fit(X, np.ones((4, 3)), verbose=0)
    assert same(model.get_weights()[:2], before[:2])
    assert not same(model.get_weights()[2:], before[2:])
    model.trainable = False
    assert model.trainable_weights == []
    before = model.get_weights()
    model.fit(X, np.ones((4, 3)), verbose=0)
    assert same(model.get_weights(), before)
    model.trainable = True
    model.fit(X, np.ones((4, 3)), verbose=0)
    assert not same(model.get_weights()[:2], before[:2])


def test_names() -> None:
    backend.clear_session()
    assert [Sequential().name, Sequential().name, Sequential(name="mine").name] == [
        "sequential", "sequential_1", "mine",
    ]  # fmt: skip


# ---- The summary: what Keras 3.15 prints for the same models ----


def seed_model() -> Sequential:
    backend.clear_session()
    return Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(name="a_rather_long_name_for_a_layer_here"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


TABLE = textwrap.dedent("""\
    Model: "sequential"
    ┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
    ┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
    ┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
    │ conv2d (Conv2D)                 │ (None, 26, 26, 32)     │           320 │
    ├─────────────────────────────────┼────────────────────────┼───────────────┤
    │ max_pooling2d (MaxPooling2D)    │ (None, 13, 13, 32)     │             0 │
    ├─────────────────────────────────┼────────────────────────┼───────────────┤
    │ batch_normalization             │ (None, 13, 13, 32)     │           128 │
    │ (BatchNormalization)            │                        │               │
    ├─────────────────────────────────┼────────────────────────┼───────────────┤
    │ a_rather_long_name_for_a_layer… │ (None, 32)             │             0 │
    │ (GlobalAveragePooling2D)        │                        │               │
    ├─────────────────────────────────┼────────────────────────┼───────────────┤
    │ dropout (Dropout)               │ (None, 32)             │             0 │
    ├─────────────────────────────────┼────────────────────────┼───────────────┤
    │ dense (Dense)                   │ (None, 10)             │           330 │
    └─────────────────────────────────┴────────────────────────┴───────────────┘
""")


def printed(model: Sequential, **arguments: Any) -> str:
    texts: list[str] = []
    model.summary(print_fn=texts.append, **arguments)
    return texts[0]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_summary(capsys: pytest.CaptureFixture[str]) -> None:
    seed_model().summary()
    counts = " Total params: 778 (3.04 KB)\n Trainable params: 714 (2.79 KB)\n Non-trainable params: 64 (256.00 B)\n"
    assert capsys.readouterr().out == TABLE + counts


def test_summary_counts_the_optimizer_once_it_has_state() -> None:
    model = seed_model()
    model.compile("adam", "sparse_categorical_crossentropy")
    assert "Optimizer" not in printed(model)
    model.train_on_batch(np.zeros((2, 28, 28, 1)), np.zeros(2))
    # Adam keeps two numbers a weight, its learning rate and an eight-byte count of steps.
    assert printed(model) == TABLE + (
        " Total params: 2,208 (8.63 KB)\n Trainable params: 714 (2.79 KB)\n Non-trainable params: 64 (256.00 B)\n"
        " Optimizer params: 1,430 (5.59 KB)"
    )


def test_summary_before_building() -> None:
    backend.clear_session()
    text = printed(Sequential([layers.Conv2D(2, 3), layers.MaxPooling2D(), layers.Dense(2)]))
    rows = [[cell.strip() for cell in line.split("│")[1:4]] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["conv2d (Conv2D)", "?", "0 (unbuilt)"],
        ["max_pooling2d (MaxPooling2D)", "?", "0"],
        ["dense (Dense)", "?", "0 (unbuilt)"],
    ]
    assert text.endswith(" Total params: 0 (0.00 B)\n Trainable params: 0 (0.00 B)\n Non-trainable params: 0 (0.00 B)")


def test_summary_of_what_is_trainable() -> None:
    model = seed_model()
    model.layers[0].trainable = False
    lines = printed(model, show_trainable=True).splitlines()
    assert lines[1:5] == [
        "┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━┓",
        "┃ Layer (type)                ┃ Output Shape          ┃    Param # ┃ Trai… ┃",
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━┩",
        "│ conv2d (Conv2D)             │ (None, 26, 26, 32)    │        320 │   N   │",
    ]
    marks = [line.split("│")[4].strip() for line in lines if line.startswith("│")]
    assert [mark for mark in marks if mark] == ["N", "-", "Y", "-", "-", "Y"]


def test_summary_of_other_widths() -> None:
    lines = printed(seed_model(), line_length=60).splitlines()
    assert lines[2:6] == [
        "┃ Layer (type)             ┃ Output Shape      ┃   Param # ┃",
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━┩",
        "│ conv2d (Conv2D)          │ (None, 26, 26,    │       320 │",
        "│                          │ 32)               │           │",
    ]
    with pytest.raises(ValueError, match="line_length is 10"):
        seed_model().summary(line_length=10)


def test_summary_of_some_layers() -> None:
    text = printed(seed_model(), layer_range=("max_pooling2d", "drop.*"))
    assert "conv2d (Conv2D)" not in text
    assert "dropout (Dropout)" in text
    assert "dense (Dense)" not in text
    with pytest.raises(ValueError, match="does not match"):
        seed_model().summary(layer_range=("x", "y"))
    with pytest.raises(ValueError, match="must be two names"):
        seed_model().summary(layer_range=("a",))
