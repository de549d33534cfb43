"""How several processes take one optimizer step together: they agree on it and add up their gradients once.

The step stays the unit. Each process has a share of its rows and divides its summed losses by the weight of the whole
step, so the sum over the processes is the gradient of one process, whatever their number and however uneven the
shares. DistributedDataParallel would take means, and wait for ever where a process has no rows in a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from luthier.engine.interrupt import Stop
from luthier.run import ranks


def agree(enough: bool, stop: Stop) -> bool:
    """Return whether memory was enough on all processes; pass on the wish to stop to those that did not hear it."""
    if ranks.size() == 1:
        return enough
    wanted = torch.tensor([float(not enough), float(stop.signal is not None)])
    ranks.add_up([wanted])
    if wanted[1]:
        stop.signal = next(number for number in ranks.gather(stop.signal) if number is not None)
        stop.agreed = True
    return not wanted[0]


def add_gradients(moved: Sequence[torch.Tensor], losses: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    """Add up the gradients over the processes, in place, and return the loss of the whole step.

    Args:
        moved: what is trained. losses: shares of the step's loss that this process has, none where it has no rows.
    """
    loss = torch.stack(list(losses)).sum() if losses else torch.zeros((), device=device)
    if ranks.size() > 1:
        touched = torch.tensor([float(weight.grad is not None) for weight in moved], device=device)
        for weight in moved:
            if weight.grad is None:  # this process had no rows, or none of them touched it
                weight.grad = torch.zeros_like(weight)
        ranks.add_up([*(weight.grad for weight in moved if weight.grad is not None), loss, touched])
        for weight, anywhere in zip(moved, touched.tolist(), strict=True):
            if not anywhere:  # the optimizer passes over it, and does not decay it
                weight.grad = None
    return loss
