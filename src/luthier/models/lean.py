"""A lean LoRA: PEFT's mathematics for plain LoRA on linear layers, with fewer copies and products.

PEFT's forward of a LoRA layer (Hu et al. 2021) is a chain of small operations, each of which autograd keeps inputs for.
Here the layer is one autograd function: it keeps its input once, adds the low-rank product into the base's output in
place, and writes the thin products in the layout in which matrix libraries are quick: with rank r the small factor
stands first, (r, tokens), which is two to six times as fast on a CPU as (tokens, r). In half precision the small A and
B are cast, never the large input.

The modules stay PEFT's: weights, state dict and `save_pretrained` are untouched. A layer that is not plain (DoRA,
4-bit, merged, several adapters, autocast, anything unknown) keeps PEFT's forward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class LoraPath:
    """Which LoRA forward the layers of a model take.

    Attributes:
        lean: layers on the lean path. peft: layers on PEFT's own, and `why`, by reason.
    """

    lean: int
    peft: int
    why: dict[str, int] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """What run.json says of it."""
        return {"lean": self.lean, "peft": self.peft, **({"peft_because": self.why} if self.why else {})}


class _Lora(torch.autograd.Function):
    """y = x W + b + scale * dropout(x) A B, in one piece. W is frozen: it gets no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: nn.Module, a: Tensor, b: Tensor, scale: float, dropout: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = _base_product(flat, base)
        a, b = a.to(flat.dtype), b.to(flat.dtype)
        mask = None
        thin_input = flat
        if dropout:
            thin_input, mask = torch.native_dropout(flat, dropout, True)
        thin = a @ thin_input.t()  # (r, tokens)
        y.addmm_(thin.t(), b.t(), alpha=scale)
        ctx.save_for_backward(flat, thin, a, b, mask)
        ctx.base, ctx.scale, ctx.kept, ctx.shape = base, scale, 1.0 - dropout, x.shape
        return y.view(*x.shape[:-1], y.shape[-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, thin, a, b, mask = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, gradients[0].shape[-1])
        thin_gradient = b.t() @ gradient.t()  # (r, tokens)
        thin_gradient *= ctx.scale
        of_x = of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_x = _base_gradient(gradient, ctx.base)
            if mask is None:
                of_x.addmm_(thin_gradient.t(), a)
            else:
                of_x.addcmul_(thin_gradient.t() @ a, mask.to(of_x.dtype), value=1 / ctx.kept)
            of_x = of_x.view(ctx.shape)
        if ctx.needs_input_grad[2]:
            of_a = thin_gradient @ (flat if mask is None else flat * mask * (1 / ctx.kept))
        if ctx.needs_input_grad[3]:
            of_b = (thin @ gradient).mul_(ctx.scale).t()
        return of_x, None, of_a, of_b, None, None


@contextmanager
def lean_lora(model: nn.Module) -> Iterator[LoraPath]:
    """Let the plain LoRA layers of a PEFT model take the lean path, until the end of the block.

    Within the block a layer still takes PEFT's forward while it is merged or its adapter is disabled.

    Args:
        model: changed in its modules' forward only; a model without LoRA is left as it is.
    """
    refused: Counter[str] = Counter()
    changed: list[LoraLinear] = []
    for module in model.modules():
        if isinstance(module, LoraLayer):
            reason = not_plain(module)
            if reason is None and isinstance(module, LoraLinear):
                module.forward = _forward_of(module)
                changed.append(module)
            else:
                refused[reason or "not a linear layer"] += 1
    try:
        yield LoraPath(len(changed), refused.total(), dict(sorted(refused.items())))
    finally:
        for module in changed:
            del module.forward


def not_plain(module: LoraLayer) -> str | None:
    """Return why a LoRA layer must keep PEFT's forward; None when the lean path is the same mathematics."""
    base = module.get_base_layer()
    names = [name for name in module.active_adapters if name in module.lora_A]
    if type(module) is not LoraLinear:
        return type(module).__name__
    if not _is_linear(base):
        return f"its base is a {type(base).__name__}"
    if len(names) != 1:
        return f"{len(names)} active adapters"
    name = names[0]
    a, b, dropout = module.lora_A[name], module.lora_B[name], module.lora_dropout[name]
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in (base, a, b, dropout))
    reasons = {
        "a variant such as DoRA": name in module.lora_variant,
        "merged": module.merged,
        "adapter disabled": module.disable_adapters,
        "a trained base weight": any(weight.requires_grad for weight in base.parameters()),
        "a bias in the adapter": type(a) is not nn.Linear or a.bias is not None or b.bias is not None,
        "an unknown dropout": type(dropout) not in (nn.Dropout, nn.Identity),
        "hooks": hooked,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _is_linear(base: nn.Module) -> bool:
    """Tell whether a layer is x W + b and no more. One of an own class, such as Falcon's, is asked with numbers."""
    if type(base) in (nn.Linear, Conv1D):
        return True
    if not isinstance(base, nn.Linear) or base.weight.dtype not in FLOATS or base.weight.ndim != 2:
        return False
    if base.weight.is_meta:  # a plan has no numbers to ask with
        return True
    probe = torch.linspace(-1, 1, 2 * base.in_features, dtype=base.weight.dtype, device=base.weight.device).view(2, -1)
    with torch.no_grad():
        made, expected = base(probe), nn.functional.linear(probe, base.weight, base.bias)
    allowed = 16 * torch.finfo(probe.dtype).eps * (1 + float(expected.abs().max()))
    return made.shape == expected.shape and float((made - expected).abs().max()) <= allowed


def _forward_of(module: LoraLinear) -> Any:
    name = next(name for name in module.active_adapters if name in module.lora_A)
    base: Any = module.get_base_layer()
    a, b, dropout = module.lora_A[name], module.lora_B[name], module.lora_dropout[name]
    scale = float(module.scaling[name])

    def forward(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        cast = not x.is_meta and torch.is_autocast_enabled(x.device.type)
        if module.disable_adapters or module.merged or cast or args or kwargs:
            return LoraLinear.forward(module, x, *args, **kwargs)
        rate = dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0
        made: Tensor = _Lora.apply(x, base, a.weight, b.weight, scale, rate)  # type: ignore[no-untyped-call]
        return made

    return forward


def _base_product(x: Tensor, base: nn.Module) -> Tensor:
    weight: Any = base.weight
    bias: Any = base.bias
    if isinstance(base, nn.Linear):
        return nn.functional.linear(x, weight, bias)
    return torch.addmm(bias, x, weight)  # Conv1D keeps its weight as (inputs, outputs)


def _base_gradient(gradient: Tensor, base: nn.Module) -> Tensor:
    weight: Any = base.weight
    made: Tensor = gradient @ (weight if isinstance(base, nn.Linear) else weight.t())
    return made
