"""The files of Ray's cluster launcher: valid by Ray's schema, protected, their machines those that phases ask for."""

from __future__ import annotations

import re
import shlex

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


def documented_on_aws() -> list[list[str]]:
    """The commands of cluster/README.md that make AWS's security group, as words."""
    lines = (ROOT / "cluster" / "README.md").read_text().splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("aws ec2 ")]


def run_on_aws(ec2, words: list[str], group_id: str) -> str:
    """Do what such a command does; returns the id of the group."""
    action, values = words[2], dict(zip(words[3::2], words[4::2], strict=True))
    if action == "create-security-group":
        made = ec2.create_security_group(GroupName=values["--group-name"], Description=values["--description"])
        return made["GroupId"]
    rule: dict = {"IpProtocol": values["--protocol"].replace("all", "-1")}
    if "--port" in values:
        rule |= {"FromPort": int(values["--port"]), "ToPort": int(values["--port"])}
    if "--cidr" in values:
        rule["IpRanges"] = [{"CidrIp": values["--cidr"].replace("<your address>", "198.51.100.7")}]
    if "--source-group" in values:
        assert values["--source-group"] == values["--group-name"]
        rule["UserIdGroupPairs"] = [{"GroupId": group_id}]
    ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[rule])
    return group_id


@pytest.mark.parametrize("made_before", [True, False])
def test_ssh_is_open_to_one_address_on_aws(made_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own code, on moto: it leaves a group with rules alone, and opens SSH to everybody in one without."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws import config as launcher

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    config = prepare_config(load("aws"))
    commands = documented_on_aws()
    assert [words[2] for words in commands] == ["create-security-group", *["authorize-security-group-ingress"] * 2]
    with mock_aws():
        region = config["provider"]["region"]
        assert {words[words.index("--region") + 1] for words in commands} == {region}
        ec2 = boto3.client("ec2", region_name=region)
        group_id = ""
        for words in commands if made_before else []:
            group_id = run_on_aws(ec2, words, group_id)
        done = launcher._configure_security_group(launcher._configure_subnet(config))
        used = {
            one for kind in done["available_node_types"].values() for one in kind["node_config"]["SecurityGroupIds"]
        }
        assert len(used) == 1 and (used == {group_id}) == made_before
        rules = ec2.describe_security_groups(GroupIds=[*used])["SecurityGroups"][0]["IpPermissions"]
    open_to = {source["CidrIp"]: (rule["FromPort"], rule["ToPort"]) for rule in rules for source in rule["IpRanges"]}
    assert open_to == {"198.51.100.7/32" if made_before else "0.0.0.0/0": (22, 22)}
    within = [rule["IpProtocol"] for rule in rules for pair in rule["UserIdGroupPairs"] if pair["GroupId"] in used]
    assert within == ["-1"] and len(rules) == 2
