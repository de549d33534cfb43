"""Which rows a step has, and how it is cut."""

from __future__ import annotations

from itertools import chain, combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine.batches import (
    Measured,
    Steps,
    count_steps,
    cut,
    epoch_order,
    measure_language,
    rows_of_step,
    steps_per_epoch,
)
from tests.engine.little import collate, examples

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=9).map(lambda lengths: sorted(lengths, reverse=True))


def cost(lengths: list[int], parts: list[slice], overhead: int) -> int:
    return sum(lengths[part][0] * len(lengths[part]) + overhead for part in parts)


@given(LENGTHS, st.integers(1, 300), st.integers(0, 80))
def test_cuts_cover_the_step_within_the_budget_at_the_least_cost(
    lengths: list[int], budget: int, overhead: int
) -> None:
    parts = cut(lengths, budget, overhead)
    assert [length for part in parts for length in lengths[part]] == lengths
    count = len(lengths)

    def allowed(ways: list[slice]) -> bool:
        return all(len(lengths[way]) == 1 or lengths[way][0] * len(lengths[way]) <= budget for way in ways)

    assert allowed(parts)
    every = []
    for cuts in range(count):
        for inner in combinations(range(1, count), cuts):
            ends = [0, *inner, count]
            every.append([slice(a, b) for a, b in pairwise(ends)])
    assert cost(lengths, parts, overhead) == min(cost(lengths, ways, overhead) for ways in every if allowed(ways))


@given(LENGTHS, st.integers(1, 300), st.integers(1, 80))
def test_flat_cuts_are_as_few_as_the_budget_allows_and_even(lengths: list[int], budget: int, overhead: int) -> None:
    parts = cut(lengths, budget, overhead, padded=False)
    assert [length for part in parts for length in lengths[part]] == lengths
    count = len(lengths)
    every = []
    for cuts in range(count):
        for inner in combinations(range(1, count), cuts):
            ways = [slice(a, b) for a, b in pairwise([0, *inner, count])]
            if all(len(lengths[way]) == 1 or sum(lengths[way]) <= budget for way in ways):
                every.append(ways)
    fewest = min(len(ways) for ways in every)
    assert len(parts) == fewest
    evenness = min(sum(sum(lengths[way]) ** 2 for way in ways) for ways in every if len(ways) == fewest)
    assert sum(sum(lengths[part]) ** 2 for part in parts) == evenness


def test_cuts_can_be_forced() -> None:
    lengths = [10] * 8
    assert len(cut(lengths, 80, 10**6)) == 1
    assert len(cut(lengths, 10, 0)) == 8
    assert [part.stop - part.start for part in cut(lengths, 20, 1)] == [2, 2, 2, 2]
    assert len(cut(lengths, 80, 1, padded=False)) == 1
    assert len(cut(lengths, 80, 0, padded=False)) == 8


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_takes_every_row_once(rows: int, batch_size: int, seed: int) -> None:
    per_epoch = steps_per_epoch(rows, batch_size)
    for epoch in range(3):
        steps = range(epoch * per_epoch + 1, (epoch + 1) * per_epoch + 1)
        taken = [row for step in steps for row in rows_of_step(step, rows, batch_size, seed)]
        assert sorted(taken) == list(range(rows))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    first = epoch_order(50, 1, 0).copy()
    epoch_order.cache_clear()
    assert epoch_order(50, 1, 0) == first
    assert epoch_order(50, 1, 1) != first
    assert epoch_order(50, 2, 0) != first


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps", "expected"),
    [
        (905, 8, 2, None, 228),
        (905, 8, 2, 10, 10),
        (240, 8, 0.1, None, 3),
        (240, 8, 0.11, None, 4),
        (3, 8, 2, None, 2),
        (3, 8, 0.001, None, 1),
    ],
)
def test_steps_of_a_training(rows: int, batch: int, epochs: float, steps: int | None, expected: int) -> None:
    assert count_steps(rows, batch, epochs, steps) == expected


def test_the_first_label_is_not_counted() -> None:
    row = examples(1)[0]
    row.labels = list(row.input_ids)
    assert measure_language(row) == Measured(len(row.input_ids), len(row.input_ids) - 1)


def test_a_step_is_the_same_whatever_the_micro_batches() -> None:
    rows = examples(20)
    measured = [measure_language(row) for row in rows]
    whole = Steps(rows, measured, (10, 4, 7), collate, (10**6, 10**6, True))
    single = Steps(rows, measured, (10, 4, 7), collate, (1, 0, True))
    assert len(whole) == 10
    for index in range(10):
        one, many = whole[index], single[index]
        assert (len(one["ids"]), len(many["ids"])) == (1, 4)
        assert list(chain(*many["ids"])) == one["ids"][0]
        assert (one["tokens"], one["weight"]) == (many["tokens"], many["weight"])
        labels = one["micro_batches"][0]["labels"][:, 1:]
        assert int((labels != -100).sum()) == one["weight"]
