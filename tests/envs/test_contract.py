"""What every game keeps; the games are found, not listed."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from gamengen import envs
from gamengen.game import GameSpec


def _load(name: str):
    if name == "doom":
        pytest.importorskip("vizdoom")
    return envs.load(name)


def _play(env: gymnasium.Env, seed: int, steps: int = 60) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    frames = [env.render()]
    for _ in range(steps):
        _, _, terminated, truncated, _ = env.step(int(rng.integers(env.action_space.n)))
        frames.append(env.render())
        if terminated or truncated:
            break
    return frames


PLAYABLE = sorted({*envs.names()} - {"recorded"})  # which cannot be played: test_recorded.py


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.doom if name == "doom" else ()) for name in PLAYABLE])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_game_has_a_spec_and_makes_an_env(name: str) -> None:
    module = _load(name)
    assert isinstance(module.SPEC, GameSpec)
    assert module.SPEC.name == name
    with module.make() as env:
        assert env.unwrapped.game_spec == module.SPEC
        assert env.action_space.n == module.SPEC.num_actions


def test_check_env(name: str) -> None:
    with _load(name).make() as env:
        check_env(env.unwrapped, skip_render_check=True)


def test_render_gives_the_spec_s_frames_and_keeps_none(name: str) -> None:
    with _load(name).make() as env:
        spec = env.unwrapped.game_spec
        env.reset(seed=0)
        first = env.render()
        assert (first.shape, first.dtype) == ((spec.height, spec.width, 3), np.uint8)
        kept = first.copy()
        for _ in range(5):
            env.step(0)
            env.render()
        assert np.array_equal(first, kept), "a frame that was handed out has changed"


def test_the_same_seed_plays_the_same_game(name: str) -> None:
    with _load(name).make() as env, _load(name).make() as other:
        played, again = _play(env, 1), _play(other, 1)
        assert len(played) == len(again)
        assert all(np.array_equal(a, b) for a, b in zip(played, again, strict=True))


def test_another_seed_plays_another_game(name: str) -> None:
    with _load(name).make() as env:
        one, other = _play(env, 1, 200), _play(env, 2, 200)
    assert len(one) != len(other) or any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_registered(name: str) -> None:
    _load(name)
    env = gymnasium.make(f"gamengen/{''.join(part.title() for part in name.split('_'))}-v0")
    assert env.unwrapped.game_spec.name == name
    env.close()


def test_an_unknown_action_is_refused(name: str) -> None:
    with _load(name).make() as env:
        env.reset(seed=0)
        with pytest.raises(ValueError):
            env.step(env.action_space.n)


def test_an_unknown_game_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'chrome_dino'"):
        envs.make("chrome_dyno")


def test_a_module_that_is_no_game_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="no SPEC and no make"):
        envs.make("json.decoder")
