"""Batches of a causal language model, and their loss."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from luthier.kinds.causal_lm.rows import IGNORED, Example

KEEP = "logits_to_keep"


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


def loss_sum(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, int]:
    """Return the sum of -log p(token | tokens before it) over the trained tokens of a batch, in nats.

    Only the positions whose next token is trained pay for the output head, whose [positions, vocabulary] logits are
    the largest tensor of a step. The model's own forward chooses them (transformers' `logits_to_keep` as a mask), so
    wrappers (PEFT, data-parallel) see a usual call, and what a model does to its logits (scaling, soft-capping) is
    kept. A model without `logits_to_keep` pays for every position; the result is the same.

    Args:
        model: a causal language model of transformers, plain or wrapped.
        batch: as `collate` returns it, on the device of the model.

    Returns:
        (float32 scalar with a gradient, number of trained tokens). The mean over several batches is the sum of the
        sums over the sum of the counts. A batch with nothing trained gives (0, 0).
    """
    next_token = torch.nn.functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
    kept = next_token != IGNORED
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if KEEP in inspect.signature(_innermost(model).forward).parameters:
        inputs[KEEP] = kept
    logits = model(**inputs, use_cache=False).logits
    if logits.dim() == 3:
        logits = logits[kept]
    target = next_token[kept]
    return torch.nn.functional.cross_entropy(logits.float(), target, reduction="sum"), target.numel()


def _innermost(model: torch.nn.Module) -> torch.nn.Module:
    """Return the transformers model inside wrappers: data-parallel's `.module`, PEFT's `get_base_model`."""
    while isinstance(inner := getattr(model, "module", None), torch.nn.Module):
        model = inner
    base: torch.nn.Module = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return base
