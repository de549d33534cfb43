"""The lean LoRA against PEFT's own forward: the same numbers and gradients, the same dropout, nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from luthier.models.lean import lean_lora
from tests import tiny

ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-13}


def adapted(folder: Path, dtype: torch.dtype = torch.float32, targets: Any = "all-linear", **settings: Any) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder)
    return get_peft_model(base, LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **settings)).to(dtype)


@pytest.fixture(scope="module", params=["llama", "gpt2", "phi3", "falcon"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make("llama", tmp_path_factory.mktemp("llama"))


def learned(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return logits and all gradients, those of the token embeddings too, with dropout drawn from one seed."""
    model.train()
    model.zero_grad()
    embeddings = model.get_base_model().get_input_embeddings().weight
    embeddings.requires_grad_(True)
    ids = torch.arange(4, 40).reshape(3, 12)
    torch.manual_seed(11)
    logits = model(input_ids=ids).logits
    (logits**2).mean().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    embeddings.requires_grad_(False)
    return logits.detach(), gradients


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_it_is_pefts_mathematics(folder: Path, dtype: torch.dtype, dropout: float) -> None:
    """With dropout too: the mask is drawn as PEFT draws it, so that one seed gives one mask."""
    model = adapted(folder, dtype, lora_dropout=dropout, use_rslora=True)
    expected, wanted = learned(model)
    with lean_lora(model) as path:
        assert path.lean > 0 and path.peft == 0
        made, gradients = learned(model)
    close = ROUNDING[dtype]
    torch.testing.assert_close(made, expected, rtol=close, atol=close)
    assert set(gradients) == set(wanted) and len(gradients) > 8
    for name, gradient in gradients.items():
        assert wanted[name].abs().max() > 0
        torch.testing.assert_close(gradient, wanted[name], rtol=close, atol=close * float(wanted[name].abs().max()))


def test_without_dropout_nothing_is_drawn(llama: Path) -> None:
    model = adapted(llama)
    before = torch.get_rng_state()
    with lean_lora(model):
        model(input_ids=torch.tensor([[5, 6]]))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_base_may_be_in_half_precision(llama: Path) -> None:
    model = adapted(llama)
    expected, wanted = learned(model)
    for name, weight in model.named_parameters():
        if "lora_" not in name:
            weight.data = weight.data.to(torch.bfloat16)
    with lean_lora(model):
        made, gradients = learned(model)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))
    for name, gradient in gradients.items():
        if "lora_" in name:
            assert gradient.dtype == torch.float32
            assert torch.cosine_similarity(gradient.flatten(), wanted[name].flatten(), dim=0) > 0.98, name


def test_it_keeps_one_copy_of_its_input(llama: Path) -> None:
    """The input, the thin product and the small factors: nothing of the size of the output."""
    layer = adapted(llama).get_base_model().model.layers[0].mlp.up_proj
    kept: list[int] = []
    x = torch.randn(64, 48, requires_grad=True)
    with (
        lean_lora(layer),
        torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()), lambda one: one),
    ):
        made = layer(x)
    assert made.shape == (64, 96)
    assert sorted(kept) == sorted([64 * 48, 4 * 64, 4 * 48, 96 * 4])


def test_nothing_is_left_behind(llama: Path) -> None:
    model = adapted(llama)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="on purpose"), lean_lora(model):
        assert "forward" in vars(model.get_base_model().model.layers[0].mlp.up_proj)
        raise RuntimeError("on purpose")
    assert all("forward" not in vars(module) for module in model.modules())
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())


def test_a_merged_or_disabled_adapter_is_heeded_within(llama: Path) -> None:
    model = adapted(llama).eval()
    ids = torch.tensor([[5, 6, 7]])
    tuned = model(input_ids=ids).logits
    with lean_lora(model), torch.no_grad():
        with model.disable_adapter():
            plain = model(input_ids=ids).logits
        model.merge_adapter()
        merged = model(input_ids=ids).logits
        model.unmerge_adapter()
    assert not torch.allclose(plain, tuned, atol=1e-3)
    torch.testing.assert_close(merged, tuned, rtol=1e-4, atol=1e-4)


def refusals(model: Any) -> dict[str, int]:
    with lean_lora(model) as path:
        told = path.told
    assert told["lean"] + told["peft"] == sum(told.get("peft_because", {}).values()) + told["lean"]
    return dict(told.get("peft_because", {}))


def test_what_is_not_plain_keeps_pefts_forward(llama: Path) -> None:
    assert refusals(adapted(llama)) == {}
    assert refusals(adapted(llama, use_dora=True)) == {"a variant such as DoRA": 14}
    assert refusals(adapted(llama, lora_bias=True)) == {"a bias in the adapter": 14}
    assert refusals(adapted(llama, targets=["q_proj", "embed_tokens"])) == {"Embedding": 1}
    merged = adapted(llama)
    merged.merge_adapter()
    assert refusals(merged) == {"merged": 14}
    several = adapted(llama)
    several.add_adapter("second", LoraConfig(r=2, target_modules="all-linear"))
    several.base_model.set_adapter(["default", "second"])
    assert refusals(several) == {"2 active adapters": 14}
    trained = adapted(llama)
    trained.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight.requires_grad_(True)
    assert refusals(trained) == {"a trained base weight": 1}
    hooked = adapted(llama)
    hooked.get_base_model().model.layers[0].mlp.up_proj.lora_A["default"].register_forward_hook(lambda *_: None)
    assert refusals(hooked) == {"hooks": 1}


def test_an_unknown_base_layer_is_refused(llama: Path) -> None:
    class Strange(nn.Linear):
        """As a quantised layer is: a linear layer by inheritance, and something else inside."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 2

    model = adapted(llama)
    module = model.get_base_model().model.layers[0].mlp.up_proj
    strange = Strange(48, 96, bias=False)
    strange.requires_grad_(False)
    module.base_layer = strange
    assert refusals(model) == {"its base is a Strange": 1}


def test_variants_train_through_pefts_forward(llama: Path) -> None:
    model = adapted(llama, use_dora=True)
    expected, wanted = learned(model)
    with lean_lora(model):
        made, gradients = learned(model)
    assert torch.equal(made, expected)
    assert all(torch.equal(gradient, wanted[name]) for name, gradient in gradients.items())
