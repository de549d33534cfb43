"""Figures as typed data: what is to be seen, not how. `luthier.report.drawing` draws them, for every format alike.

A title says the finding, with the numbers of the run. Names may hold any text; the drawing shortens what has no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "warn", ""]


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its name and points (x, y), x ascending. `faint` draws it thin, behind the others."""

    name: str
    points: Sequence[tuple[float, float]]
    faint: bool = False


@dataclass(frozen=True)
class Lines:
    """Curves over one x axis.

    Attributes:
        spot: a point worth a word, as (x, y, word). bands: stretches of the x axis with a name, as (from, to, name).
        from_zero: the y axis starts at zero.
    """

    id: str
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    spot: tuple[float, float, str] | None = None
    bands: Sequence[tuple[float, float, str]] = ()
    from_zero: bool = False


@dataclass(frozen=True)
class Histogram:
    """Shares of one or two samples in the same bins: `edges` has one value more than each list of counts."""

    id: str
    title: str
    x_label: str
    edges: Sequence[float]
    samples: Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True)
class Bars:
    """Counts by name, drawn against the largest."""

    id: str
    title: str
    rows: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot: a standardised gain with its 95 % interval; better lies to the right."""

    name: str
    middle: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Forest:
    """Gains with intervals, one under another, around zero."""

    id: str
    title: str
    x_label: str
    rows: Sequence[Interval]


@dataclass(frozen=True)
class Spread:
    """One row of dots: the same thing measured several times, the first of them the one that is used; a remark."""

    name: str
    values: Sequence[float]
    told: str = ""


@dataclass(frozen=True)
class Dots:
    """How far repetitions lie apart, one row under another, around zero; their means are marked."""

    id: str
    title: str
    x_label: str
    rows: Sequence[Spread]


@dataclass(frozen=True)
class Pair:
    """One row of a comparison by field: base and tuned, the interval of the difference, and how many items.

    Attributes:
        low, high: 95 % interval of tuned − base; None where there is none. small: too few items to say much.
    """

    name: str
    base: float
    tuned: float
    low: float | None
    high: float | None
    items: int
    small: bool = False


@dataclass(frozen=True)
class Pairs:
    """Base and tuned by the values of a field."""

    id: str
    title: str
    x_label: str
    rows: Sequence[Pair]


@dataclass(frozen=True)
class Flow:
    """How many answers went from one class to another: `links` are (place on the left, place on the right, count)."""

    id: str
    title: str
    left: tuple[str, Sequence[str]]
    right: tuple[str, Sequence[str]]
    links: Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Step:
    """One step of a funnel: rows that stand, or rows that leave (`lost`) or join (`added`) there."""

    name: str
    count: int
    what: Literal["stand", "lost", "added", "part"] = "stand"


@dataclass(frozen=True)
class Funnel:
    """Rows on their way from the files to the splits."""

    id: str
    title: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Held:
    """What was predicted and what was measured of one thing, in one unit."""

    name: str
    predicted: float
    measured: float
    unit: str


@dataclass(frozen=True)
class Versus:
    """Predictions against measurements; each row has a scale of its own."""

    id: str
    title: str
    rows: Sequence[Held]


Figure = Lines | Histogram | Bars | Forest | Dots | Pairs | Flow | Funnel | Versus
