"""The tables of a report page: rows of figures beside their baselines, and drift as curves."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from gamengen.evaluate import decoders, peers, pictures
from gamengen.evaluate.decoders import Decoded

NOTHING = "&ndash;"
_TITLES = {  # table -> heading, what it means
    "sampling_steps": (
        "Sampling steps",
        "The next frame after recorded pasts by the number of DDIM steps, evenly spaced from the model's first "
        "timestep down and with all noise at scale 1; “as it is” takes the model's own timesteps and scales.",
    ),
    "context_lengths": (
        "Context",
        "The same model, given only the last frames and actions of its context; the rest is padded as at the start of "
        "an episode (the oldest frame again, no action), which it knows from training. It tells what the model gets "
        "out of its context, not what a model trained with a shorter one would reach.",
    ),
    "noise_levels": (
        "Noise added to the context at inference",
        "The deviation of the Gaussian noise that the model is given, and told of, on its context.",
    ),
    "models": ("Other models", "Models that were trained in another way, on the same moments."),
    "players": ("Who played", "The same model on the held-out episodes of each kind of player."),
    "maps": (
        "Seen and unseen maps",
        "The same model on held-out episodes of maps that it learnt from, and of maps that it has never seen.",
    ),
}
_COLUMNS = (
    ("num_windows", "windows", "d"),
    ("psnr", "PSNR, dB", ".2f"),
    ("psnr_copy_last", "copy of the last", ".2f"),
    ("psnr_ceiling", "ceiling", ".2f"),
    ("ssim", "SSIM", ".4f"),
    ("lpips", "LPIPS", ".3f"),
    ("lpips_copy_last", "copy of the last", ".3f"),
    ("lpips_ceiling", "ceiling", ".3f"),
    ("sharpness", "sharpness", ".2f"),
    ("sharpness_copy_last", "copy of the last", ".2f"),
)


def sections(summary: Mapping[str, Any]) -> list[str]:
    """Return a heading, a table and, for drift, a plot for every table of a summary."""
    parts = []
    for name, rows in summary["tables"].items():
        title, words = _TITLES[name]
        parts += [f"<h2>{title}</h2><p>{words}</p>", _table(rows)]
        if any(row["num_starts"] for row in rows):
            curves = {row["label"]: row["psnr_by_horizon"] for row in rows if row["num_starts"]}
            curves["holding the first frame"] = rows[0]["psnr_hold_by_horizon"]
            picture = pictures.curves_plot(curves, f"On its own, {rows[0]['num_starts']} starts and more")
            parts.append(f"<div class=plots>{image(picture)}</div>")
    return parts


def compared(summary: Mapping[str, Any], setting: str) -> list[str]:
    """Return the page's section with what others have published beside this run."""
    columns = ("PSNR", "copy of the last", "ceiling", "LPIPS", "FVD 16", "FVD 32", "speed", "measured on")
    lines = []
    for row in [*peers.PUBLISHED, *peers.ours(summary, setting)]:
        numbers = ((row.psnr, ".2f"), (row.copy_last, ".2f"), (row.ceiling, ".2f"), (row.lpips, ".3f"))
        numbers += ((row.fvd_16, ".0f"), (row.fvd_32, ".0f"))
        cells = [NOTHING if value is None else format(value, form) for value, form in numbers]
        cells += [row.speed or NOTHING, html.escape(row.setting)]
        lines.append(f"<tr><td>{html.escape(row.name)}</td>{''.join(f'<td>{text}</td>' for text in cells)}</tr>")
    head = "".join(f"<th>{words}</th>" for words in columns)
    table = f"<table class=peers><tr><th></th>{head}</tr>{''.join(lines)}</table>"
    return ["<h2>The paper, others, ours</h2>", f"<p>{peers.NOTE}</p>", table]


def decoder(summary: Mapping[str, Any], decoded: Decoded | None) -> list[str]:
    """Return the page's section on what the autoencoder keeps; none where the run has no autoencoder of its own."""
    if decoded is None or not decoded.regions:
        return []
    words = {"before": "autoencoder", "after": "with the tuned decoder", "gain": "gain"}
    shown = {when: text for when, text in words.items() if when in summary["decoder"]["whole frame"]}
    lines = []
    for name, figures in summary["decoder"].items():
        cells = "".join(f"<td>{cell(figures, when, '.2f')}</td>" for when in shown)
        lines.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
    head = "".join(f"<th>{text}</th>" for text in shown.values())
    parts = ["<h2>What the autoencoder keeps</h2>"]
    parts.append(f"<table><tr><th>PSNR, dB</th>{head}</tr>{''.join(lines)}</table>")
    columns = ", ".join(["recorded", *(words[when] for when in decoded.made)])
    for name, rows in decoders.crops(decoded).items():
        parts.append(f"<p>The {html.escape(name)}: {columns}.</p>{image(pictures.png(pictures.grid(rows)))}")
    return parts


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = [column for column in _COLUMNS if any(row[column[0]] is not None for row in rows)]
    head = "".join(f"<th>{words}</th>" for _, words, _ in columns)
    lines = []
    for row in rows:
        cells = "".join(f"<td>{cell(row, key, form)}</td>" for key, _, form in columns)
        lines.append(f"<tr><td>{html.escape(row['label'])}</td>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"


def cell(column: Mapping[str, Any], key: str | tuple[str, ...], form: str) -> str:
    """Return a figure with its interval, which stands at the same path under "intervals", or a dash."""
    path = (key,) if isinstance(key, str) else key
    value = _look_up(column, path)
    if value is None:
        return NOTHING
    text, interval = format(value, form), _look_up(column, ("intervals", *path))
    if interval is not None:
        low, high = (format(bound, form) for bound in interval)
        text += f" <small>({low} to {high})</small>"
    return text


def _look_up(tree: Any, path: Sequence[str]) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def image(data: bytes) -> str:
    """Return PNG bytes as an image of the page."""
    return f"<img src='data:image/png;base64,{base64.b64encode(data).decode()}'>"
