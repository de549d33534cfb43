"""Did it help, where, and on which items: the parts of the report about the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from luthier.report.content import Block, Note, Passage, Picture, Section, Table
from luthier.report.escape import shortened
from luthier.report.figures import Forest, Histogram, Interval, Pair, Pairs
from luthier.report.words import NOTHING, capped, listed, number, percent, slug, worded

FLIPS_SHOWN = 4
FLIPS_LISTED = 12
CELLS_SHOWN = 16
FIELDS_SHOWN = 8
FIRST_FIELDS = ("topic", "difficulty")  # the others follow in the order of breakdowns.json
TEXT_SHOWN = 900
BINS = 24
Line = Mapping[str, Any]


def comparison_section(
    comparison: Line, metrics: Line, scores: Sequence[Line], answers: Sequence[tuple[Line, Line]]
) -> Section:
    """Return the verdict with its evidence, from comparison.json, metrics.json, scores.jsonl and the answers."""
    entries, primary = comparison["metrics"], comparison["primary"]
    titles = {name: metric_title(metrics, name) for name in entries}
    one = entries[primary]
    blocks: list[Block] = []
    intervals = [row for row in (_interval(titles[name], entry) for name, entry in entries.items()) if row is not None]
    if intervals:
        label = "gain in standard deviations of the differences; better lies to the right"
        blocks.append(Picture(Forest("forest", _forest_title(entries, titles), label, intervals), key=True))
    headers = ("metric", "base", "tuned", "difference", "95 % interval", "p corrected", "effect dz", "power", "verdict")
    units = f"{one['n']:,} groups of " if one["n"] != one["items"] else ""
    caption = f"Paired over {units}{one['items']:,} test items; {comparison['correction']}."
    if "perplexity" in entries:
        caption += " Perplexity is tested by its logarithm; lower is better."
    rows = [_row(titles[name], entry) for name, entry in entries.items()]
    blocks.append(Table(headers, rows, caption, frozenset({1, 2, 3, 4, 5, 6, 7})))
    blocks.append(Note(_sensitivity(titles[primary], one), key=True))
    blocks += [Note(str(one["why"]))] if one.get("why") else []
    blocks += _tests(titles, entries)
    blocks += _score_figure(scores, titles[primary])
    blocks += _lengths(answers) + _answers(metrics) + _vectors(metrics)
    return Section("comparison", "Did it help?", _finding(titles[primary], one), blocks)


def breakdown_section(breakdowns: Mapping[str, Sequence[Line]], title: str, higher_is_better: bool) -> Section | None:
    """Return base and tuned by the values of each field, from breakdowns.json; None where nothing is divided."""
    blocks: list[Block] = []
    fields = sorted(breakdowns, key=lambda field: FIRST_FIELDS.index(field) if field in FIRST_FIELDS else 99)
    names: set[str] = set()
    for place, field in enumerate(fields[:FIELDS_SHOWN]):
        cells, name = breakdowns[field], f"by-{slug(field)}"
        name = f"{name}-{place}" if name in names else name
        names.add(name)
        usable = [cell for cell in cells if cell["base"] is not None and cell["tuned"] is not None]
        if len(usable) < 2:
            continue
        shown = usable if _is_ordered(usable) else sorted(usable, key=lambda cell: -cell["items"])
        shown = shown[:CELLS_SHOWN]
        told = _breakdown_title(field, usable, higher_is_better)
        blocks.append(Picture(_pairs(name, told, title, shown), key=not blocks))
        if len(usable) > len(shown):
            blocks.append(Note(f"The {len(shown)} largest of {len(usable):,} values of {worded(field)} are shown."))
    if not blocks:
        return None
    finding = f"{title} of base and tuned, by what the rows say of themselves."
    if any(cell["small"] for cells in breakdowns.values() for cell in cells):
        finding += " What is marked (few) rests on so few items that chance alone could give it."
    finding += " Intervals are not corrected for their number: they show where to look, and decide nothing."
    return Section("where", "Where did it help?", finding, blocks)


def flips_section(
    scores: Sequence[Line], answers: Mapping[str, tuple[Line, Line]], title: str, higher_is_better: bool = True
) -> Section:
    """Return the items that gained and lost most by the primary metric, some with their texts, more in a list."""
    sign = -1 if higher_is_better else 1
    ordered = sorted(scores, key=lambda line: (line["difference"] * sign, line["id"]))
    won = [line for line in ordered if line.get("flip") == "won"]
    lost = [line for line in reversed(ordered) if line.get("flip") == "lost"]
    finding = f"By {title}, the tuned model does better on {len(won):,} items and worse on {len(lost):,}."
    blocks: list[Block] = []
    for lines, tone in ((won, "good"), (lost, "bad")):
        known = [line for line in lines[:FLIPS_SHOWN] if line["id"] in answers]
        blocks += [_flip(line, answers[line["id"]], tone, key=place == 0) for place, line in enumerate(known)]
    listing = [*won[:FLIPS_LISTED], *reversed(lost[:FLIPS_LISTED])]
    if listing:
        rows = [_flip_row(line, answers) for line in listing]
        caption = (
            f"The {min(len(won), FLIPS_LISTED)} largest gains of {len(won):,} and the {min(len(lost), FLIPS_LISTED)} "
            f"largest losses of {len(lost):,}; all items stand in 5-evaluate/scores.jsonl."
        )
        headers = ("item", "question", "base", "tuned", "difference")
        blocks.append(Table(headers, rows, caption, frozenset({2, 3, 4}), frozenset({1})))
    return Section("flips", "Which answers changed?", finding, blocks)


def metric_title(metrics: Line, name: str) -> str:
    """Return a metric's name for people, from metrics.json; its short name where none stands there."""
    return str(((metrics.get("metrics", {}).get(name) or {}).get("base") or {}).get("title") or name)


