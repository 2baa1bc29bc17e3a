"""Frames of a chunk to bytes and back, by the codec's name. Knows nothing of games, rows or files.

`delta-zstd` (lossless, for drawn games), `palette-zstd` (lossless, for games of few colours a frame such as DOOM),
`png` (lossless), `jpegQQ`, `h264-crfQQ` and `h264-lossless`; README.md in this folder has what each costs. Nothing here
unpickles, so shards of strangers are safe to decode.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image

from gamengen.data.delta import DeltaEncoder, decode_delta
from gamengen.data.palette import PaletteEncoder, decode_palette

_DAMAGE = (  # what decoders raise
    ValueError,
    IndexError,
    OSError,
    EOFError,
    SyntaxError,
    struct.error,
    pa.ArrowException,
    OverflowError,
    MemoryError,  # for a size that only damage can have
    Image.DecompressionBombError,
)


class Encoder(Protocol):
    """Takes the frames of one chunk one by one, as they are played."""

    def add(self, frame: np.ndarray) -> None:
        """Take uint8 [H, W, 3]; the caller may overwrite the array afterwards."""

    def finish(self) -> bytes:
        """Return the bytes of all frames taken."""


def encoder(codec: str, frames_per_second: float) -> Encoder:
    """Start a chunk; raises ValueError for an unknown codec."""
    if codec == "delta-zstd":
        return DeltaEncoder()
    if codec == "palette-zstd":
        return PaletteEncoder()
    if codec == "png":
        return _ImageEncoder(format="PNG", compress_level=1)
    if match := re.fullmatch(r"jpeg(\d{1,3})", codec):
        return _ImageEncoder(format="JPEG", quality=int(match[1]), subsampling=0)
    if codec == "h264-lossless":
        return _VideoEncoder("libx264rgb", "rgb24", {"qp": "0"}, frames_per_second)
    if match := re.fullmatch(r"h264-crf(\d{1,2})", codec):
        return _VideoEncoder("libx264", "yuv444p", {"crf": match[1]}, frames_per_second)
    raise ValueError(
        f"unknown codec {codec!r}; expected delta-zstd, palette-zstd, png, jpeg<quality>, h264-crf<rate factor> "
        "or h264-lossless."
    )


@dataclass(frozen=True)
class EncodedFrames:
    """Frames that were encoded while they were played; `encode` passes them through."""

    data: bytes
    codec: str
    num_frames: int

    def __len__(self) -> int:
        return self.num_frames


def encode(frames: np.ndarray | EncodedFrames, codec: str, frames_per_second: float) -> bytes:
    """Encode uint8 [T, H, W, 3]."""
    if isinstance(frames, EncodedFrames):
        assert frames.codec == codec
        return frames.data
    chunk = encoder(codec, frames_per_second)
    for frame in frames:
        chunk.add(frame)
    return chunk.finish()


def decode(data: bytes, codec: str, num_frames: int, name: str) -> np.ndarray:
    """Decode what `encode` made to uint8 [num_frames, H, W, 3]; raises ValueError naming `name` if it is damaged."""
    kind = re.fullmatch(r"(delta-zstd|palette-zstd|png|jpeg|h264)(\d*|-crf\d+|-lossless)", codec)
    if kind is None:
        raise ValueError(f"{name}: unknown codec {codec!r}; expected one that gamengen.data.codec.encoder knows.")
    read = _READERS[kind[1]]
    try:
        frames = read(data)
    except _DAMAGE as error:
        raise ValueError(
            f"{name}: its {codec} frames do not decode ({error}); delete the shard, record it again."
        ) from None
    if len(frames) != num_frames:
        raise ValueError(f"{name}: got {len(frames)} frames; expected {num_frames}. Delete the shard, record it again.")
    return frames


class _ImageEncoder:
    """One PNG or JPEG per frame, each after its length (uint32, little endian)."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._images: list[bytes] = []

    def add(self, frame: np.ndarray) -> None:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, **self._options)
        self._images.append(buffer.getvalue())

    def finish(self) -> bytes:
        return b"".join(struct.pack("<I", len(image)) + image for image in self._images)


def _read_images(data: bytes) -> np.ndarray:
    frames, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from("<I", data, position)
        position += 4 + length
        if position > len(data):
            raise ValueError("cut short")
        with Image.open(io.BytesIO(data[position - length : position]), formats=("PNG", "JPEG")) as image:
            frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)


class _VideoEncoder:
    """One MP4 per chunk, every chunk playable by itself; one thread, since recorders run side by side."""

    def __init__(self, codec: str, pixel_format: str, options: dict[str, str], frames_per_second: float) -> None:
        import av  # here and below: who learns from latents alone needs no films

        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        rate = Fraction(frames_per_second).limit_denominator(1001)
        stream = self._container.add_stream(codec, rate=rate, options={"preset": "veryfast", **options})
        stream.pix_fmt = pixel_format
        stream.thread_count = 1
        self._stream: Any = stream

    def add(self, frame: np.ndarray) -> None:
        if not self._stream.codec_context.is_open:
            self._stream.height, self._stream.width = frame.shape[:2]
        import av

        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def _read_video(data: bytes) -> np.ndarray:
    import av

    try:
        with av.open(io.BytesIO(data), "r", format="mp4") as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except av.error.FFmpegError as error:
        raise ValueError(str(error)) from None
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)


_READERS: dict[str, Callable[[bytes], np.ndarray]] = {
    "delta-zstd": decode_delta,
    "palette-zstd": decode_palette,
    "png": _read_images,
    "jpeg": _read_images,
    "h264": _read_video,
}
