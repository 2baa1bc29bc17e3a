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
    return _seal(fields, _ZSTD.compress(content))


class Content:
    """What a chunk has to store, until it is packed; goes from chunk to chunk, since fresh memory costs time.

    Attributes:
        num_bytes: how much was stored.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._memory = np.empty(0, np.uint8)

    def room(self, size: int) -> np.ndarray:
        """Return the memory behind what was stored, uint8 [size]; it is stored once `num_bytes` counts it."""
        end = self.num_bytes + size
        if end > self._memory.size:
            self._memory = np.concatenate([self._memory[: self.num_bytes], np.empty(end, np.uint8)])
        return self._memory[self.num_bytes : end]

    def append(self, values: np.ndarray) -> None:
        """Store uint8 [n]."""
        self.room(values.size)[:] = values
        self.num_bytes += values.size

    def pack(self, fields: bytes) -> bytes:
        """Return fields, checksum and packed content, and begin anew."""
        data = pack(fields, self._memory[: self.num_bytes])
        self.num_bytes = 0
        return data


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


def _seal(fields: bytes, body: pa.Buffer) -> bytes:
    return b"".join([fields, _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(fields))), body])
