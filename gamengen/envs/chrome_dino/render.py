"""Draws a `physics.Game` as a picture of 512 x 256: blits of our own pixel art on white paper; knows no rules.

The picture is the first 512 columns of Chromium's 600 x 150 strip, unscaled, on a white page of 256 rows from row
`STRIP_TOP` on (a multiple of 16: blocks of 2 px stay blocks when the frame is halved); the score is moved left so that
it stays in. At night the whole picture is inverted, as the page's CSS filter does, without its fade of 1.5 s.
"""

from __future__ import annotations

import functools

import numpy as np

from gamengen.envs.chrome_dino import art, art_world, physics
from gamengen.envs.chrome_dino.obstacles import WORLD_WIDTH, js_round

HEIGHT, WIDTH = 256, 512
STRIP_TOP, STRIP_HEIGHT = 48, physics.WORLD_HEIGHT
SCORE_SHIFT = WORLD_WIDTH - WIDTH  # 88 px to the left
SCORE_X, SCORE_Y, DIGIT_PITCH = 534 - SCORE_SHIFT, 10, 11
HIGH_SCORE_X = SCORE_X - 100
PANEL_TEXT_X, PANEL_TEXT_Y = 205, 42
RESTART_X, RESTART_Y = 284, 75
DUCK_TOP = 22  # the ducking T-rex is 25 px tall in its box of 47
DOWNSCALES = (1, 2, 4, 8)
_ROWS = slice(STRIP_TOP, STRIP_TOP + 152)  # all that ever changes, in multiples of 8
_PAPER = 255

Sprite = np.ndarray  # uint8 [rows, columns * channels]


class Renderer:
    """Keeps a canvas and redraws only what moved.

    The canvas is uint8 [256, 512 * channels], the channels of a pixel side by side: with 3 channels it is the RGB
    picture, with 1 the grey one. It is drawn in the colours of the day.
    """

    def __init__(self, channels: int = 3) -> None:
        self._channels = channels
        self._sprites = sprites(channels)
        self._grounds = _grounds(channels)
        self._canvas = np.full((HEIGHT, WIDTH * channels), _PAPER, np.uint8)
        self._strip = self._canvas[STRIP_TOP : STRIP_TOP + STRIP_HEIGHT]
        self._dirty: list[np.ndarray] = []

    def draw(self, game: physics.Game, high_score: int = 0) -> np.ndarray:
        """Draw the game; returns the canvas itself, which the next call changes."""
        for region in self._dirty:
            region.fill(_PAPER)
        self._dirty.clear()
        self._draw_ground(game)
        if game.night_opacity > 0:
            self._draw_night_sky(game)
        sprites = self._sprites
        for x, y, _ in game.clouds:
            self._blit(sprites["cloud"], x, y)
        for obstacle in game.obstacles:
            self._blit(sprites[obstacle.kind.name, obstacle.size, obstacle.frame], obstacle.x, obstacle.y)
        if game.crashed:
            self._blit(sprites["game over"], PANEL_TEXT_X, PANEL_TEXT_Y)
            self._blit(sprites["restart"], RESTART_X, RESTART_Y)
        if game.digits_shown:
            self._draw_digits(game.digits, SCORE_X, "")
        if high_score:
            self._draw_digits(f"HI {high_score:05d}", HIGH_SCORE_X, "pale ")
        self._draw_trex(game)
        return self._canvas

    def _blit(self, sprite: Sprite, x: int, y: int) -> None:
        """Put a sprite at a place of the world: the darker of the two stays, which needs no mask on white paper."""
        left = x * self._channels
        right = left + sprite.shape[1]
        if left < 0:
            if right <= 0:
                return
            sprite = sprite[:, -left:]
            left = 0
        if right > WIDTH * self._channels:
            right = WIDTH * self._channels
            if left >= right:
                return
            sprite = sprite[:, : right - left]
        region = self._strip[y : y + sprite.shape[0], left:right]
        np.minimum(region, sprite, out=region)
        self._dirty.append(region)

    def _draw_ground(self, game: physics.Game) -> None:
        first = 0 if game.ground_x[0] < game.ground_x[1] else 1
        start = -game.ground_x[first] * self._channels
        strip = self._grounds[game.ground_bumpy[first], game.ground_bumpy[1 - first]]
        top = physics.GROUND_TOP
        self._strip[top : top + strip.shape[0]] = strip[:, start : start + WIDTH * self._channels]

    def _draw_night_sky(self, game: physics.Game) -> None:
        opacity = min(game.night_opacity, 1.0)
        for index, (x, y) in enumerate(game.stars):
            self._blit(_faded(("star", index), opacity, self._channels), js_round(x), int(y))
        moon = _faded(("moon", game.moon_phase), opacity, self._channels)
        self._blit(moon, js_round(game.moon_x), physics.MOON_Y)

    def _draw_digits(self, text: str, x: int, tone: str) -> None:
        left, width = x * self._channels, 10 * self._channels
        for character in text:
            glyph = self._sprites[tone + character]
            self._strip[SCORE_Y : SCORE_Y + 13, left : left + width] = glyph
            left += DIGIT_PITCH * self._channels
        self._dirty.append(self._strip[SCORE_Y : SCORE_Y + 13, x * self._channels : left])

    def _draw_trex(self, game: physics.Game) -> None:
        if game.ducking and not game.crashed:
            self._blit(self._sprites["duck", game.frame], game.x, game.y + DUCK_TOP)
        else:  # Chromium moves a T-rex that crashed while ducking one pixel on
            x = game.x + (game.crashed and game.ducking)
            self._blit(self._sprites[game.status, game.frame], x, game.y)


