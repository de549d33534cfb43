"""Each detector on texts whose value is known, and on the near-miss that it must not be misled by."""

from __future__ import annotations

import pytest

from luthier.diagnose.detectors import claims, contradiction, coverage, generic, length, repetition, shape, topics
from luthier.diagnose.taxonomy import described, detectors
from tests.diagnose.material import REFERENCE, case, ground

GROUND = ground()


def test_every_detector_says_what_it_sees_and_what_it_cannot() -> None:
    for name in detectors():
        told = described(name)
        assert all(len(told[key]) > 20 for key in ("title", "sees", "cannot_see")), name


def test_length_ratio() -> None:
    assert length.length_ratio(case("one two three", reference="a b c d e f"), GROUND).value == pytest.approx(0.5)
    median = GROUND.median_words["trees"]
    assert length.length_ratio(case("word " * 20, reference=""), GROUND).value == pytest.approx(20 / median)


@pytest.mark.parametrize(
    ("question", "answer", "kept"),
    [
        ("In one sentence: what is it?", "It is a tree.", True),
        ("In one sentence: what is it?", "It is a tree. It has leaves. It grows. It falls.", False),
        ("List five names, please.", "a.com, b.com, c.com, d.com, e.com", True),
        ("List five names, please.", "a.com, b.com", False),
        ("Nennen Sie drei Namen.", "a.de\nb.de\nc.de", True),
        ("Answer briefly: which one?", "word " * 60, False),
        ("Explain it in detail.", "Short.", False),
        ("Explain it.", "Short.", True),
    ],
)
def test_length_asked(question: str, answer: str, kept: bool) -> None:
    reference = {"List": "p.com, q.com, r.com, s.com, t.com", "Nenn": "p.de\nq.de\nr.de"}.get(
        question[:4], "word " * 20
    )
    assert (length.length_asked(case(answer, question, reference), GROUND).value < 1) == kept


def test_repeated_words_and_phrases() -> None:
    stutter = repetition.repeated_words(case("the the model model is is good"), GROUND)
    assert stutter.value == pytest.approx(3 / 7)
    assert repetition.repeated_words(case("the cat saw the dog that saw the cat"), GROUND).value == 0
    loop = repetition.repeated_phrases(case("We cut the old tree. It fell. We cut the old tree."), GROUND)
    assert loop.value == pytest.approx(5 / 12)
    assert loop.span is not None
    lines = repetition.repeated_phrases(case("1. Class weights\n2. Other metrics\n3. Class weights"), GROUND)
    assert lines.value == 0  # numbers differ and the words are few: a list may come back to an item
    chinese = repetition.repeated_phrases(case("过拟合是指模型记住了噪声。过拟合是指模型记住了噪声。"), GROUND)
    assert chinese.value == pytest.approx(0.5)


def test_repeated_content_needs_two_sentences() -> None:
    assert repetition.repeated_content(case("Only one sentence is here."), GROUND).value == 0
    again = "Bagging lowers the variance of trees. The variance of trees is lowered by bagging."
    other = "Bagging lowers the variance of trees. Dropout turns random units off."
    assert (
        repetition.repeated_content(case(again), GROUND).value
        > 0.9
        > repetition.repeated_content(case(other), GROUND).value
    )


def test_generic_phrases_sweeping_words_and_specificity() -> None:
    stock = "Great question! It depends on many factors. In conclusion, consider your needs."
    assert generic.generic_phrases(case(stock), GROUND).value == 1
    assert generic.generic_phrases(case(REFERENCE), GROUND).value == 0
    assert generic.absolute_claims(case("It always works. Nobody ever fails."), GROUND).value == pytest.approx(1.25)
    same = case("It always works.", reference="It always works.")
    assert generic.absolute_claims(same, GROUND).value == 0
    vague = generic.specificity(case("It makes things better in some ways and is good to have."), GROUND).value
    assert vague < 0.2 < generic.specificity(case(REFERENCE), GROUND).value == pytest.approx(1)


def test_coverage_and_missing_parts() -> None:
    assert coverage.coverage(case(REFERENCE), GROUND).value == pytest.approx(1)
    assert coverage.coverage(case("Dropout turns units off."), GROUND).value < 0.1
    names = case("other.com, names.com", reference="solobooks.com, tidyreceipts.io, invoiceschool.com")
    assert coverage.coverage(names, GROUND).value == 1  # of names many would do
    half = case("Bagging trains many trees on bootstrap samples of 500 rows.")
    assert coverage.missing_parts(half, GROUND).value > 0.5
    assert coverage.missing_parts(case(REFERENCE), GROUND).value == 0
    pointed = case("Bagging trains trees on bootstrap samples.", key_points=("error estimate",))
    assert coverage.coverage(pointed, GROUND).value < coverage.coverage(case(pointed.answer.raw), GROUND).value


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("It uses samples of 500 rows and lowers the variance by 0.3.", 0),
        ("It lowers the variance by 30 %.", 0),
        ("It uses samples of 50 rows and lowers the variance by 3 percent.", 2),
        ("1. samples\n2. votes\n3. error", 0),
        ("It uses several samples.", 0),
    ],
)
def test_wrong_numbers(answer: str, wrong: int) -> None:
    assert claims.wrong_numbers(case(answer), GROUND).value == wrong


def test_numbers_are_only_judged_where_the_reference_has_some() -> None:
    assert claims.wrong_numbers(case("It takes 12 minutes.", reference="It takes a while."), GROUND).value == 0


