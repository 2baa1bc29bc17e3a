"""The files of Ray's cluster launcher: valid by Ray's schema, protected, their machines those that phases ask for."""

from __future__ import annotations

import re

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from gamengen import placement
from tests.conftest import ROOT

KINDS = [placement.ROLLOUT, placement.TRAIN, placement.SERVE]
_SECRET = re.compile(r"AKIA[0-9A-Z]{16}|PRIVATE KEY|(token|password|secret)\w*\s*[:=]\s*[0-9a-f]{16}", re.IGNORECASE)


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / "cluster" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", ["aws", "gcp", "onprem"])
def test_ray_takes_the_file(name: str) -> None:
    validate_config(prepare_config(load(name)))
    broken = prepare_config(load(name)) | {"worker_nods": 1}
    with pytest.raises(ValidationError, match="worker_nods"):
        validate_config(broken)


@pytest.mark.parametrize("name", ["aws", "gcp", "onprem"])
def test_a_token_is_asked_for_and_the_dashboard_is_the_head_s_alone(name: str) -> None:
    config = load(name)
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$HOME/.ray/auth_token" in command.partition("ray start")[0]
    assert "--dashboard-host=127.0.0.1" in head and "--num-cpus=0" in head
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert not _SECRET.search((ROOT / "cluster" / f"{name}.yaml").read_text())
    assert {".venv", "runs", ".ray"} <= set(config["rsync_exclude"])  # .ray has the token of this machine's own head


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_the_machines_are_those_that_phases_ask_for(name: str) -> None:
    config = load(name)
    types = config["available_node_types"]
    marks = {kind: mark for kind, settings in types.items() for mark in settings["resources"] if mark.endswith("_node")}
    assert list(marks.values()) == KINDS
    assert f"GAMENGEN_NODES={','.join(KINDS)};" in config["head_start_ray_commands"][-1]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    assert [kind for kind, settings in types.items() if settings["resources"].get("GPU")] == ["train", "serve"]
    assert all(types[kind]["min_workers"] == 0 < types[kind]["max_workers"] for kind in marks)
    assert config["max_workers"] <= sum(types[kind]["max_workers"] for kind in marks)
    spot = {kind for kind, settings in types.items() if re.search("spot", str(settings["node_config"]), re.IGNORECASE)}
    assert spot == {"rollout"}


def test_only_ssh_from_one_address_is_open_on_aws() -> None:
    rules = load("aws")["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]
    assert [source["CidrIp"] for rule in rules for source in rule["IpRanges"]] == ["<your address>/32"]
