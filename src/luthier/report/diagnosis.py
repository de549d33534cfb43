"""What goes wrong: categories of failure, how answers moved between them, what they have in common, what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.report.content import Block, Note, Passage, Picture, Section, Table
from luthier.report.escape import shortened
from luthier.report.figures import Flow
from luthier.report.words import NOTHING, capped, percent

PATTERNS_SHOWN = 10
CLUSTERS_SHOWN = 4
TEXT_SHOWN = 700
Line = Mapping[str, Any]


def diagnosis_section(summary: Line) -> Section:
    """Return the section from 6-diagnose/summary.json."""
    sides = list(summary["sides"])
    flow = summary["flow"]
    blocks: list[Block] = []
    picture = _flow(flow, sides)
    blocks += [picture] if picture else []
    blocks.append(_counts(summary["counts"], sides))
    blocks += (
        _suggestions(summary["suggestions"])
        + _patterns(summary["patterns"], summary["counts"])
        + _clusters(summary["clusters"])
    )
    measured = (summary.get("semantics") or {}).get("sentence")
    blocks += [Note(str(note)) for note in (*([measured] if measured else []), *summary["notes"])]
    return Section("diagnosis", "What goes wrong?", _finding(summary, sides), blocks)


def _finding(summary: Line, sides: Sequence[str]) -> str:
    answers = summary["answers"]
    told = [f"{answers[who]['flagged']:,} of {answers[who]['items']:,} answers of {who}" for who in sides]
    sentence = f"A detector flags {' and '.join(told)}."
    by = {who: _most(summary["counts"], who) for who in sides}
    last = by[sides[-1]]
    return f"{sentence} The most common failure of {sides[-1]} is: {last}." if last else sentence


def _most(counts: Line, who: str) -> str | None:
    found = [(entry["by"][who]["items"], entry["title"]) for entry in counts.values() if entry["by"][who]["items"]]
    most = max(found, key=lambda one: one[0], default=None)
    return f"{most[1]} ({most[0]:,})" if most else None


def _flow(flow: Line, sides: Sequence[str]) -> Picture | None:
    """Return the picture of main categories from the first side to the second, without the classes nobody has."""
    matrix, titles = flow["matrix"], flow["titles"]
    total = sum(sum(row) for row in matrix)
    if not total or len(sides) < 2:
        return None
    starts = [place for place, row in enumerate(matrix) if sum(row)]
    ends = [place for place in range(len(titles)) if sum(row[place] for row in matrix)]
    links = [
        (left, right, matrix[start][end])
        for left, start in enumerate(starts)
        for right, end in enumerate(ends)
        if matrix[start][end]
    ]
    left, right = (sides[0], [titles[place] for place in starts]), (sides[1], [titles[place] for place in ends])
    return Picture(Flow("flow", _flow_title(flow, total), left, right, links), key=True)


def _flow_title(flow: Line, total: int) -> str:
    matrix, titles, clean = flow["matrix"], flow["titles"], flow["labels"].index("clean")
    fixed = sum(row[clean] for place, row in enumerate(matrix) if place != clean)
    broken = sum(matrix[clean]) - matrix[clean][clean]
    if fixed or broken:
        return f"{fixed:,} of {total:,} answers became clean, {broken:,} ceased to be"
    moves = [(row[end], start, end) for start, row in enumerate(matrix) for end in range(len(titles)) if start != end]
    most, start, end = max(moves, key=lambda move: move[0])
    if not most:
        return f"None of {total:,} answers changed its main category"
    return f"No answer became clean or ceased to be; {most:,} of {total:,} went from {titles[start]} to {titles[end]}"


def _counts(counts: Line, sides: Sequence[str]) -> Table:
    rows = []
    for entry in counts.values():
        suspected = " (suspected)" if entry["certainty"] == "suspected" else ""
        cells = [entry["title"] + suspected]
        for who in sides:
            one = entry["by"][who]
            low, high = one["ci95"] or (None, None)
            interval = "" if low is None else f" ({percent(low)} to {percent(high)})"
            cells += [f"{one['items']:,}", f"{percent(one['share'])}{interval}"]
        rows.append(cells)
    headers = ["category", *(header for who in sides for header in (who, "share (95 % interval)"))]
    caption = (
        "Answers by category; one answer may have several. Suspected: computation alone cannot see it for certain."
    )
    return Table(headers, rows, caption, frozenset(range(1, 1 + 2 * len(sides))))


def _suggestions(suggestions: Sequence[Line]) -> list[Block]:
    if not suggestions:
        return []
    rows = [
        (one["key"], capped(str(one["now"]), 40), capped(str(one["proposed"]), 40), capped(one["sentence"], 400))
        for one in suggestions
    ]
    headers = ("recipe key", "now", "try", "because")
    caption = "What the evidence suggests to change."
    return [Table(headers, rows, caption, prose=frozenset({3}), key=True)]


def _patterns(patterns: Sequence[Line], counts: Line) -> list[Block]:
    if not patterns:
        return []
    rows = [
        (
            one["side"],
            capped(f"{one['field']}: {one['value']}", 60) + (" (few)" if one["small"] else ""),
            (counts.get(one["category"]) or {}).get("title") or one["category"],
            f"{one['failed']:,} of {one['n']:,}",
            percent(one["rest_rate"]),
            NOTHING if one["lift"] is None else f"{one['lift']:.1f}",
        )
        for one in patterns[:PATTERNS_SHOWN]
    ]
    caption = f"What fails together: {len(rows)} of {len(patterns):,} patterns, the surest first."
    return [Table(("side", "where", "failure", "failed", "elsewhere", "lift"), rows, caption, frozenset({3, 4, 5}))]


def _clusters(clusters: Sequence[Line]) -> list[Block]:
    passages: list[Block] = []
    for one in clusters[:CLUSTERS_SHOWN]:
        exemplar = one["exemplar"]
        terms = ", ".join(str(term) for term in one["terms"][:6])
        title = capped(f"{one['size']:,} failures of {one['side']} alike: {terms}", 160)
        told = [("answer", shortened(str(exemplar["answer"] or NOTHING), TEXT_SHOWN))]
        told += [("why", shortened(str(exemplar["sentence"]), TEXT_SHOWN))] if exemplar["sentence"] else []
        passages.append(Passage(title, shortened(str(exemplar["question"]), TEXT_SHOWN), told, "warn"))
    return passages
