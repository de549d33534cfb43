"""A first recipe for the user's own data: every key with its description, and proposals from a look at the file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import yaml

from luthier.recipe.keys import Key, all_keys, children
from luthier.recipe.show import inline

_COMMENT_COLUMN = 40


class Inspected(Protocol):
    """What a look at a data file tells; `luthier.data.ingest.inspect` returns it."""

    @property
    def format(self) -> str:
        """Layout of the rows, one of the schema's formats."""

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""

    @property
    def rows(self) -> int:
        """How many rows there are."""

    @property
    def more(self) -> bool:
        """Whether there are further rows that were not looked at."""

    @property
    def lengths_chars(self) -> Mapping[str, int]:
        """Length of a row in characters: p95 and max, p99 where it is known; empty when there are no rows."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Luthier's field names and the columns that were recognised as them."""


def draft(inspected: Inspected, data_path: Path, name: str | None = None, folder: Path | None = None) -> str:
    """Return a commented recipe for data that was looked at.

    Args:
        inspected: what the look told.
        data_path: the data file.
        name: name of the recipe (default: from the name of the file).
        folder: where the recipe will stand; data below it is named relative to it (default: named as given).

    Proposed are the kind and its base, the length (99th percentile in characters / 3.5, room for a template, rounded up
    to a multiple of 32), the column to stratify by and the column whose values stay on one side of the split; all else
    has its default.
    """
    proposed = _proposals(inspected) | {
        "name": _name(name or data_path.stem),
        "data.source": _source(data_path, folder),
        "data.format": inspected.format,
    }
    shown = "".join(letter if letter.isprintable() else "?" for letter in data_path.name)
    rows = f"{'More than ' if inspected.more else ''}{inspected.rows:,} rows"
    lines = [f"# {rows} in {shown}, layout {inspected.format}.", *_section("", proposed, 0)]
    return "\n".join(lines) + "\n"


@cache
def _knowledge() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("proposals.yaml").read_text(encoding="utf-8"))
    return loaded


def _proposals(inspected: Inspected) -> dict[str, Any]:
    known = _knowledge()
    found: dict[str, Any] = {"data.max_length": _length(inspected.lengths_chars)}
    if inspected.format in known["embedding"]["formats"]:
        found |= _embedding(inspected, known["embedding"])
    fields = dict(inspected.fields)
    group = fields.get("group") or _first(known["group"], inspected.columns)
    if group:
        fields["group"] = group
    # What a row says is no property to keep in proportion; what it is about is.
    taken = {column for field, column in fields.items() if field not in known["stratify"]}
    stratify = _first(known["stratify"], [column for column in inspected.columns if column not in taken])
    if stratify and inspected.format not in known["embedding"]:  # families are never cut, so not in proportion either
        found["data.split.stratify"] = stratify
    return found | {"data.fields": fields}


def _embedding(inspected: Inspected, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is proposed for pairs, triplets and titles: see proposals.yaml."""
    found = {"kind": "embedding", "model.base": known["base"], **known["settings"], **known.get(inspected.format, {})}
    share = found.get("data.split.train", all_keys()["data.split.train"].field.default)
    steps = known["steps"]
    if inspected.more:
        found["training.steps"] = steps
    else:
        steps = max(1, round(share * inspected.rows / found["training.batch_size"]))
    found["training.schedule.warmup"] = min(int(steps * known["warmup"]["share"]), known["warmup"]["most"])
    return found


def _first(candidates: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in candidates if name in by_name), None)


def _length(characters: Mapping[str, int]) -> int:
    """Return a length in tokens that all but the longest hundredth of the rows keep within.

    Where that is not told: the longest row, unless it is an outlier beyond twice the 95th percentile.
    """
    rule = _knowledge()["length"]
    if not characters:
        return int(all_keys()["data.max_length"].field.default)
    longest = min(characters["max"], 2 * characters["p95"])
    tokens = characters.get("p99", longest) / rule["characters_per_token"] + rule["template"]
    return int(max(math.ceil(tokens / rule["multiple"]) * rule["multiple"], rule["least"]))


def _name(wanted: str) -> str:
    """Return a name that the schema takes: other characters become dashes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-._")[:64] or "my-model"


def _source(data_path: Path, folder: Path | None) -> str:
    if folder and data_path.absolute().is_relative_to(folder.absolute()):
        return str(data_path.absolute().relative_to(folder.absolute()))
    return str(data_path)


def _section(dotted: str, proposed: dict[str, Any], depth: int) -> list[str]:
    lines = []
    kind = proposed.get("kind", all_keys()["kind"].field.default)
    for name in children(dotted):
        key = all_keys()[f"{dotted}.{name}" if dotted else name]
        if key.kind not in ("", kind):
            continue
        if key.sections and _default(key) is not None:
            inside = _section(key.dotted, proposed, depth + 1)
            about = key.field.description or (key.sections[0].__doc__ or "").partition("\n")[0]
            lines += ["", f"# {about}"] if depth == 0 and inside else []
            comment = "" if depth == 0 else about
            lines += [_line(f"{name}:", comment, depth), *inside] if inside else []
        else:
            value = proposed.get(key.dotted, _default(key))
            shown = "off" if value is None else inline(value)
            lines.append(_line(f"{name}: {shown}", key.field.description or "", depth))
    return lines


def _default(key: Key) -> Any:
    """Return the default of a key; a section that must be given counts as present."""
    if key.field.is_required():
        return {}
    default = key.field.get_default(call_default_factory=True)
    return default.model_dump(mode="json") if hasattr(default, "model_dump") else default


def _line(text: str, comment: str, depth: int) -> str:
    indented = f"{'  ' * depth}{text}"
    return f"{indented:<{_COMMENT_COLUMN}}  # {comment}" if comment else indented
