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
    return _seal(fields, _ZSTD.compress(content, asbytes=True))


class Packer:
    """Packs content piece by piece, each while the processor still has it at hand; then `finish` is as `pack`.

    Attributes:
        num_bytes: how much was written.
    """

    def __init__(self) -> None:
        self.num_bytes = 0
        self._body = pa.BufferOutputStream()
        self._stream = pa.CompressedOutputStream(self._body, "zstd")  # its level is 1

    def write(self, values: np.ndarray) -> None:
        """Take uint8 [n]; the caller may overwrite the array afterwards."""
        self._stream.write(values)
        self.num_bytes += values.size

    def finish(self, fields: bytes) -> bytes:
        """Return fields, checksum and packed content."""
        self._stream.close()
        return _seal(fields, self._body.getvalue())


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


def _seal(fields: bytes, body: bytes | pa.Buffer) -> bytes:
    return b"".join([fields, _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(fields))), body])
