"""A Ray cluster of several machines on this one: a head and nodes, each a process tree with its own address."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from gamengen import local_head
from tests.collect.conftest import wait_for

# A node's address tells it from the others in the shards, and all of 127.0.0.0/8 is this machine. The head's is not
# known before: what is given as 127.0.0.1 Ray replaces by the machine's own.
HEAD, *OTHERS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
CPUS_PER_NODE = 3
_STORE_BYTES = 200_000_000


class Nodes:
    """Starts nodes with `ray start`, kills one as a power cut would, and ends all of them.

    Attributes:
        address: of the cluster, for RAY_ADDRESS.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="gg", dir="/tmp")  # short: Ray's sockets lie in it
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def __enter__(self) -> Nodes:
        port, client, metrics = local_head._free_ports(3)
        self.address = f"{HEAD}:{port}"
        head = (
            "--head",
            f"--port={port}",
            f"--ray-client-server-port={client}",
            "--include-dashboard=false",
            "--no-monitor",
        )
        try:
            self._start_all([HEAD], *head, f"--metrics-export-port={metrics}")
            self.restore()
        except BaseException:
            self.__exit__()
            raise
        return self

    def restore(self) -> None:
        """Start the nodes that are not there."""
        missing = [node for node in OTHERS if node not in self._processes or self._processes[node].poll() is not None]
        self._start_all(missing, f"--address={self.address}")

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            local_head._wait_until_gone(process.pid, 2)
            local_head._signal(process.pid, local_head._session(process.pid), signal.SIGKILL)
            process.wait(10)
        self._folder.cleanup()

    def pids(self, node: str, name: str) -> list[int]:
        """Return a node's processes of a name; with `ray start` they share a session."""
        found = []
        for pid in local_head._session(self._processes[node].pid):
            with contextlib.suppress(OSError):  # it has just ended
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    found.append(pid)
        return found

    def kill(self, node: str) -> None:
        """Kill a node's raylet with SIGKILL, and wait until what it started has ended with it."""
        (raylet,) = self.pids(node, "raylet")
        os.kill(raylet, signal.SIGKILL)
        self._processes[node].wait(30)

    def _start_all(self, nodes: list[str], *arguments: str) -> None:
        """Start nodes side by side, again where a machine is so busy that Ray gives up after its half minute."""
        for _ in range(local_head.ATTEMPTS):
            for node in nodes:
                self._start(node, *arguments)
            nodes = [node for node in nodes if not self._comes_up(node)]
        assert not nodes, self._log(nodes[0]).read_text()

    def _start(self, node: str, *arguments: str) -> None:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
            *(f"--node-ip-address={node}", f"--num-cpus={CPUS_PER_NODE}", f"--object-store-memory={_STORE_BYTES}"),
            *(
                "--min-worker-port=0",
                "--max-worker-port=0",
                "--include-log-monitor=false",
                f"--temp-dir={self._folder.name}/{node}",
                *arguments,
            ),
        ]
        # A dead node is to be noticed in seconds, and on a busy machine a slow one must not be taken for dead.
        quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "10"}
        with self._log(node).open("w") as log:
            self._processes[node] = subprocess.Popen(
                command, env={**os.environ, **quick}, stdout=log, stderr=log, start_new_session=True
            )

    def _comes_up(self, node: str) -> bool:
        process = self._processes[node]
        wait_for(lambda: process.poll() is not None or "Ray runtime started" in self._log(node).read_text())
        return process.poll() is None

    def _log(self, node: str) -> Path:
        return Path(self._folder.name, f"{node}.log")
