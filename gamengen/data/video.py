"""Reads videos made elsewhere frame by frame, at another size and rate; knows nothing of actions or games."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from gamengen.storage import filesystem


def times(uri: str) -> np.ndarray:
    """Return when each frame is shown, in seconds from the first; reads the file and decodes nothing.

    Raises:
        ValueError: not a readable video.
    """
    with _open(uri) as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        stamps = [packet.pts for packet in packets if packet.pts is not None]
        base = float(stream.time_base)
    if not stamps:
        raise ValueError(f"{uri} has no frames. Remove it, or give a whole video.")
    return (np.sort(np.asarray(stamps, dtype=np.int64)) - min(stamps)) * base


def resample(shown: np.ndarray, frames_per_second: float) -> np.ndarray:
    """Return, for every frame of a film at `frames_per_second`, which of the frames shown at `shown` is nearest.

    Of two that are as near, the earlier one.
    """
    wanted = np.arange(int(shown[-1] * frames_per_second + 1e-3) + 1) / frames_per_second
    after = np.searchsorted(shown, wanted).clip(1, max(len(shown) - 1, 1))
    if len(shown) == 1:
        return np.zeros(len(wanted), dtype=np.int64)
    return after - (wanted - shown[after - 1] <= shown[after] - wanted + 1e-6)


def frames(uri: str, picked: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
    """Decode the frames of the ascending numbers `picked` to uint8 [height, width, 3], with bars where it is narrower.

    Raises:
        ValueError: the video is damaged; what was returned before is good.
    """
    place, number = 0, -1
    with _open(uri) as (container, stream):
        shape = float(stream.sample_aspect_ratio or 1)
        for number, frame in enumerate(container.decode(stream)):
            if frame.is_corrupt:
                raise ValueError(f"{uri} is damaged at frame {number}. Remove it, or give a whole video.")
            picture = None
            while place < len(picked) and picked[place] == number:
                picture = _letterbox(frame, height, width, shape) if picture is None else picture
                yield picture
                place += 1
    if place < len(picked):
        raise ValueError(
            f"{uri} decodes to fewer frames than it lists, got {number + 1}; expected {picked[-1] + 1} or more. "
            "Remove it, or give a whole video."
        )


@contextlib.contextmanager
def _open(uri: str) -> Iterator[tuple[Any, Any]]:
    files, path = filesystem(uri)
    try:
        with files.open_input_file(path) as file, av.open(file, "r") as container:
            if not container.streams.video:
                raise ValueError(f"{uri} has no video in it. Remove it, or give one with pictures.")
            yield container, container.streams.video[0]
    except (av.error.FFmpegError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{uri} cannot be read as a video ({reason}). Remove it, or give a whole video.") from None


def _letterbox(frame: Any, height: int, width: int, pixel_shape: float) -> np.ndarray:
    """Scale a frame into the middle of a black one, as large as it fits, without changing its shape."""
    ratio = frame.width * pixel_shape / frame.height
    inner_width, inner_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    if (inner_height, inner_width) == (frame.height, frame.width):
        picture = frame.to_ndarray(format="rgb24")
    else:
        size = {"width": max(1, inner_width), "height": max(1, inner_height)}
        method = "AREA" if inner_width < frame.width else "BICUBIC"
        picture = frame.reformat(**size, interpolation=method, format="rgb24").to_ndarray(format="rgb24")
    if picture.shape == (height, width, 3):
        return picture
    page = np.zeros((height, width, 3), np.uint8)
    top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    page[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return page
