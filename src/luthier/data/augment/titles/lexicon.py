"""Phrases found in titles, and titles written in the style of others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Generic, Literal, TypeVar

Style = Literal["lower", "upper", "sentence", "title"]
Value = TypeVar("Value")

_CHUNK = re.compile(r"\S+")
_EDGES = ',;:()[]|"“”'
_SHORT = 2  # letters of a phrase that counts only in capitals: IT is no "it"
SMALL_WORDS = frozenset(
    {"a", "an", "and", "at", "by", "de", "for", "from", "in", "la", "of", "on", "or", "the", "to", "with"}
)


@cache
def table(name: str) -> dict[str, Any]:
    """Return one of the YAML files of this package: keywords, levels, skills, context or forms."""
    import yaml

    text = files("luthier.data.augment.titles").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@dataclass(frozen=True, slots=True)
class Match(Generic[Value]):
    """A phrase in a title: characters [start, end), words [first, last], and what the phrase stands for."""

    start: int
    end: int
    first: int
    last: int
    value: Value


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a title without the punctuation around it: its text, folded, and its characters [start, end)."""

    text: str
    folded: str
    start: int
    end: int


class Phrases(Generic[Value]):
    """Phrases to be found as whole words, whatever their case.

    Args:
        values: phrase → what it stands for. One phrase may be given more than once.
    """

    def __init__(self, values: Iterable[tuple[str, Value]]) -> None:
        self._values: dict[tuple[str, ...], list[Value]] = {}
        for phrase, value in values:
            self._values.setdefault(tuple(phrase.casefold().split()), []).append(value)
        self._longest = max(map(len, self._values), default=0)

    def find(self, title: str) -> list[Match[Value]]:
        """Return every match, by its first word; words with punctuation between them are no phrase."""
        found = tokens(title)
        matches: list[Match[Value]] = []
        for first in range(len(found)):
            for last in range(first, min(first + self._longest, len(found))):
                if last > first and not title[found[last - 1].end : found[last].start].isspace():
                    break
                held = self._values.get(tuple(token.folded for token in found[first : last + 1]), ())
                if held and (first < last or _counts(found[first].text)):
                    span = (found[first].start, found[last].end, first, last)
                    matches += [Match(*span, value) for value in held]
        return matches


def tokens(title: str) -> list[Token]:
    """Return the words of a title: what stands between spaces, without the punctuation at its edges."""
    made: list[Token] = []
    for chunk in _CHUNK.finditer(title):
        text = chunk[0].strip(_EDGES)
        if text:
            start = chunk.start() + chunk[0].index(text)
            made.append(Token(text, text.casefold(), start, start + len(text)))
    return made


def style_of(title: str) -> Style:
    """Return how a title is capitalised; in doubt, as a title."""
    letters = [character for character in title if character.isalpha()]
    if title == title.lower():
        return "lower"
    if title == title.upper() and len(letters) > 4:
        return "upper"
    words = [word for word in title.split() if word[:1].isalpha()]
    rest = [word for word in words[1:] if word.lower() not in SMALL_WORDS]
    return "sentence" if rest and all(word == word.lower() for word in rest) else "title"


def styled(phrase: str, style: Style, first: bool = False) -> str:
    """Return a phrase in a style. Its capitals stay unless the style forbids them.

    Args:
        phrase: lower-case words are written as the style wants.
        style: of the title that it joins.
        first: whether it begins the title.
    """
    if style in ("lower", "upper"):
        return phrase.lower() if style == "lower" else phrase.upper()
    if style == "title":
        return " ".join(
            word if word != word.lower() or (place and word in SMALL_WORDS) else _capital(word)
            for place, word in enumerate(phrase.split(" "))
        )
    return _capital(phrase) if first and phrase[:1].islower() else phrase


def after_prefix(title: str, style: Style) -> str:
    """Return a title as it stands after another word: in sentence style its first letter becomes small."""
    if style != "sentence":
        return title
    first = title.split(maxsplit=1)[0]
    return title if first[1:] != first[1:].lower() else title[:1].lower() + title[1:]


def canonical(title: str) -> str:
    """Return a title with each known phrase replaced by the first of its set, folded: for comparing meanings."""
    text = title.casefold()
    last_end = len(text) + 1
    chosen: list[Match[str]] = []
    for match in sorted(_canonicals().find(title), key=lambda one: (-one.end, one.start)):
        if match.end <= last_end:
            chosen.append(match)
            last_end = match.start
    if len(text) != len(title):  # a letter that folds to two would move the positions
        return text
    for match in chosen:
        text = text[: match.start] + match.value + text[match.end :]
    return text


@cache
def _canonicals() -> Phrases[str]:
    pairs: dict[str, str] = {}
    for members in keyword_sets():
        for word in (*members.same, *members.to):
            pairs.setdefault(word.casefold(), members.same[0].casefold())
    return Phrases(pairs.items())


@dataclass(frozen=True, slots=True)
class KeywordSet:
    """Phrases that may stand for each other: any of `same` becomes any other of `same` and `to`."""

    same: tuple[str, ...]
    to: tuple[str, ...] = ()
    unless: frozenset[str] = frozenset()


@cache
def keyword_sets() -> tuple[KeywordSet, ...]:
    """Return the sets of keywords.yaml."""
    return tuple(_keyword_set(entry) for entry in table("keywords")["sets"])


def _keyword_set(entry: list[str] | Mapping[str, list[str]]) -> KeywordSet:
    if isinstance(entry, list):
        return KeywordSet(tuple(entry))
    return KeywordSet(tuple(entry["same"]), tuple(entry["to"]), frozenset(entry.get("unless", ())))


def _counts(text: str) -> bool:
    return len(text) > _SHORT or text.isupper()


def _capital(word: str) -> str:
    parts = word.split("-")
    return "-".join(
        part if place and part in SMALL_WORDS else part[:1].upper() + part[1:] for place, part in enumerate(parts)
    )
