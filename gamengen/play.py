"""Serves a model that is there already: one of `gamengen/weights`, or any other model folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gamengen import hub, local_head, ray_token, storage
from gamengen.config import Config
from gamengen.serve import launch

WEIGHTS = Path(__file__).parent / "weights"  # <game>/denoiser and <game>/distilled; in the source tree alone
MODELS = ("denoiser", "distilled")  # of a game: the one of several steps before the one of a single step


def shipped(weights: Path = WEIGHTS) -> list[str]:
    """Return the games whose weights lie in this checkout."""
    return sorted({file.parts[-3] for name in MODELS for file in weights.glob(f"*/{name}/game.json")})


def find(game: str, model: str = "", weights: Path = WEIGHTS) -> str:
    """Return the folder of a model.

    Args:
        game: of `gamengen/weights`.
        model: `denoiser` or `distilled` of that game, by default the first that is there; or any model folder, whatever
            its game: a path, a URI such as `s3://bucket/run/denoiser`, or a name on the hub.

    Raises:
        ValueError: there is no such model; says what there is.
    """
    if model and model not in MODELS:
        folder = hub.fetch(model)
        folder = folder if "://" in folder else str(Path(folder).expanduser().resolve())
        if not storage.exists(f"{folder}/game.json"):
            raise ValueError(f"model, got {model!r}; expected {', '.join(MODELS)} or the folder of a trained model.")
        return folder
    for candidate in (model,) if model else MODELS:
        if (weights / game / candidate / "game.json").exists():
            return str(weights / game / candidate)
    games = shipped(weights)
    raise ValueError(
        f"no weights here of game {game!r}{f', model {model!r}' if model else ''}; "
        f"expected {'one of ' + ', '.join(games) if games else f'some in {weights}, where none are'}. "
        "Train your own with `make quickstart`, or give a model folder: model=<folder>."
    )


def play(config: Config, model: str) -> dict[str, Any]:
    """Serve a model folder with a config's `serve` settings and return the summary; the game outlives this process.

    Nothing but the model folder is needed, and nothing is written into it: the summary goes to
    `<storage>/play-<game>/summary-play.json`. Without RAY_ADDRESS it runs on this checkout's own Ray, which `make stop`
    ends.

    Raises:
        ValueError: the game cannot be started.
    """
    if not os.environ.get("RAY_ADDRESS"):
        head = local_head.start()
        os.environ["RAY_ADDRESS"] = head.address
        ray_token.use(head.token_path)
    summary = {**launch.serve_model(model, config.serve), "phase": "play"}
    storage.write_json(f"{config.storage.rstrip('/')}/play-{summary['game']}/summary-play.json", summary)
    return summary
