"""Layouts: which one a record has, which column means what, and the canonical shape that comes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from luthier.data.formats import detect, roles
from luthier.data.shapes import Unfit, content_of
from luthier.errors import UserError

Q = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
S = {"role": "system", "content": "s"}
TURN = {"messages": [Q, A]}


def layout(record: Mapping[str, Any], format_: str = "auto", **fields: str) -> Any:
    return detect([record], format_, fields, "data.jsonl")


def shape(record: Mapping[str, Any], format_: str = "auto", system: str | None = None, **fields: str) -> Any:
    return content_of(record, layout(record, format_, **fields), system)


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("alpaca", {"instruction": "q", "input": "", "output": "a"}, TURN),
    (
        "alpaca",
        {"instruction": "q", "input": "more", "output": "a"},
        {"messages": [{"role": "user", "content": "q\n\nmore"}, A]},
    ),
    (
        "alpaca",
        {"instruction": "q", "output": "a", "system": "s", "history": [["q", "a"], ["q", "a"]]},
        {"messages": [S, Q, A, Q, A, Q, A]},
    ),
    ("alpaca", {"instruction": "q", "output": "a", "history": []}, TURN),
    ("alpaca", {"instruction": "q", "output": "a", "history": [Q, A]}, {"messages": [Q, A, Q, A]}),
    ("alpaca", {"instruction": "q", "output": "a", "history": '[["q", "a"]]'}, {"messages": [Q, A, Q, A]}),
    ("alpaca", {"instruction": "q", "context": "", "response": "a", "category": "x"}, TURN),
    ("sharegpt", {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, TURN),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "user", "value": "q"},
                {"from": "gpt", "value": "a"},
            ]
        },
        {"messages": [S, Q, A]},
    ),
    ("sharegpt", {"conversations": [Q, A], "system": "s"}, {"messages": [S, Q, A]}),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "t"}]},
        {"messages": [Q, {"role": "tool", "content": "t"}]},
    ),
    ("messages", {"messages": [S, Q, A]}, {"messages": [S, Q, A]}),
    ("messages", {"messages": [{"role": "system", "content": ""}, Q, A]}, TURN),
    ("messages", {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'}, TURN),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, A]}, TURN),
    (
        "messages",
        {"messages": [{"role": "user", "content": 7}, A]},
        {"messages": [{"role": "user", "content": "7"}, A]},
    ),
    ("prompt-completion", {"prompt": "q", "completion": "a"}, TURN),
    ("prompt-completion", {"question": "q", "answer": "a", "context": "kept as a label"}, TURN),
    ("prompt-completion", {"Question": "q", "ANSWER": "a"}, TURN),
    ("prompt-completion", {"query": "q", "response": "a"}, TURN),
    ("prompt-completion", {"input": "q", "output": "a"}, TURN),
    ("prompt-completion", {"instruction": "q", "response": "a"}, TURN),
    ("prompt-completion", {"prompt": "q", "completion": "a", "question": "label", "answer": "label"}, TURN),
    ("text", {"text": "q", "label": 1}, {"text": "q"}),
    ("text", {"content": "q"}, {"text": "q"}),
    ("preference", {"prompt": "q", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "a", "rejected": "b"}),
    (
        "preference",
        {"chosen": [Q, A], "rejected": [Q, {"role": "assistant", "content": "b"}]},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
    ),
    (
        "preference",
        {"prompt": [S, Q], "chosen": [A], "rejected": [{"role": "assistant", "content": "b"}]},
        {"prompt": "system: s\nuser: q", "chosen": "a", "rejected": "b"},
    ),
    ("pairs", {"anchor": "x", "positive": "y"}, {"texts": ["x", "y"]}),
    ("pairs", {"sentence1": "x", "sentence2": "y", "score": 0.5}, {"texts": ["x", "y"], "score": 0.5}),
    ("pairs", {"premise": "x", "hypothesis": "y", "label": "2"}, {"texts": ["x", "y"], "score": 2.0}),
    ("pairs", {"premise": "x", "hypothesis": "y", "label": "neutral"}, {"texts": ["x", "y"]}),
    ("pairs", {"left": "x", "right": "y", "score": 1}, {"texts": ["x", "y"], "score": 1.0}),
    ("pairs", {"labels": "0", "left": "x", "right": "y"}, {"texts": ["x", "y"], "score": 0.0}),
    ("triplets", {"anchor": "x", "positive": "y", "negative": "z"}, {"texts": ["x", "y", "z"]}),
    (
        "triplets",
        {"query": "x", "pos": "y", "negative_1": "z", "negative_2": "w", "other": "label"},
        {"texts": ["x", "y", "z", "w"]},
    ),
    ("triplets", {"anchor": "x", "positive": "y", "negatives": ["z", "w"]}, {"texts": ["x", "y", "z", "w"]}),
    ("titles", {"title": "Nurse", "label": "221"}, {"title": "Nurse", "label": "221"}),
    ("titles", {"job_title": "Nurse", "code": 221}, {"title": "Nurse", "label": "221"}),
]


@pytest.mark.parametrize(("name", "record", "content"), CASES)
def test_layouts_are_told_by_content(name: str, record: dict[str, Any], content: dict[str, Any]) -> None:
    assert layout(record).name == name
    assert shape(record) == content
    assert shape(record, name) == content, "asking for the format gives the same"


EXPLICIT: list[tuple[str, dict[str, Any], dict[str, str], dict[str, Any]]] = [
    ("pairs", {"job": "x", "skill": "y", "extra": "z"}, {}, {"texts": ["x", "y"]}),
    ("pairs", {"job": "x", "skill": "y", "extra": "z"}, {"anchor": "extra"}, {"texts": ["z", "x"]}),
    ("pairs", {"job": "x", "skill": "y", "s": 3}, {"score": "s"}, {"texts": ["x", "y"], "score": 3.0}),
    ("pairs", {"question": "x", "answer": "y"}, {}, {"texts": ["x", "y"]}),
    ("triplets", {"a": "x", "b": "y", "c": "z", "neg_2": "w"}, {}, {"texts": ["x", "y", "z", "w"]}),
    (
        "titles",
        {"text": "x", "group_name": "g"},
        {"title": "text", "label": "group_name"},
        {"title": "x", "label": "g"},
    ),
    ("text", {"prompt": "q", "completion": "a", "body": "t"}, {"text": "body"}, {"text": "t"}),
    ("auto", {"messages": [Q, A], "frage": "q", "antwort": "a"}, {"prompt": "frage", "completion": "antwort"}, TURN),
    ("auto", {"question": "q", "answer": "a", "reply": "b"}, {"completion": "answer"}, TURN),
    ("auto", {"question": "q", "input": "i", "answer": "a"}, {"prompt": "question"}, TURN),
    ("auto", {"question": "q", "notes": "n", "answer": "a"}, {"topic": "notes"}, TURN),
    ("auto", {"question": "x", "answer": "q", "reply": "a"}, {"prompt": "answer", "title": "question"}, TURN),
]


@pytest.mark.parametrize(("format_", "record", "fields", "content"), EXPLICIT)
def test_what_the_user_declares_is_obeyed(
    format_: str, record: dict[str, Any], fields: dict[str, str], content: dict[str, Any]
) -> None:
    assert content_of(record, detect([record], format_, fields, "f"), None) == content


def test_a_system_message_is_given_only_where_there_is_none() -> None:
    assert shape({"prompt": "q", "completion": "a"}, system="s") == {"messages": [S, Q, A]}
    assert (
        shape({"messages": [{"role": "system", "content": "own"}, Q, A]}, system="s")["messages"][0]["content"] == "own"
    )
    assert shape({"prompt": "q", "completion": "a", "system": "own"}, system="s")["messages"][0]["content"] == "own"
    assert shape({"prompt": "q", "completion": "a", "system": ""}, system="s")["messages"][0] == S
    assert shape({"text": "t"}, system="s") == {"text": "t"}


def test_labels_keep_what_is_not_content() -> None:
    record = {"question": "q", "answer": "a", "id": 1, "group": "g", "subject": "x", "topic": "y", "level": 2}
    found = layout(record, topic="subject", difficulty="level")
    names = {column: found.label_name(column) for column in record}
    assert names == {
        "question": None,
        "answer": None,
        "id": None,
        "group": None,
        "subject": "topic",
        "topic": "topic (column)",
        "level": "difficulty",
    }
    declared = layout(record, id="level", group="subject")
    assert (declared.column("id"), declared.column("group")) == ("level", "subject")
    assert declared.label_name("level") is None
    assert declared.label_name("id") == "id (column)"


@pytest.mark.parametrize(
    ("record", "format_", "fields", "problem", "remedy"),
    [
        ({"a": "x", "b": "y"}, "auto", {}, "columns found: a, b", "data.fields"),
        ({"a": "x", "b": "y", "c": "z"}, "auto", {}, "layout of this file is not known", "data.fields"),
        ({}, "auto", {}, "columns found: none", ""),
        ({"question": "q", "answer": "a", "response": "b"}, "auto", {}, "'answer', 'response'", "completion"),
        ({"question": "q", "query": "r", "answer": "a"}, "auto", {}, "'question', 'query'", "prompt"),
        ({"question": "q", "answer": "a"}, "auto", {"prompt": "questoin"}, "'questoin'", "'question'"),
        ({"text": "q"}, "alpaca", {}, "needs instruction, output", "data.fields"),
        ({"instruktion": "q", "output": "a"}, "alpaca", {}, "needs instruction", "'instruktion'"),
        ({"text": "q"}, "pairs", {}, "needs anchor, positive", ""),
        ({"text": "q"}, "alpacca", {}, "not a format", "'alpaca'"),
        ({"messages": "plain text"}, "messages", {}, "needs messages", ""),
    ],
)
def test_what_does_not_fit_is_explained(
    record: dict[str, Any], format_: str, fields: dict[str, str], problem: str, remedy: str
) -> None:
    with pytest.raises(UserError) as caught:
        detect([record], format_, fields, "data.jsonl")
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


PC = {"prompt": "q", "completion": "a"}
PAIR = {"sentence1": "x", "sentence2": "y", "score": 1.0}
PREFERENCE = {"chosen": [Q, A], "rejected": [Q, A]}
UNFIT: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    (PC, {"prompt": "q"}, "missing-field", "no 'completion'; it has: prompt"),
    (PC, {}, "missing-field", "nothing"),
    (PC, {"prompt": None, "completion": "a"}, "missing-field", "null"),
    (PC, {"prompt": ["q"], "completion": "a"}, "malformed", "a list"),
    (PC, {"prompt": {"q": 1}, "completion": "a"}, "malformed", "an object"),
    (PC, {"prompt": b"q", "completion": "a"}, "malformed", "bytes"),
    (PC, {"prompt": float("nan"), "completion": "a"}, "empty", "null"),
    (TURN, {"messages": {"role": "user"}}, "malformed", "an object"),
    (TURN, {"messages": 3}, "malformed", "a number"),
    (TURN, {"messages": []}, "empty", "no messages"),
    (TURN, {"messages": ["q"]}, "malformed", "message 1"),
    (TURN, {"messages": [Q, {"role": "assistant"}]}, "malformed", "message 2"),
    (TURN, {"messages": [{}]}, "malformed", "nothing"),
    (TURN, {"messages": [{"role": "wizard", "content": "x"}]}, "malformed", "'wizard'"),
    (TURN, {"messages": [{"role": 1, "content": "x"}]}, "malformed", "unknown role 1"),
    (TURN, {"messages": [{"role": "user", "content": None}]}, "empty", "null"),
    (TURN, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "malformed", "parts"),
    (TURN, {"messages": "not json"}, "malformed", "JSON list"),
    (
        {"instruction": "q", "output": "a", "history": []},
        {"instruction": "q", "output": "a", "history": 3},
        "malformed",
        "turns",
    ),
    (PAIR, {"sentence1": "x", "sentence2": "y", "score": "high"}, "malformed", "'high'"),
    (PAIR, {"sentence1": "x", "sentence2": "y", "score": "inf"}, "malformed", "finite"),
    (PAIR, {"sentence1": "x", "sentence2": "y", "score": [1]}, "malformed", "not a number"),
    (
        {"anchor": "x", "positive": "y", "negative": ["z"]},
        {"anchor": "x", "positive": "y", "negative": []},
        "empty",
        "negative",
    ),
    (PREFERENCE, {"chosen": [A], "rejected": [A]}, "missing-field", "prompt"),
    (PREFERENCE, {"chosen": "a", "rejected": "b"}, "missing-field", "prompt"),
]


@pytest.mark.parametrize(("sample", "record", "reason", "detail"), UNFIT)
def test_records_that_do_not_fit_say_why(
    sample: dict[str, Any], record: dict[str, Any], reason: str, detail: str
) -> None:
    with pytest.raises(Unfit) as caught:
        content_of(record, layout(sample), None)
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_numbers_and_truth_values_become_text() -> None:
    for value, text in ((7, "7"), (2.5, "2.5"), (True, "true"), (False, "false")):
        assert shape({"prompt": "q", "completion": value})["messages"][1]["content"] == text


def test_a_pair_without_its_score_has_none() -> None:
    assert content_of({"sentence1": "x", "sentence2": "y", "score": ""}, layout(PAIR), None) == {"texts": ["x", "y"]}


def test_roles() -> None:
    assert {roles()[name] for name in ("human", "user")} == {"user"}
    assert {roles()[name] for name in ("gpt", "assistant", "bot")} == {"assistant"}
    assert roles()["system"] == "system"
    assert roles()["tool"] == "tool"