def _forest_title(entries: Line, titles: Mapping[str, str]) -> str:
    by = {
        verdict: [name for name, entry in entries.items() if entry["verdict"] == verdict]
        for verdict in ("improved", "worse")
    }
    told = f"{len(by['improved'])} of {len(entries)} metrics improved"
    return (
        f"{told}; worse: {listed([titles[name] for name in by['worse']], 3)}"
        if by["worse"]
        else f"{told}, none got worse"
    )


def _finding(title: str, entry: Line) -> str:
    low, high = entry["ci95"] or (None, None)
    interval = "" if low is None else f", with 95 % confidence between {number(low, '+')} and {number(high, '+')}"
    p = "" if entry["p_adjusted"] is None else f"; p = {entry['p_adjusted']:.2g} after correction"
    return f"{title} decides. It changed by {number(entry['difference'], '+')}{interval}{p}."


def _interval(title: str, entry: Line) -> Interval | None:
    """Return the gain in standard deviations of the differences; None where all items score the same."""
    if not entry["cohens_dz"] or not entry["ci95"] or not entry["difference"]:
        return None
    scale = entry["cohens_dz"] / entry["difference"] * (1 if entry["higher_is_better"] else -1)
    low, high = sorted(edge * scale for edge in entry["ci95"])
    return Interval(title, entry["difference"] * scale, low, high, entry["verdict"])


def _row(title: str, entry: Line) -> list[str]:
    low, high = entry["ci95"] or (None, None)
    return [
        title,
        number(entry["base"]),
        number(entry["tuned"]),
        number(entry["difference"], "+"),
        NOTHING if low is None else f"{number(low, '+')} to {number(high, '+')}",
        NOTHING if entry["p_adjusted"] is None else f"{entry['p_adjusted']:.4f}",
        number(entry["cohens_dz"], "+", 2),
        percent(entry["power"]),
        entry["verdict"],
    ]


