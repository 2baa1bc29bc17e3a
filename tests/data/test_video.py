"""Videos made elsewhere: which frame when, at which size; and what is damaged is said."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from gamengen.data import video
from tests.data.films import greys, write_mp4


def _shades(path: Path, picked, height: int = 32, width: int = 48) -> list[int]:
    frames = list(video.frames(str(path), np.asarray(picked), height, width))
    assert all(frame.shape == (height, width, 3) and frame.dtype == np.uint8 for frame in frames)
    return [int(frame[height // 2, width // 2, 0]) for frame in frames]


@pytest.mark.parametrize("rate", [5, 20, 29.97, 60])
def test_at_its_own_rate_every_frame_is_itself(tmp_path: Path, rate: float) -> None:
    write_mp4(tmp_path / "a.mp4", greys(90), rate)
    shown = video.times(str(tmp_path / "a.mp4"))
    assert shown == pytest.approx(np.arange(90) / rate, abs=1e-3)
    picked = video.resample(shown, rate)
    assert picked.tolist() == list(range(90))
    assert _shades(tmp_path / "a.mp4", picked) == pytest.approx(greys(90), abs=1)


def test_other_rates_take_the_nearest_frames() -> None:
    shown = np.arange(31) / 30
    assert video.resample(shown, 10).tolist() == list(range(0, 31, 3))
    assert video.resample(shown, 60).tolist()[::2] == list(range(31))
    assert video.resample(shown, 20).tolist()[:5] == [0, 1, 3, 4, 6]
    uneven = np.array([0.0, 0.1, 0.12, 0.5, 1.0])
    assert video.resample(uneven, 10).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4]
    assert video.resample(np.array([0.0]), 10).tolist() == [0]


def test_a_frame_may_be_taken_twice_and_others_left_out(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", greys(30))
    assert _shades(tmp_path / "a.mp4", [0, 0, 7, 7, 7, 29]) == pytest.approx([40, 40, 54, 54, 54, 98], abs=1)


@pytest.mark.parametrize(
    ("height", "width", "inside"),
    [
        (64, 64, (slice(10, 53), slice(0, 64))),  # bars above and below
        (32, 96, (slice(0, 32), slice(24, 72))),  # bars at the sides
        (16, 24, (slice(0, 16), slice(0, 24))),
    ],
)
def test_frames_fit_without_losing_their_shape(tmp_path: Path, height: int, width: int, inside) -> None:
    write_mp4(tmp_path / "a.mp4", [200, 200])
    for frame in video.frames(str(tmp_path / "a.mp4"), np.array([0, 1]), height, width):
        assert np.abs(frame[inside].astype(int) - 200).max() <= 2
        outside = np.ones((height, width), bool)
        outside[inside] = False
        assert not frame[outside].any()
        assert outside.any() == ((height, width) != (16, 24))


def _problem(work) -> str:
    with pytest.raises(ValueError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    assert "a.mp4 cannot be read as a video" in _problem(lambda: video.times(str(tmp_path / "a.mp4")))
    assert "b.mp4 cannot be read" in _problem(lambda: video.times(str(tmp_path / "b.mp4")))


def test_a_file_with_sound_alone_is_named(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "has no video in it" in _problem(lambda: video.times(str(tmp_path / "a.mp4")))


def test_a_damaged_video_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    write_mp4(tmp_path / "a.mp4", list(np.random.default_rng(0).integers(30, 220, 60)))
    damage(tmp_path / "a.mp4")
    assert len(video.times(str(tmp_path / "a.mp4"))) == 60
    assert "a.mp4" in _problem(lambda: list(video.frames(str(tmp_path / "a.mp4"), np.arange(60), 32, 48)))


def damage(path: Path) -> None:
    """Overwrite the pictures in the middle of an MP4, not its index."""
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    length = int.from_bytes(data[begin - 8 : begin - 4], "big")
    middle = begin + length // 2
    data[middle : middle + length // 4] = b"\xff" * (length // 4)
    path.write_bytes(data)
