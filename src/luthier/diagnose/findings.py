"""From the values of the detectors to the findings of an answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.diagnose.calibrate import Threshold
from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.detectors.repetition import sentences_of
from luthier.diagnose.taxonomy import Subcategory, detectors, in_order

SHOWN = 240  # characters of a span that errors.jsonl shows


@dataclass(frozen=True)
class Finding:
    """One sub-category in one answer, with the detector, its value and threshold, and the place that shows it."""

    subcategory: Subcategory
    criterion: str
    threshold: Threshold
    seen: Seen

    def to_json(self, case: Case) -> dict[str, Any]:
        """Return what a line of errors.jsonl says of the finding."""
        start, end = self.seen.span or (0, len(case.answer.raw))
        return {
            "category": self.subcategory.category,
            "subcategory": self.subcategory.name,
            "certainty": self.subcategory.certainty,
            "detector": self.threshold.criterion.detector,
            "value": round(self.seen.value, 6),
            "flag": self.threshold.criterion.flag,
            "threshold": self.threshold.value,
            "span": [start, end],
            "text": _short(case.answer.raw[start:end]),
            "sentence": self.sentence,
        }

    @property
    def sentence(self) -> str:
        """The finding in words: what, the value, and the limit."""
        than = "above" if self.threshold.criterion.flag == "above" else "below"
        detector = self.threshold.criterion.detector.replace("_", " ")
        doubt = " (suspected)" if self.subcategory.certainty == "suspected" else ""
        value = f"{detector} {self.seen.value:.3g}, {than} {self.threshold.value:.3g}"
        return f"{self.subcategory.title}{doubt}: {value}."


class Measured:
    """The values of the detectors for one answer, each computed when it is first asked for."""

    def __init__(self, case: Case, ground: Ground, thresholds: Mapping[str, Threshold]) -> None:
        self.case, self._ground, self._thresholds = case, ground, thresholds
        self._seen: dict[str, Seen] = {}

    def seen(self, criterion: str) -> Seen:
        """Return what the detector of a criterion saw."""
        name = self._thresholds[criterion].criterion.detector
        if name not in self._seen:
            self._seen[name] = detectors()[name](self.case, self._ground)
        return self._seen[name]

    def holds(self, condition: str) -> bool:
        """Return whether a condition of the taxonomy holds: the name of a criterion, or "not" and one."""
        name = condition.removeprefix("not ")
        threshold = self._thresholds[name]
        return threshold.criterion.holds(self.seen(name).value, threshold.value) == (name == condition)


def find(case: Case, ground: Ground, thresholds: Mapping[str, Threshold]) -> list[Finding]:
    """Return the findings of one answer: its causes; what follows from a finding already made is left out."""
    measured = Measured(case, ground, thresholds)
    found: list[Finding] = []
    for sub in in_order():
        told = {name for one in found for name in (one.subcategory.category, one.subcategory.name)}
        if told.intersection(sub.unless):
            continue
        held = next((way for way in sub.when if all(measured.holds(condition) for condition in way)), None)
        if held is None:
            continue
        name = held[0]
        found.append(Finding(sub, name, thresholds[name], measured.seen(name)))
    return found


def main_category(categories: Sequence[str]) -> str:
    """Return the one category that speaks for an answer: the first in the order of causes; "clean" without any."""
    order = [sub.category for sub in in_order()]
    return min(categories, key=order.index) if categories else "clean"


def texts_of(case: Case, ground: Ground, thresholds: Mapping[str, Threshold]) -> Iterator[str]:
    """Yield the texts whose meaning the detectors will ask for, so that they can be computed in one go."""
    yield from (case.reference.raw, case.answer.raw)
    measured = Measured(case, ground, thresholds)
    if not measured.holds("stutter") and not measured.holds("looped"):  # else nobody asks whether it is restated
        yield from sentences_of(case.answer)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
