"""One object in several threads at once: the right answer, or a RuntimeError that says why; never a crash.

Without the interpreter's lock (a free-threaded Python) the same holds; nothing here asks which it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import convec
import numpy as np
import pytest
import toy
from convec import backend, layers, ops
from convec.callbacks import Callback
from convec.models import KeyedVectors, Sequential, Word2Vec, load_model
from convec.models import _sharing as sharing
from convec.models.callbacks import CallbackAny2Vec
from forking import in_fork

SECONDS = 0.5
X = np.random.default_rng(0).random((48, 8, 8, 1), dtype=np.float32)
Y = np.arange(48) % 3
SENTENCES = [[str((7 * line + word) % 30) for word in range(20)] for line in range(50)]


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Threads take turns much more often than by default, where they take turns at all."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(*works: Callable[[], Any], seconds: float = SECONDS) -> list[str]:
    """Calls each of ``works`` again and again, once at least, in a thread of its own.

    Returns the messages of RuntimeErrors; all else is raised here.
    """
    ends: list[float] = []
    start = threading.Barrier(len(works), lambda: ends.append(time.monotonic() + seconds))
    errors: list[BaseException] = []
    refused: list[str] = []

    def run(work: Callable[[], Any]) -> None:
        start.wait(30)
        while not errors:
            try:
                work()
            except RuntimeError as error:
                refused.append(str(error))
            except BaseException as error:
                errors.append(error)
            if time.monotonic() > ends[0]:
                return

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return refused


def in_thread(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or raises, in another thread."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "the thread hangs"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def make(built: bool = True, seed: int = 1) -> Sequential:
    return toy.pooled_model(channels=1, filters=4, built=built, seed=seed)


def predict(model: Sequential) -> Any:
    return model.predict(X, verbose=0)


class InEpoch(Callback):
    """Calls a function once, in the middle of training."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work: Callable[[], Any] | None = work

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        work, self.work = self.work, None
        if work is not None:
            work()


# ---- Models ----


@pytest.mark.usefixtures("threads")
def test_threads_predict_on_a_model_that_is_not_built_yet() -> None:
    for _ in range(5):
        model = make(built=False)
        start = threading.Barrier(4)
        found: list[Any] = []

        def work(model: Sequential = model, start: threading.Barrier = start, found: list[Any] = found) -> None:
            start.wait(30)
            found.append(predict(model))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 4
        for one in found:
            np.testing.assert_array_equal(one, predict(model))


USES: dict[str, Callable[[Sequential], Any]] = {
    "fit": lambda model: model.fit(X, Y, verbose=0),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "predict": predict,
    "predict_on_batch": lambda model: model.predict_on_batch(X),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "test_on_batch": lambda model: model.test_on_batch(X, Y),
    "set_weights": lambda model: model.set_weights(make(seed=2).get_weights()),
    "get_weights": lambda model: model.get_weights(),
    "compile": lambda model: model.compile("sgd", "sparse_categorical_crossentropy"),
    "add": lambda model: model.add(layers.Dropout(0.5)),
    "pop": lambda model: model.pop(),
    "build": lambda model: model.build(),
    "to": lambda model: model.to("cpu"),
    "trainable": lambda model: setattr(model, "trainable", False),
    "copy": lambda model: model.__reduce__(),
    "kernel": lambda model: model.layers[0].set_weights(make(seed=2).layers[0].get_weights()),
    "learning rate": lambda model: setattr(model.optimizer, "learning_rate", 5.0),
    "slots": lambda model: model.optimizer_slots(),
}


