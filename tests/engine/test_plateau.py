"""Reductions on a plateau: against torch's, with smoothing, before early stopping, and after a resume."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.engine.course import Course
from luthier.engine.plateau import Plateau, Standing, take_in

LOSSES = st.lists(st.integers(0, 20).map(lambda tenths: tenths / 10), min_size=1, max_size=40)


def scales(losses: list[float], settings: Plateau) -> list[float]:
    standing, scale, found = Standing(), 1.0, []
    for loss in losses:
        standing, scale = take_in(standing, loss, scale, settings)
        found.append(scale)
    return found


@settings(deadline=None)
@given(LOSSES, st.integers(1, 4), st.integers(0, 3), st.sampled_from([0.0, 0.15]))
def test_without_smoothing_it_is_that_of_torch(
    losses: list[float], patience: int, cooldown: int, threshold: float
) -> None:
    """torch reduces when more than its patience was waited; ours when all of it was."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=threshold, threshold_mode="abs",
        cooldown=cooldown, min_lr=0.1, eps=0.0,
    )  # fmt: skip
    expected = []
    for loss in losses:
        theirs.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    chosen = Plateau(patience, threshold, 0.5, cooldown, floor=0.1, smoothing=0.0)
    assert scales(losses, chosen) == expected


def test_smoothing_looks_through_a_dip() -> None:
    """One lucky evaluation sets no mark that the next ones could miss: the average fell and goes on falling."""
    losses = [2.0, 1.0, 1.6, 1.5, 1.4]
    assert scales(losses, Plateau(patience=2, smoothing=0.0))[-1] < 1.0
    assert scales(losses, Plateau(patience=2, smoothing=0.8))[-1] == 1.0
    average, past = [], 2.0
    for loss in losses:
        past = 0.8 * past + 0.2 * loss
        average.append(past)
    standing = Standing()
    for loss, expected in zip(losses, average, strict=True):
        standing, _ = take_in(standing, loss, 1.0, Plateau(smoothing=0.8))
        assert standing.smoothed == pytest.approx(expected)


def test_a_scale_that_is_already_under_the_floor_stays() -> None:
    """A guard may have lowered it further."""
    standing = Standing(smoothed=1.0, best=1.0, waited=9)
    assert take_in(standing, 1.0, 0.001, Plateau(patience=1, floor=0.01))[1] == 0.001


def judged(losses: list[float], patience: int, plateau: Plateau | None) -> list[tuple[float, bool]]:
    course, found = Course(), []
    for step, loss in enumerate(losses, 1):
        course.step = step
        course = Course(**course.to_json())  # as after a kill at any evaluation
        course.judge(loss, patience, 0.0, plateau)
        found.append((course.scale, course.stopped))
        if course.stopped:
            break
    return found


def test_first_the_rate_is_reduced_then_training_stops() -> None:
    plateau = Plateau(patience=2, factor=0.5, floor=0.25, smoothing=0.0)
    assert judged([1.0] * 12, 2, None) == [(1.0, False), (1.0, False), (1.0, True)]
    told = judged([1.0] * 12, 2, plateau)
    assert [scale for scale, _ in told] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert [stopped for _, stopped in told] == [False] * 6 + [True], "at the floor patience runs out"


def test_an_improvement_after_a_reduction_begins_anew() -> None:
    plateau = Plateau(patience=2, factor=0.5, smoothing=0.0)
    told = judged([1.0, 1.0, 1.0, 0.9, 0.9, 0.8, 0.8, 0.7], 2, plateau)
    assert not any(stopped for _, stopped in told)
    assert told[-1][0] == 0.5


def test_patience_asks_for_more_than_the_threshold_and_the_best_is_the_best() -> None:
    course = Course()
    for step, loss in enumerate([1.0, 0.875, 0.75], 1):
        course.step = step
        course.judge(loss, 2, 0.25)  # falls by exactly the threshold do not count, from 1.0 or from 0.875
        assert (course.best_step, course.best_loss) == (step, loss)
    assert course.stopped
    course = Course()
    for loss in (1.0, 0.875, 0.7):
        course.judge(loss, 2, 0.25)
    assert not course.stopped
