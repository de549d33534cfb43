"""One process at a time works on a run folder."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from luthier.errors import UserError


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` as a lock while the block runs.

    The operating system releases it when the process ends in whatever way, so a killed run never stays locked.

    Raises:
        UserError: another process holds it, or it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        remedy = "Choose another place with --runs FOLDER, or mend its permissions."
        raise UserError(f"Cannot write to the run folder: {error.strerror}.", str(path.parent), remedy) from error
    with file:
        if not _acquire(file):
            raise UserError(
                f"Another process is working on this run{_holder(path)}.",
                str(path.parent),
                "Wait for it to end, or start a separate run with --new.",
            )
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "since": time.strftime("%H:%M:%S")}))
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock. Never waits, never creates the file."""
    try:
        with open(path, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _acquire(file: IO[str]) -> bool:
    """Try a few times: `is_held` of another process holds the lock for an instant."""
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {holder['pid']}, since {holder['since']})"
    except (OSError, ValueError, KeyError):
        return ""
