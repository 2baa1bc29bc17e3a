"""Reading from an object store, whose answers may break off: again a few times, and never where there is no file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs
import pytest

from gamengen import storage


class Store:
    """Reads that fail `failures` times before one succeeds; `tries` counts them all."""

    def __init__(self, failures: int, error: type[OSError] = OSError) -> None:
        self.failures, self.error, self.tries = failures, error, 0

    def read(self, files: pyarrow.fs.FileSystem, path: str) -> str:
        self.tries += 1
        if self.tries <= self.failures:
            raise self.error("broken off")
        return path


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_read_that_breaks_off_is_tried_again(failures: int) -> None:
    store = Store(failures)
    assert storage.reading("mock:///file", store.read).endswith("file") and store.tries == failures + 1


def test_a_store_that_never_answers_is_an_error() -> None:
    store = Store(10)
    with pytest.raises(OSError, match="broken off"):
        storage.reading("mock:///file", store.read)
    assert store.tries == 3


def test_no_file_and_this_machine_s_disk_are_asked_once(tmp_path: Path) -> None:
    for uri, error in (("mock:///file", FileNotFoundError), (str(tmp_path / "file"), OSError)):
        store = Store(1, error)
        with pytest.raises(error):
            storage.reading(uri, store.read)
        assert store.tries == 1


def test_a_part_of_a_file(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/file", b"0123456789")
    assert storage.read_part(f"{tmp_path}/file", 2, 3) == b"234"
    assert storage.read_part(f"{tmp_path}/file", 8, 5) == b"89"


def test_what_a_kill_in_the_middle_of_a_write_leaves_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(pyarrow.fs.LocalFileSystem):
        def move(self, source: str, target: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "filesystem", lambda uri: (Killed(), uri))
    with pytest.raises(KeyboardInterrupt):
        storage.write_bytes(f"{tmp_path}/file.parquet", b"0")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".file.parquet.")
