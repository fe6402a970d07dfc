"""Networks trained by several processes, against one process with the same batches."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import ranks

# What the ranks run. One process writes the reference in the same way.
MODEL = """
import contextlib, hashlib, os, sys
import numpy as np
import convec
import convec.distributed as dist
from convec import callbacks, layers, utils
from convec.models import Sequential

backend = os.environ.get("TEST_BACKEND", "mpi")
device = os.environ.get("TEST_DEVICE", "cpu")
emulation = contextlib.ExitStack()  # until the end of the program
if device == "cuda":
    import emulated_cuda, stand_in_cupy
    emulation.enter_context(emulated_cuda.emulated_cuda(stand_in_cupy.cupy if backend == "nccl" else None))
    convec.set_device("cuda")
dist.init_process_group(backend, timeout=60)
rank, size = dist.get_rank(), dist.get_world_size()

def cnn(*extra):
    utils.set_random_seed(1 if rank == 0 else 100 + rank)  # fit takes rank 0's weights and order
    return Sequential([
        layers.Input((12, 12, 1)), layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(2), *extra,
        layers.Flatten(), layers.Dense(24, activation="relu"), layers.Dense(4, activation="softmax"),
    ])

def images(count, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    x = rng.normal(size=(count, 12, 12, 1)).astype(np.float32) + y[:, None, None, None] * 0.3
    return x, y, rng.uniform(0.5, 2, count).astype(np.float32)

def same_everywhere(model):
    digests = dist.all_gather_object([hashlib.sha256(weights).hexdigest() for weights in model.get_weights()])
    assert all(one == digests[0] for one in digests), "the ranks differ"

def keep(path, model, history=None):
    same_everywhere(model)
    if history is not None:
        found = dist.all_gather_object(history.history)
        assert all(one == found[0] for one in found), found
    if rank == 0:
        logs = {} if history is None else {"log_" + k: np.array(v) for k, v in history.history.items()}
        np.savez(path, *model.get_weights(), **logs)
"""

FIT = (
    MODEL
    + """
x, y, w = images(101)
vx, vy, _ = images(37, 1)
out = sys.argv[1]

# 101 samples by 32: the last batch holds 5, of which one of 4 ranks has 2 and the others 1.
model = cnn()
model.compile(convec.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=0.5, weight_decay=1e-3),
              "sparse_categorical_crossentropy", metrics=["accuracy"], weighted_metrics=["accuracy"])
history = model.fit(x, y, batch_size=32, epochs=3, sample_weight=w, class_weight={1: 2.0},
                    validation_data=(vx, vy), verbose=2)
keep(out + "/plain.npz", model, history)

# 33 samples by 16: the last batch is one sample; most ranks have none. A schedule, Adam, a stop by a callback.
model = cnn()
model.compile(convec.optimizers.Adam(convec.optimizers.schedules.ExponentialDecay(1e-2, 3, 0.9), clipnorm=0.3),
              "sparse_categorical_crossentropy", metrics=["accuracy"])
stop = callbacks.EarlyStopping(monitor="loss", min_delta=10, patience=2)
history = model.fit(x[:33], y[:33], batch_size=16, epochs=20, callbacks=[stop], verbose=0)
assert len(history.epoch) == 3, history.epoch
keep(out + "/stopped.npz", model, history)

# A generator of batches, a frozen layer, a metric that is a Python function, steps of an epoch.
model = cnn()
model.layers[0].trainable = False
model.compile(convec.optimizers.SGD(0.1), "sparse_categorical_crossentropy",
              metrics=[lambda t, p: np.mean(p, axis=-1), "accuracy"])
batches = [(x[i:i + 20], y[i:i + 20]) for i in range(0, 101, 20)]
history = model.fit(iter(batches * 2), epochs=2, steps_per_epoch=6, verbose=0)
keep(out + "/batches.npz", model, history)

