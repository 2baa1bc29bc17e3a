"""One player's conversation with the server, message by message."""

import asyncio
import contextlib
import io
import json
import random

import pytest
from PIL import Image

from gamengen.serve import protocol, session
from gamengen.serve.batcher import Batcher
from gamengen.serve.session import Session
from tests.serve.fakes import GAME, SHOOTER, FakeEngine, FakeSocket


@contextlib.asynccontextmanager
async def player(engine=None):
    """Yield the socket of a player who has been greeted and has seen the first frame, the session, and the engine."""
    engine = engine or FakeEngine()
    batcher = Batcher(engine, max_batch=4, jpeg_quality=90)
    socket = FakeSocket()
    playing = Session(socket, batcher, engine.game, {"name": "toy/denoiser"})
    task = asyncio.create_task(playing.run())
    hello = await socket.hear()
    assert hello["type"] == "hello" and hello["protocol"] == 1
    assert hello["game"]["actions"] == list(engine.game.actions) and hello["model"] == {"name": "toy/denoiser"}
    header, _ = await socket.hear_frame()
    assert (header.number, header.flags) == (1, protocol.FLAG_START)
    try:
        yield socket, playing, engine
    finally:
        socket.leave()
        await asyncio.wait_for(task, 5)  # raises what the session raised: it must never
        await batcher.close()


def run(test):
    """Run an async test to its end, at most 20 seconds."""
    asyncio.run(asyncio.wait_for(test(), 20))


def test_lock_step_is_one_frame_for_one_step():
    async def test():
        async with player() as (socket, _, engine):
            for number, action in enumerate(["jump", "noop", "duck"], start=2):
                socket.say({"type": "step", "action": action, "id": 100 + number})
                header, jpeg = await socket.hear_frame()
                assert (header.number, GAME.actions[header.action]) == (number, action)
                assert header.input_id == 100 + number and header.flags == 0
                assert Image.open(io.BytesIO(jpeg)).size == (GAME.width, GAME.height)
            await asyncio.sleep(0.05)
            assert socket.unheard() == 0 and len(engine.batches) == 3

    run(test)


def test_a_seed_and_its_actions_give_the_same_game():
    async def test():
        async with player() as (socket, _, _):
            games = []
            for seed in (5, 5, 6):
                socket.say({"type": "reset", "seed": seed, "id": 1})
                header, first = await socket.hear_frame()
                assert header.flags == protocol.FLAG_START
                socket.say({"type": "step", "action": "jump"})
                games.append((first, (await socket.hear_frame())[1]))
            assert games[0] == games[1] != games[2]

    run(test)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("{", "not JSON"),
        ("[" * 4000, "not JSON"),
        ("NaN", "not JSON"),
        ("[1, 2]", "not an object"),
        ('"step"', "not an object"),
        ("{}", "unknown message type"),
        ({"type": "shutdown"}, "unknown message type, got 'shutdown'; expected one of step"),
        ({"type": ["step"]}, "unknown message type"),
        ({"type": "step"}, "unknown action, got None; expected one of noop, jump, duck"),
        ({"type": "step", "action": "fly"}, "unknown action, got 'fly'"),
        ({"type": "step", "action": ["jump"]}, "unknown action"),
        ({"type": "action", "action": 1}, "unknown action, got 1"),
        ({"type": "action", "action": ["jump", "fly"]}, "unknown action, got 'fly'"),
        ({"type": "action", "action": [["jump"]]}, "unknown action, got ['jump']"),
        ({"type": "step", "action": "jump", "id": -1}, "bad 'id'"),
        ({"type": "step", "action": "jump", "id": True}, "bad 'id'"),
        ({"type": "reset", "seed": "x" * 500}, "bad 'seed'"),
        ({"type": "reset", "seed": 2**80}, "bad 'seed'"),
        ({"type": "play", "rate": "fast"}, "bad 'rate'"),
        ('{"type": "play", "rate": 1e999}', "bad 'rate'"),
        ({"type": "ping", "t": {}}, "bad 't'"),
        ({"type": "seen", "frame": 0.5}, "bad 'frame'"),
        (b"\x80\x04K\x01.", "binary message"),
    ],
)
def test_a_bad_message_gets_one_clear_error_and_the_game_goes_on(message, says):
    async def test():
        async with player() as (socket, _, _):
            socket.say(message)
            error = await socket.hear()
            assert error["type"] == "error" and says in error["message"], error
            assert "Traceback" not in error["message"] and len(error["message"]) < 250
            socket.say({"type": "step", "action": "jump"})
            header, _ = await socket.hear_frame()
            assert header.number == 2

    run(test)


