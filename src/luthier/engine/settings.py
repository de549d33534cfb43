"""What a training is told, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
        schedule: "constant", "linear" or "cosine". warmup: steps up to the highest rate.
        max_grad_norm: gradients are clipped to this norm. weight_decay: of matrices; biases and norms have none.
        patience: evaluations without a fall of the validation loss by over `threshold` before training stops; None
            never stops early.
        checkpoint_every: optimizer steps between evaluations and checkpoints; the last step always has both.
        keep_checkpoints: how many of the last checkpoints stay; the best one stays besides.
        token_budget: padded tokens of a micro-batch at most; 0 chooses by device.
        overhead_tokens: what starting a micro-batch costs, in tokens; None chooses by device.
        autocast: run the forward pass in this precision; None computes in the dtypes of the weights.
    """

    epochs: float = 3.0
    steps: int | None = None
    batch_size: int = 8
    learning_rate: float = 2e-4
    schedule: str = "cosine"
    warmup: int = 0
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    patience: int | None = None
    threshold: float = 0.0
    checkpoint_every: int = 100
    keep_checkpoints: int = 1
    token_budget: int = 0
    overhead_tokens: int | None = None
    autocast: Literal["bfloat16", "float16"] | None = None

    def micro(self, device: str) -> tuple[int, int]:
        """Return token budget and overhead of micro-batches on a device type."""
        budget, overhead = MICRO_BATCHES.get(device, MICRO_BATCHES["cuda"])
        return self.token_budget or budget, overhead if self.overhead_tokens is None else self.overhead_tokens
