"""Writes the sample in the package as IDX files: write_idx.py FOLDER."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from convec import datasets

folder = Path(sys.argv[1])
for stem, (images, labels) in zip(("train", "t10k"), datasets.load_sample(), strict=True):
    for kind, array in (("images", images), ("labels", labels)):
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"{stem}-{kind}-idx{array.ndim}-ubyte").write_bytes(header + array.tobytes())
