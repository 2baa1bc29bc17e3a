"""The model card: `README.md` of a model folder, as Hugging Face's hub shows it; made of the folder's JSON alone.

So it can be written again at any time, and says what the folder says: an evaluation adds its figures to
`provenance.json`, and the card follows.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

from gamengen import storage
from gamengen.game import GameSpec

NAME = "README.md"
MARK = "<!-- Written by gamengen, and again after every evaluation. Delete this line to keep your own text. -->"
UNKNOWN_LICENCE = {"id": "other", "text": "The licence of the pictures that it learnt is not noted."}
CODE_LICENCE = "The code that made it, and loads it, is gamengen's, under the MIT licence."
PRETRAINED_LICENCE = (
    "It began from the weights of `{}`, whose licence holds for it, too (Stable Diffusion 1.4: CreativeML Open RAIL-M)."
)
LABELS = {
    "psnr": "next frame, PSNR in dB",
    "psnr_copy_last": "copying the last frame",
    "psnr_ceiling": "the autoencoder's ceiling",
    "headroom": "share of the way from copying to the ceiling",
    "ssim": "next frame, SSIM",
    "sharpness": "next frame, sharpness (mean modified Laplacian, grey levels)",
    "sharpness_copy_last": "of a recorded one",
    "event_rate_ratio": "new events, as a share of the real game's",
    "crash_rate": "contacts that end in game over",
    "stuck_rollouts": "rollouts stuck in game over",
    "static_psnr_500": "what stands still, at the rollouts' last frame, PSNR in dB",
}
_HIDDEN = ("seconds", "intervals", "reasons", "resumed", "report", "phase", "fast", "real")


def write(folder: str, game: GameSpec) -> None:
    """Write the card of a folder that has all else, whole or not at all; somebody's own README.md is left alone."""
    card = f"{folder.rstrip('/')}/{NAME}"
    if storage.exists(card) and MARK not in storage.read_bytes(card).decode(errors="replace"):
        return
    storage.write_bytes(card, text(folder, game).encode())


def add_evaluation(folder: str, figures: Mapping[str, Any], hardware: str, licence: Mapping[str, str]) -> None:
    """Add what an evaluation measured of a model to its `provenance.json` and card, unless it is there already.

    Args:
        figures: of this model, those of one mode in `summary-evaluate.json`.
        hardware: on which it was measured.
        licence: of the game's pictures, `id` and `text`, for a folder that does not say.
    """
    folder = folder.rstrip("/")
    provenance = storage.read_json(f"{folder}/provenance.json")
    figures = {name: value for name, value in figures.items() if name not in _HIDDEN}
    if provenance.get("evaluation", {}).get("figures") != figures:
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        provenance["evaluation"] = {"date": day, "hardware": hardware, "figures": figures}
    provenance.setdefault("licence", dict(licence))
    storage.write_json(f"{folder}/provenance.json", provenance)
    write(folder, GameSpec.from_json(json.dumps(storage.read_json(f"{folder}/game.json"))))


