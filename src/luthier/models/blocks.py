"""Lean norms and gated activations: the elementwise parts of a transformer in fewer passes over memory.

An RMSNorm (Zhang & Sennrich 2019) is a chain of five operations in transformers, a SwiGLU (Shazeer 2020) one of two,
and autograd keeps what passes between them. Here each is one autograd function that keeps its inputs and nothing of
their size besides. A module takes the lean forward only if it gives the same numbers as its own.

With `compiled` torch.compile makes the same parts instead. It has to warm up for seconds, and on a CPU gains little
over the lean forward (docs/performance.md): so it is an option and not the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from shutil import which
from typing import Any

import torch
from torch import Tensor, nn

from luthier.errors import UserError

FLOATS = (torch.float32, torch.float64)  # in half precision a norm computes in float32, and casts: left as it is
GATED = ("gate_proj", "up_proj", "down_proj", "act_fn")
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Blocks:
    """How many modules take the lean forward, and whether torch.compile made it."""

    norms: int
    gated: int
    compiled: bool

    @property
    def told(self) -> dict[str, Any]:
        """What run.json says of it."""
        return asdict(self)


class _Norm(torch.autograd.Function):
    """y = weight * x / sqrt(mean(x^2) + eps). The weight is frozen."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = x.shape[-1]
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(size).add_(eps).rsqrt_()
        ctx.save_for_backward(x, scale, weight)
        made: Tensor = (x * scale).mul_(weight)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        pulled = gradients[0] * weight
        along = torch.linalg.vecdot(pulled, x, dim=-1).unsqueeze(-1)
        along *= scale**3 / -x.shape[-1]
        return pulled.mul_(scale).addcmul_(x, along), None, None


class _Gate(torch.autograd.Function):
    """y = silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        of_up = nn.functional.silu(gate).mul_(gradients[0])
        return torch.ops.aten.silu_backward(gradients[0] * up, gate), of_up


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return the root-mean-square norm of the last dimension, times a frozen weight."""
    made: Tensor = _Norm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return made


def gate(gated: Tensor, up: Tensor) -> Tensor:
    """Return silu(gated) * up."""
    made: Tensor = _Gate.apply(gated, up)  # type: ignore[no-untyped-call]
    return made


@contextmanager
def lean_blocks(model: nn.Module, compiled: bool = False) -> Iterator[Blocks]:
    """Let the norms and gated activations of a model take the lean forward, until the end of the block.

    Args:
        model: changed in its modules' forward only. compiled: let torch.compile make them.

    Raises:
        UserError: `compiled`, and there is no C++ compiler for it.
    """
    if compiled and next(model.parameters()).device.type == "cpu" and not (which("g++") or which("clang++")):
        raise UserError(
            "There is no C++ compiler to compile with.", "training.compile", "Install g++, or leave it off."
        )
    made_norm, made_gate = (_compiled_norm(), _compiled_gate()) if compiled else (norm, gate)
    changed: list[nn.Module] = []
    counts = {"norms": 0, "gated": 0}
    for module in model.modules():
        for name, forward in (("norms", _norm_forward(module, made_norm)), ("gated", _gated(module, made_gate))):
            if forward is not None and _same(module, forward):
                module.forward = forward
                changed.append(module)
                counts[name] += 1
    try:
        yield Blocks(**counts, compiled=compiled)
    finally:
        for module in changed:
            del module.forward


def _norm_forward(module: Any, made: Callable[[Tensor, Tensor, float], Tensor]) -> Forward | None:
    """Return the lean forward of what may be an RMSNorm; None for anything else."""
    weight: Any = getattr(module, "weight", None)
    eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    named = dict(module.named_parameters())
    if list(named) != ["weight"] or weight.ndim != 1 or weight.requires_grad or not isinstance(eps, float):
        return None
    return lambda x: made(x, module.weight, eps)


def _gated(module: Any, made: Callable[[Tensor, Tensor], Tensor]) -> Forward | None:
    """Return the lean forward of what may be a gated feed-forward block; None for anything else."""
    if not all(hasattr(module, name) for name in GATED):
        return None
    return lambda x: module.down_proj(made(module.gate_proj(x), module.up_proj(x)))


def _same(module: nn.Module, forward: Forward) -> bool:
    """Tell whether a lean forward gives what the module's own gives, on numbers."""
    inner: Any = module.gate_proj if hasattr(module, "gate_proj") else module
    size = inner.in_features if hasattr(inner, "in_features") else inner.weight.shape[-1]
    weight = next(module.parameters())
    if weight.dtype not in FLOATS or module._forward_hooks or module._forward_pre_hooks:
        return False
    if weight.is_meta:
        return _likely(module)
    probe = torch.linspace(-2, 3, 2 * size, dtype=weight.dtype, device=weight.device).reshape(1, 2, size)
    training = module.training
    module.eval()
    with torch.no_grad():
        expected, got = module(probe), forward(probe)
    module.train(training)
    allowed = 64 * torch.finfo(probe.dtype).eps * float(expected.abs().max())
    return expected.shape == got.shape and float((expected - got).abs().max()) <= allowed


def _likely(module: Any) -> bool:
    """Tell whether a module without numbers, of a model that is only planned, will give the same."""
    if not hasattr(module, "act_fn"):
        return "RMSNorm" in type(module).__name__
    probe = torch.linspace(-2, 3, 8)
    return torch.allclose(module.act_fn(probe), nn.functional.silu(probe))


def _compiled_norm() -> Callable[[Tensor, Tensor, float], Tensor]:
    def plain(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps))

    return torch.compile(plain, dynamic=True)


def _compiled_gate() -> Callable[[Tensor, Tensor], Tensor]:
    def plain(gated: Tensor, up: Tensor) -> Tensor:
        return nn.functional.silu(gated) * up

    return torch.compile(plain, dynamic=True)
