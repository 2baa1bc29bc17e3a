"""The YAML of a run as frozen dataclasses: loading, overriding and checking it. Knows no phase's work.

One file describes one run completely: no key has a default here, so that what you read is what runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from gamengen.game import GameSpec

Workers = int | Literal["auto"]  # "auto": as many as the cluster has room for, and more as it grows
_Settings = typing.TypeVar("_Settings")


@dataclass(frozen=True)
class GameConfig:
    """Which game, and the options that its `make` takes."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class AgentConfig:
    """The RLlib agent that learns to play while everything it does is recorded."""

    algorithm: Literal["dqn", "ppo"]
    options: dict[str, Any]  # the algorithm's own, the `Options` of gamengen.collect.<algorithm>
    observation: Literal["state", "pixels", "none"]
    num_episodes: int
    max_env_steps: int  # decisions, each held for one or more frames
    learning_rate: float
    gamma: float
    reward_scale: float  # of what is learnt from; what is recorded and reported is the game's own reward
    train_batch_size: int  # examples per update of the network
    rollout_steps: int  # steps of each env between two rounds of updates
    num_runners: int
    num_envs_per_runner: int
    evaluation_episodes: int
    checkpoint_every: int  # iterations
    keep_checkpoints: int  # policies kept for ever, evenly over the training: agent@early ... agent@late
    recorded_share: float  # of the episodes in training; the paper, too, trains on a random subset of them


@dataclass(frozen=True)
class CollectConfig:
    """How play is recorded; all but the last four settings also hold for the recording of an agent's training."""

    codec: str
    chunk_frames: int
    shard_bytes: int
    split_val: float
    split_test: float
    max_episode_frames: int
    # Chance that the last decision is held once more in place of the player's, in all play that is recorded: an agent's
    # training and stand-alone collection. GameNGen raises it to see longer movements (A.5) and does not say how much.
    # An agent's score is measured without it.
    repeat_probability: float
    num_frames: int
    policies: dict[str, float]  # name -> share of the frames, see gamengen.collect.policies
    num_runners: Workers
    # In YAML `import`, which Python keeps for itself: recordings made elsewhere, taken in place of play.
    import_folder: Annotated[str | None, pydantic.Field(alias="import")]


@dataclass(frozen=True)
class AutoencoderConfig:
    """An architecture of `gamengen.models.autoencoders` and its own settings."""

    name: str
    options: dict[str, Any]


@dataclass(frozen=True)
class DenoiserConfig:
    """An architecture of `gamengen.models.denoisers` and its own settings."""

    name: str
    options: dict[str, Any]
    context_length: int


@dataclass(frozen=True)
class DiffusionConfig:
    """The noise schedule and the noise augmentation, the same for training and sampling (GameNGen, section 3)."""

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: Literal["linear", "scaled_linear"]
    zero_terminal_snr: bool
    noise_offset: float  # deviation of what all positions of a channel share of the noise: `models.diffusion.Schedule`
    start_fraction: float  # share of training examples at exactly the timesteps that sampling visits
    max_noise_level: float
    num_noise_buckets: int
    clean_context_fraction: float
    context_dropout: float
    blended_context_fraction: float
    max_context_blend: float


@dataclass(frozen=True)
class SamplerConfig:
    """How a frame is sampled: `timesteps` from the first, which sees pure noise, to the last; see
    `gamengen.models.sampler`. If the first leaves some of the signal, training reads off it what play does not have."""

    timesteps: tuple[int, ...]
    guidance_scale: float
    noise_level: float
    noise_scales: tuple[float, ...]


@dataclass(frozen=True)
class StageConfig:
    """Settings that every stage of the train job has."""

    steps: int
    batch_size: int  # over all workers and all parts of a step
    accumulation: int  # parts of a step, one after the other: the memory of one, the gradient of all
    optimizer: Literal["adamw", "adafactor", "muon"]
    learning_rate: float
    warmup_steps: int
    schedule: Literal["constant", "cosine", "linear"]
    weight_decay: float
    clip_norm: float
    ema_decay: float
    log_every: int
    checkpoint_every: int


@dataclass(frozen=True)
class AutoencoderStage(StageConfig):
    """Reconstruction of random crops."""

    crop: int
    latent_noise: float
    l1_weight: float


@dataclass(frozen=True)
class DecoderStage(StageConfig):
    """The decoder alone, by mean squared error of random crops, for latents of the encoder as it is; 0 steps leave the
    stage out of a pipeline."""

    crop: int


@dataclass(frozen=True)
class WindowStage(StageConfig):
    """A stage over windows of latents; how they are drawn, see `gamengen.data.window.WindowRules`. In the last
    `unrolled_steps` of the steps some pasts are the network's own work, see `gamengen.train.unrolling`."""

    restart_joins: float
    event_fraction: float
    draws_per_window: int  # of noise; the network reads the window's past once for all
    unrolled_steps: int  # 0 leaves it out
    unrolled_every: int  # each n-th window of a batch
    unrolled_frames: int  # in a row that the network makes, at most


