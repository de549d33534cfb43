"""How the learning rate moves over the optimizer steps: pure functions of the step and of recorded state.

Steps count from 1 to S, `steps`. During a warm-up of W steps the rate rises linearly: step k has k/W of the peak, so
the first step already learns and step W has the peak (Goyal et al., 2017, arXiv:1706.02677). After it a shape falls
with progress (k - W) / (S - W + 1), so the last step still learns and the end of the shape, zero or its floor, would
come one step later. Without warm-up step 1 has the peak. transformers counts from 0 and begins with a rate of 0: its
schedule over S + 1 steps, without step 0, is this one. Two shapes have ends of their own, which they reach: one-cycle
is torch's, whose step k - 1 is step k here, and the three phases begin and end with the rates that they name.

Shapes, where they come from, and the settings that they read:

    constant            after warm-up the peak
    linear              down to `floor`
    cosine              Loshchilov and Hutter (2017, arXiv:1608.03983), without restarts, down to `floor`
    polynomial          (1 - progress) ** `power`, down to `floor`
    warmup-stable-decay Hu et al. (2024, arXiv:2404.06395): the peak, then over the last `decay` of the run a fall by
                        1 - sqrt(progress) (Hägele et al., 2024, arXiv:2405.18392), down to `floor`
    one-cycle           Smith and Topin (2018, arXiv:1708.07120) as in torch: from 1/25 of the peak up to it over `rise`
                        of the run, then down to `floor`, both as half a cosine
    three-phase         exploration, exploitation, refinement: see `recipe.phases`; shares count from the first step
    plateau             constant; reductions come from `engine.plateau`, which may stand on top of any shape
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypedDict

from luthier.errors import UserError, did_you_mean
from luthier.recipe import phases as three
from luthier.recipe.phases import Phase

WARMUP = "warmup"
POWER, DECAY, RISE = 1.0, 0.2, 0.3
ONE_CYCLE_START, ONE_CYCLE_FLOOR = 1 / 25, 1 / 25 / 1e4  # torch's div_factor and final_div_factor


class Point(TypedDict):
    """One optimizer step of a schedule: `step` from 1, `learning_rate` per step, `phase` its name."""

    step: int
    learning_rate: float
    phase: str


class PhaseInfo(TypedDict):
    """The part of a schedule in which a step lies.

    Keys: `name` · `start`, `end` its first and last step · `range` the learning rates it goes between · `strategy` the
    shape in which it does · `progress` of the step within it, from 0 to 1.
    """

    name: str
    start: int
    end: int
    range: tuple[float, float]
    strategy: str
    progress: float


@dataclass(frozen=True)
class Part:
    """Steps `first` to `last` of a schedule, whose rates are those of `rate`; `range` where its ends are named."""

    name: str
    first: int
    last: int
    strategy: str
    rate: Callable[[int], float]
    named: tuple[float, float] | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The learning rates that it goes between: those named, else those of its first and last step."""
        return self.named or (self.rate(self.first), self.rate(self.last))


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every step. Called with a step it returns the rate, so it is a plain function of the step.

    Libraries that count finished steps (MLX, torch) take `lambda done: schedule(done + 1)`.

    Attributes:
        steps: optimizer steps in all. peak: the highest rate. name: one of `SHAPES`. warmup: steps up to the peak.
        floor: share of the peak that the shape falls to (0; one-cycle 4e-6). power: of polynomial (1).
        decay: share of the run that warmup-stable-decay falls over (0.2). rise: that one-cycle rises over (0.3).
        phases: of three-phase, with absolute rates; none: the default ones, scaled with the peak.

    Raises:
        UserError: no such shape, or it cannot be walked in so many steps.
    """

    steps: int
    peak: float
    name: str = "cosine"
    warmup: int = 0
    floor: float | None = None
    power: float = POWER
    decay: float = DECAY
    rise: float = RISE
    phases: Sequence[Phase] = ()

    def __post_init__(self) -> None:
        if self.name not in SHAPES:
            known = ", ".join(SHAPES)
            remedy = did_you_mean(self.name, SHAPES, f"There are {known}.")
            raise UserError(f"No schedule {self.name!r}.", "training.schedule.name", remedy)
        if self.warmup >= self.steps:
            raise UserError(
                f"The warm-up of {self.warmup} steps is not shorter than the training of {self.steps} steps.",
                "training.schedule.warmup",
                f"Choose at most {max(self.steps - 1, 0)}, or train for more steps.",
            )
        _ = self.parts  # the shape refuses what it cannot walk

    def __call__(self, step: Any) -> float:
        """Return the learning rate at `step`, anything that `int` takes."""
        return self.get_learning_rate(int(step))

    def get_learning_rate(self, step: int) -> float:
        """Return the learning rate at `step` (1 to `steps`; earlier and later ones have that of the nearest)."""
        step = self._within(step)
        return self._part(step).rate(step)

    def get_phase_info(self, step: int) -> PhaseInfo:
        """Return in which part of the schedule `step` lies, and how far on."""
        step = self._within(step)
        part = self._part(step)
        length = part.last - part.first
        return {
            "name": part.name,
            "start": part.first,
            "end": part.last,
            "range": part.range,
            "strategy": part.strategy,
            "progress": (step - part.first) / length if length else 1.0,
        }

    def get_phases(self) -> list[PhaseInfo]:
        """Return all parts of the schedule in order, each at its end."""
        return [self.get_phase_info(part.last) for part in self.parts]

    def table(self) -> list[Point]:
        """Return every step."""
        return [
            {"step": step, "learning_rate": self.get_learning_rate(step), "phase": self._part(step).name}
            for step in range(1, self.steps + 1)
        ]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The parts that the steps fall into, in order; each has at least one step."""
        rising = Part(WARMUP, 1, self.warmup, "linear", lambda step: self.peak * (step / max(self.warmup, 1)))
        return tuple(part for part in (rising, *SHAPES[self.name](self)) if part.last >= part.first)

    def _within(self, step: int) -> int:
        return min(max(step, 1), self.steps)

    def _part(self, step: int) -> Part:
        return next(part for part in self.parts if step <= part.last)


