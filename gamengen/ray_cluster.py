"""Finds the Ray cluster that a phase runs on, or starts a small local one."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

import ray

from gamengen import ray_token

logger = logging.getLogger(__name__)

# More logical CPUs than a small machine has cores: a Ray Data pipeline needs one for each of its operators, and on two
# it would wait for ever (all our operators are mostly idle, so the cores are not oversubscribed).
LOCAL_LOGICAL_CPUS = 8


def connect() -> bool:
    """Connect this process to Ray; returns True if it had to start a local cluster for itself.

    Inside `ray job submit`, and wherever `RAY_ADDRESS` is set, that cluster is used. Otherwise a local one is started
    that ends with this process; it asks for a token of its own, unless RAY_AUTH_MODE says what it shall do.
    """
    if ray.is_initialized():
        return False
    quiet = {"configure_logging": True, "logging_level": logging.WARNING, "log_to_driver": True}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return False
    if not os.environ.get("RAY_AUTH_MODE"):
        _protect()
    cpus = max(LOCAL_LOGICAL_CPUS, os.cpu_count() or 1)
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    return True


def _protect() -> None:
    """Give the Ray that this process starts a new token: Ray's ports listen on the machine's network address."""
    folder = Path(tempfile.mkdtemp(prefix="gamengen-token-"))  # nobody else may enter
    ray_token.write(folder / "token")
    os.environ.pop("RAY_AUTH_TOKEN", None)  # of another cluster, and it would come before the file
    ray_token.use(str(folder / "token"))
    atexit.register(_end, folder)


def _end(folder: Path) -> None:
    ray.shutdown()  # first: what it still starts reads the token
    shutil.rmtree(folder, ignore_errors=True)
