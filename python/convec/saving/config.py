"""Models, layers, optimizers, losses and metrics as JSON, and back.

The form is Keras 3's: ``{"module": "keras.layers", "class_name": "Dense", "config": {...}}``. Names are looked up in
convec's own modules and in ``custom_objects``; nothing is ever imported by name, and no code is ever loaded.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from convec import initializers, layers, losses, metrics, optimizers
from convec.layers.base import InputLayer, Layer
from convec.optimizers import schedules

Custom = Mapping[str, Any]

_MODULES: tuple[tuple[type, str], ...] = (
    (Layer, "keras.layers"),
    (initializers.Initializer, "keras.initializers"),
    (optimizers.Optimizer, "keras.optimizers"),
    (schedules.LearningRateSchedule, "keras.optimizers.schedules"),
    (losses.Loss, "keras.losses"),
    (metrics.Metric, "keras.metrics"),
)
# What Keras writes into a configuration, with the values that say no more than convec does.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "synchronized": (False,),
    "renorm": (False,),
    "renorm_clipping": (None,),
    "renorm_momentum": (0.99,),
    "ragged": (False,),
    "optional": (False,),
    "sparse": (False,),
    "lora_rank": (None,),
    "lora_alpha": (None,),
    "input_axes": (None,),
    "output_axes": (None,),
    "noise_shape": (None,),
}
# Settings of training that convec has not: a model computes the same without them.
_TRAINING_ONLY = ("_regularizer", "_constraint")


def dumps(value: Any) -> str:
    """JSON text of a configuration; objects with a ``get_config`` become class name and configuration.

    Raises:
        TypeError: something in it cannot be written.
        ValueError: a number is NaN or infinite.
    """
    return json.dumps(serialize(value), allow_nan=False, separators=(",", ":"))


def loads(text: str | bytes, what: str) -> Any:
    """Strict JSON: no NaN, no key twice, no text that is nested beyond reason.

    Raises:
        ValueError: it is no such text; ``what`` names it.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key occurs twice")
        return found

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number in JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is damaged: {error}") from None


def serialize(value: Any) -> Any:
    """``value`` of dictionaries, lists, numbers, strings and None only. Raises TypeError where that cannot be."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): serialize(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [serialize(entry) for entry in value]
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "get_config"):
        module = next((name for base, name in _MODULES if isinstance(value, base)), "keras")
        own = type(value).__module__.startswith("convec.")
        return {
            "module": module if own else type(value).__module__,
            "class_name": type(value).__name__,
            "config": serialize(value.get_config()),
            "registered_name": None if own else type(value).__name__,
        }
    if callable(value) and hasattr(value, "__name__"):
        if value.__name__ == "<lambda>":
            raise TypeError("a lambda cannot be saved: it has no name; define a function with def")
        return value.__name__
    raise TypeError(f"{value!r} is of type {type(value).__name__}, which cannot be saved")


def entry_of(value: Any, what: str) -> tuple[str, dict[str, Any]]:
    """Class name and configuration of a serialized object. Raises ValueError for anything else."""
    if not isinstance(value, dict) or not isinstance(value.get("class_name"), str):
        raise ValueError(f"{what} is {_short(value)}, but must be a dictionary with 'class_name' and 'config'")
    config = value.get("config", {})
    if value["class_name"] != "function" and not isinstance(config, dict):
        raise ValueError(f"the config of {what} is {_short(config)}, but must be a dictionary")
    return value["class_name"], config


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _find(name: str, base: type, modules: tuple[Any, ...], custom: Custom, what: str) -> Any:
    # Keras joins the package of a registered class with ">": the last part is the name.
    for key in (name, name.rsplit(">", 1)[-1]):
        if key in custom:
            return custom[key]
    for module in modules:
        found = getattr(module, name, None)
        if isinstance(found, type) and issubclass(found, base) and not name.startswith("_"):
            return found
    hint = "; give it in custom_objects={...}"
    if name in ("Lambda", "TFSMLayer"):
        hint = ": it holds code, which convec never runs"
    raise ValueError(f"{what} {name!r} is not known to convec{hint}")


def plain(config: dict[str, Any], what: str, dropped: list[str]) -> dict[str, Any]:
    """A layer's configuration as convec's constructors take it, out of Keras' or convec's own.

    Args:
        config: the configuration.
        what: the layer, for messages.
        dropped: gets what only training would use and convec has not.

    Raises:
        ValueError: a setting is not supported.
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        entry = value
        if key == "dtype" and isinstance(entry, dict):
            entry = entry_of(entry, f"dtype of {what}")[1].get("name")
        if key in _NEUTRAL:
            if entry not in _NEUTRAL[key]:
                raise ValueError(f"{key} of {what} is {_short(entry)}, which convec does not support")
            continue
        if key.endswith(_TRAINING_ONLY):
            if entry is not None:
                dropped.append(f"{key} of {what}")
            continue
        if key.endswith("activation") and isinstance(entry, dict):
            entry = _function_name(entry, f"{key} of {what}")
        found[key] = entry
    return found


def _function_name(value: dict[str, Any], what: str) -> str:
    name, config = entry_of(value, what)
    found = config if name == "function" else config.get("activation")
    if not isinstance(found, str):
        raise ValueError(f"{what} is {_short(value)}, but must be the name of a function")
    return found


