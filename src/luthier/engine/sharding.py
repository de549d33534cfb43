"""A frozen base divided among the processes, the adapter whole on each: FSDP2 (Zhao et al. 2023; `fully_shard`).

Each process holds a part of every frozen weight. Those of a layer are gathered while it computes, forward and back, and
let go again. What is trained is small and is not divided, so gradients, optimizer, guards and checkpoints are those of
any training by several processes (`together`), and a run may go on with another number of them.

A gathering needs all processes: they have to walk through the layers equally often, see `Steps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from luthier.errors import StageError
from luthier.run import ranks

if TYPE_CHECKING:
    from luthier.engine.material import Material

PROBED = 2  # examples whose loss is compared, whole and divided: the shortest
ROUNDING = 64  # units in the last place by which the two may differ; devices sum in other orders


def divide(model: nn.Module, material: Material, device: str) -> dict[str, Any]:
    """Divide the frozen weights of a model, in place, and prove with numbers that it is still the same model.

    Args:
        model: whole, on the CPU, with its adapter. material: what it will be trained on. device: "cpu" or "cuda".

    Returns:
        What run.json says of it: `processes`, `layers` that are gathered one at a time, and the `share` of all frozen
        values that this process holds.

    Raises:
        StageError: the divided model has another loss.
    """
    before = _probe_loss(model, material, "cpu")
    frozen = sum(weight.numel() for weight in model.parameters() if not weight.requires_grad)
    trained = {weight for weight in model.parameters() if weight.requires_grad}
    for weight in trained:
        weight.data = weight.data.to(device)
    mesh = init_device_mesh(device, (ranks.size(),))
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    layers = _layers(inner)
    for layer in layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=ranks.lets_go(), ignored_params=trained)
    fully_shard(inner, mesh=mesh, ignored_params=trained)
    held = sum(weight.to_local().numel() for weight in model.parameters() if isinstance(weight, DTensor))
    after = _probe_loss(model, material, device)
    allowed = ROUNDING * torch.finfo(_dtype(model)).eps * abs(before)
    if not abs(after - before) <= allowed:
        raise StageError(
            f"Divided among {ranks.size()} processes, the model has a loss of {after:.6g} instead of {before:.6g}.",
            "FSDP",
            "Launch with --multi_gpu, where every process holds the whole model.",
        )
    return {"processes": ranks.size(), "layers": len(layers), "share": round(held / frozen, 4)}


def is_divided(model: nn.Module) -> bool:
    """Tell whether the weights of a model are divided among the processes."""
    return any(isinstance(module, FSDPModule) for module in model.modules())


def let_go(model: nn.Module) -> None:
    """Let gathered weights go after a pass that no backward pass follows.

    Rank 0 would do so alone when it saves, and then wait for the others to gather again.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight undivided; where it is divided all processes call this."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def _layers(model: nn.Module) -> list[nn.Module]:
    """Return the blocks that a model walks through one after the other: the items of its outermost module lists."""
    found: list[nn.Module] = []
    for module in model.children():
        found += list(module) if isinstance(module, nn.ModuleList) else _layers(module)
    return found


def _dtype(model: nn.Module) -> torch.dtype:
    return next(weight.dtype for weight in model.parameters() if not weight.requires_grad)


def _probe_loss(model: nn.Module, material: Material, device: str) -> float:
    """Return the summed loss of a few examples as one micro-batch."""
    shortest = sorted(material.train, key=lambda example: material.measure(example).tokens)[:PROBED]
    learned = [material.vary(example, 0) for example in shortest] if material.vary else shortest
    tensors = {name: value.to(device) for name, value in material.collate(learned).items()}
    training = model.training
    model.eval()
    with torch.no_grad(), material.around(model):
        loss, _ = material.loss_sum(model, tensors)
    model.train(training)
    let_go(model)
    return float(loss)
