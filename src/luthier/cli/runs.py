"""Verbs that walk a recipe along the stages, and the list of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.console import (
    DEFAULT_RUNS,
    JsonOption,
    NewOption,
    QuietOption,
    RecipeArgument,
    RunsOption,
    SetOption,
    load,
    print_json,
)

if TYPE_CHECKING:
    from luthier.pipeline import Walk


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command("run")(run)
    app.command("prepare")(prepare)
    app.command("train")(train)
    app.command("evaluate")(evaluate)
    app.command("report")(report)
    app.command("runs")(runs_)


def run(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    new: NewOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Walk a recipe along all stages. Unchanged stages are skipped; a killed run goes on where it stopped."""
    _walk(recipe, settings, runs, None, new, quiet, as_json)


def prepare(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    new: NewOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read, clean, split and augment the data, and measure overlap between the splits."""
    _walk(recipe, settings, runs, "prepare", new, quiet, as_json)


def train(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    new: NewOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train an adapter and prove it; prepares the data first where that is missing or changed."""
    _walk(recipe, settings, runs, "train", new, quiet, as_json)


def evaluate(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    new: NewOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answer the test split with base and tuned, score both, and compare them."""
    _walk(recipe, settings, runs, "evaluate", new, quiet, as_json)


def report(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    new: NewOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the report page; runs what it reads first where that is missing or changed."""
    _walk(recipe, settings, runs, "report", new, quiet, as_json)


def runs_(
    name: Annotated[str | None, typer.Argument(help="Only runs of this recipe.")] = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first, with status, verdict and primary metric."""
    from luthier.report.overview import overview, render_overview

    rows = overview(runs, name)
    if as_json:
        print_json(rows)
    else:
        print(render_overview(rows, runs))


def _walk(
    recipe: str, settings: list[str] | None, runs: Path, until: str | None, new: bool, quiet: bool, as_json: bool
) -> None:
    from luthier.pipeline import walk
    from luthier.report.overview import summary
    from luthier.run.progress import choose

    walked = walk(load(recipe, settings), runs, until=until, new=new, progress=choose(quiet))
    if as_json:
        print_json(_as_json(walked))
    else:
        print(summary(walked.folder))


def _as_json(walked: Walk) -> dict[str, Any]:
    from luthier.run.record import read_record

    stages = [
        {"name": outcome.stage, "outcome": outcome.status, "seconds": round(outcome.seconds, 3), "why": outcome.why}
        for outcome in walked.outcomes
    ]
    record = read_record(walked.folder)
    return {"run": str(walked.folder.path), "status": record["status"], "stages": stages}
