"""What a person must know: alert rules of Grafana, as its API and its provisioning files take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gamengen import monitor
from gamengen.dashboards.panels import DATA_SOURCE

FOLDER_UID, FOLDER = "gamengen", "gamengen"
GROUP, EVERY_SECONDS = "gamengen", 60


@dataclass(frozen=True)
class Alert:
    """Fires for every series of `query` (PromQL) that is above `above` for so long; nothing at all means well.

    Attributes:
        lasts: in Prometheus' words, such as "5m"; "0s" is at once.
    """

    uid: str
    title: str
    query: str
    above: float
    lasts: str
    severity: str
    summary: str
    what_to_do: str

    def to_json(self) -> dict[str, Any]:
        """Return the rule: query A, and the threshold C on it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "condition": "C",
            "data": [_query(self.query), _threshold(self.above)],
            "for": self.lasts,
            "noDataState": "OK",
            "execErrState": "Error",
            "isPaused": False,
            "labels": {"severity": self.severity, "app": "gamengen"},
            "annotations": {"summary": self.summary, "description": self.what_to_do},
        }


def _query(expression: str) -> dict[str, Any]:
    model = {"refId": "A", "datasource": DATA_SOURCE, "expr": expression, "instant": True, "range": False}
    return {
        "refId": "A",
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": DATA_SOURCE["uid"],
        "model": model,
    }


def _threshold(above: float) -> dict[str, Any]:
    """Grafana's own arithmetic: is A above a number?"""
    model = {
        "refId": "C",
        "type": "threshold",
        "datasource": {"type": "__expr__", "uid": "__expr__"},
        "expression": "A",
        "conditions": [{"evaluator": {"type": "gt", "params": [above]}}],
    }
    return {"refId": "C", "relativeTimeRange": {"from": 0, "to": 0}, "datasourceUid": "__expr__", "model": model}


def _new(series: str, by: str, window: str) -> str:
    """How much a counter has grown; unlike `increase` it sees the first event, with which the series begins."""
    total = f"sum by ({by}) ({series})"
    return f"{total} - (sum by ({by}) ({series} offset {window}) or {total} * 0)"


_MADE = f"sum by (game) (rate({monitor.SERVE_FRAMES.series}[5m]))"
_LATE = f"sum by (game) (rate({monitor.SERVE_LATE_FRAMES.series}[5m]))"
_RECORDED = f"sum by (run) (increase({monitor.COLLECT_FRAMES.series}[10m])) > 0"

ALERTS = (
    Alert(
        "gamengen-late", "Frames are late", f"({_LATE} / ({_MADE} > 0)) or {_MADE} * 0", 0.05, "5m", "warning",
        "More than one in twenty frames of {{ .Labels.game }} misses its deadline.",
        "The model is too slow for so many players: add replicas (serve.num_replicas), lower serve.max_players, or "
        "serve the distilled model.",
    ),
    Alert(
        "gamengen-no-frames", "No frames are recorded",
        f"max by (run) ({monitor.COLLECT_FRAMES_LEFT.series}) unless on (run) ({_RECORDED})", 0, "10m", "critical",
        "Run {{ .Labels.run }} has frames left to record and has recorded none for ten minutes.",
        "See the log of the collect job: players that die again and again, a full disk, or no CPUs left for them.",
    ),
    Alert(
        "gamengen-loss", "The loss is not finite",
        _new(monitor.TRAIN_NOT_FINITE.series, "run, stage", "15m"), 0, "0s", "critical",
        "Stage {{ .Labels.stage }} of run {{ .Labels.run }} was ended by a loss that is no number.",
        "Lower the learning rate (train.<stage>.learning_rate), or train in fp32 (train.precision).",
    ),
    Alert(
        "gamengen-disk", "A disk is nearly full", "max by (instance) (ray_node_disk_utilization_percentage)",
        90, "5m", "critical",
        "The disk of {{ .Labels.instance }} is more than 90 % full.",
        "Ray spills objects there and stops at 95 %. Delete old runs and logs, or give the machine a larger disk.",
    ),
)  # fmt: skip


def group() -> dict[str, Any]:
    """Return all rules as the group that Grafana's provisioning API takes."""
    placed = {"folderUID": FOLDER_UID, "ruleGroup": GROUP, "orgID": 1}
    rules = [alert.to_json() | placed for alert in ALERTS]
    return {"title": GROUP, "folderUid": FOLDER_UID, "interval": EVERY_SECONDS, "rules": rules}


def group_file() -> dict[str, Any]:
    """Return all rules as a provisioning file has them."""
    rules = [alert.to_json() for alert in ALERTS]
    one = {"orgId": 1, "name": GROUP, "folder": FOLDER, "interval": f"{EVERY_SECONDS}s", "rules": rules}
    return {"apiVersion": 1, "groups": [one]}
