"""The command `gamengen submit`: checks what a phase is given, submits it, and asks at Ctrl+C."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from gamengen import config as configs
from gamengen import submission
from gamengen.serve import protocol

logger = logging.getLogger(__name__)

PHASES = ("train_agent", "collect", "train", "encode", "evaluate", "serve", "benchmark")


def submit(phase: str, arguments: list[str], address: str | None, wait_seconds: float) -> dict[str, Any]:
    """Run a phase as a job of a Ray cluster, follow its log to its end and return its summary.

    The exit status is the job's own. `pipeline` is one job that submits every phase that is not done, in its order: it
    goes on when this machine is shut. The cluster must ask for a token (RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH).

    Raises:
        ValueError: a mistake in the command line or the config, no cluster, or one without a token; or a token for the
            players that would not reach the game.
        submission.PhaseFailed: the job failed; has its exit status.
        submission.LeftRunning: the user left the job at Ctrl+C.
    """
    if phase not in (*PHASES, "pipeline"):
        raise ValueError(f"unknown phase, got {phase!r}; expected one of {', '.join(PHASES)} or pipeline.")
    arguments = _check(phase, arguments)
    asks = sys.stdin.isatty()
    cluster = submission.Cluster(address, wait_seconds, token_required=True, on_interrupt=_ask if asks else None)
    if phase in ("serve", "pipeline"):
        cluster.check_inherited(protocol.TOKEN_VARIABLE)
    if phase == "pipeline":
        arguments = ["--wait", f"{wait_seconds:g}", *arguments]
    return cluster.run(phase, f"jobs.{phase}", arguments)


def _check(phase: str, arguments: list[str]) -> list[str]:
    """Find mistakes before anything is sent; return the arguments with the config as the job finds it."""
    parser = argparse.ArgumentParser(prog=f"gamengen submit {phase}", allow_abbrev=False)
    parser.add_argument("--config", required=True, help="a YAML of configs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    options = parser.parse_args(arguments)
    own = ("stage=", "parts=")  # of the jobs, not of the config
    configs.load(options.config, [override for override in options.overrides if not override.startswith(own)])
    packed, path = submission.working_dir(), Path(options.config).resolve()
    if not path.is_relative_to(packed):
        raise ValueError(
            f"--config, got {path}; expected a file in {packed}, which is what the job gets. Copy it there."
        )
    return ["--config", str(path.relative_to(packed)), *options.overrides]


def _ask(job: str) -> str:
    """Ask what becomes of a job: "stop", "leave" or "follow"."""
    answers = {"s": "stop", "l": "leave", "f": "follow"}
    while True:
        try:
            given = input(f"\nStop {job}, leave it running, or follow it further? [s/l/f] ").strip().lower()[:1]
        except EOFError:  # the terminal is gone; that is no reason to stop a job
            return "leave"
        if given in answers:
            return answers[given]
