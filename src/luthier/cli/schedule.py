"""The verb that shows how the learning rate will move."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from luthier.cli.console import DEFAULT_RUNS, JsonOption, RecipeArgument, RunsOption, SetOption, load, print_json

if TYPE_CHECKING:
    from luthier.engine.schedules import Point
    from luthier.recipe.schema import Recipe
    from luthier.run.folder import RunFolder

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 60
TABLE_ROWS = 12


@dataclass(frozen=True)
class Schedule:
    """Every step of a recipe's training, and where their number comes from."""

    points: list[Point]
    source: str


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("schedule")(schedule)


def schedule(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    as_json: JsonOption = False,
) -> None:
    """Show the learning rate of every optimizer step."""
    planned = schedule_of(load(recipe, settings).recipe, runs)
    if as_json:
        print_json(planned.points)
    else:
        print(render(planned))


def schedule_of(recipe: Recipe, runs: Path = DEFAULT_RUNS) -> Schedule:
    """Return the schedule of a recipe.

    The number of steps is that of the recipe, or follows from its epochs and the training rows: those of the latest
    run that prepared the same data, else those that preparing it now gives.

    Raises:
        UserError: the warm-up is not shorter than the training, or the data cannot be read.
    """
    from luthier.engine import schedules
    from luthier.engine.batches import count_steps

    training = recipe.training
    rows, source = (0, "training.steps") if training.steps else training_rows(recipe, runs)
    steps = count_steps(rows, training.batch_size, training.epochs, training.steps)
    shape = training.schedule
    return Schedule(schedules.table(steps, shape.name, training.learning_rate, shape.warmup), source)


def training_rows(recipe: Recipe, runs: Path) -> tuple[int, str]:
    """Return the number of training rows and, for people, where it was counted."""
    import tempfile

    from luthier.run.folder import RunFolder, list_runs
    from luthier.run.manifest import digest_value, read_manifest
    from luthier.run.progress import Silent
    from luthier.stages.prepare import prepare

    values = recipe.model_dump(mode="json")
    for run in list_runs(runs, recipe.name):
        prepared = (read_manifest(run.data) or {}).get("settings", {})
        if all(prepared.get(key) == digest_value(values[key]) for key in ("data", "seed")):
            return _count(run), f"{_count(run):,} training rows of run {run.id}"
    with tempfile.TemporaryDirectory() as aside:
        folder = RunFolder(Path(aside))
        prepare(recipe, folder, Silent())
        return _count(folder), f"{_count(folder):,} training rows, counted by preparing the data now"


def render(planned: Schedule) -> str:
    """Return the schedule as text: a line of bars over all steps, its phases, and a few steps in figures."""
    points = planned.points
    peak = max(point["learning_rate"] for point in points)
    columns = _spread(points, WIDTH)
    bars = "".join(BARS[round(point["learning_rate"] / peak * (len(BARS) - 1))] for point in columns)
    lines = [f"{len(points):,} steps (from {planned.source}), peak {peak:.3g}", "", f"  {bars}", ""]
    lines += [f"  {name:<10} steps {first:,} to {last:,}" for name, first, last in _phases(points)]
    lines += ["", "  step        learning rate"]
    shown = _spread(points, TABLE_ROWS)
    lines += [f"  {point['step']:<10,}  {point['learning_rate']:.4e}  {point['phase']}" for point in shown]
    return "\n".join(lines)


def _spread(points: list[Point], most: int) -> list[Point]:
    """Return at most `most` points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(at * (len(points) - 1) / (most - 1))] for at in range(most)]


def _phases(points: list[Point]) -> list[tuple[str, int, int]]:
    phases: list[tuple[str, int, int]] = []
    for point in points:
        if phases and phases[-1][0] == point["phase"]:
            phases[-1] = (point["phase"], phases[-1][1], point["step"])
        else:
            phases.append((point["phase"], point["step"], point["step"]))
    return phases


def _count(folder: RunFolder) -> int:
    from luthier.run.atomic import read_jsonl

    return sum(1 for _ in read_jsonl(folder.rows("train")))