def layer(entry: Any, custom: Custom, dropped: list[str] | None = None) -> Layer:
    """A layer without weights.

    Raises:
        ValueError: it is not known, or a setting is not supported.
        TypeError: a setting is of the wrong type.
    """
    name, config = entry_of(entry, "a layer")
    found = _find(name, Layer, (layers,), custom, "the layer")
    shown = f"layer {config.get('name', name)!r}"
    gone: list[str] = []
    made = found.from_config(plain(config, shown, gone))
    if not isinstance(made, Layer):
        raise ValueError(f"{name} is not a layer")
    if dropped is None:
        warn_dropped(gone)
    else:
        dropped.extend(gone)
    return made


def warn_dropped(names: list[str]) -> None:
    """Says what a loaded model is without."""
    if names:
        warnings.warn(
            f"convec has no regularizers and constraints: the model computes the same, but trains without "
            f"{', '.join(names)}",
            UserWarning,
            stacklevel=4,
        )


def model_layers(config: Any, custom: Custom) -> tuple[str | None, InputLayer | None, list[Layer], list[str]]:
    """Name, Input (or None), the layers of a Sequential's configuration and what had to be dropped, nothing built.

    Raises:
        ValueError, TypeError: something is not known or not supported.
    """
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        raise ValueError(f"the configuration is {_short(config)}, but must be a dictionary with a list of 'layers'")
    name = config.get("name")
    if not isinstance(name, (str, type(None))):
        raise ValueError(f"the model's name is {_short(name)}, but must be a string")
    dropped: list[str] = []
    made = [layer(entry, custom, dropped) for entry in config["layers"]]
    first = made.pop(0) if made and isinstance(made[0], InputLayer) else None
    if any(isinstance(one, InputLayer) for one in made):
        raise ValueError("an Input is not the first of the layers")
    return name, first if isinstance(first, InputLayer) else None, made, dropped


def optimizer(entry: Any, custom: Custom) -> optimizers.Optimizer:
    """An optimizer. Raises ValueError, TypeError where it is not known or a setting is not supported."""
    if isinstance(entry, str):
        return optimizers.get(entry)
    name, config = entry_of(entry, "the optimizer")
    found = _find(name, optimizers.Optimizer, (optimizers,), custom, "the optimizer")
    settings = dict(config)
    rate = settings.get("learning_rate")
    if isinstance(rate, dict):
        settings["learning_rate"] = schedule(rate, custom)
    made = found.from_config(settings)
    if not isinstance(made, optimizers.Optimizer):
        raise ValueError(f"{name} is not an optimizer")
    return made


def schedule(entry: Any, custom: Custom) -> schedules.LearningRateSchedule:
    """A learning-rate schedule. Raises ValueError, TypeError as :func:`optimizer`."""
    name, config = entry_of(entry, "the learning-rate schedule")
    found = _find(name, schedules.LearningRateSchedule, (schedules,), custom, "the learning-rate schedule")
    made = found(**config)
    if not isinstance(made, schedules.LearningRateSchedule):
        raise ValueError(f"{name} is not a learning-rate schedule")
    return made


def loss(entry: Any, custom: Custom) -> Any:
    """A loss, or None. Raises ValueError, TypeError as :func:`optimizer`."""
    if entry is None:
        return None
    if isinstance(entry, str):
        return custom.get(entry, entry)
    name, config = entry_of(entry, "the loss")
    if name == "function":
        return custom.get(str(config), config)
    settings = {key: value for key, value in config.items() if key not in ("fn", "dtype")}
    return _find(name, losses.Loss, (losses,), custom, "the loss")(**settings)


def metric(entry: Any, custom: Custom) -> Any:
    """A metric: a name, a function or an object. Raises ValueError, TypeError as :func:`optimizer`."""
    if isinstance(entry, str):
        return custom.get(entry, entry)
    name, config = entry_of(entry, "a metric")
    if name == "function":
        return custom.get(str(config), config)
    if hasattr(losses, name) and not hasattr(metrics, name):
        return loss(entry, custom)
    settings = {key: value for key, value in config.items() if key != "dtype"}
    return _find(name, metrics.Metric, (metrics,), custom, "the metric")(**settings)


def compilation(entry: Any, custom: Custom) -> dict[str, Any]:
    """The arguments of ``compile`` out of what :func:`serialize` made of them.

    Raises:
        ValueError, TypeError: something is not known or not supported.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"the training configuration is {_short(entry)}, but must be a dictionary")
    if entry.get("loss_weights") is not None:
        raise ValueError("loss_weights are not supported: a Sequential model has one output and one loss")

    def listed(key: str) -> list[Any]:
        values = entry.get(key) or []
        if not isinstance(values, list):
            raise ValueError(f"{key} is {_short(values)}, but must be a list")
        # Keras keeps a list for each output.
        flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
        return [metric(one, custom) for one in flat if one is not None]

    return {
        "optimizer": optimizer(entry.get("optimizer", "rmsprop"), custom),
        "loss": loss(entry.get("loss"), custom),
        "metrics": listed("metrics"),
        "weighted_metrics": listed("weighted_metrics"),
    }
