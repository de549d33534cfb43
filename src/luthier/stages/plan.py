"""plan: what the training will cost and which tokens it trains, before a weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.rows import Row, answer, read_rows, whole_text
from luthier.errors import UserError
from luthier.run.atomic import write_json
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.engine.batches import Measured
    from luthier.kinds.base import MaskProof
    from luthier.kinds.predict import Asked
    from luthier.models.bases import Base
    from luthier.models.machine import Machine
    from luthier.models.targets import TargetMatch
    from luthier.models.walk import Cost
    from luthier.recipe.schema import Recipe, Training

CHARACTERS_PER_TOKEN = 3.5  # of English text, for a base whose tokenizer is not at hand
WORTH_MEASURING = 120.0  # seconds of a training above which a machine is measured, which takes about 20


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
    train, validation = read_rows(folder.rows("train")), read_rows(folder.rows("validation"))
    told = make_plan(recipe, train, validation, say=progress.say)
    write_json(folder.plan_report, told)
    trained, memory = told["parameters"], told["memory_gib"]["total"]
    progress.say(
        f"  {trained['trainable']:,} of {trained['total']:,} parameters, {told['steps']:,} steps, "
        f"about {memory:.1f} GiB and {told['seconds']['estimate']:,.0f} s"
    )


def make_plan(
    recipe: Recipe,
    train: Sequence[Row],
    validation: Sequence[Row] = (),
    calibrate: bool | None = None,
    price: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the plan of a training on these rows, ready for JSON.

    Nothing is loaded but the configuration and, where it is at hand, the tokenizer. Keys: `base`, `parameters`,
    `targets`, `memory_gib`, `steps`, `micro_batch`, `tokens`, `seconds`, `cost`, `mask`, `advice`, `notes`. The
    `examples` of `micro_batch` are None where no whole examples are held at once.

    Args:
        calibrate: measure this machine, also where that was done before, which takes some 20 seconds; None: where it
            was not and the training will take minutes. price: of an hour of this machine, in dollars; None: `cost` is
            None.
        say: is told when the machine is measured.

    Raises:
        UserError: base, adapter or rows do not allow a training. GateError: a target matches nothing, or the mask is
            wrong.
    """
    from luthier.engine.threads import use_cores
    from luthier.kinds.predict import predict
    from luthier.models import estimate
    from luthier.models.bases import resolve
    from luthier.models.load import check_dtype

    use_cores()
    check_dtype(recipe.model.dtype)
    if not train:
        raise UserError("There are no rows to train on.", "1-data/train.jsonl", "See 1-data/rejected.jsonl.")
    base = resolve(recipe.model.base)
    asked, report, rows, held_out = _asked(recipe, base, train, validation)
    _check_steering(recipe.training, train, asked.steps, len(held_out.measured))
    cost = estimate.cost_per_token(asked.config, asked.adapter, asked.dtype, asked.longest)
    machine = _machine(asked, cost, calibrate, say)
    found = predict(asked, machine, cost)
    parts = {**asdict(found.memory), "total": found.memory.total}
    seconds = _told_seconds(recipe, found.seconds, machine)
    advice, warned = _advice(asked, machine, rows, recipe, parts["total"])
    held = found.work.longest
    return {
        "base": _told_base(base, asked),
        "parameters": {**asdict(asked.parameters), "percent": round(asked.parameters.percent, 4)},
        "targets": [_told_target(match) for match in report],
        "memory_gib": {name: round(value, 3) for name, value in parts.items()},
        "steps": asked.steps,
        "micro_batch": {"examples": found.examples, "tokens": held[0] * held[1]},
        "tokens": _told_tokens(rows, recipe.data.max_length),
        "seconds": seconds,
        "cost": _told_cost(seconds["estimate"], price),
        "mask": _told_mask(rows),
        "advice": advice,
        "notes": [*rows.notes, *warned, *_warnings(recipe, asked, base)],
    }


def _asked(
    recipe: Recipe, base: Base, train: Sequence[Row], validation: Sequence[Row]
) -> tuple[Asked, list[TargetMatch], Counted, Counted]:
    """Return the training that is asked for in plain values, its targets, and both sides in tokens."""
    from luthier.engine.batches import count_steps
    from luthier.kinds.predict import Asked
    from luthier.models import estimate
    from luthier.models.load import device_type, load_config, pick_dtype

    config, training = load_config(base), recipe.training
    method, dropout = recipe.adapter.method, recipe.adapter.dropout
    adapter = estimate.AdapterShape(method, recipe.adapter.r, recipe.adapter.targets, dropout)
    parameters, report = estimate.count(config, adapter, recipe.adapter.allow_unmatched)
    if report:
        adapter = replace(adapter, targets=[match.name for match in report if match.matched])
    rows, held_out = count_rows(recipe, base, train, trained=True), count_rows(recipe, base, validation)
    asked = Asked(
        kind=recipe.kind,
        config=config,
        adapter=adapter,
        parameters=parameters,
        dtype=pick_dtype(recipe.model.dtype, method),
        device=device_type(),
        train=rows.measured,
        held_out=held_out.measured,
        batch_size=training.batch_size,
        steps=count_steps(len(rows.measured), training.batch_size, training.epochs, training.steps),
        seed=recipe.seed,
        checkpoint_every=training.checkpoint_every,
        named=recipe.adapter.targets,
    )
    return asked, report, rows, held_out


