"""GPUs that a run may be meant for: what they reach, hold and read; and what one core records of the games here."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from gamengen.train.flops import PEAKS


@dataclass(frozen=True)
class Device:
    """What a device can do at most.

    Attributes:
        bf16, fp32: dense FLOP per second of the data sheet (TF32 on a GPU): what the MFU of a training's log is a share
            of.
        reached: FLOP per second of a large product in bfloat16; 0.8 of the data sheet where nobody has measured it.
        memory: bytes; None where it is the machine's.
        bandwidth: bytes per second.
        mfu: the share that a training here can be expected to reach.
    """

    bf16: float
    fp32: float
    reached: float
    memory: float | None
    bandwidth: float
    mfu: float = 0.4


def _gpu(sheet: str, memory: float, bandwidth: float, reached: float | None = None) -> Device:
    bf16, fp32 = PEAKS[sheet]
    return Device(bf16, fp32, reached or 0.8 * bf16, memory, bandwidth)


DEVICES = {
    "B200": _gpu("B200", 180e9, 8.0e12),
    "H200": _gpu("H200", 141e9, 4.3e12, reached=790e12),
    "H100": _gpu("H100", 80e9, 3.35e12),
    "A100": _gpu("A100", 80e9, 2.0e12),
    "L40S": _gpu("L40S", 48e9, 0.86e12),
    "L4": _gpu("L4", 24e9, 0.3e12),
    "4090": _gpu("RTX 4090", 24e9, 1.0e12),
    "A4000": _gpu("RTX A4000", 16e9, 0.45e12),
    "T4": _gpu("T4", 16e9, 0.32e12),
    "cpu": Device(0.3e12, 0.07e12, 0.3e12, None, 0.02e12),  # two cores of an AMD EPYC with avx512_bf16, measured
}

# Frames per second that one core records, game, codec and Parquet included (`python -m jobs.benchmark
# parts=recording`, 26 November 2026, AMD EPYC): a lower bound of the time, as nothing is learnt meanwhile.
# DOOM's is without `supersampling`: at 2, with four times the pixels to render, its engine takes four times as long.
RECORDED_PER_CORE = {"chrome_dino": 13300.0, "doom": 1500.0}

# Bytes per pixel that codecs keep, measured on 512 frames of scripted play (gamengen/data/README.md).
BYTES_PER_PIXEL = {
    "chrome_dino": {"delta-zstd": 0.0065, "palette-zstd": 0.006, "png": 0.06, "jpeg90": 0.11, "h264-crf18": 0.01}
    | {"h264-lossless": 0.046},
    "doom": {"palette-zstd": 0.23, "delta-zstd": 0.33, "png": 0.59, "h264-lossless": 0.74, "jpeg95": 0.52}
    | {"jpeg90": 0.35, "h264-crf18": 0.096, "h264-crf23": 0.047},
}


def find(name: str) -> Device:
    """Return a device by its name; raises ValueError that names the nearest right one."""
    if name not in DEVICES:
        near = difflib.get_close_matches(name.upper(), DEVICES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(DEVICES)}."
        raise ValueError(f"unknown GPU, got {name!r}; {hint}")
    return DEVICES[name]
