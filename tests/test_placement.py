"""What kind of machine work comes to, how many workers there are, and how both follow a cluster that grows."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from gamengen import config as configs
from gamengen import placement
from gamengen.local_nodes import LocalNodes
from tests.collect.conftest import assert_exactly_once, overrides  # noqa: F401, a fixture
from tests.conftest import QUICKSTART, load_tiny, wait_for
from tests.faults.conftest import Job


class MarkedNodes(LocalNodes):
    """Nodes with a machine's mark each: the head has none, then one to play, one to train, and more to play."""

    def command(self, node: str) -> tuple[str, ...]:
        marks = {"127.0.0.1": {}, "127.0.0.3": {placement.TRAIN: 1}}.get(node, {placement.ROLLOUT: 1})
        return ("env", f"RAY_OVERRIDE_RESOURCES={json.dumps(marks)}")


@pytest.fixture(scope="module")
def marked() -> Iterator[MarkedNodes]:
    with MarkedNodes(3) as nodes:
        yield nodes


def test_a_cluster_without_marks_runs_everything_everywhere(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert placement.mark(placement.TRAIN) == {} and placement.options(placement.TRAIN) == {}
    assert placement.room(placement.TRAIN, num_cpus=1) == 8 == placement.room(placement.ROLLOUT, num_cpus=1)
    assert placement.room(placement.TRAIN, num_cpus=1, num_gpus=1) == 0
    monkeypatch.setenv(placement.VARIABLE, "rollout_node,train_node")  # machines that are not started yet
    assert placement.options(placement.TRAIN) == {"resources": {"train_node": 0.001}}
    assert placement.room(placement.TRAIN, num_cpus=1) == 0 and placement.mark(placement.SERVE) == {}


def test_a_pool_takes_a_number_or_what_there_is_room_for(ray_cluster: None) -> None:
    fixed = placement.pool(5, 3, placement.ROLLOUT, num_cpus=1)
    assert (fixed.min_size, fixed.max_size) == (3, 3)
    free = placement.pool("auto", 100, placement.ROLLOUT, num_cpus=1)
    assert (free.min_size, free.initial_size, free.max_size) == (1, 8 - placement.PIPELINE_CPUS, 100)
    without = placement.pool("auto", 100, placement.ROLLOUT, num_cpus=1, num_gpus=1)
    assert (without.min_size, without.initial_size) == (1, 1)  # which has an autoscaler start a machine


def _frames_by_node(folder: str) -> Counter[str]:
    played: Counter[str] = Counter()
    for shard in Path(folder, "gameplay").glob("*.parquet"):
        try:
            for row in pq.read_table(shard, columns=["node", "num_frames"]).to_pylist():
                played[row["node"]] += row["num_frames"]
        except (OSError, ValueError):  # it is being written
            continue
    return played


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_play_is_on_its_own_machines_and_takes_in_one_that_comes(marked: MarkedNodes, overrides: list[str]) -> None:  # noqa: F811
    settings = [*overrides, "collect.num_runners=auto", "collect.shard_bytes=1", "collect.num_frames=200000"]
    settings += ["collect.max_episode_frames=4000", "collect.policies={scripted: 1.0}"]
    config = configs.load(QUICKSTART, settings)
    with Job("collect", settings, marked) as job:
        wait_for(lambda: _frames_by_node(config.folder))
        assert set(_frames_by_node(config.folder)) == {"127.0.0.2"}
        marked.grow(4)
        status, said = job.ends()
    assert status == 0, said[-3000:]
    assert set(_frames_by_node(config.folder)) == {"127.0.0.2", "127.0.0.4"}
    assert_exactly_once(config, 50)


@pytest.mark.ray
@pytest.mark.slow
def test_training_takes_what_there_is_and_learns_the_same(marked: MarkedNodes, made, tmp_path: Path) -> None:
    weights = {}
    for name, workers in (
        ("elastic", "[1, 4]"),
        ("fixed", "2"),
    ):  # there are three CPUs, and lanes for one, two or four
        folder = tmp_path / name
        settings = [f"train.num_workers={workers}", "train.autoencoder.steps=3", "train.autoencoder.checkpoint_every=3"]
        config = load_tiny(folder, *settings)
        shutil.copytree(f"{made.folder}/gameplay", f"{config.folder}/gameplay")
        (tmp_path / f"{name}.yaml").write_text(json.dumps(configs.to_dict(config)))
        with Job("train", ["--config", str(tmp_path / f"{name}.yaml"), "stage=autoencoder"], marked) as job:
            status, said = job.ends()
        assert status == 0, said[-3000:]
        assert json.loads(said.strip().splitlines()[-1])["num_workers"] == (3 if name == "elastic" else 2)
        weights[name] = load_file(next(Path(config.folder, "autoencoder").rglob("*.safetensors")))
    for name, value in weights["fixed"].items():
        torch.testing.assert_close(
            weights["elastic"][name], value, rtol=0, atol=1e-3
        )  # Muon turns rounding into a little more
