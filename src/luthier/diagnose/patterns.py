"""What failing answers have in common: topics, difficulties, lengths in which a category is more frequent."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from luthier.diagnose.base import Line
from luthier.diagnose.taxonomy import categories

ANY = "any"
FEW = 10  # items in a cell below which it is marked as small
LEAST = 2  # failures in a cell without which it is no pattern
CHANCE = 0.05  # cells that are as uneven by chance more often than this, taken singly, are left out
VALUES = 20  # different values up to which a label is a field to break down by
SHOWN = 50


def patterns(lines: Sequence[Line], found: Mapping[str, Sequence[str]], side: str) -> list[dict[str, Any]]:
    """Return the cells in which a category is more frequent than in the rest (p below 0.05), the surest first.

    The lift is the ratio of the two rates, its 95 % interval that of Katz on the logarithm (0.5 added to each cell of
    the table where one is empty); p is Fisher's exact test, two-sided, corrected after Holm over all cells of the side.
    Items that share a group are counted singly.

    Args:
        lines: of answers-*.jsonl that were asked. found: id to the categories of the answer.
        side: whose answers they are.
    """
    from scipy.stats import fisher_exact

    titles = {one.name: one.title for one in categories()} | {ANY: "Any failure"}
    cells = []
    for field, value, ids in _cells(lines):
        for category, title in titles.items():
            bad = {line["id"] for line in lines if _has(found.get(line["id"], ()), category)}
            n, failed = len(ids), len(ids & bad)
            rest_n, rest_failed = len(lines) - n, len(bad - ids)
            if not n or not rest_n:
                continue
            p = float(fisher_exact([[failed, n - failed], [rest_failed, rest_n - rest_failed]]).pvalue)
            cells.append(_cell(side, field, value, (category, title), (n, failed, rest_n, rest_failed), p))
    _correct(cells)
    uneven = [cell for cell in cells if cell["failed"] >= LEAST and cell["rate"] > cell["rest_rate"]]
    kept = [cell for cell in uneven if cell["p"] < CHANCE]
    return sorted(kept, key=lambda cell: (cell["p"], -cell["failed"], cell["field"], cell["value"]))[:SHOWN]


def labels_of(line: Line) -> Mapping[str, Any]:
    """Return the labels of a line of answers-*.jsonl."""
    labels = line.get("labels")
    return labels if isinstance(labels, Mapping) else {}


def _cells(lines: Sequence[Line]) -> Iterator[tuple[str, str, set[Any]]]:
    """Yield (field, value, ids): each value of each label that has few, and thirds of the lengths."""
    by: defaultdict[str, defaultdict[str, set[Any]]] = defaultdict(lambda: defaultdict(set))
    for line in lines:
        for name, value in labels_of(line).items():
            if isinstance(value, str | int | bool) and value != "":
                by[str(name)][str(value)].add(line["id"])
    for field, values in sorted(by.items()):
        if 2 <= len(values) <= VALUES:
            for value, ids in sorted(values.items()):
                yield field, value, ids
    for field, key in (("question length", "question"), ("reference length", "reference")):
        yield from ((field, value, ids) for value, ids in _thirds(lines, key))


def _thirds(lines: Sequence[Line], key: str) -> Iterator[tuple[str, set[Any]]]:
    lengths = sorted(len(str(line.get(key) or "").split()) for line in lines)
    if len(lengths) < 6 or lengths[0] == lengths[-1]:
        return
    low, high = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
    counted = [(line["id"], len(str(line.get(key) or "").split())) for line in lines]
    parts = {
        f"under {low} words": {name for name, count in counted if count < low},
        f"{low} to {high} words": {name for name, count in counted if low <= count <= high},
        f"over {high} words": {name for name, count in counted if count > high},
    }
    yield from ((value, ids) for value, ids in parts.items() if ids)


def _cell(
    side: str, field: str, value: str, category: tuple[str, str], counts: tuple[int, int, int, int], p: float
) -> dict[str, Any]:
    n, failed, rest_n, rest_failed = counts
    lift, interval = _lift(*counts)
    rate, rest = failed / n, rest_failed / rest_n
    sentence = (
        f"{category[1]}: {failed} of {n} answers of {side} where {field} is {value!r} ({rate:.0%}), "
        f"{rest_failed} of {rest_n} elsewhere ({rest:.0%})."
    )
    return {
        "side": side,
        "field": field,
        "value": value,
        "category": category[0],
        "n": n,
        "failed": failed,
        "rate": rate,
        "rest_n": rest_n,
        "rest_failed": rest_failed,
        "rest_rate": rest,
        "lift": lift,
        "ci95": interval,
        "p": p,
        "p_adjusted": 1.0,
        "small": n < FEW,
        "sentence": sentence,
    }


def _lift(n: int, failed: int, rest_n: int, rest_failed: int) -> tuple[float | None, list[float] | None]:
    """Return the ratio of the rates with its interval; None where nothing fails on either side."""
    if not failed and not rest_failed:
        return None, None
    add = 0.5 if not failed or not rest_failed else 0.0
    one, other = (failed + add) / (n + 2 * add), (rest_failed + add) / (rest_n + 2 * add)
    spread = 1 / (failed + add) - 1 / (n + 2 * add) + 1 / (rest_failed + add) - 1 / (rest_n + 2 * add)
    width = 1.959964 * math.sqrt(max(spread, 0.0))
    centre = math.log(one / other)
    return one / other, [math.exp(centre - width), math.exp(centre + width)]


def _correct(cells: list[dict[str, Any]]) -> None:
    """Set p_adjusted: Holm's correction over all cells."""
    highest = 0.0
    for place, cell in enumerate(sorted(cells, key=lambda one: one["p"])):
        highest = max(highest, min(1.0, cell["p"] * (len(cells) - place)))
        cell["p_adjusted"] = highest


def _has(found: Sequence[str], category: str) -> bool:
    return bool(found) if category == ANY else category in found
