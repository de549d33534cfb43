"""How many threads a computation gets."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Return the cores this process may use, which a scheduler or `taskset` may have limited."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) > 0 else cores


def use_cores() -> int:
    """Let torch compute with as many threads as there are usable cores; OMP_NUM_THREADS may ask for fewer."""
    import torch

    cores = usable_cores()
    torch.set_num_threads(cores)
    return cores
