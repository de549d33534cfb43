"""The lean network is Llama, to rounding, and attention stays within documents."""

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.starter.model import IGNORE, Decoder, Shape

SHAPE = Shape(vocabulary=300, hidden=32, layers=2, heads=4, kv_heads=2, feed_forward=64, context=64)


@pytest.fixture
def network() -> Decoder:
    torch.manual_seed(0)
    network = Decoder(SHAPE)
    for weight in network.parameters():  # away from the initial zeros and ones, so that every weight counts
        torch.nn.init.normal_(weight, float(weight.dim() == 1), 0.3)
    return network


def test_equals_llama_in_transformers(network: Decoder) -> None:
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE.llama_config())).eval()
    missing, unexpected = llama.load_state_dict(network.state_dict(), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    llama.tie_weights()
    tokens = torch.randint(0, 300, (3, 64))
    with torch.no_grad():
        difference = (network.logits(tokens) - llama(tokens).logits).abs().max()
    assert difference < 1e-4


def test_chunked_loss_has_the_value_and_gradient_of_cross_entropy(network: Decoder) -> None:
    tokens, targets = torch.randint(0, 300, (2, 2, 64))
    targets[:, ::5] = IGNORE
    network.loss(tokens, targets, chunk=24).backward()
    ours = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    network.zero_grad()
    plain = functional.cross_entropy(
        network.logits(tokens).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    plain.backward()
    assert network.loss(tokens, targets).item() == pytest.approx(plain.item(), rel=1e-5)
    for name, weight in network.named_parameters():
        assert torch.allclose(ours[name], weight.grad, rtol=1e-3, atol=1e-3 * weight.grad.abs().max().item()), name


def test_documents_do_not_see_each_other(network: Decoder) -> None:
    first, second = torch.randint(0, 300, (1, 20)), torch.randint(0, 300, (1, 30))
    joined = torch.cat([first, second], 1)
    numbers = torch.tensor([[0] * 20 + [1] * 30])
    with torch.no_grad():
        together = network.logits(joined, numbers)[:, 20:]
        # Rotary positions are relative, so a document answers alike wherever in the row it stands.
        alone = network.logits(second)
        leaking = network.logits(joined)[:, 20:]
    assert torch.allclose(together, alone, atol=1e-3)
    assert not torch.allclose(leaking, alone, atol=1e-1)


def test_bfloat16_is_close_to_float32(network: Decoder) -> None:
    for weight in network.parameters():
        torch.nn.init.normal_(weight, 0.0, 0.1)
    tokens, targets = torch.randint(0, 300, (2, 1, 16))
    exact = network.loss(tokens, targets).item()
    assert network.loss(tokens, targets, dtype=torch.bfloat16).item() == pytest.approx(exact, rel=2e-2)


def test_initialisation_is_the_seed_and_begins_as_identity() -> None:
    one, same, other = Decoder(SHAPE, 1), Decoder(SHAPE, 1), Decoder(SHAPE, 2)
    weight = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(one.state_dict()[weight], same.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])
    assert one.state_dict()["model.layers.0.mlp.down_proj.weight"].abs().max() == 0
