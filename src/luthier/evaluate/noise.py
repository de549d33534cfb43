"""The noise of training seeds: how much of a difference is the luck of a seed, and what that does to its entry.

Items and seeds are both samples: another test set would have other items, another training another seed. The scores of
S seeds on n units form a table, seeds × units, and the mean over it varies for three reasons: units, seeds, and their
interaction. The two-way analysis of variance with both as random effects (Searle, Casella and McCulloch 1992, ch. 4)
estimates each share. Few seeds thus cost what they should: where seeds differ much, two or three of them leave a wide
interval. Two say next to nothing of their noise; three is the least that is worth the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate import resampling, statistics
from luthier.evaluate.entries import reduce
from luthier.evaluate.measured import Measured, Seeds
from luthier.evaluate.sentences import plural

Array = NDArray[np.float64]

SEEDS = "permutation and seeds"
ONE_SEED = "One training seed was run: how much another would change the result is unknown."
ONE_UNIT = "A single item says nothing of the noise of seeds."


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
        wider: how many times as wide the interval is as that over items alone.
    """

    low: float
    high: float
    p: float
    share: float
    wider: float


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
        return Uncertainty(mean, mean, float(mean == 0), 0.0, 1.0)
    edge, of_items = _edge(parts, resampling.ALPHA), _edge(parts[:1], resampling.ALPHA)
    wider = edge / of_items if of_items else float("inf")
    return Uncertainty(mean - edge, mean + edge, _p(parts, abs(mean)), 1 - parts[0][0] / variance, wider)


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


def with_seeds(entry: Mapping[str, Any], one: Measured) -> dict[str, Any]:
    """Return the numbers of an entry with the noise of its training seeds, unchanged where there is one seed.

    With two seeds or more, `p` is the larger of that over items and that over items and seeds (`uncertainty`), `ci95`
    the wider of both on either side, `power` and `minimum_detectable` those of the wider interval, and `decided_by`
    says so. `minimum_detectable_dz` stays that of the items. Added is `seeds`: `count`; `differences` (of each seed,
    mean over units); `noise` (standard deviation between seeds, in the metric's unit, of logarithms where it is one);
    `share` (part of the variance of the difference that is due to seeds); `sentence`.

    Args:
        entry: of `entries`, for the means over seeds. one: the scores.
    """
    if one.seeds is None:
        return dict(entry)
    base, tuned = _tables(one, one.seeds)
    each = [float(value) for value in tuned.mean(axis=1) - base.mean()]
    if max(len(base), len(tuned)) == 1 or tuned.shape[1] < 2:
        return {**entry, "seeds": _told(each, None, None, ONE_UNIT if tuned.shape[1] < 2 else ONE_SEED)}
    found, noise = uncertainty(base, tuned), mean_squares(tuned).noise ** 0.5
    p, (low, high) = max(entry["p"], found.p), entry["ci95"]
    dz, smallest = entry["cohens_dz"], entry["minimum_detectable"]
    sentence = f"Over {plural(len(tuned), 'training seed')} the score varies by {noise:.3g} (standard deviation), "
    sentence += f"{found.share:.0%} of the variance of the mean difference."
    return {
        **entry,
        "ci95": [min(low, found.low), max(high, found.high)],
        "p": p,
        "p_adjusted": p,
        "power": None if dz is None else statistics.power_reached(dz / found.wider, entry["n"]),
        "minimum_detectable": None if smallest is None else _finite(smallest * found.wider),
        "decided_by": SEEDS,
        "why": f"{entry['why']} Another seed would give another model: the noise of {len(tuned)} seeds is part of it.",
        "seeds": _told(each, noise, found.share, sentence),
    }


def summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a comparison says of its seeds: that of the metric that decides."""
    told = entry.get("seeds") or _told([0.0], None, None, ONE_SEED)
    return {key: told[key] for key in ("count", "noise", "sentence")}


def _tables(one: Measured, seeds: Seeds) -> tuple[Array, Array]:
    """Return the scores of base and tuned by seed and unit; of a corpus metric, what each unit adds to the gain."""
    if one.corpus is not None:
        every = [
            replace(one, tuned=scores, corpus=counts) for scores, counts in zip(seeds.tuned, seeds.corpora, strict=True)
        ]
        tuned = np.stack([reduce(each).values for each in every])
        return np.zeros((1, tuned.shape[1])), tuned
    unit = statistics.units(one.groups, len(one.tuned))
    base, tuned = (_per_unit(np.asarray(table, dtype=np.float64), unit) for table in (seeds.base, seeds.tuned))
    return base, tuned


def _per_unit(table: Array, unit: statistics.Places) -> Array:
    sizes = np.bincount(unit)
    return np.stack([np.bincount(unit, row) / sizes for row in table])


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _told(each: list[float], noise: float | None, share: float | None, sentence: str) -> dict[str, Any]:
    return {"count": len(each), "differences": each, "noise": noise, "share": share, "sentence": sentence}
