"""Callbacks: when they are called, with what, and what each of them does."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
import toy
from convec import callbacks

X, Y = toy.samples(20)
VX, VY = toy.samples(6, seed=1)
HOOKS = [name for name in vars(callbacks.Callback) if name.startswith("on_")]


def fit(*used: callbacks.Callback, model: Any = None, **arguments: Any) -> Any:
    defaults = {"batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False, "callbacks": list(used)}
    model = model or toy.model()
    model.fit(X, Y, **{**defaults, **arguments})
    return model


def recorder(*names: str) -> tuple[callbacks.Callback, list[tuple[Any, ...]]]:
    """A callback that notes each call of the named hooks: name, number, names of the logs."""
    calls: list[tuple[Any, ...]] = []

    def noting(name: str) -> Any:
        def hook(self: Any, *arguments: Any) -> None:
            *numbers, logs = arguments  # logs are always passed
            assert isinstance(logs, dict)
            calls.append((name, *numbers, *sorted(logs)))

        return hook

    return type("Recorder", (callbacks.Callback,), {name: noting(name) for name in names})(), calls


# ---- Calls ----

EPOCH = ["accuracy", "loss"]
WHOLE = [*EPOCH, "val_accuracy", "val_loss"]


def test_order_of_calls_without_batches() -> None:
    recording, calls = recorder(*(name for name in HOOKS if "batch" not in name))
    fit(recording, validation_data=(VX, VY))
    one = [("on_test_begin",), ("on_test_end", *EPOCH)]
    assert calls == [
        ("on_train_begin",),
        ("on_epoch_begin", 0), *one, ("on_epoch_end", 0, *WHOLE),
        ("on_epoch_begin", 1), *one, ("on_epoch_end", 1, *WHOLE),
        ("on_train_end", *WHOLE),
    ]  # fmt: skip
    assert recording.params == {"epochs": 2, "steps": 3, "verbose": 0}
    assert recording.model is not None


def test_order_of_calls_with_batches() -> None:
    recording, calls = recorder(*(name for name in HOOKS if name not in ("on_batch_begin", "on_batch_end")))
    model = fit(recording, validation_data=(VX, VY), epochs=1)
    steps = [one for n in range(3) for one in (("on_train_batch_begin", n), ("on_train_batch_end", n, *EPOCH))]
    assert calls == [
        ("on_train_begin",), ("on_epoch_begin", 0), *steps,
        ("on_test_begin",), ("on_test_batch_begin", 0), ("on_test_batch_end", 0, *EPOCH), ("on_test_end", *EPOCH),
        ("on_epoch_end", 0, *WHOLE), ("on_train_end", *WHOLE),
    ]  # fmt: skip
    calls.clear()
    model.predict(X, batch_size=15, verbose=0, callbacks=[recording])
    steps = [one for n in range(2) for one in (("on_predict_batch_begin", n), ("on_predict_batch_end", n))]
    assert calls == [("on_predict_begin",), *steps, ("on_predict_end",)]
    calls.clear()
    model.evaluate(X, Y, batch_size=15, verbose=0, callbacks=[recording])
    assert [call[0] for call in calls].count("on_test_batch_begin") == 2


def test_generators_call_the_same_hooks() -> None:
    names = [name for name in HOOKS if name not in ("on_batch_begin", "on_batch_end")]
    first, of_arrays = recorder(*names)
    fit(first, epochs=1)
    second, of_batches = recorder(*names)
    source = ((X[rows], Y[rows]) for rows in toy.slices(0, 20, 8))
    toy.model().fit(source, epochs=1, verbose=0, callbacks=[second])
    assert of_batches == of_arrays


def test_older_names_of_batch_hooks() -> None:
    recording, calls = recorder("on_batch_begin", "on_batch_end")
    fit(recording, epochs=1)
    assert [call[:2] for call in calls[:4]] == [
        ("on_batch_begin", 0), ("on_batch_end", 0), ("on_batch_begin", 1), ("on_batch_end", 1),
    ]  # fmt: skip


def test_batch_logs_run_over_the_epoch() -> None:
    losses: list[float] = []
    fit(callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: losses.append(logs["loss"])), epochs=1)
    reference = toy.Reference()
    expected = [toy.Reference().epoch(X, Y, toy.slices(0, 20, 8)[: n + 1])["loss"] for n in range(3)]
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] == pytest.approx(reference.epoch(X, Y, toy.slices(0, 20, 8))["loss"], rel=1e-5)


def test_numbers_that_a_callback_adds_are_recorded() -> None:
    def add(epoch: int, logs: Any) -> None:
        logs["epoch_squared"] = float(epoch**2)

    model = fit(callbacks.LambdaCallback(on_epoch_end=add), epochs=3)
    assert model.history.history["epoch_squared"] == [0.0, 1.0, 4.0]


@pytest.mark.parametrize("at", [0, 1])
def test_a_callback_may_stop_within_an_epoch(at: int) -> None:
    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == at

    model = fit(Stop(), epochs=5, validation_data=(VX, VY))
    assert model.optimizer.iterations == at + 1
    assert model.history.epoch == [0]
    assert set(model.history.history) == set(WHOLE)  # the epoch is finished in good order
    fit(model=model)
    assert model.optimizer.iterations == at + 1 + 6


def test_history_goes_on_in_an_object_of_ones_own() -> None:
    history = callbacks.History()
    model = fit(history)
    fit(history, model=model, initial_epoch=2, epochs=3)
    assert history.epoch == [0, 1, 2]
    assert model.history is history


def test_lambda_callback() -> None:
    calls: list[Any] = []
    used = callbacks.LambdaCallback(
        on_train_begin=lambda logs: calls.append("begin"),
        on_epoch_end=lambda epoch, logs: calls.append(epoch),
        on_train_end=lambda: calls.append("end"),
        on_epoch_begin=None,
    )
    fit(used)
    assert calls == ["begin", 0, 1, "end"]
    with pytest.raises(TypeError, match="on_epoch is not a hook"):
        callbacks.LambdaCallback(on_epoch=print)


# ---- Monitors, on scripted numbers ----


class Scripted:
    """Stands in for a model: its weights are the number of the epoch."""

    def __init__(self, rate: float = 0.1) -> None:
        self.stop_training = False
        self.optimizer = type("Optimizer", (), {"learning_rate": rate})()
        self.epoch = -1
        self.restored: Any = None

    def get_weights(self) -> int:
        return self.epoch

    def set_weights(self, weights: Any) -> None:
        self.restored = weights


def play(callback: callbacks.Callback, values: list[float], name: str = "val_loss") -> tuple[Scripted, list[float]]:
    model = Scripted()
    callback.set_model(model)
    callback.on_train_begin({})
    rates = []
    for epoch, value in enumerate(values):
        model.epoch = epoch
        callback.on_epoch_begin(epoch, {})
        callback.on_epoch_end(epoch, {name: value})
        rates.append(model.optimizer.learning_rate)
        if model.stop_training:
            break
    callback.on_train_end({})
    return model, rates


@pytest.mark.parametrize(
    ("arguments", "values", "stopped", "restored"),
    [
        # values, the epoch after which training stopped (None: it did not), and the epoch restored
        ({}, [3, 2, 1], None, None),
        ({}, [3, 2, 2, 1], 2, None),
        ({"patience": 2}, [3, 4, 5, 1], 2, None),
        ({"patience": 2}, [3, 4, 2, 4, 3, 1], 4, None),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.6, 2.2], 1, None),
        ({"min_delta": 0.5}, [3, 2.4, 1.8], None, None),
        ({"restore_best_weights": True, "patience": 2}, [3, 1, 2, 2], 3, 1),
        ({"restore_best_weights": True}, [3, 2, 1], None, 2),
        ({"mode": "max", "restore_best_weights": True, "patience": 1}, [1, 3, 2], 2, 1),
        ({"baseline": 1.5, "patience": 2}, [3, 2, 1.8, 1.8], 3, None),
        ({"baseline": 2.5, "patience": 2}, [3, 2, 3, 3], 3, None),
        ({"start_from_epoch": 2}, [1, 2, 3, 2, 2], 4, None),
        ({"start_from_epoch": 1, "restore_best_weights": True}, [1, 3, 4], 2, 1),
        ({}, [math.nan, math.nan, math.nan], 1, None),
    ],
)
def test_early_stopping(arguments: Any, values: list[float], stopped: int | None, restored: int | None) -> None:
    model, _ = play(callbacks.EarlyStopping(**arguments), values)
    assert (model.epoch if model.stop_training else None) == stopped
    assert model.restored == restored


def test_early_stopping_can_be_used_again() -> None:
    callback = callbacks.EarlyStopping(patience=1)
    assert play(callback, [1, 2, 3])[0].epoch == 1
    assert play(callback, [5, 4, 6])[0].epoch == 2


@pytest.mark.parametrize(
    ("arguments", "values", "expected"),
    [
        ({"patience": 1}, [3, 2, 1], [0.1, 0.1, 0.1]),
        ({"patience": 1}, [3, 3, 3], [0.1, 0.01, 0.001]),
        ({"patience": 2, "factor": 0.5}, [3, 3, 3, 3, 3], [0.1, 0.1, 0.05, 0.05, 0.025]),
        ({"patience": 1, "factor": 0.5, "cooldown": 2}, [3, 3, 3, 3, 3], [0.1, 0.05, 0.05, 0.025, 0.025]),
        ({"patience": 1, "min_lr": 0.005}, [3, 3, 3, 3], [0.1, 0.01, 0.005, 0.005]),
        ({"patience": 1, "min_delta": 1.0}, [3, 2.5, 1.4], [0.1, 0.01, 0.01]),
        ({"patience": 1, "mode": "max"}, [1, 2, 2], [0.1, 0.1, 0.01]),
    ],
)
def test_reduce_lr_on_plateau(arguments: Any, values: list[float], expected: list[float]) -> None:
    assert play(callbacks.ReduceLROnPlateau(**arguments), values)[1] == pytest.approx(expected)


def test_reduce_lr_on_plateau_in_training() -> None:
    used = callbacks.ReduceLROnPlateau(monitor="loss", min_delta=10.0, patience=1, factor=0.5)
    model = fit(used, epochs=4)
    assert model.history.history["learning_rate"] == pytest.approx([0.01, 0.01, 0.005, 0.0025])
    assert model.optimizer.learning_rate == pytest.approx(0.00125)
    with pytest.raises(ValueError, match="factor is 1"):
        callbacks.ReduceLROnPlateau(factor=1.0)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("loss", "min"), ("val_loss", "min"), ("accuracy", "max"), ("val_acc", "max"), ("top", "max"), ("mse", "min")],
)
def test_auto_mode_goes_by_the_metric(monitor: str, mode: str) -> None:
    callback = callbacks.EarlyStopping(monitor=monitor, patience=5)
    metrics = ["accuracy", "acc", convec.metrics.SparseTopKCategoricalAccuracy(2, name="top")]
    if monitor == "mse":
        model = toy.model(loss="mse", metrics=["mse"])
        model.fit(X, toy.one_hot(Y), verbose=0, callbacks=[callback])
    else:
        fit(callback, model=toy.model(metrics=metrics), epochs=1, validation_data=(VX, VY))
    assert callback.mode == mode


def test_auto_mode_refuses_to_guess() -> None:
    def score(y_true: Any, y_pred: Any) -> float:
        return 0.0

    with pytest.raises(ValueError, match="pass mode='max' or mode='min'"):
        fit(callbacks.EarlyStopping(monitor="score"), model=toy.model(metrics=[score]))
    with pytest.raises(ValueError, match="mode is 'best'"):
        callbacks.EarlyStopping(mode="best")


def test_what_is_followed_must_exist() -> None:
    with pytest.warns(UserWarning, match="EarlyStopping follows 'val_loss', which the epoch has not; there is acc"):
        fit(callbacks.EarlyStopping(), epochs=1)


def test_restoring_weights_in_training() -> None:
    kept: list[Any] = []

    def worsen(epoch: int, logs: Any) -> None:
        kept.append(model.get_weights())
        logs["val_loss"] = [2.0, 1.0, 3.0, 4.0][epoch]

    model = toy.model()
    stopping = callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    fit(callbacks.LambdaCallback(on_epoch_end=worsen), stopping, model=model, epochs=9)
    assert model.history.epoch == [0, 1, 2, 3]
    np.testing.assert_array_equal(model.get_weights()[0], kept[1][0])
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (1.0, 1, 3)


# ---- Learning rates ----


@pytest.mark.parametrize("schedule", [lambda epoch, rate: rate * 0.5, lambda epoch: 0.005 * 0.5**epoch])
def test_learning_rate_scheduler(schedule: Any) -> None:
    model = fit(callbacks.LearningRateScheduler(schedule), epochs=3)
    assert model.history.history["learning_rate"] == pytest.approx([0.005, 0.0025, 0.00125])


def test_learning_rate_scheduler_refuses_what_is_no_number() -> None:
    with pytest.raises(TypeError, match="the schedule returned 'slow'"):
        fit(callbacks.LearningRateScheduler(lambda epoch: "slow"))

    def broken(epoch: int, rate: float) -> float:
        raise TypeError("a mistake of its own")

    with pytest.raises(TypeError, match="a mistake of its own"):
        fit(callbacks.LearningRateScheduler(broken))


# ---- Files ----


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_logger(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    model = fit(callbacks.CSVLogger(path), validation_data=(VX, VY), validation_freq=2, epochs=4)
    rows = read(path)
    assert list(rows[0]) == ["epoch", *WHOLE]
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["val_loss"] == "NA" for row in rows] == [True, False, True, False]
    assert [float(row["loss"]) for row in rows] == model.history.history["loss"]
    fit(callbacks.CSVLogger(path, append=True), model=model, initial_epoch=4, epochs=5)
    assert [row["epoch"] for row in read(path)] == ["0", "1", "2", "3", "4"]
    fit(callbacks.CSVLogger(path, separator=";"), epochs=1)
    assert path.read_text().startswith("epoch;accuracy;loss")


def test_csv_logger_writes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines: list[int] = []
    watch = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: lines.append(len(read(path))))
    fit(callbacks.CSVLogger(path), watch, epochs=3)
    assert lines == [1, 2, 3]


def test_model_checkpoint_of_weights(tmp_path: Path) -> None:
    pattern = str(tmp_path / "{epoch:02d}-{loss:.2f}.weights.npz")
    model = fit(callbacks.ModelCheckpoint(pattern, save_weights_only=True), epochs=3)
    losses = model.history.history["loss"]
    names = [f"{n + 1:02d}-{loss:.2f}.weights.npz" for n, loss in enumerate(losses)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    last = model.get_weights()
    model.set_weights(toy.first_weights())
    model.load_weights(tmp_path / names[-1])
    np.testing.assert_array_equal(model.get_weights()[0], last[0])


def test_model_checkpoint_of_the_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved: list[int] = []
    model = toy.model()
    model.save_weights = lambda path: saved.append(len(saved))  # type: ignore[method-assign,assignment]
    script = iter([3.0, 1.0, 2.0, 0.5])
    used = [
        callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(val_loss=next(script))),
        callbacks.ModelCheckpoint(
            tmp_path / "best.weights.npz", save_best_only=True, save_weights_only=True, verbose=1
        ),
    ]
    fit(*used, model=model, epochs=4)
    assert len(saved) == 3
    out = capsys.readouterr().out
    assert "Epoch 1: val_loss improved from None to 3.00000, saving model to" in out
    assert "Epoch 3: val_loss did not improve from 1.00000" in out


def test_model_checkpoint_by_steps(tmp_path: Path) -> None:
    pattern = str(tmp_path / "{epoch}.weights.npz")
    fit(callbacks.ModelCheckpoint(pattern, save_weights_only=True, save_freq=4), epochs=3)  # 9 steps: after 4 and 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.weights.npz", "3.weights.npz"]


def test_model_checkpoint_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_freq is 'step'"):
        callbacks.ModelCheckpoint(tmp_path / "x.weights.npz", save_weights_only=True, save_freq="step")
    with pytest.raises(KeyError, match="val_loss"):
        fit(callbacks.ModelCheckpoint(str(tmp_path / "{val_loss}.weights.npz"), save_weights_only=True))


def test_terminate_on_nan(capsys: pytest.CaptureFixture[str]) -> None:
    model = toy.model()
    model.set_weights([np.full_like(value, np.nan) for value in model.get_weights()])
    with pytest.warns(RuntimeWarning, match="the loss is nan"):
        fit(callbacks.TerminateOnNaN(), model=model, epochs=5)
    assert model.history.epoch == [0]
    assert model.optimizer.iterations == 1
    assert "Invalid loss, terminating training" in capsys.readouterr().out


def test_tensorboard_writes_scalars(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    model = fit(callbacks.TensorBoard(tmp_path), validation_data=(VX, VY))
    for run, name in (("train", "loss"), ("validation", "val_loss")):
        (path,) = (tmp_path / run).iterdir()
        events = list(loader.EventFileLoader(str(path)).Load())
        found = [
            value.tensor.float_val[0] if value.HasField("tensor") else value.simple_value
            for event in events for value in event.summary.value if value.tag == "epoch_loss"
        ]  # fmt: skip
        assert found == pytest.approx(model.history.history[name])


def test_tensorboard_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install convec\[tensorboard\]"):
        callbacks.TensorBoard()


# ---- Messages ----


def test_messages_of_callbacks(capsys: pytest.CaptureFixture[str]) -> None:
    fit(
        callbacks.LearningRateScheduler(lambda epoch: 0.5, verbose=1),
        callbacks.ReduceLROnPlateau(monitor="loss", min_delta=10, patience=1, verbose=1, factor=0.5),
        callbacks.EarlyStopping(monitor="loss", min_delta=10, patience=1, verbose=1, restore_best_weights=True),
        epochs=3,
        verbose=2,
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line for line in lines if "ms/step" not in line and "us/step" not in line] == [
        "Epoch 1: LearningRateScheduler setting learning rate to 0.5.",
        "Epoch 1/3",
        "Epoch 2: LearningRateScheduler setting learning rate to 0.5.",
        "Epoch 2/3",
        "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.25.",
        "Epoch 2: early stopping",
        "Restoring model weights from the end of the best epoch: 1.",
    ]
    assert sum("learning_rate: 0.5000" in line for line in lines) == 2


def test_nothing_is_printed_at_verbose_0(capsys: pytest.CaptureFixture[str]) -> None:
    used = [callbacks.EarlyStopping("loss", min_delta=10), callbacks.LearningRateScheduler(lambda epoch: 0.1)]
    fit(*used)
    assert capsys.readouterr() == ("", "")
