"""Tables in and out of files: every column of the input comes out again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.data.records import Bad, storable
from luthier.errors import UserError
from luthier.run.atomic import replacing, write_json, write_jsonl
from luthier.run.delimited import guarded as guarded_cell

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
DELIMITERS = {".csv": ",", ".tsv": "\t"}
SHOWN = 200


@dataclass(frozen=True)
class Table:
    """The rows of a file.

    Attributes:
        columns: of all rows, in order of first appearance. rows: what could not be read is an empty row.
        errors: for each row why it could not be read, with what was found; "" when it could.
        digest: sha256 of the file.
    """

    source: Path
    columns: list[str]
    rows: list[dict[str, Any]]
    errors: list[str]
    digest: str


def read_table(source: Path) -> Table:
    """Read a file of rows; its content tells its format.

    Raises:
        UserError: the file as a whole cannot be read.
    """
    from luthier.data.files import digest, read

    columns: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    errors: list[str] = []
    for found in read(source):
        if isinstance(found, Bad):
            text = found.raw if isinstance(found.raw, str) else json.dumps(found.raw, default=str, ensure_ascii=False)
            rows.append({})
            errors.append(f"Line {found.line}: {found.detail} Found: {text[:SHOWN]}")
        else:
            columns.update(dict.fromkeys(found.value))
            rows.append(found.value)
            errors.append("")
    return Table(source, list(columns), rows, errors, digest(source)[1])


def write_table(output: Path, table: Table, added: Mapping[str, Sequence[str | None]], raw: bool = False) -> None:
    """Write a table with further columns, whole or not at all; the suffix is the format.

    In CSV and TSV a text that a spreadsheet would run as a formula (it begins with = + - @, tab or a line break) gets
    a single quote before it, as OWASP advises for text that others wrote: in the added columns, and in all columns
    when the input was no such file itself. Numbers stay as they are.

    Args:
        added: column name to one value for each row. raw: add no quotes.

    Raises:
        UserError: the output cannot be written.
    """
    lines = [row | {name: cells[place] for name, cells in added.items()} for place, row in enumerate(table.rows)]
    if output.suffix in DELIMITERS:
        was_delimited = table.source.name.lower().removesuffix(".gz").endswith(tuple(DELIMITERS))
        guarded = set() if raw else set(added) if was_delimited else {*table.columns, *added}
        _write_delimited(output, [*table.columns, *added], lines, guarded)
    elif output.suffix == ".parquet":
        _write_parquet(output, table, lines, added)
    elif output.suffix == ".json":
        write_json(output, [_storable(line) for line in lines])
    else:
        write_jsonl(output, (_storable(line) for line in lines))


def _write_delimited(output: Path, columns: Sequence[str], lines: Sequence[dict[str, Any]], guarded: set[str]) -> None:
    with replacing(output) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, delimiter=DELIMITERS[output.suffix], lineterminator="\r\n")  # RFC 4180
        writer.writerow(columns)
        for line in lines:
            writer.writerow([_cell(line.get(name), name in guarded) for name in columns])
        text.detach()  # flushes; the file itself is flushed and closed by its owner


def _cell(value: Any, guarded: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return guarded_cell(value) if guarded and isinstance(value, str) else str(value)


def _write_parquet(
    output: Path, table: Table, lines: Sequence[dict[str, Any]], added: Mapping[str, Sequence[str | None]]
) -> None:
    import polars

    new = [polars.Series(name, list(cells), dtype=polars.String) for name, cells in added.items()]
    if table.source.suffix == ".parquet" and not any(table.errors):
        frame = polars.read_parquet(table.source)  # keeps the types of its columns
    else:
        columns = {name: [line.get(name) for line in lines] for name in table.columns}
        frame = polars.DataFrame(
            {name: polars.Series(name, cells, strict=False) for name, cells in columns.items()}, strict=False
        )
    with replacing(output) as file:
        frame.with_columns(new).write_parquet(file)


def _storable(line: dict[str, Any]) -> dict[str, Any]:
    return {str(name): storable(value) for name, value in line.items()}


def free(source: Path, output: Path, overwrite: bool) -> Path:
    """Return the output, which may be written.

    Raises:
        UserError: it is the source, or it is there already and `overwrite` is not asked for.
    """
    if output.resolve() == source.resolve():
        raise UserError("The output would replace the input.", str(output), "Choose another file with --to.")
    if output.exists() and not overwrite:
        raise UserError("There is such a file already.", str(output), "Choose another file with --to, or use --force.")
    return output
