"""A network that is cut for ten seconds between machines with networks of their own, while play is collected."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from gamengen.local_nodes import LocalNodes
from tests.collect.conftest import committed
from tests.conftest import wait_for
from tests.faults.conftest import Job
from tests.faults.test_collection import PACED, assert_all_there, load, players

CUT_SECONDS = 10

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make networks"),
]


class Network:
    """A bridge with one address for the head, and a network namespace for each of the other nodes."""

    def __init__(self, count: int) -> None:
        number = os.getpid() % 250
        self.addresses = [f"10.77.{number}.{place + 1}" for place in range(count)]
        self._bridge = f"ggb{number}"
        self._spaces = {address: f"gg{number}n{place}" for place, address in enumerate(self.addresses) if place}

    def __enter__(self) -> Network:
        try:
            _ip("link", "add", self._bridge, "type", "bridge")
            _ip("address", "add", f"{self.addresses[0]}/24", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for address, space in self._spaces.items():
                _ip("netns", "add", space)
                _ip("link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space)
                _ip("link", "set", space, "master", self._bridge, "up")
                _ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
                for device in ("lo", "eth0"):
                    _ip("-n", space, "link", "set", device, "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for what in [("netns", "delete", space) for space in self._spaces.values()] + [("link", "del", self._bridge)]:
            subprocess.run(["ip", *what], capture_output=True)  # what was not made need not go

    def inside(self, address: str) -> tuple[str, ...]:
        """Return what puts a command into a node's network."""
        return ("ip", "netns", "exec", self._spaces[address]) if address in self._spaces else ()

    @contextlib.contextmanager
    def cut(self, address: str) -> Iterator[None]:
        """Take a node off the network."""
        _ip("link", "set", self._spaces[address], "down")
        try:
            yield
        finally:
            _ip("link", "set", self._spaces[address], "up")


class NamespacedNodes(LocalNodes):
    """Nodes that only see each other over a network; with the patience that Ray has by default."""

    def __init__(self, network: Network) -> None:
        super().__init__(environment={})
        self.nodes = list(network.addresses)
        self._network = network

    def command(self, node: str) -> tuple[str, ...]:
        return self._network.inside(node)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _answers(address: str) -> bool:
    """Return whether a machine says at least that nobody listens there."""
    try:
        socket.create_connection((address, 9), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        with Network(3) as made:
            yield made
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        pytest.skip(f"no networks can be made here: {error}")


def test_a_network_that_is_cut_for_ten_seconds(network, overrides, recovered):
    settings, config, num_items = load(overrides, [*PACED, "collect.num_frames=8000"])
    with NamespacedNodes(network) as nodes, Job("collect", settings, nodes) as job:
        wait_for(lambda: committed(config.folder) >= 4 and len(players(nodes)) == 4)
        assert _answers(nodes.nodes[1])
        with network.cut(nodes.nodes[1]):
            assert not _answers(nodes.nodes[1])
            begun = committed(config.folder)
            time.sleep(CUT_SECONDS)
            meanwhile = committed(config.folder) - begun
        mended, begun = time.monotonic(), committed(config.folder)
        assert _answers(nodes.nodes[1]) and begun < num_items
        wait_for(lambda: committed(config.folder) >= min(begun + 4, num_items))
        recovered(mended)
        print(
            f"{meanwhile} items were reported during the cut; nodes up: {[nodes.is_up(node) for node in nodes.nodes]}"
        )
        status, said = job.ends()
    assert status == 0, said
    assert_all_there(config, num_items)
