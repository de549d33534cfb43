"""Precision and recall of the diagnosis on a labelled set of answers.

    python benchmarks/diagnosis.py                 # the held-out third; --part development for the other two

The set is tests/diagnose/labelled.jsonl, written and labelled before the detectors: answers to questions on AI and
machine learning, support, domain names and press inquiries, in English, German, Spanish and Chinese, each with zero or
more sub-categories of the taxonomy. The questions are divided by hash: a third is held out, and no detector was tuned
on it. What a run would know of its data comes from elsewhere: for AI and machine learning, InterviewMate's rows whose
sources are not among the questions; for the rest, tests/diagnose/mixed.jsonl. Thresholds are set on a fifth (a third)
of these rows, as a run sets them on its validation split. Prints precision, recall and F1 by category, recall by
sub-category, and how many clean answers are flagged; with --json, one document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from luthier.data.rows import Row
from luthier.diagnose.answers import Yardstick, set_up
from luthier.diagnose.base import Given
from luthier.diagnose.case import Case, case_of
from luthier.diagnose.findings import find, texts_of
from luthier.diagnose.taxonomy import categories

ROOT = Path(__file__).parents[1]
LABELLED = ROOT / "tests" / "diagnose" / "labelled.jsonl"
MIXED = ROOT / "tests" / "diagnose" / "mixed.jsonl"
SHIPPED = ROOT / "src" / "luthier" / "recipes" / "interviewmate" / "data" / "questions.jsonl"


def main() -> None:
    """Measure once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("held-out", "development"), default="held-out")
    parser.add_argument("--method", choices=("minilm", "tfidf"), default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.part, options.method)
    print(json.dumps(result, indent=2) if options.json else rendered(result))


def measure(part: str, method: Any = None) -> dict[str, Any]:
    """Return what the detectors find in a part of the labelled set, beside its labels."""
    labelled = read(LABELLED)
    started = time.perf_counter()
    pairs, method_used = [], ""
    for project in ("interview", "mixed"):
        lines = [line for line in labelled if project_of(line) == project]
        yardstick = yardstick_of(project, labelled, lines, method)
        method_used = yardstick.ground.meaning.encoder.method
        pairs += [(line, found(line, yardstick)) for line in lines if part_of(line["question_id"]) == part]
    projects = {
        name: scored([pair for pair in pairs if project_of(pair[0]) == name])["macro_f1"]
        for name in ("interview", "mixed")
    }
    return {
        "part": part,
        "answers": len(pairs),
        "meaning": method_used,
        "seconds": round(time.perf_counter() - started, 1),
        **scored(pairs),
        "macro_f1_ci95": interval(pairs),
        "macro_f1_by_project": projects,
    }


def interval(pairs: list[tuple[dict[str, Any], set[tuple[str, str]]]]) -> list[float]:
    """Return the 95 % interval of macro-F1: percentiles of 1,000 bootstrap samples of questions with their answers."""
    by: dict[str, list[Any]] = {}
    for pair in pairs:
        by.setdefault(pair[0]["question_id"], []).append(pair)
    draw, questions = random.Random(0), sorted(by)
    values = sorted(
        scored([pair for one in draw.choices(questions, k=len(questions)) for pair in by[one]])["macro_f1"]
        for _ in range(1_000)
    )
    return [values[24], values[974]]


