"""Submits one job after the other to a Ray cluster and stays with each until it has ended; knows no phases."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import requests
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from gamengen import job_needs, local_head, ray_token
from gamengen.job_log import Follower

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).resolve().parents[1]
START_SECONDS = 120.0  # until a head that has just come up takes jobs
WAIT_SECONDS = 600.0  # until a job has what it needs: time for a cluster to start machines
_NEEDS_EVERY = 5.0  # seconds
_STARTS_WITHIN = 20.0  # seconds that a worker may take to start, in which it waits as if its place were not free
_NO_ANSWER = (RuntimeError, ConnectionError, requests.RequestException)  # what Ray's client lets through is the last
_IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray gives every job that is submitted, and nothing else
_NOT_UPLOADED = [".git", ".venv", ".ray", "runs", "build", "dist", "tests", "*.egg-info", "__pycache__"]
_NOT_UPLOADED += ["*.mp4", "gamengen/weights"]


class PhaseFailed(Exception):
    """A job that did not end well: its exit status and one line of reason."""

    def __init__(self, name: str, exit_code: int, reason: str) -> None:
        super().__init__(f"{name} failed (exit status {exit_code}): {reason}")
        self.exit_code = exit_code


class LeftRunning(Exception):
    """Nobody follows the job any longer; it goes on."""


class Cluster:
    """Where jobs are submitted: the cluster of RAY_ADDRESS or RAY_API_SERVER_ADDRESS, or this checkout's own head.

    Attributes:
        is_own: it is this checkout's head on this machine.
        wait_seconds: how long a job may wait for resources before it is stopped.
        on_interrupt: asked at Ctrl+C with the job's id: "stop", "leave" or "follow"; without it, the job is stopped.

    Raises:
        ValueError: no Ray there, no token or a wrong one; with `token_required`, also a cluster that asks for none.
    """

    def __init__(
        self,
        address: str | None = None,
        wait_seconds: float = WAIT_SECONDS,
        token_required: bool = False,
        on_interrupt: Callable[[str], str] | None = None,
    ) -> None:
        given = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
        self.is_own = not given
        self._environment = dict(os.environ) if _IN_A_JOB in os.environ else {}  # the jobs', as far as it is known
        if given is None or self.is_own:
            os.environ["no_proxy"] = local_head.no_proxy()
            before, head = local_head.running(), local_head.start()
            given, self._headers = head.dashboard, head.headers()
            self._environment = local_head.environment(head) if head == before else dict(os.environ)
        elif given.startswith(("http://", "https://")):
            self._headers = ray_token.headers(given, token_required)
        else:  # Ray's own address, as inside a job, where the environment has the token
            token = ray_token.find() if os.environ.get("RAY_AUTH_MODE") == "token" else ""
            self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = _client(given, self._headers)
        self.address = self.client.get_address()
        self.wait_seconds, self.on_interrupt = wait_seconds, on_interrupt

    def check_inherited(self, name: str) -> None:
        """Check that a variable of this process's environment is one of the jobs' too, which have the head's.

        Raises:
            ValueError: it is set here, and the jobs have another value, or none, or may have none.
        """
        value = os.environ.get(name)
        if not value or self._environment.get(name) == value:
            return
        what_to_do = "End it first: make stop." if self.is_own else "Unset it here (Kubernetes has it from a Secret)."
        raise ValueError(
            f"{name} is set here and does not travel to a job; set it where the head of {self.address} is started, "
            f"whose environment jobs have. {what_to_do}"
        )

    def run(self, name: str, module: str, arguments: list[str], log: Path | None = None) -> dict[str, Any]:
        """Run `python -m <module> <arguments>` as a job, log what it says and return the summary that it ends with.

        SIGTERM, and Ctrl+C where nobody is asked, stop the job, then this process.

        Args:
            name: of the phase, in front of every line.
            log: a file for all that the job says.

        Raises:
            PhaseFailed: it did not succeed, did not begin in time, or waited too long for what it needs.
            LeftRunning: the user said so at Ctrl+C.
        """
        command = shlex.join(["-m", module, *arguments])
        python = shlex.quote(sys.executable)  # of this environment, if the cluster's machines have it too
        entrypoint = f"python={python}; [ -x $python ] || python=python; exec $python {command}"
        job = f"gamengen-{name}-{uuid.uuid4().hex[:12]}"
        previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        follower = Follower(name, log)
        try:
            self._submit(job, name, entrypoint)
            info = self._stay(job, follower)
        finally:
            follower.close()
            for number, handler in previous.items():
                signal.signal(number, handler)
        if info.status != JobStatus.SUCCEEDED:
            lines = (info.message or "no reason given").strip().splitlines()
            where = f" All that it said is in {log}." if log else ""
            raise PhaseFailed(name, _exit_status(info.driver_exit_code), (follower.error or lines[-1]) + where)
        return follower.summary

    def _submit(self, job: str, name: str, entrypoint: str) -> None:
        """Submit; a head that has just come up may need a while until it has an agent that takes jobs."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                runtime_env: dict[str, Any] = {"working_dir": str(working_dir()), "excludes": _NOT_UPLOADED}
                self.client.submit_job(entrypoint=entrypoint, submission_id=job, runtime_env=runtime_env)
                return
            except _NO_ANSWER as error:
                if "already exists" in str(error):  # the answer to an earlier try was lost
                    return
                if time.monotonic() > deadline:
                    raise PhaseFailed(name, 1, f"{self.address} does not take the job: {error}") from None
            time.sleep(1)

    def _stay(self, job: str, follower: Follower) -> JobDetails:
        """Follow a job to its end; whoever ends this process before has the job stopped, or is asked."""
        waiting = _Waiting(self, follower.name)
        while True:
            try:
                return self._follow(job, follower, waiting)
            except SystemExit as interruption:
                answer = self._answer(job) if interruption.code == 128 + signal.SIGINT else "stop"
                if answer == "leave":
                    raise LeftRunning(f"{job} goes on; ray job logs --follow {job} shows what it says") from None
                if answer == "stop":
                    self._stop(job)
                    raise
            except PhaseFailed as failure:
                if not isinstance(failure.__cause__, ConnectionError):  # it may well go on where we do not see it
                    self._stop(job)
                raise

    def _answer(self, job: str) -> str:
        try:
            return self.on_interrupt(job) if self.on_interrupt else "stop"
        except SystemExit:  # Ctrl+C again
            return "stop"

    def _follow(self, job: str, follower: Follower, waiting: _Waiting) -> JobDetails:
        """Stay with a job until it has ended."""
        failures = 0
        while True:
            try:
                info = self.client.get_job_info(job)
                text = self.client.get_job_logs(job) if info.status != JobStatus.PENDING else ""
                failures = 0
            except _NO_ANSWER as error:
                failures += 1
                if failures > 20:
                    reason = f"{self.address} no longer answers: {error}"
                    raise PhaseFailed(follower.name, 1, reason) from ConnectionError(reason)
                time.sleep(1)
                continue
            follower.take(text)
            if info.status.is_terminal():
                return info
            waiting.look(info)
            time.sleep(max(0.5, len(text) / 2e6))  # the whole log comes each time

    def needs(self, info: JobDetails) -> job_needs.Needs | None:
        """Return what a job waits for; None if nothing, or where the cluster does not say."""
        if info.status == JobStatus.PENDING:
            return job_needs.Needs(" ".join((info.message or "has not begun").split()), stuck=True)
        try:
            return job_needs.of(self.address, self._headers, info.job_id) if info.job_id else None
        except (OSError, KeyError, TypeError) as error:  # the log goes on without it
            logger.debug("cannot see what the job waits for: %s", error)
            return None

    def _stop(self, job: str) -> None:
        try:
            self.client.stop_job(job)
            deadline = time.monotonic() + 15
            while not self.client.get_job_status(job).is_terminal() and time.monotonic() < deadline:
                time.sleep(0.3)
        except _NO_ANSWER:
            logger.warning("could not stop job %s; ray job stop %s ends it", job, job)


