"""A model folder's card says what the folder says, takes up what is measured, and leaves people's own text alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from gamengen import config as configs
from gamengen import envs, model_card
from gamengen.checkpoint import Model, count_parameters

FIGURES = {
    "phase": "evaluate",
    "psnr": 31.25,
    "psnr_by_horizon": {"8": 27.5, "64": None},
    "headroom": None,
    "fast": {"psnr": 9},
}


@pytest.fixture
def copy(model_folder: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def test_a_new_folder_s_card_counts_what_is_there(copy: Path) -> None:
    card, model = (copy / "README.md").read_text(), Model.from_pretrained(str(copy))
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "gamengen" and "chrome_dino" in front["pretty_name"]
    assert "Not evaluated yet" in card and "256x128 pixels at 20 frames per second" in card
    for name in ("autoencoder", "denoiser"):
        parameters = count_parameters(getattr(model, name))
        buffers = sum(buffer.numel() for buffer in getattr(model, name).buffers())
        assert model_card.count_parameters(f"{copy}/{name}/model.safetensors") == parameters + buffers
        assert f"{parameters + buffers:,}" in card
    assert "from the last 4 frames and actions" in card and '"jump"' not in card.split("## Figures")[0]


def test_an_evaluation_s_figures_come_into_the_card_once_and_stay(copy: Path, tmp_path: Path) -> None:
    licence = envs.licence("chrome_dino")
    model_card.add_evaluation(str(copy), FIGURES, "2 cores", licence)
    card = (copy / "README.md").read_text()
    assert "| next frame, PSNR in dB | 31.25 |" in card and "| psnr_by_horizon 8 | 27.5 |" in card and "2 cores" in card
    assert "psnr_by_horizon 64" not in card and licence["text"] in card and "license: mit" in card
    before = (copy / "provenance.json").read_bytes()
    model_card.add_evaluation(str(copy), FIGURES, "other hardware", licence)
    assert (copy / "provenance.json").read_bytes() == before
    Model.from_pretrained(str(copy)).save_pretrained(str(tmp_path / "again"))
    assert (tmp_path / "again" / "README.md").read_text() == card


def test_a_text_of_one_s_own_is_left_alone(copy: Path) -> None:
    (copy / "README.md").write_text("# Mine\n")
    model_card.add_evaluation(str(copy), FIGURES, "2 cores", envs.licence("doom"))
    assert (copy / "README.md").read_text() == "# Mine\n"
    assert "Freedoom" in json.loads((copy / "provenance.json").read_text())["licence"]["text"]


def test_the_settings_in_the_card_make_the_run_again(copy: Path, made, tmp_path: Path) -> None:
    config = {**configs.to_dict(made), "storage": "~/gamengen"}
    provenance = {"config": config, "figures": {"stage": "denoiser", "loss": 0.25}, "git_revision": "abc"}
    (copy / "provenance.json").write_text(json.dumps(provenance))
    game = Model.from_pretrained(str(copy)).game
    model_card.write(str(copy), game)
    card = (copy / "README.md").read_text()
    assert "Stage `denoiser` of run `quickstart`, 6 steps" in card and "`abc`" in card and "| loss | 0.25 |" in card
    assert str(tmp_path) not in card and made.storage not in card
    command = card.split("```\npython -c ")[1].splitlines()[0]
    script = command.split('"')[1]
    printed: list[str] = []
    exec(script.replace("open('", f"open('{copy}/"), {"print": printed.append})
    (tmp_path / "run.yaml").write_text(printed[0])
    assert configs.to_dict(configs.load(tmp_path / "run.yaml"))["denoiser"] == configs.to_dict(made)["denoiser"]


def test_pretrained_weights_have_their_own_licence(copy: Path) -> None:
    settings = json.loads((copy / "denoiser" / "config.json").read_text())
    game = Model.from_pretrained(str(copy)).game
    for place, shown in (("CompVis/stable-diffusion-v1-4",) * 2, ("/home/somebody/sd", "sd")):
        settings["options"]["pretrained"] = place
        (copy / "denoiser" / "config.json").write_text(json.dumps(settings))
        card = model_card.text(str(copy), game)
        assert f"from the weights of `{shown}`" in card and "license: other" in card
        assert ("base_model: CompVis" in card) == (shown == place)


def test_a_game_that_says_nothing_has_a_licence_to_be_filled_in() -> None:
    assert envs.licence("recorded")["id"] == "other" and "not known" in envs.licence("recorded")["text"]
