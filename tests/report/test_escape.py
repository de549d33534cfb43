"""Text made safe for LaTeX and for the width of a line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.report.escape import LONGEST_WORD, breakable, latex, plain, shortened

COMMANDS = re.compile(
    r"\\(?:textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl|textquotesingle"
    r"|textasciigrave|newline|quad|allowbreak)\{\}|\\[{}$&#%_]|\{[\[\]]\}|-\{\}"
)


@given(text=st.text())
def test_latex_holds_no_command_but_those_of_the_table(text: str) -> None:
    rest = COMMANDS.sub("", latex(text))
    assert not set(rest) & set("\\{}$&#%_^<>|\"'`[]\n\t�")
    assert "~" not in rest or "\xa0" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("50 % of $x_1$ & #2", r"50 \% of \$x\_1\$ \& \#2"),
        ("a -- b ---", "a -{}-{} b -{}-{}-{}"),
        ("one\n\n\ntwo", r"one\newline{}two"),
        ("ß é 中 😀", "ß é 中 😀"),
    ],
)
def test_latex_shows_the_text(text: str, expected: str) -> None:
    assert latex(text) == expected


@given(text=st.text(max_size=200))
def test_breaking_long_words_keeps_the_text(text: str) -> None:
    text = plain(text)
    marked = breakable(text)
    assert marked.replace("\u200b", "") == text
    assert max((len(word) for word in re.split(r"[\s\u200b]", marked)), default=0) <= 2 * LONGEST_WORD


def test_a_cluster_of_letters_is_not_cut() -> None:
    family = "👩\u200d👩\u200d👧"
    assert family in breakable(family * 20)


def test_long_texts_are_cut_and_say_how_long_they_are() -> None:
    assert shortened("short", 10) == "short"
    assert shortened("x" * 100_000, 10) == "xxxxxxxxxx … (100,000 characters in all)"
    assert shortened("a\n\n\nb", 10) == "a\nb"
    assert shortened("\n".join("abcdefghij"), 100, lines=3) == "a\nb\nc … (19 characters in all)"
