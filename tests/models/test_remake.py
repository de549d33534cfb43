"""What is made again in the backward pass instead of being kept: the same bits, less memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.models import lean
from luthier.models.blocks import lean_blocks
from luthier.models.lean import lean_lora
from luthier.models.remake import remade
from tests import tiny
from tests.models.test_lean import adapted


def learned(model: Any, backwards: int = 1) -> tuple[dict[str, torch.Tensor], int]:
    """Return all gradients, and the bytes that autograd kept for them besides the weights."""
    kept = {weight.untyped_storage().data_ptr(): 0 for weight in model.parameters()}
    held = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)  # a storage that is let go could come again for another tensor
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes())
        return tensor

    model.train()
    model.zero_grad()
    torch.manual_seed(11)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = (model(input_ids=torch.arange(4, 40).reshape(3, 12)).logits ** 2).mean()
    for left in reversed(range(backwards)):
        loss.backward(retain_graph=left > 0)
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}, sum(
        kept.values()
    )


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "falcon", "phi3"])
def test_the_same_bits_with_less_kept(
    architecture: str, dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted(tiny.make(architecture, tmp_path), lora_dropout=dropout)
    with lean_lora(model), lean_blocks(model):
        gradients, kept = learned(model)
        monkeypatch.setattr(lean, "how_to_remake", lambda x: None)
        wanted, most = learned(model)
    assert len(gradients) == len(wanted) > 8
    for name, gradient in gradients.items():
        assert torch.equal(gradient, wanted[name]), name
    assert kept < (0.95 if dropout or architecture == "phi3" else 0.85) * most  # Phi-3's gate is no module of its own


def test_a_second_backward_makes_it_once_more(tmp_path: Path) -> None:
    model = adapted(tiny.make("llama", tmp_path))
    with lean_lora(model), lean_blocks(model):
        once, _ = learned(model)
        twice, _ = learned(model, backwards=2)
    for name, gradient in twice.items():
        torch.testing.assert_close(gradient, 2 * once[name])


def test_it_is_made_once_for_all_layers_that_ask() -> None:
    calls: list[int] = []

    def make(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return x.exp()

    x = torch.randn(3, requires_grad=True)
    note = lean.how_to_remake(remade(make(x), make, x))
    assert note is not None
    takers = [note.take(), note.take()]
    for _ in range(2):
        assert all(torch.equal(taker.again(), x.exp()) for taker in takers)
    assert len(calls) == 3


def test_without_a_backward_pass_nothing_is_noted() -> None:
    assert lean.how_to_remake(remade(torch.zeros(2), torch.exp, torch.zeros(2))) is None
