"""A chunk survives Parquet, and what it is stored in opens with ordinary tools."""

import dataclasses

import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gamengen.data import chunk as chunks
from gamengen.data import codec as codecs
from gamengen.data import shards
from gamengen.game import GameSpec

GAME = GameSpec("toy", 8, 16, 20.0, 1, ("none", "up"), {"ArrowUp": "up"})


def make(number: int = 0, num_frames: int = 6, *, last: bool = False, episode: str = "e1") -> chunks.Chunk:
    rng = np.random.default_rng(number)
    steps = num_frames - last
    return chunks.Chunk(
        run="r",
        episode=episode,
        chunk=number,
        first_frame=number * num_frames,
        frames=rng.integers(0, 256, (num_frames, 8, 16, 3), dtype=np.uint8),
        actions=rng.integers(0, 2, steps).astype(np.int16),
        rewards=rng.random(steps).astype(np.float32),
        terminated=last,
        truncated=False,
        agent_version="random",
        seed=7,
        node="n",
        split="train",
    )


def write(path, *parts: chunks.Chunk) -> None:
    rows = [chunks.to_row(part, codec="delta-zstd", frames_per_second=20.0) for part in parts]
    pq.write_table(pa.Table.from_pylist(rows, schema=chunks.schema(GAME)), path)


def assert_same(left: chunks.Chunk, right: chunks.Chunk) -> None:
    for field in dataclasses.fields(chunks.Chunk):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name), field.name)


def test_parquet_round_trip(tmp_path):
    parts = [make(0), make(1), make(2, last=True)]
    write(tmp_path / "a.parquet", *parts)
    for read, written in zip(shards.chunks(str(tmp_path / "a.parquet")), parts, strict=True):
        assert_same(read, written)
        assert read.frames.dtype == np.uint8 and read.actions.dtype == np.int16


def test_an_episode_joins_from_its_chunks(tmp_path):
    parts = [make(0), make(1, last=True), make(0, last=True, episode="e2")]
    write(tmp_path / "a.parquet", *parts)
    first, second = shards.episodes([str(tmp_path / "a.parquet")])
    assert (first.id, len(first), second.id, len(second)) == ("e1", 12, "e2", 6)
    assert len(first.actions) == 11
    np.testing.assert_array_equal(first.frames, np.concatenate([parts[0].frames, parts[1].frames]))


def test_a_missing_chunk_is_an_error(tmp_path):
    write(tmp_path / "a.parquet", make(0), make(2, last=True))
    with pytest.raises(ValueError, match="misses frame 6"):
        list(shards.episodes([str(tmp_path / "a.parquet")]))


def test_latents_round_trip():
    chunk = dataclasses.replace(make(), frames=np.random.default_rng(0).random((6, 4, 2, 3)).astype(np.float16))
    assert_same(chunks.from_row(chunks.to_latent_row(chunk)), chunk)


def test_shards_open_in_pandas_and_duckdb_with_the_readme_s_decoding(tmp_path):
    parts = [make(0), make(1, last=True)]
    write(tmp_path / "a.parquet", *parts)
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(frame["num_frames"]) == [6, 6] and frame["terminated"].tolist() == [False, True]
    row = frame.iloc[0]
    np.testing.assert_array_equal(codecs.decode(row.frames, row.codec, row.num_frames, "x"), parts[0].frames)
    query = f"select episode, sum(num_frames), sum(len(actions)) from '{tmp_path}/*.parquet' group by episode"
    assert duckdb.sql(query).fetchall() == [("e1", 12, 11)]


def test_the_game_stands_in_the_metadata(tmp_path):
    write(tmp_path / "a.parquet", make())
    assert chunks.game_of(pq.read_schema(tmp_path / "a.parquet"), "x") == GAME
    assert shards.find(str(tmp_path), GAME) == [f"{tmp_path}/a.parquet"]
    with pytest.raises(ValueError, match="expected toy at 32x8"):
        shards.find(str(tmp_path), dataclasses.replace(GAME, width=32))


def with_variables(chunk: chunks.Chunk) -> chunks.Chunk:
    health = np.linspace(100, 50, len(chunk.frames)).astype(np.float32)
    return dataclasses.replace(chunk, variables={"health": health, "x": -health}, level="MAP01")


VARIED = dataclasses.replace(GAME, variables=("health", "x"), has_levels=True)


def test_variables_and_level_survive_parquet_and_latents(tmp_path):
    parts = [with_variables(make(0)), with_variables(make(1, last=True))]
    rows = [chunks.to_row(part, codec="delta-zstd", frames_per_second=20.0) for part in parts]
    pq.write_table(pa.Table.from_pylist(rows, schema=chunks.schema(VARIED)), tmp_path / "a.parquet")
    (episode,) = shards.episodes([str(tmp_path / "a.parquet")])
    assert episode.level == "MAP01" and list(episode.variables) == ["health", "x"]
    np.testing.assert_array_equal(episode.variables["x"], np.concatenate([part.variables["x"] for part in parts]))
    latent = dataclasses.replace(parts[0], frames=np.zeros((6, 4, 2, 3), np.float16))
    table = pa.Table.from_pylist([chunks.to_latent_row(latent)], schema=chunks.schema(VARIED, latents=True))
    read = chunks.from_row(table.to_pylist()[0])
    assert read.level == "MAP01"
    np.testing.assert_array_equal(read.variables["health"], parts[0].variables["health"])


def test_variables_open_as_the_readme_says(tmp_path):
    row = chunks.to_row(with_variables(make(0)), codec="delta-zstd", frames_per_second=20.0)
    pq.write_table(pa.Table.from_pylist([row], schema=chunks.schema(VARIED)), tmp_path / "a.parquet")
    frame = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(frame.variables[0]["health"]) == list(np.linspace(100, 50, 6).astype(np.float32))
    query = f"select level, list_min(variables.health) from '{tmp_path}/*.parquet'"
    assert duckdb.sql(query).fetchall() == [("MAP01", 50.0)]
    only = pandas.read_parquet(tmp_path / "a.parquet", columns=["episode", "variables.x"])
    assert list(only.columns) == ["episode", "x"] and only.x[0][0] == -100


def test_a_game_without_variables_has_no_columns_for_them():
    assert not {"variables", "level"} & set(chunks.schema(GAME).names)
    assert not {"variables", "level"} & set(chunks.to_row(make(0), codec="delta-zstd", frames_per_second=20.0))


def test_splits_are_of_episodes_and_have_their_shares():
    splits = [chunks.split_of(f"episode-{number}", 0.1, 0.2) for number in range(4000)]
    assert splits[17] == chunks.split_of("episode-17", 0.1, 0.2)
    assert abs(splits.count("val") / 4000 - 0.1) < 0.02 and abs(splits.count("test") / 4000 - 0.2) < 0.02
