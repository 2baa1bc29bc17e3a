"""Every term of the paper's reward (A.5), each made to happen in the real engine."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from gamengen import envs

vizdoom = pytest.importorskip("vizdoom")
from gamengen.envs.doom import SPEC, DoomEnv, reward, scenarios  # noqa: E402

pytestmark = pytest.mark.doom


@pytest.fixture(scope="module")
def env():
    made = envs.make("doom", observation="none", levels=["MAP01", "health_gathering", "defend_the_center"])
    yield made
    made.close()


@pytest.fixture
def start(env: DoomEnv):
    def begin(level: str = "MAP01", seed: int = 1) -> dict[str, float]:
        return env.reset(seed=seed, options={"level": level})[1]["variables"]

    return begin


def after(env: DoomEnv, *commands: str, frames: int = 4, action: str = "none") -> dict[str, float]:
    """Return what each term paid over some frames after console commands; 0 is left out."""
    for command in commands:
        env._engine.running().send_game_command(command)
    paid = dict.fromkeys(reward.TERMS, 0.0)
    for _ in range(frames):
        _, total, terminated, _, info = env.step(SPEC.action_index(action))
        assert set(info["reward_terms"]) == set(reward.TERMS)
        assert total == pytest.approx(sum(info["reward_terms"].values()))
        for name, value in info["reward_terms"].items():
            paid[name] += value
        if terminated:
            break
    return {name: value for name, value in paid.items() if value}


def test_standing_still_pays_nothing(env, start) -> None:
    start()
    assert after(env, frames=20) == {}


def test_a_hit_taken_costs_100_and_its_health(env, start) -> None:
    before = start("health_gathering")  # the floor burns
    paid: dict[str, float] = {}
    for _ in range(40):
        paid = after(env, frames=1)
        if paid:
            break
    now = env._variables
    assert now["hits_taken"] == before["hits_taken"] + 1 and now["health"] < before["health"]
    assert paid == {"player_hit": -100.0, "health": 10.0 * (now["health"] - before["health"])}


def test_death_costs_5000_once(env, start) -> None:
    start("defend_the_center")
    paid = after(env, frames=1000)
    assert env._variables["dead"] == 1
    assert paid["player_death"] == -5000.0 and paid["health"] == -1000.0
    assert paid["player_hit"] == -100.0 * env._variables["hits_taken"]


def test_hits_and_kills_of_enemies(env, start) -> None:
    """A zombieman in front of the muzzle, shot until it falls."""
    start()
    after(env, "notarget", "summon zombieman")
    paid: dict[str, float] = {}
    for _ in range(60):
        for name, value in after(env, frames=4, action="attack").items():
            paid[name] = paid.get(name, 0.0) + value
        if env._variables["kills"]:
            break
    assert env._variables["kills"] == 1 and env._variables["hits"] >= 2
    assert paid["enemy_kill"] == 1000.0 and paid["enemy_hit"] == 300.0 * env._variables["hits"]
    assert paid["ammo"] < 0


def test_a_weapon_and_an_item_pay_100_each(env, start) -> None:
    start()
    assert after(env, "give chainsaw") == {"pick_up": 100.0}
    assert after(env, "give chainsaw") == {}  # no second one
    before = env._variables["items"]
    paid = after(env, "summon armorbonus", frames=20, action="forward")
    assert env._variables["items"] == before + 1
    assert paid["pick_up"] == 100.0 and paid["armor"] == 10.0


def secret_points(map_name: str) -> list[tuple[float, float]]:
    """Return points just within the secret sectors (special 9) of a Freedoom map, one beside each of their walls."""
    data = scenarios.FREEDOOM[2].read_bytes()
    count, offset = struct.unpack("<ii", data[4:12])
    lumps = [struct.unpack("<ii8s", data[offset + 16 * i : offset + 16 * i + 16]) for i in range(count)]
    names = [lump[2].rstrip(b"\0").decode("latin-1") for lump in lumps]
    first = names.index(map_name)
    of_map = {names[i]: data[lumps[i][0] : lumps[i][0] + lumps[i][1]] for i in range(first + 1, first + 11)}
    specials = [sector[5] for sector in struct.iter_unpack("<hh8s8shhh", of_map["SECTORS"])]
    vertices = list(struct.iter_unpack("<hh", of_map["VERTEXES"]))
    sides = [side[-1] for side in struct.iter_unpack("<hh8s8s8sh", of_map["SIDEDEFS"])]
    points = []
    for line in struct.iter_unpack("<HHHHHHH", of_map["LINEDEFS"]):
        (x1, y1), (x2, y2) = vertices[line[0]], vertices[line[1]]
        length = np.hypot(x2 - x1, y2 - y1)
        for side, sign in zip(line[5:], (1, -1), strict=True):  # the first side is on the right
            if side != 0xFFFF and specials[sides[side]] == 9 and length >= 64:
                across = sign * 24 / length
                points.append(((x1 + x2) / 2 + across * (y2 - y1), (y1 + y2) / 2 - across * (x2 - x1)))
    return points


def test_a_secret_pays_500(env, start) -> None:
    for x, y in secret_points("MAP01"):
        start()
        paid = after(env, f"warp {x:.0f} {y:.0f}", frames=6)
        if env._variables["secrets"]:  # else the player did not fit there
            break
    assert env._variables["secrets"] == 1
    assert paid["secret"] == 500.0


@pytest.mark.parametrize(("dx", "dy", "cells"), [(130, 0, 1), (0, -260, 2), (260, 130, 3)])
def test_a_new_area_pays_by_its_distance_and_once(env, start, dx, dy, cells) -> None:
    first = start()
    there = f"warp {first['x'] + dx:.0f} {first['y'] + dy:.0f}"
    back = f"warp {first['x']:.0f} {first['y']:.0f}"
    assert after(env, there)["new_area"] == pytest.approx(20 * (1 + 0.5 * cells))
    assert "new_area" not in after(env, back)
    assert "new_area" not in after(env, there)


def test_the_settings_of_new_areas() -> None:
    at = dict.fromkeys(reward.NEEDS, 0.0)
    for settings, expected in (
        ({"cell_size": 64.0}, 20 * (1 + 0.5 * 4)),
        ({"cell_size": 256.0}, 20 * (1 + 0.5 * 1)),
        ({"area_origin": "map"}, 20 * (1 + 0.5 * (10 + 8))),
    ):
        pay = reward.PaperReward(**settings)
        pay.reset({**at, "x": 1024.0, "y": 1024.0})
        assert pay.step({**at, "x": 1280.0, "y": 1024.0})["new_area"] == expected, settings


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["take health 30"], {"health": -300.0}),
        (["give greenarmor"], {"armor": 1000.0}),
        (["give clip"], {"ammo": 100.0}),
        (["give rocketammo", "give shell"], {"ammo": 50.0}),
        (["take clip 20"], {"ammo": -20.0}),
    ],
)
def test_health_armor_and_ammunition(env, start, commands, expected) -> None:
    start()
    assert after(env, *commands) == expected


def test_health_found_pays(env, start) -> None:
    start()
    after(env, "take health 50")
    assert after(env, "give medikit") == {"health": 250.0}


def test_coming_back_to_life_pays_nothing() -> None:
    match = envs.make("doom", observation="none", levels="MAP01+1bots")
    match.reset(seed=0)
    assert after(match, "kill", frames=2)["player_death"] == -5000.0
    lived = False
    for _ in range(120):
        was_dead = match._variables["dead"]
        paid = after(match, frames=1, action="attack")
        if was_dead and not match._variables["dead"]:
            lived = True
            assert paid == {}
            break
    match.close()
    assert lived


def test_counters_begin_at_zero_in_every_episode(env, start) -> None:
    start()
    after(env, "kill monsters")
    assert env._variables["kills"] > 0
    first = start()
    assert not any(
        first[name] for name in ("kills", "hits", "hits_taken", "damage", "damage_taken", "items", "secrets")
    )
