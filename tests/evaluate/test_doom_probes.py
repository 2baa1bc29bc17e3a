"""DOOM's probes against what the engine knows, on clean and on spoilt pictures."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from gamengen import envs
from gamengen.evaluate import rollouts
from gamengen.evaluate.rollouts import RealGames
from gamengen.game import GameSpec

pytest.importorskip("vizdoom")
pytestmark = pytest.mark.doom
PROBES = envs.load("doom").PROBES
OPTIONS = {
    "levels": "health_gathering_supreme",
    "reward": "scenario",
    "actions": "scenario",
    "action_tics": 8,
    "observation": "none",
}


@functools.cache
def played(num_steps: int, supersampling: int = 1) -> tuple[np.ndarray, np.ndarray, GameSpec]:
    """Play with the probes' player: frames without padding, and where the health changed other than by a new game."""
    env = envs.make("doom", **OPTIONS, supersampling=supersampling)
    spec = env.unwrapped.game_spec
    player = PROBES.player([1], spec)
    _, info = env.reset(seed=1)
    frames, changed = [spec.visible(env.render()).copy()], [False]
    for _ in range(num_steps):
        before = info["variables"]["health"]
        _, _, terminated, truncated, info = env.step(player.act(frames[-1][None])[0])
        changed.append(info["variables"]["health"] != before)
        if terminated or truncated:
            _, info = env.reset()
            changed[-1] = False
        frames.append(spec.visible(env.render()).copy())
    env.close()
    return np.stack(frames), np.array(changed), spec


@pytest.mark.parametrize("spoil", ["clean", "supersampled", "noise", "blur"])
def test_every_hit_and_every_medikit_is_an_event_and_nothing_else_is(spoil: str) -> None:
    frames, changed, spec = played(600, supersampling=2 if spoil == "supersampled" else 1)
    if spoil == "noise":
        noise = np.random.default_rng(1).normal(0, 12, frames.shape)
        frames = (frames + noise).clip(0, 255).astype(np.uint8)
    elif spoil == "blur":
        frames = (frames / 2 + np.roll(frames, 1, axis=2) / 4 + np.roll(frames, 1, axis=1) / 4).astype(np.uint8)
    player = PROBES.player([0], spec)
    entered = []
    for frame in frames:
        player.act(frame[None])
        entered.append(bool(player.entered[0]))
    assert changed.sum() >= 30
    assert np.flatnonzero(np.array(entered) != changed).size <= 0.05 * changed.sum()


def test_a_picture_without_change_has_no_event() -> None:
    frames, changed, spec = played(600)
    hurt = frames[np.flatnonzero(changed)[0]]
    player = PROBES.player([0, 1], spec)
    for _ in range(20):
        actions = player.act(np.stack([hurt, frames[0]]))
        assert not player.entered.any() and all(0 <= action < len(spec.actions) for action in actions)
    assert PROBES.is_free(np.stack([hurt, frames[0]])).tolist() == [False, True]


def test_the_real_game_goes_on_after_a_death_and_its_status_bar_stands_still() -> None:
    seeds = [0, 1]
    games = RealGames(lambda: envs.make("doom", **OPTIONS), seeds, [5, 30], PROBES)
    spec = envs.make("doom", **OPTIONS).unwrapped.game_spec
    seen = rollouts.play(games, PROBES.player(seeds, spec), 260, name="real game")
    games.close()
    rate = rollouts.event_rate(seen, PROBES.QUIET_FRAMES)
    assert rate is not None and 2 < rate < 12
    assert not seen.over.any() and len(rollouts.crashes(seen)) == 0
    frames, _, _ = played(600)
    regions = PROBES.static_regions(240, 320)
    still, _ = rollouts.static_psnr(seen.snapshots[-1], frames, regions)
    lost, _ = rollouts.static_psnr(np.full_like(seen.snapshots[-1], 90), frames, regions)
    assert still.mean() > lost.mean() + 8


def test_the_screen_after_a_level_is_seen_once_and_is_an_event() -> None:
    """In `basic` a level ends with the monster, which one who shoots at random hits within seconds."""
    make = functools.partial(envs.make, "doom", **{**OPTIONS, "levels": "basic"})
    spec = make().unwrapped.game_spec
    games, player = RealGames(make, [1], [3], PROBES), PROBES.player([1], spec)
    assert spec.actions[1] == "attack"
    brown, entered = [], []
    frames = games.frames
    for number in range(400):
        player.act(frames)
        red, gold = PROBES.tints(frames)
        brown.append(red[0] > 15 and gold[0] > 15)
        entered.append(bool(player.entered[0]))
        frames = games.step([1 if number % 8 < 4 else 2 + 2 * (number // 40 % 2)])
    games.close()
    assert 2 <= sum(brown) < 40 and entered == brown


def test_no_action_is_claimed_to_show_in_one_frame() -> None:
    assert not PROBES.FOLLOWED_WITHIN
    with pytest.raises(ValueError, match="'forward'; expected none"):
        PROBES.shows("forward", np.zeros((1, 240, 320, 3), np.uint8))
