"""Windows: never across two episodes unless joined on purpose, and padded as the engine pads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gamengen.data.shards import Episode
from gamengen.data.window import (
    WindowRules,
    action_changes,
    draw_windows,
    endings,
    pad_context,
    restart_window,
    window_at,
)
from gamengen.engine import GameEngine
from gamengen.game import GameSpec

GAME = GameSpec("g", 4, 4, 20.0, 3, ("none", "jump", "duck"), {}, restart_action="jump", restart_delay=3)
LENGTH = 4


def make_episode(number: int, length: int = 12, terminated: bool = True) -> Episode:
    """An episode whose frames say which they are: 100 * number + time."""
    frames = (100 * number + np.arange(length)).astype(np.float32)[:, None]
    actions = np.random.default_rng(number).integers(0, 3, length - 1).astype(np.int16)
    return Episode(f"e{number}", frames, actions, np.zeros(length - 1), terminated, "random", "train")


def _all_windows(episodes: list[Episode], rules: WindowRules, seed: int = 0) -> list:
    return list(draw_windows(episodes, rules, GAME, np.random.default_rng(seed)))


@pytest.mark.parametrize("target", range(1, 12))
def test_a_window_is_the_past_of_its_target(target: int) -> None:
    episode = make_episode(1)
    window = window_at(episode, target, LENGTH)
    assert window.target[0] == 100 + target
    real = min(target, LENGTH)
    assert window.context[-real:, 0].tolist() == [100 + t for t in range(target - real, target)]
    assert window.actions[-real:].tolist() == episode.actions[target - real : target].tolist()
    assert (window.context[: LENGTH - real, 0] == 100).all()
    assert (window.actions[: LENGTH - real] == 0).all()


def test_windows_never_cross_an_episode() -> None:
    episodes = [make_episode(number, length) for number, length in ((1, 12), (2, 2), (3, 7))]
    drawn = _all_windows(episodes, WindowRules(LENGTH, restart_joins=0.0, event_fraction=0.3))
    assert len(drawn) == 11 + 1 + 6
    for window in drawn:
        numbers = {int(value) // 100 for value in [*window.context[:, 0], window.target[0]]}
        assert len(numbers) == 1
        assert window.target[0] - window.context[-1, 0] == 1


def test_every_target_comes_once() -> None:
    episodes = [make_episode(1), make_episode(2, 5)]
    targets = sorted(int(window.target[0]) for window in _all_windows(episodes, WindowRules(LENGTH)))
    assert targets == [*range(101, 112), *range(201, 205)]


def test_the_order_is_the_generator_s() -> None:
    episodes = [make_episode(1), make_episode(2)]
    rules = WindowRules(LENGTH, 0.2, 0.2)
    one, same, other = (_all_windows(episodes, rules, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.context, b.context) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a.context, b.context) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("seeds", [range(100), range(100, 200)])
def test_a_join_holds_the_game_over_until_the_restart(seeds: range) -> None:
    before, after = make_episode(1), make_episode(2)
    for seed in seeds:
        window = restart_window(before, after, GAME, LENGTH, np.random.default_rng(seed))
        shown = [int(value) for value in [*window.context[:, 0], window.target[0]]]
        for action, now, following in zip(window.actions, shown, shown[1:], strict=False):
            if now == 111:  # the game over: it stays, or a restart leads to the next episode's first frame
                assert following in (111, 200)
                assert action == 1 or following == 111
            elif following == now:  # padding
                assert now == shown[0]
            else:
                assert following == now + 1 and action == (before if now < 200 else after).actions[now % 100]


def test_joins_show_the_wait_and_the_restart() -> None:
    drawn = [
        restart_window(make_episode(1), make_episode(2), GAME, LENGTH, np.random.default_rng(s)) for s in range(300)
    ]
    held = [w for w in drawn if w.context[-1, 0] == 111 and w.target[0] == 111]
    left = [w for w in drawn if w.context[-1, 0] == 111 and w.target[0] == 200]
    assert held and left
    assert any((w.actions == 1).any() for w in held), "the restart key does nothing while the delay lasts"
    for window in left:
        assert window.actions[-1] == 1
        assert (window.context[-GAME.restart_delay :, 0] == 111).sum() >= min(GAME.restart_delay, LENGTH - 1)


def test_a_game_without_restart_action_goes_on_at_once() -> None:
    game = GameSpec("g", 4, 4, 20.0, 3, ("none", "jump"), {})
    for seed in range(50):
        window = restart_window(make_episode(1), make_episode(2), game, LENGTH, np.random.default_rng(seed))
        shown = [*window.context[:, 0], window.target[0]]
        assert shown.count(111) <= 1


def test_joins_take_their_share_and_need_an_end() -> None:
    episodes = [make_episode(1, 400), make_episode(2, 400)]
    joined = [w for w in _all_windows(episodes, WindowRules(LENGTH, restart_joins=0.25)) if _crosses(w)]
    assert 0.08 < len(joined) / 798 < 0.25
    cut = [make_episode(1, 400, terminated=False), make_episode(2, 400, terminated=False)]
    assert not [w for w in _all_windows(cut, WindowRules(LENGTH, restart_joins=0.25)) if _crosses(w)]


def _crosses(window) -> bool:
    return len({int(value) // 100 >= 200 for value in [*window.context[:, 0], window.target[0]]}) > 1 or (
        window.target[0] == window.context[-1, 0]
    )


def test_events_are_changes_of_action_and_the_end() -> None:
    episode = Episode("e", np.zeros((8, 1)), np.array([0, 0, 1, 1, 1, 0, 0]), np.zeros(7), True, "", "train")
    assert action_changes(episode).tolist() == [3, 6]
    assert endings(episode).tolist() == [6, 7]
    quiet = Episode("e", np.zeros((8, 1)), np.zeros(7), np.zeros(7), False, "", "train")
    assert action_changes(quiet).size == endings(quiet).size == 0


def test_event_fraction_raises_the_share_of_events() -> None:
    actions = np.zeros(399, dtype=np.int16)
    actions[200:210] = 1
    episode = Episode("e", np.arange(400.0)[:, None], actions, np.zeros(399), True, "", "train")
    targets = [int(w.target[0]) for w in _all_windows([episode], WindowRules(LENGTH, event_fraction=0.4))]
    assert 0.1 < sum(t in (201, 211) for t in targets) / 399 < 0.3
    assert 0.1 < sum(t in (398, 399) for t in targets) / 399 < 0.3


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_padding_is_the_engine_s(model_folder: str, length: int) -> None:
    engine = GameEngine.from_pretrained(model_folder)
    latents = torch.randn(length, *engine.latent_shape, generator=torch.Generator().manual_seed(0))
    actions = np.arange(length) % 3
    context, played = pad_context(latents.numpy(), actions, engine.context_length)
    state = engine.begin_latents(latents[None], torch.as_tensor(actions[: length - 1])[None], [0])
    assert np.array_equal(state.context[0].numpy(), context)
    assert state.actions[0, :-1].tolist() == played[:-1].tolist()
