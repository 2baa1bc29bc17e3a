"""Collects play without learning: work items go through a pool of players into shards, each exactly once.

An item is a number: a budget of `collect.max_episode_frames` frames, its seed and its policy follow from it. Ray Data
plays the items and writes their rows; its checkpoint, kept in `collect-progress/`, records an item with two phases
around the shard that holds it. So a killed player, driver or machine costs the items in play and nothing else, and a
run that is started again, or with more `collect.num_frames`, plays the items that are missing.

An item's rows go from the player to the task that writes them through Ray's object store, and not through the driver.
What waits there is bounded: Ray Data takes at most half of the store, and where the disk is slower, the players wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any

import gymnasium
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import ray
import ray.data
from ray.data.block import BlockMetadata
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import Datasource, FilenameProvider, ReadTask

from gamengen import config as configs
from gamengen import envs, monitor, placement, ray_cluster, storage
from gamengen.collect import importing, policies
from gamengen.collect.holding import frames_per_decision
from gamengen.collect.playing import PREFIX, play_item
from gamengen.collect.recording import Origin
from gamengen.collect.writer import PARQUET, count_recorded, here, own_shards
from gamengen.config import Config
from gamengen.data import card, shards
from gamengen.data import chunk as chunks
from gamengen.data import codec as codecs

logger = logging.getLogger(__name__)

_MAX_ITEMS = 1_000_000  # seeds of one config.seed
_LARGEST_ITEM = 128 * 2**20  # bytes: Ray Data cuts larger blocks, and an item counts as done with its first part


def collect(config: Config) -> dict[str, Any]:
    """Play and record `collect.num_frames` frames with the policies of `collect.policies`; or import recordings."""
    if config.collect.import_folder is not None:
        return importing.import_recordings(config)
    started = time.monotonic()
    settings = config.collect
    missing = check(config)
    before = _count(config)
    if missing:
        for mark in _without_a_shard(config):
            storage.delete(mark)  # Ray Data would leave out what it says is done
        ray_cluster.connect()
        logger.info("collecting %d items of %d frames", len(missing), settings.max_episode_frames)
        play(config, missing)
    after = _count(config)
    seconds = time.monotonic() - started
    if not missing:
        logger.info("nothing left to do: %d frames are in %s/gameplay", after["frames"], config.folder)
    card.refresh(f"{config.folder}/gameplay")
    return {
        "phase": "collect",
        "run": config.run,
        **after,
        "new_frames": after["frames"] - before["frames"],
        "frames_per_second": round((after["frames"] - before["frames"]) / seconds, 1),
        "seconds": round(seconds, 1),
        "resumed": bool(before["frames"]),
        "nothing_left": not missing,
        "where": f"{config.folder}/gameplay",
    }


def check(config: Config) -> list[int]:
    """Return the seeds of the items that are still to be played.

    Raises:
        ValueError: policies that cannot play here, or settings other than those that the run was begun with.
    """
    envs.require_playable(config.game.name)
    settings = config.collect
    shares = settings.policies.values()
    if min(shares, default=-1) < 0 or sum(shares) <= 0:
        raise ValueError(f"collect.policies, got {settings.policies}; expected shares such as {{scripted: 1.0}}.")
    game = config.game_spec()
    for name in settings.policies:
        policies.make(name, config, game)
    codecs.encoder(settings.codec, game.frames_per_second)
    progress = f"{config.folder}/collect-progress"
    now = {"seed": config.seed, "max_episode_frames": settings.max_episode_frames, "game": game.to_json()}
    if storage.exists(f"{progress}/items.json"):
        begun = storage.read_json(f"{progress}/items.json")
        changed = [key for key in now if now[key] != begun[key]]
        if changed:
            raise ValueError(
                f"run {config.run!r} was begun with another {changed[0]}, {begun[changed[0]]}, got {now[changed[0]]}; "
                "expected the same, since the items of both would mix. Give this run another name."
            )
    storage.write_json(f"{progress}/items.json", now)
    num_items = -(-settings.num_frames // settings.max_episode_frames)
    if num_items > _MAX_ITEMS:
        raise ValueError(f"collect.num_frames, got {num_items} items; expected at most {_MAX_ITEMS}. Use several runs.")
    committed = _committed(config)
    return [seed for seed in (config.seed * _MAX_ITEMS + item for item in range(num_items)) if seed not in committed]


def _marks(config: Config) -> list[str]:
    """Return the files that say which items are safe, one for each shard."""
    done = storage.list_files(f"{config.folder}/collect-progress/done", ".parquet")
    return [mark for mark in done if not mark.endswith(".pending.parquet")]


def _without_a_shard(config: Config) -> list[str]:
    """Return the marks of shards that somebody has deleted, because they were damaged: to be played again."""
    shard_names = [shard.rpartition("/")[2] for shard in own_shards(f"{config.folder}/gameplay", PREFIX)]
    there = {name.rpartition("-")[0] for name in shard_names}  # a mark's name, and the number of the part
    return [mark for mark in _marks(config) if mark.rpartition("/")[2].removesuffix(".parquet") not in there]


def _committed(config: Config) -> set[int]:
    """Return the seeds of the items that are safe; many small files at once, since a bucket takes its time for each."""
    parts = sorted(set(_marks(config)) - set(_without_a_shard(config)))
    if not parts:
        return set()
    files = storage.filesystem(parts[0])[0]
    paths = [storage.filesystem(part)[1] for part in parts]
    return set(pyarrow.dataset.dataset(paths, filesystem=files).to_table(["seed"])["seed"].to_pylist())


def play(config: Config, seeds: list[int]) -> None:
    """Play items into shards; returns when all are safe."""
    settings = config.collect
    schema = chunks.schema(config.game_spec())
    gameplay = f"{config.folder}/gameplay"
    files, path = storage.filesystem(gameplay)
    num_cpus = 1 if settings.num_runners == "auto" else 0.5  # a number that somebody chose is not refused
    progress = Progress.options(num_cpus=0, scheduling_strategy=here()).remote()  # type: ignore[attr-defined]
    dataset = ray.data.read_datasource(_Items(seeds), override_num_blocks=len(seeds)).map_batches(
        Player,
        fn_constructor_args=(configs.to_dict(config), progress),
        batch_size=1,
        batch_format="pyarrow",
        compute=placement.pool(
            settings.num_runners, len(seeds), placement.ROLLOUT, num_cpus, max_tasks_in_flight_per_actor=2
        ),
        num_cpus=num_cpus,
        **placement.options(placement.ROLLOUT),
    )
    done, done_path = storage.filesystem(f"{config.folder}/collect-progress/done")
    dataset.context.checkpoint_config = CheckpointConfig(
        id_column="seed", checkpoint_path=done_path, override_filesystem=done, delete_checkpoint_on_success=False
    )
    dataset.context.target_max_block_size = _LARGEST_ITEM  # more, and Ray Data reserves more memory than there is
    dataset.context.enable_progress_bars = False
    reporter = _Reporter(config.run, progress, len(seeds) * settings.max_episode_frames)
    try:
        dataset.write_parquet(
            path,
            filesystem=files,
            filename_provider=_ShardNames(file_format="parquet"),
            min_bytes_per_file=settings.shard_bytes,
            schema=schema,
            **PARQUET,
        )
    finally:
        reporter.stop()


class Player:
    """Plays items; an actor of the pool."""

    def __init__(self, config: dict[str, Any], progress: Any) -> None:
        self._config = configs.from_dict(config)
        self._node = ray.util.get_node_ip_address()
        self._progress = progress
        self._envs: dict[bool, gymnasium.Env] = {}  # by whether they make an observation
        self._policies: dict[str, policies.Policy] = {}

    def __call__(self, batch: pa.Table) -> pa.Table:
        (seed,) = batch["seed"].to_pylist()
        name = policy_of(seed % _MAX_ITEMS, self._config.collect.policies)
        env, policy = self._player(name)
        origin = Origin(self._config.run, self._node, policy.version)
        rows = play_item(env, policy, self._config.collect, origin, seed)
        if rows.nbytes > _LARGEST_ITEM:
            raise ValueError(
                f"collect.max_episode_frames, got {self._config.collect.max_episode_frames}, which make {rows.nbytes} "
                f"bytes; expected at most {_LARGEST_ITEM} bytes. Take fewer frames or a smaller codec."
            )
        self._progress.add.remote(pc.sum(rows["num_frames"]).as_py())
        count_recorded(rows, PREFIX)
        return rows

    def _player(self, name: str) -> tuple[gymnasium.Env, policies.Policy]:
        if name not in self._policies:
            game, held = self._config.game_spec(), frames_per_decision(self._env(observes=False))
            self._policies[name] = policies.make(name, self._config, game, held)
        policy = self._policies[name]
        return self._env(policy.observes), policy

    def _env(self, observes: bool) -> gymnasium.Env:
        if observes not in self._envs:
            self._envs[observes] = policies.make_env(self._config, observes)
        return self._envs[observes]


def policy_of(item: int, shares: dict[str, float]) -> str:
    """Return who plays an item; over many items, and over the first few, everyone has their share."""
    position = (item + 0.5) * 0.6180339887498949 % 1 * sum(shares.values())  # the golden ratio spreads evenly
    for name, share in shares.items():
        position -= share
        if position < 0:
            return name
    return next(iter(shares))


class _Items(Datasource):
    """The items as a table of one column, one block each."""

    def __init__(self, seeds: list[int]) -> None:
        super().__init__()
        self._seeds = seeds

    def estimate_inmemory_data_size(self) -> int:
        return 8 * len(self._seeds)

    def get_read_tasks(self, parallelism: int, per_task_row_limit: int | None = None, **_: Any) -> list[ReadTask]:
        metadata = BlockMetadata(num_rows=1, size_bytes=8, input_files=None, exec_stats=None)
        return [ReadTask(lambda seed=seed: [pa.table({"seed": [seed]})], metadata) for seed in self._seeds]


class _ShardNames(FilenameProvider):
    """Names a shard after its write and task, so that a task that is done again writes the same file."""

    def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
        return f"{PREFIX}-{write_uuid}-{task_index:06d}"


@ray.remote
class Progress:
    """Counts the frames that the players have played."""

    def __init__(self) -> None:
        self._frames = 0

    def add(self, frames: int) -> None:
        self._frames += frames

    def frames(self) -> int:
        return self._frames


class _Reporter:
    """Logs the progress every ten seconds from a thread, while the main one waits for Ray Data."""

    def __init__(self, run: str, progress: Any, total: int) -> None:
        self._run_name, self._progress, self._total = run, progress, total
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        monitor.COLLECT_FRAMES_LEFT.set(0, run=self._run_name)

    def _run(self) -> None:
        started = time.monotonic()
        monitor.COLLECT_FRAMES_LEFT.set(self._total, run=self._run_name)
        while not self._stop.wait(10):
            try:
                frames = ray.get(self._progress.frames.remote())
            except ray.exceptions.RayError as error:
                logger.warning("no progress to report: %s", error)  # the work goes on
                continue
            monitor.COLLECT_FRAMES_LEFT.set(max(self._total - frames, 0), run=self._run_name)
            rate = frames / (time.monotonic() - started)
            left = f"{max(self._total - frames, 0) / rate:.0f} s left" if frames else "starting"
            logger.info("%d of %d frames, %.0f frames/s, %s", frames, self._total, rate, left)


def _count(config: Config) -> dict[str, Any]:
    """Count what is in the shards that are complete."""
    done = storage.list_files(f"{config.folder}/collect-progress/done", ".pending.parquet")
    pending = tuple(name.rpartition("/")[2].removesuffix(".pending.parquet") for name in done)
    frames: Counter[str] = Counter()
    episodes = size = 0
    for shard in own_shards(f"{config.folder}/gameplay", PREFIX):
        if pending and shard.rpartition("/")[2].startswith(pending):
            continue  # half-written when a run before was killed; Ray Data deletes it
        table = shards.read(shard, ["chunk", "num_frames", "agent_version"])
        for version, count in zip(table["agent_version"].to_pylist(), table["num_frames"].to_pylist(), strict=True):
            frames[version] += count
        episodes += pc.sum(pc.equal(table["chunk"], 0)).as_py()
        files, path = storage.filesystem(shard)
        size += files.get_file_info(path).size
    total = sum(frames.values())
    shares = {version: round(count / total, 3) for version, count in sorted(frames.items())}
    return {"frames": total, "episodes": episodes, "bytes": size, "policies": shares}
