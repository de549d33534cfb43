"""Which metrics a causal language model has, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping

PRIMARY_METRIC = "rougeL"
SECONDARY_METRICS: tuple[str, ...] = ("bleu", "perplexity")
EVIDENCE = "answers"
DIAGNOSIS = "answers"

# Perplexity is that of the reference answer; all others compare the model's answer with the reference. Semantic needs
# the sentence model minilm; where it is not installed, "auto" leaves it out.
HIGHER_IS_BETTER: Mapping[str, bool] = {
    "rouge1": True,
    "rouge2": True,
    "rougeL": True,
    "rougeLsum": True,
    "bleu": True,
    "chrf": True,
    "meteor": True,
    "exact_match": True,
    "token_f1": True,
    "key_points": True,
    "semantic": True,
    "perplexity": False,
}
