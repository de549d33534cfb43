"""What a report says, as typed values: one content model, whatever format writes it.

Every number comes from the run folder. A part whose stage has not run is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from luthier.report.figures import Figure, Tone


@dataclass(frozen=True)
class Table:
    """Rows of text under headers.

    Attributes:
        numeric: the columns aligned to the right. prose: those whose text wraps. key: it is worth a slide.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: frozenset[int] = frozenset()
    prose: frozenset[int] = frozenset()
    key: bool = False
    block: Literal["table"] = "table"


@dataclass(frozen=True)
class Picture:
    """A figure. `key`: it is worth a slide."""

    figure: Figure
    key: bool = False
    block: Literal["picture"] = "picture"


@dataclass(frozen=True)
class Passage:
    """Texts to read side by side: what was asked, and named answers. `key`: it is worth a slide."""

    title: str
    question: str
    answers: Sequence[tuple[str, str]]
    tone: Tone = ""
    key: bool = False
    block: Literal["passage"] = "passage"


@dataclass(frozen=True)
class Note:
    """A paragraph; `tone` marks what is good or bad news. `key`: it is worth a place on a slide."""

    text: str
    tone: Tone = ""
    key: bool = False
    block: Literal["note"] = "note"


@dataclass(frozen=True)
class Code:
    """Text to be shown as it is, such as a recipe."""

    text: str
    block: Literal["code"] = "code"


Block = Table | Picture | Passage | Note | Code


@dataclass(frozen=True)
class Section:
    """A part of the report. The title is the reader's question, the finding answers it."""

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

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures of all sections in their order."""
        for section in self.sections:
            yield from (block for block in section.blocks if isinstance(block, Picture))
