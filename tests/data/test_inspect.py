"""`gamengen data`: right figures, every damage a line, pictures that show what was recorded, a card for the hub."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import av
import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from gamengen.data import card, codec, figures, pictures, shards
from gamengen.data import chunk as chunks
from gamengen.data.check import check
from gamengen.data.inspect import inspect
from tests.conftest import ROOT
from tests.data.test_chunk import GAME, make, write


@pytest.fixture
def gameplay(recorded, tmp_path: Path) -> Path:
    return Path(shutil.copytree(f"{recorded.folder}/gameplay", tmp_path / "gameplay"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three episodes of 8x16 pixels in two shards: e1 has chunks 0 to 2 of 6 frames."""
    folder = tmp_path / "toy" / "gameplay"
    folder.mkdir(parents=True)
    write(folder / "a.parquet", make(0), make(1), make(2, last=True), make(0, last=True, episode="e2"))
    write(folder / "b.parquet", make(0, last=True, episode="e3"))
    return folder


def _damages(folder: Path) -> list[str]:
    return check([str(path) for path in sorted(folder.glob("*.parquet"))]).damages


def _change(file: Path, row: int, **values: object) -> None:
    """Set columns of a row of a shard."""
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[row].update(values)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)


def test_real_play_is_undamaged_and_counted(gameplay: Path, recorded) -> None:
    found = inspect(str(gameplay.parent))
    episodes = list(shards.episodes(shards.find(str(gameplay))))
    frames = sum(map(len, episodes))
    assert found.damages == [] and found.summary["damaged"] == 0
    assert found.summary["frames"] == found.summary["frames_decoded"] == frames
    assert found.summary["episodes"] == len(episodes) and found.summary["shards"] == 6
    assert found.summary["bytes"] == sum(path.stat().st_size for path in gameplay.glob("*.parquet"))
    taken = np.bincount(np.concatenate([episode.actions for episode in episodes]), minlength=3).tolist()
    assert list(found.summary["actions"].values()) == taken and sum(taken) == frames - len(episodes)
    returns = [float(episode.rewards.sum()) for episode in episodes]
    policy = found.summary["policies"]["random"]
    assert policy["return_mean"] == pytest.approx(np.mean(returns), abs=2e-3)
    assert (policy["return_min"], policy["return_max"]) == pytest.approx((min(returns), max(returns)), abs=2e-3)
    assert found.summary["endings"]["terminated"] == sum(episode.terminated for episode in episodes)
    assert found.summary["hours"] == pytest.approx(frames / 20 / 3600, abs=1e-4)
    assert f"{frames:,} in {len(episodes):,} episodes" in found.text and "jump" in found.text


def test_both_folders_mean_the_same_and_nothing_is_an_error(gameplay: Path, tmp_path: Path) -> None:
    assert inspect(str(gameplay), quick=True).text == inspect(str(tmp_path), quick=True).text
    with pytest.raises(ValueError, match=r"no shards in .*empty or .*empty/gameplay"):
        inspect(str(tmp_path / "empty"))


def test_the_many_versions_of_an_agent_are_one_policy(tmp_path: Path) -> None:
    versions = [*(f"dqn-{number}" for number in range(9)), "random", "agent-1:0.05", "agent-2:0.05"]
    parts = [make(0, last=True, episode=version) for version in versions]
    write(tmp_path / "a.parquet", *(dataclasses.replace(part, agent_version=part.episode) for part in parts))
    counted = figures.survey([str(tmp_path / "a.parquet")])
    assert {name: group.episodes for name, group in counted.policies.items()} == {
        "dqn-*": 9, "random": 1, "agent-1:0.05": 1, "agent-2:0.05": 1,
    }  # fmt: skip
    assert counted.num_versions == len(versions)


def test_columns_of_later_games_are_shown_and_levels_counted(folder: Path) -> None:
    for name, levels in (("a", ["E1M1", "E1M1", "E1M1", "E1M2"]), ("b", [None])):
        table = pq.read_table(folder / f"{name}.parquet")
        table = table.append_column("level", pa.array(levels, pa.string()))
        table = table.append_column("health", pa.array([[100.0] * 6] * len(levels), pa.list_(pa.float32())))
        pq.write_table(table, folder / f"{name}.parquet")
    found = inspect(str(folder))
    assert found.damages == []
    assert {name: level["episodes"] for name, level in found.summary["levels"].items()} == {"E1M1": 1, "E1M2": 1}
    assert set(found.summary["more_columns"]) == {"level", "health"}
    text = (folder.parent / "README.md").read_text()
    assert "| `health` | list" in text and "## Levels" in text and "E1M2" in found.text


