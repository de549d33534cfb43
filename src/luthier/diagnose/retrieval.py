"""The diagnosis of searches: confusions between families, hubs, near misses, and how vectors lie on the sphere.

A hub is a text that is among the first ten of far more queries than the average text (Radovanović et al. 2010, JMLR
11): more than the mean and three standard deviations of its Poisson count. The skewness of these counts says how much
of the search goes to a few texts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from luthier.diagnose.base import Diagnosis, Given, Line
from luthier.diagnose.patterns import patterns
from luthier.diagnose.summary import CLEAN, interval
from luthier.run.progress import Progress

TABLE = Path(__file__).with_name("retrieval.yaml")
SHOWN = 20  # confusions and hubs that the summary lists
COLLAPSED = 0.8  # mean similarity of any two texts from which a space says little
SPREAD = 0.1  # rise of it over the base that is worth a word
SENSITIVE = 0.98  # similarity of a text to itself in capitals below which case matters
Found = dict[str, list[dict[str, Any]]]


def diagnose_retrieval(given: Given, progress: Progress) -> Diagnosis:
    """Diagnose the searches of every side, and say what they have in common.

    summary.json has the shape that `luthier.diagnose.summary` describes, with `kind` "retrieval", and besides, by side:
    `confusions` (family asked, family found, how often, an example), `hubs` (texts, how many queries find them) and
    `hubness` (skewness of the counts), `geometry` and `sensitivity` as in metrics.json.
    """
    lines = {who: [line for line in some if line.get("ranks")] for who, some in given.answers.items()}
    corpus = int(given.metrics.get("corpus") or 0)
    hubs = {who: hubs_of(some, corpus) for who, some in lines.items()}
    findings: dict[str, Found] = {}
    for who, some in lines.items():
        names = {hub["id"] for hub in hubs[who]["hubs"]}
        with progress.task(f"diagnosis of {who}", len(some), "queries") as advance:
            findings[who] = {line["id"]: found_in(line, names) for line in some}
            advance(len(some))
    common = [
        cell
        for who, some in lines.items()
        for cell in patterns(
            some, {name: [one["category"] for one in found] for name, found in findings[who].items()}, who
        )
    ]
    summary = {
        **_counted(given, lines, findings),
        "patterns": sorted(common, key=lambda cell: (cell["p"], -cell["failed"])),
        "clusters": [],
        "suggestions": _suggestions(given),
        "notes": _notes(given, lines),
        "confusions": {who: confusions(some) for who, some in lines.items()},
        "hubs": {who: found["hubs"][:SHOWN] for who, found in hubs.items()},
        "hubness": {who: found["skewness"] for who, found in hubs.items()},
        "geometry": given.metrics.get("geometry"),
        "sensitivity": given.metrics.get("sensitivity"),
    }
    errors = [
        {"id": name, "side": who, **one}
        for name in (line["id"] for line in next(iter(lines.values()), []))
        for who in lines
        for one in findings[who].get(name, [])
    ]
    return Diagnosis(errors, summary)


def found_in(line: Line, hubs: set[str]) -> list[dict[str, Any]]:
    """Return what is wrong with one search: category, evidence and a sentence for each finding."""
    first, retrieved = line["ranks"][0], line["retrieved"]
    within = sum(one["relevant"] for one in retrieved)
    possible = min(line["relevant"], len(retrieved))
    wrong = next((one for one in retrieved if not one["relevant"]), None)
    found = []
    if first > len(retrieved):
        found.append(_finding("missed", line, f"the first text of its own is at rank {first}", wrong))
    elif first > 3:
        found.append(_finding("confused", line, f"{first - 1} texts of other families stand before its own", wrong))
    elif first > 1:
        found.append(_finding("near_miss", line, f"the first text of its own is at rank {first}", wrong))
    elif 2 * within < possible:
        found.append(_finding("incomplete", line, f"{within} of {possible} are among the first ten", wrong))
    if first > 1 and retrieved and retrieved[0]["id"] in hubs:
        found.append(_finding("hub", line, f"{retrieved[0]['text']!r} is found by many queries", retrieved[0]))
    return found


def hubs_of(lines: Sequence[Line], corpus: int) -> dict[str, Any]:
    """Return the hubs among the texts found, most found first, and the skewness of the counts of all texts.

    Args:
        lines: searches with what they found. corpus: how many texts were searched.
    """
    counts = Counter(one["id"] for line in lines for one in line["retrieved"])
    texts = {one["id"]: one for line in lines for one in line["retrieved"]}
    size = max(corpus, len(counts))
    if not counts:
        return {"hubs": [], "skewness": None}
    every = np.zeros(size)
    every[: len(counts)] = list(counts.values())
    spread = every.std()
    mean = every.mean()
    limit = mean + 3 * math.sqrt(mean)
    hubs = [
        {"id": name, "text": texts[name]["text"], "families": texts[name]["families"], "queries": count}
        for name, count in counts.most_common()
        if count > limit
    ]
    skewness = float((((every - mean) / spread) ** 3).mean()) if spread > 0 else 0.0
    return {"hubs": hubs, "skewness": skewness}


def confusions(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return which family is found where another was asked for: counted over queries whose first text is wrong."""
    cases: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in lines:
        first = next(iter(line["retrieved"]), None)
        if first is not None and not first["relevant"]:
            cases[str(line["group"]), ", ".join(first["families"]) or first["text"]].append(line)
    ordered = sorted(cases.items(), key=lambda case: (-len(case[1]), case[0]))
    return [
        {
            "asked": asked,
            "found": other,
            "queries": len(some),
            "example": {
                "question": some[0]["question"],
                "answer": some[0]["retrieved"][0]["text"],
                "similarity": some[0]["retrieved"][0]["similarity"],
                "rank": some[0]["ranks"][0],
            },
        }
        for (asked, other), some in ordered[:SHOWN]
    ]


