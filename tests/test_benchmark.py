"""The benchmark measures what it says: loops in turns, CPU time of children too, recording beside the game alone."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest

from gamengen import benchmark_rates, benchmark_scaling
from gamengen.benchmark import benchmark
from tests.conftest import ROOT, load_tiny

_DOOM = (
    "game.name=doom",
    "game.options={levels: defend_the_center}",
    "agent.observation=none",
    "collect.policies={random: 1.0}",
    "collect.codec=palette-zstd",
    "collect.max_episode_frames=64",
)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(benchmark_rates, "SECONDS", 0.2)


_CORE_SECONDS = """
import subprocess, sys, time
from gamengen.benchmark_rates import core_seconds
begun = core_seconds()
time.sleep(0.3)
slept = core_seconds() - begun
work = "import time\\nwhile time.process_time() < 0.5: pass\\nprint(flush=True)\\ninput()"
with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    while_it_lives = core_seconds() - begun
    child.communicate(b"\\n")
print(slept, while_it_lives, core_seconds() - begun)
"""


def test_core_seconds_count_work_here_and_in_children_and_no_sleep():
    """In a Python of its own: what other tests have started, such as a Ray cluster, would count."""
    done = subprocess.run([sys.executable, "-c", _CORE_SECONDS], capture_output=True, text=True, check=True)
    slept, while_it_lives, ended = map(float, done.stdout.split())
    assert slept < 0.2
    assert 0.5 <= while_it_lives < 0.8
    assert 0.5 <= ended < 0.8


def test_rates_are_medians_of_loops_in_turns():
    turns, values = [], iter([1.0, 10.0, 3.0, 30.0, 2.0, 20.0])

    def measure(name):
        turns.append(name)
        return next(values)

    rates = benchmark_rates.in_turns({name: lambda name=name: measure(name) for name in ("a", "b")})
    assert rates == {"a": 2.0, "b": 20.0} and turns == ["a", "b"] * 3
    clock = itertools.count().__next__
    assert benchmark_rates.rate(itertools.repeat(5), lambda: 0.01 * clock()) == pytest.approx(5 / 0.01, rel=0.1)


def test_recording_alone_needs_no_models(tmp_path):
    figures = benchmark(load_tiny(tmp_path, "collect.max_episode_frames=60"), parts="recording")
    assert not list(tmp_path.iterdir()) and figures["parts"] == ["recording"] and not figures["trained"]
    assert figures["collect_fps"] > 0 and figures["env_frame"] == [256, 512] and figures["env_policy"] == "scripted"
    assert figures["collect_over_env"] == pytest.approx(figures["collect_fps"] / figures["env_fps"], abs=1e-3)
    with pytest.raises(ValueError, match="unknown part of the benchmark, got 'cooking'"):
        benchmark(load_tiny(tmp_path), parts="recording,cooking")


@pytest.mark.doom
def test_doom_is_measured_beside_its_raw_engine(tmp_path):
    pytest.importorskip("vizdoom")
    figures = benchmark(load_tiny(tmp_path, *_DOOM), parts="recording")
    assert figures["raw_fps"] > figures["collect_fps"] > 0 and figures["codec"] == "palette-zstd"
    assert figures["collect_over_raw"] == pytest.approx(figures["collect_fps"] / figures["raw_fps"], abs=1e-3)


@pytest.mark.ray
def test_the_agents_time_is_all_accounted_for(tmp_path, ray_cluster):
    figures = benchmark(load_tiny(tmp_path, "agent.options.learning_starts=0"), parts="agent")
    shares = figures["agent_time_shares"]
    assert set(shares) == {"game", "recorder", "policy", "learner", "rest"}
    assert figures["agent_decisions_per_second"] > 0
    assert sum(shares.values()) == pytest.approx(1, abs=0.01) and min(shares.values()) > 0
    assert not list(tmp_path.iterdir())


def test_the_steady_rate_is_of_the_time_when_all_play(monkeypatch):
    monkeypatch.setattr(benchmark_scaling, "ITEM_FRAMES", 100)
    even = [[0.0, 4.0, 8.0, 12.0, 16.0], [3.0, 7.0, 11.0, 15.0, 19.0]]
    assert benchmark_scaling.steady_rate(even) == pytest.approx(50)
    waits = [[0.0, 4.0, 8.0, 12.0, 16.0], [3.0, 8.0, 13.0, 18.0, 23.0]]  # one second for the next item
    assert benchmark_scaling.steady_rate(waits) == pytest.approx(25 + 20)
    with pytest.raises(ValueError, match=r"got \[1, 5\] that all were there for; expected at least 2 each"):
        benchmark_scaling.steady_rate([[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 5.0]])


@pytest.mark.ray
def test_collection_grows_with_the_machines(tmp_path, monkeypatch):
    """At a small size: two machines play nearly twice what one does."""
    for name, value in {"NODES": (1, 2), "PLAYERS_PER_NODE": 1, "ITEM_FRAMES": 40, "ITEMS_PER_PLAYER": 5}.items():
        monkeypatch.setattr(benchmark_scaling, name, value)
    figures = benchmark(load_tiny(tmp_path), parts="scaling")
    assert set(figures["scaling_fps"]) == {"1", "2"} and figures["scaling_pace"] == benchmark_scaling.PACE
    assert figures["scaling_fps"]["2"] > 1.5 * figures["scaling_fps"]["1"] > 0
    assert max(figures["scaling_over_linear"].values()) < 1.05
    assert not list(tmp_path.iterdir())


_SMALL_SD = (
    "autoencoder.options={channels: [8, 16, 16, 16], layers_per_block: 1, norm_num_groups: 8, tiny_channels: 8}",
    "denoiser.options={channels: [16, 32], attention: [true, false], layers_per_block: 1, heads: 2, "
    "token_channels: 24, norm_num_groups: 8}",
    "denoiser.context_length=4",
)


def test_the_networks_of_the_paper_are_measured_without_ray_or_the_game():
    """In a Python that can import neither, as on a machine that has the model core alone; here at a small size."""
    code = """