def test_foreign_terms() -> None:
    assert claims.foreign_terms(case(REFERENCE), GROUND).value == 0
    seen = claims.foreign_terms(case("Bagging is when a grocer puts apples into paper sacks."), GROUND)
    assert seen.value > 0.5


@pytest.mark.parametrize(
    ("answer", "opposed"),
    [
        ("Averaging their votes raises the variance by about 30 percent.", True),
        ("Bias does not stay the same.", True),
        ("Averaging their votes lowers the variance by about 30 percent.", False),
        ("Bias stays the same.", False),
    ],
)
def test_opposites(answer: str, opposed: bool) -> None:
    assert (contradiction.opposites(case(answer), GROUND).value > 0) == opposed


def test_exchanged_terms_and_names() -> None:
    reference = (
        "Delta appends numbered commits to a log. Iceberg swaps a pointer in the catalog with Nessie at the end."
    )
    swapped = case("Iceberg appends numbered commits to a log.", reference=reference)
    assert contradiction.exchanged_terms(swapped, GROUND).value == 1
    assert contradiction.exchanged_terms(case(reference, reference=reference), GROUND).value == 0
    named = case("Iceberg swaps a pointer in the catalog with Kafka at the end.", reference=reference)
    assert contradiction.wrong_names(named, GROUND).value == 1
    assert contradiction.wrong_names(case(reference, reference=reference), GROUND).value == 0


def test_mixed_facts_and_order() -> None:
    reference = "Bagging lowers variance with bootstrap samples. Boosting lowers bias with residual fits."
    mixed = case("Bagging lowers bias with residual fits.", reference=reference, question="What do they do?")
    assert contradiction.mixed_facts(mixed, GROUND).value >= 0.3
    assert contradiction.mixed_facts(case(reference, reference=reference, question="What?"), GROUND).value == 0
    steps = "First clean the filter. Then check the hose. Finally turn the wheel."
    assert contradiction.other_order(case(steps, reference=steps), GROUND).value == 0
    plain = "Clean the filter. Check the hose. Turn the wheel."
    turned = "First turn the wheel, then check the hose, afterwards clean the filter."
    assert contradiction.other_order(case(turned, reference=plain), GROUND).value > 1


@pytest.mark.parametrize(
    ("answer", "stopped", "whole"),
    [
        ("It lowers the variance.", None, True),
        ("It lowers the variance.", False, False),
        ("It lowers the variance by about", None, False),
        ("It lowers the variance, because the", None, False),
        ("It lowers the variance (by a third).", None, True),
        ("方差降低。", None, True),
    ],
)
def test_ending(answer: str, stopped: bool | None, whole: bool) -> None:
    assert (shape.ending(case(answer, stopped=stopped), GROUND).value > 0.5) == whole


def test_an_answer_may_end_as_its_reference_does() -> None:
    assert shape.ending(case("a.com, b.com", reference="p.com, q.com"), GROUND).value == 1


@pytest.mark.parametrize(
    ("answer", "question", "breaks"),
    [
        ("1. a\n2. b\n3. c", "Give a numbered list.", 0),
        ("a, b and c", "Give a numbered list.", 1),
        ("1. a\n3. b", "What?", 1),
        ("1. a\n1. b\n1. c", "What?", 0),
        ("- a\n- \n- c", "What?", 1),
        ('{"a": 1, "b": [1, 2}', "What?", 1),
        ('{"a": 1, "b": [1, 2]}', "Answer as JSON.", 0),
        ("```python\ndef f(x):\n    return x\n```", "Code only.", 0),
        ("```python\ndef f(x)\nreturn x\n```", "Code only.", 1),
        ("Return the input.", "Code only.", 1),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "What?", 0),
        ("| a | b |\n| 1 |", "What?", 1),
        ("The mean (n - 1) * s and K*K*C - 2 * p are formulas.", "What?", 0),
        ("Above the line.\n\n---\n\nBelow it.", "What?", 0),
    ],
)
def test_broken_structure(answer: str, question: str, breaks: int) -> None:
    assert (shape.broken_structure(case(answer, question), GROUND).value > 0) == bool(breaks)


def test_voice_and_residue() -> None:
    assert shape.voice(case("As an AI language model, I cannot. 😂 lol!!!"), GROUND).value == 2
    assert shape.voice(case("NASA and ROC-AUC are acronyms; u and n are variables."), GROUND).value == 0
    for trace in ("<|im_end|>", "### Response:", "{{name}}", "[INSERT DATE]", "<br/>", "&amp;", "donâ€™t", "</s>"):
        seen = shape.residue(case(f"It lowers {trace} the variance."), GROUND)
        assert seen.value >= 1, trace
    for good in ("a < b and c > d", "if x <= 3: {1, 2}", "[1, 2, 3]", "f(x) -> y", "an R&D team"):
        assert shape.residue(case(good), GROUND).value == 0, good
    assert shape.residue(case("<br/>", reference="Write <br/> for a line break."), GROUND).value == 0


def test_topics() -> None:
    dropout = "Dropout works by random units, which lowers co-adaptation with scaled activations."
    assert topics.topic_margin(case(dropout), GROUND).value > 0.1
    assert topics.topic_margin(case(dropout, topic="networks"), GROUND).value < 0
    assert topics.topic_margin(case(dropout, topic=""), GROUND).value == 0
    assert (
        topics.topic_nearness(case("Apples are fruit."), GROUND).value
        < 0.05
        < topics.topic_nearness(case(dropout), GROUND).value
    )