class FramePainter:
    """Paints the recorded frame: RGB, halved if so wanted, inverted at night."""

    def __init__(self, downscale: int = 1) -> None:
        self._downscale = downscale
        self._renderer = Renderer(channels=3 if downscale == 1 else 1)
        self._page = np.full((HEIGHT // downscale, WIDTH // downscale, 3), _PAPER, np.uint8)
        self._strip = self._page[_ROWS.start // downscale : _ROWS.stop // downscale]

    def paint(self, game: physics.Game, high_score: int = 0, grey: np.ndarray | None = None) -> np.ndarray:
        """Return the frame of a game as a fresh uint8 array [256 / downscale, 512 / downscale, 3].

        `grey` is the game's canvas of one channel where it is drawn already: it saves half of the work.
        """
        page = self.show(game, high_score, grey)
        return page if game.night else page.copy()

    def show(self, game: physics.Game, high_score: int = 0, grey: np.ndarray | None = None) -> np.ndarray:
        """As `paint`, but by day the painter's own page, which the next call changes."""
        canvas = self._renderer.draw(game, high_score) if grey is None or self._downscale == 1 else grey
        if self._downscale == 1:
            page = canvas.reshape(HEIGHT, WIDTH, 3)
        else:
            grey = area_mean(canvas[_ROWS], self._downscale)
            for channel in range(3):  # four times as fast as one assignment that broadcasts
                self._strip[:, :, channel] = grey
            page = self._page
        return np.invert(page) if game.night else page


def area_mean(grey: np.ndarray, factor: int) -> np.ndarray:
    """Return uint8 [rows / factor, columns / factor]: the rounded mean of every block; factor is a power of 2."""
    if factor == 1:
        return grey
    pairs = np.ascontiguousarray(grey).view(np.uint16)  # two neighbours in one number: half as many to add
    sums = pairs & 0xFF
    sums += pairs >> 8
    sums = sums.reshape(-1, factor * sums.shape[1])  # the rows of a block side by side
    while sums.shape[1] > pairs.shape[1]:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    while sums.shape[1] * factor > grey.shape[1]:
        sums = sums[:, 0::2] + sums[:, 1::2]
    count = factor * factor
    sums += count // 2
    sums >>= count.bit_length() - 1
    return sums.astype(np.uint8)


def _blocks(lines: list[str], height: int, width: int, left: int = 0) -> np.ndarray:
    """Blow text up to blocks of 2 px in a box; a row too many goes at the top (feet stay on the ground)."""
    tones = np.array([[art.TONES[character] for character in line] for line in lines], np.uint8)
    picture = tones.repeat(2, axis=0).repeat(2, axis=1)[-height:]
    box = np.full((height, width), _PAPER, np.uint8)
    box[-picture.shape[0] :, left : left + picture.shape[1]] = picture[:, : width - left]
    return box


def _word(text: str, glyphs: dict[str, str], pitch: int, height: int, width: int) -> np.ndarray:
    box = np.full((height, width), _PAPER, np.uint8)
    for index, character in enumerate(text):
        lines = glyphs[character].split()
        left = index * pitch
        box[: 2 * len(lines), left : left + 2 * len(lines[0])] = _blocks(lines, 2 * len(lines), 2 * len(lines[0]))
    return box


def _moon(phase: int) -> np.ndarray:
    """Draw a phase: a sickle that grows, the full moon in the middle (40 px wide, the others 20), one that shrinks."""
    y, x = np.mgrid[-19.5:20, -19.5:20]
    bow = np.sqrt(np.clip(19.0**2 - y**2, 0, None))
    lit = {0: 0.62, 1: 0.34, 2: 0.0, 3: -1.0, 4: 0.0, 5: 0.34, 6: 0.62}[phase]
    disc = np.where((np.abs(x) < bow) & (x > lit * bow), 185, _PAPER).astype(np.uint8)
    for top, left, size in ((9, 22, 6), (22, 27, 5), (28, 15, 6), (14, 10, 4)):  # craters
        spot = disc[top : top + size, left : left + size]
        spot[(spot < _PAPER)] = 205
    if phase == 3:
        return disc
    return disc[:, 20:] if phase < 3 else disc[:, :19:-1]


def _cacti(variants: list[list[str]], size: int, height: int, width: int) -> np.ndarray:
    return np.hstack([_blocks(variants[index], height, width) for index in range(size)])


@functools.cache
def sprites(channels: int) -> dict[object, Sprite]:
    """Return all pictures by name: a status and a frame, a kind of obstacle with size and frame, a character, ..."""
    pictures: dict[object, np.ndarray] = {
        (physics.Status.RUNNING, 0): _blocks(art.TREX["run0"], 47, 44, left=1),
        (physics.Status.RUNNING, 1): _blocks(art.TREX["run1"], 47, 44, left=1),
        (physics.Status.JUMPING, 0): _blocks(art.TREX["stand"], 47, 44, left=1),
        (physics.Status.CRASHED, 0): _blocks(art.TREX["crashed"], 47, 44, left=1),
        # for the one update in which a speed drop ends exactly on the ground line
        (physics.Status.DUCKING, 0): _blocks(art.TREX["run0"], 47, 44, left=1),
        (physics.Status.DUCKING, 1): _blocks(art.TREX["run1"], 47, 44, left=1),
        "cloud": _blocks(art_world.CLOUD, 14, 46),
        "game over": _word("GAME OVER", art_world.LETTERS, 22, 11, 191),
        "restart": _blocks(art_world.RESTART, 32, 36),
    }
    for index in range(2):
        pictures["duck", index] = _blocks(art.TREX_DUCK[index], 25, 59, left=1)
        pictures["pterodactyl", 1, index] = _blocks(art.PTERODACTYL[index], 40, 46)
        pictures["star", index] = _blocks(art_world.STARS[index], 9, 9)
    for size in (1, 2, 3):
        pictures["cactusSmall", size, 0] = _cacti(art_world.SMALL_CACTI, size, 35, 17)
        pictures["cactusLarge", size, 0] = _cacti(art_world.LARGE_CACTI, size, 50, 25)
    for phase in range(physics.NUM_MOON_PHASES):
        pictures["moon", phase] = _moon(phase)
    for character in art_world.GLYPHS:
        pictures[character] = _word(character, art_world.GLYPHS, 10, 13, 10)
        pictures["pale " + character] = np.where(pictures[character] < _PAPER, 117, _PAPER).astype(np.uint8)
    return {name: _widen(picture, channels) for name, picture in pictures.items()}


def _ground_piece(bumpy: bool) -> np.ndarray:
    """Draw 600 px of ground: a line of 2 px, pebbles under it, and here and there a bump in the bumpy piece."""
    piece = np.full((12, physics.GROUND_WIDTH), _PAPER, np.uint8)
    piece[3:5] = 83
    for index in range(24):
        x = 8 + 25 * index + (index * index * 7 + 5 * bumpy) % 17
        top = (7, 9, 7, 10, 9)[(index + 2 * bumpy) % 5]
        piece[top : top + 2, x : x + (4, 8, 2, 6)[(index * 3 + bumpy) % 4]] = 83 if index % 3 else 148
    if bumpy:
        for x, width in ((46, 14), (138, 22), (262, 12), (330, 26), (452, 16), (540, 10)):
            piece[3:5, x + 2 : x + width - 2] = _PAPER
            piece[1:3, x + 2 : x + width - 2] = 83
            piece[2:4, [x, x + 1, x + width - 2, x + width - 1]] = 83
    return piece


@functools.lru_cache(maxsize=512)  # the fade has some thirty steps; most of a night is the last
def _faded(name: object, opacity: float, channels: int) -> Sprite:
    sprite = sprites(channels)[name]
    return (_PAPER - (_PAPER - sprite) * opacity).round().astype(np.uint8)


@functools.cache
def _grounds(channels: int) -> dict[tuple[bool, bool], Sprite]:
    pieces = {bumpy: _ground_piece(bumpy) for bumpy in (False, True)}
    return {
        (first, second): _widen(np.hstack([pieces[first], pieces[second]]), channels)
        for first in (False, True)
        for second in (False, True)
    }


def _widen(picture: np.ndarray, channels: int) -> Sprite:
    return np.ascontiguousarray(picture.repeat(channels, axis=1))
