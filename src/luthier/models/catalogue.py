"""The catalogue: known base models with their configurations, so that a plan needs no download.

The table is `catalogue.json`; a test holds each parameter count against the published one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("catalogue.json")


@dataclass(frozen=True)
class Entry:
    """One known base model.

    Attributes:
        name: how recipes name it, in any case. hub_id: where it lives on the Hugging Face Hub.
        kind: "causal-lm" or "embedding". licence: its identifier on the Hub.
        context: tokens at most, as its makers state. parameters: as published.
        config: the values of its transformers configuration, with `model_type`.
        notes: what one should know before choosing it. May be empty.
    """

    name: str
    hub_id: str
    kind: str
    licence: str
    context: int
    parameters: int
    config: dict[str, Any]
    notes: str


@cache
def entries() -> tuple[Entry, ...]:
    """Return the whole catalogue in the order of the table."""
    return tuple(Entry(**line) for line in json.loads(TABLE.read_text(encoding="utf-8")))


def entry(name: str) -> Entry | None:
    """Return the entry of that name or Hub id, in any case; None when there is none."""
    wanted = name.strip().lower()
    return next((one for one in entries() if wanted in (one.name.lower(), one.hub_id.lower())), None)
