"""The served game over real sockets: pages, play, limits and what is refused."""

import asyncio
import contextlib
import dataclasses
import json
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
import websockets
from websockets.asyncio.client import connect as connect_socket

from gamengen.serve import client, launch, protocol
from gamengen.serve.app import build
from gamengen.serve.session import MAX_UNSEEN
from tests.serve.fakes import MAX_PLAYERS

pytestmark = pytest.mark.ray


def get(url):
    """Return status, headers and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def address(served):
    return served["url"].replace("http://", "ws://") + "play"


def test_summary(served, serve_config):
    assert served["phase"] == "serve" and served["game"] == "chrome_dino" and served["warm_step_ms"] > 0
    assert served["model"] == f"{serve_config.folder}/denoiser"
    assert served["token_required"] is False
    assert json.loads(json.dumps(served)) == served


def test_healthz_and_description(served):
    assert get(served["url"] + "healthz")[0] == 200
    described = json.loads(get(served["url"] + "api/game")[2])
    assert described["game"]["name"] == "chrome_dino" and described["protocol"] == protocol.PROTOCOL_VERSION
    assert described["model"]["place"] == protocol.place(served["model"])
    assert described["limits"]["max_players"] == MAX_PLAYERS and described["token_required"] is False


@pytest.mark.parametrize("name", ["", "static/play.js", "static/style.css"])
def test_page_files_forbid_everything_foreign(served, name):
    status, headers, body = get(served["url"] + name)
    assert status == 200 and len(body) > 500
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert b"https://" not in body, "no external resources"


@pytest.mark.parametrize(
    "name", ["static/app.py", "static/..%2Fapp.py", "static/%2e%2e/app.py", "docs", "openapi.json"]
)
def test_nothing_else_is_served(served, name):
    assert get(served["url"] + name)[0] == 404


def test_play_in_lock_step(served):
    async def play():
        async with client.connect(served["url"]) as game:
            assert "jump" in game.spec.actions
            assert game.frame.image.shape == (game.spec.height, game.spec.width, 3) and game.frame.is_start
            for number in range(2, 7):
                frame = await game.step("jump")
                assert frame.number == number and frame.model_seconds > 0 and not frame.is_start
                assert game.spec.actions[frame.action] == "jump"
            games = []
            for _ in range(2):
                first = await game.reset(seed=11)
                games.append([first.image, *[(await game.step("jump")).image for _ in range(3)]])
            assert np.array_equal(games[0], games[1]), "a seed and its actions are one game"
            with pytest.raises(ValueError, match="unknown action, got 'fly'; expected one of"):
                await game.step("fly")
            await game.step("jump")

    asyncio.run(play())


def test_real_time_over_the_socket(served):
    async def play():
        async with client.connect(served["url"]) as game:
            numbers = []
            async with asyncio.timeout(30), contextlib.aclosing(game.play(rate=20)) as frames:
                async for frame in frames:
                    numbers.append(frame.number)
                    await game.hold("jump")
                    if len(numbers) == MAX_UNSEEN + 5:  # more than may be under way unseen
                        break
            assert numbers == list(range(2, 2 + len(numbers)))
            assert game.spec.actions[frame.action] == "jump"
            assert (await game.step("duck")).number > frame.number  # it stands still again, and goes on by steps

    asyncio.run(play())


def test_bad_messages_over_the_socket(served):
    async def play():
        async with connect_socket(address(served)) as socket:
            await socket.recv(), await socket.recv()
            for message in ("{", b"\x80\x04.", '{"type": "quit"}', '{"type": "step", "action": 3}'):
                await socket.send(message)
                assert json.loads(await socket.recv())["type"] == "error"
            await socket.send("x" * (protocol.MAX_MESSAGE_BYTES + 1))
            assert json.loads(await socket.recv())["type"] == "error"
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == protocol.CLOSE_TOO_BIG

    asyncio.run(play())


def test_a_full_game_turns_players_away_until_one_leaves(served):
    async def play():
        players = [await connect_socket(address(served)) for _ in range(MAX_PLAYERS)]
        for player in players:
            await player.recv()
        with pytest.raises(ConnectionError, match=f"all {MAX_PLAYERS} places are taken.*code 1013.*[Tt]ry again later"):
            async with client.connect(served["url"]):
                pass
        for player in players:
            await player.close()
        await until_admitted(served)

    asyncio.run(play())


async def until_admitted(served):
    for _ in range(50):
        try:
            async with client.connect(served["url"]):
                return
        except ConnectionError:
            await asyncio.sleep(0.1)
    raise AssertionError("the places of players who left were not given back")


@pytest.mark.parametrize(
    ("origin", "welcome"),
    [(None, True), ("own", True), ("https://friend.example", True), ("https://evil.example", False)],
)
def test_origin(served, origin, welcome):
    async def play():
        origin_sent = served["url"].rstrip("/") if origin == "own" else origin
        async with connect_socket(address(served), origin=origin_sent) as socket:
            if welcome:
                assert json.loads(await socket.recv())["type"] == "hello"
                return
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd.code == protocol.CLOSE_POLICY

    asyncio.run(until_admitted(served))
    asyncio.run(play())


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://"])
def test_client_names_a_bad_address(url):
    async def play():
        async with client.connect(url):
            pass

    with pytest.raises(ValueError, match=r"bad address, got .*; expected one such as"):
        asyncio.run(play())


def test_a_token_of_any_letters_is_sent_whole():
    query = urllib.parse.urlsplit(client._address("http://127.0.0.1:8000", "a&b=c+d#e %")).query
    assert urllib.parse.parse_qs(query) == {"token": ["a&b=c+d#e %"]}


def test_the_own_game_is_not_looked_for_through_a_proxy(served, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(urllib.request, "_opener", None)  # urlopen keeps the proxies that it saw first
    monkeypatch.setattr(launch, "HEALTHY_WITHIN_SECONDS", 5.0)
    assert launch._wait_until_healthy(served["url"].rstrip("/"))["game"]["name"] == "chrome_dino"


def test_client_says_when_nobody_answers():
    async def play():
        async with client.connect("http://127.0.0.1:9"):
            pass

    with pytest.raises(ConnectionError, match=r"no game answers at http://127\.0\.0\.1:9"):
        asyncio.run(play())


def test_build_checks_its_settings():
    good = {"model": "m", "max_players": 1, "max_batch": 1, "jpeg_quality": 90, "threads": 0, "use_gpu": False}
    build(good)
    for change, says in [
        ({"colour": 1}, "unknown settings, got .'colour'."),
        ({"max_players": 0}, "at least 1"),
        ({"jpeg_quality": 101}, "jpeg_quality, got 101; expected 1 to 100"),
        ({"max_batch": "many"}, "serve setting max_batch"),
    ]:
        with pytest.raises(ValueError, match=says):
            build({**good, **change})


def test_a_missing_model_is_one_clear_line(serve_config):
    config = dataclasses.replace(serve_config, run="nothing_here")
    with pytest.raises(ValueError, match=r"no model to serve, got .*nothing_here.*Train run 'nothing_here' first"):
        launch.serve_game(config)
