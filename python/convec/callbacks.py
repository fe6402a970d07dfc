"""Callbacks, as ``keras.callbacks``."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TextIO

import numpy as np

from convec import distributed

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

Logs = Mapping[str, float]


class Callback:
    """Base of the callbacks: override the hooks that matter. ``self.model`` and ``self.params`` are set before.

    A callback with a batch hook is called after every batch, which costs some time; without one an epoch runs without
    Python.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Called once, with the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called once, with ``epochs``, ``steps`` and ``verbose``."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called after the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch; epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch with its loss, metrics and ``val_`` results."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of :meth:`on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Older name of :meth:`on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a step of training."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a step of training with the epoch's numbers so far."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before an evaluation, validation included."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of an evaluation."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after a batch of a prediction."""


class History(Callback):
    """Every epoch's numbers: ``history`` maps each name to a list, ``epoch`` lists the epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Takes the epoch's numbers in."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class CallbackList:
    """Calls several callbacks as one. ``record`` adds a :class:`History`."""

    def __init__(
        self,
        callbacks: Sequence[Callback] | Callback | None = None,
        *,
        model: Any,
        params: dict[str, Any],
        record: bool = True,
    ) -> None:
        if isinstance(callbacks, Callback):
            callbacks = [callbacks]
        self.callbacks: list[Callback] = list(callbacks or ())
        for callback in self.callbacks:
            if not hasattr(callback, "on_epoch_end"):
                raise TypeError(f"a callback is of type {type(callback).__name__}, but must be a Callback object")
        found = [callback for callback in self.callbacks if isinstance(callback, History)]
        self.history = found[0] if found else History()
        if record and not found:
            self.callbacks.append(self.history)
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)

    def _overrides(self, *names: str) -> bool:
        return any(
            name in vars(callback) or getattr(type(callback), name, None) is not getattr(Callback, name)
            for callback in self.callbacks
            for name in names
        )

    @property
    def wants_batches(self) -> bool:
        """Whether a callback has a hook for steps of training."""
        return self._overrides("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")

    @property
    def wants_test_batches(self) -> bool:
        """Whether a callback has a hook for batches of an evaluation."""
        return self._overrides("on_test_batch_begin", "on_test_batch_end")

    @property
    def wants_predict_batches(self) -> bool:
        """Whether a callback has a hook for batches of a prediction."""
        return self._overrides("on_predict_batch_begin", "on_predict_batch_end")

    def __getattr__(self, name: str) -> Callable[..., None]:
        if not name.startswith("on_"):
            raise AttributeError(name)

        def call(*arguments: Any) -> None:
            if not (arguments and isinstance(arguments[-1], dict)):
                arguments = (*arguments, {})  # hooks may count on logs
            for callback in self.callbacks:
                getattr(callback, name)(*arguments)

        return call


def _first_rank() -> bool:
    """Whether this process is the one that writes files and prints: of a process group, rank 0."""
    return distributed.get_rank() == 0


def _say(text: str) -> None:
    if _first_rank():
        print(text)