@pytest.mark.parametrize("use", USES)
def test_a_model_that_one_thread_trains_is_refused_to_another(use: str) -> None:
    """And training goes on as if nothing had happened."""
    expected = make()
    expected.fit(X, Y, epochs=2, verbose=0)
    model = make()
    refused: list[str] = []

    def other() -> None:
        with pytest.raises(RuntimeError, match=r"the model is in use by another thread \((fit|train_epoch)\), so that"):
            in_thread(lambda: USES[use](model))
        refused.append(use)

    model.fit(X, Y, epochs=2, verbose=0, callbacks=[InEpoch(other)])
    assert refused == [use]
    for found, wanted in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    in_thread(lambda: USES[use](model))  # and afterwards it is anyone's


def test_a_callback_may_use_the_model() -> None:
    model = make()
    seen: list[Any] = []

    def own() -> None:
        model.set_weights(model.get_weights())
        seen.append((predict(model), model.evaluate(X, Y, verbose=0)))

    model.fit(X, Y, verbose=0, callbacks=[InEpoch(own)])
    assert len(seen) == 1


def test_weights_change_between_predictions() -> None:
    one, two = make(seed=1), make(seed=2)
    expected = [predict(one), predict(two)]
    weights = [one.get_weights(), two.get_weights()]
    model, turn, predictions = make(), [0], [0]

    def change() -> None:
        turn[0] += 1
        model.set_weights(weights[turn[0] % 2])

    def look() -> None:
        found = predict(model)
        predictions[0] += 1
        assert any(np.array_equal(found, wanted) for wanted in expected)

    refused = at_once(change, look, look)
    assert predictions[0]
    assert turn[0]
    assert all("in use by another thread" in message for message in refused)


def test_threads_that_do_anything_with_one_model() -> None:
    model = make()
    works = [lambda use=use: use(model) for name, use in USES.items() if name not in ("add", "pop", "learning rate")]
    refused = at_once(*works, seconds=2 * SECONDS)
    assert all("in use by another thread" in message for message in refused)
    assert np.isfinite(predict(model)).all()


@pytest.mark.usefixtures("threads")
def test_models_come_and_go_while_the_number_of_threads_changes() -> None:
    model = make()
    model.fit(X, Y, epochs=2, verbose=0)
    expected, weights = predict(model), model.get_weights()
    turn = [0]

    def come_and_go() -> None:
        other = Sequential(
            [convec.Input((8, 8, 1)), *[type(one).from_config(one.get_config()) for one in model.layers]]
        )
        other.set_weights(weights)
        np.testing.assert_array_equal(predict(other), expected)

    def change() -> None:
        turn[0] += 1
        convec.set_num_threads(1 + turn[0] % 4)
        time.sleep(1e-4)

    assert not at_once(
        come_and_go, come_and_go, change, lambda: np.testing.assert_array_equal(predict(model), expected)
    )


def test_a_model_is_saved_by_several_threads(tmp_path: Path) -> None:
    model = make()
    expected = predict(model)

    def save(name: str) -> None:
        model.save(tmp_path / name)
        np.testing.assert_array_equal(predict(load_model(tmp_path / name)), expected)

    assert not at_once(lambda: save("a.safetensors"), lambda: save("b.safetensors"), lambda: predict(model))


def test_layer_names_are_different_in_all_threads() -> None:
    names: list[str] = []
    at_once(*[lambda: names.append(backend.next_name("threads"))] * 4, seconds=0.1)
    assert len(set(names)) == len(names)


def test_ops_in_threads() -> None:
    filters = np.random.default_rng(1).random((3, 3, 1, 8), dtype=np.float32)
    expected = ops.conv2d(X, filters)
    works = [lambda: np.testing.assert_array_equal(ops.conv2d(X, filters), expected)] * 4
    assert not at_once(*works)


# ---- Word vectors ----


def keyed(count: int = 200) -> tuple[KeyedVectors, dict[str, Any]]:
    """Words in pairs, ``7`` and ``7b``, that point in one direction."""
    generator = np.random.default_rng(0)
    expected: dict[str, Any] = {}
    for number in range(count):
        expected[str(number)] = generator.standard_normal(16).astype(np.float32)
        expected[f"{number}b"] = 2 * expected[str(number)]
    vectors = KeyedVectors(16)
    vectors.add_vectors(list(expected), np.stack(list(expected.values())))
    vectors.expandos["count"] = np.arange(len(expected))
    return vectors, expected


