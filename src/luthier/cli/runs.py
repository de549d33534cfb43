"""Verbs that walk a recipe along the stages, and the list of runs."""

from __future__ import annotations

from collections.abc import Callable
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


STAGE_VERBS = {
    "run": "Walk a recipe along all stages. Unchanged stages are skipped; a killed run goes on where it stopped.",
    "prepare": "Read, clean, split and augment the data, and measure overlap between the splits.",
    "train": "Train an adapter and prove it; the stages before run first where they are missing or changed.",
    "evaluate": "Answer the test split with base and tuned, score both, and compare them.",
    "diagnose": "Sort the failures of base and tuned by category, with the evidence, and say what they have in common.",
    "export": "Merge adapter and base, prove the merged model, and write the model card.",
}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    for name, told in STAGE_VERBS.items():
        app.command(name, help=told)(_stage_verb(None if name == "run" else name))
    app.command("runs")(runs_)


def _stage_verb(until: str | None) -> Callable[..., None]:
    """Return a verb that walks a recipe up to a stage; all of them take the same options."""

    def verb(
        recipe: RecipeArgument,
        settings: SetOption = None,
        runs: RunsOption = DEFAULT_RUNS,
        new: NewOption = False,
        quiet: QuietOption = False,
        as_json: JsonOption = False,
    ) -> None:
        walk_to(recipe, settings, runs, until, new, quiet, as_json)

    return verb


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


def walk_to(
    recipe: str, settings: list[str] | None, runs: Path, until: str | None, new: bool, quiet: bool, as_json: bool
) -> None:
    """Walk a recipe along the stages up to `until`, or all of them, and print what the run has come to."""
    from luthier.pipeline import walk
    from luthier.report.overview import summary
    from luthier.run import ranks
    from luthier.run.progress import choose

    walked = walk(load(recipe, settings), runs, until=until, new=new, progress=choose(quiet))
    if not ranks.leads():
        return
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
