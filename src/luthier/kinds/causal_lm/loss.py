"""Cross-entropy of a frozen output head, with its gradient, a piece of the positions at a time.

The logits of a step, [positions, vocabulary], are its largest tensor, and autograd keeps several of them. With a frozen
head only the gradient to the hidden states is needed, and it is known as soon as the logits are: so it is computed in
the forward pass, piece by piece, and no logits are kept (as the Liger kernels do, Hsu et al. 2024).

The model is called as ever, through its wrappers, while its head hands the hidden states through. That is right only
where the head is the last thing a model does: `find_head` tests it with planted logits, so that scaled or soft-capped
logits are noticed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from luthier.models.segments import innermost

KEEP = "logits_to_keep"
LOGITS = 2**21  # logits of a piece: 8 MiB of float32, which a CPU's cache holds
PLANTED = 200.0  # far outside what soft-capping lets pass


@dataclass(frozen=True)
class Head:
    """A frozen output head whose loss is computed apart from the model.

    Attributes:
        module: the head. loss: (hidden [positions, size], module, target [positions]) to the summed loss. name: for
            run.json.
    """

    module: nn.Linear
    loss: Callable[[Tensor, nn.Linear, Tensor], Tensor]
    name: str


class _FrozenHead(torch.autograd.Function):
    """Summed cross-entropy of hidden @ weight.T + bias."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor) -> Tensor:
        precision = torch.promote_types(hidden.dtype, torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        total = hidden.new_zeros((), dtype=precision)
        size = max(1, LOGITS // weight.shape[0])
        for start in range(0, hidden.shape[0], size):
            piece = slice(start, start + size)
            chosen = target[piece, None]
            logs = nn.functional.log_softmax(nn.functional.linear(hidden[piece], weight, bias), -1, dtype=precision)
            total -= logs.gather(1, chosen).sum()
            if gradient is not None:
                slope = logs.exp_().scatter_add_(1, chosen, -torch.ones_like(chosen, dtype=precision))
                torch.mm(slope.to(weight.dtype), weight, out=gradient[piece])
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * slopes[0].to(gradient.dtype), None, None, None


def frozen_head_loss(hidden: Tensor, head: nn.Linear, target: Tensor) -> Tensor:
    """Return the summed cross-entropy of the head's logits, in nats, in float32 (float64 where the model is).

    Args:
        hidden: [positions, hidden size]. head: frozen. target: [positions], the token that each should predict.
    """
    total: Tensor = _FrozenHead.apply(hidden, head.weight, head.bias, target)  # type: ignore[no-untyped-call]
    return total


def find_head(model: nn.Module) -> Head | str:
    """Return the head whose loss may be computed apart from the model, or why there is none, in a few words."""
    inner: Any = innermost(model)
    if KEEP not in inspect.signature(inner.forward).parameters:
        return "the model cannot choose positions"
    head = inner.get_output_embeddings()
    if type(head) is not nn.Linear or head._forward_hooks or head._forward_pre_hooks:
        return "its head is not a plain linear layer"
    if any(weight.requires_grad for weight in head.parameters()):
        return "its head is trained"
    if not _is_last(model, head):
        return "its logits are changed after the head"
    if head.weight.device.type == "cuda" and find_spec("liger_kernel") is not None:
        return Head(head, _liger_loss, "liger")
    return Head(head, frozen_head_loss, "frozen head")


@contextmanager
def handed_through(head: nn.Module, made: Callable[[Tensor], Tensor] = lambda hidden: hidden) -> Iterator[None]:
    """Let the head return `made` of its input, by default the hidden states themselves, within the block."""
    head.forward = made
    try:
        yield
    finally:
        del head.forward


def _is_last(model: nn.Module, head: nn.Linear) -> bool:
    """Plant logits in place of the head's, and see whether the model gives back the same."""
    ids = torch.tensor([[1, 2]], device=head.weight.device)
    planted = torch.linspace(-PLANTED, PLANTED, 2 * head.out_features, device=ids.device).reshape(2, -1)
    planted = planted.to(head.weight.dtype)
    call: Callable[..., Any] = model
    with torch.no_grad(), handed_through(head, lambda hidden: planted.view(*hidden.shape[:-1], -1)):
        made = call(input_ids=ids, use_cache=False, **{KEEP: torch.ones_like(ids, dtype=torch.bool)}).logits
    return torch.equal(made.reshape(planted.shape).to(planted.dtype), planted)


def _liger_loss(hidden: Tensor, head: nn.Linear, target: Tensor) -> Tensor:
    """As `frozen_head_loss`, by liger-kernel's Triton kernel."""
    liger: Any = import_module("liger_kernel.transformers")
    total: Tensor = liger.LigerFusedLinearCrossEntropyLoss(reduction="sum")(head.weight, hidden, target, head.bias)
    return total
