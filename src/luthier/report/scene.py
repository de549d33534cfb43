"""A drawing as a list of shapes in one coordinate system, before it becomes SVG or a page.

x grows to the right, y downwards. Colours are roles, so that each format and each theme has its own. The palette is
after Okabe and Ito (2008), which colour-blind readers can tell apart; no drawing relies on colour alone.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from luthier.report.escape import plain

Role = Literal["ink", "soft", "grid", "panel", "page", "base", "tuned", "good", "bad", "warn"]
Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "triangle", "diamond"]

LIGHT: dict[Role, str] = {
    "ink": "#22211e",
    "soft": "#5f5c55",
    "grid": "#dedad0",
    "panel": "#f1eee6",
    "page": "#ffffff",
    "base": "#b3650a",
    "tuned": "#0072b2",
    "good": "#00795a",
    "bad": "#c04a00",
    "warn": "#8a6100",
}
DARK: dict[Role, str] = {
    "ink": "#e9e6df",
    "soft": "#aaa69c",
    "grid": "#3a3833",
    "panel": "#2a2926",
    "page": "#191917",
    "base": "#e69f00",
    "tuned": "#56b4e9",
    "good": "#35c49b",
    "bad": "#f08a4b",
    "warn": "#dcb255",
}
SIZE = 12.0  # of letters, in units of the drawing
NARROW, WIDE = frozenset("iljtfrI.,:;'|!()[]{} -"), frozenset("mwMWQO@%&—→")


@dataclass(frozen=True)
class Stroke:
    """A line through points. `dash`: lengths of stroke and gap; none: solid."""

    points: Sequence[tuple[float, float]]
    role: Role
    width: float = 1.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True)
class Box:
    """A rectangle, filled, outlined or both."""

    x: float
    y: float
    width: float
    height: float
    fill: Role | None
    line: Role | None = None
    opacity: float = 1.0


@dataclass(frozen=True)
class Ribbon:
    """A band from a vertical edge at x0 to one at x1, both of the same height, bent in the middle."""

    x0: float
    y0: float
    x1: float
    y1: float
    height: float
    fill: Role
    opacity: float = 0.45


@dataclass(frozen=True)
class Marker:
    """A small shape at a point, filled or hollow."""

    x: float
    y: float
    shape: Shape
    role: Role
    hollow: bool = False
    size: float = 4.5


@dataclass(frozen=True)
class Words:
    """A text on one line; y is its baseline."""

    x: float
    y: float
    text: str
    role: Role = "ink"
    anchor: Anchor = "start"
    size: float = SIZE
    bold: bool = False


Item = Stroke | Box | Ribbon | Marker | Words


@dataclass
class Scene:
    """A drawing: its size, what it shows in one sentence, and its shapes, the hindmost first."""

    width: float
    height: float
    told: str
    items: list[Item] = field(default_factory=list)

    def add(self, *items: Item) -> None:
        """Put shapes in front of those that are there."""
        self.items += items


def text_width(text: str, size: float = SIZE) -> float:
    """Return about how wide a text is: an upper estimate for common sans-serif letters, as no font is at hand."""
    return size * sum(_letter(one) for one in text)


def fitted(text: str, room: float, size: float = SIZE) -> str:
    """Return the text without control characters and line breaks, cut to `room` with an ellipsis."""
    text = re.sub(r"[ \t\n]+", " ", plain(text[:400])).strip() or "–"
    if text_width(text, size) <= room:
        return text
    kept = ""
    used = size
    for one in text:
        used += size * _letter(one)
        if used > room:
            break
        kept += one
    return kept.rstrip() + "…"


def wrapped(text: str, room: float, size: float, lines: int) -> list[str]:
    """Return the text in at most `lines` lines of about `room`; what does not fit ends in an ellipsis."""
    words, made = re.sub(r"[ \t\n]+", " ", plain(text)).strip().split(" "), [""]
    for place, word in enumerate(words):
        longer = f"{made[-1]} {word}".strip()
        if text_width(longer, size) <= room or not made[-1]:
            made[-1] = longer
        elif len(made) == lines:
            made[-1] = fitted(f"{made[-1]} {' '.join(words[place:])}", room, size)
            break
        else:
            made.append(word)
    return [fitted(line, room, size) for line in made]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round values that span [low, high]: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough * (1 - 1e-9)), power * 10)
    first = math.ceil(low / step - 1e-9)
    places = max(0, 2 - math.floor(math.log10(step)))
    return [round(k * step, places) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def scaled(value: float, span: tuple[float, float], room: tuple[float, float]) -> float:
    """Return where a value of `span` lies in `room`, to a tenth; the middle where the span is empty."""
    share = 0.5 if span[1] <= span[0] else (value - span[0]) / (span[1] - span[0])
    return round(room[0] + (room[1] - room[0]) * share, 1)


def _letter(one: str) -> float:
    """Return the width of a letter in parts of its size: those of DejaVu Sans, the widest of the usual ones."""
    if one in NARROW:
        return 0.38
    if one in WIDE or unicodedata.east_asian_width(one) in "WF":
        return 1.0
    return 0.74 if one.isupper() else 0.63
