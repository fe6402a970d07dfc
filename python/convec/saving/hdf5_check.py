"""What is looked at before the HDF5 library sees a file.

The library does not check the local heaps, in which groups keep the names of their members, before it works with them:
a list of free blocks that runs in a circle keeps it busy, and taking memory, for ever, and it takes the memory for as
many bytes as a heap claims to have. The headers of objects, to which groups point, are taken at their word as well. The
layout is that of the HDF5 File Format Specification, "Group Symbol Table Nodes", "Local Heaps" and "Object Headers".

Only the structures of the library's first format are let through, all of which are looked at: h5py and Keras write no
others by default. Later ones (``libver="latest"``, ``track_order=True``) keep links and attributes in fractal heaps and
B-trees whose claims would have to be checked, too.
"""

from __future__ import annotations

import mmap
import struct

__all__ = ["check_hdf5"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# With the version, which is 0, and three reserved bytes: four bytes alone might be among the weights.
_HEAP = b"HEAP\0\0\0\0"
_END_OF_LIST = 1
_SYMBOLS = b"SNOD\x01\0"
_SYMBOL_BYTES = 40
# Version, a reserved byte, numbers of messages and references, bytes of the messages.
_OBJECT_HEADER = struct.Struct("<BBHII")
# Type and bytes of a message, flags and reserved bytes.
_MESSAGE = struct.Struct("<HH4x")
_CONTINUATION = 0x10
# Messages that lead to structures of later formats: link info, link, shared message table, attribute info, cache image.
_LATER = frozenset({0x02, 0x06, 0x0F, 0x15, 0x18})
_FREE_BLOCK = struct.Struct("<QQ")


class _LaterFormatError(ValueError):
    """Sound perhaps, but with structures that are not looked at."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"is laid out in a later format of HDF5 than Keras writes ({what}), which is not read: copy its groups "
            "into a file opened by h5py.File(path, 'w'), without libver and track_order"
        )


def check_hdf5(data: bytes | mmap.mmap, name: str) -> None:
    """Looks at all local heaps of a file, and at the objects of all its groups.

    Args:
        data: the whole file.
        name: for the message.

    Raises:
        ValueError: a heap or an object lies outside of the file, a list does not end, or the file has addresses of
            another size than 8 bytes or is of a later format (h5py and Keras write none such by default).
    """
    try:
        if data[:8] != _SIGNATURE:
            raise ValueError("it does not start with HDF5's signature")
        if data[8] != 0:
            raise _LaterFormatError(f"superblock {data[8]}")
        if data[13:15] != b"\x08\x08" or struct.unpack_from("<Q", data, 24)[0] != 0:
            raise ValueError("its addresses are not of 8 bytes from the start of the file")
        objects = _Objects(data)
        objects.check(64)  # where the root group is
        at = data.find(_SYMBOLS)
        while at >= 0:
            begin = at + len(_SYMBOLS) + 2
            count = struct.unpack_from("<H", data, begin - 2)[0]
            for entry in range(begin, begin + count * _SYMBOL_BYTES, _SYMBOL_BYTES):
                objects.check(entry + 8)
            at = data.find(_SYMBOLS, at + 1)
        at = data.find(_HEAP)
        while at >= 0:
            _check_heap(data, at)
            at = data.find(_HEAP, at + 1)
    except _LaterFormatError as error:
        raise ValueError(f"{name} {error}") from None
    except (ValueError, struct.error, IndexError) as error:
        raise ValueError(f"{name} is truncated, damaged or no HDF5 file: {error}") from None


def _check_heap(data: bytes | mmap.mmap, at: int) -> None:
    size, free, address = struct.unpack_from("<QQQ", data, at + len(_HEAP))
    if address + size > len(data):
        raise ValueError(f"the heap at byte {at} claims {size} bytes beyond the end of the file")
    blocks = 0
    while free != _END_OF_LIST:
        blocks += 1
        if free + _FREE_BLOCK.size > size or blocks * _FREE_BLOCK.size > size:
            raise ValueError(f"the free blocks of the heap at byte {at} are no list with an end")
        free = _FREE_BLOCK.unpack_from(data, address + free)[0]


class _Objects:
    """The headers of objects, each looked at once."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._seen: set[int] = set()
        self._left = len(data)  # bytes of headers that the file can hold

    def check(self, at: int) -> None:
        """The object that the address at ``at`` points to. Raises ValueError, struct.error."""
        address = struct.unpack_from("<Q", self._data, at)[0]
        if address in self._seen:
            return
        self._seen.add(address)
        if address > len(self._data):
            raise ValueError(f"the object named at byte {at} lies beyond the end of the file")
        version, _, _, _, size = _OBJECT_HEADER.unpack_from(self._data, address)
        if self._data[address : address + 4] == b"OHDR":
            raise _LaterFormatError("a later object header")
        if version != 1:
            raise ValueError(f"there is no object at byte {address}")
        chunks = [(address + 16, size)]
        while chunks:
            begin, size = chunks.pop()
            self._left -= size
            if begin + size > len(self._data) or self._left < 0:
                raise ValueError(f"the object at byte {address} claims {size} bytes at byte {begin}, beyond the end")
            end = begin + size
            while begin + _MESSAGE.size <= end:
                kind, length = _MESSAGE.unpack_from(self._data, begin)
                if kind in _LATER:
                    raise _LaterFormatError(f"a message of type {kind}")
                if kind == _CONTINUATION:
                    chunks.append(struct.unpack_from("<QQ", self._data, begin + _MESSAGE.size))
                begin += _MESSAGE.size + length
