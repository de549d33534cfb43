"""Schedules: against transformers' and torch's own, at their ends and joins, and what is refused."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import optimization

from luthier.engine.schedules import SHAPES, Schedule
from luthier.errors import UserError
from luthier.recipe.phases import Phase, resolve

NAMES = sorted(SHAPES)
WARMED = [name for name in NAMES if name != "one-cycle"]
RUNS = st.tuples(st.integers(2, 60), st.integers(1, 59)).filter(lambda pair: pair[1] < pair[0])
FLOORS = st.sampled_from([0.0, 0.1, 0.7])


UNHURRIED = settings(deadline=None)


def optimizer(peak: float = 0.5) -> Any:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)


def follows(schedule: Schedule, theirs: Any) -> None:
    """Ours over S steps is theirs over S + 1 without step 0, where they waste a step on a rate of 0."""
    for step in range(1, schedule.steps + 1):
        expected = schedule.peak * theirs.lr_lambdas[0](step)
        assert schedule(step) == pytest.approx(expected, abs=1e-12), step


@UNHURRIED
@given(RUNS, st.sampled_from(["constant", "linear", "cosine"]))
def test_the_plain_shapes_are_those_of_transformers(run: tuple[int, int], name: str) -> None:
    steps, warmup = run
    kind = "constant_with_warmup" if name == "constant" else name
    theirs = optimization.get_scheduler(kind, optimizer(), num_warmup_steps=warmup, num_training_steps=steps + 1)
    follows(Schedule(steps, 0.5, name, warmup), theirs)


@UNHURRIED
@given(RUNS, FLOORS)
def test_cosine_with_floor_is_that_of_transformers(run: tuple[int, int], floor: float) -> None:
    steps, warmup = run
    theirs = optimization.get_cosine_with_min_lr_schedule_with_warmup(optimizer(), warmup, steps + 1, min_lr_rate=floor)
    follows(Schedule(steps, 0.5, "cosine", warmup, floor=floor), theirs)


@UNHURRIED
@given(RUNS, FLOORS, st.sampled_from([0.5, 1.0, 2.0]))
def test_polynomial_is_that_of_transformers(run: tuple[int, int], floor: float, power: float) -> None:
    steps, warmup = run
    theirs = optimization.get_polynomial_decay_schedule_with_warmup(
        optimizer(), warmup, steps + 1, lr_end=0.5 * floor, power=power
    )
    follows(Schedule(steps, 0.5, "polynomial", warmup, floor=floor, power=power), theirs)


@UNHURRIED
@given(RUNS, FLOORS, st.floats(0.05, 0.9))
def test_warmup_stable_decay_is_that_of_transformers(run: tuple[int, int], floor: float, decay: float) -> None:
    steps, warmup = run
    decaying = max(1, round(decay * steps))
    if steps - decaying < warmup:
        with pytest.raises(UserError, match="leave none of"):
            Schedule(steps, 0.5, "warmup-stable-decay", warmup, decay=decay)
        return
    theirs = optimization.get_wsd_schedule(
        optimizer(),
        warmup,
        num_decay_steps=decaying + 1,
        num_training_steps=steps + 1,
        decay_type="1-sqrt",
        min_lr_ratio=floor,
    )
    schedule = Schedule(steps, 0.5, "warmup-stable-decay", warmup, floor=floor, decay=decay)
    rates = [schedule(step) for step in range(warmup, steps + 1)]  # their warm-up begins with the floor
    assert rates == pytest.approx([0.5 * theirs.lr_lambdas[0](step) for step in range(warmup, steps + 1)])


@UNHURRIED
@given(st.integers(3, 80), st.floats(0.1, 0.9))
def test_one_cycle_is_that_of_torch(steps: int, rise: float) -> None:
    if rise * steps <= 1:
        with pytest.raises(UserError, match="no step to rise"):
            Schedule(steps, 0.5, "one-cycle", rise=rise)
        return
    stepped = optimizer()
    theirs = torch.optim.lr_scheduler.OneCycleLR(stepped, 0.5, total_steps=steps, pct_start=rise)
    expected = []
    for _ in range(steps):
        expected.append(theirs.get_last_lr()[0])
        stepped.step()
        if len(expected) < steps:
            theirs.step()
    assert [Schedule(steps, 0.5, "one-cycle", rise=rise)(step) for step in range(1, steps + 1)] == pytest.approx(
        expected
    )


def test_three_phases_by_default() -> None:
    schedule = Schedule(1000, 5e-4, "three-phase")
    told = [(one["name"], one["start"], one["end"], one["range"]) for one in schedule.get_phases()]
    assert [one[:3] for one in told] == [
        ("exploration", 1, 300), ("exploitation", 301, 800), ("refinement", 801, 1000)
    ]  # fmt: skip
    expected = [(5e-4, 2e-4), (2e-4, 5e-6), (5e-6, 1e-6)]
    assert [one[3] for one in told] == [pytest.approx(pair) for pair in expected]
    rates = [schedule(step) for step in range(1, 1001)]
    assert [rates[0], rates[299], rates[799], rates[999]] == pytest.approx([5e-4, 2e-4, 5e-6, 1e-6])
    assert all(later <= earlier for earlier, later in pairwise(rates))
    steepest = 5e-4 / 300 * math.pi / 2  # of half a cosine from 5e-4 to 0 over the shortest fall
    assert max(earlier - later for earlier, later in pairwise(rates)) < steepest


def test_default_phases_scale_with_the_peak() -> None:
    small, large = Schedule(50, 1e-4, "three-phase"), Schedule(50, 1e-3, "three-phase")
    assert [10 * small(step) for step in range(1, 51)] == pytest.approx([large(step) for step in range(1, 51)])


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 5.5e-4), ("cosine", 5.5e-4), ("exponential", math.sqrt(1e-3 * 1e-4))]
)
def test_the_shapes_of_a_phase(shape: str, middle: float) -> None:
    phases = (Phase("down", 0.51, 1e-3, 1e-4, shape), Phase("on", 1.0, 1e-4, 1e-4))
    schedule = Schedule(100, 1e-3, "three-phase", phases=phases)
    assert [schedule(1), schedule(26), schedule(51), schedule(100)] == pytest.approx([1e-3, middle, 1e-4, 1e-4])
    assert schedule.get_phase_info(26) == {
        "name": "down", "start": 1, "end": 51, "range": (1e-3, 1e-4), "strategy": shape, "progress": 0.5
    }  # fmt: skip


@UNHURRIED
@given(st.integers(1, 200), st.integers(0, 20))
def test_three_phases_have_a_step_each_or_are_refused(steps: int, warmup: int) -> None:
    try:
        schedule = Schedule(steps, 5e-4, "three-phase", warmup)
    except UserError as error:
        assert error.place.startswith("training.schedule.")
        assert round(0.3 * steps) <= warmup or steps < 5
        return
    phases = schedule.get_phases()
    assert [phase["start"] for phase in phases] == [1, *(phase["end"] + 1 for phase in phases[:-1])]
    assert phases[-1]["end"] == steps
    assert schedule(max(warmup, 1)) == 5e-4
    assert schedule(steps) == pytest.approx(1e-6)


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: (Phase("a", 0.5, 1e-3, 1e-4), Phase("b", 0.9, 1e-4, 1e-5)), "ends at 0.9 of the run, not at 1"),
    (lambda: (Phase("a", 0.5, 1e-3, 1e-4), Phase("b", 1.0, 1e-5, 1e-5)), "the rate would jump"),
    (lambda: (Phase("a", 1.0, 5e-4, 1e-4),), "learning_rate is 0.001: the rate would jump"),
    (lambda: (Phase("a", 0.5, 1e-3, 2e-3), Phase("b", 1.0, 2e-3, 1e-5)), "above learning_rate"),
    (lambda: (Phase("a", 0.5, 1e-3, 1e-4), Phase("b", 0.5, 1e-4, 1e-5)), "has only ended at 0.5"),
]


@pytest.mark.parametrize(("phases", "words"), BAD)
def test_phases_that_do_not_fit_are_refused(phases: Callable[[], Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as told:
        Schedule(100, 1e-3, "three-phase", phases=phases())
    assert told.value.place == "training.schedule.phases"


def test_a_phase_goes_on_where_the_one_before_ends() -> None:
    from luthier.recipe.phases import Stated

    phases = resolve(1e-3, {"exploration": Stated(end=7e-4)})
    assert [(one.start, one.end) for one in phases] == [(1e-3, 7e-4), (7e-4, 1e-5), (1e-5, 2e-6)]


@pytest.mark.parametrize("name", WARMED)
@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_every_step_learns_and_the_peak_is_where_warmup_ends(name: str, warmup: int) -> None:
    points = Schedule(20, 2e-4, name, warmup).table()
    assert [point["step"] for point in points] == list(range(1, 21))
    assert all(0 < point["learning_rate"] <= 2e-4 for point in points)
    assert points[max(warmup, 1) - 1]["learning_rate"] == 2e-4
    assert [point["phase"] for point in points[:warmup]] == ["warmup"] * warmup
    assert "warmup" not in {point["phase"] for point in points[warmup:]}


@pytest.mark.parametrize("name", NAMES)
def test_the_table_the_function_and_the_phases_agree(name: str) -> None:
    schedule = Schedule(37, 3e-4, name, 0 if name == "one-cycle" else 4)
    for point in schedule.table():
        step = point["step"]
        info = schedule.get_phase_info(step)
        assert schedule(step) == schedule.get_learning_rate(step) == point["learning_rate"]
        assert info["name"] == point["phase"]
        assert info["start"] <= step <= info["end"]
        assert min(info["range"]) - 1e-12 <= schedule(step) <= max(info["range"]) + 1e-12
    assert schedule.get_phase_info(1)["progress"] == 0.0
    assert schedule.get_phase_info(37)["progress"] == 1.0


def test_a_known_table() -> None:
    rates = [point["learning_rate"] for point in Schedule(5, 4.0, "linear", 2).table()]
    assert rates == [2.0, 4.0, 3.0, 2.0, 1.0]


def test_outside_the_run_the_rate_is_that_of_the_nearest_step() -> None:
    schedule = Schedule(10, 1.0, "linear")
    assert schedule(11) == schedule(10) > 0
    assert schedule(0) == schedule(1) == 1.0


def test_it_is_a_plain_function_of_a_step_that_is_no_int() -> None:
    """MLX and torch hand an array of one number to a schedule."""
    schedule = Schedule(10, 1.0, "cosine")
    assert schedule(torch.tensor(4)) == schedule(4)


@pytest.mark.parametrize("warmup", [10, 11])
def test_a_warmup_as_long_as_the_training_is_refused(warmup: int) -> None:
    with pytest.raises(UserError, match="not shorter") as told:
        Schedule(10, 1.0, "cosine", warmup)
    assert told.value.place == "training.schedule.warmup"
    assert "at most 9" in told.value.remedy


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="No schedule 'cosin'") as told:
        Schedule(10, 1.0, "cosin")
    assert "cosine" in told.value.remedy


def test_schedules_are_light() -> None:
    script = "import sys, luthier.engine.schedules; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_phase_goes_on_from_the_last_step_of_the_phase_before() -> None:
    phases = (Phase("down", 0.5, 1e-3, 5e-4, "linear"), Phase("on", 1.0, 5e-4, 1e-4, "linear"))
    rates = [Schedule(10, 1e-3, "three-phase", phases=phases)(step) for step in range(1, 11)]
    assert rates == pytest.approx([1e-3, 8.75e-4, 7.5e-4, 6.25e-4, 5e-4, 4.2e-4, 3.4e-4, 2.6e-4, 1.8e-4, 1e-4])
