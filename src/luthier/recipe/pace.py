"""The keys that say how fast training goes and when it ends: schedule, curriculum, early stopping."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from luthier.recipe import phases
from luthier.recipe.section import ContradictionError, OffOr, Section

Shape = Literal[
    "constant", "linear", "cosine", "polynomial", "warmup-stable-decay", "one-cycle", "three-phase", "plateau"
]
# The keys of a schedule that not every shape reads.
READ_BY: dict[str, tuple[Shape, ...]] = {
    "warmup": ("constant", "linear", "cosine", "polynomial", "warmup-stable-decay", "three-phase", "plateau"),
    "floor": ("linear", "cosine", "polynomial", "warmup-stable-decay", "one-cycle"),
    "power": ("polynomial",),
    "decay": ("warmup-stable-decay",),
    "rise": ("one-cycle",),
    "phases": ("three-phase",),
}


class Phase(Section):
    """One phase of the three-phase schedule; what is off has its default."""

    until: Annotated[float | None, OffOr] = Field(
        None, gt=0, le=1, description="share of the run at which it ends (0.3, 0.8 and 1)"
    )
    start: Annotated[float | None, OffOr] = Field(
        None, gt=0, lt=1, description="learning rate it starts with (where the phase before it ends)"
    )
    end: Annotated[float | None, OffOr] = Field(
        None, gt=0, lt=1, description="learning rate it ends with (0.4, 0.01 and 0.002 of the peak)"
    )
    shape: Literal["linear", "cosine", "exponential"] = Field("cosine", description="how the rate goes between them")


class Phases(Section):
    """The three phases of the three-phase schedule, by absolute learning rates."""

    exploration: Phase = Field(default_factory=Phase)
    exploitation: Phase = Field(default_factory=Phase)
    refinement: Phase = Field(default_factory=Phase)


class Plateau(Section):
    """Reductions of the learning rate when the validation loss stops improving, on top of any schedule."""

    patience: int = Field(2, ge=1, description="evaluations without improvement before a reduction")
    threshold: float = Field(0.0, ge=0, description="smallest fall of the smoothed validation loss that counts")
    factor: float = Field(0.5, gt=0, lt=1, description="what the learning rate is multiplied by")
    cooldown: int = Field(0, ge=0, description="evaluations after a reduction that do not count")
    floor: float = Field(0.01, gt=0, lt=1, description="share of the scheduled rate that reductions stop at")
    smoothing: float = Field(0.3, ge=0, lt=1, description="weight of the past in the average of the validation loss")


class Schedule(Section):
    """How the learning rate moves over the steps. A key that the shape does not read is an error."""

    name: Shape = Field("cosine", description="shape after warm-up; plateau: constant, with reductions")
    warmup: int = Field(0, ge=0, description="optimizer steps from 0 to the peak learning rate")
    floor: Annotated[float | None, OffOr] = Field(
        None, ge=0, lt=1, description="share of the peak that the shape falls to (0; one-cycle 4e-6)"
    )
    power: Annotated[float | None, OffOr] = Field(None, gt=0, le=10, description="exponent of polynomial (1)")
    decay: Annotated[float | None, OffOr] = Field(
        None, gt=0, lt=1, description="share of the run in which warmup-stable-decay falls (0.2)"
    )
    rise: Annotated[float | None, OffOr] = Field(
        None, gt=0, lt=1, description="share of the run in which one-cycle rises (0.3)"
    )
    phases: Annotated[Phases | None, OffOr] = Field(None, description="bounds and rates of three-phase")
    plateau: Annotated[Plateau | None, OffOr] = Field(None, description="reduce on a plateau, or off")

    @model_validator(mode="before")
    @classmethod
    def _plateau_has_its_section(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("name") == "plateau" and "plateau" not in values:
            return {**values, "plateau": {}}
        return values

    @model_validator(mode="after")
    def _plateau_is_not_off(self) -> Self:
        if self.name == "plateau" and self.plateau is None:
            key = "training.schedule.plateau"
            words = f"The schedule plateau is constant but for its reductions, and {key} is off"
            remedy = f"Remove {key} or set it to on; for a rate that is never reduced choose the name constant."
            raise ContradictionError(words, key, remedy)
        return self

    @model_validator(mode="after")
    def _reads_what_is_given(self) -> Self:
        for key, shapes in READ_BY.items():
            given = getattr(self, key) != type(self).model_fields[key].default
            if given and self.name not in shapes:
                words = f"The schedule {self.name} does not read {key}; it is read by {', '.join(shapes)}"
                raise ContradictionError(words, f"training.schedule.{key}", f"Remove {key}, or choose another name.")
        return self

    def steering(self, learning_rate: float) -> dict[str, Any]:
        """Return what the engine is told of the learning rate: plain values, named as there.

        Raises:
            ContradictionError: the phases do not follow each other, jump, or rise above the peak.
        """
        given = {"floor": self.floor, "power": self.power, "decay": self.decay, "rise": self.rise}
        told: dict[str, Any] = {"learning_rate": learning_rate, "schedule": self.name, "warmup": self.warmup}
        if self.name == "three-phase":
            told["phases"] = _resolved(self.phases or Phases(), learning_rate)
        return told | {name: value for name, value in given.items() if value is not None}


class Curriculum(Section):
    """From easy rows to all rows: steps draw from the easiest rows first, and every epoch still has every row once."""

    by: str = Field(min_length=1, description="length, loss (of the base on each row), or the field that says it")
    order: list[str] = Field(default_factory=list, description="values of that field, the easiest first; none: numbers")
    pacing: Literal["linear", "root", "step", "exponential"] = Field(
        "root", description="how the share of rows to draw from grows"
    )
    start: float = Field(0.2, gt=0, le=1, description="share of the rows, the easiest, that the run begins with")
    until: float = Field(0.5, gt=0, le=1, description="share of the run after which all rows are drawn from")

    @model_validator(mode="after")
    def _order_fits(self) -> Self:
        if self.order and self.by in ("length", "loss"):
            words = f"order lists the values of a field, and by is {self.by}, which is measured"
            raise ContradictionError(words, "training.curriculum.order", "Remove order.")
        if len(set(self.order)) < len(self.order):
            words = f"order names a value twice: {', '.join(self.order)}"
            raise ContradictionError(words, "training.curriculum.order", "Name each value once, the easiest first.")
        return self


class EarlyStopping(Section):
    """When to stop before the last step: validation loss no longer improves."""

    patience: int = Field(3, ge=1, description="evaluations without improvement before training stops")
    threshold: float = Field(0.0, ge=0, description="smallest fall of the validation loss that counts")


def _resolved(given: Phases, peak: float) -> tuple[phases.Phase, ...]:
    named = {
        "exploration": given.exploration,
        "exploitation": given.exploitation,
        "refinement": given.refinement,
    }
    stated = {name: phases.Stated(one.until, one.start, one.end, one.shape) for name, one in named.items()}
    try:
        return phases.resolve(peak, stated)
    except ValueError as error:
        remedy = "Give bounds that rise to 1, and rates that go on where the phase before ends."
        raise ContradictionError(f"The phases do not fit: {error}", "training.schedule.phases", remedy) from error
