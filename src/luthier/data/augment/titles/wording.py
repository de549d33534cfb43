"""Variations of one title in five categories, written by the word lists and templates of this package."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from luthier.data.augment.table import Variant
from luthier.data.augment.titles.lexicon import (
    SMALL_WORDS,
    KeywordSet,
    Phrases,
    after_prefix,
    keyword_sets,
    style_of,
    styled,
    table,
    tokens,
)
from luthier.data.augment.titles.reading import Reading, read

GENERAL = "general"
FILLS = 12  # ways in which one template is filled, at most
LONGEST = 8  # words of a title whose order is turned, or that takes a word before it

_OF = re.compile(
    r"^(director|manager|head|professor|teacher|vice president|supervisor|lecturer) (?:of|in) (\w[\w ]*)$", re.I
)
_PLAIN = re.compile(r"^[\w'’&+./ -]+$")
_GRADE = re.compile(r"\s+(?:I{1,3}|IV)$")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Occupation:
    """What is known of the occupation that a title names; the empty one knows nothing.

    Attributes:
        phrase: the words by which it was found. sector, ladder: names in context.yaml and levels.yaml.
        skills: for anyone in it. fields: branches of it. plain: whether the phrase names no branch itself.
    """

    phrase: str = ""
    sector: str = ""
    ladder: str = GENERAL
    skills: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    plain: bool = False


def variations(title: str, category: str, draw: random.Random) -> Iterator[Variant]:
    """Yield variations of a title in a category, in an order that `draw` decides; some categories may have none.

    Args:
        title: any title, in English.
        category: one of `reading.CATEGORIES`.
        draw: its state decides order and fillings.
    """
    makers = {
        "keywords": _keywords,
        "seniority": _seniority,
        "skills": _skills,
        "context": _context,
        "formatting": _formatting,
    }
    style = style_of(title)
    for text, rule in makers[category](title, draw):
        yield Variant(_finished(text, style == "upper"), rule, category)


def occupation_of(title: str) -> Occupation:
    """Return the occupation whose words end last in the title, of several the longest."""
    found = _occupations().find(title)
    if not found:
        return Occupation()
    best = max(found, key=lambda match: (match.last, match.last - match.first))
    entry = best.value
    ladder = entry.get("ladder") or table("context")["sectors"][entry["sector"]]["ladder"]
    phrase = title[best.start : best.end]
    plain = phrase.casefold() in entry.get("plain", entry["words"][:1])
    return Occupation(phrase, entry["sector"], ladder, tuple(entry["skills"]), tuple(entry["fields"]), plain)


def _keywords(title: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    style = style_of(title)
    words = {token.folded for token in tokens(title)}
    made: list[tuple[str, str]] = []
    for match in _keyword_phrases().find(title):
        one: KeywordSet = match.value
        said = title[match.start : match.end].casefold()
        if one.unless & words:
            continue
        for other in (*one.same, *one.to):
            if other.casefold() == said or _doubles(other, said, words):
                continue
            put = styled(other, style, first=match.start == 0)
            made.append((title[: match.start] + put + title[match.end :], f"synonym-{said.replace(' ', '-')}"))
    draw.shuffle(made)
    yield from made
    if style != "sentence":
        yield from _two_keywords(made, draw)


def _two_keywords(made: Sequence[tuple[str, str]], draw: random.Random) -> Iterator[tuple[str, str]]:
    """Yield variations of variations: a second phrase replaced as well."""
    for text, rule in made[:FILLS]:
        words = {token.folded for token in tokens(text)}
        for match in _keyword_phrases().find(text):
            said = text[match.start : match.end].casefold()
            others = [other for other in (*match.value.same, *match.value.to) if other.casefold() != said]
            if match.value.unless & words or not others or said in _said(made):
                continue
            other = draw.choice(others)
            if not _doubles(other, said, words):
                put = styled(other, style_of(text), first=match.start == 0)
                yield text[: match.start] + put + text[match.end :], f"{rule}+synonym-{said.replace(' ', '-')}"


def _said(made: Sequence[tuple[str, str]]) -> set[str]:
    """Return the phrases that one replacement has put in: replacing them again would lead away."""
    return {token.folded for text, _ in made for token in tokens(text)}


def _doubles(other: str, said: str, words: set[str]) -> bool:
    """Tell whether a phrase would only add or drop words, or bring one that the title has elsewhere already."""
    before, after = set(said.split()), {word.casefold() for word in other.split()}
    return before <= after or after <= before or bool((after - before) & (words - before))


def _seniority(title: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    known, levels = read(title), table("levels")
    bare = _bare(title, known)
    if bare is None:
        return
    ladder = _ladder(bare)
    ranks = [] if ladder is None else [one for one in levels["ladders"][ladder] if one.casefold() not in known.levels]
    style = style_of(title)
    for template in _shuffled(levels["templates"], draw):
        for values in _level_values(template, ranks, ladder, draw):
            yield _filled(template["text"], bare, style, values), template["name"]


def _level_values(
    template: dict[str, Any], ranks: Sequence[str], ladder: str | None, draw: random.Random
) -> Iterator[dict[str, str]]:
    levels, slots = table("levels"), set(_SLOT.findall(template["text"]))
    if "grade" in slots:
        yield from ({"grade": grade} for grade in levels["grades"].get(ladder, ()))
        return
    fitting = [rank for rank in ranks if rank in template.get("only", ranks)] if "level" in slots else [""]
    for rank in _shuffled(fitting, draw):
        if "experience" not in slots:
            yield {"level": rank}
            continue
        said = _experience(rank, ladder) if rank or ladder else levels["experience"]["long"]
        if "with " in template["text"]:
            said = [one for one in said if one[0].isdigit()]
        yield from ({"level": rank, "experience": one} for one in _shuffled(said, draw)[:2])


def _experience(rank: str, ladder: str | None) -> list[str]:
    levels = table("levels")
    some, long, none = (list(levels["experience"][name]) for name in ("some", "long", "none"))
    if rank in levels["first"]:
        return none if ladder in levels["open"] else []
    if rank in levels["low"]:
        return some[:1]
    if rank in levels["high"]:
        return long
    return some + long + (none if ladder in levels["open"] else [])


def _bare(title: str, known: Reading) -> str | None:
    """Return the title without the level before it; None when its level cannot be taken off cleanly."""
    if not known.levels:
        return title
    for level in sorted(table("levels")["starts"], key=len, reverse=True):
        match = re.match(rf"{re.escape(level)}\.?\s+(?=\S)", title, re.IGNORECASE)
        if match and not read(title[match.end() :]).levels:
            return title[match.end() :]
    graded = _GRADE.sub("", title)
    return None if read(graded).levels else graded


def _ladder(title: str) -> str | None:
    """Return the ladder of a title without a level; None when the title says its rank itself."""
    levels = table("levels")
    folded = title.casefold()
    if any(re.match(rf"{re.escape(start)}\b", folded) for start in levels["rank_starts"]):
        return None
    last = re.split(r"\s+(?:of|in|for)\s+|,|\s-\s|\(", folded)[0].strip()
    for name, words in levels["rank_words"].items():
        if any(last == word or last.endswith(f" {word}") for word in words):
            return str(name)
    return occupation_of(title).ladder


def _skills(title: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    known, skills = occupation_of(title), table("skills")
    style, words = style_of(title), {token.folded for token in tokens(title)}
    free = [skill for skill in known.skills if not {word.casefold() for word in skill.split()} & words]
    papers = set(map(str, skills["papers"]))
    fields = known.fields if known.plain and read(title).core == read(known.phrase).core else ()
    languages = [] if words & set(skills["no_language"]) else skills["languages"]
    trades = [skill for skill in free if skill.casefold().split()[-1] not in papers]
    pools = {"trade": trades, "skill": free, "skill2": free, "field": fields, "language": languages}
    for template in _shuffled(skills["templates"], draw):
        for values in _fillings(template["text"], pools, draw):
            if len(set(values.values())) == len(values):
                yield _filled(template["text"], title, style, values), template["name"]


def _context(title: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    known, context = occupation_of(title), table("context")
    sector = context["sectors"].get(known.sector, {"hours": ["any"], "employers": [], "teams": []})
    folded = read(title)
    pools: dict[str, Sequence[str]] = {
        "place": context["places"],
        "contract": context["contracts"],
        "kind": context["kinds"],
        "urgency": context["urgencies"],
        "team": [*context["teams"], *sector["teams"]],
        "employer": [one for one in sector["employers"] if not _shares_word(one, folded)],
        "hours": [one for name in sector["hours"] for one in context["hours"][name]],
    }
    style = style_of(title)
    for template in _shuffled(context["templates"], draw):
        for values in _fillings(template["text"], pools, draw):
            yield _filled(template["text"], title, style, values), template["name"]


def _shares_word(phrase: str, known: Reading) -> bool:
    """Tell whether a phrase repeats a word of the title: no "Hospital Pharmacist - Hospital Pharmacy"."""
    return bool({word.casefold() for word in re.findall(r"\w+", phrase)} & {*known.core, *known.context})


def _formatting(title: str, draw: random.Random) -> Iterator[tuple[str, str]]:
    turned = _turned(title)
    plain = _PLAIN.match(title) is not None and len(title.split()) <= LONGEST
    words = re.findall(r"[\w+]+", title)
    values = {
        "number": str(draw.randrange(1000, 99999)),
        "upper": title.upper(),
        "ampersand": _swapped_and(title),
        "short_level": _short_level(title, draw),
    }
    if plain and len(words) > 1:
        values |= {
            "slug": "-".join(words).lower(),
            "underscored": "_".join(words),
            "hashtag": "".join(word[:1].upper() + word[1:] for word in words),
        }
    if turned:
        values |= {"turned": turned, "upper_turned": turned.upper()}
    for template in _shuffled(table("forms")["templates"], draw):
        slots = _SLOT.findall(template["text"])
        if all(slot == "title" or values.get(slot) for slot in slots):
            yield template["text"].format_map({"title": title} | values), template["name"]


def _turned(title: str) -> str:
    """Return the title in another order: "Engineer, Data", "Nursing Director", "Cost accountant"; "" if it has none."""
    parts = [part.strip() for part in title.split(",")]
    if len(parts) == 2 and all(parts) and len(title.split()) <= 5 and not re.search(r"[()\[\]|:]", title):
        return f"{parts[1]} {after_prefix(parts[0], style_of(title))}"
    found = _OF.match(title)
    if found:
        return f"{found[2]} {found[1]}"
    words, levels = title.split(), table("levels")
    if not 2 <= len(words) <= 4:
        return ""
    ranked = re.match(rf"(?:{'|'.join(levels['rank_starts'])})\b", title, re.IGNORECASE)
    level = bool(read(title).levels or ranked or words[-1].lower() in levels["alone"])
    small = SMALL_WORDS & {word.lower() for word in words}
    if level or small or not words[-1].isalpha() or not _PLAIN.match(title):
        return ""
    return f"{words[-1]}, {' '.join(words[:-1])}"


def _swapped_and(title: str) -> str:
    if re.search(r"\sand\s", title, re.IGNORECASE):
        return re.sub(r"\sand\s", " & ", title, count=1, flags=re.IGNORECASE)
    return title.replace(" & ", " and ", 1) if " & " in title else ""


def _short_level(title: str, draw: random.Random) -> str:
    for long, short in table("levels")["abbreviations"].items():
        match = re.match(rf"{long}\s+(?=\S)", title, re.IGNORECASE)
        if match and read(title).levels:
            return f"{styled(draw.choice(short), style_of(title))} {title[match.end() :]}"
    return ""


def _fillings(text: str, pools: dict[str, Sequence[str]], draw: random.Random) -> Iterator[dict[str, str]]:
    """Yield values for the slots of a template, at most `FILLS` of them; none where a pool is empty."""
    slots = [slot for slot in _SLOT.findall(text) if slot != "title"]
    if any(not pools[slot] for slot in slots):
        return
    shuffled = [_shuffled(pools[slot], draw) for slot in slots]
    for place in range(min(FILLS, max(map(len, shuffled)))):
        yield {slot: pool[place % len(pool)] for slot, pool in zip(slots, shuffled, strict=True)}


def _filled(text: str, title: str, style: Any, values: dict[str, str]) -> str:
    leads = not text.startswith("{title}")
    said = {name: styled(value, style) for name, value in values.items()}
    joined = after_prefix(title, style) if leads and not re.match(r"\{(?:place|urgency)\}", text) else title
    made = text.format_map({"title": joined} | said)
    return made.lower() if style == "lower" else made


def _finished(text: str, upper: bool) -> str:
    joined = " ".join(text.split())
    return joined.upper() if upper else joined


def _shuffled(items: Sequence[Any], draw: random.Random) -> list[Any]:
    return draw.sample(list(items), len(items))


@cache
def _keyword_phrases() -> Phrases[KeywordSet]:
    return Phrases((phrase, one) for one in keyword_sets() for phrase in one.same)


@cache
def _occupations() -> Phrases[dict[str, Any]]:
    entries = table("skills")["occupations"]
    return Phrases(itertools.chain.from_iterable(((phrase, entry) for phrase in entry["words"]) for entry in entries))
