"""The train stage: from prepared rows to a proven adapter that plain PEFT loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.data.rows import Row
from luthier.engine.threads import usable_cores
from luthier.errors import GateError, StageError, UserError
from luthier.recipe.schema import Recipe
from luthier.run.atomic import read_json, write_jsonl
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.train import fit_settings, inputs, train
from tests.tiny import make

QUESTIONS = ("What is overfitting?", "How does dropout help?", "Why do we split data?", "What is a learning rate?")
ANSWERS = ("A model that fits the training data.", "It removes random units.", "To measure.", "How far each step goes.")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base"))


def recipe(base: Path, **changes: Any) -> Recipe:
    training = {"steps": 6, "batch_size": 4, "learning_rate": 0.01, "checkpoint_every": 3}
    values: dict[str, Any] = {
        "name": "small",
        "model": {"base": str(base)},
        "data": {"source": "none.jsonl", "max_length": 128},
        "adapter": {"r": 4, "dropout": 0.1} | changes.pop("adapter", {}),
        "training": training | changes.pop("training", {}),
    }
    return Recipe.model_validate(values | changes)


def prepared(folder: Path, rows: int = 12, held_out: int = 4) -> RunFolder:
    def row(number: int) -> dict[str, Any]:
        asked, told = QUESTIONS[number % 4], ANSWERS[number % 4]
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"{told} {number}"}]
        return Row(f"q:{number}", "chat", {"messages": messages}, "q.jsonl", number + 1).to_json()

    run = RunFolder(folder)
    write_jsonl(run.rows("train"), [row(number) for number in range(rows)])
    write_jsonl(run.rows("validation"), [row(number) for number in range(100, 100 + held_out)])
    return run


def test_it_leaves_a_proven_adapter_that_peft_loads(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = prepared(tmp_path)
    train(recipe(base), run, Silent())
    told = read_json(run.train_report)
    assert told["adapter_proof"]["holds"] is True
    assert (told["steps"], told["epochs"], told["dtype"], told["stopped_early"]) == (6, 2.0, "float32", False)
    assert 0 < told["trainable"] < told["total"]
    assert told["rows"] == {"train": 12, "validation": 4}
    assert {"seconds", "tokens_per_second", "best_step", "best_validation_loss", "notes"} <= set(told)
    losses = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert losses[-2]["loss"] < losses[0]["loss"]
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert AutoTokenizer.from_pretrained(run.adapter).chat_template
    ids = torch.tensor([[5, 6, 7]])
    before = plain(ids).logits.detach()
    assert not torch.allclose(before, PeftModel.from_pretrained(plain, run.adapter).eval()(ids).logits)


def test_the_adapter_is_the_same_twice_and_resumed(base: Path, tmp_path: Path) -> None:
    """No timings in the adapter's files, and what an earlier run shares by hard link is replaced, not changed."""
    one, two = prepared(tmp_path / "1"), prepared(tmp_path / "2")
    train(recipe(base), one, Silent())
    train(recipe(base), two, Silent())
    files = sorted(path.name for path in one.adapter.iterdir())
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= set(files)
    content = {name: (one.adapter / name).read_bytes() for name in files}
    assert content == {name: (two.adapter / name).read_bytes() for name in files}
    weights = one.adapter / "adapter_model.safetensors"
    number = weights.stat().st_ino
    with open(weights, "rb"):  # open, so that the number is not used again
        train(recipe(base), one, Silent())
        assert weights.stat().st_ino != number
    assert content == {name: (one.adapter / name).read_bytes() for name in files}


def test_full_training_leaves_a_whole_model(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = prepared(tmp_path)
    train(recipe(base, adapter={"method": "full"}, training={"steps": 2, "learning_rate": 1e-3}), run, Silent())
    told = read_json(run.train_report)
    assert told["adapter_holds"] == "the whole model"
    assert told["trainable"] == told["total"]
    assert told["adapter_proof"]["holds"] is True
    AutoModelForCausalLM.from_pretrained(run.adapter)


def test_a_dead_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with pytest.raises(GateError, match="adapter proof does not hold") as told:
        train(recipe(base, training={"steps": 1, "learning_rate": 1e-30}), run, Silent())
    assert "learning_rate" in told.value.remedy
    assert read_json(run.train_report)["adapter_proof"]["holds"] is False


def test_a_target_that_matches_nothing_stops_before_training(base: Path, tmp_path: Path) -> None:
    run = prepared(tmp_path)
    with pytest.raises(GateError, match="query"):
        train(recipe(base, adapter={"targets": ["query", "q_proj"]}), run, Silent())
    assert not run.metrics.exists()


def test_a_broken_base_stops_at_step_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = make("llama", tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StageError, match="loss is nan at step 1") as told:
        train(recipe(base), prepared(tmp_path / "run"), Silent())
    assert "q:" in told.value.place
    assert "base model" in told.value.remedy


def test_a_warmup_as_long_as_the_training_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="warm-up"):
        train(recipe(base, training={"schedule": {"warmup": 6}}), prepared(tmp_path), Silent())


def test_float16_cannot_train_a_whole_model(base: Path) -> None:
    with pytest.raises(UserError, match="float16"):
        fit_settings(recipe(base, adapter={"method": "full"}), torch.float16)


def test_every_training_key_reaches_the_engine(base: Path) -> None:
    plain = fit_settings(recipe(base), torch.float32)
    changes: dict[str, Any] = {
        "epochs": 7, "steps": 8, "batch_size": 2, "learning_rate": 0.5, "max_grad_norm": 0.25, "weight_decay": 0.125,
        "checkpoint_every": 11, "keep_checkpoints": 4, "schedule": {"name": "linear", "warmup": 3},
        "early_stopping": {"patience": 5, "threshold": 0.5},
    }  # fmt: skip
    assert set(changes) == set(recipe(base).training.model_dump())
    for key, value in changes.items():
        assert fit_settings(recipe(base, training={key: value}), torch.float32) != plain, key


def test_its_inputs_are_the_files_of_the_base(base: Path) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in inputs(recipe(base))}


def test_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert usable_cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert usable_cores() >= 1
