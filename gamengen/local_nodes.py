"""A Ray cluster of several machines on this one, to lose some of them or to see what more of them bring.

Each node is a process tree of its own, with its own raylet, object store and address; they share the file system, as
machines share a storage.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gamengen import local_head

_STORE_BYTES = 200_000_000
_START_SECONDS = 240.0
_NICE = {"RAY_worker_niceness": "0"}  # not 15: on a busy machine, Ray's workers would starve beside everybody else
# A dead node is to be noticed in seconds, and on a busy machine a slow one must not be taken for dead.
_QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "10"}


class LocalNodes:
    """Starts nodes with `ray start`, kills one as a power cut would, and ends all of them.

    Attributes:
        nodes: their addresses, the head's first. An address tells a node from the others in the shards, and all of
            127.0.0.0/8 is this machine. For the head's, 127.0.0.1, Ray takes the machine's own.
        address: of the cluster, for RAY_ADDRESS.

    Args:
        cpus_per_node: logical ones; the head has as many, or `head_cpus`.
        environment: what the nodes' environment has more than this process's; if None, what makes Ray notice a dead
            node in seconds.
    """

    def __init__(
        self,
        count: int = 3,
        cpus_per_node: int = 3,
        head_cpus: int | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.nodes = [f"127.0.0.{number + 1}" for number in range(count)]
        self.address = ""
        self._cpus, self._head_cpus = cpus_per_node, cpus_per_node if head_cpus is None else head_cpus
        self._environment = _QUICK if environment is None else environment
        self._folder = tempfile.TemporaryDirectory(prefix="gg", dir="/tmp")  # short: Ray's sockets lie in it
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._head: tuple[str, ...] = ()

    def __enter__(self) -> LocalNodes:
        port, client, metrics = local_head.free_ports(3)
        self.address = f"{self.nodes[0]}:{port}"
        ports = (f"--port={port}", f"--ray-client-server-port={client}", f"--metrics-export-port={metrics}")
        self._head = ("--head", *ports, "--include-dashboard=false", "--no-monitor")
        try:
            self.restore()
        except BaseException:
            self.__exit__()
            raise
        return self

    def grow(self, count: int) -> None:
        """Add nodes until there are so many."""
        self.nodes += [f"127.0.0.{number + 1}" for number in range(len(self.nodes), count)]
        self.restore()

    def restore(self) -> None:
        """Start the nodes that are not there, the head first.

        A new head is a new cluster at the same address, and the nodes of the old one are of no use to it.
        """
        head, *others = self.nodes
        if not self.is_up(head):
            for node in others:
                if self.is_up(node):
                    self.kill(node)
            self._start_all([head], *self._head)
        self._start_all([node for node in others if not self.is_up(node)], f"--address={self.address}")

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
        for process in self._processes.values():
            local_head.wait_until_gone(process.pid, 2)
            local_head.send_signal(process.pid, local_head.session(process.pid), signal.SIGKILL)
            process.wait(10)
        self._folder.cleanup()

    def processes(self, word: str, node: str | None = None) -> list[int]:
        """Return the processes of a node, or of all, that have a word in their command line; Ray names its workers."""
        leaders = {self._processes[one].pid for one in ([node] if node else self._processes)}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has just ended
                if os.getsid(int(entry.name)) in leaders:  # with `ray start` they share a session
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if word in command:
                        found.append(int(entry.name))
        return found

    def kill(self, node: str) -> None:
        """Kill a node's raylet with SIGKILL (the head's GCS too), and wait until what it started has ended with it."""
        for pid in self.processes("/raylet/raylet", node) + self.processes("/gcs/gcs_server", node):
            os.kill(pid, signal.SIGKILL)
        self._processes[node].wait(30)
        local_head.wait_until_gone(self._processes[node].pid, 30)

    def is_up(self, node: str) -> bool:
        """Return whether what `ray start` started on a node still runs."""
        return node in self._processes and self._processes[node].poll() is None

    def _start_all(self, nodes: list[str], *arguments: str) -> None:
        """Start nodes side by side, again where a machine is so busy that Ray gives up after its half minute."""
        for _ in range(local_head.ATTEMPTS):
            for node in nodes:
                self._start(node, *arguments)
            nodes = [node for node in nodes if not self._comes_up(node)]
        if nodes:
            raise RuntimeError(f"node {nodes[0]} did not come up: {self._log(nodes[0]).read_text()}")

    def _start(self, node: str, *arguments: str) -> None:
        cpus = self._head_cpus if node == self.nodes[0] else self._cpus
        command = [
            *self.command(node),
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"),
            *(f"--node-ip-address={node}", f"--num-cpus={cpus}", f"--object-store-memory={_STORE_BYTES}"),
            *("--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"),
            *(f"--temp-dir={self._folder.name}/{node}", *arguments),
        ]
        environment = {**os.environ, **_NICE, **self._environment}
        with self._log(node).open("w") as log:
            self._processes[node] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def command(self, node: str) -> tuple[str, ...]:
        """Return what stands in front of a node's command, such as what puts it into a network of its own."""
        return ()

    def _comes_up(self, node: str) -> bool:
        process = self._processes[node]
        _wait_for(lambda: process.poll() is not None or "Ray runtime started" in self._log(node).read_text())
        return process.poll() is None

    def _log(self, node: str) -> Path:
        return Path(self._folder.name, f"{node}.log")


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no node came up within {_START_SECONDS:.0f} s")
        time.sleep(0.05)
