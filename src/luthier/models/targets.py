"""Which modules an adapter reaches: matched by name, counted by type, and what would have matched."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from luthier.errors import GateError, UserError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

PLACE = "adapter.targets"
Targets = Literal["all-linear"] | Sequence[str]


@dataclass(frozen=True)
class TargetMatch:
    """What one requested target reaches.

    Attributes:
        name: as requested; for all-linear each module name that it stands for.
        matched: how many modules it reaches.
        modules: their types and how many of each, as {"Linear": 24}.
        would_match: when it matches nothing, the names that would.
        paths: where they stand, layers folded, as {"model.layers.*.self_attn.q_proj": 24}.
    """

    name: str
    matched: int
    modules: dict[str, int]
    would_match: list[str] = field(default_factory=list)
    paths: dict[str, int] = field(default_factory=dict)


def linear_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Return the modules that an adapter can go on, by full name: linear layers (Conv1D too), not the output head."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


def features(module: nn.Module) -> tuple[int, int]:
    """Return (inputs, outputs) of a linear layer; transformers' Conv1D keeps its weight the other way round."""
    from torch import nn

    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    inputs, outputs = module.weight.shape  # type: ignore[misc]
    return int(inputs), int(outputs)


def target_names(model: PreTrainedModel, targets: Targets) -> list[str]:
    """Return the module names that `targets` stands for; all-linear is every linear layer but the output head."""
    if isinstance(targets, str):
        return _leaves(linear_modules(model))
    return list(dict.fromkeys(targets))


def matched_modules(model: PreTrainedModel, name: str) -> dict[str, nn.Module]:
    """Return the linear layers that a target reaches, as PEFT matches it: the full name, or its end after a dot."""
    return {path: module for path, module in _reachable(model).items() if _is_match(path, name)}


def target_report(model: PreTrainedModel, targets: Targets) -> list[TargetMatch]:
    """Report what each target reaches. Works on the meta device.

    Raises:
        UserError: a target is an embedding, or an output head that shares its weights with one.
    """
    names = target_names(model, targets)
    _refuse_embeddings(model, names)
    found = {name: matched_modules(model, name) for name in names}
    reached = {path for modules in found.values() for path in modules}
    free = _leaves(path for path in linear_modules(model) if path not in reached)
    return [
        TargetMatch(
            name,
            len(modules),
            dict(Counter(type(module).__name__ for module in modules.values())),
            [] if modules else _inside(model, name) or free or _leaves(linear_modules(model)),
            dict(Counter(re.sub(r"\.\d+\.", ".*.", path) for path in modules)),
        )
        for name, modules in found.items()
    ]


def check_targets(report: Sequence[TargetMatch], allow_unmatched: bool = False) -> None:
    """Stop when a target matches nothing.

    Raises:
        GateError: a target matches nothing and `allow_unmatched` is False.
        UserError: no target matches anything, so that there is nothing to train.
    """
    nothing = [match for match in report if not match.matched]
    if not nothing:
        return
    names = ", ".join(match.name for match in nothing)
    would = ", ".join(dict.fromkeys(name for match in nothing for name in match.would_match))
    matches = "matches" if len(nothing) == 1 else "match"
    if len(nothing) == len(report):
        raise _kind_of_error(allow_unmatched)(
            f"{names} {matches} nothing in this base; {would} would. There is nothing to train.",
            PLACE,
            "Name those, or all-linear.",
        )
    if not allow_unmatched:
        raise GateError(
            f"{names} {matches} nothing in this base; {would} would.",
            PLACE,
            "Name those, or all-linear. To go on with the targets that match, set adapter.allow_unmatched: true.",
        )


def check_rank(model: PreTrainedModel, names: Iterable[str], r: int) -> None:
    """Stop when `r` is above the rank that a layer can have.

    Raises:
        UserError: a target layer has fewer inputs or outputs than `r`.
    """
    for name in names:
        for path, module in matched_modules(model, name).items():
            inputs, outputs = features(module)
            if r > min(inputs, outputs):
                raise UserError(
                    f"r {r} is larger than the layer {path} ({inputs} inputs, {outputs} outputs).",
                    "adapter.r",
                    f"Use r {min(inputs, outputs)} or less, or leave {name} out of adapter.targets.",
                )


def _kind_of_error(allow_unmatched: bool) -> type[UserError]:
    return UserError if allow_unmatched else GateError


def _reachable(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Linear layers, and the output head: it is never meant by all-linear but may be named."""
    found = linear_modules(model)
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    if head is not None:
        found |= {name: module for name, module in model.named_modules() if module is head}
    return found


def _refuse_embeddings(model: PreTrainedModel, names: Sequence[str]) -> None:
    from torch import nn

    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    inputs = model.get_input_embeddings()
    tied = head is not None and head.weight is inputs.weight
    linear = ", ".join(_leaves(linear_modules(model)))
    for path, module in model.named_modules():
        name = next((name for name in names if _is_match(path, name)), None)
        if name is None:
            continue
        if isinstance(module, nn.Embedding):
            raise UserError(
                f"The target {name} is an embedding; adapters go on linear layers.", PLACE, f"Name: {linear}."
            )
        if module is head and tied:
            raise UserError(
                f"The target {name} is the output head, which shares its weights with the input embedding.",
                PLACE,
                f"Merging would change both. Name: {linear}.",
            )


def _is_match(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _inside(model: PreTrainedModel, name: str) -> list[str]:
    """Names of the linear layers inside a block that was named instead of them (`mlp`)."""
    return _leaves(path for path in linear_modules(model) if f".{name}." in f".{path}")


def _leaves(paths: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in paths))
