"""Yes-or-no metrics: each item is right or wrong, so that only the items on which the two disagree say anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate.resampling import ALPHA

Array = NDArray[np.float64]
POWER = 0.8


@dataclass(frozen=True)
class Disagreements:
    """Items on which two models disagree.

    Attributes:
        won: wrong before, right now. lost: right before, wrong now. items: all of them.
    """

    won: int
    lost: int
    items: int


def count_disagreements(differences: Array) -> Disagreements:
    """Return the disagreements behind differences that are −1, 0 or 1, shape (n,)."""
    return Disagreements(int((differences > 0).sum()), int((differences < 0).sum()), len(differences))


def mcnemar(table: Disagreements) -> float:
    """Return the two-sided p of McNemar's exact test (statsmodels); 1 without any disagreement."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    if table.won + table.lost == 0:
        return 1.0
    agreeing = table.items - table.won - table.lost
    return float(exact(np.array([[agreeing, table.won], [table.lost, 0]]), exact=True).pvalue)


def score_interval(table: Disagreements) -> tuple[float, float]:
    """Return the 95 % score interval of the difference of two paired proportions (Tango 1998), within −1 and 1.

    The differences δ that the score test does not refuse: (won − lost − n δ) over its standard error under δ, with the
    chance of a loss estimated under δ, lies within ±1.96. Found by bisection.
    """
    from scipy import stats

    n, won, lost = table.items, table.won, table.lost
    edge = float(stats.norm.isf(ALPHA / 2))

    def score(delta: float) -> float:
        linear = (2 * n - won + lost) * delta - won - lost
        lost_chance = ((linear**2 + 8 * n * lost * delta * (1 - delta)) ** 0.5 - linear) / (4 * n)
        variance = n * (2 * lost_chance + delta * (1 - delta))
        excess = won - lost - n * delta
        return excess / variance**0.5 if variance > 0 else np.copysign(np.inf, excess) if excess else 0.0

    middle = (won - lost) / n
    low = _bisect(lambda delta: score(delta) > edge, -1.0, middle)
    high = _bisect(lambda delta: score(delta) < -edge, 1.0, middle)
    return low, high


def power(won: float, lost: float, items: int) -> float:
    """Return the power of McNemar's exact test at 5 %.

    Args:
        won, lost: true shares of items, 0 to 1. items: how many there are.
    """
    from scipy import stats

    discordant = won + lost
    if discordant <= 0:
        return 0.0
    counts, worst = _refused_up_to(items)
    share = won / discordant
    refused = stats.binom.cdf(worst, counts, share) + stats.binom.cdf(worst, counts, 1 - share)
    return float(np.sum(stats.binom.pmf(counts, items, min(discordant, 1.0)) * refused))


def detectable(table: Disagreements) -> float | None:
    """Return the smallest difference that is shown with 80 % power, if as many items disagree as were seen to.

    None where even a model that wins all of them would be missed more often.
    """
    discordant = (table.won + table.lost) / table.items
    if power(discordant, 0.0, table.items) < POWER:
        return None

    def missed(difference: float) -> bool:
        return power((discordant + difference) / 2, (discordant - difference) / 2, table.items) < POWER

    return _bisect(missed, 0.0, discordant)


@lru_cache(maxsize=8)
def _refused_up_to(items: int) -> tuple[NDArray[np.int64], Array]:
    """Return all counts of disagreements, and the smaller side up to which each is refused; −1: never."""
    from scipy import stats

    counts = np.arange(items + 1)
    worst = stats.binom.ppf(ALPHA / 2, counts, 0.5)
    worst -= 2 * stats.binom.cdf(worst, counts, 0.5) >= ALPHA
    return counts, np.where(counts > 0, worst, -1.0)


def _bisect(refused: Callable[[float], bool], bad: float, good: float) -> float:
    """Return the place between a refused and an accepted value where refusing ends."""
    for _ in range(60):
        between = (bad + good) / 2
        bad, good = (between, good) if refused(between) else (bad, between)
    return good
