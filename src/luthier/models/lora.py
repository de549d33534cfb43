"""Adapters through PEFT: attach, count, save, load. Their proofs stand in `proof`, their targets in `targets`."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from luthier.errors import UserError, did_you_mean
from luthier.models.proof import AdapterProof, merge, merge_error, prove_adapter, snapshot
from luthier.models.targets import (
    TargetMatch,
    Targets,
    check_rank,
    check_targets,
    features,
    linear_modules,
    target_report,
)
from luthier.run.atomic import read_json, write_json

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

__all__ = [
    "AdapterProof",
    "TargetMatch",
    "attach",
    "check_rank",
    "check_targets",
    "count_parameters",
    "keep_share",
    "load_adapter",
    "merge",
    "merge_error",
    "prove_adapter",
    "save_adapter",
    "snapshot",
    "target_report",
]

METHODS = ("lora", "rslora", "dora", "qlora", "full")
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
ORIGIN = "luthier.json"
SAMPLE = 64


def attach(
    model: PreTrainedModel, method: str, r: int, alpha: float, dropout: float, targets: Targets, seed: int
) -> PeftModel | PreTrainedModel:
    """Put an adapter on `model`, in place; the rest of it is frozen. Works on the meta device.

    Args:
        model: the base. method: lora (Hu et al. 2021), rslora (Kalajdzievski 2023: scale alpha / sqrt r), dora (Liu et
            al. 2024), qlora (the base is 4-bit already), full (every weight is trained, there is no adapter).
        r: rank. alpha: the update is multiplied by alpha / r. dropout: on the adapter's input.
        targets: "all-linear" or module names; names that match nothing are ignored here, see `check_targets`.
        seed: of the adapter's initial weights.

    Returns:
        The PEFT model; for full the model itself.

    Raises:
        UserError: the method is unknown, no target matches, r is above what a layer can have, or a target is an
            embedding; for qlora also when the base is not in 4 bit.
    """
    if method not in METHODS:
        raise UserError(f"Unknown adapter method {method!r}.", "adapter.method", did_you_mean(method, METHODS))
    if method == "full":
        model.requires_grad_(True)
        return model
    if method == "qlora":
        _ready_four_bit(model)
    report = target_report(model, targets)
    check_targets(report, allow_unmatched=True)
    names = [match.name for match in report if match.matched]
    check_rank(model, names, r)
    return _attach(model, method, names, {"r": r, "lora_alpha": alpha, "lora_dropout": dropout}, seed)


def count_parameters(model: PeftModel | PreTrainedModel) -> tuple[int, int]:
    """Return (trainable, total) parameters, the adapter's in both. Tied weights count once; 4-bit ones as unpacked."""
    trainable = total = 0
    for parameter in model.parameters():
        count = parameter.numel()
        if type(parameter).__name__ == "Params4bit":
            count *= 2  # two 4-bit values to a byte
        total += count
        trainable += count if parameter.requires_grad else 0
    return trainable, total


def keep_share(model: PeftModel | PreTrainedModel, share: float) -> None:
    """Keep a share of what a LoRA adapter has learned, in place: its B matrices are multiplied by it.

    The weights lie between the base's and the tuned ones, where a model often does better on data unlike its training
    data than either (WiSE-FT: Wortsman et al. 2022, arXiv:2109.01903).

    Args:
        share: above 0, up to 1, which changes nothing.
    """
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters() if share != 1 else ():
            if "lora_B" in name:
                parameter.mul_(share)


