"""Cleaning: what is changed, what is rejected and why, what is reported."""

from __future__ import annotations

import unicodedata
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.clean import Cleaned, clean, conversation_fault, tidy_content
from luthier.data.rows import Row
from luthier.data.tidy import share_of_controls, tidy


def chat(name: str, asked: str, answered: str, system: str = "", **more: Any) -> Row:
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return Row(name, "chat", {"messages": messages}, "data.jsonl", int(name), **more)


def done(*rows: Row, most: int = 1000, near: float | None = None) -> Cleaned:
    result = clean(list(rows), most, near)
    assert len(result.rows) + len(result.rejected) == len(rows) == result.counts["rows"]
    return result


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("plain", "plain"),
        ("  around  ", "around"),
        ("e\u0301", "\u00e9"),
        ("x\u00b2 \u00bd \ufb01", "x\u00b2 \u00bd \ufb01"),  # NFKC would rewrite all three
        ("e\u0301 x\u00b2", "\u00e9 x\u00b2"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\u2028b\u2029c\x0bd\x0ce\x85f", "a\nb\nc\nd\ne\nf"),
        ("a  \nb\t\nc", "a\nb\nc"),
        ("a\n\n\n\n\nb", "a\n\n\nb"),
        ("a\n\n\nb", "a\n\n\nb"),
        ("\n\na\nb\n\n", "a\nb"),
        ("def f():\n    return  1\n", "def f():\n    return  1"),
        ("    indented = 1\n    block = 2", "    indented = 1\n    block = 2"),
        ("a\x00b\x07c\x7f", "abc"),
        ("\ufeffa\u200bb\u2060c\u00adé", "abcé"),
        ("a\u00a0b\u202fc", "a b c"),
        ("a\u3000b", "a\u3000b"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("a\u200db\u200c", "ab"),
        ("e\u200b\u0301", "\u00e9"),
        ("col\tcol", "col\tcol"),
        ("unknown \ufffd kept", "unknown \ufffd kept"),
        ("   \n  \n", ""),
        ("", ""),
    ],
)
def test_tidy(before: str, after: str) -> None:
    assert tidy(before) == after


@settings(max_examples=400, deadline=None)
@given(
    st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(" \n\t\r\u200b\u200c\u200d\u0301e\x00")))
)
def test_tidy_is_stable_and_normal(text: str) -> None:
    once = tidy(text)
    assert tidy(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "\n\n\n\n" not in once
    assert " \n" not in once
    assert not any(unicodedata.category(sign) == "Cc" and sign not in "\n\t" for sign in once)


def test_a_clean_text_is_handed_back_itself() -> None:
    text = "A question?\nWith lines\n"[:-1]
    assert tidy(text) is text
    content = {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "b"}]}
    assert tidy_content(content) is content


def test_share_of_controls() -> None:
    assert share_of_controls("") == 0
    assert share_of_controls("ab\x00\x01") == 0.5


@pytest.mark.parametrize(
    ("form", "content", "part"),
    [
        ("chat", {"messages": [{"role": "user", "content": " "}, {"role": "assistant", "content": "a"}]}, "Message 1"),
        ("chat", {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "\n"}]}, "assistant"),
        ("text", {"text": "\u200b"}, "The text"),
        ("preference", {"prompt": "p", "chosen": "", "rejected": "r"}, "The chosen"),
        ("pair", {"texts": ["a", " "]}, "Text 2"),
        ("triplet", {"texts": ["a", "b", ""]}, "Text 3"),
        ("title", {"title": "", "label": "l"}, "The title"),
    ],
)
def test_empty_texts_are_rejected_by_name(form: Any, content: dict[str, Any], part: str) -> None:
    result = done(Row("1", form, content, "f", 7))
    [rejected] = result.rejected
    assert (rejected.reason, rejected.file, rejected.line) == ("empty", "f", 7)
    assert part in rejected.detail


def test_a_row_too_long_says_both_numbers() -> None:
    result = done(chat("1", "q" * 600, "a" * 401), chat("2", "q" * 600, "a" * 400))
    [rejected] = result.rejected
    assert rejected.reason == "too-long"
    assert "1,001" in rejected.detail
    assert "1,000" in rejected.detail
    assert rejected.raw["messages"][0]["content"] == "q" * 600


def test_binary_text_is_rejected_and_a_stray_control_is_removed() -> None:
    result = done(chat("1", "q\x00\x01\x02", "a"), chat("2", "a question\x00 of some length", "a"))
    assert [row.reason for row in result.rejected] == ["control-characters"]
    assert result.rows[0].content["messages"][0]["content"] == "a question of some length"
    assert result.counts["normalised"] == 1


def test_copies_are_rejected_whatever_their_spacing_and_labels() -> None:
    result = done(
        chat("1", "What?", "That.", labels={"topic": "a"}),
        chat("2", "  What? ", "That.\r\n", labels={"topic": "b"}),
        chat("3", "What?", "Something else."),
        chat("4", "what?", "That."),
        chat("5", "What?", "That.", system="Be brief."),
    )
    [rejected] = result.rejected
    assert (rejected.reason, rejected.duplicate_of, rejected.line) == ("duplicate", "1", 2)
    assert "data.jsonl:1" in rejected.detail
    assert rejected.raw["messages"][0]["content"] == "  What? ", "the row as it was found"
    assert orjson.loads(orjson.dumps(rejected.to_json()))


