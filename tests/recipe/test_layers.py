"""Included files and the command line: who wins, and where each value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import UserErrors
from luthier.recipe.layers import parse_set
from luthier.recipe.load import load_recipe

from .conftest import MINIMAL, Failing


def write(**files: str) -> None:
    for name, text in files.items():
        path = Path(f"{name.replace('__', '/')}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_including_file_wins_key_by_key() -> None:
    write(
        base="training:\n  epochs: 9\n  batch_size: 4\nadapter: {targets: [a, b], r: 2}\n"
        "data: {augment: {target: 5}}\n",
        recipe=f"include: base.yaml\n{MINIMAL}  augment: off\ntraining: {{epochs: 1}}\nadapter: {{targets: [c]}}\n",
    )
    loaded = load_recipe("recipe.yaml")
    training, adapter = loaded.recipe.training, loaded.recipe.adapter
    assert (training.epochs, training.batch_size, adapter.targets, adapter.r) == (1, 4, ["c"], 2)
    assert loaded.recipe.data.augment is None
    assert loaded.origins["training.epochs"] == "recipe.yaml:6"
    assert loaded.origins["training.batch_size"] == "base.yaml:3"
    assert loaded.origins["data.augment"] == "recipe.yaml:5"
    assert loaded.origins["training.weight_decay"] == "default"


def test_later_includes_win_over_earlier_ones_and_may_include_themselves() -> None:
    write(
        deep="seed: 1\nmodel: {system: deep}\n",
        one="include: deep.yaml\nseed: 2\ntraining: {epochs: 1}\n",
        two="training: {epochs: 2}\n",
        recipe=f"include:\n  - one.yaml\n  - two.yaml\n{MINIMAL}",
    )
    loaded = load_recipe("recipe.yaml")
    assert (loaded.recipe.seed, loaded.recipe.training.epochs, loaded.recipe.model.system) == (2, 2, "deep")
    assert loaded.origins["model.system"] == "deep.yaml:2"


def test_two_files_may_include_the_same_third() -> None:
    write(deep="seed: 1\n", one="include: deep.yaml\n", two="include: deep.yaml\n")
    write(recipe=f"include: [one.yaml, two.yaml]\n{MINIMAL}")
    assert load_recipe("recipe.yaml").recipe.seed == 1


def test_paths_and_aliases_belong_to_the_file_that_states_them() -> None:
    write(
        shared__base="lora_r: 2\ndata: {source: rows.jsonl, terms: ../terms.txt}\n",
        mine__recipe="include: ../shared/base.yaml\nname: demo\nadapter: {r: 4}\n",
    )
    loaded = load_recipe("mine/recipe.yaml")
    assert loaded.recipe.adapter.r == 4
    assert loaded.recipe.data.source == str(Path.cwd() / "shared/rows.jsonl")
    assert loaded.recipe.data.terms == str(Path.cwd() / "terms.txt")
    assert loaded.origins["data.source"] == "../shared/base.yaml:2"
    write(mine__recipe="include: ../shared/base.yaml\nname: demo\n")
    assert load_recipe("mine/recipe.yaml").origins["adapter.r"] == "../shared/base.yaml:1 (alias lora_r)"
    assert load_recipe("mine/recipe.yaml", {"lora_r": 7}).recipe.adapter.r == 7


def test_errors_of_all_files_come_together_each_with_its_file() -> None:
    write(base="seed: -1\ntrainin: {}\n", recipe=f"include: base.yaml\n{MINIMAL}kind: none\n")
    with pytest.raises(UserErrors) as caught:
        load_recipe("recipe.yaml", {"training.epoch": 3})
    assert [error.place for error in caught.value.errors] == ["recipe.yaml:5", "base.yaml:1", "base.yaml:2", "--set"]
    assert "3 problems" not in str(caught.value)


def test_circles_are_named() -> None:
    write(a="include: b.yaml\n", b="include: recipe.yaml\n", recipe=f"include: a.yaml\n{MINIMAL}")
    with pytest.raises(UserErrors) as caught:
        load_recipe("recipe.yaml")
    (error,) = caught.value.errors
    assert error.problem == "Files include each other in a circle: recipe.yaml → a.yaml → b.yaml → recipe.yaml."
    assert error.place == "b.yaml:1"


def test_a_missing_include_hides_no_other_error_and_invents_none(failing: Failing) -> None:
    errors = failing("include: nowhere.yaml\nname: demo\nseed: x\ndata: {split: {train: 0.5}}\n")
    assert [error.place for error in errors] == ["recipe.yaml:1", "recipe.yaml:3"]
    assert errors[0].problem == "The included file 'nowhere.yaml' does not exist."
    assert str(Path.cwd() / "nowhere.yaml") in errors[0].remedy


@pytest.mark.parametrize("value", ["3", "{a: b}", "[a.yaml, 3]", "''"])
def test_include_takes_file_names(failing: Failing, value: str) -> None:
    write(a="seed: 3\n")
    (error,) = failing(f"include: {value}\n{MINIMAL}")
    assert error.problem == "include takes the name of a file, or a list of them."


def test_a_broken_included_file_is_named(failing: Failing) -> None:
    write(base="a: [\n", empty="\n")
    errors = failing(f"include: [base.yaml, empty.yaml]\n{MINIMAL}")
    assert [error.place for error in errors] == ["base.yaml:2", "empty.yaml"]


def test_set_wins_and_says_so(minimal: Path) -> None:
    settings = [
        "training.epochs=1",
        "adapter.targets=[q_proj, k_proj]",
        "data.augment.target=9",
        "data.augment=off",
        "data.split={train: 0.7, validation: 0.1, test: 0.2}",
        "data.terms=sub/terms.txt",
        "training.learning_rate=5e-4",
        "model.system=a = b",
        "name=007",
        "data.fields.prompt=",
        "training.steps=",
    ]
    loaded = load_recipe(minimal, {**parse_set(settings), "data.fields.prompt": "yes"})
    recipe = loaded.recipe
    assert (recipe.training.epochs, recipe.training.learning_rate, recipe.training.steps) == (1, 5e-4, None)
    assert recipe.adapter.targets == ["q_proj", "k_proj"]
    assert recipe.data.augment is None
    assert (recipe.data.split.test, recipe.data.fields) == (0.2, {"prompt": "yes"})
    assert recipe.data.terms == str(Path.cwd() / "sub/terms.txt")
    assert (recipe.model.system, recipe.name) == ("a = b", "007")
    assert loaded.origins["training.epochs"] == loaded.origins["data.split.train"] == "--set"
    assert loaded.origins["data.source"] == "recipe.yaml:3"


def test_set_opens_a_section_that_was_off(minimal: Path) -> None:
    minimal.write_text(MINIMAL + "  augment: off\n")
    augment = load_recipe(minimal, parse_set(["data.augment.target=9"])).recipe.data.augment
    assert augment is not None
    assert augment.target == 9


def test_settings_that_are_none_come_together() -> None:
    with pytest.raises(UserErrors) as caught:
        parse_set(["training.epochs", "=3", "a=[", "seed=1"])
    assert [error.place for error in caught.value.errors] == [
        "--set training.epochs",
        "--set =3",
        "--set a=[:1",
    ]


def test_unknown_settings_get_suggestions(failing: Failing) -> None:
    errors = failing(MINIMAL, {"training.learning_rat": 1, "epochs": 1, "training..x": 1})
    assert [error.place for error in errors] == ["--set"] * 3
    assert {error.remedy for error in errors} == {
        "Did you mean 'learning_rate'?",
        "It belongs under training: write training.epochs.",
        "Write --set training.epochs=1.",
    }


def test_overrides_from_python(minimal: Path) -> None:
    loaded = load_recipe(
        minimal,
        {"training": {"epochs": 2}, "data.source": Path("x.csv"), "adapter.targets": ("q", "k"),
         "data.overlap.allow": True, "data.near_duplicates": False, "name": 7},
    )  # fmt: skip
    assert loaded.recipe.training.epochs == 2
    assert loaded.recipe.data.source == str(Path.cwd() / "x.csv")
    assert loaded.recipe.adapter.targets == ["q", "k"]
    assert loaded.recipe.data.overlap.allow is True
    assert loaded.recipe.data.near_duplicates is None
    assert loaded.recipe.name == "7"
