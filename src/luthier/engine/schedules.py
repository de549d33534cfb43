"""How the learning rate moves over the optimizer steps: pure functions of the step, used by the trainer and the verb.

Steps count from 1 to `steps`. During a warm-up of W steps the rate rises linearly: step k has k/W of the peak, so the
first step already learns and step W has the peak (Goyal et al., 2017, arXiv:1706.02677). After it the shape falls with
progress (k - W) / (steps - W + 1), so the last step still learns and the rate reaches zero one step later. Without
warm-up step 1 has the peak. The cosine is that of Loshchilov and Hutter (2017, arXiv:1608.03983), without restarts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypedDict

from luthier.errors import UserError, did_you_mean

SHAPES: Mapping[str, Callable[[float], float]] = {
    "constant": lambda _: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
WARMUP = "warmup"


class Point(TypedDict):
    """One optimizer step of a schedule: `step` from 1, `learning_rate` per step, `phase` "warmup" or the shape."""

    step: int
    learning_rate: float
    phase: str


def check(steps: int, name: str, warmup: int = 0) -> None:
    """Refuse a schedule that cannot be walked.

    Raises:
        UserError: no such shape, or the warm-up leaves no step at the peak.
    """
    if name not in SHAPES:
        known = ", ".join(SHAPES)
        remedy = did_you_mean(name, SHAPES, f"There are {known}.")
        raise UserError(f"No schedule {name!r}.", "training.schedule.name", remedy)
    if warmup >= steps:
        raise UserError(
            f"The warm-up of {warmup} steps is not shorter than the training of {steps} steps.",
            "training.schedule.warmup",
            f"Choose at most {max(steps - 1, 0)}, or train for more steps.",
        )


def factor(step: int, steps: int, name: str, warmup: int = 0) -> float:
    """Return the share of the peak rate at `step` (1 to `steps`; later steps have what the last one has)."""
    step = min(step, steps)
    if step <= warmup:
        return step / warmup
    start = max(warmup, 1)
    return SHAPES[name]((step - start) / (steps - start + 1))


def learning_rate(step: int, steps: int, name: str, peak: float, warmup: int = 0) -> float:
    """Return the learning rate at `step` (1 to `steps`) of a schedule with its highest rate `peak`."""
    return peak * factor(step, steps, name, warmup)


def phase(step: int, name: str, warmup: int = 0) -> str:
    """Return the name of the part of the schedule in which `step` lies: "warmup", then the name of the shape."""
    return WARMUP if step <= warmup else name


def table(steps: int, name: str, peak: float, warmup: int = 0) -> list[Point]:
    """Return every step of a schedule.

    Args:
        steps: optimizer steps in all. name: one of `SHAPES`. peak: highest rate. warmup: steps up to the peak.

    Raises:
        UserError: as `check`.
    """
    check(steps, name, warmup)
    return [
        {
            "step": step,
            "learning_rate": learning_rate(step, steps, name, peak, warmup),
            "phase": phase(step, name, warmup),
        }
        for step in range(1, steps + 1)
    ]
