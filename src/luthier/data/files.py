"""Read one file to raw records, whatever it is packed in: JSON Lines, JSON, CSV, TSV, Parquet; gz, xz, bz2.

The content decides, the suffix only helps. Every record found is yielded, either as a `Record` or, when it cannot be
read, as a `Bad` one with its reason: nothing is left out.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from luthier.data.records import Bad, Record
from luthier.data.sources import data_suffix
from luthier.data.textfiles import UTF8_BOM, delimited, json_document, json_lines
from luthier.errors import UserError

HEAD = 1 << 20
_CONVERT = "Convert it: iconv -f {encoding} -t UTF-8 {name} > utf8-{name}"
_BOMS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_BINARIES = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "Save the sheet as CSV, or unpack the archive."),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "Unpack it first: zstd -d FILE"),
    (b"%PDF", "a PDF", "Give text data: JSONL, JSON, CSV, TSV or Parquet."),
    (b"SQLite format 3", "an SQLite data base", "Export the table as CSV."),
    (b"ARROW1", "an Arrow file", "Write it as Parquet."),
)


def read(path: Path) -> Iterator[Record | Bad]:
    """Yield every record of a file.

    Raises:
        UserError: the file as a whole cannot be read: empty, binary, not UTF-8, damaged, or of no known format.
    """
    if not path.is_file():
        raise UserError("This is not a file.", str(path), "Check data.source.")
    try:
        with closing(_opened(path)) as file:
            head = file.read(HEAD)
        _refuse_binary(head, path)
        yield from _records(path, head)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"The compressed file is damaged: {error}.", str(path), "Fetch or pack it again.") from error
    except OSError as error:
        raise _unreadable(error, path) from error


def digest(path: Path) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 of a file as it lies on disk.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(error, path) from error


def container(path: Path, head: bytes) -> str:
    """Return what a text file holds by its first bytes: `jsonl`, `json`, `csv` or `tsv`.

    Raises:
        UserError: neither content nor suffix tell.
    """
    suffix = data_suffix(path)
    text = head.removeprefix(UTF8_BOM).strip()
    kind = _json_kind(text, suffix, len(head) < HEAD) if text[:1] in (b"{", b"[") else ""
    if kind:
        return kind
    if suffix in (".csv", ".tsv"):
        return suffix[1:]
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "json" if suffix == ".json" and b"\n" not in text else "jsonl"
    raise UserError(
        f"The format of this file is not known (suffix {suffix or 'none'}, content not JSON).",
        str(path),
        "Give JSONL, JSON, CSV, TSV or Parquet, with that suffix.",
    )


def _json_kind(text: bytes, suffix: str, whole: bool) -> str:
    """Return `json`, `jsonl`, or "" when a text that begins with a bracket is a table all the same."""
    lines = text.splitlines()
    first = _is_json(lines[0])
    named_lines = suffix in (".jsonl", ".ndjson")
    if whole and _is_json(text):
        return "jsonl" if first and named_lines and text[:1] == b"{" else "json"
    if first:
        return "jsonl"
    if suffix in (".csv", ".tsv") and lines[0].strip() not in (b"[", b"{"):
        return ""
    if text[:1] == b"{" and (named_lines or (len(lines) > 1 and _is_json(lines[1]))):
        return "jsonl"
    return "json"


def _records(path: Path, head: bytes) -> Iterator[Record | Bad]:
    if head.startswith(b"PAR1"):
        yield from _parquet(path)
        return
    if data_suffix(path) == ".parquet":
        raise UserError("This is not a Parquet file.", str(path), "Check how it was written, or mend its suffix.")
    if not head.removeprefix(UTF8_BOM).strip():
        raise UserError("This file is empty.", str(path), "Check data.source.")
    kind = container(path, head)
    with closing(_opened(path)) as file:
        if kind == "jsonl":
            yield from json_lines(file, path)
        elif kind == "json":
            yield from json_document(file, path)
        else:
            yield from delimited(file, path, "\t" if kind == "tsv" else None)


def _unreadable(error: OSError, path: Path) -> UserError:
    return UserError(
        f"The file cannot be read: {error.strerror or error}.", str(path), "Check the file and its rights."
    )


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _opened(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(path, "rb"))
    if magic.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.open(path, "rb"))
    if magic.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(path, "rb"))
    return open(path, "rb")


def _refuse_binary(head: bytes, path: Path) -> None:
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            raise _not_utf8(encoding, "its byte-order mark says so", path)
    for magic, what, remedy in _BINARIES:
        if head.startswith(magic):
            raise UserError(f"This is {what}, not text.", str(path), remedy.replace("FILE", path.name))
    if head.startswith(b"PAR1"):
        return
    for offset, encoding in ((1, "UTF-16LE"), (0, "UTF-16BE")):
        every_other = head[offset::2]
        if len(head) >= 4 and every_other.count(0) > 0.6 * len(every_other) and head.count(0) < 0.7 * len(head):
            raise _not_utf8(encoding, "every other byte is zero", path)
    controls = len(head) - len(head.translate(None, bytes([*range(9), 11, *range(14, 27), *range(28, 32)])))
    if controls > 0.1 * len(head):
        raise UserError(
            "This file is binary, not text.", str(path), "Give text data: JSONL, JSON, CSV, TSV or Parquet."
        )


def _not_utf8(encoding: str, why: str, path: Path) -> UserError:
    return UserError(
        f"This file is {encoding}, not UTF-8 ({why}).",
        str(path),
        _CONVERT.format(encoding=encoding, name=path.name),
    )


def _parquet(path: Path) -> Iterator[Record | Bad]:
    import polars
    from polars.exceptions import PolarsError

    try:
        frame = polars.read_parquet(path)
    except (PolarsError, OSError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"The Parquet file is damaged: {first}.", str(path), "Write or fetch it again.") from error
    line = 0
    for part in frame.iter_slices(10_000):
        values: list[dict[str, Any]] = part.to_dicts()
        for value in values:
            line += 1
            yield Record(line, value)
    if not line:
        raise UserError("This file holds no rows.", str(path), "Check data.source.")
