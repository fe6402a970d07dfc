"""Who called."""

from __future__ import annotations

import sys
from pathlib import Path


def stack_level() -> int:
    """The ``stacklevel`` at which a warning of the function that asks points at the first caller outside of here."""
    folder = str(Path(__file__).parent)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(folder):
        level, frame = level + 1, frame.f_back
    return level
