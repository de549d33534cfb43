"""Load a recipe: layers, aliases, validation with all errors at once, and its way back to YAML."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from luthier.errors import UserErrors
from luthier.recipe.explain import explain
from luthier.recipe.fit import OFF_WORDS, ON_WORDS, fit
from luthier.recipe.layers import Reading, command_line, merge, read_file
from luthier.recipe.names import find
from luthier.recipe.origins import origins
from luthier.recipe.positions import resolve
from luthier.recipe.schema import Recipe
from luthier.recipe.translate import make_room


@dataclass(frozen=True)
class Loaded:
    """A recipe with where each of its values comes from.

    Attributes:
        recipe: the resolved recipe; its paths are absolute.
        origins: dotted key → "default", "file.yaml:12" (path from the recipe's folder) or "--set"; followed by
            "(alias lora_r)" where another tool's name was used.
        path: the recipe file, absolute.
        notes: one line for each alias used: "lora_r is adapter.r here".
    """

    recipe: Recipe
    origins: dict[str, str]
    path: Path | None = None
    notes: list[str] = field(default_factory=list)


def load_recipe(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Load a recipe, validated as a whole.

    Args:
        name_or_path: a YAML file, a folder that holds recipe.yaml, or the name of a shipped recipe.
        overrides: dotted key → value, such as {"training.epochs": 1}; they win over the files. `layers.parse_set` makes
            them from the arguments of `--set`.

    Relative paths start from the folder of the file that states them, those of `overrides` from the working directory.

    Raises:
        UserError: there is no such recipe.
        UserErrors: everything that is wrong with it, by file and line.
    """
    path, shown = find(name_or_path)
    reading = Reading()
    root = read_file(path, shown, reading)
    if overrides:
        root = merge(root, command_line(overrides, reading))
    make_room(root)
    values = fit(root, reading.problems)
    recipe = None
    # Of a recipe that could not be read at all there is nothing more to say.
    if values or not reading.problems.incomplete:
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            explain(error, root, reading.problems)
    errors = reading.problems.in_order()
    if errors or recipe is None:
        raise UserErrors(errors)
    return Loaded(recipe, origins(recipe, root), path.absolute(), list(dict.fromkeys(reading.notes)))


def dump(loaded: Loaded) -> str:
    """Return the resolved recipe as YAML, every key with its value; it loads again to the same recipe."""
    return as_yaml(loaded.recipe.model_dump(mode="json"))


def digest(recipe: Recipe) -> str:
    """Return the sha256 of the resolved values, in hexadecimal; where and how they were stated does not count."""
    text = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def as_yaml(value: Any, *, flow: bool = False) -> str:
    """Return a value as YAML that the recipe reader, and YAML 1.1 readers, read as the same value.

    Args:
        value: mappings, lists and scalars.
        flow: write it on one line, as `{key: [a, b]}`.
    """
    width = sys.maxsize if flow else 120
    return str(
        yaml.dump(
            value,
            Dumper=_Dumper,
            sort_keys=False,
            allow_unicode=True,
            width=width,
            default_flow_style=flow,
        )
    )


class _Dumper(yaml.SafeDumper):
    """Quotes the words that a recipe would not read as text."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    words = (*OFF_WORDS, *ON_WORDS)
    bare = isinstance(resolve(text), str) and text.lower() not in words
    style = None if bare else "'"
    # Line breaks, of which Unicode has five, survive only as escapes.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style if text.isprintable() else '"')


_Dumper.add_representer(str, _text)
