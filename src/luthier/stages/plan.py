"""plan: what the training will cost and which tokens it trains, before a weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.rows import Row, answer, from_json, whole_text
from luthier.errors import UserError
from luthier.run.atomic import read_jsonl, write_json
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from luthier.engine.batches import Measured, Micro
    from luthier.kinds.base import MaskProof
    from luthier.models.bases import Base
    from luthier.models.estimate import Cost, Work
    from luthier.models.targets import TargetMatch
    from luthier.recipe.schema import Recipe, Training

CHARACTERS_PER_TOKEN = 3.5  # of English text, for a base whose tokenizer is not at hand
WALKED_STEPS = 512  # of a longer training, these many steps stand for all
MACHINE_SHARE = 0.9  # of the memory that a plan may fill before it warns


@dataclass(frozen=True)
class Counted:
    """The rows in tokens.

    Attributes:
        lengths: of each whole row, before truncation. measured: what each costs the trainer, after truncation.
        truncated, dropped: how many rows lose their end, or are left out. estimated: counted from characters.
        mask: the proof of what is trained, None when there is none. why: what stands in its way then.
        notes: what was done to the tokenizer.
    """

    lengths: list[int]
    measured: list[Measured]
    truncated: int
    dropped: int
    estimated: bool
    mask: MaskProof | None = None
    why: str = ""
    notes: tuple[str, ...] = ()


def inputs(recipe: Recipe) -> list[Path]:
    """Return the files from outside the run that decide the outcome: those of a local base."""
    from luthier.models.bases import local_files, resolve

    return local_files(resolve(recipe.model.base))


def plan(recipe: Recipe, folder: RunFolder, progress: Progress) -> None:
    """Plan the training on 1-data/ and write 2-plan/plan.json, see `make_plan`."""
    sides = [[from_json(line) for line in read_jsonl(folder.rows(split))] for split in ("train", "validation")]
    told = make_plan(recipe, *sides)
    write_json(folder.plan_report, told)
    trained, memory = told["parameters"], told["memory_gib"]["total"]
    progress.say(
        f"  {trained['trainable']:,} of {trained['total']:,} parameters, {told['steps']:,} steps, "
        f"about {memory:.1f} GiB and {told['seconds']['estimate']:,.0f} s"
    )


def make_plan(recipe: Recipe, train: Sequence[Row], validation: Sequence[Row] = ()) -> dict[str, Any]:
    """Return the plan of a training on these rows, ready for JSON.

    Nothing is loaded but the configuration and, where it is at hand, the tokenizer. Keys: `base`, `parameters`,
    `targets`, `memory_gib`, `steps`, `micro_batch`, `tokens`, `seconds`, `mask`, `notes`.

    Raises:
        UserError: base, adapter or rows do not allow a training. GateError: a target matches nothing, or the mask is
            wrong.
    """
    from luthier.engine.settings import FitSettings
    from luthier.engine.threads import use_cores
    from luthier.kinds import kind_named
    from luthier.models import estimate
    from luthier.models.activations import token_budget
    from luthier.models.bases import resolve
    from luthier.models.load import check_dtype, device_type, load_config, pick_dtype

    use_cores()
    check_dtype(recipe.model.dtype)
    if not train:
        raise UserError("There are no rows to train on.", "1-data/train.jsonl", "See 1-data/rejected.jsonl.")
    base = resolve(recipe.model.base)
    config, device = load_config(base), device_type()
    dtype = pick_dtype(recipe.model.dtype, recipe.adapter.method)
    adapter = estimate.AdapterShape(recipe.adapter.method, recipe.adapter.r, recipe.adapter.targets)
    parameters, report = estimate.count(config, adapter, recipe.adapter.allow_unmatched)
    rows, held_out = _count(recipe, base, train, trained=True), _count(recipe, base, validation)
    padded = kind_named(recipe.kind).learn.pads(config)
    micro = FitSettings(token_budget=token_budget(config, device, padded)).micro(device, padded)
    steps, work = _work(recipe, rows, held_out, micro)
    _check_steering(recipe.training, train, steps, len(held_out.measured))
    matched = estimate.AdapterShape(adapter.method, adapter.r, [match.name for match in report if match.matched])
    length = max(8, *(example.tokens for example in rows.measured))
    cost = estimate.cost_per_token(config, matched if report else adapter, dtype, length)
    memory = estimate.memory(config, parameters, adapter.method, dtype, cost, work, device)
    parts = {name: round(value, 3) for name, value in (*asdict(memory).items(), ("total", memory.total))}
    return {
        "base": _told_base(base, config, dtype, device),
        "parameters": {**asdict(parameters), "percent": round(parameters.percent, 4)},
        "targets": [_told_target(match) for match in report],
        "memory_gib": parts,
        "steps": steps,
        "micro_batch": {"examples": work.longest[0], "tokens": work.longest[0] * work.longest[1]},
        "tokens": _told_tokens(rows, recipe.data.max_length),
        "seconds": _told_seconds(recipe, config, cost, work, (device, dtype)),
        "mask": _told_mask(rows),
        "notes": [*rows.notes, *_warnings(recipe, config, base, parts["total"], device)],
    }


def _count(recipe: Recipe, base: Base, rows: Sequence[Row], trained: bool = False) -> Counted:
    """Count tokens with the base's tokenizer and prove the mask; without the tokenizer estimate from characters."""
    from luthier.kinds import kind_named
    from luthier.kinds.remembered import remembered
    from luthier.models.load import tokenizer_at_hand

    kind, limit = kind_named(recipe.kind), recipe.data.max_length
    rows, told = kind.rows.trained_on(rows) if trained else (rows, [])
    why = "" if tokenizer_at_hand(base) else f"The tokenizer of {base.name} is not on this machine."
    if why or not rows:
        return _estimated(rows, limit, why)
    tokenizer, notes = kind.model.load_tokenizer(base)
    encoded = remembered(kind).encode(rows, tokenizer, limit)
    return Counted(
        lengths=encoded.lengths,
        measured=[kind.learn.measure(example) for example in encoded.examples],
        truncated=len(encoded.truncated),
        dropped=len(encoded.dropped),
        estimated=False,
        mask=kind.rows.prove_mask(rows, encoded, tokenizer) if trained else None,
        notes=(*notes, *told, *encoded.notes),
    )


