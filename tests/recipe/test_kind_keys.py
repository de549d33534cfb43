"""A key that one kind reads is refused for the other, unless it says what it says anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import UserErrors
from luthier.recipe.load import dump, load_recipe
from luthier.recipe.schema import Recipe


def load(own_folder: Path, text: str) -> Recipe:
    (own_folder / "recipe.yaml").write_text(f"name: kinds\ndata: {{source: rows.csv}}\n{text}")
    return load_recipe("recipe.yaml").recipe


@pytest.mark.parametrize(
    ("kind", "line", "key", "reader"),
    [
        ("causal-lm", "training: {loss: triplet, margin: 0.1}", "training.loss", "embedding"),
        ("causal-lm", "training: {scale: 30}", "training.scale", "embedding"),
        ("causal-lm", "training: {hard_negatives: {count: 1}}", "training.hard_negatives", "embedding"),
        ("embedding", "model: {base: minilm, system: Be kind.}", "model.system", "causal-lm"),
        ("embedding", "evaluation: {max_new_tokens: 4}", "evaluation.max_new_tokens", "causal-lm"),
    ],
)
def test_a_key_of_the_other_kind_is_refused(own_folder: Path, kind: str, line: str, key: str, reader: str) -> None:
    with pytest.raises(UserErrors) as errors:
        load(own_folder, f"kind: {kind}\n{line}\n")
    (error,) = errors.value.errors
    assert error.problem == f"{key} is read by the kind {reader} alone, and this recipe has kind: {kind}."
    assert error.place == "recipe.yaml:4"
    assert error.remedy == f"Remove it, or set kind: {reader}."


@pytest.mark.parametrize("kind", ["causal-lm", "embedding"])
def test_a_resolved_recipe_states_every_key_and_loads_again(own_folder: Path, kind: str) -> None:
    load(own_folder, f"kind: {kind}\n")
    loaded = load_recipe("recipe.yaml")
    (own_folder / "again.yaml").write_text(dump(loaded))
    assert load_recipe("again.yaml").recipe == loaded.recipe


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("training: {margin: 0.1}", "The loss auto does not read margin; triplet does."),
        (
            "training: {loss: triplet, scale: 20}",
            "The loss triplet does not read scale; multiple-negatives does.",
        ),
        ("training: {loss: cosine, margin: 0.2}", "The loss cosine does not read margin; triplet does."),
        (
            "adapter: {method: dora, share: 0.5}",
            "adapter.share is 0.5, and dora cannot keep a share.",
        ),
    ],
)
def test_keys_that_do_not_go_together(own_folder: Path, line: str, words: str) -> None:
    with pytest.raises(UserErrors) as errors:
        load(own_folder, f"kind: embedding\n{line}\n")
    assert [error.problem for error in errors.value.errors] == [words]
