"""Comma-separated files that a spreadsheet may open safely."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from luthier.run.atomic import replacing

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # OWASP, "CSV Injection"


def guarded(text: str) -> str:
    """Return a text with a single quote before it if a spreadsheet would run it as a formula, as OWASP advises."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def write_csv(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Write a table (RFC 4180), whole or not at all; every cell is guarded.

    Raises:
        UserError: the file cannot be written.
    """
    with replacing(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([guarded(cell) for cell in line] for line in lines)
        text.detach()  # flushes; the file itself is flushed and closed by its owner
