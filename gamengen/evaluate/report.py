"""Writes `evaluation/`: the page, the films and the contact sheets. Shows figures and makes none."""

from __future__ import annotations

import datetime
import html
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from gamengen import storage
from gamengen.config import Config
from gamengen.data import film
from gamengen.envs import Probes
from gamengen.evaluate import pictures, report_tables, rollouts
from gamengen.evaluate.decoders import Decoded
from gamengen.evaluate.measure import ModelFigures, RealFigures
from gamengen.evaluate.report_tables import NOTHING, cell, image

logger = logging.getLogger(__name__)
_BINS = 5
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1240px; margin: 2rem auto; padding: 0 1rem; color: #1f2328 }
h1 { margin-bottom: 0 } h2 { margin-top: 2.2rem; border-bottom: 1px solid #d0d7de } small, .muted { color: #59636e }
table { border-collapse: collapse } td, th { padding: .25rem .9rem; border-bottom: 1px solid #d0d7de }
td, th { text-align: right }
td:first-child, th:first-child { text-align: left } img, video { width: 100%; image-rendering: pixelated }
.peers td:last-child { text-align: left; font-size: 12px } h3 { margin-bottom: 0 }
.plots img { width: 49%; image-rendering: auto }
"""
_PICTURES = (  # key, words, format
    ("psnr", "PSNR of the next frame, dB", ".2f"),
    ("psnr_copy_last", "… of a copy of the last frame", ".2f"),
    ("psnr_ceiling", "… of the autoencoder (ceiling)", ".2f"),
    ("psnr_gain", "gain over the copy, dB", "+.2f"),
    ("headroom", "headroom used: gain / (ceiling - copy)", ".2f"),
    ("ssim", "SSIM of the next frame", ".4f"),
    ("ssim_copy_last", "… of a copy of the last frame", ".4f"),
    ("ssim_ceiling", "… of the autoencoder (ceiling)", ".4f"),
    ("lpips", "LPIPS of the next frame (lower is better)", ".4f"),
    ("lpips_copy_last", "… of a copy of the last frame", ".4f"),
    ("lpips_ceiling", "… of the autoencoder (ceiling)", ".4f"),
    ("sharpness", "sharpness of the next frame, grey levels", ".2f"),
    ("sharpness_copy_last", "… of a copy of the last frame, a recorded one", ".2f"),
    ("sharpness_ceiling", "… of the autoencoder (ceiling)", ".2f"),
)
_PLAY: tuple[tuple[str | tuple[str, ...], str, str], ...] = (
    (("action_following", "next_frame"), "new actions seen in the next frame, by inverse dynamics", ".0%"),
    (("action_following", "on_its_own"), "… after 8 frames on its own", ".0%"),
    (("action_following", "real"), "… in the recorded frame (ceiling)", ".0%"),
    (("action_following", "still"), "… in a copy of the last frame", ".0%"),
    (("action_following", "chance"), "… by chance", ".0%"),
    ("event_rate", "events per 100 frames", ".2f"),
    ("event_rate_ratio", "… against the real game", ".2f"),
    ("crash_rate", "contacts that end the game", ".0%"),
    ("num_contacts", "… of so many contacts", "d"),
    ("game_over_share", "share of frames in game over", ".1%"),
    ("stuck_rollouts", "rollouts stuck in game over", "d"),
    ("static_psnr_500", "still regions at the rollouts' end, PSNR in dB", ".1f"),
    ("rollout_frames_per_second", "frames per second of all rollouts together", ".0f"),
)
_LIMITS_OF_PIXELS = """
<p><b>Next frame</b>: the recorded frames before it are given; the intervals are 95&nbsp;% bootstrap intervals of the
mean. PSNR is the mean over frames, identical frames count as 60&nbsp;dB. <b>Horizons</b>: the model goes on from its
own frames with the recorded actions; &ldquo;holding&rdquo; repeats the last recorded frame. After a random event the
recorded future is only one of many, so that a good model need not match it. PSNR says nothing about whether the game
stays a game, and is highest for the mean of all that may be, a blurred picture: <b>sharpness</b>, the mean modified
Laplacian of a picture by itself, tells how far from it one is. Noise is sharp, too; look at the pictures.</p>
<p><b>Inverse dynamics</b>: a small network that has learnt from recorded play to tell the action from two frames. It
is asked about moments a frame after the player changed the action, every action counting the same. Its score on
recorded frames is the ceiling; in a copy of the last frame it can only guess. It has never seen generated frames: a
model may follow an action and still be misjudged where its pictures are blurred.</p>
"""
_LIMITS_OF_ROLLOUTS = """
<p><b>Rollouts</b>: a player that sees only the frames, the same in the model and in the real game, which is first
played as far as the model's start lies in its episode. Events are counted in frames that are alive and past the quiet
time after a start, in both; read the horizons beside their rate. A <b>contact</b> is a danger that the player chose to
ignore and that will reach it by the next frame while it stands; it counts as a crash if the game is over within 4
frames. A rollout is <b>stuck</b> when game over still shows 60 frames after the restart action. <b>Still regions</b>
are compared, each by itself, with the nearest of 400 recorded frames: the real game scores what the column &ldquo;real
game&rdquo; says, not infinity, since its score and ground need not be among those.</p>
<p><b>Limits</b>: what is seen in frames is judged by rules made for the game's own pictures; a blurred thing may be
missed or counted twice. The recognition is checked on the real game, in the same column. Rates over some hundred
events are good to about 10&nbsp;%. The 1-step mode is a distilled network of its own.</p>
"""


def write(
    config: Config,
    folder: str,
    figures: Mapping[str, ModelFigures],
    real: RealFigures | None,
    probes: Probes | None,
    summary: Mapping[str, Any],
    hardware: str,
    decoded: Decoded | None,
) -> None:
    """Write report.html, side_by_side.mp4 and, for every mode, its contact sheet and film."""
    rate = config.game_spec().frames_per_second
    frames = pictures.side_by_side(figures["normal"].horizons.clips, config.evaluate.video_frames)
    storage.write_bytes(f"{folder}/side_by_side.mp4", film.encode(frames, rate))
    parts = [_head(config, hardware), _table(summary), *_plots(figures, real, probes, summary)]
    parts += report_tables.decoder(summary, decoded)
    parts += report_tables.sections(summary)
    parts.append("<h2>Real (left) and generated (right), the same actions</h2>")
    parts.append("<video src='side_by_side.mp4' controls loop autoplay muted></video>")
    for mode, measured in figures.items():
        parts.append(f"<h2>Next frame, {mode} mode: recorded, generated, difference</h2>")
        parts.append(image(pictures.strips(measured.next_frame.real, measured.next_frame.generated)))
        if measured.rollouts is not None:
            parts += _rollouts(folder, mode, measured.rollouts, rate)
    parts += report_tables.compared(summary, _setting(config))
    limits = _LIMITS_OF_PIXELS + (_LIMITS_OF_ROLLOUTS if probes else "")
    parts.append(f"<h2>What the figures mean, and what they do not</h2>{limits}")
    page = f"<!doctype html><meta charset=utf-8><title>{html.escape(config.run)}</title><style>{_STYLE}</style>"
    storage.write_bytes(f"{folder}/report.html", (page + "\n".join(parts)).encode())
    logger.info("report: %s/report.html", folder)


def _head(config: Config, hardware: str) -> str:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    name = html.escape(f"{config.run}: a neural {config.game.name}")
    return (
        f"<h1>{name}</h1><p class=muted>Held-out play, {now}, {html.escape(hardware)}, seed {config.seed}, "
        "<code>python -m jobs.evaluate</code></p>"
    )


def _setting(config: Config) -> str:
    game = config.game_spec().unpadded()
    size = f"{game.width}x{game.height}, {game.frames_per_second:g} frames per second"
    return f"{game.name} {size}, {config.denoiser.context_length} frames of context, {config.denoiser.name}"


def _table(summary: Mapping[str, Any]) -> str:
    columns = {"normal mode": summary, "1-step mode": summary["fast"], "real game": summary["real"]}
    columns = {name: column for name, column in columns.items() if column}
    followed = [(key, f"{key.removesuffix('_followed')} is followed", ".0%") for key in summary if "_followed" in key]
    lines = []
    for key, words, form in [*_PICTURES, *_horizons(summary), *_fvd(summary), *followed, *_PLAY]:
        cells = [cell(column, key, form) for column in columns.values()]
        if any(cell != NOTHING for cell in cells):
            lines.append(f"<tr><td>{words}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    sizes = f"{summary['num_windows']} windows, {summary['num_horizon_starts']} starts for the horizons"
    if summary["num_rollouts"]:
        sizes += f", {summary['num_action_starts']} for each action" if summary["num_action_starts"] else ""
        sizes += f", {summary['num_rollouts']} rollouts of {summary['rollout_frames']} frames"
    head = "".join(f"<th>{name}</th>" for name in columns)
    notes = _reasons(summary.get("reasons", {}))
    return f"<p>{sizes}.</p><table><tr><th></th>{head}</tr>{''.join(lines)}</table>{notes}"


def _horizons(summary: Mapping[str, Any]) -> list[tuple[tuple[str, str], str, str]]:
    """Return the rows of farther frames."""
    rows = []
    for name, words in (("psnr", "PSNR"), ("sharpness", "sharpness")):
        for horizon, hold in summary[f"{name}_hold_by_horizon"].items():
            said = f"{words} after {horizon} frames on its own (holding: {hold or float('nan'):.2f})"
            rows.append(((f"{name}_by_horizon", horizon), said, ".2f"))
    return rows


def _fvd(summary: Mapping[str, Any]) -> list[tuple[tuple[str, str, str], str, str]]:
    """Return the rows of FVD."""
    rows = []
    for length, values in (summary["fvd"] or {}).items():
        beside = f"hold: {values['hold']:.1f}, ceiling: {values['ceiling']:.1f}; {values['num_clips']} clips"
        rows.append((("fvd", length, "model"), f"FVD of clips of {length} frames ({beside})", ".1f"))
    return rows


def _reasons(reasons: Mapping[str, str]) -> str:
    """Return a list of what is not measured and why, what has the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    items = [f"<li>{html.escape(', '.join(names))}: {html.escape(why)}</li>" for why, names in by_reason.items()]
    return f"<p>Not measured:</p><ul class=muted>{''.join(items)}</ul>" if items else ""


def _plots(
    figures: Mapping[str, ModelFigures], real: RealFigures | None, probes: Probes | None, summary: Mapping[str, Any]
) -> list[str]:
    plots = [pictures.next_frame_plot(summary), pictures.horizon_plot(summary)]
    if probes is not None and real is not None:
        played = {mode: measured.rollouts for mode, measured in figures.items() if measured.rollouts is not None}
        num_frames = len(real.rollouts.over)
        middles = (np.arange(_BINS) + 0.5) * num_frames / _BINS
        shots = np.linspace(0, num_frames, len(real.rollouts.snapshots))
        rates = {
            name: rollouts.event_rates(part, probes.QUIET_FRAMES, _BINS)
            for name, part in {**played, "real": real.rollouts}.items()
        }
        plots.append(pictures.time_plot(rates, middles, "Events over the rollouts", "events per 100 frames"))
        height, width = real.references.shape[1:3]
        regions = probes.static_regions(height, width)
        static = {
            name: [float(rollouts.static_psnr(shot, real.references, regions)[0].mean()) for shot in part.snapshots]
            for name, part in {**played, "real": real.rollouts}.items()
        }
        plots.append(pictures.time_plot(static, shots, "Drift: what should stand still", "PSNR, dB"))
    return ["<h2>Plots</h2><div class=plots>", *map(image, plots), "</div>"]


def _rollouts(folder: str, mode: str, played: rollouts.Rollouts, frames_per_second: float) -> list[str]:
    sheet = pictures.contact_sheet(played.snapshots)
    storage.write_bytes(f"{folder}/rollouts_{mode}.png", sheet)
    parts = [f"<h2>Rollouts, {mode} mode: four games, time downwards</h2>", image(sheet)]
    if played.film is not None:
        storage.write_bytes(f"{folder}/rollout_{mode}.mp4", film.encode(played.film, frames_per_second))
        parts.append(f"<p>The first one in full:</p><video src='rollout_{mode}.mp4' controls loop muted></video>")
    return parts
