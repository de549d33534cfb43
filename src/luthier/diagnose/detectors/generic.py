"""Answers that could have been given to any question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.words import CHARACTERS, Span, Text, Token, common_words, table

SPECIFIC_LOOK = re.compile(r"[\d_=<>@/\\^*+|~%€$£¥]")


def generic_phrases(case: Case, ground: Ground) -> Seen:
    """Share of the sentences that hold a phrase of the list (phrases.yaml and `diagnose.phrases`).

    Sees: courtesy, filler and stock phrases in English, German, Spanish, French and Chinese.
    Cannot see: emptiness in fresh words; languages without a list.
    """
    found = [
        match.span() for match in _stock(tuple(ground.extra_phrases)).finditer(case.answer.raw[:CHARACTERS].casefold())
    ]
    if not found:
        return Seen(0.0)
    sentences = case.answer.sentences
    hit = [span for span in sentences if any(start < span[1] and end > span[0] for start, end in found)]
    return Seen(len(hit) / max(len(sentences), 1), hit[0] if hit else found[0])


def absolute_claims(case: Case, ground: Ground) -> Seen:
    """Words that leave no exception (always, never; every and all by half) a sentence, beyond those of the reference.

    Sees: sweeping statements where the reference makes none.
    Cannot see: a generalisation without such a word; whether the rule really has no exception.
    """
    mine, theirs = _absolutes(case.answer), _absolutes(case.reference)
    here = sum(weight for _, weight in mine) / max(len(case.answer.by_sentence), 1)
    allowed = sum(weight for _, weight in theirs) / max(len(case.reference.by_sentence), 1)
    return Seen(max(here - allowed, 0.0), (mine[0][0][0], mine[-1][0][1]) if mine else None)


def specificity(case: Case, ground: Ground) -> Seen:
    """Density of specific words in the answer as a share of their density in the reference.

    Specific are numbers, formulas, names in code and words that are not among the 1,800 commonest of English or, in
    other languages, among the words of grammar.

    Sees: answers in everyday words where the reference uses terms.
    Cannot see: whether the specific words belong to the question.
    """
    usual = specific_share(case.reference)
    return Seen(specific_share(case.answer) / usual if usual else 1.0)


def specific_share(text: Text) -> float:
    """Return the share of the words of a text that are specific; 0 for an empty one."""
    tokens = [token for token in text.tokens if ord(token.word[0]) < 0x2E80]
    spaceless = len(text.tokens) - len(tokens)
    if spaceless > len(tokens):  # no list of common words: the share of pairs that are not grammar
        return sum(token.content for token in text.tokens) / len(text.tokens)
    return sum(is_specific(token, text) for token in tokens) / len(tokens) if tokens else 0.0


def is_specific(token: Token, text: Text) -> bool:
    """Return whether a word is specific: a number, part of a formula, or not an everyday word."""
    if not token.content:
        return False
    return bool(SPECIFIC_LOOK.search(text.raw[token.start : token.end])) or token.stem not in common_words()


def _absolutes(text: Text) -> list[tuple[Span, float]]:
    """Return the places of words that leave no exception, each with its weight."""
    listed = _weights()
    found = [((token.start, token.end), listed[token.word]) for token in text.tokens if token.word in listed]
    spaceless = [(match.span(), listed[match.group()]) for match in _spaceless().finditer(text.raw[:CHARACTERS])]
    return sorted(found + spaceless)


@lru_cache(maxsize=1)
def _weights() -> dict[str, float]:
    parts = {"absolute": 1.0, "weak": 0.5}
    phrases = table("phrases.yaml")
    return {
        word: weight for name, weight in parts.items() for words in phrases[name].values() for word in words.split()
    }


@lru_cache(maxsize=1)
def _spaceless() -> re.Pattern[str]:
    return re.compile("|".join(word for word in _weights() if ord(word[0]) > 0x2E80))


@lru_cache(maxsize=4)
def _stock(extra: Sequence[str]) -> re.Pattern[str]:
    """Return one pattern for all phrases; * stands for up to three words. Those of the recipe are taken literally."""
    listed = [
        phrase
        for name, phrases in table("phrases.yaml").items()
        if name not in ("absolute", "weak")
        for phrase in phrases
    ]
    parts = [_starred(phrase) for phrase in listed]
    parts += [re.escape(phrase.casefold()) for phrase in extra]
    return re.compile("|".join(rf"(?<!\w)(?:{part})" if part[:1].isascii() else part for part in parts))


def _starred(phrase: str) -> str:
    return re.sub(r"(?<=[ ])\*(?=[ (])", r"(?:\\S+ ){0,2}\\S+", phrase)
