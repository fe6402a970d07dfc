"""The command ``convec``: ``info`` and ``demo``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence

__all__ = ["main"]


def _info() -> int:
    import numpy as np

    import convec
    from convec import _core, _device

    rows = {
        "convec": convec.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "processor": convec.cpu_name(),
        "instruction set": f"{convec.current_isa()} (available: {', '.join(convec.available_isas())})",
        "threads": str(convec.num_threads()),
        "GPU products": convec.matmul_precision(),
        "Winograd": "on" if convec.winograd() else "off",
        "compiled core": str(_core.__file__),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value}")
    for line in _device.describe_cuda():
        print(f"{'CUDA':<{width}}  {line}")
    return 0


def _cmake_dir() -> int:
    from pathlib import Path

    from convec import _core

    folder = Path(str(_core.__file__)).parent / "lib" / "cmake" / "convec"
    if not folder.is_dir():
        print(f"{folder} is not there: this convec was installed without its C++ headers and library", file=sys.stderr)
        return 1
    print(folder)
    return 0


def _demo(what: str, epochs: int, threads: int | None, samples: int | None) -> int:
    import convec

    if threads is not None:
        convec.set_num_threads(threads)
    print(f"On {convec.cpu_name()}: {convec.current_isa()} kernels, {convec.num_threads()} threads.\n")
    if what != "words":
        _demo_images(epochs, samples)
    if what == "all":
        print("\n" + "-" * 78 + "\n")
    if what != "images":
        _demo_words()
    return 0


def _demo_images(epochs: int, samples: int | None) -> None:
    import numpy as np

    import convec
    from convec import datasets, layers

    convec.utils.set_random_seed(1)
    (x_train, y_train), (x_test, y_test) = datasets.load_sample()
    x_train, y_train = x_train[:samples], y_train[:samples]
    print(
        f"Fashion-MNIST, the sample in the package: {len(x_train):,} images to train on, {len(x_test):,} to test with, "
        "28 x 28 pixels, ten kinds of clothing.\n"
    )
    model = convec.Sequential(
        [
            convec.Input((28, 28, 1)),
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
    model.summary()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x_train, x_test = x_train[..., np.newaxis], x_test[..., np.newaxis]
    start = time.perf_counter()
    model.fit(x_train, y_train, batch_size=32, epochs=epochs)
    trained = epochs * len(x_train) / (time.perf_counter() - start)
    accuracy = model.evaluate(x_test, y_test, verbose=0)[1]
    start = time.perf_counter()
    predicted = model.predict(x_test, batch_size=256, verbose=0).argmax(axis=1)
    seen = len(x_test) / (time.perf_counter() - start)
    print(f"\nTest accuracy: {accuracy:.1%}")
    print(f"Training:  {trained:>9,.0f} images/s")
    print(f"Inference: {seen:>9,.0f} images/s")
    names = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    print("\nThe first test images:")
    for image in range(min(5, len(x_test))):
        print(f"  taken for {names[predicted[image]]}, is {names[y_test[image]]}")


def _demo_words() -> None:
    import convec
    from convec import datasets
    from convec.models import Word2Vec

    epochs = 10
    print("Jane Austen's six novels, the text in the package: word vectors by skip-gram, 100 dimensions.\n")
    start = time.perf_counter()
    model = Word2Vec(sg=1, vector_size=100, window=5, workers=convec.num_threads(), epochs=epochs)
    model.build_vocab(corpus_file=datasets.text_sample_path())
    counted = time.perf_counter()
    _, words = model.train(
        corpus_file=datasets.text_sample_path(), total_words=model.corpus_total_words, epochs=model.epochs
    )
    seconds = time.perf_counter() - counted
    print(
        f"Counted {model.corpus_total_words:,} words, {len(model.wv):,} of them learned, in {counted - start:.2f} s; "
        f"trained for {epochs} epochs in {seconds:.1f} s."
    )
    print(f"Training: {words / seconds:>9,.0f} words/s")
    print("\nNearest neighbours:")
    for word in ("monday", "sister", "carriage", "happy", "seven"):
        print(f"  {word:<9} {', '.join(near for near, _ in model.wv.most_similar(word, topn=6))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="convec", description="Small convolutional networks and word vectors at hardware speed."
    )
    parser.add_argument("--cmake-dir", action="store_true", help="show the folder for CMake's find_package(convec)")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("info", help="show version, processor, kernels and threads")
    demo = commands.add_parser("demo", help="train on the images and on the text in the package")
    demo.add_argument("what", nargs="?", choices=("all", "images", "words"), default="all", help="which demo (all)")
    demo.add_argument("--epochs", type=int, default=5, help="passes over the images (5)")
    demo.add_argument("--threads", type=int, help="threads (all processors)")
    demo.add_argument("--samples", type=int, help="training images to use (all)")
    parsed = parser.parse_args(arguments)
    if parsed.command is None and not parsed.cmake_dir:
        parser.error("a command is needed: info or demo")
    try:
        if parsed.cmake_dir:
            return _cmake_dir()
        if parsed.command == "info":
            return _info()
        return _demo(parsed.what, parsed.epochs, parsed.threads, parsed.samples)
    except BrokenPipeError:  # `convec info | head`: whoever was reading has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more is said at exit either
        return 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
