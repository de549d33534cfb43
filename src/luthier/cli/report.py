"""The verb that writes what people read of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.console import (
    DEFAULT_RUNS,
    JsonOption,
    NewOption,
    QuietOption,
    RunsOption,
    SetOption,
    print_json,
)
from luthier.cli.runs import walk_to

WhatArgument = Annotated[
    str, typer.Argument(help="A recipe, as for run; with --format a run: path, NAME/latest or ID.")
]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format", "-f", metavar="FORMAT", help="Write a finished run anew: html, pdf, latex, slides, infographic."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("report")(report)


def report(
    what: WhatArgument,
    formats: FormatOption = None,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    new: NewOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the report; the stages before run first where they are missing or changed.

    With --format, write these formats of a run that there is, and run nothing.
    """
    if not formats:
        walk_to(what, settings, runs, "report", new, quiet, as_json)
        return
    paths = _write(what, runs, formats)
    if as_json:
        print_json({"files": [str(path) for path in paths]})
    else:
        print("\n".join(str(path) for path in paths))


def _write(named: str, runs: Path, formats: Sequence[str]) -> list[Path]:
    from luthier.errors import UserError, did_you_mean
    from luthier.report.build import build
    from luthier.report.write import WRITERS, write_report
    from luthier.run.folder import find_run
    from luthier.run.lock import exclusive
    from luthier.run.record import read_record

    for name in formats:
        if name not in WRITERS:
            known = f"The formats are {', '.join(WRITERS)}."
            raise UserError(f"No report format {name!r}.", "--format", did_you_mean(name, WRITERS, known))
    folder = find_run(named, runs.absolute())
    with exclusive(folder.lock):
        return write_report(folder, build(folder, read_record(folder)["name"]), formats)
