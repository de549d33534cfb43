"""What a training will cost, from the configuration alone: parameters, memory, time. Nothing is downloaded.

The model is built on the meta device with its adapter, and one training step is walked there: every operation runs on
shapes only. What autograd keeps for the backward pass, and the multiplications of both passes, are counted as they
happen. Both are linear in the number of layers, so two shallow models stand for the deep one.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from luthier.models.load import empty_model, is_causal
from luthier.models.lora import attach, check_rank, check_targets, count_parameters, target_report
from luthier.models.targets import TargetMatch, Targets

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PretrainedConfig

GIB = 2**30
SHALLOW = (2, 4)
FOUR_BIT_BYTES = 0.5 + 1 / 128  # NF4: half a byte a weight, and doubly quantised scales of 64 weights each
PROCESS_GIB = {"cpu": 0.65, "mps": 0.65, "cuda": 0.6}  # interpreter and libraries; on CUDA the context on the device
# What an allocator takes for a byte that is held, for pieces freed between those that stay: benchmarks/estimate.py.
HELD = {"cpu": 1.8, "mps": 1.2, "cuda": 1.15}
# Share of the matrix-product rate that a whole training step reaches: the rest is copying, normalising, thin products.
EFFICIENCY = {"cpu": 0.55, "mps": 0.4, "cuda": 0.35}
LAYER_SECONDS = {"cpu": 2.5e-3, "mps": 4e-3, "cuda": 3e-3}  # of starting a layer's operations, forward and backward


@dataclass(frozen=True)
class AdapterShape:
    """What decides the size of an adapter: method, rank, and the names of the modules it goes on."""

    method: str
    r: int
    targets: Targets


@dataclass(frozen=True)
class Parameters:
    """How many weights there are and how many are trained; the adapter's count in both."""

    trainable: int
    total: int

    @property
    def percent(self) -> float:
        """Trained share of all weights, in percent."""
        return 100 * self.trainable / self.total


@dataclass(frozen=True)
class Work:
    """What a training asks of the machine.

    Attributes:
        longest: (examples, tokens each, trained tokens in all) of the micro-batch with the most padded tokens.
        padded_tokens, trained_tokens, micro_batches: over all steps.
        validation_tokens: padded tokens that are only read, over all evaluations.
    """

    longest: tuple[int, int, int]
    padded_tokens: int
    trained_tokens: int
    micro_batches: int
    validation_tokens: int = 0


@dataclass(frozen=True)
class Cost:
    """What one token costs in the body of the model, the output head left out.

    Attributes:
        kept_bytes: held for the backward pass. forward, step: operations (FLOP) of the forward pass, and of both.
    """

    kept_bytes: float
    forward: float
    step: float


@dataclass(frozen=True)
class Memory:
    """Peak memory of a training, GiB by part. `activations`: kept for the backward pass; `logits`: the head's."""

    weights: float
    adapter: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    process: float

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return float(sum(asdict(self).values()))


def count(
    config: PretrainedConfig, adapter: AdapterShape, allow_unmatched: bool = False
) -> tuple[Parameters, list[TargetMatch]]:
    """Return parameters and target report of a base with an adapter.

    Raises:
        GateError: a target matches nothing. UserError: see `attach`.
    """
    model = empty_model(config)
    if adapter.method == "full":
        return Parameters(*count_parameters(attach(model, "full", 1, 1, 0.0, "all-linear", 0))), []
    report = target_report(model, adapter.targets)
    check_targets(report, allow_unmatched)
    names = [match.name for match in report if match.matched]
    check_rank(model, names, adapter.r)
    method = "lora" if adapter.method == "qlora" else adapter.method
    return Parameters(*count_parameters(attach(model, method, adapter.r, 1, 0.0, names, 0))), report


def cost_per_token(config: PretrainedConfig, adapter: AdapterShape, dtype: torch.dtype, length: int) -> Cost:
    """Return what one token of a row of `length` tokens costs. `adapter.targets` all match."""
    layers = int(config.num_hidden_layers)
    if layers <= SHALLOW[1]:
        return Cost(*(value / length for value in _walk(config, adapter, dtype, length)))
    few, more = (_walk(_with_layers(config, depth), adapter, dtype, length) for depth in SHALLOW)
    deeper = (layers - SHALLOW[0]) / (SHALLOW[1] - SHALLOW[0])
    return Cost(*((low + (high - low) * deeper) / length for low, high in zip(few, more, strict=True)))


