"""What the pipeline shows of a job's log, and what it keeps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gamengen.job_log import Follower

LOG = """\
2026-11-23 00:50:58,392\tINFO job_manager.py:1 -- Runtime env is setting up.
Running entrypoint for job x: python -m jobs.train
\x1b[36m(RayTrainWorker pid=54)\x1b[0m 00:51:02 gamengen.train: denoiser: step 50 of 100, loss 0.5, 12 s left
\x1b[36m(TrainController pid=51)\x1b[0m Requesting resources: {'CPU': 1} * 1
\x1b[33m(raylet)\x1b[0m No available node types can fulfill resource request {'GPU': 1.0}.
\x1b[36m(RayTrainWorker pid=54)\x1b[0m Traceback (most recent call last):
\x1b[36m(RayTrainWorker pid=54)\x1b[0m   File "loop.py", line 1, in fit
\x1b[36m(RayTrainWorker pid=54)\x1b[0m ValueError: nothing to learn from in 6 shards; record more.
{"phase": "train"}
unfinished"""


@pytest.fixture
def shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> tuple[list[str], Follower]:
    follower = Follower("denoiser", tmp_path / "logs" / "denoiser.log")
    with caplog.at_level(logging.INFO, "gamengen.job_log"):
        for end in range(0, len(LOG) + 1, 7):  # the log grows in pieces that end anywhere
            follower.take(LOG[:end])
        follower.take(LOG)
    follower.close()
    return [record.getMessage() for record in caplog.records], follower


def test_progress_and_missing_resources_are_shown_and_ray_s_noise_is_not(shown) -> None:
    assert shown[0] == [
        "[denoiser] 00:51:02 gamengen.train: denoiser: step 50 of 100, loss 0.5, 12 s left",
        "[denoiser] No available node types can fulfill resource request {'GPU': 1.0}.",
        "[denoiser] ValueError: nothing to learn from in 6 shards; record more.",
    ]


def test_the_error_is_the_last_line_that_is_one(shown) -> None:
    assert shown[1].error == "nothing to learn from in 6 shards; record more."


def test_the_file_has_all_of_it_once(shown, tmp_path: Path) -> None:
    kept = (tmp_path / "logs" / "denoiser.log").read_text()
    assert kept == LOG.removesuffix("unfinished")
