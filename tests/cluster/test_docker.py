"""Dockerfile and compose.yaml, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.conftest import ROOT

COMPOSE = ROOT / "docker" / "compose.yaml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def test_compose_is_valid_by_its_specification(compose: dict[str, Any]) -> None:
    schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    validator = Draft202012Validator(json.loads(schema.read_text()))
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(compose)] == []
    assert list(validator.iter_errors(compose | {"services": {"head": {"imag": "x"}}}))


def test_every_service_says_when_it_is_well_and_has_few_rights(compose: dict[str, Any]) -> None:
    own = "HEALTHCHECK" in DOCKERFILE.read_text()
    for name, service in compose["services"].items():
        assert "healthcheck" in service or (own and service["image"].startswith("gamengen:")), name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        tag = service["image"].partition(":")[2]
        assert tag and tag != "latest", name


def test_all_ports_are_this_machine_s_and_players_do_not_reach_ray(compose: dict[str, Any]) -> None:
    services = compose["services"]
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert {name: [port.rpartition(":")[0] for port in many] for name, many in ports.items()} == {
        "head": ["127.0.0.1:8265"],
        "game": ["127.0.0.1:8000"],
        "grafana": ["127.0.0.1:3000"],
    }
    assert services["game"]["networks"] == ["players"] and "secrets" not in services["game"]
    assert all(service["networks"] != ["players"] for name, service in services.items() if name != "game")


def test_every_ray_asks_for_the_token_which_stands_nowhere(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        command = service.get("command", "")
        if "ray start" in command:
            expected = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/run/secrets/ray_token"}
            assert service["environment"] == expected and service["secrets"] == ["ray_token"], name
    assert all(set(source) == {"environment"} for source in compose["secrets"].values())
    assert ".env" in (ROOT / ".gitignore").read_text().split() and "**/.env" in (ROOT / ".dockerignore").read_text()


def test_what_is_mounted_is_there(compose: dict[str, Any]) -> None:
    mounts = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    for source in {mount.partition(":")[0] for mount in mounts}:
        assert source in compose["volumes"] or (COMPOSE.parent / source).exists(), source


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    ended = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    broken = DOCKERFILE.read_text().replace("--no-install-recommends", "")
    ended = subprocess.run([hadolint, "-"], input=broken, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "DL3015" in ended.stdout


def test_the_image_is_pinned_and_nobody_is_root_in_it() -> None:
    text = DOCKERFILE.read_text()
    assert re.findall(r"^FROM .*:\$\{(\w+)\}", text, re.MULTILINE) == ["DEBIAN"] and "latest" not in text
    stages = re.findall(r"^FROM (\S+) AS (\w+)", text, re.MULTILINE)
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    assert users == ["1000:1000"] and ("code", "cpu") in stages and ("code", "gpu") in stages
    assert text.index("USER 1000") < text.index("FROM code AS")
    assert text.count("-c constraints.txt") == 2
    packages = re.search(r"apt-get install.*?&&", text, re.DOTALL)
    assert packages and "wget" in packages[0].split()  # KubeRay's readiness probe of a served game
