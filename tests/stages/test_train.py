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
    assert (told["guards"]["events"], told["oom"], told["world_size"]) == (0, [], 1)
    assert {"seconds", "tokens_per_second", "best_step", "best_validation_loss", "notes"} <= set(told)
    path = told["path"]
    assert (path["batches"], path["loss"], path["lora"]) == ("flat", "frozen head", {"lean": 14, "peft": 0})
    assert path["blocks"] == {"norms": 5, "gated": 2, "compiled": False}
    assert path["activation_checkpointing"]["on"] is False and path["threads"]["used"] == usable_cores()
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


@pytest.mark.parametrize("architecture", ["llama", "falcon"])
def test_too_little_memory_recomputes_activations_to_the_same_adapter(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    from luthier.models import activations

    base = make(architecture, tmp_path / "base")
    one, two = prepared(tmp_path / "1"), prepared(tmp_path / "2")
    train(recipe(base), one, Silent())
    recomputed: list[int] = []
    own = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *a, **k: recomputed.append(1) or own(*a, **k))
    monkeypatch.setattr(activations, "machine_memory", lambda device: 5e-4)
    train(recipe(base), two, Silent())
    told = read_json(two.train_report)["path"]["activation_checkpointing"]
    assert told["on"] is True and told["needed"] > told["there"]
    wanted, made = (load_file(run.adapter / "adapter_model.safetensors") for run in (one, two))
    for name, value in made.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5)
    assert not read_json(one.train_report)["path"]["activation_checkpointing"]["on"]


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
        train(
            recipe(base, training={"steps": None, "epochs": 2, "schedule": {"warmup": 6}}), prepared(tmp_path), Silent()
        )


def test_float16_cannot_train_a_whole_model(base: Path) -> None:
    with pytest.raises(UserError, match="float16"):
        fit_settings(recipe(base, adapter={"method": "full"}), torch.float16)


def test_every_training_key_reaches_the_engine(base: Path) -> None:
    plain = fit_settings(recipe(base), torch.float32)
    changes: dict[str, Any] = {
        "epochs": 7, "steps": 8, "batch_size": 2, "learning_rate": 0.5, "max_grad_norm": 0.25, "weight_decay": 0.125,
        "checkpoint_every": 11, "keep_checkpoints": 4, "schedule": {"name": "linear", "warmup": 3},
        "early_stopping": {"patience": 5, "threshold": 0.5}, "curriculum": {"by": "length"}, "compile": True,
        "guards": None,
    }  # fmt: skip
    read_elsewhere = {"seeds", "loss", "margin", "scale", "hard_negatives"}  # by the stage, and by the kind
    assert set(changes) == set(recipe(base).training.model_dump()) - read_elsewhere
    for key, value in changes.items():
        assert fit_settings(recipe(base, training={key: value}), torch.float32) != plain, key


@pytest.mark.parametrize(
    ("key", "value"), [("on_nonfinite", "return"), ("on_spike", "stop"), ("returns", 7), ("factor", 0.25)]
)
def test_every_key_of_the_guards_reaches_the_engine(key: str, value: Any, base: Path) -> None:
    settings = fit_settings(recipe(base, training={"guards": {key: value}}), torch.float32).guards
    assert settings is not None
    assert getattr(settings, key) == value


STEERED: list[tuple[str, dict[str, Any]]] = [
    ("schedule", {"name": "cosine", "warmup": 2}),
    ("schedule", {"name": "cosine", "floor": 0.25}),
    ("schedule", {"name": "polynomial", "power": 3}),
    ("schedule", {"name": "warmup-stable-decay", "decay": 0.4}),
    ("schedule", {"name": "one-cycle", "rise": 0.4}),
    ("schedule", {"name": "three-phase", "phases": {"exploration": {"until": 0.4}}}),
    ("schedule", {"name": "three-phase", "phases": {"exploitation": {"start": 0.004, "end": 0.003}}}),
    ("schedule", {"name": "three-phase", "phases": {"refinement": {"shape": "linear"}}}),
    *[("schedule", {"plateau": {key: value}}) for key, value in {
        "patience": 7, "threshold": 0.5, "factor": 0.75, "cooldown": 3, "floor": 0.5, "smoothing": 0.75,
    }.items()],
    ("curriculum", {"by": "loss"}),
    ("curriculum", {"by": "length", "pacing": "step"}),
    ("curriculum", {"by": "length", "start": 0.75}),
    ("curriculum", {"by": "length", "until": 0.75}),
]  # fmt: skip


@pytest.mark.parametrize(("section", "values"), STEERED)
def test_every_key_of_schedule_and_curriculum_reaches_the_engine(
    base: Path, section: str, values: dict[str, Any]
) -> None:
    """The rates of a run, or the settings of what stands on top, differ from those without the last key."""

    def seen(given: dict[str, Any]) -> Any:
        settings = fit_settings(recipe(base, training={section: given}), torch.float32)
        return settings.schedule_over(40).table(), settings.plateau, settings.curriculum

    name = {key: value for key, value in values.items() if key in ("name", "by")}
    without = (
        {"by": "length"} if values == {"by": "loss"} else {**name, **({"plateau": {}} if "plateau" in values else {})}
    )
    assert seen(values) != seen(without)


