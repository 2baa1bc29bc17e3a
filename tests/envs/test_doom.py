"""The game `doom` in the real engine: levels, frames, seeds, observation, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gamengen import envs
from gamengen.collect.holding import HeldActions
from gamengen.envs import GameDied

vizdoom = pytest.importorskip("vizdoom")
from gamengen.envs.doom import SPEC, DoomEnv, ScriptedPolicy, actions, play_raw, pooling, scenarios  # noqa: E402

pytestmark = pytest.mark.doom
ROOT = Path(__file__).parents[2]


@pytest.fixture
def make():
    made = []

    def make_env(**options) -> DoomEnv:
        made.append(envs.make("doom", **{"observation": "none", **options}))
        return made[-1]

    yield make_env
    for env in made:
        env.close()


def play(env: DoomEnv, seed: int, steps: int, level: str | None = None) -> list[np.ndarray]:
    """Return the frames of random play, each action held for two frames."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed, options={"level": level} if level else None)
    frames = [env.render()]
    for number in range(steps):
        if number % 2 == 0:
            action = int(rng.integers(env.action_space.n))
        _, _, terminated, truncated, _ = env.step(action)
        frames.append(env.render())
        if terminated or truncated:
            break
    return frames


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def run_until(env: DoomEnv, action: str, limit: int) -> tuple[list[np.ndarray], dict, bool]:
    """Hold one action to the episode's end; return the last two frames, the last info and `terminated`."""
    last, terminated = [env.render()], False
    for _ in range(limit):
        _, _, terminated, truncated, info = env.step(SPEC.action_index(action))
        last = [last[-1], env.render()]
        if terminated or truncated:
            break
    return last, info, terminated


# ---------------------------------------------------------------- actions


def test_there_are_43_actions_and_each_presses_what_its_name_says() -> None:
    assert len(SPEC.actions) == len(set(SPEC.actions)) == 43 and SPEC.actions[0] == "none"
    assert len({tuple(pressed) for pressed in actions.PRESSED}) == 43
    held = dict(zip(actions.BUTTONS, actions.PRESSED[SPEC.action_index("forward+turn_left+attack")], strict=True))
    assert [name for name, on in held.items() if on] == ["MOVE_FORWARD", "TURN_LEFT", "ATTACK", "SPEED"]
    assert all(pressed[actions.BUTTONS.index("SPEED")] for pressed in actions.PRESSED)
    assert {"forward", "back", "left", "right", "turn_left", "turn_right", "attack", "use"} <= set(
        SPEC.keyboard.values()
    )


def test_a_scenario_may_have_the_actions_that_it_means(make) -> None:
    env = make(levels="basic", actions="scenario", observation="pixels")
    names = env.game_spec.actions
    assert names == ("none", "attack", "left", "left+attack", "right", "right+attack")
    assert env.action_space.n == 6 and env.observation_space["actions"].high.max() == 5
    assert env.game_spec.keyboard == {"KeyA": "left", "KeyD": "right", "Space": "attack", "KeyF": "attack"}
    before = env.reset(seed=0)[1]["variables"]["y"]
    for _ in range(5):
        after = env.step(names.index("left"))[4]["variables"]["y"]
    assert abs(after - before) > 20
    both = make(levels=["basic", "health_gathering"], actions="scenario")
    assert "forward+turn_left" in both.game_spec.actions and "forward+left" in both.game_spec.actions
    with pytest.raises(ValueError, match="expected 0 to 5"):
        env.step(6)
    with pytest.raises(ValueError, match="'scenario' for level 'MAP01'"):
        make(levels=["basic", "MAP01"], actions="scenario")


