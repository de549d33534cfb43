"""What a diagnosis is given and what it gives: the one interface of all of them, whatever the kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from luthier.data.rows import Row
from luthier.run.progress import Progress

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Given:
    """The files of a run that a diagnosis reads, and the settings that its suggestions may name.

    Attributes:
        answers: side ("base", "tuned") to the lines of its answers-*.jsonl; the sides have the same items in one order.
        scores: lines of scores.jsonl.
        train, validation: rows of these splits.
        report: 1-data/report.json. metrics: 5-evaluate/metrics.json.
        settings: dotted recipe key to its value: those that a suggestion may be to change.
        phrases: generic phrases of the recipe, beside those that are shipped.
        seed: of all that is drawn.
    """

    answers: Mapping[str, Sequence[Line]]
    scores: Sequence[Line]
    train: Sequence[Row]
    validation: Sequence[Row]
    report: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    phrases: Sequence[str] = ()
    seed: int = 42


@dataclass(frozen=True)
class Diagnosis:
    """Lines of errors.jsonl, and summary.json."""

    findings: list[dict[str, Any]]
    summary: dict[str, Any]


Diagnose = Callable[[Given, Progress], Diagnosis]