@pytest.mark.parametrize("message", ["x" * 4097, "é" * 2049, b"x" * 5000])
def test_an_oversized_message_closes_with_1009(message):
    async def test():
        async with player() as (socket, _, _):
            socket.say(message)
            assert "too large" in (await socket.hear())["message"]
            await asyncio.sleep(0)
            assert socket.closed[0] == protocol.CLOSE_TOO_BIG and len(socket.closed[1]) <= 123

    run(test)


def test_random_messages_never_end_the_session():
    chance = random.Random(7)
    keys = ["type", "action", "seed", "rate", "t", "id", "frame"]
    values = [*protocol.MESSAGE_TYPES[1:], "jump", 0, -1, 2**40, 1.5, None, True, [], ["jump", 1], {}, "\ud7ff\0"]

    def message():
        if chance.random() < 0.5:
            return {key: chance.choice(values) for key in chance.sample(keys, chance.randint(0, 4))}
        data = bytes(chance.randrange(256) for _ in range(chance.randint(0, 300)))
        return data if chance.random() < 0.5 else data.decode("latin-1")

    async def test():
        async with player() as (socket, _, _):
            for _ in range(400):
                socket.say(message())
            socket.say({"type": "pause"})
            socket.say({"type": "ping", "t": 4321})
            while not (isinstance(heard := await socket.hear(), dict) and heard.get("t") == 4321):
                pass
            assert socket.closed is None

    run(test)


def test_ping_is_answered():
    async def test():
        async with player() as (socket, _, _):
            socket.say({"type": "ping", "t": 12.5})
            assert await socket.hear() == {"type": "pong", "t": 12.5}

    run(test)


def test_real_time_sends_frames_at_the_rate_with_the_held_action():
    async def test():
        async with player() as (socket, _, _):
            socket.say({"type": "play"})
            assert await socket.hear() == {"type": "playing", "rate": GAME.frames_per_second}
            started = asyncio.get_running_loop().time()
            actions = []
            for _ in range(25):
                header, _ = await socket.hear_frame()
                actions.append(GAME.actions[header.action])
                socket.say({"type": "seen", "frame": header.number})
                if header.number == 10:
                    socket.say({"type": "action", "action": "duck", "id": 9})
            seconds = asyncio.get_running_loop().time() - started
            assert 0.45 < seconds < 0.75, "24 periods of 20 ms"
            assert actions[0] == "noop" and actions[-1] == "duck" and header.input_id == 9

    run(test)


def test_a_tap_between_two_ticks_is_played_once():
    async def test():
        async with player() as (socket, _, _):
            socket.say({"type": "play", "rate": 20})
            await socket.hear()
            await socket.hear_frame()
            socket.say({"type": "action", "action": "jump"})
            socket.say({"type": "action", "action": "noop"})
            assert [(await socket.hear_frame())[0].action for _ in range(2)] == [1, 0]

    run(test)


def test_keys_held_together_are_one_action():
    async def test():
        async with player(FakeEngine(game=SHOOTER)) as (socket, _, _):
            socket.say({"type": "play", "rate": 20})
            await socket.hear()
            for held in (["forward"], ["forward", "fire"], ["forward", "fire", "left"], ["fire", "left"], []):
                socket.say({"type": "action", "action": held})
                await socket.hear_frame()  # the one that was under way
                header, _ = await socket.hear_frame()
                socket.say({"type": "seen", "frame": header.number})
                assert set(SHOOTER.actions[header.action].split("+")) == set(held or ["noop"])

    run(test)


def test_a_tap_while_another_key_is_held_is_played_once():
    async def test():
        async with player(FakeEngine(game=SHOOTER)) as (socket, _, _):
            socket.say({"type": "play", "rate": 20})
            await socket.hear()
            await socket.hear_frame()
            for held in (["forward"], ["forward", "fire"], ["forward"]):
                socket.say({"type": "action", "action": held})
            played = [SHOOTER.actions[(await socket.hear_frame())[0].action] for _ in range(3)]
            assert played == ["forward+fire", "forward", "forward"]

    run(test)


