"""luthier schedule: every step, from the recipe, a prepared run, or the data itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luthier.cli import app
from luthier.cli.schedule import Schedule, render
from luthier.engine.schedules import table

RECIPE = """
name: small
data: {{source: rows.jsonl, near_duplicates: off, split: {{train: 0.6, validation: 0.2, test: 0.2}}}}
training: {{{training}}}
"""


@pytest.fixture
def recipe(own_folder: Path) -> Path:
    subjects = ("gradient descent", "a kernel", "dropout", "an epoch", "a tree", "boosting", "a prior", "entropy")
    rows = [
        {"prompt": f"What is {subject} in case {number}?", "completion": f"{subject} number {number} explained."}
        for number, subject in enumerate(subjects * 5)
    ]
    (own_folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = own_folder / "recipe.yaml"
    path.write_text(RECIPE.format(training="epochs: 2, batch_size: 4, schedule: {warmup: 3}"))
    return path


def points(*words: str) -> list[dict[str, object]]:
    told = CliRunner().invoke(app, ["schedule", *words, "--json"], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return json.loads(told.stdout)  # type: ignore[no-any-return]


def test_steps_in_the_recipe_need_no_data(recipe: Path) -> None:
    (recipe.parent / "rows.jsonl").unlink()
    told = points(str(recipe), "--set", "training.steps=5")
    assert [point["step"] for point in told] == [1, 2, 3, 4, 5]
    assert [point["phase"] for point in told] == ["warmup"] * 3 + ["cosine"] * 2
    assert set(told[0]) == {"step", "learning_rate", "phase"}


def test_rows_are_counted_in_the_data_or_in_a_prepared_run(recipe: Path) -> None:
    assert len(points(str(recipe))) == 12
    text = CliRunner().invoke(app, ["schedule", str(recipe)], catch_exceptions=False).stdout
    assert "12 steps (from 24 training rows, counted by preparing the data now)" in text
    prepared = CliRunner().invoke(app, ["prepare", str(recipe), "--quiet"], catch_exceptions=False)
    assert prepared.exit_code == 0, prepared.output
    text = CliRunner().invoke(app, ["schedule", str(recipe)], catch_exceptions=False).stdout
    assert "24 training rows of run " in text
    other = CliRunner().invoke(app, ["schedule", str(recipe), "--set", "seed=1"], catch_exceptions=False).stdout
    assert "counted by preparing" in other, "the prepared run has another seed"


def test_text_shows_bars_and_phases() -> None:
    text = render(Schedule(table(200, "linear", 4e-4, 50), "training.steps"))
    assert "▁" in text
    assert "█" in text
    assert "warmup     steps 1 to 50" in text
    assert "linear     steps 51 to 200" in text
    assert "200         2.6490e-06" in text