def _estimated(rows: Sequence[Row], limit: int, why: str) -> Counted:
    from luthier.engine.batches import Measured

    lengths = [max(1, round(len(whole_text(row)) / CHARACTERS_PER_TOKEN)) for row in rows]
    trained = [max(1, round(len(answer(row)) / CHARACTERS_PER_TOKEN)) for row in rows]
    measured = [Measured(min(n, limit), min(t, limit)) for n, t in zip(lengths, trained, strict=True)]
    return Counted(lengths, measured, sum(length > limit for length in lengths), 0, bool(why), why=why)


def _work(recipe: Recipe, rows: Counted, held_out: Counted, micro: Micro) -> tuple[int, Work]:
    """Return the optimizer steps and what they ask of the machine, from the micro-batches the trainer will make."""
    from luthier.engine.batches import count_steps, micro_batches, rows_of_step
    from luthier.models.estimate import Work

    training = recipe.training
    total = count_steps(len(rows.measured), training.batch_size, training.epochs, training.steps)
    walked = min(total, WALKED_STEPS)
    longest, padded, trained, count = (0, 0, 0), 0, 0, 0
    for step in range(1, walked + 1):
        chosen = rows_of_step(step, len(rows.measured), training.batch_size, recipe.seed)
        for part in micro_batches(chosen, rows.measured, *micro):
            size = _size(part, rows.measured, micro[2])
            longest = max(longest, size, key=lambda one: one[0] * one[1])
            padded, trained, count = padded + size[0] * size[1], trained + size[2], count + 1
    parts = micro_batches(range(len(held_out.measured)), held_out.measured, *micro) if held_out.measured else []
    read = sum(math.prod(_size(part, held_out.measured, micro[2])[:2]) for part in parts)
    share = total / walked
    evaluations = math.ceil(total / training.checkpoint_every)
    return total, Work(longest, round(padded * share), round(trained * share), round(count * share), read * evaluations)


