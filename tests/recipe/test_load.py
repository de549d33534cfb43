"""Loading: names, values, paths, digest, the way back to YAML."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from luthier.errors import UserError
from luthier.recipe.load import Loaded, digest, dump, load_recipe
from luthier.recipe.names import shipped, shipped_folder
from luthier.recipe.schema import Recipe

MINIMAL = "name: demo\ndata:\n  source: rows.jsonl\n"


def load(text: str) -> Loaded:
    Path("recipe.yaml").write_text(text)
    return load_recipe("recipe.yaml")


def test_the_smallest_recipe_has_every_default(minimal: Path) -> None:
    loaded = load_recipe(minimal)
    assert loaded.recipe == Recipe.model_validate({"name": "demo", "data": {"source": str(Path.cwd() / "rows.jsonl")}})
    assert loaded.path == Path.cwd() / "recipe.yaml"
    assert loaded.notes == []
    assert loaded.origins["name"] == "recipe.yaml:1"
    assert loaded.origins["data.source"] == "recipe.yaml:3"
    assert loaded.origins["training.schedule.warmup"] == "default"


def test_a_folder_names_the_recipe_in_it(minimal: Path) -> None:
    assert load_recipe(Path.cwd()).recipe == load_recipe(str(minimal)).recipe == load_recipe(".").recipe


def test_every_shipped_recipe_loads() -> None:
    found = list(shipped_folder().rglob("recipe.yaml"))
    assert found
    for path in found:
        recipe = load_recipe(path).recipe
        assert recipe == load_recipe(path.parent).recipe
        sources = recipe.data.source
        for source in [sources] if isinstance(sources, str) else sources:
            assert source.startswith("hub://") or Path(source).exists() or list(Path("/").glob(source[1:]))
    assert {path.parent.name for path in found if path.parent.parent == shipped_folder()} == set(shipped())


@pytest.fixture
def two_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the goods: two shipped recipes and a folder that is none."""
    for name in ("interviewmate", "jobtitles"):
        Path("goods", name).mkdir(parents=True)
        Path("goods", name, "recipe.yaml").write_text(MINIMAL + "training: {epochs: 2}\n")
    Path("goods", "__pycache__").mkdir()
    monkeypatch.setattr("luthier.recipe.names.shipped_folder", lambda: Path("goods").absolute())


def test_a_shipped_recipe_by_name(two_shipped: None) -> None:
    loaded = load_recipe("interviewmate")
    assert loaded.recipe.data.source == str(Path("goods/interviewmate/rows.jsonl").absolute())
    assert loaded.origins["training.epochs"] == "recipe.yaml:4"


def test_a_folder_of_results_does_not_hide_a_shipped_recipe(two_shipped: None) -> None:
    Path("interviewmate").mkdir()
    assert load_recipe("interviewmate").recipe.training.epochs == 2
    Path("interviewmate", "recipe.yaml").write_text(MINIMAL)
    assert load_recipe("interviewmate").recipe.training.epochs == 3


def test_unknown_names_say_what_there_is(two_shipped: None) -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("interviewmat")
    assert "'interviewmat'" in caught.value.problem
    assert "Did you mean 'interviewmate'?" in caught.value.remedy
    assert "interviewmate, jobtitles" in caught.value.remedy


def test_a_missing_file_names_its_neighbour(minimal: Path) -> None:
    for missing in ("recip.yaml", str(Path.cwd() / "recip.yaml")):
        with pytest.raises(UserError, match="There is no such recipe file") as caught:
            load_recipe(missing)
        assert caught.value.remedy == "Did you mean 'recipe.yaml'?"
    with pytest.raises(UserError, match="no such recipe file") as caught:
        load_recipe("nowhere/at/all.yaml")
    assert "luthier init" in caught.value.remedy


def test_a_folder_without_a_recipe() -> None:
    Path("empty").mkdir()
    with pytest.raises(UserError, match=r"holds no recipe\.yaml"):
        load_recipe("empty")


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ("training: {learning_rate: 5e-4}", "learning_rate", 5e-4),
        ("training: {learning_rate: 5.0E-4}", "learning_rate", 5e-4),
        ("training: {learning_rate: '5e-4'}", "learning_rate", 5e-4),
        ("training: {epochs: 010}", "epochs", 10),
        ("training: {steps: 1_000}", "steps", 1000),
        ("training: {steps: 5e2}", "steps", 500),
        ("training: {steps: off}", "steps", None),
        ("training: {steps: no}", "steps", None),
        ("training: {steps: ~}", "steps", None),
        ("training: {early_stopping: false}", "early_stopping", None),
        ("training:", "epochs", 3.0),
    ],
)
def test_numbers_and_absence(written: str, key: str, value: float | None) -> None:
    assert getattr(load(f"{MINIMAL}{written}\n").recipe.training, key) == value


@pytest.mark.parametrize("word", ["on", "yes", "true", "On"])
def test_on_switches_an_optional_section_on(word: str) -> None:
    stopping = load(f"{MINIMAL}training: {{early_stopping: {word}}}\n").recipe.training.early_stopping
    assert stopping is not None
    assert stopping.patience == 3


@pytest.mark.parametrize("word", ["off", "no", "none", "None", "false", "null", "~", ""])
def test_off_is_absence(word: str) -> None:
    loaded = load(f"{MINIMAL}  near_duplicates: {word or '~'}\n  augment: {word}\n  split: {{group: {word}}}\n")
    assert loaded.recipe.data.near_duplicates is None
    assert loaded.recipe.data.augment is None
    assert loaded.recipe.data.split.group is None


