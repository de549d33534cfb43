"""train: from encoded rows to a proven adapter."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import GateError, UserError
from luthier.run.atomic import read_jsonl, write_json
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    import torch

    from luthier.data.rows import Row
    from luthier.engine.trainer import FitSettings
    from luthier.kinds.base import Encoded
    from luthier.models.proof import AdapterProof
    from luthier.recipe.schema import Adapter, Recipe


def inputs(recipe: Recipe) -> list[Path]:
    """Return the files from outside the run that decide the outcome: those of a local base."""
    from luthier.models.bases import local_files, resolve

    return local_files(resolve(recipe.model.base))


def train(recipe: Recipe, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Train the base on 1-data/ and prove what came out.

    Writes metrics.jsonl, checkpoint-N/, adapter/ (a plain PEFT adapter with the tokenizer and its chat template; after
    full training the whole model) and train.json into 4-train/. Started again, it goes on from the newest checkpoint.
    Returns what run.json is to say: the adapter proof and the parameter counts.

    Raises:
        UserError: base, adapter, rows or settings do not allow a training. StageError: the loss is not finite, or the
            disk is full. GateError: a target matches nothing, the mask is wrong, or the adapter proof does not hold.
    """
    from luthier.engine.threads import use_cores
    from luthier.engine.trainer import Material, fit
    from luthier.kinds import kind_named
    from luthier.models import lora
    from luthier.models.bases import resolve
    from luthier.models.load import pick_dtype

    use_cores()
    kind, base = kind_named(recipe.kind), resolve(recipe.model.base)
    dtype = pick_dtype(recipe.model.dtype, recipe.adapter.method)
    settings = fit_settings(recipe, dtype)
    tokenizer, notes = kind.model.load_tokenizer(base)
    rows, held_out = _rows(folder, "train"), _rows(folder, "validation")
    encoded = kind.rows.encode(rows, tokenizer, recipe.data.max_length)
    validation = kind.rows.encode(held_out, tokenizer, recipe.data.max_length) if held_out else None
    kind.rows.prove_mask(rows, encoded, tokenizer)
    model = _adapted(kind.model.load_base(base, recipe.model.dtype, recipe.adapter.method), recipe.adapter, recipe.seed)
    probe = encoded.examples[0].input_ids
    before = lora.snapshot(model, probe)
    collate: Any = partial(kind.learn.collate, pad_id=tokenizer.pad_token_id)
    material = Material(encoded.examples, validation.examples if validation else (), collate, kind.learn.loss_sum)
    fitted = fit(model, material, settings, folder.training, progress, recipe.seed)
    shutil.rmtree(folder.adapter, ignore_errors=True)  # an earlier run may share its files
    lora.save_adapter(model, folder.adapter, base.source)
    tokenizer.save_pretrained(str(folder.adapter))
    proof = lora.prove_adapter(model, before, folder.adapter, probe)
    trainable, total = lora.count_parameters(model)
    report = {
        **asdict(fitted),
        "trainable": trainable,
        "total": total,
        "adapter_proof": proof.to_json(),
        "dtype": str(dtype).removeprefix("torch."),
        "method": recipe.adapter.method,
        "adapter_holds": "the whole model" if recipe.adapter.method == "full" else "a PEFT adapter",
        "rows": {"train": len(encoded.examples), "validation": len(validation.examples) if validation else 0},
        "notes": [*notes, *_told(encoded, "training"), *_told(validation, "validation"), *fitted.notes],
    }
    write_json(folder.train_report, report)
    _gate(proof, folder)
    return {"adapter_proof": report["adapter_proof"], "trainable": trainable, "total": total}


def fit_settings(recipe: Recipe, dtype: torch.dtype) -> FitSettings:
    """Return what the engine is told.

    Raises:
        UserError: the whole model is to be trained in float16, in which updates vanish.
    """
    import torch

    from luthier.engine.settings import FitSettings

    if recipe.adapter.method == "full" and dtype is torch.float16:
        raise UserError("float16 cannot train a whole model: its updates vanish.", "model.dtype", "Use auto.")
    training, stopping = recipe.training, recipe.training.early_stopping
    return FitSettings(
        epochs=training.epochs,
        steps=training.steps,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        schedule=training.schedule.name,
        warmup=training.schedule.warmup,
        max_grad_norm=training.max_grad_norm,
        weight_decay=training.weight_decay,
        patience=stopping.patience if stopping else None,
        threshold=stopping.threshold if stopping else 0.0,
        checkpoint_every=training.checkpoint_every,
        keep_checkpoints=training.keep_checkpoints,
        # Gradients of a float16 base underflow unless the loss is scaled, which comes with autocast.
        autocast="float16" if dtype is torch.float16 and torch.cuda.is_available() else None,
    )


def _adapted(model: Any, adapter: Adapter, seed: int) -> Any:
    from luthier.models import lora

    if adapter.method != "full":
        lora.check_targets(lora.target_report(model, adapter.targets), adapter.allow_unmatched)
    return lora.attach(model, adapter.method, adapter.r, adapter.alpha, adapter.dropout, adapter.targets, seed)


def _rows(folder: RunFolder, split: str) -> list[Row]:
    from luthier.data.rows import from_json

    return [from_json(line) for line in read_jsonl(folder.rows(split))]


def _told(encoded: Encoded | None, side: str) -> list[str]:
    if encoded is None:
        return []
    told = []
    if encoded.truncated:
        told.append(f"{len(encoded.truncated)} {side} rows lost the end of their answer to data.max_length")
    if encoded.dropped:
        told.append(f"{len(encoded.dropped)} {side} rows were left out, the first because {encoded.dropped[0][1]}")
    return told


def _gate(proof: AdapterProof, folder: RunFolder) -> None:
    if proof.holds:
        return
    words = {
        "moved": "its weights did not move",
        "finite": "it holds numbers that are not finite",
        "reloads": "what was saved is not what was trained",
        "changes_output": "the model answers as its base does",
        "merges": "merged into the base it is another model",
    }
    failed = "; ".join(words[name] for name, value in proof.to_json().items() if name in words and value is False)
    raise GateError(
        f"The adapter proof does not hold: {failed}.",
        str(folder.train_report),
        "Raise training.learning_rate or the number of steps if it did not move; else look at adapter_proof there.",
    )