def _size(part: Sequence[int], measured: Sequence[Measured], padded: bool) -> tuple[int, int, int]:
    """Return examples, tokens of each and trained tokens of a micro-batch; a flat one is one long example."""
    trained = sum(measured[row].weight for row in part)
    if padded:
        return len(part), measured[part[0]].tokens, trained
    return 1, sum(measured[row].tokens for row in part), trained


def _check_steering(training: Training, train: Sequence[Row], steps: int, held_out: int) -> None:
    """Refuse what the training would refuse once the number of its steps is known.

    Raises:
        UserError: the schedule cannot be walked in so many steps, reductions have no validation loss to go by, or rows
            have no value that the curriculum could order them by.
    """
    from luthier.engine import difficulty
    from luthier.engine.plateau import require_validation
    from luthier.engine.settings import FitSettings

    FitSettings(**training.steering()).schedule_over(steps)
    if training.schedule.plateau is not None:
        require_validation(held_out)
    curriculum = training.curriculum
    if curriculum is not None and curriculum.by not in difficulty.MEASURED:
        labels = [(row.place, row.label(curriculum.by)) for row in train]
        difficulty.from_labels(labels, curriculum.by, curriculum.order)


def _told_base(base: Base, config: PretrainedConfig, dtype: torch.dtype, device: str) -> dict[str, Any]:
    return {
        "name": base.name,
        "hub_id": base.hub_id,
        "architecture": config.model_type,
        "licence": base.entry.licence if base.entry else None,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
    }


def _told_target(match: TargetMatch) -> dict[str, Any]:
    told = {"name": match.name, "matched": match.matched, "modules": match.modules, "paths": match.paths}
    return told if match.matched else {**told, "would_match": match.would_match}


def _told_tokens(rows: Counted, limit: int) -> dict[str, Any]:
    ordered = sorted(rows.lengths)
    return {
        "rows": len(ordered),
        "median": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)) - 1)],
        "max": ordered[-1],
        "max_length": limit,
        "truncated": rows.truncated,
        "dropped": rows.dropped,
        "estimated": rows.estimated,
    }


def _told_seconds(
    recipe: Recipe, config: PretrainedConfig, cost: Cost, work: Work, machine: tuple[str, torch.dtype]
) -> dict[str, Any]:
    from luthier.models import estimate
    from luthier.models.rate import matmul_rate

    device, dtype = machine
    rate = matmul_rate(device, dtype)
    share = estimate.EFFICIENCY[device]
    seconds = estimate.seconds(config, recipe.adapter.method, cost, work, rate, device)
    return {
        "estimate": round(seconds, 1),
        "basis": f"training and validation; {share:.0%} of {rate / 1e9:,.0f} GFLOP/s, measured on this machine",
    }


def _told_mask(rows: Counted) -> dict[str, Any]:
    if rows.mask is None:
        return {"available": False, "why": rows.why}
    return {"available": True, **asdict(rows.mask)}


def _warnings(recipe: Recipe, config: PretrainedConfig, base: Base, needed: float, device: str) -> list[str]:
    from luthier.models.activations import machine_memory
    from luthier.models.load import check_four_bit

    told = []
    context = getattr(config, "max_position_embeddings", None)
    if not getattr(config, "alibi", False) and context and recipe.data.max_length > context:
        told.append(f"data.max_length is {recipe.data.max_length}, but {base.name} reads {context} tokens at most")
    there = machine_memory(device)
    if there and needed > MACHINE_SHARE * there:
        told.append(f"training needs about {needed:.1f} GiB, and this machine has {there:.1f} GiB")
    if recipe.adapter.method == "qlora":
        try:
            check_four_bit()
        except UserError as error:
            told.append(error.problem)
    if base.entry is not None and base.entry.kind != recipe.kind:
        told.append(f"{base.name} is a base for kind: {base.entry.kind}, and the recipe has kind: {recipe.kind}")
    if base.entry is not None and base.entry.notes:
        told.append(base.entry.notes)
    return told
