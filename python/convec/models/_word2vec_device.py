"""Word2Vec's tables on a CUDA device while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convec import _core, _device

__all__ = ["DeviceTrainer"]

Tokens = npt.NDArray[np.int32]


class DeviceTrainer:
    """Trains a model's tables on a CUDA device.

    The model on the host changes in :meth:`fetch` alone, and there as a whole: what goes wrong on the device leaves it
    as it was.

    Args:
        trainer: the tables on the host.
        index: number of the device.
        tables: element type of the tables there, ``'float32'`` or ``'bfloat16'``.
        concurrency: stretches of text in work at once; 0: chosen.

    Raises:
        RuntimeError: no such device, or not enough memory there; the message says how much is needed.
        ValueError: the model has hierarchical softmax, or vectors of more than 1,024 numbers.
    """

    piece_alignment = _core.Word2VecTrainer.piece_alignment

    def __init__(self, trainer: _core.Word2VecTrainer, index: int, tables: str, concurrency: int) -> None:
        self._trainer = trainer
        self._cuda = _device.load_cuda()
        self._tables = self._cuda.Word2VecTables(trainer, device=index, tables=tables, concurrency=concurrency)
        self._kept: tuple[Tokens, Any] | None = None
        self._changed = False
        self._stale = False  # the host's tables may have been written to

    @property
    def concurrency(self) -> int:
        """Stretches of text in work at once."""
        return int(self._tables.concurrency)

    @property
    def vectors(self) -> npt.NDArray[np.floating[Any]]:
        """The words' vectors on the host. What is written to them counts from the next :meth:`train` on."""
        self.fetch()
        self._stale = True
        vectors: npt.NDArray[np.floating[Any]] = self._trainer.vectors
        return vectors

    def keep(self, tokens: Tokens) -> bool:
        """Copies tokens that are trained on several times to the device, if they fit; returns whether they did.

        Raises:
            ValueError: a number is not in the vocabulary. RuntimeError: the device fails.
        """
        ids = self._cuda.Word2VecIds(self._tables, tokens)
        self._kept = tokens, ids
        return bool(ids.resident)

    def train(
        self,
        tokens: Tokens,
        *,
        workers: int = 1,
        progress: Callable[[int, float], None] | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """As ``_core.Word2VecTrainer.train``; ``workers`` has no meaning here."""
        if self._stale:
            self._tables.upload()
            self._stale = False
        ids = self._kept[1] if self._kept is not None and self._kept[0] is tokens else tokens
        self._changed = True
        result: dict[str, Any] = self._tables.train(ids, progress=progress, **settings)
        return result

    def fetch(self) -> None:
        """Copies what was learned into the host's tables. Raises RuntimeError; the tables are as they were then."""
        if self._changed:
            self._tables.download()
            self._changed = False
