"""Our rules against the real game: recorded traces everywhere, the browser itself where there is one. Tolerance 0."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gamengen.envs import chrome_dino
from gamengen.envs.chrome_dino import obstacles, physics, trace
from gamengen.envs.chrome_dino.policies import ScriptedPolicy

TRACES = trace.load(Path(__file__).parent / "data" / "dino_traces.json.gz")


@pytest.mark.parametrize("recorded", TRACES, ids=lambda t: f"seed{t.seed}")
def test_a_recorded_game_comes_out_exactly(recorded: trace.Trace) -> None:
    ours = trace.replay(recorded)
    for field in dataclasses.fields(trace.Trace):
        assert getattr(ours, field.name) == getattr(recorded, field.name), field.name


def test_the_traces_cover_the_game() -> None:
    assert sum(len(t.ys) for t in TRACES) >= 20_000
    assert sum(not t.immortal and bool(t.hits) for t in TRACES) >= 3, "games that end in a crash"
    seen = set()
    top_speed = 0.0
    for recorded in TRACES:
        game = physics.Game(recorded.seed, recorded.immortal)
        for action in recorded.actions:
            game.hold(int(action))
            game.update()
            seen |= {(o.kind.name, o.y, o.size) for o in game.obstacles}
            seen |= {game.status, ("night", game.night), ("drop", game.speed_drop), ("phase", game.moon_phase)}
        top_speed = max(top_speed, game.speed)
    sizes = {kind: (1,) if kind is obstacles.PTERODACTYL else (1, 2, 3) for kind in obstacles.OBSTACLE_TYPES}
    expected: set = {(kind.name, y, size) for kind in sizes for y in kind.ys for size in sizes[kind]}
    expected |= {*physics.Status, ("night", True), ("night", False), ("drop", True), ("phase", 2)}
    assert top_speed >= physics.MAX_SPEED and expected <= seen


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRAVITY", 0.6 + 1e-15),
        ("ACCELERATION", 0.001 + 1e-15),
        ("NIGHT_FADE", 0.036),
        ("NUM_FLASHES", 3),
        ("MOON_SPEED", 0.26),
        ("START_SPEED", 6.0),
        ("TREX_DUCK_BOXES", ((1, 18, 40, 25),)),
        ("CLOUD_WIDTH", 47),
    ],
)
def test_a_wrong_rule_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    assert hasattr(physics, name)
    monkeypatch.setattr(physics, name, value)
    assert any(trace.replay(recorded) != recorded for recorded in TRACES)


@pytest.fixture(scope="module")
def browser():
    pytest.importorskip("playwright")
    from gamengen.envs.chrome_dino.browser import BrowserDino

    try:
        dino = BrowserDino()
    except (FileNotFoundError, RuntimeError) as error:
        pytest.skip(str(error).split("\n")[0])
    yield dino
    dino.close()


def _fresh_seed() -> int:
    return int(np.random.default_rng().integers(2**32))


@pytest.mark.browser
def test_fresh_games_agree_update_by_update(browser) -> None:
    num_updates = 0
    for immortal, length in ((True, 4000), (False, 1500), (False, 1500)):
        seed = _fresh_seed()
        rng = np.random.default_rng(seed)
        holds = [int(rng.choice(3, p=(0.6, 0.25, 0.15))) for _ in range(length)]
        actions = [action for action in holds for _ in range(int(rng.integers(1, 25)))][:length]
        browser.set_immortal(immortal)
        browser.reset(options={"mulberry32": seed})
        rows = browser.trace(actions)
        game = physics.Game(seed, immortal)
        for update, (action, row) in enumerate(zip(actions, rows, strict=False)):
            assert not game.crashed, f"seed {seed}: we crashed at update {update}, the browser did not"
            game.hold(action)
            game.update()
            found = trace.differences(trace.snapshot(game), row)
            assert not found, f"seed {seed}, update {update}: {found}"
        assert game.crashed or len(rows) == length, f"seed {seed}: the browser crashed, we did not"
        num_updates += len(rows)
    assert num_updates > 4000


@pytest.mark.browser
def test_both_envs_tell_the_same(browser) -> None:
    seed = _fresh_seed()
    ours = chrome_dino.make(observation="state")
    policy = ScriptedPolicy(skill=1.0)
    policy.reset(np.random.default_rng(seed))
    browser.set_immortal(False)
    theirs, their_info = browser.reset(options={"mulberry32": seed})
    our, our_info = ours.reset(options={"mulberry32": seed})
    terminated, step = False, 0
    while not terminated:
        assert np.array_equal(our, theirs), f"seed {seed}"
        for obstacle in their_info["obstacles"]:
            obstacle.pop("speed_offset")
        assert our_info == their_info, f"seed {seed}"
        jumped = our_info["jumping"]
        action = policy.action(our_info) if step < 60 else 0  # then it runs into what comes
        theirs, their_reward, their_end, _, their_info = browser.step(action)
        our, our_reward, terminated, _, our_info = ours.step(action)
        assert (our_reward, terminated) == (their_reward, their_end), f"seed {seed}"
        step += 1
        # Chromium shows who lands with Down held upright for a frame more; at the edge pictures differ by some columns.
        lands_ducking, edge = jumped and our_info["ducking"], range(ours.game_spec.width - 8, ours.game_spec.width)
        enters = any(int(obstacle["x"]) in edge for obstacle in our_info["obstacles"])
        if step % 20 == 0 and not (terminated or lands_ducking or enters):
            assert _places_of_ink(ours.render()) == pytest.approx(_places_of_ink(browser.render()), abs=3)
    assert step > 60


def _places_of_ink(frame: np.ndarray) -> list[int]:
    """Return the top row of the T-rex, and the first and last columns of the score and of cacti: where things are."""
    dark = frame[:, :, 0] < 120
    score, cacti = np.flatnonzero(dark[58:71].any(axis=0)), np.flatnonzero(dark[160:172, 90:].any(axis=0))
    trex = np.flatnonzero(dark[50:180, 26:68].any(axis=1))
    return [int(trex[0]), *(int(place) for found in (score, cacti) if found.size for place in (found[0], found[-1]))]


def test_a_missing_browser_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright")
    from gamengen.envs.chrome_dino.browser import find_browser

    monkeypatch.setenv("GAMENGEN_CHROMIUM", "no-such-browser")
    with pytest.raises(FileNotFoundError, match=r"no-such-browser.*GAMENGEN_CHROMIUM"):
        find_browser()
