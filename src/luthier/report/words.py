"""Numbers and lists in words, the same in every part of a report."""

from __future__ import annotations

import re
from collections.abc import Sequence

NOTHING = "–"


def number(value: float | None, sign: str = "", places: int = 4) -> str:
    """Return a measured number; of large ones fewer places are worth reading."""
    if value is None:
        return NOTHING
    if places and abs(value) >= 100:
        places = 1
    return f"{value:{sign},.{places}f}"


def percent(share: float | None) -> str:
    """Return a share in whole percent."""
    return NOTHING if share is None else f"{share:.0%}"


def many(count: int, word: str) -> str:
    """Return a count with its word, such as "1 row" or "1,200 rows"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def capped(text: str, most: int) -> str:
    """Return a text on one line, cut to `most` characters with an ellipsis."""
    text = " ".join(text[: most * 4].split())
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def listed(words: Sequence[str], most: int) -> str:
    """Return words as a list in a sentence, at most `most` of them by name."""
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most:,} more"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def seconds_in_words(seconds: float) -> str:
    """Return a duration in the unit that people would choose."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def unbroken(sentence: str) -> str:
    """Return a sentence of Luthier in which no line breaks between a number and its percent sign."""
    return sentence.replace(" %", "\xa0%")


def slug(name: str) -> str:
    """Return a name as part of a file name: lower-case Latin letters, digits and dashes, or "" where none is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")


def worded(field: str) -> str:
    """Return the name of a field as words in a sentence."""
    return capped(field.replace("_", " "), 40)
