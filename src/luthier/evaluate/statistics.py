"""The counting behind a comparison: paired tests, intervals, effect sizes and power, one function each.

Everything works on one array of differences, tuned − base, shape (n,), one entry for each independent unit: an item, or
the mean of a group of items where variants of one question belong together. scipy and statsmodels compute; what stands
here itself (sign flips, BCa) is held against scipy in the tests.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from luthier.errors import UserError

Array = NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 9_999  # one less than 10,000: the observed sample counts as one more
EXACT_UP_TO = 13  # units up to which all 2^n sign patterns are counted: no more than the draws that would replace them
CELLS = 2**21  # numbers held at once while resampling: 16 MiB


@dataclass(frozen=True)
class Paired:
    """Two paired samples reduced to independent units.

    Attributes:
        base, tuned: means of each unit, shape (n,). items: how many pairs there were before grouping.
    """

    base: Array
    tuned: Array
    items: int

    @property
    def differences(self) -> Array:
        """Tuned minus base, shape (n,)."""
        return self.tuned - self.base


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
        bad = np.flatnonzero(~np.isfinite(scores))
        if len(bad):
            raise UserError(
                f"{len(bad)} of {len(scores)} scores of {name} are not finite numbers.",
                f"{name}[{bad[0]}] is {scores[bad[0]]}",
                "Leave out these items in both lists, or mend what scored them.",
            )
    if groups is None:
        return Paired(first, second, len(first))
    keys: dict[Hashable, int] = {}
    unit = np.array([keys.setdefault(("item", at) if key is None else key, len(keys)) for at, key in enumerate(groups)])
    sizes = np.bincount(unit)
    return Paired(np.bincount(unit, first) / sizes, np.bincount(unit, second) / sizes, len(first))


def t_test(pairs: Paired) -> float | None:
    """Return the two-sided p of the paired t-test (scipy `ttest_rel`); None for fewer than two units."""
    from scipy import stats

    if len(pairs.base) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of equal differences; the cases are decided below
        p = float(stats.ttest_rel(pairs.tuned, pairs.base).pvalue)
    return 1.0 if np.isnan(p) else p


def wilcoxon(differences: Array) -> float:
    """Return the two-sided p of the Wilcoxon signed-rank test (scipy, zeros dropped); 1 when all are zero."""
    from scipy import stats

    if not differences.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ties and zeros in a small sample: scipy falls back to the normal form
        return float(stats.wilcoxon(differences).pvalue)


def sign_flips(differences: Array, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """Return the two-sided p of the sign-flip permutation test of the mean.

    Without a true difference, each difference is as likely with either sign. All 2^n patterns are counted up to
    `EXACT_UP_TO` units; above that, `resamples` patterns are drawn and the observed one is added (Phipson and Smyth
    2010), so that p is never 0.
    """
    count = len(differences)
    observed = abs(float(differences.sum()))
    limit = observed - 1e-12 * float(np.abs(differences).sum())  # equal sums differ in the last bits
    if count <= EXACT_UP_TO:
        bits = (np.arange(2**count)[:, None] >> np.arange(count)) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ differences) >= limit))
    random = np.random.default_rng(seed)
    extreme = 0
    for rows in _chunks(resamples, count):
        signs = random.integers(0, 2, (rows, count), dtype=np.int8) * np.int8(2) - np.int8(1)
        extreme += int(np.count_nonzero(np.abs(signs.astype(np.float64) @ differences) >= limit))
    return (1 + extreme) / (1 + resamples)


@dataclass(frozen=True)
class Bootstrap:
    """What resampling the units with replacement says of the mean difference.

    Attributes:
        low, high: 95 % interval. p: two-sided, of the studentised test.
    """

    low: float
    high: float
    p: float


def bootstrap(differences: Array, seed: int = 0, resamples: int = RESAMPLES) -> Bootstrap:
    """Return the BCa interval and the studentised bootstrap test of the mean difference.

    The interval is bias-corrected and accelerated (Efron 1987) at levels widened for small samples, as resampled means
    spread by n − 1 over n too little (Hesterberg 2015, "expanded percentile"). The test compares the observed t with
    the t of resamples around their own mean (Efron and Tibshirani 1993, 16.4).
    """
    differences, scale = _scaled(differences)
    count, mean = len(differences), float(differences.mean())
    if count < 2 or np.ptp(differences) == 0:
        return Bootstrap(mean * scale, mean * scale, 1.0 if mean == 0 or count < 2 else 1 / (1 + resamples))
    random = np.random.default_rng(seed)
    means, errors = [], []
    for rows in _chunks(resamples, count):
        drawn = differences[random.integers(0, count, (rows, count))]
        means.append(drawn.mean(axis=1))
        errors.append(drawn.std(axis=1, ddof=1))
    low, high = _bca(differences, np.concatenate(means))
    t = mean / differences.std(ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        around = np.abs((np.concatenate(means) - mean) / np.concatenate(errors))
    # A resample of equal values has no spread: it counts as extreme, unless it says exactly the observed mean.
    extreme = int(np.count_nonzero(np.nan_to_num(around, nan=0.0, posinf=np.inf) >= abs(t) * (1 - 1e-12)))
    return Bootstrap(low * scale, high * scale, (1 + extreme) / (1 + resamples))


def widened_level(count: int, alpha: float = ALPHA) -> float:
    """Return the confidence level whose percentile interval for `count` units covers about 1 − alpha."""
    from scipy import stats

    quantile = stats.t.ppf(alpha / 2, count - 1)
    return float(1 - 2 * stats.norm.cdf(np.sqrt(count / (count - 1)) * quantile))


def cohens_dz(differences: Array) -> float | None:
    """Return the mean difference over its standard deviation; 0 when all are 0, None where it has no value."""
    differences, _ = _scaled(differences)
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if spread <= 1e-12 * abs(mean):
        return 0.0 if mean == 0 and len(differences) > 1 else None
    return mean / spread


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


def _bca(differences: Array, means: Array) -> tuple[float, float]:
    from scipy import stats

    count, mean = len(differences), float(differences.mean())
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means <= mean)) / (2 * len(means))
    bias = stats.norm.ppf(below)
    centred = differences - mean  # for a mean, the jackknife has this closed form
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    edge = max(-8.0, float(stats.norm.ppf((1 - widened_level(count)) / 2)))  # two or three units: all resampled means
    if not np.isfinite(bias):  # every resample on one side of the mean: nothing to correct with
        bias = acceleration = 0.0
    levels = [float(stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))) for z in (edge, -edge)]
    low, high = np.percentile(means, [100 * level for level in levels])
    return float(low), float(high)


def _chunks(resamples: int, count: int) -> Iterator[int]:
    rows = max(1, CELLS // count)
    for start in range(0, resamples, rows):
        yield min(rows, resamples - start)
