"""Checkpoints that are whole or not there: written aside, flushed, marked, renamed; verified before they are used.

`checkpoint-N/` holds what the training is after step N. Its marker `checkpoint.json` is written last and carries size
and sha256 of every file, and the fingerprint of the training: a checkpoint of other data or settings is never used.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from luthier.run.atomic import TEMPORARY_PREFIX, explained, flush_folder, read_json, write_json
from luthier.run.manifest import digest_file

MARKER = "checkpoint.json"
PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Found:
    """What there is to go on from.

    Attributes:
        path: the newest usable checkpoint, None when there is none. state: what was stored with it.
        notes: what was passed over, in words for the user.
    """

    path: Path | None
    state: dict[str, Any]
    notes: tuple[str, ...] = ()


def path_of(folder: Path, step: int) -> Path:
    """Return where the checkpoint of `step` stands."""
    return folder / f"{PREFIX}{step}"


def steps_on_disk(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint folder, whole or not, newest first."""
    names = [path.name.removeprefix(PREFIX) for path in folder.glob(f"{PREFIX}*") if path.is_dir()]
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def write(folder: Path, step: int, fill: Callable[[Path], None], state: dict[str, Any], fingerprint: str) -> Path:
    """Write the checkpoint of `step`: `fill` puts files into a folder aside, which takes its name when all is flushed.

    Args:
        folder: of the training. fill: writes model, optimizer and the like. state: small JSON value of the engine.
        fingerprint: of the training.

    Raises:
        StageError: the disk is full or fails. UserError: the folder cannot be written to.
    """
    target = path_of(folder, step)
    aside = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{target.name}"
    try:
        aside.mkdir(parents=True)
        fill(aside)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        for path in files:
            _flush(path)
        listed = {
            path.relative_to(aside).as_posix(): {"bytes": path.stat().st_size, "sha256": digest_file(path)}
            for path in files
        }
        write_json(aside / MARKER, {"step": step, "fingerprint": fingerprint, "state": state, "files": listed})
        if target.exists():
            shutil.rmtree(target)
        aside.rename(target)
        flush_folder(folder)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise explained(error, target) from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return target


def damage(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, None when it is whole."""
    try:
        marker = read_json(path / MARKER)
        for name, expected in marker["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["bytes"] or digest_file(file) != expected["sha256"]:
                return f"{name} is damaged"
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"{MARKER} is missing or damaged"
    return None


def newest_whole(folder: Path, fingerprint: str) -> Found:
    """Return the newest checkpoint to go on from, and remove the ones that are of no use.

    Usable is a checkpoint that is whole, belongs to this training, and whose best checkpoint so far is whole too.
    """
    notes: list[str] = []
    found: Found | None = None
    for step in steps_on_disk(folder):
        path = path_of(folder, step)
        problem = damage(path)
        if problem is None and read_json(path / MARKER)["fingerprint"] != fingerprint:
            problem = "it belongs to other data, settings or another model"
        if problem is None and found is None:
            state = read_json(path / MARKER)["state"]
            best = state.get("best_step")
            lost = damage(path_of(folder, best)) if best not in (None, step) else None
            if lost is None:
                found = Found(path, state)
                continue
            problem = f"the best checkpoint so far, {PREFIX}{best}, cannot be used: {lost}"
        if problem is not None:
            notes.append(f"{path.name} was not used: {problem}")
            shutil.rmtree(path)
    return Found(found.path if found else None, found.state if found else {}, tuple(notes))


def retain(folder: Path, newest: int, protected: Collection[int]) -> None:
    """Remove all checkpoints but the `newest` last ones and the protected steps."""
    for step in steps_on_disk(folder)[newest:]:
        if step not in protected:
            shutil.rmtree(path_of(folder, step))


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
