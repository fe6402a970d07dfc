"""Models, as ``keras.models``."""

from __future__ import annotations

from convec.models.sequential import Sequential

__all__ = ["Sequential"]
