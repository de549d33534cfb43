"""The loss of a frozen head, apart from the model: the same numbers and gradients, never where it would be wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from luthier.kinds.base import Encoded, Objective
from luthier.kinds.causal_lm import loss
from luthier.kinds.causal_lm.learn import collate, flatten, loss_sum, material
from luthier.kinds.causal_lm.loss import Head, find_head, frozen_head_loss
from luthier.kinds.causal_lm.rows import Example
from luthier.models.segments import confined, prove
from tests import tiny

EXAMPLES = [
    Example("a", [5, 9, 11, 300, 2], [-100, -100, 11, 300, 2]),
    Example("b", [7, 8, 9, 10, 11, 12, 13, 14, 2, 15], [-100, -100, 9, 10, -100, -100, 13, 14, 2, -100]),
    Example("c", [44, 45], [44, 45]),
]


@pytest.fixture(scope="module", params=tiny.CAUSAL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return adapted(request.param, tmp_path_factory.mktemp(request.param))


def adapted(architecture: str, folder: Path, targets: Any = "all-linear") -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny.make(architecture, folder))
    torch.manual_seed(0)
    return get_peft_model(base, LoraConfig(target_modules=targets, r=2, init_lora_weights=False)).eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pieces", [1, 3, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_it_is_cross_entropy(bias: bool, pieces: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "LOGITS", 50 * pieces)
    torch.manual_seed(0)
    head = nn.Linear(8, 50, bias=bias, dtype=dtype).requires_grad_(False)
    hidden = torch.randn(7, 8, dtype=dtype, requires_grad=True)
    target = torch.randint(50, (7,))
    total = frozen_head_loss(hidden, head, target)
    expected = nn.functional.cross_entropy(head(hidden), target, reduction="sum")
    torch.testing.assert_close(total, expected)
    assert total.dtype == dtype
    (gradient,) = torch.autograd.grad(total * 3, hidden)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected * 3, hidden)[0])
    with torch.no_grad():
        torch.testing.assert_close(frozen_head_loss(hidden, head, target), expected)


def test_half_precision_sums_in_float32() -> None:
    torch.manual_seed(0)
    head = nn.Linear(8, 50).requires_grad_(False)
    hidden = torch.randn(7, 8)
    target = torch.randint(50, (7,))
    exact = frozen_head_loss(hidden, head, target)
    half = frozen_head_loss(hidden.bfloat16(), head.bfloat16(), target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=1e-2, atol=0)


def gradients(model: Any, batches: list[dict[str, torch.Tensor]], head: Head | None) -> tuple[float, int, list[Any]]:
    model.zero_grad()
    total, count = 0.0, 0
    for batch in batches:
        summed, some = loss_sum(model, batch, head)
        summed.backward()
        total, count = total + float(summed), count + some
    return total, count, [one.grad.clone() for one in model.parameters() if one.requires_grad]


def test_every_form_of_a_step_teaches_the_same(model: Any) -> None:
    """One by one through the model's own logits, against padded and flat with the head apart: no cross-talk."""
    total, count, wanted = gradients(model, [collate([one], 3) for one in EXAMPLES], None)
    head = find_head(model)
    assert isinstance(head, Head)
    forms = [[collate(EXAMPLES, 3)]]
    with confined(model):
        if prove(model, EXAMPLES[1].input_ids).holds:
            forms += [[flatten(EXAMPLES)], [flatten(EXAMPLES[:2]), flatten(EXAMPLES[2:])]]
    for form in forms:
        with confined(model):
            if "attention_mask" not in form[0]:
                made = gradients(model, form, head)
        if "attention_mask" in form[0]:
            made = gradients(model, form, head)
        assert made[0] == pytest.approx(total, rel=1e-5) and made[1] == count
        for gradient, one in zip(made[2], wanted, strict=True):
            torch.testing.assert_close(gradient, one, rtol=1e-4, atol=1e-5)