def _falling(curve: Callable[[Schedule, float], float]) -> Callable[[Schedule], list[Part]]:
    """Return the builder of a shape in one part: `curve` goes from 1 to 0 as progress goes from 0 to 1."""

    def build(schedule: Schedule) -> list[Part]:
        start, floor = max(schedule.warmup, 1), schedule.floor or 0.0

        def rate(step: int) -> float:
            progress = (step - start) / (schedule.steps - start + 1)
            return schedule.peak * (floor + (1.0 - floor) * curve(schedule, progress))

        return [Part(schedule.name, schedule.warmup + 1, schedule.steps, schedule.name, rate)]

    return build


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _warmup_stable_decay(schedule: Schedule) -> list[Part]:
    decaying, floor = max(1, round(schedule.decay * schedule.steps)), schedule.floor or 0.0
    stable = schedule.steps - decaying  # the last step at the peak
    if stable < max(schedule.warmup, 1):
        raise UserError(
            f"A warm-up of {schedule.warmup} steps and a decay of {decaying} leave none of {schedule.steps} steps "
            "at the peak.",
            "training.schedule.decay",
            "Choose a shorter warm-up or decay, or train for more steps.",
        )

    def rate(step: int) -> float:
        progress = (step - stable) / (decaying + 1)
        return schedule.peak * (floor + (1.0 - floor) * (1.0 - math.sqrt(progress)))

    return [
        Part("stable", schedule.warmup + 1, stable, "constant", lambda _: schedule.peak),
        Part("decay", stable + 1, schedule.steps, "1-sqrt", rate),
    ]


def _one_cycle(schedule: Schedule) -> list[Part]:
    floor = ONE_CYCLE_FLOOR if schedule.floor is None else schedule.floor
    top = schedule.rise * schedule.steps  # the step of the peak, which need not be a whole one
    if not 1 < top < schedule.steps:
        raise UserError(
            f"One cycle over {schedule.steps} steps has no step to rise or none to fall: its peak is at step {top:g}.",
            "training.schedule.rise",
            "Change the share of the rise, or train for more steps.",
        )

    def rising(step: int) -> float:
        return schedule.peak * (1.0 + (ONE_CYCLE_START - 1.0) * _half_cosine((step - 1) / (top - 1)))

    def falling(step: int) -> float:
        return schedule.peak * (floor + (1.0 - floor) * _half_cosine((step - top) / (schedule.steps - top)))

    last = math.floor(top)
    return [
        Part("rise", 1, last, "cosine", rising),
        Part("fall", last + 1, schedule.steps, "cosine", falling),
    ]


BETWEEN: Mapping[str, Callable[[float, float, float], float]] = {
    "linear": lambda start, end, progress: start * (1.0 - progress) + end * progress,
    "cosine": lambda start, end, progress: end + (start - end) * _half_cosine(progress),
    "exponential": lambda start, end, progress: start ** (1.0 - progress) * end**progress,
}


def _three_phase(schedule: Schedule) -> list[Part]:
    phases = tuple(schedule.phases) or three.resolve(schedule.peak)
    fault = three.wrong(phases, schedule.peak)
    if fault:
        raise UserError(f"The phases do not fit: {fault}.", "training.schedule.phases", "Mend their bounds and rates.")
    parts: list[Part] = []
    before = schedule.warmup
    for phase in phases:
        last = schedule.steps if phase is phases[-1] else round(phase.until * schedule.steps)
        if last <= before:
            raise UserError(
                f"The phase {phase.name} has no step: it ends with step {last}, and step {before} "
                f"{'ends the phase before it' if parts else 'is still warm-up'}.",
                f"training.schedule.phases.{phase.name}.until",
                "Move its end, shorten the warm-up, or train for more steps.",
            )
        # The first phase begins with its rate; each other one goes on from the last step of the phase before it.
        start = before if parts else max(before, 1)
        parts.append(_between(phase, before + 1, last, start))
        before = last
    return parts


def _between(phase: Phase, first: int, last: int, start: int) -> Part:
    """Return a phase whose rate is that of its start at step `start`, and that of its end at step `last`."""

    def rate(step: int) -> float:
        progress = (step - start) / (last - start) if last > start else 0.0
        return BETWEEN[phase.shape](phase.start, phase.end, progress)

    return Part(phase.name, first, last, phase.shape, rate, (phase.start, phase.end))


SHAPES: Mapping[str, Callable[[Schedule], list[Part]]] = {
    "constant": _falling(lambda _, __: 1.0),
    "linear": _falling(lambda _, progress: 1.0 - progress),
    "cosine": _falling(lambda _, progress: _half_cosine(progress)),
    "polynomial": _falling(lambda schedule, progress: (1.0 - progress) ** schedule.power),
    "warmup-stable-decay": _warmup_stable_decay,
    "one-cycle": _one_cycle,
    "three-phase": _three_phase,
    "plateau": _falling(lambda _, __: 1.0),
}
