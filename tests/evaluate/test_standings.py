"""Rankings: ranks that say no more than the comparisons, all pairs corrected."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from luthier.errors import UserError
from luthier.evaluate.compare import compare_scores
from luthier.evaluate.standings import Contender, Yardstick, standings

ITEMS = np.random.default_rng(0).random(40)
YARD = Yardstick("ROUGE-L", True, False, [None] * 40)


def contender(name: str, gain: float, seed: int, metric: str = "rougeL") -> Contender:
    scores = ITEMS + gain + np.random.default_rng(seed).normal(0, 0.05, 40)
    return Contender(name, {metric: [scores.tolist()]}, [f"runs/{name}"])


THREE = [contender("low", 0.0, 1), contender("high", 0.2, 2), contender("near", 0.19, 3)]


def test_models_that_cannot_be_told_apart_share_a_rank() -> None:
    found = standings(THREE, {"rougeL": YARD}, "rougeL")
    one = found["metrics"]["rougeL"]
    assert [(line["rank"], line["name"]) for line in one["ranking"]] == [(1, "high"), (1, "near"), (3, "low")]
    assert one["ranking"][0]["mean"] == pytest.approx(np.mean(THREE[1].scores["rougeL"]))
    verdicts = {(pair["first"], pair["second"]): pair["verdict"] for pair in one["pairs"]}
    assert verdicts == {("low", "high"): "worse", ("low", "near"): "worse", ("high", "near"): "no evidence"}
    assert found["sentence"] == "high leads by ROUGE-L, but cannot be told from near."
    json.dumps(found, allow_nan=False)


def test_a_pair_is_a_comparison_and_all_pairs_are_corrected() -> None:
    pairs = standings(THREE, {"rougeL": YARD}, "rougeL")["metrics"]["rougeL"]["pairs"]
    entry = compare_scores(THREE[1].scores["rougeL"][0], THREE[0].scores["rougeL"][0])
    assert pairs[0]["difference"] == pytest.approx(entry["difference"])
    assert (pairs[0]["ci95"], pairs[0]["p"]) == (pytest.approx(entry["ci95"]), pytest.approx(entry["p"]))
    ordered = sorted(pairs, key=lambda pair: pair["p"])
    assert ordered[0]["p_adjusted"] == pytest.approx(3 * ordered[0]["p"])


def test_the_order_of_the_models_changes_nothing_but_signs() -> None:
    there = standings(THREE, {"rougeL": YARD}, "rougeL")["metrics"]["rougeL"]
    back = standings(THREE[::-1], {"rougeL": YARD}, "rougeL")["metrics"]["rougeL"]
    assert [line["name"] for line in back["ranking"]] == [line["name"] for line in there["ranking"]]
    assert back["pairs"][-1]["difference"] == pytest.approx(-there["pairs"][0]["difference"])


def test_lower_is_better_and_logarithms() -> None:
    yard = Yardstick("Perplexity", False, True, [None] * 40)
    models = [contender("a", 0.0, 1, "perplexity"), contender("b", 0.3, 2, "perplexity")]
    one = standings(models, {"perplexity": yard}, "perplexity")["metrics"]["perplexity"]
    assert [line["name"] for line in one["ranking"]] == ["a", "b"]
    assert one["ranking"][0]["mean"] == pytest.approx(math.exp(np.mean(models[0].scores["perplexity"])))
    assert one["pairs"][0]["verdict"] == "better"


def test_noisy_seeds_are_not_told_apart() -> None:
    draw = np.random.default_rng(4)
    shaky = [(ITEMS + 0.08 + 0.15 * draw.normal() + draw.normal(0, 0.02, 40)).tolist() for _ in range(3)]
    one = [*THREE[:1], Contender("shaky", {"rougeL": shaky})]
    found = standings(one, {"rougeL": YARD}, "rougeL")["metrics"]["rougeL"]
    assert found["pairs"][0]["verdict"] == "no evidence"
    assert {line["name"]: line["seeds"] for line in found["ranking"]} == {"low": 1, "shaky": 3}
    single = [*THREE[:1], Contender("shaky", {"rougeL": [np.mean(shaky, axis=0).tolist()]})]
    assert standings(single, {"rougeL": YARD}, "rougeL")["metrics"]["rougeL"]["pairs"][0]["verdict"] == "worse"


def test_identical_models_and_too_few_items() -> None:
    twins = [Contender(name, THREE[0].scores) for name in "ab"]
    found = standings(twins, {"rougeL": YARD}, "rougeL")
    assert found["sentence"] == "By ROUGE-L, no model is better than another beyond chance."
    few = [Contender(one.name, {"rougeL": [one.scores["rougeL"][0][:5]]}) for one in THREE]
    found = standings(few, {"rougeL": Yardstick("ROUGE-L", True, False, [None] * 5)}, "rougeL")
    assert {pair["verdict"] for pair in found["metrics"]["rougeL"]["pairs"]} == {"too few examples"}
    assert found["sentence"] == "5 test items are too few to rank anything by ROUGE-L."


@pytest.mark.parametrize("models", [THREE[:1], [THREE[0], THREE[0]]])
def test_a_ranking_needs_two_models(models: list[Contender]) -> None:
    with pytest.raises(UserError, match="two models"):
        standings(models, {"rougeL": YARD}, "rougeL")
