"""How was it trained: curves, what was predicted and measured, proofs and what the guards said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from luthier.report.content import Block, Note, Picture, Section, Table
from luthier.report.figures import Curve, Held, Lines, Versus
from luthier.report.words import NOTHING, many, seconds_in_words

SMOOTHED = 60  # with more steps than this the training loss is shown as a running median too
EVENTS_SHOWN = 12
Line = Mapping[str, Any]
PROOFS = {
    "moved": "its weights moved",
    "finite": "all its numbers are finite",
    "reloads": "saved and loaded again it is the same",
    "changes_output": "the model answers otherwise than its base",
    "merges": "merged into the base it answers the same",
}


def training_section(steps: Sequence[Line], report: Line, plan: Line | None, events: Sequence[Line] = ()) -> Section:
    """Return the curves from metrics.jsonl, the account of train.json held against plan.json, and guards.jsonl."""
    learned = list({line["step"]: line for line in steps if "loss" in line}.values())  # steps done again: as they ended
    finding = f"{many(report['steps'], 'step')} over {many(report['rows']['train'], 'row')}"
    finding += f" in {seconds_in_words(report['seconds'])}"
    if report["best_validation_loss"] is not None:
        finding += f"; the adapter kept is that of step {report['best_step']:,}"
    blocks: list[Block] = [*_loss(steps, learned, report), *_rate(learned), *_throughput(learned)]
    blocks += versus(report, plan)
    blocks.append(Table(("training", ""), _facts(report), "", frozenset({1})))
    blocks += [Note(str(note), "warn") for note in report.get("notes", [])]
    blocks += _guarded(events)
    proof = report.get("adapter_proof") or {}
    told = {True: "yes", False: "NO", None: "not applicable"}
    proofs = [(words, told[proof[name]]) for name, words in PROOFS.items() if name in proof]
    blocks += [Table(("proof of the adapter", ""), proofs, "", frozenset({1}))] if proofs else []
    return Section("training", "How was it trained?", f"{finding}.", blocks)


def _guarded(events: Sequence[Line]) -> list[Block]:
    """Return what the guards saw and did."""
    if not events:
        return []
    rows = [
        (f"{one['step']:,}", str(one["what"]), _measured(one["value"]), _measured(one["threshold"]), str(one["action"]))
        for one in events[:EVENTS_SHOWN]
    ]
    caption = f"What the guards saw in training: {len(rows)} of {many(len(events), 'event')}."
    return [Table(("step", "event", "value", "threshold", "done"), rows, caption, frozenset({0, 2, 3}))]


def _measured(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value or NOTHING)


def versus(report: Line, plan: Line | None) -> list[Block]:
    """Return what the plan predicted beside what was measured, for what has both."""
    if plan is None:
        return []
    planned, memory = plan.get("seconds") or {}, (plan.get("memory_gib") or {}).get("total")
    seconds = planned.get("one_training") or planned.get("estimate")  # train.json tells of the first seed
    pairs = (("time", seconds, report.get("seconds"), "s"), ("memory", memory, _measured_memory(report), "GiB"))
    rows = [
        Held(name, float(predicted), float(measured), unit)
        for name, predicted, measured, unit in pairs
        if predicted and measured
    ]
    if not rows:
        return []
    told = [f"{row.name} was {row.measured / row.predicted:.2f} times the plan" for row in rows]
    title = f"Training {' and '.join(told)}"
    return [Picture(Versus("versus", title, rows))]


def _measured_memory(report: Line) -> float | None:
    value = report.get("peak_memory_gib") or report.get("memory_gib")
    return value.get("peak") if isinstance(value, Mapping) else value


def _loss(steps: Sequence[Line], learned: Sequence[Line], report: Line) -> list[Block]:
    if not learned:
        return []
    points = [(line["step"], line["loss"]) for line in learned]
    held_out = [(line["step"], line["validation_loss"]) for line in steps if line.get("validation_loss") is not None]
    curves = _smoothed("training", points)
    spot = None
    if held_out:
        curves.append(Curve("validation", held_out))
        best = min(held_out, key=lambda point: point[1])
        spot = (*best, f"lowest: {best[1]:.3f} at step {best[0]:,}")
        title = _validation_title(held_out, report)
    else:
        title = (
            f"Training loss went from {_around(points, 0):.3f} to {_around(points, -1):.3f}; there was no validation"
        )
    return [Picture(Lines("loss", title, "optimizer step", "loss", curves, spot), key=True)]


def _validation_title(held_out: Sequence[tuple[float, float]], report: Line) -> str:
    best = min(held_out, key=lambda point: point[1])
    first, last = held_out[0], held_out[-1]
    if len(held_out) == 1:
        return f"Validation loss was {best[1]:.3f} at step {best[0]:,}, the only time it was measured"
    if best == first:
        return f"Validation loss was lowest at the first measurement, step {best[0]:,}, and rose to {last[1]:.3f}"
    fell = f"from {first[1]:.3f} to {best[1]:.3f}"
    if best == last:
        return f"Validation loss fell {fell} and was still falling at the end, step {best[0]:,}"
    stopped = ", and training stopped early" if report.get("stopped_early") else ""
    return f"Validation loss fell {fell} and stopped falling at step {best[0]:,}{stopped}"


def _rate(learned: Sequence[Line]) -> list[Block]:
    points = [(line["step"], line["learning_rate"]) for line in learned if line.get("learning_rate") is not None]
    if not points:
        return []
    phases = []
    for name, lines in groupby(learned, key=lambda line: line.get("phase") or ""):
        found = list(lines)
        phases.append((found[0]["step"] - 0.5, found[-1]["step"] + 0.5, str(name)))
    bands = [phase for phase in phases if phase[2]]
    peak = max(points, key=lambda point: point[1])
    lengths = ", ".join(f"{name} {end - start:.0f}" for start, end, name in bands[:4])
    more = f" and {len(bands) - 4} more" if len(bands) > 4 else ""
    title = f"The learning rate was highest, {peak[1]:.2g}, at step {peak[0]:,}"
    title += f"; steps by phase: {lengths}{more}" if bands else ""
    curve = Curve("learning rate", points)
    return [Picture(Lines("rate", title, "optimizer step", "learning rate", [curve], None, bands, True))]


def _throughput(learned: Sequence[Line]) -> list[Block]:
    points = [(line["step"], line["tokens_per_second"]) for line in learned if line.get("tokens_per_second")]
    if len(points) < 2:
        return []
    speeds = sorted(speed for _, speed in points)
    slow = speeds[len(speeds) // 10]
    title = f"Half of the steps ran at {median(speeds):,.0f} tokens a second or more, a tenth at {slow:,.0f} or less"
    curves = _smoothed("speed", points)
    return [Picture(Lines("throughput", title, "optimizer step", "tokens a second", curves, None, (), True))]


def _smoothed(name: str, points: Sequence[tuple[float, float]]) -> list[Curve]:
    """Return a curve as it is; one of many steps thin, and its running median."""
    if len(points) <= SMOOTHED:
        return [Curve(name, points)]
    return [Curve(name, points, faint=True), Curve("its running median", _running_median(points))]


def _facts(report: Line) -> list[tuple[str, str]]:
    share = report["trainable"] / report["total"] if report["total"] else 0.0
    facts = [("trained parameters", f"{report['trainable']:,} of {report['total']:,} ({share:.3%})")]
    if report.get("tokens_per_second"):
        facts.append(("tokens a second", f"{report['tokens_per_second']:,.0f}"))
    facts.append(("precision of the base", str(report["dtype"])))
    facts.append(("stopped early", "yes" if report["stopped_early"] else "no"))
    best = report["best_validation_loss"]
    facts.append(("best validation loss", NOTHING if best is None else f"{best:.4f}"))
    return facts


def _running_median(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Smooth by the median of a window about a step, a fifteenth of the curve wide."""
    half = max(2, len(points) // 30)
    values = [value for _, value in points]
    stride = max(1, len(points) // 400)  # no finer than a picture shows
    return [
        (points[place][0], median(values[max(0, place - half) : place + half + 1]))
        for place in range(0, len(points), stride)
    ]


def _around(points: Sequence[tuple[float, float]], end: int) -> float:
    few = max(1, len(points) // 20)
    return median(value for _, value in (points[:few] if end == 0 else points[-few:]))