def scored(pairs: list[tuple[dict[str, Any], set[tuple[str, str]]]]) -> dict[str, Any]:
    """Return precision, recall and F1 by category, recall by sub-category, and the clean answers that are flagged."""
    hit: Counter[str] = Counter()
    false: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    subs: Counter[tuple[str, bool]] = Counter()
    clean = flagged = 0
    for line, got in pairs:
        want = {one["category"] for one in line["categories"]}
        names = {category for category, _ in got}
        hit.update(want & names)
        false.update(names - want)
        missed.update(want - names)
        for one in line["categories"]:
            subs[one["subcategory"], (one["category"], one["subcategory"]) in got] += 1
        clean += not want
        flagged += not want and bool(names)
    table = {}
    for one in categories():
        precision = hit[one.name] / max(hit[one.name] + false[one.name], 1)
        recall = hit[one.name] / max(hit[one.name] + missed[one.name], 1)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        table[one.name] = {
            "labelled": hit[one.name] + missed[one.name],
            "precision": round(precision, 3),
            "recall": round(recall, 3),
            "f1": round(f1, 3),
        }
    names = [sub.name for one in categories() for sub in one.subcategories]
    return {
        "macro_f1": round(sum(one["f1"] for one in table.values()) / len(table), 3),
        "categories": table,
        "subcategories": {name: [subs[name, True], subs[name, True] + subs[name, False]] for name in names},
        "clean": clean,
        "clean_flagged": flagged,
    }


def yardstick_of(project: str, labelled: list[dict[str, Any]], lines: list[dict[str, Any]], method: Any) -> Yardstick:
    """Return what the answers of a project are held against: rows that are not in the labelled set."""
    sources = {line["question_id"] for line in labelled}
    rows = [row for row in read(SHIPPED) if row["source_id"] not in sources] if project == "interview" else read(MIXED)
    every = 5 if project == "interview" else 3
    kept = [hashed(row.get("source_id", row["id"])) % every == 0 for row in rows]
    train = [as_row(row) for row, held in zip(rows, kept, strict=True) if not held]
    validation = [as_row(row) for row, held in zip(rows, kept, strict=True) if held]
    yardstick = set_up(Given({}, [], train, validation), [case_of_line(line) for line in lines], method)
    every_text = (
        text for line in lines for text in texts_of(case_of_line(line), yardstick.ground, yardstick.thresholds)
    )
    yardstick.ground.meaning.prepare(every_text)
    return yardstick


def found(line: dict[str, Any], yardstick: Yardstick) -> set[tuple[str, str]]:
    """Return the sub-categories, each with its category, that the detectors find in an answer."""
    some = find(case_of_line(line), yardstick.ground, yardstick.thresholds)
    return {(one.subcategory.category, one.subcategory.name) for one in some}


def case_of_line(line: dict[str, Any]) -> Case:
    """Return the case of a labelled answer; whether the model stopped by itself is not told."""
    return case_of({**line, "labels": {"topic": line["topic"], "key_points": line["key_points"]}})


def as_row(row: dict[str, Any]) -> Row:
    """Return a question and its answer as a row of the training data."""
    turns = [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}]
    return Row(row["id"], "chat", {"messages": turns}, "rows.jsonl", 1, labels={"topic": row["topic"]})


def project_of(line: dict[str, Any]) -> str:
    """Return the project of a labelled answer: English questions on AI and machine learning, or the mixed rest."""
    return "interview" if line["topic"] in topics() and line["question"].isascii() else "mixed"


def topics() -> set[str]:
    """Return the topics of InterviewMate."""
    return {row["topic"] for row in read(SHIPPED)}


def part_of(question: str) -> str:
    """Return the part that a question and all of its answers belong to."""
    return "held-out" if hashed(question) % 3 == 0 else "development"


def hashed(text: str) -> int:
    """Return a number that hangs on the text alone."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rendered(result: dict[str, Any]) -> str:
    """Return the tables as they stand in docs/diagnosis.md."""
    lines = [
        f"{result['answers']} answers ({result['part']}), meaning by {result['meaning']}, {result['seconds']} s",
        "",
        "| category | labelled | precision | recall | F1 |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, one in result["categories"].items():
        lines.append(f"| {name} | {one['labelled']} | {one['precision']:.2f} | {one['recall']:.2f} | {one['f1']:.2f} |")
    lines += [
        "",
        f"Macro-F1 {result['macro_f1']:.3f}; {result['clean_flagged']} of {result['clean']} clean answers flagged.",
    ]
    lines += ["", "| sub-category | found as such |", "| --- | --- |"]
    lines += [f"| {name} | {hit} of {of} |" for name, (hit, of) in result["subcategories"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
