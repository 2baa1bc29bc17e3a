"""Files of a run: a local path or any `pyarrow.fs` URI such as `s3://bucket/prefix`, written whole or not at all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.fs

Result = TypeVar("Result")

_TRIES = 3  # of a read from an object store


def filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Return the file system of a path or URI and the path in it; raises ValueError for an unknown scheme."""
    try:
        return pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, ValueError) as error:
        if "://" in uri:
            raise ValueError(
                f"cannot open {uri}: {error}. Expected a path or a URI such as s3://bucket/prefix."
            ) from None
        return pyarrow.fs.LocalFileSystem(), uri


def reading(uri: str, read: Callable[[pyarrow.fs.FileSystem, str], Result]) -> Result:
    """Return `read(file system, path)` of a path or URI, tried again where an object store's answer breaks off.

    pyarrow asks again by itself, but into the same buffer: a short read fails where the first answer, half a file or an
    error's text, left too little room for the second.

    Raises:
        FileNotFoundError: at once.
        OSError: the last one, if none of the tries succeeds.
    """
    files, path = filesystem(uri)
    for _ in range(0 if isinstance(files, pyarrow.fs.LocalFileSystem) else _TRIES - 1):
        try:
            return read(files, path)
        except FileNotFoundError:
            raise
        except OSError:
            continue
    return read(files, path)


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file whole: a reader sees the old one or the new one, never a part."""
    files, path = filesystem(uri)
    if not isinstance(files, pyarrow.fs.LocalFileSystem):  # an object store has no folders
        with files.open_output_stream(path) as stream:  # and shows an upload when it is complete
            stream.write(data)
        return
    if folder := path.rpartition("/")[0]:
        files.create_dir(folder, recursive=True)
    name = path.rpartition("/")[2]
    temporary = f"{path[: -len(name)]}.{name}.{uuid.uuid4().hex}.tmp"  # hidden: pandas would read what a kill leaves
    with files.open_output_stream(temporary) as stream:
        stream.write(data)
    files.move(temporary, path)


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, json.dumps(value, indent=2).encode() + b"\n")


def read_bytes(uri: str) -> bytes:
    """Read a file; raises FileNotFoundError."""

    def read(files: pyarrow.fs.FileSystem, path: str) -> bytes:
        with files.open_input_stream(path) as stream:
            return stream.read()

    return reading(uri, read)


def read_part(uri: str, start: int, length: int) -> bytes:
    """Read `length` bytes of a file from byte `start` on, fewer where it ends; raises FileNotFoundError."""

    def read(files: pyarrow.fs.FileSystem, path: str) -> bytes:
        with files.open_input_file(path) as stream:
            return stream.read_at(length, start)

    return reading(uri, read)


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def local_path(uri: str) -> str | None:
    """Return the path of a file that lies in this machine's file system; None for any other, or none at all."""
    files, path = filesystem(uri)
    is_here = isinstance(files, pyarrow.fs.LocalFileSystem) and exists(uri)
    return path if is_here else None


def exists(uri: str) -> bool:
    files, path = filesystem(uri)
    return files.get_file_info(path).type != pyarrow.fs.FileType.NotFound


def list_files(folder: str, suffix: str, *, recursive: bool = False) -> list[str]:
    """Return the files in a folder (and in those below it) that end with `suffix`, sorted; none if it is not there."""
    files, path = filesystem(folder)
    path = path.rstrip("/")
    selector = pyarrow.fs.FileSelector(path, allow_not_found=True, recursive=recursive)
    names = [info.path[len(path) + 1 :] for info in files.get_file_info(selector) if info.is_file]
    return [f"{folder.rstrip('/')}/{name}" for name in sorted(names) if name.endswith(suffix)]


def delete(uri: str) -> None:
    """Delete a file; raises FileNotFoundError."""
    files, path = filesystem(uri)
    files.delete_file(path)


def download(uri: str, place: str) -> None:
    """Copy a file to a path here, without holding it in memory; raises FileNotFoundError."""
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    here = pyarrow.fs.LocalFileSystem()
    reading(uri, lambda files, path: pyarrow.fs.copy_files(path, place, files, here))
