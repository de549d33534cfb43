"""Corpus metrics: BLEU and chrF of a whole test set, as functions of n-gram counts that add up over items.

sacrebleu counts the n-grams. What stands here is the step from summed counts to the score, for thousands of resampled
sums at once; the tests hold it against sacrebleu's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from luthier.evaluate.text import Item, sacrebleu_metric
from luthier.evaluate.words import Script

Array = NDArray[np.float64]
ORDERS = 4  # of BLEU's n-grams
BETA = 2  # of chrF: recall counts twice


@dataclass(frozen=True)
class Counts:
    """What a corpus metric adds up.

    Attributes:
        base, tuned: n-gram counts of each item, shape (items, k). value: from summed counts, shape (…, k), to scores.
    """

    base: Array
    tuned: Array
    value: Callable[[Array], Array]


def corpus_counts(name: str, base: Sequence[Item], tuned: Sequence[Item], script: Script) -> Counts | None:
    """Return what a corpus metric adds up over answered items; None for a metric that is a mean over items."""
    if name not in VALUES:
        return None
    metric = sacrebleu_metric(name, script)
    found = []
    for items in (base, tuned):
        answers, references = [item.answer or "" for item in items], [item.reference for item in items]
        found.append(np.asarray(metric._extract_corpus_statistics(answers, [references]), dtype=np.float64))
    return Counts(found[0], found[1], VALUES[name])


def bleu_value(counts: Array) -> Array:
    """Return corpus BLEU of counts [answer tokens, reference tokens, 4 × matches, 4 × n-grams], shape (…, 10).

    As sacrebleu's `compute_bleu`: the k-th order without a match counts 1 / 2^k matches (its "exp" smoothing).
    """
    length, reference, correct, total = counts[..., 0], counts[..., 1], counts[..., 2:6], counts[..., 6:10]
    missed = np.cumsum(correct == 0, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(correct == 0, 0.5**missed, correct) / total
        mean = np.exp(np.log(precision).sum(axis=-1) / ORDERS)
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        score = 100 * brevity * mean
    nothing = ~correct.any(axis=-1) | (total == 0).any(axis=-1) | (length == 0)
    return np.asarray(np.where(nothing, 0.0, score))


def chrf_value(counts: Array) -> Array:
    """Return corpus chrF of counts [answer, reference, matches] for each order, shape (…, 3 × orders).

    As sacrebleu's chrF: precision and recall are means over the orders that both sides have.
    """
    answer, reference, matches = (counts[..., place::3] for place in range(3))
    there = (answer > 0) & (reference > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(there, matches / answer, 0.0).sum(axis=-1) / orders
        recall = np.where(there, matches / reference, 0.0).sum(axis=-1) / orders
        score = (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
    return np.asarray(100 * np.nan_to_num(score))


VALUES: dict[str, Callable[[Array], Array]] = {"bleu": bleu_value, "chrf": chrf_value}
