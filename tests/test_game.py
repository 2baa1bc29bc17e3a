"""GameSpec: its checks and its one line of JSON."""

from __future__ import annotations

import dataclasses
import json

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


def test_actions_by_name() -> None:
    assert SPEC.action_index("up") == 1
    assert SPEC.num_actions == 2
    with pytest.raises(ValueError, match=r"unknown action 'left'.*none, up"):
        SPEC.action_index("left")
