"""The counting behind a comparison: paired tests, effect sizes and power, one function each.

Everything works on one array of differences, tuned − base, shape (n,), one entry for each independent unit: an item, or
the mean of a group of items where variants of one question belong together. scipy and statsmodels compute; what stands
here itself is held against them, or against published examples, in the tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from luthier.errors import UserError
from luthier.evaluate.resampling import ALPHA, EXACT_UP_TO, flipped_sums, share_as_extreme

Array = NDArray[np.float64]
Places = NDArray[np.intp]

POWER = 0.8
LARGEST_T = 10_000.0  # up to which scipy's noncentral t is exact and quick


@dataclass(frozen=True)
class Paired:
    """Two paired samples reduced to independent units.

    Attributes:
        base, tuned: means of each unit, shape (n,). base_items, tuned_items: the scores before grouping.
        unit: place of each item's unit, shape (items,).
    """

    base: Array
    tuned: Array
    base_items: Array
    tuned_items: Array
    unit: Places

    @property
    def differences(self) -> Array:
        """Tuned minus base, shape (n,)."""
        return self.tuned - self.base

    @property
    def items(self) -> int:
        """How many pairs there were before grouping."""
        return len(self.unit)

    @property
    def alone(self) -> bool:
        """Whether each item is a unit of its own."""
        return len(self.base) == len(self.unit)

    @property
    def yes_no(self) -> bool:
        """Whether every score is 0 or 1."""
        return all(bool(np.isin(scores, (0.0, 1.0)).all()) for scores in (self.base_items, self.tuned_items))


def pair(base: Sequence[float], tuned: Sequence[float], groups: Sequence[Hashable] | None = None) -> Paired:
    """Reduce paired scores to independent units: the items themselves, or the mean of each group.

    Each group weighs the same, however many items it has. An item whose group is None is a unit of its own.

    Raises:
        UserError: nothing to compare, unequal lengths, or a score that is not a finite number.
    """
    first, second = np.asarray(base, dtype=np.float64), np.asarray(tuned, dtype=np.float64)
    if first.ndim != 1 or second.ndim != 1:
        raise UserError("Scores to compare are two plain lists of numbers.", "", "Give one number for each item.")
    lengths = {"base": len(first), "tuned": len(second)} | ({} if groups is None else {"groups": len(groups)})
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in lengths.items())
        raise UserError(f"Scores must be paired item by item: {told}.", "", "Give one entry per item, in one order.")
    if len(first) == 0:
        raise UserError("There are no scores to compare.", "", "Give at least one item; ten or more to see anything.")
    for name, scores in (("base", first), ("tuned", second)):
        require_finite(name, scores)
    unit = units(groups, len(first))
    sizes = np.bincount(unit)
    return Paired(np.bincount(unit, first) / sizes, np.bincount(unit, second) / sizes, first, second, unit)


def require_finite(name: str, scores: Array) -> None:
    """Refuse scores of which one is not a finite number.

    Raises:
        UserError: with the place of the first.
    """
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(scores)} scores of {name} are not finite numbers.",
            f"{name}[{bad[0]}] is {scores[bad[0]]}",
            "Leave out these items in both lists, or mend what scored them.",
        )


def units(groups: Sequence[Hashable] | None, items: int) -> Places:
    """Return the place of each item's unit, numbered in order of appearance, shape (items,)."""
    if groups is None:
        return np.arange(items)
    keys: dict[Hashable, int] = {}
    return np.array(
        [keys.setdefault(("item", at) if key is None else ("group", key), len(keys)) for at, key in enumerate(groups)],
        dtype=np.intp,
    )


