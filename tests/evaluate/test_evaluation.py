"""The phase as a whole on a tiny run: every key, the report, the film, resuming, and what it says where it cannot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import pytest

from gamengen.config import Config
from gamengen.evaluate import measure
from gamengen.evaluate.evaluation import evaluate
from tests.evaluate.conftest import save_untrained

KEYS = {
    "psnr", "psnr_copy_last", "psnr_ceiling", "headroom", "ssim", "psnr_by_horizon", "psnr_hold_by_horizon",
    "sharpness", "sharpness_copy_last", "sharpness_ceiling", "sharpness_by_horizon", "sharpness_hold_by_horizon",
    "jump_followed", "duck_followed", "event_rate_ratio", "crash_rate", "stuck_rollouts", "static_psnr_500",
    "num_windows", "num_rollouts",
}  # fmt: skip


@pytest.fixture(scope="module")
def summary(run: Config) -> dict:
    return evaluate(run)


def test_summary_has_every_key_and_is_json(run: Config, summary: dict) -> None:
    assert set(summary) >= KEYS | {"phase", "report", "seconds", "fast", "real"}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["num_windows"] == 8 and summary["num_rollouts"] == 3
    assert list(summary["psnr_by_horizon"]) == ["1", "4"] == list(summary["psnr_hold_by_horizon"])
    assert summary["real"]["jump_followed"] == summary["real"]["duck_followed"] == 1.0
    assert summary["fast"] is None and "stage=distill" in summary["reasons"]["fast"]
    low, high = summary["intervals"]["psnr"]
    assert low <= summary["psnr"] <= high
    assert set(summary["intervals"]["psnr_by_horizon"]) == {"1", "4"} and summary["intervals"]["lpips"] is None
    for name in ("lpips", "fvd"):
        assert summary[name] is None and f"evaluate.{name}=download" in summary["reasons"][name]


def test_report_and_films_open(run: Config, summary: dict) -> None:
    page = Path(summary["report"]).read_text()
    assert page.count("data:image/png;base64,") >= 6 and "ceiling" in page
    card = Path(run.folder, "denoiser", "README.md").read_text()
    assert "| next frame, PSNR in dB |" in card and "Not evaluated" not in card
    game = run.game_spec()
    with av.open(str(Path(summary["report"]).parent / "side_by_side.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.streams.video[0].codec_context.pix_fmt == "yuv420p"
    assert len(frames) == run.evaluate.video_frames
    assert frames[0].shape[0] == game.height and frames[0].shape[1] > 2 * game.width
    with av.open(str(Path(summary["report"]).parent / "rollout_normal.mp4")) as film:
        assert len(list(film.decode(video=0))) == run.evaluate.rollout_frames


def test_second_run_has_nothing_to_do_until_something_changes(
    run: Config, summary: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(measure, "measure_real", lambda *_: calls.append("real"))
    monkeypatch.setattr(measure, "measure_models", lambda *_: calls.append("models"))
    again = evaluate(run)
    assert again["resumed"] and not calls
    assert {key: again[key] for key in KEYS} == {key: summary[key] for key in KEYS}
    changed = dataclasses.replace(run, evaluate=dataclasses.replace(run.evaluate, num_windows=7))
    with pytest.raises(TypeError):  # it goes to work, and the stand-ins return nothing
        evaluate(changed)
    assert calls == ["real", "models"]


def test_work_is_shared_out_without_gap_or_overlap(run: Config) -> None:
    episodes = measure.held_out.load(f"{run.folder}/gameplay", run.game_spec(), 0)
    probes = measure.envs.load("chrome_dino").PROBES
    whole = measure.plan(run, episodes, probes)
    shares = [whole.share(rank, 2) for rank in range(2)]
    for name in ("windows", "horizons", "free", "rollouts"):
        parts = [(s.episode.id, s.frame) for share in shares for s in getattr(share, name)]
        assert sorted(parts) == sorted((s.episode.id, s.frame) for s in getattr(whole, name))
    no_rollouts = dataclasses.replace(run, evaluate=dataclasses.replace(run.evaluate, num_rollouts=0))
    assert measure.measure_real(no_rollouts, episodes, measure.plan(no_rollouts, episodes, probes), 0, 1) is None


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_and_the_fast_mode(run: Config, summary: dict, ray_cluster: None) -> None:
    save_untrained(run, f"{run.folder}/distilled", fast=True)
    shared = dataclasses.replace(run, evaluate=dataclasses.replace(run.evaluate, num_workers=2))
    result = evaluate(shared)
    assert result["psnr"] == pytest.approx(summary["psnr"], abs=1e-3)
    assert result["num_rollouts"] == 3 and set(result["fast"]) >= KEYS
    for name in ("event_rate", "game_over_share"):  # the same games, whoever plays them
        assert result["real"][name] == summary["real"][name] and result[name] == summary[name]


def test_missing_parts_are_named(run: Config, tmp_path: Path) -> None:
    empty = dataclasses.replace(run, storage=str(tmp_path))
    with pytest.raises(ValueError, match="no shards in"):
        evaluate(empty)
    (tmp_path / run.run).mkdir()
    (tmp_path / run.run / "gameplay").symlink_to(f"{run.folder}/gameplay")
    with pytest.raises(ValueError, match="stage=denoiser"):
        evaluate(empty)
