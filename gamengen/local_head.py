"""A small Ray head of this checkout alone: started once, found again, stopped without touching any other Ray.

`ray stop` ends every Ray of the machine and the usual ports may be somebody else's; so this head has its own ports, its
own temporary folder and its own session of processes, all written down in `<state>/head.json`. It asks for a token,
`<state>/token`: only its dashboard listens on the loopback address alone, Ray's other ports on every network.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from gamengen import ray_token

logger = logging.getLogger(__name__)

DEFAULT_STATE = Path(__file__).resolve().parents[1] / ".ray"
LOGICAL_CPUS = 8  # see gamengen.ray_cluster: a pipeline of Ray Data waits for ever on two
OBJECT_STORE_BYTES = 1_500_000_000
START_SECONDS = 300.0  # Ray gives itself up long before, unless the machine is very busy
STOP_SECONDS = 8.0
KILL_SECONDS = 10.0  # the kernel needs a moment to take away what was killed, the more so on a busy machine
ATTEMPTS = 3
_LONGEST_TEMP_FOLDER = 40  # Ray puts up to 66 characters behind it, and a Unix socket's path has at most 107


@dataclass(frozen=True)
class Head:
    """A head that runs. `began` tells its process from a later one with the same pid."""

    pid: int
    began: str
    address: str  # of the GCS: RAY_ADDRESS
    dashboard: str  # where jobs are submitted
    token_path: str = ""  # RAY_AUTH_TOKEN_PATH for what talks to it; empty for a head of a version that had none

    def headers(self) -> dict[str, str]:
        """Return what requests to its dashboard must carry."""
        return {"Authorization": f"Bearer {Path(self.token_path).read_text()}"} if self.token_path else {}


def running(state: Path = DEFAULT_STATE) -> Head | None:
    """Return this state folder's head if it runs; a file that a dead one left behind does not count."""
    head = _remembered(state)
    return head if head is not None and _began(head.pid) == head.began else None


def _remembered(state: Path) -> Head | None:
    try:
        return Head(**json.loads((state / "head.json").read_text()))
    except (FileNotFoundError, TypeError, json.JSONDecodeError):
        return None


def start(state: Path = DEFAULT_STATE) -> Head:
    """Return the running head, or start one that outlives this process.

    Raises:
        ValueError: it did not come up; names the log.
    """
    head = running(state)
    if head is not None and _is_ready(head, state):
        return head
    logger.info("starting Ray on this machine")
    for _ in range(ATTEMPTS):  # on a machine that is busy, Ray gives itself up after half a minute
        stop(state)
        if _is_ready(_launch(state), state):
            return running(state) or start(state)
    stop(state)
    lines = (state / "head.log").read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "it said nothing"
    raise ValueError(f"the local Ray head did not come up: {reason} See {state / 'head.log'}.")


