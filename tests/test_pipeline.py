"""What the pipeline remembers of a run, and the local head's files; tests/test_submission.py runs it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from ray.job_submission import JobSubmissionClient

from gamengen import local_head, pipeline, storage, submission, submit
from gamengen.serve import protocol
from tests.conftest import QUICKSTART, ROOT, load_tiny

PHASES = [phase.name for phase in pipeline.PHASES]


def _write_summaries(config, ledger: pipeline.Ledger) -> None:
    for phase in pipeline.PHASES:
        storage.write_json(f"{config.folder}/summary-{phase.name}.json", {"phase": phase.name})
        if phase.made:
            storage.write_json(f"{config.folder}/{phase.made}", {})
        ledger.note(phase, "here")


def test_the_ledger_knows_what_is_done(tiny_config) -> None:
    ledger = pipeline.Ledger(tiny_config)
    assert not any(ledger.is_done(phase, "here") for phase in pipeline.PHASES)
    _write_summaries(tiny_config, ledger)
    assert all(pipeline.Ledger(tiny_config).is_done(phase, "here") for phase in pipeline.PHASES)


@pytest.mark.parametrize(
    ("override", "first"),
    [
        ("seed=5", "train_agent"),
        ("agent.gamma=0.9", "train_agent"),
        ("train.autoencoder.steps=9", "train-autoencoder"),
        ("denoiser.context_length=5", "train-denoiser"),
        ("train.distill.steps=9", "train-distill"),
        ("train.decoder.steps=9", "train-decoder"),
        ("evaluate.num_windows=9", "evaluate"),
        ("serve.max_players=1", "serve"),
    ],
)
def test_a_changed_setting_undoes_its_phase_and_what_follows(tmp_path: Path, override: str, first: str) -> None:
    config = load_tiny(tmp_path)
    _write_summaries(config, pipeline.Ledger(config))
    changed = pipeline.Ledger(load_tiny(tmp_path, override))
    done = [phase.name for phase in pipeline.PHASES if changed.is_done(phase, "here")]
    assert done == PHASES[: PHASES.index(first)]


def test_a_lost_result_and_another_summary_are_noticed(tiny_config) -> None:
    ledger = pipeline.Ledger(tiny_config)
    _write_summaries(tiny_config, ledger)
    Path(tiny_config.folder, "denoiser", "game.json").unlink()
    storage.write_json(f"{tiny_config.folder}/summary-evaluate.json", {"phase": "evaluate", "psnr": 1})
    done = [phase.name for phase in pipeline.PHASES if ledger.is_done(phase, "here")]
    assert done == [name for name in PHASES if name not in ("train-denoiser", "evaluate")]
    assert not ledger.is_done(pipeline.PHASES[-1], "on another cluster")


def test_nobody_learns_to_play_where_recordings_are_imported(tmp_path: Path) -> None:
    assert pipeline.phases(load_tiny(tmp_path)) == pipeline.PHASES
    imported = pipeline.phases(load_tiny(tmp_path, f"collect.import={tmp_path}"))
    assert [phase.name for phase in imported] == PHASES[1:] and PHASES[0] == "train_agent"


def test_no_decoder_is_tuned_in_no_steps(tmp_path: Path) -> None:
    names = [phase.name for phase in pipeline.phases(load_tiny(tmp_path, "train.decoder.steps=0"))]
    assert names == [name for name in PHASES if name != "train-decoder"]


def test_the_table_shows_both_modes() -> None:
    scores = {"phase": "evaluate", "psnr": 30.1234, "num_windows": 9, "psnr_by_horizon": {"4": 20.0}, "seconds": 3.0}
    lines = pipeline.table(scores | {"fast": {"psnr": 29.0, "psnr_by_horizon": {"4": 19.5}}}).splitlines()
    assert [line.split() for line in lines] == [
        ["normal", "fast"],
        ["psnr", "30.123", "29"],
        ["num_windows", "9"],
        ["psnr_by_horizon", "4", "20", "19.5"],
    ]


@pytest.mark.parametrize(("storage_of_game", "is_there"), [("here", True), ("elsewhere", False)])
def test_a_game_of_that_name_in_another_storage_is_another(
    tmp_path: Path, monkeypatch, storage_of_game, is_there
) -> None:
    ledger = pipeline.Ledger(load_tiny(tmp_path / "here"))
    model = f"{ledger.config.folder}/denoiser"
    served = model.replace("/here/", f"/{storage_of_game}/")
    storage.write_json(f"{ledger.config.folder}/summary-serve.json", {"url": "http://game/", "model": model})
    answer = {"model": {"name": "/".join(served.split("/")[-2:]), "place": protocol.place(served)}}
    monkeypatch.setattr(
        pipeline.urllib.request.OpenerDirector, "open", lambda *_, **__: io.BytesIO(json.dumps(answer).encode())
    )
    assert pipeline._still_there(pipeline.PHASES[-1], ledger) is is_there


@pytest.fixture
def own_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> local_head.Head:
    """A head of our own that runs, as far as can be seen: this process, or one with another environment."""
    head = local_head.Head(os.getpid(), local_head._began(os.getpid()), "127.0.0.1:1", "http://127.0.0.1:2")
    monkeypatch.setattr(local_head, "running", lambda: head)
    monkeypatch.setattr(local_head, "start", lambda: head)
    monkeypatch.setattr(submission, "_client", lambda address, _: SimpleNamespace(get_address=lambda: address))
    monkeypatch.setenv("no_proxy", "")
    return head


def test_a_token_for_players_that_jobs_do_not_have_is_refused(own_head, monkeypatch: pytest.MonkeyPatch) -> None:
    name = protocol.TOKEN_VARIABLE
    submission.Cluster().check_inherited(name)  # not set
    monkeypatch.setenv(name, "secret")  # set after that process was started, so the kernel has it without
    with pytest.raises(ValueError, match=f"{name} is set here and does not travel to a job; .*make stop") as refused:
        pipeline.run(str(QUICKSTART), [], submission.Cluster())
    assert "secret" not in str(refused.value) and len(str(refused.value).splitlines()) == 1
    with pytest.raises(ValueError, match="does not travel"):
        submit.submit("serve", ["--config", str(QUICKSTART)], None, 1.0)
    with pytest.raises(ValueError, match=r"where the head of 10\.0\.0\.1:6379 is started.*Unset it here"):
        submission.Cluster("10.0.0.1:6379").check_inherited(name)


def test_a_token_for_players_that_jobs_have_is_welcome(own_head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(protocol.TOKEN_VARIABLE, "secret")
    with monkeypatch.context() as inside:  # a job has the head's environment, and so have those that it submits
        inside.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
        submission.Cluster("10.0.0.1:6379").check_inherited(protocol.TOKEN_VARIABLE)
    with subprocess.Popen(["sleep", "60"]) as process:  # a head that was started with it before
        started = dataclasses.replace(own_head, pid=process.pid)
        with monkeypatch.context() as again:
            again.setattr(local_head, "running", lambda: started)
            again.setattr(local_head, "start", lambda: started)
            submission.Cluster().check_inherited(protocol.TOKEN_VARIABLE)
        process.kill()
    monkeypatch.setattr(local_head, "running", lambda: None)  # it is started now
    submission.Cluster().check_inherited(protocol.TOKEN_VARIABLE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "a,b"}, "a,b,127.0.0.1"),
        ({"no_proxy": "*"}, "*"),
        ({"no_proxy": "c"}, "c,127.0.0.1"),
    ],
)
def test_what_is_for_the_own_head_goes_through_no_proxy(own_head, monkeypatch, before, after) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, before.get(name, ""))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert local_head._environment(Path("token"))["no_proxy"] == after
    submission.Cluster()
    assert os.environ["no_proxy"] == after
    assert "http" not in requests.utils.get_environ_proxies("http://127.0.0.1:8265/api/jobs/")


def test_the_address_that_is_given_comes_before_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JobSubmissionClient, "_check_connection_and_version", lambda *_, **__: None)
    monkeypatch.setenv("RAY_ADDRESS", "http://theirs:1")
    for theirs in (None, "http://theirs:2"):
        if theirs:
            monkeypatch.setenv("RAY_API_SERVER_ADDRESS", theirs)
        assert submission._client("http://ours:3", {}).get_address() == "http://ours:3"
        assert os.environ.get("RAY_API_SERVER_ADDRESS") == theirs


class _Dropping:
    """Answers a client's calls, each after one whose answer is lost; knows which jobs there are."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.asked: list[str] = []

    def __call__(self, method: str, endpoint: str, *, json_data=None, **_) -> requests.Response:
        self.asked.append(call := f"{method} {endpoint}")
        answer, body = requests.Response(), {}
        answer.status_code = 200
        if call == "POST /api/jobs/":
            if json_data["submission_id"] in self.jobs:
                answer.status_code, answer._content = 500, b"ValueError: Job with submission_id x already exists."
                return answer
            self.jobs.append(json_data["submission_id"])
        elif endpoint.endswith("/logs"):
            body = {"logs": "hello"}
        elif method == "GET":
            body = {"type": "SUBMISSION", "entrypoint": "python", "status": "SUCCEEDED", "submission_id": self.jobs[0]}
        if self.asked.count(call) == 1:
            raise requests.exceptions.ConnectionError("Remote end closed connection without response")
        answer._content = json.dumps(body).encode()
        return answer


