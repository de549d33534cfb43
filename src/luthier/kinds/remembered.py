"""Encoding is done once: encoded rows are kept in the cache folder and read from the memory map from then on.

An entry is two files, `tokens/<kind>-<fingerprint>.safetensors` with the examples, a dataclass `Example` of the kind's
`rows`, and a .json beside it, written last, with the digest of the first. The fingerprint covers the rows, the files of
the tokenizer, the length limit, the kind and Luthier's code. What is damaged is made again. The folder is kept under
`LIMIT` bytes: what was not used for longest goes first. Where it cannot be written to, nothing is kept.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from luthier.data.columns import Columns, pack
from luthier.errors import UserError
from luthier.kinds.base import Encoded, Kind, Rows
from luthier.models.rate import cache_folder
from luthier.run.atomic import read_json, replacing, write_json
from luthier.run.manifest import digest_code, digest_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.data.rows import Row

LIMIT = 4 * 2**30  # bytes
VERSIONS = [version(name) for name in ("tokenizers", "transformers")]


def remembered(kind: Kind, folder: Path | None = None) -> Rows:
    """Return the kind's `rows` with an `encode` that does its work once.

    Args:
        folder: of the entries (default: tokens/ in Luthier's cache folder).
    """
    return cast("Rows", _Remembered(kind, folder or cache_folder() / "tokens"))


class _Remembered:
    """Hands everything on to the kind's `rows` but `encode`."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self._kind, self._folder = kind, folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kind.rows, name)

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Encode rows, or read what was encoded before; see the kind's own."""
        mark = fingerprint(self._kind.name, rows, tokenizer, max_length)
        path = self._folder / f"{self._kind.name}-{mark[:32]}.safetensors"
        example = cast("Any", self._kind.rows).Example
        found = _read(path, example)
        if found is None:
            found = self._kind.rows.encode(rows, tokenizer, max_length)
            with suppress(UserError, OSError):  # a folder that cannot be written to costs the work again, no more
                _write(path, found, example)
                _tidy(self._folder, path)
                found = _read(path, example) or found
        return found


def fingerprint(kind: str, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> str:
    """Return the sha256 over all that decides how rows are encoded."""
    settings = [kind, max_length, str(tokenizer.model_max_length), VERSIONS]
    digest = hashlib.sha256(orjson.dumps([*settings, [digest_code(part) for part in ("kinds", "models", "data")]]))
    with tempfile.TemporaryDirectory() as aside:
        tokenizer.save_pretrained(aside)
        for file in sorted(path for path in Path(aside).rglob("*") if path.is_file()):
            digest.update(f"{file.name} {digest_file(file)}".encode())
    for row in rows:
        digest.update(orjson.dumps(row.to_json()))
    return digest.hexdigest()


def _read(path: Path, example: type) -> Encoded | None:
    """Return an entry; None where there is none, or it is damaged."""
    from safetensors import SafetensorError

    marker = path.with_suffix(".json")
    try:
        kept = read_json(marker)
        if digest_file(path) != kept["sha256"]:
            return None
        examples = Columns(path, example, kept["count"])
        os.utime(path)
        return Encoded(
            examples,
            kept["truncated"],
            [(name, reason) for name, reason in kept["dropped"]],
            kept["lengths"],
            kept["notes"],
        )
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError, SafetensorError):
        return None


def _write(path: Path, encoded: Encoded, example: type) -> None:
    from safetensors.numpy import save

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # rows may be private
    with replacing(path) as file:
        file.write(save(pack(encoded.examples, example)))
    told = {
        "sha256": digest_file(path),
        "count": len(encoded.examples),
        "truncated": encoded.truncated,
        "dropped": encoded.dropped,
        "lengths": encoded.lengths,
        "notes": encoded.notes,
    }
    write_json(path.with_suffix(".json"), told)


def _tidy(folder: Path, newest: Path) -> None:
    """Remove the entries that were not used for longest, until the rest is under the limit; the newest one stays."""
    entries = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
    kept = newest.stat().st_size
    for path in entries:
        if path == newest:
            continue
        kept += path.stat().st_size
        if kept > LIMIT:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
