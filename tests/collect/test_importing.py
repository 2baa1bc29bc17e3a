"""Recordings made elsewhere become shards: every frame with its action, every episode once, nothing of what is bad."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from gamengen import config as configs
from gamengen.collect import importing, rollouts
from gamengen.data import shards
from gamengen.data.check import check
from gamengen.data.foreign import Steps
from tests.collect.conftest import QUICKSTART, episodes_in
from tests.conftest import ROOT
from tests.data.films import greys, write_lerobot, write_mp4
from tests.data.test_video import damage

ACTIONS = ["none", "left", "right"]
OPTIONS = {"height": 32, "width": 48, "frames_per_second": 20, "actions": ACTIONS}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Three recordings: 70 frames with names, 30 with indices and rewards, 25 with one action fewer."""
    folder = tmp_path / "videos"
    for name, count in (("long", 70), ("night/short", 30), ("tail", 25)):
        write_mp4(folder / f"{name}.mp4", greys(count))
    (folder / "long.actions.csv").write_text("\n".join(ACTIONS[t % 3] for t in range(70)))
    steps = {"actions": [t // 10 for t in range(30)], "rewards": [float(t) for t in range(30)]}
    (folder / "night" / "short.actions.json").write_text(json.dumps(steps))
    np.save(folder / "tail.actions.npy", np.full(24, 2))
    return folder


def _overrides(tmp_path: Path, folder: Path, *more: str) -> list[str]:
    return [
        f"storage={tmp_path}",
        "run=made",
        "game.name=recorded",
        f"game.options={OPTIONS}",
        "collect.max_episode_frames=40",
        "collect.chunk_frames=16",
        "collect.shard_bytes=5000",
        f"collect.import={folder}",
        *more,
    ]


def _config(tmp_path: Path, folder: Path, *more: str) -> configs.Config:
    return configs.load(QUICKSTART, _overrides(tmp_path, folder, *more))


def _episodes(config: configs.Config) -> dict[str, shards.Episode]:
    """Return the episodes by recording and number."""
    found = shards.find(f"{config.folder}/gameplay", config.game_spec())
    assert check(found).damages == []
    return {f"{e.id.split('-')[2]}-{e.id.split('-')[-1]}": e for e in shards.episodes(found)}


def _shades(episode: shards.Episode) -> list[int]:
    return episode.frames[:, 16, 24, 0].tolist()


def test_every_frame_comes_with_its_action(tmp_path: Path, videos: Path) -> None:
    config = _config(tmp_path, videos)
    summary = rollouts.collect(config)
    episodes = _episodes(config)
    assert sorted(episodes) == ["long-0000", "long-0001", "night__short-0000", "tail-0000"]
    assert (summary["frames"], summary["episodes"], summary["new_frames"]) == (125, 4, 125)
    assert summary["policies"] == {"imported": 1.0} and not summary["resumed"] and not summary["nothing_left"]
    first, second = episodes["long-0000"], episodes["long-0001"]
    assert _shades(first) + _shades(second) == pytest.approx(greys(70), abs=1)
    assert first.actions.tolist() == [t % 3 for t in range(39)]
    assert second.actions.tolist() == [t % 3 for t in range(40, 69)]
    short = episodes["night__short-0000"]
    assert short.actions.tolist() == [t // 10 for t in range(29)] and short.rewards.tolist() == list(range(29))
    assert episodes["tail-0000"].actions.tolist() == [2] * 24
    assert {episode.agent_version for episode in episodes.values()} == {"imported"}
    assert not any(episode.terminated for episode in episodes.values())
    assert "125 frames" in Path(config.folder, "README.md").read_text()


def test_again_there_is_nothing_left_and_what_is_new_is_added(tmp_path: Path, videos: Path) -> None:
    config = _config(tmp_path, videos)
    rollouts.collect(config)
    before = {path: path.read_bytes() for path in Path(config.folder, "gameplay").glob("*.parquet")}
    again = rollouts.collect(config)
    assert again["nothing_left"] and again["resumed"] and again["new_frames"] == 0 and again["frames"] == 125
    write_mp4(videos / "new.mp4", greys(20))
    (videos / "new.actions.csv").write_text("none\n" * 20)
    more = rollouts.collect(config)
    assert (more["new_frames"], more["frames"], more["episodes"]) == (20, 145, 5)
    assert all(path.read_bytes() == data for path, data in before.items())
    assert sum(episodes_in(f"{config.folder}/gameplay").values()) == 145


def test_an_import_that_was_killed_goes_on(tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(tmp_path, videos, "collect.shard_bytes=1")  # a shard per episode
    add, calls = importing.EpisodeWriter.add, []

    def dies(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return add(self, *arguments)

    monkeypatch.setattr(importing.EpisodeWriter, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        rollouts.collect(config)
    assert len(episodes_in(f"{config.folder}/gameplay")) == 1, "the first of two episodes of a recording"
    monkeypatch.undo()
    assert rollouts.collect(config)["resumed"]
    assert sorted(_episodes(config)) == ["long-0000", "long-0001", "night__short-0000", "tail-0000"]
    assert len(list(Path(config.folder, "gameplay").glob("*.parquet"))) == 4


def test_other_sizes_and_rates_are_those_of_the_game(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in" / "a.mp4", [200] * 60, rate=60, height=64, width=64)
    actions = [0, 1, 1] * 20
    (tmp_path / "in" / "a.actions.json").write_text(json.dumps({"actions": actions, "rewards": [1.0] * 60}))
    (episode,) = _episodes_after_import(_config(tmp_path, tmp_path / "in"))
    assert episode.frames.shape == (20, 32, 48, 3)
    assert episode.actions.tolist() == [1] * 19 and episode.rewards.tolist() == [3.0] * 19
    assert not episode.frames[:, :, :8].any() and not episode.frames[:, :, 40:].any()
    assert np.abs(episode.frames[:, :, 8:40].astype(int) - 200).max() <= 2


def _episodes_after_import(config: configs.Config) -> list[shards.Episode]:
    rollouts.collect(config)
    return list(_episodes(config).values())


def test_a_lerobot_dataset(tmp_path: Path) -> None:
    vectors = pa.array([[0.1, 0.0]] * 10 + [[-0.9, 0.1]] * 10, pa.list_(pa.float32(), 2))
    done = {"next.done": pa.array([False] * 19 + [True]), "next.reward": pa.array(np.ones(20))}
    write_lerobot(tmp_path / "in", [vectors, vectors], cameras=["front", "wrist"], more=[done, done])
    rules = {"vectors": {"none": [0, 0], "left": [-1, 0], "right": [1, 0]}, "camera": "wrist"}
    episodes = _episodes_after_import(_config(tmp_path, tmp_path / "in", f"game.options={OPTIONS | rules}"))
    assert len(episodes) == 2
    for episode in episodes:
        assert episode.terminated and episode.actions.tolist() == [0] * 10 + [1] * 9
        assert _shades(episode) == pytest.approx([shade + 10 for shade in greys(20)], abs=1)
        assert episode.rewards.sum() == 19


def test_a_game_with_an_env_takes_recordings_too(tmp_path: Path) -> None:
    write_mp4(tmp_path / "in" / "a.mp4", greys(20), height=32, width=64)
    (tmp_path / "in" / "a.actions.csv").write_text("none\njump\n" * 10)
    game = ["game.name=chrome_dino", "game.options={downscale: 8}"]
    (episode,) = _episodes_after_import(_config(tmp_path, tmp_path / "in", *game))
    assert episode.frames.shape == (20, 32, 64, 3) and episode.actions.tolist()[:4] == [0, 1, 0, 1]


def test_a_game_that_records_more_than_frames_is_refused(tmp_path: Path, videos: Path) -> None:
    assert "records levels and variables" in _error(_config(tmp_path, videos, "game.name=doom", "game.options={}"))


def _error(config: configs.Config) -> str:
    with pytest.raises(ValueError) as caught:
        rollouts.collect(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_of_what_can_be_seen_before_nothing_is_imported(tmp_path: Path, videos: Path, caplog) -> None:
    (videos / "long.actions.csv").write_text("none\n" * 50)
    (videos / "tail.actions.npy").unlink()
    config = _config(tmp_path, videos)
    message = _error(config)
    assert message.startswith("2 of 3 recordings cannot be imported, such as: ") and "Nothing was imported" in message
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 2
    assert "long.actions.csv has 50 actions for 70 frames" in told[0] and "tail.mp4 has no actions" in told[1]
    assert not Path(config.folder, "gameplay").exists()
    assert not Path(config.folder, "collect-progress").exists(), "settings of nothing are not kept"


def test_of_a_damaged_video_nothing_is_kept(tmp_path: Path, videos: Path) -> None:
    write_mp4(videos / "long.mp4", list(np.random.default_rng(0).integers(30, 220, 70)))
    whole = (videos / "long.mp4").read_bytes()
    damage(videos / "long.mp4")
    config = _config(tmp_path, videos, "collect.max_episode_frames=17", "collect.chunk_frames=4")
    message = _error(config)
    assert "1 of 3 recordings" in message and "long.mp4" in message and "The others are imported" in message
    assert {name.split("-")[0] for name in _episodes(config)} == {"night__short", "tail"}
    (videos / "long.mp4").write_bytes(whole)
    assert rollouts.collect(config)["new_frames"] == 70
    assert {name.split("-")[0] for name in _episodes(config)} == {"long", "night__short", "tail"}


def test_another_recording_under_an_imported_name_is_refused(tmp_path: Path, videos: Path) -> None:
    config = _config(tmp_path, videos)
    rollouts.collect(config)
    (videos / "long.actions.csv").write_text("none\n" * 70)
    assert "long.mp4 was imported into run 'made' before, with another content" in _error(config)
    assert sum(episodes_in(f"{config.folder}/gameplay").values()) == 125


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("collect.max_episode_frames=50", "another max_episode_frames, 40, got 50"),
        (f"game.options={OPTIONS | {'camera': 'x'}}", "another options"),
        (f"game.options={OPTIONS | {'width': 24}}", "holds recorded at 48x32"),
    ],
)
def test_settings_that_would_mix_are_refused(tmp_path: Path, videos: Path, override: str, words: str) -> None:
    rollouts.collect(_config(tmp_path, videos))
    assert words in _error(_config(tmp_path, videos, override))


def test_a_copy_in_another_folder_is_the_same_recording(tmp_path: Path, videos: Path) -> None:
    rollouts.collect(_config(tmp_path, videos))
    shutil.copytree(videos, tmp_path / "moved")
    assert rollouts.collect(_config(tmp_path, tmp_path / "moved"))["nothing_left"]


def test_long_recordings_are_cut_and_no_rest_is_tiny() -> None:
    assert importing.split(40, 40, 16) == (0, 40)
    assert importing.split(80, 40, 16) == (0, 40, 80)
    assert importing.split(95, 40, 16) == (0, 40, 95)
    assert importing.split(96, 40, 16) == (0, 40, 80, 96)
    assert importing.split(7, 40, 16) == (0, 7)
    assert importing.split(41, 40, 1) == (0, 41), "one frame is no episode"


def test_between_two_frames_counts_what_was_held_longest() -> None:
    steps = Steps(np.array([0, 1, 1, 2, 0, 0, 2]), np.arange(7, dtype=np.float32), False)
    actions, rewards = importing.resample(steps, np.array([0, 3, 6]))
    assert actions.tolist() == [1, 0] and rewards.tolist() == [3.0, 12.0]
    actions, rewards = importing.resample(steps, np.array([0, 0, 1, 1, 3, 3, 7, 7]))
    assert actions.tolist() == [0, 0, 1, 1, 2, 2, 2], "a frame that is shown twice holds its action twice"
    assert rewards.tolist() == [0.0, 0.0, 0.0, 3.0, 0.0, 18.0, 0.0], "and earns once"


def test_the_job_ends_with_a_summary_or_one_line(tmp_path: Path, videos: Path) -> None:
    command = [sys.executable, "-m", "jobs.collect", "--config", str(QUICKSTART), *_overrides(tmp_path, videos)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout.strip().splitlines()[-1])
    assert (summary["phase"], summary["frames"]) == ("collect", 125)
    assert summary == json.loads((tmp_path / "made" / "summary-collect.json").read_text())
    (videos / "tail.mp4").write_bytes(b"no video")
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("error: 1 of 3 recordings cannot be imported, such as: ")
