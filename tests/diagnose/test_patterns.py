"""What failures have in common: lift and its interval, groups, and suggestions that need evidence."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy.stats import fisher_exact
from scipy.stats.contingency import relative_risk

from luthier.diagnose.base import Given
from luthier.diagnose.patterns import patterns
from tests.diagnose.material import REFERENCE, diagnose, line, rows

GOOD = (
    "Many trees are trained on bootstrap samples of 500 rows, and averaging their votes cuts the variance by about 30 "
    "percent. The bias stays as it is, and the out-of-bag rows estimate the error."
)


def lines(failing: int, of: int, elsewhere: int, rest: int) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    made = [line("", f"a{place}", labels={"topic": "hard"}) for place in range(of)]
    made += [line("", f"b{place}", labels={"topic": "easy"}) for place in range(rest)]
    found = {f"a{place}": ["generic"] for place in range(failing)} | {
        f"b{place}": ["generic"] for place in range(elsewhere)
    }
    return made, found


@pytest.mark.parametrize(("failing", "of", "elsewhere", "rest"), [(8, 12, 5, 40), (5, 9, 2, 30), (20, 40, 11, 60)])
def test_lift_interval_and_p_are_those_of_scipy(failing: int, of: int, elsewhere: int, rest: int) -> None:
    cell = next(one for one in patterns(*lines(failing, of, elsewhere, rest), "tuned") if one["category"] == "generic")
    risk = relative_risk(failing, of, elsewhere, rest)
    interval = risk.confidence_interval(0.95)
    assert (cell["value"], cell["n"], cell["failed"], cell["rest_n"], cell["rest_failed"]) == (
        "hard",
        of,
        failing,
        rest,
        elsewhere,
    )
    assert cell["lift"] == pytest.approx(risk.relative_risk, rel=1e-9)
    assert cell["ci95"] == pytest.approx([interval.low, interval.high], rel=1e-6)
    table = [[failing, of - failing], [elsewhere, rest - elsewhere]]
    assert cell["p"] == pytest.approx(float(fisher_exact(table).pvalue), rel=1e-9)
    assert cell["p"] <= cell["p_adjusted"] <= 1
    assert cell["small"] == (of < 10)


def test_an_empty_cell_has_a_finite_lift() -> None:
    cell = next(one for one in patterns(*lines(4, 10, 0, 20), "tuned") if one["category"] == "generic")
    assert math.isfinite(cell["lift"])
    assert all(math.isfinite(end) for end in cell["ci95"])


def test_nothing_in_common_is_no_pattern() -> None:
    assert patterns(*lines(0, 10, 0, 20), "tuned") == []
    assert all(one["rate"] > one["rest_rate"] for one in patterns(*lines(2, 20, 9, 20), "tuned"))


def test_failures_that_are_alike_form_a_group_with_an_exemplar() -> None:
    short = [line("Trees.", f"s{place}") for place in range(8)]
    loops = [line(f"The wheel {place} turns. " * 12, f"l{place}") for place in range(8)]
    groups = [one for one in diagnose([*short, *loops]).summary["clusters"] if one["side"] == "tuned"]
    assert sorted(sorted(group["ids"])[0][0] for group in groups) == ["l", "s"]
    assert [group["size"] for group in groups] == [8, 8]
    for group in groups:
        assert group["exemplar"]["id"] in group["ids"]
        assert group["exemplar"]["sentence"]


def test_no_suggestion_without_evidence() -> None:
    assert diagnose([line(GOOD, str(place)) for place in range(10)]).summary["suggestions"] == []


def suggested(*answers: Any, **given: Any) -> dict[str, dict[str, Any]]:
    return {one["key"]: one for one in diagnose(*answers, **given).summary["suggestions"]}


def test_truncated_rows_suggest_a_longer_limit() -> None:
    train = {"rows": 100, "truncation": {"rows": 12, "share": 0.12}, "tokens": {"whole": {"max": 300}}}
    report = {"statistics": {"splits": {"train": train}}}
    one = suggested([line(GOOD)], report=report, settings={"data.max_length": 256})["data.max_length"]
    assert (one["now"], one["proposed"]) == (256, 320)
    assert one["evidence"] == {"truncated": 12, "rows": 100, "longest": 300}
    assert "12 of 100" in one["sentence"]
    train["truncation"] = {"rows": 0, "share": 0.0}
    assert "data.max_length" not in suggested([line(GOOD)], report=report, settings={"data.max_length": 256})


def test_cut_answers_suggest_more_tokens_unless_they_loop() -> None:
    settings = {"evaluation.max_new_tokens": 32}
    cut = [
        line(f"{GOOD[:80]} number {place} and", str(place), stopped=False, reference_tokens=60) for place in range(6)
    ]
    one = suggested(cut, settings=settings)["evaluation.max_new_tokens"]
    assert one["proposed"] >= 60
    assert one["evidence"]["cut"] == 6
    looping = [line("the model is a tree " * 30, str(place), stopped=False, reference_tokens=60) for place in range(6)]
    assert "evaluation.max_new_tokens" not in suggested(looping, settings=settings)
    brief = [line(one["answer"], one["id"], stopped=False, reference_tokens=20) for one in cut]
    assert "evaluation.max_new_tokens" not in suggested(brief, settings=settings)


def test_loops_that_training_made_suggest_smaller_steps() -> None:
    loops = [line("the model is a tree " * 30, str(place)) for place in range(10)]
    good = [line(GOOD, str(place)) for place in range(10)]
    settings = {"training.learning_rate": 2e-3}
    one = suggested(loops, good, settings=settings)["training.learning_rate"]
    assert (one["now"], one["proposed"]) == (2e-3, 1e-3)
    assert (one["evidence"]["worse"], one["evidence"]["better"]) == (10, 0)
    assert "training.learning_rate" not in suggested(loops, loops, settings=settings)
    assert "training.learning_rate" not in suggested(good, loops, settings=settings)


def test_a_topic_that_fails_and_has_few_rows_is_named() -> None:
    train = [one for place, one in enumerate(rows(60)) if one.labels["topic"] == "networks" or place < 6]
    bad = [line("Trees.", f"t{place}", labels={"topic": "trees"}) for place in range(8)]
    good = [line(GOOD, f"n{place}", labels={"topic": "networks"}) for place in range(12)]
    one = suggested([*bad, *good], train=train)["data.source"]
    assert one["evidence"]["rows"] == 3
    assert one["evidence"]["failed"] == 8
    assert "'trees'" in one["sentence"]
    assert "data.source" not in suggested([*bad, *good], train=rows(60))


def test_faults_that_the_training_rows_have_are_traced_to_them() -> None:
    train = rows(40)
    for each in train[::2]:
        each.content["messages"][1]["content"] += "<|im_end|>"
    answers = [line(f"{GOOD}<|im_end|>", str(place)) for place in range(6)]
    one = suggested(answers, train=train)["data.source"]
    assert one["evidence"] == {"failing": 6, "rows": 20, "of": 40}
    assert "data.source" not in suggested(answers)


def test_given_needs_no_more_than_answers() -> None:
    assert Given({"base": [], "tuned": []}, [], [], []).settings == {}
    assert REFERENCE
