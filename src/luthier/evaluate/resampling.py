"""Resampling of units, for many metrics at once: sign flips, the bootstrap, and what is read from them.

All metrics that have the same number of units share their draws, so that one block of random signs or counts serves
every column of a matrix product. A column is what one unit adds to a sum: its difference for a mean, its n-gram counts
for a corpus metric. Draws depend on the seed and the number of units alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ALPHA = 0.05
RESAMPLES = 9_999  # one less than 10,000: the observed sample counts as one more
EXACT_UP_TO = 13  # units up to which all 2^n sign patterns are counted: no more than the draws that would replace them
CELLS = 2**21  # numbers held at once while resampling: 16 MiB
ROUNDING = 1e-12  # of the largest value: sums that are equal differ in their last bits


def flipped_sums(columns: Array, seed: int = 0, resamples: int = RESAMPLES) -> Array:
    """Return the sum of each column under sign patterns of its units.

    Args:
        columns: shape (n, m). seed: of the drawn patterns. resamples: how many are drawn above `EXACT_UP_TO` units.

    Returns:
        Shape (2^n, m) with every pattern up to `EXACT_UP_TO` units, else (resamples, m).
    """
    count = len(columns)
    if count <= EXACT_UP_TO:
        signs = 1 - 2 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return np.asarray(signs.astype(np.float64) @ columns)
    random = np.random.default_rng(seed)
    sums = np.empty((resamples, columns.shape[1]))
    for rows in _blocks(resamples, count):
        signs = random.integers(0, 2, (rows.stop - rows.start, count), dtype=np.int8).astype(np.float64)
        sums[rows] = (2 * signs - 1) @ columns
    return sums


def resampled_sums(columns: Array, seed: int = 0, resamples: int = RESAMPLES) -> Array:
    """Return the sum of each column over bootstrap samples of the units, shape (resamples, m).

    The drawn units are those of `scipy.stats.bootstrap` with the generator `default_rng(seed)`.
    """
    count = len(columns)
    random = np.random.default_rng(seed)
    sums = np.empty((resamples, columns.shape[1]))
    for rows in _blocks(resamples, count):
        height = rows.stop - rows.start
        drawn = random.integers(0, count, (height, count)) + np.arange(height)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=height * count).reshape(height, count)
        sums[rows] = times.astype(np.float64) @ columns
    return sums


def share_as_extreme(sums: Array, observed: Array, count: int) -> Array:
    """Return the two-sided p of permutation tests: how often chance gives a value as far from zero as the observed.

    Args:
        sums: of `flipped_sums`, shape (patterns, m), or a function of them. observed: shape (m,). count: units.

    Returns:
        Shape (m,). Exact where all patterns are there; else the observed pattern is added (Phipson and Smyth 2010), so
        that p is never 0.
    """
    size = np.maximum(np.abs(sums).max(axis=0), np.abs(observed))
    extreme = (np.abs(sums) >= np.abs(observed) - ROUNDING * size).sum(axis=0)
    drawn = count > EXACT_UP_TO
    return np.asarray((extreme + drawn) / (len(sums) + drawn))


@dataclass(frozen=True)
class Sampled:
    """m differences, each a mean over n units or nearly so (a corpus metric), and what the bootstrap made of them.

    Attributes:
        values: what each unit says of each difference, shape (n, m). means: the differences, shape (m,).
        resampled: the same of bootstrap samples, shape (resamples, m).
        scale: largest size of each column, by which all three are divided: squares of tiny numbers would be 0.
        bias, acceleration: of BCa. errors: standard errors of the means. All of shape (m,).
    """

    values: Array
    means: Array
    resampled: Array
    scale: Array
    bias: Array
    acceleration: Array
    errors: Array


def sampled(values: Array, means: Array, resampled: Array) -> Sampled:
    """Return differences with what their intervals and p-values need; shapes as for `Sampled`, n ≥ 2."""
    from scipy import stats

    scale = np.maximum(np.abs(values).max(axis=0), np.abs(means))
    scale = np.where(scale > 0, scale, 1.0)
    values, means, resampled = values / scale, means / scale, resampled / scale
    bias = stats.norm.ppf(_share_below(resampled, means))
    lost = ~np.isfinite(bias)  # every resample on one side of the mean: nothing to correct with
    return Sampled(
        values,
        means,
        resampled,
        scale,
        bias=np.where(lost, 0.0, bias),
        acceleration=np.where(lost, 0.0, _acceleration(values)),
        errors=values.std(axis=0, ddof=1) / np.sqrt(len(values)),
    )


def intervals(sample: Sampled) -> tuple[Array, Array]:
    """Return the bounds of 95 % intervals, shape (m,) each: the wider of BCa and Student's t on either side.

    BCa takes account of skewness but is short where tails are heavy; Student's t is right for those and short on one
    side where the differences are skewed. Together they cover 95 % in both cases; see docs/evidence.md for how near.
    """
    from scipy import stats

    low, high = bca(sample)
    reach = float(stats.t.isf(ALPHA / 2, len(sample.values) - 1)) * sample.errors
    same = sample.errors <= ROUNDING
    low = np.where(same, sample.means, np.minimum(low, sample.means - reach))
    high = np.where(same, sample.means, np.maximum(high, sample.means + reach))
    return low * sample.scale, high * sample.scale


def bca(sample: Sampled) -> tuple[Array, Array]:
    """Return BCa intervals (Efron 1987) of the scaled means, shape (m,) each.

    At the quantiles of Student's t rather than the normal ones, as resampled means spread too little in small samples
    (after Hesterberg 2015).
    """
    from scipy import stats

    edge = min(float(stats.t.isf(ALPHA / 2, len(sample.values) - 1)), 8.0)  # two or three units: all resampled means
    ordered = np.sort(sample.resampled.T, axis=1)
    levels = []
    for z in (-edge, edge):
        shifted = sample.bias + z
        corrected = sample.bias + shifted / np.maximum(1 - sample.acceleration * shifted, 1e-6)
        levels.append(stats.norm.cdf(corrected))
    return _quantiles(ordered, levels[0]), _quantiles(ordered, levels[1])


def bootstrap_p(sample: Sampled) -> Array:
    """Return the two-sided p at which each BCa interval would just reach zero: its formula solved for the level."""
    from scipy import stats

    share, least = _share_below(sample.resampled, 0.0), 1 / (1 + len(sample.resampled))
    with np.errstate(divide="ignore", invalid="ignore"):
        away = stats.norm.ppf(share) - sample.bias
        solved = away / (1 + sample.acceleration * away) - sample.bias
        beyond = (1 + sample.acceleration * away) <= 0  # no level reaches so far
    p = 2 * stats.t.sf(np.abs(solved), len(sample.values) - 1)
    one_sided = (share <= 0) | (share >= 1) | beyond  # no resample on the other side of zero
    return np.asarray(np.where(one_sided, least, np.clip(np.nan_to_num(p, nan=1.0), least, 1.0)))


def t_p(sample: Sampled) -> Array:
    """Return the two-sided p of Student's t for each difference; 1 where all values are zero."""
    from scipy import stats

    same = sample.errors <= ROUNDING
    t = np.abs(sample.means) / np.where(same, 1.0, sample.errors)
    student = 2 * stats.t.sf(t, len(sample.values) - 1)
    return np.asarray(np.where(same, (np.abs(sample.means) <= ROUNDING).astype(np.float64), student))


