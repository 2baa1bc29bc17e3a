"""The codec `palette-zstd`: one byte per pixel and a table of colours, lossless, made for games with a palette.

A palette holds the colours of one frame after the other, up to 255. A frame that brings more begins another, as DOOM's
do while the screen flashes; one that has more by itself is stored as it is. zstd goes over the whole chunk. No
difference to the frame before is taken: in a game that looks like film it saved 1 % (README.md has the figures).

The bytes: `_FIELDS`, a checksum (see `packed`), then, packed with zstd, the pixels of all frames (their entries'
numbers, or RGB), the palettes (red, green and blue of entries 0 to 255; entry 0 is no colour's), and per frame the
number of its palette or `_NO_PALETTE` (uint32).
"""

from __future__ import annotations

import contextlib
import struct
from collections import deque

import numpy as np

from gamengen.data import packed

_FIELDS = struct.Struct("<4sHHIIQ")  # magic, height, width, frames, palettes, bytes of pixels
_MAGIC = b"GGP1"
_NO_PALETTE = 2**32 - 1
_MAX_COLOURS = 255


class PaletteEncoder:
    """Encodes the frames of one chunk as they are played."""

    def __init__(self) -> None:
        self._numbers: list[int] = []  # per frame: its palette
        self._palettes: list[np.ndarray] = []  # those that are full

    def add(self, frame: np.ndarray) -> None:
        """Take uint8 [H, W, 3]; the caller may overwrite the array afterwards."""
        if not self._numbers:
            self._shape, self._memory = frame.shape, _memory(frame.size)
        memory = self._memory
        memory.load(frame)
        known = memory.look_up() or memory.learn()
        if not known:
            self._end_palette()
            known = memory.learn()
        if known:
            self._numbers.append(len(self._palettes))
        else:
            memory.forget()
            memory.append(memory.rgb)
            self._numbers.append(_NO_PALETTE)

    def finish(self) -> bytes:
        """Return the bytes of all frames taken; the encoder has done its work."""
        assert self._numbers, "a chunk has at least one frame"
        self._end_palette()
        memory = self._memory
        del self._memory  # another encoder's from now on
        sizes = (len(self._numbers), len(self._palettes), memory.num_bytes)
        for palette in self._palettes:
            memory.append(palette.reshape(-1))
        memory.append(np.asarray(self._numbers, np.uint32).view(np.uint8))
        height, width, _ = self._shape
        data = packed.pack(_FIELDS.pack(_MAGIC, height, width, *sizes), memory.content[: memory.num_bytes])
        memory.num_bytes = 0
        _spare.append(memory)
        return data

    def _end_palette(self) -> None:
        if self._memory.colours.size:
            self._palettes.append(self._memory.palette())
        self._memory.forget()


class _Memory:
    """What an encoder works in; it goes from chunk to chunk.

    A colour is a number of 24 bits, and a table with a place for each says which entry it is: 16 MB, of which only the
    pages of colours that were seen exist.

    Attributes:
        colours: of the entries 1, 2, ... of the palette; int64.
        rgb: the frame's bytes.
        content: uint8; the first `num_bytes` are the pixels that the chunk has to store.
    """

    def __init__(self, frame_size: int) -> None:
        self.frame_size = frame_size
        self.colours = np.empty(0, np.int64)
        self.content = np.empty(16 * frame_size, np.uint8)
        self.num_bytes = 0
        self._entries = np.zeros(2**24, np.uint8)  # colour -> entry; 0: it is not in the palette
        self._bytes = np.zeros(frame_size + 8, np.uint8)
        self.rgb = self._bytes[:frame_size]
        # Every pixel as the lowest three bytes of a number: to read eight from each third place on is the fast way.
        self._pixels = np.ndarray(frame_size // 3, "<i8", self._bytes, strides=(3,))
        self._keys = np.empty(frame_size // 3, np.int64)
        self._missing = self._keys  # those without an entry

    def load(self, frame: np.ndarray) -> None:
        """Take a frame's pixels as numbers."""
        self.rgb.reshape(frame.shape)[:] = frame
        np.bitwise_and(self._pixels, 0xFFFFFF, out=self._keys)

    def look_up(self) -> bool:
        """Store the frame's pixels as entries; False, and nothing is stored, if a colour has none."""
        place = self._room(self._keys.size)
        self._entries.take(self._keys, out=place, mode="clip")
        if not place.all():
            self._missing = self._keys[place == 0]
            return False
        self.num_bytes += place.size
        return True

    def learn(self) -> bool:
        """Add the colours that `look_up` missed and store the pixels; False if there is no room for all of them."""
        missing = self._missing
        for step in (16, 1):  # few pixels show most colours, and to sort all would be slow
            new = np.unique(missing[::step])
            if self.colours.size + new.size > _MAX_COLOURS:
                return False
            self._entries[new] = np.arange(self.colours.size + 1, self.colours.size + new.size + 1)
            self.colours = np.concatenate([self.colours, new])
            missing = missing[self._entries.take(missing) == 0]
        return self.look_up()

    def append(self, values: np.ndarray) -> None:
        """Store uint8 [n]."""
        self._room(values.size)[:] = values
        self.num_bytes += values.size

    def palette(self) -> np.ndarray:
        """Return red, green and blue of every entry, uint8 [3, 256]."""
        palette = np.zeros((3, 256), np.uint8)
        for channel in range(3):
            palette[channel, 1 : self.colours.size + 1] = self.colours >> (8 * channel) & 255
        return palette

    def forget(self) -> None:
        """Begin an empty palette, in which every pixel is missing."""
        self._entries[self.colours] = 0
        self.colours = self.colours[:0]
        self._missing = self._keys

    def _room(self, size: int) -> np.ndarray:
        end = self.num_bytes + size
        if end > self.content.size:
            self.content = np.concatenate([self.content[: self.num_bytes], np.empty(end, np.uint8)])
        return self.content[self.num_bytes : end]


_spare: deque[_Memory] = deque(maxlen=8)


def _memory(frame_size: int) -> _Memory:
    with contextlib.suppress(IndexError):
        memory = _spare.pop()
        if memory.frame_size == frame_size:
            return memory
    return _Memory(frame_size)


def decode_palette(data: bytes) -> np.ndarray:
    """Decode what a `PaletteEncoder` made to uint8 [T, H, W, 3]; raises ValueError or struct.error if it is damaged."""
    height, width, num_frames, num_palettes, num_bytes = packed.read_fields(data, _FIELDS, _MAGIC)
    packed.check_size(num_frames * height * width * 3)
    content = packed.unpack(data, _FIELDS, num_bytes + 768 * num_palettes + 4 * num_frames)
    pixels = np.frombuffer(content, np.uint8, num_bytes)
    palettes = np.frombuffer(content, np.uint8, 768 * num_palettes, num_bytes).reshape(num_palettes, 3, 256)
    numbers = np.frombuffer(content, np.uint32, num_frames, num_bytes + palettes.nbytes)
    size, place = height * width, 0
    frames = np.empty((num_frames, size, 3), np.uint8)
    for frame, number in zip(frames, numbers.tolist(), strict=True):
        if number == _NO_PALETTE:
            frame[:] = pixels[place : place + 3 * size].reshape(size, 3)
            place += 3 * size
            continue
        entries = pixels[place : place + size].tobytes()
        if len(entries) != size:
            raise ValueError("cut short")
        for channel, colours in enumerate(palettes[number]):
            frame[:, channel] = np.frombuffer(entries.translate(colours.tobytes()), np.uint8)  # faster than `take`
        place += size
    return frames.reshape(num_frames, height, width, 3)
