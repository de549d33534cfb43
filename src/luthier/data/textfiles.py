"""Readers of text files: JSON Lines, one JSON document, delimited columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from luthier.data.records import Bad, Record, readable, what
from luthier.errors import UserError

UTF8_BOM = b"\xef\xbb\xbf"
_ESCAPED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8
# Lists under these names belong to one row; under any other name a list of objects is the rows.
_OWN_LISTS = frozenset({"messages", "conversations", "conversation", "history", "chosen", "rejected", "prompt"})


class Utf8Check:
    """Counts lines that are not UTF-8. One among others costs its row; a file in another encoding is refused.

    The whole file is taken to be in another encoding when at least two lines are not UTF-8 and they outnumber the lines
    where UTF-8 says more than ASCII.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._good = 0
        self._bad = 0
        self._first = (0, 0)

    def good(self) -> None:
        """Count a line with characters beyond ASCII."""
        self._good += 1

    def bad(self, byte: int, line: int) -> None:
        """Count a line that is not UTF-8; `byte` is its 1-based place in the file."""
        if not self._bad:
            self._first = (byte, line)
        self._bad += 1

    def conclude(self) -> None:
        """Raise UserError when the file is in another encoding."""
        if self._bad >= 2 and self._bad > self._good:
            raise not_utf8(*self._first, self._path)


def not_utf8(byte: int, line: int, path: Path) -> UserError:
    """Return the error for a file in an unknown 8-bit encoding."""
    return UserError(
        f"This file is not UTF-8 at byte {byte}, line {line}.",
        f"{path}:{line}",
        f"Convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > utf8-{path.name} "
        "(or name the encoding it was saved in).",
    )


def json_lines(file: BinaryIO, path: Path) -> Iterator[Record | Bad]:
    """Yield a record for each line that is not blank."""
    check = Utf8Check(path)
    offset = 0
    for number, found in enumerate(file, 1):
        line = found.removeprefix(UTF8_BOM) if number == 1 else found
        if line.strip():
            if not line.isascii():
                _check_line(line, number, offset, check)
            yield _parsed_line(line, number)
        offset += len(found)
    check.conclude()


def json_document(file: BinaryIO, path: Path) -> Iterator[Record | Bad]:
    """Yield the rows of a JSON document: an array, an object that holds one list of objects, or one object.

    Raises:
        UserError: the document is broken, or does not say which of its lists are the rows.
    """
    content = file.read().removeprefix(UTF8_BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(error.start + 1, content.count(b"\n", 0, error.start) + 1, path) from error
    try:
        document = _loaded(text)
    except ValueError as error:
        line, column, message = _position(error, text)
        raise UserError(
            f"The JSON is broken at line {line}, column {column}: {message}.",
            f"{path}:{line}",
            "The file may be cut off; write or fetch it again.",
        ) from error
    rows = _rows(document, path)
    if not rows:
        raise UserError("This file holds no rows.", str(path), "Check data.source.")
    for position, row in enumerate(rows, 1):
        yield _as_record(row, position, row)


def delimited(file: BinaryIO, path: Path, delimiter: str | None) -> Iterator[Record | Bad]:
    """Yield the rows of a table with a header line.

    Args:
        file: the bytes. path: for messages.
        delimiter: None: whichever of comma, semicolon, tab and bar divides the header into most columns.

    Raises:
        UserError: no rows, columns of one name, or a header that is not UTF-8.
    """
    csv.field_size_limit(2**31 - 1)
    lines = _Lines(io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline=""), path)
    header = _header(lines, path, delimiter)
    reader = csv.reader(lines, delimiter=header.delimiter, strict=True)
    count = 0
    while True:
        line = lines.number + 1
        lines.taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            count += 1
            yield Bad(line, "malformed", f"Not readable as a table row: {error}.", readable("".join(lines.taken)))
            continue
        if cells:
            count += 1
            yield _table_row(cells, header.columns, line, lines)
    if not count:
        raise UserError("This file holds a header and no rows.", str(path), "Check data.source.")
    lines.check.conclude()


class _Header:
    def __init__(self, columns: list[str], delimiter: str) -> None:
        self.columns = columns
        self.delimiter = delimiter


