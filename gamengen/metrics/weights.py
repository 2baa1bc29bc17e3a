"""Finds the weights of a learned metric, in a file of yours or where everybody downloads them, and checks them."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from gamengen import storage

logger = logging.getLogger(__name__)
DOWNLOAD = "download"
_MARK = "#sha256="


class MissingWeights(RuntimeError):
    """A metric's weights are not there, and the message says how to provide them: it is then reported as missing."""


@dataclass(frozen=True)
class Usual:
    """The weights that everybody takes for a metric.

    Attributes:
        metric: its name.
        setting: the key of the config under which they are given.
        url: where they are downloaded from.
        sha256: their checksum, or its first digits.
    """

    metric: str
    setting: str
    url: str
    sha256: str

    @property
    def cached(self) -> Path:
        """Where torch keeps downloads, for this and for other programs."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2].partition("?")[0]

    def missing(self, why: str) -> MissingWeights:
        return MissingWeights(
            f"{self.metric} is not measured: {why}. Put {self.url} into a file and set {self.setting} to its path, or "
            f"set {self.setting}={DOWNLOAD} on a machine with a network (it is kept as {self.cached})."
        )


def read(setting: str | None, usual: Usual, *, executable: bool = False) -> bytes:
    """Return a file of weights.

    Args:
        setting: "download" for the usual ones; or a path or URI, at will with its checksum: `/data/i3d.pt#sha256=...`.
        executable: loading the file runs code that is in it, so it must be the usual one or have its checksum given.

    Raises:
        MissingWeights: there is no such file, or it could not be downloaded.
        ValueError: the checksum is another one.
    """
    if setting is None:
        raise usual.missing(f"{usual.setting} is null")
    if setting == DOWNLOAD:
        return _download(usual)
    place, _, wanted = setting.partition(_MARK)
    try:
        data = storage.read_bytes(place)
    except (FileNotFoundError, IsADirectoryError):
        raise usual.missing(f"no file {place}") from None
    digest = hashlib.sha256(data).hexdigest()
    if wanted and not digest.startswith(wanted.lower()):
        raise ValueError(
            f"{place}, got sha256 {digest}; expected {wanted}. Get the file again, or correct the setting."
        )
    if executable and not wanted and not digest.startswith(usual.sha256):
        raise ValueError(
            f"{place} is not the usual file for {usual.metric}, got sha256 {digest}; expected {usual.sha256}. "
            f"Loading it runs code that is in it. If you trust it, set {usual.setting}={place}{_MARK}{digest}."
        )
    return data


def _download(usual: Usual) -> bytes:
    path = usual.cached
    if not path.is_file():
        logger.info("%s: downloading %s", usual.metric, usual.url)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(usual.url, str(path), hash_prefix=usual.sha256, progress=False)
        except (OSError, RuntimeError) as error:  # no network, or another checksum: nothing is left behind
            raise usual.missing(f"{usual.url} could not be downloaded ({error})") from None
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(usual.sha256):
        raise ValueError(
            f"{path}, got sha256 {digest}; expected {usual.sha256}. Delete it, and it is downloaded again."
        )
    return data
