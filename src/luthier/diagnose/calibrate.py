"""Thresholds from the validation split: between known good texts and known bad ones that are made from the same rows.

The good answers of the validation split say how far a detector's value goes in good text: at most 2 % of the good texts
may lie beyond a threshold. Bad texts are made from the same answers (cut, padded, stuttered, of another row …; see
variants.py). Where they lie beyond the good ones, the threshold is half-way between the 2 % limit of the good and the
nearest quarter of the bad. So a threshold fits the data, the language and the length of the answers, and no test answer
has a part in it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.diagnose.case import Case, Ground, Known
from luthier.diagnose.detectors.repetition import sentences_of
from luthier.diagnose.taxonomy import Criterion, criteria, detectors
from luthier.diagnose.variants import MAKERS

GOOD_FLAGGED = 0.02  # share of the good texts that may lie beyond a threshold
SHOWN = 0.2  # share of the bad texts that must show a fault which good texts never show, to set a threshold by it
ROWS = 100  # rows that are looked at; more would not move a quantile of 2 % by much


@dataclass(frozen=True)
class Threshold:
    """Where a criterion begins to hold, and how that was found.

    Attributes:
        value: the limit. rows: validation rows it was set on. good_flagged: share of the good texts beyond it.
        bad_found: share of the bad texts beyond it; None where none could be made.
        rule: one sentence. fixed: whether it is the least that counts, and not of the data.
    """

    criterion: Criterion
    value: float
    rows: int
    good_flagged: float
    bad_found: float | None
    rule: str
    fixed: bool = False

    def to_json(self, source: str) -> dict[str, Any]:
        """Return the entry of summary.json."""
        return {
            "detector": self.criterion.detector,
            "value": self.value,
            "flag": self.criterion.flag,
            "source": "fixed" if self.fixed else source,
            "rows": self.rows,
            "good_flagged": self.good_flagged,
            "bad_found": self.bad_found,
            "rule": self.rule,
        }


def calibrate(rows: Sequence[Known], ground: Ground, seed: int) -> dict[str, Threshold]:
    """Return the threshold of each criterion.

    Args:
        rows: good answers that the test does not use: the validation split. ground: from the training split.
        seed: of the draws that make bad texts.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError("thresholds need at least one good answer")
    draw = random.Random(seed)
    chosen = draw.sample(list(rows), ROWS) if len(rows) > ROWS else list(rows)
    cases = {name: _made(name, chosen, seed) for name in MAKERS}
    ground.meaning.prepare(text for name in criteria().values() for text in _needed(name, cases))
    return {name: _threshold(criterion, cases, ground, len(chosen)) for name, criterion in criteria().items()}


def _made(name: str, rows: Sequence[Known], seed: int) -> list[Case]:
    draw = random.Random(f"{seed}-{name}")
    made = (MAKERS[name](row, rows, draw) for row in rows)
    return [case for case in made if case is not None]


def _needed(criterion: Criterion, cases: Mapping[str, list[Case]]) -> Iterator[str]:
    """Yield the texts whose meaning the detector of a criterion will ask for, so that they are computed in one go."""
    made = [case for name in (*criterion.good, criterion.bad) if name for case in cases[name]]
    if criterion.detector in ("repeated_content", "missing_parts"):
        yield from (part for case in made for text in (case.answer, case.reference) for part in sentences_of(text))
    elif criterion.detector in ("near_reference", "topic_margin", "topic_nearness"):
        yield from (text for case in made for text in (case.answer.raw, case.reference.raw))


def _threshold(criterion: Criterion, cases: Mapping[str, list[Case]], ground: Ground, rows: int) -> Threshold:
    measure = detectors()[criterion.detector]
    good = [measure(case, ground).value for name in criterion.good for case in cases[name]]
    bad = [measure(case, ground).value for case in cases[criterion.bad]] if criterion.bad else []
    value, rule = _between(good, bad, criterion)
    fixed = criterion.at_least is not None and value <= criterion.at_least
    if criterion.at_least is not None and fixed:
        value, rule = criterion.at_least, "the least that counts; no good text comes near it"
    return Threshold(
        criterion,
        value,
        rows,
        _share(good, criterion, value) or 0.0,
        _share(bad, criterion, value),
        rule,
        fixed,
    )


def _between(good: Sequence[float], bad: Sequence[float], criterion: Criterion) -> tuple[float, str]:
    """Return the threshold, and the sentence that says how it was found."""
    import numpy as np

    above = criterion.flag == "above"
    limit = 0.0
    if good:
        limit = float(
            np.quantile(good, 1 - GOOD_FLAGGED if above else GOOD_FLAGGED, method="higher" if above else "lower")
        )
    nearest = float(np.quantile(bad, 0.25 if above else 0.75)) if bad else None
    shown = [value for value in bad if value > 0]
    if above and limit == 0 and nearest == 0 and len(shown) >= len(bad) * SHOWN:
        return float(
            np.quantile(shown, 0.25)
        ) / 2, "half-way between 0, the limit of good texts, and bad ones that show it"
    if nearest is not None and (nearest > limit if above else nearest < limit):
        half = (limit * nearest) ** 0.5 if criterion.scale == "log" else (limit + nearest) / 2
        return half, "half-way between the 2 % limit of good texts and the nearest quarter of bad ones"
    return limit, "the 2 % limit of good texts; bad ones of this data do not lie beyond it" if bad else (
        "the 2 % limit of good texts"
    )


def _share(values: Sequence[float], criterion: Criterion, threshold: float) -> float | None:
    return sum(criterion.holds(value, threshold) for value in values) / len(values) if values else None
