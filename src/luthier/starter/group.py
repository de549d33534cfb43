"""Processes that train together, one per core: on CPUs this scales where threads within one product do not.

Started by ``python -m torch.distributed.run --nproc-per-node N``; without it, a group of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor


def join() -> None:
    """Join the group that the environment names, if it names one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Until every process has come here."""
    if dist.is_initialized():
        dist.barrier()


def add(values: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange."""
    if not dist.is_initialized():
        return
    tensors = list(values)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def from_first(value: float, device: str) -> float:
    """The first process's value, everywhere: clocks differ, decisions must not."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(tensor, 0)
    return float(tensor)