@dataclass(frozen=True)
class DenoiserStage(WindowStage):
    """Next-frame diffusion; the draws of a window are at different timesteps."""

    unrolled_tolerance: float  # in latents: where its frames are much farther off the recorded ones, nothing is learnt


@dataclass(frozen=True)
class DistillStage(WindowStage):
    """One step in place of several, see `gamengen.train.distill`: regression onto the teacher's result from the same
    noise, and in the last `matching_steps` of the steps distribution matching."""

    max_noise_level: float
    matching_steps: int
    regression_weight: float  # in these
    fake_score_steps: int  # of the fake-score network for each of the generator; both count as steps
    guidance_scale: float  # of the teacher's scores


@dataclass(frozen=True)
class TrainConfig:
    """Where and how the networks are trained."""

    # Or a pair, [fewest, most]: training begins with the fewest and takes in machines as they come, up to the most.
    num_workers: int | tuple[int, int]
    use_gpu: bool
    precision: Literal["auto", "fp32", "bf16"]
    compile: bool  # by torch.compile: a minute or more at the start, for a GPU that is kept busy
    sharded: bool  # over the workers (FSDP2), where one GPU holds a denoiser but not what its training takes
    num_lanes: int  # parallel streams of examples; a multiple of num_workers, fixed for a run
    max_failures: int
    autoencoder: AutoencoderStage
    decoder: DecoderStage
    denoiser: DenoiserStage
    distill: DistillStage


@dataclass(frozen=True)
class EncodeConfig:
    """Frame shards to latent shards."""

    num_workers: Workers
    use_gpu: bool
    batch_size: int


@dataclass(frozen=True)
class TablesConfig:
    """The paper's comparisons; an empty one is left out. See `gamengen.evaluate.tables`."""

    num_windows: int  # of num_windows, for every row
    num_starts: int  # of num_horizon_starts, for every drift curve
    sampling_steps: tuple[int, ...]
    context_lengths: tuple[int, ...]
    noise_levels: tuple[float, ...]
    models: dict[str, str]  # label -> folder of another model of the same game


@dataclass(frozen=True)
class EvaluateConfig:
    """What is measured on held-out episodes, and on how many."""

    num_windows: int
    horizons: tuple[int, ...]
    num_horizon_starts: int
    num_action_starts: int
    num_rollouts: int
    rollout_frames: int
    batch_size: int  # games played side by side by one worker
    num_workers: int  # 1 works in the job's own process, more share the work as Ray tasks
    use_gpu: bool
    video_frames: int
    # Metrics that need weights: null leaves them out, "download" takes the usual ones, or a path, at will with its
    # checksum (/data/i3d.pt#sha256=...); see gamengen.metrics.weights.
    lpips: str | None
    fvd: str | None
    inverse_dynamics_steps: int  # of the network that judges whether actions are followed; 0 leaves it out
    tables: TablesConfig


@dataclass(frozen=True)
class ServeConfig:
    """The served game; `max_players` and `max_batch` hold for each replica."""

    model: Literal["denoiser", "distilled"]
    host: str
    port: int
    origins: tuple[str, ...]  # pages of other hosts that may connect, such as https://example.org
    max_players: int
    max_batch: int
    jpeg_quality: int
    num_replicas: int
    threads: int  # CPU threads of a replica's engine; 0 takes every core of the machine
    use_gpu: bool


@dataclass(frozen=True)
class Config:
    """One run. `storage` is an absolute path, `~`, or a `pyarrow.fs` URI such as `s3://bucket/prefix`."""

    run: str
    storage: str
    seed: int
    game: GameConfig
    agent: AgentConfig
    collect: CollectConfig
    autoencoder: AutoencoderConfig
    encode: EncodeConfig
    denoiser: DenoiserConfig
    diffusion: DiffusionConfig
    sampler: SamplerConfig
    fast_sampler: SamplerConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    serve: ServeConfig

    @property
    def folder(self) -> str:
        """Where all artifacts of this run live."""
        return f"{self.storage.rstrip('/')}/{self.run}"

    def game_spec(self) -> GameSpec:
        """Return the GameSpec with what `game.options` change."""
        from gamengen import envs  # a config is read where no game can be played, too

        env = envs.make(self.game.name, **self.game.options)
        try:
            return env.unwrapped.game_spec
        finally:
            env.close()


