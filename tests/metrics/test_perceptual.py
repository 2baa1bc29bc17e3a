"""LPIPS against the package itself, with the same random backbone, and what is said where the backbone is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision

from gamengen.metrics.perceptual import USUAL, Lpips
from gamengen.metrics.weights import MissingWeights


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random AlexNet where torchvision keeps the downloaded one; the classifier, the largest part, is left out."""
    torch.manual_seed(0)
    state = torchvision.models.alexnet(weights=None).state_dict()
    path = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / USUAL.cached.name
    path.parent.mkdir(parents=True)
    torch.save({name: value for name, value in state.items() if name.startswith("features.")}, path)
    return path


def test_lpips_is_the_package_s(backbone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torchvision.models.alexnet(weights=None)
    network.load_state_dict(torch.load(backbone), strict=False)
    monkeypatch.setattr(torchvision.models, "alexnet", lambda pretrained: network)
    theirs = lpips.LPIPS(net="alex", verbose=False)  # takes what it believes to be downloaded
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 256, (2, 18, 64, 96, 3), dtype=np.uint8)
    b[1] = a[1]
    expected = [
        float(theirs(*(torch.from_numpy(x).permute(2, 0, 1)[None] / 127.5 - 1 for x in pair)).detach())
        for pair in zip(a, b, strict=True)
    ]
    monkeypatch.undo()
    values = Lpips(str(backbone))(a, b)
    assert values == pytest.approx(expected, abs=1e-6) and values.dtype == np.float64
    assert values[1] == 0 and values[0] > 0.01


def test_missing_weights_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    for setting, why in ((None, "is null"), (f"{tmp_path}/no.pth", "no file"), ("download", "no network")):
        with pytest.raises(MissingWeights, match=why) as error:
            Lpips(setting)
        assert USUAL.url in str(error.value) and "evaluate.lpips" in str(error.value)


def test_a_wrong_file_is_an_error(backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(backbone.read_bytes()).hexdigest()
    Lpips(f"{backbone}#sha256={digest}")
    with pytest.raises(ValueError, match="got sha256"):
        Lpips(f"{backbone}#sha256={'0' * 64}")
    (tmp_path / "other.pth").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="no AlexNet"):
        Lpips(str(tmp_path / "other.pth"))
    monkeypatch.setenv("TORCH_HOME", str(backbone.parents[2]))  # the random one does not pass for the downloaded one
    with pytest.raises(ValueError, match=r"expected 7be5be79"):
        Lpips("download")
