"""Image data sets in Keras' form, from local files, a cache or a checked download, and samples that are shipped.

Every loader of images returns ``((x_train, y_train), (x_test, y_test))``: images ``uint8`` (n, 28, 28), labels
``uint8`` (n,). Values are never scaled; use :class:`convec.layers.Rescaling` or ``x.astype("float32") / 255``.
:func:`load_text_sample` returns sentences for :class:`convec.models.Word2Vec`.
"""

from __future__ import annotations

from convec.datasets import fashion_mnist, mnist
from convec.datasets._sample import load_sample, load_text_sample, text_sample_path

__all__ = ["fashion_mnist", "load_sample", "load_text_sample", "mnist", "text_sample_path"]