import json, sys
for name in ("ray", "gymnasium", "vizdoom", "av"):
    sys.modules[name] = None
from gamengen import benchmark_networks, benchmark_rates
benchmark_rates.SECONDS = 0.02
print(json.dumps(benchmark_networks.main(sys.argv[1:])))
"""
    arguments = ["--config", str(ROOT / "configs/tier3_full_doom.yaml"), "--frame", "64x64", "--batch", "2"]
    command = [sys.executable, "-c", code, *arguments, "--accumulation", "2", "--device", "cpu", *_SMALL_SD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["errors"] == {} and figures["frame"] == [64, 64] and figures["steps"] == 4
    played = ("steps_guided", "steps", "1_step", "8_players", "steps_guided_tiny", "1_step_tiny")
    assert all(figures[f"{kind}_{name}"] > 0 for kind in ("fps", "sample_ms", "decode_ms") for name in played)
    assert figures["train_windows_per_second"] > 0 and figures["train_gflop_per_window"] > 0
    assert 0 < figures["mfu_of_measured_peak"] < 1


def test_what_does_not_fit_is_told_and_the_rest_is_measured(monkeypatch):
    monkeypatch.setattr(benchmark_rates, "SECONDS", 0.02)
    from gamengen import benchmark_networks

    def full(*_):
        raise RuntimeError("CUDA out of memory.\ndetails")

    monkeypatch.setattr(benchmark_networks, "_training", full)
    config = load_tiny("/nowhere")
    figures = benchmark_networks.networks(config, config.game_spec(), benchmark_networks.Measure("cpu"))
    assert figures["errors"] == {"training": "RuntimeError: CUDA out of memory."} and figures["fps_steps"] > 0
