"""A little training for tests: a tiny llama with LoRA, random rows, and the plainest causal loss."""

from __future__ import annotations

import gc
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from luthier.engine.trainer import FitSettings, Fitted, Material, fit

gc.freeze()  # Trainer collects garbage once a training; what the libraries hold need not be looked at each time


@dataclass
class Example:
    id: str
    input_ids: list[int]
    labels: list[int]


def examples(count: int, seed: int = 0, length: int | None = None, name: str = "row") -> list[Example]:
    """Rows of 5 to 40 tokens that repeat a short pattern, so that there is something to learn; the start is masked."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        size = length or draw.randint(5, 40)
        first = draw.randrange(10, 60)
        ids = [first + position % 3 for position in range(size)]
        masked = draw.randint(1, 3)
        rows.append(Example(f"{name}:{number}", ids, [-100] * masked + ids[masked:]))
    return rows


def collate(rows: Any) -> dict[str, torch.Tensor]:
    longest = max(len(row.input_ids) for row in rows)
    padded = [[*row.input_ids, *[3] * (longest - len(row.input_ids))] for row in rows]
    labels = [[*row.labels, *[-100] * (longest - len(row.labels))] for row in rows]
    mask = [[1] * len(row.input_ids) + [0] * (longest - len(row.input_ids)) for row in rows]
    return {
        "input_ids": torch.tensor(padded),
        "labels": torch.tensor(labels),
        "attention_mask": torch.tensor(mask),
    }


def loss_sum(model: Any, batch: Any) -> tuple[torch.Tensor, int]:
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1].float()
    labels = batch["labels"][:, 1:]
    summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return summed, int((labels != -100).sum())


def model_at(folder: Path, dropout: float = 0.0, seed: int = 0) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(seed)
    return get_peft_model(base, LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear"))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}


def train(model: Any, folder: Path, rows: int = 20, held_out: int = 6, **settings: Any) -> Fitted:
    material = Material(examples(rows), examples(held_out, 1, name="held"), collate, loss_sum)
    chosen = {"epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "checkpoint_every": 3} | settings
    return fit(model, material, FitSettings(**chosen), folder, seed=7)
