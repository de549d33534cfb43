"""What a training is, besides its model and where it stands: the material, the settings, and the order of its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from luthier.engine.batches import Collate, Measured, Order, Tensors, Vary, measure_language
from luthier.engine.curriculum import Curriculum
from luthier.engine.schedules import Schedule
from luthier.engine.settings import FitSettings

LossSum = Callable[[Any, Any], tuple[torch.Tensor, Any]]
Backward = Callable[[torch.Tensor], None]
WholeStep = Callable[[Any, Sequence[Tensors], float, Backward], torch.Tensor]


@dataclass(frozen=True)
class Material:
    """What is learned: the examples, and how they become tensors and a loss. A kind supplies the functions.

    Attributes:
        train, validation: dataclass examples with an `id`. validation may be empty: no evaluation, no early stopping.
        collate: examples to tensors. loss_sum: (model, tensors) to (summed loss, weight).
        measure: length and weight of an example; the weights of a micro-batch add up to what `loss_sum` returns.
        whole_step: for a loss over the whole step, as with in-batch negatives: (model, micro-batches, weight, backward)
            to the detached mean loss. It calls `backward` itself. None sums the micro-batches by `loss_sum`.
        vary: (training example, epoch from 0) to the example as it is learned in that epoch; None: always the same.
        padded: whether `collate` pads, so that micro-batches are cut to waste little; see `batches.cut`.
        chance: the loss of a model that knows nothing, for the guards; None when that is not known.
        difficulties: of the training examples, in their order; read by a curriculum alone.
        around: context manager of the model in which it is trained and evaluated.
    """

    train: Sequence[Any]
    validation: Sequence[Any]
    collate: Collate
    loss_sum: LossSum
    measure: Callable[[Any], Measured] = measure_language
    whole_step: WholeStep | None = None
    vary: Vary | None = None
    padded: bool = True
    chance: float | None = None
    difficulties: Sequence[float] = ()
    around: Callable[[Any], AbstractContextManager[Any]] = nullcontext


@dataclass(frozen=True)
class Plan:
    """What one training is, besides its model.

    Attributes:
        material, settings, folder, seed: as for `fit`. total: optimizer steps. fingerprint: see `identity`.
    """

    material: Material
    settings: FitSettings
    folder: Path
    seed: int
    total: int
    fingerprint: str

    @cached_property
    def schedule(self) -> Schedule:
        """The learning rate of every step, before reductions."""
        return self.settings.schedule_over(self.total)

    @cached_property
    def order(self) -> Order:
        """Which rows come when."""
        settings, pacing = self.settings, self.settings.curriculum
        order = Order(self.total, settings.batch_size, self.seed)
        if pacing is None:
            return order
        return order._replace(epoch=Curriculum(self.material.difficulties, pacing, settings.batch_size, self.total))
