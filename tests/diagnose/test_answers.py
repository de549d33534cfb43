"""The diagnosis of answers from end to end: findings with their evidence, thresholds, flips, and bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from luthier.diagnose.taxonomy import categories, criteria, in_order
from luthier.diagnose.variants import MAKERS
from tests.diagnose.material import REFERENCE, diagnose, found, line, rows

GOOD = (
    "Many trees are trained on bootstrap samples of 500 rows, and averaging their votes cuts the variance by about 30 "
    "percent. The bias stays as it is, and the out-of-bag rows estimate the error."
)


def test_the_taxonomy_is_eight_by_three_and_refers_to_what_there_is() -> None:
    assert [len(one.subcategories) for one in categories()] == [3] * 8
    named = {one.name for one in categories()} | {sub.name for sub in in_order()}
    conditions = {condition.removeprefix("not ") for sub in in_order() for way in sub.when for condition in way}
    assert conditions <= set(criteria())
    assert {name for sub in in_order() for name in sub.unless} <= named
    assert {name for one in criteria().values() for name in (*one.good, one.bad) if name} <= set(MAKERS)
    assert set(criteria()) == conditions  # no criterion that nothing asks for
    assert not [sub.name for sub in in_order() if any(way[0].startswith("not ") for way in sub.when)]


def test_a_good_answer_has_no_finding_and_neither_has_the_reference() -> None:
    assert found(GOOD) == set()
    assert found(REFERENCE) == set()


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Trees.", "too_short"),
        (REFERENCE + " ".join(f"Sentence {place} tells of cloud {place * 7}." for place in range(40)), "too_long"),
        ("the the the model model model is is a a a tree tree tree tree", "words"),
        (f"{REFERENCE} {REFERENCE}", "phrases"),
        (GOOD.replace("estimate the error.", "estimate"), "truncated"),
        ("Great question! It depends on many factors. In conclusion, it is important to consider it.", "template_like"),
        ("Bagging always works. Nobody ever fails with it. Every tree is always better.", "over_generalisation"),
        (REFERENCE.replace("500", "50").replace("30", "90"), "factual_inaccuracy"),
        (REFERENCE + " <|im_end|> ### Human:", "presentation"),
        ("LOL bagging is soooo cool 😂!!! " + REFERENCE, "style"),
        ("```python\n" + REFERENCE, "structure"),
        (REFERENCE.replace("lowers the variance", "raises the variance"), "concept_misapplication"),
        ("The recipe wants two eggs, flour, butter and a warm oven for the cake of my aunt.", "irrelevant"),
    ],
)  # fmt: skip
def test_each_fault_is_told_by_its_name(answer: str, name: str) -> None:
    assert name in found(answer)


def test_a_finding_carries_its_evidence() -> None:
    answer = REFERENCE.replace("500", "90")
    findings = [one for one in diagnose([line(answer)]).findings if one["side"] == "tuned"]
    one = next(one for one in findings if one["subcategory"] == "factual_inaccuracy")
    evidence = {"detector", "value", "flag", "threshold", "span", "text", "sentence"}
    assert set(one) == {"id", "side", "category", "subcategory", "certainty"} | evidence
    assert one["text"] == answer[slice(*one["span"])] == "90"
    assert (one["certainty"], one["flag"], one["value"]) == ("suspected", "above", 1.0)
    assert one["threshold"] < one["value"]


def test_what_follows_from_a_finding_is_not_told_again() -> None:
    loop = "The model is the model, and " * 30
    assert found(loop, stopped=False) & {"truncated", "missing_components", "too_long", "partial_coverage"} == set()


def test_thresholds_hang_on_validation_rows_and_not_on_the_test() -> None:
    one = diagnose([line(GOOD)]).summary["thresholds"]
    assert diagnose([line("Completely different, and " * 9)]).summary["thresholds"] == one
    long_rows = rows(30)
    for each in long_rows:
        each.content["messages"][1]["content"] += " One more word is here, and one more."
    moved = diagnose([line(GOOD)], validation=long_rows).summary["thresholds"]
    assert {name for name in one if one[name]["value"] != moved[name]["value"]}
    for entry in one.values():
        assert entry["good_flagged"] <= 0.05
        assert entry["source"] in ("validation", "fixed")


def test_training_rows_stand_in_for_a_missing_validation_split_and_this_is_said() -> None:
    summary = diagnose([line(GOOD)], validation=[]).summary
    assert {entry["source"] for entry in summary["thresholds"].values()} == {"train", "fixed"}
    assert any("training rows stand in" in note for note in summary["notes"])


def test_flips_flow_and_counts_agree() -> None:
    base = [line("Trees.", "a"), line(GOOD, "b"), line("Trees.", "c"), line(GOOD, "d")]
    tuned = [line(GOOD, "a"), line("Trees.", "b"), line("No.", "c"), line(GOOD, "d")]
    scores = [{"id": "a", "metric": "rougeL", "flip": "won"}, {"id": "b", "metric": "rougeL", "flip": "lost"}]
    summary = diagnose(tuned, base, scores=scores).summary
    assert summary["flips"]["counts"] == {"fixed": 1, "broken": 1, "still": 1, "clean": 1}
    by = {one["id"]: one for one in summary["flips"]["items"]}
    assert (by["a"]["flip"], by["a"]["metric_flip"], by["a"]["gone"]) == ("fixed", "won", ["length_mismatch"])
    assert (by["b"]["flip"], by["b"]["metric_flip"], by["b"]["new"]) == ("broken", "lost", ["length_mismatch"])
    labels, matrix = summary["flow"]["labels"], summary["flow"]["matrix"]
    clean, length = labels.index("clean"), labels.index("length_mismatch")
    assert (matrix[length][clean], matrix[clean][length], matrix[length][length], matrix[clean][clean]) == (1, 1, 1, 1)
    assert sum(map(sum, matrix)) == 4
    assert summary["counts"]["length_mismatch"]["by"]["tuned"]["items"] == 2
    assert summary["counts"]["length_mismatch"]["subcategories"]["too_short"]["by"] == {"base": 2, "tuned": 2}
    assert summary["answers"]["tuned"] == {"items": 4, "asked": 4, "flagged": 2, "clean": 2, "suspected_only": 0}


def test_the_same_model_twice_flips_nothing_and_the_same_input_gives_the_same_bytes() -> None:
    lines = [line(answer, str(place)) for place, answer in enumerate(["Trees.", GOOD, "x y z " * 40, ""])]
    one, two = diagnose(lines), diagnose(lines)
    assert json.dumps(one.summary) == json.dumps(two.summary)
    assert one.findings == two.findings
    assert {flip["flip"] for flip in one.summary["flips"]["items"]} <= {"still", "clean"}


def test_another_process_gives_the_same_bytes() -> None:
    """Another one hashes words differently."""
    lines = [line(REFERENCE[:90], "a"), line("Trees vote. " * 9, "b"), line("Sea and sand.", "c")] * 3
    program = (
        "import json, sys; from tests.diagnose.material import diagnose\n"
        "made = diagnose(json.load(sys.stdin))\n"
        "print(json.dumps([made.summary, made.findings]))"
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    ).stdout
    made = diagnose(lines)
    assert other == json.dumps([made.summary, made.findings]) + "\n"


def test_phrases_of_the_recipe_are_looked_for() -> None:
    answer = "Ask the Luthier team today. Ask the Luthier team today about trees."
    assert "template_like" not in found(answer)
    findings = diagnose([line(answer)], phrases=("ask the luthier team",)).findings
    assert "template_like" in {one["subcategory"] for one in findings}


BAD: list[Any] = [
    None,
    float("nan"),
    "",
    " \n ",
    "🙂" * 200,
    "مرحبا بالعالم، هذا نص طويل. " * 20,
    "x" * 100_000,
    "word " * 20_000,
    "a,b;c:" * 16_000,
    "\n" * 100_000 + "x",
    "#" * 5_000 + "x",
    "(" * 5_000,
    "{" * 5_000,
    "1," * 50_000,
    "1e999 5e-400 ٣٤",
    "\x00\x01\ud800",
]


def test_bad_input_has_a_clear_outcome() -> None:
    lines = [line(answer, str(place), labels={}) for place, answer in enumerate(BAD)]
    started = time.process_time()
    made = diagnose(lines, train=rows(topics=False), validation=rows(25, topics=False))
    assert time.process_time() - started < 60  # a hang would take hours; the usual is two seconds
    assert made.summary["answers"]["tuned"]["asked"] == len(BAD) - 2
    assert any("2 of 16 items have no answer of tuned" in note for note in made.summary["notes"])
    assert any("topic" in note for note in made.summary["notes"])
    json.dumps([made.summary, made.findings], allow_nan=False)
    empty = {one["subcategory"] for one in made.findings if one["id"] == "2" and one["side"] == "tuned"}
    assert empty == {"too_short"}


@pytest.mark.parametrize("train", [[], rows(2), rows(1, topics=False)])
def test_one_item_and_hardly_any_rows(train: list[Any]) -> None:
    summary = diagnose([line(GOOD)], train=train, validation=[]).summary
    assert summary["items"] == 1
    assert summary["notes"]


def test_no_items_at_all() -> None:
    summary = diagnose([]).summary
    assert summary["counts"]["generic"]["by"]["tuned"] == {"items": 0, "share": 0.0, "ci95": None}
    assert summary["patterns"] == summary["clusters"] == summary["suggestions"] == []
