"""A game with padding, held-out maps and no probes: what is measured of it, what is not and why, and what is shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import pytest

from gamengen.config import Config
from gamengen.evaluate.evaluation import evaluate
from gamengen.evaluate.summary import NO_PROBES

pytestmark = [pytest.mark.doom, pytest.mark.slow]


@pytest.fixture(scope="module")
def summary(made_doom: Config) -> dict:
    alone = dataclasses.replace(made_doom.evaluate, num_workers=1)
    return evaluate(dataclasses.replace(made_doom, evaluate=alone))


def test_pixels_are_measured_and_the_rest_has_its_reason(summary: dict) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    for figures in (summary, summary["fast"]):
        assert figures["num_windows"] == 8 and figures["psnr_ceiling"] > figures["psnr_copy_last"] > 10
        assert figures["psnr_by_horizon"]["4"] is not None and figures["psnr_hold_by_horizon"]["1"] is not None
        assert figures["event_rate_ratio"] is None and figures["num_rollouts"] == 0
        assert figures["reasons"]["event_rate_ratio"] == NO_PROBES
    assert summary["real"] is None


def test_the_report_is_short_and_shows_the_picture_alone(summary: dict) -> None:
    page = Path(summary["report"]).read_text()
    assert page.count("PROBES") == 1, "one reason for all that is not measured"
    assert "is followed" not in page and "<b>Rollouts</b>" not in page and "real game</th>" not in page
    ours, _, peers = page.partition("The paper, others, ours")
    assert page.count("forward+") == 0 and "&ndash;" not in ours and "&ndash;" in peers, "what others do not say"
    with av.open(str(Path(summary["report"]).parent / "side_by_side.mp4")) as film:
        frame = next(film.decode(video=0))
    assert (frame.height, frame.width) == (240, 2 * 320 + 8)
