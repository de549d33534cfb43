"""The numbers of a comparison, metric by metric: tests, interval, effect sizes, power, and which test decides.

Metrics with the same number of units are resampled together; see `resampling`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate import resampling, statistics, yes_no
from luthier.evaluate.corpus import Counts
from luthier.evaluate.measured import Measured

Array = NDArray[np.float64]

PERMUTATION, MCNEMAR, RANDOMISATION = "permutation", "mcnemar", "approximate randomisation"


@dataclass(frozen=True)
class Units:
    """One metric reduced to independent units.

    Attributes:
        pairs: the scores. corpus: the counts of a corpus metric, summed over each unit; None for a mean.
        values: what each unit says of the difference, shape (n,): their mean is the difference.
    """

    pairs: statistics.Paired
    corpus: Counts | None
    values: Array

    @property
    def flipped(self) -> Array:
        """Columns whose sum changes its sign with the unit, shape (n, k)."""
        return self.values[:, None] if self.corpus is None else (self.corpus.tuned - self.corpus.base) / 2

    @property
    def resampled(self) -> Array:
        """Columns that are summed over a bootstrap sample, shape (n, k)."""
        if self.corpus is None:
            return self.values[:, None]
        return np.hstack([self.corpus.base, self.corpus.tuned])

    def permuted(self, sums: Array) -> Array:
        """Return the difference under each sign pattern from the sums of `flipped`."""
        if self.corpus is None:
            return sums[:, 0] / len(self.values)
        half = (self.corpus.tuned + self.corpus.base).sum(axis=0) / 2
        return self.corpus.value(half + sums) - self.corpus.value(half - sums)

    def redrawn(self, sums: Array) -> Array:
        """Return the difference in each bootstrap sample from the sums of `resampled`."""
        if self.corpus is None:
            return sums[:, 0] / len(self.values)
        base, tuned = np.split(sums, 2, axis=1)
        return self.corpus.value(tuned) - self.corpus.value(base)


def reduce(one: Measured) -> Units:
    """Reduce the scores of a metric to independent units.

    A unit's value in a corpus metric is by how much the difference would change without it (jackknife), set so that
    the values have the difference as their mean.
    """
    pairs = statistics.pair(one.base, one.tuned, one.groups)
    if one.corpus is None:
        return Units(pairs, None, pairs.differences)
    base, tuned = (_per_unit(counts, pairs) for counts in (one.corpus.base, one.corpus.tuned))
    value = one.corpus.value
    whole = float(value(tuned.sum(axis=0)) - value(base.sum(axis=0)))
    count = len(base)
    if count == 1:
        return Units(pairs, Counts(base, tuned, value), np.array([whole]))
    without = value(tuned.sum(axis=0) - tuned) - value(base.sum(axis=0) - base)
    values = whole + (count - 1) * (without.mean() - without)
    return Units(pairs, Counts(base, tuned, value), values)


def entries(measured: Mapping[str, Measured], seed: int, resamples: int) -> dict[str, dict[str, Any]]:
    """Return the numbers of each metric's entry; `p_adjusted` is not corrected yet, verdict and sentence are not there.

    Raises:
        UserError: scores that cannot be compared; see `statistics.pair`.
    """
    reduced = {name: reduce(one) for name, one in measured.items()}
    found: dict[str, dict[str, Any]] = {}
    for count in sorted({len(one.values) for one in reduced.values()}):
        together = {name: one for name, one in reduced.items() if len(one.values) == count}
        found |= _together(together, measured, seed, resamples)
    return {name: found[name] for name in measured}


def _together(
    reduced: Mapping[str, Units], measured: Mapping[str, Measured], seed: int, resamples: int
) -> dict[str, dict[str, Any]]:
    """Return the entries of metrics that have the same number of units."""
    every = list(reduced.values())
    signed, drawn = ([getattr(one, part) for one in every] for part in ("flipped", "resampled"))
    flips = _split(resampling.flipped_sums(np.hstack(signed), seed, resamples), signed)
    draws = _split(resampling.resampled_sums(np.hstack(drawn), seed, resamples), drawn)
    values = np.stack([one.values for one in every], axis=1)
    estimates = values.mean(axis=0)
    permuted = np.stack([one.permuted(sums) for one, sums in zip(every, flips, strict=True)], axis=1)
    p_values = resampling.share_as_extreme(permuted, estimates, len(values))
    found: list[dict[str, float] | None] = [None] * len(every)
    if len(values) > 1:
        redrawn = np.stack([one.redrawn(sums) for one, sums in zip(every, draws, strict=True)], axis=1)
        sample = resampling.sampled(values, estimates, redrawn)
        low, high = resampling.intervals(sample)
        columns = {"low": low, "high": high, "bootstrap": resampling.bootstrap_p(sample), "t": resampling.t_p(sample)}
        found = [{key: float(column[place]) for key, column in columns.items()} for place in range(len(every))]
    return {
        name: _entry(one, measured[name], float(p_values[place]), found[place])
        for place, (name, one) in enumerate(reduced.items())
    }


def _entry(one: Units, of: Measured, permutation: float, interval: dict[str, float] | None) -> dict[str, Any]:
    values, pairs, count = one.values, one.pairs, len(one.values)
    base, tuned = float(pairs.base.mean()), float(pairs.tuned.mean())
    if one.corpus is not None:
        base, tuned = (float(one.corpus.value(counts.sum(axis=0))) for counts in (one.corpus.base, one.corpus.tuned))
    dz = statistics.cohens_dz(values)
    detectable = statistics.detectable_dz(count)
    entry = {
        "base": base,
        "tuned": tuned,
        "difference": float(values.mean()),
        "ci95": None if interval is None else [interval["low"], interval["high"]],
        "tests": {
            "t": None if interval is None else interval["t"],
            "wilcoxon": statistics.wilcoxon(pairs.differences),
            "bootstrap": 1.0 if interval is None else interval["bootstrap"],
            "permutation": permutation,
        },
        "p_adjusted": permutation,
        "cohens_dz": dz,
        "power": None if dz is None or count < 2 else statistics.power_reached(dz, count),
        "minimum_detectable": None if detectable is None else detectable * float(values.std(ddof=1)),
        "cohens_dz_ci95": None if dz is None or count < 2 else list(statistics.dz_interval(dz, count)),
        "cliffs_delta": statistics.cliffs_delta(pairs.base, pairs.tuned),
        "minimum_detectable_dz": detectable,
        "n": count,
        "items": pairs.items,
        "difference_items": float((pairs.tuned_items - pairs.base_items).mean()) if one.corpus is None else None,
        "higher_is_better": of.higher_is_better,
        "logarithmic": of.logarithmic,
    }
    return entry | _decision(one, entry)


def _decision(one: Units, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return which test decides and why, its p before correction, and what follows from the choice."""
    pairs, tests = one.pairs, entry["tests"]
    if one.corpus is None and pairs.alone and pairs.yes_no:
        return _yes_no(pairs, entry)
    p = max(tests["permutation"], tests["bootstrap"], tests["t"] if tests["t"] is not None else 1.0)
    what = "item" if pairs.alone else "group"
    if one.corpus is not None:
        why = (
            f"The metric is no mean over items: the answers of base and tuned are swapped at random {what} by {what}, "
            "and the whole is scored anew."
        )
    else:
        why = f"Were both equally good, each {what} would differ this way or that with equal chance: signs are flipped."
    why += " The interval must leave out 0 as well, as differences may be skewed."
    if not pairs.alone:
        why += " Items of one group are not independent and count once."
    decided = PERMUTATION if one.corpus is None else RANDOMISATION
    return {"decided_by": decided, "why": why, "p": p, "p_adjusted": p}


def _yes_no(pairs: statistics.Paired, entry: Mapping[str, Any]) -> dict[str, Any]:
    table = yes_no.count_disagreements(pairs.differences)
    disagreeing = table.won + table.lost
    p = yes_no.mcnemar(table)
    return {
        "ci95": list(yes_no.score_interval(table)) if table.items > 1 else None,
        "tests": {**entry["tests"], "mcnemar": p},
        "power": yes_no.power(table.won / table.items, table.lost / table.items, table.items),
        "minimum_detectable": yes_no.detectable(table),
        "decided_by": MCNEMAR,
        "why": f"Each item is right or wrong: only the {disagreeing} on which the two disagree say anything.",
        "p": p,
        "p_adjusted": p,
    }


def _per_unit(counts: Array, pairs: statistics.Paired) -> Array:
    summed = np.zeros((len(pairs.base), counts.shape[1]))
    np.add.at(summed, pairs.unit, counts)
    return summed


def _split(sums: Array, parts: Sequence[Array]) -> list[Array]:
    return np.split(sums, np.cumsum([part.shape[1] for part in parts])[:-1], axis=1)
