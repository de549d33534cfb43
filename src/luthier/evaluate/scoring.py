"""From two files of answers to scores: item by item, over all, and paired for the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import UserError
from luthier.evaluate.corpus import corpus_counts
from luthier.evaluate.measured import Measured, of_seeds
from luthier.evaluate.text import Item, Score, key_points, metric_named, score_corpus, score_items
from luthier.evaluate.words import Script, script_of

Line = Mapping[str, Any]
Paired = tuple[int, list[Score]]
SIDES = ("base", "tuned")


@dataclass(frozen=True)
class Scored:
    """All scores of a test set.

    Attributes:
        lines: of scores.jsonl, one for each item and metric. metrics: metrics.json.
        measured: what the comparison takes, metric by metric; those without a score are left out.
        primary: the metric that decides.
    """

    lines: list[dict[str, Any]]
    metrics: dict[str, Any]
    measured: dict[str, Measured]
    primary: str


def score(
    base: Sequence[Line],
    tuned: Sequence[Line],
    names: Sequence[str],
    higher_is_better: Mapping[str, bool],
    primary: str,
    others: Sequence[Sequence[Line]] = (),
) -> Scored:
    """Score the answers of base and tuned to the same items.

    Args:
        base, tuned: lines of answers-base.jsonl and answers-tuned.jsonl, in one order.
        names: the metrics. higher_is_better: their directions.
        primary: the metric that decides; where it is not asked for or has no score, the first that has one does.
        others: answers after training with further seeds. They are part of `measured`, and in `lines` of `tuned_seeds`;
            all else is of the first seed.

    Raises:
        UserError: they are not answers to the same items, or no metric has a score.
    """
    sides = {"base": base, "tuned": tuned} | {f"seed {place}": lines for place, lines in enumerate(others)}
    if any([line["id"] for line in lines] != [line["id"] for line in base] for lines in sides.values()):
        raise UserError("The answers of base and tuned are not to the same items.", "", "Run the evaluate stage anew.")
    script = script_of(line["reference"] for line in base)
    items = {who: [_item(line) for line in lines] for who, lines in sides.items()}
    scores = {name: {who: score_items(items[who], name, script) for who in items} for name in names}
    paired = {name: _paired(list(by.values())) for name, by in scores.items()}
    present = [name for name in names if paired[name]]
    if not present:
        raise UserError(
            "No item of the test split can be scored.",
            "evaluation",
            "See `error` in answers-tuned.jsonl for the reasons.",
        )
    primary = primary if primary in present else present[0]
    measured = {
        name: _measured(name, paired[name], list(items.values()), higher_is_better[name], script, base)
        for name in present
    }
    lines = [
        _line(base[place], name, values, higher_is_better[name], name == primary)
        for name in present
        for place, values in paired[name]
    ]
    metrics = {
        "primary": primary,
        "items": len(base),
        "script": script,
        "answers": {"base": _answers(base), "tuned": _answers(tuned)},
        "flips": _flips(lines),
        "metrics": {
            name: {who: score_corpus(items[who], name, script, by[who]) for who in SIDES} for name, by in scores.items()
        },
    }
    return Scored(lines, metrics, measured, primary)


def _item(line: Line) -> Item:
    return Item(
        answer=line["answer"],
        reference=line["reference"],
        nll=line["nll"],
        reference_tokens=line["reference_tokens"],
        key_points=key_points(line["labels"]),
    )


def _paired(scores: Sequence[Sequence[Score | None]]) -> list[Paired]:
    """Return the items that all sides have a score for: the place, and the scores of base, tuned and further seeds."""
    return [
        (place, [one for one in values if one is not None])
        for place, values in enumerate(zip(*scores, strict=True))
        if None not in values
    ]


def _measured(
    name: str,
    paired: Sequence[Paired],
    items: Sequence[Sequence[Item]],
    higher: bool,
    script: Script,
    lines: Sequence[Line],
) -> Measured:
    """Return what the comparison takes of one metric; `items` of base, tuned and further seeds, `lines` for groups."""
    metric, groups = metric_named(name), [lines[place]["group"] for place, _ in paired]
    base, *tuned = zip(*([score.value for score in values] for _, values in paired), strict=True)
    there = [[side[place] for place, _ in paired] for side in items]
    found = [corpus_counts(name, there[0], answers, script) for answers in there[1:]]
    corpora = [counts for counts in found if counts is not None]
    if len(tuned) > 1:
        return of_seeds(metric.title, [base], tuned, groups, higher, metric.logarithmic, corpora)
    return Measured(metric.title, base, tuned[0], groups, higher, metric.logarithmic, found[0])


def _line(line: Line, name: str, values: Sequence[Score], higher: bool, primary: bool) -> dict[str, Any]:
    before, after, *_ = values
    difference = after.value - before.value
    found = {
        "id": line["id"],
        "metric": name,
        "base": before.value,
        "tuned": after.value,
        "difference": difference,
        "base_details": before.details,
        "tuned_details": after.details,
    }
    if len(values) > 2:
        found["tuned_seeds"] = [score.value for score in values[1:]]
    if primary:
        found["flip"] = "tie" if difference == 0 else "won" if (difference > 0) == higher else "lost"
    return found


def _flips(lines: Sequence[Line]) -> dict[str, int]:
    return {flip: sum(line.get("flip") == flip for line in lines) for flip in ("won", "lost", "tie")}


def _answers(lines: Sequence[Line]) -> dict[str, Any]:
    """Count what was answered, what stopped by itself, and the tokens of an answer on average."""
    asked = [line for line in lines if line["answer"] is not None]
    tokens = sum(line["tokens"] for line in asked)
    return {
        "asked": len(asked),
        "stopped": sum(line["stopped"] for line in asked),
        "mean_tokens": tokens / len(asked) if asked else None,
    }