def test_of_two_taps_the_last_one_is_played():
    async def test():
        async with player() as (socket, _, _):
            socket.say({"type": "play", "rate": 20})
            await socket.hear()
            await socket.hear_frame()
            for held in (["jump"], ["jump", "duck"], ["jump"]):
                socket.say({"type": "action", "action": held})
            assert [(await socket.hear_frame())[0].action for _ in range(2)] == [1, 1]
            for held in (["jump", "duck"], ["jump"], ["jump", "duck"], ["duck"], []):
                socket.say({"type": "action", "action": held})
            assert [(await socket.hear_frame())[0].action for _ in range(2)] == [2, 0]

    run(test)


def test_real_time_never_runs_far_ahead_of_what_was_seen():
    async def test():
        async with player() as (socket, playing, engine):
            socket.say({"type": "play", "rate": 60})
            await asyncio.sleep(0.5)  # 30 ticks, and the player has shown nothing
            assert len(engine.batches) == session.MAX_UNSEEN and playing.num_skipped > 5
            socket.say({"type": "seen", "frame": 4})
            await asyncio.sleep(0.2)
            assert len(engine.batches) == session.MAX_UNSEEN + 3
            socket.say({"type": "seen", "frame": 10**6})  # a lie buys no more than what was sent
            await asyncio.sleep(0.4)
            assert len(engine.batches) <= 2 * session.MAX_UNSEEN + 3

    run(test)


def test_a_slow_model_skips_ticks_and_saves_none_up():
    async def test():
        async with player(FakeEngine(seconds=0.05)) as (socket, playing, engine):
            socket.say({"type": "play", "rate": 60})
            await socket.hear()
            late = []
            for _ in range(6):
                header, _ = await socket.hear_frame()
                late.append(bool(header.flags & protocol.FLAG_LATE))
                socket.say({"type": "seen", "frame": header.number})
            assert all(late) and playing.num_skipped >= 10
            engine.seconds = 0.0
            await socket.hear_frame()
            before = len(engine.batches)
            await asyncio.sleep(0.1)
            assert len(engine.batches) - before <= 8, "skipped ticks must not come back"

    run(test)


@pytest.mark.parametrize(("asked", "given"), [(1000, 60.0), (0, 1.0), (-3, 1.0), (20, 20.0)])
def test_the_rate_is_bounded(asked, given):
    async def test():
        async with player() as (socket, _, _):
            socket.say({"type": "play", "rate": asked})
            assert (await socket.hear())["rate"] == given

    run(test)


def test_pause_stops_the_frames_and_step_needs_it():
    async def test():
        async with player() as (socket, _, engine):
            socket.say({"type": "play"})
            await socket.hear()
            socket.say({"type": "step", "action": "jump"})
            socket.say({"type": "pause"})
            heard = []
            while not heard or heard[-1] != {"type": "paused"}:
                message = await socket.hear()
                heard += [message] if isinstance(message, dict) else []
            assert "send pause first" in heard[0]["message"]
            await asyncio.sleep(0.02)  # a step that was under way
            steps = len(engine.batches)
            await asyncio.sleep(0.1)
            assert len(engine.batches) == steps and socket.unheard() == 0
            socket.say({"type": "step", "action": "jump"})
            await socket.hear_frame()

    run(test)


def test_a_model_failure_is_told_and_the_game_can_go_on():
    async def test():
        async with player() as (socket, _, engine):
            socket.say({"type": "reset", "seed": 3})
            await socket.hear_frame()
            engine.poison = 3
            socket.say({"type": "step", "action": "jump"})
            error = await socket.hear()
            assert error["type"] == "error" and "model failed" in error["message"] and "secret" not in json.dumps(error)
            socket.say({"type": "play"})
            assert [(await socket.hear())["type"] for _ in range(3)] == ["playing", "error", "paused"]
            engine.poison = None
            socket.say({"type": "step", "action": "jump"})
            assert (await socket.hear_frame())[0].action == 1

    run(test)


def test_a_silent_player_loses_the_place(monkeypatch):
    async def test():
        async with player() as (socket, _, _):
            await asyncio.sleep(0.2)
            assert socket.closed[0] == protocol.CLOSE_NORMAL

    monkeypatch.setattr(session, "IDLE_SECONDS", 0.05)
    run(test)


def test_a_player_who_vanishes_in_real_time_leaves_nothing_running():
    async def test():
        async with player() as (socket, _, engine):
            socket.say({"type": "play"})
            await socket.hear()
            socket.closed = (1006, None)  # sending fails from now on
            await asyncio.sleep(0.1)
            steps = len(engine.batches)
            await asyncio.sleep(0.1)
            assert len(engine.batches) == steps

    run(test)
