"""Schedules: against transformers' own, at their ends, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine import schedules
from luthier.errors import UserError

NAMES = sorted(schedules.SHAPES)


@given(st.integers(2, 60), st.integers(1, 59), st.sampled_from(["constant", "linear", "cosine"]))
def test_a_schedule_is_that_of_transformers_one_step_on(steps: int, warmup: int, name: str) -> None:
    """transformers starts its warm-up at 0 and wastes a step; ours is its schedule over steps + 1, without step 0."""
    import torch
    from transformers import get_scheduler

    if warmup >= steps:
        return
    kind = "constant_with_warmup" if name == "constant" else name
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    theirs = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=steps + 1)
    for step in range(1, steps + 1):
        expected = 0.5 * theirs.lr_lambdas[0](step)
        assert schedules.learning_rate(step, steps, name, 0.5, warmup) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_every_step_learns_and_the_peak_is_where_warmup_ends(name: str, warmup: int) -> None:
    points = schedules.table(10, name, 2e-4, warmup)
    assert [point["step"] for point in points] == list(range(1, 11))
    assert all(0 < point["learning_rate"] <= 2e-4 for point in points)
    assert points[max(warmup, 1) - 1]["learning_rate"] == 2e-4
    assert [point["phase"] for point in points] == ["warmup"] * warmup + [name] * (10 - warmup)


def test_a_known_table() -> None:
    rates = [point["learning_rate"] for point in schedules.table(5, "linear", 4.0, 2)]
    assert rates == [2.0, 4.0, 3.0, 2.0, 1.0]


def test_after_the_last_step_the_rate_stays() -> None:
    assert schedules.factor(11, 10, "linear") == schedules.factor(10, 10, "linear") > 0


@pytest.mark.parametrize("warmup", [10, 11])
def test_a_warmup_as_long_as_the_training_is_refused(warmup: int) -> None:
    with pytest.raises(UserError, match="not shorter") as told:
        schedules.table(10, "cosine", 1.0, warmup)
    assert told.value.place == "training.schedule.warmup"
    assert "at most 9" in told.value.remedy


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="No schedule 'cosin'") as told:
        schedules.check(10, "cosin")
    assert "cosine" in told.value.remedy


def test_schedules_are_light() -> None:
    script = "import sys, luthier.engine.schedules; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