def test_copies_given_for_different_splits_are_left_for_the_overlap_report() -> None:
    result = done(
        chat("1", "q", "a", split="train"), chat("2", "q", "a", split="test"), chat("3", "q", "a", split="test")
    )
    assert [row.id for row in result.rows] == ["1", "2"]
    assert result.rejected[0].duplicate_of == "2"


def test_contradictions_are_reported_and_kept() -> None:
    result = done(
        chat("1", "What is  AUC?", "An area."),
        chat("2", "what is auc?", "A number."),
        chat("3", "WHAT IS AUC?", "a  number."),
        chat("4", "What is F1?", "A mean."),
        chat("5", "what is f1?", "a mean."),
        chat("6", "What is AUC?", "Other.", system="Other role."),
    )
    assert len(result.rows) == 6
    [found] = result.contradictions
    assert found.question == "What is  AUC?"
    assert found.ids == ["1", "2", "3"]
    assert found.places == ["data.jsonl:1", "data.jsonl:2", "data.jsonl:3"]
    assert found.answers == ["An area.", "A number.", "a  number."]
    assert result.counts["contradictions"] == 1


def test_contradictions_know_titles_and_not_pairs() -> None:
    titles = [Row(str(n), "title", {"title": "Nurse", "label": label}, "f", n) for n, label in enumerate("ab")]
    pairs = [Row(str(n), "pair", {"texts": ["anchor", text]}, "f", n) for n, text in enumerate("ab")]
    assert done(*titles).contradictions[0].answers == ["a", "b"]
    assert done(*pairs).contradictions == []


def messages(roles: str) -> list[dict[str, str]]:
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[role], "content": "x"} for role in roles]


@pytest.mark.parametrize("roles", ["ua", "sua", "uaua", "suaua"])
def test_sound_conversations(roles: str) -> None:
    assert conversation_fault(messages(roles)) == ""


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ("", "no turn"),
        ("s", "no turn"),
        ("u", "last message"),
        ("uau", "last message"),
        ("au", "Message 1 is by 'assistant'"),
        ("uua", "Message 2 is by 'user'"),
        ("uas", "Message 3 is by 'system'"),
        ("suta", "Message 3 is by 'tool'"),
        ("ssua", "Message 2 is by 'system'"),
    ],
)
def test_unsound_conversations_say_what_is_wrong(roles: str, said: str) -> None:
    assert said in conversation_fault(messages(roles))
    result = done(Row("1", "chat", {"messages": messages(roles)}, "f", 1))
    assert result.rejected[0].reason == "malformed"


LONG = "Gradient descent moves the weights a small step against the gradient of the loss at every iteration of training"


def test_near_duplicates_form_clusters_named_by_their_first_row() -> None:
    rows = [
        chat("1", "What is gradient descent?", LONG),
        chat("2", "Something else entirely?", "Nothing to do with it at all, this one is about databases."),
        chat("3", "What is gradient descent?", LONG + " loops"),
        chat("4", "What is gradient descent?", LONG + " loops always"),
    ]
    result = done(*rows, near=0.8)
    assert result.clusters == {"1": "1", "3": "1", "4": "1"}
    assert (result.counts["near_duplicates"], result.counts["clusters"]) == (3, 1)
    assert len(result.rows) == 4, "near-duplicates are kept"
    assert done(*rows, near=None).clusters == {}


def test_counts_by_reason() -> None:
    result = done(chat("1", "q", "a"), chat("2", "q", "a"), chat("3", "", "a"), chat("4", " ", "a"))
    assert result.counts["rejected_duplicate"] == 1
    assert result.counts["rejected_empty"] == 2
    assert (result.counts["kept"], result.counts["rejected"]) == (1, 3)


def test_a_generator_of_rows_is_enough() -> None:
    assert len(clean((chat(str(n), f"q{n}", "a") for n in range(3)), 100, None).rows) == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.sampled_from(["a", "b", " a", ""])), max_size=30))
def test_every_row_is_accounted_for(pairs: list[tuple[str, str]]) -> None:
    pairs = [(asked.encode("utf-8", "replace").decode(), answered) for asked, answered in pairs]
    rows = [chat(str(number), asked, answered) for number, (asked, answered) in enumerate(pairs)]
    result = clean(rows, 6, 0.85)
    kept = [row.id for row in result.rows]
    assert sorted([*kept, *(rejected.raw["id"] for rejected in result.rejected)], key=int) == [
        str(number) for number in range(len(pairs))
    ]
    contents = [tuple(message["content"] for message in row.content["messages"]) for row in result.rows]
    assert len(set(contents)) == len(contents)
    assert all(asked == tidy(asked) and asked and answered for asked, answered in contents)
    assert set(result.clusters) <= set(kept)
