"""The page in a real browser: play, figures, and a server that goes away and comes back."""

import contextlib
import io
import json
import re
import shutil
import time
import urllib.request

import pytest
from PIL import Image

from gamengen.game import GameSpec
from gamengen.serve import launch, protocol
from tests.serve.conftest import elsewhere

pytestmark = [pytest.mark.ray, pytest.mark.browser]

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURE = "document.getElementById('canvas').toDataURL()"
FRAME = "Number(document.getElementById('canvas').dataset.frame ?? 0)"
MESSAGE = "document.getElementById('message').textContent"
IS_PLAYING = "document.getElementById('overlay').hidden"


def until(page, expression, seconds=20.0):
    """Wait for JavaScript to become true; `wait_for_function` needs the eval that the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"still not true after {seconds} s: {expression}"
        page.wait_for_timeout(50)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@contextlib.contextmanager
def opened(browser, url):
    """Open the page of a game that stands still; fails when its console shows an error that nobody asked for."""
    page = browser.new_page(viewport={"width": 1100, "height": 760})
    page.set_default_timeout(20_000)
    page.problems, page.frames_received = [], []
    page.on("console", lambda line: page.problems.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: page.frames_received.append(data)))
    page.goto(url)
    until(page, f"{MESSAGE}.includes('press a key') && {FRAME} === 1")
    yield page
    assert page.problems == []
    page.close()


@pytest.fixture
def page(browser, served):
    with opened(browser, served["url"]) as page:
        yield page


def test_space_plays_the_game(page, served):
    assert page.title() == "chrome dino · gamengen" and "jump" in page.inner_text("#hint")
    still = page.evaluate(PICTURE)
    time.sleep(0.5)
    assert page.evaluate(PICTURE) == still, "a game that nobody has started stands still"
    page.keyboard.press("Space")
    until(page, f"{PICTURE} !== {still!r}")
    assert page.is_hidden("#overlay")
    until(page, "parseFloat(document.getElementById('fps').textContent) > 1")
    until(page, "document.getElementById('ping').textContent.endsWith('ms')")
    assert re.fullmatch(r"[\d.]+ ms", page.inner_text("#model"))
    before = page.evaluate(FRAME)
    until(page, f"{FRAME} > {before + 8}")


def test_held_key_reaches_the_server(page):
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    page.reload()  # the listener hears sockets that open from now on
    until(page, f"{MESSAGE}.includes('press a key')")
    page.keyboard.press("Space")
    until(page, IS_PLAYING)
    page.keyboard.down("ArrowDown")
    page.keyboard.down("ArrowDown")  # auto-repeat
    page.keyboard.down("Space")
    page.keyboard.up("Space")
    page.keyboard.up("ArrowDown")
    pattern = r'"type":"action","action":\[([\w",]*)\]'
    expected, actions = ['"duck"', '"duck","jump"', '"duck"', ""], []
    for _ in range(100):  # Playwright hears of what was sent a little later
        actions = [found.group(1) for data in sent if (found := re.search(pattern, str(data)))]
        if actions[-4:] == expected:
            break
        page.wait_for_timeout(50)
    assert actions[-4:] == expected


def test_restart_and_touch(page):
    page.click("#restart")
    until(page, f"{FRAME} > 3")
    page.evaluate("document.getElementById('touch').style.display = 'grid'")
    page.click("#touch button:has-text('jump')")
    page.click("#canvas")
    assert page.is_hidden("#overlay")


def test_a_hidden_tab_pauses(page):
    page.keyboard.press("Space")
    until(page, f"{FRAME} > 3")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    event = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true" + event)
    page.wait_for_timeout(700)
    paused = page.evaluate(FRAME)
    page.wait_for_timeout(700)
    assert page.evaluate(FRAME) == paused
    page.evaluate(hide % "false" + event)
    until(page, f"{FRAME} > {paused + 3}")


def test_the_page_survives_a_restart_of_the_server(page, serve_config):
    page.keyboard.press("Space")
    until(page, IS_PLAYING)
    assert elsewhere(launch.drain) >= 1
    until(page, f"{MESSAGE}.startsWith('connection lost')")
    assert "restarts" in page.inner_text("#message")
    elsewhere(launch.serve_game, serve_config)
    until(page, IS_PLAYING, seconds=40)
    before = page.evaluate(PICTURE)
    until(page, f"{PICTURE} !== {before!r}")
    page.problems[:] = [text for text in page.problems if "WebSocket connection" not in text]


def test_a_server_that_falls_silent_is_left_for_another(page):
    sockets, is_silent = [], []

    def relay(socket):
        number, server = len(sockets), socket.connect_to_server()
        sockets.append(server)
        server.on_message(lambda message: None if number in is_silent else socket.send(message))

    page.route_web_socket("**/play", relay)
    page.reload()
    until(page, f"{MESSAGE}.includes('press a key')")
    page.keyboard.press("Space")
    until(page, IS_PLAYING)
    is_silent.append(0)  # a machine that has lost its power sends nothing, and closes nothing
    until(page, f"{MESSAGE}.startsWith('connection lost (the server does not answer)')", seconds=20)
    until(page, IS_PLAYING)
    before = page.evaluate(PICTURE)
    until(page, f"{PICTURE} !== {before!r}")
    assert len(sockets) == 2


def test_who_was_idle_is_let_go_and_plays_again_with_a_key(page):
    sockets = []

    def relay(socket):
        sockets.append((socket, socket.connect_to_server()))

    page.route_web_socket("**/play", relay)
    page.reload()
    until(page, f"{MESSAGE}.includes('press a key')")
    page.keyboard.press("Space")
    until(page, IS_PLAYING)
    for side in sockets[0]:
        side.close(code=protocol.CLOSE_NORMAL, reason="nothing received for 600 s")
    until(page, f"{MESSAGE}.startsWith('press a key or tap to play again (nothing received')")
    page.wait_for_timeout(1500)  # longer than it takes to come back by itself
    assert len(sockets) == 1
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    until(page, IS_PLAYING)
    before = page.evaluate(PICTURE)
    until(page, f"{PICTURE} !== {before!r}")
    assert len(sockets) == 2


def test_a_server_that_vanished_while_the_game_stood_still_is_left_for_another(page):
    sockets = []

    def relay(socket):
        number, server = len(sockets), socket.connect_to_server()
        sockets.append(server)
        if number == 0:  # greets, and is gone before the player begins
            socket.on_message(lambda message: None)

    page.route_web_socket("**/play", relay)
    page.reload()
    until(page, f"{MESSAGE}.includes('press a key') && {FRAME} === 1")
    for _ in range(8):  # an impatient player
        page.keyboard.press("Space")
        page.wait_for_timeout(1000)
    until(page, f"{MESSAGE}.startsWith('connection lost (the server does not answer)')", seconds=5)
    until(page, IS_PLAYING)
    assert len(sockets) == 2


def played(page):
    """Return the action of the last frame that has come, and the size of its picture."""
    header, jpeg = protocol.unpack_frame(
        next(data for data in reversed(page.frames_received) if isinstance(data, bytes))
    )
    return header.action, Image.open(io.BytesIO(jpeg)).size


@pytest.mark.doom
@pytest.mark.slow
def test_doom_has_no_padding_and_its_keys_are_held_together(browser, served_doom):
    with urllib.request.urlopen(f"{served_doom['url']}api/game", timeout=10) as answer:
        game = GameSpec(**json.load(answer)["game"])
    assert (game.width, game.height, game.padding) == (320, 240, (0, 0))
    with opened(browser, served_doom["url"]) as page:
        size = page.evaluate("(({width, height}) => [width, height])(document.getElementById('canvas'))")
        assert size == [320, 240] and played(page)[1] == (320, 240)
        box = page.locator("#canvas").bounding_box()
        assert page.evaluate("getComputedStyle(document.getElementById('canvas')).objectFit") == "contain"
        assert box["y"] + box["height"] < 760, "the whole picture is on the screen"
        assert page.locator("#touch button").count() == 8
        assert "keys can be held together" in page.inner_text("#hint") and "+" not in page.inner_text("#hint")
        keys = {"ArrowUp": "forward", "Space": "forward+attack", "ArrowLeft": "forward+turn_left+attack"}
        for key, action in keys.items():
            page.keyboard.down(key)
            wait_for_action(page, game.action_index(action))
        page.keyboard.up("ArrowUp")
        wait_for_action(page, game.action_index("turn_left+attack"))
        for key in keys:
            page.keyboard.up(key)
        wait_for_action(page, 0)


def wait_for_action(page, action, seconds=20.0):
    deadline = time.monotonic() + seconds
    while played(page)[0] != action:
        assert time.monotonic() < deadline, f"no frame of action {action}, the last one was of {played(page)[0]}"
        page.wait_for_timeout(50)