def _machine(asked: Asked, cost: Cost, calibrate: bool | None, say: Callable[[str], None]) -> Machine:
    """Return what work costs here; measure it where that is asked for, or worth its time and not done yet."""
    from luthier.kinds.calibrate import machine_for
    from luthier.kinds.predict import predict

    if not calibrate:
        machine = machine_for(asked.device, asked.dtype, rough=True)
        known = machine.measured or calibrate is False
        if known or predict(asked, machine, cost).seconds < WORTH_MEASURING:
            return machine
    say("  measuring this machine: some short trainings, about 20 seconds")
    return machine_for(asked.device, asked.dtype, rough=False, again=True)


def count_rows(recipe: Recipe, base: Base, rows: Sequence[Row], trained: bool = False) -> Counted:
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


def _told_base(base: Base, asked: Asked) -> dict[str, Any]:
    return {
        "name": base.name,
        "hub_id": base.hub_id,
        "architecture": asked.config.model_type,
        "licence": base.entry.licence if base.entry else None,
        "dtype": str(asked.dtype).removeprefix("torch."),
        "device": asked.device,
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


def _told_seconds(recipe: Recipe, seconds: float, machine: Machine) -> dict[str, Any]:
    trainings = len(recipe.training.seeds or [recipe.seed])
    how = "measured on this machine by short trainings"
    if not machine.measured:
        how = "measured on another machine, scaled by how fast this one multiplies matrices"
    basis = f"training and validation; {how}"
    if trainings > 1:
        basis += f"; all {trainings} trainings of training.seeds, one after another, each with the steps above"
    return {
        "estimate": round(trainings * seconds, 1),
        "one_training": round(seconds, 1),
        "calibrated": machine.measured,
        "basis": basis,
    }


def _told_cost(seconds: float, price: float | None) -> dict[str, float] | None:
    if price is None:
        return None
    return {"dollars": round(seconds / 3600 * price, 4), "dollars_per_hour": price}


def _advice(
    asked: Asked, machine: Machine, rows: Counted, recipe: Recipe, needed: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return changes of the recipe that would help, and what is the matter."""
    from luthier.kinds.predict import SHARE, changes_that_fit, longer_rows
    from luthier.models.activations import machine_memory

    there, advice, notes = machine_memory(asked.device), [], []
    if there and needed > SHARE * there:
        notes.append(f"training needs about {needed:.1f} GiB, and this machine has {there:.1f} GiB")
        advice += changes_that_fit(asked, machine, there, needed)
    context = getattr(asked.config, "max_position_embeddings", None)
    wanted = longer_rows(rows.lengths, recipe.data.max_length, context)
    if wanted is not None:
        why = f"{rows.truncated + rows.dropped:,} of {len(rows.lengths):,} rows are longer; then under 1 % would be"
        advice.append({"key": "data.max_length", "value": wanted, "memory_gib": None, "why": why})
    return advice, notes


def _told_mask(rows: Counted) -> dict[str, Any]:
    if rows.mask is None:
        return {"available": False, "why": rows.why}
    return {"available": True, **asdict(rows.mask)}


def _how_long(training: Training, rows: int) -> list[str]:
    """Return what the user should know of how long the recipe asks to train."""
    from luthier.engine.batches import note_of_size

    told = note_of_size(rows, training.batch_size)
    if training.steps is not None and "epochs" in training.model_fields_set:
        told.append(f"training.epochs is not read, as training.steps is given: {training.steps:,} steps are taken")
    return told


def _warnings(recipe: Recipe, asked: Asked, base: Base) -> list[str]:
    from luthier.models.load import check_four_bit

    told = _how_long(recipe.training, len(asked.train))
    context = getattr(asked.config, "max_position_embeddings", None)
    if not getattr(asked.config, "alibi", False) and context and recipe.data.max_length > context:
        told.append(f"data.max_length is {recipe.data.max_length}, but {base.name} reads {context} tokens at most")
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
