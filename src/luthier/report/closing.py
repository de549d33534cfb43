"""What the evidence does not say, and how to make the run again: the last parts of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.report.content import Block, Code, Note, Section, Table
from luthier.report.data import truncation_sentence
from luthier.report.words import many, percent
from luthier.run.folder import RunFolder

Found = Mapping[str, Any] | None


def limits_section(
    comparison: Found, metrics: Mapping[str, Any], data: Found, trained: Found, diagnosis: Found
) -> Section | None:
    """Return what a reader must not conclude, from what the stages found; None before there is anything to limit."""
    told = [*_of_failures(comparison, diagnosis), *_of_comparison(comparison), *_of_seeds(comparison, trained)]
    told += [*_of_answers(metrics), *_of_data(data), *_of_diagnosis(diagnosis)]
    if not told:
        return None
    blocks: list[Block] = [Note(sentence, key=True) for sentence in told]
    return Section(
        "limits",
        "What does it not say?",
        f"{many(len(told), 'limit')} of this evidence, each from the run itself.",
        blocks,
    )


def reproduce_sections(folder: RunFolder, record: Mapping[str, Any]) -> list[Section]:
    """Return the recipe, and the machine and versions that the run was made with."""
    recipe = Code(folder.recipe.read_text(encoding="utf-8"))
    rows = [("seed", str(record["seed"]))] if "seed" in record else []
    rows += [(name.replace("_", " "), str(value)) for name, value in record.get("machine", {}).items()]
    rows += [(name, str(version)) for name, version in record.get("versions", {}).items()]
    stages = [
        (
            one["name"],
            one["status"],
            f"{one['seconds']:,.1f} s" if "seconds" in one else "–",
            one.get("adopted_from", ""),
        )
        for one in record["stages"]
    ]
    blocks: list[Block] = [
        Table(("machine and versions", ""), rows),
        Table(("stage", "status", "time", "taken from run"), stages, "", frozenset({2})),
        Note("The recipe, resolved: every key with the value that was used."),
        recipe,
    ]
    finding = "The same recipe with the same versions on the same machine gives the same result."
    return [Section("reproduce", "How to make it again?", finding, blocks)]


def _of_failures(comparison: Found, diagnosis: Found) -> list[str]:
    """Say that better is not good, where most of the tuned answers still carry a failure."""
    if not comparison or not diagnosis:
        return []
    tuned = diagnosis["answers"][diagnosis["sides"][-1]]
    if not tuned["items"] or tuned["flagged"] / tuned["items"] < 0.5:
        return []
    flagged = f"{tuned['flagged']:,} of {tuned['items']:,} answers of the tuned model are flagged as failures"
    return [f"The verdict compares with the base and does not say that the model is good: {flagged}."]


def _of_comparison(comparison: Found) -> list[str]:
    if not comparison:
        return []
    entry = comparison["metrics"][comparison["primary"]]
    told = [f"The verdict rests on {many(entry['items'], 'test item')}; other questions may show another picture."]
    if entry["n"] != entry["items"]:
        told.append(f"Variants of one question count once: {entry['n']:,} independent groups, not {entry['items']:,}.")
    if entry["power"] is not None and entry["power"] < 0.8:
        told.append(f"The chance to see an effect of this size again is {percent(entry['power'])}, less than 80 %.")
    return told


def _of_answers(metrics: Mapping[str, Any]) -> list[str]:
    told = []
    for who, one in (metrics.get("answers") or {}).items():
        cut = one.get("asked", 0) - one.get("stopped", 0)
        if one.get("asked") and cut and "stopped" in one:
            told.append(
                f"{percent(cut / one['asked'])} of the answers of {who} were cut off at the longest length allowed."
            )
    return told


def _of_data(data: Found) -> list[str]:
    if not data:
        return []
    told = (
        [] if not data["leaks"] else [f"The splits overlap ({many(len(data['leaks']), 'leak')}): scores may flatter."]
    )
    if data["statistics"]["splits"]["all"]["truncation"]["rows"]:
        told.append(truncation_sentence(data["statistics"]))
    return told


def _of_seeds(comparison: Found, trained: Found) -> list[str]:
    seeds = (comparison or {}).get("seeds") or {}
    told = seeds.get("sentence")
    if told or not trained:
        first = ["Answers, changes item by item and the diagnosis are those of the first training seed."]
        return [str(told), *(first if seeds.get("count", 1) > 1 else [])] if told else []
    return ["One training seed was run: how much another would change the result is unknown."]


def _of_diagnosis(diagnosis: Found) -> list[str]:
    if not diagnosis:
        return []
    return [
        f"{many(one['suspected_only'], 'answer')} of {who} carry a suspicion only, which no computation can confirm."
        for who, one in diagnosis["answers"].items()
        if one.get("suspected_only")
    ]
