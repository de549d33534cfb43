"""luthier schedule: every step, from the recipe, a prepared run, or the data itself."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

import luthier
from luthier.cli import app
from luthier.cli.plan import plan_of
from luthier.cli.schedule import Planned, render
from luthier.engine.schedules import Schedule
from luthier.errors import UserError
from luthier.recipe.phases import Phase
from tests.tiny import make

RECIPE = """
name: small
data: {{source: rows.jsonl, near_duplicates: off, split: {{train: 0.6, validation: 0.2, test: 0.2}}}}
training: {{{training}}}
"""
WORDS = ("analyst", "baker", "carpenter", "driver", "engineer", "florist", "gardener", "hatter", "judge", "keeper")
# Of 40 rows eight have a question that leaves no room for an answer; of 50 titles some are held back.
INPUTS = {
    "causal-lm": "prompt,completion\n"
    + "".join(
        f"{' '.join(f'w{number}x{place}' for place in range(1 if number % 5 else 40))},so {number}\n"
        for number in range(40)
    ),
    "embedding": "title,family\n"
    + "".join(f"{rank} {word},{word}\n" for word in WORDS for rank in ("junior", "senior", "lead", "head", "chief")),
}
DATA = {
    "causal-lm": ("llama", "{source: rows.csv, max_length: 64, near_duplicates: off}"),
    "embedding": ("bert", "{source: rows.csv, format: titles, near_duplicates: off,\n  max_length: 32, "
                  "fields: {title: title, label: family, group: family}}"),
}  # fmt: skip


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


@pytest.mark.parametrize("kind", INPUTS)
def test_steps_are_those_that_the_plan_counts(kind: str, own_folder: Path) -> None:
    base, data = DATA[kind]
    recipe, lines = own_folder / "recipe.yaml", INPUTS[kind].splitlines(keepends=True)
    recipe.write_text(
        f"name: small\nkind: {kind}\nmodel: {{base: {make(base, own_folder / 'base')}}}\ndata: {data}\n"
        "adapter: {targets: all-linear}\ntraining: {epochs: 1, batch_size: 1}\n"
    )
    (own_folder / "rows.csv").write_text("".join(lines))
    prepared = CliRunner().invoke(app, ["prepare", str(recipe), "--quiet"], catch_exceptions=False)
    assert prepared.exit_code == 0, prepared.output
    (folder,) = Path("runs/small").iterdir()
    there = len((folder / "1-data/train.jsonl").read_text().splitlines())
    loaded = luthier.load_recipe(recipe)
    steps = len(points(str(recipe)))
    assert steps == plan_of(loaded.recipe, calibrate=False)["steps"] < there
    assert len(luthier.schedule(loaded)) == luthier.learning_rate(loaded).steps == steps
    assert f"{steps} steps (from {steps} of {there} training rows of run {folder.name})" in told(str(recipe))

    (own_folder / "rows.csv").write_text("".join(lines[:-10]))
    fewer = len(points(str(recipe)))
    assert fewer == plan_of(loaded.recipe, calibrate=False)["steps"] < steps
    assert "training rows, counted by preparing the data now)" in told(str(recipe))


def test_a_base_without_its_tokenizer(recipe: Path) -> None:
    text = told(str(recipe), "--set", "model.base=falcon-rw-1b")
    assert "24 training rows, counted by preparing the data now, not yet as tokens: the tokenizer of Falcon" in text


def test_nothing_to_train_on(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.data.rows.read_rows", lambda path: [])
    result = CliRunner().invoke(app, ["schedule", str(recipe)])
    assert isinstance(result.exception, UserError)
    assert result.exception.problem == "There are no rows to train on."


def told(*words: str) -> str:
    result = CliRunner().invoke(app, ["schedule", *words])
    return f"{result.stdout}{result.stderr}\n{result.exit_code}"


def rows_of(text: str) -> list[str]:
    """Return what is drawn right of the y axis, the highest first."""
    return [line.partition("┤")[2] for line in text.splitlines() if "┤" in line]


def test_text_shows_the_curve_and_its_phases() -> None:
    text = render([Planned("demo", Schedule(200, 4e-4, "linear", 50), "training.steps")])
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "demo: 200 steps (from training.steps), peak 0.0004"
    assert "warmup steps 1 to 50 8e-06 → 0.0004, linear" in lines
    assert "linear steps 51 to 200 0.000397 → 2.65e-06, linear" in lines
    assert "200 2.6490e-06 linear" in lines
    drawn = rows_of(text)
    assert {len(row) for row in drawn} == {60}
    heights = [sum(" ▁▂▃▄▅▆▇█".index(row[column]) for row in drawn) for column in range(60)]
    peak = heights.index(max(heights))
    assert peak == 15, "a quarter of the way"
    assert heights[:peak] == sorted(heights[:peak])
    assert heights[peak:] == sorted(heights[peak:], reverse=True)
    assert heights[-1] == 1, "the last step still learns"


def test_two_schedules_side_by_side(recipe: Path) -> None:
    text = told(str(recipe), "--set", "training.steps=40", "--vs", "constant")
    assert "● small: 40 steps" in text
    assert "○ constant: 40 steps" in text
    marks = rows_of(text)
    assert set(marks[0]) == {" ", "◉", "○"}, "both warm up to the peak, where the constant one stays"
    assert marks[-1].rstrip().endswith("●"), "the cosine ends at the bottom"
    last = next(line for line in text.splitlines() if line.startswith("  40 ")).split()
    assert float(last[2]) == 2e-4
    assert float(last[3]) == pytest.approx(float(last[2]) / float(last[1]), rel=1e-2)


def test_another_recipe_may_be_longer(recipe: Path) -> None:
    other = recipe.with_name("other.yaml")
    other.write_text(RECIPE.format(training="steps: 20, schedule: {name: linear}"))
    command = [str(recipe), "--set", "training.steps=8", "--vs", str(other)]
    assert ["20", "–", "1.0000e-05", "–"] in [line.split() for line in told(*command).splitlines()]
    result = CliRunner().invoke(app, ["schedule", *command, "--json"], catch_exceptions=False)
    both = json.loads(result.stdout)
    assert (len(both["recipe"]), len(both["vs"])) == (8, 20)
    assert {point["phase"] for point in both["vs"]} == {"linear"}


def test_by_the_logarithm_equal_ratios_have_equal_heights() -> None:
    phases = (Phase("down", 1.0, 1e-3, 1e-5, "exponential"),)
    text = render([Planned("demo", Schedule(60, 1e-3, "three-phase", phases=phases), "training.steps")], log=True)
    heights = [sum(" ▁▂▃▄▅▆▇█".index(row[column]) for row in rows_of(text)) for column in range(60)]
    falls = {earlier - later for earlier, later in pairwise(heights)}
    assert falls <= {0, 1, 2, 3}, "a straight line"
    assert "0.0001 ┤" in text, "in the middle"


def test_a_name_that_is_no_schedule_and_no_recipe(recipe: Path) -> None:
    def refused(other: str) -> UserError:
        error = CliRunner().invoke(app, ["schedule", str(recipe), "--set", "training.steps=5", "--vs", other]).exception
        assert isinstance(error, UserError)
        return error

    error = refused("cosin")
    assert error.problem == "There is no schedule and no recipe called 'cosin'."
    assert error.place == "--vs"
    assert error.remedy.startswith("Did you mean 'cosine'? Schedules: constant, linear, cosine,")
    assert "Shipped recipes: interviewmate" in error.remedy
    assert refused("interviewmat").remedy.startswith("Did you mean 'interviewmate'?")
    assert refused("xyz").remedy.startswith("Name a schedule, or a recipe: its file, folder or name. Schedules: ")
    assert refused("none.yaml").problem == "There is no such recipe file."


PLATEAU = "training.schedule.name=plateau"


def test_reductions_are_told(recipe: Path) -> None:
    often = ("--set", "training.checkpoint_every=10")
    text = told(str(recipe), "--set", "training.steps=40", *often, "--set", PLATEAU)
    assert "\nreduced on a plateau: times 0.5 after 2 evaluations" in text
    text = told(str(recipe), "--set", "training.steps=40", *often, "--vs", "plateau")
    assert "\n○ reduced on a plateau: times 0.5 after 2 evaluations" in text
    assert "● reduced" not in text
    own = ("--set", "training.schedule.plateau.factor=0.1")
    text = told(str(recipe), "--set", "training.steps=40", *often, *own, "--vs", "plateau")
    assert "\n● reduced on a plateau: times 0.1 after 2" in text
    assert "\n○ reduced on a plateau: times 0.1 after 2" in text, "its own settings, not the defaults"


@pytest.mark.parametrize(
    ("steps", "every", "never"),
    [
        (6, 100, "there is 1 evaluation in 6 steps (training.checkpoint_every is 100; at most 2 would do)"),
        (6, 3, "there are 2 evaluations in 6 steps (training.checkpoint_every is 3; at most 2 would do)"),
        (6, 2, ""),
        (2, 1, "there are 2 evaluations in 2 steps (training.checkpoint_every is 1)"),
    ],
)
def test_a_patience_that_cannot_run_out_is_told(recipe: Path, steps: int, every: int, never: str) -> None:
    seldom = ("--set", f"training.steps={steps}", "--set", f"training.checkpoint_every={every}")
    seldom += ("--set", "training.schedule.warmup=0")
    stopping = ("--set", "training.early_stopping.patience=2")
    reduced = "reduced on a plateau: never, its patience is 2 and"
    text = told(str(recipe), *seldom, *stopping, "--set", PLATEAU)
    for what in ("reduced on a plateau", "stopped early"):
        assert (f"{what}: never, its patience is 2 and {never}" in text) == bool(never)
    assert "stopped early" not in text or never
    assert ("times 0.5 after 2 evaluations" in text) == (not never)
    assert (f"○ {reduced} {never}" in told(str(recipe), *seldom, "--vs", "plateau")) == bool(never)


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_picture(recipe: Path, ending: str) -> None:
    picture = recipe.with_name(f"rate.{ending}")
    text = told(str(recipe), "--set", "training.steps=40", "--vs", "linear", "--picture", str(picture))
    assert text.endswith("0"), text
    begins = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[ending]
    assert picture.read_bytes().startswith(begins)
    if ending == "svg":
        drawn = picture.read_bytes()
        told(str(recipe), "--set", "training.steps=40", "--vs", "linear", "--picture", str(picture))
        assert picture.read_bytes() == drawn


def test_pictures_that_cannot_be_drawn(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [str(recipe), "--set", "training.steps=40", "--picture"]
    result = CliRunner().invoke(app, ["schedule", *command, "rate.bmp"])
    assert isinstance(result.exception, UserError)
    assert ".svg, .png, .pdf" in result.exception.remedy
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(app, ["schedule", *command, "rate.svg"])
    assert isinstance(result.exception, UserError)
    assert "luthier[report]" in result.exception.remedy
    assert not Path("rate.svg").exists()


def test_from_python(recipe: Path) -> None:
    loaded = luthier.load_recipe(recipe, {"training.steps": 30, "training.schedule.name": "three-phase"})
    rate = luthier.learning_rate(loaded)
    assert luthier.schedule(loaded) == [
        {"step": step, "learning_rate": rate(step), "phase": rate.get_phase_info(step)["name"]} for step in range(1, 31)
    ]
    assert rate(3) == 5e-4, "the peak of three phases where the recipe gives none"
    assert rate(30) == pytest.approx(1e-6)
