"""What one token of training costs, found by walking a step of the model on the meta device, on shapes alone.

The walk takes the path that training takes: lean adapters and blocks, attention by segments where the model can. What
autograd keeps for the backward pass, and the matrix products of both passes, are counted as they happen. Both are
linear in the number of layers, so two shallow models stand for the deep one. Attention's own products grow with the
square of a row's length and are left out here: `Cost.scores` says how many there are.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.models.load import empty_model, is_causal
from luthier.models.lora import attach
from luthier.models.targets import Targets

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PretrainedConfig

SHALLOW = (2, 4)
ENOUGH = 64  # tokens of a walk
ATTENTION = "luthier_walk"


@dataclass(frozen=True)
class AdapterShape:
    """What decides the size of an adapter: method, rank, the names of the modules it goes on, and its dropout."""

    method: str
    r: int
    targets: Targets
    dropout: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What one token costs in the body of the model, the output head left out.

    Attributes:
        kept_bytes: held for the backward pass.
        forward, step: operations (FLOP) of the matrix products of the forward pass, and of both passes.
        scores: layers x heads x head size: with the square of a row's length, what its attention costs.
    """

    kept_bytes: float
    forward: float
    step: float
    scores: float = 0.0


_known: dict[tuple[object, ...], Cost] = {}  # a plan asks for the same again when it looks for advice


def cost_per_token(config: PretrainedConfig, adapter: AdapterShape, dtype: torch.dtype, length: int) -> Cost:
    """Return what one token of a row of `length` tokens costs. `adapter.targets` all match."""
    from luthier.models.segments import likely

    if likely(config):
        length = min(length, ENOUGH)  # each token keeps the same there, so that one walk serves all lengths
    key = (config.to_json_string(), repr(adapter), dtype, length)
    if key not in _known:
        _known[key] = _walked(config, adapter, dtype, length)
    return _known[key]


def _walked(config: PretrainedConfig, adapter: AdapterShape, dtype: torch.dtype, length: int) -> Cost:
    layers = int(config.num_hidden_layers)
    if layers <= SHALLOW[1]:
        found = walk(config, adapter, dtype, length)
    else:
        few, more = (walk(_with_layers(config, depth), adapter, dtype, length) for depth in SHALLOW)
        deeper = (layers - SHALLOW[0]) / (SHALLOW[1] - SHALLOW[0])
        found = tuple(low + (high - low) * deeper for low, high in zip(few, more, strict=True))
    heads = int(config.num_attention_heads)
    size = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    kept, forward, step = (value / length for value in found)
    return Cost(kept, forward, step, float(layers * heads * size))


def walk(config: PretrainedConfig, adapter: AdapterShape, dtype: torch.dtype, length: int) -> tuple[float, ...]:
    """Walk one training step of one row on the meta device: (bytes kept, FLOP forward, FLOP of both passes)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from luthier.models.blocks import lean_blocks
    from luthier.models.lean import lean_lora

    method = "lora" if adapter.method == "qlora" else adapter.method
    config = copy.deepcopy(config)  # the model's own, which is changed
    model: Any = attach(empty_model(config, dtype), method, adapter.r, 1, adapter.dropout, adapter.targets, 0)
    model.train()
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    inputs = _inputs(model, config, length)
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The fused attention of CPUs and GPUs never keeps the (length, length) scores that the meta device shows.
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and tensor.shape[-2:] != (length, length):
            kept[storage._cdata] = storage  # held, so that no other storage gets its number
        return tensor

    with ExitStack() as stack:
        stack.enter_context(lean_lora(model))
        stack.enter_context(lean_blocks(model))
        flops = stack.enter_context(FlopCounterMode(display=False))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(**inputs)[0].float().sum()
        forward = _products(flops)
        output.backward()
    held = sum(storage.nbytes() for storage in kept.values()) + _position_bias(config, length) * dtype.itemsize
    return float(held), forward, _products(flops)


def _products(flops: Any) -> float:
    """Return the operations of matrix products; batched ones are attention's."""
    counted = {str(name): count for name, count in flops.get_flop_counts().get("Global", {}).items()}
    return float(sum(count for name, count in counted.items() if name.rpartition(".")[2] in ("mm", "addmm")))


def _position_bias(config: PretrainedConfig, length: int) -> int:
    """Return the values of ALiBi's (heads, length, length) bias: fused attention keeps it, the meta device does not."""
    return int(config.num_attention_heads) * length**2 if getattr(config, "alibi", False) else 0


def _inputs(model: Any, config: PretrainedConfig, length: int) -> dict[str, Any]:
    """Return one row. A ready mask spares transformers a look into values, which the meta device does not have."""
    import torch

    inputs: dict[str, Any] = {"input_ids": torch.zeros(1, length, dtype=torch.long, device="meta")}
    if not is_causal(config):
        return inputs
    inputs |= {"use_cache": False, "logits_to_keep": 1}
    if _attends_by_segments(model, config):
        inputs["position_ids"] = torch.zeros(1, length, dtype=torch.long, device="meta")
    elif not getattr(config, "alibi", False):
        inputs["attention_mask"] = torch.ones(1, 1, length, length, dtype=torch.bool, device="meta")
    return inputs


def _attends_by_segments(model: Any, config: PretrainedConfig) -> bool:
    """Let the model attend as `segments.attend` does, where it can."""
    from transformers import AttentionInterface

    from luthier.models.segments import innermost, likely

    inner: Any = innermost(model)
    if not likely(config):
        return False
    AttentionInterface.register(ATTENTION, _attend)
    inner.set_attn_implementation(ATTENTION)
    inner.config.pad_token_id = None  # else transformers looks for padding among values that are not there
    return True


def _attend(
    module: nn.Module,  # noqa: ARG001  (transformers' interface)
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    **_: Any,
) -> tuple[Tensor, None]:
    """Fused attention, which the meta device takes only by its full name."""
    import torch

    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    made = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, True)[0]
    return made.transpose(1, 2).contiguous(), None


def _with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = layers
    if getattr(shallow, "layer_types", None):
        shallow.layer_types = shallow.layer_types[:layers]
    return shallow
