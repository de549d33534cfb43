"""The three phases of a learning rate: what a recipe may say of them, and what they then are.

A long fall (exploration, exploitation) ends in a short refinement at small rates. Rates are absolute. What a recipe
leaves out follows from the highest rate: by default the phases fall to 0.4, 0.01 and 0.002 of it, which is
5e-4 → 2e-4 → 5e-6 → 1e-6 at a highest rate of 5e-4. A phase starts where the one before it ends, so that joins are
continuous; a start that is given is held against that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PEAK = 5e-4  # highest rate where the recipe gives none
EQUAL = 1e-9  # relative difference of two rates that are meant to be one


@dataclass(frozen=True)
class Phase:
    """One phase of a schedule.

    Attributes:
        name: for people and metrics. until: share of the run at which it ends. start, end: learning rates.
        shape: how the rate goes between them: "linear", "cosine" (flat at both ends, so that joins have no kink) or
            "exponential" (equal ratios).
    """

    name: str
    until: float
    start: float
    end: float
    shape: str = "cosine"


@dataclass(frozen=True)
class Stated:
    """What a recipe says of a phase; None: nothing. Attributes as for `Phase`."""

    until: float | None = None
    start: float | None = None
    end: float | None = None
    shape: str | None = None


# name: share of the run at which it ends, share of the highest rate that it falls to.
DEFAULTS: Mapping[str, tuple[float, float]] = {
    "exploration": (0.3, 0.4),
    "exploitation": (0.8, 0.01),
    "refinement": (1.0, 0.002),
}


def resolve(peak: float, stated: Mapping[str, Stated] | None = None) -> tuple[Phase, ...]:
    """Return the three phases of a schedule whose highest rate is `peak`.

    Raises:
        ValueError: they do not follow each other to the end of the run, jump at a join, or rise above `peak`; the
            message is a clause in plain words.
    """
    phases: list[Phase] = []
    for name, (until, share) in DEFAULTS.items():
        said = (stated or {}).get(name, Stated())
        before = phases[-1].end if phases else peak
        phases.append(
            Phase(
                name,
                until if said.until is None else said.until,
                before if said.start is None else said.start,
                share * peak if said.end is None else said.end,
                said.shape or "cosine",
            )
        )
    fault = wrong(phases, peak)
    if fault:
        raise ValueError(fault)
    return tuple(phases)


def wrong(phases: Sequence[Phase], peak: float) -> str:
    """Return what is wrong with phases, in words; "" when nothing is."""
    before = Phase("", 0.0, peak, peak)
    for phase in phases:
        if phase.until <= before.until:
            return f"{phase.name} ends at {phase.until:g} of the run, where {before.name or 'the run'} " + (
                f"has only ended at {before.until:g}" if before.name else "begins"
            )
        if abs(phase.start - before.end) > EQUAL * peak:
            there = f"{before.name} ends at {before.end:g}" if before.name else f"learning_rate is {peak:g}"
            return f"{phase.name} starts at {phase.start:g}, but {there}: the rate would jump"
        if phase.end > peak * (1 + EQUAL):
            return f"{phase.name} ends at {phase.end:g}, above learning_rate, the highest rate, which is {peak:g}"
        before = phase
    if abs(before.until - 1.0) > EQUAL:
        return f"{before.name}, the last, ends at {before.until:g} of the run, not at 1"
    return ""
