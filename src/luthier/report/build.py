"""From a run folder to the content of its report. Every number is read from a file of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.report.beside import export_section, forgetting_section
from luthier.report.closing import limits_section, reproduce_sections
from luthier.report.content import Content, Section
from luthier.report.data import data_section
from luthier.report.diagnosis import diagnosis_section
from luthier.report.judge import judge_section
from luthier.report.results import breakdown_section, comparison_section, flips_section, metric_title
from luthier.report.seeds import seeds_section
from luthier.report.training import training_section
from luthier.report.words import number, unbroken
from luthier.run.atomic import read_json, read_jsonl
from luthier.run.folder import RunFolder
from luthier.run.record import read_record

SIDES = ("base", "tuned")


def build(folder: RunFolder, recipe_name: str) -> Content:
    """Return the content of a run's report; parts whose stage has not run are left out."""
    record, data = read_record(folder), _read(folder.data_report)
    comparison, metrics = _read(folder.comparison), _read(folder.metrics_report) or {}
    diagnosis, trained, plan = _read(folder.diagnosis), _read(folder.train_report), _read(folder.plan_report)
    sections = _evaluation_sections(folder, comparison, metrics, diagnosis, trained) if comparison else []
    sections += [data_section(data)] if data else []
    sections += [training_section(_lines(folder.metrics), trained, plan, _lines(folder.guards))] if trained else []
    exported = export_section(_read(folder.verification) or {})
    sections += [exported] if exported else []
    limits = limits_section(comparison, metrics, data, trained, diagnosis)
    sections += [limits] if limits else []
    sections += reproduce_sections(folder, record)
    return Content(
        title=recipe_name,
        subtitle=f"run {folder.id} · {record['kind']} · {record['created'][:16].replace('T', ' ')}",
        verdict=comparison["verdict"] if comparison else None,
        headline=unbroken(_headline(comparison, data)),
        facts=[*(_comparison_facts(comparison, metrics) if comparison else []), *_facts(data)],
        sections=sections,
    )


def _evaluation_sections(
    folder: RunFolder,
    comparison: Mapping[str, Any],
    metrics: Mapping[str, Any],
    diagnosis: Mapping[str, Any] | None,
    trained: Mapping[str, Any] | None,
) -> list[Section]:
    primary = comparison["primary"]
    title, higher = metric_title(metrics, primary), comparison["metrics"][primary]["higher_is_better"]
    scores = [line for line in _lines(folder.scores) if line["metric"] == primary]
    base, tuned = ({line["id"]: line for line in _lines(folder.answers(who))} for who in SIDES)
    answers = {item: (line, tuned[item]) for item, line in base.items() if item in tuned}
    where = breakdown_section(_read(folder.breakdowns) or {}, title, higher)
    sections = [comparison_section(comparison, metrics, scores, list(answers.values()))]
    seeds = seeds_section(comparison, trained, {name: metric_title(metrics, name) for name in comparison["metrics"]})
    sections += [one for one in (seeds, where) if one]
    forgotten = _read(folder.forgetting)
    sections += [forgetting_section(forgotten)] if forgotten else []
    judged = _read(folder.judge)
    sections += [judge_section(judged)] if judged else []
    sections += [diagnosis_section(diagnosis)] if diagnosis else []
    return [*sections, flips_section(scores, answers, title, higher)]


def _comparison_facts(comparison: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    primary = comparison["primary"]
    entry = comparison["metrics"][primary]
    change = f"{number(entry['base'], '', 3)} → {number(entry['tuned'], '', 3)}"
    judged = [one["verdict"] for one in comparison["metrics"].values()]
    improved = f"{judged.count('improved')} of {len(judged)}"
    return [(metric_title(metrics, primary), change), ("metrics improved", improved)]


def _headline(comparison: Mapping[str, Any] | None, data: Mapping[str, Any] | None) -> str:
    if comparison:
        return f"{comparison['verdict'].capitalize()}. {comparison['sentence']}"
    if data is None:
        return "Nothing has been prepared yet."
    rows = data["rows"]
    leak = "the splits share rows" if data["leaks"] else "no row of one split was found again in another"
    return f"The data is ready: {rows['train']:,} rows to train on, {rows['test']:,} held out, and {leak}."


def _facts(data: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if data is None:
        return []
    rows = data["rows"]
    return [
        ("rows found", f"{rows['found']:,}"),
        ("rejected", f"{rows['rejected']:,}"),
        ("train", f"{rows['train']:,}"),
        ("validation", f"{rows['validation']:,}"),
        ("test", f"{rows['test']:,}"),
    ]


def _read(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _lines(path: Path) -> list[Any]:
    return list(read_jsonl(path)) if path.is_file() else []
