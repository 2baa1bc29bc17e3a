"""Submits one job after the other to a Ray cluster and stays with each until it has ended; knows no phases."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from gamengen import local_head

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).resolve().parents[1]
START_SECONDS = 120.0
_NOT_UPLOADED = [".git", ".venv", ".ray", "runs", "build", "tests", "*.egg-info", "__pycache__", "gamengen/weights"]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ACTOR = re.compile(r"^\((?P<name>[\w:.]+)(?: pid=[^)]*)?\) ?")  # who of Ray's processes says it
_RAY_ACTORS = ("TrainController", "PlacementGroupCleaner", "raylet", "autoscaler", "ServeController", "ProxyActor")
_NOISE = re.compile(
    r"^\s|^$|^\{.*\}$|^Traceback|core_worker|TORCH_NCCL|RAY_[A-Z_]*=|Warning: |warnings\.warn|Install gputil|"
    r"new API stack|worker_pool\.cc|_private/worker\.py|Using blocking ray|object_store|Setting up process group|"
    r"INFO (worker|job_manager|packaging|streaming_executor|dataset|logging|plan|exchange)|ray-data|rllib_module|"
    r"Running entrypoint for"
)
_WANTED = re.compile(r"No available node types")
_ERROR = re.compile(r"^(?:error: |(?:[\w.]+\.)?\w*(?:Error|Exception)\b: ?)(?P<text>.*)")


class PhaseFailed(Exception):
    """A job that did not end well: its exit status and one line of reason."""

    def __init__(self, name: str, exit_code: int, reason: str) -> None:
        super().__init__(f"{name} failed (exit status {exit_code}): {reason}")
        self.exit_code = exit_code


class Cluster:
    """Where jobs are submitted: the cluster of RAY_ADDRESS or RAY_API_SERVER_ADDRESS, or this checkout's own head."""

    def __init__(self, address: str | None = None, start_seconds: float = START_SECONDS) -> None:
        given = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
        if not given:
            os.environ["RAY_AUTH_MODE"] = "disabled"  # as our own head, which listens for this machine alone
            given = local_head.start().dashboard
        self.client = _client(given)
        self.address = self.client.get_address()
        self.start_seconds = start_seconds

    def run(self, name: str, module: str, arguments: list[str], log: Path | None) -> None:
        """Run `python -m <module> <arguments>` as a job and log what it says; `log` gets all of it.

        Ctrl+C and SIGTERM stop the job, then this process.

        Raises:
            PhaseFailed: it did not succeed, or did not begin in time.
        """
        command = shlex.join(["-m", module, *arguments])
        python = shlex.quote(sys.executable)  # of this environment, if the cluster's machines have it too
        entrypoint = f"python={python}; [ -x $python ] || python=python; exec $python {command}"
        job = f"gamengen-{name}-{uuid.uuid4().hex[:12]}"
        previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        follower = _Follower(name, log)
        try:
            self._submit(job, name, entrypoint)
            info = self._follow(job, follower)
        except BaseException:
            self._stop(job)
            raise
        finally:
            follower.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if info.status != JobStatus.SUCCEEDED:
            code = info.driver_exit_code or 1
            lines = (info.message or "no reason given").strip().splitlines()
            where = f" All that it said is in {log}." if log else ""
            raise PhaseFailed(name, code, (follower.error or lines[-1]) + where)

    def _submit(self, job: str, name: str, entrypoint: str) -> None:
        """Submit; a head that has just come up may need a while until it has an agent that takes jobs."""
        deadline = time.monotonic() + self.start_seconds
        while True:
            try:
                runtime_env: dict[str, Any] = {"working_dir": str(SOURCE), "excludes": _NOT_UPLOADED}
                self.client.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=runtime_env)
                return
            except (RuntimeError, ConnectionError) as error:
                if "already exists" in str(error):  # the answer to an earlier try was lost
                    return
                if time.monotonic() > deadline:
                    raise PhaseFailed(name, 1, f"{self.address} does not take the job: {error}") from None
            time.sleep(1)

    def _follow(self, job: str, follower: _Follower) -> JobDetails:
        """Stay with a job until it has ended."""
        deadline, failures = time.monotonic() + self.start_seconds, 0
        while True:
            try:
                info = self.client.get_job_info(job)
                text = self.client.get_job_logs(job) if info.status != JobStatus.PENDING else ""
                failures = 0
            except (RuntimeError, ConnectionError) as error:
                failures += 1
                if failures > 20:
                    raise PhaseFailed(follower.name, 1, f"{self.address} no longer answers: {error}") from None
                time.sleep(1)
                continue
            follower.take(text)
            if info.status.is_terminal():
                return info
            if info.status == JobStatus.PENDING and time.monotonic() > deadline:
                waits = " ".join((info.message or "").split()) or "nothing said why"
                raise PhaseFailed(follower.name, 1, f"not begun after {self.start_seconds:.0f} s: {waits}")
            time.sleep(max(0.5, len(text) / 2e6))  # the whole log comes each time

    def _stop(self, job: str) -> None:
        try:
            self.client.stop_job(job)
            deadline = time.monotonic() + 15
            while not self.client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
                time.sleep(0.3)
        except (RuntimeError, ConnectionError):
            logger.warning("could not stop job %s; ray job stop %s ends it", job, job)


def _client(address: str) -> JobSubmissionClient:
    """Connect; a busy head may not answer the first time."""
    for attempt in range(3):
        try:
            return JobSubmissionClient(address)
        except (ConnectionError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
        time.sleep(2 * attempt)
    raise ValueError(f"no Ray takes jobs at {address}: {reason} Start it, or unset RAY_ADDRESS.")


class _Follower:
    """Shows the new lines of a growing log, without Ray's noise, and writes all of them to a file."""

    def __init__(self, name: str, log: Path | None) -> None:
        self.name, self.error, self._length = name, "", 0
        self._file: TextIO | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._file = log.open("w")

    def take(self, text: str) -> None:
        """Take the whole log as it is now; an unfinished last line waits."""
        end = text.rfind("\n") + 1
        new, self._length = text[self._length : end], max(self._length, end)
        for line in new.splitlines():
            self._show(_COLOUR.sub("", line))
        if self._file is not None and new:
            self._file.write(new)
            self._file.flush()

    def _show(self, line: str) -> None:
        actor = _ACTOR.match(line)
        text = line[actor.end() :] if actor else line
        if found := _ERROR.match(text):
            self.error = found["text"] or text
        by_ray = actor is not None and actor["name"] in _RAY_ACTORS
        if _WANTED.search(text) or not (by_ray or _NOISE.search(text)):
            logger.info("[%s] %s", self.name, text)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
