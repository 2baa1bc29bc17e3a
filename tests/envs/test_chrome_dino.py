"""The dinosaur env: contract, rewards, keys, options, the frame's layout, the scripted player."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from gamengen.envs import chrome_dino
from gamengen.envs.chrome_dino import physics, render
from gamengen.envs.chrome_dino.policies import ScriptedPolicy

NONE, JUMP, DUCK = (chrome_dino.SPEC.action_index(name) for name in ("none", "jump", "duck"))


def _run_into_something(**options) -> tuple[gymnasium.Env, list[tuple]]:
    env = chrome_dino.make(**options)
    env.reset(options={"mulberry32": 1})
    steps = [env.step(NONE)]
    while not steps[-1][2]:
        steps.append(env.step(NONE))
    return env, steps


@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_gymnasium_accepts_it(observation: str) -> None:
    check_env(gymnasium.make("gamengen/ChromeDino-v0", observation=observation).unwrapped)


def test_an_episode_begins_at_the_canonical_start() -> None:
    _, info = chrome_dino.make().reset(options={"mulberry32": 7})
    assert (info["speed"], info["distance"], info["score"], info["y"], info["draws"]) == (6.001, 0, 0, 93, 0)
    assert info["obstacles"] == [] and not info["crashed"] and not info["night"]


def test_rewards_add_up_to_the_score() -> None:
    _, steps = _run_into_something(observation="state")
    total = sum(step[1] for step in steps)
    info = steps[-1][4]
    assert total == pytest.approx(info["distance"] * 0.025)
    assert round(total) == pytest.approx(info["score"], abs=1) and info["score"] > 30
    assert info["crashed"] and not steps[-1][3]
    _, punished = _run_into_something(observation="state", crash_reward=-10.0)
    assert sum(step[1] for step in punished) == pytest.approx(total - 10)


def test_equal_seeds_give_equal_games() -> None:
    def play(**reset) -> tuple[list[dict], np.ndarray]:
        env = chrome_dino.make(observation="state")
        env.reset(**reset)
        infos = [env.step(int(a))[4] for a in np.random.default_rng(0).choice(2, 70)]
        return infos, env.render()

    first, second, other = play(seed=5), play(seed=5), play(seed=6)
    assert first[0] == second[0] and np.array_equal(first[1], second[1])
    assert first[0] != other[0]
    number = int(gymnasium.utils.seeding.np_random(5)[0].integers(2**32))
    assert play(options={"mulberry32": number})[0] == first[0]


def test_episodes_without_a_seed_go_on_from_the_first() -> None:
    def second_game(seed: int) -> list[dict]:
        env = chrome_dino.make(observation="state")
        env.reset(seed=seed)
        env.reset()
        return [env.step(NONE)[4] for _ in range(70)]

    env = chrome_dino.make(observation="state")
    env.reset(seed=3)
    first_game = [env.step(NONE)[4] for _ in range(70)]
    assert second_game(3) == second_game(3)
    assert second_game(3) != first_game and second_game(3) != second_game(4)


def test_three_single_updates_are_one_frame() -> None:
    frames, singles = chrome_dino.make(), chrome_dino.make(frame_tics=1)
    frames.reset(options={"mulberry32": 4})
    singles.reset(options={"mulberry32": 4})
    actions = np.random.default_rng(1).choice(3, 60)
    for action in actions:
        _, reward, _, _, info = frames.step(int(action))
        three = [singles.step(int(action)) for _ in range(3)]
        assert three[-1][4] == info and sum(step[1] for step in three) == pytest.approx(reward)
        assert np.array_equal(frames.render(), singles.render())


def test_a_held_key_does_not_repeat() -> None:
    env = chrome_dino.make(frame_tics=1, observation="state")
    env.reset(seed=0)
    ys = [env.step(JUMP)[4]["y"] for _ in range(80)]
    assert ys[:4] == [82, 72, 63, 54] and min(ys) == 2
    assert ys[34:] == [93] * 46, "one jump of 35 updates, then it stays on the ground"
    env.step(NONE)
    assert env.step(JUMP)[4]["jumping"]


def test_down_ducks_on_the_ground_and_drops_in_the_air() -> None:
    env = chrome_dino.make(frame_tics=1, observation="state")
    env.reset(seed=0)
    assert env.step(DUCK)[4]["ducking"] and not env.step(NONE)[4]["ducking"]
    for _ in range(10):
        env.step(JUMP)
    infos = [env.step(DUCK)[4] for _ in range(12)]
    assert infos[-1]["ducking"] and sum(info["jumping"] for info in infos) < 10


def test_the_spec_follows_the_options() -> None:
    spec = chrome_dino.make(frame_tics=2, downscale=4).unwrapped.game_spec
    assert (spec.height, spec.width, spec.frames_per_second, spec.tics_per_frame) == (64, 128, 30, 2)
    assert chrome_dino.make().unwrapped.game_spec == chrome_dino.SPEC
    assert (chrome_dino.SPEC.height, chrome_dino.SPEC.width, chrome_dino.SPEC.frames_per_second) == (256, 512, 20)


@pytest.mark.parametrize(
    "options",
    [
        {"frame_tics": 0},
        {"frame_tics": 1.5},
        {"downscale": 3},
        {"observation": "sound"},
        {"max_frames": 0},
        {"crash_reward": None},
        {"high_score": -1},
        {"render_mode": "human"},
    ],
)
def test_bad_options_are_explained(options: dict) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ValueError) as error:
        chrome_dino.make(**options)
    assert str(error.value).startswith(f"{name}, got {value!r}; expected ")


def test_max_frames_truncates() -> None:
    env = chrome_dino.make(max_frames=3)
    env.reset(seed=0)
    assert [env.step(NONE)[2:4] for _ in range(3)] == [(False, False), (False, False), (False, True)]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(NONE)


def test_steps_out_of_turn_and_unknown_actions_are_errors() -> None:
    env = chrome_dino.make()
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(NONE)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="unknown action, got 3"):
        env.step(3)
    crashed, _ = _run_into_something()
    with pytest.raises(gymnasium.error.ResetNeeded):
        crashed.step(NONE)
    crashed.close()
    crashed.close()


# ---- pictures


def _game(seed: int, updates: int) -> physics.Game:
    game = physics.Game(seed, immortal=True)
    for _ in range(updates):
        game.update()
    return game


def test_the_frame_has_its_layout() -> None:
    env, _ = _run_into_something()
    frame = env.render()
    assert frame.shape == (256, 512, 3) and frame.dtype == np.uint8
    assert (frame[:, :, 0] == frame[:, :, 1]).all() and (frame[:, :, 0] == frame[:, :, 2]).all()
    grey = frame[:, :, 0]
    assert (grey[:48] == 255).all() and (grey[198:] == 255).all(), "white page above and below the strip"
    score = np.argwhere(grey[58:71, 440:] < 255)
    assert score[:, 1].min() + 440 in range(446, 450) and score[:, 1].max() + 440 < 500, "five digits, moved left by 88"
    assert (grey[178:180, 100:200] == 83).mean() > 0.6, "the ground line"
    assert (grey[90:101, 205:396] == 83).any() and (grey[123:155, 284:320] == 83).any(), "game over, restart"
    assert (grey[141:188, 25:69] == 83).sum() > 500, "the T-rex"


def test_each_frame_is_a_copy_of_its_own() -> None:
    for downscale in (1, 2):
        env = chrome_dino.make(downscale=downscale)
        env.reset(seed=0)
        first = env.render()
        kept = first.copy()
        env.step(JUMP)
        assert np.array_equal(first, kept) and not np.array_equal(env.render(), first)
        first[:] = 0
        env.step(NONE)
        assert env.render().mean() > 200


def test_redrawing_leaves_nothing_behind() -> None:
    painter = render.FramePainter()
    for updates in (10, 300, 900, 4000):
        game = _game(2, updates)
        assert np.array_equal(painter.paint(game), render.FramePainter().paint(game))


@pytest.mark.parametrize("downscale", [2, 4, 8])
@pytest.mark.parametrize("observation", ["pixels", "state"])
def test_a_smaller_frame_is_the_mean_of_blocks(downscale: int, observation: str) -> None:
    full, small = (
        chrome_dino.make(observation=observation),
        chrome_dino.make(downscale=downscale, observation=observation),
    )
    for env in (full, small):
        env.reset(options={"mulberry32": 1})
        for step in range(90):
            env.step(JUMP if step % 7 == 0 else NONE)
    blocks = full.render().reshape(256 // downscale, downscale, 512 // downscale, downscale, 3).mean(axis=(1, 3))
    assert np.array_equal(small.render(), np.floor(blocks + 0.5).astype(np.uint8))


@pytest.mark.parametrize("downscale", [1, 2])
def test_a_recorder_sees_the_frame_without_a_copy(downscale: int) -> None:
    env = chrome_dino.make(downscale=downscale)
    env.reset(options={"mulberry32": 1})
    seen = env.unwrapped.view_frame()
    for night in (False, True):
        env.step(JUMP)
        env.unwrapped._game.night = night
        frame = env.render()
        assert np.array_equal(env.unwrapped.view_frame(), frame)
        assert np.shares_memory(env.unwrapped.view_frame(), seen) is not night and not np.shares_memory(frame, seen)


def test_night_inverts_the_whole_picture() -> None:
    game = _game(3, 3700)
    assert game.night and game.night_opacity > 0.9
    for downscale in (1, 2):
        painter = render.FramePainter(downscale)
        dark = painter.paint(game)
        game.night = False
        assert np.array_equal(dark, 255 - painter.paint(game)) and dark.mean() < 60
        game.night = True
    moon = render.FramePainter().paint(game)[78:118, :160, 0]
    assert ((moon > 60) & (moon < 80)).sum() > 50, "a grey moon"


def test_sprites_fill_chromiums_boxes() -> None:
    expected = {
        (physics.Status.RUNNING, 0): (47, 44), ("duck", 1): (25, 59), ("cactusSmall", 1, 0): (35, 17),
        ("cactusSmall", 3, 0): (35, 51), ("cactusLarge", 2, 0): (50, 50), ("pterodactyl", 1, 1): (40, 46),
        "cloud": (14, 46), "7": (13, 10), "game over": (11, 191), "restart": (32, 36), ("moon", 3): (40, 40),
        ("moon", 0): (40, 20), ("star", 0): (9, 9),
    }  # fmt: skip
    sprites = render.sprites(1)
    assert {name: sprites[name].shape for name in expected} == expected
    assert all((sprites[name] < 255).any() for name in sprites if str(name).split() not in ([], ["pale"]))


def test_pixels_hold_this_frame_and_the_one_before() -> None:
    env = chrome_dino.make()
    before, _ = env.reset(seed=1)
    assert np.array_equal(before[:, :, 0], before[:, :, 1])
    for step in range(40):
        now, *_ = env.step(JUMP if step == 20 else NONE)
        assert np.array_equal(now[:, :, 0], before[:, :, 1]) and now.min() < 160
        grey = env.render()[40:200, :, 0].reshape(40, 4, 128, 4).mean(axis=(1, 3))
        assert np.array_equal(now[:, :, 1], np.floor(grey + 0.5))
        before = now


def test_the_state_names_what_comes() -> None:
    env = chrome_dino.make(observation="state")
    state, _ = env.reset(options={"mulberry32": 1})
    assert np.allclose(state, [-0.9997, 1, 0, 0, 0] + [1, 0, 0, 0, 1, 0] * 2, atol=1e-3)
    while not (info := env.step(NONE)[4])["obstacles"]:
        pass
    state, _, _, _, info = env.step(JUMP)
    nearest = info["obstacles"][0]
    assert state[5] == pytest.approx((nearest["x"] - 69) / 600) and state[3] == 1 and state[1] < 1
    assert state[7] == pytest.approx(nearest["width"] / 75)


# ---- the scripted player


def _play(policy, seed: int, max_frames: int, **options) -> tuple[list[int], dict]:
    env = chrome_dino.make(observation="state", max_frames=max_frames, **options)
    policy.reset(np.random.default_rng(seed))
    _, info = env.reset(options={"mulberry32": seed})
    actions, over = [], False
    while not over:
        actions.append(policy.action(info))
        _, _, terminated, truncated, info = env.step(actions[-1])
        over = terminated or truncated
    return actions, info


def test_the_scripted_player_survives_at_top_speed() -> None:
    games = [_play(ScriptedPolicy(skill=1.0), seed, 2600) for seed in range(4)]
    assert sum(len(actions) == 2600 for actions, _ in games) >= 3
    assert max(info["speed"] for _, info in games) >= physics.MAX_SPEED


def test_less_skill_means_shorter_games() -> None:
    lengths = {skill: [len(_play(ScriptedPolicy(skill), s, 1500)[0]) for s in range(8)] for skill in (1.0, 0.3)}
    assert np.mean(lengths[0.3]) < 0.7 * np.mean(lengths[1.0])


def test_scripted_play_has_jumps_and_ducks_everywhere_and_repeats_itself() -> None:
    policy = chrome_dino.SCRIPTED()
    games = [_play(policy, seed, 1500)[0] for seed in range(8)]
    shares = np.bincount(np.concatenate(games), minlength=3) / sum(map(len, games))
    assert 0.70 < shares[NONE] < 0.87 and 0.08 < shares[JUMP] < 0.2 and 0.04 < shares[DUCK] < 0.12, shares
    early = np.concatenate([game[:55] for game in games])  # no obstacle in sight yet
    assert {JUMP, DUCK} <= set(early.tolist())
    assert _play(chrome_dino.SCRIPTED(), 3, 1500)[0] == games[3]
