"""Muon for the matrices, AdamW for the rest, and the warm-up, stable, decay schedule that both follow.

``torch.optim.Muon`` orthogonalises in bfloat16. On a CPU without bfloat16 instructions that product is emulated, some
fifty times slower than float32, so the same iteration is done here in float32 wherever bfloat16 is not native, and
matrices of one shape go through it together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

# The quintic of Jordan et al., "Muon" (2024): steepest at zero; five rounds bring singular values to about 0.7 to 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def learning_rate_factor(step: int, steps: int, warmup: int, decay: int) -> float:
    """The share, 0 to 1, of the peak learning rate at ``step`` (from 0) of ``steps``: linear up, flat, linear down.

    The last ``decay`` steps fall to ``1 / decay`` of the peak, so that the last step still counts.
    """
    rising = (step + 1) / warmup if step < warmup else 1.0
    falling = (steps - step) / decay if decay and step > steps - decay else 1.0  # steps = 0: not decided yet
    return max(0.0, min(rising, falling))


def orthogonalise(gradients: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrices, approximately, of a stack (count, rows, columns), in its own precision."""
    a, b, c = COEFFICIENTS
    tall = gradients.shape[-2] > gradients.shape[-1]
    x = gradients.mT if tall else gradients
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def shared_orthogonalise(gradients: Tensor) -> Tensor:
    """The same, each process of a group doing its share of the stack."""
    if not dist.is_initialized():
        return orthogonalise(gradients)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    result = torch.zeros_like(gradients)
    if len(gradients) > dist.get_rank():
        result[mine] = orthogonalise(gradients[mine])
    dist.all_reduce(result)
    return result


class Muon(torch.optim.Optimizer):
    """Momentum, Nesterov, orthogonalised; learning rate scaled by sqrt(max(1, rows / columns)); decoupled decay."""

    def __init__(
        self, params: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                self._update(weights, group, scale=max(1.0, shape[0] / shape[1]) ** 0.5)

    def _update(self, weights: list[Tensor], group: dict[str, Any], scale: float) -> None:
        directions = []
        for weight in weights:
            state, gradient = self.state[weight], cast("Tensor", weight.grad)
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            directions.append(gradient.lerp(state["momentum"], group["momentum"]))
        for weight, update in zip(weights, shared_orthogonalise(torch.stack(directions)), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update, alpha=-group["lr"] * scale)


def build_optimizers(
    network: nn.Module, matrix_rate: float, vector_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon on hidden matrices at ``matrix_rate``; AdamW on embedding and gains at ``vector_rate``."""
    matrices: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, weight in network.named_parameters():
        hidden = weight.dim() == 2 and "embed_tokens" not in name
        (matrices if hidden else vectors).append(weight)
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=matrix_rate, weight_decay=weight_decay),
        torch.optim.AdamW(vectors, lr=vector_rate, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0),
    ]
    set_peaks(optimizers, matrix_rate, vector_rate)
    return optimizers


def set_peaks(optimizers: list[torch.optim.Optimizer], matrix_rate: float, vector_rate: float) -> None:
    """Set the peak learning rates of Muon and of AdamW."""
    for optimizer, peak in zip(optimizers, (matrix_rate, vector_rate), strict=True):
        for group in optimizer.param_groups:
            group["peak"] = peak


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    """Give every group ``factor`` times its peak learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
