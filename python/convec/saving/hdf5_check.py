"""What is looked at before the HDF5 library sees a file.

The library does not check the local heaps, in which groups keep the names of their members, before it works with them:
a list of free blocks that runs in a circle keeps it busy, and taking memory, for ever, and it takes the memory for as
many bytes as a heap claims to have. The layout is that of the HDF5 File Format Specification, level 1D, "Local Heaps".
"""

from __future__ import annotations

import mmap
import struct

__all__ = ["check_hdf5"]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# With the version, which is 0, and three reserved bytes: four bytes alone might be among the weights.
_HEAP = b"HEAP\0\0\0\0"
_END_OF_LIST = 1
_FREE_BLOCK = struct.Struct("<QQ")


def check_hdf5(data: bytes | mmap.mmap, name: str) -> None:
    """Looks at all local heaps of a file.

    Args:
        data: the whole file.
        name: for the message.

    Raises:
        ValueError: a heap lies outside of the file, its list of free blocks does not end, or the file has addresses of
            another size than 8 bytes (h5py and Keras write none such).
    """
    try:
        if data[:8] != _SIGNATURE:
            raise ValueError("it does not start with HDF5's signature")
        version = data[8]
        sizes, base_at = (data[13:15], 24 + 4 * version) if version < 2 else (data[9:11], 12)
        if sizes != b"\x08\x08" or struct.unpack_from("<Q", data, base_at)[0] != 0:
            raise ValueError("its addresses are not of 8 bytes from the start of the file")
        at = data.find(_HEAP)
        while at >= 0:
            _check_heap(data, at)
            at = data.find(_HEAP, at + 1)
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
