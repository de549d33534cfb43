"""Lean norms and gates: the same numbers and gradients, only where they fit, nothing left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from luthier.errors import UserError
from luthier.models import blocks
from luthier.models.blocks import gate, lean_blocks, norm
from tests import tiny


def load(architecture: str, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny.make(architecture, folder)).requires_grad_(False)


def test_a_norm_is_a_norm() -> None:
    torch.manual_seed(0)
    weight = torch.rand(9, dtype=torch.float64)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return weight * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    x = torch.randn(2, 3, 9, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(norm(x, weight, 1e-5), plain(x))
    assert torch.autograd.gradcheck(lambda one: norm(one, weight, 1e-5), (x,))


def test_a_gate_is_a_gate() -> None:
    torch.manual_seed(0)
    x, up = (torch.randn(2, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    torch.testing.assert_close(gate(x, up), nn.functional.silu(x) * up)
    assert torch.autograd.gradcheck(gate, (x, up))


EXPECTED = {"llama": (5, 2), "qwen2": (5, 2), "mistral": (5, 2), "phi3": (5, 0), "falcon": (0, 0), "gpt2": (0, 0)}


@pytest.mark.parametrize("architecture", tiny.CAUSAL)
def test_models_learn_the_same(architecture: str, tmp_path: Path) -> None:
    model = load(architecture, tmp_path)
    embeddings = model.get_input_embeddings().weight.requires_grad_(True)
    ids = torch.arange(4, 40).reshape(3, 12)

    def learned() -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(input_ids=ids).logits
        (gradient,) = torch.autograd.grad(logits.square().mean(), embeddings)
        return logits.detach(), gradient

    expected, wanted = learned()
    with lean_blocks(model) as made:
        assert (made.norms, made.gated) == EXPECTED[architecture]
        assert made.told == {"norms": made.norms, "gated": made.gated, "compiled": False}
        logits, gradient = learned()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
    assert all("forward" not in vars(module) for module in model.modules())


def test_what_only_looks_like_one_is_left_alone(tmp_path: Path) -> None:
    """Gemma's norm adds one to its weight, and its gate is a GELU; layer norms have a bias; a trained weight learns."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=60, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).requires_grad_(False)
    for module in model.modules():
        if type(module).__name__ == "Gemma2RMSNorm":
            module.weight.data.normal_()
    with lean_blocks(model) as made:
        assert (made.norms, made.gated) == (0, 0)
    trained = load("llama", tmp_path).requires_grad_(True)
    with lean_blocks(trained) as made:
        assert (made.norms, made.gated) == (0, 2)
    half = load("llama", tmp_path).to(torch.bfloat16)
    with lean_blocks(half) as made:
        assert (made.norms, made.gated) == (0, 0)


def test_it_is_undone_after_an_error(tmp_path: Path) -> None:
    model = load("llama", tmp_path)
    with pytest.raises(RuntimeError, match="on purpose"), lean_blocks(model):
        raise RuntimeError("on purpose")
    assert all("forward" not in vars(module) for module in model.modules())


def test_compiling_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "which", lambda name: None)
    with pytest.raises(UserError, match="no C\\+\\+ compiler") as told, lean_blocks(load("llama", tmp_path), True):
        pass
    assert told.value.place == "training.compile"


def test_compiled_parts_are_the_same_mathematics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed to torch.compile, without waiting for it."""
    handed: list[dict[str, Any]] = []

    def compile_(function: Any, **settings: Any) -> Any:
        handed.append(settings)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    model, ids = load("llama", tmp_path), torch.tensor([[5, 6, 7]])
    expected = model(input_ids=ids).logits
    with lean_blocks(model, compiled=True) as made:
        assert made.compiled and (made.norms, made.gated) == (5, 2)
        torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    assert handed == [{"dynamic": True}] * 2