@pytest.mark.parametrize(
    ("action", "name", "sign"),
    [("forward", "x", 1), ("back", "x", -1), ("left", "y", 1), ("right", "y", -1)],
)
def test_a_movement_moves_that_way(make, action, name, sign) -> None:
    env = make(levels="defend_the_center")  # an arena; the player looks along x or is turned so below
    _, first = env.reset(seed=3)
    _, info, _ = run_until(env, action, 6)
    angle = np.deg2rad(first["variables"]["angle"])
    dx, dy = (info["variables"][axis] - first["variables"][axis] for axis in "xy")
    along = {"x": dx * np.cos(angle) + dy * np.sin(angle), "y": -dx * np.sin(angle) + dy * np.cos(angle)}
    assert sign * along[name] > 30 and abs(along["y" if name == "x" else "x"]) < 5


def test_turning_turns_and_firing_fires(make) -> None:
    env = make(levels="basic")
    for action, wanted in (("turn_left", 1), ("turn_right", -1)):
        _, first = env.reset(seed=0)
        _, info, _ = run_until(env, action, 3)
        turned = (info["variables"]["angle"] - first["variables"]["angle"] + 180) % 360 - 180
        assert 5 < wanted * turned < 45
    _, first = env.reset(seed=0)
    _, info, _ = run_until(env, "attack", 10)
    assert info["variables"]["bullets"] < first["variables"]["bullets"]


# ---------------------------------------------------------------- levels


def test_every_shipped_scenario_plays(make) -> None:
    names = scenarios.scenario_names()
    assert {"basic", "health_gathering", "defend_the_center", "deathmatch", "my_way_home", "cig"} <= set(names)
    env = make(levels=names)
    for name in names:
        frames = play(env, 0, 4, name)
        assert len(frames) == 5 and frames[-1].std() > 10, name


def test_maps_of_both_freedooms_play_in_one_dataset(make) -> None:
    env = make(levels={"E1M1": 1, "MAP02": 1, "cig/MAP01": 1})
    shown = [play(env, 0, 2, level)[-1] for level in ("E1M1", "MAP02", "cig/MAP01")]
    assert not np.array_equal(shown[0], shown[1]) and not np.array_equal(shown[1], shown[2])


def test_bots_are_in_the_deathmatch(make) -> None:
    env = make(levels="cig+3bots")
    env.reset(seed=0)
    assert env._engine.running().get_server_state().player_count == 4


def test_levels_are_drawn_by_their_shares_from_the_seed(make) -> None:
    env = make(levels={"MAP01": 3, "MAP02": 1}, held_out=["MAP02"])
    drawn = [env.reset(seed=seed)[1] for seed in range(40)]
    assert {info["level"]: info["held_out"] for info in drawn} == {"MAP01": False, "MAP02": True}
    names = [info["level"] for info in drawn]
    assert 20 <= names.count("MAP01") <= 38
    assert [env.reset(seed=seed)[1]["level"] for seed in range(5)] == names[:5]


