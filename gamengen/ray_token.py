"""The token that protects a Ray cluster: where it is found, and what is said when it is missing; knows no phase.

Ray's own rules (`RAY_AUTH_MODE`, `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, else `~/.ray/auth_token`). A token is sent
only to a cluster that asks for one, and is never written into a job's settings or a log.
"""

from __future__ import annotations

import os
import secrets
import urllib.error
import urllib.request
from pathlib import Path

_WHERE = "RAY_AUTH_TOKEN, or in a file that RAY_AUTH_TOKEN_PATH names"


def find() -> str:
    """Return this user's token, empty if there is none.

    Raises:
        ValueError: RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ValueError(f"RAY_AUTH_TOKEN_PATH, got {path}: {error.strerror}; expected a token's file.") from None
    default = Path.home() / ".ray" / "auth_token"
    return default.read_text().strip() if default.is_file() else ""


def headers(dashboard: str, required: bool = False) -> dict[str, str]:
    """Return what requests to a cluster's dashboard must carry: nothing, unless it asks for a token.

    Args:
        dashboard: its http or https address.
        required: refuse a cluster that takes jobs without a token, unless RAY_AUTH_MODE says `disabled`.

    Raises:
        ValueError: no token, a wrong one, or a cluster that takes jobs from everybody.
    """
    status = _status(dashboard, {})
    if status == 200:
        if required and os.environ.get("RAY_AUTH_MODE", "token") == "token":
            raise ValueError(
                f"{dashboard} takes jobs without a token, from everybody who reaches it; expected a protected cluster. "
                "Start it with RAY_AUTH_MODE=token (cluster/README.md), or set RAY_AUTH_MODE=disabled to submit anyway."
            )
        return {}
    if status not in (401, 403):
        return {}  # what else may be wrong, the client says
    token = find()
    if not token:
        raise ValueError(f"{dashboard} asks for a token, got none; expected it in {_WHERE}. Its owner has it.")
    sent = {"Authorization": f"Bearer {token}"}
    if _status(dashboard, sent) in (401, 403):
        raise ValueError(f"{dashboard} refuses this token; expected its own in {_WHERE}. Its owner has it.")
    return sent


def use(path: str) -> None:
    """Give what this process does with Ray from now on the token of a file; none for an empty path."""
    from ray._raylet import Config  # Ray reads its settings once, when it is imported

    os.environ["RAY_AUTH_MODE"] = "token" if path else "disabled"
    os.environ["RAY_AUTH_TOKEN_PATH"] = path
    Config.initialize("")


def write(path: Path) -> str:
    """Write a new random token to a file that only its owner reads, and return it."""
    path.unlink(missing_ok=True)
    token = secrets.token_hex(32)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token)
    return token


def _status(dashboard: str, sent: dict[str, str]) -> int:
    """Return the HTTP status with which a dashboard answers, 0 if it does not."""
    request = urllib.request.Request(f"{dashboard.rstrip('/')}/api/jobs/", headers=sent)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
