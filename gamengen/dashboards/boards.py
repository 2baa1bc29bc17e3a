"""The dashboards: overview, collection, training, serving, out of the metrics that `monitor` names and Ray's own."""

from __future__ import annotations

from gamengen import monitor
from gamengen.dashboards.panels import Board, Panel
from gamengen.monitor import Metric

_RUN = '{run=~"$run"}'
_GAME = '{game=~"$game"}'
_WINDOW = "[$__rate_interval]"


def _rate(metric: Metric, by: str, chosen: str) -> str:
    """How much per second, by a label."""
    return f"sum by ({by}) (rate({metric.series}{chosen}{_WINDOW}))"


def _events(metric: Metric) -> str:
    """How often per second a rare thing of the served game happened: zero, and not nothing, where it never did."""
    players = f"sum by (game) ({monitor.SERVE_PLAYERS.series}{_GAME})"
    return f"{_rate(metric, 'game', _GAME)} or {players} * 0"


def _quantiles(metric: Metric) -> dict[str, str]:
    rate = _rate(metric, "le, game", _GAME)
    return {f"{{{{game}}}} {q:.0%}": f"histogram_quantile({q}, {rate})" for q in (0.5, 0.95, 0.99)}


def _batch_size() -> str:
    """Frames by batches: the sum that Ray gives of a histogram is made of the middles of its buckets."""
    batches = monitor.SERVE_BATCH_SIZE.series.replace("_bucket", "_count")
    return f"{_rate(monitor.SERVE_FRAMES, 'game', _GAME)} / sum by (game) (rate({batches}{_GAME}{_WINDOW}))"


def _trained(metric: Metric) -> dict[str, str]:
    return {"{{run}} {{stage}}": f"max by (run, stage) ({metric.series}{_RUN})"}


_NODE = "{{instance}}"
_NODES = (
    Panel("CPU", "share of each machine's cores", {_NODE: "ray_node_cpu_utilization / 100"}, "percentunit", width=6),
    Panel(
        "Memory", "share of each machine's memory", {_NODE: "ray_node_mem_used / ray_node_mem_total"}, "percentunit",
        width=6,
    ),
    Panel(
        "Disk", "share of each machine's disk; an alert at 90 %",
        {_NODE: "ray_node_disk_utilization_percentage / 100"}, "percentunit", width=6,
    ),
    Panel(
        "GPU", "mean use of all GPUs; zero where there are none",
        {"GPUs": "avg(ray_node_gpus_utilization) / 100 or vector(0)"}, "percentunit", width=6,
    ),
)  # fmt: skip

OVERVIEW = Board(
    "gamengen-overview", "gamengen: overview", "Every phase in a number, and the machines", {},
    (
        Panel("Machines", "that Ray has", {"machines": "count(ray_node_cpu_count)"}, kind="stat", width=3),
        Panel(
            "Frames recorded", "since the machines were started",
            {"frames": f"sum({monitor.COLLECT_FRAMES.series})"}, kind="stat", width=3,
        ),
        Panel(
            "Recording", "frames per second",
            {"frames": f"sum(rate({monitor.COLLECT_FRAMES.series}{_WINDOW}))"}, kind="stat", width=3,
        ),
        Panel(
            "Training loss", "of the stage at work",
            {"{{stage}}": f"max by (stage) ({monitor.TRAIN_LOSS.series})"}, kind="stat", width=3,
        ),
        Panel(
            "Training", "examples per second",
            {"examples": f"sum({monitor.TRAIN_SAMPLES_PER_SECOND.series})"}, kind="stat", width=3,
        ),
        Panel("Players", "connected", {"players": f"sum({monitor.SERVE_PLAYERS.series})"}, kind="stat", width=3),
        Panel(
            "Served", "frames per second",
            {"frames": f"sum(rate({monitor.SERVE_FRAMES.series}{_WINDOW}))"}, kind="stat", width=3,
        ),
        Panel(
            "Late frames", "per second: finished after their deadline",
            {"late": f"sum(rate({monitor.SERVE_LATE_FRAMES.series}{_WINDOW})) "
                     f"or sum({monitor.SERVE_PLAYERS.series}) * 0"},
            kind="stat", width=3,
        ),
        *_NODES,
    ),
)  # fmt: skip

