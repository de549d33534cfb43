"""A run in a few lines of text: what `luthier runs` lists and what a verb prints at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from luthier.run.atomic import read_json
from luthier.run.folder import RunFolder, list_runs
from luthier.run.record import read_record

NOTHING = "–"


def overview(runs: Path, name: str | None = None) -> list[dict[str, Any]]:
    """Return one line a run, newest first: run, kind, status, stages complete, verdict and primary metric."""
    return [_line(folder) for folder in list_runs(runs, name)]


def render_overview(rows: list[dict[str, Any]], runs: Path) -> str:
    """Return the lines of `overview` as a text table."""
    if not rows:
        return f"No runs in {runs}. Start one with: luthier run RECIPE"
    table = [("run", "status", "stages", "verdict", "primary metric")]
    for row in rows:
        metric = row["primary_metric"]
        told = f"{metric['name']} {metric['base']:.3f} → {metric['tuned']:.3f}" if metric else NOTHING
        stages = f"{row['stages_complete']} of {row['stages']}"
        table.append((row["run"], row["status"], stages, row["verdict"] or NOTHING, told))
    return columns(table)


def summary(folder: RunFolder) -> str:
    """Return what a run has come to: its data, what training took, base against tuned where compared, its files."""
    lines = [*_data_lines(folder), *_training_lines(folder), *_comparison_lines(folder)]
    if folder.page.is_file():
        lines.append(f"\nreport: {folder.page}")
    lines.append(f"run:    {folder.path}")
    return "\n".join(lines)


def columns(table: Sequence[tuple[str, ...]]) -> str:
    """Return rows of text in aligned columns; cells that start with a digit, or a sign and a digit, go to the right."""
    widths = [max(len(row[place]) for row in table) for place in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if cell[:1].isdigit() or cell[1:2].isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _line(folder: RunFolder) -> dict[str, Any]:
    record = read_record(folder)
    comparison = _read(folder.comparison)
    primary = (comparison or {}).get("primary")
    entry = (comparison or {}).get("metrics", {}).get(primary)
    return {
        "run": f"{record['name']}/{folder.id}",
        "path": str(folder.path),
        "kind": record["kind"],
        "created": record["created"],
        "status": record["status"],
        "stages_complete": sum(stage["status"] == "complete" for stage in record["stages"]),
        "stages": len(record["stages"]),
        "verdict": (comparison or {}).get("verdict"),
        "primary_metric": {"name": primary, "base": entry["base"], "tuned": entry["tuned"]} if entry else None,
    }


def _data_lines(folder: RunFolder) -> list[str]:
    report = _read(folder.data_report)
    if report is None:
        return []
    rows = report["rows"]
    told = f"data: {rows['found']:,} rows found, {rows['rejected']:,} rejected"
    if rows["rejected"]:
        told += f" ({', '.join(f'{reason} {count:,}' for reason, count in report['rejected'].items())})"
    splits = " / ".join(f"{rows[name]:,}" for name in ("train", "validation", "test"))
    told += f"; train / validation / test {splits}"
    if rows["augmented"]:
        told += f", of these {rows['augmented']:,} of train made from others"
    lines = [told]
    lines += [f"  warning: {warning}" for warning in report["warnings"]]
    lines += [f"  leak: {leak}" for leak in report["leaks"]] or ["  no overlap between the splits above the threshold"]
    return lines


def _training_lines(folder: RunFolder) -> list[str]:
    """Return what training took beside what was planned."""
    plan, trained = _read(folder.plan_report), _read(folder.train_report)
    measured = (trained or {}).get("peak_memory_gib")
    if plan is None or measured is None:
        return []
    planned, memory = plan["seconds"], plan["memory_gib"]["total"]
    seconds = planned.get("one_training") or planned["estimate"]  # train.json tells of the first seed
    return [
        f"training: {trained['seconds']:,.1f} s and {measured:.2f} GiB; "
        f"the plan said {seconds:,.1f} s and {memory:.2f} GiB"
    ]


def _comparison_lines(folder: RunFolder) -> list[str]:
    comparison = _read(folder.comparison)
    if comparison is None:
        return []
    table = [("metric", "base", "tuned", "difference", "95 % interval", "verdict")]
    for name, entry in comparison["metrics"].items():
        low, high = entry["ci95"] or (None, None)
        table.append(
            (
                name,
                f"{entry['base']:.3f}",
                f"{entry['tuned']:.3f}",
                f"{entry['difference']:+.3f}",
                "–" if low is None else f"{low:+.3f} to {high:+.3f}",
                entry["verdict"],
            )
        )
    return ["", columns(table), f"\n{comparison['verdict'].upper()}. {comparison['sentence']}"]


def _read(path: Path) -> Any:
    """Return a file of the run, None where the stage has not written it, or is only just writing it."""
    try:
        return read_json(path)
    except (OSError, orjson.JSONDecodeError):
        return None
