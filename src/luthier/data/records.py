"""What a file holds before its layout is known: records, and lines that are none."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import orjson


class Record(NamedTuple):
    """One record: its 1-based line (or position) and its columns."""

    line: int
    value: dict[str, Any]


class Bad(NamedTuple):
    """Something that should have been a record: line, reason and detail as in `Rejected`, and the text found."""

    line: int
    reason: str
    detail: str
    raw: Any


def storable(value: Any) -> Any:
    """Return `value` in a form that JSON can hold: dates and other types as text, odd nesting as its JSON text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    try:
        return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError, RecursionError):
        return _as_text(value)


def readable(text: str) -> str:
    r"""Return text with bytes that are not UTF-8 written as `\xe9`, so that it can be kept."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def what(value: Any) -> str:
    """Return in the reader's words what a JSON value is."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except (TypeError, ValueError, RecursionError):
        return repr(type(value))