COLLECTION = Board(
    "gamengen-collection", "gamengen: collection", "Recording play, learning to play, and turning frames into latents",
    {"run": monitor.COLLECT_FRAMES.series},
    (
        Panel(
            "Frames per second by machine", "recorded",
            {"{{run}} {{node}}": _rate(monitor.COLLECT_FRAMES, "run, node", _RUN)},
        ),
        Panel(
            "Frames per second by player", "collect: stand-alone; agent: while it learns",
            {"{{run}} {{source}}": _rate(monitor.COLLECT_FRAMES, "run, source", _RUN)},
        ),
        Panel(
            "Frames recorded", "since the machines were started; left: of the collection at work",
            {"{{run}}": f"sum by (run) ({monitor.COLLECT_FRAMES.series}{_RUN})",
             "{{run}} left": f"max by (run) ({monitor.COLLECT_FRAMES_LEFT.series}{_RUN})"},
            width=8,
        ),
        Panel(
            "Episodes recorded", "since the machines were started",
            {"{{run}}": f"sum by (run) ({monitor.COLLECT_EPISODES.series}{_RUN})"}, width=8,
        ),
        Panel(
            "Bytes per second by machine", "frames as they are encoded",
            {"{{run}} {{node}}": _rate(monitor.COLLECT_BYTES, "run, node", _RUN)}, "Bps", width=8,
        ),
        Panel(
            "Score of the agent", "mean of its last hundred episodes",
            {"{{run}}": f"max by (run) ({monitor.AGENT_SCORE.series}{_RUN})"}, width=8,
        ),
        Panel(
            "Decisions of the agent", "that it has learnt from",
            {"{{run}}": f"max by (run) ({monitor.AGENT_ENV_STEPS.series}{_RUN})"}, width=8,
        ),
        Panel(
            "Frames encoded per second", "turned into latents",
            {"{{run}}": _rate(monitor.ENCODE_FRAMES, "run", _RUN)}, width=8,
        ),
    ),
)  # fmt: skip

TRAINING = Board(
    "gamengen-training", "gamengen: training", "The stages of training, by run", {"run": monitor.TRAIN_STEP.series},
    (
        Panel("Loss", "mean between two lines of the log", _trained(monitor.TRAIN_LOSS)),
        Panel("Examples per second", "of all workers", _trained(monitor.TRAIN_SAMPLES_PER_SECOND)),
        Panel("Waiting for data", "share of the time", _trained(monitor.TRAIN_DATA_WAIT), "percentunit", width=8),
        Panel("MFU", "the model's FLOP over the device's peak", _trained(monitor.TRAIN_MFU), "percentunit", width=8),
        Panel("Memory", "the most that a worker has held", _trained(monitor.TRAIN_MEMORY_GB), "decgbytes", width=8),
        Panel("Step", "of the optimizer", _trained(monitor.TRAIN_STEP), width=8),
        Panel("Time left", "until the last step", _trained(monitor.TRAIN_SECONDS_LEFT), "s", width=8),
        Panel("Learning rate", "of the last step", _trained(monitor.TRAIN_LEARNING_RATE), "sci", width=8),
        Panel(
            "Losses that are no number", "each ended a training; an alert",
            {"{{run}} {{stage}}": f"sum by (run, stage) ({monitor.TRAIN_NOT_FINITE.series}{_RUN}) "
                                  f"or max by (run, stage) ({monitor.TRAIN_STEP.series}{_RUN}) * 0"},
        ),
    ),
)  # fmt: skip

SERVING = Board(
    "gamengen-serving", "gamengen: serving", "The game as it is played", {"game": monitor.SERVE_PLAYERS.series},
    (
        Panel("Players", "connected", {"{{game}}": f"sum by (game) ({monitor.SERVE_PLAYERS.series}{_GAME})"}, width=8),
        Panel("Frames per second", "of all players", {"{{game}}": _rate(monitor.SERVE_FRAMES, "game", _GAME)}, width=8),
        Panel(
            "Deadlines missed", "frames per second: late ones, and ticks without one; an alert",
            {"{{game}} late": _events(monitor.SERVE_LATE_FRAMES),
             "{{game}} skipped": _events(monitor.SERVE_SKIPPED_FRAMES)},
            width=8,
        ),
        Panel(
            "From action to frame", "waiting for the engine, its step, and encoding; not the network",
            _quantiles(monitor.SERVE_TURN_SECONDS), "s",
        ),
        Panel("Step of the engine", "for all players of a batch", _quantiles(monitor.SERVE_STEP_SECONDS), "s"),
        Panel(
            "From action to frame, all of them", "frames per second by the time that they took",
            {"{{le}}": _rate(monitor.SERVE_TURN_SECONDS, "le", _GAME)}, "s", kind="heatmap",
        ),
        Panel("Players in a batch", "mean", {"{{game}}": _batch_size()}, width=6),
        Panel(
            "Turned away, and failed", "per second: connections that were refused, batches on which the model failed",
            {"{{game}} refused": _events(monitor.SERVE_REFUSED_PLAYERS),
             "{{game}} failed": _events(monitor.SERVE_FAILED_BATCHES)},
            width=6,
        ),
    ),
)  # fmt: skip

BOARDS = (OVERVIEW, COLLECTION, TRAINING, SERVING)
