"""Writes films: H.264 in MP4, as every browser plays it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from fractions import Fraction

import av
import numpy as np

_SEAM = 8  # pixels between the two halves


def encode(frames: Iterable[np.ndarray], frames_per_second: float) -> bytes:
    """Encode frames uint8 [H, W, 3] of one size; an odd side is padded by a pixel."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        rate = Fraction(frames_per_second).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "18"})
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(frames):
            padded = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
            if number == 0:
                stream.height, stream.width = padded.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def side_by_side(clips: Sequence[tuple[np.ndarray, np.ndarray]], num_frames: int) -> list[np.ndarray]:
    """Put recorded (left) and generated (right) frames beside each other, clip after clip, `num_frames` in all."""
    frames = []
    for real, generated in clips:
        for left, right in zip(real, generated, strict=True):
            seam = np.full((left.shape[0], _SEAM, 3), (200, 60, 60), np.uint8)
            frames.append(np.concatenate([left, seam, right], axis=1))
    return frames[:num_frames]
