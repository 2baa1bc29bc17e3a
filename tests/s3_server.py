"""An S3 server that runs here (moto's), and in front of it, if wanted, one that fails requests as real ones do.

`python -m tests.s3_server` is the server alone, in a process of its own: moto answers one request after the other.
"""

from __future__ import annotations

import http.client
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"
KEY = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class S3:
    """A server with an empty bucket; `environment` is what a process needs to find it by `s3://bucket/...`."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "tests.s3_server", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self._made_bucket():
            assert self.process.poll() is None and time.monotonic() < deadline, "the S3 server did not come up"
            time.sleep(0.1)

    def _made_bucket(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("PUT", f"/{BUCKET}")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def environment(self, port: int | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return kept | KEY | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}"}

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


class Faulty:
    """Passes requests on to `port` and fails `share` of them: refused before they are done, done and the answer lost,
    or the answer cut off in its middle. `faults` counts them by kind, `requests` all.

    A multipart upload is completed by POST, which a server need not take twice: its answer is not lost.
    """

    def __init__(self, port: int, share: float, seed: int = 0) -> None:
        self.target, self.share, self.random = port, share, random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.requests, self.lock = 0, threading.Lock()
        handler = type("Handler", (_Handler,), {"faulty": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fault(self, verb: str) -> str:
        """Return what happens to the next request; "" for nothing."""
        with self.lock:
            self.requests += 1
            if self.random.random() >= self.share:
                return ""
            kinds = ["500", "503", "unanswered"] + ([] if verb == "POST" else ["lost"]) + ["cut"] * (verb == "GET")
            kind = self.random.choice(kinds)
            self.faults[kind] += 1
            return kind

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: Faulty

    def _pass(self) -> None:
        body = self._body()
        fault = self.faulty.fault(self.command)
        if fault in ("500", "503"):
            self._refuse(int(fault))
            return
        if fault == "unanswered":
            self._hang_up()
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.faulty.target, timeout=60)
        left_out = ("expect", "transfer-encoding", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in left_out}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        if fault == "lost" or (fault == "cut" and not data):
            self._hang_up()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            self._hang_up()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _refuse(self, status: int) -> None:
        code = "InternalError" if status == 500 else "SlowDown"
        data = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
    server.start()
    threading.Event().wait()
