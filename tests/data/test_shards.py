"""Folders of shards: what is missing, half-written or of another game is one line; nothing is skipped in silence."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gamengen.data import shards
from gamengen.data.chunk import split_of
from gamengen.data.lazy import FrameCache


@pytest.fixture
def gameplay(recorded, tmp_path: Path) -> Path:
    return Path(shutil.copytree(f"{recorded.folder}/gameplay", tmp_path / "gameplay"))


def _fails(folder: Path, game) -> str:
    with pytest.raises(ValueError) as caught:
        shards.find(str(folder), game)
    return str(caught.value)


def test_good_shards_are_found_in_order(gameplay: Path, recorded) -> None:
    found = shards.find(str(gameplay), recorded.game_spec())
    assert found == sorted(found) and len(found) == 6


@pytest.mark.parametrize("make", [True, False])
def test_no_shards(tmp_path: Path, recorded, make: bool) -> None:
    folder = tmp_path / "empty"
    if make:
        folder.mkdir()
    message = _fails(folder, recorded.game_spec())
    assert "no shards" in message and str(folder) in message


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_half_written_shard_is_named(gameplay: Path, recorded, keep: float) -> None:
    victim = gameplay / "made-3.parquet"
    data = victim.read_bytes()
    victim.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    message = _fails(gameplay, recorded.game_spec())
    assert str(victim) in message and "not a whole Parquet file" in message and "delete it" in message
    assert "\n" not in message


def test_a_shard_of_another_game_is_named(gameplay: Path, recorded) -> None:
    other = dataclasses.replace(recorded.game_spec(), name="pong", frames_per_second=30.0)
    message = _fails(gameplay, other)
    assert "holds chrome_dino at 256x128" in message and "expected pong" in message


def test_a_foreign_parquet_is_named(gameplay: Path, recorded) -> None:
    pq.write_table(pa.table({"x": [1]}), gameplay / "zzz.parquet")
    assert "zzz.parquet is not a gamengen shard" in _fails(gameplay, recorded.game_spec())


def test_other_files_are_left_alone(gameplay: Path, recorded) -> None:
    (gameplay / "notes.txt").write_text("mine")
    (gameplay / "made-9.parquet.12ab.tmp").write_text("half")
    assert len(shards.find(str(gameplay), recorded.game_spec())) == 6


def test_damage_within_a_shard_names_the_episode(gameplay: Path) -> None:
    file = gameplay / "made-0.parquet"
    table = pq.read_table(file)
    broken = [bytes(value.as_py()[:20]) for value in table["frames"]]
    index = table.schema.get_field_index("frames")
    pq.write_table(table.set_column(index, table.schema.field("frames"), pa.array(broken, pa.large_binary())), file)
    with pytest.raises(ValueError, match=str(table["episode"][0])):
        list(shards.episodes([str(file)]))


def test_a_missing_chunk_is_named(gameplay: Path) -> None:
    file = gameplay / "made-0.parquet"
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table.slice(0, 1), table.slice(2)]), file)
    with pytest.raises(ValueError, match=f"{table['episode'][0]} misses frame 16"):
        list(shards.episodes([str(file)]))


def test_episodes_are_whole(gameplay: Path) -> None:
    episodes = list(shards.episodes(shards.find(str(gameplay))))
    assert len({episode.id for episode in episodes}) == len(episodes) >= 6
    for episode in episodes:
        assert len(episode.actions) == len(episode.rewards) == len(episode) - 1
        assert episode.frames.shape[1:] == (128, 256, 3) and episode.frames.dtype == np.uint8


def test_the_split_is_the_episode_s_and_takes_its_share() -> None:
    splits = [split_of(f"run-{number}", 0.1, 0.2) for number in range(4000)]
    assert splits == [split_of(f"run-{number}", 0.1, 0.2) for number in range(4000)]
    assert splits.count("test") / 4000 == pytest.approx(0.2, abs=0.03)
    assert splits.count("val") / 4000 == pytest.approx(0.1, abs=0.03)


def test_lazy_frames_are_the_decoded_ones(recorded) -> None:
    paths = shards.find(f"{recorded.folder}/gameplay")
    cache = FrameCache(3 * 16 * 128 * 256 * 3)  # three chunks
    pairs = list(zip(shards.episodes(paths), shards.episodes(paths, cache=cache), strict=True))
    assert len(pairs[0][0]) > 32, "an episode of several chunks"
    rng = np.random.default_rng(0)
    for _ in range(40):
        decoded, lazy = pairs[rng.integers(len(pairs))]
        assert len(lazy) == len(decoded) and lazy.frames.nbytes < decoded.frames.nbytes
        first, last = sorted(rng.integers(0, len(decoded) + 3, 2))
        assert (lazy.frames[first:last] == decoded.frames[first:last]).all()
        assert lazy.frames[first:last].shape == decoded.frames[first:last].shape
        assert (lazy.frames[-1] == decoded.frames[-1]).all()
    assert cache._bytes <= cache._max_bytes
    with pytest.raises(IndexError):
        pairs[0][1].frames[len(pairs[0][0])]
