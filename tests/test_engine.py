"""The joint: what is trained, evaluated and served is the same; players never mix; a state is a value."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from gamengen.checkpoint import Model
from gamengen.data import shards
from gamengen.data.window import window_at
from gamengen.engine import EngineState, GameEngine
from gamengen.models import autoencoders


@pytest.fixture(scope="module")
def engine(model_folder: str) -> GameEngine:
    model = Model.from_pretrained(model_folder)
    torch.manual_seed(0)
    with torch.no_grad():  # an untrained denoiser predicts nothing at all
        for parameter in model.denoiser.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return GameEngine(model, precision=torch.float32)  # what is compared exactly is computed exactly


@pytest.fixture(scope="module")
def episode(made) -> shards.Episode:
    return next(shards.episodes(shards.find(f"{made.folder}/gameplay")))


def _play(engine: GameEngine, state: EngineState, actions: list[int]) -> tuple[list[np.ndarray], EngineState]:
    frames = []
    for action in actions:
        frame, state = engine.step(state, [action])
        frames.append(frame[0])
    return frames, state


@pytest.mark.parametrize("target", [1, 2, 9], ids=["one frame", "a short past", "a full context"])
def test_the_first_step_is_the_sampler_on_the_recorded_window(
    engine: GameEngine, episode: shards.Episode, target: int
) -> None:
    window = window_at(episode, target, engine.context_length)
    start = max(0, target - engine.context_length)
    state = engine.begin(episode.frames[None, start:target], episode.actions[None, start : target - 1], [7])
    latents, following = engine.step_latents(state, [int(episode.actions[target - 1])])

    with torch.inference_mode():
        context = engine.autoencoder.encode(autoencoders.to_images(torch.from_numpy(window.context)))[None]
        actions = torch.from_numpy(window.actions)[None]
        expected = engine.sampler(engine.denoiser, context, actions, engine._noise(state))
    assert torch.allclose(latents, expected, atol=1e-5)
    assert torch.equal(following.context[:, -1], latents)
    assert following.actions[0, -2] == episode.actions[target - 1]


def test_latents_that_were_encoded_before_give_the_same_start(engine: GameEngine, made) -> None:
    """Latent shards are float16: about, not exactly."""
    frames = next(shards.episodes(shards.find(f"{made.folder}/gameplay")))
    latents = next(shards.episodes(shards.find(f"{made.folder}/latents")))
    one = engine.begin(frames.frames[None, :3], frames.actions[None, :2], [0])
    other = engine.begin_latents(
        torch.from_numpy(latents.frames[:3].astype(np.float32))[None], torch.from_numpy(latents.actions[:2])[None], [0]
    )
    assert torch.allclose(one.context, other.context, atol=1e-2)
    assert torch.equal(one.actions, other.actions)


def test_two_players_never_mix(engine: GameEngine) -> None:
    _, first = engine.reset([0], [1])
    _, second = engine.reset([0], [2])
    together = EngineState.stack([first, second])
    for actions in ([0, 1], [1, 2], [0, 0]):
        both, together = engine.step(together, actions)
        mine, first = engine.step(first, actions[:1])
        yours, second = engine.step(second, actions[1:])
        for alone, shared in ((mine[0], both[0]), (yours[0], both[1])):
            assert np.abs(alone.astype(int) - shared.astype(int)).max() <= 1
    assert [len(state) for state in together.split()] == [1, 1]
    assert together.split()[1].seeds == second.seeds
    assert torch.allclose(together.split()[1].context, second.context, atol=1e-4)


def test_a_game_is_its_seed_and_its_actions(engine: GameEngine) -> None:
    frames, _ = _play(engine, engine.reset([0], [3])[1], [0, 1, 2])
    again, _ = _play(engine, engine.reset([0], [3])[1], [0, 1, 2])
    other, _ = _play(engine, engine.reset([0], [4])[1], [0, 1, 2])
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(frames, other, strict=True))


def test_rewinding_replays_bit_for_bit(engine: GameEngine) -> None:
    _, saved = _play(engine, engine.reset([0], [5])[1], [1, 0])
    kept = dataclasses.replace(saved, context=saved.context.clone(), actions=saved.actions.clone())
    frames, _ = _play(engine, saved, [2, 2, 0])
    again, _ = _play(engine, saved, [2, 2, 0])
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))
    assert torch.equal(saved.context, kept.context) and torch.equal(saved.actions, kept.actions)


def test_the_action_matters(engine: GameEngine) -> None:
    _, state = engine.reset([0], [6])
    assert not torch.equal(engine.step_latents(state, [0])[0], engine.step_latents(state, [1])[0])


def test_the_first_frame_is_the_recorded_one(engine: GameEngine) -> None:
    frames, state = engine.reset([0, engine.num_starts], [0, 0])
    assert np.array_equal(frames[0], engine.model.start_frames[0, -1].numpy())
    assert np.array_equal(frames[0], frames[1]), "beginnings count modulo their number"
    assert (frames.shape[1:], frames.dtype) == ((engine.game.height, engine.game.width, 3), np.uint8)
    assert len(state) == 2


def test_padding_goes_in_and_does_not_come_out(engine: GameEngine, episode: shards.Episode) -> None:
    game = dataclasses.replace(engine.game, padding=(16, 8))
    padded = GameEngine(dataclasses.replace(engine.model, game=game), precision=torch.float32)
    rows = slice(16, engine.game.height - 8)
    assert np.array_equal(padded.reset([0], [3])[0], engine.reset([0], [3])[0][:, rows])
    arguments = (episode.frames[None, :3], episode.actions[None, :2], [7])
    whole, _ = engine.step(engine.begin(*arguments), [1])
    seen, _ = padded.step(padded.begin(*arguments), [1])
    assert np.array_equal(seen, whole[:, rows]) and padded.latent_shape == engine.latent_shape


def test_half_precision_is_the_same_game_to_the_eye(engine: GameEngine, model_folder: str) -> None:
    model = Model.from_pretrained(model_folder)
    model.denoiser.load_state_dict(engine.denoiser.state_dict())
    half = GameEngine(model, precision=torch.bfloat16)
    assert {value.dtype for value in half.denoiser.parameters()} == {torch.bfloat16}
    assert half.autoencoder.latent_std.dtype == torch.float32, "what was measured is kept as it was"
    exact, _ = engine.step(engine.reset([0, 1], [3, 4])[1], [1, 2])
    rough, following = half.step(half.reset([0, 1], [3, 4])[1], [1, 2])
    assert following.context.dtype == torch.float32
    error = np.square(exact.astype(float) - rough.astype(float)).mean()
    assert 0 < error < 255**2 / 10**4, "at least 40 dB"


@pytest.mark.parametrize("actions", [[3], [-1], [], [0, 0]])
def test_an_action_that_the_game_lacks_is_refused(engine: GameEngine, actions: list[int]) -> None:
    _, state = engine.reset([0], [0])
    with pytest.raises(ValueError, match="actions of 0"):
        engine.step(state, actions)


def test_an_autoencoder_alone_cannot_be_played(made) -> None:
    with pytest.raises(ValueError, match="autoencoder alone"):
        GameEngine.from_pretrained(f"{made.folder}/autoencoder")


def test_without_beginnings_reset_says_so(engine: GameEngine) -> None:
    bare = GameEngine(dataclasses.replace(engine.model, start_frames=None, start_actions=None))
    with pytest.raises(ValueError, match="no starts"):
        bare.reset([0], [0])
