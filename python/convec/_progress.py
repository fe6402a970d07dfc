"""Progress lines: of training, evaluation and prediction as Keras prints it, and of work counted in words."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

__all__ = ["ProgressBar", "WordsBar", "redraws", "resolve_verbose"]

_WIDTH = 20
_REDRAW_SECONDS = 0.05


def resolve_verbose(verbose: int | str) -> int:
    """0, 1 or 2 for ``'auto'`` (1 on a terminal or in a notebook, 2 into a file), 0, 1, 2, True or False.

    Raises:
        ValueError: anything else.
    """
    if verbose == "auto":
        return 1 if redraws(sys.stdout) else 2
    if verbose in (0, 1, 2):
        return int(verbose)
    raise ValueError(f"verbose is {verbose!r}, but must be 'auto', 0, 1 or 2")


def redraws(stream: TextIO) -> bool:
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


def _rate(per_second: float) -> str:
    """'850', '850k' or '11.2M'."""
    if per_second >= 1e6:
        return f"{per_second / 1e6:.1f}M"
    return f"{per_second / 1e3:.0f}k" if per_second >= 1e4 else f"{per_second:.0f}"


class _Line:
    """A line of text that is redrawn in place; colours go to terminals only."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.redrawn = redraws(stream)
        self._coloured = stream.isatty()
        self._shown = 0  # characters on the screen

    def paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and text else text

    def bar(self, done: int) -> str:
        """The bar of ``_WIDTH`` characters, ``done`` of them full."""
        return self.paint("━" * done, "32") + self.paint("━" * (_WIDTH - done), "37")

    def draw(self, line: str, length: int) -> None:
        """Replaces what is on the screen by ``line``, which is ``length`` characters long there."""
        self.stream.write(("\r" if self.redrawn else "") + line + " " * max(0, self._shown - length))
        self.stream.flush()
        self._shown = length

    def close(self) -> None:
        """Ends the line if one is on the screen."""
        if self._shown:
            self.stream.write("\n")
            self.stream.flush()
            self._shown = 0


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
        self._line = _Line(sys.stdout if stream is None else stream)
        self._start = time.monotonic()
        self._drawn = 0.0

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Shows that ``step`` steps are done, at most every twentieth of a second."""
        now = time.monotonic()
        if self._verbose == 1 and self._line.redrawn and now - self._drawn >= _REDRAW_SECONDS:
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
            self._line.stream.write(" - ".join(parts) + "\n")
            self._line.stream.flush()

    def close(self) -> None:
        """Ends a line that is still open, e.g. after Ctrl-C."""
        self._line.close()

    def _draw(self, step: int, values: Mapping[str, float], elapsed: float, *, finished: bool) -> None:
        each = elapsed / max(step, 1)
        if self._target is None:
            count, bar = f"{step}/Unknown", ""
            clock = _clock(elapsed)
        else:
            count = f"{step:>{len(str(self._target))}}/{self._target}"
            bar = self._line.bar(min(_WIDTH, _WIDTH * step // max(self._target, 1))) + " "
            clock = _clock(elapsed if finished else each * (self._target - step))
        tail = f" {_span(each)}/step" + "".join(f" - {name}: {_number(value)}" for name, value in values.items())
        length = len(count) + 1 + (_WIDTH + 1 if bar else 0) + len(clock) + len(tail)
        self._line.draw(f"{self._line.paint(count, '1')} {bar}{self._line.paint(clock, '1')}{tail}", length)


class WordsBar:
    """One line for work counted in words: ``Epoch 2/5  43% ━━━━━━━━ 12s - 11.2M words/s - alpha: 0.0183``.

    Nothing is shown of work that is done within ``delay`` seconds. Where a line cannot be redrawn, such as in a file,
    it is printed once, at the end.

    Args:
        stream: where to; by default ``sys.stderr``.
        delay: seconds before the line appears.
    """

    def __init__(self, *, stream: TextIO | None = None, delay: float = 0.5) -> None:
        self._line = _Line(sys.stderr if stream is None else stream)
        self._start = time.monotonic()
        self._drawn = self._start + delay - _REDRAW_SECONDS

    def update(self, title: str, fraction: float, words: float, values: Mapping[str, float]) -> None:
        """Shows that ``fraction`` of the work is done, ``words`` since the beginning, at most every 0.05 s."""
        now = time.monotonic()
        if self._line.redrawn and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            self._draw(title, fraction, words, values, now - self._start, finished=False)

    def finish(self, title: str, words: float, values: Mapping[str, float]) -> None:
        """Shows the whole as done and ends the line, if it has appeared."""
        now = time.monotonic()
        if now - self._drawn >= 0:
            self._draw(title, 1.0, words, values, now - self._start, finished=True)
        self.close()

    def close(self) -> None:
        """Ends a line that is still open, e.g. after Ctrl-C."""
        self._line.close()

    def _draw(
        self, title: str, fraction: float, words: float, values: Mapping[str, float], elapsed: float, *, finished: bool
    ) -> None:
        fraction = min(max(fraction, 0.0), 1.0)
        clock = _clock(elapsed if finished or not fraction else elapsed / fraction * (1 - fraction))
        tail = f" - {_rate(words / max(elapsed, 1e-9))} words/s"
        tail += "".join(f" - {name}: {_number(value)}" for name, value in values.items())
        percent = f"{100 * fraction:3.0f}%"
        length = len(title) + 1 + len(percent) + 1 + _WIDTH + 1 + len(clock) + len(tail)
        bar = self._line.bar(int(_WIDTH * fraction))
        self._line.draw(f"{title} {self._line.paint(percent, '1')} {bar} {self._line.paint(clock, '1')}{tail}", length)