class _Waiting:
    """Tells what a job waits for, and gives up where it cannot work at all for too long."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster, self._name = cluster, name
        self._looked = self._since = time.monotonic()
        self._last, self._begun = "", False

    def look(self, info: JobDetails) -> None:
        """Look every few seconds.

        Raises:
            PhaseFailed: the job has been stuck for `wait_seconds`.
        """
        now = time.monotonic()
        if now - self._looked < _NEEDS_EVERY:
            return
        self._looked, needs = now, self._cluster.needs(info)
        begun, limit = info.status != JobStatus.PENDING, self._cluster.wait_seconds
        if not begun:  # a busy head needs a while to start even what needs nothing
            limit = max(limit, START_SECONDS)
        if needs is None or not needs.stuck or begun != self._begun:
            self._since = now
        self._begun, waited = begun, now - self._since
        if needs is not None and needs.stuck:
            if waited > limit:
                raise PhaseFailed(self._name, 1, f"it waited for {waited:.0f} s and was stopped: {needs.text}.")
            if needs.text != self._last and waited > _STARTS_WITHIN:
                logger.info("[%s] %s; waiting up to %.0f s", self._name, needs.text, limit)
                self._last = needs.text


def working_dir() -> Path:
    """Return what is packed for a job: this checkout or, where gamengen is an installed package, the current folder."""
    return SOURCE if (SOURCE / "pyproject.toml").exists() else Path.cwd()


def _exit_status(code: int | None) -> int:
    """Return a job's exit status as a shell has it; 1 for a job that somebody stopped."""
    return 1 if not code else 128 - code if code < 0 else code


def _client(address: str, headers: dict[str, str]) -> JobSubmissionClient:
    """Connect; a busy head may not answer the first time."""
    for attempt in range(3):
        try:
            with _address_of_jobs(address):
                return JobSubmissionClient(address, headers=headers)
        except _NO_ANSWER as error:
            reason = str(error).strip().splitlines()[0]
        time.sleep(2 * attempt)
    raise ValueError(f"no Ray takes jobs at {address}: {reason} Start it, or unset RAY_ADDRESS.")


@contextlib.contextmanager
def _address_of_jobs(address: str) -> Iterator[None]:
    """Have Ray's client take this address: what the environment says comes before what it is given."""
    before = os.environ.get("RAY_API_SERVER_ADDRESS")
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    try:
        yield
    finally:
        del os.environ["RAY_API_SERVER_ADDRESS"]
        if before is not None:
            os.environ["RAY_API_SERVER_ADDRESS"] = before


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
