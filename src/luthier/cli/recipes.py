"""Verbs about recipes: init, recipe show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from luthier.cli.console import JsonOption, RecipeArgument, SetOption, load, print_json
from luthier.errors import UserError

recipe_app = typer.Typer(no_args_is_help=True, help="Look at recipes.")


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    app.command()(init)
    app.add_typer(recipe_app, name="recipe")
    recipe_app.command("show")(show)
    recipe_app.command("list")(list_shipped)


def init(
    data: Annotated[Path, typer.Argument(help="Your data file: JSONL, JSON, CSV, TSV or Parquet.")],
    to: Annotated[Path, typer.Option("--to", help="Where to write the recipe.")] = Path("recipe.yaml"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the recipe (default: the file's name).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at a data file and write a commented recipe for it."""
    from luthier.data.ingest import inspect
    from luthier.recipe.init import draft
    from luthier.run.atomic import write_text

    if to.exists() and not force:
        raise UserError("There is a recipe already.", str(to), "Choose another place with --to, or add --force.")
    text = draft(inspect(data), data, name, to.absolute().parent)
    write_text(to.absolute(), text)
    if as_json:
        print_json({"recipe": str(to), "text": text})
        return
    print(text, end="")
    print(f"\nWritten to {to}. Next: luthier prepare {to}")


def show(recipe: RecipeArgument, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """Print each resolved value of a recipe with its origin."""
    from luthier.recipe.show import as_json as to_json
    from luthier.recipe.show import render

    loaded = load(recipe, settings)
    if as_json:
        print_json(to_json(loaded))
    else:
        print(render(loaded))


def list_shipped(as_json: JsonOption = False) -> None:
    """List the recipes that ship with Luthier."""
    from luthier.recipe.names import shipped

    found = shipped()
    if as_json:
        print_json([{"name": name, "path": str(path)} for name, path in found.items()])
        return
    for name, path in found.items():
        print(f"{name:<16} {path}")
