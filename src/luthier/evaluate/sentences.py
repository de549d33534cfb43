"""One plain sentence for each verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.evaluate.measured import Measured

IMPROVED, WORSE, NO_EVIDENCE, TOO_FEW = "improved", "worse", "no evidence", "too few examples"


def sentence(entry: Mapping[str, Any], one: Measured) -> str:
    """Say in one sentence what an entry shows; its numbers are still logarithms where the metric is one."""
    count = plural(entry["items"], "item")
    if entry["n"] != entry["items"]:
        count = f"{plural(entry['n'], 'group')} of {count}"
    if one.seeds is not None and len(one.seeds.tuned) > 1:
        count += f" and {len(one.seeds.tuned)} training seeds"
    verdict, base, tuned = entry["verdict"], _number(entry["base"], one), _number(entry["tuned"], one)
    if entry["difference"] == 0 and entry["p_adjusted"] == 1:
        return f"{one.title} is {base} for both, over {count}: no evidence of a difference."
    change = f"{one.title} went from {base} to {tuned}"
    if verdict in (IMPROVED, WORSE):
        low, high = (_change(bound, one) for bound in entry["ci95"])
        return f"{change} ({verdict}; difference {low} to {high} with 95 % confidence, {count})."
    if verdict == TOO_FEW:
        return f"{change}, but {count} {'is' if entry['n'] == 1 else 'are'} too few to tell a difference from chance."
    if entry["minimum_detectable"] is None:
        return f"{change}, which chance explains; so few of {count} differ that hardly any difference would have shown."
    smallest = _change(entry["minimum_detectable"], one, signed=False)
    return f"{change}, which chance explains; {count} would show a difference of {smallest} four times in five."


def plural(count: int, word: str) -> str:
    """Return a count and its noun."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def listed(words: Sequence[str]) -> str:
    """Return words as a list in prose."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def exponential(value: float) -> float:
    """Return e to a power, the largest number a double holds where it would be larger."""
    return math.exp(min(value, 700.0))


def _number(value: float, one: Measured) -> str:
    if one.logarithmic:
        return f"{exponential(value):.3g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _change(value: float, one: Measured, signed: bool = True) -> str:
    if one.logarithmic:  # a difference of logarithms is a ratio
        return f"{math.expm1(min(value, 700.0)):{'+' if signed else ''}.0%}"
    return f"{value:{'+' if signed else ''}.{1 if abs(value) >= 10 else 3}f}"
