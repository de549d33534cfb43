"""Recipes by name: a file, a folder that holds recipe.yaml, or a recipe that ships with Luthier."""

from __future__ import annotations

from pathlib import Path

import luthier.recipes
from luthier.errors import UserError, did_you_mean

FILE_NAME = "recipe.yaml"


def shipped_folder() -> Path:
    """Return the folder of the shipped recipes."""
    return Path(luthier.recipes.__path__[0])


def shipped() -> dict[str, Path]:
    """Return the shipped recipes: name → file, by name."""
    return {path.parent.name: path for path in sorted(shipped_folder().glob(f"*/{FILE_NAME}"))}


def find(name_or_path: str | Path) -> tuple[Path, str]:
    """Return the recipe file and how to name it to the user.

    A file or folder that exists comes before a shipped recipe of that name; a folder must hold recipe.yaml.

    Raises:
        UserError: there is no such file, folder or shipped recipe.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path, str(path)
    if (path / FILE_NAME).is_file():
        return path / FILE_NAME, str(path / FILE_NAME)
    known = shipped()
    name = str(name_or_path)
    if name in known:
        return known[name], f"{name}/{FILE_NAME}"
    raise _not_found(path, name, list(known))


def _not_found(path: Path, name: str, known: list[str]) -> UserError:
    shipped_names = f"Shipped recipes: {', '.join(known) or 'none'}."
    if path.is_dir():
        return UserError(f"This folder holds no {FILE_NAME}.", str(path), f"Name the file itself. {shipped_names}")
    if path.suffix in (".yaml", ".yml") or path.name != name:
        siblings = [item.name for item in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        close = did_you_mean(path.name, siblings, "Check the path, or write one with `luthier init`.")
        return UserError("There is no such recipe file.", str(path), close)
    close = did_you_mean(name, known, "Name a file, a folder that holds recipe.yaml, or a shipped recipe.")
    return UserError(f"There is no recipe called '{name}'.", "", f"{close} {shipped_names}")
