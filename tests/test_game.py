"""GameSpec: its checks and its one line of JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from gamengen.game import GameSpec

SPEC = GameSpec("pong", 64, 96, 20.0, 3, ("none", "up"), {"ArrowUp": "up"}, restart_action="up", restart_delay=4)


def test_json_round_trip() -> None:
    assert GameSpec.from_json(SPEC.to_json()) == SPEC
    assert "\n" not in SPEC.to_json()


def test_a_spec_from_before_there_were_padding_variables_and_levels_reads_as_one_without() -> None:
    fields = json.loads(SPEC.to_json())
    for name in ("padding", "variables", "has_levels"):
        del fields[name]
    assert GameSpec.from_json(json.dumps(fields)) == SPEC
    assert SPEC.visible_rows == slice(0, 64)


def test_padding_and_variables_survive_json() -> None:
    spec = dataclasses.replace(SPEC, padding=(8, 4), variables=("health", "x"), has_levels=True)
    assert GameSpec.from_json(spec.to_json()) == spec
    assert spec.visible_rows == slice(8, 60)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', '{"nonsense": 1}', "null"])
def test_what_is_no_spec_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a GameSpec"):
        GameSpec.from_json(text)


def test_a_spec_of_a_later_version_is_a_value_error() -> None:
    fields = json.loads(SPEC.to_json()) | {"sound": True}
    with pytest.raises(ValueError, match="sound"):
        GameSpec.from_json(json.dumps(fields))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"height": 0}, "positive"),
        ({"frames_per_second": 0.0}, "positive"),
        ({"actions": ("none", "none")}, "distinct"),
        ({"keyboard": {"KeyA": "down"}}, "down"),
        ({"restart_action": "reset"}, "reset"),
        ({"padding": (40, 24)}, "padding"),
        ({"padding": (-1, 0)}, "padding"),
        ({"variables": ("health", "health")}, "distinct"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize(
    ("held", "action"),
    [
        ([], "none"),
        (["forward"], "forward"),
        (["forward", "fire"], "forward+fire"),
        (["fire", "forward"], "forward+fire"),
        (["fire", "forward", "left"], "forward+left+fire"),
        (["forward", "back"], "back"),
        (["back", "forward"], "forward"),
        (["forward", "fire", "back"], "back+fire"),
        (["forward", "use"], "use"),
        (["forward+fire", "left"], "forward+left+fire"),
        (["forward", "forward"], "forward"),
    ],
)
def test_held_keys_are_joined_as_far_as_the_game_has_an_action_of_them(held: list[str], action: str) -> None:
    moves = ("", "forward", "back", "left", "forward+left")
    names = ["+".join(filter(None, (move, fire))) or "none" for move in moves for fire in ("", "fire")]
    game = dataclasses.replace(SPEC, actions=(*names, "use"), keyboard={}, restart_action=None)
    assert game.joined(held) == action


def test_where_nothing_can_be_done_at_once_the_last_key_counts() -> None:
    game = dataclasses.replace(SPEC, actions=("none", "jump", "duck"), keyboard={}, restart_action=None)
    assert [game.joined(held) for held in (["jump", "duck"], ["duck", "jump"], ["duck"], [])] == [
        *("duck", "jump", "duck", "none")
    ]


def test_what_is_seen_has_no_padding() -> None:
    game = dataclasses.replace(SPEC, padding=(8, 4))
    frames = np.arange(2 * 64 * 96 * 3).reshape(2, 64, 96, 3)
    np.testing.assert_array_equal(game.visible(frames), frames[:, 8:60])
    assert game.unpadded() == dataclasses.replace(SPEC, height=52)
    assert SPEC.unpadded() == SPEC and (SPEC.visible(frames) == frames).all()


def test_actions_by_name() -> None:
    assert SPEC.action_index("up") == 1
    assert SPEC.num_actions == 2
    with pytest.raises(ValueError, match=r"unknown action 'left'.*none, up"):
        SPEC.action_index("left")