def test_your_own_wads(make) -> None:
    iwad = make(wad=str(scenarios.FREEDOOM[1]), levels="E1M2")
    assert len(play(iwad, 0, 2)) == 3
    pwad = make(wad=str(scenarios.PACKAGE / "scenarios" / "cig.wad"), levels="MAP02")
    plain = make(levels="MAP02")
    assert not np.array_equal(play(pwad, 0, 0)[0], play(plain, 0, 0)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "helth_gathering"}, "did you mean 'health_gathering'"),
        ({"levels": "MAP77"}, r"unknown scenario or map 'MAP77'; did you mean 'MAP\d\d'"),
        ({"levels": "basic/MAP02"}, "unknown scenario or map 'MAP02' in level 'basic/MAP02'; did you mean 'MAP01'"),
        ({"levels": "MAP01+9bots"}, "up to 7 bots"),
        ({"levels": "basic+1bots"}, "no starts for a deathmatch"),
        ({"levels": {"MAP01": 0}}, "positive shares"),
        ({"levels": []}, "expected names"),
        ({"held_out": ["MAP02"]}, "must be|expected some of levels"),
        ({"reward": "scenario"}, "level 'MAP01', a map, which has no reward of its own"),
        ({"reward": "papre"}, "expected one of"),
        ({"more_variables": ["user_1"]}, "unknown game variable 'user_1'; did you mean 'user"),
        ({"cell_size": 0}, "cell_size, got 0"),
        ({"area_origin": "here"}, "area_origin, got 'here'"),
        ({"action_tics": 3}, "a multiple of frame_tics, 2"),
        ({"skill": 6}, "None or 1 to 5"),
        ({"observation": "state"}, "expected one of"),
        ({"wad": "/nowhere/doom2.wad"}, r"'/nowhere/doom2.wad', which cannot be read \(No such file"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(make, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_file_that_is_no_wad_is_refused(tmp_path, make) -> None:
    (tmp_path / "a.wad").write_bytes(b"RIFF" + bytes(100))
    (tmp_path / "b.wad").write_bytes(b"IW")
    (tmp_path / "c.wad").write_bytes(scenarios.FREEDOOM[2].read_bytes()[:100_000])
    for name, message in (("a", "is no WAD"), ("b", "too short"), ("c", "cut off")):
        with pytest.raises(ValueError, match=message):
            make(wad=str(tmp_path / f"{name}.wad"))


def test_a_wad_that_the_engine_refuses_is_an_error_and_no_crash(tmp_path, make) -> None:
    data = bytearray((scenarios.PACKAGE / "scenarios" / "basic.wad").read_bytes())
    start = data.index(b"linedef")
    data[start : start + 400] = b"}" * 400
    (tmp_path / "broken.wad").write_bytes(data)
    env = make(wad=str(tmp_path / "broken.wad"), levels="MAP01")
    with pytest.raises(ValueError, match=r"'MAP01', on which the engine does not start with .*broken\.wad"):
        env.reset(seed=0)


# ---------------------------------------------------------------- frames and seeds


def test_the_frame_is_the_game_with_its_status_bar_between_black_rows(make) -> None:
    env = make(levels="basic")
    env.reset(seed=0)
    frame = env.render()
    top, bottom = SPEC.padding
    assert frame.shape == (256, 320, 3) and SPEC.visible_rows == slice(8, 248)
    assert not frame[:top].any() and not frame[-bottom:].any()
    np.testing.assert_array_equal(frame[SPEC.visible_rows], env._engine.screen)
    bar = frame[SPEC.visible_rows][-32:].astype(int)
    red = (bar[..., 0] > 120) & (bar[..., 1] < 40) & (bar[..., 2] < 40)  # the figures of ammunition and health
    assert red[:, :50].any() and red[:, 50:110].any()


def test_frames_depend_on_seed_and_actions_alone(make) -> None:
    env = make(levels=["MAP01", "MAP05", "deathmatch"])
    first = play(env, 1, 150, "MAP01")
    play(env, 2, 100, "MAP01")  # leaves its weapon swinging
    again = play(env, 1, 150, "MAP01")
    play(env, 3, 40, "MAP05")
    play(env, 3, 40, "deathmatch")  # another process
    assert same(first, again)
    assert same(first, play(env, 1, 150, "MAP01"))
    assert not same(first, play(env, 4, 150, "MAP01"))


def test_a_deathmatch_with_bots_repeats_too(make) -> None:
    env = make(levels="MAP01+4bots")
    first = play(env, 1, 150)
    assert same(first, play(env, 1, 150)) and not same(first, play(env, 2, 150))


def test_the_raw_engine_shows_the_frames_of_the_env(make) -> None:
    options = {"levels": {"basic": 0.5, "defend_the_center": 0.5}, "frame_tics": 4}
    env, played = make(**options, observation="none"), [6, 1, 2, 12, 4, 42, 8, 0]
    shown, levels = [], set()
    for seed in range(4):
        levels.add(env.reset(seed=seed)[1]["level"])
        for action in played:
            env.step(action)
            shown.append(env.render()[8:-8])
    raw = list(play_raw([(seed, played) for seed in range(4)], **options, observation="none"))
    assert len(levels) == 2 and same(shown, raw)


def test_frames_kept_are_never_painted_over(make) -> None:
    env = make(levels="basic")
    kept = play(env, 0, 30)
    copies = [frame.copy() for frame in kept]
    play(env, 1, 30)
    assert same(kept, copies)


def test_a_death_ends_the_episode_and_is_seen(make) -> None:
    env = make(levels="defend_the_center", max_frames=2000)
    env.reset(seed=1)
    (before, after), info, terminated = run_until(env, "none", 2000)
    assert terminated and info["variables"]["dead"] == 1 and info["variables"]["health"] == 0
    assert after[8:200, :, 0].mean() > before[8:200, :, 0].mean() + 20, "the frame of a death is red"
    with pytest.raises(Exception, match="call reset"):
        env.step(0)


def test_the_time_limit_truncates(make) -> None:
    env = make(levels="basic")  # its own limit: 300 tics
    env.reset(seed=0)
    _, _, terminated = run_until(env, "none", 1000)
    assert not terminated and env._num_frames == 150


def test_in_a_deathmatch_the_player_comes_back(make) -> None:
    env = make(levels="MAP01+4bots", max_frames=400)
    env.reset(seed=0)
    env._engine.running().send_game_command("kill")
    lives = [env.step(SPEC.action_index("attack"))[4]["variables"]["dead"] for _ in range(120)]
    assert 1 in lives and lives[-1] == 0


# ---------------------------------------------------------------- observation, reward, policy


def test_the_observation_is_screen_automap_and_the_last_decisions(make) -> None:
    env = make(levels="MAP01", observation="pixels")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation) and not observation["actions"].any()
    screen = env._engine.screen.reshape(120, 2, 160, 2, 3).mean((1, 3))
    assert np.abs(observation["screen"] - screen).max() < 1
    seen = observation["automap"].astype(bool).sum()
    forward, turn = SPEC.action_index("forward"), SPEC.action_index("turn_left")
    for action in (forward, forward, turn, turn) * 15:
        observation, *_ = env.step(action)
    assert env.observation_space.contains(observation)
    assert observation["actions"].tolist()[-4:] == [forward, turn, forward, turn]  # one per 4 tics
    assert 0 < seen < observation["automap"].astype(bool).sum() < 120 * 160 / 3


def test_held_actions_decide_every_four_tics_and_may_repeat(make) -> None:
    env = make(levels="health_gathering")
    held = HeldActions(env, env.frames_per_action, repeat_probability=0.5)
    wanted = [1, 6, 12, 18] * 10

    def done(seed: int) -> list[int]:
        held.reset(seed=seed)
        return [held.step(action)[4]["action"] for action in wanted]

    first = done(0)
    assert env._num_frames == 80 and env.frames_per_action == 2
    assert 8 < sum(a != b for a, b in zip(first, wanted, strict=True)) < 32
    assert first == done(0) != done(1)
    assert all(a in (b, c) for a, b, c in zip(first[1:], wanted[1:], first, strict=False))
    plain = HeldActions(env, 2)
    plain.reset(seed=0)
    _, reward, *_, info = plain.step(0)
    assert info["action"] == 0 and reward == pytest.approx(sum(info["reward_terms"].values()))
    with pytest.raises(ValueError, match="repeat_probability"):
        HeldActions(env, 2, 1.0)


@pytest.mark.parametrize(("level", "per_tic"), [("basic", -1), ("health_gathering", 1)])
def test_a_scenario_s_own_reward(make, level, per_tic) -> None:
    env = make(levels=level, reward="scenario")
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(10)]
    assert rewards == [2 * per_tic] * 10


