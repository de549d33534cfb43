"""Texts taken apart: places, scripts, and texts that are too long to look at whole."""

from __future__ import annotations

from luthier.diagnose.words import CHARACTERS, Text


def test_words_sentences_and_clauses_stand_where_they_say() -> None:
    text = Text("Precision is TP/(TP + FP), about 0.79. It's n_neighbors; see v1.2! 过拟合是指模型。怎样？")
    assert [text.raw[one.start : one.end].casefold() for one in text.tokens] == [one.word for one in text.tokens]
    assert "0.79" in [one.word for one in text.tokens]
    assert [text.raw[slice(*span)] for span in text.sentences] == [
        "Precision is TP/(TP + FP), about 0.79.",
        "It's n_neighbors; see v1.2!",
        "过拟合是指模型。",
        "怎样？",
    ]
    assert text.raw[slice(*text.clauses[-3])] == "see v1.2!"


def test_spaceless_scripts_are_compared_by_pairs_of_characters() -> None:
    assert {"过拟", "拟合"} <= Text("过拟合").stems
    assert Text("过拟合是指模型").words == 4  # seven characters, two a word


def test_words_within_a_place() -> None:
    text = Text("one two. three four. five")
    assert [[token.word for token in tokens] for _, tokens in text.by_sentence] == [
        ["one", "two"],
        ["three", "four"],
        ["five"],
    ]


def test_a_long_text_is_looked_at_up_to_a_limit_and_counted_whole() -> None:
    text = Text("word " * CHARACTERS)
    assert len(text.tokens) == CHARACTERS // 5
    assert text.words == CHARACTERS


def test_right_to_left_and_emoji() -> None:
    assert Text("مرحبا بالعالم").words == 2
    assert Text("🙂🙂🙂").words == 0
    assert Text("").sentences == []