def test_vectors_are_searched_while_they_change() -> None:
    vectors, expected = keyed()
    generator = np.random.default_rng(1)
    turns = [0] * 4

    def grow() -> None:
        # Small, so that no angle is that of a pair's; at most some thousand rows.
        if len(vectors) < 3000:
            new = [f"new{len(vectors)}", f"new{len(vectors) + 1}"]
            vectors.add_vectors(new, generator.standard_normal((2, 16)).astype(np.float32))
            turns[0] += 1

    def sort() -> None:
        with vectors.writing():
            vectors.expandos["count"][:] = generator.permutation(len(vectors))
            vectors.sort_by_descending_frequency()
        turns[1] += 1

    def search() -> None:
        number = turns[2] % 200
        turns[2] += 1
        (key, similarity), *_ = vectors.most_similar(str(number), topn=3)
        assert (key, round(float(similarity), 5)) == (f"{number}b", 1.0)
        assert vectors.rank(str(number), f"{number}b") <= 2  # itself, where rounding says so

    def look() -> None:
        key = f"{turns[3] % 200}b"
        turns[3] += 1
        np.testing.assert_array_equal(vectors.get_vector(key), expected[key])
        np.testing.assert_array_equal(vectors[[key, "0"]], np.stack([expected[key], expected["0"]]))
        assert abs(np.linalg.norm(vectors.get_vector(key, norm=True)) - 1) < 1e-5

    assert not at_once(grow, sort, search, search, look, look, seconds=2 * SECONDS)
    assert all(turns)
    assert len(vectors.key_to_index) == len(vectors.index_to_key) == len(vectors.vectors)


def test_vectors_are_replaced_as_a_whole() -> None:
    """No search sees half of a replacement, and norms are those of the vectors."""
    vectors, _ = keyed(50)
    keys, turn = list(vectors.index_to_key), [0]
    both = [np.full((100, 16), value, np.float32) * np.arange(1, 101, dtype=np.float32)[:, None] for value in (1, 4)]
    vectors.add_vectors(keys, both[0], replace=True)

    def replace() -> None:
        turn[0] += 1
        vectors.add_vectors(keys, both[turn[0] % 2], replace=True)

    def look() -> None:
        with vectors.reading():
            found = vectors[keys]
            assert any(np.array_equal(found, wanted) for wanted in both)
            np.testing.assert_allclose(np.linalg.norm(vectors.get_normed_vectors(), axis=1), 1, rtol=1e-6)

    def search() -> None:
        np.testing.assert_allclose(vectors.most_similar(keys[3], topn=None), 1, rtol=1e-6)

    assert not at_once(replace, look, look, search)


def test_a_thread_that_reads_may_write_and_two_do_not_wait_for_each_other() -> None:
    vectors, _ = keyed(3)
    with vectors.reading():
        vectors.add_vectors("own", np.ones(16, np.float32))
    with vectors.writing(), vectors.reading():
        assert "own" in vectors
    start = threading.Barrier(2)
    outcomes: list[str] = []

    def upgrade(key: str) -> None:
        try:
            with vectors.reading():
                start.wait(30)
                vectors.add_vectors(key, np.ones(16, np.float32))
            outcomes.append("added")
        except RuntimeError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=upgrade, args=(key,)) for key in "xy"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(outcomes)[0] == "added"
    assert "two threads" in sorted(outcomes)[1]


