"""Shows the log of a Ray job as it grows: the lines that a person wants, without Ray's noise."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any, TextIO

logger = logging.getLogger(__name__)

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ACTOR = re.compile(r"^\((?P<name>[\w:.]+)(?: pid=[^)]*)?\) ?")  # who of Ray's processes says it
_RAY_ACTORS = ("TrainController", "PlacementGroupCleaner", "raylet", "autoscaler", "ServeController", "ProxyActor")
_RAY_LINES = (
    r"core_worker|TORCH_NCCL|RAY_[A-Z_]*=|Warning: |warnings\.warn|Install gputil|"
    r"new API stack|worker_pool\.cc|_private/worker\.py|Using blocking ray|object_store|Setting up process group|"
    r"INFO (worker|job_manager|packaging|streaming_executor|dataset|logging|plan|exchange)|ray-data|rllib_module|"
    r"Running entrypoint for"
)
_NOISE = re.compile(rf"^\s|^$|^\{{.*\}}$|^Traceback|{_RAY_LINES}")
_PIPELINE_NOISE = re.compile(rf"^\{{.*\}}$|{_RAY_LINES}")  # its table is indented
_WANTED = re.compile(r"No available node types")
_ERROR = re.compile(r"^(?:error: |(?:[\w.]+\.)?\w*(?:Error|Exception)\b: ?)(?P<text>.*)")


class Follower:
    """Shows the new lines of a growing log, and writes all of them to a file.

    Attributes:
        error: the last line that tells an error; empty if none did.
        summary: the last line that is a JSON object, which is what our jobs end with.
    """

    def __init__(self, name: str, log: Path | None) -> None:
        self.name, self.error, self._length = name, "", 0
        self.summary: dict[str, Any] = {}
        self._noise = _PIPELINE_NOISE if name == "pipeline" else _NOISE
        self._file: TextIO | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._file = log.open("w")

    def take(self, text: str) -> None:
        """Take the whole log as it is now; an unfinished last line waits."""
        end = text.rfind("\n") + 1
        new, self._length = text[self._length : end], max(self._length, end)
        for line in new.splitlines():
            self._show(_COLOUR.sub("", line))
        if self._file is not None and new:
            self._file.write(new)
            self._file.flush()

    def _show(self, line: str) -> None:
        actor = _ACTOR.match(line)
        text = line[actor.end() :] if actor else line
        if found := _ERROR.match(text):
            self.error = found["text"] or text
        if line.startswith("{") and line.endswith("}"):
            try:
                self.summary = json.loads(line)
            except json.JSONDecodeError:
                logger.debug("not a summary: %s", line)
        by_ray = actor is not None and actor["name"] in _RAY_ACTORS
        if _WANTED.search(text) or not (by_ray or self._noise.search(text)):
            logger.info("%s", text if self.name == "pipeline" else f"[{self.name}] {text}")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
