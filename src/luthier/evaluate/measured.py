"""What a comparison takes: the scores of base and tuned on one metric."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate.corpus import Counts

Table = Sequence[Sequence[float]] | NDArray[np.float64]  # seeds × items


@dataclass(frozen=True)
class Seeds:
    """The scores of several trainings with other seeds, in the order of the items.

    Attributes:
        base, tuned: one list of scores for each seed; a base that nobody trained has one.
        corpora: of a corpus metric, what it adds up, with the answers of each tuned seed.
    """

    base: Table
    tuned: Table
    corpora: Sequence[Counts] = ()


@dataclass(frozen=True)
class Measured:
    """The scores of base and tuned on one metric, item by item.

    Attributes:
        title: the metric's name for people.
        base, tuned: one finite number per item, in one order. groups: the group of each item, or None.
        higher_is_better: direction of the metric.
        logarithmic: the numbers are logarithms of what people read (perplexity). Tests and effect size are those of
            the logarithms; `base`, `tuned` and the differences are given in what people read.
        corpus: what a corpus metric adds up over the same items. Its value over all of them is then compared, and
            `base` and `tuned` serve the rank test and the breakdowns alone. None: the metric is a mean over items.
        seeds: where several seeds were trained, the scores of each; `base`, `tuned` and `corpus` are then their means.
    """

    title: str
    base: Sequence[float]
    tuned: Sequence[float]
    groups: Sequence[Hashable] | None = None
    higher_is_better: bool = True
    logarithmic: bool = False
    corpus: Counts | None = None
    seeds: Seeds | None = None


def of_seeds(
    title: str,
    base: Table,
    tuned: Table,
    groups: Sequence[Hashable] | None = None,
    higher_is_better: bool = True,
    logarithmic: bool = False,
    corpora: Sequence[Counts] = (),
) -> Measured:
    """Return the means over seeds with the scores of each; see `Measured` and `Seeds`.

    A corpus metric is measured on the answers of all seeds together.

    Args:
        base, tuned: tables, seeds × items. corpora: of a corpus metric, one for each tuned seed, with the same base.
    """
    corpus = None
    if corpora:
        corpus = replace(corpora[0], tuned=np.mean([one.tuned for one in corpora], axis=0))
    before, after = np.mean(base, axis=0), np.mean(tuned, axis=0)
    seeds = Seeds(base, tuned, corpora)
    return Measured(title, before, after, groups, higher_is_better, logarithmic, corpus, seeds)
