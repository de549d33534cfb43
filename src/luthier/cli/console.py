"""What the verbs share: their common options, and how results and errors are printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from luthier.errors import UserError, UserErrors

if TYPE_CHECKING:
    from luthier.recipe.load import Loaded

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, a folder with recipe.yaml, or a shipped name.")]
RunArgument = Annotated[str, typer.Argument(help="A run: path, NAME/latest, NAME/ID, or ID.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set training.epochs=1")
]
RunsOption = Annotated[
    Path, typer.Option("--runs", envvar="LUTHIER_RUNS", metavar="FOLDER", help="The folder that holds all runs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]
NewOption = Annotated[bool, typer.Option("--new", help="Start a new run and make every stage anew.")]
DEFAULT_RUNS = Path("runs")


def print_json(value: Any) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_error(error: UserError, as_json: bool) -> None:
    """Print an error that the user can mend on standard error; for scripts also as JSON on standard output."""
    if as_json:
        errors = error.errors if isinstance(error, UserErrors) else (error,)
        told = [{"problem": one.problem, "place": one.place, "remedy": one.remedy} for one in errors]
        print_json({"errors": told, "exit_status": error.exit_status})
    print(f"luthier: {error}", file=sys.stderr)


def load(recipe: str, settings: list[str] | None) -> Loaded:
    """Load a recipe with the overrides of the command line; tell which names of other tools were understood."""
    from luthier.recipe.layers import parse_set
    from luthier.recipe.load import load_recipe
    from luthier.run import ranks

    loaded = load_recipe(recipe, parse_set(settings or []))
    for note in loaded.notes if ranks.leads() else ():
        print(f"note: {note}", file=sys.stderr)
    return loaded
