"""Which metrics an embedding model has, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping

PRIMARY_METRIC = "recall@10"
SECONDARY_METRICS: tuple[str, ...] = ("ndcg@10", "spearman")
EVIDENCE = "retrieval"
DIAGNOSIS = "retrieval"

# Each has a value for every query; rows with scores have spearman, rows with negatives triplet_accuracy.
HIGHER_IS_BETTER: Mapping[str, bool] = {
    "recall@10": True,
    "mrr": True,
    "ndcg@10": True,
    "map": True,
    "recall@5": True,
    "recall@1": True,
    "hit@10": True,
    "triplet_accuracy": True,
    "spearman": True,
}