class _Monitor(Callback):
    """Follows one of the epoch's numbers."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode is {mode!r}, but must be 'auto', 'min' or 'max'")
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(min_delta)
        self.best: float | None = None

    def improved(self, value: float, reference: float | None) -> bool:
        """Whether ``value`` is better than ``reference`` by more than ``min_delta``; than nothing, anything is.

        Raises:
            ValueError: mode is 'auto', and the monitored name does not say which way is better.
        """
        if self.mode == "auto":
            self.mode = self._mode_of_metric()
        if reference is None:
            return True
        if self.mode == "min":
            return bool(np.less(value + self.min_delta, reference))
        return bool(np.greater(value - self.min_delta, reference))

    def _mode_of_metric(self) -> str:
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "min"
        for label, metric in zip(
            getattr(self.model, "metrics_names", [])[1:], getattr(self.model, "metrics", []), strict=False
        ):
            if label == name and metric.direction is not None:
                return str(metric.direction)
        if any(word in name for word in ("acc", "auc", "precision", "recall", "f1")):
            return "max"
        if any(word in name for word in ("loss", "error", "entropy")):
            return "min"
        raise ValueError(
            f"{type(self).__name__} cannot tell whether a larger or a smaller {self.monitor!r} is better: pass "
            "mode='max' or mode='min'"
        )

    def value(self, logs: Logs | None) -> float | None:
        """The number, or None with a warning that lists what there is."""
        import warnings

        found = (logs or {}).get(self.monitor)
        if found is None:
            warnings.warn(
                f"{type(self).__name__} follows {self.monitor!r}, which the epoch has not; there is "
                f"{', '.join(logs or {})}",
                UserWarning,
                stacklevel=4,
            )
        return found


class EarlyStopping(_Monitor):
    """Stops training when a number has not improved for some epochs.

    Args:
        monitor: name of the number.
        min_delta: smallest change that counts.
        patience: epochs without improvement before training stops.
        verbose: 1 prints when it happens.
        mode: 'min', 'max', or 'auto' by the name.
        baseline: a value to beat first.
        restore_best_weights: goes back to the best epoch's weights.
        start_from_epoch: epochs to wait before anything counts.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._restart()

    def _restart(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best = None
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts afresh."""
        self._restart()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares the epoch with the best one."""
        current = self.value(logs)
        if current is None or epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights = self.model.get_weights()
            self.best_epoch = epoch
        self.wait += 1
        if self.improved(current, self.best):
            self.best = current
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.improved(current, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Says when it stopped, and restores the best weights."""
        if self.stopped_epoch > 0 and self.verbose:
            _say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose:
                _say(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Saves the model or its weights after every epoch (or some).

    A file is complete or absent, whenever the program is stopped. Training goes on from one with
    ``model = convec.models.load_model(file)`` and ``model.fit(..., initial_epoch=model.initial_epoch)``.

    Args:
        filepath: ends in ``.safetensors`` or ``.keras`` for whole models, in ``.safetensors``, ``.weights.h5`` or
            ``.npz`` for weights; may hold ``{epoch:02d}`` and any of the epoch's numbers, e.g. ``{val_loss:.2f}``.
        monitor, mode: as :class:`EarlyStopping`; used with ``save_best_only``.
        verbose: 1 prints what is saved.
        save_best_only: keeps the best epoch only.
        save_weights_only: the weights and nothing else; by the ending where that leaves no choice.
        save_freq: 'epoch', or a number of steps.
        initial_value_threshold: a value to beat first.

    Raises:
        ValueError: the file's ending is none of these, or save_freq is no such number.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        weights = (".npz", ".weights.h5")
        endings = (".safetensors", *weights) if save_weights_only else (".safetensors", ".keras", *weights)
        if not self.filepath.endswith(endings):
            raise ValueError(
                f"filepath is {self.filepath!r}, but checkpoints{' of weights' if save_weights_only else ''} are files "
                f"that end in {', '.join(endings)}"
            )
        if save_freq != "epoch" and not isinstance(save_freq, int):
            raise ValueError(f"save_freq is {save_freq!r}, but must be 'epoch' or a number of steps")
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.save_weights_only = save_weights_only or self.filepath.endswith(weights)
        self.save_freq = save_freq
        self.best = initial_value_threshold
        self._epoch = 0
        self._steps = 0
        if isinstance(save_freq, int):
            # Only then is it worth being called after every step.
            self.on_train_batch_end = self._after_step  # type: ignore[method-assign]

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Remembers the epoch's number."""
        self._epoch = epoch

    def _after_step(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if self._steps % int(self.save_freq) == 0:
            self._save(self._epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves, if it is time to."""
        if self.save_freq == "epoch":
            self._save(epoch, logs)

    def _save(self, epoch: int, logs: Logs | None) -> None:
        try:
            path = self.filepath.format(epoch=epoch + 1, **dict(logs or {}))
        except KeyError as error:
            raise KeyError(f"filepath {self.filepath!r} names {error}, but there is {', '.join(logs or {})}") from None
        if self.save_best_only:
            current = self.value(logs)
            if current is None:
                return
            before = "None" if self.best is None else f"{self.best:.5f}"
            if not self.improved(current, self.best):
                if self.verbose:
                    _say(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {before}")
                return
            if self.verbose:
                _say(
                    f"\nEpoch {epoch + 1}: {self.monitor} improved from {before} to {current:.5f}, saving model to "
                    f"{path}"
                )
            self.best = current
        elif self.verbose:
            _say(f"\nEpoch {epoch + 1}: saving model to {path}")
        if not _first_rank():
            return
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)


class BackupAndRestore(Callback):
    """Lets the same program go on where it was stopped, as Keras' callback of the name.

    The model is saved after every epoch, or so many steps; when the program is started again, ``fit`` begins with what
    was saved last. Given the same data and arguments, the weights at the end are those of a run that was never stopped.
    Of a process group rank 0 saves and reads; the number of ranks may change. Callbacks' own counts, such as the
    patience of :class:`EarlyStopping`, start afresh.

    Args:
        backup_dir: folder of the file; made where it does not exist.
        save_freq: 'epoch', or a number of steps.
        delete_checkpoint: whether the file is deleted when ``fit`` has come to its end.

    Raises:
        ValueError: save_freq is no such number.
    """

    def __init__(
        self, backup_dir: str | os.PathLike[str], save_freq: str | int = "epoch", delete_checkpoint: bool = True
    ) -> None:
        super().__init__()
        if save_freq != "epoch" and (isinstance(save_freq, bool) or not isinstance(save_freq, int) or save_freq < 1):
            raise ValueError(f"save_freq is {save_freq!r}, but must be 'epoch' or a number of steps")
        self.backup_dir = os.fspath(backup_dir)
        self.save_freq = save_freq
        self.delete_checkpoint = delete_checkpoint
        if isinstance(save_freq, int):
            # Only then is it worth being called after every step.
            self.on_train_batch_end = self._after_step  # type: ignore[method-assign]

    @property
    def filepath(self) -> Path:
        """The file."""
        return Path(self.backup_dir) / "training.safetensors"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Goes back to what was saved. Raises OSError, ValueError where that is another model or damaged."""
        if _first_rank() and self.filepath.exists():
            self.model.restore_training(self.filepath)

    def _after_step(self, batch: int, logs: Logs | None = None) -> None:
        if self.model.optimizer.iterations % int(self.save_freq) == 0:
            self._save()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Saves."""
        if self.save_freq == "epoch":
            self._save()

    def _save(self) -> None:
        if _first_rank():
            Path(self.backup_dir).mkdir(parents=True, exist_ok=True)
            self.model.save(self.filepath)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Deletes the file."""
        if self.delete_checkpoint and _first_rank():
            self.filepath.unlink(missing_ok=True)


class CSVLogger(Callback):
    """Writes a line an epoch to a CSV file, at once.

    Args:
        filename: the file.
        separator: between two columns.
        append: goes on with a file that exists.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append
        self._file: TextIO | None = None
        self._keys: list[str] | None = None
        self._header = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Opens the file."""
        if not _first_rank():
            return
        path = Path(self.filename)
        self._header = not (self.append and path.exists() and path.stat().st_size > 0)
        self._file = path.open("a" if self.append else "w", newline="", encoding="utf-8")
        self._keys = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the epoch's line."""
        if self._file is None:
            return
        logs = logs or {}
        writer = csv.writer(self._file, delimiter=self.separator)
        if self._keys is None:
            # Numbers of a validation that is not due in the first epoch have a column all the same.
            names = sorted(logs)
            if not any(name.startswith("val_") for name in names):
                names += [f"val_{name}" for name in names]
            self._keys = names
            if self._header:
                writer.writerow(["epoch", *names])
        writer.writerow([epoch, *(logs.get(name, "NA") for name in self._keys)])
        try:
            self._file.flush()
        except OSError:
            # What could not be written would be tried again, by a close that nobody sees fail.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
            raise

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch to ``schedule(epoch, learning_rate)`` or ``schedule(epoch)``."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes(schedule, 2)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the learning rate. Raises TypeError where the schedule returns no number."""
        current = float(self.model.optimizer.learning_rate)
        rate = self.schedule(epoch, current) if self._takes_rate else self.schedule(epoch)
        if not isinstance(rate, (int, float, np.floating)):
            raise TypeError(f"the schedule returned {rate!r}, but must return a number")
        self.model.optimizer.learning_rate = float(rate)
        if self.verbose:
            _say(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {float(rate)}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Adds the learning rate to the epoch's numbers."""
        if isinstance(logs, dict):
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by ``factor`` when a number has not improved for ``patience`` epochs.

    Args:
        monitor, mode, verbose: as :class:`EarlyStopping`.
        factor: below 1.
        patience: epochs without improvement.
        min_delta: smallest change that counts.
        cooldown: epochs to wait after a reduction.
        min_lr: the rate goes no lower.

    Raises:
        ValueError: ``factor`` is not below 1.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1.0:
            raise ValueError(f"factor is {factor}, but must be below 1")
        self.factor = factor
        self.patience = patience
        self.verbose = verbose
        self.cooldown = cooldown
        self.min_lr = min_lr
        self._restart()

    def _restart(self) -> None:
        self.best = None
        self.wait = 0
        self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts afresh."""
        self._restart()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compares the epoch with the best one; adds the learning rate to its numbers."""
        if isinstance(logs, dict):
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        current = self.value(logs)
        if current is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.improved(current, self.best):
            self.best = current
            self.wait = 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            old = float(self.model.optimizer.learning_rate)
            if self.wait >= self.patience and old > self.min_lr:
                new = max(old * self.factor, self.min_lr)
                self.model.optimizer.learning_rate = new
                if self.verbose:
                    _say(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {new}.")
                self.cooldown_counter = self.cooldown
                self.wait = 0


class LambdaCallback(Callback):
    """Hooks as functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: ...)``."""

    _hooks: ClassVar[frozenset[str]] = frozenset(name for name in vars(Callback) if name.startswith("on_"))

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        for name, function in hooks.items():
            if name not in self._hooks:
                raise TypeError(f"{name} is not a hook; there are {', '.join(sorted(self._hooks))}")
            if function is None:
                continue
            setattr(self, name, _tolerant(function))


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments; one that does not say can."""
    import inspect

    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def _tolerant(function: Callable[..., Any]) -> Callable[..., Any]:
    """Passes ``logs`` as None where the caller left it out: hooks may be written with or without it."""
    import inspect

    wanted = len(inspect.signature(function).parameters)

    def call(*arguments: Any) -> Any:
        padded = (*arguments, None)[:wanted] if len(arguments) < wanted else arguments[:wanted]
        return function(*padded)

    return call


class TerminateOnNaN(Callback):
    """Stops training when the loss is NaN or infinite."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Looks at the loss."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            _say(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True


class TensorBoard(Callback):
    """Writes every epoch's numbers for TensorBoard, to ``train`` and ``validation`` below ``log_dir``.

    Args:
        log_dir: the folder.
        **kwargs: other arguments of Keras' callback are accepted and not used: only scalars are written.

    Raises:
        ImportError: the extra is not installed: ``pip install convec[tensorboard]``.
    """

    def __init__(self, log_dir: str | os.PathLike[str] = "logs", **kwargs: Any) -> None:
        super().__init__()
        del kwargs
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError("TensorBoard needs an extra: pip install convec[tensorboard]") from error
        self.log_dir = os.fspath(log_dir)
        self._event, self._summary, self._writer_class = Event, Summary, EventFileWriter
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Writes the epoch's numbers."""
        if not _first_rank():
            return
        values = dict(logs or {})
        if self.model is not None and self.model.optimizer is not None:
            rate = self.model.optimizer.learning_rate
            if isinstance(rate, float):
                values.setdefault("learning_rate", rate)
        for name, value in values.items():
            run, tag = ("validation", name[4:]) if name.startswith("val_") else ("train", name)
            writer = self._writers.get(run)
            if writer is None:
                writer = self._writers[run] = self._writer_class(os.path.join(self.log_dir, run))  # noqa: PTH118
            summary = self._summary(value=[self._summary.Value(tag=f"epoch_{tag}", simple_value=float(value))])
            writer.add_event(self._event(wall_time=time.time(), step=epoch, summary=summary))
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
