"""`luthier init` and `luthier recipe`, and the README's worked example as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

from luthier.recipe.names import shipped
from tests.cli.conftest import Luthier

README = Path(__file__).resolve().parent.parent.parent / "README.md"


def test_the_worked_example_of_the_readme_runs(
    luthier: Luthier, process: Luthier, own_folder: Path, tiny_base: Path
) -> None:
    text = README.read_text(encoding="utf-8")
    csv = re.search(r"```csv\n(.*?)```", text, re.DOTALL)
    assert csv is not None
    (own_folder / "support.csv").write_text(csv.group(1), encoding="utf-8")
    told = process("init", "support.csv")
    assert told.status == 0, told.err
    recipe = (own_folder / "recipe.yaml").read_text(encoding="utf-8")
    assert "source: support.csv" in recipe
    assert "#" in recipe
    assert process("recipe", "show", "recipe.yaml").status == 0
    small = ("--set", f"model.base={tiny_base}", "--set", "evaluation.max_new_tokens=4")
    ran = luthier("run", "recipe.yaml", *small)
    assert ran.status == 0, ran.err
    assert "TOO FEW EXAMPLES" in ran.out or "NO EVIDENCE" in ran.out  # one test item proves nothing
    for verb in ("prepare", "plan", "chat", "predict"):
        assert f"luthier {verb} " in text


def test_init_keeps_a_recipe_that_is_there(luthier: Luthier, questions: Path, own_folder: Path) -> None:
    assert luthier("init", questions).status == 0
    before = (own_folder / "recipe.yaml").read_text()
    refused = luthier("init", questions, "--name", "other")
    assert refused.status == 2
    assert "--force" in refused.err
    assert (own_folder / "recipe.yaml").read_text() == before
    forced = luthier("init", questions, "--name", "other", "--force", "--json")
    assert forced.json["text"] == (own_folder / "recipe.yaml").read_text()
    assert "name: other" in forced.json["text"]


def test_shipped_recipes_are_listed(luthier: Luthier, process: Luthier) -> None:
    listed = process("recipe", "list", "--json").json
    assert [one["name"] for one in listed] == list(shipped())
    assert "interviewmate" in luthier("recipe", "list").out


def test_all_that_is_wrong_is_told_at_once_with_its_line(luthier: Luthier, own_folder: Path) -> None:
    (own_folder / "recipe.yaml").write_text(
        "name: wrong\nkind: causal-lm\ndata:\n  source: rows.csv\n  max_lenght: 10\ntraining:\n  learning_rate: fast\n"
        "lora_r: 8\nexport: {gguf: [q8_0]}\n"
    )
    told = luthier("recipe", "show", "recipe.yaml", "--json")
    assert told.status == 2
    problems = told.json["errors"]
    assert [re.search(r":(\d+)", one["place"]).group(1) for one in problems] == ["5", "7", "9"]  # type: ignore[union-attr]
    assert "max_length" in problems[0]["remedy"]
    assert "not here yet" in problems[2]["remedy"]
