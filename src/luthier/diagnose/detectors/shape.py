"""Structure, voice and traces of templates, and how the answer ends."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import lru_cache
from itertools import pairwise

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.detectors.length import ITEM_LINE, asked_for
from luthier.diagnose.words import CHARACTERS, Text, stopwords, table

CODE = re.compile(r"```|^[ \t]*(?:def |class |import |return |SELECT |#include)", re.MULTILINE)
NUMBERED = re.compile(r"^[ \t]*(\d+)[.)]\s", re.MULTILINE)
EMPTY_MARK = re.compile(r"^[ \t]*(?!-{3}|\*{3})(?:(?:[-*•#]|\d+[.)]|[a-z]\))[ \t]*)+$", re.MULTILINE)
INLINE_MARK = re.compile(
    r"(?<=\s)(?:\d{1,2}[.)](?=\s[^\W\d]{3})|[ivx]+\.|#{2,6}|(?<=[^\W\d]{3}\s)(?:[-*•]|--))(?=\s[^\W\d]{3}|\s[#-]|$)"
)
ENDINGS = (
    ("terminal", re.compile(r"[.!?…؟।。！？][\"'”’»)\]*_]*\Z")),
    ("fence", re.compile(r"```\Z")),
    ("bracket", re.compile(r"[)\]}\"'”’»]\Z")),
    ("colon", re.compile(r"[,;:，；：、\-–—=+(\[{]\Z")),
)


def ending(case: Case, ground: Ground) -> Seen:
    """How common it is among training answers to end as this one does (0 to 1): full stop, bracket, comma, bare word …

    An answer that the model did not end by itself has the value 0; so has one that ends in a word of grammar. One that
    ends as its reference does has the value 1.

    Sees: answers cut by the limit of tokens, or in the middle of a sentence.
    Cannot see: an answer cut right after a sentence, unless it is known that the model did not stop.
    """
    text = case.answer.raw.rstrip()
    if not text:
        return Seen(1.0)
    end = (max(len(text) - 40, 0), len(text))
    mine = _ending(text)
    last = case.answer.tokens[-1].word if case.answer.tokens else ""
    if case.stopped is False or (mine == "word" and last in stopwords()):
        return Seen(0.0, end)
    if mine == "terminal" or mine == _ending(case.reference.raw.rstrip()):
        return Seen(1.0, end)
    counted = _endings(ground)
    return Seen(counted[mine] / max(sum(counted.values()), 1), end)


def broken_structure(case: Case, ground: Ground) -> Seen:
    """Number of breaks of form: what the question asks for is not there, or what is there is broken.

    Sees: a list, table, code, JSON or one item a line that was asked for and is missing; numbering that jumps, empty
        items, blocks of code and JSON that are never closed, Python that does not parse, tables whose rows differ,
        marks of lists inside running text.
    Cannot see: a structure that is whole but not helpful.
    """
    breaks = _unkept(case) + _broken(case.answer.raw[:CHARACTERS])
    return Seen(float(len(breaks)), breaks[0] if breaks else None)


def voice(case: Case, ground: Ground) -> Seen:
    """Marks of a voice that does not fit, for each sentence, beyond those of the reference.

    Sees: speaking as an AI, slang, shouting in capitals, rows of exclamation marks, emoji, rudeness from a short list.
    Cannot see: condescension, irony, a tone that is wrong for the reader.
    """
    places = [match.span() for match in _patterns("voice").finditer(case.answer.raw[:CHARACTERS])]
    theirs = len(_patterns("voice").findall(case.reference.raw[:CHARACTERS]))
    shouted = [
        (token.start, token.end)
        for token in case.answer.content
        if token.end - token.start > 3
        and case.answer.raw[token.start : token.end].isupper()
        and case.answer.raw[token.start : token.end] not in case.reference.raw
    ]
    if len(shouted) > len(case.answer.tokens) / 10:
        places += shouted
    value = max(len(places) - theirs, 0) / max(len(case.answer.by_sentence), 1)
    places.sort()
    return Seen(value, (places[0][0], places[-1][1]) if value else None)


def residue(case: Case, ground: Ground) -> Seen:
    """Number of traces of templates, markup, role names, special tokens and broken encoding (residue.yaml).

    Sees: what matches the list and does not stand in the reference or the question.
    Cannot see: markup that is asked for; the reference shows that it is.
    """
    given = case.reference.raw + case.question.raw
    found = [
        match.span()
        for match in _patterns("residue").finditer(case.answer.raw[:CHARACTERS])
        if match.group().strip() not in given
    ]
    return Seen(float(len(found)), found[0] if found else None)


def _ending(text: str) -> str:
    return next((name for name, pattern in ENDINGS if pattern.search(text)), "word")


_counted: dict[int, Counter[str]] = {}


def _endings(ground: Ground) -> Counter[str]:
    if id(ground) not in _counted:
        _counted.clear()
        _counted[id(ground)] = Counter(_ending(row.answer.raw.rstrip()) for row in ground.rows)
    return _counted[id(ground)]


def _unkept(case: Case) -> list[tuple[int, int]]:
    """Return a place for each form that the question asks for and the answer does not have."""
    question, text = case.question.raw, case.answer.raw
    checks = {
        "numbered": bool(NUMBERED.search(text)),
        "bullets": bool(ITEM_LINE.search(text)),
        "lines": not _sentence_like(case.answer),
        "commas": _separated(case),
        "code": bool(CODE.search(text)),
        "json": text.strip()[:1] in ("{", "[") or "```" in text,
        "table": text.count("|") > 2,
    }
    whole = (0, len(text))
    return [whole for name, kept in checks.items() if asked_for(question, name) and not kept]


def _sentence_like(text: Text) -> bool:
    """Whether a line holds more than a name: several words of grammar."""
    return any(sum(token.word in stopwords() for token in tokens) > 2 for _, tokens in text.by_sentence)


def _separated(case: Case) -> bool:
    """Whether the parts are separated by commas alone, as the question asks."""
    return not re.search(r"[;|/]|\S\s+\S+\.\w{2,4}\s+\S+\.\w{2,4}", case.answer.raw) or bool(
        re.search(r"[;|/]", case.reference.raw)
    )


def _broken(text: str) -> list[tuple[int, int]]:
    found = []
    cut = _ending(text.rstrip()) in ("word", "colon")  # then it was cut, which is another finding
    if text.count("```") % 2 and not cut:
        found.append((text.rfind("```"), len(text)))
    if text.strip()[:1] in ("{", "[") and not _parses(text):
        found.append((0, len(text)))
    blocks = re.finditer(r"```python\n(.*?)(?:```|\Z)", text, re.DOTALL)
    found += [block.span(1) for block in blocks if not cut and not _compiles(block.group(1))]
    found += [match.span() for match in EMPTY_MARK.finditer(text)]
    numbers = [int(match.group(1)) for match in NUMBERED.finditer(text)]
    # Markdown counts for itself where every item is "1."
    if len(set(numbers)) > 1 and any(after != before + 1 for before, after in pairwise(numbers)):
        found.append((0, len(text)))
    columns = {line.strip().strip("|").count("|") for line in text.splitlines() if line.strip().startswith("|")}
    if len(columns) > 1:
        found.append((text.find("|"), text.rfind("|") + 1))
    inline = [
        match.span()
        for match in INLINE_MARK.finditer(text)
        if "\n" not in text[max(match.start() - 1, 0) : match.start()] and match.start()
    ]
    if len({text[start:end].strip(".)0123456789abcdefghivx") or "n" for start, end in inline}) > 1 and len(inline) > 2:
        found.append((inline[0][0], inline[-1][1]))
    return found


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _compiles(code: str) -> bool:
    import ast
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


@lru_cache(maxsize=2)
def _patterns(name: str) -> re.Pattern[str]:
    flags = re.IGNORECASE if name == "voice" else 0
    parts = [pattern.removeprefix("(?m)") for pattern in table("residue.yaml")[name]]
    return re.compile("|".join(f"(?:{part})" for part in parts), flags | re.MULTILINE)
