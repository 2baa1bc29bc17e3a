"""The detectors against the game's own state: on clean frames, and on blurred and noisy ones at both sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from gamengen.envs import chrome_dino
from gamengen.envs.chrome_dino import detect, physics, render
from gamengen.envs.chrome_dino.policies import ScriptedPolicy

QUALITIES = {"clean": (1, 0.0, 0), "half": (2, 0.0, 0), "blurred": (1, 12.0, 1), "half blurred": (2, 12.0, 1)}


@dataclass
class Seen:
    frame: np.ndarray
    top: int
    ducking: bool
    crashed: bool
    spans: list[tuple[int, int]]


def _degrade(frame: np.ndarray, rng: np.random.Generator, noise: float, blurs: int) -> np.ndarray:
    picture = frame.astype(np.float32)
    for _ in range(blurs):  # 1 2 1 along both axes
        for axis in (0, 1):
            padded = np.pad(picture, [(int(a == axis),) * 2 for a in range(3)], mode="edge")
            first, last = (np.take(padded, range(k, k + picture.shape[axis]), axis) for k in (0, 2))
            picture = (first + 2 * picture + last) / 4
    return np.clip(picture + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8)


def _look(game: physics.Game, painter: render.FramePainter, rng: np.random.Generator, noise: float, blurs: int) -> Seen:
    ducking = game.ducking and not game.crashed  # who crashes while ducking is drawn standing
    return Seen(
        _degrade(painter.paint(game), rng, noise, blurs),
        render.STRIP_TOP + game.y + (render.DUCK_TOP if ducking else 0),
        ducking,
        game.crashed,
        [(max(0, o.x), min(512, o.x + o.width)) for o in game.obstacles if o.x < 512],
    )


def _games(quality: str, num_games: int, every: int, near_only: bool) -> list[Seen]:
    """Play careless games at all speeds; the frames of crashes are all there, of the others one in `every`."""
    downscale, noise, blurs = QUALITIES[quality]
    painter = render.FramePainter(downscale)
    seen = []
    for seed in range(num_games):
        rng = np.random.default_rng(seed)
        game = physics.Game(seed)
        game.speed, game.running_time = float(rng.uniform(6, 13)), 2500.0
        update = 0
        while not game.crashed and update < 900:
            if update % 3 == 0 and rng.random() < 0.12:
                game.hold(int(rng.choice(3, p=(0.35, 0.45, 0.2))))
            game.update()
            update += 1
            near = not near_only or (game.obstacles and game.obstacles[0].x < 115)
            if not game.night and (game.crashed or (near and update % every == 0)):
                seen.append(_look(game, painter, rng, noise, blurs))
    return seen


@pytest.fixture(scope="module", params=QUALITIES)
def frames(request: pytest.FixtureRequest) -> list[Seen]:
    return _games(request.param, num_games=26, every=29, near_only=False)


def _share(results: list[bool]) -> float:
    assert len(results) > 50
    return sum(results) / len(results)


def test_the_trex_is_found(frames: list[Seen]) -> None:
    tops = [detect.trex_top(seen.frame) for seen in frames]
    assert len({seen.top for seen in frames}) > 20, "many heights"
    assert (
        _share([top is not None and abs(top - seen.top) <= 2 for top, seen in zip(tops, frames, strict=True)]) >= 0.98
    )


def test_ducking_is_seen(frames: list[Seen]) -> None:
    assert sum(seen.ducking for seen in frames) > 10
    assert _share([detect.is_ducking(seen.frame) == seen.ducking for seen in frames]) >= 0.98


def test_game_over_is_seen(frames: list[Seen]) -> None:
    assert sum(seen.crashed for seen in frames) > 10
    assert _share([detect.is_game_over(seen.frame) == seen.crashed for seen in frames]) >= 0.98


def test_obstacles_are_found_where_they_are(frames: list[Seen]) -> None:
    def agrees(seen: Seen) -> bool:
        found = detect.obstacles(seen.frame)
        # slivers at the edges and what the T-rex hides may be missed; nothing may be found where nothing is
        plain = [(start, end) for start, end in seen.spans if end - start >= 14]
        complete = all(
            any(abs(f[0] - start) <= (8 if start > 90 else 56) and abs(f[1] - end) <= 12 for f in found)
            for start, end in plain
        )
        return complete and all(any(f[0] >= s - 6 and f[1] <= e + 6 for s, e in seen.spans) for f in found)

    assert sum(len(seen.spans) for seen in frames) > 60
    assert _share([agrees(seen) for seen in frames]) >= 0.98


@pytest.mark.parametrize("quality", ["clean", "half", "half blurred"])
def test_collisions_are_told_from_near_misses(quality: str) -> None:
    seen = _games(quality, num_games=52, every=6, near_only=True)
    results = [(detect.collides(s.frame), s.crashed) for s in seen]
    crashes = [found for found, crashed in results if crashed]
    misses = [not found for found, crashed in results if not crashed]
    assert len(crashes) >= 50 and _share(crashes) >= 0.95
    assert _share(misses) >= 0.97


def test_nothing_is_found_on_an_empty_page() -> None:
    page = np.full((256, 512, 3), 255, np.uint8)
    assert detect.trex_top(page) is None and detect.obstacles(page) == []
    assert not (detect.is_ducking(page) or detect.is_game_over(page) or detect.collides(page))


def test_a_frame_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="64, 128, 3"):
        detect.trex_top(np.zeros((64, 128, 3), np.uint8))


def test_static_regions_are_static() -> None:
    env = chrome_dino.make(observation="state")
    policy = ScriptedPolicy(skill=1.0)
    policy.reset(np.random.default_rng(0))
    _, info = env.reset(options={"mulberry32": 3})
    boxes: dict[str, list[np.ndarray]] = {name: [] for name in detect.STATIC_REGIONS}
    for _ in range(200):
        info = env.step(policy.action(info))[4]
        for name, box in detect.STATIC_REGIONS.items():
            boxes[name].append(env.render()[box][:, :, 0])
    assert (np.array(boxes["sky"]) == 255).all()
    assert (np.array(boxes["ground"]) < 120).mean() > 0.9, "a line, but for bumps"
    assert 0.1 < (np.array(boxes["score"]) < 120).mean() < 0.5
    frame = env.render()[:, :, 0]
    assert (frame[58:71, 440:446] == 255).all() and (frame[56:58, 440:] == 255).all(), "the digits are all in the box"


@pytest.mark.parametrize(
    ("quality", "speed"), [("clean", 6.0), ("half", 12.5), ("blurred", 12.5), ("half blurred", 6.0)]
)
def test_entries_are_counted_once(quality: str, speed: float) -> None:
    downscale, noise, blurs = QUALITIES[quality]
    painter = render.FramePainter(downscale)
    rng = np.random.default_rng(0)
    game = physics.Game(5, immortal=True)
    game.speed, game.running_time = speed, 2900.0
    for _ in range(90):
        game.update()
    came: list[physics.Obstacle] = []
    frames = []
    there = [o for o in game.obstacles if o.x < render.WIDTH]
    for index in range(70):
        frame = painter.paint(game)
        frame = np.full_like(frame, 255) if index > 2 and rng.random() < 0.05 else frame  # flicker
        frames.append(_degrade(frame, rng, noise, blurs))
        for _ in range(physics.UPDATES_PER_SECOND // 20):
            game.update()
            came += [o for o in game.obstacles if o not in there and o not in came]
    entered = [o for o in came if o.x < render.WIDTH]
    surely = [o for o in entered if o.x < render.WIDTH - 120]  # the last may be only just in
    assert len(surely) >= 2
    assert len(surely) <= detect.entries(frames) <= len(entered)
    assert detect.entries(frames[:1] * 20) == 0