def _launch(state: Path) -> Head:
    """Start the head's process and write down how it is found."""
    state.mkdir(parents=True, exist_ok=True)
    folder, token_path = temp_folder(state), state.resolve() / "token"
    ray_token.write(token_path)
    gcs, dashboard, client, agent, agent_grpc, metrics = free_ports(6)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--include-dashboard=true"),
        *(f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"),
        *(f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}"),
        *(f"--metrics-export-port={metrics}", "--min-worker-port=0", "--max-worker-port=0"),
        *(f"--num-cpus={max(LOGICAL_CPUS, os.cpu_count() or 1)}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
        f"--temp-dir={folder / 'r'}",
    ]
    with (state / "head.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=_environment(token_path),
        )
    address, url = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
    head = Head(process.pid, _began(process.pid), address, url, str(token_path))
    (state / "head.json").write_text(json.dumps(dataclasses.asdict(head), indent=2) + "\n")
    return head


def stop(state: Path = DEFAULT_STATE) -> bool:
    """End the head and every process of its session, the served game among them; returns whether one ran."""
    head, was_running = _remembered(state), running(state) is not None
    if head is not None and (was_running or not _began(head.pid)):  # a pid that is somebody else's now is left alone
        if was_running:
            send_signal(head.pid, [head.pid], signal.SIGTERM)
        wait_until_gone(head.pid, STOP_SECONDS if was_running else 0.0)
        deadline = time.monotonic() + KILL_SECONDS
        while (left := session(head.pid)) and time.monotonic() < deadline:  # again: one may just have forked another
            send_signal(head.pid, left, signal.SIGKILL)
            wait_until_gone(head.pid, 0.5)
        shutil.rmtree(temp_folder(state), ignore_errors=True)
    for name in ("head.json", "token"):
        (state / name).unlink(missing_ok=True)
    return was_running


def _environment(token_path: Path) -> dict[str, str]:
    """The head's environment, which its jobs inherit: nothing that points at another cluster, and its own token."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "no_proxy": no_proxy(),  # a pipeline that is a job submits others
        "RAY_DEDUP_LOGS": "0",
        "RAY_idle_worker_killing_time_threshold_ms": "600000",
        "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody takes this machine away; 7 s of imports a stage
    }


def environment(head: Head) -> dict[str, str]:
    """Return what a head was started with, which its jobs inherit; empty where the kernel does not tell."""
    try:
        entries = Path(f"/proc/{head.pid}/environ").read_text(errors="surrogateescape").split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (entry.partition("=") for entry in entries) if name}


def no_proxy() -> str:
    """Return the `no_proxy` that also keeps what is for the head from a proxy; it is read before NO_PROXY."""
    known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    return known if known == "*" or "127.0.0.1" in known.split(",") else f"{known},127.0.0.1".lstrip(",")


def temp_folder(state: Path) -> Path:
    """Make a folder with a short path for Ray's sockets, however deep the checkout lies.

    Only this user may enter; Ray opens the folder that it gets to everybody, so it gets one within.
    """
    name = f"gamengen-{hashlib.sha256(f'{os.getuid()}:{state.resolve()}'.encode()).hexdigest()[:8]}"
    folder = Path(tempfile.gettempdir()).resolve() / name
    if len(str(folder)) > _LONGEST_TEMP_FOLDER:
        folder = Path("/tmp") / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ValueError(f"the folder for Ray's sockets, got {folder}, which is not ours; expected none. Remove it.")
    return folder


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that nobody uses at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _is_ready(head: Head, state: Path) -> bool:
    """Wait until the head takes jobs; False if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while _began(head.pid) == head.began and time.monotonic() < deadline:
        try:
            if "Ray runtime started" in (state / "head.log").read_text(errors="replace"):
                asked = urllib.request.Request(f"{head.dashboard}/api/jobs/", headers=head.headers())
                with opener.open(asked, timeout=10):
                    return True
        except OSError:
            pass
        time.sleep(0.3)
    return False


def _began(pid: int) -> str:
    """Return when a process began, in the kernel's words; empty if there is none (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    told = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return told.stdout.strip()


def session(leader: int) -> list[int]:
    """Return the living processes of the session that a process leads, which may have ended itself."""
    members = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                members.append(int(entry.parent.name))
    return members


def wait_until_gone(leader: int, seconds: float) -> None:
    """Wait until a session has no living process, for so long at most."""
    deadline = time.monotonic() + seconds
    while session(leader) and time.monotonic() < deadline:
        time.sleep(0.05)


def send_signal(leader: int, pids: list[int], number: int) -> None:
    """Send a signal to processes of a session; SIGKILL to the leader's whole group as well."""
    if number == signal.SIGKILL and pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main() -> None:
    """Start, stop or show the head: `python -m gamengen.local_head start`."""
    parser = argparse.ArgumentParser(prog="python -m gamengen.local_head", description=main.__doc__)
    parser.add_argument("command", choices=["start", "stop", "status"])
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help="folder that remembers the head")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.command == "stop":
        logger.info("stopped" if stop(options.state) else "nothing of ours runs")
        return
    try:
        head = start(options.state) if options.command == "start" else running(options.state)
    except ValueError as error:
        sys.exit(f"error: {error}")
    if head is None:
        logger.info("nothing of ours runs")
        return
    logger.info("Ray runs at %s, dashboard %s", head.address, head.dashboard)
    if head.token_path:
        logger.info("RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=%s reaches it", head.token_path)


if __name__ == "__main__":
    main()
