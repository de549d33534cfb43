"""The diagnosis of answers in words: detectors, thresholds, findings, and what they come to."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.data.rows import Row, answer, question
from luthier.diagnose.base import Diagnosis, Given, Line
from luthier.diagnose.calibrate import Threshold, calibrate
from luthier.diagnose.case import Case, Ground, Known, case_of, topic_of
from luthier.diagnose.clusters import clusters
from luthier.diagnose.findings import find, texts_of
from luthier.diagnose.meaning import Method, choose
from luthier.diagnose.patterns import patterns
from luthier.diagnose.suggestions import suggestions
from luthier.diagnose.summary import summarise
from luthier.diagnose.words import Text
from luthier.run.progress import Progress

ENOUGH_ROWS = 20  # good answers without which a limit of 2 % says nothing: then training rows stand in
TRAINING_ROWS = 5_000  # that are read; more would not change what is known of words, lengths and topics


@dataclass(frozen=True)
class Yardstick:
    """What the answers are held against: training rows, thresholds, and where the thresholds come from.

    Attributes:
        source: "validation" or "train". notes: what stood in for what.
    """

    ground: Ground
    thresholds: Mapping[str, Threshold]
    source: str
    notes: Sequence[str]


def diagnose_answers(given: Given, progress: Progress, method: Method | None = None) -> Diagnosis:
    """Diagnose the answers of every side, and say what they have in common.

    Args:
        given: the files of the run. method: how meaning is measured; None: the best that is installed.
    """
    cases = {who: {line["id"]: case_of(line) for line in lines if _asked(line)} for who, lines in given.answers.items()}
    every = [case for some in cases.values() for case in some.values()]
    yardstick = set_up(given, every, method)
    ground = yardstick.ground
    ground.meaning.prepare(text for case in every for text in texts_of(case, ground, yardstick.thresholds))
    findings = {}
    for who, some in cases.items():
        with progress.task(f"diagnosis of {who}", len(some), "answers") as advance:
            findings[who] = {name: _found(case, yardstick, advance) for name, case in some.items()}
    seen = {who: [line for line in lines if _asked(line)] for who, lines in given.answers.items()}
    categories = {who: {name: _names(found) for name, found in some.items()} for who, some in findings.items()}
    common = [cell for who, lines in seen.items() for cell in patterns(lines, categories[who], who)]
    common.sort(key=lambda cell: (cell["p"], -cell["failed"]))
    groups = [one for who in seen for one in clusters(seen[who], cases[who], findings[who], ground, who, given.seed)]
    tuned = list(given.answers)[-1]
    summary = summarise(
        given,
        findings,
        yardstick.thresholds,
        yardstick.source,
        ground.meaning.encoder.method,
        {
            "patterns": common,
            "clusters": groups,
            "suggestions": suggestions(given, ground, tuned, findings, common),
            "notes": [*yardstick.notes, *_notes(given, seen)],
        },
    )
    return Diagnosis(_lines(given, findings), summary)


def set_up(given: Given, cases: Sequence[Case], method: Method | None = None) -> Yardstick:
    """Return what the answers are held against, from the training and validation rows.

    Args:
        cases: of which questions and references get their weights of words. method: how meaning is measured.
    """
    train, validation = known_rows(given.train, given.seed), known_rows(given.validation, given.seed)
    texts = [text for row in (*train, *validation) for text in (row.question, row.answer)]
    texts += [text for case in cases for text in (case.question, case.reference)]
    ground = Ground(train, choose(texts, method), tuple(given.phrases))
    notes = []
    source, rows = "validation", validation
    if len(validation) < ENOUGH_ROWS:
        source, rows = "train", [*validation, *train]
        words = f"The validation split has {len(validation)} rows to set thresholds on; "
        notes.append(words + f"training rows stand in ({len(rows)} rows in all).")
    if not rows:
        rows = [Known(case.question, case.reference, case.topic) for case in cases if case.reference.tokens]
        source = "test"
        notes = ["There are no validation and no training rows to set thresholds on; the test's references stand in."]
    rows = rows or [Known(Text(""), Text("."), "")]
    return Yardstick(ground, calibrate(rows, ground, given.seed), source, notes)


def known_rows(rows: Sequence[Row], seed: int) -> list[Known]:
    """Return the rows that have an answer, without those made by augmentation; a sample where there are very many."""
    own = [row for row in rows if row.made_from is None and answer(row).strip()]
    if len(own) > TRAINING_ROWS:
        own = random.Random(seed).sample(own, TRAINING_ROWS)
    return [Known(Text(question(row)), Text(answer(row)), topic_of(row.labels)) for row in own]


def _asked(line: Line) -> bool:
    return isinstance(line.get("answer"), str)


def _found(case: Case, yardstick: Yardstick, advance: Any) -> list[dict[str, Any]]:
    found = [one.to_json(case) for one in find(case, yardstick.ground, yardstick.thresholds)]
    advance(1)
    return found


def _names(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["category"] for one in found))


def _lines(given: Given, findings: Mapping[str, Mapping[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Return the lines of errors.jsonl: one for each finding, item by item, side by side."""
    return [
        {"id": line["id"], "side": who, **found}
        for place in range(max((len(lines) for lines in given.answers.values()), default=0))
        for who, lines in given.answers.items()
        for line in lines[place : place + 1]
        for found in findings[who].get(line["id"], [])
    ]


def _notes(given: Given, seen: Mapping[str, Sequence[Line]]) -> list[str]:
    notes = []
    for who, lines in given.answers.items():
        missing = len(lines) - len(seen[who])
        if missing:
            notes.append(f"{missing} of {len(lines)} items have no answer of {who} and were not diagnosed.")
    lines = next(iter(seen.values()), [])
    if lines and not any(case_of(line).topic for line in lines):
        notes.append("No item has a topic: answers cannot be seen to belong to another one (data.fields.topic).")
    return notes
