"""Several rows in one sequence, without padding: each token attends only to its own segment.

A flat micro-batch is one sequence of all its rows; position ids begin again with each. Attention is the only part of a
transformer in which tokens meet, so it is done segment by segment, by an attention function registered with
transformers (`AttentionInterface`). No mask is built. On CUDA it is FlashAttention's variable-length kernel where
flash-attn is installed and the model can use it, else the model's own: SDPA with the block mask that transformers
builds from the position ids.

Whether this is right for a model is proven with numbers before each training, not looked up by name: ALiBi, positions
counted from a mask, convolutions and the like make it wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.utils.import_utils import is_flash_attn_2_available

from luthier.models.attention import eager_up_to

NAME, FLASH = "luthier_segments", "flash_attention_2"
HALF = (torch.bfloat16, torch.float16)  # what FlashAttention computes in
ROUNDING = 64  # units in the last place that two orders of summation may differ by, of the largest logit
TELLING = 8  # how many times that difference mixing up the segments must change the logits


@dataclass(frozen=True)
class SegmentProof:
    """Two segments as one sequence against one by one.

    Attributes:
        error: largest difference of their logits. allowed: rounding, for this model and precision.
        mixed: largest difference when the second attends to the first; the proof says nothing unless it is large.
        problem: what the model refused, empty when it ran.
    """

    error: float
    allowed: float
    mixed: float
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the model can be trained on flat micro-batches."""
        return not self.problem and self.error <= self.allowed and self.mixed > TELLING * self.error

    @property
    def told(self) -> dict[str, Any]:
        """What run.json says of it."""
        if self.problem:
            return {"holds": False, "problem": self.problem}
        return {"holds": self.holds, "error": self.error, "allowed": self.allowed, "mixed": self.mixed}


def likely(config: Any) -> bool:
    """Tell from the configuration whether `prove` will hold, for a plan without weights; the proof decides."""
    from transformers import AutoModelForCausalLM

    known: Any = AutoModelForCausalLM._model_mapping
    can = type(config) in known and known[type(config)]._can_set_attn_implementation()
    return bool(can) and not getattr(config, "alibi", False)


def flat_inputs(lengths: Tensor, implementation: str) -> dict[str, Any]:
    """Return what a model's forward needs besides input_ids to keep segments apart.

    Args:
        lengths: tokens of each segment, int64, in order. implementation: of attention, as the model's config names it.

    Returns:
        `position_ids`, [1, tokens], and the segments in the form in which the attention function wants them.
    """
    sizes = lengths.tolist()
    starts = lengths.cumsum(0) - lengths
    positions = torch.arange(sum(sizes), device=lengths.device) - starts.repeat_interleave(lengths)
    inputs: dict[str, Any] = {"position_ids": positions[None]}
    if implementation == NAME:
        inputs["segments"] = tuple(sizes)
    elif implementation.startswith("flash_attention"):
        edges = nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
        inputs |= {"cu_seq_lens_q": edges, "cu_seq_lens_k": edges}
        inputs |= {"max_length_q": max(sizes), "max_length_k": max(sizes)}
    return inputs


@contextmanager
def confined(model: nn.Module) -> Iterator[None]:
    """Let a transformers model attend by segments, until the end of the block."""
    inner: Any = innermost(model)
    before = inner.config._attn_implementation
    AttentionInterface.register(NAME, attend)
    _switch(inner, chosen(inner))
    try:
        yield
    finally:
        _switch(inner, before)


def chosen(inner: Any) -> str:
    """Return the name of the attention that keeps segments of a transformers model apart at the least cost.

    On CUDA it is one that transformers knows: only they read position ids or the edges of segments there.
    """
    weight, own = next(inner.parameters()), str(inner.config._attn_implementation)
    if weight.device.type != "cuda":
        return NAME
    flash = weight.dtype in HALF and getattr(inner, "_supports_flash_attn", False) and is_flash_attn_2_available()
    return FLASH if flash else own


