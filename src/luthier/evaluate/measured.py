"""What a comparison takes: the scores of base and tuned on one metric."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from luthier.evaluate.corpus import Counts


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
    """

    title: str
    base: Sequence[float]
    tuned: Sequence[float]
    groups: Sequence[Hashable] | None = None
    higher_is_better: bool = True
    logarithmic: bool = False
    corpus: Counts | None = None
