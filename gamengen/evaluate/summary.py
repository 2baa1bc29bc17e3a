"""Boils what was measured down to the figures of `summary-evaluate.json`; every figure's definition is here."""

from __future__ import annotations

from typing import Any

import numpy as np

from gamengen import metrics
from gamengen.config import Config
from gamengen.envs import Probes
from gamengen.evaluate import rollouts
from gamengen.evaluate.measure import ModelFigures, RealFigures
from gamengen.game import parts_of

NO_PROBES = "the game offers no PROBES (gamengen.envs.Probes), so nothing is recognised in its pictures"


def of_model(config: Config, figures: ModelFigures, real: RealFigures | None, probes: Probes | None) -> dict[str, Any]:
    """Return the figures of one mode; what cannot be measured is None and `reasons` says why."""
    settings, frame = config.evaluate, figures.next_frame
    gain = float(np.mean(frame.psnr - frame.psnr_copy_last))
    room = float(np.mean(frame.psnr_ceiling - frame.psnr_copy_last))
    summary: dict[str, Any] = {
        name: _round(np.mean(getattr(frame, name)))
        for name in ("psnr", "psnr_copy_last", "psnr_ceiling", "ssim", "ssim_copy_last", "ssim_ceiling")
    }
    summary |= {
        "psnr_gain": _round(gain),
        "headroom": _round(gain / room) if room > 0 else None,
        "intervals": {
            "psnr": _interval(frame.psnr),
            "psnr_gain": _interval(frame.psnr - frame.psnr_copy_last),
            "ssim": _interval(frame.ssim),
        },
        "psnr_by_horizon": _by_horizon(settings.horizons, figures.horizons.psnr),
        "psnr_hold_by_horizon": _by_horizon(settings.horizons, figures.horizons.hold),
    }
    summary |= _of_game(config, figures, real, probes)
    if room <= 0:
        summary["reasons"]["headroom"] = "the autoencoder is no better than copying the last frame"
    summary["num_windows"], summary["num_horizon_starts"] = len(frame.psnr), len(figures.horizons.psnr)
    return summary


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
    summary: dict[str, Any] = {f"{action}_followed": _share(seen) for action, seen in figures.followed.items()}
    summary |= {
        "num_action_starts": len(next(iter(figures.followed.values()))),
        "event_rate": _round(rate),
        "event_rate_ratio": _round(rate / real_rate) if rate is not None and real_rate else None,
        "crash_rate": _share(crashes),
        "num_contacts": len(crashes),
        "stuck_rollouts": rollouts.num_stuck(played),
        "game_over_share": _round(np.mean(played.over)),
        "static_psnr_500": _round(np.mean(static)),
        "static_psnr_regions": {name: _round(np.mean(values)) for name, values in parts.items()},
        "num_rollouts": played.over.shape[1],
        "rollout_frames": len(played.over),
        "rollout_frames_per_second": _round(played.over.size / played.seconds),
    }
    reasons = {
        "event_rate_ratio": "no frame of the real or the generated game counts, or nothing came in the real one",
        "crash_rate": "no obstacle reached a T-rex that stood still",
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
        **{f"{action}_followed": _share(seen) for action, seen in real.followed.items()},
        "event_rate": _round(rollouts.event_rate(real.rollouts, probes.QUIET_FRAMES)),
        "crash_rate": _share(crashes),
        "num_contacts": len(crashes),
        "stuck_rollouts": rollouts.num_stuck(real.rollouts),
        "game_over_share": _round(np.mean(real.rollouts.over)),
        "static_psnr_500": _round(np.mean(static)),
    }


def _by_horizon(horizons: tuple[int, ...], values: np.ndarray) -> dict[str, float | None]:
    counts = (~np.isnan(values)).sum(axis=0)
    sums = np.nansum(values, axis=0)
    return {
        str(h): _round(total / count) if count else None for h, total, count in zip(horizons, sums, counts, strict=True)
    }


def _interval(values: np.ndarray) -> list[float]:
    return [round(bound, 3) for bound in metrics.bootstrap_interval(values)]


def _share(values: np.ndarray) -> float | None:
    return _round(np.mean(values)) if len(values) else None


def _round(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)
