"""What all layers share: names, shapes, weights and configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from convec import backend, initializers

if TYPE_CHECKING:
    from convec._core import Network

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]


def snake_case(name: str) -> str:
    """Keras' name of a layer class: MaxPooling2D -> max_pooling2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def positive(value: Any, name: str) -> int:
    """``value`` as a positive integer. Raises TypeError and ValueError, naming the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}, but must be an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}, but must be at least 1")
    return int(value)


def pair(value: Any, name: str) -> tuple[int, int]:
    """``value`` as two positive integers, from one or two."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(f"{name} is {value!r}, but must be an integer or a pair of integers")
        return positive(value[0], name), positive(value[1], name)
    return positive(value, name), positive(value, name)


def last_axis(axis: int, shape: Shape, name: str) -> None:
    """Raises ValueError where ``axis`` of a batch of samples of ``shape`` is not the last one."""
    if axis not in (-1, len(shape)):
        raise ValueError(f"layer {name!r} has axis {axis}, but must have -1, the last, or its number {len(shape)}")


def channels_last(data_format: str | None) -> str:
    """Checks a layer's data_format."""
    if data_format is not None:
        backend.set_image_data_format(data_format)
    return "channels_last"


def window_padding(padding: Any) -> str | tuple[tuple[int, int], tuple[int, int]]:
    """Checks a layer's padding: 'valid', 'same' or pixels, ((top, bottom), (left, right))."""
    if isinstance(padding, str) and padding.lower() in ("valid", "same"):
        return padding.lower()
    if isinstance(padding, (tuple, list)) and len(padding) == 2:
        pixels = [tuple(side) if isinstance(side, (tuple, list)) else () for side in padding]
        if all(len(side) == 2 and all(type(count) is int and count >= 0 for count in side) for side in pixels):
            return (pixels[0][0], pixels[0][1]), (pixels[1][0], pixels[1][1])
    raise ValueError(f"padding is {padding!r}, but must be 'valid', 'same' or pixels, ((top, bottom), (left, right))")


def _sample_shape(arguments: dict[str, Any]) -> Shape | None:
    """The input shape of one sample out of a first layer's keyword arguments, which are taken out."""
    if "batch_input_shape" in arguments:
        return check_shape(tuple(arguments.pop("batch_input_shape"))[1:])
    if "batch_shape" in arguments:
        return check_shape(tuple(arguments.pop("batch_shape"))[1:])
    if "input_shape" in arguments:
        shape = arguments.pop("input_shape")
        return check_shape(tuple(shape) if isinstance(shape, (tuple, list)) else (shape,))
    if "input_dim" in arguments:
        return check_shape((arguments.pop("input_dim"),))
    return None


def check_shape(shape: Sequence[Any]) -> Shape:
    """The shape of one sample, every extent known and positive. Raises ValueError."""
    for extent in shape:
        if extent is None:
            raise ValueError(f"the input shape is {tuple(shape)}, but every extent must be known; give the image size")
    return tuple(positive(extent, f"an extent of the input shape {tuple(shape)}") for extent in shape)