def marked(folder: Path, difficulties: list[Any]) -> RunFolder:
    """A run whose rows have a difficulty."""
    run = prepared(folder, rows=len(difficulties))
    lines = [json.loads(line) for line in run.rows("train").read_text().splitlines()]
    write_jsonl(
        run.rows("train"),
        [{**line, "labels": {"difficulty": one}} for line, one in zip(lines, difficulties, strict=True)],
    )
    return run


def order_seen(monkeypatch: pytest.MonkeyPatch, base: Path, run: RunFolder, **training: Any) -> list[list[str]]:
    """Train, and return the ids of the rows of each step."""
    from luthier.engine.batches import Steps

    seen: list[list[str]] = []
    plain = Steps.__getitem__

    def watched(self: Steps, index: int) -> Any:
        batch = plain(self, index)
        seen.append([name for part in batch["ids"] for name in part])
        return batch

    monkeypatch.setattr(Steps, "__getitem__", watched)
    train(recipe(base, training=training), run, Silent())
    return seen


def test_a_curriculum_by_a_field_brings_the_easy_rows_first(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["hard", "easy", "medium"] * 4
    run = marked(tmp_path, words)
    curriculum = {"by": "difficulty", "order": ["easy", "medium", "hard"], "pacing": "linear", "start": 0.1, "until": 1}
    seen = order_seen(monkeypatch, base, run, steps=6, curriculum=curriculum)
    assert [{words[int(name[2:])] for name in step} for step in seen[:3]] == [{"easy"}, {"medium"}, {"hard"}]
    assert sorted(name for step in seen for name in step) == sorted(2 * [f"q:{number}" for number in range(12)])


def test_a_curriculum_by_loss_measures_the_base_once(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = prepared(tmp_path)
    curriculum = {"by": "loss", "pacing": "linear", "start": 0.1, "until": 1}
    seen = order_seen(monkeypatch, base, run, steps=3, curriculum=curriculum)
    losses = read_json(run.difficulties)["losses"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base).eval(), AutoTokenizer.from_pretrained(base)
    for line, told in zip(run.rows("train").read_text().splitlines(), losses, strict=True):
        messages = json.loads(line)["messages"]
        made = tokenizer.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
        )
        trained = made["assistant_masks"].bool()
        labels = made["input_ids"].masked_fill(~trained, -100)
        with torch.no_grad():
            assert told == pytest.approx(float(model(made["input_ids"], labels=labels).loss), abs=1e-4)
    ranks = {f"q:{number}": sorted(losses).index(loss) for number, loss in enumerate(losses)}
    assert [sorted(ranks[name] for name in step) for step in seen] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    before = run.difficulties.read_bytes()
    monkeypatch.setattr("luthier.engine.difficulty._losses", lambda *_: pytest.fail("measured again"))
    train(recipe(base, training={"steps": 3, "curriculum": curriculum}), run, Silent())
    assert run.difficulties.read_bytes() == before


@pytest.mark.parametrize(
    ("values", "order", "words"),
    [
        ([None, *range(11)], [], "1 of 12 training rows have no field 'difficulty'"),
        (["", "  ", *range(10)], [], "2 of 12 training rows have no field 'difficulty'"),
        (["", *["easy", "hard"] * 5, "easy"], ["easy", "hard"], "1 of 12 training rows have no field 'difficulty'"),
        (["easy", "hard"] * 6, [], "are no numbers: 'easy', 'hard'"),
        (["easy", "hard"] * 6, ["easy", "medium"], "not in training.curriculum.order, which is easy, medium: 'hard'"),
        ([3] * 12, [], "All 12 training rows have the same difficulty"),
        ([float("nan"), *range(11)], [], "no numbers|not finite|no field"),
    ],
)
def test_rows_that_cannot_be_ordered_are_refused(
    base: Path, tmp_path: Path, values: list[Any], order: list[str], words: str
) -> None:
    run = marked(tmp_path, values)
    with pytest.raises(UserError, match=words):
        train(recipe(base, training={"curriculum": {"by": "difficulty", "order": order}}), run, Silent())


def test_reductions_need_validation_rows(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no validation rows") as told:
        train(recipe(base, training={"schedule": {"name": "plateau"}}), prepared(tmp_path, held_out=0), Silent())
    assert told.value.place == "training.schedule.plateau"


def test_its_inputs_are_the_files_of_the_base(base: Path) -> None:
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in inputs(recipe(base))}


def test_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert usable_cores() == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert usable_cores() >= 1


def test_rows_are_encoded_once_for_plan_and_training(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.kinds.causal_lm import rows as causal
    from luthier.stages.plan import plan

    made: list[int] = []
    plain = causal.encode

    def watched(given: Any, *rest: Any) -> Any:
        made.append(len(given))
        return plain(given, *rest)

    monkeypatch.setattr(causal, "encode", watched)
    run = prepared(tmp_path)
    plan(recipe(base), run, Silent())
    assert made == [12, 4]
    train(recipe(base, training={"steps": 2}), run, Silent())
    train(recipe(base, training={"steps": 3, "learning_rate": 0.001}), prepared(tmp_path / "other"), Silent())
    assert made == [12, 4], "the training, and another run on the same rows, read what the plan encoded"
