"""Jobs on a cluster of several machines that asks for a token: every phase, failures, waiting, Ctrl+C, and no token."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from gamengen import config as configs
from gamengen import local_head, pipeline, storage
from gamengen.serve import client as game_client
from tests.conftest import QUICKSTART, ROOT, TINY, wait_for
from tests.dashboards import prometheus as prometheus_server
from tests.dashboards.prometheus import Prometheus

pytestmark = pytest.mark.ray
PHASES = [phase.name for phase in pipeline.PHASES]
CONFIG = ("--config", "configs/quickstart.yaml", *TINY)
OTHERS = ("127.0.0.2", "127.0.0.3")


def _with_token(head: local_head.Head, **more: str) -> dict[str, str]:
    return {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": head.token_path, **more}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[local_head.Head]:
    state = tmp_path_factory.mktemp("head")
    started = local_head.start(state)
    yield started
    assert local_head.stop(state)
    assert local_head.session(started.pid) == [] and local_head.running(state) is None
    assert not Path(started.token_path).exists()


@pytest.fixture(scope="module", autouse=True)
def leaders(head: local_head.Head, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Two more machines, in processes of their own and under their own addresses; the leaders of all three sessions."""
    logs, temp, nodes = tmp_path_factory.mktemp("nodes"), Path(f"/tmp/gs{os.getpid()}"), []
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={head.address}"]
    command += ["--num-cpus=3", "--object-store-memory=200000000", "--min-worker-port=0", "--max-worker-port=0"]
    for node in OTHERS:
        log, own = (logs / node).open("w"), [f"--node-ip-address={node}", f"--temp-dir={temp / node[-1]}"]
        nodes.append(
            subprocess.Popen([*command, *own], env=_with_token(head), stdout=log, stderr=log, start_new_session=True)
        )
    for node in OTHERS:
        wait_for(lambda log=logs / node: "Ray runtime started" in log.read_text())
    yield [head.pid, *(process.pid for process in nodes)]
    for process in nodes:
        process.terminate()
        local_head.wait_until_gone(process.pid, 2)
        local_head.send_signal(process.pid, local_head.session(process.pid), signal.SIGKILL)
        process.wait(20)
    shutil.rmtree(temp, ignore_errors=True)


@pytest.fixture(scope="module")
def client(head: local_head.Head) -> JobSubmissionClient:
    return JobSubmissionClient(head.dashboard, headers=head.headers())


@pytest.fixture(scope="module")
def port() -> int:
    """Where the cluster serves: one Serve has one port."""
    return local_head.free_ports(1)[0]