def memory(
    config: PretrainedConfig,
    parameters: Parameters,
    method: str,
    dtype: torch.dtype,
    cost: Cost,
    work: Work,
    device: str = "cpu",
) -> Memory:
    """Return the peak memory of training.

    Base weights in `dtype` (qlora: linear layers in 4 bit); adapter, gradients and both AdamW moments in float32; the
    logits of the trained tokens of the largest micro-batch three times in float32: themselves, their softmax, their
    gradient. Full training keeps its gradients and moments in the dtype of the weights. Activations and logits are
    what is held times what the allocator takes for it (`HELD`).
    """
    base = parameters.total - (0 if method == "full" else parameters.trainable)
    rows, length, trained = work.longest
    size = dtype.itemsize
    weights: float = base * size
    if method == "qlora":
        kept = int(getattr(config, "vocab_size", 0)) * int(config.hidden_size) * _embeddings(config)
        weights = kept * size + (base - kept) * FOUR_BIT_BYTES
    learned = parameters.trainable * (size if method == "full" else 4)
    head = trained * int(getattr(config, "vocab_size", 0)) if is_causal(config) else 0
    return Memory(
        weights=weights / GIB,
        adapter=0.0 if method == "full" else learned / GIB,
        gradients=learned / GIB,
        optimizer=2 * learned / GIB,
        activations=HELD[device] * rows * length * cost.kept_bytes / GIB,
        logits=HELD[device] * 3 * 4 * head / GIB,
        process=PROCESS_GIB[device],
    )


def seconds(config: PretrainedConfig, method: str, cost: Cost, work: Work, rate: float, device: str = "cpu") -> float:
    """Return how long training takes: operations at a share of the measured matrix-product rate, and starting them.

    Args:
        cost: per token. work: how many tokens. rate: operations per second, see `rate.matmul_rate`.
        device: chooses the share (`EFFICIENCY`) and the time to start a layer (`LAYER_SECONDS`).
    """
    head = 0
    if is_causal(config):
        passes = 3 if method == "full" else 2  # forward, back to its input, and to its weights where they are trained
        head = 2 * passes * work.trained_tokens * int(config.vocab_size) * int(config.hidden_size)
    operations = work.padded_tokens * cost.step + head + work.validation_tokens * cost.forward
    starting = work.micro_batches * int(config.num_hidden_layers) * LAYER_SECONDS[device]
    return operations / (rate * EFFICIENCY[device]) + starting


def _walk(
    config: PretrainedConfig, adapter: AdapterShape, dtype: torch.dtype, length: int
) -> tuple[float, float, float]:
    """Walk one training step of one row on the meta device: (bytes kept, FLOP forward, FLOP of both passes)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    method = "lora" if adapter.method == "qlora" else adapter.method
    model: Any = attach(empty_model(config, dtype), method, adapter.r, 1, 0.0, adapter.targets, 0)
    model.train()
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        # The fused attention of CPUs and GPUs never keeps the (length, length) scores that the meta device shows.
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and tensor.shape[-2:] != (length, length):
            kept[storage._cdata] = storage  # held, so that no other storage gets its number
        return tensor

    with FlopCounterMode(display=False) as flops:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model(**_inputs(config, length))[0].float().sum()
        forward = flops.get_total_flops()
        output.backward()
    held = sum(storage.nbytes() for storage in kept.values()) + _position_bias(config, length) * dtype.itemsize
    return held, forward, flops.get_total_flops()


def _position_bias(config: PretrainedConfig, length: int) -> int:
    """Return the values of ALiBi's (heads, length, length) bias: fused attention keeps it, the meta device does not."""
    return int(config.num_attention_heads) * length**2 if getattr(config, "alibi", False) else 0


def _inputs(config: PretrainedConfig, length: int) -> dict[str, Any]:
    """Return one row. A ready mask spares transformers a look into values, which the meta device does not have."""
    import torch

    inputs: dict[str, Any] = {"input_ids": torch.zeros(1, length, dtype=torch.long, device="meta")}
    if is_causal(config):
        inputs |= {"use_cache": False, "logits_to_keep": 1}
        if not getattr(config, "alibi", False):
            inputs["attention_mask"] = torch.ones(1, 1, length, length, dtype=torch.bool, device="meta")
    return inputs


def _with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    shallow = copy.deepcopy(config)
    shallow.num_hidden_layers = layers
    if getattr(shallow, "layer_types", None):
        shallow.layer_types = shallow.layer_types[:layers]
    return shallow


def _embeddings(config: PretrainedConfig) -> int:
    """How many matrices of the vocabulary's size there are: they are not quantised."""
    return 1 if getattr(config, "tie_word_embeddings", True) or not is_causal(config) else 2
