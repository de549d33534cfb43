"""Reducing the learning rate when the validation loss stops improving: on top of any schedule.

As torch's ReduceLROnPlateau, with two additions: the loss may be smoothed, and all state is a plain value that a
checkpoint stores. A reduction multiplies the scale of all rates to come; the schedule itself goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from luthier.errors import UserError


@dataclass(frozen=True)
class Plateau:
    """When and by how much to reduce.

    Attributes:
        patience: evaluations without improvement before a reduction. threshold: the smallest fall of the smoothed loss
            that counts. factor: what the rate is multiplied by. cooldown: evaluations after a reduction that are not
            waited. floor: share of the scheduled rate under which reductions do not go.
        smoothing: weight of the past in the moving average of the loss; 0: the loss itself.
    """

    patience: int = 2
    threshold: float = 0.0
    factor: float = 0.5
    cooldown: int = 0
    floor: float = 0.01
    smoothing: float = 0.0


@dataclass(frozen=True)
class Standing:
    """What was seen so far.

    Attributes:
        smoothed: the moving average of the validation loss. best: its lowest value that counted. waited: evaluations
            since, `cooling` those still left out. reductions: how many there were.
    """

    smoothed: float | None = None
    best: float | None = None
    waited: int = 0
    cooling: int = 0
    reductions: int = 0


def take_in(standing: Standing, loss: float, scale: float, settings: Plateau) -> tuple[Standing, float]:
    """Take in a validation loss; return the new standing and the new scale of the rate, which never rises.

    Args:
        standing: before. loss: of this evaluation. scale: what the scheduled rate is multiplied by now.
    """
    past = loss if standing.smoothed is None else standing.smoothed
    smoothed = settings.smoothing * past + (1.0 - settings.smoothing) * loss
    improved = standing.best is None or smoothed < standing.best - settings.threshold
    best = smoothed if improved else standing.best
    waited = 0 if improved else standing.waited + 1
    cooling = standing.cooling
    if cooling:
        cooling, waited = cooling - 1, 0
    now = replace(standing, smoothed=smoothed, best=best, waited=waited, cooling=cooling)
    lower = max(scale * settings.factor, settings.floor)
    if waited < settings.patience or lower >= scale:
        return now, scale
    return replace(now, waited=0, cooling=settings.cooldown, reductions=standing.reductions + 1), lower


def require_validation(rows: int) -> None:
    """Refuse reductions where there is no validation loss to judge by.

    Raises:
        UserError: there are no validation rows.
    """
    if rows == 0:
        raise UserError(
            "The learning rate is to be reduced on a plateau of the validation loss, and there are no validation rows.",
            "training.schedule.plateau",
            "Give data.split.validation a share, or turn plateau off.",
        )
