"""Every causal architecture: train a little, prove, save, reload, merge, and load with plain PEFT and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.errors import GateError, UserError
from luthier.models import lora
from luthier.models.load import empty_model, load_causal, load_config, load_tokenizer, resolve
from luthier.models.targets import features, matched_modules
from tests.tiny import CAUSAL, make

TEXT = "What is overfitting? A model that fits the training data and fails on new data overfits."
Case = tuple[Any, Any, list[int], Path, dict[str, Any]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    return {name: make(name, root / name) for name in CAUSAL}


def trained(folder: Path, to: Path, method: str = "lora", steps: int = 5, dropout: float = 0.0) -> Case:
    """Train a tiny base for a few steps; return base, model, probe, adapter folder, and losses with the snapshot."""
    base = resolve(str(folder))
    ids = load_tokenizer(base)(TEXT)["input_ids"]
    model = lora.attach(load_causal(base, "float32", method), method, 4, 8, dropout, "all-linear", 1)
    before = lora.snapshot(model, ids)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
    x, losses = torch.tensor([ids]), []
    model.train()
    for _ in range(steps):
        loss = model(input_ids=x, labels=x).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    lora.save_adapter(model, to)
    return base, model, ids, to, {"before": before, "losses": losses}


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits


@pytest.mark.parametrize("architecture", CAUSAL)
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_train_prove_save_reload_merge(architecture: str, method: str, bases: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base, model, ids, folder, told = trained(bases[architecture], tmp_path / "adapter", method)
    assert told["losses"][-1] < told["losses"][0] - 0.1
    proof = lora.prove_adapter(model, told["before"], folder, ids)
    assert proof.holds and proof.merges, proof
    tuned = logits(model, ids)
    assert torch.equal(logits(lora.load_adapter(load_causal(base, "float32"), folder), ids), tuned)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.path), str(folder))
    assert torch.equal(logits(plain, ids), tuned)
    merged = lora.merge(model)
    merged.save_pretrained(tmp_path / "merged")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(again, ids), tuned, atol=1e-5, rtol=1e-5)
    assert (tuned - logits(load_causal(base, "float32"), ids)).abs().max() > 0.01


def test_rslora_scales_by_the_root_of_r(bases: dict[str, Path]) -> None:
    from peft.tuners.lora import LoraLayer

    def scaling(method: str) -> float:
        model: Any = lora.attach(load_causal(resolve(str(bases["llama"])), "float32"), method, 4, 8, 0.0, ["q_proj"], 0)
        return next(module.scaling["default"] for module in model.modules() if isinstance(module, LoraLayer))

    assert (scaling("lora"), scaling("rslora")) == (2.0, 4.0)


def test_full_training_saves_the_whole_model(bases: dict[str, Path], tmp_path: Path) -> None:
    base, model, ids, folder, told = trained(bases["llama"], tmp_path / "full", "full")
    proof = lora.prove_adapter(model, told["before"], folder, ids)
    assert proof.holds and proof.merges is None
    assert lora.count_parameters(model)[0] == lora.count_parameters(model)[1]
    again = lora.load_adapter(load_causal(base, "float32"), folder)
    assert torch.equal(logits(again, ids), logits(model, ids))


def test_the_adapter_is_the_same_for_a_seed_and_leaves_the_random_state(bases: dict[str, Path]) -> None:
    def first(seed: int) -> torch.Tensor:
        model = lora.attach(load_causal(resolve(str(bases["gpt2"])), "float32"), "lora", 4, 8, 0.0, "all-linear", seed)
        return next(p for name, p in model.named_parameters() if "lora_A" in name).detach()

    state = torch.random.get_rng_state()
    assert torch.equal(first(3), first(3)) and not torch.equal(first(3), first(4))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_counts_on_the_meta_device_are_those_of_real_weights(bases: dict[str, Path]) -> None:
    for folder in bases.values():
        base = resolve(str(folder))
        for model in (empty_model(load_config(base)), load_causal(base, "float32")):
            names = [match.name for match in lora.target_report(model, "all-linear")]
            expected = sum(4 * sum(features(m)) for name in names for m in matched_modules(model, name).values())
            assert lora.count_parameters(lora.attach(model, "lora", 4, 8, 0, "all-linear", 0))[0] == expected


# What must not pass.


def test_an_untrained_adapter_is_no_proof(bases: dict[str, Path], tmp_path: Path) -> None:
    _, model, ids, folder, told = trained(bases["llama"], tmp_path / "a", steps=0)
    proof = lora.prove_adapter(model, told["before"], folder, ids)
    assert not proof.moved and not proof.changes_output and not proof.holds and proof.reloads


def test_other_files_than_the_model_are_found(bases: dict[str, Path], tmp_path: Path) -> None:
    _, model, ids, folder, told = trained(bases["llama"], tmp_path / "a")
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_B" in name).add_(0.5)
    proof = lora.prove_adapter(model, told["before"], folder, ids)
    assert not proof.reloads and len(proof.details["files_differing"]) == 1
    assert list(model.peft_config) == ["default"]  # the proof took its own adapter off again


def test_nan_weights_are_found(bases: dict[str, Path], tmp_path: Path) -> None:
    _, model, ids, folder, told = trained(bases["llama"], tmp_path / "a")
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "lora_A" in name)[0, 0] = float("nan")
    assert not lora.prove_adapter(model, told["before"], folder, ids).finite


def test_a_merge_that_loses_the_adapter_is_found(
    bases: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora.layer import Linear

    _, model, ids, folder, told = trained(bases["llama"], tmp_path / "a")
    weights = {name: p.clone() for name, p in model.named_parameters()}
    assert lora.prove_adapter(model, told["before"], folder, ids).merges
    assert all(torch.equal(weights[name], p) for name, p in model.named_parameters())  # put back bit for bit
    monkeypatch.setattr(
        Linear, "get_delta_weight", lambda self, adapter: torch.zeros_like(self.get_base_layer().weight)
    )
    assert lora.prove_adapter(model, told["before"], folder, ids).merges is False


@pytest.mark.parametrize("other", ["gpt2", "llama-other-weights", "llama-wider"])
def test_an_adapter_of_another_base_is_refused(other: str, bases: dict[str, Path], tmp_path: Path) -> None:
    _, _, _, folder, _ = trained(bases["llama"], tmp_path / "a")
    base = bases["gpt2"] if other == "gpt2" else make("llama", tmp_path / "other", seed=1)
    model = load_causal(resolve(str(base)), "float32")
    if other == "llama-wider":
        from transformers import LlamaConfig, LlamaForCausalLM

        model = LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "intermediate_size": 128}))
    with pytest.raises(UserError, match="trained on another base"):
        lora.load_adapter(model, folder)


def test_a_damaged_adapter_is_told(bases: dict[str, Path], tmp_path: Path) -> None:
    base, _, _, folder, _ = trained(bases["llama"], tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        lora.load_adapter(load_causal(base, "float32"), folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"no adapter_model.safetensors"):
        lora.load_adapter(load_causal(base, "float32"), folder)
    with pytest.raises(UserError, match="no adapter here"):
        lora.load_adapter(load_causal(base, "float32"), tmp_path / "nowhere")


def test_targets_that_are_blocks_name_the_layers_inside(bases: dict[str, Path]) -> None:
    model = load_causal(resolve(str(bases["llama"])), "float32")
    (report,) = lora.target_report(model, ["mlp"])
    assert report.matched == 0 and report.would_match == ["gate_proj", "up_proj", "down_proj"]
    with pytest.raises(GateError, match="mlp matches nothing"):
        lora.check_targets([report])
    with pytest.raises(UserError, match="nothing to train"):
        lora.attach(model, "lora", 4, 8, 0.0, ["mlp"], 0)


@pytest.mark.parametrize("method", ["lroa", "qlora"])
def test_methods_that_cannot_work(method: str, bases: dict[str, Path]) -> None:
    base = resolve(str(bases["llama"]))
    with pytest.raises(UserError, match=r"Unknown adapter method|CUDA device"):
        lora.attach(load_causal(base, "float32"), method, 4, 8, 0.0, "all-linear", 0)
    if method == "qlora" and not torch.cuda.is_available():
        with pytest.raises(UserError, match="qlora needs a CUDA device"):
            load_causal(base, "auto", "qlora")


def test_the_base_is_recorded(bases: dict[str, Path], tmp_path: Path) -> None:
    _, model, _, folder, _ = trained(bases["llama"], tmp_path / "a")
    lora.save_adapter(model, folder, "owner/name")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/name"
    assert json.loads((folder / "luthier.json").read_text())["base"] == "owner/name"
