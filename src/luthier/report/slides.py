"""The slides of a report: of each section what is worth one, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from luthier.report.content import Block, Content, Note, Passage, Picture, Section, Table
from luthier.report.escape import uncounted
from luthier.report.words import capped

NOTES = 6
ROWS = 6
TEXT = 330


@dataclass(frozen=True)
class Slide:
    """One slide: the section it comes from, what it says, and what shows it."""

    section: str
    title: str
    blocks: Sequence[Block]


def deck(content: Content) -> list[Slide]:
    """Return the slides after the first, which shows the verdict and the facts."""
    return [slide for section in content.sections for slide in _slides(section)]


def _slides(section: Section) -> Iterator[Slide]:
    notes = [block for block in section.blocks if isinstance(block, Note) and block.key][:NOTES]
    pictures = [block for block in section.blocks if isinstance(block, Picture) and block.key]
    for place, picture in enumerate(pictures):
        below = notes if place == 0 and len(notes) == 1 else []
        yield Slide(section.title, capped(picture.figure.title, 140), [picture, *below])
    if notes and (len(notes) > 1 or not pictures):
        yield Slide(section.title, capped(section.finding, 140), notes)
    for block in section.blocks:
        if isinstance(block, Table) and block.key:
            rows = [[capped(cell, 160) for cell in row] for row in block.rows[:ROWS]]
            yield Slide(section.title, block.caption, [replace(block, rows=rows, caption="")])
        if isinstance(block, Passage) and block.key:
            texts = [(name, capped(uncounted(text), TEXT)) for name, text in block.answers]
            passage = replace(block, question=capped(uncounted(block.question), TEXT), answers=texts)
            yield Slide(section.title, _told(block), [passage])


def _told(passage: Passage) -> str:
    return {"good": "An answer that gained most", "bad": "An answer that lost most"}.get(passage.tone, "An example")
