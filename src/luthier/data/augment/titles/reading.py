"""What a title says beside the occupation: level, context and mere form, told apart from its core.

This is what the categories are checked by; it shares word lists with the rules that write variations, not their code.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from luthier.data.augment.titles.lexicon import SMALL_WORDS, table

CATEGORIES = ("keywords", "seniority", "skills", "context", "formatting")

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_SEGMENTS = re.compile(r"\s+[-–—|/]\s+|[,;:|()\[\]–—]+|\s+(?=(?:in|for)\s)")
_LEADING = re.compile(r"^(?:in|for|at|to)\s+")
# Words that link and say nothing themselves.
_LINKS = SMALL_WORDS | {"specialising", "specializing", "skilled", "skills", "expertise", "experience"}
_LEVEL_NAMES = {"sr": "senior", "snr": "senior", "jr": "junior", "jnr": "junior", "midlevel": "mid level"}


@dataclass(frozen=True, slots=True)
class Reading:
    """A title taken apart.

    Attributes:
        core: the words of the occupation and its branch, sorted. flat: the same letters in their order, with no gaps.
        levels, context: what was found of each, sorted. forms: how many marks of mere form.
    """

    core: tuple[str, ...]
    flat: str
    levels: tuple[str, ...]
    context: tuple[str, ...]
    forms: int

    @property
    def key(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Core and levels: titles of two families should not agree in both."""
        return self.core, self.levels


@lru_cache(maxsize=200_000)
def read(title: str) -> Reading:
    """Take a title apart; what is known neither as level, context nor form belongs to the core."""
    marks = _marks()
    text = unicodedata.normalize("NFKC", title).casefold().replace("_", " ").replace("’", "'")
    text, forms = marks.forms.subn(" , ", text)
    text = marks.kept.sub(lambda match: match[0].replace(" ", "\u2060"), text)
    context = [" ".join(match[0].split()) for match in marks.context.finditer(text)]
    text = marks.context.sub(" , ", text)
    levels = [_squeezed(match[0]) for match in marks.levels.finditer(text)]
    text = marks.levels.sub(" , ", text).replace("\u2060", " ")
    core: list[str] = []
    for part in _SEGMENTS.split(text):
        segment = part.strip(" -–—/|#.*")
        plain = _LEADING.sub("", segment)
        if not plain:
            continue
        if plain in marks.phrases:
            context.append(plain)
            continue
        if plain in marks.alone and plain != title.casefold():
            levels.append(_squeezed(plain))
            continue
        found, rest = _split_levels(segment, marks)
        levels += found
        core += [word for word in _WORD.findall(rest) if word not in _LINKS]
    return Reading(tuple(sorted(core)), "".join(core), tuple(sorted(levels)), tuple(sorted(context)), forms)


def in_category(source: str, variation: str, category: str, strict: bool = True) -> bool:
    """Tell whether a variation differs from its source in what the category says, and in nothing else.

    - keywords: some words of the core are replaced; none of level and context is new.
    - seniority: the levels differ; core and context do not.
    - skills: the core has all its words and more; level and context are the same.
    - context: the context has more; core and level are the same.
    - formatting: the words are the same, the text is not.

    Args:
        source, variation: the titles.
        category: one of `CATEGORIES`.
        strict: whether context must be known from the word lists; otherwise unknown words may be context, such as
            places that are not listed.

    Raises:
        KeyError: there is no such category.
    """
    before, after = read(source), read(variation)
    return {
        "keywords": _is_keywords,
        "seniority": _is_seniority,
        "skills": _is_skills,
        "context": _is_context if strict else _is_open_context,
        "formatting": _is_formatting,
    }[category](before, after) and source != variation


def _is_keywords(before: Reading, after: Reading) -> bool:
    lost, won = _without(before.core, after.core), _without(after.core, before.core)
    return (
        bool(lost and won)
        and before.flat != after.flat
        and (before.levels, before.context) == (after.levels, after.context)
    )


def _is_seniority(before: Reading, after: Reading) -> bool:
    return before.levels != after.levels and (before.core, before.context) == (after.core, after.context)


def _is_skills(before: Reading, after: Reading) -> bool:
    grown = _without(after.core, before.core) and not _without(before.core, after.core)
    return bool(grown) and (before.levels, before.context) == (after.levels, after.context)


def _is_context(before: Reading, after: Reading) -> bool:
    more = _without(after.context, before.context) and not _without(before.context, after.context)
    return bool(more) and before.key == after.key


def _is_open_context(before: Reading, after: Reading) -> bool:
    kept = not _without(before.core, after.core) and before.levels == after.levels
    more = _without(after.context, before.context) or _without(after.core, before.core)
    return bool(more) and kept


def _is_formatting(before: Reading, after: Reading) -> bool:
    same = before.core == after.core or before.flat == after.flat
    return same and (before.levels, before.context) == (after.levels, after.context)


def _without(these: Iterable[str], those: Iterable[str]) -> list[str]:
    return list((Counter(these) - Counter(those)).elements())


def _split_levels(segment: str, marks: _Marks) -> tuple[list[str], str]:
    """Return the level words at the start of a segment, the grade at its end, and the rest of it."""
    found: list[str] = []
    rest = segment
    while not marks.no_level.match(rest):
        match = marks.starts.match(rest)
        if match is None:
            break
        found.append(_squeezed(match[1]))
        rest = rest[match.end() :].strip(" -")
    match = marks.grades.search(rest)
    if match is not None:
        found.append(_squeezed(match[1]))
        rest = rest[: match.start()].strip(" -")
    return found, rest


def _squeezed(level: str) -> str:
    words = re.sub(r"[^\w+]+", " ", level).replace("with ", "").split()
    named = " ".join(_LEVEL_NAMES.get(word, word) for word in words)
    return named.removesuffix(" level") if named not in ("mid level", "entry level") else named


@dataclass(frozen=True, slots=True)
class _Marks:
    forms: re.Pattern[str]
    kept: re.Pattern[str]
    context: re.Pattern[str]
    levels: re.Pattern[str]
    no_level: re.Pattern[str]
    starts: re.Pattern[str]
    grades: re.Pattern[str]
    phrases: frozenset[str]
    alone: frozenset[str]


@cache
def _marks() -> _Marks:
    context, levels = table("context"), table("levels")
    grades = sorted({grade.casefold() for found in levels["grades"].values() for grade in found})
    return _Marks(
        forms=re.compile("|".join(table("forms")["marks"])),
        kept=re.compile(rf"\b(?:{_either(context['kept'])})s?\b"),
        context=re.compile("|".join(context["marks"])),
        levels=re.compile("|".join(levels["marks"])),
        no_level=re.compile(rf"(?:{_either(levels['no_level'])})\b"),
        starts=re.compile(rf"({_either(levels['starts'])})\.?\s+(?=\S)"),
        grades=re.compile(rf"\s({_either(grades)})$"),
        phrases=frozenset(_context_phrases(context)),
        alone=frozenset(levels["alone"]),
    )


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _context_phrases(context: dict[str, Any]) -> Iterable[str]:
    lists: list[list[str]] = [context[name] for name in ("places", "contracts", "urgencies", "teams")]
    lists += context["hours"].values()
    for sector in context["sectors"].values():
        lists += [sector["employers"], sector["teams"]]
    return (phrase.casefold() for phrases in lists for phrase in phrases)
