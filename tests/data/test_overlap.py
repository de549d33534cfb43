"""Overlap: every planted leak is found, a clean split has none, and templates are no leaks."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.containment import Vocabulary, boilerplate_rows, contained
from luthier.data.normal import normalised
from luthier.data.overlap import leaks, measure_overlap
from luthier.data.rows import Row
from luthier.data.words import words

DRAW = random.Random(0)
WORDS = [f"w{number}" for number in range(5000)]


def text(count):
    return " ".join(DRAW.choices(WORDS, k=count))


def chat(name, asked, said, **more):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return Row(id=name, form="chat", content={"messages": messages}, file="f", line=1, **more)


def clean_sides(prefix=""):
    return {
        name: [chat(f"{name}{number}", prefix + text(12), text(60)) for number in range(count)]
        for name, count in (("train", 60), ("validation", 15), ("test", 15))
    }


def report_of(sides, group_of=None, near=0.85, ngram=13, threshold=0.5):
    return measure_overlap(sides, near, ngram, threshold, group_of or {}, 0)


def pair_of(report, reference="train", held_out="test"):
    return next(pair for pair in report.pairs if (pair.reference, pair.held_out) == (reference, held_out))


def parts(row):
    return [message["content"] for message in row.content["messages"]]


def test_a_clean_split_has_no_leak():
    report = report_of(clean_sides())
    assert leaks(report) == []
    assert [(pair.reference, pair.held_out) for pair in report.pairs] == [
        ("train", "validation"),
        ("train", "test"),
        ("validation", "test"),
    ]
    for pair in report.pairs:
        for measure in (pair.exact_question, pair.exact_whole, pair.near, pair.ngram, pair.group):
            assert (measure.rows, measure.share, measure.examples) == (0, 0.0, [])
            assert measure.measured == pair.held_out_rows


def test_an_exact_copy_is_found_whatever_its_case_and_punctuation():
    sides = clean_sides()
    asked, said = parts(sides["train"][7])
    sides["test"][3] = chat("copy", f"  {asked.upper()}?! ", said.replace(" ", "\n ", 3))
    pair = pair_of(report_of(sides))
    for measure in (pair.exact_question, pair.exact_whole, pair.near, pair.ngram):
        assert measure.rows == 1
        assert measure.share == pytest.approx(1 / 15)
        example = measure.examples[0]
        assert (example.held_out_id, example.found_in_id, example.similarity) == ("copy", "train7", 1.0)
    assert pair_of(report_of(sides), "train", "validation").exact_whole.rows == 0


def test_an_equal_question_with_another_answer_is_found():
    sides = clean_sides()
    sides["validation"][0] = chat("again", parts(sides["train"][1])[0], text(60))
    report = report_of(sides)
    pair = pair_of(report, "train", "validation")
    assert (pair.exact_question.rows, pair.exact_whole.rows) == (1, 0)
    assert any("1 of 15 validation rows (6.7 %) ask a question that train asks too" in line for line in leaks(report))


def test_a_near_copy_is_found():
    sides = clean_sides()
    asked, said = parts(sides["train"][7])
    sides["test"][0] = chat("near", f"{asked} indeed", f"{said} truly")
    pair = pair_of(report_of(sides))
    assert (pair.exact_question.rows, pair.exact_whole.rows, pair.near.rows) == (0, 0, 1)
    assert 0.85 <= pair.near.examples[0].similarity < 1
    assert pair_of(report_of(sides, near=None)).near is None


def test_a_passage_in_the_answer_is_found_with_its_span():
    sides = clean_sides()
    passage = parts(sides["train"][9])[1].split()[10:50]
    sides["test"][2] = chat("passage", text(12), " ".join([*text(5).split(), *passage, *text(5).split()]))
    report = report_of(sides)
    pair = pair_of(report)
    assert (pair.exact_whole.rows, pair.near.rows, pair.ngram.rows) == (0, 0, 1)
    example = pair.ngram.examples[0]
    # the question is one 12-gram, the answer has 50 words: 38 13-grams, 28 of them in the 40 words of the passage
    assert example.similarity == pytest.approx(28 / 39)
    assert (example.found_in_id, example.span) == ("train9", " ".join(passage))
    assert pair.ngram.largest == pytest.approx(28 / 39)
    assert pair.ngram.mean == pytest.approx(28 / 39 / 15)
    assert pair_of(report_of(sides, threshold=0.8)).ngram.rows == 0
    assert len(leaks(report)) == 1
    assert "50 % or more of their 13-word sequences" in leaks(report)[0]


def test_a_question_inside_a_training_question_is_found():
    sides = clean_sides()
    asked = text(14)
    sides["train"][4] = chat("long", f"{text(6)} {asked}", text(60))
    sides["test"][4] = chat("inside", asked, text(60))
    assert pair_of(report_of(sides)).ngram.examples[0].held_out_id == "inside"


def test_groups_astride_are_found():
    sides = clean_sides()
    report = report_of(sides, {"train3": "g", "test5": "g", "test6": "g", "test7": "other"})
    assert pair_of(report).group.rows == 2
    assert pair_of(report).group.examples[0].span == "g"
    assert leaks(report) == [
        "2 of 15 test rows (13.3 %) have rows of the same group in train; for example 'test5' and 'train3'."
    ]


def test_validation_and_test_are_compared_too():
    sides = clean_sides()
    sides["test"][0] = chat("twin", *parts(sides["validation"][0]))
    report = report_of(sides)
    assert pair_of(report, "validation", "test").exact_whole.rows == 1
    assert pair_of(report).exact_whole.rows == 0


PREFIX = (
    "Read the passage below with care and answer the question at its end in full sentences without inventing facts: "
)


@pytest.mark.parametrize("rows", [8, 40, 60])
def test_a_shared_instruction_is_no_leak(rows):
    sides = clean_sides(PREFIX * 3)
    sides["train"] = sides["train"][:rows]
    report = report_of(sides)
    assert leaks(report) == []
    assert pair_of(report).ngram.set_aside > 0
    sides["test"][0] = chat("copy", *parts(sides["train"][0]))
    assert pair_of(report_of(sides)).near.rows == 1
    assert pair_of(report_of(sides)).ngram.rows == 1


def test_a_question_that_most_rows_ask_is_no_leak():
    sides = {
        name: [chat(f"{name}{number}", "Write a name for this.", text(40)) for number in range(count)]
        for name, count in (("train", 60), ("test", 15))
    }
    report = report_of(sides)
    assert leaks(report) == []
    assert pair_of(report).exact_question.set_aside == 1


def test_system_prompts_do_not_count():
    system = {"role": "system", "content": text(200)}
    sides = clean_sides()
    for rows in sides.values():
        for row in rows:
            row.content["messages"].insert(0, system)
    assert leaks(report_of(sides)) == []


def test_a_passage_that_a_few_rows_share_is_still_a_leak():
    sides = clean_sides()
    said = text(60)
    for number in range(9):  # one less than a template of 60 rows has
        sides["train"][number] = chat(f"v{number}", text(12), said)
    sides["test"][0] = chat("leak", text(12), said)
    assert pair_of(report_of(sides)).ngram.rows == 1
    sides["train"][9] = chat("v9", text(12), said)
    assert pair_of(report_of(sides)).ngram.rows == 0


def test_where_templates_begin():
    assert [boilerplate_rows(rows) for rows in (0, 4, 10, 20, 100, 200, 1000)] == [3, 3, 5, 10, 10, 10, 50]


def test_short_texts_fall_back_to_fewer_words_and_the_shortest_are_not_measured():
    def share(mine, other, n=13):
        vocabulary = Vocabulary()
        return contained(vocabulary.side([[mine]]), vocabulary.side([[other]]), n).share[0]

    assert share("a b c d e f", "x a b c d e f y") == 1  # one 6-gram
    assert share("a b c d e f", "a b c d e x f") == 0
    assert np.isnan(share("a b c d", "a b c d"))
    assert share("a b c d", "a b c d", n=3) == 1
    assert share("a b c d e f g", "a b c d e x f g", n=5) == pytest.approx(1 / 3)
    assert share("a b c d e", "", n=5) == 0


def test_no_ngram_spans_question_and_answer():
    vocabulary = Vocabulary()
    held, other = vocabulary.side([["a b c d e", "f g h i j"]]), vocabulary.side([["a b c d e f g h i j"]])
    result = contained(held, other, 8)
    assert result.total.tolist() == [1, 1]
    assert contained(other, held, 8).found.tolist() == [0]


def test_no_ngram_spans_two_rows():
    vocabulary = Vocabulary()
    assert contained(vocabulary.side([["a b c d e f"]]), vocabulary.side([["a b c"], ["d e f"]]), 6).found.tolist() == [
        0
    ]


TEXTS = st.lists(st.lists(st.sampled_from("abc"), max_size=14).map(" ".join), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(TEXTS, TEXTS, st.integers(2, 9))
def test_containment_is_what_plain_sets_give(mine, other, n):
    vocabulary = Vocabulary()
    result = contained(vocabulary.side([[one] for one in mine]), vocabulary.side([[one] for one in other]), n)
    for place, one in enumerate(mine):
        found = words(one)
        size = min(n, len(found))
        if size < min(5, n):
            assert np.isnan(result.share[place])
            continue
        grams = [tuple(found[at : at + size]) for at in range(len(found) - size + 1)]
        where = [{tuple(words(o)[at : at + size]) for at in range(len(words(o)) - size + 1)} for o in other]
        rows = [sum(gram in held for held in where) for gram in grams]
        counted = [count for count in rows if count < boilerplate_rows(len(other))]
        assert result.total[place] == len(counted)
        assert result.found[place] == sum(count > 0 for count in counted)


def test_many_chunks_count_as_one(monkeypatch):
    held, other = [[text(30)] for _ in range(20)], [[text(20), text(25)] for _ in range(50)]
    held[3] = [other[20][1]]
    vocabulary = Vocabulary()
    sides = vocabulary.side(held), vocabulary.side(other)
    whole = contained(*sides, 7)
    monkeypatch.setattr("luthier.data.containment._CHUNK", 40)
    parts = contained(*sides, 7)
    assert whole.found.tolist() == parts.found.tolist()
    assert whole.source.tolist() == parts.source.tolist()
    assert parts.source[3] == 20


def test_other_forms():
    def title(name, words_):
        return Row(id=name, form="title", content={"title": words_, "label": "x"}, file="f", line=1)

    def plain(name, words_):
        return Row(id=name, form="text", content={"text": words_}, file="f", line=1)

    sides = {"train": [title("a", "Senior Data Engineer"), plain("b", text(40))]}
    sides["test"] = [title("c", "senior data engineer"), plain("d", sides["train"][1].content["text"] + " end")]
    pair = pair_of(report_of(sides))
    assert (pair.exact_question.rows, pair.exact_question.measured) == (1, 1)
    assert (pair.near.rows, pair.ngram.rows, pair.ngram.measured) == (2, 1, 1)


def test_titles_that_are_much_alike_are_no_leak_but_equal_ones_and_families_are():
    def title(name, words_, family):
        return Row(id=name, form="title", content={"title": words_, "label": family}, file="f", line=1, group=family)

    long = "senior machine operator in a paper and pulp mill by the river"
    sides = {
        "train": [title("a", long, "x"), title("b", "Nurse", "y")],
        "test": [title("c", f"{long} with nights", "z"), title("d", "nurse", "w")],
    }
    report = report_of(sides)
    assert report.pairs[1].near is None
    assert (report.pairs[1].ngram.rows, report.pairs[1].exact_whole.rows) == (0, 1)
    astride = report_of(sides, group_of={"a": "g", "c": "g"})
    assert astride.pairs[1].group.rows == 1


def test_empty_sides_and_json():
    report = report_of({"train": [], "test": clean_sides()["test"]})
    assert leaks(report) == []
    told = json.loads(json.dumps(report.to_json()))
    assert told["pairs"][1]["near"] == {
        "rows": 0,
        "share": 0.0,
        "measured": 0,
        "set_aside": 0,
        "mean": None,
        "largest": None,
        "examples": [],
    }
    assert told["leaks"] == []
    assert "templates" in told["note"]
    assert leaks(report_of({})) == []


def test_at_most_five_examples():
    sides = clean_sides()
    sides["test"] = [chat(f"t{number}", *parts(sides["train"][number])) for number in range(9)]
    measure = pair_of(report_of(sides)).exact_whole
    assert (measure.rows, len(measure.examples)) == (9, 5)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("What  is “PCA”?", "what is pca", True),
        ("ﬁne", "fine", True),
        ("What is C++?", "What is C#?", False),
        ("a < b", "a > b", False),
        ("0.5", "05", False),
    ],
)
def test_what_equality_sees(left, right, equal):
    assert (normalised(left) == normalised(right)) is equal
