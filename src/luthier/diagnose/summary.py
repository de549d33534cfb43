"""summary.json: what a diagnosis of answers says, as one JSON document.

Its shape, which reports rely on (shares and rates are 0 to 1; "who" is the name of one side, "base" or "tuned"):

    kind          "answers"
    items         number of test items
    sides         ["base", "tuned"], in the order of the comparison
    semantics     {"method": "minilm" | "tfidf", "sentence": how distance of meaning was measured}
    taxonomy      list of {"category", "title", "definition", "subcategories": [{"name", "title", "definition",
                  "certainty": "measured" | "suspected"}]}, eight categories in a fixed order
    detectors     {detector: {"title", "sees", "cannot_see"}}
    thresholds    {criterion: {"detector", "value", "flag": "above" | "below", "source": "validation" | "train" | "test"
                  | "fixed", "rows", "good_flagged": share of the known good texts beyond it, "bad_found": share of the
                  known bad texts beyond it, or null, "rule": one sentence}}
    answers       {who: {"items", "asked", "flagged", "clean", "suspected_only"}} in items
    counts        {category: {"title", "certainty", "by": {who: {"items", "share", "ci95": [low, high]}},
                  "subcategories": {name: {"title", "certainty", "by": {who: items}}}}}
    flow          {"labels": [nine names, "clean" last], "titles": [...], "matrix": [[items]]}; row: main category of
                  the first side, column: of the last
    flips         {"counts": {"fixed", "broken", "still", "clean"}, "items": [{"id", "question", "topic", "flip",
                  "metric_flip": "won" | "lost" | "tie" | null, "gone": [category], "new": [category],
                  <first side>: [category], <last side>: [category]}]}
    patterns      list of {"side", "field", "value", "category", "n", "failed", "rate", "rest_n", "rest_failed",
                  "rest_rate", "lift", "ci95", "p", "p_adjusted", "small", "sentence"}, the surest first
    clusters      list of {"side", "size", "terms": [words], "categories": {category: items}, "exemplar": {"id",
                  "question", "answer", "sentence"}, "ids": [...]}, the largest first
    suggestions   list of {"key": recipe key, "now", "proposed", "sentence", "evidence": {name: number}}
    notes         list of sentences: what could not be diagnosed, and what stood in for what
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.diagnose.base import Given, Line
from luthier.diagnose.calibrate import Threshold
from luthier.diagnose.case import topic_of
from luthier.diagnose.findings import main_category
from luthier.diagnose.meaning import SENTENCES, Method
from luthier.diagnose.taxonomy import as_json, categories, criteria, described

Found = Mapping[str, Sequence[Mapping[str, Any]]]  # id to the findings of its answer
CLEAN = "clean"


def summarise(
    given: Given,
    findings: Mapping[str, Found],
    thresholds: Mapping[str, Threshold],
    source: str,
    method: Method,
    rest: Mapping[str, Any],
) -> dict[str, Any]:
    """Return summary.json.

    Args:
        given: the files of the run. findings: side to id to findings; an id that was not asked is not among them.
        thresholds, source: of the criteria, and from which rows. method: how meaning was measured.
        rest: patterns, clusters, suggestions and notes.
    """
    sides = list(given.answers)
    items = len(next(iter(given.answers.values()), []))
    return {
        "kind": "answers",
        "items": items,
        "sides": sides,
        "semantics": {"method": method, "sentence": SENTENCES[method]},
        "taxonomy": as_json(),
        "detectors": {name: described(name) for name in sorted({one.detector for one in criteria().values()})},
        "thresholds": {name: one.to_json(source) for name, one in thresholds.items()},
        "answers": {who: _answers(items, findings[who]) for who in sides},
        "counts": _counts(sides, findings),
        "flow": _flow(sides, findings),
        "flips": _flips(given, sides, findings),
        **rest,
    }


def interval(count: int, of: int) -> list[float] | None:
    """Return the 95 % interval of a share (Wilson), or None without items."""
    if not of:
        return None
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(count, of, method="wilson")
    return [float(low), float(high)]


def _answers(items: int, found: Found) -> dict[str, int]:
    flagged = [some for some in found.values() if some]
    return {
        "items": items,
        "asked": len(found),
        "flagged": len(flagged),
        "clean": len(found) - len(flagged),
        "suspected_only": sum(all(one["certainty"] == "suspected" for one in some) for some in flagged),
    }


def _counts(sides: Sequence[str], findings: Mapping[str, Found]) -> dict[str, Any]:
    counted = {who: {key: _counted(findings[who], key) for key in ("category", "subcategory")} for who in sides}
    made = {}
    for one in categories():
        by = {}
        for who in sides:
            count, asked = counted[who]["category"][one.name], len(findings[who])
            by[who] = {"items": count, "share": count / asked if asked else 0.0, "ci95": interval(count, asked)}
        subs = {
            sub.name: {
                "title": sub.title,
                "certainty": sub.certainty,
                "by": {who: counted[who]["subcategory"][sub.name] for who in sides},
            }
            for sub in one.subcategories
        }
        made[one.name] = {"title": one.title, "certainty": one.certainty, "by": by, "subcategories": subs}
    return made


def _counted(found: Found, key: str) -> Counter[str]:
    return Counter(name for some in found.values() for name in {str(one[key]) for one in some})


def _flow(sides: Sequence[str], findings: Mapping[str, Found]) -> dict[str, Any]:
    labels = [one.name for one in categories()] + [CLEAN]
    matrix = [[0] * len(labels) for _ in labels]
    first, last = findings[sides[0]], findings[sides[-1]]
    for name in first.keys() & last.keys():
        matrix[labels.index(_main(first[name]))][labels.index(_main(last[name]))] += 1
    return {"labels": labels, "titles": [*(one.title for one in categories()), "Clean"], "matrix": matrix}


def _main(some: Sequence[Mapping[str, Any]]) -> str:
    return main_category([str(one["category"]) for one in some])


def _flips(given: Given, sides: Sequence[str], findings: Mapping[str, Found]) -> dict[str, Any]:
    won = {line["id"]: line["flip"] for line in given.scores if line.get("flip")}
    items = [
        _flip(line, sides, findings, won.get(line["id"]))
        for line in given.answers[sides[-1]]
        if all(line["id"] in findings[who] for who in sides)
    ]
    counts = Counter(one["flip"] for one in items)
    return {"counts": {name: counts[name] for name in ("fixed", "broken", "still", "clean")}, "items": items}


def _flip(line: Line, sides: Sequence[str], findings: Mapping[str, Found], metric: str | None) -> dict[str, Any]:
    had, has = ([*dict.fromkeys(one["category"] for one in findings[who][line["id"]])] for who in (sides[0], sides[-1]))
    flip = ("still" if has else "fixed") if had else ("broken" if has else CLEAN)
    return {
        "id": line["id"],
        "question": line["question"],
        "topic": topic_of(line.get("labels") or {}) or None,
        "flip": flip,
        "metric_flip": metric,
        "gone": [name for name in had if name not in has],
        "new": [name for name in has if name not in had],
        sides[0]: had,
        sides[-1]: has,
    }
