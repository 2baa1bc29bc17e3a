"""What the pipeline remembers of a run, and the local head's files; tests/test_submission.py runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gamengen import local_head, pipeline, storage
from tests.conftest import ROOT, load_tiny

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
