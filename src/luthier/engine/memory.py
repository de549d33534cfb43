"""What is done when memory runs out: the same step again in smaller micro-batches, with the same mathematics."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size  # type: ignore[import-untyped]

from luthier.errors import StageError


def ran_out(error: BaseException) -> bool:
    """Tell whether an error means that memory ran out, on a GPU, on Apple's, or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    known = isinstance(error, RuntimeError) and "not enough memory" in str(error)  # torch on Windows and macOS
    return known or (isinstance(error, Exception) and should_reduce_batch_size(error))


def smaller(budget: int, sizes: Callable[[int], list[int]]) -> int | None:
    """Return the next smaller token budget that cuts otherwise; None when every micro-batch has one example.

    Args:
        budget: that was too large. sizes: examples in each micro-batch with a given budget.
    """
    now = sizes(budget)
    while budget > 1 and max(now, default=0) > 1:
        budget //= 2
        if sizes(budget) != now:
            return budget
    return None


def make_room(model: Any) -> None:
    """Free what a step that ran out has left: gradients, the graph, and what the allocator keeps."""
    model.zero_grad(set_to_none=True)
    gc.collect()
    clear_device_cache()


def no_way_out(step: int) -> StageError:
    """Return the error for when memory is too small for one example at a time."""
    return StageError(
        f"Memory ran out at step {step} even with one example at a time.",
        f"step {step}",
        "Lower data.max_length or adapter.r, choose a smaller model.base, or adapter.method qlora on a GPU; "
        "`luthier plan` says what fits.",
    )


def no_way_back(step: int) -> StageError:
    """Return the error for when memory runs out in a divided model: the step cannot be done again by one process."""
    return StageError(
        f"Memory ran out at step {step}, while the base is divided among the processes.",
        f"step {step}",
        "Launch more processes, or lower data.max_length. What is saved stays: run again to go on from there.",
    )
