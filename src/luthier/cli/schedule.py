"""The verb that shows how the learning rate will move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from luthier.cli.console import DEFAULT_RUNS, JsonOption, RecipeArgument, RunsOption, SetOption, load, print_json
from luthier.cli.curve import MARKS, columns, draw
from luthier.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from luthier.engine.schedules import Point, Schedule
    from luthier.recipe.pace import Plateau
    from luthier.recipe.schema import Recipe

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
        notes: in words, what the validation loss does to the rate and to the end of the training, or cannot do.
    """

    name: str
    schedule: Schedule
    source: str
    notes: tuple[str, ...] = ()


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
    own = load(recipe, settings).recipe
    planned = [schedule_of(own, runs)]
    if other is not None:
        planned.append(_other(other, own, planned[0], runs))
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

    The number of steps is that of the recipe, or follows from its epochs and the rows that it trains on, see
    `training_rows`.

    Raises:
        UserError: the schedule cannot be walked in so many steps, or the data cannot be read or trained on.
    """
    from luthier.engine.batches import count_steps
    from luthier.engine.settings import FitSettings

    training = recipe.training
    rows, source = (0, "training.steps") if training.steps else training_rows(recipe, runs)
    steps = count_steps(rows, training.batch_size, training.epochs, training.steps)
    schedule = FitSettings(**training.steering()).schedule_over(steps)
    notes = [_reduced(training.schedule.plateau, steps, training.checkpoint_every)] if training.schedule.plateau else []
    if training.early_stopping is not None:
        never = _never(training.early_stopping.patience, steps, training.checkpoint_every)
        notes += [f"stopped early: {never}"] if never else []
    return Planned(recipe.name, schedule, source, tuple(notes))


def training_rows(recipe: Recipe, runs: Path) -> tuple[int, str]:
    """Return the number of rows that are trained on and, for people, where it was counted.

    They are counted as `luthier plan` counts them: in the latest run that prepared the same data, else by preparing it
    now, without the rows that the kind holds back and, where the tokenizer is at hand, those that `encode` leaves out.

    Raises:
        UserError: the data cannot be read, or there is nothing in it to train on.
    """
    from luthier.cli.plan import prepared
    from luthier.data.rows import read_rows
    from luthier.kinds import kind_named
    from luthier.models.bases import resolve
    from luthier.stages.plan import count_rows

    with prepared(recipe, runs, quiet=True) as folder:
        rows = read_rows(folder.rows("train"))
        # what is prepared aside has no record
        where = f" of run {folder.id}" if folder.record.is_file() else ", counted by preparing the data now"
    if not rows:
        raise UserError("There are no rows to train on.", "1-data/train.jsonl", "See 1-data/rejected.jsonl.")
    base, (kept, _) = resolve(recipe.model.base), kind_named(recipe.kind).rows.trained_on(rows)
    counted = count_rows(recipe, base, kept)
    trained = len(counted.measured)
    many = f"{trained:,} of {len(rows):,}" if trained < len(rows) else f"{trained:,}"
    unseen = f", not yet as tokens: the tokenizer of {base.name} is not on this machine" if counted.estimated else ""
    return trained, f"{many} training rows{where}{unseen}"


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
    for mark, one in zip(_marks(planned), planned, strict=True):
        lines += [f"\n{mark}{note}" for note in one.notes]
    return "\n".join(lines)


def _other(named: str, recipe: Recipe, first: Planned, runs: Path) -> Planned:
    """Return what to compare with: the schedule of that name over the same steps and peak, else a recipe's."""
    from luthier.engine.schedules import SHAPES, Schedule
    from luthier.recipe.pace import READ_BY, Plateau

    if named not in SHAPES:
        _require_recipe(named)
        return schedule_of(load(named, None).recipe, runs)
    own, training = first.schedule, recipe.training
    warmup = own.warmup if named in READ_BY["warmup"] else 0
    plateau = training.schedule.plateau or Plateau()
    notes = (_reduced(plateau, own.steps, training.checkpoint_every),) if named == "plateau" else ()
    return Planned(named, Schedule(own.steps, own.peak, named, warmup), first.source, notes)


def _require_recipe(named: str) -> None:
    """Refuse a word that is neither a recipe nor a schedule; of a path the error says what is wrong with it.

    Raises:
        UserError: there is no such recipe.
    """
    from luthier.engine.schedules import SHAPES
    from luthier.recipe.names import find, shipped

    try:
        find(named)
    except UserError as error:
        if error.place:
            raise
        known = f"Schedules: {', '.join(SHAPES)}. Shipped recipes: {', '.join(shipped())}."
        close = did_you_mean(named, [*SHAPES, *shipped()], "Name a schedule, or a recipe: its file, folder or name.")
        raise UserError(f"There is no schedule and no recipe called '{named}'.", "--vs", f"{close} {known}") from error


def _reduced(plateau: Plateau, steps: int, every: int) -> str:
    reductions = (
        f"times {plateau.factor:g} after {plateau.patience} evaluations without a lower validation loss, "
        f"down to {plateau.floor:g} of the rates shown"
    )
    return f"reduced on a plateau: {_never(plateau.patience, steps, every) or reductions}"


def _never(patience: int, steps: int, every: int) -> str:
    """Return why a patience cannot run out in so many steps, "" when it can: the first evaluation is always a best."""
    from luthier.engine.batches import count_evaluations

    evaluations = count_evaluations(steps, every)
    if evaluations > patience:
        return ""
    most = (steps - 1) // patience
    enough = f"; at most {most} would do" if most else ""
    many = "is 1 evaluation" if evaluations == 1 else f"are {evaluations} evaluations"
    return (
        f"never, its patience is {patience} and there {many} in {steps:,} steps "
        f"(training.checkpoint_every is {every:,}{enough})"
    )


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
