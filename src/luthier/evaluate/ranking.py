"""Scores of a ranking, query by query, from the ranks of what is relevant; and the geometry of a set of vectors.

Definitions are those of sentence-transformers' InformationRetrievalEvaluator, which the tests hold them against,
without its cut-offs for MRR and MAP. Alignment and uniformity are those of Wang and Isola (2020, arXiv:2005.10242).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luthier.models.vectors import BLOCK, Vectors

Ranks = Sequence[int]  # of the relevant texts of one query, from 1, rising
SAMPLE = 2000  # texts whose pairs stand for all in the uniformity


def ranks_of_relevant(
    queries: Vectors, corpus: Vectors, relevant: Sequence[Sequence[int]], leave_out: Sequence[int]
) -> list[list[int]]:
    """Return the ranks of the relevant texts of each query among the whole corpus, rising.

    Args:
        queries: [n, dimensions]. corpus: [m, dimensions]; both of length 1. relevant: places in the corpus, by query.
        leave_out: by query the place of the query itself in the corpus, which is no answer; -1 where it is not there.
            Of texts that are equally near the earlier one comes first.
    """
    found: list[list[int]] = []
    rows = max(1, BLOCK // max(len(corpus), 1))
    for start in range(0, len(queries), rows):
        similar = queries[start : start + rows] @ corpus.T
        for row, values in enumerate(similar):
            own = leave_out[start + row]
            if own >= 0:
                values[own] = -np.inf
            places = np.asarray(relevant[start + row], dtype=np.int64)
            found.append(_ranks(values, places))
    return found


def _ranks(values: NDArray[np.float32], places: NDArray[np.int64]) -> list[int]:
    ranks = []
    for place in places.tolist():
        ahead = int((values > values[place]).sum()) + int((values[:place] == values[place]).sum())
        ranks.append(ahead + 1)
    return sorted(ranks)


def recall(k: int) -> Callable[[Ranks], float]:
    """Return the share of the relevant texts that are among the first `k`, as a function of their ranks."""
    return lambda ranks: sum(rank <= k for rank in ranks) / len(ranks)


def hit(k: int) -> Callable[[Ranks], float]:
    """Return whether one relevant text at least is among the first `k`, as 0 or 1."""
    return lambda ranks: float(ranks[0] <= k)


def reciprocal_rank(ranks: Ranks) -> float:
    """Return 1 / rank of the first relevant text; its mean over queries is MRR."""
    return 1 / ranks[0]


def ndcg(k: int) -> Callable[[Ranks], float]:
    """Return the discounted gain of the first `k` as a share of what the best order would have."""

    def gain(ranks: Ranks) -> float:
        best = sum(1 / math.log2(place + 1) for place in range(1, min(len(ranks), k) + 1))
        return sum(1 / math.log2(rank + 1) for rank in ranks if rank <= k) / best

    return gain


def average_precision(ranks: Ranks) -> float:
    """Return the mean precision at the relevant texts; its mean over queries is MAP."""
    return sum(place / rank for place, rank in enumerate(ranks, 1)) / len(ranks)


RANKED: dict[str, tuple[str, Callable[[Ranks], float]]] = {
    "recall@1": ("Recall@1", recall(1)),
    "recall@5": ("Recall@5", recall(5)),
    "recall@10": ("Recall@10", recall(10)),
    "hit@10": ("Hit rate@10", hit(10)),
    "mrr": ("MRR", reciprocal_rank),
    "ndcg@10": ("nDCG@10", ndcg(10)),
    "map": ("MAP", average_precision),
}
TITLES = {
    **{name: title for name, (title, _) in RANKED.items()},
    "triplet_accuracy": "Triplet accuracy",
    "spearman": "Spearman correlation",
}


def spearman_parts(similarities: Sequence[float], scores: Sequence[float]) -> list[float]:
    """Return one number for each pair whose mean is Spearman's rank correlation: the product of its standardised ranks.

    All are 0 where the similarities, or the scores, are all the same.
    """
    from scipy.stats import rankdata

    standard = []
    for values in (similarities, scores):
        ranks = rankdata(values)
        spread = ranks.std()
        standard.append((ranks - ranks.mean()) / spread if spread > 0 else np.zeros(len(ranks)))
    return [float(value) for value in standard[0] * standard[1]]


def geometry(vectors: Vectors, pairs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Return how vectors lie on the sphere.

    Args:
        vectors: [n, dimensions], length 1. pairs: places of texts that belong together.

    Returns:
        `alignment`: mean squared distance of what belongs together, 0 to 4, lower is nearer. `uniformity`: log of the
        mean of exp(−2 squared distance) over all pairs of the first 2,000 vectors, lower is more even.
        `mean_similarity`: of these pairs; near 1 the space has collapsed. None where there are no pairs.
    """
    told: dict[str, Any] = {"alignment": None, "uniformity": None, "mean_similarity": None}
    if pairs:
        left, right = (vectors[[pair[side] for pair in pairs]] for side in (0, 1))
        told["alignment"] = float(((left - right) ** 2).sum(1).mean())
    some = vectors[:SAMPLE]
    if len(some) > 1:
        similar = (some @ some.T)[np.triu_indices(len(some), 1)].astype(np.float64)
        told["uniformity"] = float(np.log(np.exp(-2 * (2 - 2 * similar)).mean()))
        told["mean_similarity"] = float(similar.mean())
    return told
