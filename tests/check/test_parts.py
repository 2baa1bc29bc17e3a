"""The parts of the check at work on a tiny run, and that each of them can fail."""

from __future__ import annotations

import dataclasses
import re

import huggingface_hub
import numpy as np
import pytest
import torch

from gamengen import config as configs
from gamengen import envs
from gamengen.check import agent, game, networks
from gamengen.config import Config
from gamengen.data import codec as codecs
from gamengen.game import GameSpec
from tests.conftest import ROOT, load_tiny


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_tiny(tmp_path_factory.mktemp("check"))


@pytest.fixture(scope="module")
def played(config: Config) -> game.Play:
    return game.play(config)


def test_the_game_plays_200_frames(played: game.Play) -> None:
    assert sum(len(episode.frames) for episode in played.episodes) == 200
    assert re.fullmatch(r"chrome_dino plays, 200 frames of 256x128, [\d,]+ per second", str(played))


@pytest.mark.doom
def test_doom_plays_and_is_read_back_with_its_variables(tmp_path) -> None:
    pytest.importorskip("vizdoom")
    config = load_tiny(tmp_path)
    config = dataclasses.replace(config, game=dataclasses.replace(config.game, name="doom", options={}))
    played = game.play(config)
    assert "200 frames of 320x256" in str(played) and "every pixel the same" in game.round_trip(config, played)
    health = played.episodes[0].infos[3]["variables"]
    health["health"] += 1
    episode = dataclasses.replace(played.episodes[0])
    with pytest.raises(ValueError, match="variables that were played"):
        game._compare(played.game, "png", episode, _as_read(episode, played))


def _as_read(episode: game.PlayedEpisode, played: game.Play) -> game.Episode:
    """The episode as a shard would give it back, but for one health that is one less."""
    named = {name: np.float32([info["variables"][name] for info in episode.infos]) for name in played.game.variables}
    named["health"][3] -= 1
    return game.Episode(
        *("e", np.stack(episode.frames), np.array(episode.actions), np.float32(episode.rewards)),
        *(episode.terminated, "random", "train", named),
    )


def test_a_game_that_stands_still_or_has_another_size_is_found(config: Config, monkeypatch) -> None:
    module = envs.load("chrome_dino")
    still = np.zeros((128, 256, 3), np.uint8)
    monkeypatch.setattr(module.ChromeDinoEnv, "render", lambda env: still)
    with pytest.raises(ValueError, match="stands still"):
        game.play(config)
    monkeypatch.setattr(module.ChromeDinoEnv, "render", lambda env: still[1:])
    with pytest.raises(ValueError, match=r"renders .*127.*expected uint8 \(128, 256, 3\)"):
        game.play(config)


def test_shards_are_read_back_pixel_by_pixel(config: Config, played: game.Play, monkeypatch) -> None:
    assert re.search(r"delta-zstd is read back .* [\d,]+ bytes a frame, every pixel", game.round_trip(config, played))
    decode = codecs.decode

    def damaged(*arguments):
        frames = decode(*arguments).copy()
        frames[-1, 5, 5] ^= 1
        return frames

    monkeypatch.setattr(codecs, "decode", damaged)
    with pytest.raises(ValueError, match=r"delta-zstd gives frames of .* expected every pixel"):
        game.round_trip(config, played)


@pytest.mark.parametrize(("codec", "says"), [("jpeg90", "the worst frame at"), ("jpeg1", "at least 25 dB")])
def test_a_lossy_codec_may_lose_something(config: Config, played: game.Play, codec: str, says: str) -> None:
    lossy = dataclasses.replace(config, collect=dataclasses.replace(config.collect, codec=codec), run=codec)
    try:
        told = game.round_trip(lossy, played)
    except ValueError as error:
        told = str(error)
    assert says in told


def test_the_networks_take_a_step(config: Config, played: game.Play) -> None:
    told = networks.train_step(config, played.game, played.episodes[0].frames[0])
    assert re.fullmatch(r"tiny of .*M parameters and small_unet of .*M parameters train on the cpu, a frame .*", told)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.denoiser.learning_rate=0.0", "the denoiser learns nothing"),
        ("train.autoencoder.learning_rate=.inf", "the autoencoder is not finite"),
        ("autoencoder.options.factor=48", "cannot be coded with factor 48"),
        ("denoiser.options.patch=5", "do not divide by"),
    ],
)
def test_networks_that_do_not_train_are_found(tmp_path, played: game.Play, override: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        networks.train_step(load_tiny(tmp_path, override), played.game, played.episodes[0].frames[0])


def test_a_large_network_takes_no_memory_at_full_size(tmp_path, played: game.Play, monkeypatch) -> None:
    """On the meta device a denoiser of 4 GB is built; the step for real is left out here."""
    config = load_tiny(tmp_path, "denoiser.options.channels=[4096, 4096]", "denoiser.options.heads=1")
    monkeypatch.setattr(networks, "_small_denoiser", lambda config, game, shape: (torch.nn.Linear(1, 1), shape))
    monkeypatch.setattr(networks, "_step", lambda *_: None)
    monkeypatch.setattr(networks, "_sample", lambda *_: None)
    told = networks.train_step(config, played.game, played.episodes[0].frames[0])
    assert float(re.search(r"small_unet of ([\d.]+)M", told)[1]) > 1000


def test_stable_diffusion_is_built_in_full_and_trains_narrow(tmp_path, monkeypatch) -> None:
    """Tier 3, 944M parameters: without its weights, which are noted, and within seconds."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    tier3 = configs.load(ROOT / "configs" / "tier3_full_doom.yaml")
    spec = GameSpec("doom", 256, 320, 17.5, 2, ("none", "attack"), {})
    told = networks.train_step(tier3, spec, np.zeros((256, 320, 3), np.uint8))
    assert told.startswith("sd of 83.7M parameters and unet of 860.3M parameters train on the cpu")
    notes = networks.weights_to_get(tier3)
    assert [note.partition(":")[0] for note in notes] == [
        "autoencoder.options.pretrained",
        "denoiser.options.pretrained",
    ]
    assert "hf download CompVis/stable-diffusion-v1-4 --include 'unet/*'" in notes[1]


def test_an_agent_that_does_not_learn_is_found(config: Config, monkeypatch) -> None:
    """The job of a real training stands aside: its two rounds leave the same network, or one that is not finite."""
    rounds = iter([({"a": torch.ones(2)}, 10), ({"a": torch.ones(2)}, 20), ({"a": torch.ones(2)}, 10)] * 2)
    asked = []

    def train(small: Config) -> dict:
        asked.append(small.agent.max_env_steps)
        weights, steps = next(rounds)
        agent.storage.write_bytes(f"{small.folder}/agent/c/policy.safetensors", agent.safetensors.torch.save(weights))
        return {"env_steps": steps, "where": f"{small.folder}/agent", "checkpoint": "c"}

    monkeypatch.setattr(agent, "train_agent", train)
    with pytest.raises(ValueError, match="the dqn agent learns nothing"):
        agent.learn(config)
    assert asked == [1, 11], "the second round goes one iteration further than the first"
    rounds = iter([({"a": torch.ones(2)}, 10), ({"a": torch.tensor([1.0, torch.nan])}, 20)])
    with pytest.raises(ValueError, match="not finite after 20 steps"):
        agent.learn(config)
