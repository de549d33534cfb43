"""Long work that survives a kill: finished pieces are appended to a part file, and read again by the next attempt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from luthier.run.atomic import explained
from luthier.run.manifest import digest_value


class Journal:
    """The finished pieces of one long work, one line each. A torn last line is dropped: that piece is made again.

    Args:
        path: the part file. identity: everything that decides the outcome, as JSON; pieces made under another identity
            are thrown away.

    Raises:
        UserError: the folder cannot be written to. StageError: the disk is full.
    """

    def __init__(self, path: Path, identity: Any) -> None:
        self._path = path
        self._pieces: dict[str, Any] = {}
        head = orjson.dumps({"identity": digest_value(identity)}, option=orjson.OPT_APPEND_NEWLINE)
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            if whole.startswith(head):
                for line in whole[len(head) :].splitlines():
                    piece = orjson.loads(line)
                    self._pieces[piece["key"]] = piece["value"]
                if len(whole) < len(content):
                    os.truncate(path, len(whole))
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(head)
        except OSError as error:
            raise explained(error, path) from error

    def __len__(self) -> int:
        return len(self._pieces)

    def get(self, key: str) -> Any:
        """Return a finished piece, None when it is not there."""
        return self._pieces.get(key)

    def add(self, key: str, value: Any) -> None:
        """Keep a finished piece; it is on the disk when this returns."""
        line = orjson.dumps({"key": key, "value": value}, option=orjson.OPT_APPEND_NEWLINE)
        try:
            with open(self._path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise explained(error, self._path) from error
        self._pieces[key] = value

    def remove(self) -> None:
        """Remove the part file: the work is complete and kept elsewhere."""
        self._path.unlink(missing_ok=True)
