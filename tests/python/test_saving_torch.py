"""Weights of PyTorch modules: written here in PyTorch's layout, and by PyTorch itself where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
from convec import layers
from convec.models import Sequential
from convec.saving import load_torch_weights, save_arrays

RNG = np.random.default_rng(4)


def model() -> Sequential:
    return Sequential(
        [
            convec.Input((9, 8, 2)),
            layers.Conv2D(4, (3, 2), name="first"),
            layers.BatchNormalization(epsilon=1e-5, name="norm"),
            layers.ReLU(),
            layers.MaxPooling2D(2),
            layers.Conv2D(6, 2, groups=2, use_bias=False, name="second"),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(5, activation="relu", name="hidden"),
            layers.Dense(3, name="output"),
        ]
    )


def arrays() -> dict[str, Any]:
    """A state_dict as a module with these layers at 0, 1, 4, 6 and 10 has it."""
    shapes = {
        "0.weight": (4, 2, 3, 2),
        "0.bias": (4,),
        "1.weight": (4,),
        "1.bias": (4,),
        "1.running_mean": (4,),
        "1.running_var": (4,),
        "4.weight": (6, 2, 2, 2),
        "6.weight": (5, 6 * 2 * 2),
        "6.bias": (5,),
        "10.weight": (3, 5),
        "10.bias": (3,),
    }
    found: dict[str, Any] = {name: RNG.uniform(0.1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    found["1.num_batches_tracked"] = np.array(3, np.int64)
    return found


def test_layouts_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    theirs = arrays()
    save_arrays(path, theirs)
    ours = model()
    load_torch_weights(ours, path)
    np.testing.assert_array_equal(ours.get_layer("first").get_weights()[0][2, 1, 0, 3], theirs["0.weight"][3, 0, 2, 1])
    np.testing.assert_array_equal(ours.get_layer("norm").get_weights()[3], theirs["1.running_var"])
    hidden = ours.get_layer("hidden").get_weights()[0].reshape(2, 2, 6, 5)  # height, width, channels, units
    np.testing.assert_array_equal(hidden, theirs["6.weight"].reshape(5, 6, 2, 2).transpose(2, 3, 1, 0))
    np.testing.assert_array_equal(ours.get_layer("output").get_weights()[0], theirs["10.weight"].T)
    other = model()
    names = {"first": "0", "norm": "1", "second": "4", "hidden": "6", "output": "10"}
    load_torch_weights(other, path, names)
    for a, b in zip(ours.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pytorch_computes_the_same(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    nn = torch.nn
    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(2, 4, (3, 2)), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 2, groups=2, bias=False), nn.Flatten()),
        *(nn.Linear(24, 5), nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Linear(5, 3)),
    )
    x = torch.randn(6, 2, 9, 8)
    module(x)  # moves the running statistics
    module.eval()
    safetensors.save_file(module.state_dict(), tmp_path / "m.safetensors")
    ours = model()
    load_torch_weights(ours, tmp_path / "m.safetensors")
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(ours(x.permute(0, 2, 3, 1).contiguous().numpy()), expected, atol=2e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("0.bias"), "holds no '0.bias'"),
        (lambda a: a.update({"6.weight": a["6.weight"].T.copy()}), r"'6.weight' is float32 of shape \(24, 5\)"),
        (lambda a: a.update({"11.weight": a["0.bias"]}), "6 modules"),
        (lambda a: a.update({"0.other": a["0.bias"]}), "also holds 0.other"),
        (lambda a: a.update({"0.bias": a["0.bias"].astype(np.int32)}), "int32"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, change: Any, message: str) -> None:
    found = arrays()
    change(found)
    save_arrays(tmp_path / "m", found)
    ours = model()
    before = ours.get_weights()
    with pytest.raises(ValueError, match=message):
        load_torch_weights(ours, tmp_path / "m")
    for a, b in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="names must have the layers"):
        load_torch_weights(ours, tmp_path / "m", {"first": "0"})
