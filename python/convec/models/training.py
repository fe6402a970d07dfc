"""Training, evaluation and prediction: ``compile``, ``fit`` and what belongs to them."""

from __future__ import annotations

import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convec import _core, _device, distributed, losses, optimizers, utils
from convec import metrics as metrics_
from convec._progress import ProgressBar, resolve_verbose
from convec.callbacks import CallbackList, History
from convec.models import data
from convec.models._parallel import Parallel, parallel
from convec.models.data import Batch

if TYPE_CHECKING:
    from convec._core import Network

Array = npt.NDArray[Any]
Logs = dict[str, float]


class _StopEpoch(Exception):  # noqa: N818 - a signal, not an error
    """Leaves an epoch early because a callback set ``model.stop_training``."""


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, but must be an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}, but must be at least 1")
    return int(value)


@dataclass
class _Position:
    """Where training stands: what a file needs so that ``fit`` goes on as if it had not stopped.

    Attributes:
        epoch: the epoch that is running or comes next.
        iterations: the optimizer's steps before it.
        step: of a loaded model, the steps of that epoch that are done.
        sample: the epoch's first sample in its pass over the data.
        generator: state of the random generator before the order of that pass was drawn.
    """

    epoch: int = 0
    iterations: int = 0
    step: int = 0
    sample: int = 0
    generator: Any = None


