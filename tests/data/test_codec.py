"""Every codec gives back the frames it got, and says so when the bytes are damaged."""

import struct

import numpy as np
import pyarrow as pa
import pytest

from gamengen.data import codec as codecs
from gamengen.data import delta, packed, palette

LOSSLESS = ["delta-zstd", "palette-zstd", "png", "h264-lossless"]
OWN = {"delta-zstd": delta, "palette-zstd": palette}
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


@pytest.mark.parametrize("codec", OWN)
def test_our_codecs_take_noise_odd_sizes_and_a_mix_of_grey_and_colour(codec):
    frames = np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3), dtype=np.uint8)
    frames[2] = frames[2, :, :, :1]
    frames[4] = frames[3]
    data = codecs.encode(frames, codec, 20.0)
    np.testing.assert_array_equal(codecs.decode(data, codec, 5, "x"), frames)


@pytest.mark.parametrize("codec", OWN)
def test_our_codecs_take_one_pixel_more_than_their_parts(codec):
    frames = np.random.default_rng(0).integers(0, 5, (3, 113, 145, 3), dtype=np.uint8)  # 2**14 + 1 pixels
    data = codecs.encode(frames, codec, 20.0)
    np.testing.assert_array_equal(codecs.decode(data, codec, 3, "x"), frames)


@pytest.mark.parametrize("codec", OWN)
def test_our_codecs_take_large_frames_that_change_everywhere(codec):
    frames = np.random.default_rng(0).integers(
        0, 256, (18, 400, 400, 3), dtype=np.uint8
    )  # more than they have room for
    data = codecs.encode(frames, codec, 20.0)
    np.testing.assert_array_equal(codecs.decode(data, codec, 18, "x"), frames)


@pytest.mark.parametrize("num_colours", [1, 100, 255, 256, 1000])
def test_palettes_follow_one_another_and_end_where_a_frame_has_too_many_colours(num_colours):
    """As in DOOM, where the screen flashes: every few frames have other colours, and then the first ones again."""
    rng = np.random.default_rng(num_colours)
    sets = rng.integers(0, 256, (4, num_colours, 3), dtype=np.uint8)
    frames = np.stack([sets[number % 4][rng.integers(0, num_colours, (40, 50))] for number in (0, 0, 1, 2, 1, 3, 0, 4)])
    frames[5, 20:] = sets[0][0]
    for _ in range(2):  # the second takes the memory of the first, which must have forgotten its colours
        data = codecs.encode(frames, "palette-zstd", 20.0)
        np.testing.assert_array_equal(codecs.decode(data, "palette-zstd", 8, "x"), frames)
    assert (len(data) < frames.nbytes / 2) == (num_colours <= 255)


def test_a_palette_costs_a_third_of_the_colours():
    colours = np.random.default_rng(0).integers(0, 256, (200, 3), dtype=np.uint8)
    frames = colours[np.random.default_rng(1).integers(0, 200, (16, 64, 64))]  # a new picture every time
    assert len(codecs.encode(frames, "palette-zstd", 20.0)) < 0.6 * len(codecs.encode(frames, "delta-zstd", 20.0))


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 0, 2), (0, 63, 1), (3, 63, 2), (31, 63, 0), (31, 63, 2)])
def test_delta_sees_one_byte_wherever_it_changes(place):
    for width in (64, 61):  # whole blocks, and a last one that is cut
        frames = drawn(3, width=width)
        frames[2] = frames[1]
        row, column, channel = place
        frames[2, row, min(column, width - 1), channel] ^= 1
        data = codecs.encode(frames, "delta-zstd", 20.0)
        np.testing.assert_array_equal(codecs.decode(data, "delta-zstd", 3, "x"), frames)


def test_our_codecs_take_frames_that_are_not_contiguous():
    frames = drawn(5, colour=True)[:, ::-1, ::2]
    for codec in OWN:
        data = codecs.encode(frames, codec, 20.0)
        np.testing.assert_array_equal(codecs.decode(data, codec, 5, "x"), frames)


@pytest.mark.parametrize("codec", OWN)
def test_encoders_of_several_sizes_take_turns_and_leave_nothing_behind(codec):
    chunks = [drawn(5, 32, width, colour=colour) for width in (64, 61, 64, 128) for colour in (False, True)]
    for _ in range(2):
        encoders = [codecs.encoder(codec, 20.0) for _ in chunks]
        for number in range(5):
            for encoder, frames in zip(encoders, chunks, strict=True):
                encoder.add(frames[number])
        for encoder, frames in zip(encoders, chunks, strict=True):
            data = encoder.finish()
            assert data == codecs.encode(frames, codec, 20.0)
            np.testing.assert_array_equal(codecs.decode(data, codec, 5, "x"), frames)


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


@pytest.mark.parametrize("codec", OWN)
def test_our_codecs_notice_every_flipped_bit(codec):
    data = codecs.encode(drawn(16), codec, 20.0)
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            codecs.decode(bytes(damaged), codec, 16, "x")


def _is_harmless(data: bytes, codec: str) -> bool:
    """Whatever the bytes say, they become frames or a ValueError that names their source."""
    try:
        return codecs.decode(data, codec, 3, "x").dtype == np.uint8
    except ValueError as error:
        return str(error).startswith("x: ")


@pytest.mark.parametrize("codec", OWN)
def test_bytes_made_to_harm_are_a_value_error_even_with_their_checksum(codec, monkeypatch):
    """Fields that promise too much, and content that points anywhere, under a checksum that is right."""
    fields, rng = OWN[codec]._FIELDS, np.random.default_rng(0)
    frames = drawn(3, colour=True)
    frames[1] = rng.integers(0, 256, frames[1].shape)
    with monkeypatch.context() as patch:
        patch.setattr(packed, "_seal", lambda head, body: head + bytes(body))
        data = codecs.encode(frames, codec, 20.0)
    values, content = fields.unpack_from(data), pa.input_stream(pa.py_buffer(data[fields.size :]), "zstd").read()
    for position in range(1, len(values)):
        for number in (0, 1, 2, 3, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFF, 2**64 - 1):
            changed = list(values)
            changed[position] = number if isinstance(values[position], int) else b"\x01\x02\x03"
            try:
                head = fields.pack(*changed)
            except struct.error:
                continue  # the field has no room for such a number
            assert _is_harmless(packed.pack(head, content), codec)
    for _ in range(300):
        harmful = bytearray(content)
        place = int(rng.integers(len(harmful) - 64, len(harmful)))  # where counts, blocks and palettes are told
        harmful[place] = int(rng.integers(256))
        cut = int(rng.integers(1, len(harmful) + 1)) if rng.random() < 0.3 else len(harmful)
        assert _is_harmless(packed.pack(data[: fields.size], bytes(harmful[:cut])), codec)


@pytest.mark.parametrize("codec", ["png", "jpeg90", "h264-crf18"])
def test_flipped_bits_of_pictures_and_films_do_no_harm(codec):
    data, rng = codecs.encode(drawn(3), codec, 20.0), np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = int(rng.integers(256))
        assert _is_harmless(bytes(damaged), codec)


@pytest.mark.parametrize("codec", ["", "gif", "jpeg", "h264", "delta-zstd2"])
def test_unknown_codecs_are_named(codec):
    with pytest.raises(ValueError, match="unknown codec"):
        codecs.encoder(codec, 20.0)
