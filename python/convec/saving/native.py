"""Whole models in safetensors files.

The compiled core writes the arrays (``<layer>/<weight>``, ``optimizer/<layer>/<weight>/<slot>``) and what a C++ program
needs (``convec.network``, ``convec.training``) into the metadata; Python adds the layers and the arguments of
``compile`` in Keras' form and the position of training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from convec import _core, layers, metrics, optimizers
from convec.layers.base import InputLayer, Layer
from convec.models.sequential import Sequential
from convec.saving import config

Array = npt.NDArray[Any]

_FORMAT = "1"


def save(model: Sequential, path: Path, include_optimizer: bool) -> None:
    """Writes a built model. Raises TypeError (something cannot be written), OSError."""
    metadata = {"convec.model": config.dumps({"class_name": "Sequential", "config": model.get_config()})}
    compilation = model.get_compile_config()
    if compilation is not None:
        metadata["convec.compile"] = config.dumps(compilation)
    if include_optimizer:
        metadata["convec.position"] = config.dumps(model.get_position())
    model.save_network(path, metadata, include_optimizer)


def load(path: Path, compiled: bool, custom: config.Custom) -> Sequential:
    """Reads a model. Raises ValueError, TypeError, OSError; see :func:`convec.saving.load_model`."""
    arrays, metadata = _core.safetensors_load(path)
    if "convec.network" not in metadata:
        raise ValueError(f"{path} holds no model: its metadata have no 'convec.network'; are these weights only?")
    if metadata.get("convec.format") != _FORMAT:
        raise ValueError(
            f"{path} has format {metadata.get('convec.format')!r}, but this version of convec reads {_FORMAT!r}"
        )
    try:
        network = config.loads(metadata["convec.network"], "convec.network")
        training = (
            config.loads(metadata["convec.training"], "convec.training") if "convec.training" in metadata else None
        )
        if "convec.model" in metadata:
            described = config.entry_of(config.loads(metadata["convec.model"], "convec.model"), "the model")[1]
        else:
            described = _from_core(network)
        shape = _shape(network)
        model = build(described, shape, {name: value.shape for name, value in arrays.items()}, custom)
        model.set_weights(_picked(model, arrays))
        if not compiled or training is None:
            return model
        if "convec.compile" in metadata:
            model.compile(**config.compilation(config.loads(metadata["convec.compile"], "convec.compile"), custom))
        else:
            model.compile(**_compilation_from_core(training))
        if "iterations" in training:
            model.set_optimizer_state(
                training["iterations"], _slots(model, arrays), _number(training, "optimizer", "learning_rate")
            )
            model.set_dropout_seed(int(training.get("seed", 0)))
        if "convec.position" in metadata:
            model.set_position(config.loads(metadata["convec.position"], "convec.position"))
    except (KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: its description lacks or has a wrong {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from None
    return model


def build(
    described: Any, shape: tuple[int, ...], stored: dict[str, tuple[int, ...]], custom: config.Custom
) -> Sequential:
    """The model of a configuration, built, after its weights were found among the stored arrays' shapes.

    A file from anywhere may describe layers of any size: no memory is taken for weights that are not in it.
    """
    name, entry, made, dropped = config.model_layers(described, custom)
    core = [(layer, part) for layer in made for part in layer.core_layers()]
    for info in _core.network_parameters([part for _, part in core], shape):
        key = f"{core[info['layer']][0].name}/{info['name']}"
        if key not in stored:
            raise ValueError(f"there is no {key!r} in it, but the model it describes has it")
        if stored[key] != info["shape"]:
            raise ValueError(f"{key!r} has shape {stored[key]}, but the model it describes needs {info['shape']}")
    config.warn_dropped(dropped)
    model = Sequential([*([] if entry is None else [entry]), *made], name=name)
    if not model.built:
        model.build((None, *shape))
    return model


def _shape(network: Any) -> tuple[int, ...]:
    shape = network["input_shape"]
    if not isinstance(shape, list) or not all(type(extent) is int and extent > 0 for extent in shape):
        raise ValueError(f"the input shape is {shape!r}, but must be a list of positive numbers")
    return tuple(shape)


def _number(entry: Any, *keys: str) -> float:
    for key in keys:
        entry = entry[key]
    if isinstance(entry, bool) or not isinstance(entry, (int, float)):
        raise ValueError(f"{keys[-1]} is {entry!r}, but must be a number")
    return float(entry)


def _picked(model: Sequential, arrays: dict[str, Array]) -> list[Array]:
    from convec.saving import weights

    return weights.pick(Path("the file"), arrays, model)


def _slots(model: Sequential, arrays: dict[str, Array]) -> list[list[Array]]:
    """The optimizer's arrays for each weight."""
    from convec.saving import weights

    found: list[list[Array]] = []
    for (name, shape), count in zip(weights.names(model), model.optimizer_slot_counts(), strict=True):
        keys = [f"optimizer/{name}/{slot}" for slot in range(count)]
        missing = [key for key in keys if key not in arrays]
        if missing:
            raise ValueError(f"there is no {missing[0]!r} in it, but its optimizer needs it")
        found.append([weights.check(Path("the file"), key, arrays[key], shape) for key in keys])
    return found


