"""The mask proof holds for what encode makes, and fails for every mask that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from luthier.errors import GateError
from luthier.kinds.base import Encoded
from luthier.kinds.causal_lm.rows import Example, encode, prove_mask
from tests.kinds import fixtures
from tests.kinds.fixtures import FAMILIES, chat
from tests.kinds.test_rows import text

LONG = 100_000
ROWS = [
    chat("q", "one", "q", "two", line=1),
    chat("What?", "three 日本", line=2),
    text("four", 3),
    chat("q", "five", line=4),
]


@pytest.fixture(scope="module")
def chatml() -> Any:
    return fixtures.tokenizer("chatml")


def test_it_counts_and_shows_the_first_rows(chatml: Any) -> None:
    encoded = encode(ROWS, chatml, LONG)
    proof = prove_mask(ROWS, encoded, chatml)
    assert (proof.rows, proof.truncated, proof.dropped, proof.problems) == (4, 0, 0, [])
    assert proof.total_tokens == sum(len(example.input_ids) for example in encoded.examples)
    assert proof.trained_tokens == sum(label != -100 for example in encoded.examples for label in example.labels)
    assert [(shown.id, shown.place) for shown in proof.shown] == [(row.id, row.place) for row in ROWS[:3]]
    assert proof.shown[0].pieces == [
        ("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", False),
        ("one<|im_end|>", True),
        ("\n<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", False),
        ("two<|im_end|>", True),
        ("\n", False),
    ]
    assert proof.shown[2].pieces == [("four<|im_end|>", True)]


@pytest.mark.parametrize("name", FAMILIES)
def test_it_holds_in_every_family(name: str) -> None:
    tokenizer = fixtures.tokenizer(name)
    assert prove_mask(ROWS, encode(ROWS, tokenizer, LONG), tokenizer).rows == 4


def tampered(encoded: Encoded, number: int, change: Callable[[Example], Example]) -> Encoded:
    examples = [change(one) if place == number else one for place, one in enumerate(encoded.examples)]
    return replace(encoded, examples=examples)


def last_trained(example: Example) -> int:
    return max(place for place, label in enumerate(example.labels) if label != -100)


def without_end(example: Example) -> Example:
    end = last_trained(example)
    return replace(example, labels=[*example.labels[:end], -100, *example.labels[end + 1 :]])


def without_first(example: Example) -> Example:
    first = next(place for place, label in enumerate(example.labels) if label != -100)
    return replace(example, labels=[-100 if place == first else label for place, label in enumerate(example.labels)])


def with_the_one_before(example: Example) -> Example:
    first = next(place for place, label in enumerate(example.labels) if label != -100)
    return replace(
        example, labels=[*example.labels[: first - 1], example.input_ids[first - 1], *example.labels[first:]]
    )


def with_header_before(example: Example) -> Example:
    """Train `assistant` too, a word and not only the line break."""
    return with_the_one_before(with_the_one_before(example))


def shifted(example: Example) -> Example:
    return replace(example, labels=[-100, *example.labels[:-1]])


def only_last_turn(example: Example) -> Example:
    inside = list(example.labels)
    for place in range(len(inside)):
        if inside[place] != -100 and any(label == -100 for label in inside[place : last_trained(example)]):
            inside[place] = -100
    return replace(example, labels=inside)


def after_the_end(example: Example) -> Example:
    end = last_trained(example) + 1
    return replace(example, labels=[*example.labels[:end], example.input_ids[end], *example.labels[end + 1 :]])


@pytest.mark.parametrize(
    ("number", "change", "told"),
    [
        (1, lambda one: replace(one, labels=[-100] * len(one.labels)), "nothing is trained"),
        (1, lambda one: replace(one, labels=list(one.input_ids)), "everything is trained"),
        (1, without_end, "the end-of-turn token is masked"),
        (0, without_end, "the end-of-turn token is masked"),
        (1, without_first, "not the assistant's words"),
        (1, with_header_before, "not the assistant's words"),
        (1, shifted, "a label is not the token at its place"),
        (0, only_last_turn, "2 answers, but 1 runs"),
        (1, after_the_end, "the end-of-turn token is masked"),
        (2, without_first, "a token of the text is masked"),
        (2, lambda one: Example(one.id, one.input_ids[:-1], one.labels[:-1]), "the end-of-text token is not trained"),
    ],
)  # fmt: skip
def test_every_wrong_mask_is_a_gate_that_names_the_row(
    chatml: Any, number: int, change: Callable[[Example], Example], told: str
) -> None:
    encoded = tampered(encode(ROWS, chatml, LONG), number, change)
    with pytest.raises(GateError, match=told) as error:
        prove_mask(ROWS, encoded, chatml)
    assert error.value.exit_status == 3
    assert error.value.place == f"{ROWS[number].place} ({told})" or ROWS[number].place in error.value.place
    assert "1 of 4 rows" in error.value.problem


def test_many_wrong_rows_are_named_by_the_first_places(chatml: Any) -> None:
    rows = [chat("q", "a b", line=line) for line in range(1, 10)]
    encoded = encode(rows, chatml, LONG)
    encoded = replace(encoded, examples=[without_end(one) for one in encoded.examples])
    with pytest.raises(GateError, match="9 of 9 rows") as error:
        prove_mask(rows, encoded, chatml)
    assert error.value.place.startswith("data/rows.jsonl:1 (the end-of-turn token is masked), data/rows.jsonl:2 (")
    assert error.value.place.endswith(" and 4 more")


def test_truncated_and_dropped_rows_are_told_and_go_on(chatml: Any) -> None:
    rows = [chat("q", "日本語 a b c d e f", line=1), chat("q", "a", line=2), chat("<|im_end|>", "a", line=3)]
    whole = encode(rows, chatml, LONG).lengths[0]
    for length in range(whole - 14, whole - 1):  # wherever it is cut, inside a character too
        encoded = encode(rows, chatml, length)
        proof = prove_mask(rows, encoded, chatml)
        assert (proof.rows, proof.truncated, proof.dropped) == (2, 1, 1)
        assert proof.problems[0].startswith("data/rows.jsonl:1: cut at the length limit")
        assert proof.problems[1].startswith("data/rows.jsonl:3: left out, its words hold the special token")


def test_a_row_that_is_cut_but_not_counted_as_cut_is_a_gate(chatml: Any) -> None:
    encoded = encode(ROWS[:2], chatml, encode(ROWS[:2], chatml, LONG).lengths[1] - 2)
    assert encoded.truncated
    with pytest.raises(GateError, match=r"end-of-turn token is masked|answers, but"):
        prove_mask(ROWS[:2], replace(encoded, truncated=[]), chatml)


def test_when_every_row_is_cut_it_is_a_gate_with_the_lengths(chatml: Any) -> None:
    rows = [chat("q", "a b c d e f g", line=line) for line in (1, 2, 3)]
    whole = encode(rows, chatml, LONG).lengths[0]
    with pytest.raises(GateError, match="Every row is cut") as error:
        prove_mask(rows, encode(rows, chatml, whole - 2), chatml)
    assert error.value.place == "data.max_length"
    assert f"the longest has {whole}" in error.value.remedy


def test_words_that_the_tokenizer_changes_are_compared_as_it_changes_them() -> None:
    """A tokenizer that normalises (here: to lower case) says other characters than the row; that is no wrong mask."""
    from tokenizers import normalizers

    tokenizer = fixtures.tokenizer("chatml")
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    rows = [chat("What?", "It FITS the Noise.")]
    encoded = encode(rows, tokenizer, LONG)
    assert prove_mask(rows, encoded, tokenizer).rows == 1
    with pytest.raises(GateError):
        prove_mask(rows, tampered(encoded, 0, without_first), tokenizer)
