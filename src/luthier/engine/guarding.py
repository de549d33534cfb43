"""The guards at work in a training: they look at each step and do what is to be done, alike on all processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from luthier.engine import guards
from luthier.engine.course import Course
from luthier.engine.guards import Event, GuardSettings, Seen
from luthier.engine.sharding import whole
from luthier.run import ranks
from luthier.run.atomic import write_jsonl

GUARDS = "guards.jsonl"
SAMPLED = 64  # values of each trained tensor that are watched for movement


class Return(Exception):  # noqa: N818, it is no error but a way back
    """The training goes back to an earlier checkpoint."""


class Guarding:
    """The guards of one training.

    Args:
        model: what is trained. course: has the guards' standing; changed in place. folder: gets guards.jsonl.
        settings: None stops where a number is not finite, and looks for nothing else.
        chance: loss of a model that knows nothing, or None.
    """

    def __init__(
        self, model: Any, course: Course, folder: Path, settings: GuardSettings | None, chance: float | None
    ) -> None:
        self._model, self._course, self._folder, self._chance = model, course, folder, chance
        self._settings, self._all = settings or GuardSettings("stop", "stop", returns=0), settings is not None
        self._half = any(weight.dtype == torch.float16 for weight in model.parameters())

    def see(
        self, step: int, rate: float, losses: Sequence[torch.Tensor], norm: torch.Tensor, moved: Sequence[torch.Tensor],
        scale: torch.Tensor | None = None,
    ) -> tuple[Seen, list[float]]:  # fmt: skip
        """Bring what a step shows to the host, in one transfer.

        Args:
            step: from 1. rate: its learning rate. norm: of its gradient, before clipping. moved: what is trained.
            losses: the shares of this process, then the loss of the whole step. scale: of the float16 loss scaler.

        Returns:
            What is seen, as yet without rows, and the shares of this process.
        """
        looked = [*losses, norm] if scale is None else [*losses, norm, scale]
        regular = step % guards.MOVES_EVERY == 0
        zeros = regular and (self._half or scale is not None)
        if zeros:
            looked.append(_zeros(moved))
        numbers = torch.stack([one.detach().float().reshape(()) for one in looked]).tolist()
        shares, rest = numbers[: len(losses) - 1], numbers[len(losses) - 1 :]
        seen = Seen(
            step,
            rate,
            loss=math.fsum(shares) if ranks.size() == 1 else rest[0],
            norm=rest[1],
            chance=self._chance,
            sample=_sample(moved) if regular else None,
            scale=None if scale is None else rest[2],
            zeros=rest[-1] if zeros else None,
        )
        return seen, shares

    def judge(self, seen: Seen, shares: Sequence[float], ids: Sequence[Sequence[str]]) -> str:
        """Look at a step and return "" when it may be taken, else why it is left out.

        Args:
            seen: of the step. shares: losses of the micro-batches of this process. ids: their rows.

        Raises:
            Return: training goes back. StageError: it ends here.
        """
        standing = self._course.guards
        event = guards.look(standing, seen, self._all)
        if event is None:
            guards.take_in(standing, seen)
            return ""
        told = ranks.gather([_guilty(shares, ids), [row for part in ids for row in part]])
        guilty = [row for rows, _ in told for row in rows] or [row for _, rows in told for row in rows]
        return self.act(replace(event, rows=tuple(dict.fromkeys(guilty))), seen)  # all have all rows of a whole step

    def act(self, event: Event, seen: Seen | None = None) -> str:
        """Do what is to be done about an event, see `judge`."""
        standing = self._course.guards
        broken = self._broken(frozen=True) if event.what.startswith("non-finite") else ""
        action = guards.decide(standing, event, self._settings, bool(broken), bool(self._broken(frozen=False)))
        guards.note(standing, event, action)
        if ranks.leads():
            write_jsonl(self._folder / GUARDS, standing.events)
        if action == "stop":
            raise guards.diagnosis(standing, event, broken)
        if action == "return":
            raise Return
        if action == "tell" and seen is not None:
            guards.take_in(standing, seen)
            return ""
        return event.what

    def _broken(self, frozen: bool) -> str:
        """Return the name of a frozen, or trained, weight that holds numbers that are not finite; "" for none."""
        for name, weight in self._model.named_parameters():
            if weight.requires_grad is not frozen and weight.is_floating_point() and not whole(weight).isfinite().all():
                return str(name)
        return ""


def _guilty(shares: Sequence[float], ids: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of the micro-batches whose loss is not finite; none where the loss is of the whole step."""
    if len(shares) != len(ids):
        return []
    return [row for loss, part in zip(shares, ids, strict=True) if not math.isfinite(loss) for row in part]


def _zeros(moved: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the share of gradient values that are zero."""
    counted = [(weight.grad == 0).sum() for weight in moved if weight.grad is not None]
    return torch.stack(counted).sum() / sum(weight.numel() for weight in moved)


def _sample(moved: Sequence[torch.Tensor]) -> bytes:
    """Return the first values of each trained tensor, as bytes."""
    values = torch.cat([weight.detach().flatten()[:SAMPLED].float() for weight in moved])
    return values.cpu().numpy().tobytes()
