"""The KubeRay manifests: valid, protected, one job for every phase, and the served game is what it says."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import ray
import yaml
from jsonschema import Draft7Validator
from ray.serve.schema import ServeDeploySchema

from gamengen import config as configs
from gamengen import pipeline, placement
from gamengen.serve import app
from tests.cluster.schemas import KUBERAY
from tests.conftest import ROOT

FOLDER = ROOT / "cluster" / "kuberay"
_KUBERNETES = "1.34"


def _documents(pattern: str = "*.yaml") -> list[dict[str, Any]]:
    return [one for file in sorted(FOLDER.glob(pattern)) for one in yaml.safe_load_all(file.read_text())]


def _clusters() -> list[dict[str, Any]]:
    """Return the specifications of all Ray clusters, the game's among them."""
    specs = [one["spec"] for one in _documents() if one["kind"] in ("RayCluster", "RayService")]
    return [spec.get("rayClusterConfig", spec) for spec in specs]


def _pods() -> list[dict[str, Any]]:
    groups = [group for spec in _clusters() for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("manifest", _documents(), ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_a_manifest_has_the_fields_of_its_kind_and_no_other(manifest: dict[str, Any]) -> None:
    if manifest["kind"] in KUBERAY:
        validator = Draft7Validator(KUBERAY[manifest["kind"]])
        assert [error.message for error in validator.iter_errors(manifest)] == []
        assert list(validator.iter_errors({**manifest, "spec": {**manifest["spec"], "unknown": 1}}))
    else:
        kubernetes_validate.validate(manifest, _KUBERNETES, strict=True)


@pytest.mark.parametrize("pod", _pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_a_pod_is_one_that_kubernetes_takes_and_has_no_more_rights_than_it_needs(pod: dict[str, Any]) -> None:
    kubernetes_validate.validate(_as_pod(pod), _KUBERNETES, strict=True)
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is (container["name"] == "ray-head")  # the autoscaler's
    assert {mount["name"] for mount in container["volumeMounts"]} == {"runs", "shm"}


def _as_pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": spec}


@pytest.mark.skipif("KUBERAY_CRDS" not in os.environ, reason="set KUBERAY_CRDS to the operator's crd/bases")
def test_the_operator_s_own_definitions_take_them() -> None:
    for manifest in _documents():
        if manifest["kind"] in KUBERAY:
            file = Path(os.environ["KUBERAY_CRDS"], f"ray.io_{manifest['kind'].lower()}s.yaml")
            versions = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
            (schema,) = [one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1"]
            schema["properties"]["metadata"] = {"type": "object"}
            errors = Draft7Validator(_strict(schema)).iter_errors(manifest)
            assert [f"{list(error.absolute_path)}: {error.message}" for error in errors] == []


def _strict(schema: Any) -> Any:
    """Turn Kubernetes' dialect into one that refuses unknown fields, as its API server does."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _strict(value) for name, value in schema.items()}
    if made.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def test_every_phase_has_its_job_in_order() -> None:
    config = configs.load(ROOT / "configs" / "tier2_doom_lite.yaml")
    wanted = [phase for phase in pipeline.phases(config) if phase.name != "serve"]  # that is the RayService
    jobs = _documents("rayjob-*.yaml")
    assert len(jobs) == len(wanted)
    (cluster,) = [one["metadata"]["name"] for one in _documents() if one["kind"] == "RayCluster"]
    for job, phase in zip(jobs, wanted, strict=True):
        python, dash, module, flag, path, *overrides = shlex.split(job["spec"]["entrypoint"])
        assert (python, dash, module, flag) == ("python", "-m", f"jobs.{phase.module}", "--config")
        assert tuple(one for one in overrides if one.startswith("stage=")) == phase.arguments
        configs.load(ROOT / path.removeprefix("/app/"), [one for one in overrides if not one.startswith("stage=")])
        assert path.endswith("/tier2_doom_lite.yaml")
        assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster}


def test_the_machines_are_those_that_phases_ask_for() -> None:
    phases, game = _clusters()
    for spec, kinds in ((phases, [placement.ROLLOUT, placement.TRAIN]), (game, [placement.SERVE])):
        head = spec["headGroupSpec"]
        groups = spec["workerGroupSpecs"]
        assert [name for group in groups for name in group["resources"]] == kinds
        (container,) = head["template"]["spec"]["containers"]
        named = {one["name"]: one.get("value") for one in container["env"]}["GAMENGEN_NODES"].split(",")
        assert set(kinds) == set(named)
        assert head["rayStartParams"]["num-cpus"] == "0"
        assert spec["rayVersion"] == ray.__version__
        for group in groups:
            on_gpu = "nvidia.com/gpu" in group["template"]["spec"]["containers"][0]["resources"]["limits"]
            assert on_gpu is (group["groupName"] != "rollout")


def test_no_secret_stands_in_a_manifest_and_the_token_is_asked_for() -> None:
    assert not [one for one in _documents() if one["kind"] == "Secret"]
    for spec in _clusters():
        assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    values = [one for pod in _pods() for one in pod["containers"][0].get("env", [])]
    assert all(one["name"] == "GAMENGEN_NODES" for one in values if "value" in one)


def test_only_the_game_s_port_is_open_to_others() -> None:
    own, players = [one["spec"] for one in _documents() if one["kind"] == "NetworkPolicy"]
    assert own["podSelector"] == {} and all("from" in rule for rule in own["ingress"])
    assert players["podSelector"] == {"matchLabels": {"ray.io/serve": "true"}}
    assert [port["port"] for rule in players["ingress"] for port in rule["ports"]] == [8000]


def test_the_service_s_game_can_be_built() -> None:
    (service,) = [one["spec"] for one in _documents() if one["kind"] == "RayService"]
    deploy = ServeDeploySchema.model_validate(yaml.safe_load(service["serveConfigV2"]))
    (application,) = deploy.applications
    assert application.import_path == f"{app.__name__}:{app.build.__name__}"
    app.build(application.args)
    with pytest.raises(ValueError, match="unknown settings"):
        app.build({**application.args, "modell": "x"})
