"""Finds the Ray cluster that a phase runs on, or starts a small local one."""

from __future__ import annotations

import logging
import os

import ray

logger = logging.getLogger(__name__)

# More logical CPUs than a small machine has cores: a Ray Data pipeline needs one for each of its operators, and on two
# it would wait for ever (all our operators are mostly idle, so the cores are not oversubscribed).
LOCAL_LOGICAL_CPUS = 8


def connect() -> bool:
    """Connect this process to Ray; returns True if it had to start a local cluster for itself.

    Inside `ray job submit`, and wherever `RAY_ADDRESS` is set, that cluster is used. Otherwise a local one is started
    that ends with this process.
    """
    if ray.is_initialized():
        return False
    quiet = {"configure_logging": True, "logging_level": logging.WARNING, "log_to_driver": True}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return False
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a private cluster on the loopback address, gone with us
    cpus = max(LOCAL_LOGICAL_CPUS, os.cpu_count() or 1)
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
    return True
