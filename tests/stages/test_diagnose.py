"""The diagnose stage on a run made by hand: its files, its settings, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import UserError
from luthier.recipe.load import load_recipe
from luthier.run.atomic import read_json, read_jsonl, write_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.diagnose import diagnose, inputs
from tests import finished
from tests.diagnose.material import REFERENCE, line, rows

GOOD = (
    "Many trees are trained on bootstrap samples of 500 rows, and averaging their votes cuts the variance by about 30 "
    "percent. The bias stays as it is, and the out-of-bag rows estimate the error."
)


@pytest.fixture(autouse=True)
def by_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luthier.models.minilm.available", lambda: False)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = finished.make(tmp_path, rows=2)
    write_jsonl(made.rows("train"), [one.to_json() for one in rows()])
    write_jsonl(made.rows("validation"), [one.to_json() for one in rows(24)])
    for who, answers in (("base", ["Trees.", GOOD]), ("tuned", [GOOD, f"{REFERENCE} {REFERENCE}"])):
        write_jsonl(made.answers(who), [line(answer, str(place)) for place, answer in enumerate(answers)])
    write_jsonl(made.scores, [{"id": "0", "metric": "rougeL", "flip": "won"}])
    return made


def test_it_writes_its_files_and_they_agree(folder: RunFolder) -> None:
    told = diagnose(load_recipe(folder.recipe).recipe, folder, Silent())
    assert {path.name for path in folder.diagnosis.parent.iterdir()} == {"errors.jsonl", "summary.json"}
    summary, errors = read_json(folder.diagnosis), list(read_jsonl(folder.errors))
    assert told == {"flagged": {"base": 1, "tuned": 1}}
    assert {(one["id"], one["side"], one["subcategory"]) for one in errors} == {
        ("0", "base", "too_short"),
        ("1", "tuned", "phrases"),
    }
    assert {flip["id"]: flip["flip"] for flip in summary["flips"]["items"]} == {"0": "fixed", "1": "broken"}
    assert summary["semantics"]["method"] == "tfidf"
    assert {entry["source"] for entry in summary["thresholds"].values()} == {"validation", "fixed"}


def test_the_same_files_give_the_same_bytes(folder: RunFolder) -> None:
    recipe = load_recipe(folder.recipe).recipe
    diagnose(recipe, folder, Silent())
    first = folder.diagnosis.read_bytes(), folder.errors.read_bytes()
    diagnose(recipe, folder, Silent())
    assert (folder.diagnosis.read_bytes(), folder.errors.read_bytes()) == first


def test_phrases_of_the_recipe_reach_the_detector(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "phrases.txt").write_text("out-of-bag rows  # a comment\n\n")
    overrides = {"diagnose.phrases": str(tmp_path / "phrases.txt")}
    recipe = load_recipe(folder.recipe, overrides=overrides).recipe
    assert inputs(recipe) == [tmp_path / "phrases.txt"]
    diagnose(recipe, folder, Silent())
    found = {(one["id"], one["side"], one["subcategory"]) for one in read_jsonl(folder.errors)}
    assert ("0", "tuned", "template_like") in found


def test_a_missing_list_of_phrases_is_told_before_any_work(folder: RunFolder) -> None:
    recipe = load_recipe(folder.recipe, overrides={"diagnose.phrases": "nowhere.txt"}).recipe
    with pytest.raises(UserError, match="no such list of phrases"):
        inputs(recipe)


def test_settings_and_the_data_report_reach_the_suggestions(folder: RunFolder) -> None:
    train = {"rows": 100, "truncation": {"rows": 12}, "tokens": {"whole": {"max": 5000}}}
    write_json(folder.data_report, {"statistics": {"splits": {"train": train}}})
    diagnose(load_recipe(folder.recipe).recipe, folder, Silent())
    keys = {one["key"]: one for one in read_json(folder.diagnosis)["suggestions"]}
    assert keys["data.max_length"]["now"] == load_recipe(folder.recipe).recipe.data.max_length
