"""Scores of several training seeds against those of the base, or of another model that was trained several times."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.errors import UserError
from luthier.evaluate import resampling, statistics
from luthier.evaluate.compare import judge
from luthier.evaluate.entries import entries
from luthier.evaluate.measured import of_seeds
from luthier.evaluate.noise import with_seeds

Array = NDArray[np.float64]


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
        An entry of comparison.json for the mean over seeds, their noise part of it: see `noise.with_seeds`. With one
        seed `noise`, `share` and `sentence` say that it is unknown.

    Raises:
        UserError: no seed, or scores that cannot be compared.
    """
    before, after = _table("base", base), _table("tuned", tuned)
    if before.shape[1] != after.shape[1]:
        told = f"base has {before.shape[1]} items, tuned {after.shape[1]}"
        raise UserError(f"Scores must be paired item by item: {told}.", "", "Give one entry per item, in one order.")
    one = of_seeds(title, before, after, groups, higher_is_better, logarithmic)
    return judge(with_seeds(entries({"score": one}, seed, resampling.RESAMPLES)["score"], one), one)


def _table(name: str, scores: Sequence[float] | Sequence[Sequence[float]]) -> Array:
    lengths = {len(row) for row in scores if isinstance(row, Sequence | np.ndarray)}
    if len(lengths) > 1 or len(scores) == 0:
        problem = "has no seed" if len(scores) == 0 else "has seeds with different numbers of items"
        raise UserError(f"The scores of {name} form no table: it {problem}.", "", "Give one list of scores per seed.")
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    for row in table:
        statistics.require_finite(name, row)
    return table
