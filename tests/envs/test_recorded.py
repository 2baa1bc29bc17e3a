"""A game of which there are only recordings: a spec from options, clear mistakes, and nothing to play."""

from __future__ import annotations

import gymnasium
import pytest

from gamengen import envs
from gamengen.envs import recorded
from tests.conftest import load_tiny

OPTIONS = {"height": 32, "width": 48, "frames_per_second": 10, "actions": ["none", "left", "right"]}


def test_the_spec_is_what_the_options_say() -> None:
    more = {"keyboard": {"ArrowLeft": "left"}, "restart_action": "right", "restart_delay": 3}
    spec = envs.make("recorded", **OPTIONS, **more).unwrapped.game_spec
    assert (spec.name, spec.height, spec.width, spec.frames_per_second) == ("recorded", 32, 48, 10.0)
    assert spec.actions == ("none", "left", "right") and spec.keyboard == {"ArrowLeft": "left"}
    assert (spec.restart_action, spec.restart_delay, spec.tics_per_frame) == ("right", 3, 1)


def test_it_is_a_game_and_registered() -> None:
    assert recorded.SPEC.name == "recorded" and "recorded" in envs.names()
    env = gymnasium.make("gamengen/Recorded-v0", disable_env_checker=True, **OPTIONS)
    assert env.unwrapped.game_spec.num_actions == env.action_space.n == 3


@pytest.mark.parametrize("name", ["reset", "render", "step"])
def test_nothing_of_it_can_be_played(name: str) -> None:
    env = envs.make("recorded", **OPTIONS)
    with pytest.raises(ValueError, match=r"cannot be played.*collect\.import"):
        getattr(env, name)(*([0] if name == "step" else []))
    with pytest.raises(ValueError, match=r"'recorded' cannot be played.*collect\.import=<folder>"):
        envs.require_playable("recorded")
    envs.require_playable("chrome_dino")


def test_jobs_that_would_play_it_say_so_before_anything_starts(tmp_path) -> None:
    from gamengen.collect import agent, policies, rollouts

    config = load_tiny(tmp_path, "game.name=recorded", f"game.options={OPTIONS}")
    for play in (rollouts.collect, agent.train_agent, policies.make_env):
        with pytest.raises(ValueError, match="'recorded' cannot be played"):
            play(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": None}, r"lacks game\.options\.height"),
        ({"actions": None}, r"lacks game\.options\.actions"),
        ({"heigth": 3}, r"game\.options\.heigth.*did you mean 'height'"),
        ({"height": 2.5}, r"game\.options\.height, got 2\.5"),
        ({"height": 0}, "positive"),
        ({"frames_per_second": "many"}, "frames_per_second, got 'many'"),
        ({"actions": "none"}, r"game\.options\.actions, got 'none'"),
        ({"actions": ["none", "none"]}, "distinct"),
        ({"keyboard": ["ArrowUp"]}, r"game\.options\.keyboard"),
        ({"keyboard": {"KeyA": "up"}}, "unknown actions"),
        ({"vectors": {"none": [0.0]}}, r"game\.options\.vectors"),
        ({"vectors": {"none": [0.0], "left": [1.0], "right": [1.0, 2.0]}}, r"game\.options\.vectors"),
        ({"vectors": {"none": [0.0], "left": [1.0], "right": ["x"]}}, r"game\.options\.vectors"),
    ],
)
def test_a_wrong_option_is_one_clear_line(change: dict, words: str) -> None:
    options = {key: value for key, value in {**OPTIONS, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=words) as caught:
        envs.make("recorded", **options)
    assert "\n" not in str(caught.value)
