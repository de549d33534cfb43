"""Numbers in texts: what is read, and what counts as the same in another notation."""

from __future__ import annotations

import pytest

from luthier.diagnose.numbers import parse_number, quantities


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0.79", "79 %"),
        ("79 percent", "79%"),
        ("128 KiB", "131,072 bytes"),
        ("1 GiB", "1024 MiB"),
        ("307 GB", "0.307 TB"),
        ("150 ms", "0.15 s"),
        ("14 days", "two weeks"),
        ("14 Tage", "zwei Wochen"),
        ("6e-5", "0.00006"),
        ("131 thousand", "131,072"),
        ("16.8 million", "16,777,216"),
        ("85 million", "85m"),
        ("9,90", "9.90"),
        ("0.25", "a quarter"),
        ("8,192", "8k"),
        ("24小时", "1天"),
    ],
)
def test_the_same_in_another_notation(one: str, other: str) -> None:
    assert quantities(one)[0].same(quantities(other)[0])
    assert quantities(other)[0].same(quantities(one)[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("307 GB", "307 MB"),
        ("5 hours", "5 days"),
        ("5 percent", "5 days"),
        ("0.79", "0.32"),
        ("1,024", "1,124"),
        ("10 MB", "10 GB"),
        ("85 million", "85 billion"),
        ("24 hours", "48 hours"),
    ],
)
def test_what_is_not_the_same(one: str, other: str) -> None:
    assert not quantities(one)[0].same(quantities(other)[0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,024", 1024),
        ("1.024.000", 1024000),
        ("9,90", 9.9),
        ("3.5", 3.5),
        ("1,234,567.8", 1234567.8),
        ("1.234.567,8", 1234567.8),
    ],
)
def test_separators(text: str, value: float) -> None:
    assert parse_number(text) == pytest.approx(value)


def test_numbers_in_names_are_no_numbers() -> None:
    assert quantities("GPT2 and L1 in sha256 of v1.2.x") == []


def test_places_are_those_of_the_text() -> None:
    text = "It takes 128 KiB, then 3 hours."
    assert [text[slice(*one.span)] for one in quantities(text)] == ["128 KiB", "3 hours"]
