"""A game with padding and held-out maps: what is measured of it with its probes and without, and what is shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import pytest

from gamengen import envs
from gamengen.config import Config
from gamengen.evaluate.evaluation import evaluate
from gamengen.evaluate.summary import NO_PROBES

pytestmark = [pytest.mark.doom, pytest.mark.slow]


def evaluated(config: Config, **settings: int) -> dict:
    return evaluate(
        dataclasses.replace(config, evaluate=dataclasses.replace(config.evaluate, num_workers=1, **settings))
    )


@pytest.fixture(scope="module")
def without_probes(made_doom: Config) -> tuple[dict, str]:
    """The figures and the page of a game that offers none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envs.load("doom"), "PROBES", None)
        summary = evaluated(made_doom)
    return summary, Path(summary["report"]).read_text()


def test_pixels_are_measured_and_the_rest_has_its_reason(without_probes: tuple[dict, str]) -> None:
    summary, _ = without_probes
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    for figures in (summary, summary["fast"]):
        assert figures["num_windows"] == 8 and figures["psnr_ceiling"] > figures["psnr_copy_last"] > 10
        assert figures["psnr_by_horizon"]["4"] is not None and figures["psnr_hold_by_horizon"]["1"] is not None
        assert figures["event_rate_ratio"] is None and figures["num_rollouts"] == 0
        assert figures["reasons"]["event_rate_ratio"] == NO_PROBES
    assert summary["real"] is None


def test_the_report_is_short_and_shows_the_picture_alone(without_probes: tuple[dict, str]) -> None:
    summary, page = without_probes
    assert page.count("PROBES") == 1, "one reason for all that is not measured"
    assert "is followed" not in page and "<b>Rollouts</b>" not in page and "real game</th>" not in page
    ours, _, peers = page.partition("The paper, others, ours")
    assert page.count("forward+") == 0 and "&ndash;" not in ours and "&ndash;" in peers, "what others do not say"
    with av.open(str(Path(summary["report"]).parent / "side_by_side.mp4")) as film:
        frame = next(film.decode(video=0))
    assert (frame.height, frame.width) == (240, 2 * 320 + 8)


def test_with_probes_games_are_played_beside_the_real_one(made_doom: Config) -> None:
    summary = evaluated(made_doom, rollout_frames=30)
    page = Path(summary["report"]).read_text()
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    real = summary["real"]
    for figures in (summary, summary["fast"], real):
        assert figures["static_psnr_500"] is not None and figures["crash_rate"] is None
        assert figures["stuck_rollouts"] == 0 and not any(name.endswith("_followed") for name in figures)
    assert real["static_psnr_500"] > summary["static_psnr_500"], "an untrained network loses the status bar"
    assert summary["num_rollouts"] > 0 and summary["num_action_starts"] == 0
    assert "real game</th>" in page and "PROBES" not in page and "for each action" not in page
    assert (Path(summary["report"]).parent / "rollouts_normal.png").stat().st_size > 1000
