"""Puts an estimate together: the figures as one dict, and as text beside the paper's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gamengen.config import Config, SamplerConfig
from gamengen.estimate import hardware, memory, networks, phases
from gamengen.estimate.hardware import Device
from gamengen.estimate.networks import Networks
from gamengen.estimate.paper import PAPER
from gamengen.estimate.phases import Phase


def estimate(config: Config, gpu: str = "H200", mfu: float | None = None) -> dict[str, Any]:
    """Return what a run will take on a kind of GPU (or on `cpu`), without training or recording anything.

    Args:
        mfu: the share of the device's peak that the networks reach; by default the device's own.

    Raises:
        ValueError: an unknown GPU, a share that is none, or sizes that do not go together.
    """
    begun = time.perf_counter()
    device = hardware.find(gpu)
    mfu = device.mfu if mfu is None else mfu
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu, got {mfu}; expected a share above 0, at most 1.")
    game = config.game_spec()
    counted = networks.of(config, game)
    planned = phases.of(config, game, counted, device, mfu)
    return {
        "phase": "estimate",
        "run": config.run,
        "gpu": gpu,
        "peak_tflops": round(_peak(config, device) / 1e12, 2),
        "mfu": mfu,
        "frame": f"{game.width}x{game.height}",
        "context_length": config.denoiser.context_length,
        "parameters": counted.parameters,
        "gflops": _gflops(config, counted),
        "memory_gb": memory.settings(config, counted),
        "gpu_memory_gb": None if device.memory is None else device.memory / 1e9,
        "phases": [_row(phase) for phase in planned],
        "gpu_hours": _total(planned, on_gpu=True),
        "cpu_core_hours": _total(planned, on_gpu=False),
        "bytes_on_disk": sum(phase.bytes_on_disk or 0 for phase in planned),
        "agent_steps": config.agent.max_env_steps,
        "frames_per_second_at_most": {
            "normal": round(ceiling(counted, config.sampler, device), 1),
            "fast": round(ceiling(counted, config.fast_sampler, device), 1),
        },
        "seconds": round(time.perf_counter() - begun, 1),
    }


def ceiling(counted: Networks, sampler: SamplerConfig, device: Device) -> float:
    """Return the frames per second of one player that a device cannot exceed in bfloat16.

    Each call takes at least its operations at the rate of a large product, and at least the time to read its weights;
    nothing else counts.
    """
    branches = 1 if sampler.guidance_scale == 1.0 else 2
    calls = [
        (branches, counted.condition),
        *[(branches, counted.denoise)] * len(sampler.timesteps),
        (1, counted.decode),
    ]
    return 1 / sum(
        max(number * call.flops / device.reached, 2 * call.weights / device.bandwidth) for number, call in calls
    )


def _peak(config: Config, device: Device) -> float:
    return device.fp32 if config.train.precision == "fp32" else device.bf16


def _gflops(config: Config, counted: Networks) -> dict[str, float]:
    return {
        "encode": round(counted.encode.flops / 1e9, 3),
        "decode": round(counted.decode.flops / 1e9, 3),
        "past": round(counted.condition.flops / 1e9, 3),
        "step": round(counted.denoise.flops / 1e9, 3),
        "frame": round(counted.frame_flops(config.sampler) / 1e9, 3),
        "fast_frame": round(counted.frame_flops(config.fast_sampler) / 1e9, 3),
        "trained_window": round(3 * counted.window.flops / 1e9, 3),
    }


def _row(phase: Phase) -> dict[str, Any]:
    return {
        "name": phase.name,
        "frames": round(phase.frames),
        "bytes_on_disk": None if phase.bytes_on_disk is None else round(phase.bytes_on_disk),
        "flops": phase.flops,
        "devices": phase.devices,
        "on_gpu": phase.on_gpu,
        "seconds": None if phase.seconds is None else round(phase.seconds, 1),
        "device_hours": None if phase.device_hours is None else round(phase.device_hours, 3),
    }


def _total(planned: Sequence[Phase], *, on_gpu: bool) -> float:
    """Return device-hours; what is meant for CPUs counts as such."""
    return round(sum(phase.device_hours or 0.0 for phase in planned if phase.on_gpu is on_gpu), 3)


def text(found: dict[str, Any]) -> str:
    """Return an estimate for people, beside the paper's figures."""
    width = max(len(name) for name in PAPER)
    lines = [f"{'':<{width}}  {'this run':<34}GameNGen"]
    lines += [f"{name:<{width}}  {_ours(found)[name]:<34}{paper}" for name, paper in PAPER.items()]
    held = found["gpu_memory_gb"]
    lines += ["", f"training the denoiser, GB per GPU{f' of {held:g}' if held else ''}, by windows at once on each:"]
    columns = [name for name in found["memory_gb"][0] if name != "setting"]
    lines.append(f"{'':<{width}}" + "".join(f"{name:>10}" for name in columns))
    for row in found["memory_gb"]:
        lines.append(f"{row['setting']:<{width}}" + "".join(f"{row[name]:>10.1f}" for name in columns))
    share = f"{found['mfu']:.0%} of {found['peak_tflops']:g} TFLOP/s"
    lines += ["", f"on {found['gpu']}, {share}; play on CPU cores, at least:"]
    lines.append(f"{'phase':<{width}}{'frames':>16}{'on disk':>12}{'FLOP':>10}{'devices':>14}{'time':>12}{'hours':>10}")
    lines += [_phase(row, width) for row in found["phases"]]
    hours = f"{found['gpu_hours']:,.1f} GPU-hours, {found['cpu_core_hours']:,.1f} core-hours"
    lines += ["", f"together: {hours}, {_size(found['bytes_on_disk'])} on disk"]
    return "\n".join(lines)


