"""Proof that an adapter did something: it moved, is finite, loads again, changes the output, and merges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

LOGITS = "probe_logits"
PROOF = "proof"


@dataclass(frozen=True)
class AdapterProof:
    """What was proven of an adapter after training.

    Attributes:
        moved: weights differ from before training, and where there is a B matrix one at least is not zero.
        finite: no trained weight is NaN or infinite.
        reloads: the saved files hold these weights exactly and, loaded, give the same output.
        changes_output: the output on the probe differs from the base's.
        merges: each layer, merged, gives the same output within rounding. None: not measured (4-bit, full, not finite).
        details: the figures behind it.
    """

    moved: bool
    finite: bool
    reloads: bool
    changes_output: bool
    merges: bool | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """All of it."""
        return self.moved and self.finite and self.reloads and self.changes_output and self.merges is not False

    def to_json(self) -> dict[str, Any]:
        """Return what run.json keeps."""
        return {"holds": self.holds, **asdict(self)}


@dataclass(frozen=True)
class Merging:
    """How far a merged layer is from the layer with its adapter, the worst of all layers, as shares of the output.

    Attributes:
        error: largest difference. effect: largest difference that the adapter itself makes; a merge that lost the
            adapter would show it as its error. rounding: what rounding explains.
    """

    error: float
    effect: float
    rounding: float


def snapshot(model: PeftModel | PreTrainedModel, probe_ids: Sequence[int] | None = None) -> dict[str, Any]:
    """Remember the state before training: a digest of each trained weight, and for full training the base's output.

    Args:
        model: as `attach` returned it. probe_ids: token ids (one sequence), needed for full training only.
    """
    before: dict[str, Any] = {name: _digest(weight) for name, weight in _trained(model)}
    if probe_ids is not None and not hasattr(model, "disable_adapter"):
        before[LOGITS] = _logits(model, probe_ids)
    return before


def prove_adapter(
    model: PeftModel | PreTrainedModel, before: Mapping[str, Any], folder: Path, probe_ids: Sequence[int]
) -> AdapterProof:
    """Prove the adapter that `folder` holds and `model` carries. The model is left as it was.

    Args:
        model: the trained model. before: what `snapshot` returned before training; or copies of the trained weights.
        folder: where `save_adapter` wrote it. probe_ids: token ids of one sequence, such as a row of the test split.
    """
    import torch

    changed = [name for name, weight in _trained(model) if not _same(weight, before.get(name))]
    weights = dict(_trained(model))
    b_matrices = [weight for name, weight in weights.items() if "lora_B" in name]
    adapted = hasattr(model, "disable_adapter")
    finite = all(bool(torch.isfinite(weight).all()) for weight in weights.values())
    with _answering(model):
        tuned = _logits(model, probe_ids)
        base = _base_logits(model, before, probe_ids)
        reloaded = _reloaded_difference(model, folder, probe_ids, tuned) if adapted else None
        merging = merge_error(model) if adapted and finite else None
    difference = None if base is None else float((tuned - base).abs().max())
    wrong_files = _differing_files(model, folder)
    details = {
        "weights": len(weights),
        "weights_changed": len(changed),
        "max_abs_logit_difference": difference,
        "files_differing": wrong_files,
        "reload_max_abs_logit_difference": reloaded,
        "merge": None if merging is None else asdict(merging),
    }
    return AdapterProof(
        moved=bool(changed) and (not b_matrices or any(bool(b.any()) for b in b_matrices)),
        finite=finite,
        reloads=not wrong_files and (reloaded is None or reloaded <= 1e-5 * max(1.0, float(tuned.abs().max()))),
        changes_output=bool(changed) if difference is None else difference > 0,
        merges=None if merging is None else merging.error <= merging.rounding,
        details=details,
    )


def merge(model: PeftModel | PreTrainedModel) -> PreTrainedModel:
    """Fold the adapter into the base weights and return the plain model; `model` is spent. Full: the model itself."""
    if not hasattr(model, "merge_and_unload"):
        return model  # type: ignore[return-value]
    merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    return merged


def merge_error(model: PeftModel | PreTrainedModel, seed: int = 0) -> Merging | None:
    """Compare each layer with its adapter and the same layer merged, on random inputs (4 rows, inputs).

    Layer by layer; the base weights are put back bit for bit, so that a large model needs room for one layer more and
    for no second model. None where the base is 4-bit.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    generator = torch.Generator().manual_seed(seed)
    error = effect = rounding = 0.0
    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        weight: Any = module.get_base_layer().weight
        inputs: Any = module.in_features
        if not weight.is_floating_point():
            return None
        x = torch.randn(4, inputs, generator=generator).to(weight.device, weight.dtype)
        layer_error, layer_effect = _layer_merge_error(module, weight, x)
        error, effect = max(error, layer_error), max(effect, layer_effect)
        # A rounded weight and a rounded output, and the sum in float32 in between.
        rounding = max(rounding, 3 * torch.finfo(weight.dtype).eps + 16 * torch.finfo(torch.float32).eps)
    return Merging(error, effect, rounding)


