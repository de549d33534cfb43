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
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np

IGNORED = -100  # label of a position that is not trained, as everywhere in transformers
Tensors = Mapping[str, Any]
Micro = tuple[int, int, bool]  # token budget, overhead, whether micro-batches are padded: see `cut`
Collate = Callable[[Sequence[Any]], Tensors]
EpochOrder = Callable[[int, int, int], Sequence[int]]  # (rows, seed, epoch from 0) to the positions of the rows
Vary = Callable[[Any, int], Any]


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

    Keys: `step` from 1 · `micro_batches` tensors, longest first · `ids` the row ids of each micro-batch that counts
    (further ones keep pace with other processes) · `tokens` real tokens, padding not counted · `weight` what the
    summed loss is divided by.
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


def count_evaluations(steps: int, every: int) -> int:
    """Return how often a training is evaluated: after `every` so many optimizer steps, and after the last."""
    return math.ceil(steps / every)


def note_of_size(rows: int, batch_size: int) -> list[str]:
    """Return what the user should know where a batch is larger than the data, if it is."""
    told = f"batch_size is {batch_size} and there are {rows} training rows: one step is one epoch"
    return [told] if rows < batch_size else []


@lru_cache(maxsize=2)
def epoch_order(rows: int, seed: int, epoch: int) -> list[int]:
    """Return the order of the rows in `epoch` (from 0): a permutation drawn from (seed, epoch) alone."""
    order: list[int] = np.random.default_rng([seed, epoch]).permutation(rows).tolist()
    return order


class Order(NamedTuple):
    """Which rows come when: how many steps in all, examples a step, seed, and the order of the rows in each epoch."""

    total: int
    batch_size: int
    seed: int
    epoch: EpochOrder = epoch_order


def rows_of_step(step: int, rows: int, batch_size: int, seed: int, order: EpochOrder = epoch_order) -> list[int]:
    """Return the positions of the rows of `step` (from 1), `batch_size` of them, fewer at the end of an epoch."""
    epoch, position = divmod(step - 1, steps_per_epoch(rows, batch_size))
    return list(order(rows, seed, epoch)[position * batch_size : (position + 1) * batch_size])