def _ours(found: dict[str, Any]) -> dict[str, str]:
    gflops, rows = found["gflops"], {row["name"]: row for row in found["phases"]}
    denoiser, most = rows["denoiser"], found["frames_per_second_at_most"]
    past = f" and {gflops['past']:,g} for the past" if gflops["past"] else ""
    return {
        "parameters, autoencoder": _count(found["parameters"]["autoencoder"]),
        "parameters, denoiser": _count(found["parameters"]["denoiser"]),
        "context": f"{found['context_length']} frames of {found['frame']}",
        "GFLOP, a step of the denoiser": f"{gflops['step']:,g}{past}",
        "GFLOP, a decoded frame": f"{gflops['decode']:,g}",
        "GFLOP, a frame that is played": f"{gflops['frame']:,g} (fast: {gflops['fast_frame']:,g})",
        "frames to learn from": _count(rows["encode"]["frames"]),
        "steps of the agent": _count(found["agent_steps"]) if "train_agent" in rows else "none",
        "examples, denoiser": _count(denoiser["frames"]),
        "FLOP, denoiser": f"{denoiser['flops']:.1e}",
        "GPU-hours, denoiser": f"{denoiser['device_hours']:,.1f} on {denoiser['devices']}",
        "frames per second at most": f"{most['normal']:,.0f} (fast: {most['fast']:,.0f})",
    }


def _phase(row: dict[str, Any], width: int) -> str:
    devices = f"{row['devices']} {'GPU' if row['on_gpu'] else 'CPU'}{'s' * (row['devices'] != 1)}"
    size = "unknown" if row["bytes_on_disk"] is None else _size(row["bytes_on_disk"])
    hours = "unknown" if row["device_hours"] is None else f"{row['device_hours']:,.2f}"
    return (
        f"{row['name']:<{width}}{row['frames']:>16,}{size:>12}{row['flops']:>10.1e}{devices:>14}"
        f"{_clock(row['seconds']):>12}{hours:>10}"
    )


def _count(number: float) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:g}"


def _size(number: float) -> str:
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.0f} B"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for limit, unit in ((86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 2 * limit:
            return f"{seconds / limit:.1f} {unit}"
    return f"{seconds:.0f} s"
