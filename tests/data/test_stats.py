"""Statistics against values computed by hand."""

from __future__ import annotations

import json
import statistics
from importlib.resources import files
from pathlib import Path

import pytest

from luthier.data.rows import Row
from luthier.data.stats import describe
from luthier.data.terms import TermMatcher, read_terms
from luthier.data.words import words
from luthier.errors import UserError

TERMS = ["gradient", "gradient descent", "fine-tuning", "matrix", "index", "LLM", "batch", "query"]


def chat(name, asked, said, group=None, **labels):
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return Row(id=name, form="chat", content={"messages": messages}, file="f", line=1, labels=labels, group=group)


@pytest.fixture
def sides():
    return {
        "train": [
            chat("a", "x" * 10, "y" * 24, "g", topic="ml", difficulty=1),
            chat("b", "x" * 20, "y" * 100, "g", topic="ml", difficulty=2),
            chat("c", "x" * 60, "y" * 4, topic="stats"),
        ],
        "test": [
            chat(
                "d",
                "What is gradient descent, and what is a gradient?",
                "Gradient descent uses gradients.",
                topic="code",
            )
        ],
    }


def test_lengths_groups_and_truncation(sides):
    found = describe(sides, lambda texts: [len(text) for text in texts], 65, [], "topic")
    train = found["splits"]["train"]
    assert (train["rows"], train["groups"]) == (3, 2)
    assert train["characters"]["question"] == {"mean": 30.0, "median": 20.0, "p95": 56.0, "max": 60}
    whole = [35, 121, 65]
    assert train["tokens"]["whole"]["mean"] == pytest.approx(statistics.mean(whole))
    assert found["tokens_estimated"] is False
    assert train["truncation"] == {"rows": 1, "share": pytest.approx(1 / 3)}
    assert found["splits"]["validation"]["characters"]["answer"] == {"mean": 0.0, "median": 0.0, "p95": 0.0, "max": 0}
    assert found["splits"]["all"]["rows"] == 4
    assert found["splits"]["all"]["truncation"]["rows"] == 2
    json.dumps(found)


def test_tokens_are_estimated_and_marked(sides):
    found = describe(sides, None, 256, [], None)
    tokens = found["splits"]["train"]["tokens"]
    assert found["tokens_estimated"] is True
    assert tokens["question"]["max"] == 18  # 60 / 3.5 rounded up
    assert found["splits"]["train"]["topics"] == {}


def test_topics_and_difficulty_show_what_is_missing(sides):
    found = describe(sides, None, 256, [], "topic", duplicates={"exact": 3})
    splits = found["splits"]
    assert splits["train"]["topics"]["ml"] == {"rows": 2, "share": pytest.approx(2 / 3)}
    assert splits["train"]["topics"]["code"] == {"rows": 0, "share": 0.0}
    assert splits["all"]["topics"]["stats"]["share"] == 0.25
    assert splits["train"]["difficulty"]["2"]["rows"] == 1
    assert splits["all"]["difficulty"]["(none)"]["rows"] == 2
    assert describe(sides, None, 256, [], "topic", difficulty_field="level")["splits"]["all"]["difficulty"] == {}
    assert found["duplicates"] == {"exact": 3}


def test_joined_groups_are_counted(sides):
    found = describe(sides, None, 256, [], None, group_of={"a": "1", "b": "1", "c": "1", "d": "2"})
    assert found["splits"]["train"]["groups"] == 1
    assert found["splits"]["all"]["groups"] == 2


def test_term_density(sides):
    density = describe(sides, None, 256, TERMS, None)["splits"]["test"]["terms"]
    assert density["per_question"] == 2  # gradient descent, gradient
    assert density["per_100_answer_words"] == pytest.approx(100 * 2 / 4)
    assert describe(sides, None, 256, TERMS, None)["splits"]["validation"]["terms"] == {
        "per_question": 0.0,
        "per_100_answer_words": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Stochastic GRADIENT DESCENT", ["gradient descent"]),
        ("gradient descent descent gradient", ["gradient descent", "gradient"]),
        ("fine tuning and fine-tuning, finetuning", ["fine tuning", "fine tuning"]),
        ("LLMs, matrices, indices, indexes, batches, queries", ["llm", "matrix", "index", "index", "batch", "query"]),
        ("gradientless", []),
    ],
)
def test_terms_are_whole_words_longest_first_with_plurals(text, found):
    assert list(TermMatcher(TERMS).find(words(text))) == found


def test_histograms_count_every_row_on_shared_edges(sides):
    found = describe(sides, None, 256, [], None)
    for name, split in found["splits"].items():
        for key, counts in split["histograms"].items():
            assert sum(counts) == split["rows"], name
            assert len(counts) == len(found["histogram_edges"][key]) == 20
    assert found["histogram_edges"]["question_characters"][:3] == [0.0, 5.0, 10.0]  # the 99th percentile is 59.67
    assert found["splits"]["train"]["histograms"]["question_characters"][2] == 1


def test_other_forms_and_nothing_at_all():
    title = Row(id="t", form="title", content={"title": "Data Engineer", "label": "x"}, file="f", line=1)
    text = Row(id="u", form="text", content={"text": "Some text."}, file="f", line=2)
    found = describe({"train": [title, text]}, lambda texts: [1] * len(texts), 8, TERMS, None)["splits"]["train"]
    assert found["characters"]["question"]["max"] == 13
    assert found["characters"]["answer"]["max"] == 10
    assert describe({}, lambda texts: [], 8, TERMS, "topic")["splits"]["all"]["rows"] == 0


def test_read_terms(tmp_path):
    path = tmp_path / "terms.txt"
    path.write_text("\ufeff# a comment\n\nPCA  # here too\nPCA\n k-means \n", encoding="utf-8")
    assert read_terms(path) == ["PCA", "k-means"]
    with pytest.raises(UserError, match="cannot be read"):
        read_terms(tmp_path / "absent.txt")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError):
        read_terms(path)


def test_the_shipped_terms_are_singular_and_distinct():
    terms = read_terms(Path(str(files("luthier.recipes").joinpath("interviewmate/terms.txt"))))
    assert 400 <= len(terms) <= 600
    matcher = TermMatcher(terms)
    assert len(matcher) >= len(terms) - 5  # "Bayes theorem" and "Bayes' theorem"…
    everyday = "what do you mean by that and how would you explain it to a colleague in your own words"
    assert list(matcher.find(words(everyday))) == []
