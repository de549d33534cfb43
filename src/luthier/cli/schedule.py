"""The verb that shows how the learning rate will move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.console import DEFAULT_RUNS, JsonOption, RecipeArgument, RunsOption, SetOption, load, print_json
from luthier.cli.curve import MARKS, columns, draw

if TYPE_CHECKING:
    from luthier.engine.schedules import Point, Schedule
    from luthier.recipe.schema import Recipe
    from luthier.run.folder import RunFolder

TABLE_ROWS = 12
LOG_RANGE = 1e-4  # of the highest rate; lower ones are drawn at the bottom
VsOption = Annotated[
    str | None, typer.Option("--vs", metavar="OTHER", help="Compare: another recipe, or the name of a schedule.")
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", metavar="FILE", help="Draw it: a path that ends with .svg, .png or .pdf.")
]
LogOption = Annotated[bool, typer.Option("--log", help="Draw rates by their logarithm: equal ratios, equal heights.")]


@dataclass(frozen=True)
class Planned:
    """The schedule of a recipe.

    Attributes:
        name: for people. schedule: a rate for every step. source: where their number comes from.
        reductions: when the rate is reduced besides, in words; "" when it is not.
    """

    name: str
    schedule: Schedule
    source: str
    reductions: str = ""


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("schedule")(schedule)


def schedule(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    other: VsOption = None,
    as_json: JsonOption = False,
    picture: PictureOption = None,
    log: LogOption = False,
) -> None:
    """Show the learning rate of every optimizer step, and its phases."""
    planned = [schedule_of(load(recipe, settings).recipe, runs)]
    if other is not None:
        planned.append(_other(other, planned[0], runs))
    if picture is not None:
        from luthier.report import rates

        rates.draw([(one.name, one.schedule) for one in planned], picture, log)
    if as_json:
        points = [one.schedule.table() for one in planned]
        print_json(points[0] if other is None else {"recipe": points[0], "vs": points[1]})
    else:
        print(render(planned, log))


def schedule_of(recipe: Recipe, runs: Path = DEFAULT_RUNS) -> Planned:
    """Return the schedule of a recipe.

    The number of steps is that of the recipe, or follows from its epochs and the training rows: those of the latest
    run that prepared the same data, else those that preparing it now gives.

    Raises:
        UserError: the schedule cannot be walked in so many steps, or the data cannot be read.
    """
    from luthier.engine.batches import count_steps
    from luthier.engine.settings import FitSettings

    training = recipe.training
    rows, source = (0, "training.steps") if training.steps else training_rows(recipe, runs)
    steps = count_steps(rows, training.batch_size, training.epochs, training.steps)
    plateau = training.schedule.plateau
    reductions = ""
    if plateau is not None:
        reductions = (
            f"times {plateau.factor:g} after {plateau.patience} evaluations without a lower validation loss, "
            f"down to {plateau.floor:g} of the rates shown"
        )
    return Planned(recipe.name, FitSettings(**training.steering()).schedule_over(steps), source, reductions)


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


def render(planned: Sequence[Planned], log: bool = False) -> str:
    """Return one schedule, or two to compare, as text: the curve, its phases, and a few steps in figures."""
    most = max(one.schedule.steps for one in planned)
    rates = [[point["learning_rate"] for point in one.schedule.table()] for one in planned]
    high = max(map(max, rates))
    low = max(min(map(min, rates)), high * LOG_RANGE) if log else 0.0
    curves = [columns(one, most) for one in rates]
    drawn = draw(curves, low, high, log)
    lines = [f"{mark}{_head(one)}" for mark, one in zip(_marks(planned), planned, strict=True)]
    lines += ["", *drawn, f"  {'step':>8} └1{f'{most:,}':>{max(len(curves[0]) - 1, 0)}}"]
    for mark, one in zip(_marks(planned), planned, strict=True):
        lines += ["", *(f"{mark or '  '}{line}" for line in _phases(one.schedule))]
    steps = _spread(range(1, most + 1), TABLE_ROWS)
    lines += ["", *(_row_of_two(planned) if len(planned) > 1 else _row_of_one(planned[0].schedule.table(), steps))]
    if len(planned) > 1:
        lines += [_compared(step, planned) for step in steps]
    lines += [f"\nreduced on a plateau: {one.reductions}" for one in planned if one.reductions]
    return "\n".join(lines)


def _other(named: str, first: Planned, runs: Path) -> Planned:
    """Return what to compare with: the schedule of that name over the same steps and peak, else a recipe's."""
    from luthier.engine.schedules import SHAPES, Schedule
    from luthier.recipe.pace import READ_BY

    if named in SHAPES:
        own = first.schedule
        warmup = own.warmup if named in READ_BY["warmup"] else 0
        return Planned(named, Schedule(own.steps, own.peak, named, warmup), first.source)
    return schedule_of(load(named, None).recipe, runs)


def _head(planned: Planned) -> str:
    schedule = planned.schedule
    return f"{planned.name}: {schedule.steps:,} steps (from {planned.source}), peak {schedule.peak:.3g}"


def _marks(planned: Sequence[Planned]) -> list[str]:
    return [f"{mark} " for mark in MARKS[: len(planned)]] if len(planned) > 1 else [""]


def _phases(schedule: Schedule) -> list[str]:
    told = []
    for phase in schedule.get_phases():
        first, last = phase["range"]
        steps = f"steps {phase['start']:,} to {phase['end']:,}"
        told.append(f"{phase['name']:<14} {steps:<24} {first:.3g} → {last:.3g}, {phase['strategy']}")
    return told


def _row_of_one(points: Sequence[Point], steps: Sequence[int]) -> list[str]:
    shown = [points[step - 1] for step in steps]
    rows = [f"  {point['step']:<10,}  {point['learning_rate']:.4e}  {point['phase']}" for point in shown]
    return ["  step        learning rate", *rows]


def _row_of_two(planned: Sequence[Planned]) -> list[str]:
    marks = "  ".join(f"{mark:<12}" for mark in MARKS[: len(planned)])
    return [f"  {'step':<10}  {marks}ratio"]


def _compared(step: int, planned: Sequence[Planned]) -> str:
    rates = [one.schedule(step) if step <= one.schedule.steps else None for one in planned]
    cells = "  ".join(f"{'–' if rate is None else f'{rate:.4e}':<12}" for rate in rates)
    first, second = rates
    return f"  {step:<10,}  {cells}{f'{second / first:.3g}' if first and second is not None else '–'}"


def _spread(steps: range, most: int) -> list[int]:
    """Return at most `most` steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(at * (len(steps) - 1) / (most - 1))] for at in range(most)]


def _count(folder: RunFolder) -> int:
    from luthier.run.atomic import read_jsonl

    return sum(1 for _ in read_jsonl(folder.rows("train")))
