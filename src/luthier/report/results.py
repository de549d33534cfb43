"""The parts of the report about training and evaluation: curves, comparison, topics, flips."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from luthier.report.content import Block, Chart, Curve, Forest, Interval, Note, Passage, Section, Table

FLIPS_SHOWN = 4
SMALL_CELL = 10  # fewer items than this say little
Line = Mapping[str, Any]


def comparison_section(comparison: Mapping[str, Any], metrics: Mapping[str, Any]) -> Section:
    """Return the comparison of base and tuned from comparison.json and metrics.json."""
    entries = comparison["metrics"]
    intervals = [one for one in (_interval(name, entry) for name, entry in entries.items()) if one is not None]
    rows = [_row(name, entry) for name, entry in entries.items()]
    headers = ("metric", "base", "tuned", "difference", "95 % interval", "p corrected", "effect dz", "power", "verdict")
    primary = entries[comparison["primary"]]
    caption = (
        f"Paired over {primary['n']} groups of {primary['items']} test items; {comparison['correction']}. Perplexity "
        "is tested by its logarithm; lower is better."
    )
    blocks: list[Block] = []
    if intervals:
        blocks.append(Forest("Gain in standard deviations, with 95 % intervals: better lies to the right", intervals))
    blocks.append(Table(headers, rows, caption, frozenset({1, 2, 3, 4, 5, 6, 7})))
    blocks.append(Note(_sensitivity(comparison["primary"], primary)))
    blocks.append(_answers(metrics))
    return Section("comparison", "Base against tuned", comparison["sentence"], blocks)


def topics_section(scores: Sequence[Line], labels: Mapping[str, Mapping[str, Any]], metric: str) -> Section | None:
    """Return the primary metric by topic and difficulty, or None where the rows have neither."""
    blocks: list[Block] = []
    for field in ("topic", "difficulty"):
        cells: dict[str, list[Line]] = defaultdict(list)
        for line in scores:
            value = labels.get(line["id"], {}).get(field)
            if value is not None:
                cells[str(value)].append(line)
        if len(cells) > 1:
            blocks.append(_breakdown(field, dict(sorted(cells.items()))))
    if not blocks:
        return None
    finding = f"{metric} of base and tuned. Cells of fewer than {SMALL_CELL} items say little and are marked."
    return Section("topics", "Where it helped", finding, blocks)


def flips_section(scores: Sequence[Line], answers: Mapping[str, tuple[Line, Line]], metric: str) -> Section:
    """Return the items that gained and lost most, with their texts."""
    higher = -1 if metric == "perplexity" else 1
    ordered = sorted(scores, key=lambda line: line["difference"] * higher)
    won = [line for line in reversed(ordered) if line["flip"] == "won"]
    lost = [line for line in ordered if line["flip"] == "lost"]
    finding = f"By {metric}, the tuned model is nearer to the reference on {len(won)} items and farther on {len(lost)}."
    passages = [_flip(line, answers[line["id"]], "good") for line in won[:FLIPS_SHOWN]]
    passages += [_flip(line, answers[line["id"]], "bad") for line in lost[:FLIPS_SHOWN]]
    return Section("flips", "Won and lost", finding, passages)


def training_section(steps: Sequence[Line], report: Mapping[str, Any]) -> Section:
    """Return the curves from metrics.jsonl and the account of train.json."""
    losses = [(line["step"], line["loss"]) for line in steps if "loss" in line]
    held_out = [(line["step"], line["validation_loss"]) for line in steps if "validation_loss" in line]
    rates = [(line["step"], line["learning_rate"]) for line in steps if "learning_rate" in line]
    curves = [Curve("training", losses), *([Curve("validation", held_out)] if held_out else [])]
    best = report["best_validation_loss"]
    finding = f"{report['steps']} steps over {report['rows']['train']} rows in {report['seconds']:.0f} s"
    finding += f"; the adapter kept is that of step {report['best_step']}" if best is not None else ""
    facts = [
        (
            "trained parameters",
            f"{report['trainable']:,} of {report['total']:,} ({report['trainable'] / report['total']:.3%})",
        ),
        ("tokens a second", f"{report['tokens_per_second']:,.0f}"),
        ("precision of the base", report["dtype"]),
        ("stopped early", "yes" if report["stopped_early"] else "no"),
    ]
    facts += [] if best is None else [("best validation loss", f"{best:.4f}")]
    blocks: list[Block] = []
    if losses:
        blocks.append(Chart("Loss by step", "optimizer step", "loss", curves))
        blocks.append(
            Chart("Learning rate by step", "optimizer step", "learning rate", [Curve("learning rate", rates)])
        )
    blocks.append(Table(("", ""), facts))
    blocks += [Note(note, "warn") for note in report["notes"]]
    blocks.append(Table(("adapter proof", ""), _proof(report["adapter_proof"])))
    return Section("training", "Training", f"{finding}.", blocks)


def _interval(name: str, entry: Line) -> Interval | None:
    """Return the difference in standard deviations of the differences; None where all items score the same."""
    if not entry["cohens_dz"] or not entry["ci95"] or not entry["difference"]:
        return None
    scale = entry["cohens_dz"] / entry["difference"] * (1 if entry["higher_is_better"] else -1)
    low, high = sorted(edge * scale for edge in entry["ci95"])
    return Interval(name, entry["difference"] * scale, low, high, entry["verdict"])


def _row(name: str, entry: Line) -> list[str]:
    low, high = entry["ci95"] or (None, None)
    return [
        name,
        _number(entry["base"]),
        _number(entry["tuned"]),
        _number(entry["difference"], "+"),
        "–" if low is None else f"{_number(low, '+')} to {_number(high, '+')}",
        "–" if entry["p_adjusted"] is None else f"{entry['p_adjusted']:.4f}",
        _number(entry["cohens_dz"], "+", 2),
        "–" if entry["power"] is None else f"{entry['power']:.0%}",
        entry["verdict"],
    ]


def _sensitivity(name: str, entry: Line) -> str:
    if entry["minimum_detectable"] is None:
        return "The test set is too small to say what it could have shown."
    return (
        f"With {entry['n']} units, this test set shows a difference in {name} of {entry['minimum_detectable']:.4f} or "
        "more in four cases of five. A smaller one could have been missed."
    )


def _answers(metrics: Line) -> Table:
    rows = []
    for who in ("base", "tuned"):
        one = metrics["answers"][who]
        stopped = f"{one['stopped'] / one['asked']:.0%}" if one["asked"] else "–"
        rows.append((who, f"{one['asked']:,}", stopped, _number(one["mean_tokens"], "", 0)))
    return Table(("answers", "asked", "stopped by themselves", "tokens on average"), rows, "", frozenset({1, 2, 3}))


def _breakdown(field: str, cells: Mapping[str, Sequence[Line]]) -> Table:
    rows = []
    for value, lines in cells.items():
        won = sum(line["flip"] == "won" for line in lines)
        base, tuned = mean(line["base"] for line in lines), mean(line["tuned"] for line in lines)
        small = " (few)" if len(lines) < SMALL_CELL else ""
        share = f"{won / len(lines):.0%}"
        rows.append((value + small, str(len(lines)), _number(base), _number(tuned), _number(tuned - base, "+"), share))
    return Table((field, "items", "base", "tuned", "difference", "won"), rows, "", frozenset({1, 2, 3, 4, 5}))


def _flip(line: Line, answers: tuple[Line, Line], tone: Any) -> Passage:
    base, tuned = answers
    title = f"{line['id']}: {_number(line['base'])} → {_number(line['tuned'])}"
    texts = [("reference", base["reference"]), ("base", base["answer"] or "–"), ("tuned", tuned["answer"] or "–")]
    return Passage(title, base["question"], texts, tone)


def _proof(proof: Mapping[str, Any]) -> list[tuple[str, str]]:
    words = {
        "moved": "its weights moved",
        "finite": "all its numbers are finite",
        "reloads": "saved and loaded again it is the same",
        "changes_output": "the model answers otherwise than its base",
        "merges": "merged into the base it answers the same",
    }
    told = {True: "yes", False: "NO", None: "not applicable"}
    return [(words[name], told[proof[name]]) for name in words if name in proof]


def _number(value: float | None, sign: str = "", places: int = 4) -> str:
    return "–" if value is None else f"{value:{sign}.{places}f}"
