"""Frames that stay encoded in memory until they are looked at: many episodes fit where their pixels would not."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gamengen.data import codec as codecs


class FrameCache:
    """Keeps the chunks decoded last, up to so many bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._chunks: OrderedDict[int, tuple[_Encoded, np.ndarray]] = OrderedDict()

    def decoded(self, chunk: _Encoded) -> np.ndarray:
        """Return a chunk's frames, uint8 [T, H, W, 3]; raises ValueError where its bytes do not decode."""
        if id(chunk) in self._chunks:
            self._chunks.move_to_end(id(chunk))
            return self._chunks[id(chunk)][1]
        frames = codecs.decode(chunk.data, chunk.codec, chunk.num_frames, chunk.name)
        self._chunks[id(chunk)] = (chunk, frames)
        self._bytes += frames.nbytes
        while self._bytes > self._max_bytes and len(self._chunks) > 1:
            self._bytes -= self._chunks.popitem(last=False)[1][1].nbytes
        return frames


class _Encoded:
    """One chunk's frames as they are stored."""

    def __init__(self, row: Mapping[str, Any], name: str) -> None:
        self.data, self.codec, self.num_frames, self.name = row["frames"], row["codec"], int(row["num_frames"]), name


class LazyFrames:
    """Frames of an episode or a part of one; indexing with a number or a slice decodes the chunks that it needs."""

    def __init__(self, chunks: Sequence[_Encoded], cache: FrameCache) -> None:
        self._chunks, self._cache = list(chunks), cache
        self._ends = np.cumsum([chunk.num_frames for chunk in self._chunks])

    @classmethod
    def of_row(cls, row: Mapping[str, Any], name: str, cache: FrameCache) -> LazyFrames:
        """Take the frames of a Parquet row, see `gamengen.data.chunk.from_row`."""
        return cls([_Encoded(row, name)], cache)

    @classmethod
    def concatenate(cls, parts: Sequence[LazyFrames]) -> LazyFrames:
        return cls([chunk for part in parts for chunk in part._chunks], parts[0]._cache)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def nbytes(self) -> int:
        """Bytes in memory, without what the cache keeps."""
        return sum(len(chunk.data) for chunk in self._chunks)

    def __getitem__(self, key: int | slice) -> np.ndarray:
        """Return one frame uint8 [H, W, 3], or consecutive ones [N, H, W, 3]."""
        if not isinstance(key, slice):
            place = int(key) + (len(self) if key < 0 else 0)
            if not 0 <= place < len(self):
                raise IndexError(f"frame {key} of {len(self)}")
            return self[place : place + 1][0]
        start, stop, step = key.indices(len(self))
        assert step == 1, "frames are looked at one after the other"
        first = int(np.searchsorted(self._ends, start, side="right"))
        last = int(np.searchsorted(self._ends, stop, side="left")) if stop > start else first
        parts = []
        for index in range(min(first, len(self._chunks) - 1), min(last, len(self._chunks) - 1) + 1):
            before = self._ends[index] - self._chunks[index].num_frames
            frames = self._cache.decoded(self._chunks[index])
            parts.append(frames[max(start - before, 0) : max(stop - before, 0)])
        return np.concatenate(parts) if len(parts) > 1 else parts[0]
