"""The stream of examples: the same from any position, for any number of workers."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gamengen.data import shards
from gamengen.data.stream import ChainSource, CropSource, Stream, WindowSource, prefetched
from gamengen.data.window import WindowRules

LANES, BATCH = 4, 8


@pytest.fixture(scope="module")
def stream(made) -> Stream:
    """Windows of the latents of a real run; small enough that epochs end within a test."""
    shard_list = shards.find(f"{made.folder}/latents")
    source = WindowSource(WindowRules(3, restart_joins=0.1, event_fraction=0.2), made.game_spec())
    return Stream(shard_list, source, seed=1, num_lanes=LANES, batch_size=BATCH)


def _take(stream: Stream, count: int, start: int = 0, rank: int = 0, world: int = 1) -> list[list]:
    return list(itertools.islice(stream.batches(start, rank, world), count))


def _same(one: list, other: list) -> bool:
    if len(one) != len(other):
        return False
    flat = [window for batch in one for window in batch], [window for batch in other for window in batch]
    return all(
        np.array_equal(a.context, b.context)
        and np.array_equal(a.actions, b.actions)
        and np.array_equal(a.target, b.target)
        and a.follows == b.follows
        for a, b in zip(*flat, strict=True)
    )


def test_it_is_deterministic_and_depends_on_the_seed(stream: Stream) -> None:
    assert _same(_take(stream, 3), _take(stream, 3))
    assert not _same(_take(stream, 3), _take(dataclasses.replace(stream, seed=2), 3))


@pytest.mark.parametrize("start", [1, 7, 300])
def test_any_position_goes_on_as_straight(stream: Stream, start: int) -> None:
    """300 batches lie beyond the first epoch."""
    straight = _take(stream, start + 2)[start:]
    assert _same(straight, _take(stream, 2, start=start))


def test_workers_share_the_same_global_batches(stream: Stream) -> None:
    alone = _take(stream, 3, start=5)
    parts = [_take(stream, 3, start=5, rank=rank, world=2) for rank in range(2)]
    assert all(len(batch) == BATCH // 2 for part in parts for batch in part)
    assert _same(alone, [one + other for one, other in zip(*parts, strict=True)])


def test_an_epoch_has_every_window_once(made) -> None:
    source = WindowSource(WindowRules(3), made.game_spec())
    shard_list = shards.find(f"{made.folder}/latents")
    stream = Stream(shard_list, source, seed=0, num_lanes=1, batch_size=1)
    size = source.size(shard_list)
    targets = [batch[0].target.tobytes() for batch in _take(stream, size)]
    episodes = list(shards.episodes(shard_list, "train"))
    assert size == sum(len(episode) - 1 for episode in episodes)
    assert sorted(targets) == sorted(e.frames[t].tobytes() for e in episodes for t in range(1, len(e)))


def test_chains_follow_episodes_and_have_every_window_once(made) -> None:
    shard_list, source = shards.find(f"{made.folder}/latents"), ChainSource(3, longest=7)
    stream = Stream(shard_list, source, seed=0, num_lanes=1, batch_size=1)
    windows = [batch[0] for batch in _take(stream, source.size(shard_list))]
    episodes = list(shards.episodes(shard_list, "train"))
    assert sorted(w.target.tobytes() for w in windows) == sorted(
        e.frames[t].tobytes() for e in episodes for t in range(1, len(e))
    )
    lengths = []
    for before, window in itertools.pairwise([None, *windows]):
        if not window.follows:
            lengths.append(0)
        else:
            assert np.array_equal(window.context[:-1], before.context[1:])
            assert np.array_equal(window.context[-1], before.target)
        lengths[-1] += 1
    assert max(lengths) == 7 and min(lengths) < 7 and sum(lengths) < 7 * len(lengths)
    assert [w.target.tobytes() for w in windows] != sorted(w.target.tobytes() for w in windows)


@pytest.mark.parametrize("start", [3, 400])
def test_chains_go_on_from_any_position_and_for_any_workers(made, start: int) -> None:
    source = ChainSource(3, longest=7)
    stream = Stream(shards.find(f"{made.folder}/latents"), source, 1, num_lanes=4, batch_size=4, pool_shards=1)
    straight = _take(stream, start + 3)[start:]
    assert _same(straight, _take(stream, 3, start=start))
    parts = [_take(stream, 3, start=start, rank=rank, world=2) for rank in range(2)]
    assert _same(straight, [one + other for one, other in zip(*parts, strict=True)])


def test_crops_come_from_the_rows_that_are_coded(recorded) -> None:
    shard_list = shards.find(f"{recorded.folder}/gameplay")
    source = CropSource(32, rows=(24, 104))
    crops = _take(Stream(shard_list, source, seed=0, num_lanes=LANES, batch_size=BATCH), 2)
    assert all(crop.shape == (32, 32, 3) and crop.dtype == np.uint8 for batch in crops for crop in batch)
    again = _take(Stream(shard_list, source, seed=0, num_lanes=LANES, batch_size=BATCH), 1, start=1)
    assert all(np.array_equal(a, b) for a, b in zip(crops[1], again[0], strict=True))


def test_a_pixel_at_the_border_is_seen_half_as_often_as_one_in_the_middle() -> None:
    source, rng = CropSource(32), np.random.default_rng(0)
    starts = [source._place(rng, 24, 24 + 128) for _ in range(4000)]
    assert min(starts) == 24 and max(starts) == 24 + 128 - 32
    seen = np.zeros(24 + 128)
    for start in starts:
        seen[start : start + 32] += 1
    assert seen[[24, -1]] / seen[88] == pytest.approx(0.5, abs=0.08)


def test_what_does_not_divide_is_refused(stream: Stream) -> None:
    with pytest.raises(ValueError, match="multiple of the 4 lanes"):
        dataclasses.replace(stream, batch_size=6)
    with pytest.raises(ValueError, match="3 workers cannot share 4 lanes"):
        next(stream.batches(0, 0, 3))


def test_nothing_to_learn_from_says_so(stream: Stream) -> None:
    empty = dataclasses.replace(stream, source=dataclasses.replace(stream.source, split="val"))
    with pytest.raises(ValueError, match="no training episodes"):
        next(empty.batches(0, 0, 1))


def test_a_lane_whose_shards_hold_only_other_splits_draws_from_all(made, tmp_path: Path) -> None:
    """A few shards, of which some hold nothing but held-out episodes, are the rule in a short run."""
    for number, shard in enumerate(shards.find(f"{made.folder}/latents")):
        table = pq.read_table(shard)
        column = table.schema.get_field_index("split")
        if number % 2:
            table = table.set_column(column, table.schema.field("split"), pa.array(["test"] * len(table)))
        pq.write_table(table, tmp_path / f"{number}.parquet")
    source = WindowSource(WindowRules(3), made.game_spec())
    stream = Stream(shards.find(str(tmp_path)), source, seed=1, num_lanes=LANES, batch_size=BATCH)
    assert all(len(batch) == BATCH for batch in _take(stream, 3))


def test_prefetching_changes_nothing_and_passes_errors_on() -> None:
    assert list(itertools.islice(prefetched(iter(range(100))), 50)) == list(range(50))

    def breaks():
        yield 1
        raise ValueError("a damaged shard")

    items = prefetched(breaks())
    assert next(items) == 1
    with pytest.raises(ValueError, match="a damaged shard"):
        next(items)


def test_prefetching_is_never_far_ahead() -> None:
    seen = []
    items = prefetched((seen.append(i) or i for i in itertools.count()), depth=3)
    next(items)
    time.sleep(0.3)
    assert len(seen) <= 6
    items.close()
