"""Models and play go to a hub and come back: the real client, through its real HTTP, to a strict stub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gamengen import hub
from tests.conftest import ROOT
from tests.stub_hub import TOKEN, Hub

LOAD = """
import json, sys
from gamengen.engine import GameEngine
engine = GameEngine.from_pretrained(sys.argv[1])
first, state = engine.reset(starts=[0], seeds=[1])
frame, state = engine.step(state, [1])
print(json.dumps([engine.game.name, int(frame.sum())]))
"""


@pytest.fixture(scope="module")
def there() -> Iterator[Hub]:
    with Hub() as running:
        yield running


def _run(there: Hub, home: Path, *arguments: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """Run Python with a hub of its own; the client reads its environment when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    chosen = {"HF_ENDPOINT": there.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": token}
    command, env = [sys.executable, *arguments], kept | chosen
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_a_model_is_pushed_and_plays_from_its_name(there: Hub, model_folder: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_folder, tmp_path / "denoiser"))
    (folder / "state.pt").write_bytes(b"not for others")
    pushed = _run(there, tmp_path / "hub", "-m", "jobs.push", str(folder), "me/dino", "--private")
    assert pushed.returncode == 0, pushed.stderr + "\n".join(there.refused)
    assert json.loads(pushed.stdout.splitlines()[-1])["url"] == f"{there.url}/me/dino"
    files = there.repos["models", "me/dino"]
    local = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    assert sorted(files) == sorted(set(local) - {"state.pt"}) and there.private["models", "me/dino"] is True
    assert all(files[name] == local[name].read_bytes() for name in files)
    there.repos["models", "me/dino"]["evil.pkl"] = b"never fetched"

    here = _run(there, tmp_path / "none", "-c", LOAD, str(folder))
    for name in ("me/dino", f"hf://me/dino@{there.sha('models', 'me/dino')}"):
        played = _run(there, tmp_path / "hub", "-c", LOAD, name, token="")
        assert played.returncode == 0, played.stderr + "\n".join(there.refused)
        assert played.stdout == here.stdout and json.loads(played.stdout)[0] == "chrome_dino"
    fetched = {file.name for file in (tmp_path / "hub").rglob("*")}
    assert "model.safetensors" in fetched and "evil.pkl" not in fetched
    assert there.refused == []


def test_play_is_pushed_as_a_dataset(there: Hub, recorded, tmp_path: Path) -> None:
    pushed = _run(there, tmp_path, "-m", "jobs.push", recorded.folder, "me/play")
    assert pushed.returncode == 0, pushed.stderr + "\n".join(there.refused)
    assert json.loads(pushed.stdout.splitlines()[-1])["url"] == f"{there.url}/datasets/me/play"
    files = there.repos["datasets", "me/play"]
    shards = [name for name in files if name.startswith("gameplay/")]
    assert sorted(files) == sorted(["README.md", *shards]) and len(shards) == 6
    (tmp_path / "again.parquet").write_bytes(files[shards[0]])
    assert pq.read_metadata(tmp_path / "again.parquet").num_rows > 0
    assert b"recorded play" in files["README.md"]


def test_what_fails_is_one_line(there: Hub, model_folder: str, tmp_path: Path) -> None:
    for arguments, token, says in (
        ((model_folder, "me/other"), "hf_wrong", "error: the hub does not take model 'me/other'"),
        ((str(tmp_path / "nothing"), "me/other"), TOKEN, "error: no shards in"),
    ):
        ended = _run(there, tmp_path, "-m", "jobs.push", *arguments, token=token)
        assert ended.returncode == 2 and ended.stderr.startswith(says), ended.stderr
        assert len(ended.stderr.splitlines()) == 1 and TOKEN not in ended.stdout + ended.stderr
    ended = _run(there, tmp_path, "-m", "jobs.play", "model=me/nothing")
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("error: no model 'me/nothing': there is no such folder here, and the hub does not")
    there.refused.clear()


def test_what_is_here_is_not_looked_for_elsewhere(model_folder: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "runs" / "denoiser").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/denoiser", "./runs/none", "/a/b", "s3://bucket/run", "denoiser", model_folder):
        assert hub.fetch(folder) == folder
    with pytest.raises(ValueError, match="expected hf://<owner>/<name>"):
        hub.fetch("hf://dino")


def test_a_folder_in_a_bucket_is_brought_here_first(there: Hub, model_folder: str, tmp_path: Path) -> None:
    code = f"from gamengen.checkpoint import push_to_hub; push_to_hub('file://{model_folder}', 'me/b')"
    pushed = _run(there, tmp_path, "-c", code)
    assert pushed.returncode == 0, pushed.stderr + "\n".join(there.refused)
    assert {"game.json", "denoiser/model.safetensors", "README.md"} <= set(there.repos["models", "me/b"])
