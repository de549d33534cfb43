"""Holding down what is kept for the backward pass: how large micro-batches are, and recomputing as a last resort.

Recomputing activations (activation checkpointing, Chen et al. 2016) costs a second forward pass, so it is done only
where the estimate exceeds the machine.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from luthier.models.estimate import AdapterShape, Parameters

GIB = 2**30
SHARE = 0.9  # of the memory that a training may fill
CONTEXT_GIB = 0.6  # on a CUDA device, of each process
# More numbers than any architecture keeps for a token, in units of layers x hidden size: below it nothing is estimated.
KEPT_AT_MOST = 96


# Values (tokens x hidden size x layers) of a micro-batch on a CPU, for each thread, and the fewest tokens it may have.
# Small ones keep less; in a large model they are quicker too, as caches hold more of a layer, in a small one starting
# operations costs more than that wins, and the more so with several threads: benchmarks/train.py --budget.
VALUES, FEWEST = 2**20, 256


def token_budget(config: PretrainedConfig, device: str) -> int:
    """Return the tokens a micro-batch may have for this model; 0: the device's usual number."""
    if device != "cpu":
        return 0
    import torch

    threads = torch.get_num_threads()
    return max(FEWEST, threads * VALUES // (int(config.num_hidden_layers) * int(config.hidden_size)))


@dataclass(frozen=True)
class Checkpointing:
    """Whether activations are recomputed. `needed`, `there`: GiB, None where not looked at closely or not known."""

    on: bool
    needed: float | None = None
    there: float | None = None

    @property
    def told(self) -> dict[str, Any]:
        """What run.json says of it."""
        return asdict(self)


def decide(
    config: PretrainedConfig,
    adapter: AdapterShape,
    parameters: Parameters,
    dtype: torch.dtype,
    longest: tuple[int, int, int],
    device: str,
) -> Checkpointing:
    """Decide for one training on this machine.

    Args:
        config: of the base. adapter, parameters: what is trained. dtype: of the base.
        longest: (examples, tokens each, trained tokens in all) of the largest micro-batch; a flat one is one example.
        device: "cpu", "mps" or "cuda".
    """
    there = machine_memory(device)
    if there is None:
        return Checkpointing(False)
    rows, length, _ = longest
    layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    kept = rows * length * layers * hidden * KEPT_AT_MOST * dtype.itemsize
    weights = parameters.total * dtype.itemsize + parameters.trainable * 16
    if (kept + weights) / GIB < there / 2:
        return Checkpointing(False, None, round(there, 2))
    from luthier.models import estimate
    from luthier.models.machine import shipped

    cost = estimate.cost_per_token(config, adapter, dtype, max(length, 8))
    work, machine = estimate.Work(longest), shipped(device, dtype, rate=1.0)  # of which time is not asked
    needed = estimate.memory(config, parameters, adapter.method, dtype, cost, work, machine).total
    return Checkpointing(needed > SHARE * there, round(needed, 2), round(there, 2))


def machine_memory(device: str) -> float | None:
    """Return the memory of the machine in GiB, on CUDA what a context leaves; None when the system does not tell."""
    import torch

    if device == "cuda":
        return float(torch.cuda.mem_get_info()[1]) / GIB - CONTEXT_GIB
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (AttributeError, OSError, ValueError):
        return None
