"""The primary metric by topic, difficulty, length and any other field of the rows.

breakdowns.json maps each field to its cells, in their order:

    {field: [{value, n, items, base, tuned, difference, ci95, small, won, lost}]}

`value`: the label as text, or a range such as "85–140" (characters of a length, or a number of the rows). `n`:
independent units (groups of items). `items`: of them. `base`, `tuned`: means over units. `difference`: tuned − base.
`ci95`: interval of the difference, null for one unit. `small`: fewer than 10 units, which say little. `won`, `lost`:
items that got better and worse. Many cells are looked at, and the intervals are not corrected for that: they show where
to look, and decide nothing. Fields: `question_length` and `reference_length` in characters, and every label of the rows
with at least two values that repeat, at most 30; numbers with more than 8 values become ranges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate import resampling
from luthier.evaluate.compare import FEWEST_UNITS
from luthier.evaluate.measured import Measured
from luthier.evaluate.sentences import exponential
from luthier.evaluate.statistics import pair

Line = Mapping[str, Any]
Array = NDArray[np.float64]

PARTS = 3  # of a number: low, middle, high
MOST_VALUES = 30
MOST_NUMBERS = 8
LENGTHS = {"question_length": "question", "reference_length": "reference"}


def breakdowns(
    one: Measured, scores: Sequence[Line], items: Sequence[Line], seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Return breakdowns.json.

    Args:
        one: scores of the primary metric. scores: its lines of scores.jsonl, in the order of `one`.
        items: lines of answers-*.jsonl, which name the question, the reference and the labels of each item.
        seed: of resampling.
    """
    known = {line["id"]: line for line in items}
    lines = [known.get(score["id"], {}) for score in scores]
    found = {}
    for field, values in _fields(lines).items():
        cells: dict[str, list[int]] = {}
        for place, value in enumerate(values):
            if value is not None:
                cells.setdefault(value, []).append(place)
        if len(cells) > 1:
            ordered = sorted(cells, key=_rank)
            found[field] = [_cell(value, one, cells[value], seed) for value in ordered]
    return found


def _fields(lines: Sequence[Line]) -> dict[str, list[str | None]]:
    """Return the value of each field for each item; None where it has none."""
    labels = dict.fromkeys(name for line in lines for name in line.get("labels") or {})
    every = {name: [(line.get("labels") or {}).get(name) for line in lines] for name in labels}
    for name, source in LENGTHS.items():
        every[name] = [len(line[source]) if line.get(source) else None for line in lines]
    named = {name: _as_text(values) for name, values in every.items()}
    return {name: values for name, values in named.items() if values}


def _as_text(values: Sequence[Any]) -> list[str | None]:
    """Return values as cells are named, numbers as ranges; empty where the field does not divide the items."""
    given = [value for value in values if isinstance(value, str | bool | int | float) and value != ""]
    counts = Counter(str(value) for value in given)
    numbers = bool(given) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    if numbers and len(counts) > MOST_NUMBERS:
        return _ranges(values)
    if len(counts) > MOST_VALUES or sum(count > 1 for count in counts.values()) < 2:
        return []
    return [str(value) if isinstance(value, str | bool | int | float) and value != "" else None for value in values]


def _ranges(values: Sequence[Any]) -> list[str | None]:
    """Return ranges of numbers that hold about as many items each."""
    numbers = np.array([np.nan if value is None else float(value) for value in values])
    there = np.isfinite(numbers)
    cuts = np.unique(np.quantile(numbers[there], np.arange(1, PARTS) / PARTS, method="inverted_cdf"))
    part = np.searchsorted(cuts, numbers)
    names = {}
    for place in np.unique(part[there]):
        inside = numbers[there & (part == place)]
        names[int(place)] = f"{inside.min():g}–{inside.max():g}"
    return [names[int(place)] if known else None for place, known in zip(part, there, strict=True)]


def _rank(value: str) -> tuple[float, str]:
    """Return what puts numbers and ranges in their order, and words after them in theirs."""
    try:
        return float(value.partition("–")[0]), value
    except ValueError:
        return float("inf"), value


def _cell(value: str, one: Measured, places: Sequence[int], seed: int) -> dict[str, Any]:
    base, tuned = ([float(scores[place]) for place in places] for scores in (one.base, one.tuned))
    pairs = pair(base, tuned, None if one.groups is None else [one.groups[place] for place in places])
    differences, before, after = pairs.differences, float(pairs.base.mean()), float(pairs.tuned.mean())
    interval = _interval(differences, seed)
    gains = (pairs.tuned_items - pairs.base_items) * (1 if one.higher_is_better else -1)

    def told(change: float) -> float:
        return exponential(before + change) - exponential(before) if one.logarithmic else change

    return {
        "value": value,
        "n": len(differences),
        "items": pairs.items,
        "base": exponential(before) if one.logarithmic else before,
        "tuned": exponential(after) if one.logarithmic else after,
        "difference": told(float(differences.mean())),
        "ci95": None if interval is None else [told(bound) for bound in interval],
        "small": len(differences) < FEWEST_UNITS,
        "won": int((gains > 0).sum()),
        "lost": int((gains < 0).sum()),
    }


def _interval(differences: Array, seed: int) -> tuple[float, float] | None:
    count = len(differences)
    if count < 2:
        return None
    column = differences[:, None]
    sample = resampling.sampled(column, column.mean(axis=0), resampling.resampled_sums(column, seed) / count)
    low, high = resampling.intervals(sample)
    return float(low[0]), float(high[0])