class Layer:
    """Base of the layers.

    Args:
        name: unique in a model; by default the class name in snake case, numbered.
        trainable: False freezes the weights.
        **kwargs: ``input_shape=`` (or ``input_dim=``, ``batch_input_shape=``) of a model's first layer.

    Raises:
        TypeError: an argument is not known.
    """

    #: Arguments of Keras that convec has no use for, and the only value they may have.
    _fixed: ClassVar[dict[str, Any]] = {
        "dtype": None,
        "activity_regularizer": None,
        "kernel_regularizer": None,
        "bias_regularizer": None,
        "beta_regularizer": None,
        "gamma_regularizer": None,
        "kernel_constraint": None,
        "bias_constraint": None,
        "beta_constraint": None,
        "gamma_constraint": None,
        "autocast": True,
        "synchronized": False,
    }

    def __init__(self, *, name: str | None = None, trainable: bool = True, **kwargs: Any) -> None:
        self.declared_shape = _sample_shape(kwargs)
        for key, only in self._fixed.items():
            given = kwargs.pop(key, only)
            if given is not only and not (key == "dtype" and given == "float32"):
                raise ValueError(f"{key} is {given!r}, but convec supports no other value than {only!r}")
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no argument {next(iter(kwargs))!r}")
        self.name = backend.next_name(snake_case(type(self).__name__)) if name is None else str(name)
        self._trainable = bool(trainable)
        self._network: Network | None = None
        self._index = -1  # of the network's entry that holds the weights
        self._parameters: list[int] = []
        self._input_shape: Shape | None = None
        self._output_shape: Shape | None = None

    # ---- What a model asks for ----

    #: Whether the layer has weights once it is built.
    has_weights: ClassVar[bool] = False

    def check_input_shape(self, shape: Shape) -> None:
        """Raises ValueError for a sample shape that the layer's arguments do not allow; the kernels check the rest."""

    def core_layers(self) -> list[dict[str, Any]]:
        """The entries of the compiled network that make up this layer; weights belong to the first."""
        raise TypeError(f"{type(self).__name__} cannot run: convec has no compiled kernel for a layer of your own")

    def initial_values(self, name: str, shape: Shape) -> Array:
        """First values of the weight ``name``."""
        raise KeyError(name)

    def attach(self, network: Network, index: int, input_shape: Shape, output_shape: Shape) -> None:
        """Ties the layer to its entry of a compiled network; weights it has go along, where they fit, or else begin."""
        owned = [(number, info) for number, info in enumerate(network.parameters()) if info["layer"] == index]
        values = self.get_weights()
        if not self.built or [value.shape for value in values] != [tuple(info["shape"]) for _, info in owned]:
            values = [self.initial_values(info["name"], info["shape"]) for _, info in owned]
        for (number, _), value in zip(owned, values, strict=True):
            network.set_parameter(number, value)
        network.set_trainable(index, self._trainable)
        self._network = network
        self._index = index
        self._input_shape = input_shape
        self._output_shape = output_shape
        self._parameters = [number for number, _ in owned]

    # ---- What users ask for ----

    @property
    def built(self) -> bool:
        """Whether the weights exist."""
        return self._network is not None

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights. May be set at any time."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        if self._network is not None:
            self._network.set_trainable(self._index, self._trainable)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """(None, ...): the shape of a batch that goes in. Raises AttributeError before the layer is built."""
        return (None, *self._known(self._input_shape))

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """(None, ...): the shape of a batch that comes out. Raises AttributeError before the layer is built."""
        return (None, *self._known(self._output_shape))

    def _known(self, shape: Shape | None) -> Shape:
        if shape is None:
            raise AttributeError(f"layer {self.name!r} has no shape yet: build the model first, e.g. by input_shape=")
        return shape

    @property
    def weight_names(self) -> list[str]:
        """Names of the weights in the order of :meth:`get_weights`."""
        return [info["name"] for info in self._infos()]

    def _infos(self) -> list[dict[str, Any]]:
        if self._network is None:
            return []
        infos = self._network.parameters()
        return [infos[number] for number in self._parameters]

    def get_weights(self) -> list[Array]:
        """Copies of the weights: kernel, bias; or gamma, beta, moving mean, moving variance."""
        if self._network is None:
            return []
        return [self._network.get_parameter(number) for number in self._parameters]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrites the weights.

        Raises:
            ValueError: the number of arrays or a shape is wrong; nothing has changed then.
        """
        check_weights(weights, [info["shape"] for info in self._infos()], f"layer {self.name!r}")
        if self._network is not None:
            for number, value in zip(self._parameters, weights, strict=True):
                self._network.set_parameter(number, np.ascontiguousarray(value, dtype=np.float32))

    @property
    def weights(self) -> list[Array]:
        """Same as :meth:`get_weights`."""
        return self.get_weights()

    @property
    def trainable_weights(self) -> list[Array]:
        """Copies of the weights that training changes."""
        return [value for value, info in zip(self.get_weights(), self._infos(), strict=True) if info["trainable"]]

    @property
    def non_trainable_weights(self) -> list[Array]:
        """Copies of the weights that training does not change by gradients."""
        return [value for value, info in zip(self.get_weights(), self._infos(), strict=True) if not info["trainable"]]

    def parameter_counts(self) -> tuple[int, int]:
        """Numbers of (trainable, not trainable) weights."""
        counts = [0, 0]
        for info in self._infos():
            counts[0 if info["trainable"] else 1] += math.prod(info["shape"])
        return counts[0], counts[1]

    def count_params(self) -> int:
        """Number of weights. Raises ValueError before the layer is built."""
        if not self.built:
            raise ValueError(f"layer {self.name!r} is not built: build the model first, e.g. by input_shape=")
        return sum(self.parameter_counts())

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = {"name": self.name, "trainable": self._trainable}
        if self.declared_shape is not None:
            config["input_shape"] = self.declared_shape
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        """A new layer from :meth:`get_config`'s dictionary."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def check_weights(weights: Sequence[Any], shapes: Sequence[Shape], owner: str) -> None:
    """Raises ValueError where arrays do not have the given shapes."""
    if len(weights) != len(shapes):
        raise ValueError(f"{owner} has {len(shapes)} weight arrays, but {len(weights)} were given")
    for number, (value, shape) in enumerate(zip(weights, shapes, strict=True)):
        if np.shape(value) != tuple(shape):
            raise ValueError(f"weights[{number}] of {owner} has shape {np.shape(value)}, but must be {tuple(shape)}")