def test_the_scripted_player_kills_what_a_random_one_does_not(make) -> None:
    env = make(levels="defend_the_center", labels=True)

    def kills(player) -> float:
        total = 0.0
        for seed in range(3):
            _, info = env.reset(seed=seed)
            ended = False
            while not ended:
                _, _, terminated, truncated, info = env.step(player(info))
                ended = terminated or truncated
            total += info["variables"]["kills"]
        return total

    policy = ScriptedPolicy(decision_frames=2)
    policy.reset(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    assert kills(policy.action) >= kills(lambda info: int(rng.integers(43))) + 6


# ---------------------------------------------------------------- processes


def test_a_killed_game_is_one_clear_error_and_reset_recovers(make) -> None:
    env = make(levels="MAP01")
    first = play(env, 1, 20)
    play(env, 2, 5)
    os.kill(env._engine.pid, signal.SIGKILL)
    with pytest.raises(GameDied, match=r"the DOOM process has ended .* reset\(\) starts a new process"):
        for _ in range(5):
            env.step(0)
    with pytest.raises(Exception, match="call reset"):
        env.step(0)
    assert same(first, play(env, 1, 20))


def test_a_game_killed_between_episodes_is_replaced(make) -> None:
    env = make(levels="MAP01")
    first = play(env, 1, 5)
    os.kill(env._engine.pid, signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(GameDied):
        env.reset(seed=1)
    assert same(first, play(env, 1, 5))


def test_nothing_is_left_behind(make, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = make(levels="MAP01")
    play(env, 0, 3)
    pid, folder = env._engine.pid, env._engine._folder
    env.close()
    assert list(tmp_path.iterdir()) == [] and not folder.exists() and not Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)")
def test_the_game_ends_with_a_killed_player() -> None:
    code = (
        "from gamengen import envs; env = envs.make('doom', observation='none'); env.reset(seed=0); "
        "print(env._engine.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as player:
        engine = Path(f"/proc/{int(player.stdout.readline())}")
        assert engine.exists()
        player.kill()
        player.wait()
    deadline = time.monotonic() + 20
    while engine.exists() and "zombie" not in (engine / "status").read_text():
        assert time.monotonic() < deadline, "the engine outlives its player"
        time.sleep(0.05)


@pytest.mark.parametrize("factor", [1, 2, 4, 5])
def test_pictures_are_made_smaller_exactly(factor) -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    squares = image.reshape(240 // factor, factor, 320 // factor, factor, 3)
    np.testing.assert_array_equal(pooling.mean(image, factor), np.floor(squares.mean((1, 3)) + 0.5))
    np.testing.assert_array_equal(pooling.maximum(image, factor), squares.max((1, 3)))


def test_supersampling_is_the_same_game_with_smoother_pictures(make) -> None:
    options = {"levels": "defend_the_center", "observation": "pixels", "labels": True, "max_frames": 40}
    seen = []
    for supersampling in (1, 2):
        env = make(**options, supersampling=supersampling)
        env.reset(seed=3)
        for _ in range(40):
            observation, _, _, _, info = env.step(SPEC.action_index("turn_left"))
        seen.append((env.render(), observation, info["labels"], info["variables"]))
    (plain, plain_view, plain_labels, variables), (smooth, smooth_view, smooth_labels, as_before) = seen
    assert as_before == variables
    roughness, remains = (np.abs(np.diff(frame[8:200].astype(int), axis=1)).mean() for frame in (plain, smooth))
    assert remains < 0.8 * roughness
    assert smooth_view["screen"].shape == plain_view["screen"].shape == (120, 160, 3)
    assert (smooth_view["automap"] > 0).any() and smooth_view["automap"].shape == plain_view["automap"].shape
    assert [label[:2] for label in smooth_labels] == [label[:2] for label in plain_labels] != []
    sides = [[(x, width) for _, _, x, _, width, _ in labels] for labels in (smooth_labels, plain_labels)]
    np.testing.assert_allclose(*sides, atol=2)  # not up and down: the status bar is taller


def test_supersampling_shows_the_frame_of_a_death(make) -> None:
    env = make(levels="defend_the_center", max_frames=2000, supersampling=2)
    env.reset(seed=1)
    (before, after), info, terminated = run_until(env, "none", 2000)
    assert terminated and info["variables"]["dead"] == 1
    assert after[8:200, :, 0].mean() > before[8:200, :, 0].mean() + 20, "the frame of a death is red"


def test_an_unknown_supersampling_is_refused(make) -> None:
    with pytest.raises(ValueError, match=r"supersampling, got 3; expected one of \(1, 2, 4, 5\)"):
        make(supersampling=3)
