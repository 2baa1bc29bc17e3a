"""Every codec gives back the frames it got, and says so when the bytes are damaged."""

import numpy as np
import pytest

from gamengen.data import codec as codecs

LOSSLESS = ["delta-zstd", "png", "h264-lossless"]
LOSSY = ["jpeg90", "h264-crf18"]


def drawn(num_frames: int, height: int = 32, width: int = 64, *, colour: bool = False) -> np.ndarray:
    """A block that moves over a white page, and one frame in which everything changes."""
    frames = np.full((num_frames, height, width, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        frame[8:20, number : number + 12] = (83, 120, 40) if colour else 83
    frames[num_frames // 2] = 255 - frames[num_frames // 2]
    return frames


@pytest.mark.parametrize("codec", LOSSLESS)
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("num_frames", [1, 17])
def test_lossless_codecs_give_back_every_pixel(codec, colour, num_frames):
    frames = drawn(num_frames, colour=colour)
    decoded = codecs.decode(codecs.encode(frames, codec, 20.0), codec, num_frames, "x")
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, frames)


def test_delta_takes_noise_odd_sizes_and_a_mix_of_grey_and_colour():
    frames = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)
    frames[2] = frames[2, :, :, :1]
    frames[4] = frames[3]
    data = codecs.encode(frames, "delta-zstd", 20.0)
    np.testing.assert_array_equal(codecs.decode(data, "delta-zstd", 5, "x"), frames)


def test_delta_takes_frames_of_many_blocks_that_all_change():
    frames = np.random.default_rng(0).integers(0, 256, (6, 400, 400, 3), dtype=np.uint8)  # more than it has room for
    data = codecs.encode(frames, "delta-zstd", 20.0)
    np.testing.assert_array_equal(codecs.decode(data, "delta-zstd", 6, "x"), frames)


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 0, 2), (0, 63, 1), (3, 63, 2), (31, 63, 0), (31, 63, 2)])
def test_delta_sees_one_byte_wherever_it_changes(place):
    for width in (64, 61):  # whole blocks, and a last one that is cut
        frames = drawn(3, width=width)
        frames[2] = frames[1]
        row, column, channel = place
        frames[2, row, min(column, width - 1), channel] ^= 1
        data = codecs.encode(frames, "delta-zstd", 20.0)
        np.testing.assert_array_equal(codecs.decode(data, "delta-zstd", 3, "x"), frames)


def test_delta_takes_frames_that_are_not_contiguous():
    frames = drawn(5, colour=True)[:, ::-1, ::2]
    data = codecs.encode(frames, "delta-zstd", 20.0)
    np.testing.assert_array_equal(codecs.decode(data, "delta-zstd", 5, "x"), frames)


def test_delta_encoders_of_several_sizes_take_turns_and_leave_nothing_behind():
    chunks = [drawn(5, 32, width, colour=colour) for width in (64, 61, 64, 128) for colour in (False, True)]
    for _ in range(2):
        encoders = [codecs.encoder("delta-zstd", 20.0) for _ in chunks]
        for number in range(5):
            for encoder, frames in zip(encoders, chunks, strict=True):
                encoder.add(frames[number])
        for encoder, frames in zip(encoders, chunks, strict=True):
            data = encoder.finish()
            assert data == codecs.encode(frames, "delta-zstd", 20.0)
            np.testing.assert_array_equal(codecs.decode(data, "delta-zstd", 5, "x"), frames)


def test_encoders_keep_no_reference_to_a_frame():
    frames = drawn(6, colour=True)
    for codec in LOSSLESS:
        encoder, buffer = codecs.encoder(codec, 20.0), np.empty_like(frames[0])
        for frame in frames:
            buffer[:] = frame
            encoder.add(buffer)
        np.testing.assert_array_equal(codecs.decode(encoder.finish(), codec, 6, "x"), frames)


@pytest.mark.parametrize("codec", LOSSY)
def test_lossy_codecs_stay_near(codec):
    frames = drawn(16)
    decoded = codecs.decode(codecs.encode(frames, codec, 20.0), codec, 16, "x")
    error = np.mean((decoded.astype(float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 35


def test_still_pictures_cost_next_to_nothing():
    frames = np.repeat(drawn(1), 64, axis=0)
    assert len(codecs.encode(frames, "delta-zstd", 20.0)) < 64 * 16


@pytest.mark.parametrize("codec", [*LOSSLESS, *LOSSY])
def test_damage_is_a_value_error_that_names_the_episode(codec):
    data = codecs.encode(drawn(16), codec, 20.0)
    for damaged in (b"", b"nonsense" * 9, data[: len(data) // 2]):
        with pytest.raises(ValueError, match="episode e chunk 3"):
            codecs.decode(damaged, codec, 16, "episode e chunk 3")
    with pytest.raises(ValueError, match="16 frames; expected 15"):
        codecs.decode(data, codec, 15, "x")


def test_delta_notices_every_flipped_bit():
    data = codecs.encode(drawn(16), "delta-zstd", 20.0)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            codecs.decode(bytes(damaged), "delta-zstd", 16, "x")


@pytest.mark.parametrize("codec", ["", "gif", "jpeg", "h264", "delta-zstd2"])
def test_unknown_codecs_are_named(codec):
    with pytest.raises(ValueError, match="unknown codec"):
        codecs.encoder(codec, 20.0)
