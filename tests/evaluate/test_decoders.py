"""The small things that an autoencoder keeps: its figures and crops, before and after the decoder was tuned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from gamengen.checkpoint import Model
from gamengen.config import Config
from gamengen.data import shards
from gamengen.envs import load
from gamengen.evaluate import decoders, report_tables


def test_a_better_decoder_shows_in_the_score(run: Config, tmp_path: Path) -> None:
    config = dataclasses.replace(run, storage=str(tmp_path))
    (tmp_path / run.run).mkdir()
    (tmp_path / run.run / "gameplay").symlink_to(f"{run.folder}/gameplay")
    assert decoders.measure(config) is None and decoders.figures_of(None) is None
    model = Model.from_pretrained(f"{run.folder}/denoiser")
    paths = shards.find(f"{run.folder}/gameplay")
    images = next(shards.episodes(paths)).frames[:8]
    top, bottom = model.autoencoder.margins
    coded = torch.from_numpy(images[:, top : images.shape[1] - bottom]).movedim(-1, 1).float() / 127.5 - 1
    model.autoencoder.initialise(coded)
    dataclasses.replace(model, denoiser=None).save_pretrained(f"{config.folder}/decoder")
    with torch.no_grad():
        model.autoencoder.linear_decoder.weight.mul_(0.5)  # before: pale
    dataclasses.replace(model, denoiser=None).save_pretrained(f"{config.folder}/autoencoder")
    decoded = decoders.measure(config)
    figures = decoders.figures_of(decoded)
    assert decoded is not None and figures is not None and list(figures) == ["whole frame", "score"]
    for part in figures.values():
        assert part["gain"] > 1 and abs(part["after"] - part["before"] - part["gain"]) < 1e-3
        assert part["intervals"]["gain"][0] > 0
    rows = decoders.crops(decoded)["score"]
    assert len(rows) == decoders.NUM_PICTURES and all(len(row) == 3 for row in rows)
    assert rows[0][0].shape == decoded.recorded[0][decoded.regions["score"]].shape
    page = "".join(report_tables.decoder({"decoder": figures}, decoded))
    assert "score" in page and "with the tuned decoder" in page and "data:image/png" in page


def test_regions_lie_in_the_frame() -> None:
    for name, height, width in (("chrome_dino", 128, 256), ("chrome_dino", 256, 512), ("doom", 240, 320)):
        for rows, columns in load(name).REGIONS(height, width).values():
            part = np.zeros((height, width))[rows, columns]
            assert 0 < part.size < height * width / 4
