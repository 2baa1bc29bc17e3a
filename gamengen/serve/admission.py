"""Decides who may play: Origin, token, free places; knows no Ray and no engine."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from gamengen.serve import protocol


@dataclass(frozen=True)
class Rules:
    """What a server asks of its players."""

    max_players: int
    origins: tuple[str, ...] = ()
    token: str | None = None

    def refusal(
        self, *, origin: str | None, host: str | None, token: str | None, num_players: int, is_draining: bool = False
    ) -> tuple[int, str] | None:
        """Return None for a player who is welcome, else the close code and a reason of at most 123 bytes."""
        if not self._is_known(origin, host):
            return protocol.CLOSE_POLICY, "this page may not connect: its Origin is not in serve.origins"
        if self.token is not None and not hmac.compare_digest((token or "").encode(), self.token.encode()):
            return protocol.CLOSE_POLICY, "a token is needed: open the page with ?token=..."
        if is_draining:
            return protocol.CLOSE_RESTART, "the server restarts; connect again"
        if num_players >= self.max_players:
            return protocol.CLOSE_FULL, f"all {self.max_players} places are taken; try again later"
        return None

    def _is_known(self, origin: str | None, host: str | None) -> bool:
        """Tell whether it is our own page, a configured one, or no page at all: programs send no Origin."""
        return origin is None or urlsplit(origin).netloc == host or origin in self.origins
