"""Boils what was measured down to the figures of `summary-evaluate.json`; every figure's definition is here."""

from __future__ import annotations

from typing import Any

import numpy as np

from gamengen.config import Config
from gamengen.envs import Probes
from gamengen.evaluate import following, rollouts, statistics
from gamengen.evaluate.measure import ModelFigures, RealFigures
from gamengen.game import parts_of
from gamengen.metrics.fvd import frechet_distance

NO_PROBES = "the game offers no PROBES (gamengen.envs.Probes), so nothing is recognised in its pictures"

NO_INVERSE_DYNAMICS = "evaluate.inverse_dynamics_steps is 0, or held-out play has no change of action"


def of_model(config: Config, figures: ModelFigures, real: RealFigures | None, probes: Probes | None) -> dict[str, Any]:
    """Return the figures of one mode; what cannot be measured is None and `reasons` says why.

    "intervals" has the 95 % bootstrap interval of every mean: over windows, starts, contacts or games.
    """
    frame, base = figures.next_frame.scores, figures.baselines
    columns = {"": frame, "_copy_last": base.copy_last, "_ceiling": base.ceiling}
    summary, intervals = statistics.of_scores(columns)
    gain = frame.psnr - base.copy_last.psnr
    room = float(np.mean(base.ceiling.psnr - base.copy_last.psnr))
    summary["psnr_gain"], intervals["psnr_gain"] = statistics.mean(gain), statistics.interval(gain)
    summary["headroom"] = statistics.rounded(np.mean(gain) / room) if room > 0 else None
    for name in ("psnr", "lpips", "sharpness"):
        for suffix, scores in (("", figures.horizons.scores), ("_hold", base.hold)):
            values, key = getattr(scores, name), f"{name}{suffix}_by_horizon"
            summary[key] = statistics.by_horizon(config.evaluate.horizons, values, statistics.mean)
            intervals[key] = statistics.by_horizon(config.evaluate.horizons, values, statistics.interval)
    summary |= {"intervals": intervals, "fvd": _fvd(figures)}
    summary["action_following"], intervals["action_following"] = following.figures_of(figures.following)
    game = _of_game(config, figures, real, probes)
    intervals |= game.pop("intervals", {})
    summary |= game
    if summary["action_following"] is None:
        summary["reasons"]["action_following"] = NO_INVERSE_DYNAMICS
    if room <= 0:
        summary["reasons"]["headroom"] = "the autoencoder is no better than copying the last frame"
    summary["num_windows"], summary["num_horizon_starts"] = len(frame.psnr), len(figures.horizons.scores.psnr)
    return summary


def _fvd(figures: ModelFigures) -> dict[str, dict[str, Any]] | None:
    """Return FVD by clip length: of the model, of held frames and of recorded clips through the autoencoder."""
    base = figures.baselines
    columns = {"model": figures.horizons.features, "hold": base.held, "ceiling": base.reconstructed}
    result: dict[str, dict[str, Any]] = {}
    for length, real in base.real.items():
        if len(real) > 1:
            values = {name: statistics.rounded(frechet_distance(part[length], real)) for name, part in columns.items()}
            result[str(length)] = {**values, "num_clips": len(real)}
    return result or None


def _of_game(config: Config, figures: ModelFigures, real: RealFigures | None, probes: Probes | None) -> dict[str, Any]:
    game = config.game_spec().unpadded()
    if probes is None or real is None or figures.rollouts is None or figures.followed is None:
        single = [action for action in game.actions[1:] if len(parts_of(action)) == 1]
        names = [f"{action}_followed" for action in single]
        names += ["event_rate_ratio", "crash_rate", "stuck_rollouts", "static_psnr_500"]
        return {**dict.fromkeys(names), "num_rollouts": 0, "reasons": dict.fromkeys(names, NO_PROBES)}
    played, quiet = figures.rollouts, probes.QUIET_FRAMES
    rate, real_rate = rollouts.event_rate(played, quiet), rollouts.event_rate(real.rollouts, quiet)
    crashes = rollouts.crashes(played)
    regions = probes.static_regions(game.height, game.width)
    static, parts = rollouts.static_psnr(played.snapshots[-1], real.references, regions)
    games = np.arange(played.over.shape[1])
    summary: dict[str, Any] = {f"{action}_followed": statistics.mean(seen) for action, seen in figures.followed.items()}
    summary |= {
        "num_action_starts": len(next(iter(figures.followed.values()), ())),
        "event_rate": statistics.rounded(rate),
        "event_rate_ratio": statistics.rounded(rate / real_rate) if rate is not None and real_rate else None,
        "crash_rate": statistics.mean(crashes),
        "num_contacts": len(crashes),
        "stuck_rollouts": rollouts.num_stuck(played),
        "game_over_share": statistics.rounded(np.mean(played.over)),
        "static_psnr_500": statistics.rounded(np.mean(static)),
        "static_psnr_regions": {name: statistics.rounded(np.mean(values)) for name, values in parts.items()},
        "num_rollouts": len(games),
        "rollout_frames": len(played.over),
        "rollout_frames_per_second": statistics.rounded(played.over.size / played.seconds),
    }
    summary["intervals"] = {
        **{f"{action}_followed": statistics.interval(seen) for action, seen in figures.followed.items()},
        "event_rate": _event_interval(played, quiet),
        "crash_rate": statistics.interval(crashes),
        "game_over_share": statistics.interval(played.over.mean(axis=0)),
        "static_psnr_500": statistics.interval(static),
    }
    reasons = {
        "event_rate_ratio": "no frame of the real or the generated game counts, or nothing came in the real one",
        "crash_rate": "no contact was to be seen in the rollouts",
    }
    missing = {name: reason for name, reason in reasons.items() if summary[name] is None}
    return {**summary, "reasons": missing}


def of_real(config: Config, real: RealFigures | None, probes: Probes | None) -> dict[str, Any] | None:
    """Return the figures of the real game, measured in the same way: what a perfect model would score."""
    if real is None or probes is None:
        return None
    game = config.game_spec().unpadded()
    crashes = rollouts.crashes(real.rollouts)
    regions = probes.static_regions(game.height, game.width)
    static, _ = rollouts.static_psnr(real.rollouts.snapshots[-1], real.references, regions)
    return {
        **{f"{action}_followed": statistics.mean(seen) for action, seen in real.followed.items()},
        "event_rate": statistics.rounded(rollouts.event_rate(real.rollouts, probes.QUIET_FRAMES)),
        "crash_rate": statistics.mean(crashes),
        "num_contacts": len(crashes),
        "stuck_rollouts": rollouts.num_stuck(real.rollouts),
        "game_over_share": statistics.rounded(np.mean(real.rollouts.over)),
        "static_psnr_500": statistics.rounded(np.mean(static)),
    }


def _event_interval(played: rollouts.Rollouts, quiet_frames: int) -> list[float] | None:
    """Return the interval of the event rate: the games are drawn again, each with its events and its frames."""
    mask = rollouts.counted(played, quiet_frames)
    events, frames = (played.entered & mask).sum(axis=0), mask.sum(axis=0)
    picks = np.random.default_rng(0).integers(len(frames), size=(2000, len(frames)))
    drawn = frames[picks].sum(axis=1)
    rates = 100 * events[picks].sum(axis=1)[drawn > 0] / drawn[drawn > 0]
    return [round(float(bound), 3) for bound in np.quantile(rates, [0.025, 0.975])] if len(rates) else None
