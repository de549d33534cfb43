"""Base against tuned on the same items: one entry for each metric, a verdict for each, and one over all.

How a verdict is reached (docs/evidence.md has the reasons and the measurements). For each metric one test decides:
McNemar's where each item is right or wrong, approximate randomisation for corpus metrics, and otherwise sign flips of
the differences, which assume nothing of the shape of the scores; both of the latter only together with an interval that
leaves out 0. Its p is corrected by Holm's method over the metrics that the recipe declares. Then:

- *too few examples*: fewer than 10 units, or nothing found where even a large effect (dz 0.8) would have been missed
  more than one time in five;
- *improved* or *worse*: the corrected p is below 0.05, and the difference points that way;
- *no evidence*: anything else, and always where base and tuned score the same on every item.

Over all, the primary metric decides, guarded by the secondary ones: *improved* holds only while none of them is
*worse*; where one is, the gain was paid for elsewhere, and the verdict is *no evidence*. Exploratory metrics, those
that the recipe declares neither primary nor secondary, are corrected over all metrics and have no part in the overall
verdict.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from luthier.errors import UserError
from luthier.evaluate import resampling, statistics
from luthier.evaluate.entries import entries
from luthier.evaluate.measured import Measured
from luthier.evaluate.noise import summary, with_seeds
from luthier.evaluate.sentences import (
    IMPROVED,
    NO_EVIDENCE,
    TOO_FEW,
    WORSE,
    exponential,
    listed,
    plural,
    sentence,
)

FEWEST_UNITS = 10
LARGE_EFFECT = 0.8  # Cohen 1988
PRIMARY, SECONDARY, EXPLORATORY = "primary", "secondary", "exploratory"


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
        (bootstrap BCa, on no side narrower than Student's t; the score interval of Tango for scores that are 0 or 1),
        `tests` {t, wilcoxon, bootstrap, permutation, and mcnemar where it applies} (two-sided p; bootstrap: that of the
        BCa interval), `p_adjusted` (of the test that decides; a single metric needs no correction), `cohens_dz`,
        `power` (for an effect as large as the one seen), `minimum_detectable` (smallest difference shown with 80 %
        power, in the metric's own unit; `_dz`: in standard deviations), `cohens_dz_ci95`, `cliffs_delta`, `n` (units),
        `items`, `difference_items` (each item weighing the same), `higher_is_better`, `decided_by`, `why`, `p`,
        `verdict`, `sentence`. What has no value is None.

    Raises:
        UserError: nothing to compare, unequal lengths, or a score that is not a finite number.
    """
    one = Measured("The score", base, tuned, groups, higher_is_better)
    return judge(entries({"score": one}, seed, resampling.RESAMPLES)["score"], one)


