"""What a recipe says of schedule, curriculum and early stopping: what comes of it, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luthier.recipe.load import load_recipe
from luthier.recipe.pace import READ_BY, Schedule

from .conftest import MINIMAL, Failing

GIVEN: dict[str, Any] = {"warmup": 2, "floor": 0.0, "power": 2.0, "decay": 0.1, "rise": 0.2, "phases": {}}


def told(training: str) -> dict[str, Any]:
    Path("recipe.yaml").write_text(f"{MINIMAL}training: {training}\n")
    return load_recipe("recipe.yaml").recipe.training.steering()


@pytest.mark.parametrize("name", Schedule.model_fields["name"].annotation.__args__)  # type: ignore[union-attr]
@pytest.mark.parametrize("key", GIVEN)
def test_a_key_that_the_shape_does_not_read_is_refused(failing: Failing, name: str, key: str) -> None:
    text = f"{MINIMAL}training: {{schedule: {{name: {name},\n  {key}: {GIVEN[key]}}}}}\n"
    if name in READ_BY[key]:
        Path("recipe.yaml").write_text(text)
        assert load_recipe("recipe.yaml").recipe.training.schedule.name == name
        return
    (error,) = failing(text)
    assert error.problem.startswith(f"The schedule {name} does not read {key}; it is read by ")
    assert error.place == "recipe.yaml:5"
    assert error.remedy == f"Remove {key}, or choose another name."


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ("{schedule: {name: three-phase, phases: {exploration: {until: 0.9}}}}", "exploitation ends at 0.8 of the run"),
        ("{schedule: {name: three-phase, phases: {refinement: {until: 0.9}}}}", "ends at 0.9 of the run, not at 1"),
        ("{schedule: {name: three-phase, phases: {exploitation: {start: 1e-4}}}}", "the rate would jump"),
        ("{learning_rate: 1e-4, schedule: {name: three-phase, phases: {exploration: {end: 2e-4}}}}", "above learning"),
        ("{schedule: {name: plateau}, early_stopping: {patience: 1}}", "Training would stop after 1 evaluations"),
        ("{steps: 5, schedule: {warmup: 5}}", "The warm-up of 5 steps is not shorter than the training of 5 steps."),
        ("{curriculum: {by: length, order: [a, b]}}", "order lists the values of a field, and by is length"),
        ("{curriculum: {by: topic, order: [a, a]}}", "order names a value twice: a, a."),
        ("{learning_rate: 0}", "training.learning_rate must be a number above 0 and below 1, not 0."),
        ("{learning_rate: 1e3}", "training.learning_rate must be a number above 0 and below 1, not 1e3."),
        ("{schedule: {name: wsd}}", "training.schedule.name must be one of constant,"),
    ],
)
def test_contradictions(failing: Failing, training: str, problem: str) -> None:
    (error,) = failing(f"{MINIMAL}training: {training}\n")
    assert problem in error.problem
    assert error.place == "recipe.yaml:4"
    assert error.remedy


def test_the_peak_of_three_phases() -> None:
    assert told("{}")["learning_rate"] == 2e-4
    default = told("{schedule: {name: three-phase}}")
    assert default["learning_rate"] == 5e-4
    assert [(one.name, one.until, one.start, one.end) for one in default["phases"]] == [
        ("exploration", 0.3, 5e-4, pytest.approx(2e-4)),
        ("exploitation", 0.8, pytest.approx(2e-4), pytest.approx(5e-6)),
        ("refinement", 1.0, pytest.approx(5e-6), pytest.approx(1e-6)),
    ]
    scaled = told("{learning_rate: 1e-4, schedule: {name: three-phase, phases: {refinement: {end: 1e-8}}}}")
    assert [one.end for one in scaled["phases"]] == pytest.approx([4e-5, 1e-6, 1e-8])


@pytest.mark.parametrize("given", ["", ", plateau: on", ", plateau: {}"])
def test_a_plateau_by_name_has_its_section(given: str) -> None:
    Path("recipe.yaml").write_text(f"{MINIMAL}training: {{schedule: {{name: plateau{given}}}}}\n")
    plateau = load_recipe("recipe.yaml").recipe.training.schedule.plateau
    assert plateau is not None
    assert plateau.factor == 0.5


@pytest.mark.parametrize("off", ["off", "false", "none", "null"])
def test_a_plateau_by_name_cannot_be_off(failing: Failing, off: str) -> None:
    (error,) = failing(f"{MINIMAL}training: {{schedule: {{name: plateau,\n  plateau: {off}}}}}\n")
    assert "The schedule plateau is constant but for its reductions, and training.schedule.plateau is off" in str(error)
    assert error.place == "recipe.yaml:5"
    assert "set it to on" in error.remedy
    Path("recipe.yaml").write_text(f"{MINIMAL}training: {{schedule: {{plateau: {off}}}}}\n")
    assert load_recipe("recipe.yaml").recipe.training.schedule.plateau is None
