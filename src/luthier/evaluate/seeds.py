"""Several training seeds: how much of a difference is the luck of a seed, and the verdict that takes it into account.

Items and seeds are both samples: another test set would have other items, another training another seed. The scores of
S seeds on n units form a table, seeds × units, and the mean over it varies for three reasons: units, seeds, and their
interaction. The two-way analysis of variance with both as random effects (Searle, Casella and McCulloch 1992, ch. 4)
estimates each share. Few seeds thus cost what they should: where seeds differ much, two or three of them leave a wide
interval. Two say next to nothing of their noise; three is the least that is worth the time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import UserError
from luthier.evaluate import resampling, statistics
from luthier.evaluate.compare import ONE_SEED, judge
from luthier.evaluate.entries import entries
from luthier.evaluate.measured import Measured
from luthier.evaluate.sentences import plural

Array = NDArray[np.float64]

SEEDS = "permutation and seeds"


@dataclass(frozen=True)
class Layout:
    """Mean squares of a table, seeds × units, without repetition.

    Attributes:
        seeds, units: its shape. of_seeds, of_units, rest: mean squares; `of_seeds` and `rest` are 0 for one seed.
    """

    seeds: int
    units: int
    of_seeds: float
    of_units: float
    rest: float

    @property
    def noise(self) -> float:
        """Variance between seeds, in the square of the metric's unit; 0 where it is lost in the rest."""
        return max(self.of_seeds - self.rest, 0.0) / self.units

    @property
    def of_mean(self) -> float:
        """What the seeds add to the variance of the mean.

        Of two seeds the whole mean square, interaction and all: with one degree of freedom, a difference of the two
        would be 0 too often.
        """
        return self.of_seeds / (self.seeds * self.units) if self.seeds == 2 else self.noise / self.seeds


def mean_squares(table: Array) -> Layout:
    """Return the mean squares of the two-way analysis of variance of a table, shape (seeds, units)."""
    seeds, units = table.shape
    mean = table.mean()
    by_seed, by_unit = table.mean(axis=1) - mean, table.mean(axis=0) - mean
    rest = table - mean - by_seed[:, None] - by_unit
    between = float(seeds * (by_unit**2).sum() / max(units - 1, 1))
    if seeds == 1:
        return Layout(1, units, 0.0, between, 0.0)
    of_seeds = float(units * (by_seed**2).sum() / (seeds - 1))
    return Layout(seeds, units, of_seeds, between, float((rest**2).sum() / ((seeds - 1) * max(units - 1, 1))))


@dataclass(frozen=True)
class Uncertainty:
    """What the means over seeds and units say of a difference.

    Attributes:
        low, high: 95 % interval. p: two-sided. share: part of the variance of the difference that is due to seeds.
    """

    low: float
    high: float
    p: float
    share: float


def uncertainty(base: Array, tuned: Array) -> Uncertainty:
    """Return interval and p of the mean difference of two tables, shapes (seeds, units) with the same units.

    The variance is that of the units' mean differences, which holds the interaction, plus the noise of each table's
    seeds over their number. A table of one seed, such as a base that nobody trained, adds none. Each part has its own
    quantile of Student's t, by its own degrees of freedom, and the squares add up (Howe 1974).
    """
    differences = tuned.mean(axis=0) - base.mean(axis=0)
    count, mean = len(differences), float(differences.mean())
    parts = [(float(differences.var(ddof=1)) / count, count - 1)]
    tables = [mean_squares(table) for table in (base, tuned) if len(table) > 1]
    parts += [(one.of_mean, one.seeds - 1) for one in tables]
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return Uncertainty(mean, mean, float(mean == 0), 0.0)
    edge = _edge(parts, resampling.ALPHA)
    return Uncertainty(mean - edge, mean + edge, _p(parts, abs(mean)), 1 - parts[0][0] / variance)


def _edge(parts: Sequence[tuple[float, int]], level: float) -> float:
    from scipy import special  # its quantile is that of stats.t, without a thousand checks

    return float(sum(part * special.stdtrit(freedom, level / 2) ** 2 for part, freedom in parts) ** 0.5)


