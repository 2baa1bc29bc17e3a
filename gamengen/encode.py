"""The phase `encode`: turns shards of frames into shards of latents, one for one, on Ray Data."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import torch

from gamengen import monitor, placement, ray_cluster, storage
from gamengen.checkpoint import Model, weights_fingerprint
from gamengen.config import Config
from gamengen.data import shards
from gamengen.data.chunk import from_row, game_of, schema, to_latent_row
from gamengen.models import autoencoders
from gamengen.models.precision import fastest

logger = logging.getLogger(__name__)
_FINGERPRINT = b"gamengen.autoencoder"


def encode(config: Config) -> dict[str, Any]:
    """Encode every shard of `gameplay/` that `latents/` does not have yet.

    A latent shard has its source's name, carries the fingerprint of the autoencoder that made it, and is written whole;
    so a second run does what is left, latents of another autoencoder are made anew, and those whose source is gone go.

    Raises:
        ValueError: no gameplay, damaged shards, no autoencoder, or one of another game.
    """
    begun = time.perf_counter()
    ray_cluster.connect()
    game = config.game_spec()
    sources = shards.find(f"{config.folder}/gameplay", game)
    autoencoder_folder = f"{config.folder}/autoencoder"
    if Model.from_pretrained(autoencoder_folder).game != game:
        raise ValueError(f"{autoencoder_folder} was trained on another game or frame size; give this run another name.")
    fingerprint = weights_fingerprint(autoencoder_folder, "autoencoder")
    _drop_latents_without_a_source(config, sources)
    left = [shard for shard in sources if not _is_done(_target(shard), fingerprint)]
    frames = 0
    if left:
        settings, num_gpus = config.encode, 1 if config.encode.use_gpu else 0
        done = ray.data.from_items([{"shard": shard} for shard in left], override_num_blocks=len(left)).map(
            Encoder,
            fn_constructor_args=(autoencoder_folder, settings.batch_size, settings.use_gpu),
            compute=placement.pool(settings.num_workers, len(left), placement.TRAIN, num_cpus=1, num_gpus=num_gpus),
            num_cpus=1,
            num_gpus=num_gpus,
            **placement.options(placement.TRAIN),
        )
        for count, row in enumerate(done.iter_rows(), start=1):
            frames += row["frames"]
            monitor.ENCODE_FRAMES.add(row["frames"], run=config.run)
            elapsed = time.perf_counter() - begun
            logger.info(
                "shard %d of %d, %d frames, %.0f per second, %.0f s left",
                count, len(left), frames, frames / elapsed, elapsed / count * (len(left) - count),
            )  # fmt: skip
    elapsed = time.perf_counter() - begun
    return {
        "phase": "encode",
        "folder": f"{config.folder}/latents",
        "shards": len(sources),
        "shards_encoded": len(left),
        "frames_encoded": frames,
        "frames_per_second": round(frames / elapsed, 1),
        "seconds": round(elapsed, 1),
    }


class Encoder:
    """Encodes one shard per call, a few frames at a time."""

    def __init__(self, autoencoder_folder: str, batch_size: int, use_gpu: bool) -> None:
        if not use_gpu:
            torch.set_num_threads(os.cpu_count() or 1)
        self.device = torch.device("cuda" if use_gpu else "cpu")
        self.autoencoder = Model.from_pretrained(autoencoder_folder).autoencoder.to(self.device).eval()
        self.fingerprint = weights_fingerprint(autoencoder_folder, "autoencoder")
        self.batch_size = batch_size
        self.dtype = fastest(self.device)  # latents are kept in 16 bits: the picture loses less than 0.1 of 42 dB

    def __call__(self, item: Mapping[str, str]) -> dict[str, int]:
        source = item["shard"]
        table = shards.read(source)
        frames = 0
        metadata = {_FINGERPRINT: self.fingerprint.encode()}
        out_schema = schema(game_of(table.schema, source), latents=True)
        out_schema = out_schema.with_metadata({**out_schema.metadata, **metadata})
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, out_schema, compression="none") as writer:
            for index in range(len(table)):
                chunk = from_row(table.slice(index, 1).to_pylist()[0])
                row = to_latent_row(dataclasses.replace(chunk, frames=self._encode(chunk.frames)))
                writer.write_table(pa.Table.from_pylist([row], schema=out_schema))
                frames += len(chunk.frames)
        storage.write_bytes(_target(source), buffer.getvalue())
        return {"frames": frames}

    @torch.inference_mode()
    def _encode(self, frames: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(frames), self.batch_size):
            part = torch.from_numpy(frames[start : start + self.batch_size]).to(self.device)
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                latents = self.autoencoder.encode(autoencoders.to_images(part))
            parts.append(latents.half().cpu().numpy())
        return np.concatenate(parts)


def _drop_latents_without_a_source(config: Config, sources: Sequence[str]) -> None:
    """Delete latents whose frames are no longer in the run: what is recorded in their place would be there twice."""
    targets = {_target(source) for source in sources}
    for latents in storage.list_files(f"{config.folder}/latents", ".parquet"):
        if latents not in targets:
            logger.info("%s is deleted: its frames are no longer in %s/gameplay", latents, config.folder)
            storage.delete(latents)


def _target(source: str) -> str:
    folder, _, name = source.rpartition("/")
    return f"{folder.rpartition('/')[0]}/latents/{name}"


def _is_done(target: str, fingerprint: str) -> bool:
    if not storage.exists(target):
        return False
    try:
        metadata = shards.schema(target).metadata or {}
    except (pa.ArrowInvalid, OSError):
        return False
    return metadata.get(_FINGERPRINT, b"").decode() == fingerprint
