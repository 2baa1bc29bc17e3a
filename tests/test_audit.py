"""`make audit`: exit status and words, whatever the auditor says (a stand-in: the real one needs a network)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOUND = "Found 1 known vulnerability in 1 package\nName  Version\nray   1.0"


@pytest.mark.parametrize(
    ("says", "exits", "status", "expected"),
    [
        ("No known vulnerabilities found", 0, 0, "No known vulnerabilities found\n"),
        (FOUND, 1, 2, f"{FOUND}\n"),  # make's own status of a recipe that failed is 2
        ("Traceback\nConnectionError: no such host", 1, 2, ""),
    ],
)
def test_audit(tmp_path: Path, says: str, exits: int, status: int, expected: str) -> None:
    wanted = "assert sys.argv[-2:] == ['-r', 'constraints.txt']"
    auditor = tmp_path / "auditor.py"
    auditor.write_text(f"import sys\n{wanted}\nprint({says!r}, file=sys.stderr)\nsys.exit({exits})")
    auditor_of = f"AUDITOR={sys.executable} {auditor}"
    # The tests may themselves run below make, which then would say which folder it enters.
    command = ["make", "--no-print-directory", "-o", ".venv/installed", "audit", auditor_of]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == status and ended.stdout == expected
    if not expected:
        line = ended.stderr.splitlines()[0]
        assert line.startswith("error: the audit did not come to its end") and line.endswith(
            "ConnectionError: no such host"
        )
        assert "Traceback" not in ended.stderr


def test_every_package_is_pinned() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert pins and all("==" in line for line in pins)