def test_a_dropped_connection_ends_no_job_and_submits_none_twice(own_head, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, dropping = submission.Cluster(), _Dropping()
    monkeypatch.setattr(JobSubmissionClient, "_check_connection_and_version", lambda *_, **__: None)
    monkeypatch.setattr(JobSubmissionClient, "_upload_working_dir_if_needed", lambda *_: None)
    monkeypatch.setattr(submission, "working_dir", lambda: "gcs://_ray_pkg_0.zip")  # as if it were packed and sent
    monkeypatch.setattr(JobSubmissionClient, "_do_request", lambda _, *call, **more: dropping(*call, **more))
    monkeypatch.setattr(submission.time, "sleep", lambda _: None)
    cluster.client = JobSubmissionClient("http://127.0.0.1:2")
    cluster.run("collect", "jobs.collect", [])
    (job,) = dropping.jobs
    assert dropping.asked == [
        *["POST /api/jobs/"] * 2,
        *[f"GET /api/jobs/{job}"] * 2,  # once lost
        f"GET /api/jobs/{job}/logs",  # lost
        *(f"GET /api/jobs/{job}", f"GET /api/jobs/{job}/logs"),
    ]
    cluster._stop(job)  # lost: says so, and is no traceback
    assert dropping.asked[-1] == f"POST /api/jobs/{job}/stop"


def test_a_dead_head_s_file_does_not_count(tmp_path: Path) -> None:
    head = {"pid": os.getpid(), "began": "0", "address": "a", "dashboard": "d"}
    (tmp_path / "head.json").write_text(json.dumps(head))
    assert local_head.running(tmp_path) is None
    assert local_head.stop(tmp_path) is False
    assert not (tmp_path / "head.json").exists()


def test_the_head_s_sockets_fit_however_deep_the_checkout(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 8)
    folder = local_head.temp_folder(deep)
    try:
        sockets = folder / "r" / "session_2026-11-22_23-46-09_408682_1234567" / "sockets" / "plasma_store"
        assert len(str(sockets)) < 107
        assert folder.stat().st_mode & 0o077 == 0
        assert local_head.temp_folder(tmp_path) != folder
    finally:
        folder.rmdir()
        local_head.temp_folder(tmp_path).rmdir()


def test_a_user_s_mistake_is_one_line_before_anything_starts() -> None:
    command = [sys.executable, "-m", "jobs.pipeline", "--config", "configs/quickstart.yaml", "train.step=3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["nonsense"]])
def test_the_command_lists_its_phases(arguments: list[str]) -> None:
    code = "import sys; from gamengen.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (ended.returncode == 0) == (arguments == ["--help"])
    assert all(name in ended.stdout + ended.stderr for name in ("train_agent", "collect", "serve", "pipeline"))
