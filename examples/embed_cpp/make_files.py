"""Trains what main.cpp uses: python make_files.py FOLDER writes images, a network and word vectors there."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from convec import Input, Sequential, datasets, layers
from convec.models import Word2Vec
from convec.saving import save_arrays


def main(folder: Path) -> None:
    (images, labels), _ = datasets.load_sample()
    model = Sequential(
        [
            Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images[..., None], labels, epochs=1)
    model.save(folder / "network.safetensors")
    np.set_printoptions(precision=3, suppress=True)
    print("the first image:", model.predict(images[:1, ..., None], verbose=0)[0])

    vectors = Word2Vec(datasets.load_text_sample(), sg=1, vector_size=100, min_count=5, epochs=5).wv
    vectors.save(folder / "vectors.safetensors")
    save_arrays(folder / "images.safetensors", {"images": images[:32, ..., None], "labels": labels[:32]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
