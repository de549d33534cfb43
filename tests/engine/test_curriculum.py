"""Curricula: every row once an epoch, the easy ones first, uniform at the end, and the same after a resume."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.engine import checkpoints, difficulty
from luthier.engine.batches import epoch_order, rows_of_step, steps_per_epoch
from luthier.engine.curriculum import SHAPES, Curriculum, Pacing
from luthier.engine.plateau import Plateau
from luthier.engine.trainer import FitSettings, Material, fit
from tests.engine.little import collate, examples, loss_sum, model_at, weights
from tests.tiny import make

PACINGS = st.builds(
    Pacing,
    by=st.just("x"),
    shape=st.sampled_from(sorted(SHAPES)),
    start=st.floats(0.05, 1.0),
    until=st.floats(0.05, 1.0),
)


def steps_of(curriculum: Curriculum, rows: int, batch_size: int, total: int, seed: int = 0) -> list[list[int]]:
    return [rows_of_step(step, rows, batch_size, seed, curriculum) for step in range(1, total + 1)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=40), st.integers(1, 9), st.integers(1, 4), PACINGS)
def test_every_epoch_has_every_row_once(difficulties: list[int], batch_size: int, epochs: int, pacing: Pacing) -> None:
    rows = len(difficulties)
    per_epoch = steps_per_epoch(rows, batch_size)
    curriculum = Curriculum(difficulties, pacing, batch_size, per_epoch * epochs)
    seen = steps_of(curriculum, rows, batch_size, per_epoch * epochs)
    for epoch in range(epochs):
        of_epoch = [row for step in seen[epoch * per_epoch : (epoch + 1) * per_epoch] for row in step]
        assert sorted(of_epoch) == list(range(rows))
    assert [len(step) for step in seen] == [
        len(rows_of_step(step, rows, batch_size, 0)) for step in range(1, len(seen) + 1)
    ]


@settings(deadline=None)
@given(st.integers(10, 200), st.integers(1, 16), PACINGS)
def test_a_step_draws_from_what_is_open_or_from_the_easiest_beyond(rows: int, batch_size: int, pacing: Pacing) -> None:
    """Difficulty is the position here, so that the open rows are the first ones."""
    total = steps_per_epoch(rows, batch_size)
    curriculum = Curriculum(range(rows), pacing, batch_size, total)
    taken: set[int] = set()
    for step, chosen in enumerate(steps_of(curriculum, rows, batch_size, total), 1):
        taken |= set(chosen)
        assert max(chosen) < max(curriculum.open_rows(step), len(taken))


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_after_the_curriculum_epochs_are_what_they_are_without(shape: str) -> None:
    rows, batch_size, epochs = 50, 4, 4
    total = epochs * steps_per_epoch(rows, batch_size)
    curriculum = Curriculum(range(rows), Pacing("x", shape, 0.2, 0.5), batch_size, total)
    assert [curriculum(rows, 3, epoch) == epoch_order(rows, 3, epoch) for epoch in range(epochs)] == [
        False, False, True, True
    ]  # fmt: skip


def test_without_a_start_to_speak_of_the_first_epoch_is_sorted() -> None:
    curriculum = Curriculum([5, 1, 4, 2, 3, 0], Pacing("x", "linear", 1e-9, 1.0), 1, 12)
    assert curriculum(6, 0, 0)[:3] == [5, 1, 3]
    assert Curriculum([5, 1, 4, 2, 3, 0], Pacing("x", "step", 1e-9, 1.0), 1, 12)(6, 0, 0) == [5, 1, 3, 4, 2, 0]


def test_the_mean_difficulty_rises_with_the_open_share_and_then_stays() -> None:
    """One long epoch, 2,000 rows: within the curriculum the mean of a step is half of what is open, as of a draw."""
    rows, batch_size = 2000, 50
    curriculum = Curriculum(range(rows), Pacing("x", "linear", 0.25, 1.0), batch_size, 2 * rows // batch_size)
    means = [sum(step) / len(step) / rows for step in steps_of(curriculum, rows, batch_size, 10)]
    for step, mean in enumerate(means, 1):
        share = curriculum.open_rows(step) / rows
        assert share == pytest.approx(0.25 + 0.75 * (step - 1) / 80, abs=1e-3)
        assert 0.3 * share < mean < 0.7 * share


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [0.2, 0.4, 0.6, 0.8]),
        ("root", [math.sqrt(0.04 + 0.96 * way) for way in (0, 0.25, 0.5, 0.75)]),
        ("step", [0.2, 0.2, 0.2, 0.2]),
        ("exponential", [0.2, 0.2, 0.38, 0.722]),
    ],
)
def test_the_pacing_functions(shape: str, expected: list[float]) -> None:
    pacing = Pacing("x", shape, 0.2, 0.5)
    assert [pacing.share(way) for way in (0, 0.25, 0.5, 0.75)] == pytest.approx(expected)
    assert pacing.share(1.0) == pacing.share(7.0) == 1.0


def test_equal_rows_come_in_an_order_drawn_from_the_seed() -> None:
    pacing = Pacing("x", "linear", 0.01, 1.0)
    firsts = {Curriculum([0.0] * 9 + [1.0] * 9, pacing, 2, 18)(18, seed, 0)[0] for seed in range(40)}
    assert len(firsts) > 4
    assert max(firsts) < 9


def test_an_order_may_have_a_place_for_the_empty_text() -> None:
    assert difficulty.from_labels([("a:1", ""), ("a:2", "hard")], "level", ["", "hard"]) == [0.0, 1.0]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base"))


def trained(base: Path, folder: Path, difficulties: Any = None, **changes: Any) -> dict[str, Any]:
    rows = examples(20)
    lengths = [len(row.input_ids) for row in rows]
    model = model_at(base, dropout=0.1)
    material = Material(
        rows,
        examples(6, 1, name="held"),
        collate,
        loss_sum,
        difficulties=lengths if difficulties is None else difficulties,
    )
    chosen = {
        "epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "checkpoint_every": 2, "keep_checkpoints": 9,
        "curriculum": Pacing("length", "root", 0.2, 0.8),
    } | changes  # fmt: skip
    fit(model, material, FitSettings(**chosen), folder, seed=7)
    return weights(model)


def cut_back(folder: Path, step: int) -> None:
    """Leave the folder as a kill after `step` would."""
    for later in checkpoints.steps_on_disk(folder):
        if later > step:
            shutil.rmtree(checkpoints.path_of(folder, later))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "three-phase", "warmup": 1},
        {"schedule": "one-cycle"},
        {"schedule": "plateau", "plateau": "always"},
        {"schedule": "cosine", "floor": 0.1, "plateau": "always", "curriculum": None},
    ],
)
def test_a_resumed_run_is_the_undisturbed_one_to_the_byte(base: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    if changes.get("plateau"):
        changes = {**changes, "plateau": Plateau(patience=1, threshold=9.0, smoothing=0.5)}
    whole = trained(base, tmp_path / "whole", **changes)
    rates = (tmp_path / "whole" / "metrics.jsonl").read_text()
    trained(base, tmp_path / "killed", **changes)
    cut_back(tmp_path / "killed", 4)
    again = trained(base, tmp_path / "killed", **changes)
    assert all(again[name].equal(value) for name, value in whole.items())

    def told(text: str) -> list[Any]:
        return [
            (line["step"], line.get("learning_rate"), line.get("phase")) for line in map(json.loads, text.splitlines())
        ]

    assert told((tmp_path / "killed" / "metrics.jsonl").read_text()) == told(rates)
    if changes.get("plateau"):
        reduced = [line for line in map(json.loads, rates.splitlines()) if "learning_rate" in line]
        shape = FitSettings(**{"learning_rate": 5e-3, **changes}).schedule_over(10)
        scales = [line["learning_rate"] / shape(line["step"]) for line in reduced]
        assert scales == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125])


def test_other_difficulties_are_another_training(base: Path, tmp_path: Path) -> None:
    first = trained(base, tmp_path / "run")
    other = trained(base, tmp_path / "run", difficulties=list(range(20)))
    assert not all(other[name].equal(value) for name, value in first.items())


def test_rows_seen_are_counted_alike(base: Path) -> None:
    rows, batch_size, total = 20, 4, 10
    curriculum = Curriculum(range(rows), Pacing("x"), batch_size, total)
    assert set(Counter(row for step in steps_of(curriculum, rows, batch_size, total) for row in step).values()) == {2}
