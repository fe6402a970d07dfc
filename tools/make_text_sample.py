"""Cut the text sample that convec ships from Jane Austen's six novels, reproducibly.

Usage: ``python tools/make_text_sample.py [FOLDER]``, where FOLDER is the ``data`` folder of the R package janeaustenr;
by default that of Debian's package r-cran-janeaustenr. One sentence a line, words in lower case without punctuation.
Writes the same bytes every time for a version of zlib.
"""

from __future__ import annotations

import argparse
import gzip
import io
import pathlib
import re
import struct
import sys
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOOKS = ("prideprejudice", "sensesensibility", "mansfieldpark", "emma", "northangerabbey", "persuasion")
MOST_BYTES = 2_000_000

# Types of R's serialization format, see "R Internals", section 1.8.
SYMBOL, PAIRLIST, CHARACTER, LOGICALS, INTEGERS, STRINGS, LIST, END, REFERENCE = 1, 2, 9, 10, 13, 16, 19, 254, 255
NO_STRING = -1
HAS_ATTRIBUTES, HAS_TAG = 0x200, 0x400


class Reader:
    """Reads R's serialization format (XDR, versions 2 and 3), of the types that the data of a package need."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 2
        self._symbols: list[object] = []
        if content[:2] != b"X\n":
            raise ValueError("this is not R's serialization format")
        version, _, _ = self._integers(3)
        if version == 3:
            self._bytes(self._integer())

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._content[self._at - count : self._at]

    def _integers(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}i", self._bytes(4 * count))

    def _integer(self) -> int:
        return self._integers(1)[0]

    def read(self) -> object:
        """The next object: a list of strings or integers, a list of objects, or a dictionary of attributes."""
        flags = self._integer()
        kind = flags & 255
        if kind == CHARACTER:
            length = self._integer()
            return None if length == NO_STRING else self._bytes(length).decode()
        if kind in (LOGICALS, INTEGERS):
            value: object = list(self._integers(self._integer()))
        elif kind in (STRINGS, LIST):
            value = [self.read() for _ in range(self._integer())]
        elif kind == SYMBOL:
            self._symbols.append(self.read())
            return self._symbols[-1]
        elif kind == REFERENCE:
            return self._symbols[(flags >> 8) - 1]
        elif kind == PAIRLIST:
            if flags & HAS_ATTRIBUTES:
                self.read()
            name = self.read() if flags & HAS_TAG else None
            entry = {name: self.read()}
            rest = self.read()
            return entry | rest if isinstance(rest, dict) else entry
        elif kind == END:
            return None
        else:
            raise ValueError(f"objects of type {kind} are not expected here")
        if flags & HAS_ATTRIBUTES:
            names = self.read()
            if isinstance(names, dict) and "names" in names and isinstance(value, list):
                return dict(zip(names["names"], value, strict=True))
        return value


def read_books(folder: pathlib.Path) -> dict[str, list[str]]:
    """The lines of each book, from R's lazy-load data base: an index and blocks compressed by zlib."""
    index = Reader(gzip.decompress((folder / "Rdata.rdx").read_bytes())).read()
    blocks = (folder / "Rdata.rdb").read_bytes()
    books = {}
    for name in BOOKS:
        start, size = index["variables"][name]  # type: ignore[index]
        block = zlib.decompress(blocks[start + 4 : start + size])  # the first four bytes are its size
        books[name] = Reader(block).read()
    return books  # type: ignore[return-value]


def sentences(lines: list[str]) -> list[str]:
    """The sentences of a book, its headings left out."""
    text = "\n".join(lines).replace("_", "")
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        if re.match(r"\s*(?:chapter|volume)\b", paragraph, re.IGNORECASE):
            continue
        paragraph = re.sub(r"\b(Mrs?|Dr|St|Messrs|Esq|Capt)\.", r"\1", paragraph)
        for sentence in re.split(r"(?<=[.!?])[\"')]*\s+", paragraph):
            words = re.findall(r"[a-z]+(?:'[a-z]+)?", sentence.lower())
            if words:
                found.append(" ".join(words))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default="/usr/lib/R/site-library/janeaustenr/data", type=pathlib.Path)
    parser.add_argument("--output", default=ROOT / "python/convec/datasets/data/text_sample.txt.gz", type=pathlib.Path)
    arguments = parser.parse_args()

    lines = [line for book in read_books(arguments.folder).values() for line in sentences(book)]
    content = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=content, compresslevel=9, mtime=0) as file:
        file.write(("\n".join(lines) + "\n").encode())
    arguments.output.write_bytes(content.getvalue())
    size = len(content.getvalue())
    words = sum(line.count(" ") + 1 for line in lines)
    print(f"{arguments.output}: {len(lines)} sentences, {words} words, {size} bytes")
    if size > MOST_BYTES:
        sys.exit(f"the sample is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    main()
