"""A hub that runs here: the part of Hugging Face's HTTP API by which repositories are written and read, and no more.

It is strict: whatever is not of that part, or has no token, the wrong checksum or a malformed body, is an error, and
`refused` has a line of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_of-this-test"
_REPO = r"(?P<name>[\w.-]+/[\w.-]+)"
_KIND = r"(?P<kind>models|datasets)"


class Hub:
    """Repositories in memory: `repos["models", "me/dino"]` is a dict of path -> bytes."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: dict[tuple[str, str], bool] = {}
        self.large: dict[str, bytes] = {}  # by sha256: what came beside the commits
        self.refused: list[str] = []
        hub = self
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def sha(self, kind: str, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.repos[kind, name].items())).encode()).hexdigest()

    def create(self, body: dict[str, Any], **_: str) -> tuple[int, Any]:
        kind, name = f"{body.get('type', 'model')}s", f"{body['organization']}/{body['name']}"
        exists = (kind, name) in self.repos
        self.repos.setdefault((kind, name), {})
        self.private.setdefault((kind, name), body.get("private", body.get("visibility") == "private"))
        url = f"{self.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
        return (409 if exists else 200), {"url": url, "name": name, "id": name}

    def preupload(self, body: dict[str, Any], kind: str, name: str) -> tuple[int, Any]:
        self.repos[kind, name]
        modes = []
        for file in body["files"]:
            assert len(base64.b64decode(file["sample"])) == min(file["size"], 512)
            is_text = file["path"].endswith((".json", ".md"))
            mode = "regular" if is_text else "lfs"
            modes.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        return 200, {"files": modes}

    def batch(self, body: dict[str, Any], name: str, **_: str) -> tuple[int, Any]:
        assert body["operation"] == "upload" and body["hash_algo"] == "sha256"
        objects = []
        for one in body["objects"]:
            assert re.fullmatch(r"[0-9a-f]{64}", one["oid"])
            upload = {"href": f"{self.url}/upload/{one['oid']}", "header": {}}
            objects.append({**one, "authenticated": True, "actions": {"upload": upload}})
        return 200, {"transfer": "basic", "objects": objects}

    def upload(self, body: bytes, oid: str) -> tuple[int, Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.large[oid] = body
        return 200, {}

    def commit(self, body: bytes, kind: str, name: str) -> tuple[int, Any]:
        files = self.repos[kind, name]
        header, *operations = [json.loads(line) for line in body.splitlines()]
        assert header["key"] == "header" and header["value"]["summary"]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"], validate=True)
            else:
                assert operation["key"] == "lfsFile" and value["algo"] == "sha256"
                files[value["path"]] = self.large[value["oid"]]
                assert len(files[value["path"]]) == value["size"]
        return 200, {"success": True, "commitUrl": f"{self.url}/{name}/commit/1", "commitOid": self.sha(kind, name)}

    def info(self, kind: str, name: str, revision: str) -> tuple[int, Any]:
        if revision not in ("main", self.sha(kind, name)):
            return 404, {"error": "no such revision"}
        return 200, {"id": name, "modelId": name, "sha": self.sha(kind, name), "siblings": [], "tags": []}

    def tree(self, kind: str, name: str, revision: str) -> tuple[int, Any]:
        assert revision == self.sha(kind, name)
        entries = []
        for path, data in self.repos[kind, name].items():
            entry = {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            if not path.endswith((".json", ".md")):
                large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                entry["lfs"] = large
            entries.append(entry)
        return 200, entries

    def resolve(self, name: str, revision: str, path: str) -> tuple[int, Any]:
        assert revision == self.sha("models", name)
        return 200, self.repos["models", name][path]

    def validate(self, body: dict[str, Any]) -> tuple[int, Any]:
        """The hub refuses cards whose metadata it does not understand."""
        front = yaml.safe_load(body["content"].split("---")[1])
        assert isinstance(front["tags"], list) and front.get("license", "mit") in ("mit", "bsd-3-clause", "other")
        return 200, {"errors": [], "warnings": []}


ROUTES = (
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", rf"/api/{_KIND}/{_REPO}/preupload/main", "preupload"),
    ("POST", rf"/(datasets/)?{_REPO}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/upload/(?P<oid>\w+)", "upload"),
    ("POST", rf"/api/{_KIND}/{_REPO}/commit/main", "commit"),
    ("GET", rf"/api/{_KIND}/{_REPO}/revision/(?P<revision>\w+)", "info"),
    ("GET", rf"/api/{_KIND}/{_REPO}/tree/(?P<revision>\w+)", "tree"),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>\w+)/(?P<path>.+)", "resolve"),
)


class _Handler(BaseHTTPRequestHandler):
    """Finds the route of a request and sends what it gives."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        verb = "GET" if self.command == "HEAD" else self.command
        try:
            status, answer = self._answer(verb, self.path.partition("?")[0], body)
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
        if status >= 400 and status != 409 and not self.path.startswith("/api/agent-"):  # the client does without
            self.hub.refused.append(f"{self.command} {self.path}: {status} {answer}")
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(answer, bytes) else "application/json"
        )
        self.send_header("Content-Length", str(len(data)))
        if isinstance(answer, bytes):
            self.send_header("ETag", f'"{hashlib.sha1(answer).hexdigest()}"')
            self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _answer(self, verb: str, path: str, body: bytes) -> tuple[int, Any]:
        for method, pattern, name in ROUTES:
            if method != verb or not (found := re.fullmatch(pattern, path)):
                continue
            groups = found.groupdict()
            needs_token = verb != "GET" and name != "upload"  # an upload's address is its own secret
            if needs_token and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return 401, {"error": "Invalid username or password."}
            repo = (groups.get("kind", "models"), groups.get("name"))
            if repo[1] and name != "batch" and repo not in self.hub.repos:
                return 404, {"error": "Repository not found"}
            given = {} if verb == "GET" else {"body": body if name in ("upload", "commit") else json.loads(body)}
            return getattr(self.hub, name)(**given, **groups)
        return 501, {"error": "not a part of the API that is played here"}

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def log_message(self, *_: object) -> None:
        pass
