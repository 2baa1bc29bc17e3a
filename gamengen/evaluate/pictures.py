"""Makes the report's pictures: plots, strips of frames and contact sheets as PNG bytes, and the frames of its films."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

_COLOURS = {"normal": "#1f6feb", "fast": "#d9730d", "real": "#444444", "ceiling": "#2da44e", "copy": "#999999"}
_GAP = 6  # pixels between pictures
_SEAM = 8  # pixels between the halves of a film


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Lay frames of one size out in rows, uint8 [H, W, 3]."""
    height, width = rows[0][0].shape[:2]
    page = np.full((len(rows) * (height + _GAP) - _GAP, max(map(len, rows)) * (width + _GAP) - _GAP, 3), 90, np.uint8)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            top, left = y * (height + _GAP), x * (width + _GAP)
            page[top : top + height, left : left + width] = frame
    return page


def strips(real: np.ndarray, generated: np.ndarray) -> bytes:
    """Rows of recorded, generated and difference (grey is none, times 2), frames uint8 [K, H, W, 3]."""
    rows = []
    for left, right in zip(real, generated, strict=True):
        difference = 128 + 2 * (right.astype(np.int16) - left)
        rows.append([left, right, difference.clip(0, 255).astype(np.uint8)])
    return png(grid(rows))


def side_by_side(clips: Sequence[tuple[np.ndarray, np.ndarray]], num_frames: int) -> list[np.ndarray]:
    """Put recorded (left) and generated (right) frames beside each other, clip after clip, `num_frames` in all."""
    frames = []
    for real, generated in clips:
        for left, right in zip(real, generated, strict=True):
            seam = np.full((left.shape[0], _SEAM, 3), (200, 60, 60), np.uint8)
            frames.append(np.concatenate([left, seam, right], axis=1))
    return frames[:num_frames]


def contact_sheet(snapshots: np.ndarray, num_games: int = 4) -> bytes:
    """One column per game, time from top to bottom, of snapshots uint8 [S, N, H, W, 3]."""
    return png(grid([list(row[:num_games]) for row in snapshots]))


def next_frame_plot(summary: Mapping[str, Any]) -> bytes:
    """Bars of the next frame's PSNR between copying the last frame and the autoencoder's ceiling."""
    figure, axes = _figure()
    modes = {name: figures for name, figures in _modes(summary).items()}
    for position, (name, figures) in enumerate(modes.items()):
        low, high = figures["intervals"]["psnr"]
        value = figures["psnr"]
        axes.bar(position, value, color=_COLOURS[name], width=0.5, label=f"{name} mode")
        axes.errorbar(position, value, yerr=[[max(0, value - low)], [max(0, high - value)]], color="black", capsize=5)
        axes.text(position, max(value, high) + 0.4, f"{value:.2f}", ha="center")
    _line(axes, summary["psnr_ceiling"], "autoencoder's ceiling", "ceiling")
    _line(axes, summary["psnr_copy_last"], "copy of the last frame", "copy")
    axes.set_xticks(range(len(modes)), [f"{name} mode" for name in modes])
    axes.set(ylabel="PSNR, dB", title="Next frame after recorded frames", xlim=(-0.6, len(modes) - 0.4))
    lowest = min([summary["psnr_copy_last"], *(figures["psnr"] for figures in modes.values())])
    axes.set_ylim(bottom=max(0, lowest - 5))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, fontsize=8)  # bars leave no room
    return _bytes(figure)


def horizon_plot(summary: Mapping[str, Any]) -> bytes:
    """PSNR over the number of frames that are generated on and on."""
    figure, axes = _figure()
    for name, figures in _modes(summary).items():
        _curve(axes, figures["psnr_by_horizon"], f"{name} mode", _COLOURS[name])
    _curve(axes, summary["psnr_hold_by_horizon"], "holding the first frame", _COLOURS["copy"])
    _line(axes, summary["psnr_ceiling"], "autoencoder's ceiling", "ceiling")
    _horizons(axes, summary["psnr_by_horizon"])
    axes.set_title("On its own, with the recorded actions")
    axes.legend(fontsize=8)
    return _bytes(figure)


def curves_plot(curves: Mapping[str, Mapping[str, float | None]], title: str) -> bytes:
    """PSNR over the number of frames that are generated on and on, one curve per label; the last one is grey."""
    figure, axes = _figure()
    for index, (label, values) in enumerate(curves.items()):
        _curve(axes, values, label, "#999999" if index + 1 == len(curves) else f"C{index}")
    _horizons(axes, next(iter(curves.values())))
    axes.set_title(title)
    axes.legend(fontsize=8)
    return _bytes(figure)


def time_plot(
    curves: Mapping[str, Sequence[float | None]], times: Sequence[float] | np.ndarray, title: str, label: str
) -> bytes:
    """Something over the time of the rollouts, one curve per mode."""
    figure, axes = _figure()
    for name, values in curves.items():
        axes.plot(times, [np.nan if v is None else v for v in values], "o-", color=_COLOURS[name], label=name)
    axes.set(xlabel="frame of the rollout", ylabel=label, title=title)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    return _bytes(figure)


def _modes(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"normal": summary} | ({"fast": summary["fast"]} if summary["fast"] else {})


def _figure() -> tuple[Figure, Any]:
    figure = Figure(figsize=(5.6, 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _line(axes: Any, value: float, label: str, colour: str) -> None:
    axes.axhline(value, color=_COLOURS[colour], linestyle="--", label=f"{label} ({value:.1f} dB)")


def _curve(axes: Any, values: Mapping[str, float | None], label: str, colour: str) -> None:
    known = {int(horizon): value for horizon, value in values.items() if value is not None}
    axes.plot(list(known), list(known.values()), "o-", color=colour, label=label)


def _horizons(axes: Any, horizons: Iterable[str]) -> None:
    ticks = [int(horizon) for horizon in horizons]
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set(xlabel="frames generated", ylabel="PSNR, dB")


def _bytes(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
