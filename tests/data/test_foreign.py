"""Recordings made elsewhere: found in both layouts, their actions understood, every mistake one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gamengen.data import foreign
from gamengen.data.foreign import Source
from gamengen.game import GameSpec
from tests.data.films import greys, write_lerobot, write_mp4

GAME = GameSpec("recorded", 32, 48, 20.0, 1, ("none", "jump", "duck"), {})
NAMES = ["none", "jump", "jump", "duck"]
INDICES = [0, 1, 1, 2]
VECTORS = {"none": [0.0, 0.0], "jump": [1.0, 0.0], "duck": [-1.0, 0.5]}


def _read(folder: Path, name: str, content: str | bytes, vectors=None) -> foreign.Steps:
    """Read an actions file of the video `a`."""
    (folder / "a.mp4").touch()
    (folder / f"a.{name}").write_bytes(content if isinstance(content, bytes) else content.encode())
    (source,) = foreign.find(str(folder))
    return foreign.read(source, GAME, vectors)


def _npy(folder: Path, values) -> bytes:
    np.save(folder / "x.npy", values)
    return (folder / "x.npy").read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("actions.csv", "\n".join(NAMES)),
        ("actions.csv", "0\n1\n1\n2\n\n"),
        ("actions.csv", "time,action\n0.0,none\n0.1, jump\n0.2,1\n0.3,duck\n"),
        ("actions.json", json.dumps(NAMES)),
        ("actions.json", json.dumps(INDICES)),
        ("actions.json", json.dumps({"actions": NAMES})),
        ("actions.json", json.dumps([[1, 0, 0], [0, 1, 0], [0.2, 0.7, 0.1], [0, 0, 1]])),
    ],
)
def test_names_indices_and_one_number_per_action(tmp_path: Path, name: str, content: str) -> None:
    steps = _read(tmp_path, name, content)
    assert steps.actions.tolist() == INDICES and not steps.rewards.any() and not steps.terminated


def test_numpy_files(tmp_path: Path) -> None:
    assert _read(tmp_path, "actions.npy", _npy(tmp_path, np.array(INDICES))).actions.tolist() == INDICES
    one_hot = np.eye(3)[INDICES]
    assert _read(tmp_path, "actions.npy", _npy(tmp_path, one_hot)).actions.tolist() == INDICES


def test_vectors_are_the_nearest_action(tmp_path: Path) -> None:
    near = [[0.1, 0.1], [0.9, 0.0], [0.6, -0.2], [-0.7, 0.2]]
    assert _read(tmp_path, "actions.json", json.dumps(near), VECTORS).actions.tolist() == INDICES
    steering = {"none": [0.0], "jump": [1.0], "duck": [-1.0]}
    assert _read(tmp_path, "actions.json", "[0.1, 0.8, 0.6, -3]", steering).actions.tolist() == INDICES


def test_rewards_come_along(tmp_path: Path) -> None:
    steps = _read(tmp_path, "actions.csv", "action,reward\nnone,0\njump,1.5\njump,-1\n")
    assert steps.rewards.tolist() == [0.0, 1.5, -1.0]
    (tmp_path / "a.actions.csv").unlink()
    steps = _read(tmp_path, "actions.json", json.dumps({"actions": NAMES, "rewards": [0, 1, 2, 3]}))
    assert steps.rewards.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("actions.csv", "none\njmup\n", ["unknown action 'jmup' at frame 1", "did you mean 'jump'"]),
        ("actions.csv", "none\n3\n", ["action 3 at frame 1", "0 to 2"]),
        ("actions.csv", "none\n-1\n", ["action -1 at frame 1"]),
        ("actions.csv", "action,reward\nnone,much\n", ["much"]),
        ("actions.csv", "action,reward\nnone,\n", ["a number for each action"]),
        ("actions.json", "[0.5, 1]", ["action 0.5 at frame 0"]),
        ("actions.json", "[true, null]", ["unknown action None at frame 1"]),
        ("actions.json", '{"steps": []}', ["dict", "list of actions"]),
        ("actions.json", "[0, 1", ["Expecting"]),
        ("actions.json", '{"actions": [0, 1], "rewards": [0]}', ["2 actions and 1 rewards"]),
        ("actions.json", "[[1, 2], [3, 4]]", ["2 numbers; expected 3", "game.options.vectors"]),
        ("actions.json", "[[1, 2], [3]]", []),
        ("actions.npy", "nothing", []),
        ("actions.csv", b"\xff\xfe\x00", []),
    ],
)
def test_actions_that_are_none_are_one_clear_line(tmp_path: Path, name: str, content, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        _read(tmp_path, name, content)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/a.{name}: ") and "\n" not in message
    assert all(word in message for word in words), message


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        _read(tmp_path, "actions.npy", (tmp_path / "x.npy").read_bytes())


def test_videos_are_found_in_folders_too_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b", "day1/a", "day1/._a", "day2/a"):
        write_mp4(tmp_path / f"{name}.mp4", greys(2))
    (tmp_path / "day2" / "a.actions.npy").touch()
    (tmp_path / "notes.txt").touch()
    sources = foreign.find(f"{tmp_path}/")
    assert [source.name for source in sources] == ["b", "day1/a", "day2/a"]
    assert sources[2] == Source("day2/a", f"{tmp_path}/day2/a.mp4", f"{tmp_path}/day2/a.actions.npy")


def test_half_a_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.actions.csv").write_text("none")
    without_actions, without_video = foreign.find(str(tmp_path))
    with pytest.raises(ValueError, match=r"a\.mp4 has no actions; expected .*a\.actions\.csv or .*a\.actions\.npy"):
        foreign.read(without_actions, GAME)
    with pytest.raises(ValueError, match=r"b\.actions\.csv has no video; expected .*b\.mp4"):
        foreign.read(without_video, GAME)


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_recordings_is_an_error(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "x"
    if make:
        folder.mkdir()
    with pytest.raises(ValueError, match=r"no recordings in .*/x; expected <name>\.mp4"):
        foreign.find(str(folder))


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_lerobot_s_episodes(tmp_path: Path, version: str) -> None:
    more = [{"next.reward": pa.array([0.0, 0.5, 0, 1]), "next.done": pa.array([False, False, False, True])}] * 3
    single = [[index] for index in INDICES]  # as LeRobot stores a feature of shape [1]
    columns = [pa.array(INDICES), pa.array(single, pa.list_(pa.float32(), 1)), pa.array(NAMES)]
    write_lerobot(tmp_path, columns, version=version, chunks_size=2, more=more)
    sources = foreign.find(str(tmp_path))
    assert [source.name for source in sources] == [f"episode_00000{number}" for number in range(3)]
    assert sources[2].video == f"{tmp_path}/videos/chunk-001/observation.images.top/episode_000002.mp4"
    for source in sources:
        steps = foreign.read(source, GAME)
        assert steps.actions.tolist() == INDICES and steps.terminated
        assert steps.rewards.tolist() == [0.0, 0.5, 0.0, 1.0]


def test_lerobot_s_vectors_and_cameras(tmp_path: Path) -> None:
    vectors = pa.array([[0.1, 0.0], [0.9, 0.1], [0.8, 0.0], [-1.0, 0.4]], pa.list_(pa.float32(), 2))
    write_lerobot(tmp_path, [vectors], cameras=["observation.images.top", "observation.images.wrist"])
    (source,) = foreign.find(str(tmp_path))
    assert "images.top" in source.video
    assert foreign.read(source, GAME, VECTORS).actions.tolist() == INDICES
    (source,) = foreign.find(str(tmp_path), "observation.images.wrist")
    assert "images.wrist" in source.video
    with pytest.raises(ValueError, match=r"no video front; expected one of .*top, .*wrist.*game\.options\.camera"):
        foreign.find(str(tmp_path), "front")


def test_what_is_wrong_with_lerobot_s_files_is_named(tmp_path: Path) -> None:
    write_lerobot(tmp_path, [pa.array(INDICES), pa.array(INDICES), pa.array(INDICES)])
    (tmp_path / "videos/chunk-000/observation.images.top/episode_000001.mp4").unlink()
    (tmp_path / "data/chunk-000/episode_000002.parquet").write_bytes(b"PAR1 half")
    first, second, third = foreign.find(str(tmp_path))
    with pytest.raises(ValueError, match=r"episode_000001\.parquet has no video; expected .*episode_000001\.mp4"):
        foreign.read(second, GAME)
    with pytest.raises(ValueError, match=r"episode_000002\.parquet: "):
        foreign.read(third, GAME)
    pq.write_table(pa.table({"state": [1, 2, 3, 4]}), first.log)
    with pytest.raises(ValueError, match=r"episode_000000\.parquet: has no column 'action', got state"):
        foreign.read(first, GAME)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"codebase_version": "v3.0", "features": {}}', "of version v3.0; expected v2.0 or v2.1"),
        ('{"codebase_version": "v2.1", "features": {}}', "has no video"),
        ('{"codebase_version": "v2.1"}', "not LeRobot's"),
        ("[]", "not LeRobot's"),
        ("{", "not LeRobot's"),
    ],
)
def test_an_info_that_is_not_read_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        foreign.find(str(tmp_path))
    assert "info.json" in str(caught.value) and "\n" not in str(caught.value)
