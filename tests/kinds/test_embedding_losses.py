"""The losses are those of sentence-transformers, value and gradient; the guard takes its negatives out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sentence_transformers.sentence_transformer import losses as theirs

from luthier.kinds.embedding import losses

ROWS, SIZE = 6, 16


def vectors(count: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.requires_grad_(True)


def step(made: torch.Tensor, columns: int, families: list[list[int]] | None = None) -> losses.Step:
    """Row by row: anchor, positive, negatives; every text is its own near-duplicate cluster.

    The losses get vectors of length 1, as their caller makes them; sentence-transformers' own bring them to length 1.
    """
    rows = len(made) // columns
    own = families or [[-1]] * len(made)
    return losses.Step(
        torch.nn.functional.normalize(made, dim=-1),
        torch.arange(rows).repeat_interleave(columns),
        torch.arange(columns).repeat(rows),
        torch.arange(len(made)),
        torch.tensor(own),
        torch.full((rows,), float("nan"), dtype=made.dtype),
    )


def agree(mine: torch.Tensor, other: torch.Tensor, made: torch.Tensor) -> None:
    torch.testing.assert_close(mine, other)
    (gradient,) = torch.autograd.grad(mine, made, retain_graph=True)
    (expected,) = torch.autograd.grad(other, made)
    assert expected.abs().max() > 0
    torch.testing.assert_close(gradient, expected)


def reference(made: torch.Tensor, columns: int, **settings: Any) -> torch.Tensor:
    loss = theirs.MultipleNegativesRankingLoss(model=torch.nn.Identity(), **settings)  # type: ignore[arg-type]
    split = list(made.view(-1, columns, SIZE).unbind(1))
    return loss.compute_loss_from_embeddings(split, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("scale", [20.0, 7.0])
def test_multiple_negatives_is_theirs(columns: int, scale: float) -> None:
    made = vectors(ROWS * columns)
    mine = losses.multiple_negatives(step(made, columns), scale, both_ways=False) / ROWS
    agree(mine, reference(made, columns, scale=scale), made)


@pytest.mark.parametrize("columns", [2, 4])
def test_in_all_directions_it_is_theirs(columns: int) -> None:
    made = vectors(ROWS * columns, seed=1)
    mine = losses.multiple_negatives(step(made, columns), 20.0, both_ways=True) / ROWS
    directions = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
    agree(mine, reference(made, columns, directions=directions), made)


def test_triplet_is_theirs() -> None:
    made = vectors(ROWS * 3)
    loss = theirs.TripletLoss(
        model=torch.nn.Identity(),  # type: ignore[arg-type]
        distance_metric=theirs.TripletDistanceMetric.COSINE,
        triplet_margin=0.3,
    )
    split = list(made.view(-1, 3, SIZE).unbind(1))
    agree(
        losses.triplet(step(made, 3), 0.3) / ROWS,
        loss.compute_loss_from_embeddings(split, None),  # type: ignore[arg-type]
        made,
    )


def test_triplet_without_negatives_takes_the_nearest_text_that_the_guard_allows() -> None:
    made = vectors(8, seed=3)
    families = [[0], [0], [0], [0], [1], [1], [2], [2]]
    got = losses.triplet(step(made, 2, families), 0.5)
    unit = torch.nn.functional.normalize(made.detach(), dim=-1)
    similarity = unit @ unit.T
    wanted = 0.0
    for row, others in enumerate([range(4, 8), range(4, 8), [0, 1, 2, 3, 6, 7], range(6)]):
        nearest = max(float(similarity[2 * row, other]) for other in others)
        wanted += max(0.0, nearest - float(similarity[2 * row, 2 * row + 1]) + 0.5)
    assert float(got.detach()) == pytest.approx(wanted)


def test_cosine_is_theirs() -> None:
    made = vectors(ROWS * 2)
    scores = torch.linspace(0, 1, ROWS, dtype=made.dtype)
    one = step(made, 2)
    one = losses.Step(one.vectors, one.row, one.column, one.near, one.families, scores)
    loss = theirs.CosineSimilarityLoss(model=torch.nn.Identity())  # type: ignore[arg-type]
    split = list(made.view(-1, 2, SIZE).unbind(1))
    agree(losses.cosine(one) / ROWS, loss.compute_loss_from_embeddings(split, scores), made)


@pytest.mark.parametrize("both_ways", [False, True])
def test_titles_of_one_family_are_no_negatives(both_ways: bool) -> None:
    """Rows 0 and 2 are of one family: each must have the loss that it has where the other row is not there."""
    made = vectors(6)
    families = [[0], [0], [1], [1], [0], [0]]
    guarded = losses.multiple_negatives(step(made, 2, families), 20.0, both_ways)
    plain = losses.multiple_negatives(step(made, 2), 20.0, both_ways)
    assert guarded < plain
    kept = {0: [0, 1, 2, 3], 1: [0, 1, 2, 3, 4, 5], 2: [4, 5, 2, 3]}
    alone = 0.0
    for row, places in kept.items():
        sub = step(made[places], 2)
        first = losses.multiple_negatives(sub, 20.0, both_ways)
        # The loss of one row: that of all of them less that of the others, each told from the same texts.
        alone += float(_of_row(sub, 1 if row == 1 else 0, both_ways))
        assert first > 0
    assert float(guarded) == pytest.approx(alone)


def _of_row(sub: losses.Step, row: int, both_ways: bool) -> torch.Tensor:
    logits = sub.vectors @ sub.vectors.T * 20.0
    anchor, positive = 2 * row, 2 * row + 1
    anchors = [place for place in range(0, len(logits), 2) if place != anchor]
    documents = [place for place in range(1, len(logits), 2) if place != positive]
    told = [logits[anchor, positive], *(logits[anchor, other] for other in documents)]
    if both_ways:
        told += [logits[anchor, other] for other in anchors]
        told += [logits[positive, anchor], *(logits[positive, other] for other in (*anchors, *documents))]
    return torch.logsumexp(torch.stack(told), 0) - logits[anchor, positive]


def test_a_text_of_two_families_is_a_negative_of_neither() -> None:
    made = vectors(6)
    shared = step(made, 2, [[0, -1], [0, 1], [1, -1], [1, -1], [2, -1], [2, -1]])
    found = losses.related(shared)
    assert found[1].tolist() == [False, True, True, True, False, False]
    assert found[2].tolist() == [False, False, False, False, True, True]


def test_near_duplicates_are_no_negatives() -> None:
    one = step(vectors(6), 2)
    near = torch.tensor([0, 1, 2, 0, 4, 5])  # the positive of row 1 says what the anchor of row 0 does
    found = losses.related(losses.Step(one.vectors, one.row, one.column, near, one.families, one.scores))
    assert found[0, 3]
    assert not found[2, 3]


def test_a_negative_that_is_of_the_family_is_no_negative() -> None:
    made = vectors(6)
    with_false = losses.multiple_negatives(step(made, 3, [[0], [0], [0], [1], [1], [2]]), 20.0, False)
    near = step(made, 3, [[0], [0], [3], [1], [1], [2]])
    assert with_false < losses.multiple_negatives(near, 20.0, False)