class InputLayer(Layer):
    """The shape of one sample, as the first entry of a model.

    Args:
        shape: without the batch, e.g. ``(28, 28, 1)``.
        batch_size, dtype, sparse, batch_shape, input_shape, name: as Keras; the batch size is not used.
    """

    def __init__(
        self,
        shape: Sequence[int] | None = None,
        batch_size: int | None = None,
        dtype: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        del batch_size
        if dtype is not None and np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.uint8)):
            raise ValueError(f"dtype is {dtype!r}, but inputs are 'float32' or 'uint8'")
        if shape is not None:
            kwargs["input_shape"] = shape
        super().__init__(name=name, **kwargs)
        if self.declared_shape is None:
            raise ValueError("Input needs a shape, e.g. Input(shape=(28, 28, 1))")

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(None, ...): the shape of a batch."""
        return (None, *self._known(self.declared_shape))

    def core_layers(self) -> list[dict[str, Any]]:
        """See :meth:`convec.layers.Layer.core_layers`."""
        return []

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"shape": self.declared_shape, "name": self.name}


def Input(  # noqa: N802 - Keras' name
    shape: Sequence[int] | None = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: bool | None = None,
    batch_shape: Sequence[int | None] | None = None,
    name: str | None = None,
) -> InputLayer:
    """The shape of one sample, as the first entry of a :class:`convec.models.Sequential`.

    Raises:
        ValueError: no shape, one with an unknown extent, or sparse input.
    """
    if sparse:
        raise ValueError("sparse is True, but convec works on dense arrays")
    if batch_shape is not None:
        return InputLayer(batch_shape=batch_shape, batch_size=batch_size, dtype=dtype, name=name)
    return InputLayer(shape, batch_size, dtype, name)


class WeightedLayer(Layer):
    """A layer with a kernel, an optional bias and initializers."""

    has_weights = True

    def __init__(self, use_bias: bool, kernel_initializer: Any, bias_initializer: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def initial_values(self, name: str, shape: Shape) -> Array:
        """See :meth:`convec.layers.Layer.initial_values`."""
        return (self.kernel_initializer if name == "kernel" else self.bias_initializer)(shape)

    @property
    def kernel(self) -> Array:
        """A copy of the kernel."""
        return self.get_weights()[0]

    @property
    def bias(self) -> Array | None:
        """A copy of the bias, or None."""
        return self.get_weights()[1] if self.use_bias else None
