"""What a judge thinks of the answers: an opinion, with how often the judge contradicts itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.report.content import Block, Note, Section, Table
from luthier.report.words import NOTHING, capped, number

BIASED = 0.05  # p of the sign test below which the judge is said to favour a place


def judge_section(summary: Mapping[str, Any]) -> Section:
    """Return the section from 5-evaluate/judge.json."""
    position, pairs, answers = summary["position"], summary["pairs"], summary["answers"]
    blocks: list[Block] = [_table(summary)] if summary["metrics"] else []
    blocks.append(Note(_consistency(summary)))
    if position["p"] is not None and position["p"] < BIASED:
        place = "first" if position["bias"] > 0 else "second"
        blocks.append(Note(f"The judge favours the {place} place, whatever stands there.", "warn"))
    unusable = sum(answers["unusable"].values())
    told = f"{pairs['judged']:,} of {pairs['put']:,} pairs were judged in both orders"
    reasons = "; ".join(f"{capped(why, 120)} ({count:,})" for why, count in list(answers["unusable"].items())[:3])
    blocks.append(
        Note(f"{told}; {unusable:,} answers of the judge could not be used{f': {reasons}' if reasons else ''}.")
    )
    blocks.append(Note(f"Judge: {capped(summary['model'], 120)}. Its opinion is no metric, and decides no verdict."))
    return Section("judge", "What does a judge think?", summary["sentence"], blocks)


def _table(summary: Mapping[str, Any]) -> Table:
    rows = []
    for name, entry in summary["metrics"].items():
        shift = summary["score_shift"].get(name.removeprefix("criterion: "))
        figures = [number(entry[who], "", 2) for who in ("base", "tuned")]
        rows.append([capped(name, 60), *figures, entry["verdict"], NOTHING if shift is None else number(shift, "", 2)])
    headers = ("", "base", "tuned", "opinion", "shift")
    caption = (
        "Preference: share of pairs won, a pair that is not won in both orders being half won. Criteria: 0 to 10, "
        "the mean of both orders; shift: how far a score moves, on average, when the answers change places."
    )
    return Table(headers, rows, caption, frozenset({1, 2, 4}))


def _consistency(summary: Mapping[str, Any]) -> str:
    position, agreement = summary["position"], summary["agreement"]
    places = f"It preferred the first answer {position['first']:,} times, the second {position['second']:,} times"
    told = f"{places}, neither {position['tie']:,} times"
    if agreement is None:
        return f"{told}."
    return f"{told}, and agreed with itself on {agreement:.0%} of the pairs when the answers changed places."
