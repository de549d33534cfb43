"""How long an answer is, beside its reference and beside what its question asks for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.words import CHARACTERS, Text, table

ITEM_LINE = re.compile(r"^[ \t]*(?:[-*•]|\d+[.)]|[a-z]\))[ \t]+", re.MULTILINE)


def length_ratio(case: Case, ground: Ground) -> Seen:
    """Words of the answer for each word of the reference.

    Sees: answers much shorter or much longer than their reference; where there is no reference, than the median
        training answer of the topic.
    Cannot see: whether the words that are there were needed; a terse answer that says everything may be flagged.
    """
    expected = case.reference.words or ground.median_words.get(case.topic) or ground.median_words.get("") or 1
    ratio = case.answer.words / expected
    over = case.answer.tokens[int(expected) :] if ratio > 1 else ()
    return Seen(ratio, (over[0].start, case.answer.tokens[-1].end) if over else None)


def length_asked(case: Case, ground: Ground) -> Seen:
    """How far the length is from the one that the question asks for, as a logarithm to the base 2 of their ratio.

    Sees: "in one sentence", "list five", "in 50 words" in English, German, Spanish, French and Chinese; "briefly" and
        "in detail" against the length of the reference.
    Cannot see: wishes in other words or languages; what counts as one item in running text.
    """
    asked = list(_asked(case))
    worst = max((abs(math.log2(max(given, 0.1) / wanted)) for given, wanted in asked), default=0.0)
    return Seen(worst)


def asked_for(question: str, what: str) -> list[int]:
    """Return the numbers that a question asks for in a way of requests.yaml; 0 where a way has no number."""
    found = []
    for pattern in _patterns(what):
        for match in pattern.finditer(question):
            word = (match.groupdict().get("n") or "").casefold()
            found.append(int(word) if word.isdigit() else _numbers().get(word, 0))
    return found


def items_of(text: Text) -> int:
    """Return how many items an answer lists: numbered or bulleted lines, else lines, else parts between commas."""
    marked = len(ITEM_LINE.findall(text.raw[:CHARACTERS]))
    if marked:
        return marked
    lines = [line for line in text.raw.splitlines() if line.strip()]
    if len(lines) > 1:
        return len(lines)
    return len([part for part in re.split(r"[,;，；、]", text.raw) if part.strip()])


def _asked(case: Case) -> Iterator[tuple[float, float]]:
    question = case.question.raw
    for wanted in asked_for(question, "sentences"):
        yield float(len(case.answer.by_sentence)), float(wanted or 1)
    for wanted in asked_for(question, "words"):
        yield float(case.answer.words), float(wanted or 1)
    listed = items_of(case.reference)
    for wanted in asked_for(question, "items"):
        if wanted and listed == wanted:  # the reference shows that the items are counted so
            yield float(items_of(case.answer)), float(wanted)
    usual = case.reference.words
    if usual and asked_for(question, "brief"):
        yield max(case.answer.words / usual, 1.0), 1.0
    if usual and asked_for(question, "detailed"):
        yield min(case.answer.words / usual, 1.0), 1.0


@lru_cache(maxsize=32)
def _patterns(what: str) -> list[re.Pattern[str]]:
    number = rf"(?P<n>\d+|{'|'.join(sorted(_numbers(), key=len, reverse=True))})"
    return [re.compile(pattern.replace("{n}", number), re.IGNORECASE) for pattern in table("requests.yaml")[what]]


@lru_cache(maxsize=1)
def _numbers() -> dict[str, int]:
    return {word: int(value) for value, words in table("requests.yaml")["numbers"].items() for word in words}
