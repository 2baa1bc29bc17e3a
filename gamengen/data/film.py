"""Writes films: H.264 in MP4, as every browser plays it; knows nothing of what they show."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np


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