def save_adapter(model: PeftModel | PreTrainedModel, folder: Path, base_name: str | None = None) -> None:
    """Write the adapter as a plain PEFT folder; after full training the whole model as a plain transformers folder.

    Beside it, `luthier.json` keeps the base's name and a digest of its weights, so that it is never put on another.

    Args:
        model: as `attach` returned it. folder: is created.
        base_name: what the adapter's configuration names as its base (folder or Hub id). Default: where it came from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not _is_adapted(model):
        model.save_pretrained(str(folder))
        return
    config: Any = model.peft_config[model.active_adapter]
    if base_name is not None:
        config.base_model_name_or_path = base_name
    model.save_pretrained(str(folder), save_embedding_layers=False)
    named = config.base_model_name_or_path
    write_json(folder / ORIGIN, {"base": named, "base_digest": base_digest(model)})


def load_adapter(base_model: PreTrainedModel, folder: Path) -> PeftModel | PreTrainedModel:
    """Put a saved adapter on its base, frozen, ready to answer. A folder of full training is loaded as it stands.

    Args:
        base_model: the base, no adapter on it. folder: what `save_adapter`, or PEFT, wrote.

    Raises:
        UserError: there is no adapter, it is a pickle, or it was trained on another base.
    """
    if not (folder / CONFIG).is_file():
        return _load_full(base_model, folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"The adapter has no {WEIGHTS}.", str(folder), "Save it again as safetensors with PEFT.")
    _check_fits(base_model, folder)
    from peft import PeftModel

    with _no_future_warnings():
        model = PeftModel.from_pretrained(base_model, str(folder), is_trainable=False)
    return model.eval()


def base_digest(model: PeftModel | PreTrainedModel) -> str | None:
    """Return a digest of the base's weights: the first 64 values of each, as bfloat16, so that the precision of loading
    does not matter. None where loading changes the values: float16, 4-bit, or no weights at all (meta device).
    """
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted((_plain(name), parameter) for name, parameter in model.named_parameters()):
        if "lora_" in name:
            continue
        if parameter.is_meta or parameter.dtype not in (torch.float32, torch.bfloat16):
            return None
        values = parameter.detach().reshape(-1)[:SAMPLE].to("cpu", torch.bfloat16)
        digest.update(name.encode())
        digest.update(values.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def _plain(name: str) -> str:
    """Name of a base weight without the wrappers that PEFT adds."""
    return name.removeprefix("base_model.model.").replace(".base_layer", "")


def _attach(model: PreTrainedModel, method: str, names: list[str], settings: dict[str, Any], seed: int) -> PeftModel:
    import torch
    from peft import LoraConfig, TaskType, get_peft_model
    from torch import nn

    from luthier.models.load import is_causal

    config = LoraConfig(
        **settings,
        target_modules=names,
        bias="none",
        use_rslora=method == "rslora",
        use_dora=method == "dora",
        fan_in_fan_out=not any(isinstance(module, nn.Linear) for module in linear_modules(model).values()),
        task_type=TaskType.CAUSAL_LM if is_causal(model.config) else TaskType.FEATURE_EXTRACTION,
    )
    with torch.random.fork_rng(), _no_future_warnings():
        torch.manual_seed(seed)
        adapted: PeftModel = get_peft_model(model, config)
    return adapted


@contextmanager
def _no_future_warnings() -> Iterator[None]:
    """PEFT reads a name that transformers 5 deprecates; the user can do nothing about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _ready_four_bit(model: PreTrainedModel) -> None:
    from peft import prepare_model_for_kbit_training

    if next(model.parameters()).is_meta:
        return
    if not getattr(model, "is_loaded_in_4bit", False):
        from luthier.models.load import check_four_bit

        check_four_bit()
        raise UserError(
            "qlora needs its base in 4 bit.", "adapter.method", "Load it with load_causal(…, method='qlora')."
        )
    prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]


def _is_adapted(model: PeftModel | PreTrainedModel) -> TypeGuard[PeftModel]:
    from peft import PeftModel

    return isinstance(model, PeftModel)


def _load_full(base_model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    if not (folder / "config.json").is_file():
        raise UserError(f"There is no adapter here: no {CONFIG}.", str(folder), "Run: luthier train RECIPE")
    from luthier.models.bases import Base, check_folder
    from luthier.models.load import is_causal, load_causal
    from luthier.models.sentence import load_encoder

    dtype = str(base_model.dtype).removeprefix("torch.")
    load = load_causal if is_causal(base_model.config) else load_encoder
    model = load(Base(folder.name, check_folder(folder), None, None), dtype, "full")
    model.eval()  # type: ignore[no-untyped-call]
    return model


def _check_fits(base_model: PreTrainedModel, folder: Path) -> None:
    """Compare the adapter's module names and shapes, and the recorded digest, with the base."""
    from safetensors import SafetensorError, safe_open

    config = read_json(folder / CONFIG)
    named = config.get("base_model_name_or_path") or "another base"
    modules = dict(base_model.named_modules())
    other = UserError(
        f"This adapter was trained on another base ({named}).",
        str(folder),
        "Load that base, or train again on this one.",
    )
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"The adapter's weights cannot be read: {error}", str(folder), "Train again.") from error
    for key, shape in shapes.items():
        path, dot, part = key.removeprefix("base_model.model.").partition(".lora_")
        if not dot:
            continue
        module = modules.get(path)
        if module is None or not _fits(part, shape, features(module)):
            raise other
    recorded = read_json(folder / ORIGIN).get("base_digest") if (folder / ORIGIN).is_file() else None
    if recorded is not None and base_digest(base_model) not in (None, recorded):
        raise other


def _fits(part: str, shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    inputs, outputs = size
    if part.startswith("A"):
        return shape[1] == inputs
    if part.startswith("B"):
        return shape[0] == outputs
    return not part.startswith("magnitude") or shape[0] == outputs
