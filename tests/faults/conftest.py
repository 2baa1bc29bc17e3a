"""One cluster of three machines for all tests of faults, and what they measure."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gamengen.local_nodes import LocalNodes
from tests.collect.conftest import overrides  # noqa: F401, a fixture
from tests.conftest import QUICKSTART


@pytest.fixture(scope="package")
def cluster_of_three() -> Iterator[LocalNodes]:
    with LocalNodes() as nodes:
        yield nodes


@pytest.fixture
def nodes(cluster_of_three: LocalNodes) -> LocalNodes:
    """The cluster of three machines, with those that a test before has killed back in it."""
    cluster_of_three.restore()
    return cluster_of_three


@pytest.fixture(scope="package")
def cluster_with_a_plain_head() -> Iterator[LocalNodes]:
    """Two machines that work and a head that does not, as in the files of cluster/."""
    with LocalNodes(head_cpus=0) as nodes:
        yield nodes


@pytest.fixture
def nodes_that_work(cluster_with_a_plain_head: LocalNodes) -> LocalNodes:
    """As `nodes`, of the cluster whose head does no work."""
    cluster_with_a_plain_head.restore()
    return cluster_with_a_plain_head


@pytest.fixture
def recovered(record_property: Callable[[str, object], None]) -> Callable[[float], None]:
    """Return a function that notes how long ago a fault was: for the table in cluster/README.md (`pytest -s`)."""

    def note(since: float) -> None:
        seconds = round(time.monotonic() - since, 1)
        record_property("seconds_to_recover", seconds)
        print(f"recovered {seconds} s after the fault")

    return note


class Job:
    """A job's driver on a cluster, as a process of this machine; killed at the end of a `with` where it still runs."""

    def __init__(self, phase: str, settings: list[str], nodes: LocalNodes) -> None:
        command = [sys.executable, "-m", f"jobs.{phase}", "--config", str(QUICKSTART), *settings]
        environment = {**os.environ, "RAY_ADDRESS": nodes.address}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115, it is closed with the job
        self.process = subprocess.Popen(
            [*nodes.command(nodes.nodes[0]), *command],
            env=environment,
            cwd=QUICKSTART.parents[1],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def ends(self, seconds: float = 500) -> tuple[int, str]:
        """Wait for its end; returns its exit status and what it said."""
        status = self.process.wait(seconds)
        self._log.seek(0)
        return status, self._log.read()


def holders(pids: list[int], folder: str) -> dict[int, Path]:
    """Return which of some processes have a file open below a folder."""
    found = {}
    for pid in pids:
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                name = os.readlink(link)
                if name.startswith(f"{folder}/"):
                    found[pid] = Path(name)
        except OSError:  # it has just ended, or closed the file
            continue
    return found
