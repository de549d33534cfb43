"""The fastest path on which a training is the same mathematics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.engine.settings import FitSettings
from luthier.engine.sharding import divide
from luthier.engine.trainer import Fitted, Material, fit
from luthier.kinds.base import Taught
from luthier.models.activations import Checkpointing, decide, token_budget
from luthier.models.blocks import lean_blocks
from luthier.models.estimate import AdapterShape, Parameters
from luthier.models.lean import lean_lora
from luthier.models.load import device_type
from luthier.models.lora import count_parameters
from luthier.run import ranks
from luthier.run.progress import Progress


def fit_on_path(
    model: Any, taught: Taught, settings: FitSettings, folder: Path, progress: Progress | None, seed: int
) -> tuple[Fitted, dict[str, Any]]:
    """Train on the fastest path that is the same mathematics; return how it ended, and which path that was.

    Args:
        model: with its adapter, on its device; where the processes divide it, whole on the CPU, and divided for good.
        taught: of the kind. The others: see `engine.trainer.fit`.
    """
    device = device_type()
    if not settings.token_budget:
        settings = replace(settings, token_budget=token_budget(model.config, device))
    checkpointing = _checkpointing(model, taught.material, settings)
    ranks.join()
    if any(ranks.gather(checkpointing.on)):  # on all or on none: what is recomputed is gathered again
        checkpointing = replace(checkpointing, on=True)
    if checkpointing.on:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    with lean_lora(model) as lora_path, lean_blocks(model, settings.compiled) as blocks:
        division = {"divided": divide(model, taught.material, device)} if ranks.divides() else {}
        fitted = fit(model, taught.material, settings, folder, progress, seed)
    if checkpointing.on:
        model.gradient_checkpointing_disable()
    told = division | {"lora": lora_path.told, "blocks": blocks.told, "activation_checkpointing": checkpointing.told}
    return fitted, {**taught.path, **told, "token_budget": settings.micro(device)[0]}


def _checkpointing(model: Any, material: Material, settings: FitSettings) -> Checkpointing:
    """Decide whether activations are recomputed, from the largest micro-batch there can be."""
    if material.whole_step is not None:  # it holds its memory down itself
        return Checkpointing(False)
    device = device_type()
    budget = settings.micro(device)[0]
    longest = sorted((material.measure(example) for example in material.train), key=lambda one: -one.tokens)
    tokens = trained = 0
    for example in longest[: settings.batch_size]:
        if tokens and tokens + example.tokens > budget:
            break
        tokens, trained = tokens + example.tokens, trained + example.weight
    adapter = next(iter(getattr(model, "peft_config", {}).values()), None)
    targets = sorted(adapter.target_modules) if adapter else "all-linear"
    shape = AdapterShape("lora" if adapter else "full", adapter.r if adapter else 1, targets)
    trainable, total = count_parameters(model)
    divided = ranks.size() if ranks.divides() else 1
    parameters = Parameters(trainable, trainable + (total - trainable) // divided)
    return decide(model.config, shape, parameters, model.dtype, (1, tokens, trained), device)
