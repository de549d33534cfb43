"""How many threads a computation gets, and whether other programs want the same cores."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CROWDED = 0.25  # share of the usable cores that others may use before it is worth a word
PROBE_SECONDS = 0.2
STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Threads:
    """The threads of a computation.

    Attributes:
        used: how many it has. others: cores' worth that other programs used meanwhile on the cores this process may
            use, when it began; None where the system does not tell.
    """

    used: int
    others: float | None

    @property
    def told(self) -> dict[str, Any]:
        """What run.json says of them."""
        return asdict(self)

    @property
    def warning(self) -> str:
        """What the user should know; empty when there is nothing."""
        if self.others is None or self.others <= CROWDED * self.used:
            return ""
        return (
            f"other programs use {self.others:.1f} of the {self.used} cores: training will take longer, "
            "and OMP_NUM_THREADS can leave them some"
        )


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


def look_at_cores() -> Threads:
    """Use the cores, see `use_cores`, and look for a fifth of a second how busy others keep them.

    The number of threads does not follow what is seen: a resumed training needs the same number for the same bytes.
    """
    used = use_cores()
    before = _busy()
    if before is None:
        return Threads(used, None)
    time.sleep(PROBE_SECONDS)
    after = _busy() or before
    passed = after[1] - before[1]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else used
    return Threads(used, round((after[0] - before[0]) / passed * cores, 2) if passed else None)


def _busy() -> tuple[int, int] | None:
    """Return (busy, all) ticks of the cores this process may use, since the machine started; None when not told."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
        allowed = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    except (OSError, AttributeError):
        return None
    ticks = [[int(value) for value in line.split()[1:9]] for line in lines if line.split(" ", 1)[0] in allowed]
    total = sum(sum(core) for core in ticks)
    return total - sum(core[3] + core[4] for core in ticks), total
