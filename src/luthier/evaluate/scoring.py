"""From two files of answers to scores: item by item, over all, and paired for the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.errors import UserError
from luthier.evaluate.corpus import corpus_counts
from luthier.evaluate.measured import Measured
from luthier.evaluate.text import Item, Score, key_points, metric_named, score_corpus, score_items
from luthier.evaluate.words import script_of

Line = Mapping[str, Any]


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


def choose_metrics(asked: str | Sequence[str], higher_is_better: Mapping[str, bool]) -> list[str]:
    """Return the metrics to score: all that the kind declares ("auto"), or those asked for.

    Raises:
        UserError: there is no metric of a name.
    """
    names = list(higher_is_better) if isinstance(asked, str) else list(dict.fromkeys(asked))
    for name in names:
        metric_named(name)
    return names


def score(
    base: Sequence[Line],
    tuned: Sequence[Line],
    names: Sequence[str],
    higher_is_better: Mapping[str, bool],
    primary: str,
) -> Scored:
    """Score the answers of base and tuned to the same items.

    Args:
        base, tuned: lines of answers-base.jsonl and answers-tuned.jsonl, in one order.
        names: the metrics. higher_is_better: their directions.
        primary: the metric that decides; where it is not asked for or has no score, the first that has one does.

    Raises:
        UserError: the two are not answers to the same items, or no metric has a score.
    """
    if [line["id"] for line in base] != [line["id"] for line in tuned]:
        raise UserError("The answers of base and tuned are not to the same items.", "", "Run the evaluate stage anew.")
    script = script_of(line["reference"] for line in base)
    items = {"base": [_item(line) for line in base], "tuned": [_item(line) for line in tuned]}
    scores = {name: {who: score_items(items[who], name, script) for who in items} for name in names}
    paired = {name: _paired(both["base"], both["tuned"]) for name, both in scores.items()}
    present = [name for name in names if paired[name]]
    if not present:
        raise UserError(
            "No item of the test split can be scored.",
            "evaluation",
            "See `error` in answers-tuned.jsonl for the reasons.",
        )
    primary = primary if primary in present else present[0]
    measured = {
        name: Measured(
            title=metric_named(name).title,
            base=[before.value for _, before, _ in paired[name]],
            tuned=[after.value for _, _, after in paired[name]],
            groups=[base[place]["group"] for place, _, _ in paired[name]],
            higher_is_better=higher_is_better[name],
            logarithmic=metric_named(name).logarithmic,
            corpus=corpus_counts(name, _at(items["base"], paired[name]), _at(items["tuned"], paired[name]), script),
        )
        for name in present
    }
    lines = [
        _line(base[place], name, before, after, higher_is_better[name], name == primary)
        for name in present
        for place, before, after in paired[name]
    ]
    metrics = {
        "primary": primary,
        "items": len(base),
        "script": script,
        "answers": {"base": _answers(base), "tuned": _answers(tuned)},
        "flips": _flips(lines),
        "metrics": {name: {who: score_corpus(items[who], name, script) for who in items} for name in names},
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


def _paired(before: Sequence[Score | None], after: Sequence[Score | None]) -> list[tuple[int, Score, Score]]:
    """Return (place, base, tuned) of the items that both have a score for."""
    return [
        (place, one, other)
        for place, (one, other) in enumerate(zip(before, after, strict=True))
        if one is not None and other is not None
    ]


def _at(items: Sequence[Item], paired: Sequence[tuple[int, Score, Score]]) -> list[Item]:
    return [items[place] for place, _, _ in paired]


def _line(line: Line, name: str, before: Score, after: Score, higher: bool, primary: bool) -> dict[str, Any]:
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