def wilcoxon(differences: Array) -> float:
    """Return the two-sided p of the Wilcoxon signed-rank test (scipy, zeros dropped); 1 when all are zero.

    Small samples with ties or zeros are counted here, exactly, as scipy counts them in a thousand times the time.
    """
    from scipy import stats

    there = differences[differences != 0]
    if len(there) == 0:
        return 1.0
    ranks = stats.rankdata(np.abs(there))
    if len(differences) <= EXACT_UP_TO and len(set(ranks)) < len(differences):
        signed = (np.sign(there) * ranks)[:, None]
        return float(share_as_extreme(flipped_sums(signed), signed.sum(axis=0), len(there))[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ties and zeros: scipy takes the normal form
        return float(stats.wilcoxon(differences).pvalue)


def cohens_dz(differences: Array) -> float | None:
    """Return the mean difference over its standard deviation; 0 when all are 0, None where it has no value."""
    differences, _ = _scaled(differences)
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if spread <= 1e-12 * abs(mean):
        return 0.0 if mean == 0 and len(differences) > 1 else None
    return mean / spread


def dz_interval(dz: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of Cohen's dz from `count` units.

    Its bounds are those of the noncentrality of Student's t under which the observed t lies at the 97.5 % and the 2.5 %
    point (Steiger and Fouladi 1997), over √n. Exact where differences are normal.
    """
    from scipy import optimize, stats

    if dz < 0:
        low, high = dz_interval(-dz, count)
        return -high, -low
    t, freedom = dz * count**0.5, count - 1

    def bound(level: float) -> float:
        if t > LARGEST_T:  # the normal part of the noncentral t is nothing beside the other, whose quantile is known
            return float(t * (stats.chi2.isf(level, freedom) / freedom) ** 0.5)
        least, most = (t * float((stats.chi2.ppf(p, freedom) / freedom) ** 0.5) for p in (1e-10, 1 - 1e-10))

        def excess(at: float) -> float:
            chance = float(stats.nct.cdf(t, freedom, at))
            return (float(at < t) if np.isnan(chance) else chance) - level  # far out scipy has no number for 0 and 1

        return float(optimize.brentq(excess, least - 8, most + 8, xtol=1e-12))

    return bound(1 - ALPHA / 2) / count**0.5, bound(ALPHA / 2) / count**0.5


def cliffs_delta(base: Array, tuned: Array) -> float:
    """Return how much more often a tuned score exceeds a base score than the reverse, over all pairs, −1 to 1.

    Cliff (1993). 2 U / (n · m) − 1, with U of scipy's Mann–Whitney test.
    """
    from scipy import stats

    if (base[0] == base).all() and (tuned == base[0]).all():
        return 0.0
    statistic = float(stats.mannwhitneyu(tuned, base, method="asymptotic").statistic)
    return 2 * statistic / (len(base) * len(tuned)) - 1


def power_reached(dz: float, count: int) -> float:
    """Return the power of a two-sided paired t-test at 5 % for a true effect as large as the one seen (statsmodels)."""
    from statsmodels.stats.power import TTestPower

    power = float(TTestPower().power(effect_size=abs(dz), nobs=count, alpha=ALPHA))
    return 1.0 if np.isnan(power) else power  # the noncentral t overflows where the effect is enormous


@cache
def detectable_dz(count: int) -> float | None:
    """Return the smallest dz that `count` units show with 80 % power at 5 % (statsmodels); None for one unit."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(nobs=count, alpha=ALPHA, power=POWER)) if count > 1 else None


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number by Holm's step-down method (1979).

    As statsmodels' `multipletests`, which collects garbage on every call and so takes longer than the tests themselves.
    """
    sorted_p = np.sort(np.asarray(p_values, dtype=np.float64))
    stepped = np.maximum.accumulate(sorted_p * np.arange(len(sorted_p), 0, -1))
    order = np.argsort(np.argsort(p_values, kind="stable"), kind="stable")
    return [float(p) for p in np.minimum(stepped, 1.0)[order]] if len(p_values) else []


def _scaled(differences: Array) -> tuple[Array, float]:
    """Return the differences over their largest size, and that size: squares of tiny numbers would be 0."""
    scale = float(np.abs(differences).max()) or 1.0
    return differences / scale, scale
