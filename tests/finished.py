"""A run that has been trained, made by hand: a tiny base, a few rows, an adapter with random weights."""

from __future__ import annotations

from pathlib import Path

from luthier.data.rows import Row
from luthier.run.atomic import write_json, write_jsonl, write_text
from luthier.run.folder import RunFolder
from tests import tiny

QUESTIONS = (
    "What is overfitting?",
    "How does dropout help?",
    "Explain the bias and the variance of a model.",
    "Why do we split data?",
    "What does the learning rate say?",
    "What is gradient descent?",
)
SYSTEM = "You are an interview coach."
RECIPE = """\
name: {name}
seed: 7
model: {{base: {base}, dtype: float32, system: {system}}}
data: {{source: {source}, fields: {{prompt: question, completion: answer}}}}
adapter: {{method: {method}, r: 4, alpha: 8}}
evaluation: {{max_new_tokens: 12}}
"""


def row(place: int, words: str = "A model that fits the training data") -> Row:
    """Return test row `place`; every second one belongs to the group of the one before."""
    return Row(
        id=f"q{place}",
        form="chat",
        content={
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"{QUESTIONS[place % len(QUESTIONS)]} ({place})"},
                {"role": "assistant", "content": f"{words}, number {place}."},
            ]
        },
        file="questions.jsonl",
        line=place + 1,
        labels={"topic": "models", "key_points": ["training data", "number"]},
        group=f"g{place // 2}",
    )


def make(
    runs: Path, name: str = "coach", rows: int = 12, method: str = "lora", seed: int = 0, scale: float = 0.3
) -> RunFolder:
    """Write `<runs>/<name>/2026-01-01T00-00-0<seed>` with recipe, splits and an adapter, and return it.

    Args:
        rows: of the test split. method: "lora", or "full" for a whole tuned model.
        scale: how far the adapter moves the model; 0 leaves it as it is.
    """
    folder = RunFolder((runs / name / f"2026-01-01T00-00-0{seed}").absolute())
    base = tiny.make("llama", folder.path.parent / "base")
    source = folder.path.parent / "questions.jsonl"
    write_jsonl(source, [{"question": "Why?", "answer": "So."}])
    write_text(
        folder.recipe, RECIPE.format(name=name, base=base.absolute(), system=SYSTEM, source=source, method=method)
    )
    write_json(folder.record, {"name": name, "id": folder.id, "status": "partial", "stages": []})
    for split, count in (("train", 4), ("validation", 2), ("test", rows)):
        write_jsonl(folder.rows(split), [row(place).to_json() for place in range(count)])
    adapter = folder.path / "4-train" / "adapter"
    if method == "full":
        tiny.make("llama", adapter, seed=seed + 1)
    else:
        _save_adapter(base, adapter, seed, scale)
    return folder


def _save_adapter(base: Path, adapter: Path, seed: int, scale: float) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale) if scale else torch.nn.init.zeros_(parameter)
    model.save_pretrained(adapter)
