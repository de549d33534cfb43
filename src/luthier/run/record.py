"""run.json and events.jsonl: what a run is, on which machine, and what happened to each stage when."""

from __future__ import annotations

import os
import platform
import sys
import time
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import orjson

from luthier.run.atomic import read_json, write_json
from luthier.run.folder import RunFolder
from luthier.run.lock import is_held

StageStatus = Literal["waiting", "running", "complete", "failed", "stopped"]
LIBRARIES = ("luthier", "torch", "transformers", "peft", "tokenizers", "numpy", "polars", "scikit-learn", "rensa")


def start_record(folder: RunFolder, name: str, kind: str, seed: int, digest: str, stages: list[str]) -> None:
    """Write the first run.json of a new run."""
    record = {
        "name": name,
        "id": folder.id,
        "kind": kind,
        "created": _now(),
        "seed": seed,
        "recipe_digest": digest,
        "status": "waiting",
        "stages": [{"name": stage, "status": "waiting"} for stage in stages],
        "versions": versions(),
        "machine": machine(),
    }
    write_json(folder.record, record)


def read_record(folder: RunFolder) -> dict[str, Any]:
    """Return run.json with its status as of now: a run whose process is gone is not running but interrupted."""
    record: dict[str, Any] = read_json(folder.record)
    if record["status"] == "running" and not is_held(folder.lock):
        record["status"] = "interrupted"
    return record


def stage_entry(folder: RunFolder, stage: str) -> dict[str, Any]:
    """Return what run.json says of a stage beside its name and status."""
    for entry in read_json(folder.record)["stages"]:
        if entry["name"] == stage:
            return {key: value for key, value in entry.items() if key not in ("name", "status")}
    return {}


def mark_stage(folder: RunFolder, stage: str, status: StageStatus, **details: Any) -> None:
    """Set the status of one stage, with details such as seconds, error or adopted_from, and log the event."""
    record = read_json(folder.record)
    for entry in record["stages"]:
        if entry["name"] == stage:
            entry.clear()
            entry.update({"name": stage, "status": status, **details})
    record["status"] = _overall([entry["status"] for entry in record["stages"]])
    record["versions"], record["machine"] = versions(), machine()
    write_json(folder.record, record)
    log_event(folder, "stage", stage=stage, status=status, **details)


def finish_record(folder: RunFolder) -> None:
    """Set the overall status after the last stage of this call."""
    record = read_json(folder.record)
    statuses = [entry["status"] for entry in record["stages"]]
    record["status"] = "complete" if set(statuses) == {"complete"} else "partial"
    write_json(folder.record, record)


def log_event(folder: RunFolder, event: str, **details: Any) -> None:
    """Append one line to events.jsonl. A line is one write, so readers of a living run see whole lines."""
    line = orjson.dumps({"time": _now(), "event": event, **details}, option=orjson.OPT_APPEND_NEWLINE)
    with open(folder.events, "ab") as file:
        file.write(line)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a result, where they are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Return system, processor, cores this process may use, and memory in GiB. No host or user name."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores,
        "memory_gib": round(memory, 1),
    }


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _overall(statuses: list[str]) -> str:
    for status in ("running", "failed", "stopped"):
        if status in statuses:
            return status
    return "complete" if set(statuses) == {"complete"} else "running"


def _now() -> str:
    return datetime.fromtimestamp(time.time()).astimezone().isoformat(timespec="seconds")
