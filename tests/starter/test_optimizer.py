"""The schedule by hand, Muon's orthogonalisation, and which weights it gets."""

import pytest
import torch

from luthier.starter.model import Decoder, Shape
from luthier.starter.optimizer import build_optimizers, learning_rate_factor, orthogonalise, set_rates


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (10, 1.0), (15, 1.0), (16, 0.8), (18, 0.4), (19, 0.2)],
)
def test_schedule_by_hand(step: int, expected: float) -> None:
    assert learning_rate_factor(step, steps=20, warmup=4, decay=5) == pytest.approx(expected)


def test_schedule_is_flat_while_the_length_is_open() -> None:
    assert [learning_rate_factor(step, steps=0, warmup=2, decay=0) for step in (0, 1, 500)] == [0.5, 1.0, 1.0]


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    result = orthogonalise(torch.randn(shape))
    values = torch.linalg.svdvals(result)
    assert result.dtype == torch.float32
    assert values.min() > 0.3 and values.max() < 1.3


def test_orthogonalisation_equals_torch_muon() -> None:
    """The step of ``torch.optim.Muon``, up to its bfloat16."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.zeros(12, 8)) for _ in range(2))
    from luthier.starter.optimizer import Muon

    gradient = torch.randn(12, 8)
    for optimizer, weight in (
        (Muon([ours], lr=0.1, weight_decay=0.0), ours),
        (torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0), theirs),
    ):
        weight.grad = gradient.clone()
        optimizer.step()
    assert torch.allclose(ours, theirs, atol=5e-3)


def test_muon_gets_the_hidden_matrices_only() -> None:
    network = Decoder(Shape(vocabulary=300, hidden=32, layers=2, heads=4, kv_heads=2, feed_forward=64, context=64))
    muon, adamw = build_optimizers(network, 0.02, 0.004, 0.01)
    assert len(muon.param_groups[0]["params"]) == 2 * 7
    assert {tuple(weight.shape) for weight in adamw.param_groups[0]["params"]} == {(300, 32), (32,)}
    set_rates([muon, adamw], 0.5)
    assert muon.param_groups[0]["lr"] == pytest.approx(0.01)
    set_rates([muon, adamw], 1.0)
    assert adamw.param_groups[0]["lr"] == pytest.approx(0.004)
