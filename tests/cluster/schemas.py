"""What of KubeRay's resources our manifests use, as JSON schemas that refuse every other field.

Written by hand after the operator's resource definitions of version 1.7.0; `KUBERAY_CRDS=<folder of ray.io_*.yaml>` has
the tests check against those themselves.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_FLAG: Schema = {"type": "boolean"}


def _choice(*values: str) -> Schema:
    return {"enum": list(values)}


def _all_of(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
        "additionalProperties": False,
    }


# What Kubernetes itself defines, a pod, is checked by kubernetes-validate.
_POD = _all_of(spec={"type": "object"})
_HEAD = _all_of(("rayStartParams", "template"), serviceType=_choice("ClusterIP"), rayStartParams=_TEXTS, template=_POD)
_WORKERS = _all_of(
    groupName=_TEXT,
    replicas=_COUNT,
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    resources=_TEXTS,
    labels=_TEXTS,
    rayStartParams=_TEXTS,
    template=_POD,
)
_CLUSTER = _all_of(
    rayVersion=_TEXT,
    authOptions=_all_of(mode=_choice("token"), secretName=_TEXT),
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=_all_of(
        ("version",),
        version=_choice("v2"),
        idleTimeoutSeconds=_COUNT,
        upscalingMode=_choice("Default", "Aggressive", "Conservative"),
    ),
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "items": _WORKERS, "minItems": 1},
)
_JOB = _all_of(
    clusterSelector=_TEXTS,
    submissionMode=_choice("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypoint=_TEXT,
)
_SERVICE = _all_of(serveConfigV2=_TEXT, rayClusterConfig=_CLUSTER)


def _resource(kind: str, spec: Schema) -> Schema:
    metadata = _all_of(name=_TEXT, namespace=_choice("gamengen"))
    return _all_of(apiVersion=_choice("ray.io/v1"), kind=_choice(kind), metadata=metadata, spec=spec)


KUBERAY = {
    "RayCluster": _resource("RayCluster", _CLUSTER),
    "RayJob": _resource("RayJob", _JOB),
    "RayService": _resource("RayService", _SERVICE),
}