# Each rank has its own part, cut so that the steps are those of the whole.
model = cnn()
model.compile(convec.optimizers.SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
whole = np.arange(96).reshape(3, 32)
own = whole[:, 32 * rank // size : 32 * (rank + 1) // size].reshape(-1)
history = model.fit(x[own], y[own], batch_size=32, epochs=2, shuffle=False, sharded=True, verbose=0,
                    validation_data=(vx[rank::size], vy[rank::size]))
keep(out + "/sharded.npz", model, history)

# Batch normalisation and dropout: the ranks agree, whatever each has seen.
model = cnn(layers.BatchNormalization(), layers.Dropout(0.3), layers.Dropout(0.2, seed=5))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, batch_size=25, epochs=2, verbose=0)
keep(out + "/normalized.npz", model, history)
before = model.get_weights()[2:6]
assert np.isfinite(history.history["loss"]).all() and not np.allclose(before[2], 0)

assert model._built().device.startswith(device)

# Outside of fit every rank computes alone.
if rank == 0:
    model.evaluate(vx, vy, verbose=0)
dist.destroy_process_group()
"""
)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one process."""
    folder = tmp_path_factory.mktemp("alone")
    ranks.run(1, FIT, str(folder))
    return folder


def compiled_emulation() -> None:
    pytest.importorskip("convec._cuda_emulated", reason="built without the emulated CUDA device")


@pytest.mark.parametrize(
    ("count", "device", "backend"),
    [(2, "cpu", "mpi"), (4, "cpu", "mpi"), (2, "cuda", "mpi"), (3, "cuda", "nccl")],
)
def test_fit_is_that_of_one_process(count: int, device: str, backend: str, alone: Path, tmp_path: Path) -> None:
    if device == "cuda":
        compiled_emulation()
    output = ranks.run(count, FIT, str(tmp_path), TEST_DEVICE=device, TEST_BACKEND=backend, FAKE_NCCL=str(tmp_path))
    assert output.count("Epoch 1/3") == 1  # rank 0 alone shows progress
    assert output.count(" loss:") == 3
    for name in ("plain", "stopped", "batches", "sharded"):
        expected, found = _arrays(alone / f"{name}.npz"), _arrays(tmp_path / f"{name}.npz")
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            scale = np.abs(value).max()
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{name} {key}")
    expected, found = _arrays(alone / "normalized.npz"), _arrays(tmp_path / "normalized.npz")
    # Other masks and other statistics, but the same task.
    assert abs(expected["log_loss"][-1] - found["log_loss"][-1]) < 0.3


BUCKETS = (
    MODEL
    + """
from convec.models import _parallel
x, y, _ = images(65)
results = []
for bucket in (1 << 22, 64):
    model = cnn(layers.BatchNormalization())
    model.layers[0].trainable = False
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network = model._built()
    sent = []
    class Spy:
        def set_data_parallel(self, **options):
            if options:
                inner = options["all_reduce"]
                def spy(*array):
                    sent.append(array)
                    inner(*array)
                options |= {"all_reduce": spy, "bucket_bytes": bucket}
            network.set_data_parallel(**options)
        def __getattr__(self, name):
            return getattr(network, name)
        def __setattr__(self, name, value):
            setattr(network, name, value)
    model._network = Spy()
    model.fit(x, y, batch_size=16, epochs=2, verbose=0)  # the last batch is one sample
    model._network = network
    same_everywhere(model)
    results.append((len(sent) // 10, model.get_weights()))
assert results[0][0] == 1 and results[1][0] > 2, results
for one, other in zip(results[0][1], results[1][1]):
    np.testing.assert_array_equal(one, other)
print("fine")
"""
)


@pytest.mark.parametrize(("device", "backend"), [("cpu", "mpi"), ("cuda", "mpi"), ("cuda", "nccl")])
def test_gradients_in_pieces_are_the_same(device: str, backend: str, tmp_path: Path) -> None:
    if device == "cuda":
        compiled_emulation()
    where = {"TEST_DEVICE": device, "TEST_BACKEND": backend, "FAKE_NCCL": str(tmp_path)}
    assert ranks.run(2, BUCKETS, **where).count("fine") == 2


STALLED = (
    MODEL
    + """
import time
x, y, _ = images(64)
model = cnn()
model.compile("sgd", "sparse_categorical_crossentropy")

class Stall(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            dist.get_communicator().timeout = 2
            if rank == 1:
                time.sleep(8)
                os._exit(0)

model.fit(x, y, batch_size=16, epochs=9, callbacks=[Stall()], verbose=0)
"""
)


def test_a_rank_that_stalls_does_not_hold_the_gpu_up(tmp_path: Path) -> None:
    compiled_emulation()
    where = {"TEST_DEVICE": "cuda", "TEST_BACKEND": "nccl", "FAKE_NCCL": str(tmp_path), "FAKE_SECONDS": "1"}
    code, output, errors = ranks.finish(ranks.start(2, STALLED, **where), 40)
    assert code != 0, output
    assert "did not end within 2 s on rank 0" in errors, errors


WRONG = (
    MODEL
    + """
x, y, _ = images(40)
model = cnn()
model.compile("sgd", "sparse_categorical_crossentropy")
if sys.argv[1] == "length":
    model.fit(x[: 40 - rank], y[: 40 - rank], verbose=0)
elif sys.argv[1] == "layers":
    model = cnn(*[layers.BatchNormalization()] * rank)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
elif sys.argv[1] == "batch":
    model.fit(x, y, batch_size=1, sharded=True, verbose=0)
"""
)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("length", "40 samples and batch_size 32"),
        ("layers", "rank 1 trains a network of other layers"),
        ("batch", "batch_size is 1, but must be at least 2"),
    ],
)
def test_ranks_that_do_not_agree(case: str, message: str) -> None:
    code, output, errors = ranks.finish(ranks.start(2, WRONG, case))
    assert code != 0
    assert message in errors, errors + output


