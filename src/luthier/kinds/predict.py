"""What a training will take and hold, and which changes would make it fit, for every kind of model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from luthier.errors import GateError, UserError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from luthier.engine.batches import Measured, Micro
    from luthier.models.estimate import Cost, Load, Memory, Parameters, Work
    from luthier.models.machine import Machine
    from luthier.models.targets import TargetMatch, Targets
    from luthier.models.walk import AdapterShape

WALKED_STEPS = 512  # of a longer training, these many steps stand for all
SHARE = 0.9  # of the memory that a plan may fill before it warns
SHORTEST = 32  # tokens below which a smaller data.max_length is no advice
TRUNCATED = 0.01  # share of the rows that may lose their end before it is worth a word


@dataclass(frozen=True)
class Asked:
    """One training.

    Attributes:
        kind: its name. config: of the base. adapter: whose targets all match. parameters: of both. dtype: of the base.
        device: "cpu", "mps" or "cuda". train, held_out: what each row costs the trainer.
        batch_size, steps, seed, checkpoint_every: as the trainer is told. named: the targets as the recipe names them.
    """

    kind: str
    config: PretrainedConfig
    adapter: AdapterShape
    parameters: Parameters
    dtype: torch.dtype
    device: str
    train: Sequence[Measured]
    held_out: Sequence[Measured]
    batch_size: int
    steps: int
    seed: int
    checkpoint_every: int
    named: Targets = "all-linear"

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(8, *(one.tokens for one in self.train))


@dataclass(frozen=True)
class Predicted:
    """What is predicted of a training.

    Attributes:
        work: what it asks of the machine. memory: its peak in GiB, by part. seconds: that it takes.
        examples: how many are held at once, where tokens are most; None where parts of examples are.
    """

    work: Work
    memory: Memory
    seconds: float
    examples: int | None


def predict(asked: Asked, machine: Machine, cost: Cost | None = None) -> Predicted:
    """Return what a training takes and holds on a machine. `cost`: of a token, where it was walked before."""
    from luthier.models import estimate

    config, method = asked.config, asked.adapter.method
    cost = cost or estimate.cost_per_token(config, asked.adapter, asked.dtype, asked.longest)
    work, examples = _walked(asked)
    memory = estimate.memory(config, asked.parameters, method, asked.dtype, cost, work, machine)
    seconds = machine.seconds.times(estimate.work(config, asked.parameters, method, cost, work))
    return Predicted(work, memory, seconds, examples)


def work_of(asked: Asked) -> Work:
    """Return what a training asks of a machine, from the micro-batches that the trainer will make."""
    return _walked(asked)[0]


def _walked(asked: Asked) -> tuple[Work, int | None]:
    """Return the work of a training, and how many examples are held at once where tokens are most."""
    from luthier.engine.batches import count_evaluations, rows_of_step
    from luthier.engine.settings import FitSettings
    from luthier.kinds import kind_named
    from luthier.models.activations import token_budget
    from luthier.models.estimate import Load, Work

    learn, rows = kind_named(asked.kind).learn, asked.train
    padded = learn.pads(asked.config)
    micro = FitSettings(token_budget=token_budget(asked.config, asked.device)).micro(asked.device, padded)
    walked = min(asked.steps, WALKED_STEPS)
    longest, loads, examples = (0, 0, 0), [], None
    for step in range(1, walked + 1):
        chosen = [rows[row] for row in rows_of_step(step, len(rows), asked.batch_size, asked.seed)]
        size, load = learn.reading(asked.config, asked.device, chosen, micro)
        if size[0] * size[1] > longest[0] * longest[1]:
            longest, examples = size, _held(chosen, micro, size, load)
        loads.append(load)
    evaluations = count_evaluations(asked.steps, asked.checkpoint_every)
    read = learn.reading(asked.config, asked.device, asked.held_out, micro)[1] if asked.held_out else Load()
    work = Work(
        longest,
        steps=asked.steps,
        saves=evaluations + 1,  # one before the first step
        learned=_sum(loads, asked.steps / walked),
        read=_sum([read], evaluations),
    )
    return work, examples


def _held(rows: Sequence[Measured], micro: Micro, size: tuple[int, int, int], load: Load) -> int | None:
    """Return how many rows of a step are held at once, where tokens are most; None where parts of rows are.

    Args:
        rows: of the step. micro: how it is cut. size, load: how it is read, in which one flat sequence is one example.
    """
    from luthier.engine.batches import micro_batches

    if micro[2]:
        return size[0]
    if load.times > 1:  # gradients are cached: texts are read by length, whatever rows they are of
        return None
    if size[1] == sum(row.tokens for row in rows):
        return len(rows)
    parts = micro_batches(range(len(rows)), rows, *micro)
    return len(max(parts, key=lambda part: sum(rows[row].tokens for row in part)))


def _sum(loads: Sequence[Load], times: float) -> Load:
    from luthier.models.estimate import Load

    names = ("micro_batches", "tokens", "trained", "squares")
    summed = {name: round(sum(getattr(one, name) for one in loads) * times) for name in names}
    return Load(**summed, times=max(one.times for one in loads))


def shortened(rows: Sequence[Measured], limit: int) -> list[Measured]:
    """Return rows truncated to `limit` tokens."""
    from luthier.engine.batches import Measured

    return [Measured(min(row.tokens, limit), min(row.weight, limit)) for row in rows]


def changes_that_fit(asked: Asked, machine: Machine, there: float, now: float) -> list[dict[str, Any]]:
    """Return changes of one key each with which a training fits into memory, each with the memory it is predicted.

    Micro-batches hold memory down whatever training.batch_size is, so it is not among them.

    Args:
        there: GiB of the machine. now: GiB that the training needs as it stands.
    """
    room = SHARE * there
    found = [*_shorter_rows(asked, machine, room), *_other_adapters(asked, machine, room)]
    found += _smaller_bases(asked, machine, room)
    return [one for one in found if one["memory_gib"] < now]


def _advice(key: str, value: Any, memory: float, why: str) -> dict[str, Any]:
    return {"key": key, "value": value, "memory_gib": round(memory, 2), "why": why}


def _shorter_rows(asked: Asked, machine: Machine, room: float) -> list[dict[str, Any]]:
    limit = 2 ** (asked.longest - 1).bit_length() // 2
    while limit >= SHORTEST:
        shorter = replace(asked, train=shortened(asked.train, limit), held_out=shortened(asked.held_out, limit))
        needed = predict(shorter, machine).memory.total
        if needed <= room:
            cut = sum(row.tokens > limit for row in asked.train)
            why = f"{cut:,} of {len(asked.train):,} rows would lose their end"
            return [_advice("data.max_length", limit, needed, why)]
        limit //= 2
    return []


def _other_adapters(asked: Asked, machine: Machine, room: float) -> list[dict[str, Any]]:
    """Try lora instead of full, and a base in 4 bit where there is a device for it."""
    whys = {"lora": "the base stays as it is", "qlora": "the base's weights take 4 bits each"}
    methods = [*(["lora"] if asked.adapter.method == "full" else []), *(["qlora"] if asked.device == "cuda" else [])]
    found = []
    for method in methods:
        other = _with(asked, replace(asked.adapter, method=method), asked.config)
        if method == asked.adapter.method or other is None:
            continue
        needed = predict(other, machine).memory.total
        if needed <= room:
            found.append(_advice("adapter.method", method, needed, whys[method]))
    return found


def _smaller_bases(asked: Asked, machine: Machine, room: float) -> list[dict[str, Any]]:
    """Try the bases of the catalogue for this kind, the largest first."""
    from luthier.models.bases import resolve
    from luthier.models.catalogue import entries
    from luthier.models.load import load_config

    smaller = [one for one in entries() if one.kind == asked.kind and one.parameters < asked.parameters.total]
    for entry in sorted(smaller, key=lambda one: -one.parameters):
        other = _with(asked, asked.adapter, load_config(resolve(entry.name)))
        if other is None:
            continue
        needed = predict(other, machine).memory.total
        if needed <= room:
            targets = "" if other.named == asked.named else f", with adapter.targets: {other.named}"
            why = f"{entry.parameters / 1e6:,.0f} M parameters{targets}"
            return [_advice("model.base", entry.name, needed, why)]
    return []


def _with(asked: Asked, adapter: AdapterShape, config: PretrainedConfig) -> Asked | None:
    """Return the training with another adapter or base, on all linear layers where it lacks the targets named."""
    for named in (asked.named, "all-linear"):
        found = _counted(config, replace(adapter, targets=named))
        if found is not None:
            parameters, report = found
            matched = replace(adapter, targets=[match.name for match in report] or named)
            return replace(asked, config=config, adapter=matched, parameters=parameters, named=named)
    return None


def _counted(config: PretrainedConfig, adapter: AdapterShape) -> tuple[Parameters, list[TargetMatch]] | None:
    from luthier.models import estimate

    try:
        return estimate.count(config, adapter)
    except (GateError, UserError):
        return None


def longer_rows(lengths: Sequence[int], limit: int, context: int | None) -> int | None:
    """Return the smallest data.max_length that would truncate under 1 % of the rows; None where that holds already.

    Args:
        lengths: tokens of each whole row. limit: data.max_length. context: tokens that the base reads; None: unknown.
    """
    allowed = math.ceil(TRUNCATED * len(lengths)) - 1  # rows that may be longer: fewer than 1 %
    if sum(length > limit for length in lengths) <= max(allowed, 0):
        return None
    wanted = sorted(lengths, reverse=True)[max(allowed, 0)]
    wanted = min(wanted, context) if context else wanted
    return wanted if wanted > limit else None
