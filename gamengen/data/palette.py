"""The codec `palette-zstd`: one byte per pixel and a table of colours, lossless, made for games with a palette.

A palette holds the colours of one frame after the other, up to 255. A frame that brings more begins another, as DOOM's
do while the screen flashes; one that has more by itself is stored as it is. zstd goes over the whole chunk. No
difference to the frame before is taken: in a game that looks like film it saved 1 % (README.md has the figures).

The bytes: `_FIELDS`, a checksum (see `packed`), then, packed with zstd, the pixels of all frames (their entries'
numbers, or RGB), the palettes (red, green and blue of entries 0 to 255; entry 0 is no colour's), and per frame the
number of its palette or `_NO_PALETTE` (uint32).
"""

from __future__ import annotations

import struct

import numpy as np

from gamengen.data import packed

_FIELDS = struct.Struct("<4sHHIIQ")  # magic, height, width, frames, palettes, bytes of pixels
_MAGIC = b"GGP1"
_NO_PALETTE = 2**32 - 1
_MAX_COLOURS = 255
# Pixels that are looked up at once. Their numbers have 128 KB: with those of a whole frame, and a game beside it, the
# processor's cache would hold nothing from one step to the next.
_PART = 16384
_SPARE = 5  # bytes that are read behind a pixel


class PaletteEncoder:
    """Encodes the frames of one chunk as they are played."""

    def __init__(self) -> None:
        self._numbers: list[int] = []  # per frame: its palette
        self._palettes: list[np.ndarray] = []  # those that are full

    def add(self, frame: np.ndarray) -> None:
        """Take uint8 [H, W, 3]; the caller may overwrite the array afterwards."""
        if not self._numbers:
            self._shape = frame.shape
            self._table, self._content = _spare.pop() if _spare else (_Table(), packed.Content())
        pixels = np.ascontiguousarray(frame).reshape(-1)
        entries = self._content.room(pixels.size // 3)
        found = self._table.look_up(pixels, entries)
        if not found:
            self._end_palette()
            found = self._table.look_up(pixels, entries)
        if found:
            self._content.num_bytes += entries.size
        else:
            self._table.forget()
            self._content.append(pixels)
        self._numbers.append(len(self._palettes) if found else _NO_PALETTE)

    def finish(self) -> bytes:
        """Return the bytes of all frames taken; the encoder has done its work."""
        assert self._numbers, "a chunk has at least one frame"
        self._end_palette()
        table, content = self._table, self._content
        del self._table, self._content  # another encoder's from now on
        height, width, _ = self._shape
        sizes = (len(self._numbers), len(self._palettes), content.num_bytes)
        for palette in self._palettes:
            content.append(palette.reshape(-1))
        content.append(np.asarray(self._numbers, np.uint32).view(np.uint8))
        data = content.pack(_FIELDS.pack(_MAGIC, height, width, *sizes))
        _spare.append((table, content))
        return data

    def _end_palette(self) -> None:
        if self._table.colours.size:
            self._palettes.append(self._table.palette())
        self._table.forget()


class _Table:
    """A palette that is filled as colours come, and what it takes to look them up. It goes from chunk to chunk.

    A colour is a number of 24 bits. A place for each says which entry it is: 16 MB, of which only the pages of colours
    that were seen exist.

    Attributes:
        colours: of the entries 1, 2, ...; int64.
    """

    def __init__(self) -> None:
        self.colours = np.empty(0, np.int64)
        self._entry_of = np.zeros(2**24, np.uint8)  # 0: not in the palette
        self._last = np.zeros(3 * _PART + _SPARE, np.uint8)
        self._numbers = np.empty(_PART, np.int64)

    def look_up(self, pixels: np.ndarray, entries: np.ndarray) -> bool:
        """Write the entry of every pixel to uint8 [n], of RGB uint8 [3 n], after new colours have got theirs.

        Returns whether there is room for all colours.
        """
        for start in range(0, entries.size, _PART):
            part = entries[start : start + _PART]
            numbers = self._load(pixels, start, part.size)
            self._entry_of.take(numbers, out=part, mode="wrap")  # all are in range; this mode is the fastest
            if np.minimum.reduce(part) == 0:  # `all` takes many times as long
                if not self._learn(numbers[part == 0]):
                    return False
                self._entry_of.take(numbers, out=part, mode="wrap")
        return True

    def palette(self) -> np.ndarray:
        """Return red, green and blue of every entry, uint8 [3, 256]."""
        palette = np.zeros((3, 256), np.uint8)
        for channel in range(3):
            palette[channel, 1 : self.colours.size + 1] = self.colours >> (8 * channel) & 255
        return palette

    def forget(self) -> None:
        """Begin an empty palette."""
        self._entry_of[self.colours] = 0
        self.colours = self.colours[:0]

    def _load(self, pixels: np.ndarray, start: int, size: int) -> np.ndarray:
        """Return `size` pixels from the RGB bytes as numbers, int64.

        To read eight bytes from each third place on, and forget five of them, is the fast way.
        """
        place, read = 3 * start, 3 * size + _SPARE
        if place + read > pixels.size:  # the last ones, behind which there is nothing to read
            last = self._last[:read]
            last[: 3 * size] = pixels[place : place + 3 * size]
            pixels, place = last, 0
        eight = np.ndarray(size, "<i8", pixels, place, strides=(3,))
        return np.bitwise_and(eight, 0xFFFFFF, out=self._numbers[:size])

    def _learn(self, missing: np.ndarray) -> bool:
        for step in (16, 1):  # few pixels show most colours, and to sort all would be slow
            new = np.unique(missing[::step])
            if self.colours.size + new.size > _MAX_COLOURS:
                return False
            self._entry_of[new] = np.arange(self.colours.size + 1, self.colours.size + new.size + 1)
            self.colours = np.concatenate([self.colours, new])
            missing = missing[self._entry_of.take(missing) == 0]
        return True


_spare: list[tuple[_Table, packed.Content]] = []  # of chunks that are finished: as many as were ever open at a time


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
