"""The model of a run, from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from luthier.data.rows import from_json
from luthier.errors import UserError
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_jsonl
from luthier.run.progress import Silent
from luthier.serve.load import RunModel, load
from luthier.stages.evaluate import evaluate
from tests import finished


def test_answers_are_those_of_the_evaluation(tmp_path: Path) -> None:
    folder = finished.make(tmp_path, rows=5)
    evaluate(load_recipe(folder.recipe).recipe, folder, Silent())
    model = load("coach/latest", tmp_path)
    rows = [from_json(line) for line in read_jsonl(folder.rows("test"))]
    prompts = [row.content["messages"][1]["content"] for row in rows]
    for who in ("base", "tuned"):
        expected = [line["answer"] for line in read_jsonl(folder.path / "5-evaluate" / f"answers-{who}.jsonl")]
        assert model.answer(prompts, base=who == "base") == expected


def test_base_and_tuned_take_turns(coach: RunModel) -> None:
    tuned, base = coach.answer(["What is overfitting?"]), coach.answer(["What is overfitting?"], base=True)
    assert tuned != base
    assert coach.answer(["What is overfitting?"]) == tuned
    assert coach.answer(["What is overfitting?"], base=True) == base
    assert coach.answer([]) == []


def test_a_run_is_found_by_environment(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_RUNS", str(runs))
    assert load("other/latest").name.startswith("other/")


@pytest.mark.parametrize(
    ("prompts", "words"),
    [("one text", "list"), (["ok", " "], "prompts[1]"), (["word " * 900], "room for 512"), ([None], "prompts[0]")],
)
def test_bad_prompts_are_told(coach: RunModel, prompts: list[str], words: str) -> None:
    with pytest.raises(UserError) as raised:
        coach.answer(prompts)
    assert words in str(raised.value)


def test_runs_that_cannot_answer_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No run"):
        load("coach/latest", tmp_path)
    folder = finished.make(tmp_path)
    shutil.rmtree(folder.path / "4-train")
    with pytest.raises(UserError, match="no trained model") as raised:
        load("coach/latest", tmp_path)
    assert "luthier train coach" in raised.value.remedy
