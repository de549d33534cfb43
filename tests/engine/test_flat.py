"""A step in any form, 8 x 1, 4 x 2, 1 x 8 or flat, learns the same; and the fast path resumes to the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.engine.trainer import FitSettings, Fitted, Material, fit
from luthier.kinds.base import Encoded, Objective
from luthier.kinds.causal_lm.learn import collate, flatten, material
from luthier.kinds.causal_lm.rows import Example
from luthier.models.lean import lean_lora
from tests import tiny
from tests.engine import little
from tests.engine.test_trainer import adapter_bytes, lines, step_lines, wait_for


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("llama", tmp_path_factory.mktemp("base"))


def rows(count: int, seed: int = 0) -> list[Example]:
    return [Example(one.id, one.input_ids, one.labels) for one in little.examples(count, seed)]


def taught(model: Any, train: list[Example], held_out: list[Example]) -> Material:
    made = material(model, Encoded(train), Encoded(held_out), tiny.tokenizer(), None, Objective(), 0)  # type: ignore[arg-type]
    assert made.path["batches"] == "flat"
    return made.material


def learn(base: Path, folder: Path, dropout: float = 0.0, **settings: Any) -> tuple[Fitted, Any]:
    """Train on the fast path."""
    model = little.model_at(base, dropout)
    chosen = {
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 5e-3,
        "checkpoint_every": 2,
        "weight_decay": 0.1,
    } | settings
    with lean_lora(model) as path:
        assert path.peft == 0
        made = fit(model, taught(model, rows(20), rows(6, 1)), FitSettings(**chosen), folder, seed=3)
    return made, model


def plainly(base: Path, folder: Path, budget: int, overhead: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Train padded, with PEFT's forward and the plainest loss."""
    model = little.model_at(base)
    given = Material(rows(20), rows(6, 1), lambda part: collate(part, 3), little.loss_sum)
    chosen = FitSettings(epochs=2, learning_rate=5e-3, token_budget=budget, overhead_tokens=overhead, weight_decay=0.1)
    fit(model, given, chosen, folder, seed=3)
    return [line["loss"] for line in step_lines(folder)], little.weights(model)


def test_accumulation_invariance(base: Path, tmp_path: Path) -> None:
    """8 x 1 = 4 x 2 = 1 x 8 = flat = flat in several pieces, from losses to weights; rows are of unequal lengths."""
    losses, learned = plainly(base, tmp_path / "8x1", 10**6, 10**6)
    others = {
        "4x2": lambda folder: plainly(base, folder, 2 * 40, 40),
        "1x8": lambda folder: plainly(base, folder, 1, 0),
    }
    for name, how in others.items():
        again, weights = how(tmp_path / name)
        assert again == pytest.approx(losses, abs=1e-5), name
        for key, value in weights.items():
            torch.testing.assert_close(value, learned[key], atol=2e-5, rtol=0)
    for name, budget in (("flat", 0), ("flat in pieces", 60), ("flat one by one", 1)):
        _, model = learn(base, tmp_path / name, token_budget=budget, checkpoint_every=100)
        assert [line["loss"] for line in step_lines(tmp_path / name)] == pytest.approx(losses, abs=1e-5), name
        for key, value in little.weights(model).items():
            torch.testing.assert_close(value, learned[key], atol=2e-5, rtol=0)


def test_validation_is_measured_in_the_same_form(base: Path, tmp_path: Path) -> None:
    made, model = learn(base, tmp_path, steps=2)
    sums = [little.loss_sum(model, collate([one], 3)) for one in rows(6, 1)]
    expected = sum(float(total.detach()) for total, _ in sums) / sum(count for _, count in sums)
    assert made.best_validation_loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("budget", [0, 60])
def test_killed_on_the_fast_path_it_ends_with_the_same_bytes(base: Path, tmp_path: Path, budget: int) -> None:
    """With dropout, whose masks come from the seed of each step."""
    settings: dict[str, Any] = {"dropout": 0.3, "token_budget": budget, "keep_checkpoints": 2}
    _, undisturbed = learn(base, tmp_path / "a", **settings)

    def work() -> None:
        learn(base, tmp_path / "b", **settings)

    draw = random.Random(f"flat {budget}")
    for count in sorted(draw.sample(range(1, 8), 2)):
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        wait_for(tmp_path / "b", count)
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    made, resumed = learn(base, tmp_path / "b", **settings)
    assert made.steps == 6
    assert adapter_bytes(resumed, tmp_path / "1") == adapter_bytes(undisturbed, tmp_path / "2")
    assert [line["loss"] for line in lines(tmp_path / "a") if "loss" in line] == [
        line["loss"] for line in lines(tmp_path / "b") if "loss" in line
    ]


def test_flat_batches_have_no_padding() -> None:
    batch = flatten(rows(5))
    tokens = sum(len(one.input_ids) for one in rows(5))
    assert batch["input_ids"].shape == batch["labels"].shape == (1, tokens)
    starts = (batch["lengths"].cumsum(0) - batch["lengths"]).tolist()
    assert batch["labels"][0, starts].tolist() == [-100] * 5
    assert batch["lengths"].tolist() == [len(one.input_ids) for one in rows(5)]