def load(path: str | Path, overrides: typing.Sequence[str] = ()) -> Config:
    """Read a run's YAML and apply `key.subkey=value` overrides (values are YAML).

    Raises:
        ValueError: an unknown or missing key, a wrong type or value; names the key and the nearest right one.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"no config file at {path}; expected a YAML such as configs/quickstart.yaml.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ValueError(f"cannot read {path} ({reason}); expected a YAML such as configs/quickstart.yaml.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {type(tree).__name__}, not settings; expected `key: value` lines.")
    for override in overrides:
        _apply(tree, override)
    return from_dict(tree, where=str(path))


def from_dict(tree: dict[str, Any], where: str = "config") -> Config:
    """Check a tree of settings and build the Config; raises ValueError as `load` does."""
    config = build(Config, tree, where=where)
    storage = _place(config.storage, "storage", where)
    collect = config.collect
    if collect.import_folder is not None:
        collect = dataclasses.replace(collect, import_folder=_place(collect.import_folder, "collect.import", where))
    evaluate = _placed_weights(config.evaluate, where)
    if not config.run or "/" in config.run:
        raise ValueError(f"{where}: run must be a folder's name, got {config.run!r}.")
    return dataclasses.replace(config, storage=storage, collect=collect, evaluate=evaluate)


def build(owner: type[_Settings], tree: dict[str, Any], key: str = "", where: str = "config") -> _Settings:
    """Check a tree of settings and build its frozen dataclass, every field of which must be given.

    Args:
        owner: the dataclass.
        key: where the settings stand in the YAML, such as "agent.options"; for messages.

    Raises:
        ValueError: as `load` does.
    """
    prefix = f"{key}." if key else ""
    _check_keys(owner, tree, prefix, where)
    try:
        return pydantic.TypeAdapter(owner).validate_python(tree)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = prefix + ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {name}: {first['msg']}, got {first['input']!r}.") from None


def to_dict(config: Config) -> dict[str, Any]:
    """Return plain YAML-able settings; `from_dict` of it gives the same Config."""
    return pydantic.TypeAdapter(Config).dump_python(config, mode="json", by_alias=True)


def _place(place: str, key: str, where: str) -> str:
    """Return a path or URI that means the same on every machine."""
    if "://" in place:
        return place
    path = Path(place).expanduser()
    if not path.is_absolute():
        raise ValueError(
            f"{where}: {key} must be absolute, got {place!r}: a Ray job runs in a copy of the working directory. "
            "Give an absolute path, ~/..., or a URI such as s3://bucket/prefix."
        )
    return str(path)


def _placed_weights(evaluate: EvaluateConfig, where: str) -> EvaluateConfig:
    """Return the settings with paths of weights and models that mean the same on every machine."""
    paths = {key: getattr(evaluate, key) for key in ("lpips", "fvd")}
    placed = {
        key: place if place in (None, "download") else _place(place, f"evaluate.{key}", where)
        for key, place in paths.items()
    }
    models = {
        label: _place(place, f"evaluate.tables.models.{label}", where)
        for label, place in evaluate.tables.models.items()
    }
    return dataclasses.replace(evaluate, **placed, tables=dataclasses.replace(evaluate.tables, models=models))


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ValueError(f"override {override!r} has no '='; expected key.subkey=value.")
    node, parts = tree, key.split(".")
    for depth, part in enumerate(parts[:-1]):
        if not isinstance(node.get(part), dict):
            raise ValueError(f"override {override!r}: {_unknown('.'.join(parts[: depth + 1]), part, node)}")
        node = node[part]
    free = len(parts) > 1 and parts[-2] in (
        "options",
        "policies",
        "models",
    )  # mappings whose keys belong to someone else
    if parts[-1] not in node and not free:
        raise ValueError(f"override {override!r}: {_unknown(key, parts[-1], node)}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"override {override!r}: its value is not YAML: {reason}") from None
    if isinstance(value, str):  # YAML 1.1 reads 1e-4 as a string
        with contextlib.suppress(ValueError):
            value = float(value)
    node[parts[-1]] = value


def _unknown(key: str, part: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(part, list(known), n=1, cutoff=0.5)
    return f"unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else f"expected one of {sorted(known)}.")


def _hints(owner: type) -> dict[str, Any]:
    """Return the type of every key as it is called in YAML."""
    hints: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(owner, include_extras=True).items():
        notes = [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, pydantic.fields.FieldInfo)]
        hints[next((note.alias for note in notes if note.alias), name)] = hint
    return hints


def _check_keys(owner: type, tree: Any, prefix: str, where: str) -> None:
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: {prefix or 'the file'} must hold settings, got {tree!r}.")
    hints = _hints(owner)
    for key in tree:
        if key not in hints:
            raise ValueError(f"{where}: {_unknown(f'{prefix}{key}', str(key), hints)}")
    for key, hint in hints.items():
        if key not in tree:
            raise ValueError(f"{where}: {prefix}{key} is missing; a config is complete, see configs/quickstart.yaml.")
        if dataclasses.is_dataclass(hint):
            _check_keys(typing.cast(type, hint), tree[key], f"{prefix}{key}.", where)
        elif hint is float and isinstance(tree[key], str):
            with contextlib.suppress(ValueError):
                tree[key] = float(tree[key])  # YAML 1.1 reads 1e-4 as a string
