"""From the user's files to rows: every record found becomes a row or a rejected row with its reason."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.data import files, hub
from luthier.data.formats import Layout, detect, require_column
from luthier.data.records import Bad, Record, storable
from luthier.data.rows import Rejected, Row, SplitName, whole_text
from luthier.data.shapes import Unfit, as_text, content_of
from luthier.data.sources import Piece, Source, data_stem, resolve, source_files
from luthier.errors import UserError
from luthier.run.progress import Advance, Progress, Silent

__all__ = ["FileCount", "Ingested", "Inspection", "ingest", "inspect", "source_files"]

SAMPLE = 1000  # records by which the layout of a file is told
GLANCE = 2000  # records that `inspect` reads
_STEP = 1000
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class FileCount:
    """What one file gave: rows + rejected are the records found in it (in the slice asked for).

    Attributes:
        bytes: size on disk. sha256: of the file on disk (of the data set's fingerprint, for the Hub).
    """

    file: str
    rows: int
    rejected: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """The rows of a source.

    Attributes:
        format: the layout found; several files may have several, separated by ", ".
        columns: every column found, in order of first appearance.
        fields: what each part of the content was read from: Luthier's field name -> column.
        notes: sentences for the reader, such as which columns were taken for prompt and completion.
    """

    rows: list[Row]
    rejected: list[Rejected]
    format: str
    columns: list[str]
    files: list[FileCount]
    fields: dict[str, str]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a first look at a source shows.

    Attributes:
        format, columns, fields: as in `Ingested`.
        rows: readable rows among the records read (2,000 at most). more: there are further records.
        rejected: unreadable ones among them.
        lengths_chars: min, median, p95, p99 and max of the length of a row, in characters.
    """

    format: str
    columns: list[str]
    rows: int
    lengths_chars: dict[str, int]
    fields: dict[str, str]
    rejected: int
    more: bool


@dataclass(slots=True)
class _Found:
    """What has been read so far."""

    format: str
    declared: Mapping[str, str]
    system: str | None
    advance: Advance
    rows: list[Row] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    layouts: dict[str, Layout] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    files: list[FileCount] = field(default_factory=list)
    records: int = 0


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where records come from: the name for messages, the stem for ids, the split, size and hash."""

    name: str
    stem: str
    split: SplitName | None
    size: int
    sha256: str


def ingest(
    source: Source,
    format: str = "auto",
    fields: Mapping[str, str] | None = None,
    system: str | None = None,
    progress: Progress | None = None,
) -> Ingested:
    """Read a source to rows. `len(rows) + len(rejected)` is the number of records found.

    Args:
        source: see `sources.resolve`: files, folders, globs, slices, lists, one per split, `hub://name`.
        format: a layout, or `auto`: told by the columns, for each file.
        fields: Luthier's field name -> column. Names that the layout does not use become labels of that name.
        system: system message for conversations that have none.
        progress: told the number of records read.

    Raises:
        UserError: a file or the source as a whole is not usable, or not one row is.
    """
    with (progress or Silent()).task("reading") as advance:
        found = _Found(format, fields or {}, system, advance)
        pieces = resolve(source)
        stems = _stems(pieces)
        for piece in pieces:
            for origin, items in _contents(piece, stems):
                _take(origin, items, found)
    return _concluded(found)


def inspect(source: Source) -> Inspection:
    """Look at the first 2,000 records of a source, to propose a recipe.

    Raises:
        UserError: as `ingest`.
    """
    found = _Found("auto", {}, None, lambda _: None)
    pieces = resolve(source)
    stems = _stems(pieces)
    more = False
    for piece in pieces:
        for origin, items in _contents(piece, stems, hashed=False):
            _take(origin, itertools.islice(items, GLANCE - found.records), found)
            more = next(iter(items), None) is not None
            if found.records >= GLANCE:
                break
    done = _concluded(found)
    lengths = sorted(len(whole_text(row)) for row in done.rows)
    return Inspection(
        done.format,
        done.columns,
        len(done.rows),
        {
            "min": lengths[0],
            "median": int(statistics.median(lengths)),
            "p95": lengths[int(0.95 * (len(lengths) - 1))],
            "p99": lengths[int(0.99 * (len(lengths) - 1))],
            "max": lengths[-1],
        },
        done.fields,
        len(done.rejected),
        more,
    )


def _stems(pieces: Iterable[Piece]) -> dict[Path, str]:
    """Return for each file what the ids of its rows begin with: its stem, or its path where two share a stem."""
    paths = dict.fromkeys(path for piece in pieces for path, _ in piece.files)
    counts = Counter(data_stem(path) for path in paths)
    return {path: str(path) if counts[data_stem(path)] > 1 else data_stem(path) for path in paths}


def _contents(
    piece: Piece, stems: Mapping[Path, str], hashed: bool = True
) -> Iterator[tuple[_Origin, Iterator[Record | Bad]]]:
    """Yield the files of a piece with their records, cut to the slice asked for."""
    origins: list[tuple[_Origin, Iterator[Record | Bad]]] = []
    for path, split in piece.files:
        size, sha256 = files.digest(path) if hashed and path.is_file() else (0, "")
        origins.append((_Origin(str(path), stems[path], split, size, sha256), files.read(path)))
    if piece.hub:
        for part in hub.parts(piece.hub):
            split = piece.side or part.split
            origins.append((_Origin(part.name, part.stem, split, part.size, part.sha256), part.records()))
    if piece.cut is None:
        yield from origins
        return
    # A percentage needs the number of rows: they are read before they are cut.
    parts = [(origin, list(items)) for origin, items in origins]
    start, stop = piece.cut.bounds(sum(len(items) for _, items in parts))
    for origin, items in parts:
        yield origin, iter(items[max(0, start) : max(0, stop)])
        start, stop = start - len(items), stop - len(items)


def _take(origin: _Origin, items: Iterator[Record | Bad], found: _Found) -> None:
    """Add the records of one file to what was found."""
    rows, rejected = len(found.rows), len(found.rejected)
    layout: Layout | None = None
    sample: list[Record | Bad] = []
    good = 0
    for item in items:
        sample.append(item)
        good += isinstance(item, Record)
        if good == SAMPLE:
            break
    if good:
        values = [item.value for item in sample if isinstance(item, Record)]
        layout = detect(values, found.format, found.declared, origin.name)
        _check_form(layout, origin, found)
    known: set[str] = set()
    for number, item in enumerate(itertools.chain(sample, items), 1):
        if isinstance(item, Record) and layout is not None:
            if item.value.keys() - known:
                known |= item.value.keys()
                found.columns |= dict.fromkeys(item.value)
            _add(origin, item, layout, found)
        elif isinstance(item, Bad):
            found.rejected.append(Rejected(origin.name, item.line, item.reason, item.detail, storable(item.raw)))
        found.records += 1
        if number % _STEP == 0:
            found.advance(_STEP)
    count = len(found.rows) - rows
    refused = len(found.rejected) - rejected
    found.advance((count + refused) % _STEP)
    found.files.append(FileCount(origin.name, count, refused, origin.size, origin.sha256))


def _check_form(layout: Layout, origin: _Origin, found: _Found) -> None:
    for name, other in found.layouts.items():
        if other.form != layout.form:
            raise UserError(
                f"The files do not go together: {name} is {other.name}, {origin.name} is {layout.name}.",
                "data.source",
                "Give files of one layout, or set data.format and data.fields.",
            )
    found.layouts[origin.name] = layout


def _add(origin: _Origin, record: Record, layout: Layout, found: _Found) -> None:
    try:
        content = content_of(record.value, layout, found.system)
        row_id, group = _name(record.value, "id", layout), _name(record.value, "group", layout)
        row_id = row_id or f"{origin.stem}:{record.line}"
        if group is None and layout.form == "title":
            group = content["label"]  # titles of one family stay together unless the rows say otherwise
        if row_id in found.ids:
            place = found.rows[found.ids[row_id]].place
            raise Unfit("duplicate-id", f"The id {row_id!r} is taken by the row at {place}.")
    except Unfit as error:
        raw = storable(record.value)
        found.rejected.append(Rejected(origin.name, record.line, error.reason, error.detail, raw))
        return
    labels = {
        name: storable(value)
        for column, value in record.value.items()
        if (name := layout.label_name(column)) is not None
    }
    found.ids[row_id] = len(found.rows)
    found.rows.append(Row(row_id, layout.form, content, origin.name, record.line, labels, group, origin.split))


def _name(value: Mapping[str, Any], name: str, layout: Layout) -> str | None:
    found = value.get(layout.column(name))
    return None if found is None or found == "" else as_text(found, name)


def _concluded(found: _Found) -> Ingested:
    if not found.rows and not found.rejected:
        raise UserError("The source holds no rows.", "data.source", "Check the files and the slice.")
    columns = list(found.columns)
    layout = next(iter(found.layouts.values()), None)
    if layout is not None:
        for name, column in layout.declared.items():
            require_column(name, column, columns, next(iter(found.layouts)))
    if not found.rows or layout is None:
        raise _all_rejected(found.rejected)
    formats = list(dict.fromkeys(each.name for each in found.layouts.values()))
    notes = [
        f"Column {column!r} is read as {name}."
        for name, column in layout.fields.items()
        if column != name and name not in found.declared
    ]
    return Ingested(found.rows, found.rejected, ", ".join(formats), columns, found.files, dict(layout.fields), notes)


def _all_rejected(rejected: list[Rejected]) -> UserError:
    counts = Counter(row.reason for row in rejected)
    firsts = {row.reason: row for row in reversed(rejected)}
    lines = [
        f"{count} {reason}, first at {firsts[reason].file}:{firsts[reason].line}: {firsts[reason].detail}"
        for reason, count in counts.most_common(_EXAMPLES)
    ]
    listed = "\n  ".join(lines)
    return UserError(
        f"Not one row of {len(rejected)} can be used:\n  {listed}", "data.source", "Mend the rows, or set data.fields."
    )