def test_a_fork_while_another_thread_uses_vectors_and_a_model() -> None:
    vectors, _ = keyed()
    model, expected = make(), predict(make())
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with vectors.writing(), model._in_use.changing("fit"):
            inside.set()
            leave.wait(30)

    def child() -> bool:
        vectors.add_vectors("child", np.ones(16, np.float32))
        assert vectors.most_similar("3")[0][0] == "3b"
        with pytest.raises(RuntimeError, match=r"in use by another thread \(fit\) when this process was forked"):
            predict(model)
        assert np.array_equal(predict(make()), expected)
        return True

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(30)
    try:
        assert in_fork(child, seconds=20)
    finally:
        leave.set()
        thread.join(60)
    assert np.array_equal(predict(model), expected)


class Once(CallbackAny2Vec):
    """Calls a function at the end of the first epoch."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work: Callable[[], Any] | None = work

    def on_epoch_end(self, model: Any) -> None:
        work, self.work = self.work, None
        if work is not None:
            work()


def test_word_vectors_that_one_thread_trains_are_refused_to_another() -> None:
    settings: dict[str, Any] = {"vector_size": 8, "min_count": 1, "workers": 1, "epochs": 2}
    expected = Word2Vec(SENTENCES, **settings).wv.vectors.copy()
    model = Word2Vec(**settings)
    model.build_vocab(SENTENCES)
    uses: list[Callable[[], Any]] = [
        lambda: model.train(SENTENCES, total_examples=50, epochs=1),
        lambda: model.build_vocab(SENTENCES),
        lambda: model.build_vocab(SENTENCES, update=True),
        lambda: model.init_weights(),
        lambda: model.reset_from(model),
        lambda: model.save("/nowhere"),
        lambda: model.predict_output_word(["1"]),
    ]
    refused: list[str] = []

    def others() -> None:
        for use in uses:
            with pytest.raises(RuntimeError, match="another thread"):
                in_thread(use)
            refused.append("")
        assert in_thread(lambda: model.wv.most_similar("1"))  # the vectors as they are

    model.train(SENTENCES, total_examples=50, epochs=2, callbacks=[Once(others)])
    assert len(refused) == len(uses)
    np.testing.assert_array_equal(model.wv.vectors, expected)


def test_words_are_counted_while_the_lists_change() -> None:
    counter = convec._core.WordCounter()
    sentences = [["a", "b"] * 50 for _ in range(50)]

    def change() -> None:
        for sentence in sentences:
            del sentence[10:]
            sentence.extend(["c", "d"] * 40)

    def count() -> None:
        counter.count_sentences(sentences)

    refused = at_once(change, count, count)
    assert all("the word counter is in use by another thread" in message for message in refused)
    assert counter.raw_words == counter.counts().sum() > 0
    assert set(counter.words()) <= set("abcd")


def test_arrays_are_saved_while_their_dictionary_changes(tmp_path: Path) -> None:
    arrays = {str(number): np.full(3, number, np.float32) for number in range(50)}

    def change() -> None:
        arrays.pop("7", None)
        arrays["7"] = np.full(3, 7, np.float32)
        arrays["x"] = np.zeros(3, np.float32)
        arrays.pop("x")

    def save(name: str) -> None:
        convec._core.safetensors_save(tmp_path / name, arrays, sync=False)
        found, _ = convec._core.safetensors_load(tmp_path / name, mmap=False)
        assert all((found[str(number)] == number).all() for number in range(50) if number != 7)

    assert not at_once(change, lambda: save("a"), lambda: save("b"))


def test_every_lock_is_renewed_after_a_fork() -> None:
    assert {name for name in vars(KeyedVectors(2)) if name in sharing.OWN} == sharing.OWN


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has its lock")
def test_a_free_threaded_python_stays_without_its_lock() -> None:
    program = """
import sys, warnings
import convec, numpy as np
from convec.models import Word2Vec
before = sys._is_gil_enabled()
convec.ops.relu(np.ones(3, np.float32))
Word2Vec([["a", "b"]], min_count=1)
print(before, sys._is_gil_enabled())
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    result = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (result.stdout, result.stderr) == ("False False\n", "")
