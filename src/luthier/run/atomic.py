"""Files that are whole or absent: written under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import orjson

from luthier.errors import StageError, UserError

TEMPORARY_PREFIX = ".writing-"


@contextmanager
def replacing(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an error.

    A reader sees the old content or the new, never a part. On any error the temporary file is removed and `path`
    stays as it was.

    Raises:
        UserError: the folder cannot be written to.
        StageError: the disk is full or fails.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{path.name}")
    encoding = None if "b" in mode else "utf-8"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        _discard(temporary)
        raise explained(error, path) from error
    except BaseException:
        _discard(temporary)
        raise


def flush_folder(folder: Path) -> None:
    """Make a rename in `folder` durable: on POSIX a rename survives a power cut only once its folder is flushed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all. Keys keep their order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON document a line, whole or not at all. Returns how many lines were written."""
    count = 0
    with replacing(path) as file:
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def read_json(path: Path) -> Any:
    """Read one JSON document that Luthier wrote."""
    return orjson.loads(path.read_bytes())


def read_jsonl(path: Path) -> Iterator[Any]:
    """Read JSON Lines that Luthier wrote, one document at a time."""
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                yield orjson.loads(line)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that a killed process left under `folder`."""
    for leftover in list(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _discard(temporary: Path) -> None:
    """Remove a temporary file, or leave it for `remove_leftovers`: what brought us here is the error to tell."""
    with suppress(OSError):
        temporary.unlink()


def explained(error: OSError, path: Path | str) -> UserError:
    """Turn a failure of the file system into a message for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StageError(
            "The disk is full; nothing is left half-written.", str(path), "Free some space and run again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return UserError(
            f"Cannot write here: {os.strerror(error.errno)}.",
            str(path),
            "Choose another folder with --runs, or mend it.",
        )
    return StageError(f"Writing failed: {error.strerror or error}.", str(path), "Check the disk and run again.")
