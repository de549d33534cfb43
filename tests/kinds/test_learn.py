"""The loss is transformers' own, summed over the trained tokens, on every causal architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.kinds.causal_lm.learn import collate, loss_sum
from luthier.kinds.causal_lm.rows import Example
from tests import tiny

EXAMPLES = [
    Example("a", [5, 9, 11, 300, 2], [-100, -100, 11, 300, 2]),
    Example("b", [7, 8, 9, 10, 11, 12, 13, 14, 2, 15], [-100, -100, 9, 10, -100, -100, 13, 14, 2, -100]),
    Example("c", [44, 45], [44, 45]),
]
COUNT = 3 + 5 + 1  # nothing predicts the first token


@pytest.fixture(scope="module", params=tiny.CAUSAL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    folder = tiny.make(request.param, tmp_path_factory.mktemp(request.param))
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def adapted(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False)).eval()


def own_loss(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(**batch, use_cache=False).loss * COUNT


def agree(model: Any, batch: dict[str, torch.Tensor], weight: torch.Tensor) -> None:
    total, count = loss_sum(model, batch)
    expected = own_loss(model, batch)
    assert count == COUNT
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(total, weight)
    (expected_gradient,) = torch.autograd.grad(expected, weight)
    assert expected_gradient.abs().max() > 0
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


def test_plain_models(model: Any) -> None:
    agree(model, collate(EXAMPLES, pad_id=3), model.get_input_embeddings().weight)


def test_adapted_models(model: Any) -> None:
    with_adapter = adapted(model)
    weight = next(weight for name, weight in with_adapter.named_parameters() if "lora_B" in name)
    agree(with_adapter, collate(EXAMPLES, pad_id=3), weight)
    with_adapter.unload()
    model.requires_grad_(True)


def test_the_sum_of_a_batch_is_the_sum_of_its_examples(model: Any) -> None:
    with torch.no_grad():
        together, count = loss_sum(model, collate(EXAMPLES, pad_id=3))
        alone = [loss_sum(model, collate([example], pad_id=0)) for example in EXAMPLES]
    assert count == sum(some for _, some in alone)
    torch.testing.assert_close(together, sum(total for total, _ in alone), rtol=1e-5, atol=1e-5)


def test_only_the_supervised_positions_pay_for_the_head(model: Any) -> None:
    rows: list[int] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[:-1].numel()))
    loss_sum(model, collate(EXAMPLES, pad_id=3))
    handle.remove()
    assert rows == [COUNT]


def test_a_model_that_cannot_choose_positions_gives_the_same(model: Any) -> None:
    class Whole(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, use_cache: bool) -> Any:
            return model(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)

    batch = collate(EXAMPLES, pad_id=3)
    total, count = loss_sum(Whole(), batch)
    assert count == COUNT
    torch.testing.assert_close(total, loss_sum(model, batch)[0], rtol=1e-5, atol=1e-5)


def test_nothing_trained_is_zero(model: Any) -> None:
    batch = collate([Example("a", [5, 6], [-100, -100])], pad_id=3)
    total, count = loss_sum(model, batch)
    assert (float(total.detach()), count) == (0.0, 0)
    total.backward()  # a micro-batch without trained tokens must not stop a step


def test_wrapped_by_data_parallel(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    class Wrapper(torch.nn.Module):
        """The shape of DistributedDataParallel: the model is `.module`, and calls go through the wrapper."""

        def __init__(self, module: Any) -> None:
            super().__init__()
            self.module, self.calls = module, 0

        def forward(self, **inputs: Any) -> Any:
            self.calls += 1
            return self.module(**inputs)

    inner = AutoModelForCausalLM.from_pretrained(tiny.make("llama", tmp_path))
    wrapped, batch = Wrapper(inner), collate(EXAMPLES, pad_id=3)
    torch.testing.assert_close(loss_sum(wrapped, batch)[0], loss_sum(inner, batch)[0])
    assert wrapped.calls == 1


def test_collate_pads_on_the_right() -> None:
    batch = collate(EXAMPLES, pad_id=3)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels"), ((3, 10), torch.int64)
    )
    assert batch["input_ids"][0].tolist() == [5, 9, 11, 300, 2, 3, 3, 3, 3, 3]
    assert batch["attention_mask"][0].tolist() == [1] * 5 + [0] * 5
    assert batch["labels"][0].tolist() == [-100, -100, 11, 300, 2] + [-100] * 5