def compare(
    measured: Mapping[str, Measured],
    primary: str,
    seed: int = 0,
    resamples: int = resampling.RESAMPLES,
    secondary: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare base and tuned on several metrics, corrected for their number.

    Args:
        measured: metric name to scores. primary: the metric that decides the overall verdict. seed: of resampling.
        resamples: how many sign patterns and bootstrap samples are drawn.
        secondary: metrics that guard the primary one; those without scores are left out. None: all others.

    Returns:
        comparison.json: `verdict`, `sentence`, `primary`, `secondary`, `alpha`, `correction`, `seeds`, `metrics` (name
        to entry; each has its `role`: primary, secondary or exploratory).

    Raises:
        UserError: the primary metric is not among them, or its scores cannot be compared; see `compare_scores`.
    """
    if primary not in measured:
        known = ", ".join(measured) or "none"
        raise UserError(
            f"The primary metric {primary} has no scores to compare.", "", f"Measured here: {known}. Add it to them."
        )
    roles = assign_roles(measured, primary, secondary)
    raw = {name: with_seeds(entry, measured[name]) for name, entry in entries(measured, seed, resamples).items()}
    adjusted = correct({name: entry["p"] for name, entry in raw.items()}, roles)
    judged = {
        name: judge({**entry, "p_adjusted": adjusted[name], "role": roles[name]}, measured[name])
        for name, entry in raw.items()
    }
    verdict, told = _overall(judged, measured, primary)
    guards = [name for name, role in roles.items() if role == SECONDARY]
    return {
        "verdict": verdict,
        "sentence": told,
        "primary": primary,
        "secondary": guards,
        "alpha": resampling.ALPHA,
        "correction": _correction(len(guards) + 1, len(roles)),
        "seeds": summary(judged[primary]),
        "metrics": judged,
    }


def assign_roles(names: Mapping[str, Any], primary: str, secondary: Sequence[str] | None) -> dict[str, str]:
    """Return the role of each metric."""
    guards = set(names if secondary is None else secondary)
    return {name: PRIMARY if name == primary else SECONDARY if name in guards else EXPLORATORY for name in names}


def correct(p_values: Mapping[str, float], roles: Mapping[str, str]) -> dict[str, float]:
    """Return corrected p-values: Holm over the declared metrics; for exploratory ones Holm over all metrics."""
    every = dict(zip(p_values, statistics.holm(list(p_values.values())), strict=True))
    names = [name for name in p_values if roles[name] != EXPLORATORY]
    return every | dict(zip(names, statistics.holm([p_values[name] for name in names]), strict=True))


def judge(entry: Mapping[str, Any], one: Measured) -> dict[str, Any]:
    """Return an entry with its verdict and sentence, in the unit that people read."""
    judged = {**entry, "verdict": _verdict(entry, one)}
    return {**(_exponentiated(judged) if one.logarithmic else judged), "sentence": sentence(judged, one)}


def _verdict(entry: Mapping[str, Any], one: Measured) -> str:
    if entry["difference"] == 0 and all(first == second for first, second in zip(one.base, one.tuned, strict=True)):
        return NO_EVIDENCE
    if entry["n"] < FEWEST_UNITS:
        return TOO_FEW
    low, high = entry["ci95"]
    if entry["p_adjusted"] < resampling.ALPHA and not low <= 0 <= high:
        return IMPROVED if (entry["difference"] > 0) == entry["higher_is_better"] else WORSE
    return TOO_FEW if entry["minimum_detectable_dz"] > LARGE_EFFECT else NO_EVIDENCE


def _exponentiated(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry that was tested on logarithms in the unit that people read; differences start from base."""
    base = entry["base"]

    def from_base(change: float) -> float:
        return exponential(base + change) - exponential(base)

    smallest = entry["minimum_detectable"]
    return {
        **entry,
        "base": exponential(base),
        "tuned": exponential(entry["tuned"]),
        "difference": from_base(entry["difference"]),
        "ci95": entry["ci95"] and [from_base(bound) for bound in entry["ci95"]],
        "minimum_detectable": None if smallest is None else abs(from_base(-smallest)),
        "difference_items": from_base(entry["difference_items"]),
    }


def _overall(
    judged: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Measured], primary: str
) -> tuple[str, str]:
    verdict, title = str(judged[primary]["verdict"]), measured[primary].title
    guards = {name: entry["verdict"] for name, entry in judged.items() if entry["role"] == SECONDARY}
    better = [measured[name].title for name, said in guards.items() if said == IMPROVED]
    worse = [measured[name].title for name, said in guards.items() if said == WORSE]
    told = str(judged[primary]["sentence"])
    if verdict == IMPROVED and worse:
        return NO_EVIDENCE, f"{title} improved, but {listed(worse)} got worse: no evidence that the whole is better."
    if better:
        told += f" Also improved: {listed(better)}."
    if worse:
        told += f" Worse: {listed(worse)}."
    return verdict, told


def _correction(declared: int, every: int) -> str:
    told = f"Holm over {plural(declared, 'declared metric')}"
    return told if declared == every else f"{told}; over all {every} for the exploratory ones"