@pytest.mark.parametrize("word", ["on", "yes", "off", "no", "2026-01-01", "12:30", "1e5", "007", "true", "0x1F"])
def test_bare_words_are_text_where_text_is_taken(word: str) -> None:
    loaded = load(f"{MINIMAL}  fields: {{prompt: {word}}}\nadapter: {{targets: [{word}]}}\nreport:\n")
    assert loaded.recipe.data.fields == {"prompt": word}
    assert loaded.recipe.adapter.targets == [word]


@pytest.mark.parametrize(
    ("word", "value"), [("yes", True), ("on", True), ("true", True), ("no", False), ("Off", False)]
)
def test_truth_values(word: str, value: bool) -> None:
    assert load(f"{MINIMAL}  overlap: {{allow: {word}}}\n").recipe.data.overlap.allow is value


def test_quoted_words_are_text() -> None:
    assert load(f"{MINIMAL}  split: {{group: 'off'}}\nmodel: {{system: \"no\"}}\n").recipe.data.split.group == "off"


def test_paths_start_from_the_recipe() -> None:
    here = Path.cwd()
    Path("sub", "bases", "mine").mkdir(parents=True)
    Path("sub/recipe.yaml").write_text(
        "name: demo\nmodel: {base: bases/mine}\ndata:\n  terms: ../terms.txt\n"
        "  source: {train: [a.jsonl, parts/*.csv, /abs/b.csv], test: hub://org/set}\n"
    )
    recipe = load_recipe("sub/recipe.yaml").recipe
    assert recipe.data.terms == str(here / "terms.txt")
    assert recipe.data.source == {
        "train": [str(here / "sub/a.jsonl"), str(here / "sub/parts/*.csv"), "/abs/b.csv"],
        "test": "hub://org/set",
    }
    assert recipe.model.base == str(here / "sub/bases/mine")


@pytest.mark.parametrize(
    ("base", "resolved"),
    [
        ("starter", "starter"),
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("./new", "{here}/new"),
        ("../new", "{parent}/new"),
        ("~/new", "{here}/new"),
        ("/abs/new/", "/abs/new"),
    ],
)
def test_a_base_is_a_path_only_when_it_looks_like_one(base: str, resolved: str) -> None:
    Path("starter").mkdir()
    expected = resolved.format(here=Path.cwd(), parent=Path.cwd().parent)
    assert load(f"{MINIMAL}model: {{base: {base}}}\n").recipe.model.base == expected


def test_a_folder_with_brackets_keeps_its_patterns() -> None:
    folder = Path("runs [new]")
    folder.mkdir()
    (folder / "a.csv").write_text("x\n")
    (folder / "b[1].csv").write_text("x\n")
    (folder / "recipe.yaml").write_text("name: demo\ndata: {source: ['*.csv', 'b[1].csv']}\n")
    source = load_recipe(folder).recipe.data.source
    assert sorted(Path("/").glob(source[0][1:])) == sorted(path.absolute() for path in folder.glob("*.csv"))  # type: ignore[index]
    assert source[1] == str(folder.absolute() / "b[1].csv")  # type: ignore[index]


def test_the_digest_sees_values_and_nothing_else(minimal: Path) -> None:
    loaded = load_recipe(minimal)
    Path("other.yaml").write_text(
        "data: {source: rows.jsonl, max_length: 1024}\nkind: causal-lm\nname: demo\nlora_alpha: 16\n"
    )
    other = load_recipe("other.yaml")
    assert digest(loaded.recipe) == digest(other.recipe) == digest(Recipe.model_validate(other.recipe.model_dump()))
    assert len(digest(loaded.recipe)) == 64
    assert digest(load_recipe(minimal, {"training.epochs": 4}).recipe) != digest(loaded.recipe)


def test_the_digest_is_the_same_in_another_process(minimal: Path) -> None:
    script = "from luthier.recipe.load import *; print(digest(load_recipe('recipe.yaml').recipe))"
    told = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONHASHSEED": "7"},
    )
    assert told.stdout.strip() == digest(load_recipe(minimal).recipe)


def test_the_resolved_recipe_is_plain_yaml_that_stands_anywhere(minimal: Path) -> None:
    loaded = load_recipe(minimal, {"model.system": "one\n\ntwo: 'x' ", "data.augment.target": 9, "name": "1e5"})
    Path("elsewhere").mkdir()
    Path("elsewhere/copy.yaml").write_text(dump(loaded))
    again = load_recipe("elsewhere/copy.yaml")
    assert again.recipe == loaded.recipe
    assert digest(again.recipe) == digest(loaded.recipe)
    assert yaml.safe_load(dump(loaded)) == loaded.recipe.model_dump(mode="json")
    assert "default" not in again.origins.values()


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "\r\n", " x", "x ", "#", "\ufeffx", "off", "1e5", "a: b", "é"])
def test_odd_text_survives(minimal: Path, text: str) -> None:
    Path("copy.yaml").write_bytes(dump(load_recipe(minimal, {"data.fields.prompt": text})).encode())
    assert load_recipe("copy.yaml").recipe.data.fields == {"prompt": text}


def test_a_word_that_a_recipe_reads_as_absence_is_quoted() -> None:
    loaded = load(f"{MINIMAL}model: {{system: 'none'}}\n")
    Path("copy.yaml").write_text(dump(loaded))
    assert load_recipe("copy.yaml").recipe.model.system == "none"
    Path("naive.yaml").write_text(yaml.safe_dump(loaded.recipe.model_dump(mode="json")))
    assert load_recipe("naive.yaml").recipe.model.system is None  # what plain PyYAML would have made of it
