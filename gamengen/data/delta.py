"""The codec `delta-zstd`: what changed since the frame before, lossless, made for drawn games.

A frame is cut into blocks of 64 pixels. Per frame, the blocks that differ from the frame before are kept, as one byte
per pixel where all of them are grey (R = G = B), and zstd goes over the whole chunk. The first frame is compared with
a page that has the colour of its first pixel everywhere.

The bytes: `_FIELDS`, a checksum (see `packed`), then, packed with zstd, the pixels of all frames, per frame twice the
number of its changed blocks, plus 1 if they are grey (uint32), and the blocks' numbers, each less the one before it
(uint32, modulo 2^32, on through all frames).
"""

from __future__ import annotations

import contextlib
import struct
from collections import deque

import numpy as np

from gamengen.data import packed

# Every pass over a frame of 393 KB shows beside a game that needs 100 us for it. A block is 24 words, their comparisons
# are 24 bytes, again 3 words: wide enough to be found fast. What did not change in a block, zstd packs to nothing.
_BLOCK = 192  # bytes: 64 RGB pixels
_BLOCK_TYPE = np.dtype(f"V{_BLOCK}")
_FIELDS = struct.Struct("<4s3sxHHIIQ")  # magic, first pixel, height, width, frames, blocks, bytes of pixels
_MAGIC = b"GGD2"


class DeltaEncoder:
    """Encodes the frames of one chunk as they are played."""

    def __init__(self) -> None:
        self._counts: list[int] = []  # per frame: changed blocks * 2 + are grey
        self._blocks: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        """Take uint8 [H, W, 3]; the caller may overwrite the array afterwards."""
        if not self._counts:
            self._shape, self._first_pixel = frame.shape, frame[0, 0].tobytes()
            self._memory = _memory(frame.size)
            self._memory.begin(self._first_pixel)
        memory = self._memory
        flat = memory.pad(np.ascontiguousarray(frame).reshape(-1))
        blocks = memory.find_changes(flat)
        changed = flat.view(_BLOCK_TYPE).take(blocks)
        memory.blocks.put(blocks, changed, mode="clip")  # far faster than an assignment by index
        pixels = changed.view(np.uint8)
        grey = memory.are_grey(pixels)
        self._counts.append(2 * len(blocks) + grey)
        self._blocks.append(blocks)
        memory.content.append(pixels[::3] if grey else pixels)

    def finish(self) -> bytes:
        """Return the bytes of all frames taken; the encoder has done its work."""
        assert self._counts, "a chunk has at least one frame"
        memory = self._memory
        del self._memory  # another encoder's from now on
        blocks = np.concatenate(self._blocks).astype(np.uint32)
        content, (height, width, _) = memory.content, self._shape
        sizes = (len(self._counts), len(blocks), content.num_bytes)
        content.append(np.asarray(self._counts, np.uint32).view(np.uint8))
        content.append(np.diff(blocks, prepend=np.uint32(0)).view(np.uint8))
        data = content.pack(_FIELDS.pack(_MAGIC, self._first_pixel, height, width, *sizes))
        _spare.append(memory)
        return data


class _Memory:
    """What an encoder works in. It goes from chunk to chunk: fresh memory costs more than to compare a frame.

    Attributes:
        blocks: the frame before, `_BLOCK_TYPE` [blocks].
        content: what the chunk has to store.
    """

    def __init__(self, frame_size: int) -> None:
        self.frame_size = frame_size
        self.blocks = np.empty(-(-frame_size // _BLOCK), _BLOCK_TYPE)
        self.content = packed.Content()
        self._words = self.blocks.view(np.uint64)
        self._padded = np.zeros(self.blocks.nbytes, np.uint8)
        self._differs = np.empty(self._words.size, bool)
        thirds = self._differs.view(np.uint64)
        self._thirds = thirds[0::3], thirds[1::3], thirds[2::3]  # of every block
        self._inside_pixel = np.tile([True, True, False], self.blocks.nbytes // 3)  # a byte and the next are of one

    def begin(self, pixel: bytes) -> None:
        """Start a chunk: before its first frame there was a page of one colour."""
        self.blocks[:] = _block(pixel)
        self._padded.view(_BLOCK_TYPE)[-1] = _block(pixel)

    def pad(self, flat: np.ndarray) -> np.ndarray:
        """Return a frame's bytes in whole blocks."""
        if flat.size == self._padded.size:
            return flat
        self._padded[: flat.size] = flat
        return self._padded

    def find_changes(self, flat: np.ndarray) -> np.ndarray:
        """Return the numbers of the blocks that are not as before."""
        np.not_equal(flat.view(np.uint64), self._words, out=self._differs)
        first, second, third = self._thirds
        changes = first | second
        changes |= third
        return (changes != 0).nonzero()[0]  # of bools it is found far faster than of numbers

    def are_grey(self, pixels: np.ndarray) -> bool:
        """Return whether R = G = B in all of uint8 [3 * pixels]."""
        differ = pixels[1:] != pixels[:-1]
        differ &= self._inside_pixel[: differ.size]
        return not np.logical_or.reduce(differ)


_spare: deque[_Memory] = deque(maxlen=8)


def _memory(frame_size: int) -> _Memory:
    with contextlib.suppress(IndexError):
        memory = _spare.pop()
        if memory.frame_size == frame_size:
            return memory
    return _Memory(frame_size)


def decode_delta(data: bytes) -> np.ndarray:
    """Decode what a `DeltaEncoder` made to uint8 [T, H, W, 3]; raises ValueError or struct.error if it is damaged."""
    first_pixel, height, width, num_frames, num_blocks, num_bytes = packed.read_fields(data, _FIELDS, _MAGIC)
    packed.check_size(num_frames * height * width * 3)
    content = packed.unpack(data, _FIELDS, num_bytes + 4 * (num_frames + num_blocks))
    pixels = np.frombuffer(content, np.uint8, num_bytes)
    counts = np.frombuffer(content, np.uint32, num_frames, num_bytes)
    gaps = np.frombuffer(content, np.uint32, num_blocks, num_bytes + counts.nbytes)
    blocks = np.cumsum(gaps, dtype=np.uint32)
    size = height * width * 3
    current = np.full(-(-size // _BLOCK), _block(first_pixel))
    frames = np.empty((num_frames, size), np.uint8)
    block = pixel = 0
    for number, count in enumerate(counts.tolist()):
        num_changed, grey = divmod(count, 2)
        length = num_changed * (_BLOCK // 3 if grey else _BLOCK)
        values = pixels[pixel : pixel + length]
        changed = _thrice(values) if grey else values
        current.put(blocks[block : block + num_changed], changed.view(_BLOCK_TYPE))
        frames[number] = current.view(np.uint8)[:size]
        block, pixel = block + num_changed, pixel + length
    return frames.reshape(num_frames, height, width, 3)


def _block(pixel: bytes) -> np.void:
    return np.frombuffer(pixel * (_BLOCK // 3), _BLOCK_TYPE)[0]


def _thrice(values: np.ndarray) -> np.ndarray:
    """Repeat every byte three times; `numpy.repeat` takes twice as long."""
    pixels = np.empty((values.size, 3), np.uint8)
    for channel in range(3):
        pixels[:, channel] = values
    return pixels.reshape(-1)