def _submit(head: local_head.Head, *arguments: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "jobs.submit", "--address", head.dashboard, *arguments]
    env = _with_token(head, **env)
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="module")
def prometheus(head: local_head.Head, leaders, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus | None]:
    """Scrapes the three machines; None where it is not installed."""
    if not prometheus_server.INSTALLED:
        yield None
        return
    discovery = local_head.temp_folder(Path(head.token_path).parent) / "r/prom_metrics_service_discovery.json"
    started = Prometheus(discovery, tmp_path_factory.mktemp("prometheus"))
    yield started
    started.close()


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """What was submitted, and how it ended."""

    arguments: list[str]
    said: str

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads(self.said.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def finished(head: local_head.Head, prometheus, port: int, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Every phase of a run, each a job; its figures are scraped meanwhile."""
    arguments = [*CONFIG, f"storage={tmp_path_factory.mktemp('run')}", f"serve.port={port}"]
    ended = _submit(head, "pipeline", *arguments, timeout=850)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    return Pipeline(arguments, ended.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_phase_runs_and_a_second_time_there_is_nothing_left(head, finished: Pipeline) -> None:
    arguments, summary = finished.arguments, finished.summary
    config = configs.load(QUICKSTART, arguments[2:])
    assert sorted(summary["phases"]) == sorted(PHASES)
    assert all(f"/{len(PHASES)} {phase.label}] done in" in finished.said for phase in pipeline.PHASES)
    for name in PHASES:
        assert storage.read_json(f"{config.folder}/summary-{name}.json"), name
        assert Path(config.folder, "logs", f"{name}.log").stat().st_size > 0
    assert Path(summary["report"]).exists()
    with urllib.request.urlopen(f"{summary['url']}healthz", timeout=10) as answer:
        assert answer.status == 200

    command = [sys.executable, "-m", "jobs.pipeline", "--address", head.dashboard, *arguments]  # from outside
    again = subprocess.run(command, cwd=ROOT, env=_with_token(head), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("nothing left to do") == len(PHASES)
    assert json.loads(again.stdout.strip().splitlines()[-1])["url"] == summary["url"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not prometheus_server.INSTALLED, reason="needs Prometheus (Debian: apt-get install prometheus)")
def test_every_panel_of_every_dashboard_shows_the_run(finished: Pipeline, prometheus: Prometheus) -> None:
    def empty() -> list[str]:
        return [str(shown) for shown in prometheus.dashboards() if not shown.numbers]

    asyncio.run(_play(finished.summary["url"], lambda: not empty()))
    print(*prometheus.dashboards(), sep="\n")  # for cluster/grafana/README.md
    assert empty() == []


async def _play(url: str, until: Callable[[], bool], seconds: float = 90) -> None:
    """Play a served game in real time until something is true, for so long at most; it is looked at now and then."""
    deadline = time.monotonic() + seconds
    async with game_client.connect(url) as game, contextlib.aclosing(game.play()) as frames:
        async for frame in frames:
            if frame.number % 50 == 0 and (await asyncio.to_thread(until) or time.monotonic() > deadline):
                return


@pytest.mark.slow
def test_a_model_folder_is_played_in_place_of_the_run(head, port: int, model_folder: str, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(model_folder, tmp_path / "weights" / "denoiser"))  # without play or latents beside it
    before = sorted(alone.rglob("*"))
    settings = [f"model={alone}", f"storage={tmp_path}", f"serve.port={port}", "serve.threads=1"]
    command, env = [sys.executable, "-m", "jobs.play", *settings], _with_token(head, RAY_ADDRESS=head.address)
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    summary = json.loads(ended.stdout.strip().splitlines()[-1])
    assert summary == storage.read_json(f"{tmp_path}/play-chrome_dino/summary-play.json")
    assert summary["game"] == "chrome_dino" and summary["detached"] is True
    with urllib.request.urlopen(f"{summary['url']}api/game", timeout=10) as answer:
        assert json.load(answer)["model"]["name"] == "weights/denoiser"
    assert sorted(alone.rglob("*")) == before

    ledger = pipeline.Ledger(configs.load(QUICKSTART, [f"storage={tmp_path}"]))
    for model, is_there in ((str(alone), True), (f"{ledger.config.folder}/denoiser", False)):
        written = {"url": summary["url"], "model": model}
        storage.write_json(f"{ledger.config.folder}/summary-serve.json", written)
        assert pipeline._still_there(pipeline.PHASES[-1], ledger) is is_there


@pytest.mark.slow
def test_a_phase_that_fails_ends_the_pipeline_with_its_status_and_line(head: local_head.Head, tmp_path: Path) -> None:
    overrides = [*TINY, f"storage={tmp_path}", "collect.policies={nobody: 1.0}", "agent.num_episodes=1"]
    config = configs.load(QUICKSTART, overrides)
    ledger = pipeline.Ledger(config)
    agent = pipeline.PHASES[0]
    storage.write_json(f"{config.folder}/{agent.made}", {})
    storage.write_json(f"{config.folder}/summary-{agent.name}.json", {"phase": agent.name})
    ledger.note(agent, head.dashboard)
    ended = _submit(head, "pipeline", *CONFIG[:2], *overrides, timeout=200)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: pipeline failed (exit status 2): collect failed (exit status 2)")
    assert "nobody" in last and "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_what_is_missing_is_said_and_the_job_is_stopped(head, client, made, tmp_path: Path) -> None:
    shutil.copytree(f"{made.folder}/gameplay", tmp_path / "quickstart" / "gameplay")
    arguments = ["train", *CONFIG, f"storage={tmp_path}", "stage=autoencoder", "train.use_gpu=true"]
    ended = _submit(head, "--wait", "4", *arguments, timeout=200)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: train failed (exit status 1): it waited for ")
    assert "GPU 1; the cluster has 3 machines with CPU 14, GPU 0 in all" in last
    train = next(job for job in client.list_jobs() if (job.submission_id or "").startswith("gamengen-train-"))
    assert client.get_job_status(train.submission_id) == JobStatus.STOPPED


_SLEEP = """
import logging, sys
from gamengen import submission, submit
logging.basicConfig(level=logging.INFO, format="%(message)s")
cluster = submission.Cluster(sys.argv[1], token_required=True, on_interrupt=submit._ask)
try:
    cluster.run("sleep", "timeit", ["-n1", "-r1", "import time; print('asleep', flush=True); time.sleep(600)"])
except submission.LeftRunning as left:
    sys.exit(print(left))
"""


@pytest.mark.parametrize(("answers", "status"), [("f l", JobStatus.RUNNING), ("s", JobStatus.STOPPED)])
def test_ctrl_c_asks_what_becomes_of_the_job(head, client, answers: str, status: JobStatus) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-c", _SLEEP, head.dashboard]
    process = subprocess.Popen(
        command, cwd=ROOT, env=_with_token(head), stdin=end, stdout=end, stderr=end, start_new_session=True
    )
    os.close(end)
    said = _read_until(terminal, "asleep")
    for answer in answers.split():
        process.send_signal(signal.SIGINT)
        said = _read_until(terminal, "[s/l/f]")
        os.write(terminal, f"{answer}\n".encode())
        time.sleep(1)  # back to following, before it is interrupted again
    assert process.wait(60) == (0 if status == JobStatus.RUNNING else 130)
    os.close(terminal)
    (job,) = re.findall(r"gamengen-sleep-\w+", said)
    assert client.get_job_status(job) == status
    client.stop_job(job)


def _read_until(terminal: int, text: str) -> str:
    said = ""
    while text not in said:
        said += os.read(terminal, 4096).decode()
    return said


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"RAY_AUTH_TOKEN_PATH": "", "HOME": "/nowhere"}, "asks for a token, got none"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "refuses this token"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere/token"}, "No such file"),
    ],
)
def test_without_the_token_nothing_is_submitted(head: local_head.Head, env: dict[str, str], says: str) -> None:
    ended = _submit(head, "collect", *CONFIG, "storage=/tmp", **env)
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and says in ended.stderr, ended.stderr
    assert len(ended.stderr.splitlines()) == 1


# What one asks of a port, by what listens there; whatever else listens must be one of these.
_CALLS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Pull",
    "CoreWorkerService/GetCoreWorkerStats",
    "LogService/ListLogs",
    "RayletDriver/ClusterInfo",
)


def test_without_the_token_every_port_of_every_machine_refuses(head: local_head.Head, leaders: list[int]) -> None:
    driver = "import ray, sys; from gamengen import ray_token; ray_token.use(sys.argv[2]); ray.init(sys.argv[1])"
    for token_path, may in (("", False), (head.token_path, True)):
        command = [sys.executable, "-c", driver, head.address, token_path]
        joined = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
        assert (joined.returncode == 0) is may and ("uthenti" in joined.stderr) is not may, joined.stderr

    answers = {}
    for address, port in _listening(leaders):
        answer = _http(address, port) or _grpc(address, port)
        if answer or _listens(address, port):  # a worker may have ended since
            answers[address, port] = answer
    kinds = set(answers.values())
    assert kinds == {"401", "metrics alone", *(call for call in _CALLS)}, answers


def _listening(leaders: list[int]) -> list[tuple[str, int]]:
    """Return where the processes of some sessions listen, each with an address that reaches it."""
    inodes = set()
    for leader in leaders:
        for pid in local_head.session(leader):
            for link in Path(f"/proc/{pid}/fd").glob("*"):
                try:
                    inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
                except OSError:  # closed by now
                    continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # listens
                address, _, port = fields[1].rpartition(":")
                number = socket.inet_ntoa(bytes.fromhex(address[-8:])[::-1])
                found.add(("127.0.0.1" if number == "0.0.0.0" else number, int(port, 16)))
    assert len(found) > 15, found
    return sorted(found)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(10)
        return probe.connect_ex((address, port)) == 0


def _http(address: str, port: int) -> str:
    """Return how a port answers HTTP without a token; empty if it does not speak it."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request("GET", "/api/jobs/")
        answer = connection.getresponse()
        says = answer.read()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return "metrics alone" if answer.status == 200 and says.startswith(b"# HELP") else str(answer.status)


def _grpc(address: str, port: int) -> str:
    """Return the call that a port knows and refuses."""
    refused = []
    with grpc.insecure_channel(f"{address}:{port}") as channel:
        for call in _CALLS:
            try:
                channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=20)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                    refused.append(call)
                else:
                    assert error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE), error
            else:
                raise AssertionError(f"{address}:{port} answers {call}")
    return " and ".join(refused)
