"""A Grafana that is strict: the paths, credentials and bodies of its HTTP API as documented, and 404 for all else."""

from __future__ import annotations

import base64
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "glsa_of-the-stub"
USER, PASSWORD = "admin", "pass word"


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _need(body: dict[str, Any], required: set[str], optional: set[str] = frozenset()) -> None:
    if missing := required - set(body):
        raise Refused(400, f"bad request data: {sorted(missing)} missing")
    if unknown := set(body) - required - optional:
        raise Refused(400, f"bad request data: unknown {sorted(unknown)}")


class StubGrafana:
    """Holds what was put; `writes` are the requests that changed something, `stray` those that have no path."""

    def __init__(self) -> None:
        self.sources: dict[str, dict] = {}
        self.folders: dict[str, dict] = {}
        self.boards: dict[str, dict] = {}
        self.groups: dict[tuple[str, str], dict] = {}
        self.writes: list[str] = []
        self.stray: list[str] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                status, answer = stub.answer(self.command, self.path, self.headers, self._body())
                text = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _answer

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: Any, raw: bytes) -> tuple[int, Any]:
        basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if headers.get("Authorization") not in (f"Bearer {TOKEN}", f"Basic {basic}"):
            return 401, {"message": "Unauthorized"}
        for (verb, pattern), work in _ROUTES.items():
            found = re.fullmatch(pattern, path)
            if verb == method and found:
                try:
                    if method != "GET" and headers.get("Content-Type") != "application/json":
                        raise Refused(415, "unsupported media type")
                    body = json.loads(raw) if method != "GET" else None
                    status, answer = work(self, *found.groups(), *([] if body is None else [body]))
                except Refused as refused:
                    return refused.status, {"message": str(refused)}
                if method != "GET":
                    self.writes.append(f"{method} {path}")
                return status, answer
        self.stray.append(f"{method} {path}")
        return 404, {"message": "Not found"}

    def get_source(self, uid: str) -> tuple[int, Any]:
        return 200, _found(self.sources, uid, "Data source not found")

    def post_source(self, body: dict) -> tuple[int, Any]:
        _need(body, {"name", "type", "url", "access"}, {"uid", "isDefault", "jsonData", "secureJsonData", "basicAuth"})
        if body["access"] not in ("proxy", "direct"):
            raise Refused(400, "bad access")
        if body["uid"] in self.sources or body["name"] in [source["name"] for source in self.sources.values()]:
            raise Refused(409, "data source with the same name already exists")
        made = {"id": len(self.sources) + 1, "orgId": 1, "version": 1, "readOnly": False, "basicAuth": False, **body}
        self.sources[body["uid"]] = made
        return 200, {"id": made["id"], "name": body["name"], "message": "Datasource added", "datasource": made}

    def put_source(self, uid: str, body: dict) -> tuple[int, Any]:
        _need(body, {"name", "type", "url", "access"}, {"uid", "isDefault", "jsonData", "secureJsonData", "basicAuth"})
        old = _found(self.sources, uid, "Data source not found")
        self.sources[uid] = {**old, **body, "version": old["version"] + 1}
        return 200, {"message": "Datasource updated", "datasource": self.sources[uid]}

    def get_folder(self, uid: str) -> tuple[int, Any]:
        return 200, _found(self.folders, uid, "folder not found")

    def post_folder(self, body: dict) -> tuple[int, Any]:
        _need(body, {"title"}, {"uid", "parentUid"})
        if body["uid"] in self.folders:
            raise Refused(412, "a folder with the same uid already exists")
        self.folders[body["uid"]] = {"id": 7, "version": 1, "url": f"/dashboards/f/{body['uid']}", **body}
        return 200, self.folders[body["uid"]]

    def put_folder(self, uid: str, body: dict) -> tuple[int, Any]:
        _need(body, {"title"}, {"version", "overwrite"})
        old = _found(self.folders, uid, "folder not found")
        if not body.get("overwrite") and body.get("version") != old["version"]:
            raise Refused(412, "the folder has been changed by someone else")
        self.folders[uid] = {**old, "title": body["title"], "version": old["version"] + 1}
        return 200, self.folders[uid]

    def get_board(self, uid: str) -> tuple[int, Any]:
        return 200, _found(self.boards, uid, "Dashboard not found")

    def post_board(self, body: dict) -> tuple[int, Any]:
        _need(body, {"dashboard"}, {"folderUid", "message", "overwrite"})
        board = dict(body["dashboard"])
        if not board.get("title"):
            raise Refused(400, "Dashboard title cannot be empty")
        if board.get("id") is not None or not re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", board["uid"]):
            raise Refused(400, "bad id or uid")
        _found(self.folders, body["folderUid"], "folder not found")
        numbers = [panel["id"] for panel in board["panels"]]
        if len(set(numbers)) < len(numbers):
            raise Refused(400, "two panels have one id")
        old = self.boards.get(board["uid"])
        if old and not body.get("overwrite"):
            raise Refused(412, "The dashboard has been changed by someone else")
        board |= {"id": len(self.boards) + 10, "version": old["dashboard"]["version"] + 1 if old else 1}
        board["schemaVersion"] = 41  # a later Grafana brings what it is given up to its own
        meta = {"folderUid": body["folderUid"], "provisioned": False, "slug": "x", "version": board["version"]}
        self.boards[board["uid"]] = {"dashboard": board, "meta": meta}
        answer = {"id": board["id"], "uid": board["uid"], "status": "success", "version": board["version"]}
        return 200, answer | {"url": f"/d/{board['uid']}/x", "slug": "x"}

    def get_group(self, folder: str, name: str) -> tuple[int, Any]:
        return 200, _found(self.groups, (folder, name), "rule group not found")

    def put_group(self, folder: str, name: str, body: dict) -> tuple[int, Any]:
        _need(body, {"title", "folderUid", "interval", "rules"})
        _found(self.folders, folder, "folder not found")
        if (body["folderUid"], body["title"]) != (folder, name) or body["interval"] % 10:
            raise Refused(400, "the group is not the path's, or its interval no multiple of 10 s")
        rules = [self._rule(rule, folder, name) for rule in body["rules"]]
        if len({rule["uid"] for rule in rules}) < len(rules) or len({rule["title"] for rule in rules}) < len(rules):
            raise Refused(400, "two rules have one uid or title")
        self.groups[folder, name] = {**body, "rules": rules}
        return 200, self.groups[folder, name]

    def _rule(self, rule: dict, folder: str, name: str) -> dict:
        required = {
            "title",
            "ruleGroup",
            "folderUID",
            "orgID",
            "condition",
            "data",
            "noDataState",
            "execErrState",
            "for",
        }
        _need(rule, required, {"uid", "labels", "annotations", "isPaused"})
        if (rule["folderUID"], rule["ruleGroup"]) != (folder, name) or not re.fullmatch(r"\d+[smhd]", rule["for"]):
            raise Refused(400, "bad folderUID, ruleGroup or for")
        if rule["noDataState"] not in ("Alerting", "NoData", "OK") or rule["execErrState"] not in (
            "OK",
            "Alerting",
            "Error",
        ):
            raise Refused(400, "bad noDataState or execErrState")
        if rule["condition"] not in [query["refId"] for query in rule["data"]]:
            raise Refused(400, "invalid alert rule: no query is the condition")
        for query in rule["data"]:
            _need(query, {"refId", "datasourceUid", "model", "relativeTimeRange"}, {"queryType"})
            if query["datasourceUid"] not in (*self.sources, "__expr__") or query["model"]["refId"] != query["refId"]:
                raise Refused(400, "bad datasourceUid or refId")
        data = [{**query, "queryType": "", "model": {"intervalMs": 1000, **query["model"]}} for query in rule["data"]]
        return {"id": 3, "updated": "2026-01-01T00:00:00Z", "provenance": "api", **rule, "data": data}


def _found(things: dict, key: Any, message: str) -> Any:
    if key not in things:
        raise Refused(404, message)
    return things[key]


_UID = r"([a-zA-Z0-9_-]{1,40})"
_GROUP = rf"/api/v1/provisioning/folder/{_UID}/rule-groups/([^/]+)"
_ROUTES = {
    ("GET", rf"/api/datasources/uid/{_UID}"): StubGrafana.get_source,
    ("PUT", rf"/api/datasources/uid/{_UID}"): StubGrafana.put_source,
    ("POST", "/api/datasources"): StubGrafana.post_source,
    ("GET", rf"/api/folders/{_UID}"): StubGrafana.get_folder,
    ("PUT", rf"/api/folders/{_UID}"): StubGrafana.put_folder,
    ("POST", "/api/folders"): StubGrafana.post_folder,
    ("GET", rf"/api/dashboards/uid/{_UID}"): StubGrafana.get_board,
    ("POST", "/api/dashboards/db"): StubGrafana.post_board,
    ("GET", _GROUP): StubGrafana.get_group,
    ("PUT", _GROUP): StubGrafana.put_group,
}
