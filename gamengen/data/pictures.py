"""Shows recorded play to people: a contact sheet of labelled frames, and an episode as a film with its actions."""

from __future__ import annotations

import difflib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from gamengen.data import film, shards
from gamengen.data.chunk import Chunk, from_row
from gamengen.game import GameSpec

_WIDTH = 320  # pixels of a frame on the sheet, about: small frames are enlarged, large ones reduced
_FILM_WIDTH = 480  # at least, so that the line under the picture can be read
_GAP = 8
_FONT_SIZE = 14
_LINE = _FONT_SIZE + 5
_BACK, _FRONT, _FAINT, _KEY = (24, 24, 27), (240, 240, 240), (150, 150, 155), (255, 196, 61)


@dataclass(frozen=True)
class Moment:
    """One recorded frame without padding, and what was done then; `action` is None after an episode's last frame."""

    episode: str
    frame: int
    picture: np.ndarray
    action: int | None
    split: str


def contact_sheet(names: Sequence[str], game: GameSpec, count: int = 24) -> bytes:
    """Return a PNG of `count` frames drawn evenly over all shards, with episode, frame and action under each."""
    moments = list(_evenly(names, game, count))
    pictures = [_scaled(moment.picture, _WIDTH) for moment in moments]
    height, width = pictures[0].shape[:2]
    columns = max(1, min(len(moments), round((len(moments) * height / width) ** 0.5 * 1.6)))
    rows = -(-len(moments) // columns)
    cell_width, cell_height = width + _GAP, height + 2 * _LINE + _GAP
    page = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), _BACK)
    draw = ImageDraw.Draw(page)
    for number, (moment, picture) in enumerate(zip(moments, pictures, strict=True)):
        row, column = divmod(number, columns)
        left, top = _GAP + column * cell_width, _GAP + row * cell_height
        page.paste(Image.fromarray(picture), (left, top))
        _write(draw, left, top + height, width, moment.episode, _FAINT)
        end = _write(draw, left, top + height + _LINE, width, f"frame {moment.frame}  ", _FRONT)
        end = _write(draw, end, top + height + _LINE, width, f"{_name(game, moment.action)}  ", _KEY)
        _write(draw, end, top + height + _LINE, left + width - end, moment.split, _FAINT)
    buffer = io.BytesIO()
    page.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def episode_film(names: Sequence[str], game: GameSpec, episode: str | None) -> tuple[str, bytes]:
    """Return an episode's id and its MP4, with frame number, action and return so far under the picture.

    Args:
        episode: its id; None takes the longest.

    Raises:
        ValueError: no such episode; names the nearest.
    """
    name, shard = _find(names, episode)
    return name, film.encode(_captioned(_moments(_chunks_of(shard, name), game), game), game.frames_per_second)


def _evenly(names: Sequence[str], game: GameSpec, count: int) -> Iterator[Moment]:
    lengths = [shards.read(name, ["num_frames"])["num_frames"].to_numpy() for name in names]
    total = int(sum(length.sum() for length in lengths))
    count = min(count, total)
    places = iter([(2 * number + 1) * total // (2 * count) for number in range(count)])
    place, begin = next(places), 0
    for name, length in zip(names, lengths, strict=True):
        ends = begin + np.cumsum(length)
        if place >= ends[-1]:
            begin = int(ends[-1])
            continue
        table = shards.read(name)
        for number, end in enumerate(ends.tolist()):
            moments: list[Moment] = []
            while begin <= place < end:
                moments = moments or [moment for moment, _ in _moments([_decode(table, number)], game)]
                yield moments[place - begin]
                place = next(places, total)
            begin = end


def _find(names: Sequence[str], episode: str | None) -> tuple[str, str]:
    """Return the id of an episode and its shard."""
    length: dict[str, int] = {}
    home: dict[str, str] = {}
    for name in names:
        table = shards.read(name, ["episode", "num_frames"])
        for found, count in zip(table["episode"].to_pylist(), table["num_frames"].to_pylist(), strict=True):
            length[found] = length.get(found, 0) + count
            home[found] = name
    chosen = max(length, key=lambda found: length[found]) if episode is None else episode
    if chosen not in home:
        near = difflib.get_close_matches(chosen, home, n=1, cutoff=0.0)[0]
        raise ValueError(f"no episode {chosen!r} in {len(names)} undamaged shards; did you mean {near!r}?")
    return chosen, home[chosen]


def _decode(table: pa.Table, number: int) -> Chunk:
    return from_row(table.slice(number, 1).to_pylist()[0])


def _chunks_of(shard: str, episode: str) -> Iterator[Chunk]:
    table = shards.read(shard)
    for number, found in enumerate(table["episode"].to_pylist()):
        if found == episode:
            yield _decode(table, number)


def _moments(chunks: Iterable[Chunk], game: GameSpec) -> Iterator[tuple[Moment, float]]:
    """Return every frame of chunks, with the reward of what was done then."""
    for chunk in chunks:
        for offset, picture in enumerate(game.visible(chunk.frames)):
            last = offset == len(chunk.actions)
            action, reward = (None, 0.0) if last else (int(chunk.actions[offset]), float(chunk.rewards[offset]))
            yield Moment(chunk.episode, chunk.first_frame + offset, picture, action, chunk.split), reward


def _captioned(moments: Iterator[tuple[Moment, float]], game: GameSpec) -> Iterator[np.ndarray]:
    earned = 0.0
    for moment, reward in moments:
        picture = _scaled(moment.picture, max(_FILM_WIDTH, moment.picture.shape[1]))
        height, width = picture.shape[:2]
        page = Image.new("RGB", (width, height + _LINE + 2), _BACK)
        page.paste(Image.fromarray(picture), (0, 0))
        draw = ImageDraw.Draw(page)
        _write(draw, 4, height, width // 3, f"frame {moment.frame}", _FAINT)
        _write(draw, width // 3, height, width // 3, _name(game, moment.action), _KEY)
        _write(draw, 2 * width // 3, height, width // 3, f"return {earned:.2f}", _FAINT)
        earned += reward
        yield np.asarray(page)


def _name(game: GameSpec, action: int | None) -> str:
    return "(end)" if action is None else game.actions[action]


def _scaled(picture: np.ndarray, width: int) -> np.ndarray:
    """Enlarge by a whole factor up to about `width`, which keeps pixels square; reduce smoothly."""
    height, own = picture.shape[:2]
    if own <= width:
        factor = max(1, round(width / own))
        return picture.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (width, max(1, round(height * width / own)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _write(draw: ImageDraw.ImageDraw, left: int, top: int, room: int, text: str, colour: tuple[int, int, int]) -> int:
    """Write a line, with a gap in its middle where there is no room for all; return where it ends."""
    font = ImageFont.load_default(_FONT_SIZE)
    shown, keep = text, len(text)
    while draw.textlength(shown, font=font) > room and keep > 2:
        keep -= 1
        shown = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
    draw.text((left, top + 2), shown, font=font, fill=colour)
    return left + int(draw.textlength(shown, font=font))