def test_neighbours_of_a_flat_batch_do_not_matter(tmp_path: Path) -> None:
    model = adapted("llama", tmp_path)
    others = [Example("x", [90, 91, 92, 93], [90, 91, 92, 93]), EXAMPLES[0]]
    with confined(model), torch.no_grad():
        alone = loss_sum(model, flatten(EXAMPLES[:1]))[0]
        beside = loss_sum(model, flatten(others))[0] - loss_sum(model, flatten(others[:1]))[0]
    torch.testing.assert_close(beside, alone, rtol=1e-5, atol=1e-4)


def test_the_head_hands_through_only_within(tmp_path: Path) -> None:
    model = adapted("llama", tmp_path)
    head = find_head(model)
    assert isinstance(head, Head) and head.name == "frozen head"
    loss_sum(model, collate(EXAMPLES, 3), head)
    assert model(input_ids=torch.tensor([[5, 6]])).logits.shape == (1, 2, model.config.vocab_size)


def test_a_trained_head_keeps_the_models_own_loss(tmp_path: Path) -> None:
    model = adapted("phi3", tmp_path)
    model.get_base_model().lm_head.requires_grad_(True)
    assert find_head(model) == "its head is trained"
    with_adapter = adapted("phi3", tmp_path, ["q_proj", "qkv_proj", "lm_head"])
    assert find_head(with_adapter) == "its head is not a plain linear layer"


@pytest.mark.parametrize("change", [lambda logits: logits * 0.5, lambda logits: 30 * torch.tanh(logits / 30)])
def test_logits_that_are_changed_after_the_head_are_noticed(change: Any, tmp_path: Path) -> None:
    """Soft-capping hardly shows on the logits of a fresh model; the planted ones are large."""
    model = adapted("llama", tmp_path)
    inner = model.get_base_model()
    own = inner.forward

    def forward(input_ids: Any = None, use_cache: Any = None, logits_to_keep: Any = 0, **told: Any) -> Any:
        made = own(input_ids=input_ids, use_cache=use_cache, logits_to_keep=logits_to_keep, **told)
        made.logits = change(made.logits)
        return made

    inner.forward = forward
    assert find_head(model) == "its logits are changed after the head"


def test_a_real_model_that_caps_its_logits_keeps_its_own_loss() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=60, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    model: Any = Gemma2ForCausalLM(config).requires_grad_(False)
    assert find_head(model) == "its logits are changed after the head"
    with confined(model):
        proof = prove(model, [5, 6, 7])
    assert not proof.holds and "softcap" in proof.told["problem"]


def test_liger_is_called_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of liger-kernel's public class: weight, hidden, target, bias; reduction "sum"."""

    class LigerFusedLinearCrossEntropyLoss:
        def __init__(self, reduction: str) -> None:
            self.reduction = reduction

        def __call__(self, weight: Any, hidden: Any, target: Any, bias: Any) -> torch.Tensor:
            return nn.functional.cross_entropy(
                nn.functional.linear(hidden, weight, bias), target, reduction=self.reduction
            )

    module = ModuleType("liger_kernel.transformers")
    module.LigerFusedLinearCrossEntropyLoss = LigerFusedLinearCrossEntropyLoss  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", module)
    head, hidden, target = nn.Linear(8, 50), torch.randn(7, 8), torch.randint(50, (7,))
    torch.testing.assert_close(loss._liger_loss(hidden, head, target), frozen_head_loss(hidden, head, target))


@pytest.mark.parametrize(("architecture", "batches"), [("llama", "flat"), ("falcon", "padded")])
def test_the_path_is_chosen_and_named(architecture: str, batches: str, tmp_path: Path) -> None:
    model = adapted(architecture, tmp_path)
    words = tiny.tokenizer()
    taught = material(model, Encoded(EXAMPLES), None, words, None, Objective(), 0)  # type: ignore[arg-type]
    assert (taught.path["batches"], taught.path["loss"]) == (batches, "frozen head")
    assert taught.path["segment_proof"]["holds"] is (batches == "flat")
    assert taught.material.padded is (batches == "padded")
    keys = set(taught.material.collate(EXAMPLES))
    assert ("lengths" in keys) is (batches == "flat")
