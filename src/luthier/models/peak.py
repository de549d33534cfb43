"""The most memory that a piece of work held: of this process, or on its CUDA device."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

GIB = 2**30
RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def begin(device: str) -> None:
    """Forget the peak so far, where the system allows it: on Linux and CUDA. Elsewhere it is that of the process."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError):
        RESET.write_text("5", encoding="ascii")  # Linux: the peak resident size begins anew (man 5 proc)


def peak_gib(device: str) -> float:
    """Return the peak since `begin` in GiB: on CUDA what torch reserved there, else what was resident."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_reserved()) / GIB
    with suppress(OSError):
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB


def held_gib(device: str) -> float:
    """Return what is held now in GiB, after what is no longer used was given back."""
    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        return float(torch.cuda.memory_reserved()) / GIB
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with suppress(OSError):
        return _status("VmRSS")
    return peak_gib(device)


def _status(name: str) -> float:
    """Return one size of /proc/self/status in GiB; OSError where there is none."""
    for line in STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / GIB
    raise OSError(f"no {name}")