def cut(lengths: Sequence[int], budget: int, overhead: int, padded: bool = True) -> list[slice]:
    """Cut a step into micro-batches at the smallest cost.

    The cost of a micro-batch is its padded tokens, longest times count, plus `overhead`. The best cuts are found
    exactly, by dynamic programming over the sorted lengths.

    Args:
        lengths: tokens of each example, longest first.
        budget: tokens that a micro-batch may have, padding counted; one example alone may have more.
        overhead: what starting one more micro-batch costs, counted in tokens.
        padded: False where micro-batches are flat, one sequence without padding: as few as the budget allows, and
            among as few the most even.

    Returns:
        Slices of `lengths`, in order, that cover it.
    """
    if not padded:
        return _cut_flat(lengths, budget, overhead)
    count = len(lengths)
    cost = [0.0] + [math.inf] * count
    begins = [0] * (count + 1)
    for begin in range(count):
        most = max(1, budget // max(lengths[begin], 1))
        for end in range(begin + 1, min(count, begin + most) + 1):
            candidate = cost[begin] + lengths[begin] * (end - begin) + overhead
            if candidate < cost[end]:
                cost[end], begins[end] = candidate, begin
    return _slices(begins)


def _cut_flat(lengths: Sequence[int], budget: int, overhead: int) -> list[slice]:
    """Every token costs the same, so only the number of micro-batches counts; the squares make them even."""
    count, whole = len(lengths), max(sum(lengths), 1)
    cost = [0.0] + [math.inf] * count
    begins = [0] * (count + 1)
    for begin in range(count):
        tokens = 0
        for end in range(begin + 1, count + 1):
            tokens += lengths[end - 1]
            if tokens > budget and end > begin + 1:
                break
            candidate = cost[begin] + overhead + (tokens / whole) ** 2
            if candidate < cost[end]:
                cost[end], begins[end] = candidate, begin
    return _slices(begins)


def _slices(begins: Sequence[int]) -> list[slice]:
    """Follow where each cut began, from the end to the start."""
    cuts: list[slice] = []
    end = len(begins) - 1
    while end:
        cuts.append(slice(begins[end], end))
        end = begins[end]
    return cuts[::-1]


class Steps:
    """The steps of a training as a sequence: item k is the `StepBatch` of step k + 1, made when it is asked for.

    Args:
        examples: all training examples, with an attribute `id`. measured: one for each.
        order: see `Order`.
        collate: turns examples into tensors. micro: how a step is cut, see `cut`.
        vary: (example, epoch from 0) to the example as it is learned in that epoch; None: always the same.
        share: (rank, size): of several processes each has every size-th row of a step, by length.
        even: give all processes equally many micro-batches; where one lacks some they are the step's shortest row.

    Attributes:
        micro: as given, or smaller once memory ran out.
    """

    def __init__(
        self,
        examples: Sequence[Any],
        measured: Sequence[Measured],
        order: Order,
        collate: Collate,
        micro: Micro,
        vary: Vary | None = None,
        share: tuple[int, int] = (0, 1),
        even: bool = False,
    ) -> None:
        self._examples, self._measured, self._collate = examples, measured, collate
        self._order = Order(*order)
        self.micro, self._vary = micro, vary
        self._share, self._even = share, even

    def __len__(self) -> int:
        return self._order.total

    def __getitem__(self, index: int) -> StepBatch:
        chosen = self._chosen(index)
        parts = self._parts(chosen, self.micro)
        more = fillers(chosen, self._measured, self.micro, self._share) if self._even else []
        return {
            "step": index + 1,
            "micro_batches": [self._collate([self._example(row, index) for row in part]) for part in [*parts, *more]],
            "ids": [[self._examples[row].id for row in part] for part in parts],
            "tokens": sum(self._measured[row].tokens for row in chosen),
            "weight": sum(self._measured[row].weight for row in chosen),
        }

    def sizes(self, index: int, budget: int) -> list[int]:
        """Return how many examples each micro-batch of item `index` would have with this token budget."""
        return [len(part) for part in self._parts(self._chosen(index), (budget, *self.micro[1:]))]

    def _chosen(self, index: int) -> list[int]:
        _, batch_size, seed, epoch = self._order
        return rows_of_step(index + 1, len(self._examples), batch_size, seed, epoch)

    def _parts(self, chosen: list[int], micro: Micro) -> list[list[int]]:
        return micro_batches(share_of(chosen, self._measured, self._share), self._measured, *micro)

    def _example(self, row: int, index: int) -> Any:
        example = self._examples[row]
        if self._vary is None:
            return example
        return self._vary(example, index // steps_per_epoch(len(self._examples), self._order.batch_size))


def share_of(chosen: Sequence[int], measured: Sequence[Measured], share: tuple[int, int]) -> list[int]:
    """Return the rows of `chosen` that one of several processes has: every size-th by length, longest first."""
    rank, size = share
    return sorted(chosen, key=lambda row: (-measured[row].tokens, row))[rank::size]


def fillers(
    chosen: Sequence[int], measured: Sequence[Measured], micro: Micro, share: tuple[int, int]
) -> list[list[int]]:
    """Return the micro-batches that a process lacks to have as many as any other: each the shortest row."""
    rank, size = share
    counts = [len(micro_batches(share_of(chosen, measured, (one, size)), measured, *micro)) for one in range(size)]
    shortest = min(chosen, key=lambda row: measured[row].tokens)
    return [[shortest]] * (max(counts) - counts[rank])


def micro_batches(
    chosen: Sequence[int], measured: Sequence[Measured], budget: int, overhead: int, padded: bool = True
) -> list[list[int]]:
    """Return the positions in `chosen` sorted by length, longest first, and cut into micro-batches, see `cut`."""
    ordered = sorted(chosen, key=lambda row: (-measured[row].tokens, row))
    return [ordered[part] for part in cut([measured[row].tokens for row in ordered], budget, overhead, padded)]
