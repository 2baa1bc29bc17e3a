"""Training over three machines of a Ray cluster, while a worker, a machine and the driver are killed."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ScalarEvent

from gamengen.checkpoint import Model
from tests.conftest import TINY, load_tiny, wait_for
from tests.faults.conftest import Job

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

STEPS = 240
SETTINGS = ["train.num_workers=2", f"train.denoiser.steps={STEPS}", "train.denoiser.checkpoint_every=10"]
SETTINGS += ["train.denoiser.log_every=1"]


class Run:
    """A run of its own with the shared play and latents, and what its training has reported."""

    def __init__(self, made, folder: Path) -> None:
        settings = [f"storage={folder}", *SETTINGS]
        self.config = load_tiny(folder, *SETTINGS)
        self.settings = [*TINY, *settings]
        for part in ("gameplay", "latents", "autoencoder"):
            shutil.copytree(f"{made.folder}/{part}", f"{self.config.folder}/{part}")

    def committed(self) -> int:
        """Return the step of the last checkpoint that was reported; 0 before the first."""
        snapshots = Path(self.config.folder, "training").glob("denoiser-*/checkpoint_manager_snapshot.json")
        try:
            latest = json.loads(next(snapshots).read_text())["latest_checkpoint_result"]
        except (StopIteration, FileNotFoundError, json.JSONDecodeError):
            return 0
        return int(latest["checkpoint_dir_name"].removeprefix("step_")) if latest else 0

    def attempts(self) -> list[list[ScalarEvent]]:
        """Return the loss of every step of each attempt: rank 0 begins a file of TensorBoard's when it is started."""
        attempts = []
        for file in sorted(Path(self.config.folder, "tensorboard", "denoiser").glob("*"), key=os.path.getctime):
            events = EventAccumulator(str(file), {"scalars": 0})
            events.Reload()
            if "loss" in events.Tags()["scalars"]:
                attempts.append(events.Scalars("loss"))
        return attempts

    def goes_on(self, attempts: int, reported: int) -> None:
        """Wait for the first step of another attempt, which must follow what was reported before the fault, or more."""
        wait_for(lambda: len(self.attempts()) > attempts, every=1.0)
        first = self.attempts()[-1][0].step
        print(f"step {reported} was reported before the fault; trained on from {first - 1}")
        assert first > reported and (first - 1) % self.config.train.denoiser.checkpoint_every == 0


def test_a_worker_a_machine_and_the_driver_are_killed(nodes_that_work, made, tmp_path, recovered) -> None:
    nodes, run = nodes_that_work, Run(made, tmp_path)
    with Job("train", [*run.settings, "stage=denoiser"], nodes):
        wait_for(lambda: run.committed() >= 10)
        for fault in ("worker", "machine"):
            victim = next(node for node in nodes.nodes[1:] if nodes.processes("RayTrainWorker", node))
            reported, attempts, since = run.committed(), len(run.attempts()), time.monotonic()
            if fault == "worker":
                os.kill(nodes.processes("RayTrainWorker", victim)[0], signal.SIGKILL)
            else:
                nodes.kill(victim)
            run.goes_on(attempts, reported)
            recovered(since)
        reported = run.committed()
        wait_for(lambda: run.committed() > reported)
    reported, attempts, since = run.committed(), len(run.attempts()), time.monotonic()
    assert reported < STEPS, "all was trained before the driver was killed"
    with Job("train", [*run.settings, "stage=denoiser"], nodes) as job:
        run.goes_on(attempts, reported)
        recovered(since)
        status, said = job.ends()
    assert status == 0, said
    assert Model.from_pretrained(f"{run.config.folder}/denoiser").denoiser is not None
    losses: dict[int, list[float]] = {}
    for event in itertools.chain.from_iterable(run.attempts()):
        losses.setdefault(event.step, []).append(event.value)
    assert sorted(losses) == list(range(1, STEPS + 1)), "a step is missing"
    again = [values for values in losses.values() if len(values) > 1]
    assert again and all(values == pytest.approx([values[0]] * len(values), rel=1e-3) for values in again)
