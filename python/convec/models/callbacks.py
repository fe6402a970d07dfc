"""Callbacks of Word2Vec, as ``gensim.models.callbacks``. Those of the Keras-like models are in convec.callbacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convec.models.word2vec import Word2Vec

__all__ = ["CallbackAny2Vec"]


class CallbackAny2Vec:
    """Base of the callbacks of :class:`convec.models.Word2Vec`: override the hooks that matter.

    They are called in the thread that called ``train``; what they raise ends training and reaches its caller, the model
    as trained so far being intact. Setting ``model.stop_training = True`` ends training after the epoch.
    """

    def on_train_begin(self, model: Word2Vec) -> None:
        """Called once, before the first epoch."""

    def on_epoch_begin(self, model: Word2Vec) -> None:
        """Called before each epoch."""

    def on_epoch_end(self, model: Word2Vec) -> None:
        """Called after each epoch; ``model.epoch_losses[-1]`` is the epoch's loss with ``compute_loss=True``."""

    def on_train_end(self, model: Word2Vec) -> None:
        """Called once, after the last epoch."""
