"""What a report says, as typed values: one content model, whatever format draws it.

Every number comes from the run folder. A part whose stage has not run is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Table:
    """Rows of text under headers. `numeric` names the columns that are aligned to the right."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    block: Literal["table"] = "table"


@dataclass(frozen=True)
class Bars:
    """Counts or shares by name: a histogram or a ranking. `values` are drawn against the largest."""

    title: str
    names: Sequence[str]
    values: Sequence[float]
    unit: str = ""
    block: Literal["bars"] = "bars"


@dataclass(frozen=True)
class Curve:
    """One line of a chart: its name and points (x, y), x ascending."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """Curves over one x axis."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    block: Literal["chart"] = "chart"


@dataclass(frozen=True)
class Interval:
    """One row of a forest plot: a standardised difference with its interval; better lies to the right."""

    name: str
    middle: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Forest:
    """Differences with intervals, one under another, around zero."""

    title: str
    intervals: Sequence[Interval]
    block: Literal["forest"] = "forest"


@dataclass(frozen=True)
class Passage:
    """Texts to read side by side: what was asked, and named answers."""

    title: str
    question: str
    answers: Sequence[tuple[str, str]]
    tone: Literal["good", "bad", ""] = ""
    block: Literal["passage"] = "passage"


@dataclass(frozen=True)
class Note:
    """A paragraph; `tone` marks what is good or bad news."""

    text: str
    tone: Literal["good", "bad", "warn", ""] = ""
    block: Literal["note"] = "note"


@dataclass(frozen=True)
class Code:
    """Text to be shown as it is, such as a recipe."""

    text: str
    block: Literal["code"] = "code"


Block = Table | Bars | Chart | Forest | Passage | Note | Code


@dataclass(frozen=True)
class Section:
    """A part of the report. The title names the subject, the finding says what was found."""

    id: str
    title: str
    finding: str
    blocks: Sequence[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Content:
    """The whole report.

    Attributes:
        title: name of the recipe. subtitle: run, kind and date.
        verdict: improved, worse, no evidence, too few examples; None before the evaluation.
        headline: the verdict in one sentence, or how far the run has come.
        facts: a few figures for the top of the page, as (name, value).
    """

    title: str
    subtitle: str
    verdict: str | None
    headline: str
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]
