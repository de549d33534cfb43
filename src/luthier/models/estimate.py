"""What a training will cost, from the configuration alone: parameters, memory, time. Nothing is downloaded.

The cost of a token comes from a walk on the meta device (`walk`), how much work there is from the micro-batches that
the trainer will make, and what work costs from a calibration of this machine (`machine`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from luthier.models.load import empty_model, is_causal
from luthier.models.lora import attach, check_rank, check_targets, count_parameters, target_report
from luthier.models.machine import Machine, Seconds
from luthier.models.walk import AdapterShape, Cost, cost_per_token

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from luthier.models.targets import TargetMatch

__all__ = ["AdapterShape", "Cost", "Load", "Memory", "Parameters", "Work", "cost_per_token", "count", "memory", "work"]

GIB = 2**30
FOUR_BIT_BYTES = 0.5 + 1 / 128  # NF4: half a byte a weight, and doubly quantised scales of 64 weights each
PIECE = 2**21  # logits of a frozen head that are there at a time, in float32: `kinds.causal_lm.loss.LOGITS`
READ = 1 / 3  # of the cost of training a token: a forward pass alone


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
class Load:
    """So many micro-batches with so many tokens, padding counted.

    Attributes:
        trained: tokens whose loss is taken. squares: the sum over the rows of their squared lengths.
        times: how often the forward pass is done; 2 where gradients are cached.
    """

    micro_batches: int = 0
    tokens: int = 0
    trained: int = 0
    squares: int = 0
    times: int = 1


@dataclass(frozen=True)
class Work:
    """What a training asks of the machine.

    Attributes:
        longest: (examples, tokens each, trained tokens in all) of what is held at once for the backward pass, where
            that is most. steps, saves: optimizer steps and checkpoints.
        learned: over all steps. read: the validation rows, over all evaluations.
    """

    longest: tuple[int, int, int]
    steps: int = 1
    saves: int = 0
    learned: Load = Load()
    read: Load = Load()


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


def memory(
    config: PretrainedConfig,
    parameters: Parameters,
    method: str,
    dtype: torch.dtype,
    cost: Cost,
    work: Work,
    machine: Machine,
) -> Memory:
    """Return the peak memory of training.

    Base weights in `dtype` (qlora: linear layers in 4 bit); adapter, gradients and both AdamW moments in float32. Full
    training keeps its gradients and moments in the dtype of the weights. Activations are what is kept times what the
    allocator takes for it (`Machine.held`). A frozen head makes its logits in pieces, three times in float32; a head
    that is trained makes those of all trained tokens of the largest micro-batch: themselves, their softmax, their
    gradient.
    """
    base = parameters.total - (0 if method == "full" else parameters.trainable)
    rows, length, trained = work.longest
    size = dtype.itemsize
    weights: float = base * size
    vocabulary = int(getattr(config, "vocab_size", 0))
    if method == "qlora":
        kept = vocabulary * int(config.hidden_size) * _embeddings(config)
        weights = kept * size + (base - kept) * FOUR_BIT_BYTES
    learned = parameters.trainable * (size if method == "full" else 4)
    logits = trained * vocabulary if is_causal(config) else 0
    logits = logits if method == "full" else min(logits, max(PIECE, vocabulary))
    return Memory(
        weights=weights / GIB,
        adapter=0.0 if method == "full" else learned / GIB,
        gradients=learned / GIB,
        optimizer=2 * learned / GIB,
        activations=machine.held * rows * length * cost.kept_bytes / GIB,
        logits=3 * 4 * logits / GIB,
        process=machine.process,
    )


def work(config: PretrainedConfig, parameters: Parameters, method: str, cost: Cost, asked: Work) -> Seconds:
    """Return how much there is of each sort of work that `Seconds` has a price for."""
    layers, vocabulary = int(config.num_hidden_layers), int(config.vocab_size) if is_causal(config) else 0
    head = 2 * vocabulary * int(config.hidden_size)  # operations of one product with the output head
    passes = 3 if method == "full" else 2  # forward, back to its input, and to its weights where they are trained
    done, read = asked.learned, asked.read
    again = cost.forward * (done.times - 1)
    body = done.tokens * (cost.step + again) + read.tokens * cost.forward
    share = 1 + READ * (done.times - 1)  # of the forward passes that are done once more
    return Seconds(
        product=body + head * (passes * done.trained + read.trained),
        kept=cost.kept_bytes * (share * done.tokens + READ * read.tokens),
        layer=layers * (share * done.micro_batches + READ * read.micro_batches),
        logit=vocabulary * (done.trained + READ * read.trained),
        score=cost.scores * (share * done.squares + READ * read.squares),
        step=asked.steps,
        weight=asked.steps * parameters.trainable,
        save=asked.saves,
        saved=asked.saves * parameters.trainable,
    )


def _embeddings(config: PretrainedConfig) -> int:
    """How many matrices of the vocabulary's size there are: they are not quantised."""
    return 1 if getattr(config, "tie_word_embeddings", True) or not is_causal(config) else 2
