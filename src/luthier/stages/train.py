"""train: from encoded rows to a proven adapter."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.rows import Row, read_rows
from luthier.errors import GateError, UserError
from luthier.run import ranks
from luthier.run.atomic import write_json, write_jsonl
from luthier.run.folder import RunFolder, TrainingFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    import torch

    from luthier.engine.curriculum import Pacing
    from luthier.engine.plateau import Plateau
    from luthier.engine.threads import Threads
    from luthier.engine.trainer import FitSettings
    from luthier.kinds.base import Encoded, Kind, Objective, Taught
    from luthier.models.bases import Base
    from luthier.models.proof import AdapterProof
    from luthier.recipe.pace import Curriculum, Schedule
    from luthier.recipe.schema import Recipe, Training


@dataclass(frozen=True)
class Sides:
    """The rows that are trained on, both sides as the model reads them, and what to say of them."""

    rows: list[Row]
    train: Encoded
    validation: Encoded | None
    notes: list[str]


@dataclass(frozen=True)
class Lesson:
    """What all trainings of a run have in common: who is taught what, and how.

    Attributes:
        notes: what to say of tokenizer, machine and rows.
    """

    recipe: Recipe
    kind: Kind
    base: Base
    dtype: torch.dtype
    settings: FitSettings
    tokenizer: Any
    sides: Sides
    threads: Threads
    notes: Sequence[str]


OF_SEEDS = ("best_validation_loss", "steps", "seconds", "adapter_proof")


def inputs(recipe: Recipe) -> list[Path]:
    """Return the files from outside the run that decide the outcome: those of a local base."""
    from luthier.models.bases import local_files, resolve

    return local_files(resolve(recipe.model.base))


def train(recipe: Recipe, folder: RunFolder, progress: Progress) -> dict[str, Any]:
    """Train the base on 1-data/ and prove what came out, once for each training seed.

    Writes metrics.jsonl, checkpoint-N/, adapter/ (a plain PEFT adapter with the tokenizer and its chat template; after
    full training the whole model) and train.json into 4-train/. With several `training.seeds` these are of the first,
    whose adapter is the run's; each other has its own in 4-train/seed-N/, and train.json tells of all of them.
    Started again, it goes on from the newest checkpoint; a seed that was through is not trained again.
    Returns what run.json is to say: the adapter proof and the parameter counts. Of several processes that train
    together (`run.ranks`) all call it, and only rank 0 writes.

    Raises:
        UserError: base, adapter, rows or settings do not allow a training. StageError: the guards ended it, or disk or
            memory is too small. GateError: a target matches nothing, the mask is wrong, or an adapter proof does not
            hold.
    """
    lesson = _lesson(recipe, folder)
    _note(lesson.notes, progress)
    seeds = recipe.training.seeds or [recipe.seed]
    reports, held_out = [], None
    for place, seed in enumerate(seeds):
        if len(seeds) > 1:
            progress.say(f"  training seed {seed}, {place + 1} of {len(seeds)}")
        where = folder.training_of(seed if place else None)
        report, held_out = _train_once(lesson, where, seed, held_out, progress)
        gc.collect()  # a model that is done with makes room for the next
        reports.append(report)
    if not ranks.leads():
        return {}
    told = {name: reports[0][name] for name in ("adapter_proof", "trainable", "total", "path")}
    if len(seeds) == 1:
        return told
    each = [{"seed": seed, **{name: one[name] for name in OF_SEEDS}} for seed, one in zip(seeds, reports, strict=True)]
    write_json(folder.train_report, {**reports[0], "seeds": each})
    return {**told, "seeds": each}


def _lesson(recipe: Recipe, folder: RunFolder) -> Lesson:
    """Make ready what all trainings of a run have in common."""
    from luthier.engine.threads import look_at_cores
    from luthier.kinds import kind_named
    from luthier.models.bases import resolve
    from luthier.models.load import check_dtype, pick_dtype

    check_dtype(recipe.model.dtype)
    if ranks.divides() and recipe.adapter.method in ("full", "qlora"):
        raise UserError(
            f"FSDP divides a frozen base of 16 or 32 bits, and adapter.method is {recipe.adapter.method}.",
            "adapter.method",
            "Use lora, rslora or dora, or launch with --multi_gpu, where every process holds the whole model.",
        )
    threads = look_at_cores()
    kind, base = kind_named(recipe.kind), resolve(recipe.model.base)
    named = str(pick_dtype(recipe.model.dtype, recipe.adapter.method)).removeprefix("torch.")
    dtype = pick_dtype(ranks.share(named), recipe.adapter.method)  # "auto" measures: machines may differ
    settings = fit_settings(recipe, dtype)
    tokenizer, notes = kind.model.load_tokenizer(base)
    sides = _sides(folder, kind, tokenizer, recipe.data.max_length)
    told = [*notes, *filter(None, [threads.warning]), *sides.notes]
    return Lesson(recipe, kind, base, dtype, settings, tokenizer, sides, threads, told)


def _train_once(
    lesson: Lesson, where: TrainingFolder, seed: int, held_out: Sequence[Any] | None, progress: Progress
) -> tuple[dict[str, Any], Sequence[Any]]:
    """Train with one seed, which decides the adapter's initial weights, the order of the rows and dropout.

    Args:
        where: it is written. held_out: what validation losses are measured on, the same for all seeds of a run; None:
            what the kind makes of the validation rows, which for titles depends on the seed.

    Returns:
        train.json, empty behind rank 0, and what validation losses were measured on.
    """
    from luthier.kinds.path import fit_on_path
    from luthier.models import lora, peak
    from luthier.models.load import device_type

    peak.begin(device_type())
    recipe, kind, base, sides = lesson.recipe, lesson.kind, lesson.base, lesson.sides
    encoded, validation, tokenizer = sides.train, sides.validation, lesson.tokenizer
    model = _adapted(lesson, seed)
    probe = encoded.examples[0].input_ids
    before = lora.snapshot(model, probe)
    _to_device(model)
    taught = kind.learn.material(model, encoded, validation, tokenizer, base, _objective(recipe.training), seed)
    _note(taught.notes, progress)
    for name, lines in taught.tables.items() if ranks.leads() else ():
        write_jsonl(where.path / f"{name}.jsonl", lines)
    if held_out is None:
        held_out = taught.material.validation
        _check_room(model, recipe.training, where, bool(held_out))
    taught = replace(taught, material=replace(taught.material, validation=held_out))
    taught = _paced(taught, recipe.training.curriculum, sides.rows, model, where.difficulties, progress)
    fitted, path = fit_on_path(model, taught, lesson.settings, where.path, progress, seed)
    path["threads"] = lesson.threads.told
    if not ranks.leads():
        return {}, held_out
    model = _undivided(lesson, model, seed) if ranks.divides() else model
    lora.keep_share(model, recipe.adapter.share)
    shutil.rmtree(where.adapter, ignore_errors=True)  # an earlier run may share its files
    lora.save_adapter(model, where.adapter, base.source)
    tokenizer.save_pretrained(str(where.adapter))
    proof = lora.prove_adapter(model, before, where.adapter, probe)
    trainable, total = lora.count_parameters(model)
    report = {
        **asdict(fitted),
        "trainable": trainable,
        "total": total,
        "adapter_proof": proof.to_json(),
        "dtype": str(lesson.dtype).removeprefix("torch."),
        "method": recipe.adapter.method,
        "adapter_holds": "the whole model" if recipe.adapter.method == "full" else "a PEFT adapter",
        "path": path,
        "peak_memory_gib": round(peak.peak_gib(device_type()), 3),
        "rows": {"train": len(encoded.examples), "validation": len(validation.examples) if validation else 0},
        "notes": [*lesson.notes, *taught.notes, *fitted.notes],
    }
    write_json(where.report, report)
    _gate(proof, where)
    return report, held_out


def _note(notes: Iterable[str], progress: Progress) -> None:
    for note in notes:
        progress.say(f"  {note}")


def _check_room(model: Any, training: Training, where: TrainingFolder, validated: bool) -> None:
    """Refuse to begin where the disk has no room for the checkpoints of all seeds; `fit` asks for those of one."""
    from luthier.engine import checkpoints

    seeds = training.seeds or []
    if len(seeds) < 2 or not ranks.leads():
        return
    one = checkpoints.most(training.keep_checkpoints, validated) * checkpoints.predicted_bytes(model)
    folders = [where.path, *(where.path / f"seed-{seed}" for seed in seeds[1:])]
    there = sum(checkpoints.bytes_on_disk(folder) for folder in folders)
    checkpoints.require_space(where.path, len(seeds) * one - there, f"the checkpoints of {len(seeds)} trainings")


def _undivided(lesson: Lesson, model: Any, seed: int) -> Any:
    """Return a whole model with what was trained on a divided one, on the CPU: this process alone can use it."""
    made = _adapted(lesson, seed)
    trained = {name: weight.detach().cpu() for name, weight in model.named_parameters() if weight.requires_grad}
    made.load_state_dict(trained, strict=False)
    return made


def _to_device(model: Any) -> None:
    """Bring the model to where it will be trained, as paths are chosen there; 4-bit weights are there already.

    A model that the processes divide stays: it comes to its device a part at a time.
    """
    import os

    from luthier.models.load import device_type

    device = device_type()
    if next(model.parameters()).device.type != device and not ranks.divides():
        model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device)


def fit_settings(recipe: Recipe, dtype: torch.dtype) -> FitSettings:
    """Return what the engine is told.

    Raises:
        UserError: the whole model is to be trained in float16, in which updates vanish.
    """
    import torch

    from luthier.engine.guards import GuardSettings
    from luthier.engine.settings import FitSettings

    if recipe.adapter.method == "full" and dtype is torch.float16:
        raise UserError("float16 cannot train a whole model: its updates vanish.", "model.dtype", "Use auto.")
    training, stopping, one = recipe.training, recipe.training.early_stopping, recipe.training.guards
    return FitSettings(
        epochs=training.epochs,
        steps=training.steps,
        batch_size=training.batch_size,
        **training.steering(),
        plateau=_plateau(training.schedule),
        curriculum=_pacing(training.curriculum),
        compiled=training.compile,
        max_grad_norm=training.max_grad_norm,
        weight_decay=training.weight_decay,
        patience=stopping.patience if stopping else None,
        threshold=stopping.threshold if stopping else 0.0,
        checkpoint_every=training.checkpoint_every,
        keep_checkpoints=training.keep_checkpoints,
        guards=GuardSettings(one.on_nonfinite, one.on_spike, one.returns, one.factor) if one else None,
        # Gradients of a float16 base underflow unless the loss is scaled, which comes with autocast.
        autocast="float16" if dtype is torch.float16 and torch.cuda.is_available() else None,
    )


def _plateau(schedule: Schedule) -> Plateau | None:
    from luthier.engine.plateau import Plateau

    one = schedule.plateau
    if one is None:
        return None
    return Plateau(one.patience, one.threshold, one.factor, one.cooldown, one.floor, one.smoothing)


def _pacing(given: Curriculum | None) -> Pacing | None:
    from luthier.engine.curriculum import Pacing

    return None if given is None else Pacing(given.by, given.pacing, given.start, given.until)


def _paced(
    taught: Taught, given: Curriculum | None, rows: list[Row], model: Any, kept: Path, progress: Progress
) -> Taught:
    """Return what is taught with the difficulties that the curriculum orders it by, if there is one.

    Measured losses are kept in the file `kept`.
    """
    from luthier.engine import difficulty

    material = taught.material
    if given is None:
        return taught
    if given.by == "length":
        found = difficulty.by_length(material)
    elif given.by == "loss":
        found = difficulty.by_loss(model, material, kept, progress)
    else:
        labels = {row.id: (row.place, row.label(given.by)) for row in rows}
        found = difficulty.from_labels([labels[example.id] for example in material.train], given.by, given.order)
    return replace(taught, material=replace(material, difficulties=found))


def _objective(training: Training) -> Objective:
    from luthier.kinds.base import Objective

    mined = training.hard_negatives
    hard = (mined.count, mined.margin) if mined else None
    return Objective(training.loss, training.margin, training.scale, hard)


def _adapted(lesson: Lesson, seed: int) -> Any:
    """Return the base with a new adapter, on the CPU; 4-bit weights are on their device."""
    from luthier.models import lora

    adapter, dtype = lesson.recipe.adapter, str(lesson.dtype).removeprefix("torch.")
    model = lesson.kind.model.load_base(lesson.base, dtype, adapter.method)
    if adapter.method != "full":
        lora.check_targets(lora.target_report(model, adapter.targets), adapter.allow_unmatched)
    return lora.attach(model, adapter.method, adapter.r, adapter.alpha, adapter.dropout, adapter.targets, seed)


def _sides(folder: RunFolder, kind: Kind, tokenizer: Any, max_length: int) -> Sides:
    """Read and encode both sides, and prove what is trained."""
    from luthier.kinds.remembered import remembered

    reader = remembered(kind)
    (rows, told), held_out = reader.trained_on(read_rows(folder.rows("train"))), read_rows(folder.rows("validation"))
    encoded = reader.encode(rows, tokenizer, max_length)
    validation = reader.encode(held_out, tokenizer, max_length) if held_out else None
    reader.prove_mask(rows, encoded, tokenizer)
    notes = [*told, *encoded.notes, *_told(encoded, "training"), *_told(validation, "validation")]
    return Sides(rows, encoded, validation, notes)


def _told(encoded: Encoded | None, side: str) -> list[str]:
    if encoded is None:
        return []
    told = []
    if encoded.truncated:
        told.append(f"{len(encoded.truncated)} {side} rows lost the end of their answer to data.max_length")
    if encoded.dropped:
        told.append(f"{len(encoded.dropped)} {side} rows were left out, the first because {encoded.dropped[0][1]}")
    return told


def _gate(proof: AdapterProof, where: TrainingFolder) -> None:
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
        str(where.report),
        "Raise training.learning_rate or the number of steps if it did not move; else look at adapter_proof there.",
    )
