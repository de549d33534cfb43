"""The resolved recipe for the reader: each value with its origin."""

from __future__ import annotations

from typing import Any

from luthier.recipe.load import Loaded, as_yaml, digest
from luthier.recipe.origins import values

WIDEST = 60


def rows(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """Return (dotted key, value, origin) for every value, in the order of the schema."""
    return [(key, value, loaded.origins[key]) for key, value in values(loaded.recipe).items()]


def render(loaded: Loaded) -> str:
    """Return a text table: key, value (at most 60 characters), origin; below it the aliases that were used."""
    table = [("key", "value", "origin"), *((key, _short(value), origin) for key, value, origin in rows(loaded))]
    widths = [max(len(row[column]) for row in table) for column in (0, 1)]
    lines = [f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}" for key, value, origin in table]
    return "\n".join([*lines, *(["", *loaded.notes] if loaded.notes else [])])


def as_json(loaded: Loaded) -> dict[str, Any]:
    """Return what `luthier recipe show --json` prints: path, digest, values with their origins, notes."""
    return {
        "path": str(loaded.path) if loaded.path else None,
        "digest": digest(loaded.recipe),
        "values": [{"key": key, "value": value, "origin": origin} for key, value, origin in rows(loaded)],
        "notes": loaded.notes,
    }


def _short(value: Any) -> str:
    if value is None:
        return "off"
    text = value if isinstance(value, str) else inline(value)
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def inline(value: Any) -> str:
    """Return a value as YAML on one line."""
    wrapped = as_yaml([value], flow=True)
    return wrapped.strip()[1:-1]
