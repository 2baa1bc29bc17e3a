"""Who may play: every reason to refuse, and that nobody else is refused."""

import pytest

from gamengen.serve import protocol
from gamengen.serve.admission import Rules

RULES = Rules(max_players=2, origins=("https://friend.example",))
OURS = {"origin": "http://play.example:8000", "host": "play.example:8000", "token": None, "num_players": 0}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"origin": None}, None),
        ({"origin": "https://friend.example"}, None),
        ({"num_players": 1}, None),
        ({"origin": "http://play.example:9000"}, protocol.CLOSE_POLICY),
        ({"origin": "https://evil.example"}, protocol.CLOSE_POLICY),
        ({"origin": "https://friend.example.evil.example"}, protocol.CLOSE_POLICY),
        ({"origin": "null"}, protocol.CLOSE_POLICY),
        ({"origin": ""}, protocol.CLOSE_POLICY),
        ({"num_players": 2}, protocol.CLOSE_FULL),
        ({"is_draining": True}, protocol.CLOSE_RESTART),
    ],
)
def test_refusal(change, code):
    refusal = RULES.refusal(**{**OURS, **change})
    assert (refusal and refusal[0]) == code
    assert refusal is None or len(refusal[1].encode()) <= 123


@pytest.mark.parametrize(
    ("given", "welcome"), [("s3cret", True), (None, False), ("", False), ("S3cret", False), ("é", False)]
)
def test_token(given, welcome):
    refusal = Rules(max_players=2, token="s3cret").refusal(**{**OURS, "token": given})
    assert (refusal is None) == welcome
    assert welcome or (refusal[0] == protocol.CLOSE_POLICY and "s3cret" not in refusal[1])