def _layer_merge_error(module: Any, weight: nn.Parameter, x: Tensor) -> tuple[float, float]:
    """Return error of merging and effect of the adapter, both as shares of the largest output."""
    import torch

    kept = weight.detach().clone()
    with torch.no_grad():
        apart = module(x).float()
        base = module.get_base_layer()(x).float()
        module.merge(safe_merge=True)
        together = module(x).float()
        module.unmerge()
        weight.copy_(kept)
    size = apart.abs().max().clamp_min(1e-12)
    return float((together - apart).abs().max() / size), float((apart - base).abs().max() / size)


def _trained(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the trained weights: the adapter's, also when it is frozen for answering; without one those that learn."""
    adapted = hasattr(model, "disable_adapter")
    for name, parameter in model.named_parameters():
        if "lora_" in name if adapted else parameter.requires_grad:
            yield name, parameter.detach()


def _digest(weight: Tensor) -> str:
    import torch

    return hashlib.sha256(weight.contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _same(weight: Tensor, before: Any) -> bool:
    if before is None or isinstance(before, str):
        return _digest(weight) == before
    import torch

    return torch.equal(weight, before.to(weight.device))


@contextmanager
def _answering(model: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside the block; the mode is put back after."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _logits(model: Any, probe_ids: Sequence[int]) -> Tensor:
    """Return the logits (length, vocabulary) of one sequence, of an encoder its token vectors, float32 on the CPU."""
    import torch

    device = next(model.parameters()).device
    with _answering(model):
        read = model(input_ids=torch.tensor([list(probe_ids)], device=device))
    logits: Tensor = read.logits if hasattr(read, "logits") else read[0]
    return logits[0].float().cpu()


def _base_logits(model: Any, before: Mapping[str, Any], probe_ids: Sequence[int]) -> Tensor | None:
    if not hasattr(model, "disable_adapter"):
        return before.get(LOGITS)
    with model.disable_adapter():
        return _logits(model, probe_ids)


def _reloaded_difference(model: Any, folder: Path, probe_ids: Sequence[int], tuned: Tensor) -> float | None:
    """Load the files beside the trained adapter through PEFT, answer with them, and take them off again."""
    active = model.active_adapter
    grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    try:
        model.load_adapter(str(folder), adapter_name=PROOF, is_trainable=False)
        model.set_adapter(PROOF)
        return float((_logits(model, probe_ids) - tuned).abs().max())
    finally:
        model.set_adapter(active)
        if PROOF in model.peft_config:
            model.delete_adapter(PROOF)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(grads[name])


def _differing_files(model: Any, folder: Path) -> list[str]:
    """Return the names of weights whose saved values are not those of the model, or that were not saved."""
    import torch
    from safetensors import safe_open

    if hasattr(model, "disable_adapter"):
        from peft import get_peft_model_state_dict

        held = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        held = {name: parameter.detach() for name, parameter in model.named_parameters()}
    missing = set(held)
    wrong = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                if name in held:
                    missing.discard(name)
                    if not torch.equal(file.get_tensor(name), held[name].cpu().to(file.get_tensor(name).dtype)):
                        wrong.append(name)
    return sorted([*wrong, *missing])
