"""Every YAML loads, and every mistake in one is a line that says what and where."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gamengen import config as configs

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_yaml_loads_and_round_trips(path: Path) -> None:
    config = configs.load(path)
    assert config.run == path.stem
    assert configs.from_dict(configs.to_dict(config)) == config


def test_an_override_wins_and_keeps_its_type() -> None:
    config = configs.load(QUICKSTART, ["train.denoiser.steps=7", "seed=3", "train.denoiser.learning_rate=1e-4"])
    assert (config.train.denoiser.steps, config.seed, config.train.denoiser.learning_rate) == (7, 3, 1e-4)
    assert config.train.autoencoder == configs.load(QUICKSTART).train.autoencoder


def test_policies_and_options_take_new_keys() -> None:
    config = configs.load(QUICKSTART, ["collect.policies.idle=0.5", "game.options.high_score=5"])
    assert config.collect.policies["idle"] == 0.5
    assert config.game.options["high_score"] == 5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.denoiser.step=3", ["train.denoiser.step", "did you mean 'steps'"]),
        ("trian.num_workers=3", ["trian", "did you mean 'train'"]),
        ("train.denoiser.steps=many", ["train.denoiser.steps", "integer", "many"]),
        ("train.precision=fp17", ["train.precision", "fp17"]),
        ("seed", ["seed", "key.subkey=value"]),
        ("storage=runs", ["storage", "absolute", "runs"]),
        ("run=a/b", ["run", "a/b"]),
        ("collect.import=videos", ["collect.import", "absolute", "videos"]),
        ("collect.import=3", ["collect.import", "string", "3"]),
        ("collect.policies={random: 1.0", ["collect.policies", "not YAML"]),
        ("collect.import_folder=/videos", ["collect.import_folder", "did you mean 'import'"]),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        configs.load(QUICKSTART, [override])
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    tree = yaml.safe_load(QUICKSTART.read_text())
    del tree["train"]["denoiser"]["batch_size"]
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=r"train\.denoiser\.batch_size is missing"):
        configs.load(tmp_path / "c.yaml")


def test_an_unknown_key_in_the_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(QUICKSTART.read_text().replace("num_episodes:", "num_episode:"))
    with pytest.raises(ValueError, match=r"agent\.num_episode.*did you mean 'num_episodes'"):
        configs.load(tmp_path / "c.yaml")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", ""])
def test_what_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"c\.yaml"):
        configs.load(tmp_path / "c.yaml")


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*directory"):
        configs.load(tmp_path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml"):
        configs.load("nowhere.yaml")


def test_storage_knows_home_and_uris() -> None:
    assert configs.load(QUICKSTART, ["storage=~/x"]).folder == f"{Path.home()}/x/quickstart"
    assert configs.load(QUICKSTART, ["storage=s3://bucket/x/"]).folder == "s3://bucket/x/quickstart"


def test_the_game_spec_follows_the_options() -> None:
    full = configs.load(QUICKSTART, ["game.options.downscale=1"]).game_spec()
    half = configs.load(QUICKSTART, ["game.options.downscale=2"]).game_spec()
    assert (full.height, full.width) == (256, 512)
    assert (half.height, half.width) == (128, 256)


def test_import_is_a_key_although_python_keeps_the_word(tmp_path: Path) -> None:
    assert configs.load(QUICKSTART).collect.import_folder is None
    config = configs.load(QUICKSTART, [f"collect.import={tmp_path}"])
    assert config.collect.import_folder == str(tmp_path)
    assert configs.to_dict(config)["collect"]["import"] == str(tmp_path)
    assert configs.from_dict(configs.to_dict(config)) == config
    assert configs.load(QUICKSTART, ["collect.import=~/x"]).collect.import_folder == f"{Path.home()}/x"
    assert configs.load(QUICKSTART, ["collect.import=s3://b/x"]).collect.import_folder == "s3://b/x"
