"""Puts data source, folder, dashboards and alerts into a running Grafana, and writes only what differs there."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from grafana_api.grafana_api import GrafanaClientError, GrafanaException
from grafana_api.grafana_face import GrafanaFace

from gamengen.dashboards import alerts
from gamengen.dashboards.boards import BOARDS
from gamengen.dashboards.panels import DATA_SOURCE

logger = logging.getLogger(__name__)

TOKEN, USER, PASSWORD = "GRAFANA_TOKEN", "GRAFANA_USER", "GRAFANA_PASSWORD"
_MIGRATED = {"schemaVersion"}  # Grafana brings it up to its own


def push(url: str, prometheus_url: str) -> dict[str, Any]:
    """Create or update all that we have in a Grafana; run again, it writes nothing.

    Who we are is said by the environment: GRAFANA_TOKEN (of a service account that may edit), or GRAFANA_USER and
    GRAFANA_PASSWORD; each may also be a file's path in GRAFANA_TOKEN_FILE or GRAFANA_PASSWORD_FILE.

    Args:
        prometheus_url: where Grafana, not this process, finds Prometheus.

    Raises:
        ValueError: no or not accepted credentials, no Grafana there, or one that refuses what we ask; says which.
    """
    grafana = _connect(url)
    try:
        written = [
            *_put_data_source(grafana, data_source(prometheus_url)),
            *_put_folder(grafana),
            *(name for board in BOARDS for name in _put_board(grafana, board.to_json())),
            *_put_alerts(grafana, alerts.group()),
        ]
    except GrafanaException as error:
        raise ValueError(
            f"Grafana at {url} refused: {error.message}. The token's service account must be an Admin, as data sources "
            "are an administrator's; what was provisioned from files is changed in files."
        ) from error
    except requests.RequestException as error:
        raise ValueError(
            f"no Grafana answers at {url}: {type(error).__name__}. Is it up, and is this its URL?"
        ) from error
    return {"url": url, "written": written, "dashboards": [board.uid for board in BOARDS]}


def data_source(prometheus_url: str) -> dict[str, Any]:
    """Return our Prometheus as Grafana's API and its provisioning files take it."""
    return {
        "uid": DATA_SOURCE["uid"],
        "name": "gamengen",
        "type": DATA_SOURCE["type"],
        "access": "proxy",
        "url": prometheus_url,
        "isDefault": False,
        "jsonData": {"httpMethod": "POST", "timeInterval": "10s"},
    }


def holds(found: Any, wanted: Any) -> bool:
    """Whether all that is wanted is found; what Grafana adds of its own (ids, versions, defaults) does not matter."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            key in _MIGRATED or (key in found and holds(found[key], value)) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return found == wanted


def _connect(url: str) -> GrafanaFace:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError(f"Grafana's URL, got {url!r}; expected one such as http://127.0.0.1:3000, without a password.")
    prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return GrafanaFace(_who(), host=host, port=parts.port, protocol=parts.scheme, url_path_prefix=prefix, timeout=10.0)


def _who() -> str | tuple[str, str]:
    token, user, password = _secret(TOKEN), os.environ.get(USER), _secret(PASSWORD)
    if token:
        return token
    if user and password:
        return user, password
    raise ValueError(
        f"nothing says who we are to Grafana; expected {TOKEN} (or {TOKEN}_FILE), or {USER} and {PASSWORD} "
        f"(or {PASSWORD}_FILE) in the environment. Make a service account in Grafana and give its token."
    )


def _secret(name: str) -> str:
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "").strip()
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ValueError(f"{name}_FILE, got {path}, which cannot be read: {error.strerror}.") from None


def _get(grafana: GrafanaFace, path: str) -> Any:
    """Return what is there, None where nothing is. By path, as grafana-api asks for some things by numbers of old."""
    try:
        return grafana.api.GET(path)
    except GrafanaClientError as error:
        if error.status_code == 404:
            return None
        raise


def _put_data_source(grafana: GrafanaFace, wanted: dict[str, Any]) -> list[str]:
    path = f"/datasources/uid/{wanted['uid']}"
    found = _get(grafana, path)
    if found is None:
        grafana.datasource.create_datasource(wanted)
    elif holds(found, wanted):
        return []
    else:
        grafana.api.PUT(path, json=wanted)
    return ["data source"]


def _put_folder(grafana: GrafanaFace) -> list[str]:
    found = _get(grafana, f"/folders/{alerts.FOLDER_UID}")
    if found is None:
        grafana.folder.create_folder(alerts.FOLDER, uid=alerts.FOLDER_UID)
    elif found["title"] == alerts.FOLDER:
        return []
    else:
        grafana.folder.update_folder(alerts.FOLDER_UID, alerts.FOLDER, version=found["version"])
    return ["folder"]


def _put_board(grafana: GrafanaFace, wanted: dict[str, Any]) -> list[str]:
    found = _get(grafana, f"/dashboards/uid/{wanted['uid']}")
    if found and found["meta"].get("folderUid") == alerts.FOLDER_UID and holds(found["dashboard"], wanted):
        return []
    message = "gamengen: jobs.dashboards"
    body = {"dashboard": {**wanted, "id": None}, "folderUid": alerts.FOLDER_UID, "message": message, "overwrite": True}
    grafana.dashboard.update_dashboard(body)
    return [wanted["uid"]]


def _put_alerts(grafana: GrafanaFace, wanted: dict[str, Any]) -> list[str]:
    path = f"/v1/provisioning/folder/{wanted['folderUid']}/rule-groups/{wanted['title']}"
    if holds(_get(grafana, path), wanted):
        return []
    grafana.api.PUT(path, json=wanted)  # the whole group: a rule that we no longer have goes
    return ["alerts"]
