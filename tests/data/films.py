"""Small videos and LeRobot datasets for tests: every frame is of one grey, by which it is known again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def greys(count: int) -> list[int]:
    """Return `count` greys, at most 100, that survive a codec."""
    return [40 + 2 * number for number in range(count)]


def write_mp4(path: Path, shades: Sequence[int], rate: float = 20, height: int = 32, width: int = 48) -> None:
    """Write a video of frames of one grey each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(rate).limit_denominator(1001), options={"crf": "4", "preset": "veryfast"}
        )
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for shade in shades:
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_lerobot(
    folder: Path,
    actions: Sequence[pa.Array],
    *,
    version: str = "v2.1",
    rate: int = 20,
    cameras: Sequence[str] = ("observation.images.top",),
    chunks_size: int = 1000,
    more: Sequence[dict[str, pa.Array]] | None = None,
) -> None:
    """Write a dataset of an episode per array of actions; the second camera's frames are 10 brighter."""
    paths = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    for number, column in enumerate(actions):
        place = {"episode_chunk": number // chunks_size, "episode_index": number}
        for brighter, camera in enumerate(cameras):
            shades = [shade + 10 * brighter for shade in greys(len(column))]
            write_mp4(folder / paths["video_path"].format(**place, video_key=camera), shades, rate)
        file = folder / paths["data_path"].format(**place)
        file.parent.mkdir(parents=True, exist_ok=True)
        rest = {"timestamp": pa.array(np.arange(len(column)) / rate), **(more[number] if more else {})}
        pq.write_table(pa.table({"action": column, **rest}), file)
    video = {"dtype": "video", "shape": [32, 48, 3], "names": ["height", "width", "channels"]}
    features = {"action": {"dtype": "int64", "shape": [1]}, **dict.fromkeys(cameras, video)}
    info = {"codebase_version": version, "total_episodes": len(actions), "chunks_size": chunks_size, "fps": rate}
    (folder / "meta").mkdir(parents=True, exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps({**info, **paths, "features": features}))
