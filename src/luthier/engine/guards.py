"""What is seen to go wrong in a training, and what is done about it, before the optimizer moves anything.

The detectors are pure functions of a recorded standing and of what a step shows. The standing is stored with every
checkpoint, so that a resumed run decides as the undisturbed one. All numbers they look at come to the host in the one
transfer that a step has anyway.

A loss or gradient norm is compared with the running mean and deviation of its logarithm, as both are skewed; they are
exponentially weighted (Finch, 2009, "Incremental calculation of weighted mean and variance"), and over the first
1 / (1 - DECAY) values the weights are equal. Comparing with a running estimate in deviations is that of ZClip (Kumar
et al., 2025, arXiv:2504.02507), with thresholds far above theirs: there a step is clipped, here it is left out. Going
back to an earlier checkpoint and leaving out the batches at which it went wrong is what PaLM's training did (Chowdhery
et al., 2022, arXiv:2204.02311, section 5.1).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from luthier.errors import StageError

Action = Literal["skip", "return", "stop"]

DECAY = 0.97  # ZClip's; a memory of some 33 steps
SETTLED = 20  # values before an estimate is compared with
DEVIATIONS = 7.0  # of the logarithm; single rows are up to five off in ordinary trainings
LOSS_FACTOR, NORM_FACTOR = 2.0, 30.0  # at least so many times the usual; clipping makes large norms harmless
NATS = 1.0  # a spike lies by this above where the training began: a hard row late in a training is none
SMALLEST = 1e-9  # a loss that counts as one, for its logarithm
RUNAWAY = 1.5  # times the loss of a model that knows nothing
WINDOW, REPEATED = 20, 3  # so many left-out steps within so many steps are no accident
MOVES_EVERY = 50  # steps between two looks at whether the trained weights move
OVERFLOWS = 20  # float16 steps in a row that the loss scaler may skip while it looks for a scale
ZEROS = 0.5  # share of gradient values that are zero in float16
SHOWN_IDS = 16
OF_VALIDATION = "non-finite validation loss"
OF_A_BATCH = ("non-finite loss", "non-finite gradient", "loss spike", "gradient explosion")


@dataclass(frozen=True)
class GuardSettings:
    """What is done when something goes wrong.

    Attributes:
        on_nonfinite: for a loss or gradient that is not a finite number; of a validation loss there is nothing to skip,
            so "skip" tells it and goes on. on_spike: for a loss or a gradient far above
            its running estimate. "skip" leaves the step out, "return" goes back to the last good checkpoint with a
            lower learning rate and leaves the step out there, "stop" ends the training with a diagnosis.
        returns: how often training may go back before it is stopped. factor: what each return multiplies the rate by.
    """

    on_nonfinite: Action = "skip"
    on_spike: Action = "skip"
    returns: int = 3
    factor: float = 0.5


@dataclass
class Estimate:
    """Running mean and variance of a number."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def add(self, value: float) -> None:
        """Take in a value."""
        self.count += 1
        weight = max(1.0 / self.count, 1.0 - DECAY)
        step = value - self.mean
        self.mean += weight * step
        self.variance = (1.0 - weight) * (self.variance + weight * step * step)

    @property
    def deviation(self) -> float:
        """Standard deviation."""
        return math.sqrt(self.variance)


@dataclass
class Standing:
    """What the guards remember; stored with every checkpoint.

    Attributes:
        loss: running estimate of a step's loss. log_loss, log_norm: those of the logarithms of loss and gradient norm.
        start: mean loss of the first steps. left_out: steps that were left out lately. skip: steps to leave out.
        overflows: float16 steps in a row that the loss scaler skipped. moved: digest of a sample of the weights.
        returns: how often training went back. events: all that was seen, see `Event`.
    """

    loss: Estimate = field(default_factory=Estimate)
    log_loss: Estimate = field(default_factory=Estimate)
    log_norm: Estimate = field(default_factory=Estimate)
    start: float | None = None
    left_out: list[int] = field(default_factory=list)
    skip: list[int] = field(default_factory=list)
    overflows: int = 0
    moved: str = ""
    returns: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("loss", "log_loss", "log_norm"):
            if isinstance(value := getattr(self, name), dict):  # as a checkpoint stores it
                setattr(self, name, Estimate(**value))


