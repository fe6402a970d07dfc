"""Forks, children that are started afresh, many threads at once, and the end of the interpreter."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
import toy
from convec import layers, metrics
from convec.models import Sequential, Word2Vec
from forking import in_fork

X = np.random.default_rng(0).random((64, 8, 8, 2), dtype=np.float32)
Y = np.arange(64) % 3
SENTENCES = [[str((7 * line + word) % 30) for word in range(20)] for line in range(50)]


def make() -> Sequential:
    return toy.pooled_model(channels=2, filters=8)


def trained_weights() -> list[Any]:
    model = make()
    model.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    return model.get_weights()


def same(a: list[Any], b: list[Any]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def run(program: str, *arguments: str, threads: int = 4) -> subprocess.CompletedProcess[str]:
    """A program of its own, with more threads than processors."""
    environment = {**os.environ, "CONVEC_NUM_THREADS": str(threads)}
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", head + program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


# ---- Fork ----


def test_a_fork_after_import() -> None:
    result = run("""
import convec, os
child = os.fork()
import test_processes as t
weights = t.trained_weights()
if child == 0:
    t.Word2Vec(t.SENTENCES, min_count=1, vector_size=8, epochs=1, workers=4)
    os._exit(0 if t.same(weights, t.trained_weights()) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.usefixtures("threads")
def test_a_fork_after_use() -> None:
    """The threads of the pool do not exist in the child; it makes its own."""
    convec._core.set_num_threads(4)
    expected = trained_weights()
    model = make()
    predictions = model.predict(X, verbose=0)
    assert in_fork(lambda: same(trained_weights(), expected))
    assert in_fork(lambda: np.array_equal(model.predict(X, verbose=0), predictions))
    assert in_fork(lambda: in_fork(lambda: same(trained_weights(), expected)))
    assert same(trained_weights(), expected)


@pytest.mark.usefixtures("threads")
def test_a_fork_while_another_thread_trains() -> None:
    convec._core.set_num_threads(4)
    expected = trained_weights()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            trained_weights()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(5):
            assert in_fork(lambda: same(trained_weights(), expected))
    finally:
        stop.set()
        thread.join()


# ---- Models in other processes ----


class Own(metrics.SparseCategoricalAccuracy):
    """A metric that convec has not."""


def own_metric(y_true: Any, y_pred: Any) -> Any:
    return np.mean(y_pred, axis=-1)


class OwnDense(layers.Dense):
    """A layer that convec has not."""


def predict(model: Sequential) -> Any:
    return model.predict(X, verbose=0)


def test_models_are_copied_as_files_are() -> None:
    model = Sequential([convec.Input((8, 8, 2)), layers.Flatten(), OwnDense(3, activation="softmax", name="own")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[Own(), own_metric])
    model.fit(X, Y, verbose=0)
    for other in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert same(other.get_weights(), model.get_weights())
        assert isinstance(other.layers[1], OwnDense)
        assert other.optimizer.iterations == model.optimizer.iterations
        assert other.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    other.fit(X, Y, verbose=0)
    assert not same(other.get_weights(), model.get_weights())
    with pytest.raises(ValueError, match="not built"):
        pickle.dumps(Sequential([layers.Dense(3)]))


def test_children_that_are_started_afresh() -> None:
    """Spawn: the model goes to the child, its predictions come back."""
    model = make()
    vectors = Word2Vec(SENTENCES, min_count=1, vector_size=8, epochs=1, workers=1).wv
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(predict, (model,)), predict(model))
        assert pool.apply(vectors.most_similar, ("1",)) == vectors.most_similar("1")


# ---- Threads ----


@pytest.mark.usefixtures("threads")
def test_many_threads_predict_on_one_model() -> None:
    convec._core.set_num_threads(4)
    model = make()
    expected = predict(model)
    wrong: list[str] = []

    def work(begin: int) -> None:
        for size in (1, 7, 64, 20) * 5:
            found = model.predict(X[begin : begin + size], batch_size=16, verbose=0)
            if not np.array_equal(found, expected[begin : begin + size]):
                wrong.append(f"{begin}, {size}")

    workers = [threading.Thread(target=work, args=(begin,)) for begin in range(0, 48, 6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive()
    assert not wrong


# ---- The end of the interpreter ----

ENDING = """
import threading, time
import test_processes as t
if sys.argv[1] == "fit":
    model = t.make()
    work = lambda: model.fit(t.X, t.Y, epochs=10**6, verbose=2)
elif sys.argv[1] == "predict":
    model = t.make()
    work = lambda: [model.predict(t.X, verbose=0) for _ in range(10**9)]
else:
    work = lambda: t.Word2Vec(t.SENTENCES, min_count=1, epochs=10**6, workers=3)
threading.Thread(target=work, daemon=True).start()
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("what", ["fit", "predict", "word2vec"])
def test_the_interpreter_may_end_while_a_daemon_thread_computes(what: str) -> None:
    for seconds in (0.05, 0.3):
        result = run(ENDING, what, str(seconds))
        assert result.returncode == 0, result.stderr
        assert not result.stderr


def test_the_interpreter_waits_for_other_threads_and_exit_handlers() -> None:
    """A thread that is no daemon ends its work, and what runs at exit may still train."""
    result = run("""
import atexit, threading
import test_processes as t
expected = t.trained_weights()
atexit.register(lambda: print("at exit", t.same(t.trained_weights(), expected)))
threading.Thread(target=lambda: print("thread", t.same(t.trained_weights(), expected))).start()
""")
    assert (result.returncode, result.stdout) == (0, "thread True\nat exit True\n"), result.stderr
