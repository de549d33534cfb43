"""How much is the luck of a seed: the part of the report about several training seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from luthier.report.content import Block, Note, Picture, Section, Table
from luthier.report.figures import Dots, Spread
from luthier.report.words import NOTHING, listed, number, percent, seconds_in_words

Line = Mapping[str, Any]
SEEDS_NAMED = 8  # in a sentence
SEEDS_SHOWN = 8  # columns of a table


def seeds_section(comparison: Line, trained: Line | None, titles: Mapping[str, str]) -> Section | None:
    """Return the gain of each training seed from comparison.json and train.json; None where one was trained."""
    told = comparison.get("seeds") or {}
    if told.get("count", 1) < 2:
        return None
    each = list((trained or {}).get("seeds") or [])
    names = [str(one["seed"]) for one in each] or [f"{place + 1}" for place in range(told["count"])]
    entries = {name: entry for name, entry in comparison["metrics"].items() if entry.get("seeds")}
    rows = [row for row in (_spread(titles[name], entry) for name, entry in entries.items()) if row is not None]
    blocks: list[Block] = []
    if rows:
        label = f"gain in standard deviations of the differences, filled: seed {names[0]}; better lies to the right"
        blocks.append(Picture(Dots("seeds", _title(entries, titles), label, rows), key=True))
    blocks += [_differences(entries, titles, names), *_trainings(each)]
    blocks.append(
        Note(
            f"The comparison and its breakdowns are means over the seeds {listed(names, SEEDS_NAMED)}. The adapter of "
            f"the run is that of seed {names[0]}: the answers shown, the changes item by item, the text that may have "
            "been forgotten and the diagnosis are of that seed alone."
        )
    )
    return Section("seeds", "How much is the luck of a seed?", str(told["sentence"]), blocks)


def _title(entries: Line, titles: Mapping[str, str]) -> str:
    """Say for which metrics the seeds do not even agree on the direction."""
    split = [
        titles[name]
        for name, entry in entries.items()
        if min(entry["seeds"]["differences"]) < 0 < max(entry["seeds"]["differences"])
    ]
    if not split:
        return f"All seeds move the same way on each of {len(entries)} metrics"
    return f"The seeds do not agree on the direction of {listed(split, 3)}"


def _spread(title: str, entry: Line) -> Spread | None:
    """Return each seed's gain in standard deviations of the differences; None where all items score the same."""
    told = entry["seeds"]
    each = told["differences"]
    # `difference` is in what people read, the seeds are in what was tested: of perplexity, logarithms.
    mean = sum(each) / len(each) if entry["logarithmic"] else entry["difference"]
    if not entry["cohens_dz"] or not mean:
        return None
    scale = entry["cohens_dz"] / mean * (1 if entry["higher_is_better"] else -1)
    noise = NOTHING if told["share"] is None else f"seeds: {percent(told['share'])} of the variance"
    return Spread(title, [one * scale for one in each], noise)


def _differences(entries: Line, titles: Mapping[str, str], names: Sequence[str]) -> Table:
    shown = names[:SEEDS_SHOWN]
    rows = [
        [
            titles[name] + (" (logarithm)" if entry["logarithmic"] else ""),
            *(number(one, "+") for one in entry["seeds"]["differences"][:SEEDS_SHOWN]),
            number(entry["seeds"]["noise"]),
            percent(entry["seeds"]["share"]),
        ]
        for name, entry in entries.items()
    ]
    headers = ("difference to base", *(f"seed {name}" for name in shown), "noise", "share of variance")
    caption = (
        "Noise: standard deviation between seeds. Share: part of the variance of the mean difference that it makes."
    )
    if len(names) > len(shown):
        caption += f" The first {len(shown)} of {len(names)} seeds are shown."
    return Table(headers, rows, caption, frozenset(range(1, len(headers))))


def _trainings(each: Sequence[Line]) -> list[Block]:
    rows = [
        (
            str(one["seed"]),
            f"{one['steps']:,}",
            seconds_in_words(one["seconds"]),
            number(one["best_validation_loss"]),
            "holds" if one["adapter_proof"]["holds"] else "DOES NOT HOLD",
        )
        for one in each
    ]
    headers = ("seed", "steps", "time", "best validation loss", "proof of its adapter")
    return [Table(headers, rows, "", frozenset({1, 2, 3}))] if rows else []