class Trainer(ABC):
    """What a model needs to be trained. :class:`convec.models.Sequential` adds the layers.

    Several threads may predict, save and read weights at once, or one may do anything else: where another thread is at
    work meanwhile, a method raises RuntimeError, at once, and has changed nothing. A callback may call any method.
    """

    name: str

    def __init__(self) -> None:
        self._in_use = _core.InUse()
        self._network: Network | None = None
        self._device: _device.Device | None = None
        self._matmul_precision: str | None = None
        self._owners: list[int] = []
        self._loss: losses.Loss | None = None
        self._optimizer: optimizers.Optimizer | None = None
        self._asked: tuple[list[Any], list[Any]] = ([], [])
        self._metrics: list[metrics_.Metric] = []  # in the order of the results
        self._weighted_from = 0  # the number of the first weighted metric
        self._metric_labels: list[str] = []  # their names in the results, all different
        self._core_metrics: list[int] = []  # of them, those computed in the compiled core
        self._compiled = False
        self._steps_done = 0
        self._stopped: Logs = {}
        self.stop_training = False
        self.history: History | None = None
        self._position = _Position()
        self._resumed: _Position | None = None
        self._restored_epoch: int | None = None
        self._ranks = Parallel(None, False)
        self._by_step = False

    @abstractmethod
    def _prepare_inputs(self, x: Any, name: str = "x") -> Array:
        """Inputs in the network's form; builds the network where that has not happened yet."""

    @abstractmethod
    def _layer_name(self, entry: int) -> str:
        """Name of the layer that an entry of the network belongs to."""

    # ---- Compilation ----

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Sequence[Any] | None = None,
        weighted_metrics: Sequence[Any] | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Chooses optimizer, loss and metrics; the optimizer starts afresh.

        Args:
            optimizer: name or object of :mod:`convec.optimizers`.
            loss: name, function or object of :mod:`convec.losses`.
            metrics: names, functions or objects of :mod:`convec.metrics`, or Python functions of (y_true, y_pred).
            weighted_metrics: the same, weighted by ``sample_weight`` and ``class_weight``.
            loss_weights: not used by a model with one output; must be None.
            run_eagerly: accepted for Keras' sake, not used.
            steps_per_execution: likewise.
            jit_compile: likewise.
            auto_scale_loss: likewise.

        Raises:
            ValueError: something is not known or does not fit the model's output.
        """
        del run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
        if loss_weights is not None:
            raise ValueError("loss_weights is given, but a Sequential model has one output and one loss")
        if isinstance(loss, (list, tuple)) and len(loss) == 1:
            loss = loss[0]
        found, chosen = None if loss is None else losses.get(loss), optimizers.get(optimizer)
        with self._in_use.changing("compile"):
            self._loss, self._optimizer = found, chosen
            self._asked = (_listed(metrics), _listed(weighted_metrics))
            self._compiled = True
            self._position = _Position()
            self._resumed = None
            self._compile_network()

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of :meth:`compile` that a file keeps, or None before it was called."""
        if not self._compiled:
            return None
        return {
            "optimizer": self._optimizer,
            "loss": self._loss,
            "metrics": self._asked[0],
            "weighted_metrics": self._asked[1],
        }

    def _compile_network(self) -> None:
        if self._network is None or not self._compiled or self._loss is None or self._optimizer is None:
            return
        output_shape = tuple(self._network.output_shape)
        plain, weighted = ([metrics_.resolve(one, self._loss, output_shape) for one in asked] for asked in self._asked)
        self._metrics = plain + weighted
        self._weighted_from = len(plain)
        self._metric_labels = _distinct([metric.name for metric in plain], [metric.name for metric in weighted])
        configs = []
        self._core_metrics = []
        for number, metric in enumerate(self._metrics):
            config = metric.core_config()
            if config is not None:
                configs.append({**config, "weighted": number >= len(plain)})
                self._core_metrics.append(number)
        self._network.compile(self._loss.core_config(), self._optimizer.core_config(), configs)
        self._network.set_seed(utils.next_seed())
        self._optimizer.bind(self._network)

    @property
    def compiled(self) -> bool:
        """Whether :meth:`compile` was called."""
        return self._compiled

    @property
    def optimizer(self) -> optimizers.Optimizer | None:
        """The optimizer; its ``learning_rate`` may be set at any time."""
        return self._optimizer

    @property
    def loss(self) -> losses.Loss | None:
        """The loss."""
        return self._loss

    @property
    def metrics(self) -> list[metrics_.Metric]:
        """The metrics, in the order of the results after the loss."""
        return list(self._metrics)

    @property
    def metrics_names(self) -> list[str]:
        """Names of the numbers that :meth:`evaluate` returns."""
        return ["loss", *self._metric_labels]

    # ---- State of training ----

    @property
    def initial_epoch(self) -> int:
        """The epoch that training would go on with: ``model.fit(..., initial_epoch=model.initial_epoch)``.

        A model that was saved within an epoch goes on within it. Where ``fit`` is given the same data and arguments,
        the weights at the end are those of a run that was never interrupted.
        """
        return self._position.epoch

    def save_network(self, path: str | os.PathLike[str], metadata: dict[str, str], optimizer_state: bool) -> None:
        """Writes the compiled network to a safetensors file; see :mod:`convec.saving`. Raises OSError."""
        names = [self._layer_name(entry) for entry in range(len(self._owners))]
        _core.network_save(os.fspath(path), self._built(), names, metadata, optimizer_state=optimizer_state)

    def optimizer_slots(self) -> list[list[Array]]:
        """Copies of the optimizer's arrays for each weight; none for a frozen one."""
        network = self._built()
        return [
            network.get_optimizer_slots(index) if info["trainable"] else []
            for index, info in enumerate(network.parameters())
        ]

    def optimizer_slot_counts(self) -> list[int]:
        """How many arrays the optimizer keeps for each weight, frozen or not."""
        network = self._built()
        return [len(network.get_optimizer_slots(index)) for index in range(len(network.parameters()))]

    def set_optimizer_state(self, iterations: int, slots: Sequence[Sequence[Array]], learning_rate: float) -> None:
        """Puts a compiled model's optimizer into a saved state.

        Args:
            iterations: steps taken.
            slots: the optimizer's arrays for each weight.
            learning_rate: that of the next step, where it follows no schedule.

        Raises:
            ValueError: an array or a number does not fit.
        """
        network = self._built()
        network.iterations = iterations
        for index, arrays in enumerate(slots):
            network.set_optimizer_slots(index, [np.ascontiguousarray(array, np.float32) for array in arrays])
        if self._optimizer is not None and self._optimizer.schedule is None:
            network.learning_rate = learning_rate
        self._position.iterations = iterations

    def dropout_seed(self) -> int:
        """The key of dropout's random numbers."""
        return self._built().seed

    def set_dropout_seed(self, seed: int) -> None:
        """Sets the key of dropout's random numbers."""
        self._built().set_seed(seed)

    def get_position(self) -> dict[str, Any]:
        """Epoch, steps of it that are done, and the random generator's state, for :meth:`set_position`."""
        done = self._optimizer.iterations - self._position.iterations if self._optimizer is not None else 0
        resumed = self._resumed
        return {
            "epoch": self._position.epoch,
            "step": max(done, 0) + (0 if resumed is None else resumed.step),
            "sample": self._position.sample,
            "generator": self._position.generator,
        }

    def set_position(self, position: Any) -> None:
        """Lets the next ``fit`` whose ``initial_epoch`` is the saved epoch go on from a saved position.

        Raises:
            ValueError: it is no such position.
        """
        epoch, step, sample = position["epoch"], position["step"], position["sample"]
        if any(type(number) is not int or number < 0 for number in (epoch, step, sample)):
            raise ValueError(
                f"the position is {(epoch, step, sample)!r}, but epoch, step and sample are numbers from 0"
            )
        state = position["generator"]
        if state is not None:
            utils.generator_in(state)
        self._position = _Position(epoch, self._built().iterations, 0, sample, state)
        self._resumed = _Position(epoch, self._built().iterations, step, sample, state)

    def _resume(self, initial_epoch: int) -> tuple[np.random.Generator, int, int]:
        """The generator for ``fit``, the first epoch's first sample, and the steps of that epoch that are done."""
        resumed, self._resumed = self._resumed, None
        if resumed is None or resumed.epoch != initial_epoch or resumed.generator is None:
            return utils.generator(), 0, 0
        return utils.generator_in(resumed.generator), resumed.sample, resumed.step

    def _optimizer_parameters(self) -> int:
        if self._network is None or self._optimizer is None or self._optimizer.iterations == 0:
            return 0
        count = 2  # Keras counts its step and learning rate
        for index, info in enumerate(self._network.parameters()):
            if info["trainable"]:
                count += sum(slot.size for slot in self._network.get_optimizer_slots(index))
        return count

    def _ready(self) -> tuple[losses.Loss, optimizers.Optimizer]:
        if not self._compiled or self._optimizer is None:
            raise ValueError("the model is not compiled: call model.compile(optimizer, loss, metrics) first")
        if self._loss is None:
            raise ValueError("no loss was given to compile(), but training and evaluation need one")
        return self._loss, self._optimizer

    def _built(self) -> Network:
        assert self._network is not None, "inputs are prepared, and the network built, before it is used"
        return self._network

    # ---- Data ----

    def _batch(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        prefix: str = "",
    ) -> Batch:
        loss, _ = self._ready()
        inputs = self._prepare_inputs(x, f"{prefix}x")
        if y is None:
            raise ValueError(f"{prefix}y is None, but training and evaluation need targets")
        targets = data.targets(y, loss, tuple(self._built().output_shape), f"{prefix}y")
        data.same_length(inputs, targets)
        heavy = None if sample_weight is None else data.weights(sample_weight, len(inputs), f"{prefix}sample_weight")
        return self._by_class(Batch(inputs, targets, heavy), class_weight)

    def _by_class(self, batch: Batch, class_weight: Mapping[int, float] | None) -> Batch:
        """The batch with its samples weighted by their classes as well."""
        if class_weight is None:
            return batch
        by_class = data.class_weights(class_weight, batch.y, self._ready()[0])
        own = batch.sample_weight
        return Batch(batch.x, batch.y, by_class if own is None else own * by_class)

    def _batch_of(
        self, parts: Sequence[Any], class_weight: Mapping[int, float] | None = None, prefix: str = ""
    ) -> Batch:
        """A batch from ``(x, y)`` or ``(x, y, sample_weight)``."""
        return self._batch(parts[0], parts[1], parts[2] if len(parts) > 2 else None, class_weight, prefix)

    # ---- Results ----

    def _logs(self, totals: dict[str, Any]) -> Logs:
        logs = {"loss": float(totals["loss"])}
        for number, value in zip(self._core_metrics, totals["metrics"], strict=True):
            logs[self._metric_labels[number]] = float(value)
        for number, metric in enumerate(self._metrics):
            if number not in self._core_metrics:
                logs[self._metric_labels[number]] = float(metric.result())
        return dict(sorted(logs.items()))

    def _results(self, logs: Logs, return_dict: bool) -> Any:
        if return_dict:
            return logs
        values = [logs[name] for name in self.metrics_names]
        return values if len(values) > 1 else values[0]

    def _python_metrics(self) -> list[metrics_.Metric]:
        return [metric for number, metric in enumerate(self._metrics) if number not in self._core_metrics]

    def _follow(self, batch: Batch) -> None:
        """Updates metrics that are Python functions, from predictions in inference form."""
        if not self._python_metrics():
            return
        predictions = self._built().predict(batch.x, batch_size=len(batch))
        for number, metric in enumerate(self._metrics):
            if number not in self._core_metrics:
                weights = batch.sample_weight if number >= self._weighted_from else None
                metric.update_state(batch.y, predictions, weights)

    # ---- fit ----

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Any] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | str = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        sharded: bool = False,
    ) -> History:
        """Trains for some epochs.

        After :func:`convec.distributed.init_process_group` all ranks call it, and train one model together: rank 0's
        weights, optimizer and random generator are everyone's at first; ``batch_size`` counts the samples of all ranks;
        loss, metrics and validation are over all of them; only rank 0 shows progress and writes the files of convec's
        callbacks. The weights are those of one process with the same batches, up to rounding, but for two layers:
        BatchNormalization takes mean and variance of each rank's own samples, and Dropout's masks differ by rank.

        Args:
            x: images (n, ...) of any number type, or something that yields batches (x, y[, sample_weight]).
            y: class numbers or targets; None when ``x`` yields batches.
            batch_size: samples a step; 32 by default.
            epochs: the epoch to end with (counted from 0 with ``initial_epoch``).
            verbose: 1 a progress bar, 2 a line an epoch, 0 nothing, 'auto' by where the output goes.
            callbacks: objects of :mod:`convec.callbacks`.
            validation_split: this share of the samples, the last ones before shuffling, is set aside.
            validation_data: (x, y[, sample_weight]), or something that yields batches.
            shuffle: whether samples come in a new order every epoch.
            class_weight: weight of each class number in the loss, not of the validation; times ``sample_weight``.
            sample_weight: weight of each sample in the loss.
            initial_epoch: the first epoch's number.
            steps_per_epoch: steps to end an epoch after; the next one goes on where it ended. An epoch also ends where
                a pass over the data does, with a warning.
            validation_steps: batches to end a validation after.
            validation_batch_size: by default ``batch_size``.
            validation_freq: validate every so many epochs, or after these epochs (counted from 1).
            sharded: within a process group, whether each rank was given its own part of the data (validation data too),
                of about the same length. By default all are given the same data, and each takes its part of every
                batch.

        Returns:
            History, whose ``history`` holds a list for each number.

        Raises:
            TypeError, ValueError: the data do not fit the model; nothing was trained then.
            KeyboardInterrupt: Ctrl-C, at once; the model keeps the steps that were done.
        """
        self._ready()
        level = resolve_verbose(verbose)
        last = _positive(epochs, "epochs") if epochs != initial_epoch else int(epochs)
        steps = None if steps_per_epoch is None else _positive(steps_per_epoch, "steps_per_epoch")
        source: Batch | data.Batches
        validation: Batch | data.Batches | None = None
        size = 32 if batch_size is None else _positive(batch_size, "batch_size")
        if data.is_batches(x):
            if y is not None:
                raise ValueError("y is given, but x yields batches (x, y) already")
            if validation_split:
                raise ValueError("validation_split needs arrays, but x yields batches; pass validation_data")
            source = data.Batches(x)
        else:
            source = self._batch(x, y, sample_weight)
            if validation_split and validation_data is None:
                source, validation = data.split(source, validation_split)
            source = self._by_class(source, class_weight)
        if validation_data is not None:
            if data.is_batches(validation_data):
                validation = data.Batches(validation_data)
            else:
                validation = self._batch_of(data.validation_parts(validation_data), prefix="validation_")
        validation_size = size
        if validation_batch_size is not None:
            validation_size = _positive(validation_batch_size, "validation_batch_size")
        due = _due_epochs(validation_freq)
        if distributed.get_world_size() > 1 and self._network is None:
            raise ValueError(
                "the model is not built, which ranks of a process group need before: give it an input shape"
            )
        with self._in_use.changing("fit"), self._together(sharded) as ranks:
            size = ranks.own_batch_size(size)
            validation_size = ranks.own_batch_size(validation_size)
            count = _steps(source, size, steps)
            if ranks.sharded and count is not None:
                count = ranks.most(count)
            level = level if ranks.rank == 0 else 0
            called = CallbackList(callbacks, model=self, params={"epochs": last, "steps": count, "verbose": level})
            self._by_step = ranks.any(called.wants_batches)
            self.stop_training = False
            called.on_train_begin()
            initial_epoch = self._share_state(initial_epoch)
            generator, start, done = self._resume(initial_epoch)
            passes = None
            if isinstance(source, Batch):
                own = ranks.rank if ranks.sharded else None
                passes = data.Passes(len(source), size, steps, bool(shuffle), generator, start, own)
            resident = self._resident(source) if isinstance(source, Batch) and not self._python_metrics() else None
            logs: Logs = {}
            warned = False
            for epoch in range(initial_epoch, last):
                if epoch > initial_epoch and isinstance(source, data.Batches) and source.ended:
                    _warn(f"x has no more batches after {epoch} of {last} epochs: training ends here")
                    break
                self._begin_epoch(epoch, passes, done)
                called.on_epoch_begin(epoch)
                self._share_learning_rate()
                if level and last > 1:
                    print(f"Epoch {epoch + 1}/{last}")
                bar = ProgressBar(count, verbose=level)
                with _open_line(bar):
                    if isinstance(source, data.Batches):
                        self._start_epoch()
                        logs = self._train_batches(source.epoch(steps), class_weight, called, bar, done)
                    else:
                        assert passes is not None
                        logs = self._train_epoch(source, size, *passes.epoch(), called, bar, done, resident)
                    if steps is not None and self._steps_done < steps and not self.stop_training:
                        _warn(f"the data ended after {self._steps_done} of the {steps} steps of epoch {epoch + 1}")
                    if not (warned or math.isfinite(logs.get("loss", 0.0))):
                        warned = True
                        self._warn_of_nan(source, logs["loss"], size)
                    if validation is not None and due(epoch + 1):
                        if isinstance(validation, data.Batches) and validation.ended:
                            _warn(f"validation_data has no more batches in epoch {epoch + 1}: validation ends here")
                            validation = None
                        else:
                            found = self._evaluate(validation, validation_size, validation_steps, called, None)
                            logs |= {f"val_{name}": value for name, value in found.items()}
                    done = 0
                    self._begin_epoch(epoch + 1, passes)
                    # Callbacks first: what they add to the epoch's numbers is shown.
                    called.on_epoch_end(epoch, logs)
                    bar.finish(self._steps_done, logs)
                if self._agree_to_stop():
                    break
            called.on_train_end(logs)
        self.history = called.history
        return called.history

    def _resident(self, source: Batch) -> tuple[Any, Any, Any] | None:
        """The data on the model's device, for all epochs: where that is not the CPU and they leave half of it free."""
        kind, _, index = str(self._built().device).partition(":")
        if kind == "cpu":
            return None
        size = sum(array.nbytes for array in (source.x, source.y, source.sample_weight) if array is not None)
        if size > _core.free_device_memory(int(index)) // 2:
            return None
        weight = source.sample_weight
        return (
            _device.DeviceArray.of(source.x, int(index)),
            _device.DeviceArray.of(source.y, int(index)),
            None if weight is None else _device.DeviceArray.of(weight, int(index)),
        )

    @contextmanager
    def _together(self, sharded: bool) -> Iterator[Parallel]:
        """Lets the network train with the other ranks of the process group, where there is one."""
        if distributed.get_world_size() == 1:
            yield self._ranks
            return
        if sharded and self._python_metrics():
            raise ValueError("a metric is a Python function, which needs all of a batch, but the data are sharded")
        with parallel(self._built(), sharded) as self._ranks:
            try:
                yield self._ranks
            finally:
                self._ranks = Parallel(None, False)

    def _share_state(self, initial_epoch: int) -> int:
        """Takes over what rank 0 begins with, which a callback may have restored; returns its first epoch."""
        restored, self._restored_epoch = self._restored_epoch, None
        first = initial_epoch if restored is None else restored
        if self._ranks.ranks == 1:
            return first
        resumed = None if self._resumed is None else asdict(self._resumed)
        first, resumed = self._ranks.share(self._built(), [first, resumed])
        self._resumed = None if resumed is None else _Position(**resumed)
        return int(first)

    def _share_learning_rate(self) -> None:
        """Takes over rank 0's learning rate, which a callback may have set."""
        if self._ranks.ranks > 1 and self._optimizer is not None and self._optimizer.schedule is None:
            network = self._built()
            network.learning_rate = self._ranks.learning_rate(network.learning_rate)

    def _agree_to_stop(self) -> bool:
        """Whether training stops: on all ranks where a callback of one says so."""
        self.stop_training = self._ranks.any(self.stop_training)
        return self.stop_training

    def restore_training(self, filepath: str | os.PathLike[str]) -> None:
        """Goes back to a whole model in a file: weights, optimizer and the place within training.

        The next ``fit`` goes on from there, whatever its ``initial_epoch``; given the same data and arguments, the
        weights at the end are those of a run that was never interrupted.

        Raises:
            OSError, ValueError: the file cannot be read, or holds another model; nothing has changed then.
        """
        from convec.saving import load_model

        saved = load_model(filepath)
        network, other = self._built(), saved._built()
        forms = [[(info["name"], tuple(info["shape"])) for info in one.parameters()] for one in (network, other)]
        if forms[0] != forms[1]:
            raise ValueError(f"{os.fspath(filepath)!r} holds a model of other layers than {self.name!r}")
        if saved.optimizer_slot_counts() != self.optimizer_slot_counts():
            raise ValueError(f"{os.fspath(filepath)!r} holds a model with another optimizer than {self.name!r}")
        with self._in_use.changing("restore_training"):
            for index in range(len(forms[0])):
                network.set_parameter(index, other.get_parameter(index))
            self.set_optimizer_state(other.iterations, saved.optimizer_slots(), other.learning_rate)
            self.set_dropout_seed(other.seed)
            self.set_position(saved.get_position())
            self._restored_epoch = saved.initial_epoch

    def _begin_epoch(self, epoch: int, passes: data.Passes | None, done: int = 0) -> None:
        """Notes where training stands, before anything of the epoch is drawn; ``done`` of its steps are done."""
        iterations = 0 if self._optimizer is None else self._optimizer.iterations
        state, sample = (utils.generator().bit_generator.state, 0) if passes is None else passes.position
        self._position = _Position(epoch, iterations - done, 0, sample, state)

    def _start_epoch(self) -> None:
        self.reset_metrics()
        self._steps_done = 0

    def _train_epoch(
        self,
        source: Batch,
        size: int,
        rows: slice,
        order: npt.NDArray[np.int64] | None,
        called: CallbackList,
        bar: ProgressBar,
        done: int = 0,
        resident: tuple[Any, Any, Any] | None = None,
    ) -> Logs:
        self._start_epoch()
        if self._python_metrics():
            return self._train_batches(_slices(source, size, rows, order), None, called, bar, done)
        if done:
            # The first steps were done before the model was saved; all of them, and nothing is left to train on.
            rows = slice(min(rows.start + done * size, rows.stop), rows.stop)
            order = None if order is None else order[done * size :]
            self._steps_done = done
            if rows.start == rows.stop:
                return {}
        if resident is not None:
            arrays = resident
            if order is None:
                order = np.arange(rows.start, rows.stop)
        else:
            if order is None:
                source = source.part(rows)
            arrays = (source.x, source.y, source.sample_weight)
        total = done + self._ranks.most(math.ceil((rows.stop - rows.start) / size))
        rates = None
        if self._optimizer is not None and self._optimizer.schedule is not None:
            first = self._optimizer.iterations
            rates = self._optimizer.schedule(np.arange(first, first + total - done))

        def progress(totals: dict[str, Any]) -> None:
            self._steps_done = done + totals["batches"]
            logs = self._logs(totals)
            if self._by_step:
                called.on_train_batch_end(self._steps_done - 1, logs)
                if self._agree_to_stop() and self._steps_done < total:
                    self._stopped = logs
                    raise _StopEpoch
                if self._steps_done < total:
                    called.on_train_batch_begin(self._steps_done)
            bar.update(self._steps_done, logs)

        if self._by_step:
            called.on_train_batch_begin(done)
        try:
            totals = self._built().train_epoch(
                *arrays,
                batch_size=size,
                order=order,
                learning_rates=rates,
                progress=progress,
                progress_interval=0.0 if self._by_step else 0.05,
            )
        except _StopEpoch:
            return self._stopped
        return self._logs(totals)

    def _train_batches(
        self,
        batches: Iterable[tuple[Any, ...]],
        class_weight: Mapping[int, float] | None,
        called: CallbackList,
        bar: ProgressBar,
        done: int = 0,
    ) -> Logs:
        total = _Running()
        logs: Logs = {}
        for step, parts in enumerate(batches):
            if step < done:
                self._steps_done = step + 1
                continue
            batch = self._batch_of(parts, class_weight)
            if not self._ranks.all(True):
                break  # another rank has no more batches
            if called.wants_batches:
                called.on_train_batch_begin(step)
            self._follow(batch)
            rate = self._scheduled_rate()
            found = self._built().train_epoch(
                batch.x, batch.y, batch.sample_weight, batch_size=len(batch), learning_rates=rate
            )
            logs = self._logs(total.add(found))
            self._steps_done = step + 1
            if called.wants_batches:
                called.on_train_batch_end(step, logs)
            bar.update(self._steps_done, logs)
            if self._agree_to_stop():
                break
        else:
            self._ranks.all(False)
        if not logs and not done:
            raise ValueError("x yielded no batch, but an epoch needs at least one")
        return logs

    def _scheduled_rate(self) -> npt.NDArray[np.float32] | None:
        if self._optimizer is None or self._optimizer.schedule is None:
            return None
        return self._optimizer.schedule(np.array([self._optimizer.iterations]))

    def _warn_of_nan(self, source: Batch | data.Batches, loss: float, size: int) -> None:
        where = "the data or the loss"
        x = source.x[:size] if isinstance(source, Batch) else self._batch_of(source.last).x
        entry = self._built().first_nonfinite_layer(x)
        if entry >= 0:
            where = f"layer {self._layer_name(entry)!r}"
        warnings.warn(
            f"the loss is {loss}: the first NaN or infinity comes from {where}; a smaller learning rate, clipnorm or a "
            "look at the data may help",
            RuntimeWarning,
            stacklevel=3,
        )

    # ---- evaluate and predict ----

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """Loss and metrics over the data, nothing trained. Arguments as :meth:`fit`.

        Returns:
            The loss, or a list of loss and metrics, or with ``return_dict`` a dictionary.

        Raises:
            TypeError, ValueError: the data do not fit the model.
        """
        self._ready()
        level = resolve_verbose(verbose)
        size = 32 if batch_size is None else _positive(batch_size, "batch_size")
        source: Batch | data.Batches
        source = data.Batches(x) if data.is_batches(x) else self._batch(x, y, sample_weight)
        count = _steps(source, size, steps)
        called = CallbackList(callbacks, model=self, params={"steps": count, "verbose": level}, record=False)
        bar = ProgressBar(count, verbose=level)
        with self._in_use.changing("evaluate"), _open_line(bar):
            logs = self._evaluate(source, size, steps, called, bar)
            bar.finish(self._steps_done, logs)
        return self._results(logs, return_dict)

    def _evaluate(
        self,
        source: Batch | data.Batches,
        size: int,
        steps: int | None,
        called: CallbackList,
        bar: ProgressBar | None,
    ) -> Logs:
        self.reset_metrics()
        called.on_test_begin()
        training_steps = self._steps_done if bar is None else 0

        def show(step: int, totals: dict[str, Any]) -> None:
            self._steps_done = step
            logs = self._logs(totals)
            if called.wants_test_batches:
                called.on_test_batch_end(step - 1, logs)
            if bar is not None:
                bar.update(step, logs)

        samples = 0
        if isinstance(source, Batch):
            samples = len(source) if steps is None else min(len(source), steps * size)
        if isinstance(source, Batch) and not self._python_metrics():
            last = math.ceil(samples / size)

            def progress(found: dict[str, Any]) -> None:
                show(found["batches"], found)
                if called.wants_test_batches and found["batches"] < last:
                    called.on_test_batch_begin(found["batches"])

            if called.wants_test_batches:
                called.on_test_batch_begin(0)
            totals = self._built().evaluate(
                source.x,
                source.y,
                source.sample_weight,
                batch_size=size,
                samples=samples,
                progress=progress,
                progress_interval=0.0 if called.wants_test_batches else 0.05,
            )
        else:
            if isinstance(source, data.Batches):
                source.restart()
                batches = source.epoch(steps)
            else:
                batches = _slices(source, size, slice(0, samples), None)
            total = _Running()
            totals = {}
            for step, parts in enumerate(batches):
                batch = self._batch_of(parts)
                if called.wants_test_batches:
                    called.on_test_batch_begin(step)
                self._follow(batch)
                totals = total.add(self._built().test_batch(batch.x, batch.y, batch.sample_weight))
                show(step + 1, totals)
            if not totals:
                raise ValueError("x yielded no batch, but an evaluation needs at least one")
        logs = self._logs(totals)
        called.on_test_end(logs)
        if bar is None:
            self._steps_done = training_steps
        return logs

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = "auto",
        steps: int | None = None,
        callbacks: Sequence[Any] | None = None,
    ) -> npt.NDArray[np.float32]:
        """The model's output for every sample, shape (n, ...).

        Args:
            x: images (n, ...), or something that yields batches of them (or of tuples that begin with them).
            batch_size: samples computed at once; 32 by default.
            verbose: as :meth:`fit`.
            steps: batches to stop after.
            callbacks: objects of :mod:`convec.callbacks`.

        Raises:
            TypeError, ValueError: the data do not fit the model.
        """
        level = resolve_verbose(verbose)
        size = 32 if batch_size is None else _positive(batch_size, "batch_size")
        called = CallbackList(callbacks, model=self, params={"verbose": level}, record=False)
        called.on_predict_begin()
        if data.is_batches(x):
            outputs = self._predict_batches(x, steps, called, level)
        else:
            inputs = self._prepare_inputs(x)
            if steps is not None:
                inputs = inputs[: steps * size]
            count = math.ceil(len(inputs) / size)
            bar = ProgressBar(max(count, 1), verbose=level)
            done = 0

            def show(totals: dict[str, Any]) -> None:
                nonlocal done
                done = totals["batches"]
                if called.wants_predict_batches:
                    called.on_predict_batch_end(done - 1)
                    if done < count:
                        called.on_predict_batch_begin(done)
                bar.update(done, {})

            if called.wants_predict_batches and count:
                called.on_predict_batch_begin(0)
            with self._in_use.looking("predict"), _open_line(bar):
                outputs = self._built().predict(
                    inputs,
                    batch_size=size,
                    progress=show,
                    progress_interval=0.0 if called.wants_predict_batches else 0.05,
                )
                bar.finish(done, {})
        called.on_predict_end()
        return outputs

    def _predict_batches(
        self, batches: Any, steps: int | None, called: CallbackList, level: int
    ) -> npt.NDArray[np.float32]:
        parts = []
        bar = ProgressBar(steps, verbose=level)
        with _open_line(bar):
            for step, batch in enumerate(_only(batches, steps)):
                called.on_predict_batch_begin(step)
                parts.append(self.predict_on_batch(batch[0] if isinstance(batch, (tuple, list)) else batch))
                called.on_predict_batch_end(step)
                bar.update(step + 1, {})
            bar.finish(len(parts), {})
        if not parts:
            raise ValueError("x yielded no batch, but a prediction needs at least one")
        return np.concatenate(parts)

    def __call__(self, x: Any, training: bool = False) -> npt.NDArray[np.float32]:
        """The model's output for a batch, in inference form. Raises ValueError for ``training=True``."""
        if training:
            raise ValueError("training is True, but a call computes in inference form only; train by fit()")
        return self.predict_on_batch(x)

    def predict_on_batch(self, x: Any) -> npt.NDArray[np.float32]:
        """The model's output for one batch. Raises TypeError, ValueError as :meth:`predict`."""
        inputs = self._prepare_inputs(x)
        with self._in_use.looking("predict_on_batch"):
            return self._built().predict(inputs, batch_size=max(len(inputs), 1))

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[int, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One step on one batch. Returns its loss and metrics before the step, as :meth:`evaluate` does.

        Raises:
            TypeError, ValueError: the data do not fit the model; nothing was trained then.
        """
        batch = self._batch(x, y, sample_weight, class_weight)
        with self._in_use.changing("train_on_batch"):
            self.reset_metrics()
            self._follow(batch)
            self._position.iterations += 1  # the step belongs to no epoch
            totals = self._built().train_epoch(
                batch.x, batch.y, batch.sample_weight, batch_size=len(batch), learning_rates=self._scheduled_rate()
            )
            return self._results(self._logs(totals), return_dict)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Loss and metrics of one batch, as :meth:`evaluate` returns them. Raises TypeError, ValueError."""
        batch = self._batch(x, y, sample_weight)
        with self._in_use.changing("test_on_batch"):
            self.reset_metrics()
            self._follow(batch)
            totals = self._built().test_batch(batch.x, batch.y, batch.sample_weight)
            return self._results(self._logs(totals), return_dict)

    def reset_metrics(self) -> None:
        """Starts the metrics that are Python functions afresh; all others do so by themselves."""
        for metric in self._python_metrics():
            metric.reset_state()


class _Running:
    """Totals over batches that were computed one by one: the loss by samples, as the core does it within an epoch."""

    def __init__(self) -> None:
        self._samples = 0
        self._batches = 0
        self._loss = 0.0
        self._metrics: npt.NDArray[np.float64] | None = None

    def add(self, found: dict[str, Any]) -> dict[str, Any]:
        samples = found["samples"]
        self._samples += samples
        self._batches += 1
        self._loss += found["loss"] * samples
        values = np.asarray(found["metrics"], dtype=np.float64) * samples
        self._metrics = values if self._metrics is None else self._metrics + values
        return {
            "samples": self._samples,
            "batches": self._batches,
            "loss": self._loss / self._samples,
            "metrics": list(self._metrics / self._samples),
        }


@contextmanager
def _open_line(bar: ProgressBar) -> Iterator[None]:
    """Ends the bar's line whatever happens, so that an error message begins on a line of its own."""
    try:
        yield
    finally:
        bar.close()


def _distinct(plain: Sequence[str], weighted: Sequence[str]) -> list[str]:
    """Names that occur again get a number, or first ``weighted_`` in front, as Keras does."""
    seen: dict[str, int] = {}
    names = []
    for name, prefix in [*((name, "") for name in plain), *((name, "weighted_") for name in weighted)]:
        label = prefix + name if name in seen else name
        count = seen.get(label, 0)
        seen[label] = count + 1
        names.append(f"{label}_{count}" if count else label)
    return names


def _listed(values: Any) -> list[Any]:
    if values is None:
        return []
    if isinstance(values, (list, tuple)):
        # Keras allows a list a model output; there is one output.
        return [one for value in values for one in (value if isinstance(value, (list, tuple)) else [value])]
    return [values]


def _steps(source: Batch | data.Batches, size: int, steps: int | None) -> int | None:
    if isinstance(source, Batch):
        whole = math.ceil(len(source) / size)
        return whole if steps is None else min(steps, whole)
    return source.length if steps is None else steps


def _slices(source: Batch, size: int, rows: slice, order: npt.NDArray[np.int64] | None) -> Iterator[tuple[Any, ...]]:
    for start in range(rows.start, rows.stop, size):
        part = slice(start, min(start + size, rows.stop))
        chosen: Any = part if order is None else order[part.start - rows.start : part.stop - rows.start]
        batch = source.part(chosen)
        yield batch.x, batch.y, batch.sample_weight


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _only(batches: Any, steps: int | None) -> Iterator[Any]:
    if hasattr(batches, "__getitem__") and hasattr(batches, "__len__"):
        batches = (batches[index] for index in range(len(batches)))
    for step, batch in enumerate(batches):
        if steps is not None and step >= steps:
            return
        yield batch


def _due_epochs(validation_freq: Any) -> Callable[[int], bool]:
    """Which epochs, counted from 1, are validated. Raises TypeError, ValueError."""
    if isinstance(validation_freq, Container) and not isinstance(validation_freq, str):
        return lambda epoch: epoch in validation_freq
    every = _positive(validation_freq, "validation_freq")
    return lambda epoch: epoch % every == 0
