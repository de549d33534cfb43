"""What the answer claims beyond, or against, question, reference and training data."""

from __future__ import annotations

import re

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.detectors.contradiction import replacements
from luthier.diagnose.numbers import quantities, supported
from luthier.diagnose.words import CHARACTERS, Span, units

FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
LISTED = re.compile(r"(?<!\S)\d{1,2}[.)](?=\s)")


def wrong_numbers(case: Case, ground: Ground) -> Seen:
    """Numbers that neither question nor reference has in any notation, as far as the reference has numbers in digits.

    Numbers in words count where they stand in the place of another number of the reference.

    Sees: numbers, and numbers with another unit, that differ from the reference by more than 3 %; 0.79 and 79 %, 1 GiB
        and 1024 MiB, two weeks and 14 days count as equal.
    Cannot see: a right number in the wrong place; results that follow from the reference by calculation, which count
        as wrong; numbers in blocks of code.
    """
    theirs = quantities(case.reference.raw)
    if not any(not one.spelled for one in theirs):
        return Seen(0.0)
    theirs += quantities(case.question.raw)
    text = FENCE.sub(lambda match: " " * len(match.group()), case.answer.raw[:CHARACTERS])
    text = LISTED.sub(lambda match: " " * len(match.group()), text)
    wrong = [one.span for one in quantities(text) if not one.spelled and not supported(one, theirs)]
    return _seen(sorted([*wrong, *_wrong_in_words(case)]))


def foreign_terms(case: Case, ground: Ground) -> Seen:
    """Share of the words of content that neither question, reference nor any training row contains (0 to 1).

    Sees: claims in words from another field, inventions, gibberish.
    Cannot see: false statements in the words of the field.
    """
    known = case.question.stems | case.reference.stems
    content = units(case.answer.tokens)
    strange = [unit for unit in content if unit not in known and not ground.frequency.get(unit)]
    if not strange:
        return Seen(0.0)
    return Seen(len(strange) / len(content), _place(case, set(strange)))


def _place(case: Case, stems: set[str]) -> Span | None:
    """Return the sentence that holds most of the given stems."""
    counted = [(sum(token.stem in stems for token in tokens), span) for span, tokens in case.answer.by_sentence]
    return max(counted, key=lambda one: one[0])[1] if counted else None


def _wrong_in_words(case: Case) -> list[Span]:
    """Return numbers in words that stand where the reference's clause has another number: thirty for three."""
    found = []
    for mine, theirs in replacements(case):
        here = [one for one in quantities(case.answer.raw[mine[0].start : mine[-1].end]) if one.spelled]
        there = quantities(case.reference.raw[theirs[0].start : theirs[-1].end])
        if here and there and not supported(here[0], there):
            found.append((mine[0].start, mine[-1].end))
    return found


def _seen(wrong: list[Span]) -> Seen:
    return Seen(float(len(wrong)), wrong[0] if wrong else None)
