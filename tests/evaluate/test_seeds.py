"""Several training seeds: the analysis of variance against statsmodels, and verdicts that know of seed noise."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.formula.api import ols

from luthier.errors import UserError
from luthier.evaluate.compare import compare, compare_scores
from luthier.evaluate.corpus import corpus_counts
from luthier.evaluate.measured import Measured, of_seeds
from luthier.evaluate.noise import mean_squares, uncertainty
from luthier.evaluate.seeds import compare_seeds
from luthier.evaluate.text import Item, score_items

RANDOM = np.random.default_rng(5)
BASE = RANDOM.random(30)


def table(seeds: int, noise: float, gain: float, units: int = 30) -> np.ndarray:
    draw = np.random.default_rng(seeds)
    return BASE[:units] + gain + noise * draw.normal(0, 1, (seeds, 1)) + draw.normal(0, 0.1, (seeds, units))


def test_mean_squares_equal_statsmodels() -> None:
    scores = table(4, 0.05, 0.1)
    frame = pd.DataFrame([(seed, unit, scores[seed, unit]) for seed in range(4) for unit in range(30)])
    frame.columns = ["seed", "unit", "score"]
    found = sm.stats.anova_lm(ols("score ~ C(seed) + C(unit)", frame).fit())
    layout = mean_squares(scores)
    expected = found["mean_sq"][["C(seed)", "C(unit)", "Residual"]].tolist()
    assert [layout.of_seeds, layout.of_units, layout.rest] == pytest.approx(expected, rel=1e-9)
    assert layout.noise == pytest.approx(max(expected[0] - expected[2], 0) / 30)


def test_without_seed_noise_it_is_the_t_test_and_p_and_interval_agree() -> None:
    draw = np.random.default_rng(0)
    differences = draw.normal(0.2, 1, 30)
    rest = draw.normal(0, 1, (3, 30))
    rest -= rest.mean(axis=0)
    rest -= rest.mean(axis=1, keepdims=True)  # seeds with the same mean: no noise is seen
    found = uncertainty(np.zeros((1, 30)), differences + rest)
    student = stats.ttest_1samp(differences, 0)
    assert found.p == pytest.approx(student.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(student.confidence_interval()), rel=1e-9)
    assert found.share == 0.0


def test_with_nothing_but_seed_noise_it_is_the_t_test_over_seeds() -> None:
    means = np.array([0.1, 0.3, 0.25, 0.4])
    found = uncertainty(np.zeros((1, 50)), np.repeat(means[:, None], 50, axis=1))
    student = stats.ttest_1samp(means, 0)
    assert found.p == pytest.approx(student.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(student.confidence_interval()), rel=1e-9)
    assert found.share == pytest.approx(1.0)


def test_noise_takes_back_a_verdict_that_items_alone_would_give() -> None:
    quiet, noisy = (compare_seeds(BASE, table(3, noise, 0.08)) for noise in (0.0, 0.2))
    assert (quiet["verdict"], noisy["verdict"]) == ("improved", "no evidence")
    assert compare_scores(BASE, table(3, 0.2, 0.08).mean(axis=0))["verdict"] == "improved"
    assert noisy["ci95"][0] < 0 < noisy["ci95"][1]
    assert (noisy["decided_by"], noisy["seeds"]["count"]) == ("permutation and seeds", 3)
    assert noisy["seeds"]["noise"] == pytest.approx(mean_squares(table(3, 0.2, 0.08)).noise ** 0.5)
    assert 0.9 < noisy["seeds"]["share"] <= 1
    assert np.mean(noisy["seeds"]["differences"]) == pytest.approx(noisy["difference"])
    json.dumps(noisy, allow_nan=False)


def test_one_seed_says_that_its_noise_is_unknown() -> None:
    entry = compare_seeds(BASE, table(1, 0.0, 0.1))
    plain = compare_scores(BASE, table(1, 0.0, 0.1)[0])
    assert {key: entry[key] for key in plain} == plain
    assert (entry["seeds"]["count"], entry["seeds"]["noise"]) == (1, None)
    assert "unknown" in entry["seeds"]["sentence"]


def test_two_trained_sides_and_swapping_them() -> None:
    first, second = table(3, 0.02, 0.1), table(4, 0.02, 0.0)
    there, back = compare_seeds(first, second), compare_seeds(second, first)
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["p"] == pytest.approx(there["p"])
    assert back["ci95"] == pytest.approx([-there["ci95"][1], -there["ci95"][0]])


def test_groups_are_units() -> None:
    groups = [place // 3 for place in range(30)]
    entry = compare_seeds(BASE, table(3, 0.01, 0.1), groups)
    assert (entry["n"], entry["items"]) == (10, 30)


def test_seed_noise_is_not_taken_for_evidence() -> None:
    """200 nulls of five noisy seeds: 5 % are 10; more than 20 would be seen once in 700 times. Items alone: over 40."""
    draw = np.random.default_rng(1)
    wrong = blind = 0
    for _ in range(200):
        scores = 0.3 * draw.normal(0, 1, (5, 1)) + draw.normal(0, 1, (5, 46))
        wrong += uncertainty(np.zeros((1, 46)), scores).p < 0.05
        blind += stats.ttest_1samp(scores.mean(axis=0), 0).pvalue < 0.05
    assert wrong <= 20
    assert blind > 40


@pytest.mark.parametrize(
    ("base", "tuned", "word"),
    [
        ([1.0, 2.0], [], "no seed"),
        ([1.0, 2.0], [[1.0, 2.0], [1.0]], "different numbers"),
        ([1.0, 2.0], [[1.0, float("nan")]], "tuned[1] is nan"),
        ([1.0, 2.0], [[1.0, 2.0, 3.0]], "base has 2 items, tuned 3"),
    ],
)
def test_bad_input_is_told(base: list, tuned: list, word: str) -> None:
    with pytest.raises(UserError) as raised:
        compare_seeds(base, tuned)
    assert word in str(raised.value)


def test_a_comparison_of_several_metrics_corrects_what_seeds_have_weakened() -> None:
    tables = {"quiet": table(3, 0.0, 0.08), "noisy": table(3, 0.2, 0.08)}
    measured = {name: of_seeds(name, [BASE], scores) for name, scores in tables.items()}
    found = compare(measured, "noisy", resamples=10_000)
    for name, scores in tables.items():
        alone, entry = compare_seeds(BASE, scores, title=name), found["metrics"][name]
        assert (entry["p"], *entry["ci95"]) == pytest.approx((alone["p"], *alone["ci95"]), rel=0.02)
        assert entry["seeds"] == alone["seeds"]
    assert found["metrics"]["quiet"]["p_adjusted"] == pytest.approx(2 * found["metrics"]["quiet"]["p"])
    assert (found["verdict"], found["metrics"]["quiet"]["verdict"]) == ("no evidence", "improved")
    assert found["seeds"] == {key: found["metrics"]["noisy"]["seeds"][key] for key in ("count", "noise", "sentence")}
    blind = compare({"noisy": Measured("noisy", BASE, tables["noisy"].mean(axis=0))}, "noisy")["metrics"]["noisy"]
    seeing = found["metrics"]["noisy"]
    assert blind["verdict"] == "improved"
    assert seeing["minimum_detectable"] > 2 * blind["minimum_detectable"]
    assert seeing["power"] < blind["power"]
    assert "30 items and 3 training seeds" in seeing["sentence"]


def test_a_corpus_metric_of_equal_seeds_is_that_of_one() -> None:
    draw = np.random.default_rng(3)
    words = [list(draw.choice(list("abcdefgh"), 9)) for _ in range(24)]
    items = [Item(answer=" ".join(one), reference="a b c d e f g h a") for one in words]
    answers = [Item(answer=" ".join(["a", "b", "c", "d", *one[4:]]), reference="a b c d e f g h a") for one in words]
    counts = corpus_counts("chrf", items, answers, "latin")
    scores = [[score.value for score in score_items(side, "chrf", "latin") if score] for side in (items, answers)]
    one = compare({"chrf": Measured("chrF", *scores, None, True, False, counts)}, "chrf")["metrics"]["chrf"]
    same = of_seeds("chrF", [scores[0]], [scores[1]] * 3, corpora=[counts] * 3)
    several = compare({"chrf": same}, "chrf")["metrics"]["chrf"]
    assert several["seeds"]["noise"] == pytest.approx(0, abs=1e-12)
    assert several["seeds"]["differences"] == pytest.approx([one["difference"]] * 3)
    for key in ("base", "tuned", "difference", "cohens_dz", "minimum_detectable"):
        assert several[key] == pytest.approx(one[key])
    other = corpus_counts("chrf", items, items, "latin")
    mixed = of_seeds("chrF", [scores[0]], [scores[1], scores[0]], corpora=[counts, other])
    entry = compare({"chrf": mixed}, "chrf")["metrics"]["chrf"]
    assert entry["seeds"]["differences"] == pytest.approx([one["difference"], 0])
    assert (entry["ci95"][1] - entry["ci95"][0]) > 2 * (one["ci95"][1] - one["ci95"][0])
