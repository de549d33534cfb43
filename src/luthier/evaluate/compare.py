"""Base against tuned on the same items: one entry for each metric, a verdict for each, and one over all.

How a verdict is reached. The sign-flip permutation test decides, as it assumes nothing of the shape of the scores; its
p-values are corrected over all metrics by Holm's method. For each metric:

- *too few examples*: fewer than 10 units, or nothing found where even a large effect (dz 0.8) would have been missed
  more than one time in five;
- *improved* or *worse*: the corrected p is below 0.05, and the mean difference points that way;
- *no evidence*: anything else, and always where base and tuned score the same on every item.

Over all, the primary metric decides, guarded by the others: *improved* holds only while no other metric is *worse*;
where one is, the gain was paid for elsewhere, and the verdict is *no evidence*.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import UserError
from luthier.evaluate import statistics

IMPROVED, WORSE, NO_EVIDENCE, TOO_FEW = "improved", "worse", "no evidence", "too few examples"
FEWEST_UNITS = 10
LARGE_EFFECT = 0.8  # Cohen 1988


@dataclass(frozen=True)
class Measured:
    """The scores of base and tuned on one metric, item by item.

    Attributes:
        title: the metric's name for people.
        base, tuned: one finite number per item, in one order. groups: the group of each item, or None.
        higher_is_better: direction of the metric.
        logarithmic: the numbers are logarithms of what people read (perplexity). Tests and effect size are those of
            the logarithms; `base`, `tuned` and the differences are given in what people read.
    """

    title: str
    base: Sequence[float]
    tuned: Sequence[float]
    groups: Sequence[Hashable] | None = None
    higher_is_better: bool = True
    logarithmic: bool = False


def compare_scores(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """Compare two lists of scores of the same items, pair by pair.

    Args:
        base: one score per item. tuned: the same, in the same order.
        groups: one key per item; items of one group count as one unit with their mean (variants of one question are not
            independent). None as a key, or no groups at all: each item is its own unit.
        seed: of resampling. higher_is_better: direction of the metric.

    Returns:
        One entry of comparison.json: `base` and `tuned` (means over units), `difference` (tuned − base), `ci95`
        (bootstrap BCa), `tests` {t, wilcoxon, bootstrap, permutation} (two-sided p), `p_adjusted` (of the permutation
        test; a single metric needs no correction), `cohens_dz`, `power` (for an effect as large as the one seen),
        `minimum_detectable` (smallest difference shown with 80 % power, in the metric's own unit; `_dz`: in standard
        deviations), `n` (units), `items`, `higher_is_better`, `verdict`, `sentence`. What has no value is None.

    Raises:
        UserError: nothing to compare, unequal lengths, or a score that is not a finite number.
    """
    one = Measured("The score", base, tuned, groups, higher_is_better)
    return _judged(_entry(one, seed, statistics.RESAMPLES), one)


def compare(
    measured: Mapping[str, Measured], primary: str, seed: int = 0, resamples: int = statistics.RESAMPLES
) -> dict[str, Any]:
    """Compare base and tuned on several metrics, corrected for their number.

    Args:
        measured: metric name to scores. primary: the metric that decides the overall verdict. seed: of resampling.
        resamples: how many sign patterns and bootstrap samples are drawn.

    Returns:
        comparison.json: `verdict`, `sentence`, `primary`, `alpha`, `correction`, `metrics` (name to entry).

    Raises:
        UserError: the primary metric is not among them, or its scores cannot be compared; see `compare_scores`.
    """
    if primary not in measured:
        known = ", ".join(measured) or "none"
        raise UserError(
            f"The primary metric {primary} has no scores to compare.", "", f"Measured here: {known}. Add it to them."
        )
    raw = {name: _entry(one, seed, resamples) for name, one in measured.items()}
    adjusted = statistics.holm([entry["p_adjusted"] for entry in raw.values()])
    entries = {
        name: _judged(entry | {"p_adjusted": p}, measured[name])
        for (name, entry), p in zip(raw.items(), adjusted, strict=True)
    }
    verdict, sentence = _overall(entries, measured, primary)
    return {
        "verdict": verdict,
        "sentence": sentence,
        "primary": primary,
        "alpha": statistics.ALPHA,
        "correction": f"Holm over {len(entries)} metrics, permutation test",
        "metrics": entries,
    }


def _entry(one: Measured, seed: int, resamples: int) -> dict[str, Any]:
    """Return the numbers of an entry; `p_adjusted` is not corrected yet, `verdict` and `sentence` are not there."""
    pairs = statistics.pair(one.base, one.tuned, one.groups)
    differences = pairs.differences
    count = len(differences)
    permutation = statistics.sign_flips(differences, seed, resamples)
    resampled = statistics.bootstrap(differences, seed, resamples)
    dz = statistics.cohens_dz(differences)
    detectable = statistics.detectable_dz(count)
    spread = float(differences.std(ddof=1)) if count > 1 else None
    return {
        "base": float(pairs.base.mean()),
        "tuned": float(pairs.tuned.mean()),
        "difference": float(differences.mean()),
        "ci95": [resampled.low, resampled.high] if count > 1 else None,
        "tests": {
            "t": statistics.t_test(pairs),
            "wilcoxon": statistics.wilcoxon(differences),
            "bootstrap": resampled.p,
            "permutation": permutation,
        },
        "p_adjusted": permutation,
        "cohens_dz": dz,
        "power": None if dz is None or count < 2 else statistics.power_reached(dz, count),
        "minimum_detectable": None if detectable is None or spread is None else detectable * spread,
        "minimum_detectable_dz": detectable,
        "n": count,
        "items": pairs.items,
        "higher_is_better": one.higher_is_better,
        "identical": not bool(differences.any()),
    }


def _judged(entry: dict[str, Any], one: Measured) -> dict[str, Any]:
    verdict = _verdict(entry)
    judged = {**entry, "verdict": verdict}
    del judged["identical"]
    sentence = _sentence(judged, one)
    return (_exponentiated(judged) if one.logarithmic else judged) | {"sentence": sentence}


def _exponentiated(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry that was tested on logarithms in the unit that people read; differences start from base."""
    base = entry["base"]

    def from_base(change: float) -> float:
        return _exp(base + change) - _exp(base)

    smallest = entry["minimum_detectable"]
    return {
        **entry,
        "base": _exp(base),
        "tuned": _exp(entry["tuned"]),
        "difference": from_base(entry["difference"]),
        "ci95": entry["ci95"] and [from_base(bound) for bound in entry["ci95"]],
        "minimum_detectable": None if smallest is None else abs(from_base(-smallest)),
    }


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _verdict(entry: Mapping[str, Any]) -> str:
    if entry["identical"]:
        return NO_EVIDENCE
    if entry["n"] < FEWEST_UNITS:
        return TOO_FEW
    if entry["p_adjusted"] < statistics.ALPHA:
        return IMPROVED if (entry["difference"] > 0) == entry["higher_is_better"] else WORSE
    return TOO_FEW if entry["minimum_detectable_dz"] > LARGE_EFFECT else NO_EVIDENCE


