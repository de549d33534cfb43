"""Where each resolved value comes from."""

from __future__ import annotations

from typing import Any

from luthier.recipe.keys import all_keys
from luthier.recipe.positions import Entry
from luthier.recipe.schema import Recipe
from luthier.recipe.translate import lookup

DEFAULT = "default"


def values(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved values by dotted key, in the order of the schema.

    A section that is off is one value, None; a mapping such as data.fields is one value for each of its names.
    """
    resolved = recipe.model_dump(mode="json")
    found: dict[str, Any] = {}
    for dotted, key in all_keys().items():
        present, value = _follow(resolved, dotted)
        if not present or (key.sections and value is not None):
            continue
        if isinstance(value, dict) and value:
            found |= {f"{dotted}.{name}": item for name, item in value.items()}
        else:
            found[dotted] = value
    return found


def origins(recipe: Recipe, root: Entry) -> dict[str, str]:
    """Return dotted key → "default", "file.yaml:12" or "--set", with "(alias lora_r)" where one was used."""
    return {dotted: _origin(dotted, root) for dotted in values(recipe)}


def _origin(dotted: str, root: Entry) -> str:
    entry = lookup(root, dotted)
    if entry is None:
        return DEFAULT
    return f"{entry.place.origin} (alias {entry.alias})" if entry.alias else entry.place.origin


def _follow(resolved: Any, dotted: str) -> tuple[bool, Any]:
    for name in dotted.split("."):
        if not isinstance(resolved, dict) or name not in resolved:
            return False, None
        resolved = resolved[name]
    return True, resolved
