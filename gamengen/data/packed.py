"""The frame of our own codecs: fields, a checksum of all, and zstd-packed content; what strangers sent does no harm."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pyarrow as pa

_CHECKSUM = struct.Struct("<I")  # crc32
_ZSTD = pa.Codec("zstd", compression_level=1)
_LARGEST = 2**32  # bytes that a chunk may decode to, whatever its fields say


def pack(fields: bytes, content: np.ndarray | bytes) -> bytes:
    """Return fields, checksum and packed content."""
    body = _ZSTD.compress(content, asbytes=True)
    return fields + _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(fields))) + body


def read_fields(data: bytes, fields: struct.Struct, magic: bytes) -> tuple[Any, ...]:
    """Return the fields after the magic one; raises ValueError or struct.error for anything but what `pack` made."""
    found, *values = fields.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, fields.size)
    body = memoryview(data)[fields.size + _CHECKSUM.size :]
    if found != magic or checksum != zlib.crc32(body, zlib.crc32(data[: fields.size])):
        raise ValueError("wrong checksum")
    return tuple(values)


def unpack(data: bytes, fields: struct.Struct, size: int) -> bytes:
    """Return the content, `size` bytes by the fields; raises ValueError or OSError if it has another size."""
    check_size(size)
    return _ZSTD.decompress(memoryview(data)[fields.size + _CHECKSUM.size :], size, asbytes=True)


def check_size(size: int) -> None:
    """Raise a ValueError for more bytes than a chunk can have: memory is taken by what the fields say."""
    if size > _LARGEST:
        raise ValueError(f"{size} bytes, more than a chunk may have")
