"""The progress line: on a terminal, in a file, in a notebook; and what fit prints."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap

import pytest
import toy
from convec import _progress
from convec._progress import ProgressBar, resolve_verbose

X, Y = toy.samples(53)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """time.monotonic, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(_progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_bar_on_a_terminal(clock: Clock) -> None:
    terminal = Terminal()
    bar = ProgressBar(1875, verbose=1, stream=terminal)
    clock.now += 1
    bar.update(375, {"accuracy": 0.5, "loss": 1.25})
    clock.now += 0.01  # too soon
    bar.update(380, {"accuracy": 0.5, "loss": 1.25})
    clock.now += 3.99
    bar.finish(1875, {"accuracy": 0.75, "loss": 0.0001, "val_loss": 0.5})
    drawn = ANSI.sub("", terminal.getvalue()).split("\r")
    assert drawn == [
        "",
        " 375/1875 ━━━━━━━━━━━━━━━━━━━━ 4s 3ms/step - accuracy: 0.5000 - loss: 1.2500",
        "1875/1875 ━━━━━━━━━━━━━━━━━━━━ 5s 3ms/step - accuracy: 0.7500 - loss: 1.0000e-04 - val_loss: 0.5000\n",
    ]
    first = terminal.getvalue().split("\r")[1]
    assert "\x1b[32m━━━━\x1b[0m\x1b[37m━━━━━━━━━━━━━━━━\x1b[0m" in first  # a fifth is green


def test_a_shorter_line_covers_the_longer_one(clock: Clock) -> None:
    terminal = Terminal()
    bar = ProgressBar(2, verbose=1, stream=terminal)
    clock.now += 1
    bar.update(1, {"loss": 12345.0})
    clock.now += 1
    bar.finish(2, {"loss": 1.0})
    first, second = (ANSI.sub("", line).rstrip("\n") for line in terminal.getvalue().split("\r")[1:])
    assert len(first) == len(second)


def test_unknown_number_of_steps(clock: Clock) -> None:
    terminal = Terminal()
    bar = ProgressBar(None, verbose=1, stream=terminal)
    clock.now += 70
    bar.update(7, {"loss": 2.0})
    assert ANSI.sub("", terminal.getvalue()) == "\r7/Unknown 1:10 10s/step - loss: 2.0000"
    bar.close()
    assert terminal.getvalue().endswith("\n")
    bar.close()  # once is enough
    assert terminal.getvalue().count("\n") == 1


@pytest.mark.parametrize("verbose", [1, 2])
def test_a_file_gets_one_plain_line(verbose: int, clock: Clock) -> None:
    file = io.StringIO()
    bar = ProgressBar(4, verbose=verbose, stream=file)
    for step in range(1, 5):
        clock.now += 1
        bar.update(step, {"loss": 1.0})
    assert file.getvalue() == ""
    bar.finish(4, {"loss": 1.0})
    bar.close()
    assert "\r" not in file.getvalue()
    assert "\x1b" not in file.getvalue()
    expected = {1: "4/4 ━━━━━━━━━━━━━━━━━━━━ 4s 1s/step - loss: 1.0000\n", 2: "4/4 - 4s - 1s/step - loss: 1.0000\n"}
    assert file.getvalue() == expected[verbose]


def test_silence(clock: Clock) -> None:
    terminal = Terminal()
    bar = ProgressBar(4, verbose=0, stream=terminal)
    clock.now += 1
    bar.update(2, {})
    bar.finish(4, {})
    bar.close()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "span"), [(2.4, "2s"), (0.0031, "3ms"), (0.00004, "40us"), (0.0, "0s"), (65.0, "65s")]
)
def test_durations(seconds: float, span: str) -> None:
    assert _progress._span(seconds) == span


@pytest.mark.parametrize(("seconds", "text"), [(5.2, "5s"), (65, "1:05"), (7201, "2:00:01")])
def test_clocks(seconds: float, text: str) -> None:
    assert _progress._clock(seconds) == text


def test_verbose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolve_verbose(value) for value in (0, 1, 2, True, False)] == [0, 1, 2, 1, 0]
    assert resolve_verbose("auto") == 2  # pytest's stdout is a file
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert resolve_verbose("auto") == 1
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert resolve_verbose("auto") == 1
    for value in (3, -1, "loud", None):
        with pytest.raises(ValueError, match="verbose is"):
            resolve_verbose(value)  # type: ignore[arg-type]


def shape_of(text: str) -> str:
    return re.sub(r"[0-9]+(?:ms|us|s)/step", "T/step", re.sub(r"(- |━ )[0-9]+s", r"\1Ns", text))


def test_what_fit_prints_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    model = toy.model()
    model.fit(X, Y, batch_size=16, epochs=2, validation_data=(X, Y))
    model.evaluate(X, Y)
    model.predict(X)
    history = model.history
    assert history is not None
    values = [" - ".join(f"{name}: {history.history[name][e]:.4f}" for name in history.history) for e in (0, 1)]
    found = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert shape_of(capsys.readouterr().out).splitlines() == [
        "Epoch 1/2",
        f"4/4 - Ns - T/step - {values[0]}",
        "Epoch 2/2",
        f"4/4 - Ns - T/step - {values[1]}",
        f"2/2 - Ns - T/step - accuracy: {found['accuracy']:.4f} - loss: {found['loss']:.4f}",
        "2/2 - Ns - T/step",
    ]


def test_one_epoch_has_no_heading(capsys: pytest.CaptureFixture[str]) -> None:
    toy.model().fit(X, Y, verbose=2)
    assert "Epoch" not in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="opens a pseudo-terminal")
def test_a_real_terminal_gets_a_bar() -> None:
    import pty

    script = textwrap.dedent("""
        import numpy as np
        from convec import layers
        from convec.models import Sequential
        model = Sequential([layers.Dense(2, activation="softmax", input_shape=(8,))])
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(np.zeros((64, 8)), np.zeros(64), epochs=2)
    """)
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=slave, stderr=subprocess.STDOUT)
    os.close(slave)
    out = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # Linux's way to say that the other side is closed
            break
        if not piece:
            break
        out += piece
    os.close(master)
    assert process.wait(timeout=60) == 0, out.decode()
    assert "\x1b[1m2/2\x1b[0m \x1b[32m━" in out.decode()
    assert "Epoch 2/2" in out.decode()
