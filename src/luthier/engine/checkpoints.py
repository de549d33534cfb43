"""Checkpoints that are whole or not there: written aside, flushed, marked, renamed; verified before they are used.

`checkpoint-N/` holds what the training is after step N. Its marker `checkpoint.json` is written last and carries size
and sha256 of every file, and the fingerprint of the training: a checkpoint of other data or settings is never used.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError

from luthier.errors import StageError
from luthier.run.atomic import TEMPORARY_PREFIX, explained, flush_folder, read_json, write_json
from luthier.run.manifest import digest_file

MARKER = "checkpoint.json"
PREFIX = "checkpoint-"
SLACK = 2**20  # bytes of a checkpoint besides its tensors
FAILED_WRITE = re.compile(r"PytorchStreamWriter|file write failed|iostream error|unexpected pos|No space left")


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
    except BaseException as error:
        full = _left(folder) < SLACK
        shutil.rmtree(aside, ignore_errors=True)
        failure = _of_the_disk(error, full)
        if failure is None:
            raise
        raise explained(failure, target) from error
    return target


def predicted_bytes(model: Any) -> int:
    """Return how large a checkpoint of a model will be: what is saved of it, and two moments of what is trained.

    Args:
        model: a PEFT model, of which only what is trained is saved, or a plain one, of which all is.
    """
    trained: int = sum(one.numel() * one.element_size() for one in model.parameters() if one.requires_grad)
    whole: int = sum(one.numel() * one.element_size() for one in model.parameters())
    return (trained if hasattr(model, "peft_config") else whole) + 2 * trained + SLACK


def most(keep: int, validated: bool) -> int:
    """Return how many checkpoints stand at one time: those that are kept, the one being written, and the best."""
    return keep + 1 + validated


def require_space(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: where it will be written. needed: bytes. what: that needs them, for the message.

    Raises:
        StageError: the disk has less than that.
    """
    left = _left(folder)
    if left < needed:
        raise StageError(
            f"The disk has {_size(left)} left and {what} need{'s' if what.startswith('a ') else ''} {_size(needed)}.",
            str(folder),
            "Free some space, lower training.keep_checkpoints, or choose another disk with --runs FOLDER. Then run "
            "again: it goes on where it stopped.",
        )


def bytes_on_disk(folder: Path) -> int:
    """Return how much the checkpoints of a training take now."""
    return sum(path.stat().st_size for step in steps_on_disk(folder) for path in path_of(folder, step).rglob("*"))


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


def verify(path: Path) -> None:
    """Read a checkpoint that was just written back from the disk, before an older one goes.

    Raises:
        StageError: the disk does not hold what was written.
    """
    problem = damage(path)
    if problem is not None:
        raise StageError(
            f"The disk did not keep what was written: {problem}.",
            str(path),
            "Check the disk. Run again: it goes on from the checkpoint before.",
        )


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
    if found is None and notes:
        notes.append("there is no other checkpoint, so training starts from the beginning")
    return Found(found.path if found else None, found.state if found else {}, tuple(notes))


def last_good(folder: Path, fingerprint: str) -> Found:
    """Return the newest whole checkpoint before which no step was left out lately, else the newest; remove later ones.

    It is what a training that went wrong goes back to.
    """
    whole = [
        Found(path, read_json(path / MARKER)["state"])
        for path in (path_of(folder, step) for step in steps_on_disk(folder))
        if damage(path) is None and read_json(path / MARKER)["fingerprint"] == fingerprint
    ]
    good = next((one for one in whole if not one.state["guards"]["left_out"]), whole[0] if whole else Found(None, {}))
    for step in steps_on_disk(folder):
        if good.path is not None and step > good.state["step"]:
            shutil.rmtree(path_of(folder, step))
    return good


def retain(folder: Path, newest: int, protected: Collection[int]) -> None:
    """Remove all checkpoints but the `newest` last ones and the protected steps."""
    for step in steps_on_disk(folder)[newest:]:
        if step not in protected:
            shutil.rmtree(path_of(folder, step))


def _of_the_disk(error: BaseException, full: bool) -> OSError | None:
    """Return the failure of the file system behind what safetensors and torch raise, None when it was none."""
    if isinstance(error, OSError):
        return error
    if isinstance(error, SafetensorError) and (number := re.search(r"os error (\d+)", str(error))):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, RuntimeError) and FAILED_WRITE.search(str(error)):
        return OSError(errno.ENOSPC if full else errno.EIO, str(error))
    return None


def _left(folder: Path) -> int:
    """Return the free bytes of the disk that `folder` is on or will be on."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return shutil.disk_usage(there).free


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _flush(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