class _Lines:
    """The lines of a text file, counted, with those since the last record kept."""

    def __init__(self, file: io.TextIOWrapper, path: Path) -> None:
        self.number = 0
        self.taken: list[str] = []
        self.check = Utf8Check(path)
        self._file = file
        self._byte = 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.number += 1
        self.taken.append(line)
        if line.isascii():
            self._byte += len(line)
            return line
        escaped = _ESCAPED.search(line)
        if escaped:
            self.check.bad(self._byte + len(line[: escaped.start()].encode()), self.number)
        else:
            self.check.good()
        self._byte += len(line.encode("utf-8", "surrogateescape"))
        return line

    def escaped(self) -> bool:
        return any(not line.isascii() and _ESCAPED.search(line) for line in self.taken)


def _header(lines: _Lines, path: Path, delimiter: str | None) -> _Header:
    text = ""
    for line in lines:
        text = text + line if text.strip() else line
        # A quoted column name may hold line ends: the header goes on until its quotes are closed.
        if text.strip() and text.count('"') % 2 == 0:
            break
    found: list[tuple[list[str], str]] = []
    for sign in [delimiter] if delimiter else ",;\t|":
        try:
            found.append((next(csv.reader(io.StringIO(text, newline=""), delimiter=sign), []), sign))
        except csv.Error as error:
            raise UserError(f"The header is not readable: {error}.", f"{path}:1", "Mend the first line.") from error
    cells, sign = max(found, key=lambda pair: len(pair[0]))
    if lines.escaped():
        raise not_utf8(1, lines.number, path)
    columns = [cell.strip() or f"column_{place}" for place, cell in enumerate(cells, 1)]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise UserError(
            f"Columns of one name: {', '.join(map(repr, twice))}.", f"{path}:{lines.number}", "Rename all but one."
        )
    return _Header(columns, sign)


def _table_row(cells: list[str], columns: list[str], line: int, lines: _Lines) -> Record | Bad:
    if lines.escaped():
        return Bad(line, "encoding", "The row is not UTF-8.", readable("".join(lines.taken)))
    if len(cells) != len(columns):
        detail = f"The row has {len(cells)} cells, the header has {len(columns)}."
        return Bad(line, "ragged", detail, cells)
    return Record(line, dict(zip(columns, cells, strict=True)))


def _check_line(line: bytes, number: int, offset: int, check: Utf8Check) -> None:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        check.bad(offset + error.start + 1, number)
    else:
        check.good()


def _parsed_line(line: bytes, number: int) -> Record | Bad:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    else:
        return Record(number, value) if isinstance(value, dict) else _as_record(value, number, value)
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"Byte {error.start + 1} of the line is not UTF-8."
        return Bad(number, "encoding", detail, line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
    text = text.rstrip("\r\n")
    try:
        value = _loaded(text)
    except ValueError as error:
        _, column, message = _position(error, text)
        return Bad(number, "malformed", f"Not JSON at column {column}: {message}.", text)
    return _as_record(value, number, text)


def _as_record(value: Any, line: int, raw: Any) -> Record | Bad:
    if not isinstance(value, dict):
        return Bad(line, "malformed", f"A row is an object of fields; here stands {what(value)}.", raw)
    try:
        orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            detail = "A character is one half of a surrogate pair."
            return Bad(line, "encoding", detail, json.dumps(raw) if isinstance(raw, dict) else raw)
        except (ValueError, RecursionError):
            return Bad(line, "malformed", "The row is nested too deeply.", repr(type(raw)))
    return Record(line, value)


def _loaded(text: str) -> Any:
    """Parse JSON; where the strict parser says no, allow NaN, large numbers and control characters in texts."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text, strict=False)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def _position(error: ValueError, text: str) -> tuple[int, int, str]:
    """Return line, column and message of a JSON error."""
    if isinstance(error, json.JSONDecodeError):
        cut = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        return error.lineno, error.colno, error.msg + (" (the text ends too early)" if cut else "")
    return 1, 1, str(error)


def _rows(document: Any, path: Path) -> list[Any]:
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        return [document]
    lists = {
        key: value
        for key, value in document.items()
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    }
    if not lists or set(lists) & _OWN_LISTS:
        return [document]
    if len(lists) > 1:
        raise UserError(
            f"The file holds several lists: {', '.join(lists)}.", str(path), "Give each list a file of its own."
        )
    return next(iter(lists.values()))
