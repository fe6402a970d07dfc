"""The progress line of training, evaluation and prediction, as Keras prints it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

__all__ = ["ProgressBar", "resolve_verbose"]

_WIDTH = 20
_REDRAW_SECONDS = 0.05


def resolve_verbose(verbose: int | str) -> int:
    """0, 1 or 2 for ``'auto'`` (1 on a terminal or in a notebook, 2 into a file), 0, 1, 2, True or False.

    Raises:
        ValueError: anything else.
    """
    if verbose == "auto":
        return 1 if _redraws(sys.stdout) else 2
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(f"verbose is {verbose!r}, but must be 'auto', 0, 1 or 2")


def _redraws(stream: TextIO) -> bool:
    """Whether a carriage return goes back to the start of a line there: terminals, notebooks and PyCharm's console."""
    return stream.isatty() or "ipykernel" in sys.modules or "PYCHARM_HOSTED" in os.environ


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def _span(seconds: float) -> str:
    """A step's duration: '2s', '3ms' or '40us'."""
    if seconds >= 1 or seconds == 0:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"


def _clock(seconds: float) -> str:
    """A longer duration: '5s', '1:05' or '2:00:01'."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}" if whole >= 60 else f"{whole}s"


class ProgressBar:
    """One line: a bar redrawn in place (``verbose`` 1), plain text printed once at the end (2), or nothing (0).

    Where a line cannot be redrawn, such as in a file, the bar too is printed once, at the end.

    Args:
        target: steps in all, or None when nobody knows.
        verbose: 0, 1 or 2.
        stream: where to; by default ``sys.stdout``. Colours go to terminals only.
    """

    def __init__(self, target: int | None, *, verbose: int, stream: TextIO | None = None) -> None:
        self._target = target
        self._verbose = verbose
        self._stream = sys.stdout if stream is None else stream
        self._coloured = self._stream.isatty()
        self._redrawn = _redraws(self._stream)
        self._start = time.monotonic()
        self._drawn = 0.0
        self._shown = 0  # characters of the line on the screen

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that ``step`` steps are done, at most every twentieth of a second."""
        now = time.monotonic()
        if self._verbose == 1 and self._redrawn and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._draw(step, values, now - self._start, finished=False)

    def finish(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the last values and ends the line."""
        elapsed = time.monotonic() - self._start
        if self._verbose == 1:
            self._draw(step, values, elapsed, finished=True)
            self.close()
        elif self._verbose == 2:
            target = step if self._target is None else self._target
            parts = [f"{step}/{target}", _clock(elapsed), f"{_span(elapsed / max(step, 1))}/step"]
            parts += [f"{name}: {_number(value)}" for name, value in values.items()]
            self._stream.write(" - ".join(parts) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Ends a line that is still open, e.g. after Ctrl-C."""
        if self._shown:
            self._stream.write("\n")
            self._stream.flush()
            self._shown = 0

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and text else text

    def _draw(self, step: int, values: Mapping[str, float], elapsed: float, *, finished: bool) -> None:
        each = elapsed / max(step, 1)
        if self._target is None:
            count, bar = f"{step}/Unknown", ""
            clock = _clock(elapsed)
        else:
            count = f"{step:>{len(str(self._target))}}/{self._target}"
            done = min(_WIDTH, _WIDTH * step // max(self._target, 1))
            bar = self._paint("━" * done, "32") + self._paint("━" * (_WIDTH - done), "37") + " "
            clock = _clock(elapsed if finished else each * (self._target - step))
        tail = f" {_span(each)}/step" + "".join(f" - {name}: {_number(value)}" for name, value in values.items())
        length = len(count) + 1 + (_WIDTH + 1 if bar else 0) + len(clock) + len(tail)
        line = f"{self._paint(count, '1')} {bar}{self._paint(clock, '1')}{tail}"
        start = "\r" if self._redrawn else ""
        self._stream.write(start + line + " " * max(0, self._shown - length))
        self._stream.flush()
        self._shown = length