@pytest.mark.parametrize(
    ("row", "values", "words"),
    [
        (1, {"frames": b"GGD1 nothing"}, ["e1 chunk 1", "cannot be decoded"]),
        (1, {"codec": "mp3"}, ["e1 chunk 1", "unknown codec 'mp3'"]),
        (1, {"num_frames": 7}, ["e1 chunk 1", "got 6 frames; expected 7"]),
        (1, {"num_frames": 9}, ["e1 chunk 1", "6 actions and 6 rewards for 9 frames"]),
        (1, {"rewards": [0.0] * 5}, ["e1 chunk 1", "6 actions and 5 rewards"]),
        (1, {"actions": [0, 0, 2, 0, 0, 0]}, ["e1 chunk 1", "action 2", "expected 0 to 1"]),
        (1, {"actions": [0, -1, 0, 0, 0, 0]}, ["e1 chunk 1", "action -1"]),
        (1, {"rewards": [0.0, float("nan"), 0, 0, 0, 0]}, ["e1 chunk 1", "not a finite number"]),
        (1, {"split": "all"}, ["e1 chunk 1", "split is 'all'"]),
        (1, {"split": "test"}, ["e1 chunk 1", "split is test, before it was train"]),
        (1, {"terminated": True}, ["e1 chunk 1", "not the last"]),
        (1, {"node": None}, ["e1 chunk 1", "node is null"]),
        (1, {"chunk": 0}, ["e1 chunk 0", "there twice"]),
        (1, {"first_frame": 7}, ["e1 chunk 1", "begins at frame 7", "from frame 6"]),
        (2, {"actions": [0] * 6, "rewards": [0.0] * 6, "terminated": False}, ["e1", "end is missing after 18 frames"]),
        (3, {"episode": "e1"}, ["e1 chunk 0", "there twice"]),
    ],
)
def test_a_damaged_row_is_a_line_with_file_episode_and_advice(folder: Path, row: int, values: dict, words) -> None:
    assert _damages(folder) == []
    _change(folder / "a.parquet", row, **values)
    lines = [line for line in _damages(folder) if all(word in line for word in words)]
    assert len(lines) == 1, _damages(folder)
    assert lines[0].startswith(f"{folder}/a.parquet: episode e1") and "Delete" in lines[0] and "\n" not in lines[0]


def test_frames_of_another_size_are_found(folder: Path) -> None:
    small = codec.encode(np.zeros((6, 8, 8, 3), np.uint8), "delta-zstd", 20.0)
    _change(folder / "a.parquet", 1, frames=small)
    assert any("frames are (6, 8, 8, 3); expected (6, 8, 16, 3)" in line for line in _damages(folder))


def test_missing_mixed_and_doubled_chunks_are_found(folder: Path) -> None:
    table = pq.read_table(folder / "a.parquet")
    for rows, words in (
        ([0, 2, 3], ["e1 chunk 2", "expected chunk 1 from frame 6"]),
        ([1, 2, 3], ["e1 chunk 1", "expected chunk 0"]),
        ([0, 1, 3], ["e1", "end is missing after 12 frames"]),
        ([0, 3, 1, 2], ["e1 chunk 1", "chunks of other episodes stand before it"]),
        ([0, 1, 2, 2, 3], ["e1 chunk 2", "there twice"]),
    ):
        pq.write_table(table.take(rows), folder / "a.parquet")
        found = _damages(folder)
        assert len(found) == 1 and all(word in found[0] for word in words), (rows, found)


def test_an_episode_in_two_shards_is_found(folder: Path) -> None:
    shutil.copy(folder / "b.parquet", folder / "c.parquet")
    (line,) = _damages(folder)
    assert line.startswith(f"{folder}/c.parquet: episode e3") and f"also in {folder}/b.parquet" in line


def test_whole_files_that_cannot_be_used_are_a_line_each(folder: Path) -> None:
    (folder / "c.parquet").write_bytes((folder / "b.parquet").read_bytes()[:-30])
    pq.write_table(pa.table({"x": [1]}), folder / "d.parquet")
    other = chunks.schema(dataclasses.replace(GAME, actions=("none", "down"), keyboard={}))
    pq.write_table(pq.read_table(folder / "b.parquet").cast(other), folder / "e.parquet")
    pq.write_table(pq.read_table(folder / "b.parquet").drop_columns(["frames", "codec"]), folder / "f.parquet")
    lines = _damages(folder)
    assert [line.split(":")[0].rpartition("/")[2] for line in lines] == [f"{name}.parquet" for name in "cdef"]
    for line, words in zip(
        lines, ("not a whole", "not a gamengen shard", "same actions", "frames, codec"), strict=True
    ):
        assert words in line and "\n" not in line
    assert inspect(str(folder)).summary["shards"] == 2, "figures are of the undamaged shards"
    assert not (folder.parent / "README.md").exists(), "no card over damage"


