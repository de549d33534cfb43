"""The keys of a teacher: who may name one, who must, and that no key of a service is ever repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import UserError, UserErrors
from luthier.recipe.load import dump, load_recipe
from luthier.recipe.schema import Recipe

SECRET = "sk-live-0123456789"
TEACHER = "teacher: {url: http://127.0.0.1:11434/v1, model: big"


def load(own_folder: Path, text: str) -> Recipe:
    (own_folder / "recipe.yaml").write_text(f"name: taught\n{text}\n")
    return load_recipe("recipe.yaml").recipe


def refused(own_folder: Path, text: str) -> UserError:
    with pytest.raises(UserErrors) as caught:
        load(own_folder, text)
    (error,) = caught.value.errors
    return error


def test_a_teacher_has_defaults_and_survives_the_round_trip(own_folder):
    recipe = load(
        own_folder,
        "data: {source: rows.csv, augment: {method: teacher, target: 9, prompt: ask.txt}}\n"
        f"{TEACHER}, prices: {{prompt: 0.15, completion: 0.6}}, cap: 2}}",
    )
    assert recipe.teacher.key == "auto"
    assert recipe.data.augment.prompt == str(own_folder / "ask.txt")
    assert recipe.teacher.paying() == {"prompt": 0.15, "completion": 0.6, "cap": 2.0}
    (own_folder / "recipe.yaml").write_text(dump(load_recipe("recipe.yaml")))
    assert load_recipe("recipe.yaml").recipe == recipe


@pytest.mark.parametrize(
    ("text", "problem", "place"),
    [
        (
            "data: {source: rows.csv, augment: {method: teacher, target: 9}}",
            "data.augment.method asks a teacher, and the recipe names none.",
            "recipe.yaml:2",
        ),
        (
            "data: {source: rows.csv}\nevaluation: {judge: {criteria: {a: b}}}",
            "evaluation.judge asks a teacher, and the recipe names none.",
            "recipe.yaml:3",
        ),
        (
            "data: {source: rows.csv, augment: {target: 9, prompt: ask.txt}}",
            "The method rules asks nobody, so it does not read a prompt.",
            "recipe.yaml:2",
        ),
        (
            f"data: {{source: rows.csv}}\n{TEACHER}, cap: 5}}",
            "A cap without prices is never reached.",
            "recipe.yaml:3",
        ),
        (
            "data: {source: rows.csv}\nkind: embedding\nmodel: {base: minilm}\n"
            f"evaluation: {{judge: {{criteria: {{a: b}}}}}}\n{TEACHER}}}",
            "evaluation.judge is read by the kind causal-lm alone, and this recipe has kind: embedding.",
            "recipe.yaml:5",
        ),
    ],
)
def test_what_does_not_go_together_is_one_error(text, problem, place, own_folder):
    error = refused(own_folder, text)
    assert error.problem == problem
    assert error.place == place
    assert error.remedy


@pytest.mark.parametrize("line", [f"key: {SECRET}", f"key: [{SECRET}]", f"api_key: {SECRET}", f"api_key_env: {SECRET}"])
def test_a_key_in_place_of_its_name_is_refused_and_not_repeated(line, own_folder):
    error = refused(own_folder, f"data: {{source: rows.csv}}\n{TEACHER}, {line}}}")
    assert SECRET not in str(error)
    assert "environment variable" in str(error)


@pytest.mark.parametrize("name", ["HOME", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "openai_api_key"])
def test_other_variables_are_not_read(name, own_folder):
    assert "teacher.key" in refused(own_folder, f"data: {{source: rows.csv}}\n{TEACHER}, key: {name}}}").problem


@pytest.mark.parametrize(("written", "read"), [("off", None), ("HF_TOKEN", "HF_TOKEN"), ("MY_API_KEY", "MY_API_KEY")])
def test_names_of_keys(written, read, own_folder):
    assert load(own_folder, f"data: {{source: rows.csv}}\n{TEACHER}, key: {written}}}").teacher.key == read
