"""What a person is told of the tiers: ready, or what is missing and how to get it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gamengen.check import game, tiers
from gamengen.check.tiers import check, summary
from tests.conftest import QUICKSTART, ROOT, TINY


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The parts' work as a mapping from their names, to be replaced; by default all are well."""
    work = {name: lambda *_: "well" for name in ("_play", "_learn", "_round_trip", "_train_step")}
    for name in work:
        monkeypatch.setattr(tiers, name, lambda *given, name=name: work[name](*given))
    return work


def fails(error: Exception):
    def work(*_):
        raise error

    return work


def test_every_tier_has_its_line_and_parts(parts: dict, monkeypatch, tmp_path: Path) -> None:
    for run in tiers.TIERS:
        (tmp_path / f"{run}.yaml").write_text(QUICKSTART.read_text())
    monkeypatch.setattr(tiers, "FOLDER", tmp_path)
    told = list(check([]))
    assert [tier.lines() for tier in told] == [
        "[READY] Tier 1: Chrome Dino",
        "[READY] Tier 2: DOOM Lite",
        "[READY] Tier 3: Full DOOM",
    ]
    assert list(told[0].parts) == ["config", "game", "agent", "shards", "model"]
    assert summary(told, 1.0)["ready"] and json.dumps(summary(told, 1.0))


@pytest.mark.parametrize(
    ("part", "error", "line"),
    [
        (
            "_play",
            ModuleNotFoundError("no", name="vizdoom.x"),
            "game: the package vizdoom is not installed. Get it: make",
        ),
        ("_play", ValueError("no map\n here; do that."), "game: no map here; do that."),
        ("_learn", ModuleNotFoundError("no", name="ray.rllib"), "agent: the package ray is not installed."),
        ("_round_trip", OSError("disk full"), "shards: OSError: disk full"),
        ("_train_step", RuntimeError("a\nb\n"), "model: RuntimeError: b"),
    ],
)
def test_what_is_missing_is_one_line_and_the_rest_is_checked(
    parts: dict, part: str, error: Exception, line: str
) -> None:
    parts[part] = fails(error)
    (tier,) = check([str(QUICKSTART)])
    lines = tier.lines().splitlines()
    assert lines[0] == "[MISSING] quickstart" and len(lines) == 2 and lines[1].startswith(f"    {line}")
    assert list(tier.parts) == ["config", "game"] + ["agent", "shards", "model"] * (part != "_play")
    assert not summary([tier], 0.0)["ready"]


def test_a_tier_that_this_version_lacks_says_so(parts: dict, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tiers, "FOLDER", tmp_path)
    assert [tier.lines().splitlines()[1].split("; ")[0] for tier in check([])] == [
        f"    config: configs/{run}.yaml is not in this version of gamengen. Get a newer one: git pull."
        for run in tiers.TIERS
    ]


def test_a_missing_gpu_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from gamengen.check import networks

    monkeypatch.setattr(networks, "has_gpu", lambda: False)
    monkeypatch.setattr(networks, "train_step", lambda *_: "well")
    monkeypatch.setattr(tiers, "_learn", lambda *_: "well")
    (tier,) = check([str(QUICKSTART)], ["train.use_gpu=true"])
    assert tier.lines().startswith("[READY] quickstart\n    note: it trains on a GPU")
    (tier,) = check([str(QUICKSTART)])
    assert tier.lines() == "[READY] quickstart"


def test_nothing_of_the_real_run_is_touched_and_nothing_is_left(parts: dict, monkeypatch, tmp_path: Path) -> None:
    seen = []
    parts["_play"] = lambda config: seen.append(config.folder) or game.play(config)
    list(check([str(QUICKSTART)], [f"storage={tmp_path}"]))
    assert not list(tmp_path.iterdir()) and not Path(seen[0]).exists()


def test_the_job_ends_with_json_and_its_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.check", "--config", f"{tmp_path}/none.yaml"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    lines = ended.stdout.splitlines()
    assert ended.returncode == 1 and lines[0] == "[MISSING] none" and "no config file at" in lines[1]
    assert json.loads(lines[-1])["ready"] is False


@pytest.mark.ray
@pytest.mark.slow
def test_the_quickstart_is_ready(ray_cluster: None) -> None:
    (tier,) = check([str(QUICKSTART)], TINY)
    assert tier.lines() == "[READY] quickstart", tier
    assert tier.parts["agent"].found.startswith("dqn learns, is saved and goes on")