def _sentence(entry: Mapping[str, Any], one: Measured) -> str:
    """Say in one sentence what the entry shows."""
    count = _plural(entry["items"], "item")
    if entry["n"] != entry["items"]:
        count = f"{_plural(entry['n'], 'group')} of {count}"
    verdict, base, tuned = entry["verdict"], _number(entry["base"], one), _number(entry["tuned"], one)
    if entry["difference"] == 0 and entry["p_adjusted"] == 1:
        return f"{one.title} is {base} for both, over {count}: no evidence of a difference."
    change = f"{one.title} went from {base} to {tuned}"
    if verdict in (IMPROVED, WORSE):
        low, high = (_change(bound, one) for bound in entry["ci95"])
        return f"{change} ({verdict}; difference {low} to {high} with 95 % confidence, {count})."
    if verdict == TOO_FEW:
        return f"{change}, but {count} {'is' if entry['n'] == 1 else 'are'} too few to tell a difference from chance."
    smallest = _change(entry["minimum_detectable"], one, signed=False)
    return f"{change}, which chance explains; {count} would show a difference of {smallest} four times in five."


def _overall(
    entries: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Measured], primary: str
) -> tuple[str, str]:
    verdict, title = str(entries[primary]["verdict"]), measured[primary].title
    others = {name: entry["verdict"] for name, entry in entries.items() if name != primary}
    better = [measured[name].title for name, said in others.items() if said == IMPROVED]
    worse = [measured[name].title for name, said in others.items() if said == WORSE]
    sentence = str(entries[primary]["sentence"])
    if verdict == IMPROVED and worse:
        return NO_EVIDENCE, f"{title} improved, but {_list(worse)} got worse: no evidence that the whole is better."
    if better:
        sentence += f" Also improved: {_list(better)}."
    if worse:
        sentence += f" Worse: {_list(worse)}."
    return verdict, sentence


def _number(value: float, one: Measured) -> str:
    if one.logarithmic:
        return f"{_exp(value):.3g}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _change(value: float, one: Measured, signed: bool = True) -> str:
    if one.logarithmic:  # a difference of logarithms is a ratio
        return f"{math.expm1(min(value, 700.0)):{'+' if signed else ''}.0%}"
    return f"{value:{'+' if signed else ''}.{1 if abs(value) >= 10 else 3}f}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
