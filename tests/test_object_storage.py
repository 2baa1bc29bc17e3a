"""Runs on object storage: a real S3 server, found as in life, by `s3://` and the environment; it fails now and then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT, TINY
from tests.s3_server import S3, Faulty

PLACE = "s3://bucket/runs"
SHARE = 0.1  # of the requests fail

FILES = """
from gamengen import storage
for number in range(8):
    storage.write_bytes(f"{PLACE}/files/{number}.bin", bytes([number]) * 20_000)
    assert storage.read_bytes(f"{PLACE}/files/{number}.bin") == bytes([number]) * 20_000
storage.write_bytes(f"{PLACE}/files/0.bin", b"again")
assert storage.read_bytes(f"{PLACE}/files/0.bin") == b"again"
assert len(storage.list_files(f"{PLACE}/files", ".bin")) == 8 and storage.list_files(f"{PLACE}/none", "") == []
assert storage.exists(f"{PLACE}/files") and not storage.exists(f"{PLACE}/files/9.bin")
try:
    storage.read_bytes(f"{PLACE}/files/9.bin")
except FileNotFoundError:
    print("{}")
"""

PHASES = """
import json
from gamengen import config as configs, storage
from gamengen.collect.agent import train_agent
from gamengen.collect.rollouts import collect
from gamengen.data.inspect import inspect
from gamengen.encode import encode
from gamengen.engine import GameEngine
from gamengen.evaluate.evaluation import evaluate
from gamengen.train.trainer import train
config = configs.load("configs/quickstart.yaml", SETTINGS)
def run():
    yield "train_agent", train_agent(config)
    yield "collect", collect(config)
    yield "autoencoder", train(config, "autoencoder")
    yield "encode", encode(config)
    yield "denoiser", train(config, "denoiser")
    yield "evaluate", evaluate(config)
first, again = dict(run()), dict(run())
found = inspect(config.folder)
engine = GameEngine.from_pretrained(f"{config.folder}/denoiser")
frames, state = engine.reset(starts=[0], seeds=[1])
frames, state = engine.step(state, [1])
files = storage.list_files(config.folder, "", recursive=True)
result = {"first": first, "again": again, "damages": [str(one) for one in found.damages], "data": found.summary}
print(json.dumps(result | {"files": files, "frame": list(frames.shape)}))
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.close()


@pytest.fixture
def faulty(s3: S3) -> Iterator[Faulty]:
    proxy = Faulty(s3.port, SHARE)
    yield proxy
    proxy.close()


def _run(s3: S3, faulty: Faulty, code: str, timeout: float) -> dict:
    """Run code in a process that finds the failing server; returns what its last line says."""
    command = [sys.executable, "-c", f"PLACE = {PLACE!r}\nSETTINGS = {[*TINY, f'storage={PLACE}']!r}\n{code}"]
    env = s3.environment(faulty.port)
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-6000:]
    return json.loads(ended.stdout.strip().splitlines()[-1])


def test_files_are_whole_although_requests_fail(s3: S3, faulty: Faulty) -> None:
    _run(s3, faulty, FILES, timeout=120)
    assert sum(faulty.faults.values()) >= 3, "nothing was injected"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_run_loses_and_doubles_nothing_although_requests_fail(s3: S3, faulty: Faulty) -> None:
    result = _run(s3, faulty, PHASES, timeout=580)
    assert len(faulty.faults) == 5 and sum(faulty.faults.values()) > 0.05 * faulty.requests > 20, faulty.faults
    assert result["damages"] == []
    recorded = result["first"]["train_agent"]["recorded_frames"] + result["first"]["collect"]["frames"]
    assert result["data"]["frames"] == recorded > 600
    assert all(result["again"][name]["resumed"] for name in ("autoencoder", "denoiser", "evaluate"))
    assert result["again"]["collect"]["frames"] in (0, result["first"]["collect"]["frames"])
    assert result["frame"] == [1, 128, 256, 3]
    names = [file.removeprefix(f"{PLACE}/quickstart/") for file in result["files"]]
    assert {"denoiser/README.md", "evaluation/report.html", "evaluation/evaluation.json"} <= set(names)
    latents = {name.partition("/")[2] for name in names if name.startswith("latents/") and name.endswith(".parquet")}
    shards = {name.partition("/")[2] for name in names if name.startswith("gameplay/") and name.endswith(".parquet")}
    assert latents == shards