def _share_below(resampled: Array, place: Array | float) -> Array:
    """Return the share of resampled values below a place; those that are equal count half."""
    nearly = ROUNDING * np.abs(resampled).max(axis=0)
    below = (resampled < place - nearly).sum(axis=0) + (resampled <= place + nearly).sum(axis=0)
    return np.asarray(below / (2 * len(resampled)))


def _acceleration(values: Array) -> Array:
    """Return the acceleration of BCa; for a mean, the jackknife has this closed form."""
    centred = values - values.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    return np.asarray((centred**3).sum(axis=0) / (6 * np.where(squares > 0, squares, 1.0) ** 1.5))


def _quantiles(ordered: Array, levels: Array) -> Array:
    """Return a quantile of each row of sorted values, between neighbours as numpy's percentile does it."""
    place = np.clip(levels, 0, 1) * (ordered.shape[1] - 1)
    under = np.floor(place).astype(np.intp)
    rows, over = np.arange(len(ordered)), np.minimum(under + 1, ordered.shape[1] - 1)
    part = place - under
    return np.asarray(ordered[rows, under] * (1 - part) + ordered[rows, over] * part)


def _blocks(resamples: int, count: int) -> Iterator[slice]:
    rows = max(1, CELLS // count)
    for start in range(0, resamples, rows):
        yield slice(start, min(start + rows, resamples))
