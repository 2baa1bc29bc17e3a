"""The Hugging Face hub: folders pushed to it and taken from it. Knows neither what a model is nor what play is.

A model on the hub is named as there, `<owner>/<name>`, or `hf://<owner>/<name>` where a folder of this name might lie
here too; `@<revision>` behind it asks for a branch, a tag or a commit. Who may push is told by `hf auth login` or
HF_TOKEN; where the hub is, by HF_ENDPOINT.
"""

from __future__ import annotations

import fnmatch
import logging
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HTTPError  # of its HTTP library

from gamengen import storage

logger = logging.getLogger(__name__)

SCHEME = "hf://"
_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")
_TAKEN = ("*.json", "*.safetensors", "README.md")  # of a model: nothing that unpickles, whatever else lies there


def fetch(folder: str) -> str:
    """Return a folder as it is; for a model's name on the hub, its copy here, of which only what is new is fetched.

    Raises:
        ValueError: neither a folder nor a model on the hub, or the hub does not give it.
    """
    named = _ID.fullmatch(folder.removeprefix(SCHEME))
    if not folder.startswith(SCHEME) and (named is None or Path(folder).exists()):
        return folder
    if named is None:
        raise ValueError(
            f"a model on the hub, got {folder!r}; expected {SCHEME}<owner>/<name>, maybe with @<revision>."
        )
    try:
        return huggingface_hub.snapshot_download(named["name"], revision=named["revision"], allow_patterns=_TAKEN)
    except (HTTPError, OSError, ValueError) as error:
        raise ValueError(
            f"no model {folder!r}: there is no such folder here, and the hub does not give it ({_reason(error)})."
        ) from None


def push(folder: str, name: str, files: Sequence[str], *, kind: str, private: bool) -> str:
    """Make a repository on the hub, unless it is there, and put a folder's files into it.

    Args:
        folder: a path, or a URI such as `s3://bucket/run/denoiser`.
        name: `<owner>/<name>`.
        files: patterns of those that go there, such as `*.safetensors`.
        kind: `model` or `dataset`.
        private: of a new repository: to be seen by its owner alone.

    Returns:
        Its address.

    Raises:
        ValueError: the hub does not take it.
    """
    with tempfile.TemporaryDirectory() as here:
        if "://" in folder:
            for file in storage.list_files(folder, "", recursive=True):
                part = file.removeprefix(f"{folder.rstrip('/')}/")
                if any(fnmatch.fnmatch(part, pattern) for pattern in files):
                    storage.download(file, f"{here}/{part}")
        try:
            url = huggingface_hub.create_repo(name, repo_type=kind, private=private, exist_ok=True)
            huggingface_hub.upload_folder(
                repo_id=name,
                repo_type=kind,
                folder_path=here if "://" in folder else folder,
                allow_patterns=list(files),
                commit_message="gamengen push",
            )
        except (HTTPError, OSError, ValueError) as error:
            raise ValueError(
                f"the hub does not take {kind} {name!r}: {_reason(error)}. "
                "Expected <owner>/<name> of yours; `hf auth login` (or HF_TOKEN) says who you are."
            ) from None
    return str(url)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
