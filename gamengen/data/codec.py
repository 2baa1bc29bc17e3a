"""Frames of a chunk to bytes and back, by the codec's name. Knows nothing of games, rows or files.

`delta-zstd` (lossless, made for drawn games), `png` (lossless), `jpegQQ`, `h264-crfQQ` and `h264-lossless`; README.md
in this folder has what each costs. Nothing here unpickles, so shards of strangers are safe to decode.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
import pyarrow as pa
from PIL import Image

_GROUP = 24  # bytes: 8 RGB pixels, the unit in which `delta-zstd` looks for changes
_DELTA = struct.Struct("<4sHHIQII")  # magic, height, width, frames, bytes of the index stream, of the pixels, crc32
_ZSTD = pa.Codec("zstd", compression_level=1)


class Encoder(Protocol):
    """Takes the frames of one chunk one by one, as they are played."""

    def add(self, frame: np.ndarray) -> None:
        """Take uint8 [H, W, 3]; the caller may overwrite the array afterwards."""

    def finish(self) -> bytes:
        """Return the bytes of all frames taken."""


def encoder(codec: str, frames_per_second: float) -> Encoder:
    """Start a chunk; raises ValueError for an unknown codec."""
    if codec == "delta-zstd":
        return _DeltaEncoder()
    if codec == "png":
        return _ImageEncoder(format="PNG", compress_level=1)
    if match := re.fullmatch(r"jpeg(\d{1,3})", codec):
        return _ImageEncoder(format="JPEG", quality=int(match[1]), subsampling=0)
    if codec == "h264-lossless":
        return _VideoEncoder("libx264rgb", "rgb24", {"qp": "0"}, frames_per_second)
    if match := re.fullmatch(r"h264-crf(\d{1,2})", codec):
        return _VideoEncoder("libx264", "yuv444p", {"crf": match[1]}, frames_per_second)
    raise ValueError(
        f"unknown codec {codec!r}; expected delta-zstd, png, jpeg<quality>, h264-crf<rate factor> or h264-lossless."
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
    kind = re.fullmatch(r"(delta-zstd|png|jpeg|h264)(\d*|-crf\d+|-lossless)", codec)
    if kind is None:
        raise ValueError(f"{name}: unknown codec {codec!r}; expected one that gamengen.data.codec.encoder knows.")
    read: Callable[[bytes], np.ndarray] = {"delta-zstd": _read_delta, "h264": _read_video}.get(kind[1], _read_images)
    try:
        frames = read(data)
    except (ValueError, OSError, EOFError, SyntaxError, struct.error, av.error.FFmpegError, pa.ArrowException) as error:
        raise ValueError(
            f"{name}: its {codec} frames do not decode ({error}); delete the shard, record it again."
        ) from None
    if len(frames) != num_frames:
        raise ValueError(f"{name}: got {len(frames)} frames; expected {num_frames}. Delete the shard, record it again.")
    return frames


class _DeltaEncoder:
    """Stores, per frame, the groups of 8 pixels that differ from the frame before, zstd over the whole chunk.

    Grey frames (R = G = B) keep one byte per pixel. The first frame is compared with black.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._previous = np.empty((0, _GROUP), np.uint8)
        self._counts: list[int] = []  # per frame: changed groups * 2 + is grey
        self._groups: list[np.ndarray] = []
        self._pixels: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        if not self._counts:
            self._shape = frame.shape
            self._previous = np.zeros((_num_groups(frame.size), _GROUP), np.uint8)
        flat = np.ascontiguousarray(frame).reshape(-1)
        if flat.size % _GROUP:
            flat = np.pad(flat, (0, -flat.size % _GROUP))
        changed = np.flatnonzero(flat.view(np.uint64) != self._previous.reshape(-1).view(np.uint64)) // 3
        first_of_group = np.ones(len(changed), bool)
        np.not_equal(changed[1:], changed[:-1], out=first_of_group[1:])
        groups = changed[first_of_group]
        pixels = flat.reshape(-1, _GROUP).take(groups, axis=0)
        self._previous[groups] = pixels
        pixels = pixels.reshape(-1)
        unlike_next = pixels[1:] != pixels[:-1]
        grey = not (unlike_next[0::3].any() or unlike_next[1::3].any())
        self._counts.append(2 * len(groups) + grey)
        self._groups.append(groups.astype(_group_type(len(self._previous))))
        self._pixels.append(pixels[::3].copy() if grey else pixels)

    def finish(self) -> bytes:
        assert self._counts, "a chunk has at least one frame"
        groups = np.concatenate(self._groups)
        gaps = np.diff(groups, prepend=groups.dtype.type(0))  # modulo 2^16: a new frame starts with a "negative" gap
        index = np.asarray(self._counts, np.uint32).tobytes() + gaps.tobytes()
        pixels = np.concatenate(self._pixels).tobytes()
        body = _ZSTD.compress(index + pixels, asbytes=True)
        height, width, _ = self._shape
        sizes = (len(self._counts), len(index), len(pixels))
        return _DELTA.pack(b"GGD1", height, width, *sizes, zlib.crc32(body)) + body


def _num_groups(size: int) -> int:
    return -(-size // _GROUP)


def _group_type(num_groups: int) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if num_groups <= 2**16 else np.uint32


def _read_delta(data: bytes) -> np.ndarray:
    magic, height, width, num_frames, index_size, pixel_size, checksum = _DELTA.unpack_from(data)
    body = memoryview(data)[_DELTA.size :]
    if magic != b"GGD1" or zlib.crc32(body) != checksum:
        raise ValueError("wrong checksum")
    content = _ZSTD.decompress(body, index_size + pixel_size, asbytes=True)
    counts = np.frombuffer(content, np.uint32, num_frames)
    size = height * width * 3
    current = np.zeros((_num_groups(size), _GROUP), np.uint8)
    group_type = np.dtype(_group_type(len(current)))
    num_changes = (index_size - counts.nbytes) // group_type.itemsize
    groups = np.cumsum(np.frombuffer(content, group_type, num_changes, counts.nbytes), dtype=group_type)
    pixels = np.frombuffer(content, np.uint8, pixel_size, index_size)
    frames = np.empty((num_frames, size), np.uint8)
    group = pixel = 0
    for number, count in enumerate(counts.tolist()):
        changed, grey = divmod(count, 2)
        length = changed * (_GROUP // 3 if grey else _GROUP)
        values = pixels[pixel : pixel + length]
        current[groups[group : group + changed]] = (np.repeat(values, 3) if grey else values).reshape(-1, _GROUP)
        frames[number] = current.reshape(-1)[:size]
        group, pixel = group + changed, pixel + length
    return frames.reshape(num_frames, height, width, 3)


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
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def _read_video(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data), "r", format="mp4") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
