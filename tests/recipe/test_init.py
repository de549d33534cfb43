"""The first recipe for the user's own data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from luthier.data.ingest import inspect
from luthier.recipe.init import draft
from luthier.recipe.keys import all_keys, children
from luthier.recipe.load import load_recipe
from luthier.recipe.schema import Recipe

from .conftest import OFF


@dataclass
class Look:
    """Stands in for what ingest tells."""

    format: str = "prompt-completion"
    columns: list[str] = field(default_factory=lambda: ["id", "question", "answer", "Topic", "source_id", "label"])
    rows: int = 905
    more: bool = False
    lengths_chars: dict[str, int] = field(default_factory=lambda: {"p95": 950, "p99": 990, "max": 1000})
    fields: dict[str, str] = field(default_factory=lambda: {"prompt": "question", "completion": "answer"})


def loaded(text: str) -> Recipe:
    Path("recipe.yaml").write_text(text, encoding="utf-8")
    return load_recipe("recipe.yaml").recipe


def test_proposals_from_a_look_at_the_data() -> None:
    recipe = loaded(draft(Look(), Path("data/my questions.jsonl")))
    assert recipe.name == "my-questions"
    assert recipe.kind == "causal-lm"
    assert recipe.data.source == str(Path.cwd() / "data/my questions.jsonl")
    assert recipe.data.format == "prompt-completion"
    assert recipe.data.fields == {"prompt": "question", "completion": "answer", "group": "source_id"}
    assert recipe.data.split.stratify == "Topic"
    assert recipe.data.split.group == "group"
    assert recipe.data.max_length == 352  # 990 / 3.5 + 64 = 346.9; up to 11 · 32


@pytest.mark.parametrize(
    ("lengths", "tokens"),
    [({"p95": 700, "max": 1000}, 352), ({"p95": 350, "max": 90_000}, 288), ({"p95": 3, "max": 3}, 128)],
)
def test_an_outlier_does_not_set_the_length(lengths: dict[str, int], tokens: int) -> None:
    assert loaded(draft(Look(lengths_chars=lengths), Path("a.csv"))).data.max_length == tokens


def test_everything_else_has_its_default() -> None:
    recipe = loaded(draft(Look(columns=["text"], format="text", fields={}, lengths_chars={}), Path("a.jsonl"), "a"))
    expected = Recipe.model_validate({"name": "a", "data": {"source": str(Path.cwd() / "a.jsonl"), "format": "text"}})
    assert recipe == expected


@pytest.mark.parametrize("form", ["pairs", "triplets", "titles"])
def test_layouts_of_embeddings(form: str) -> None:
    recipe = loaded(draft(Look(format=form, columns=["title", "label"], fields={}), Path("a.csv")))
    assert (recipe.kind, recipe.model.base) == ("embedding", "minilm")
    assert (recipe.training.batch_size, recipe.training.learning_rate, recipe.adapter.share) == (64, 2e-3, 0.4)
    assert recipe.training.steps is None
    assert recipe.data.split.stratify == (None if form == "titles" else "label")
    assert recipe.data.split.group == ("family" if form == "titles" else "group")


def test_many_titles_are_trained_for_a_number_of_steps() -> None:
    text = draft(Look(format="titles", columns=["title", "code"], fields={}, rows=2000, more=True), Path("a.csv"))
    assert loaded(text).training.steps == 120
    few = loaded(draft(Look(format="titles", columns=["title", "code"], fields={}, rows=300), Path("a.csv")))
    assert (few.training.steps, few.training.schedule.warmup) == (None, 0)


def test_a_draft_leaves_out_the_keys_of_other_kinds() -> None:
    titles = draft(Look(format="titles", columns=["title", "code"], fields={}), Path("a.csv"))
    questions = draft(Look(), Path("a.csv"))
    assert "max_new_tokens" in questions
    assert "hard_negatives" not in questions
    assert "max_new_tokens" not in titles
    assert all(value is not None for value in yaml.safe_load(titles).values())
    assert "hard_negatives" in titles


def test_a_recognised_group_stays() -> None:
    look = Look(fields={"prompt": "question", "group": "cluster"}, columns=["group", "cluster"])
    assert loaded(draft(look, Path("a.csv"))).data.fields["group"] == "cluster"


def test_a_column_that_is_the_answer_is_not_stratified_by() -> None:
    look = Look(columns=["text", "label"], fields={"prompt": "text", "completion": "label"})
    assert loaded(draft(look, Path("a.csv"))).data.split.stratify is None


def test_every_key_stands_there_with_its_description() -> None:
    text = draft(Look(), Path("a.csv"))
    lines = text.splitlines()
    assert lines[0] == "# 905 rows in a.csv, layout prompt-completion."
    for key in all_keys().values():
        if not key.dotted.startswith(tuple(f"{section}." for section in OFF)) and key.kind in ("", "causal-lm"):
            assert any(line.lstrip().startswith(f"{key.name}:") for line in lines), key.dotted
    sections = [line for number, line in enumerate(lines) if number and not lines[number - 1] and line]
    there = [all_keys()[name] for name in children("") if all_keys()[name].sections]
    assert len(sections) == sum(key.kind in ("", "causal-lm") and key.dotted not in OFF for key in there)
    assert all(line.startswith("# ") and line.endswith(".") for line in sections)
    assert "  # peak learning rate" in text
    assert yaml.safe_load(text)["training"]["learning_rate"] == 2e-4


def test_the_source_is_named_from_the_folder_of_the_recipe() -> None:
    here = Path.cwd()
    assert "source: data/a.csv " in draft(Look(), here / "data/a.csv", folder=here)
    assert f"source: {here}/a.csv " in draft(Look(), here / "a.csv", folder=here / "recipes")


ODD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=ODD,
    stem=ODD.filter(lambda stem: "/" not in stem and "\0" not in stem),
    columns=st.lists(ODD, max_size=3),
    length=st.integers(0, 10**6),
)
@example(name="\x85", stem="\x85 \x1f", columns=["\u2028"], length=0)
def test_it_loads_whatever_the_names(name: str, stem: str, columns: list[str], length: int) -> None:
    look = Look(
        columns=[*columns, "topic"],
        fields={"prompt": (columns or ["x"])[0]},
        lengths_chars={"p95": length, "max": length},
    )
    recipe = loaded(draft(look, Path(f"/data/{stem}.csv"), name))
    assert recipe.data.source == f"/data/{stem}.csv"
    assert recipe.data.fields["prompt"] == (columns or ["x"])[0]
    assert recipe.data.max_length >= min(length / 3.5, 64)


def test_a_look_at_part_of_the_rows_says_so() -> None:
    assert draft(Look(rows=2000, more=True), Path("a.csv")).startswith("# More than 2,000 rows in a.csv")


def test_draft_of_a_real_file() -> None:
    path = Path("cards.csv")
    path.write_text("source_id,question,answer,Topic\n" + "".join(f"g{n},why {n}?,so {n},t\n" for n in range(40)))
    recipe = loaded(draft(inspect(path), path))
    assert recipe.data.fields["group"] == "source_id"
    assert recipe.data.split.stratify == "Topic"
    assert (recipe.kind, recipe.data.max_length) == ("causal-lm", 128)
