"""The verb that tells what a training will cost, and shows what it trains, before anything is spent."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.console import (
    DEFAULT_RUNS,
    JsonOption,
    QuietOption,
    RecipeArgument,
    RunsOption,
    SetOption,
    load,
    print_json,
)

if TYPE_CHECKING:
    from luthier.recipe.schema import Recipe
    from luthier.run.folder import RunFolder

PriceOption = Annotated[
    float | None, typer.Option("--price", min=0.0, metavar="DOLLARS", help="Price of an hour of this machine.")
]
CalibrateOption = Annotated[
    bool | None,
    typer.Option(
        "--calibrate/--no-calibrate",
        show_default=False,
        help="Measure this machine first, for about 20 seconds, again where that was done before. By default once, "
        "where training takes over 2 minutes.",
    ),
]
HIGHLIGHT, PLAIN = "\033[30;42m", "\033[0m"
SHOWN_CHARACTERS, SHOWN_START, SHOWN_END = 400, 280, 80  # the end holds the token that ends the turn


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("plan")(plan)


def plan(
    recipe: RecipeArgument,
    settings: SetOption = None,
    runs: RunsOption = DEFAULT_RUNS,
    price: PriceOption = None,
    calibrate: CalibrateOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell parameters, targets, memory, steps, tokens, time and price of a training, and which tokens it trains."""
    told = plan_of(load(recipe, settings).recipe, runs, quiet, calibrate, price)
    if as_json:
        print_json(told)
    else:
        print(render(told, colours=sys.stdout.isatty() and "NO_COLOR" not in os.environ))


def plan_of(
    recipe: Recipe,
    runs: Path = DEFAULT_RUNS,
    quiet: bool = True,
    calibrate: bool | None = None,
    price: float | None = None,
) -> dict[str, Any]:
    """Return the plan of a recipe as `plan --json` prints it. Leaves no run behind.

    Args:
        calibrate, price: see `stages.plan.make_plan`.

    Raises:
        UserError: the recipe, its data or its base do not allow a training. GateError: a proof did not hold.
    """
    from luthier.data.rows import read_rows
    from luthier.run.progress import choose
    from luthier.stages.plan import make_plan

    with prepared(recipe, runs, quiet) as folder:
        train, validation = read_rows(folder.rows("train")), read_rows(folder.rows("validation"))
    return make_plan(recipe, train, validation, calibrate=calibrate, price=price, say=choose(quiet).say)


def render(told: dict[str, Any], colours: bool = False) -> str:
    """Return a plan as text. Trained tokens stand on green, without colours between ⟦ and ⟧."""
    base, parameters, tokens, mask = told["base"], told["parameters"], told["tokens"], told["mask"]
    about = ", estimated from characters" if tokens["estimated"] else ""
    memory = told["memory_gib"]
    lines = [
        f"base        {base['name']} ({base['architecture']}), {base['dtype']} on {base['device']}",
        f"parameters  {parameters['trainable']:,} of {parameters['total']:,} trained ({parameters['percent']:.4f} %)",
        *_targets(told["targets"]),
        f"memory      {memory['total']:.2f} GiB = "
        + " + ".join(f"{name} {value:.2f}" for name, value in memory.items() if name != "total"),
        f"steps       {told['steps']:,}; the largest micro-batch has {_micro_batch(told['micro_batch'])}",
        f"tokens      {tokens['rows']:,} rows; median {tokens['median']:,}, p95 {tokens['p95']:,}, "
        f"max {tokens['max']:,}{about}; longer than {tokens['max_length']:,}: {tokens['truncated']:,} truncated, "
        f"{tokens['dropped']:,} left out",
        f"time        about {_duration(told['seconds']['estimate'])} ({told['seconds']['basis']})",
        *_cost(told["cost"]),
        *(f"note        {note}" for note in told["notes"]),
        *(f"advice      {_advised(advice)}" for advice in told["advice"]),
    ]
    if not mask["available"]:
        return "\n".join([*lines, f"mask        not shown: {mask['why']}"])
    share = mask["trained_tokens"] / max(mask["total_tokens"], 1)
    way = "on green" if colours else "between ⟦ and ⟧"
    lines.append(
        f"mask        proven for {mask['rows']:,} rows: {mask['trained_tokens']:,} of {mask['total_tokens']:,} tokens "
        f"({share:.0%}) are trained; below they stand {way}"
    )
    for row in mask["shown"]:
        lines += ["", f"  {row['place']}", _indented(_marked(row["pieces"], colours))]
    return "\n".join(lines)


@contextmanager
def prepared(recipe: Recipe, runs: Path, quiet: bool) -> Iterator[RunFolder]:
    """Lend the rows of a run that prepared the same data and settings, else prepare them aside."""
    from luthier.pipeline import fingerprint, stage_named
    from luthier.run.folder import RunFolder, list_runs
    from luthier.run.manifest import read_manifest
    from luthier.run.progress import choose
    from luthier.stages.prepare import prepare

    stage = stage_named("prepare")
    for run in list_runs(runs, recipe.name):
        manifest = read_manifest(run.data)
        if manifest is not None and not fingerprint(stage, recipe, run).differences(manifest):
            yield run
            return
    with tempfile.TemporaryDirectory() as aside:
        folder = RunFolder(Path(aside))
        prepare(recipe, folder, choose(quiet))
        yield folder


def _micro_batch(told: dict[str, int | None]) -> str:
    sizes = ((told["examples"], "example"), (told["tokens"], "token"))
    return ", ".join(f"{size:,} {unit}{'' if size == 1 else 's'}" for size, unit in sizes if size is not None)


def _cost(cost: dict[str, float] | None) -> list[str]:
    if cost is None:
        return []
    return [f"cost        about ${cost['dollars']:,.2f}, at ${cost['dollars_per_hour']:,.2f} an hour"]


def _advised(advice: dict[str, Any]) -> str:
    needs = "" if advice["memory_gib"] is None else f" needs about {advice['memory_gib']:.1f} GiB"
    return f"{advice['key']}: {advice['value']}{needs}; {advice['why']}"


def _targets(targets: list[dict[str, Any]]) -> list[str]:
    lines = []
    for number, target in enumerate(targets):
        types = ", ".join(f"{count} {name}" for name, count in target["modules"].items())
        where = ", ".join(target["paths"]) or f"would match: {', '.join(target['would_match'])}"
        lines.append(f"{'targets' if not number else '':<12}{target['name']:<16} {types or 'nothing':<18} {where}")
    return lines


def _marked(pieces: list[Any], colours: bool) -> str:
    """Return the pieces of a row, the trained ones marked, the middle of a long piece left out."""
    opening, closing = (HIGHLIGHT, PLAIN) if colours else ("⟦", "⟧")
    marked = ""
    for text, trained in pieces:
        shown = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_START]} […] {text[-SHOWN_END:]}"
        marked += f"{opening}{shown}{closing}" if trained else shown
    return marked


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
