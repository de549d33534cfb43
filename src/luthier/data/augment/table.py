"""The table of rewording rules: read from a data file, checked and compiled once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_PLAIN_BRACKET = re.compile(r"\((?!\?)")
_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}")
_SECOND_SENTENCE = re.compile(r"[.?!][\"')\]]*\s+\S")
_PLURALS_WITHOUT_S = frozenset({"data", "criteria", "people", "media", "phenomena", "matrices", "indices"})
_ABOUT_LETTERS = re.compile(r"\b(?:stands? for|abbreviat|acronym|short for|spell)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Variant:
    """A text reworded, the name of the rule that did it, and the sort of change that it is."""

    text: str
    rule: str
    category: str


@dataclass(frozen=True, slots=True)
class Piece:
    """What a named part of a pattern may hold: a regular expression, a number of words, forbidden words."""

    match: str
    max_words: int = 1000
    without: frozenset[str] = frozenset()

    def fits(self, text: str, without: frozenset[str]) -> bool:
        """Tell whether a part that matched is short enough and free of forbidden words."""
        found = re.findall(r"[\w'-]+", text.lower())
        return text == text.strip() and len(found) <= self.max_words and not (self.without | without) & set(found)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A form of question and the forms that ask the same."""

    name: str
    match: re.Pattern[str]
    to: tuple[str, ...]
    without: frozenset[str]
    singular: str | None
    any_clause: bool


class Rules:
    """Rewordings of one question, from the table's data.

    Args:
        data: the table as read from YAML: `second_question`, `pieces`, `patterns`, `abbreviations`, `synonyms`,
            `contractions`, `framings` (see `rules.yaml`).

    Raises:
        ValueError, KeyError: the table is not well-formed.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._second_question = re.compile(data["second_question"], re.IGNORECASE)
        self._pieces = {
            name: Piece(piece["match"], piece.get("max_words", 1000), frozenset(piece.get("without", ())))
            for name, piece in data["pieces"].items()
        }
        self._patterns = [self._pattern(one) for one in data["patterns"]]
        self._abbreviations: dict[str, str] = data["abbreviations"]
        self._synonyms: Sequence[Mapping[str, Any]] = data["synonyms"]
        self._contractions = [(re.compile(one["from"]), one["to"]) for one in data["contractions"]]
        self._framings: Sequence[Mapping[str, str]] = data["framings"]

    def _pattern(self, one: Mapping[str, Any]) -> Pattern:
        number = iter(range(1, 100))
        text = _PLAIN_BRACKET.sub(lambda _: f"(?P<g{next(number)}>", one["match"])
        for name, piece in self._pieces.items():
            text = text.replace(f"{{{name}}}", f"(?P<{name}>{piece.match})")
        return Pattern(
            one["name"],
            re.compile(text),
            tuple(one["to"]),
            frozenset(one.get("without", ())),
            one.get("singular"),
            one.get("any_clause", False),
        )

    def reworded(self, question: str) -> Iterator[Variant]:
        """Yield the question in its other forms: "What is X?" as "Can you explain what X is?"."""
        if _SECOND_SENTENCE.search(question):
            return
        clauses = bool(self._second_question.search(question))
        for pattern in self._patterns:
            match = None if clauses and not pattern.any_clause else pattern.match.fullmatch(question)
            if match is None or not self._fits(match, pattern):
                continue
            for form in pattern.to:
                text = _filled(form, match)
                yield Variant(text[0].upper() + text[1:], pattern.name, "form")

    def _fits(self, match: re.Match[str], pattern: Pattern) -> bool:
        held = {name: text for name, text in match.groupdict().items() if name in self._pieces}
        if pattern.singular is not None and _is_plural(held[pattern.singular]):
            return False
        return all(self._pieces[name].fits(text, pattern.without) for name, text in held.items())

    def abbreviated(self, question: str) -> Iterator[Variant]:
        """Yield the question with one abbreviation expanded, or one phrase abbreviated, at its first place."""
        if _ABOUT_LETTERS.search(question):
            return
        for short, long in self._abbreviations.items():
            has_short = re.search(rf"(?<![\w/-]){short}(s?)(?![\w/-])", question)
            has_long = re.search(rf"(?<![\w/-]){re.escape(long)}(s?)(?![\w/-])", question, re.IGNORECASE)
            if (has_short is None) == (has_long is None):
                continue
            match, put, rule = (has_short, long, "expand") if has_short else (has_long, short, "abbreviate")
            if match is not None and not re.search(r"\b(?:a|an)\s$", question[: match.start()], re.IGNORECASE):
                yield Variant(_replaced(question, match, put + match[1]), f"{rule}-{short}", "words")

    def synonymous(self, question: str) -> Iterator[Variant]:
        """Yield the question with one non-technical word or phrase replaced, at its first place that fits."""
        for one in self._synonyms:
            for match in re.finditer(rf"(?<![\w-]){re.escape(one['from'])}(?![\w-])", question, re.IGNORECASE):
                before = re.findall(r"[\w'-]+", question[: match.start()].lower())[-1:]
                after = re.findall(r"[\w'-]+", question[match.end() :].lower())[:1]
                if _in_place(one, before, after):
                    rule = f"synonym-{one['from'].replace(' ', '-')}"
                    yield Variant(_replaced(question, match, one["to"]), rule, "words")
                    break

    def contracted(self, question: str) -> Iterator[Variant]:
        """Yield the question with one contraction made or opened, at its first place."""
        for pattern, to in self._contractions:
            text = pattern.sub(to, question, count=1)
            if text != question:
                yield Variant(text, "contraction", "words")

    def framed(self, question: str, context: str) -> Iterator[Variant]:
        """Yield the question inside each framing that fits the context."""
        for framing in self._framings:
            if framing.get("when", "").casefold() in context.casefold():
                yield Variant(framing["text"].replace("{question}", question), framing["name"], "framing")


@cache
def shipped_rules() -> Rules:
    """Return the rules that come with Luthier (English)."""
    import yaml

    text = files("luthier.data.augment").joinpath("rules.yaml").read_text(encoding="utf-8")
    return Rules(yaml.safe_load(text))


def _filled(form: str, match: re.Match[str]) -> str:
    def fill(slot: re.Match[str]) -> str:
        name, change = slot[1], slot[2]
        text = match[f"g{name}" if name.isdigit() else name] or ""
        if change == "s":
            return f"{text}es" if text.endswith("o") else f"{text}s"
        if change in ("lower", "capital"):
            return (text[:1].lower() if change == "lower" else text[:1].upper()) + text[1:]
        return text

    return _SLOT.sub(fill, form)


def _is_plural(noun: str) -> bool:
    """Tell whether a noun phrase looks plural; in doubt, yes, so that the rule does not apply."""
    last = noun.lower().split()[-1]
    if noun.lower().startswith(("a ", "an ")):
        return False
    return last in _PLURALS_WITHOUT_S or (last.endswith("s") and not last.endswith(("ss", "sis", "us")))


def _in_place(one: Mapping[str, Any], before: list[str], after: list[str]) -> bool:
    if "after" in one and not set(before) & set(one["after"]):
        return False
    if "before" in one and not set(after) & set(one["before"]):
        return False
    starts_vowel = {text[0].lower() in "aeiou" for text in (one["from"], one["to"])}
    return before not in (["a"], ["an"]) or len(starts_vowel) == 1


def _replaced(question: str, match: re.Match[str], put: str) -> str:
    if match.start() == 0 or question[: match.start()].rstrip().endswith((".", "?", "!")):
        put = put[0].upper() + put[1:]
    return question[: match.start()] + put + question[match.end() :]
