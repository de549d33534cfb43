"""What a finished stage was made from: fingerprints, and the manifest that is written last.

A stage is complete when its manifest is there. It is unchanged when its fingerprint is what it would be now and its
outputs are still whole. The parts of the fingerprint are kept apart, so that a stage that runs again can say why.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from luthier.run.atomic import TEMPORARY_PREFIX, flush_folder, read_json, write_json

MANIFEST = "manifest.json"
PACKAGE = Path(__file__).resolve().parent.parent
HASHED_UP_TO = 64 * 2**20  # larger outputs are compared by size alone: a second run must answer in under two seconds


@dataclass(frozen=True)
class Fingerprint:
    """What decides the outcome of a stage: each part maps a name to the digest of its content.

    Attributes:
        settings: recipe keys. inputs: files from outside the run. upstream: outputs of the stages before.
        code: packages of Luthier.
    """

    settings: Mapping[str, str]
    inputs: Mapping[str, str]
    upstream: Mapping[str, str]
    code: Mapping[str, str]

    def to_json(self) -> dict[str, dict[str, str]]:
        """Return the parts as the manifest keeps them."""
        return {
            "settings": dict(self.settings),
            "inputs": dict(self.inputs),
            "upstream": dict(self.upstream),
            "code": dict(self.code),
        }

    def differences(self, before: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Say which parts changed since `before`, in words for the user. Empty: nothing did."""
        words = {"settings": "recipe key {}", "inputs": "file {}", "upstream": "{}", "code": "Luthier's own {}"}
        changed = []
        for part, now in self.to_json().items():
            then = before.get(part, {})
            changed += [words[part].format(name) for name in {**now, **then} if now.get(name) != then.get(name)]
        return changed


def digest_value(value: Any) -> str:
    """Return the sha256 of a JSON value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def digest_code(part: str) -> str:
    """Return the sha256 over the source and data files of a package or module of Luthier, such as `data`."""
    root = PACKAGE / part
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        if path.suffix != ".pyc":
            digest.update(f"{path.relative_to(PACKAGE)}\0{digest_file(path)}\n".encode())
    return digest.hexdigest()


def write_manifest(folder: Path, stage: str, fingerprint: Fingerprint, seconds: float) -> None:
    """Write the manifest of a stage over all files in its folder. Call it last."""
    outputs = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": digest_file(path)}
        for path in _outputs(folder)
    }
    manifest = {"stage": stage, "seconds": round(seconds, 3), **fingerprint.to_json(), "outputs": outputs}
    write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a complete stage, None when there is none that can be read."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, orjson.JSONDecodeError):
        return None
    return manifest if isinstance(manifest, dict) and "outputs" in manifest else None


def damaged_outputs(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Return the outputs that are missing or no longer what the manifest says."""
    damaged = []
    for name, expected in manifest["outputs"].items():
        path = folder / name
        if not _is_whole(path, expected["bytes"], expected["sha256"]):
            damaged.append(name)
    return damaged


def _is_whole(path: Path, size: int, digest: str) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    return size > HASHED_UP_TO or digest_file(path) == digest


def digest_outputs(manifest: Mapping[str, Any]) -> str:
    """Return one digest over all outputs of a complete stage, for the stages that read them."""
    return digest_value({name: output["sha256"] for name, output in manifest["outputs"].items()})


def adopt(source: Path, target: Path) -> None:
    """Give `target` the finished stage in `source`, by hard links where the file system has them.

    Luthier replaces files and never changes them in place, so two runs can share one copy. The folder appears whole.
    """
    aside = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}")
    for path in [*_outputs(source), source / MANIFEST]:
        copy = aside / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:
            shutil.copy2(path, copy)
    if target.exists():
        shutil.rmtree(target)
    aside.rename(target)
    flush_folder(target.parent)


def _outputs(folder: Path) -> Iterable[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(TEMPORARY_PREFIX):
            yield path