def prove(model: nn.Module, ids: Sequence[int]) -> SegmentProof:
    """Compare two short segments, flat and one by one, on a model that is `confined`.

    Args:
        model: any device and precision; it is put into eval mode for the proof. ids: tokens to read, at least two.
    """
    wanted = [ids[place % len(ids)] for place in range(12)]
    first, second = wanted[:5], wanted[5:]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = torch.cat([_logits(model, [first]), _logits(model, [second])])
            together = _logits(model, [first, second])
            mixed = _logits(model, [wanted])
    except (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError) as error:
        return SegmentProof(math.inf, 0.0, 0.0, f"it refused: {str(error).splitlines()[0] if str(error) else error!r}")
    finally:
        model.train(training)
    allowed = ROUNDING * torch.finfo(next(model.parameters()).dtype).eps * float(alone.abs().max())
    return SegmentProof(float((together - alone).abs().max()), allowed, float((mixed - alone).abs().max()))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Sequence[int] = (),
    scaling: float | None = None,
    dropout: float = 0.0,
    **told: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment, as transformers calls an attention function.

    Args:
        query: [1, heads, tokens, head size]. key, value: the same, perhaps with fewer heads, each of which then serves
            a group of queries. segments: tokens of each. scaling: of the scores; default 1 / sqrt(head size).
        told: `sliding_window` is heeded; anything else that would change attention is refused.

    Returns:
        ([1, tokens, heads, head size], None).

    Raises:
        NotImplementedError: the model wants what is not done here, such as soft-capping or attention sinks.
    """
    strange = [name for name in ("softcap", "s_aux", "position_bias", "head_mask") if told.get(name) is not None]
    if strange or attention_mask is not None or not getattr(module, "is_causal", True) or query.shape[0] != 1:
        raise NotImplementedError(f"attention by segments has no {', '.join(strange) or 'mask'}")
    sizes = list(segments) or [query.shape[2]]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    limit = eager_up_to(query.device.type, query.dtype)
    parts = zip(*(torch.split(one, sizes, 2) for one in (query, key, value)), strict=True)
    made = [_attend_one(part, scale, dropout, told.get("sliding_window"), limit).transpose(1, 2) for part in parts]
    return torch.cat(made, 1), None


def innermost(model: nn.Module) -> nn.Module:
    """Return the transformers model inside wrappers: data-parallel's `.module`, PEFT's `get_base_model`."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    base: nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return base


def _attend_one(
    part: tuple[Tensor, Tensor, Tensor], scale: float, dropout: float, window: int | None, limit: int
) -> Tensor:
    query, key, value = part
    length, groups = query.shape[2], query.shape[1] // key.shape[1]
    windowed = window is not None and length > window
    fused = length > limit and not windowed
    shared = fused and query.device.type == "cpu"  # the CPU's fused attention keeps the few heads as they are
    if groups > 1 and not shared:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if not fused:
        scores = torch.matmul(query, key.transpose(2, 3)) * scale + _future(length, window, query.dtype, query.device)
        weights = nn.functional.dropout(torch.softmax(scores, -1), dropout, dropout > 0)
        return weights @ value
    return nn.functional.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=groups > 1 and shared
    )


@cache
def _future(length: int, window: int | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return what is added to the scores: 0 for what a token may see, -inf for the rest; [length, length]."""
    seen = torch.ones(length, length, dtype=torch.bool, device=device).tril_()
    if window is not None:
        seen = seen.triu_(1 - window)
    return torch.zeros(length, length, dtype=dtype, device=device).masked_fill_(~seen, -math.inf)


def _logits(model: nn.Module, segments: list[list[int]]) -> Tensor:
    device = next(model.parameters()).device
    lengths = torch.tensor([len(segment) for segment in segments], device=device)
    ids = torch.tensor([[token for segment in segments for token in segment]], device=device)
    inner: Any = innermost(model)
    call: Callable[..., Any] = model
    inputs = flat_inputs(lengths, inner.config._attn_implementation)
    made: Tensor = call(input_ids=ids, **inputs, use_cache=False).logits[0].float()
    return made


def _switch(inner: Any, implementation: str) -> None:
    """Change the attention implementation without transformers' warning; a model that cannot is found by the proof."""
    if inner._can_set_attn_implementation():
        inner.set_attn_implementation(implementation)
