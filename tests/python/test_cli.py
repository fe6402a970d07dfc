"""The command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import convec


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
