"""Makes Grafana's JSON of panels and dashboards out of a few words; knows no metric.

The JSON is that of Grafana's dashboard model, schema version 39 (Grafana 11); later versions bring it up to date.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

DATA_SOURCE = {"type": "prometheus", "uid": "gamengen-prometheus"}
_COLUMNS = 24
_HEIGHTS = {"stat": 4, "timeseries": 8, "heatmap": 8}
_PALETTE = {"mode": "palette-classic"}


@dataclass(frozen=True)
class Panel:
    """One picture: its queries, name in the legend -> PromQL.

    Attributes:
        unit: in Grafana's words, such as "s", "bytes", "percentunit", "short".
        kind: a curve, its last value as a number, or a histogram over time (one query of buckets, legend `{{le}}`).
        width: of 24 columns.
    """

    title: str
    description: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "heatmap"] = "timeseries"
    width: int = 12


@dataclass(frozen=True)
class Board:
    """One dashboard; panels fill its rows from the left.

    Attributes:
        choices: label -> the series of which its values are offered at the top, all of them chosen at first.
    """

    uid: str
    title: str
    description: str
    choices: dict[str, str]
    panels: Sequence[Panel]

    def to_json(self) -> dict[str, Any]:
        """Return what Grafana stores of a dashboard, without the id and version that it gives."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["gamengen"],
            "timezone": "browser",
            "schemaVersion": 39,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "editable": False,
            "graphTooltip": 1,
            "links": [_link()],
            "templating": {"list": [_choice(label, series) for label, series in self.choices.items()]},
            "annotations": {"list": []},
            "panels": _placed(self.panels),
        }


def _link() -> dict[str, Any]:
    """The other dashboards of ours, at the top."""
    return {"type": "dashboards", "title": "gamengen", "tags": ["gamengen"], "asDropdown": False, "keepTime": True}


def _choice(label: str, series: str) -> dict[str, Any]:
    query = f"label_values({series}, {label})"
    return {
        "type": "query",
        "name": label,
        "label": label,
        "datasource": DATA_SOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _placed(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Lay panels out row by row and number them."""
    placed, x, y, row = [], 0, 0, 0
    for number, panel in enumerate(panels, start=1):
        height = _HEIGHTS[panel.kind]
        if x + panel.width > _COLUMNS:
            x, y, row = 0, y + row, 0
        placed.append(_panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": height}))
        x, row = x + panel.width, max(row, height)
    return placed


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": DATA_SOURCE,
            "expr": expression,
            "legendFormat": legend,
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for index, (legend, expression) in enumerate(panel.queries.items())
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "color": _PALETTE}
    options: dict[str, Any] = {}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": {"lineWidth": 1, "fillOpacity": 10, "showPoints": "auto"}}
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    elif panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area", "colorMode": "value"}
    else:
        options = {"calculate": False, "yAxis": {"unit": panel.unit}, "color": {"scheme": "Blues", "mode": "scheme"}}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATA_SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
    }
