"""`luthier plan` as users call it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luthier.cli.plan import plan_of, render
from luthier.errors import GateError
from luthier.recipe.load import load_recipe
from tests.cli.conftest import Luthier

FALCON = "adapter.targets=[query_key_value, dense, dense_h_to_4h, dense_4h_to_h]"


def test_a_recipe_alone_is_enough(process: Luthier, recipe: Path, own_folder: Path) -> None:
    told = process(
        "plan", recipe, "--json", "--quiet", "--no-calibrate", "--set", "model.base=falcon-rw-1b", "--set", FALCON
    )
    assert told.status == 0, told.err
    assert told.json["parameters"] == {"trainable": 6_291_456, "total": 1_317_916_672, "percent": 0.4774}
    assert not (own_folder / "runs").exists()


def test_text_shows_the_trained_tokens(recipe: Path) -> None:
    text = render(plan_of(load_recipe(str(recipe)).recipe))
    assert "proven for" in text
    assert text.count("<|im_end|>⟧") == 3


def test_what_the_recipe_says_of_the_length_is_noted(luthier: Luthier, recipe: Path) -> None:
    settings = ("--set", "training.steps=2", "--set", "training.batch_size=5000")
    told = luthier("plan", recipe, "--no-calibrate", *settings)
    assert told.status == 0, told.err
    assert "note        batch_size is 5000 and there are 42 training rows: one step is one epoch" in told.out
    assert "note        training.epochs is not read, as training.steps is given: 2 steps are taken" in told.out
    micro_batch = re.search(r"the largest micro-batch has (\d+) examples, [\d,]+ tokens", told.out)
    assert micro_batch and int(micro_batch[1]) > 1


def test_unmatched_targets_exit_with_3(recipe: Path) -> None:
    loaded = load_recipe(str(recipe), {"adapter.targets": ["query_key_value", "q_proj"]})
    with pytest.raises(GateError, match="query_key_value matches nothing") as stopped:
        plan_of(loaded.recipe)
    assert stopped.value.exit_status == 3


def test_colours_only_where_there_are_some() -> None:
    told = {
        "base": {"name": "b", "architecture": "llama", "dtype": "float32", "device": "cpu"},
        "parameters": {"trainable": 1, "total": 2, "percent": 50.0},
        "targets": [],
        "memory_gib": {"weights": 1.0, "total": 1.0},
        "steps": 3,
        "micro_batch": {"examples": 1, "tokens": 8},
        "tokens": {
            "rows": 1, "median": 8, "p95": 8, "max": 8, "max_length": 8, "truncated": 0, "dropped": 0,
            "estimated": False,
        },
        "seconds": {"estimate": 90.0, "basis": "x"},
        "cost": {"dollars": 0.0625, "dollars_per_hour": 2.5},
        "advice": [{"key": "data.max_length", "value": 256, "memory_gib": 1.25, "why": "3 rows are longer"}],
        "notes": [],
        "mask": {
            "available": True, "rows": 1, "trained_tokens": 1, "total_tokens": 2,
            "shown": [{"id": "a", "place": "f:1", "pieces": [["asked ", False], ["said " * 200, True]]}],
        },
    }  # fmt: skip
    plain, green = render(told), render(told, colours=True)
    assert "the largest micro-batch has 1 example, 8 tokens\n" in plain
    parts = {**told, "micro_batch": {"examples": None, "tokens": 1024}}
    assert "the largest micro-batch has 1,024 tokens\n" in render(parts)
    assert "\033" not in plain and "asked ⟦said" in plain and plain.endswith("said ⟧")
    assert "\033[30;42msaid" in green and "⟦" not in green
    assert "[…]" in plain
    assert "cost        about $0.06, at $2.50 an hour" in plain
    assert "advice      data.max_length: 256 needs about 1.2 GiB; 3 rows are longer" in plain


def test_a_price_is_an_option(luthier: Luthier, recipe: Path) -> None:
    told = luthier("plan", recipe, "--json", "--quiet", "--no-calibrate", "--price", "36")
    assert told.status == 0, told.err
    assert told.json["cost"]["dollars"] == pytest.approx(told.json["seconds"]["estimate"] / 100, abs=1e-3)