def _tests(titles: Mapping[str, str], entries: Line) -> list[Block]:
    """Return the p-values of every test beside each other, uncorrected, and the effect sizes."""
    names = list(dict.fromkeys(name for entry in entries.values() for name in entry["tests"]))
    tests = [
        [
            titles[name],
            entry.get("role", NOTHING),
            entry.get("decided_by", NOTHING),
            *(_p(entry["tests"].get(test)) for test in names),
        ]
        for name, entry in entries.items()
    ]
    sizes = [
        [titles[name], _effect(entry), number(entry.get("cliffs_delta"), "+", 2), number(entry["minimum_detectable"])]
        for name, entry in entries.items()
    ]
    headers = ("metric", "role", "decided by", *(name.replace("_", " ") for name in names))
    told = "p-values before correction. The test named under “decided by” gives the verdict."
    return [
        Table(headers, tests, told, frozenset(range(3, len(headers)))),
        Table(
            ("metric", "dz, 95 % interval", "Cliff's delta", "smallest detectable"),
            sizes,
            "Effect sizes, and the smallest difference that this test set shows four times in five.",
            frozenset({1, 2, 3}),
        ),
    ]


def _effect(entry: Line) -> str:
    low, high = entry.get("cohens_dz_ci95") or (None, None)
    return NOTHING if low is None else f"{number(low, '+', 2)} to {number(high, '+', 2)}"