@dataclass(frozen=True)
class Seen:
    """What a step shows before the optimizer moves anything.

    Attributes:
        step: from 1. learning_rate: of this step. loss: mean over the step. norm: of the whole gradient.
        rows: ids of its rows; where the loss of a micro-batch is not finite, the ids of that one.
        chance: loss of a model that knows nothing, None when that is not known.
        sample: bytes of a sample of the trained weights, every `MOVES_EVERY` steps, else None.
        scale: of the float16 loss scaler, None without one. zeros: share of gradient values that are zero, or None.
    """

    step: int
    learning_rate: float
    loss: float
    norm: float
    rows: Sequence[str] = ()
    chance: float | None = None
    sample: bytes | None = None
    scale: float | None = None
    zeros: float | None = None


@dataclass(frozen=True)
class Event:
    """Something that was seen: `what` at `step`, `value` beyond `threshold`, in these rows; `action` as taken."""

    what: str
    step: int
    value: float
    threshold: float
    rows: tuple[str, ...]
    learning_rate: float
    action: str = ""


def look(standing: Standing, seen: Seen, everything: bool = True) -> Event | None:
    """Return what is wrong with a step, None when nothing is; without `everything` only what is not finite."""
    for detector in (non_finite, runaway, spike, explosion, dead, underflow)[: None if everything else 1]:
        found = detector(standing, seen)
        if found is not None:
            what, value, threshold = found
            return Event(what, seen.step, value, threshold, tuple(seen.rows), seen.learning_rate)
    return None


Found = tuple[str, float, float] | None


def non_finite(standing: Standing, seen: Seen) -> Found:
    """Find a loss or gradient that is not finite; the float16 scaler may meet some while it looks for a scale."""
    if not math.isfinite(seen.loss):
        return "non-finite loss", seen.loss, math.inf
    if math.isfinite(seen.norm) or (seen.scale is not None and standing.overflows < OVERFLOWS):
        return None
    return "non-finite gradient", seen.norm, math.inf


def spike(standing: Standing, seen: Seen) -> Found:
    """Find a loss far above its running estimate, and above where the training began."""
    if standing.start is None:
        return None
    threshold = max(_far(standing.log_loss, LOSS_FACTOR), standing.start + NATS)
    return ("loss spike", seen.loss, threshold) if seen.loss > threshold else None


def explosion(standing: Standing, seen: Seen) -> Found:
    """Find a gradient norm far above its running estimate."""
    if standing.log_norm.count < SETTLED or not math.isfinite(seen.norm):
        return None
    threshold = _far(standing.log_norm, NORM_FACTOR)
    return ("gradient explosion", seen.norm, threshold) if seen.norm > threshold else None


def _far(estimate: Estimate, factor: float) -> float:
    """Return what is far above the usual, from an estimate of the logarithm."""
    return math.exp(estimate.mean + max(DEVIATIONS * estimate.deviation, math.log(factor)))


def runaway(standing: Standing, seen: Seen) -> Found:
    """Find logits that ran away: the running loss is far above chance, or far above where the training began."""
    now = standing.loss.mean
    if standing.loss.count < REPEATED:
        return None
    if seen.chance is not None and now > RUNAWAY * seen.chance:
        return "runaway logits", now, RUNAWAY * seen.chance
    if standing.start is not None and now > 2 * standing.start + NATS:
        return "divergence", now, 2 * standing.start + NATS
    return None


def dead(standing: Standing, seen: Seen) -> Found:
    """Find trained weights of which no sampled value differs from what it was `MOVES_EVERY` steps before."""
    still = seen.sample is not None and digest(seen.sample) == standing.moved
    return ("dead adapter", 0.0, 0.0) if still else None


def underflow(standing: Standing, seen: Seen) -> Found:
    """Find float16 gradients that vanish: the loss scale fell under 1, or most values are zero. Told once."""
    if any(event["what"] == "underflow" for event in standing.events):
        return None
    if seen.scale is not None and seen.scale < 1.0:
        return "underflow", seen.scale, 1.0
    if seen.zeros is not None and seen.zeros > ZEROS:
        return "underflow", seen.zeros, ZEROS
    return None


def digest(sample: bytes) -> str:
    """Return what is remembered of a sample of the weights."""
    return hashlib.sha256(sample).hexdigest()


def take_in(standing: Standing, seen: Seen) -> None:
    """Take a step that is as it should be into the running estimates."""
    if math.isfinite(seen.norm):
        standing.overflows = 0
        standing.loss.add(seen.loss)
        standing.log_loss.add(math.log(max(seen.loss, SMALLEST)))
        if seen.norm > 0:
            standing.log_norm.add(math.log(seen.norm))
    else:
        standing.overflows += 1
    if standing.start is None and standing.loss.count == SETTLED:
        standing.start = standing.loss.mean
    if seen.sample is not None:
        standing.moved = digest(seen.sample)
    standing.left_out = [step for step in standing.left_out if step > seen.step - WINDOW]


