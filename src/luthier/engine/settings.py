"""What a training is told, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from luthier.engine.curriculum import Pacing
from luthier.engine.guards import GuardSettings
from luthier.engine.plateau import Plateau
from luthier.engine.schedules import DECAY, POWER, RISE, Schedule
from luthier.recipe.phases import Phase

# Padded tokens a micro-batch may have, and what starting one costs in tokens, by device type. A CPU loses little to
# small micro-batches and much to padding, a GPU the other way round. cpu: on one core, a llama of 17 M took 1.23 s a
# step of 8 with a cost of 16 to 48, 1.54 s with 0, 1.92 s in one padded batch. mps and cuda are estimates.
MICRO_BATCHES = {"cpu": (2048, 48), "mps": (4096, 256), "cuda": (16384, 1024)}


@dataclass(frozen=True)
class FitSettings:
    """Settings of one training.

    Attributes:
        epochs: passes over the rows, may be fractional; not read when `steps`, optimizer steps in all, is given.
        batch_size: examples an optimizer step. learning_rate: highest rate of the schedule.
        schedule: name of a shape of `engine.schedules`. warmup: steps up to the highest rate.
        floor, power, decay, rise, phases: what that shape reads, see `Schedule`.
        plateau: how the rate is reduced when the validation loss stops improving; None never does.
        curriculum: how rows come from easy to hard, by `Material.difficulties`; None draws them uniformly.
        max_grad_norm: gradients are clipped to this norm. weight_decay: of matrices; biases and norms have none.
        patience: evaluations without a fall of the validation loss by over `threshold` before training stops; None
            never stops early.
        checkpoint_every: optimizer steps between evaluations and checkpoints; the last step always has both.
        keep_checkpoints: how many of the last checkpoints stay; the best one stays besides.
        token_budget: padded tokens of a micro-batch at most; 0 chooses by device.
        overhead_tokens: what starting a micro-batch costs, in tokens; None chooses by device.
        autocast: run the forward pass in this precision; None computes in the dtypes of the weights.
        compiled: the model's elementwise parts come from torch.compile, so that a resumed training has the same.
        guards: what is done when something goes wrong; None only stops where a loss or gradient is not finite.
    """

    epochs: float = 3.0
    steps: int | None = None
    batch_size: int = 8
    learning_rate: float = 2e-4
    schedule: str = "cosine"
    warmup: int = 0
    floor: float | None = None
    power: float = POWER
    decay: float = DECAY
    rise: float = RISE
    phases: tuple[Phase, ...] = ()
    plateau: Plateau | None = None
    curriculum: Pacing | None = None
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    patience: int | None = None
    threshold: float = 0.0
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    token_budget: int = 0
    overhead_tokens: int | None = None
    autocast: Literal["bfloat16", "float16"] | None = None
    compiled: bool = False
    guards: GuardSettings | None = field(default_factory=GuardSettings)

    def schedule_over(self, steps: int) -> Schedule:
        """Return the schedule over so many optimizer steps.

        Raises:
            UserError: it cannot be walked in them.
        """
        return Schedule(
            steps,
            self.learning_rate,
            self.schedule,
            self.warmup,
            self.floor,
            self.power,
            self.decay,
            self.rise,
            self.phases,
        )

    def micro(self, device: str, padded: bool = True) -> tuple[int, int, bool]:
        """Return how steps are cut on a device type: token budget, overhead, and whether micro-batches are padded."""
        budget, overhead = MICRO_BATCHES.get(device, MICRO_BATCHES["cuda"])
        if self.overhead_tokens is not None:
            overhead = self.overhead_tokens
        return self.token_budget or budget, overhead, padded
