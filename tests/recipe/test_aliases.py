"""Names of other tools: what they become, where they are taken, and when they contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from luthier.recipe.aliases import advice, aliases, factors
from luthier.recipe.keys import all_keys, children
from luthier.recipe.load import Loaded, load_recipe
from luthier.recipe.origins import values

from .conftest import MINIMAL, Failing

TWO = "{} and {} are two names of one setting (adapter.r), given on lines {} and {}."


def load(text: str) -> Loaded:
    Path("recipe.yaml").write_text(text)
    return load_recipe("recipe.yaml")


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("lora_r: 4", "adapter.r", 4),
        ("lora_rank: 4", "adapter.r", 4),
        ("lora_alpha: 4", "adapter.alpha", 4),
        ("lora_dropout: 0.1", "adapter.dropout", 0.1),
        ("lora_target: q_proj, v_proj", "adapter.targets", ["q_proj", "v_proj"]),
        ("lora_target: all", "adapter.targets", "all-linear"),
        ("lora_target_modules: [q_proj]", "adapter.targets", ["q_proj"]),
        ("target_modules: all-linear", "adapter.targets", "all-linear"),
        ("target_modules: q_proj", "adapter.targets", ["q_proj"]),
        ("lora_target_linear: true", "adapter.targets", "all-linear"),
        ("use_dora: true", "adapter.method", "dora"),
        ("use_rslora: True", "adapter.method", "rslora"),
        ("load_in_4bit: yes", "adapter.method", "qlora"),
        ("load_in_4bit: false", "adapter.method", "lora"),
        ("finetuning_type: full", "adapter.method", "full"),
        ("num_train_epochs: 2", "training.epochs", 2),
        ("num_epochs: 2", "training.epochs", 2),
        ("max_steps: 20", "training.steps", 20),
        ("max_steps: -1", "training.steps", None),
        ("cutoff_len: 99", "data.max_length", 99),
        ("max_seq_length: 99", "data.max_length", 99),
        ("max_seq_len: 99", "data.max_length", 99),
        ("sequence_len: 99", "data.max_length", 99),
        ("lr: 5e-4", "training.learning_rate", 5e-4),
        ("learning_rate: 5e-4", "training.learning_rate", 5e-4),
        ("warmup_steps: 5", "training.schedule.warmup", 5),
        ("lr_scheduler_type: linear", "training.schedule.name", "linear"),
        ("lr_scheduler: constant_with_warmup", "training.schedule.name", "constant"),
        ("lr_scheduler_type: cosine_with_min_lr", "training.schedule.name", "cosine"),
        ("lr_scheduler_type: warmup_stable_decay", "training.schedule.name", "warmup-stable-decay"),
        ("lr_scheduler_type: polynomial", "training.schedule.name", "polynomial"),
        ("lr_scheduler_type: reduce_lr_on_plateau", "training.schedule.name", "plateau"),
        ("cosine_min_lr_ratio: 0.1", "training.schedule.floor", 0.1),
        ("pct_start: 0.2\ntraining: {schedule: {name: one-cycle}}", "training.schedule.rise", 0.2),
        ("weight_decay: 0.1", "training.weight_decay", 0.1),
        ("max_grad_norm: 0.5", "training.max_grad_norm", 0.5),
        ("per_device_train_batch_size: 4", "training.batch_size", 4),
        ("micro_batch_size: 4", "training.batch_size", 4),
        ("save_steps: 7", "training.checkpoint_every", 7),
        ("save_total_limit: 7", "training.keep_checkpoints", 7),
        ("early_stopping_patience: 7", "training.early_stopping.patience", 7),
        ("model_name_or_path: org/name", "model.base", "org/name"),
        ("base_model: org/name", "model.base", "org/name"),
        ("torch_dtype: bf16", "model.dtype", "bfloat16"),
        ("bf16: true", "model.dtype", "bfloat16"),
        ("bf16: auto", "model.dtype", "auto"),
        ("max_new_tokens: 7", "evaluation.max_new_tokens", 7),
        ("random_state: 3407", "seed", 3407),
    ],
)  # fmt: skip
def test_an_alias_at_the_top_level(line: str, key: str, value: Any) -> None:
    loaded = load(f"{MINIMAL}{line}\n")
    resolved = values(loaded.recipe)
    assert resolved[key] == value
    name = line.partition(":")[0]
    if loaded.origins[key] == "default":
        assert loaded.notes == [f"{line} sets nothing here"]
    else:
        assert loaded.origins[key] == f"recipe.yaml:4 (alias {name})"
        assert loaded.notes == [f"{name} is {key} here"]


@pytest.mark.parametrize(
    "text",
    [
        "training: {schedule: {warmup_steps: 5}}",
        "training: {warmup_steps: 5}",
        "training: {num_warmup_steps: 5}",
        "warmup_steps: 5\ntraining:\n",
        "warmup_steps: 5\ntraining: {schedule: {name: linear}}",
    ],
)
def test_an_alias_inside_each_section_on_its_way(text: str) -> None:
    assert load(f"{MINIMAL}{text}\n").recipe.training.schedule.warmup == 5


def test_an_alias_in_a_foreign_section_is_an_error(failing: Failing) -> None:
    (error,) = failing(f"{MINIMAL}  lora_r: 8\n")
    assert error.remedy == "It is adapter.r here."


@pytest.mark.parametrize("name", ["per_device_train_batch_size", "micro_batch_size"])
def test_micro_batches_times_accumulation_is_the_batch(name: str) -> None:
    loaded = load(f"{MINIMAL}{name}: 2\ntraining: {{gradient_accumulation_steps: 16}}\n")
    assert loaded.recipe.training.batch_size == 32
    assert loaded.notes == [f"{name} × gradient_accumulation_steps = 32 is training.batch_size here"]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("gradient_accumulation_steps: 4", "'gradient_accumulation_steps' has no counterpart here."),
        ("micro_batch_size: 2\ngradient_accumulation_steps: auto", "gradient_accumulation_steps must be a"),
        ("micro_batch_size: 0\ngradient_accumulation_steps: 2", "micro_batch_size must be a whole number of at"),
        ("lora_r: 8\nadapter: {r: 8}", TWO.format("lora_r", "adapter.r", 5, 4)),
        ("lora_r: 8\nlora_rank: 9", TWO.format("lora_rank", "lora_r", 4, 5)),
        ("use_dora: true\nload_in_4bit: true", "load_in_4bit and use_dora are two names"),
        ("adapter: qlora\nlora_r: 8", "lora_r is adapter.r here, but adapter is 'qlora', not a section."),
        ("warmup_ratio: 0.1", "'warmup_ratio' has no counterpart here."),
        ("training: {warmup_ratio: 0.1}", "'warmup_ratio' has no counterpart here."),
        ("val_size: 200", "val_size (data.split.validation) must be a number of at least 0 and below 1, not 200."),
        ("lr_scheduler_type: inverse_sqrt", "lr_scheduler_type (training.schedule.name) must be one of"),
    ],
)  # fmt: skip
def test_contradictions_and_names_without_counterpart(failing: Failing, lines: str, problem: str) -> None:
    errors = failing(f"{MINIMAL}{lines}\n")
    assert any(error.problem.startswith(problem) and error.remedy for error in errors), [str(e) for e in errors]


def test_two_aliases_that_agree_are_no_contradiction() -> None:
    assert load(f"{MINIMAL}load_in_4bit: true\nfinetuning_type: qlora\n").recipe.adapter.method == "qlora"


def test_a_validation_share_comes_out_of_training() -> None:
    loaded = load(f"{MINIMAL}val_size: 0.1\n")
    split = loaded.recipe.data.split
    assert (split.train, split.validation, split.test) == (0.75, 0.1, 0.15)
    assert loaded.origins["data.split.train"] == "recipe.yaml:4 (alias val_size)"
    split = load(f"{MINIMAL}  split: {{test: 0.2, val_set_size: 0.3}}\n").recipe.data.split
    assert (split.train, split.validation, split.test) == (0.5, 0.3, 0.2)


def test_a_stated_training_share_stays(failing: Failing) -> None:
    errors = failing(f"{MINIMAL}  split: {{train: 0.8, val_size: 0.1}}\n")
    assert "add up to 1.05" in errors[0].problem
    loaded = load(f"{MINIMAL}  split: {{train: 0.75, val_size: 0.1}}\n")
    assert loaded.origins["data.split.train"] == "recipe.yaml:4"


def test_an_own_share_in_the_including_file_wins_over_an_alias_below() -> None:
    Path("base.yaml").write_text("val_size: 0.4\n")
    split = load(f"include: base.yaml\n{MINIMAL}  split: {{validation: 0.15}}\n").recipe.data.split
    assert (split.train, split.validation) == (0.7, 0.15)


def test_data_sets_of_axolotl(failing: Failing) -> None:
    loaded = load("name: demo\ndatasets:\n  - path: a.jsonl\n    type: alpaca\n  - path: b.jsonl\n    type: alpaca\n")
    assert loaded.recipe.data.source == [str(Path.cwd() / name) for name in ("a.jsonl", "b.jsonl")]
    assert loaded.recipe.data.format == "alpaca"
    assert loaded.notes == ["datasets[].path is data.source here", "datasets[].type is data.format here"]
    one = load("name: demo\ndatasets: [{path: a.jsonl, type: chat_template}]\n").recipe.data
    assert (one.source, one.format) == (str(Path.cwd() / "a.jsonl"), "messages")
    assert load("name: demo\ndatasets: [a.jsonl]\n").recipe.data.source == [str(Path.cwd() / "a.jsonl")]
    errors = failing(
        "name: demo\ndatasets:\n  - path: a\n    type: alpaca\n  - path: b\n    type: text\n    split: x\n"
    )
    assert {error.problem.partition(" is not read")[0] for error in errors} >= {"'split' in datasets"}
    assert any(error.problem.startswith("datasets (data.format) must be one of") for error in errors)


def test_a_whole_file_of_another_tool_is_answered_at_once(failing: Failing) -> None:
    text = (
        "model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct\nstage: sft\ndo_train: true\nfinetuning_type: lora\n"
        "lora_rank: 8\nlora_target: all\ndataset: data/mine.json\ntemplate: qwen\ncutoff_len: 2048\nmax_samples: 1000\n"
        "overwrite_cache: true\npreprocessing_num_workers: 16\noutput_dir: saves/mine\nlogging_steps: 10\n"
        "save_steps: 500\nplot_loss: true\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 8\n"
        "learning_rate: 1.0e-4\n"
        "num_train_epochs: 3.0\nlr_scheduler_type: cosine\nwarmup_ratio: 0.1\nbf16: true\nddp_timeout: 180000000\n"
        "val_size: 0.1\nper_device_eval_batch_size: 1\neval_strategy: steps\neval_steps: 500\n"
    )
    errors = failing(text)
    assert errors[0].problem == "name is missing."
    assert all("has no counterpart here" in error.problem for error in errors[1:])
    refused = {int(error.place.partition(":")[2]) - 1 for error in errors[1:]}
    kept = "".join(line for number, line in enumerate(text.splitlines(keepends=True)) if number not in refused)
    recipe = load(f"name: mine\n{kept}").recipe
    assert (recipe.training.batch_size, recipe.adapter.targets, recipe.model.dtype) == (8, "all-linear", "bfloat16")


def test_every_line_of_the_table_leads_somewhere() -> None:
    for name, alias in aliases().items():
        assert alias.key in all_keys(), name
        assert not all_keys()[alias.key].sections, name
        assert not alias.rest or alias.rest in all_keys(), name
        assert all(part.key in all_keys() for part in alias.parts.values()), name
        assert name not in children(""), f"{name} is a key of the recipe itself"
    assert factors() <= advice().keys(), "a factor that stands alone needs its own words"


def test_no_name_is_both_known_and_without_counterpart() -> None:
    own = {key.name for key in all_keys().values()}
    assert not advice().keys() & aliases().keys()
    assert not advice().keys() & own, "it has a counterpart now: take it out of the advice"
    assert all(text.endswith(".") for text in advice().values())
