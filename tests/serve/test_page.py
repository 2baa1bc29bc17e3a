"""The page in a real browser: play, figures, and a server that goes away and comes back."""

import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from gamengen.serve import launch

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


def elsewhere(work, *arguments):
    """Run in a thread of its own: Playwright keeps an event loop running in this one, which Serve does not like."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work, *arguments).result()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, served):
    """The opened page; fails the test when its console shows an error that the test did not ask for."""
    opened = browser.new_page(viewport={"width": 1100, "height": 760})
    opened.set_default_timeout(20_000)
    opened.problems = []
    opened.on("console", lambda line: opened.problems.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: opened.problems.append(str(error)))
    opened.goto(served["url"])
    until(opened, f"{MESSAGE}.includes('press a key') && {FRAME} === 1")
    yield opened
    assert opened.problems == []
    opened.close()


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
