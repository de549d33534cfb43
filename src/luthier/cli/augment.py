"""The verb that shows what augmentation would make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.cli.console import JsonOption, QuietOption, RecipeArgument, SetOption, load, print_json
from luthier.errors import UserError

if TYPE_CHECKING:
    from luthier.data.augment import Augmented

EXAMPLES = 3  # of each category
SUFFIXES = (".csv", ".jsonl")


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    app.command("augment")(augment)


def augment(
    recipe: RecipeArgument,
    settings: SetOption = None,
    to: Annotated[Path | None, typer.Option("--to", help="Write the variations to this .csv or .jsonl file.")] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the training rows that a recipe would make by augmentation, without a run."""
    from luthier.data.augment.listing import COLUMNS, listed
    from luthier.run.progress import choose
    from luthier.stages.prepare import method_of, variations

    if to is not None and to.suffix not in SUFFIXES:
        raise UserError("The suffix says no format.", str(to), f"Name a file that ends in {' or '.join(SUFFIXES)}.")
    resolved = load(recipe, settings).recipe
    train, made = variations(resolved, choose(quiet))
    lines = [dict(zip(COLUMNS, line, strict=True)) for line in listed(train, made, method_of(resolved))]
    if to is not None:
        _write(to, lines)
    if as_json:
        told = {"rows": len(made.rows), "refused": made.refused, "categories": made.diversity}
        print_json({**told, "warnings": made.warnings, "variations": lines})
    else:
        print(render(made, lines))


def render(made: Augmented, lines: list[dict[str, str]]) -> str:
    """Return what was made as text: counts and examples by category, what was refused, warnings."""
    told = [f"{len(made.rows):,} variations"]
    for category, figures in made.diversity.items():
        told.append(f"  {category:<12}{figures['variations']:>8,.0f}   distinct words {figures['distinct_1']:.2f}")
        examples = [line for line in lines if line["category"] == category][:EXAMPLES]
        told += [f"    {line['title']}  ->  {line['variation']}" for line in examples]
    refused = ", ".join(f"{reason} {count:,}" for reason, count in made.refused.items())
    return "\n".join([*told, f"refused: {refused or 'none'}", *made.warnings])


def _write(to: Path, lines: list[dict[str, Any]]) -> None:
    from luthier.data.augment.listing import COLUMNS
    from luthier.run.atomic import write_jsonl
    from luthier.run.delimited import write_csv

    if to.suffix == ".csv":
        write_csv(to, COLUMNS, ([line[name] for name in COLUMNS] for line in lines))
    else:
        write_jsonl(to, lines)