# ---- Checkpoints ----

RESUME = (
    MODEL
    + """
import os, time
x, y, _ = images(90)
out, backup, freq = sys.argv[1:4]
model = cnn(*([layers.Dropout(0.3)] if "dropout" in sys.argv else []))
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

class Tell(callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if rank == 0 and "slow" in sys.argv:
            print("epoch", epoch, flush=True)
            time.sleep(0.2)
    def on_train_batch_end(self, batch, logs=None):
        if "fail" in sys.argv and rank == 1 and self.model.optimizer.iterations == 11:
            raise RuntimeError("the power is out")

kept = callbacks.BackupAndRestore(backup, save_freq=freq if freq == "epoch" else int(freq))
csv = callbacks.CSVLogger(out + ".csv")
model.fit(x, y, batch_size=16, epochs=6, callbacks=[kept, csv, Tell()], verbose=0)
keep(out, model)
assert not os.path.exists(kept.filepath)
dist.destroy_process_group()
"""
)


@pytest.mark.parametrize("frequency", ["epoch", "4"])
def test_the_same_command_goes_on(frequency: str, tmp_path: Path) -> None:
    whole, resumed = str(tmp_path / "whole.npz"), str(tmp_path / "resumed.npz")
    ranks.run(2, RESUME, whole, str(tmp_path / "none"), frequency, "dropout")
    backup = tmp_path / "backup"
    code, _, errors = ranks.finish(ranks.start(2, RESUME, resumed, str(backup), frequency, "dropout", "fail"))
    assert code != 0
    assert "rank 1 of 2 ends the job: RuntimeError: the power is out" in errors
    assert [path.name for path in backup.iterdir()] == ["training.safetensors"]
    ranks.run(2, RESUME, resumed, str(backup), frequency, "dropout")
    expected, found = _arrays(Path(whole)), _arrays(Path(resumed))
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def test_going_on_with_another_number_of_ranks(tmp_path: Path) -> None:
    whole, resumed, backup = str(tmp_path / "whole.npz"), str(tmp_path / "resumed.npz"), tmp_path / "backup"
    ranks.run(1, RESUME, whole, str(tmp_path / "none"), "4")
    code, _, _ = ranks.finish(ranks.start(2, RESUME, resumed, str(backup), "4", "fail"))
    assert code != 0
    ranks.run(4, RESUME, resumed, str(backup), "4")
    for key, value in _arrays(Path(whole)).items():
        found = _arrays(Path(resumed))[key]
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=2e-5 * np.abs(value).max())


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """kill -9 of the whole job; what was saved is complete and the same command ends."""
    backup = tmp_path / "backup"
    job = ranks.start(2, RESUME, str(tmp_path / "one.npz"), str(backup), "epoch", "slow")
    assert job.stdout is not None
    for line in job.stdout:
        if line == "epoch 2\n":
            break
    time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.communicate(timeout=20)
    assert (backup / "training.safetensors").exists()
    output = ranks.run(2, RESUME, str(tmp_path / "two.npz"), str(backup), "epoch", "slow")
    assert "epoch 0" not in output
    assert "epoch 5" in output


def test_the_example(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "train_several_ranks.py"
    program = (
        f"import os, runpy, sys; os.chdir({str(tmp_path)!r}); runpy.run_path({str(example)!r}, run_name='__main__')"
    )
    output = ranks.run(2, program, "2")
    assert output.count("Epoch 2/2") == 1
    found = re.search(r"2 ranks: test loss .*, accuracy (.*)", output)
    assert found is not None
    assert float(found[1]) > 0.6
    assert (tmp_path / "several_ranks.safetensors").exists()
