"""Who imports whom: the table of the design, read out of the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gamengen"

_NOUNS = ["game", "progress", "envs", "storage", "data", "models", "hub", "model_card", "engine", "checkpoint"]
_NOUNS += ["metrics", "config"]
_BELOW = [*_NOUNS, "placement", "ray_cluster", "monitor"]  # the metrics lie below the phases, as all of them count
_PHASES = ["collect", "encode", "train", "evaluate", "serve"]
_TOP = ["benchmark", "benchmark_agent", "benchmark_model", "benchmark_networks", "benchmark_rates"]
_TOP += ["benchmark_recording", "benchmark_scaling", "check", "cli", "estimate", "job_log", "job_needs"]
_TOP += ["local_head", "local_nodes", "paced_game", "pipeline", "play", "ray_token", "submission"]
_TOP += ["submit"]  # fronts, as the jobs are

# module -> the modules of gamengen that it may import, beside itself
ALLOWED = {
    "game": [],
    "envs": ["game"],
    "progress": [],
    "storage": [],
    "data": ["game", "progress", "storage", "hub"],
    "models": [],
    "metrics": ["models", "game", "storage"],
    "hub": ["storage"],
    "model_card": ["game", "storage"],
    "checkpoint": ["models", "game", "storage", "hub", "model_card"],
    "engine": ["models", "game", "storage", "checkpoint"],
    "config": [name for name in _NOUNS if name != "config"],
    "placement": [],
    "ray_cluster": ["ray_token"],
    "monitor": [],
    "dashboards": ["monitor"],  # they show what the monitor names
    **{phase: _BELOW for phase in _PHASES},
    **{top: [*_BELOW, *_PHASES, *_TOP] for top in _TOP},
}
# third-party module -> where it may be imported; what is not here may be imported anywhere
ONLY_IN = {
    "ray": ["placement", "ray_cluster", *_PHASES, "monitor", *_TOP],
    "torch": ["models", "engine", "checkpoint", "metrics", *_PHASES, *_TOP],
    "diffusers": ["models"],
    "huggingface_hub": ["hub", "models.pretrained"],
    "lpips": ["metrics"],
    "pyarrow": ["storage", "data", *_PHASES, *_TOP],
    "av": ["data"],
    "yaml": ["config", "dashboards"],
    "pydantic": ["config", "serve"],
    "gymnasium": ["envs", "collect", "evaluate", *_TOP],
    "fastapi": ["serve"],
    "grafana_api": ["dashboards"],
    "vizdoom": ["envs.doom"],
    "playwright": ["envs.chrome_dino"],
}


def _imports(file: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in it they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def _files() -> list[tuple[str, Path]]:
    """Return (module, file) of the package; a module is the first name below gamengen."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            found.append((parts[0], file))
    return found


def violations(module: str, dotted: str, imported: set[str]) -> list[str]:
    """Return what a file of `module` (in full `dotted`, below gamengen) imports and may not."""
    wrong = []
    for name in imported:
        first, _, rest = name.partition(".")
        if first == "jobs" and module != "cli":
            wrong.append(name)
        elif first == "gamengen":
            target = rest.partition(".")[0]
            if target and target != module and target not in ALLOWED[module]:
                wrong.append(name)
        elif first in ONLY_IN and not any(f"{dotted}.".startswith(f"{place}.") for place in ONLY_IN[first]):
            wrong.append(name)
    return wrong


def test_every_module_has_its_place() -> None:
    assert {module for module, _ in _files()} <= set(ALLOWED)


@pytest.mark.parametrize(("module", "file"), _files(), ids=lambda value: str(value).rpartition("gamengen/")[2])
def test_imports_keep_the_table(module: str, file: Path) -> None:
    dotted = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    assert violations(module, dotted, _imports(file)) == []


def test_the_walk_sees_a_violation() -> None:
    wrong = {"gamengen.data.chunk", "ray.data"}
    assert set(violations("models", "models.sampler", wrong | {"torch"})) == wrong
    assert violations("train", "train.trainer", {"gamengen.collect.rollouts"}) == ["gamengen.collect.rollouts"]
    assert violations("train", "train.trainer", {"gamengen.config.Config", "ray.train"}) == []


def test_loops_that_train_know_no_ray() -> None:
    for file in {*PACKAGE.joinpath("train").glob("*.py")} - {PACKAGE / "train" / "trainer.py"}:
        assert not [found for found in _imports(file) if found.partition(".")[0] == "ray"], file


def test_the_nouns_leave_ray_alone() -> None:
    modules = [f"gamengen.{name}" for name in _NOUNS if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()]
    modules += ["gamengen.envs.chrome_dino", "gamengen.data.window", "gamengen.data.stream", "gamengen.models.sampler"]
    modules += ["gamengen.train.loop", "gamengen.train.denoiser", "gamengen.models.denoisers.small_unet"]
    modules += ["gamengen.benchmark_networks"]
    code = f"import sys, {', '.join(modules)}; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
