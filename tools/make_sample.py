"""Cut the sample that convec ships from Fashion-MNIST, reproducibly.

Usage: ``python tools/make_sample.py [FOLDER]``, where FOLDER holds the four IDX files; by default that of Debian's
package dataset-fashion-mnist. Takes the first 580 training and 100 test images of each class, in the files' own order,
and writes the same bytes every time (the archive's dates are fixed).
"""

from __future__ import annotations

import argparse
import io
import pathlib
import sys
import zipfile

import numpy as np
import numpy.typing as npt

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "python"))

from convec.datasets import fashion_mnist  # noqa: E402

TRAIN_PER_CLASS = 580
TEST_PER_CLASS = 100
MOST_BYTES = 3_000_000


def first_of_each_class(labels: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int64]:
    """Indices, rising, of the first ``count`` samples of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def write_npz(path: pathlib.Path, arrays: dict[str, npt.NDArray[np.uint8]]) -> None:
    """Write a ``.npz`` whose bytes depend on nothing but the arrays and the version of zlib."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, content.getvalue(), compress_type=zipfile.ZIP_DEFLATED, compresslevel=9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument(
        "--output", default=ROOT / "python/convec/datasets/data/fashion_mnist_sample.npz", type=pathlib.Path
    )
    arguments = parser.parse_args()

    (x_train, y_train), (x_test, y_test) = fashion_mnist.load_data(arguments.folder)
    train = first_of_each_class(y_train, TRAIN_PER_CLASS)
    test = first_of_each_class(y_test, TEST_PER_CLASS)
    write_npz(
        arguments.output,
        {"x_train": x_train[train], "y_train": y_train[train], "x_test": x_test[test], "y_test": y_test[test]},
    )
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(train)} + {len(test)} images, {size} bytes")
    if size > MOST_BYTES:
        sys.exit(f"the sample is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    main()