def _p(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("p")
    return NOTHING if not isinstance(value, int | float) else f"{value:.2g}"


def _sensitivity(title: str, entry: Line) -> str:
    if entry["minimum_detectable"] is None:
        return "The test set is too small to say what it could have shown."
    return (
        f"With {entry['n']:,} units{_and_seeds(entry)}, this test set shows a difference in {title} of "
        f"{number(entry['minimum_detectable'])} or more in four cases of five. A smaller one could have been missed."
    )


def _and_seeds(entry: Line) -> str:
    return f" and {entry['seeds']['count']} training seeds" if entry.get("seeds") else ""


def _score_figure(scores: Sequence[Line], title: str) -> list[Block]:
    both = [(line["base"], line["tuned"]) for line in scores if line["base"] is not None and line["tuned"] is not None]
    if len(both) < 2:
        return []
    base, tuned = ([pair[side] for pair in both] for side in (0, 1))
    told = f"Half of the items score above {median(tuned):.3g} {title} when tuned, above {median(base):.3g} before"
    return [Picture(_histogram("scores", told, f"{title} of an item", {"base": base, "tuned": tuned}))]


def _lengths(answers: Sequence[tuple[Line, Line]]) -> list[Block]:
    """Return the lengths of the answers; nothing where answers have none, as vectors do."""
    lengths = {
        who: [pair[side]["tokens"] for pair in answers if isinstance(pair[side].get("tokens"), int)]
        for side, who in enumerate(("base", "tuned"))
    }
    if min(len(values) for values in lengths.values()) < 2:
        return []
    references = [base["reference_tokens"] for base, _ in answers if isinstance(base.get("reference_tokens"), int)]
    told = f"An answer has {median(lengths['tuned']):,.0f} tokens when tuned, {median(lengths['base']):,.0f} before"
    told += f"; a reference has {median(references):,.0f} (medians)" if references else " (medians)"
    return [Picture(_histogram("lengths", told, "tokens of an answer", lengths))]


def _histogram(name: str, title: str, label: str, samples: Mapping[str, Sequence[float]]) -> Histogram:
    """Count samples in equal bins over all values but the outermost hundredth, which falls into the last bins."""
    together = sorted(value for values in samples.values() for value in values)
    low, high = together[0], together[min(int(len(together) * 0.995), len(together) - 1)]
    high = high if high > low else low + 1
    width = (high - low) / BINS
    counted = []
    for who, values in samples.items():
        counts = [0] * BINS
        for value in values:
            counts[min(max(int((value - low) / width), 0), BINS - 1)] += 1
        counted.append((who, counts))
    return Histogram(name, title, label, [low + width * place for place in range(BINS + 1)], counted)


def _answers(metrics: Line) -> list[Block]:
    told = metrics.get("answers") or {}
    rows = []
    for who in ("base", "tuned"):
        one = told.get(who)
        if not one or "stopped" not in one:
            return []
        stopped = percent(one["stopped"] / one["asked"]) if one["asked"] else NOTHING
        rows.append((who, f"{one['asked']:,}", stopped, number(one["mean_tokens"], "", 0)))
    return [Table(("answers", "asked", "stopped by themselves", "tokens on average"), rows, "", frozenset({1, 2, 3}))]


def _vectors(metrics: Line) -> list[Block]:
    """Return how vectors lie in their space, and what search finds in families that training knows; see `retrieval`."""
    blocks: list[Block] = []
    by = metrics.get("geometry") or {}
    names = [name for name, value in (by.get("base") or {}).items() if isinstance(value, int | float)]
    if names:
        rows = [(worded(name), number(by["base"][name]), number(by["tuned"].get(name))) for name in names]
        blocks.append(Table(("vectors", "base", "tuned"), rows, "", frozenset({1, 2})))
    known = metrics.get("known_families")
    if known:
        told = f"In families that training knows, with {known['queries']:,} titles that it did not see: "
        blocks.append(Note(told + str(known["comparison"]["sentence"])))
    return blocks


def _pairs(name: str, told: str, title: str, cells: Sequence[Line]) -> Pairs:
    rows = []
    for cell in cells:
        low, high = cell["ci95"] or (None, None)
        rows.append(
            Pair(str(cell["value"]), cell["base"], cell["tuned"], low, high, cell["items"], bool(cell["small"]))
        )
    return Pairs(name, told, title, rows)


def _breakdown_title(field: str, cells: Sequence[Line], higher_is_better: bool) -> str:
    """Say for how many values the interval lies on the good side, and where the gain is largest."""
    sign = 1 if higher_is_better else -1
    measured = [cell for cell in cells if cell["ci95"] and not cell["small"]]
    if not measured:
        return f"By {worded(field)}: too few items in each value to tell gains apart"
    better = [cell for cell in measured if min(sign * edge for edge in cell["ci95"]) > 0]
    best = max(measured, key=lambda cell: sign * cell["difference"])
    told = f"By {worded(field)}: {len(better)} of {len(measured)} intervals lie on the better side of 0"
    if sign * best["difference"] <= 0:
        return f"{told}; none gained"
    return f"{told}; most gained {capped(str(best['value']), 40)} ({number(best['difference'], '+', 3)})"


def _is_ordered(cells: Sequence[Line]) -> bool:
    """Tell whether the values have an order of their own, as difficulties and lengths do."""
    return all(str(cell["value"])[:1].isdigit() for cell in cells)


def _flip(line: Line, answers: tuple[Line, Line], tone: Any, key: bool) -> Passage:
    base, tuned = answers
    title = f"{line['id']}: {number(line['base'])} → {number(line['tuned'])}"
    texts = [
        (name, shortened(str(one.get(key) or NOTHING), TEXT_SHOWN))
        for name, one, key in (("reference", base, "reference"), ("base", base, "answer"), ("tuned", tuned, "answer"))
        if key in one
    ]
    return Passage(shortened(title, 120), shortened(str(base.get("question", "")), TEXT_SHOWN), texts, tone, key)


def _flip_row(line: Line, answers: Mapping[str, tuple[Line, Line]]) -> list[str]:
    question = str(answers[line["id"]][0].get("question", NOTHING)) if line["id"] in answers else NOTHING
    figures = (number(line["base"]), number(line["tuned"]), number(line["difference"], "+"))
    return [capped(str(line["id"]), 24), capped(question, 110), *figures]
