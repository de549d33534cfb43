"""What a detector looks at: one answer with its question and reference, and what was known before the test."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from luthier.diagnose.words import Span, Text

if TYPE_CHECKING:
    from luthier.diagnose.meaning import Meaning


@dataclass(frozen=True)
class Known:
    """One row of the training or validation split: a question with its good answer."""

    question: Text
    answer: Text
    topic: str


@dataclass(frozen=True)
class Case:
    """One answer to judge.

    Attributes:
        question, reference, answer: of the test item. topic: "" where there is none.
        stopped: whether the model ended the answer by itself; None where nobody knows.
        key_points: what a good answer mentions, where the row lists it.
    """

    question: Text
    reference: Text
    answer: Text
    topic: str = ""
    stopped: bool | None = None
    key_points: Sequence[str] = ()


@dataclass(frozen=True)
class Seen:
    """What a detector found: its value and the place in the answer that shows it; None: the whole answer."""

    value: float
    span: Span | None = None


@dataclass(frozen=True)
class Ground:
    """What is known before the test: training rows, the weights of words, how meaning is measured, lists of phrases.

    Attributes:
        rows: of the training split. meaning: how near two texts are.
        extra_phrases: generic phrases of the recipe, beside those that are shipped.
        centres: filled by the detectors of topics when they first need it.
    """

    rows: Sequence[Known]
    meaning: Meaning
    extra_phrases: Sequence[str] = ()
    centres: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def frequency(self) -> Counter[str]:
        """In how many training rows each stem occurs, in question or answer."""
        return Counter(unit for row in self.rows for unit in row.question.stems | row.answer.stems)

    def weight(self, unit: str) -> float:
        """Return how much a stem tells: log of the inverse of its share among the training rows."""
        return math.log((len(self.rows) + 1) / (self.frequency.get(unit, 0) + 0.5))

    @cached_property
    def median_words(self) -> dict[str, float]:
        """Median number of words of a training answer by topic; "" over all."""
        from statistics import median

        found: defaultdict[str, list[int]] = defaultdict(list)
        for row in self.rows:
            for topic in {row.topic, ""}:
                found[topic].append(row.answer.words)
        return {topic: median(counts) for topic, counts in found.items()}

    def share(self, units_: Iterable[str], of: Iterable[str]) -> float:
        """Return the share of the weight of `of` that is among `units_`; 1 where `of` is empty."""
        have, whole = set(units_), list(of)
        # fsum: the order of a set differs from process to process, and the sum must not
        total = math.fsum(self.weight(unit) for unit in whole)
        return math.fsum(self.weight(unit) for unit in whole if unit in have) / total if total > 0 else 1.0


def case_of(line: Mapping[str, Any]) -> Case:
    """Return the case of a line of answers-*.jsonl; a missing answer is an empty one."""
    labels = line.get("labels") or {}
    points = labels.get("key_points")
    return Case(
        question=Text(_text(line.get("question"))),
        reference=Text(_text(line.get("reference"))),
        answer=Text(_text(line.get("answer"))),
        topic=topic_of(labels),
        stopped=line.get("stopped"),
        key_points=tuple(str(point) for point in points) if isinstance(points, list | tuple) else (),
    )


def topic_of(labels: Mapping[str, Any]) -> str:
    """Return the topic among the labels of a row; "" where there is none, or none that could be one."""
    topic = labels.get("topic")
    return str(topic) if isinstance(topic, str | int) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