def decide(
    standing: Standing, event: Event, settings: GuardSettings, broken: bool = False, lost: bool = False
) -> Action | Literal["tell"]:
    """Return what is to be done about an event. Changes nothing.

    What repeats is no accident of one batch: it goes back. Where nothing was ever learned, going back cannot help.

    Args:
        standing, event, settings: as they are. broken: a frozen weight is not finite, which nothing here can mend.
        lost: a trained weight is not finite, which leaving out a batch cannot mend.
    """
    if event.what == "underflow":
        return "tell"
    if event.what == "dead adapter" or broken:
        return "stop"
    asked: Action = "return"
    if event.what.startswith("non-finite"):
        asked = settings.on_nonfinite
    elif event.what in ("loss spike", "gradient explosion"):
        asked = settings.on_spike
    if asked == "skip" and event.what == OF_VALIDATION:  # no batch did it: there is none to leave out
        if not lost:
            return "tell"
        asked = "return"
    lately = [step for step in standing.left_out if step > event.step - WINDOW]
    if asked == "skip" and (lost or len(lately) + 1 >= REPEATED):
        asked = "return"
    if asked == "return" and (standing.returns >= settings.returns or standing.loss.count == 0):
        return "stop"
    return asked


def note(standing: Standing, event: Event, action: str) -> dict[str, Any]:
    """Remember an event and what was done about it; return its line in guards.jsonl."""
    line = asdict(event) | {"action": action, "rows": list(event.rows)}
    for name in ("value", "threshold"):
        line[name] = line[name] if math.isfinite(line[name]) else str(line[name])
    standing.events.append(line)
    if action == "skip":
        standing.left_out.append(event.step)
    return line


def go_back(standing: Standing, earlier: Standing) -> Standing:
    """Return the standing to go on with from an earlier checkpoint: it knows what happened and what to leave out."""
    guilty = [line["step"] for line in standing.events[-1:] if line["what"] in OF_A_BATCH]
    earlier.skip = sorted({*standing.skip, *standing.left_out, *guilty})
    earlier.left_out = []
    earlier.events = standing.events
    earlier.returns = standing.returns + 1
    return earlier


def diagnosis(standing: Standing, event: Event, broken: str = "") -> StageError:
    """Return the error that ends a training: what was seen, when, in which rows, and what to change.

    Args:
        standing: the events before this one are told too. event: the last one.
        broken: name of a frozen weight that holds numbers that are not finite, when there is one.
    """
    earlier = [line for line in standing.events if line["what"] == event.what and line["step"] != event.step]
    before = f", and before at step {', '.join(str(line['step']) for line in earlier[:5])}" if earlier else ""
    back = f" Going back {standing.returns} times with a lower rate did not help." if standing.returns else ""
    rows = list(event.rows)
    shown = ", ".join(rows[:SHOWN_IDS]) + (f" and {len(rows) - SHOWN_IDS} more" if len(rows) > SHOWN_IDS else "")
    ended = "after this step" if event.what == OF_VALIDATION else "before this step was taken"
    return StageError(
        f"{_told(event)} at step {event.step}{before}, with learning rate {event.learning_rate:.3g}.{back} "
        f"Training stopped {ended}.",
        f"rows {shown}" if shown else "the validation rows",
        _remedy(standing, event, broken),
    )


def _told(event: Event) -> str:
    if event.what == "non-finite loss":
        return f"The loss is {event.value}"
    if event.what == "non-finite gradient":
        return f"The gradient has norm {event.value}"
    if event.what == OF_VALIDATION:
        return f"The validation loss is {event.value}"
    if event.what == "dead adapter":
        return f"No trained weight moved over {MOVES_EVERY} steps: dead adapter"
    names = {
        "loss spike": "Loss spike: the loss",
        "gradient explosion": "Gradient explosion: the gradient norm",
        "runaway logits": "Runaway logits: the running loss",
        "divergence": "Divergence: the running loss",
    }
    return f"{names[event.what]} is {event.value:.4g} (threshold {event.threshold:.4g})"


def _remedy(standing: Standing, event: Event, broken: str) -> str:
    if broken:
        return f"The base model is damaged ({broken} holds numbers that are not finite): get its weights again."
    if event.what == "dead adapter":
        return "Raise training.learning_rate, and check adapter.targets and model.dtype."
    if event.what.startswith("non-finite") and standing.loss.count == 0:
        return "Nothing was learned yet, so check these rows, the weights of the base model, and model.dtype."
    return "Lower training.learning_rate or lengthen the warm-up, and check these rows."
