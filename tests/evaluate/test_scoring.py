"""From answers to scores: unequal items, missing answers, and answers that nobody expects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from luthier.errors import UserError
from luthier.evaluate.compare import compare
from luthier.evaluate.scoring import Scored, score
from luthier.kinds.causal_lm.score import HIGHER_IS_BETTER

NAMES = [name for name in HIGHER_IS_BETTER if name != "semantic"]  # that one asks a model, in its own tests


def lines(answers: list[str | None], references: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{place}",
            "group": None,
            "question": "?",
            "reference": reference,
            "answer": answer,
            "tokens": 3,
            "stopped": True,
            "nll": 2.0,
            "reference_tokens": 3,
            "labels": {},
            "error": "" if answer is not None else "too long",
        }
        for place, (answer, reference) in enumerate(zip(answers, references, strict=True))
    ]


def scored(base: list[str | None], tuned: list[str | None], references: list[str]) -> Scored:
    return score(lines(base, references), lines(tuned, references), NAMES, HIGHER_IS_BETTER, "rougeL")


def test_items_that_one_side_did_not_answer_are_left_out_of_both() -> None:
    made = scored(["one two", None, "three"], ["one", "two", None], ["one two", "two", "three"])
    assert len(made.measured["rougeL"].base) == 1
    assert len(made.measured["perplexity"].base) == 3
    assert made.measured["bleu"].corpus is not None
    assert made.measured["bleu"].corpus.base.shape[0] == 1


def test_other_items_and_nothing_to_score_are_refused() -> None:
    with pytest.raises(UserError, match="not to the same items"):
        score(lines(["a", "b"], ["a", "b"]), lines(["a"], ["a"]), NAMES, HIGHER_IS_BETTER, "rougeL")
    with pytest.raises(UserError, match="No item"):
        score(lines([None], ["a"]), lines([None], ["a"]), ["rougeL"], HIGHER_IS_BETTER, "rougeL")
    with pytest.raises(UserError, match="No item"):
        score([], [], NAMES, HIGHER_IS_BETTER, "rougeL")


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("word " * 20_000, "a word or two"),  # 1e5 characters
        ("x" * 100_000, "a word or two"),  # without a space
        ("😀😃🎉", "😀 😃"),
        ("!!! ... ???", "?!"),
        ("المفرط في التجهيز يحفظ الضوضاء", "التجهيز المفرط يحفظ ضوضاء البيانات"),
        ("התאמת יתר", "התאמת יתר היא למידת הרעש"),
        ("\u202bמעורב mixed\u202c text", "mixed text"),
        ("", "an answer"),
        ("   \n\t ", "an answer"),
        ("\x00\u200b", "an answer"),
    ],
)
def test_any_text_has_scores_and_a_verdict(answer: str, reference: str) -> None:
    items = 2 if len(answer) > 1_000 else 12
    made = scored(["of the base"] * items, [answer] * items, [reference] * items)
    comparison = compare(made.measured, made.primary, resamples=199)
    json.dumps([comparison, made.metrics, made.lines], allow_nan=False)
    assert comparison["verdict"] in ("improved", "worse", "no evidence", "too few examples")
    scores = {line["metric"]: line["tuned"] for line in made.lines}
    assert all(0 <= scores[name] <= 100 for name in scores)
    assert set(scores) == set(NAMES) - {"key_points"}


def test_one_item_is_too_few_and_equal_answers_flip_nothing() -> None:
    one = scored(["far off"], ["right here"], ["right here"])
    assert compare(one.measured, one.primary, resamples=199)["verdict"] == "too few examples"
    same = scored(["an answer"] * 20, ["an answer"] * 20, ["the answer"] * 20)
    assert compare(same.measured, same.primary, resamples=199)["verdict"] == "no evidence"
    assert same.metrics["flips"] == {"won": 0, "lost": 0, "tie": 20}
