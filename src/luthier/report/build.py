"""From a run folder to the content of its report. Every number is read from a file of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.report.content import Code, Content, Section, Table
from luthier.report.data import data_section
from luthier.report.results import comparison_section, flips_section, topics_section, training_section
from luthier.run.atomic import read_json, read_jsonl
from luthier.run.folder import RunFolder
from luthier.run.record import read_record


def build(folder: RunFolder, recipe_name: str) -> Content:
    """Return the content of a run's report; parts whose stage has not run are left out."""
    record = read_record(folder)
    data, comparison = _read(folder.data_report), _read(folder.comparison)
    sections = _result_sections(folder, comparison) if comparison else []
    trained = _read(folder.train_report)
    if trained:
        sections.append(training_section(list(read_jsonl(folder.training / "metrics.jsonl")), trained))
    sections += [data_section(data)] if data else []
    sections += [_recipe_section(folder), _environment_section(record)]
    return Content(
        title=recipe_name,
        subtitle=f"run {folder.id} · {record['kind']} · {record['created'][:16].replace('T', ' ')}",
        verdict=comparison["verdict"] if comparison else None,
        headline=f"{comparison['verdict'].capitalize()}. {comparison['sentence']}" if comparison else _headline(data),
        facts=[*(_comparison_facts(comparison) if comparison else []), *_facts(data)],
        sections=sections,
    )


def _result_sections(folder: RunFolder, comparison: Mapping[str, Any]) -> list[Section]:
    evaluated = folder.evaluation
    metric = comparison["primary"]
    scores = [line for line in read_jsonl(evaluated / "scores.jsonl") if line["metric"] == metric]
    base, tuned = (
        {line["id"]: line for line in read_jsonl(evaluated / f"answers-{who}.jsonl")} for who in ("base", "tuned")
    )
    topics = topics_section(scores, {item: line["labels"] for item, line in base.items()}, metric)
    answers = {item: (base[item], tuned[item]) for item in base}
    return [
        comparison_section(comparison, read_json(evaluated / "metrics.json")),
        *([topics] if topics else []),
        flips_section(scores, answers, metric),
    ]


def _comparison_facts(comparison: Mapping[str, Any]) -> list[tuple[str, str]]:
    entry = comparison["metrics"][comparison["primary"]]
    facts = [(comparison["primary"], f"{entry['base']:.3f} → {entry['tuned']:.3f}")]
    judged = [one["verdict"] for one in comparison["metrics"].values()]
    return [*facts, ("metrics improved", f"{judged.count('improved')} of {len(judged)}")]


def _headline(data: Mapping[str, Any] | None) -> str:
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


def _recipe_section(folder: RunFolder) -> Section:
    text = folder.recipe.read_text(encoding="utf-8")
    return Section("recipe", "Recipe", "Resolved: every key with the value that was used.", [Code(text)])


def _environment_section(record: Mapping[str, Any]) -> Section:
    rows = [(name.replace("_", " "), str(value)) for name, value in record["machine"].items()]
    rows += [(name, version) for name, version in record["versions"].items()]
    rows.append(("seed", str(record["seed"])))
    finding = "The same recipe on the same machine gives the same result."
    return Section("environment", "Environment", finding, [Table(("", ""), rows)])


def _read(path: Path) -> Any:
    return read_json(path) if path.is_file() else None
