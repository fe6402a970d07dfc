"""The command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import convec
import pytest


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "convec", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_info() -> None:
    text = run("info")
    assert convec.__version__ in text
    assert convec.cpu_name() in text
    assert all(name in text for name in convec.available_isas())


def test_demo_trains_and_reports() -> None:
    text = run("demo", "images", "--epochs", "2", "--samples", "2000", "--threads", "1")
    accuracy = float(text.split("Test accuracy: ")[1].split("%")[0])
    assert accuracy > 55  # chance is 10; two short epochs reach about 70
    assert "images/s" in text
    assert "\r" not in text  # a pipe gets plain lines


def test_demo_of_words() -> None:
    text = run("demo", "words", "--threads", "1")
    assert "words/s" in text
    neighbours = dict(line.split(maxsplit=1) for line in text.split("Nearest neighbours:\n")[1].splitlines())
    assert set(neighbours) == {"monday", "sister", "carriage", "happy", "seven"}
    assert "tuesday" in neighbours["monday"]
    assert "\r" not in text


def test_unknown_command_is_refused() -> None:
    done = subprocess.run([sys.executable, "-m", "convec", "dance"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "dance" in done.stderr


def test_cmake_dir() -> None:
    folder = Path(run("--cmake-dir").strip())
    assert (folder / "convecConfig.cmake").is_file()
    assert (folder.parents[2] / "include" / "convec" / "serialize.hpp").is_file()
    assert list(folder.parents[1].glob("libconvec.*"))


def test_a_command_is_needed() -> None:
    done = subprocess.run([sys.executable, "-m", "convec"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "a command is needed" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a pipe whose reader is gone")
def test_a_reader_that_leaves_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-u", "-m", "convec", "info"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_stops_the_demo_without_a_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "convec", "demo", "images", "--epochs", "1000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while "Epoch 1/1000" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.strip()) == (130, "stopped")
