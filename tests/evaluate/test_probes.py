"""The dinosaur game's probes against what the game itself knows, at both sizes, at night, and on spoilt pictures."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from gamengen import envs
from gamengen.envs.chrome_dino import PROBES
from gamengen.envs.chrome_dino.render import STRIP_TOP
from gamengen.envs.chrome_dino.scene import look


@functools.cache
def played(downscale: int, num_steps: int) -> tuple[np.ndarray, list[dict]]:
    """Play with the scripted player for 90 frames, then without touching a key; returns frames and infos."""
    env = envs.make("chrome_dino", downscale=downscale)
    policy = envs.load("chrome_dino").SCRIPTED(skill=1.0, playfulness=0.1)
    rng = np.random.default_rng(0)
    frames, infos = [], []
    while len(frames) < num_steps:
        policy.reset(rng)
        _, info = env.reset(seed=len(frames))
        ended, count = False, 0
        while not ended and len(frames) < num_steps:
            _, _, ended, _, info = env.step(policy.action(info) if count < 90 else 0)
            count += 1
            frames.append(env.render())
            infos.append(info)
    return np.stack(frames), infos


@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("spoil", ["clean", "night", "noise", "blur"])
def test_scenes_agree_with_the_game(downscale: int, spoil: str) -> None:
    frames, infos = played(downscale, 200)
    if spoil == "night":
        frames = 255 - frames
    elif spoil == "noise":
        noise = np.random.default_rng(1).normal(0, 10, frames.shape)
        frames = (frames + noise).clip(0, 255).astype(np.uint8)
    elif spoil == "blur":
        frames = (frames / 2 + np.roll(frames, 1, axis=2) / 4 + np.roll(frames, 1, axis=1) / 4).astype(np.uint8)
    assert any(info["crashed"] for info in infos) and any(info["ducking"] for info in infos)
    tolerance = 2 if spoil != "blur" else 4
    wrong = 0
    for scene, info in zip(look(frames), infos, strict=True):
        assert scene.over == info["crashed"]
        if scene.over:
            continue
        assert scene.ducking == info["ducking"]
        assert scene.ducking or (scene.top is not None and abs(scene.top - STRIP_TOP - info["y"]) <= tolerance)
        ahead = [o for o in info["obstacles"] if o["x"] > 90 and o["x"] + 12 < 512]
        found = [o for o in scene.obstacles if o.start > 86 and o.start + 12 < 512]
        wrong += len(ahead) != len(found)
    assert wrong <= 6  # at the very edge of the picture, or of the T-rex


def test_a_foreign_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"got shape \(1, 100, 200, 3\); expected \[N, 256, 512, 3\]"):
        PROBES.is_over(np.zeros((1, 100, 200, 3), np.uint8))


def test_an_unknown_action_is_named() -> None:
    with pytest.raises(ValueError, match="'fly'; expected one of jump, duck"):
        PROBES.shows("fly", np.zeros((1, 128, 256, 3), np.uint8))


def test_a_perfect_player_lives_and_a_careless_one_does_not() -> None:
    for carelessness, dies in ((0.0, False), (1.0, True)):
        env = envs.make("chrome_dino", downscale=2)
        env.reset(seed=5)
        player = PROBES.player([5], carelessness=carelessness)
        ended = False
        for _ in range(200):
            _, _, ended, _, _ = env.step(player.act(env.render()[None])[0])
            if ended:
                break
        assert ended == dies
