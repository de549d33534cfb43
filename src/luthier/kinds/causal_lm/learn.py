"""Batches of a causal language model, and their loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from luthier.engine.batches import Measured, Micro, measure_language, micro_batches
from luthier.engine.material import Material
from luthier.kinds.base import Encoded, Objective, Taught
from luthier.kinds.causal_lm.loss import KEEP, Head, find_head, handed_through
from luthier.kinds.causal_lm.rows import IGNORED, Example
from luthier.models.estimate import Load
from luthier.models.segments import confined, flat_inputs, innermost, likely, prove
from luthier.run import ranks

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from luthier.models.load import Base


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Return one batch, padded on the right to its longest example.

    Args:
        examples: at least one. pad_id: what `input_ids` is padded with; it is masked everywhere.

    Returns:
        `input_ids`, `attention_mask` (1 for a token, 0 for padding) and `labels` (-100: not trained), each
        [examples, longest], int64.
    """
    shape = (len(examples), max(len(example.input_ids) for example in examples))
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        input_ids[row, :length] = torch.tensor(example.input_ids, dtype=torch.long)
        attention_mask[row, :length] = 1
        labels[row, :length] = torch.tensor(example.labels, dtype=torch.long)
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


def flatten(examples: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Return one batch as one sequence without padding, for a model that keeps its segments apart.

    Returns:
        `input_ids` and `labels` [1, tokens], and `lengths` [examples], the tokens of each, int64. The first label of
        each example is -100: nothing of its own stands before it.
    """
    input_ids = [token for example in examples for token in example.input_ids]
    labels = [label for example in examples for label in (IGNORED, *example.labels[1:])]
    lengths = [len(example.input_ids) for example in examples]
    return {"input_ids": torch.tensor([input_ids]), "labels": torch.tensor([labels]), "lengths": torch.tensor(lengths)}


def material(
    model: torch.nn.Module,
    train: Encoded,
    validation: Encoded | None,
    tokenizer: PreTrainedTokenizerBase,
    base: Base,  # noqa: ARG001  (this and the next two: a protocol names the arguments)
    objective: Objective,  # noqa: ARG001
    seed: int,  # noqa: ARG001
) -> Taught:
    """Return what the engine trains on, in the fastest form in which this model learns the same.

    Flat micro-batches where a numeric proof shows that the model keeps their segments apart, else padded ones; the loss
    of a frozen head computed apart from the model where the head is the last thing it does.

    Args:
        model: on the device it will be trained on.
        tokenizer: what padding is. base, objective, seed: nothing here depends on them.
    """
    found = find_head(model)
    head = found if isinstance(found, Head) else None
    path: dict[str, Any] = {"loss": head.name if head else "the model's own logits"}
    if not isinstance(found, Head):
        path["loss_because"] = found
    with confined(model):
        proof = prove(model, train.examples[0].input_ids)
    flat = all(ranks.gather(proof.holds))  # alike on machines that are not
    path |= {"batches": "flat" if flat else "padded", "segment_proof": proof.told}
    pad_id = int(tokenizer.pad_token_id or 0)
    return Taught(
        Material(
            train.examples,
            validation.examples if validation else (),
            flatten if flat else partial(collate, pad_id=pad_id),
            partial(loss_sum, head=head),
            measure,
            padded=not flat,
            around=confined if flat else nullcontext,
            chance=math.log(innermost(model).config.vocab_size),  # type: ignore[arg-type, union-attr]
        ),
        path=path,
    )


def measure(example: Any) -> Measured:
    """Return its length and its trained tokens."""
    return measure_language(example)


def pads(config: PretrainedConfig) -> bool:
    """Tell whether its micro-batches will be padded, as far as the configuration of a base tells."""
    return not likely(config)


def reading(
    config: PretrainedConfig,  # noqa: ARG001  (a protocol names the arguments)
    device: str,  # noqa: ARG001
    rows: Sequence[Measured],
    micro: Micro,
) -> tuple[tuple[int, int, int], Load]:
    """Return the largest micro-batch and the sum of all, see `kinds.base.Learn.reading`."""
    squares = 0
    parts = [[rows[row] for row in part] for part in micro_batches(range(len(rows)), rows, *micro)]
    sizes = []
    for part in parts:
        trained, tokens = sum(row.weight for row in part), sum(row.tokens for row in part)
        padded = (len(part), part[0].tokens, trained)
        sizes.append(padded if micro[2] else (1, tokens, trained))
        squares += len(part) * part[0].tokens ** 2 if micro[2] else sum(row.tokens**2 for row in part)
    longest = max(sizes, key=lambda size: size[0] * size[1])
    tokens = sum(examples * each for examples, each, _ in sizes)
    return longest, Load(len(parts), tokens, sum(size[2] for size in sizes), squares)


def loss_sum(
    model: torch.nn.Module, batch: Mapping[str, torch.Tensor], head: Head | None = None
) -> tuple[torch.Tensor, int]:
    """Return the sum of -log p(token | tokens before it) over the trained tokens of a batch, in nats.

    Only the positions whose next token is trained pay for the output head, whose [positions, vocabulary] logits are
    the largest tensor of a step. The model's own forward chooses them (transformers' `logits_to_keep` as a mask), so
    wrappers (PEFT, data-parallel) see a usual call, and what a model does to its logits (scaling, soft-capping) is
    kept. A model without `logits_to_keep` pays for every position; the result is the same.

    Args:
        model: a causal language model of transformers, plain or wrapped.
        batch: as `collate` or `flatten` returns it, on the device of the model. head: as `find_head` returns it.

    Returns:
        (float32 scalar with a gradient, number of trained tokens). The mean over several batches is the sum of the
        sums over the sum of the counts. A batch with nothing trained gives (0, 0).
    """
    next_token = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    kept = next_token != IGNORED
    target = next_token[kept]
    inner: Any = innermost(model)
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "use_cache": False}
    if "lengths" in batch:
        inputs |= flat_inputs(batch["lengths"], inner.config._attn_implementation)
    else:
        inputs["attention_mask"] = batch["attention_mask"]
    if head is not None and not torch.is_autocast_enabled(kept.device.type):
        with handed_through(head.module):
            hidden = model(**inputs, **{KEEP: kept}).logits
        return head.loss(hidden, head.module, target), target.numel()
    if KEEP in inspect.signature(inner.forward).parameters:
        inputs[KEEP] = kept
    logits = model(**inputs).logits
    if logits.dim() == 3:
        logits = logits[kept]
    return torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum"), target.numel()