def test_a_page_that_is_damaged_inside_a_shard_is_found(folder: Path) -> None:
    data = bytearray((folder / "a.parquet").read_bytes())
    metadata = pq.read_metadata(folder / "a.parquet").row_group(0)
    place = next(c for c in map(metadata.column, range(metadata.num_columns)) if c.path_in_schema == "frames")
    start = place.data_page_offset
    data[start : start + 200] = b"\xff" * 200
    (folder / "a.parquet").write_bytes(data)
    assert any("a.parquet" in line for line in _damages(folder))


def test_the_contact_sheet_shows_frames_of_everywhere(gameplay: Path, recorded) -> None:
    names = shards.find(str(gameplay))
    moments = list(pictures._evenly(names, recorded.game_spec(), 12))
    frames = {episode.id: episode.frames for episode in shards.episodes(names)}
    assert len({(moment.episode, moment.frame) for moment in moments}) == 12
    assert len({moment.episode for moment in moments}) >= 6
    for moment in moments:
        np.testing.assert_array_equal(moment.picture, frames[moment.episode][moment.frame])
    sheet = np.asarray(Image.open(io.BytesIO(pictures.contact_sheet(names, recorded.game_spec(), 12))))
    first = moments[0].picture
    np.testing.assert_array_equal(sheet[8:136, 8:264], first)
    assert (sheet[137:150, 8:264] != sheet[0, 0]).any(), "a label stands under it"


def test_more_frames_than_there_are_is_no_error(folder: Path) -> None:
    assert len(list(pictures._evenly(shards.find(str(folder)), GAME, 100))) == 30


def test_padding_is_on_no_sheet_and_in_no_film(folder: Path) -> None:
    names, game = shards.find(str(folder)), dataclasses.replace(GAME, padding=(2, 1))
    episode = next(shards.episodes(names))
    enlarged = episode.frames[0, 2:7].repeat(20, axis=0).repeat(20, axis=1)  # 16 columns become 320
    sheet = np.asarray(Image.open(io.BytesIO(pictures.contact_sheet(names, game, 30))))
    np.testing.assert_array_equal(sheet[8:108, 8:328], enlarged)
    assert (sheet[108, 8:328] == sheet[0, 0]).all(), "the label's line begins right below the picture"
    _, data = pictures.episode_film(names, game, episode.id)
    _, whole = pictures.episode_film(names, GAME, episode.id)
    with av.open(io.BytesIO(data)) as film, av.open(io.BytesIO(whole)) as taller:
        rows = taller.streams.video[0].height - film.streams.video[0].height
    assert rows == 3 * 480 // 16


def test_the_film_shows_the_episode_with_its_actions(gameplay: Path, recorded) -> None:
    names = shards.find(str(gameplay))
    episodes = {episode.id: episode for episode in shards.episodes(names)}
    chosen = list(episodes)[3]
    name, data = pictures.episode_film(names, recorded.game_spec(), chosen)
    assert name == chosen
    episode = episodes[name]
    with av.open(io.BytesIO(data)) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(shown) == len(episode)
    enlarged = episode.frames[5].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(shown[5][:256, :512].astype(int) - enlarged).mean() < 3
    changes = [t for t in range(1, len(episode.actions)) if episode.actions[t] != episode.actions[t - 1]]
    label = (slice(258, None), slice(170, 340))
    still = [t for t in range(1, len(episode.actions)) if t not in changes]
    moved = [np.abs(shown[t][label].astype(int) - shown[t - 1][label]).mean() for t in range(len(shown))]
    assert min(moved[t] for t in changes) > 4 * max(moved[t] for t in still), "the label follows the action"


def test_without_a_name_the_film_is_the_longest_episode_s(folder: Path) -> None:
    write(folder / "0.parquet", make(0, last=True, episode="e0"))
    name, data = pictures.episode_film(shards.find(str(folder)), GAME, None)
    with av.open(io.BytesIO(data)) as film:
        assert (name, len(list(film.decode(video=0)))) == ("e1", 18)


