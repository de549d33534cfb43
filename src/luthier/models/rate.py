"""How fast this machine multiplies matrices: measured once, kept in the cache folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from luthier.errors import UserError
from luthier.run.atomic import write_json

if TYPE_CHECKING:
    import torch

FILE = "matmul-rates.json"
SECONDS = 0.3  # of measuring
SHAPES = {"cpu": (512, 1024, 1024), "mps": (2048, 2048, 2048), "cuda": (8192, 4096, 4096)}


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Return multiply-and-add rate in operations (FLOP) per second; measured at the first call, then read.

    Args:
        device: "cpu", "mps" or "cuda". dtype: of the factors.
    """
    key = machine_key(device, dtype)
    path = cache_folder() / FILE
    kept = _read(path)
    if isinstance(kept.get(key), int | float):
        return float(kept[key])
    rate = _measure(device, dtype)
    with suppress(UserError):  # a cache folder that cannot be written to costs a measurement each time, no more
        write_json(path, {**kept, key: round(rate)})
    return rate


def machine_key(device: str, dtype: torch.dtype) -> str:
    """Return what a measurement of this machine holds for: its processor, device, precision and threads."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    return f"{name} | {device} | {str(dtype).removeprefix('torch.')} | {torch.get_num_threads()} threads"


def cache_folder() -> Path:
    """Return Luthier's cache folder: $XDG_CACHE_HOME/luthier, else ~/.cache/luthier."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "luthier"


def _measure(device: str, dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the best rate of products of one shape: other programs only ever slow them down."""
    import torch

    rows, inner, columns = SHAPES[device]
    left = torch.randn(rows, inner, device=device).to(dtype)
    right = torch.randn(inner, columns, device=device).to(dtype)
    wait: Any = getattr(torch, device).synchronize if device != "cpu" else lambda: None
    times: list[float] = []
    left @ right
    wait()
    began = clock()
    while len(times) < 3 or clock() - began < SECONDS:
        start = clock()
        left @ right
        wait()
        times.append(clock() - start)
    return 2 * rows * inner * columns / min(times)


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
