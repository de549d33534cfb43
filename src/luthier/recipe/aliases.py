"""The names of other tools: which Luthier key each one is, and what to do about those that have no counterpart.

The table is `aliases.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Alias:
    """One line of the table; see the head of `aliases.yaml`."""

    key: str
    values: dict[str, Any] = field(default_factory=dict)
    words: bool = False
    times: str = ""
    rest: str = ""
    parts: dict[str, Alias] = field(default_factory=dict)


def _alias(line: Any) -> Alias:
    if isinstance(line, str):
        return Alias(line)
    parts = {name: _alias(part) for name, part in line.get("parts", {}).items()}
    return Alias(**(line | {"parts": parts}))


@cache
def _table() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("aliases.yaml").read_text(encoding="utf-8"))
    return loaded


@cache
def aliases() -> dict[str, Alias]:
    """Return the table: other tools' name → alias."""
    return {name: _alias(line) for name, line in _table()["aliases"].items()}


@cache
def advice() -> dict[str, str]:
    """Return the names without a counterpart: name → what to do instead."""
    return dict(_table()["advice"])


def accepted_in(section: str) -> dict[str, str]:
    """Return the aliases that a section takes ("" for the top level): name → Luthier key."""
    prefix = f"{section}." if section else ""
    return {name: alias.key for name, alias in aliases().items() if alias.key.startswith(prefix)}


@cache
def factors() -> frozenset[str]:
    """Return the names whose value multiplies another alias."""
    return frozenset(alias.times for alias in aliases().values() if alias.times)