# ---- Files that a C++ program wrote ----


_LAYERS: dict[str, type[Layer]] = {
    "conv2d": layers.Conv2D,
    "max_pool2d": layers.MaxPooling2D,
    "average_pool2d": layers.AveragePooling2D,
    "global_max_pool2d": layers.GlobalMaxPooling2D,
    "global_average_pool2d": layers.GlobalAveragePooling2D,
    "flatten": layers.Flatten,
    "dense": layers.Dense,
    "activation": layers.Activation,
    "softmax": layers.Softmax,
    "dropout": layers.Dropout,
    "batch_norm": layers.BatchNormalization,
    "rescaling": layers.Rescaling,
}
_RENAMED = {"dilation": "dilation_rate"}


def _from_core(network: Any) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [
        {"class_name": InputLayer.__name__, "config": {"shape": network["input_shape"], "name": "input"}}
    ]
    for described in network["layers"]:
        settings = {_RENAMED.get(key, key): value for key, value in described.items()}
        kind = settings.pop("kind")
        if kind not in _LAYERS:
            raise ValueError(f"the kind of layer {kind!r} is not known")
        entries.append({"class_name": _LAYERS[kind].__name__, "config": settings})
    return {"name": None, "layers": entries}


def _compilation_from_core(training: Any) -> dict[str, Any]:
    def split(entry: Any) -> tuple[str, dict[str, Any]]:
        settings = dict(entry)
        return settings.pop("kind"), settings

    kind, settings = split(training["optimizer"])
    made = optimizers.get(kind)
    # The core lists every setting of every optimizer; those of this one are what its own configuration has.
    known = made.get_config()
    # A setting that is not in use is None here and 0 in the core.
    settings = {key: value or None if known[key] is None else value for key, value in settings.items() if key in known}
    asked: tuple[list[Any], list[Any]] = ([], [])
    for entry in training["metrics"]:
        name, options = split(entry)
        weighted = bool(options.pop("weighted"))
        found = metrics.by_kind(name)
        if found is not None:
            asked[weighted].append(found(**{key: value for key, value in options.items() if key in found().options}))
        else:
            asked[weighted].append(_loss(name, options))
    return {
        "optimizer": type(made).from_config(settings),
        "loss": _loss(*split(training["loss"])),
        "metrics": asked[0],
        "weighted_metrics": asked[1],
    }


def _loss(kind: str, options: dict[str, Any]) -> Any:
    from convec import losses

    made = type(losses.get(kind))
    known = made().get_config()
    return made(**{key: value for key, value in options.items() if key in known})
