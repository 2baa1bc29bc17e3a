"""What others have published: figures with what they were measured on, and None for what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Published:
    """One model's figures; None where its authors give none.

    Attributes:
        psnr, lpips: of the next frame after recorded ones, dB and LPIPS.
        copy_last, ceiling: PSNR of a copy of the last frame and of the autoencoder on the same frames.
        fvd_16, fvd_32: of clips that the model makes on its own.
        speed: as published.
    """

    name: str
    setting: str
    psnr: float | None = None
    lpips: float | None = None
    copy_last: float | None = None
    ceiling: float | None = None
    fvd_16: float | None = None
    fvd_32: float | None = None
    speed: str | None = None


_GAMENGEN = "DOOM 320x240, 20 frames per second, 5 levels seen in training, 64 frames of context, 70M examples"
_DOOM = "DOOM (Freedoom deathmatch) 320x240, 1.05M frames, 32 frames of context, 90,000 updates of 32, DDIM 50"
PUBLISHED: Sequence[Published] = (
    Published(
        "GameNGen, 4 steps (the paper)", f"{_GAMENGEN}; 2,048 held-out trajectories, FVD over 512",
        psnr=29.43, lpips=0.249, fvd_16=114.02, fvd_32=186.23, speed="20 per second on a TPU-v5",
    ),
    Published(
        "GameNGen, distilled to 1 step (the paper)", "the frames of its table of steps: 35 per second, 2,048 of them",
        psnr=31.10, lpips=0.208, speed="50 per second on a TPU-v5",
    ),
    Published(
        "RohanNaga/Doom, SD 1.4 U-Net, 860M", f"{_DOOM}; maps seen in training",
        psnr=21.36, lpips=0.270, copy_last=19.41, ceiling=28.61, fvd_16=184, fvd_32=356,
    ),
    Published("… with EMA weights", "the same", psnr=21.67, lpips=0.250, copy_last=19.41, ceiling=28.61),
    Published("… unseen maps", "the same model", psnr=19.14, lpips=0.446, copy_last=18.50, ceiling=26.36),
    Published(
        "RohanNaga/Doom, PixArt-alpha, 612M", f"{_DOOM}; maps seen in training",
        psnr=21.35, lpips=0.272, copy_last=19.41, ceiling=28.61, fvd_16=211, fvd_32=472,
    ),
    Published(
        "PlayGen, DiT, 131M (as that project quotes it)", "DOOM 128x128, 200M of 900M frames",
        psnr=23.81, lpips=0.165, speed="20 per second on an RTX 2060",
    ),
)  # fmt: skip
# GameNGen's tables 1 and 2, PSNR in dB: 35 frames per second; and one model trained for each context, 200,000 steps.
PAPER_STEPS = {1: 25.47, 2: 31.91, 4: 32.58, 8: 32.55, 16: 32.44, 32: 32.32, 64: 32.19}
PAPER_CONTEXT = {64: 22.36, 32: 22.31, 16: 22.28, 8: 22.26, 4: 22.26, 2: 22.03, 1: 20.94}
NOTE = (
    "Figures of different games and data cannot be compared as they are: how far the next frame lies from the last one "
    "(the copy) and what the autoencoder keeps (the ceiling) decide most of a PSNR. Few give both. "
    "The paper's decoder is fine-tuned on its game, the stock decoder of Stable Diffusion stops at 28.6 dB on DOOM. "
    "Both public reproductions of GameNGen on Stable Diffusion publish no such figures."
)


def ours(summary: Mapping[str, Any], setting: str) -> list[Published]:
    """Return the models of a summary in the same form."""
    rows = []
    for name, figures in (("normal mode", summary), ("1-step mode", summary["fast"])):
        if figures:
            fvd = {length: (figures["fvd"] or {}).get(length, {}).get("model") for length in ("16", "32")}
            rows.append(
                Published(
                    f"this run, {name}", setting, figures["psnr"], figures["lpips"], figures["psnr_copy_last"],
                    figures["psnr_ceiling"], fvd["16"], fvd["32"],
                )
            )  # fmt: skip
    return rows
