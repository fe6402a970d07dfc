"""The Sequential model: a list of layers, built for an input shape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from convec import _core, _device, backend, saving
from convec._core import Network
from convec.layers.base import Array, InputLayer, Layer, Shape, check_shape, check_weights
from convec.models import data, summary
from convec.models.training import Trainer

if TYPE_CHECKING:
    import os

__all__ = ["Sequential", "model_from_json"]


class NetworkPart(NamedTuple):
    """An entry of a compiled network: its settings, its weights by name and the shape of one sample after it."""

    config: dict[str, Any]
    weights: dict[str, Array]
    output_shape: Shape


class Sequential(Trainer):
    """Layers one after the other, as ``keras.Sequential``.

    The weights exist once the input shape is known: from ``Input(...)`` as the first entry, ``input_shape=`` of the
    first layer, :meth:`build`, or the first data.

    Args:
        layers: the layers; more may be added by :meth:`add`.
        name: shown by :meth:`summary`.

    Raises:
        TypeError: an entry is no layer.
        ValueError: a name occurs twice, or a layer does not fit what comes before it.
    """

    def __init__(self, layers: Sequence[Any] | None = None, trainable: bool = True, name: str | None = None) -> None:
        super().__init__()
        self.name = backend.next_name("sequential") if name is None else str(name)
        self._input: InputLayer | None = None
        self._layers: list[Layer] = []
        self._trainable = bool(trainable)
        self._building = threading.RLock()  # threads that predict at once may all find the model not built yet
        for layer in layers or ():
            self._append(layer)
        self._try_build()

    # ---- Layers ----

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Appends a layer; weights of the layers before it are kept.

        Raises:
            TypeError, ValueError: as the constructor; the model is as it was then.
        """
        with self._in_use.changing("add"):
            self._append(layer)
            if not rebuild:
                return
            try:
                self._try_build()
            except (TypeError, ValueError):
                if isinstance(layer, InputLayer):
                    self._input = None
                else:
                    self._layers.pop()
                raise

    def pop(self, rebuild: bool = True) -> Layer | None:
        """Takes the last layer off and returns it; None when there is none."""
        with self._in_use.changing("pop"):
            if not self._layers:
                return None
            layer = self._layers.pop()
            if rebuild:
                self._try_build()
            return layer

    def _append(self, layer: Any) -> None:
        if isinstance(layer, InputLayer):
            if self._layers or self._input is not None:
                raise ValueError("Input must be the first entry of a model, and there can be only one")
            self._input = layer
            return
        if not isinstance(layer, Layer):
            raise TypeError(
                f"a layer is of type {type(layer).__name__}, but must be an object of convec.layers"
                + (" (an object: with parentheses)" if isinstance(layer, type) else "")
            )
        if any(layer.name == other.name for other in self._layers):
            raise ValueError(f"the name {layer.name!r} occurs twice, but names of layers must differ; set name=")
        self._layers.append(layer)

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the Input."""
        return list(self._layers)

    @property
    def input_layer(self) -> InputLayer | None:
        """The Input that the model begins with, if any."""
        return self._input

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or number.

        Raises:
            ValueError: there is none, or neither or both are given.
        """
        if (name is None) == (index is None):
            raise ValueError("give either the name or the index of a layer")
        if index is not None:
            if not -len(self._layers) <= index < len(self._layers):
                raise ValueError(f"index is {index}, but the model has {len(self._layers)} layers")
            return self._layers[index]
        for layer in self._layers:
            if layer.name == name:
                return layer
        raise ValueError(f"no layer is called {name!r}; there are {', '.join(layer.name for layer in self._layers)}")

    # ---- Building ----

    @property
    def built(self) -> bool:
        """Whether the weights exist."""
        return self._network is not None

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(None, ...): the shape of a batch that goes in. Raises AttributeError before the model is built."""
        return (None, *self._built_network("input_shape").input_shape)

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """(None, ...): the shape of a batch that comes out. Raises AttributeError before the model is built."""
        return (None, *self._built_network("output_shape").output_shape)

    def _built_network(self, what: str) -> Network:
        if self._network is None:
            raise AttributeError(f"{what} is not known yet: build the model first, e.g. by Input(shape=...)")
        return self._network

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Makes the weights for batches of ``input_shape``, e.g. ``(None, 28, 28, 1)``, or of the shape declared.

        Raises:
            ValueError: no shape is known, or a layer does not fit.
        """
        with self._in_use.changing("build"):
            if input_shape is None:
                if self._declared() is None:
                    raise ValueError("the input shape is not known: give one, e.g. model.build((None, 28, 28, 1))")
                self._try_build()
            else:
                self._build(check_shape(tuple(input_shape)[1:]))

    def to(self, device: str | _device.Device) -> Sequential:
        """Moves the model to a device, where it is trained and run from then on.

        Weights and the optimizer's state move with it. What goes in and comes out stays NumPy; arrays that are on the
        model's device already (CuPy's) are taken as they are.

        Args:
            device: 'cpu', 'cuda:0', ..., 'auto', or a :func:`convec.device`.

        Returns:
            The model itself.

        Raises:
            RuntimeError: the device cannot be used, or has too little memory. ValueError: it is no device's name.
        """
        chosen = _device.device(device)
        with self._in_use.changing("to"):
            if self._network is not None:
                self._network.to(chosen.type, chosen.index)
            self._device = chosen
        return self

    @property
    def device(self) -> str:
        """Name of the model's device; before it is built, of the one that it is going to use."""
        if self._network is not None:
            return str(self._network.device)
        return str(self._device or _device.current_device())

    @property
    def matmul_precision(self) -> str:
        """How exactly dense layers and convolutions multiply on a GPU: 'float32', 'tf32', '3xtf32' or 'mixed_bfloat16'.

        A model that is built has that of :func:`convec.set_matmul_precision` at the time; what is set here is good from
        the next call on, also between two epochs, and another name raises ValueError. Weights, and files of them, are
        float32 whatever it is, and say nothing about it. The CPU computes in float32.
        """
        if self._network is not None:
            return self._network.matmul_precision
        return self._matmul_precision or _core.matmul_precision()

    @matmul_precision.setter
    def matmul_precision(self, value: str) -> None:
        self._matmul_precision = _core.check_matmul_precision(value)
        if self._network is not None:
            self._network.matmul_precision = self._matmul_precision

    def _declared(self) -> Shape | None:
        if self._input is not None:
            return self._input.declared_shape
        return self._layers[0].declared_shape if self._layers else None

    def _try_build(self) -> None:
        shape = self._declared()
        if shape is None and self._network is not None:
            shape = tuple(self._network.input_shape)
        if shape is None or not self._layers:
            self._network = None
            return
        self._build(shape)

    def _build(self, shape: Shape) -> None:
        entries: list[dict[str, Any]] = []
        owners: list[int] = []  # the layer that each entry belongs to
        firsts: list[int] = []
        for number, layer in enumerate(self._layers):
            firsts.append(len(entries))
            core = layer.core_layers()
            entries.extend(core)
            owners.extend([number] * len(core))
        try:
            network = Network(entries, shape, 0)  # weights are given by the layers, dropout's seed by compile()
        except ValueError as error:
            raise ValueError(self._named(str(error), owners)) from None
        shapes = [shape]
        for first, last in zip(firsts, [*firsts[1:], len(entries)], strict=True):
            shapes.append(tuple(network.layer_output_shape(last - 1)) if last > first else shapes[-1])
        for layer, before in zip(self._layers, shapes, strict=False):
            layer.check_input_shape(before)
        for number, layer in enumerate(self._layers):
            layer.attach(network, firsts[number], shapes[number], shapes[number + 1])
        if not self._trainable:
            for layer in self._layers:
                layer.trainable = False
        network.matmul_precision = self._matmul_precision or _core.matmul_precision()
        chosen = self._device or _device.current_device()
        if chosen.type != "cpu":
            network.to(chosen.type, chosen.index)
        self._network = network
        self._owners = owners
        self._compile_network()

    def _named(self, message: str, owners: list[int]) -> str:
        """A message of the compiled network with the layer's own name: 'layer 3 (dense): ...'."""
        head, colon, rest = message.partition(": ")
        words = head.split()
        if colon and len(words) == 3 and words[0] == "layer" and words[1].isdigit():
            return f"layer {self._layers[owners[int(words[1])]].name!r}: {rest}"
        return message

    def network_parts(self) -> list[NetworkPart]:
        """The entries of the compiled network, for an exporter. Raises ValueError before the model is built."""
        if self._network is None:
            raise ValueError(f"model {self.name!r} is not built: give it an input shape first")
        configs = [part for layer in self._layers for part in layer.core_layers()]
        weights: list[dict[str, Array]] = [{} for _ in configs]
        for number, info in enumerate(self._network.parameters()):
            weights[info["layer"]][info["name"]] = self._network.get_parameter(number)
        return [
            NetworkPart(config, held, tuple(self._network.layer_output_shape(number)))
            for number, (config, held) in enumerate(zip(configs, weights, strict=True))
        ]

    # ---- Weights ----

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; setting it sets every layer's."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        with self._in_use.changing("trainable"):
            self._trainable = bool(value)
            for layer in self._layers:
                layer.trainable = self._trainable

    def count_params(self) -> int:
        """Number of weights. Raises ValueError before the model is built."""
        if not self.built:
            raise ValueError(f"model {self.name!r} is not built: give it an input shape first")
        return sum(layer.count_params() for layer in self._layers)

    def get_weights(self) -> list[Array]:
        """Copies of all weights, layer by layer."""
        with self._in_use.looking("get_weights"):
            return [value for layer in self._layers for value in layer.get_weights()]

    @property
    def weights(self) -> list[Array]:
        """Same as :meth:`get_weights`."""
        return self.get_weights()

    @property
    def trainable_weights(self) -> list[Array]:
        """Copies of the weights that training changes, layer by layer."""
        return [value for layer in self._layers for value in layer.trainable_weights]

    @property
    def non_trainable_weights(self) -> list[Array]:
        """Copies of the weights that training does not change by gradients, layer by layer."""
        return [value for layer in self._layers for value in layer.non_trainable_weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrites all weights.

        Raises:
            ValueError: the number of arrays or a shape is wrong; nothing has changed then.
        """
        with self._in_use.changing("set_weights"):
            check_weights(weights, [value.shape for value in self.get_weights()], f"model {self.name!r}")
            start = 0
            for layer in self._layers:
                count = len(layer.weight_names)
                layer.set_weights(weights[start : start + count])
                start += count

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Writes the weights to ``.safetensors``, ``.weights.h5`` or ``.npz``: :func:`convec.saving.save_weights`."""
        with self._in_use.looking("save_weights"):
            saving.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Reads what :meth:`save_weights` wrote: :func:`convec.saving.load_weights`."""
        with self._in_use.changing("load_weights"):
            saving.load_weights(self, filepath)

    def save(self, filepath: str | os.PathLike[str], overwrite: bool = True, include_optimizer: bool = True) -> None:
        """Writes the whole model to ``.safetensors`` or ``.keras``: :func:`convec.saving.save_model`."""
        with self._in_use.looking("save"):
            saving.save_model(self, filepath, overwrite, include_optimizer)

    def __reduce__(self) -> tuple[Any, ...]:
        """For ``copy`` and for other processes (:mod:`multiprocessing`): what :meth:`save` writes, not the objects.

        Raises:
            ValueError: the model is not built yet.
            TypeError: something in it cannot be saved.
        """
        with self._in_use.looking("copy"):
            return saving.from_bytes, (saving.to_bytes(self), saving.own_objects(self))

    # ---- Looking at it ----

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Prints the layers, their output shapes and numbers of weights as Keras prints them.

        Args:
            line_length: width of the table; by default 88 or what the terminal has room for.
            positions: where the columns end, as shares of the width.
            print_fn: gets the text instead of ``print``.
            expand_nested: accepted for Keras' sake; there are no models within a model.
            show_trainable: adds a column.
            layer_range: names, or regular expressions, of the first and the last layer shown.

        Raises:
            ValueError: ``line_length`` is too small, or ``layer_range`` matches nothing.
        """
        del expand_nested
        text = summary.text(
            self.name, self._layers, self._optimizer_parameters(), line_length, show_trainable, positions, layer_range
        )
        (print if print_fn is None else print_fn)(text)

    def get_config(self) -> dict[str, Any]:
        """Name, layers and, where known, the input shape, as Keras writes them."""
        entries: list[Layer] = [] if self._input is None else [self._input]
        entries += self._layers
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self._trainable,
            "layers": [
                {
                    "module": "keras.layers",
                    "class_name": type(layer).__name__,
                    "config": layer.get_config(),
                    "registered_name": None,
                }
                for layer in entries
            ],
        }
        if self._network is not None:
            config["build_input_shape"] = list(self.input_shape)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Sequential:
        """A model with fresh weights from :meth:`get_config`'s dictionary, or from that of a Keras model.

        Raises:
            ValueError, TypeError: a layer or a setting is not known.
        """
        from convec.saving import config as config_

        name, entry, layers, dropped = config_.model_layers(config, custom_objects or {})
        config_.warn_dropped(dropped)
        model = cls([*([] if entry is None else [entry]), *layers], name=name)
        if not model.built and config.get("build_input_shape"):
            model.build(config["build_input_shape"])
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def to_json(self, **kwargs: Any) -> str:
        """The configuration as JSON for :func:`convec.models.model_from_json`; ``kwargs`` as ``json.dumps``."""
        import json

        from convec.saving import config as config_

        whole = {"module": "keras", "class_name": "Sequential", "config": self.get_config(), "registered_name": None}
        return json.dumps(config_.serialize(whole), **kwargs)

    def _prepare_inputs(self, x: Any, name: str = "x") -> data.Array:
        array = data.inputs(x, name)
        with self._building:
            if self._network is None:
                if not self._layers:
                    raise ValueError("the model has no layers; add some first")
                if array.ndim < 2:
                    raise ValueError(f"{name} has shape {array.shape}, but must be a batch of samples")
                with self._in_use.looking("build"):
                    self._build(check_shape(array.shape[1:]))
        assert self._network is not None
        return data.check_inputs(array, tuple(self._network.input_shape), name)

    def _layer_name(self, entry: int) -> str:
        return self._layers[self._owners[entry]].name


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Sequential:
    """A model with fresh weights from :meth:`Sequential.to_json` or a Keras Sequential's ``to_json``.

    Raises:
        ValueError, TypeError: it is no such text, or a layer or a setting is not known.
    """
    from convec.saving import config

    name, described = config.entry_of(config.loads(json_string, "json_string"), "the model")
    if name != "Sequential":
        raise ValueError(f"the model is a {name!r}, but convec has Sequential models only")
    return Sequential.from_config(described, custom_objects)
