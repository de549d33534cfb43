"""Flat micro-batches: what a segment gives does not depend on its neighbours, and what breaks that is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from luthier.models import segments
from luthier.models.segments import attend, confined, flat_inputs, likely, prove
from tests import tiny

FLAT = ("llama", "qwen2", "phi3", "mistral", "gpt2")


@pytest.fixture(scope="module", params=tiny.CAUSAL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(request.param, tmp_path_factory.mktemp(request.param))


def load(architecture: str, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny.make(architecture, folder)).eval()


def test_the_proof_tells_who_can_and_who_cannot(model: Any) -> None:
    with confined(model):
        proof = prove(model, [5, 9, 11, 300, 2])
    assert proof.holds is (model.config.model_type in FLAT)
    assert likely(model.config) is proof.holds
    assert proof.told["holds"] is proof.holds
    if proof.holds:
        assert proof.mixed > 100 * proof.error


def broken(attention: Callable[..., Any]) -> Callable[..., Any]:
    """The same attention, but over the whole flat sequence."""
    return lambda *args, **told: attention(*args, **{**told, "segments": ()})


def test_a_mask_that_lets_segments_meet_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "attend", broken(attend))
    with confined(model := load("llama", tmp_path)):
        proof = prove(model, [5, 9, 11, 300, 2])
    assert not proof.holds
    assert proof.error > 100 * proof.allowed


def test_positions_that_run_on_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def running_on(lengths: torch.Tensor, implementation: str) -> dict[str, Any]:
        inputs = flat_inputs(lengths, implementation)
        return {**inputs, "position_ids": torch.arange(int(lengths.sum()))[None]}

    monkeypatch.setattr(segments, "flat_inputs", running_on)
    with confined(model := load("gpt2", tmp_path)):
        assert not prove(model, [5, 9, 11, 300, 2]).holds


def test_a_model_whose_logits_say_nothing_is_not_trusted(tmp_path: Path) -> None:
    model = load("llama", tmp_path)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()  # tokens never meet: kept apart or not, the logits are the same
    with confined(model):
        proof = prove(model, [5, 9, 11, 300, 2])
    assert not proof.holds


def test_what_attention_by_segments_does_not_do_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def capped(*args: Any, **told: Any) -> Any:
        return attend(*args, **{**told, "softcap": 30.0})

    monkeypatch.setattr(segments, "attend", capped)
    with confined(model := load("llama", tmp_path)):
        proof = prove(model, [5, 9, 11, 300, 2])
    assert not proof.holds
    assert "softcap" in proof.told["problem"]


def test_the_implementation_is_given_back(model: Any) -> None:
    before = model.config._attn_implementation
    with pytest.raises(RuntimeError, match="on purpose"), confined(model):
        raise RuntimeError("on purpose")
    assert model.config._attn_implementation == before


def attention(lengths: list[int], dtype: torch.dtype, window: int | None = None, heads: int = 2, **told: Any) -> Any:
    torch.manual_seed(0)
    tokens = sum(lengths)
    query = torch.randn(1, 4, tokens, 8, dtype=dtype, requires_grad=True)
    key, value = (torch.randn(1, heads, tokens, 8, dtype=dtype, requires_grad=True) for _ in range(2))
    module = torch.nn.Module()
    made, _ = attend(module, query, key, value, None, segments=lengths, sliding_window=window, **told)
    made.square().sum().backward()
    return made.detach(), [one.grad for one in (query, key, value)], (query, key, value)


def by_hand(query: Any, key: Any, value: Any, lengths: list[int], window: int | None) -> torch.Tensor:
    """Attention of the whole sequence under a mask that keeps segments apart."""
    segment = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    place = torch.arange(sum(lengths))
    seen = (segment[:, None] == segment[None]) & (place[:, None] >= place[None])
    if window is not None:
        seen &= place[:, None] - place[None] < window
    key, value = (one.repeat_interleave(query.shape[1] // key.shape[1], 1) for one in (key, value))
    scores = (query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
    return (scores.masked_fill(~seen, -torch.inf).softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("limit", [0, 5, 100])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads", [4, 2])
def test_attention_is_that_of_a_block_mask(
    limit: int, window: int | None, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eager, fused and both by length; windows; key and value heads that serve two queries each."""
    monkeypatch.setattr(segments, "eager_up_to", lambda device, dtype: limit)
    lengths = [7, 5, 3, 1]
    made, gradients, inputs = attention(lengths, torch.float64, window, heads)
    expected = by_hand(*inputs, lengths, window)
    torch.testing.assert_close(made, expected)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    for gradient, one in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, one)


def test_dropout_falls_on_the_attention_weights() -> None:
    kept = attention([6, 4], torch.float64)[0]
    assert torch.equal(attention([6, 4], torch.float64, dropout=0.0)[0], kept)
    assert not torch.allclose(attention([6, 4], torch.float64, dropout=0.5)[0], kept)


@pytest.mark.parametrize("implementation", [segments.NAME, "flash_attention_2", "sdpa"])
def test_each_attention_is_told_the_segments_in_its_own_form(implementation: str) -> None:
    inputs = flat_inputs(torch.tensor([3, 2]), implementation)
    assert inputs.pop("position_ids").tolist() == [[0, 1, 2, 0, 1]]
    told = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    edges = {"cu_seq_lens_q": [0, 3, 5], "cu_seq_lens_k": [0, 3, 5], "max_length_q": 3, "max_length_k": 3}
    assert told == {segments.NAME: {"segments": (3, 2)}, "flash_attention_2": edges, "sdpa": {}}[implementation]


def test_the_block_mask_of_transformers_keeps_segments_apart_too(tmp_path: Path) -> None:
    """The way on CUDA without FlashAttention: position ids that begin again make transformers build the mask."""
    model = load("llama", tmp_path)
    assert model.config._attn_implementation == "sdpa"
    assert prove(model, [5, 9, 11, 300, 2]).holds


@pytest.mark.parametrize(
    ("device", "dtype", "supports", "installed", "wanted"),
    [
        ("cpu", torch.float32, True, True, segments.NAME),
        ("mps", torch.bfloat16, True, True, segments.NAME),
        ("cuda", torch.bfloat16, True, True, "flash_attention_2"),
        ("cuda", torch.float16, True, True, "flash_attention_2"),
        ("cuda", torch.bfloat16, True, False, "sdpa"),
        ("cuda", torch.bfloat16, False, True, "sdpa"),
        ("cuda", torch.float32, True, True, "sdpa"),
    ],
)
def test_the_attention_of_segments_is_chosen_by_device_precision_and_what_is_installed(
    device: str, dtype: torch.dtype, supports: bool, installed: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "is_flash_attn_2_available", lambda: installed)
    weight = SimpleNamespace(device=torch.device(device), dtype=dtype)
    config = SimpleNamespace(_attn_implementation="sdpa")
    model = SimpleNamespace(parameters=lambda: iter([weight]), config=config, _supports_flash_attn=supports)
    assert segments.chosen(model) == wanted