def text(folder: str, game: GameSpec) -> str:
    """Return the card of a folder of `game`."""
    provenance = storage.read_json(f"{folder}/provenance.json")
    parts = {name: _part(f"{folder}/{name}") for name in ("autoencoder", "denoiser")}
    pretrained = sorted({_begun_from(part) for part in parts.values()} - {""})
    licence = provenance.get("licence", UNKNOWN_LICENCE)
    sections = [
        _front_matter(game, "other" if pretrained else licence["id"], pretrained),
        f"# {game.name}: a game that is a network",
        MARK,
        _what_it_is(game, parts["denoiser"]),
        "## Figures",
        _figures(provenance.get("evaluation")),
        "## What is inside",
        _inside(folder, parts),
        "## Playing it",
        _playing(game, parts["denoiser"]),
        "## How it was made",
        _made(provenance),
        "## Licence",
        "\n\n".join([licence["text"], *(PRETRAINED_LICENCE.format(name) for name in pretrained), CODE_LICENCE]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def count_parameters(file: str) -> int:
    """Return how many numbers a safetensors file holds, from its header alone."""
    shapes = [entry["shape"] for name, entry in _header(file).items() if name != "__metadata__"]
    total = 0
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        total += size
    return total


def _header(file: str) -> dict[str, Any]:
    length = int.from_bytes(storage.read_part(file, 0, 8), "little")
    return json.loads(storage.read_part(file, 8, length))


def _part(folder: str) -> dict[str, Any]:
    return storage.read_json(f"{folder}/config.json") if storage.exists(f"{folder}/config.json") else {}


def _begun_from(part: Mapping[str, Any]) -> str:
    """Return the name of the pretrained weights; of a folder, no more than its last part."""
    place = part.get("options", {}).get("pretrained") or ""
    return place if _on_the_hub(place) else place.rstrip("/").rpartition("/")[2]


def _on_the_hub(place: str) -> bool:
    return place.count("/") == 1 and not place.startswith((".", "/", "~"))


def _front_matter(game: GameSpec, licence: str, pretrained: Sequence[str]) -> str:
    lines = ["---", f'pretty_name: "{game.name}: a game that is a network"', f"license: {licence}"]
    lines += ["library_name: gamengen", "tags: [gamengen, world-model, diffusion, game]"]
    lines += [f"base_model: {name}" for name in pretrained[:1] if _on_the_hub(name)]
    return "\n".join([*lines, "---"])


def _what_it_is(game: GameSpec, denoiser: Mapping[str, Any]) -> str:
    seen = game.unpadded()
    pixels = f"{seen.width}x{seen.height} pixels at {seen.frames_per_second:g} frames per second"
    if not denoiser:
        return f"An autoencoder of the frames of `{game.name}`: {pixels}. It plays nothing by itself."
    length = denoiser["context_length"]
    return (
        f"A network that is the game `{game.name}`: from the last {length} frames and actions it draws the next frame, "
        f'{pixels}. It runs no rule of the game; it has learnt them from recorded play, as in "Diffusion Models Are '
        f'Real-Time Game Engines" (GameNGen). It remembers {length / seen.frames_per_second:.2g} seconds and nothing '
        f"else. Actions: {', '.join(f'`{action}`' for action in game.actions)}."
    )


def _figures(evaluation: Mapping[str, Any] | None) -> str:
    if not evaluation:
        return "Not evaluated yet: `python -m jobs.evaluate --config <yaml>` measures the run's models."
    figures = evaluation["figures"]
    rows = [(LABELS[name], figures[name]) for name in LABELS if figures.get(name) is not None]
    for name, value in figures.items():
        if isinstance(value, Mapping):
            rows += [(f"{name} {part}", inner) for part, inner in value.items()]
        elif name not in LABELS:
            rows.append((name, value))
    shown = [[label, _number(value)] for label, value in rows if _number(value)]
    return (
        f"Measured on held-out play by `python -m jobs.evaluate` on {evaluation['date']}, {evaluation['hardware']}.\n\n"
        f"{_table(['figure', 'value'], shown)}"
    )


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _inside(folder: str, parts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, part in parts.items():
        if part:
            count = count_parameters(f"{folder}/{name}/model.safetensors")
            rows.append([f"`{name}/`", f"`{part['name']}`", f"{count:,}", f"`{json.dumps(part['options'])}`"])
    lines = [_table(["part", "architecture", "parameters", "settings"], rows)]
    if storage.exists(f"{folder}/scheduler/config.json"):
        sampler = storage.read_json(f"{folder}/scheduler/config.json")["sampler"]
        lines.append(
            f"A frame takes {len(sampler['timesteps'])} step{'s' * (len(sampler['timesteps']) != 1)} of the denoiser, "
            f"with `{json.dumps(sampler)}`. Weights are safetensors; nothing is unpickled to load them."
        )
    return "\n\n".join(lines)


def _playing(game: GameSpec, denoiser: Mapping[str, Any]) -> str:
    if not denoiser:
        return '`gamengen.checkpoint.Model.from_pretrained("<this folder, or its name on the hub>").autoencoder`'
    return f"""In a browser: `gamengen play model=<this folder, or its name on the hub>`. In Python:

```python
from gamengen.engine import GameEngine

engine = GameEngine.from_pretrained("<this folder, or its name on the hub>")
frames, state = engine.reset(starts=[0], seeds=[7])
frames, state = engine.step(state, [engine.game.action_index("{game.actions[-1]}")])  # uint8 [1, height, width, 3]
```"""


def _made(provenance: Mapping[str, Any]) -> str:
    config, figures = provenance.get("config"), provenance.get("figures", {})
    revision = f"gamengen at git revision `{provenance.get('git_revision', 'unknown')}`"
    if not config:
        return f"Not trained; written by {revision}."
    stage = figures.get("stage", "")
    steps = config["train"].get(stage, {}).get("steps")
    trained = f"Stage `{stage}` of run `{config['run']}`" + (f", {steps:,} steps" if steps else "")
    rows = [[name, _number(value)] for name, value in figures.items() if _number(value)]
    return f"""{trained}, by {revision}. `provenance.json` has every setting of the run; with it, the whole run again:

```
python -c "import json; print(json.dumps(json.load(open('provenance.json'))['config']))" > run.yaml
python -m jobs.pipeline --config run.yaml
```

{_table(["of the training", "value"], rows) if rows else ""}""".rstrip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
