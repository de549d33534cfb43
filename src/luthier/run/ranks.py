"""Several processes that do one piece of work together, as `torchrun` and `accelerate launch` start them.

The launcher says in the environment who a process is. Rank 0 leads: it alone writes files and tells. What the ranks
tell each other is JSON or tensors, never pickled objects.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from luthier.errors import StageError, UserError

if TYPE_CHECKING:
    import torch

# The others wait while rank 0 prepares data. A rank that dies does not make the rest wait: the launcher ends them.
PATIENCE = timedelta(days=7)
MEETING = timedelta(minutes=30)  # until all have started
OF_A_LAUNCHER = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_ADDR", "MASTER_PORT"),
    *("TORCHELASTIC_", "ACCELERATE_", "FSDP_", "LUTHIER_DIVIDES"),
)
FSDP, DIVIDES = "ACCELERATE_USE_FSDP", "LUTHIER_DIVIDES"
BUCKET = 2**23  # values that are added up in one message, 32 MiB of float32


def size() -> int:
    """Return how many processes work together."""
    return max(1, _number("WORLD_SIZE", 1))


def rank() -> int:
    """Return which of them this process is, from 0."""
    return _number("RANK", 0) if size() > 1 else 0


def leads() -> bool:
    """Tell whether this process writes files and tells."""
    return rank() == 0


def divides() -> bool:
    """Tell whether the processes divide the frozen base among them (FSDP2), once they have met."""
    return size() > 1 and _says(DIVIDES)


def lets_go() -> bool:
    """Tell whether a divided layer lets its gathered weights go after the forward pass: accelerate's setting."""
    return os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "").lower() not in ("0", "false")


def join() -> None:
    """Meet the other processes; does nothing for one process, or when they have met.

    Raises:
        UserError: the environment names several processes, and not which one this is, or it asks to divide the model
            among them in a way that is not done. StageError: not all came.
    """
    _heed_division()
    if size() == 1:
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore

    if dist.is_initialized():
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {size()}, but {', '.join(missing)} is not set.",
            "the environment",
            "Start with torchrun or accelerate launch, or unset WORLD_SIZE.",
        )
    cuda = torch.cuda.is_available() and not _says("ACCELERATE_USE_CPU")
    if cuda:
        torch.cuda.set_device(_number("LOCAL_RANK", 0))
    store = PrefixStore("luthier", _meet())
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=size(), timeout=PATIENCE)


def leave() -> None:
    """Part from the other processes, if they have met."""
    if size() == 1:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def apart() -> dict[str, str]:
    """Return the environment for a process that is started by one of these and is none of them."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OF_A_LAUNCHER)}


def share(value: Any = None) -> Any:
    """Return rank 0's value, a JSON document, on every rank. All of them call it."""
    return gather(value)[0] if size() > 1 else value


def gather(value: Any) -> list[Any]:
    """Return the values of all ranks in their order, JSON documents, on every rank. All of them call it."""
    if size() == 1:
        return [value]
    import torch
    import torch.distributed as dist

    said = torch.frombuffer(bytearray(orjson.dumps(value)), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.long) for _ in range(size())]
    with _together():
        dist.all_gather(lengths, torch.tensor([said.numel()]))
        longest = int(max(lengths))
        heard = [torch.zeros(longest, dtype=torch.uint8) for _ in range(size())]
        dist.all_gather(heard, torch.nn.functional.pad(said, (0, longest - said.numel())))
    return [orjson.loads(one[: int(length)].numpy().tobytes()) for one, length in zip(heard, lengths, strict=True)]


def add_up(tensors: Sequence[torch.Tensor]) -> None:
    """Replace tensors by their sums over the ranks, in place; every rank has the same ones, to the bit, after it."""
    if size() == 1:
        return
    import torch
    import torch.distributed as dist

    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        with _together():
            dist.all_reduce(flat)
        for tensor, summed in zip(bucket, torch.split(flat, [tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(summed.view_as(tensor))


def wait() -> None:
    """Wait until every rank is here."""
    gather(None)


def parted() -> StageError:
    """Return the error for when the others cannot be reached any more."""
    return StageError(
        "Another process of this work has ended.",
        f"process {rank()} of {size()}",
        "See what that process told. Run again: training goes on from the last checkpoint.",
    )


def lost(error: BaseException) -> bool:
    """Tell whether an error means that another process cannot be reached: torch names the library that tried."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


def _meet() -> Any:
    """Return the store of the launcher when every process has come to it.

    Raises:
        StageError: some did not come: one that ended on another machine does not end those here.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=MEETING)))
        store.set(f"here/{rank()}", "")
        store.wait([f"here/{one}" for one in range(size())], MEETING)
    except (dist.DistError, RuntimeError) as error:
        raise StageError(
            f"Not all of {size()} processes came within {MEETING.total_seconds() / 60:.0f} minutes.",
            f"process {rank()} of {size()}",
            "See what the others told, and start all again.",
        ) from error
    store.set_timeout(PATIENCE)
    return store


@contextmanager
def _together() -> Iterator[None]:
    """Tell what it means when the others cannot be reached any more."""
    try:
        yield
    except RuntimeError as error:
        raise parted() from error


def _buckets(tensors: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Cut into lists of one dtype and device each, of not much more than `BUCKET` values."""
    buckets: list[list[torch.Tensor]] = []
    filled = 0
    for tensor in tensors:
        last = buckets[-1][0] if buckets else None
        if last is None or filled > BUCKET or (last.dtype, last.device) != (tensor.dtype, tensor.device):
            buckets.append([])
            filled = 0
        buckets[-1].append(tensor)
        filled += tensor.numel()
    return buckets


def _heed_division() -> None:
    """Note that the base is to be divided, and hide it from transformers and accelerate, which have their own way.

    They would load the weights on rank 0 alone, and divide what is trained, too.
    """
    wrong = [
        (_says("ACCELERATE_USE_DEEPSPEED"), "DeepSpeed", "ACCELERATE_USE_DEEPSPEED", "Use FSDP with fsdp_version 2"),
        (_says(FSDP) and os.environ.get("FSDP_VERSION") != "2", "FSDP 1", "FSDP_VERSION", "Set fsdp_version to 2"),
        (_says(FSDP) and _says("FSDP_OFFLOAD_PARAMS"), "Offloading", "FSDP_OFFLOAD_PARAMS", "Set it to false"),
    ]
    for asked, what, name, remedy in wrong:
        if asked:
            raise UserError(
                f"{what} is asked for, which Luthier does not do.",
                f"{name} in the environment",
                f"{remedy}, or launch with --multi_gpu, where every process holds the whole model.",
            )
    if _says(FSDP):
        os.environ |= {DIVIDES: "true", FSDP: "false"}


def _says(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true")


def _number(name: str, default: int) -> int:
    told = os.environ.get(name, "")
    return int(told) if told.isdecimal() else default
