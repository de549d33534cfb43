"""Which examples belong to which optimizer step, and how a step is cut into micro-batches.

The optimizer step is the unit. Its examples are a pure function of (rows, batch size, seed, step), so a resumed run
sees the same data, whatever the micro-batches. Cutting a step into micro-batches changes its cost and not its
mathematics: every micro-batch's summed loss is divided by the weight of the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypedDict

import numpy as np

IGNORED = -100  # label of a position that is not trained, as everywhere in transformers
Tensors = Mapping[str, Any]
Collate = Callable[[Sequence[Any]], Tensors]


class LanguageExample(Protocol):
    """What `measure_language` reads: token ids, and a label for each of them."""

    id: str
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Measured:
    """What an example costs and counts.

    Attributes:
        tokens: its length. weight: its share in the loss of a step; for language models its supervised tokens.
    """

    tokens: int
    weight: int


def measure_language(example: LanguageExample) -> Measured:
    """Return length and supervised tokens. The first token has nothing before it to be predicted from."""
    supervised = len(example.labels) - 1 - example.labels[1:].count(IGNORED)
    return Measured(len(example.input_ids), max(supervised, 0))


class StepBatch(TypedDict):
    """All that one optimizer step needs.

    Keys: `step` from 1 · `micro_batches` tensors, longest first · `ids` the row ids of each micro-batch ·
    `tokens` real tokens, padding not counted · `weight` what the summed loss is divided by.
    """

    step: int
    micro_batches: list[Tensors]
    ids: list[list[str]]
    tokens: int
    weight: int


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Return the optimizer steps of one pass; the last one takes what is left."""
    return math.ceil(rows / batch_size)


def count_steps(rows: int, batch_size: int, epochs: float, steps: int | None = None) -> int:
    """Return the optimizer steps of a whole training: `steps` when given, else `epochs` passes, rounded up."""
    if steps is not None:
        return steps
    # The small subtraction keeps 0.1 epochs of 30 steps at 3, although 0.1 * 30 is a little more than 3.
    return max(1, math.ceil(epochs * steps_per_epoch(rows, batch_size) - 1e-9))


@lru_cache(maxsize=2)
def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the rows in `epoch` (from 0): a permutation drawn from (seed, epoch) alone."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(rows).tolist()
    return order


def rows_of_step(step: int, rows: int, batch_size: int, seed: int) -> list[int]:
    """Return the positions of the rows of `step` (from 1), `batch_size` of them, fewer at the end of an epoch."""
    epoch, position = divmod(step - 1, steps_per_epoch(rows, batch_size))
    return epoch_order(rows, seed, epoch)[position * batch_size : (position + 1) * batch_size]


def cut(lengths: Sequence[int], budget: int, overhead: int) -> list[slice]:
    """Cut a step into micro-batches at the smallest cost.

    The cost of a micro-batch is its padded tokens, longest times count, plus `overhead`. The best cuts are found
    exactly, by dynamic programming over the sorted lengths.

    Args:
        lengths: tokens of each example, longest first.
        budget: padded tokens that a micro-batch may have; one example alone may have more.
        overhead: what starting one more micro-batch costs, counted in tokens.

    Returns:
        Slices of `lengths`, in order, that cover it.
    """
    count = len(lengths)
    cost = [0.0] + [math.inf] * count
    begins = [0] * (count + 1)
    for begin in range(count):
        most = max(1, budget // max(lengths[begin], 1))
        for end in range(begin + 1, min(count, begin + most) + 1):
            candidate = cost[begin] + lengths[begin] * (end - begin) + overhead
            if candidate < cost[end]:
                cost[end], begins[end] = candidate, begin
    cuts: list[slice] = []
    end = count
    while end:
        cuts.append(slice(begins[end], end))
        end = begins[end]
    return cuts[::-1]


class Steps:
    """The steps of a training as a sequence: item k is the `StepBatch` of step k + 1, made when it is asked for.

    Args:
        examples: all training examples, with an attribute `id`. measured: one for each.
        order: how many steps in all, examples a step, seed.
        collate: turns examples into tensors. micro: token budget and overhead, see `cut`.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        measured: Sequence[Measured],
        order: tuple[int, int, int],
        collate: Collate,
        micro: tuple[int, int],
    ) -> None:
        self._examples, self._measured, self._collate = examples, measured, collate
        self._total, self._batch_size, self._seed = order
        self._budget, self._overhead = micro

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, index: int) -> StepBatch:
        chosen = rows_of_step(index + 1, len(self._examples), self._batch_size, self._seed)
        parts = micro_batches(chosen, self._measured, self._budget, self._overhead)
        return {
            "step": index + 1,
            "micro_batches": [self._collate([self._examples[row] for row in part]) for part in parts],
            "ids": [[self._examples[row].id for row in part] for part in parts],
            "tokens": sum(self._measured[row].tokens for row in chosen),
            "weight": sum(self._measured[row].weight for row in chosen),
        }


def micro_batches(chosen: Sequence[int], measured: Sequence[Measured], budget: int, overhead: int) -> list[list[int]]:
    """Return the positions in `chosen` sorted by length, longest first, and cut into micro-batches."""
    ordered = sorted(chosen, key=lambda row: (-measured[row].tokens, row))
    return [ordered[part] for part in cut([measured[row].tokens for row in ordered], budget, overhead)]