def _p(parts: Sequence[tuple[float, int]], distance: float) -> float:
    """Return the level at which the interval would just reach zero."""
    from scipy import optimize

    smallest = 1e-12
    if distance == 0:
        return 1.0
    if _edge(parts, smallest) <= distance:
        return smallest
    return float(optimize.brentq(lambda level: _edge(parts, level) - distance, smallest, 1.0, xtol=1e-14))


def compare_seeds(
    base: Sequence[float] | Sequence[Sequence[float]],
    tuned: Sequence[Sequence[float]],
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
    higher_is_better: bool = True,
    title: str = "The score",
    logarithmic: bool = False,
) -> dict[str, Any]:
    """Compare the scores of several training seeds with those of the base, seed noise included in the verdict.

    Args:
        base: one score per item; or one such list for each seed where what is compared with was trained as well.
        tuned: for each training seed one score per item, all in the order of `base`.
        groups, seed, higher_is_better: as for `compare_scores`; `seed` is of resampling.
        title: the metric's name for people. logarithmic: the scores are logarithms of what people read.

    Returns:
        An entry of comparison.json for the mean over seeds. Where there are two seeds or more, `p` is the larger of
        that over items (`compare_scores`) and that over items and seeds (`uncertainty`), `ci95` the wider of both on
        either side, and `decided_by` says so. `seeds`: `count`; `differences` (of each seed, mean over units); `noise`
        (standard deviation between seeds, in the metric's unit, of logarithms where it is one); `share` (part of the
        variance of the difference that is due to seeds); `sentence`. With one seed the last three say that it is
        unknown.

    Raises:
        UserError: no seed, or scores that cannot be compared.
    """
    before, after = _table("base", base), _table("tuned", tuned)
    if before.shape[1] != after.shape[1]:
        told = f"base has {before.shape[1]} items, tuned {after.shape[1]}"
        raise UserError(f"Scores must be paired item by item: {told}.", "", "Give one entry per item, in one order.")
    one = Measured(title, before.mean(axis=0), after.mean(axis=0), groups, higher_is_better, logarithmic)
    entry = entries({"score": one}, seed, resampling.RESAMPLES)["score"]
    unit = statistics.units(groups, after.shape[1])
    before, after = (_per_unit(table, unit) for table in (before, after))
    each = [float(value) for value in after.mean(axis=1) - before.mean()]
    if max(len(before), len(after)) == 1 or after.shape[1] < 2:
        return {**judge(entry, one), "seeds": _told(each, None, None, ONE_SEED)}
    found, noise = uncertainty(before, after), mean_squares(after).noise ** 0.5
    p = max(entry["p"], found.p)
    low, high = entry["ci95"]
    why = f"{entry['why']} Another seed would give another model: the noise of {len(after)} seeds is part of it."
    entry |= {
        "ci95": [min(low, found.low), max(high, found.high)],
        "p": p,
        "p_adjusted": p,
        "decided_by": SEEDS,
        "why": why,
    }
    sentence = f"Over {plural(len(after), 'training seed')} the score varies by {noise:.3g} (standard deviation), "
    sentence += f"{found.share:.0%} of the variance of the mean difference."
    return {**judge(entry, one), "seeds": _told(each, noise, found.share, sentence)}


def _told(each: list[float], noise: float | None, share: float | None, sentence: str) -> dict[str, Any]:
    return {"count": len(each), "differences": each, "noise": noise, "share": share, "sentence": sentence}


def _table(name: str, scores: Sequence[float] | Sequence[Sequence[float]]) -> Array:
    lengths = {len(row) for row in scores if isinstance(row, Sequence | np.ndarray)}
    if len(lengths) > 1 or len(scores) == 0:
        problem = "has no seed" if len(scores) == 0 else "has seeds with different numbers of items"
        raise UserError(f"The scores of {name} form no table: it {problem}.", "", "Give one list of scores per seed.")
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    for row in table:
        statistics.require_finite(name, row)
    return table


def _per_unit(table: Array, unit: statistics.Places) -> Array:
    sizes = np.bincount(unit)
    return np.stack([np.bincount(unit, row) / sizes for row in table])
