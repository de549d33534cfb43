"""Verdicts: what they say, that they do not cry wolf, and how the overall one is reached."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import UserError
from luthier.evaluate.compare import compare, compare_scores
from luthier.evaluate.entries import entries
from luthier.evaluate.measured import Measured

KEYS = ["base", "tuned", "difference", "ci95", "tests", "p_adjusted", "cohens_dz", "power", "minimum_detectable"]
BASE = np.random.default_rng(0).random(40)
BETTER, WORSE = BASE + 0.1 + 0.01 * BASE, BASE - 0.1 - 0.01 * BASE
NOISE = BASE + np.random.default_rng(1).normal(0, 0.2, 40)


def test_an_entry_has_the_keys_that_scripts_rely_on_and_is_json() -> None:
    entry = compare_scores(BASE, NOISE)
    assert list(entry)[: len(KEYS)] == KEYS
    assert {"n", "verdict", "sentence", "items", "decided_by", "why", "cohens_dz_ci95", "cliffs_delta"} <= set(entry)
    assert set(entry["tests"]) == {"t", "wilcoxon", "bootstrap", "permutation"}
    assert set(compare_scores([1, 0] * 8, [1] * 16)["tests"]) == {*entry["tests"], "mcnemar"}
    for one in (entry, compare_scores([1], [2]), compare_scores([1] * 12, [2] * 12), compare_scores([0], [1])):
        json.dumps(one, allow_nan=False)


@pytest.mark.parametrize(
    ("tuned", "higher", "verdict"),
    [
        (BETTER, True, "improved"),
        (WORSE, True, "worse"),
        (BETTER, False, "worse"),
        (WORSE, False, "improved"),
        (NOISE, True, "no evidence"),
        (BASE, True, "no evidence"),
    ],
)
def test_verdicts(tuned: np.ndarray, higher: bool, verdict: str) -> None:
    assert compare_scores(BASE, tuned, higher_is_better=higher)["verdict"] == verdict


def test_too_few_examples() -> None:
    nine = compare_scores(BASE[:9], BETTER[:9])
    assert nine["verdict"] == "too few examples"
    assert nine["tests"]["permutation"] == 2 / 2**9  # all nine point one way, and still it is nine
    assert compare_scores(BASE[:10], BETTER[:10])["verdict"] == "improved"
    # Twelve would have missed even a large effect one time in three: silence is no evidence of absence.
    assert compare_scores(BASE[:12], NOISE[:12])["verdict"] == "too few examples"
    assert compare_scores([1.0], [2.0])["ci95"] is None


def test_units_are_counted_and_not_items() -> None:
    groups = [place // 8 for place in range(40)]
    entry = compare_scores(BASE, BETTER, groups)
    assert (entry["n"], entry["verdict"]) == (5, "too few examples")
    assert "5 groups of 40 items" in entry["sentence"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=30))
def test_swapping_mirrors_every_sign(pairs: list[tuple[float, float]]) -> None:
    base, tuned = [one for one, _ in pairs], [other for _, other in pairs]
    there, back = compare_scores(base, tuned), compare_scores(tuned, base)
    assert back["difference"] == -there["difference"]
    assert back["tests"] == pytest.approx(there["tests"], rel=1e-9)
    if there["ci95"] is not None:
        scale = max(1.0, *map(abs, there["ci95"]))
        assert back["ci95"] == pytest.approx([-there["ci95"][1], -there["ci95"][0]], abs=1e-9 * scale)
        assert there["ci95"][0] <= there["ci95"][1]
    assert (back["cohens_dz"] is None) == (there["cohens_dz"] is None)
    if there["cohens_dz"] is not None:
        assert back["cohens_dz"] == pytest.approx(-there["cohens_dz"])
    mirror = {"improved": "worse", "worse": "improved"}
    assert back["verdict"] == mirror.get(there["verdict"], there["verdict"])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_identical_scores_are_no_evidence(scores: list[float]) -> None:
    entry = compare_scores(scores, scores)
    assert (entry["verdict"], entry["difference"], entry["p_adjusted"]) == ("no evidence", 0.0, 1.0)


def test_the_same_seed_gives_the_same_entry() -> None:
    assert compare_scores(BASE, NOISE, seed=4) == compare_scores(BASE, NOISE, seed=4)
    assert compare_scores(BASE, NOISE, seed=4) != compare_scores(BASE, NOISE, seed=5)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40), st.booleans())
def test_swapping_mirrors_right_or_wrong_and_groups(pairs: list[tuple[bool, bool]], grouped: bool) -> None:
    base, tuned = [float(one) for one, _ in pairs], [float(other) for _, other in pairs]
    groups = [place // 2 for place in range(len(pairs))] if grouped else None
    there, back = compare_scores(base, tuned, groups), compare_scores(tuned, base, groups)
    assert there["decided_by"] == ("permutation" if grouped else "mcnemar")
    for key in ("difference", "difference_items", "cliffs_delta"):
        assert back[key] == pytest.approx(-there[key], abs=1e-12)
    assert back["p"] == pytest.approx(there["p"], rel=1e-9)
    if there["ci95"] is not None:
        assert back["ci95"] == pytest.approx([-there["ci95"][1], -there["ci95"][0]], abs=1e-9)
    if there["cohens_dz_ci95"] is not None:
        low, high = there["cohens_dz_ci95"]
        assert back["cohens_dz_ci95"] == pytest.approx([-high, -low], abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 40), st.floats(0.0, 0.6))
def test_a_verdict_and_its_interval_never_contradict_each_other(seed: int, count: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    entry = compare_scores(random.normal(0, 1, count), random.normal(shift, 1, count))
    low, high = entry["ci95"]
    if entry["verdict"] in ("improved", "worse"):
        assert low > 0 or high < 0
    elif entry["tests"]["permutation"] < 0.049:
        assert low <= 0.01 * (high - low)  # an interval that leaves out 0 is only passed over at the very edge
        assert high >= -0.01 * (high - low)


def test_no_difference_is_called_one_in_about_one_case_of_twenty() -> None:
    """400 nulls of 20 pairs, as columns of one comparison: 5 % are 20; more than 33 would be seen once in 500 times."""
    random = np.random.default_rng(20)
    base, tuned = random.normal(0, 1, (2, 400, 20))
    measured = {str(at): Measured(str(at), base[at].tolist(), tuned[at].tolist()) for at in range(400)}
    found = entries(measured, seed=0, resamples=999).values()
    called = sum(one["p"] < 0.05 for one in found)
    covered = sum(one["ci95"][0] <= 0 <= one["ci95"][1] for one in found)
    assert 7 <= called <= 33
    assert covered >= 367


def several(**tuned: np.ndarray) -> dict[str, Measured]:
    return {name: Measured(name, BASE.tolist(), scores.tolist()) for name, scores in tuned.items()}


@pytest.mark.parametrize(
    ("measured", "verdict", "words"),
    [
        (several(main=BETTER, other=NOISE), "improved", "main went from"),
        (several(main=BETTER, other=BETTER), "improved", "Also improved: other"),
        (several(main=BETTER, other=WORSE), "no evidence", "main improved, but other got worse"),
        (several(main=NOISE, other=BETTER), "no evidence", "Also improved: other"),
        (several(main=WORSE, other=BETTER), "worse", "main went from"),
    ],
)
def test_the_primary_metric_decides_guarded_by_the_others(
    measured: dict[str, Measured], verdict: str, words: str
) -> None:
    comparison = compare(measured, "main")
    assert comparison["verdict"] == verdict
    assert words in comparison["sentence"]
    assert set(comparison["metrics"]) == {"main", "other"}


def test_p_values_are_corrected_for_the_number_of_metrics() -> None:
    noise = np.random.default_rng(8).normal(0, 1, 40)
    hint = BASE + 0.05 + 0.14 * (noise - noise.mean()) / noise.std()  # t = 2.2, p about 0.03
    alone = compare(several(main=hint), "main")["metrics"]["main"]
    beside = compare(several(main=hint, **{f"m{place}": NOISE for place in range(9)}), "main")["metrics"]["main"]
    assert alone["p_adjusted"] < 0.05 < beside["p_adjusted"]
    assert beside["p_adjusted"] == pytest.approx(10 * alone["p_adjusted"])
    assert (alone["verdict"], beside["verdict"]) == ("improved", "no evidence")


def test_exploratory_metrics_are_corrected_over_all_and_decide_nothing() -> None:
    measured = several(main=BETTER, guard=NOISE, other=WORSE)
    declared = compare(measured, "main", secondary=["guard", "not measured"])
    roles = {name: entry["role"] for name, entry in declared["metrics"].items()}
    assert roles == {"main": "primary", "guard": "secondary", "other": "exploratory"}
    assert (declared["verdict"], declared["metrics"]["other"]["verdict"]) == ("improved", "worse")
    assert declared["correction"] == "Holm over 2 declared metrics; over all 3 for the exploratory ones"
    assert declared["metrics"]["main"]["p_adjusted"] == pytest.approx(2 * declared["metrics"]["main"]["p"])
    assert declared["metrics"]["other"]["p_adjusted"] == pytest.approx(3 * declared["metrics"]["other"]["p"])
    assert compare(measured, "main")["verdict"] == "no evidence"  # all guard the primary one: `other` got worse


def test_metrics_with_other_items_do_not_change_each_other() -> None:
    shorter = Measured("short", BASE[:20].tolist(), NOISE[:20].tolist())
    together = compare({**several(main=NOISE), "short": shorter}, "main")["metrics"]
    for name, one in (*several(main=NOISE).items(), ("short", shorter)):
        alone = compare({name: one}, name)["metrics"][name]
        assert together[name]["tests"] == pytest.approx(alone["tests"], rel=1e-9)
        assert together[name]["ci95"] == pytest.approx(alone["ci95"], rel=1e-9)


def test_a_logarithm_is_told_as_what_people_read() -> None:
    base = np.log(np.linspace(20, 40, 30))
    one = Measured("Perplexity", base.tolist(), (base - np.log(2)).tolist(), None, False, True)
    entry = compare({"perplexity": one}, "perplexity")["metrics"]["perplexity"]
    sentence = entry["sentence"]
    geometric_mean = float(np.exp(base.mean()))
    assert entry["base"] == pytest.approx(geometric_mean)
    assert entry["tuned"] == pytest.approx(geometric_mean / 2)
    assert entry["difference"] == pytest.approx(-geometric_mean / 2)
    assert "-50%" in sentence
    assert "improved" in sentence


def test_an_absent_primary_metric_is_told() -> None:
    with pytest.raises(UserError, match="rougeL"):
        compare(several(main=NOISE), "rougeL")
