"""Vectors of a file: a table in, the same table with vectors out as Parquet or JSONL, or the vectors alone as npy."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from luthier.errors import UserError
from luthier.run.atomic import replacing, write_jsonl
from luthier.run.progress import Progress, Silent
from luthier.serve.tables import Table, free, read_table
from luthier.serve.vectors import RunVectors, column_of

if TYPE_CHECKING:
    from luthier.models.vectors import Vectors

FORMATS = (".parquet", ".npy", ".jsonl")
WINDOW = 8192  # texts of one part: what a killed run has to make again at most


@dataclass(frozen=True)
class Embedded:
    """What was done. `answered`: rows with a vector. `resumed`: taken over from an attempt that was killed."""

    output: Path
    rows: int
    answered: int
    failed: int
    resumed: int
    column: str
    dimensions: int
    seconds: float


def embed_file(
    model: RunVectors,
    source: Path,
    output: Path | None = None,
    column: str | None = None,
    *,
    base: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Embedded:
    """Write a vector for every row of a file.

    Parquet and JSONL keep all columns and add `vector` (a list of float32) and `error`, of which one is empty. npy is
    [rows, dimensions], float32; a row without text is NaN there. Equal texts are read once. A killed run goes on.

    Args:
        source: JSONL, JSON, CSV, TSV or Parquet. output: .parquet, .npy or .jsonl (default: beside the source,
            titles.csv → titles.vectors.parquet). column: that holds the texts. base: of the base.

    Raises:
        UserError: the source cannot be read, has no such column or no text, or the output cannot be written.
    """
    started = time.monotonic()
    output = _output(source, output, overwrite)
    table = read_table(source)
    name = column_of(table.columns, column, model.fields, str(source))
    texts, errors = _texts(table, name)
    asked = [text for text in texts if text is not None]
    if not asked:
        raise UserError("No row has a text to make a vector of.", str(source), f"Look at the column {name!r}.")
    distinct = list(dict.fromkeys(asked))
    vectors, resumed = _vectors(model, distinct, base, output, progress or Silent())
    place = {text: at for at, text in enumerate(distinct)}
    rows = [None if text is None else place[text] for text in texts]
    _write(output, table, rows, vectors, errors)
    shutil.rmtree(_parts(output), ignore_errors=True)
    return Embedded(
        output=output,
        rows=len(rows),
        answered=len(asked),
        failed=len(rows) - len(asked),
        resumed=resumed,
        column=name,
        dimensions=vectors.shape[1],
        seconds=time.monotonic() - started,
    )


def _texts(table: Table, column: str) -> tuple[list[str | None], list[str]]:
    """Return the text of each row, or None and why there is none."""
    texts: list[str | None] = []
    errors: list[str] = []
    for row, unreadable in zip(table.rows, table.errors, strict=True):
        value = row.get(column)
        text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
        problem = unreadable or ("" if text.strip() else f"{column!r} is empty or no text.")
        texts.append(None if problem else text)
        errors.append(problem)
    return texts, errors


def _vectors(
    model: RunVectors, texts: Sequence[str], base: bool, output: Path, progress: Progress
) -> tuple[Vectors, int]:
    """Return the vectors of distinct texts, window by window; finished windows are kept beside the output."""
    from luthier.models.vectors import fingerprint, keep, kept

    folder, who = _parts(output), "base" if base else "tuned"
    made: list[Vectors] = []
    resumed = 0
    with model.embedding(base, len(texts)) as embedder:
        for start in range(0, len(texts), WINDOW):
            window = texts[start : start + WINDOW]
            mark = fingerprint([who, model.identity()], window)
            found = kept(folder, str(start), mark)
            if found is None:
                found = embedder.embed(window, progress, f"vectors {start + 1:,} to {start + len(window):,}")
                keep(folder, str(start), mark, found)
            else:
                resumed += len(window)
            made.append(found)
    return np.concatenate(made), resumed


def _write(output: Path, table: Table, rows: Sequence[int | None], vectors: Vectors, errors: Sequence[str]) -> None:
    if output.suffix == ".npy":
        whole = np.full((len(rows), vectors.shape[1]), np.nan, dtype=np.float32)
        filled = [number for number, at in enumerate(rows) if at is not None]
        whole[filled] = vectors[[at for at in rows if at is not None]]
        with replacing(output) as file:
            np.save(file, whole, allow_pickle=False)
        return
    named = ["vector" if "vector" not in table.columns else "model_vector"]
    named.append("error" if "error" not in table.columns else "model_error")
    if output.suffix == ".jsonl":
        write_jsonl(
            output, (_line(table.rows[number], at, vectors, errors[number], named) for number, at in enumerate(rows))
        )
        return
    _write_parquet(output, table, rows, vectors, errors, named)


def _line(row: dict[str, Any], at: int | None, vectors: Vectors, error: str, named: Sequence[str]) -> dict[str, Any]:
    from luthier.data.records import storable

    vector = None if at is None else [round(float(value), 8) for value in vectors[at]]
    return {**{str(name): storable(value) for name, value in row.items()}, named[0]: vector, named[1]: error or None}


def _write_parquet(
    output: Path,
    table: Table,
    rows: Sequence[int | None],
    vectors: Vectors,
    errors: Sequence[str],
    named: Sequence[str],
) -> None:
    import polars

    columns = {name: [row.get(name) for row in table.rows] for name in table.columns}
    frame = polars.DataFrame(
        {name: polars.Series(name, cells, strict=False) for name, cells in columns.items()}, strict=False
    )
    lists = [None if at is None else vectors[at].tolist() for at in rows]
    vector = polars.Series(named[0], lists, dtype=polars.List(polars.Float32))
    error = polars.Series(named[1], [one or None for one in errors], dtype=polars.String)
    with replacing(output) as file:
        frame.with_columns([vector, error]).write_parquet(file)


def _parts(output: Path) -> Path:
    return output.with_name(f"{output.name}.part")


def _output(source: Path, output: Path | None, overwrite: bool) -> Path:
    output = (output or source.with_name(f"{source.name.partition('.')[0]}.vectors.parquet")).absolute()
    if output.suffix not in FORMATS:
        raise UserError(
            f"Vectors are not written as {output.suffix or 'a file without suffix'}.",
            str(output),
            f"Use one of {', '.join(FORMATS)}.",
        )
    return free(source, output, overwrite)