def _finding(category: str, line: Line, evidence: str, wrong: Line | None) -> dict[str, Any]:
    instead = f"; instead {wrong['text']!r} ({', '.join(wrong['families'])})" if wrong else ""
    return {
        "category": category,
        "subcategory": category,
        "certainty": "measured",
        "rank": line["ranks"][0],
        "sentence": f"{line['question']!r}: {evidence}{instead}.",
    }


def _counted(given: Given, lines: Mapping[str, Sequence[Line]], findings: Mapping[str, Found]) -> dict[str, Any]:
    sides, kinds = list(lines), _categories()
    answers, counts = {}, {}
    for who in sides:
        flagged = sum(bool(found) for found in findings[who].values())
        asked = len(findings[who])
        answers[who] = {"items": len(given.answers[who]), "asked": asked, "flagged": flagged, "clean": asked - flagged}
        answers[who]["suspected_only"] = 0
    for one in kinds:
        by = {}
        for who in sides:
            number = sum(any(each["category"] == one["name"] for each in found) for found in findings[who].values())
            asked = len(findings[who])
            by[who] = {"items": number, "share": number / asked if asked else 0.0, "ci95": interval(number, asked)}
        counts[one["name"]] = {"title": one["title"], "certainty": "measured", "by": by, "subcategories": {}}
    return {
        "kind": "retrieval",
        "items": len(next(iter(given.answers.values()), [])),
        "sides": sides,
        "semantics": None,
        "taxonomy": [
            {"category": one["name"], "title": one["title"], "definition": one["definition"], "subcategories": []}
            for one in kinds
        ],
        "detectors": {},
        "thresholds": {},
        "answers": answers,
        "counts": counts,
        "flow": _flow(sides, findings),
        "flips": _flips(given, sides, lines, findings),
    }


def _flow(sides: Sequence[str], findings: Mapping[str, Found]) -> dict[str, Any]:
    labels = [one["name"] for one in _categories()] + [CLEAN]
    matrix = [[0] * len(labels) for _ in labels]
    first, last = findings[sides[0]], findings[sides[-1]]
    for name in first.keys() & last.keys():
        matrix[labels.index(_main(first[name]))][labels.index(_main(last[name]))] += 1
    return {"labels": labels, "titles": [*(one["title"] for one in _categories()), "Clean"], "matrix": matrix}


def _main(found: Sequence[Mapping[str, Any]]) -> str:
    return str(found[0]["category"]) if found else CLEAN


def _flips(
    given: Given, sides: Sequence[str], lines: Mapping[str, Sequence[Line]], findings: Mapping[str, Found]
) -> dict[str, Any]:
    metric = {line["id"]: line["flip"] for line in given.scores if line.get("flip")}
    items = []
    for line in lines[sides[-1]]:
        had, has = ([one["category"] for one in findings[who].get(line["id"], [])] for who in (sides[0], sides[-1]))
        flip = ("still" if has else "fixed") if had else ("broken" if has else CLEAN)
        items.append(
            {
                "id": line["id"],
                "question": line["question"],
                "topic": line["group"],
                "flip": flip,
                "metric_flip": metric.get(line["id"]),
                "gone": [name for name in had if name not in has],
                "new": [name for name in has if name not in had],
                sides[0]: had,
                sides[-1]: has,
            }
        )
    counts = Counter(one["flip"] for one in items)
    return {"counts": {name: counts[name] for name in ("fixed", "broken", "still", CLEAN)}, "items": items}


def _suggestions(given: Given) -> list[dict[str, Any]]:
    """Return what to change where the tuned space lies closer together than the base's, or has collapsed."""
    both = given.metrics.get("geometry") or {}
    base, tuned = ((both.get(who) or {}).get("mean_similarity") for who in ("base", "tuned"))
    if base is None or tuned is None or (tuned < COLLAPSED and tuned - base < SPREAD):
        return []
    rate = given.settings.get("training.learning_rate")
    if tuned >= COLLAPSED and isinstance(rate, int | float):
        sentence = (
            f"Any two texts have a similarity of {tuned:.2f} on average (base {base:.2f}): the space has collapsed."
        )
        evidence = {"tuned_mean_similarity": tuned, "base_mean_similarity": base}
        return [
            {
                "key": "training.learning_rate",
                "now": rate,
                "proposed": rate / 4,
                "sentence": sentence,
                "evidence": evidence,
            }
        ]
    return []


def _notes(given: Given, lines: Mapping[str, Sequence[Line]]) -> list[str]:
    notes = []
    for who, some in lines.items():
        missing = len(given.answers[who]) - len(some)
        if missing:
            notes.append(f"{missing} items of {who} are scored pairs, which are not searched and not diagnosed here.")
    for who, one in (given.metrics.get("geometry") or {}).items():
        similar = (one or {}).get("mean_similarity")
        if similar is not None and similar >= COLLAPSED:
            notes.append(f"{who}: any two texts have a similarity of {similar:.2f} on average; thresholds mean little.")
    for who, one in (given.metrics.get("sensitivity") or {}).items():
        if one and one["upper_case"] < SENSITIVE:
            notes.append(
                f"{who}: a text and the same in capitals have a similarity of {one['upper_case']:.2f}: case matters to "
                "this base. Write titles in one way, or choose an uncased base."
            )
    return notes


@cache
def _categories() -> list[dict[str, str]]:
    table: list[dict[str, str]] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["categories"]
    return table
