"""The batcher: players never mix, nobody starves, and one bad batch harms nobody else."""

import asyncio
import collections
import threading

import numpy as np
import pytest

from gamengen.engine import GameEngine
from gamengen.serve.batcher import Batcher, StepError
from tests.serve.fakes import FakeEngine


def make(engine, **options):
    return Batcher(engine, **{"max_batch": 4, "jpeg_quality": 90, **options})


async def play(batcher, seed, actions, jitter=None):
    """Play one game and return the JPEG of every frame."""
    turn = await batcher.reset(seed)
    jpegs = [turn.jpeg]
    for action in actions:
        if jitter is not None:
            await asyncio.sleep(jitter.random() * 0.004)
        turn = await batcher.step(turn.state, action)
        jpegs.append(turn.jpeg)
    return jpegs


def scripts(num_players, length, num_actions):
    return np.random.default_rng(0).integers(0, num_actions, (num_players, length)).tolist()


def test_interleaved_players_see_what_they_would_see_alone():
    async def run():
        actions = scripts(5, 30, 3)
        alone = [await play(make(FakeEngine()), seed, actions[seed]) for seed in range(5)]
        engine = FakeEngine(seconds=0.002)
        batcher = make(engine)
        jitter = np.random.default_rng(1)
        together = await asyncio.gather(*(play(batcher, seed, actions[seed], jitter) for seed in range(5)))
        assert together == alone
        assert len(set(map(tuple, alone))) == 5, "the games must differ, or the comparison says nothing"
        assert max(map(len, engine.batches)) > 1, "nothing was batched"
        await batcher.close()

    asyncio.run(run())


def test_real_engine_keeps_two_players_apart(model_folder):
    async def run():
        engine = GameEngine.from_pretrained(model_folder)
        actions = scripts(2, 3, engine.game.num_actions)
        batcher = make(engine)
        alone = [await frames(batcher, seed, actions[seed]) for seed in range(2)]
        together = await asyncio.gather(*(frames(batcher, seed, actions[seed]) for seed in range(2)))
        for mine, ours in zip(alone, together, strict=True):  # a batch may round differently in the last bit
            assert np.abs(mine - ours).max() <= 2
        assert np.abs(alone[0] - alone[1]).max() > 2
        await batcher.close()

    async def frames(batcher, seed, actions):
        turn = await batcher.reset(seed)
        images = []
        for action in actions:
            turn = await batcher.step(turn.state, action)
            images.append(batcher._engine.decode(turn.state.context[:, -1]).astype(int))
        return np.stack(images)

    asyncio.run(run())


def test_a_full_batch_starves_nobody():
    async def run():
        engine = FakeEngine(seconds=0.001)
        batcher = make(engine, max_batch=2)
        counts = collections.Counter()

        async def player(seed):
            turn = await batcher.reset(seed)
            while sum(counts.values()) < 200:
                turn = await batcher.step(turn.state, 1)
                counts[seed] += 1

        await asyncio.gather(*map(player, range(5)))
        assert max(counts.values()) - min(counts.values()) <= 2, counts
        assert all(len(batch) <= 2 for batch in engine.batches)
        await batcher.close()

    asyncio.run(run())


def test_a_lone_player_does_not_wait_for_others():
    async def run():
        engine = FakeEngine()
        batcher = make(engine)
        await play(batcher, 0, [1] * 20)
        assert [len(batch) for batch in engine.batches] == [1] * 20
        await batcher.close()

    asyncio.run(run())


def test_a_failed_batch_fails_its_players_alone():
    async def run():
        engine = FakeEngine(seconds=0.002)
        batcher = make(engine, max_batch=1)
        reports = []
        batcher._observe = reports.append
        good, bad = await batcher.reset(1), await batcher.reset(2)
        engine.poison = 2
        results = await asyncio.gather(
            batcher.step(good.state, 1), batcher.step(bad.state, 1), batcher.step(good.state, 2), return_exceptions=True
        )
        assert not isinstance(results[0], Exception) and not isinstance(results[2], Exception)
        assert isinstance(results[1], StepError) and "secret" not in str(results[1])
        assert [report.failed for report in reports] == [False, False, False, True, False]
        engine.poison = None
        again = await batcher.step(bad.state, 1)  # the state is as before, the loop lives
        assert again.state.pasts == ((2, 1),)
        assert batcher.failures_in_a_row == 0
        await batcher.close()

    asyncio.run(run())


def test_failures_in_a_row_are_counted():
    async def run():
        engine = FakeEngine()
        batcher = make(engine)
        turn = await batcher.reset(3)
        engine.poison = 3
        for count in (1, 2, 3):
            with pytest.raises(StepError):
                await batcher.step(turn.state, 0)
            assert batcher.failures_in_a_row == count
        await batcher.close()

    asyncio.run(run())


def test_a_player_who_left_is_not_computed():
    async def run():
        engine = FakeEngine(seconds=0.02)
        batcher = make(engine, max_batch=1)
        turn = await batcher.reset(0)
        busy = asyncio.create_task(batcher.step(turn.state, 0))
        await asyncio.sleep(0.005)
        gone = asyncio.create_task(batcher.step(turn.state, 1))
        await asyncio.sleep(0.005)
        gone.cancel()
        await busy
        await asyncio.sleep(0.03)
        assert len(engine.batches) == 1
        await batcher.close()

    asyncio.run(run())


def test_deadlines_are_judged():
    async def run():
        engine = FakeEngine(seconds=0.02)
        late = []
        batcher = make(engine, observe=lambda report: late.append(report.late))
        turn = await batcher.reset(0)
        now = asyncio.get_running_loop().time()
        assert (await batcher.step(turn.state, 0, deadline=now + 0.001)).late
        assert not (await batcher.step(turn.state, 0, deadline=now + 60)).late
        assert late == [0, 1, 0]
        await batcher.close()

    asyncio.run(run())


def test_the_engine_runs_in_one_initialized_thread():
    async def run():
        engine = FakeEngine()
        initialized = []
        batcher = make(engine, initializer=lambda: initialized.append(threading.current_thread().name))
        assert batcher.warm_up() >= 0
        await asyncio.gather(*(play(batcher, seed, [0, 1]) for seed in range(6)))
        assert engine.threads == set(initialized) and len(initialized) == 1
        assert threading.current_thread().name not in engine.threads
        await batcher.close()

    asyncio.run(run())
