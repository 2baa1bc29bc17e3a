"""Rollouts: the real game judged against itself, and what is counted in made-up ones."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen import envs
from gamengen.envs.chrome_dino import PROBES
from gamengen.evaluate import rollouts
from gamengen.evaluate.rollouts import RealGames, Rollouts


def make():
    return envs.make("chrome_dino", downscale=2)


def made(over: list[int], **columns: list[int]) -> Rollouts:
    """One game of T frames; columns that are not given are all zero."""
    seen = {
        name: np.array(columns.get(name, [0] * len(over)), bool)[:, None] for name in ("entered", "contact", "pressed")
    }
    frames = np.zeros((1, 1, 2, 2, 3), np.uint8)
    return Rollouts(
        np.array(over, bool)[:, None], **seen, ages=np.array([100]), snapshots=frames, film=None, seconds=1.0
    )


@pytest.fixture(scope="module")
def real() -> Rollouts:
    seeds = list(range(6))
    games = RealGames(make, seeds, [80] * 6, PROBES)
    return rollouts.play(games, PROBES.player(seeds, carelessness=0.5), 220, name="real game", keep_film=True)


def test_in_the_real_game_every_contact_is_a_crash_and_nothing_sticks(real: Rollouts) -> None:
    crashes = rollouts.crashes(real)
    assert len(crashes) >= 5 and crashes.all()
    assert rollouts.num_stuck(real) == 0
    assert real.pressed.any() and (~real.over[-1]).any()


def test_the_real_event_rate_is_that_of_the_obstacles_the_game_makes(real: Rollouts) -> None:
    """Counted from frames, against the game's own list of obstacles in a game without crashes."""
    env, player = make(), PROBES.player([3], carelessness=0.0)
    _, info = env.reset(seed=3)
    seen, entered, known = 0, 0, None
    for step in range(300):
        entered += int(player.entered[0])
        visible = [o["x"] for o in info["obstacles"] if o["x"] + 12 < 430]
        nearest = max(visible, default=None)
        if nearest is not None and (known is None or nearest > known):
            seen += 1
        known = nearest
        _, _, terminated, _, info = env.step(player.act(env.render()[None])[0])
        assert not terminated, f"a careful player crashed at {step}"
    assert abs(entered - seen) <= 1 and seen >= 8
    rate = rollouts.event_rate(real, PROBES.QUIET_FRAMES)
    assert rate is not None and 3 < rate < 8


def test_quiet_time_and_game_over_do_not_count() -> None:
    over = [0] * 5 + [1] * 5 + [0] * 10
    played = made(over, entered=[1] * 20)
    mask = rollouts.counted(played, quiet_frames=4)[:, 0]
    assert mask.tolist() == [True] * 5 + [False] * 5 + [False] * 3 + [True] * 7
    assert rollouts.event_rate(played, 4) == 100.0
    assert rollouts.event_rate(made([1] * 5), 0) is None


def test_a_contact_counts_as_a_crash_within_four_frames() -> None:
    contact = [1] + [0] * 6 + [1] + [0] * 8
    over = [0, 0, 0, 0, 1] + [0] * 7 + [1] + [0] * 3  # 4 frames after the first contact, 5 after the second
    assert rollouts.crashes(made(over, contact=contact)).tolist() == [True, False]


def test_stuck_is_game_over_long_after_the_press() -> None:
    wait = rollouts.STUCK_AFTER
    pressed = [0] * 10 + [1] + [0] * (wait + 5)
    assert rollouts.num_stuck(made([1] * (wait + 16), pressed=pressed)) == 1
    assert rollouts.num_stuck(made([1] * (wait + 9) + [0] * 7, pressed=pressed)) == 0
    flicker = [1] * 30 + [0] + [1] * (wait - 15)
    assert rollouts.num_stuck(made(flicker, pressed=pressed)) == 1, "one frame without the panel is no restart"
    assert rollouts.num_stuck(made([1] * (wait + 16))) == 0, "nobody asked for a restart"


def test_static_psnr_takes_the_nearest_and_shows_a_lost_region(real: Rollouts) -> None:
    regions = PROBES.static_regions(128, 256)
    references = real.snapshots.reshape(-1, 128, 256, 3)
    whole, _ = rollouts.static_psnr(references[:4], references, regions)
    assert whole == pytest.approx([60.0] * 4)
    lost = references[:1].copy()
    lost[:, *regions["score"]] = 255
    whole, parts = rollouts.static_psnr(lost, references, regions)
    assert parts["sky"][0] == 60.0 and parts["score"][0] < 20 and whole[0] < 25
