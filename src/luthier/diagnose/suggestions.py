"""What to change, by the evidence of the run: a recipe key each, with the numbers that speak for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.diagnose.base import Given, Line
from luthier.diagnose.case import Case, Ground, topic_of
from luthier.diagnose.detectors.generic import generic_phrases
from luthier.diagnose.detectors.shape import residue
from luthier.diagnose.words import Text

LEAST_SHARE = 0.02  # of the rows or answers concerned, below which nothing is suggested
LEAST = 2
FEW_ROWS = 0.5  # a topic is short of rows with less than half of what a topic has on average
SURE = 0.05


def suggestions(
    given: Given,
    ground: Ground,
    tuned: str,
    findings: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    patterns: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the suggestions that the evidence supports; none without.

    Args:
        ground: the training rows. tuned: name of the side that was trained.
        findings: side to id to its findings. patterns: of all sides.
    """
    lines = [line for line in given.answers[tuned] if isinstance(line.get("answer"), str)]
    found = findings[tuned]
    made = [
        _longer_rows(given),
        _longer_answers(given, lines, found),
        _gentler_training(given, tuned, findings),
        *_more_rows(given, tuned, patterns),
        _cleaner_rows(ground, found, "template_like", "stock phrases"),
        _cleaner_rows(ground, found, "presentation", "traces of templates or markup"),
    ]
    return [one for one in made if one]


def _suggestion(key: str, now: Any, proposed: Any, sentence: str, **evidence: float) -> dict[str, Any]:
    return {"key": key, "now": now, "proposed": proposed, "sentence": sentence, "evidence": evidence}


def _longer_rows(given: Given) -> dict[str, Any] | None:
    """Training rows that lose their end to data.max_length."""
    train = given.report.get("statistics", {}).get("splits", {}).get("train", {})
    cut, rows = int(train.get("truncation", {}).get("rows") or 0), int(train.get("rows") or 0)
    longest = int(train.get("tokens", {}).get("whole", {}).get("max") or 0)
    now = given.settings.get("data.max_length")
    if not rows or cut / rows < LEAST_SHARE or not isinstance(now, int) or longest <= now:
        return None
    proposed = math.ceil(longest / 32) * 32
    sentence = f"{cut} of {rows} training rows ({cut / rows:.0%}) are truncated: the longest has {longest} tokens."
    return _suggestion("data.max_length", now, proposed, sentence, truncated=cut, rows=rows, longest=longest)


def _longer_answers(given: Given, lines: Sequence[Line], found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Answers that reach the limit of tokens without having got into a loop, where references are longer than that."""
    now = given.settings.get("evaluation.max_new_tokens")
    if not isinstance(now, int) or not lines:
        return None
    cut = [line for line in lines if line.get("stopped") is False]
    looped = sum(_repeats(found.get(line["id"], ())) for line in cut)
    lengths = sorted(int(line["reference_tokens"]) for line in lines if line.get("reference_tokens"))
    ran = len(cut) - looped
    if ran < LEAST or ran / len(lines) < LEAST_SHARE or not lengths:
        return None
    needed = lengths[min(int(len(lengths) * 0.98), len(lengths) - 1)]
    if needed <= now:
        return None
    sentence = (
        f"{ran} of {len(lines)} answers were cut at {now} tokens without repeating themselves, "
        f"and 98 % of the references need up to {needed}."
    )
    proposed = math.ceil(needed * 1.1 / 16) * 16
    return _suggestion(
        "evaluation.max_new_tokens",
        now,
        proposed,
        sentence,
        cut=ran,
        cut_in_loops=looped,
        answers=len(lines),
        needed=needed,
    )


def _gentler_training(
    given: Given, tuned: str, findings: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
) -> dict[str, Any] | None:
    """Tuned answers that repeat themselves where the base's do not, by the exact sign test on the flips."""
    from scipy.stats import binomtest

    before, after = findings[next(iter(given.answers))], findings[tuned]
    both = [name for name in after if name in before]
    loops = {who: {name for name in both if _repeats(some[name])} for who, some in (("base", before), ("tuned", after))}
    worse, better = len(loops["tuned"] - loops["base"]), len(loops["base"] - loops["tuned"])
    rate = given.settings.get("training.learning_rate")
    if not both or rate is None or worse + better == 0 or worse / len(both) < LEAST_SHARE or worse <= better:
        return None
    p = float(binomtest(worse, worse + better).pvalue)
    if p >= SURE:
        return None
    sentence = (
        f"{len(loops['tuned'])} of {len(both)} tuned answers repeat themselves, {len(loops['base'])} of base: "
        f"training made {worse} answers repetitive and mended {better} (sign test p = {p:.2g}). "
        "Smaller steps change less."
    )
    return _suggestion(
        "training.learning_rate", rate, rate / 2, sentence, worse=worse, better=better, answers=len(both), p=p
    )


def _repeats(found: Sequence[Mapping[str, Any]]) -> bool:
    return any(one["category"] == "repetitive" for one in found)


def _more_rows(given: Given, tuned: str, patterns: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Topics that fail more than others and have few training rows."""
    rows = Counter(topic for row in given.train if (topic := topic_of(row.labels)))
    if len(rows) < 2:
        return []
    usual = sum(rows.values()) / len(rows)
    made = []
    for cell in patterns:
        surely = cell["side"] == tuned and cell["field"] == "topic" and cell["category"] == "any" and cell["p"] < SURE
        have = rows.get(cell["value"], 0)
        if surely and have < FEW_ROWS * usual:
            sentence = (
                f"Topic {cell['value']!r} has {have} training rows, {usual:.0f} is usual, and {cell['failed']} of its "
                f"{cell['n']} answers fail ({cell['rate']:.0%}; elsewhere {cell['rest_rate']:.0%})."
            )
            made.append(
                _suggestion(
                    "data.source",
                    f"{have} rows of {cell['value']}",
                    f"about {usual:.0f} rows of it",
                    sentence,
                    rows=have,
                    usual=round(usual, 1),
                    failed=cell["failed"],
                    n=cell["n"],
                    lift=cell["lift"],
                    p=cell["p"],
                )
            )
    return made


def _cleaner_rows(ground: Ground, found: Mapping[str, Any], name: str, what: str) -> dict[str, Any] | None:
    """Faults of the answers that the training answers have as well."""
    failing = sum(any(one["subcategory"] == name for one in some) for some in found.values())
    if failing < LEAST or not ground.rows or failing / max(len(found), 1) < LEAST_SHARE:
        return None
    measure = generic_phrases if name == "template_like" else residue
    empty = Text("")
    bad = sum(measure(Case(row.question, empty, row.answer), ground).value > 0 for row in ground.rows)
    if bad / len(ground.rows) < LEAST_SHARE:
        return None
    sentence = (
        f"{failing} of {len(found)} answers have {what}, and so have {bad} of {len(ground.rows)} training answers: "
        "the model has learned them."
    )
    return _suggestion(
        "data.source",
        f"{bad} rows with {what}",
        "the same rows without",
        sentence,
        failing=failing,
        rows=bad,
        of=len(ground.rows),
    )