def test_an_unknown_episode_names_the_nearest(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no episode 'e22'.*did you mean 'e2'"):
        pictures.episode_film(shards.find(str(folder)), GAME, "e22")


def test_the_card_opens_on_a_hub_and_says_what_is_there(gameplay: Path) -> None:
    found = inspect(str(gameplay))
    text = (gameplay.parent / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    settings = yaml.safe_load(head)
    (data,) = settings["configs"][0]["data_files"]
    assert sorted(gameplay.parent.glob(data["path"])) == [Path(name) for name in shards.find(str(gameplay))]
    assert f"{found.summary['frames']:,} frames" in body and "`random`" in body and "`jump`" in body
    for column in chunks.FRAME_FIELDS.names:
        assert f"| `{column}` |" in body and "of this game" not in body, column
    game = body.split("```json\n")[1].split("\n```")[0]
    assert json.loads(game)["name"] == "chrome_dino"


def test_the_data_readme_has_every_column() -> None:
    text = (ROOT / "gamengen" / "data" / "README.md").read_text()
    head = text.split("## Opening it")[0]
    missing = [name for name in chunks.FRAME_FIELDS.names if f"`{name}`" not in head]
    assert missing == [] and set(chunks.FRAME_FIELDS.names) <= set(card.COLUMNS)


def test_the_card_s_code_runs_where_it_lies(gameplay: Path) -> None:
    inspect(str(gameplay), quick=True)
    code = (gameplay.parent / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code += "\nassert frames.shape == (row.num_frames, 128, 256, 3) and len(rows) > 6"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=gameplay.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
    )
    assert run.returncode == 0, run.stderr.decode()


def test_our_card_is_renewed_and_people_s_own_left_alone(folder: Path) -> None:
    assert card.refresh(str(folder)) == f"{folder.parent}/README.md"
    write(folder / "d.parquet", make(0, last=True, episode="e9"))
    card.refresh(str(folder))
    assert "in 4 episodes" in (folder.parent / "README.md").read_text()
    (folder.parent / "README.md").write_text("mine")
    assert card.refresh(str(folder)) is None
    assert (folder.parent / "README.md").read_text() == "mine"


def test_the_card_explains_every_codec_that_is_used(folder: Path) -> None:
    for name in ("palette-zstd", "png", "jpeg90", "h264-crf18", "h264-lossless"):
        counted = figures.survey([str(folder / "a.parquet")])
        counted.codecs = type(counted.codecs)({name: 1})
        kind = name if name in card.CODECS else name.rstrip("0123456789").split("-")[0]
        assert f"* `{kind}`: {card.CODECS[kind]}" in card.text(counted)


def test_the_folder_opens_as_it_is_with_its_card_beside_it(gameplay: Path, recorded) -> None:
    """A card among the shards, where it lay once, is no Parquet and would end pandas and pyarrow."""
    (gameplay / "README.md").write_text(f"a former card\n{card.MARK}\n")
    frames = inspect(f"{gameplay}/", quick=True).summary["frames"]
    assert (gameplay.parent / "README.md").exists()
    assert sorted(path.suffix for path in gameplay.iterdir()) == [".parquet"] * 6
    assert pandas.read_parquet(gameplay)["num_frames"].sum() == frames
    assert pyarrow.dataset.dataset(gameplay).to_table(columns=["num_frames"])["num_frames"].to_numpy().sum() == frames
    assert duckdb.sql(f"select sum(num_frames) from '{gameplay}/*.parquet'").fetchall() == [(frames,)]
    assert len(shards.find(str(gameplay), recorded.game_spec())) == 6


def test_nothing_is_written_around_a_folder_of_another_name(folder: Path) -> None:
    other = folder.rename(folder.with_name("downloads"))
    (other / "README.md").write_text("mine")
    assert card.refresh(str(other)) is None and "card" not in inspect(str(other)).summary
    assert (other / "README.md").read_text() == "mine" and not (other.parent / "README.md").exists()


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from gamengen.cli import main; main()", "data", *arguments]
    env = {"PYTHONPATH": str(ROOT), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def test_the_command(gameplay: Path, tmp_path: Path) -> None:
    ended = _run(tmp_path, ".", "--contact-sheet", "s.png", "--mp4", "films/e.mp4")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout.strip().splitlines()[-1])
    assert summary["damaged"] == 0 and "actions" in ended.stdout.splitlines()
    assert (tmp_path / "s.png").stat().st_size > 1000 and (tmp_path / "films" / "e.mp4").stat().st_size > 1000
    _change(gameplay / "made-0.parquet", 0, frames=b"")
    damaged = _run(tmp_path, str(tmp_path), "--json")
    assert damaged.returncode == 1 and json.loads(damaged.stdout)["damaged"] == 1
    (line,) = [line for line in damaged.stderr.splitlines() if line.startswith("damaged: ")]
    assert "made-0.parquet: episode" in line
    missing = _run(tmp_path, "nowhere")
    assert missing.returncode == 2 and missing.stderr.startswith("error: no shards")
