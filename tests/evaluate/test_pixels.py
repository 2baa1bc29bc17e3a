"""Pixels: a model that knows the recording scores what is perfect, one that copies scores what copying scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from gamengen.config import Config
from gamengen.envs.chrome_dino import PROBES
from gamengen.evaluate import held_out, pixels, summary
from gamengen.evaluate.judges import Judges
from gamengen.evaluate.measure import ModelFigures


class Identity(nn.Module):
    """An autoencoder without loss."""

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


@dataclass
class FakeEngine:
    """Plays like a GameEngine whose latents are frames: the recorded future, or the last frame again."""

    game: object
    episodes: list
    perfect: bool
    context_length: int = 4

    def __post_init__(self) -> None:
        self.autoencoder = Identity()
        self.places = {e.frames[t].tobytes(): (e, t) for e in self.episodes for t in range(len(e))}

    def begin(self, frames: np.ndarray, actions: np.ndarray, seeds: range) -> list:
        assert frames.shape[1] == 4 and actions.shape[1] == 3
        return [self.places[last.tobytes()] for last in frames[:, -1]]

    def step_latents(self, state: list, actions: list[int]) -> tuple[np.ndarray, list]:
        if self.perfect:
            state = [(e, min(t + 1, len(e) - 1)) for e, t in state]
        return np.stack([e.frames[t] for e, t in state]), state

    def decode(self, latents: np.ndarray) -> np.ndarray:
        return latents

    def step(self, state: list, actions: list[int]) -> tuple[np.ndarray, list]:
        return self.step_latents(state, actions)


@pytest.fixture(scope="module")
def episodes(run: Config) -> list:
    return held_out.load(f"{run.folder}/gameplay", run.game_spec(), 0)


@pytest.mark.parametrize("perfect", [True, False])
def test_figures_of_a_perfect_model_and_of_copying(run: Config, episodes: list, perfect: bool) -> None:
    engine = FakeEngine(run.game_spec(), episodes, perfect)
    starts = held_out.draw(episodes, 7, 0, after=4, before_end=5)
    frame = pixels.next_frame(engine, starts, Judges(), 3, num_pictures=5)
    horizons = pixels.by_horizon(engine, starts, (1, 4), Judges(), 3, num_clips=4)
    base = pixels.baselines(engine, starts, starts, (1, 4), Judges(), 3)
    result = summary.of_model(run, ModelFigures(base, frame, horizons, None, None), None, None)
    assert len(frame.scores.psnr) == 7 and len(frame.real) == 5 and len(horizons.clips) == 4
    assert result["psnr_ceiling"] == 60.0
    if perfect:
        assert result["psnr"] == 60.0 and result["ssim"] == pytest.approx(1) and result["headroom"] == 1.0
        assert result["psnr_by_horizon"] == {"1": 60.0, "4": 60.0}
        assert result["sharpness"] == result["sharpness_ceiling"] > 0
        assert all((real == generated).all() for real, generated in horizons.clips)
    else:
        assert result["psnr"] == result["psnr_copy_last"] < 40 and result["headroom"] == 0.0
        assert result["psnr_by_horizon"] == result["psnr_hold_by_horizon"]
        assert result["sharpness"] == result["sharpness_copy_last"] > 0
        assert result["sharpness_by_horizon"] == result["sharpness_hold_by_horizon"]
        assert base.hold.psnr[:, 1].mean() < base.hold.psnr[:, 0].mean()
    for key in ("psnr", "psnr_copy_last", "ssim", "psnr_gain"):
        low, high = result["intervals"][key]
        assert low <= result[key] <= high
    assert result["lpips"] is None and result["fvd"] is None and result["intervals"]["lpips"] is None


def test_metrics_that_need_weights_stand_beside_their_baselines(
    run: Config, episodes: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distance and features that are worked out by hand stand in for the networks, which are tested by themselves."""

    def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.abs(a.astype(float) - b).mean((1, 2, 3))

    def features(clips: np.ndarray) -> np.ndarray:
        return np.array([[clip.mean(), np.abs(np.diff(clip.astype(float), axis=0)).mean()] for clip in clips])

    monkeypatch.setattr(pixels, "CLIP_LENGTHS", (2, 4, 16))
    judges = Judges(distance, features)
    starts = [*held_out.draw(episodes, 6, 0, after=4, before_end=5), held_out.Start(episodes[0], len(episodes[0]) - 3)]
    results = {}
    for perfect in (True, False):
        engine = FakeEngine(run.game_spec(), episodes, perfect)
        base = pixels.baselines(engine, starts, starts, (1, 4), judges, 3)
        frame = pixels.next_frame(engine, starts, judges, 3)
        horizons = pixels.by_horizon(engine, starts, (1, 4), judges, 3)
        results[perfect] = summary.of_model(run, ModelFigures(base, frame, horizons, None, None), None, None)
    good, copy = results[True], results[False]
    assert good["lpips"] == good["lpips_ceiling"] == 0 < good["lpips_copy_last"] == copy["lpips"]
    assert list(good["fvd"]) == ["2", "4"], "no clip is longer than the rollouts"
    assert good["fvd"]["2"]["num_clips"] == 7 and good["fvd"]["4"]["num_clips"] == 6, "none reaches over an end"
    for length in ("2", "4"):
        assert good["fvd"][length]["model"] == good["fvd"][length]["ceiling"] == 0 < good["fvd"][length]["hold"]
        assert copy["fvd"][length]["model"] == copy["fvd"][length]["hold"]


def test_without_probes_the_game_s_figures_are_null_with_a_reason(run: Config, episodes: list) -> None:
    engine = FakeEngine(run.game_spec(), episodes, True)
    starts = held_out.draw(episodes, 2, 0)
    frame = pixels.next_frame(engine, starts, Judges(), 2)
    horizons = pixels.by_horizon(engine, starts, (1, 4), Judges(), 2)
    base = pixels.baselines(engine, starts, starts, (1, 4), Judges(), 2)
    result = summary.of_model(run, ModelFigures(base, frame, horizons, None, None), None, None)
    for key in (
        "jump_followed",
        "duck_followed",
        "event_rate_ratio",
        "crash_rate",
        "stuck_rollouts",
        "static_psnr_500",
    ):
        assert result[key] is None and "PROBES" in result["reasons"][key]


def test_actions_are_seen_in_recordings_and_not_in_a_frozen_picture(run: Config, episodes: list) -> None:
    game = run.game_spec()
    frozen = FakeEngine(game, episodes, perfect=False)
    for action in ("jump", "duck"):
        taken = held_out.draw_free(episodes, 4, 0, PROBES.is_free, next_action=game.action_index(action))
        assert len(taken) >= 2
        assert pixels.followed_in_recordings(taken, game, action, PROBES).all()
        assert pixels.followed(FakeEngine(game, episodes, perfect=True), taken, action, PROBES, 2).all()
        assert not pixels.followed(frozen, taken, action, PROBES, 2).any()


def test_starts_keep_their_bounds_and_pasts_their_episode(episodes: list) -> None:
    starts = held_out.draw(episodes, 50, 1, after=20, before_end=30, first=60)
    assert len({(s.episode.id, s.frame) for s in starts}) == 50
    assert all(20 <= s.frame <= min(60, len(s.episode) - 30) for s in starts)
    early = held_out.Start(episodes[0], 2)
    frames, actions = held_out.pasts([early], 4)
    assert (frames[0] == episodes[0].frames[:2][[0, 0, 0, 1]]).all()
    assert actions[0].tolist() == [0, 0, episodes[0].actions[0]]
