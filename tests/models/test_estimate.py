"""The estimate against what really happens: parameters, bytes kept for the backward pass, operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from luthier.models import estimate, rate
from luthier.models.load import load_causal, load_config, resolve
from luthier.models.lora import attach
from tests.tiny import CAUSAL, make

LENGTH = 200


def really_kept(model: Any) -> tuple[int, int]:
    """Run a real step of one row; return (bytes autograd keeps, operations), in the fused attention of the CPU."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with FlopCounterMode(display=False) as flops:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ids = torch.zeros(1, LENGTH, dtype=torch.long)
            loss = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits.sum()
        loss.backward()
    return sum(storage.nbytes() for storage in kept.values()), flops.get_total_flops()


@pytest.mark.parametrize("architecture", CAUSAL)
def test_what_the_meta_device_counts_is_what_happens(architecture: str, tmp_path: Path) -> None:
    base = resolve(str(make(architecture, tmp_path / architecture)))
    adapter = estimate.AdapterShape("lora", 4, "all-linear")
    cost = estimate.cost_per_token(load_config(base), adapter, torch.float32, LENGTH)
    model = attach(load_causal(base, "float32"), "lora", 4, 8, 0.0, "all-linear", 0)
    model.train()
    kept, _ = really_kept(model)
    assert cost.kept_bytes * LENGTH == pytest.approx(kept, rel=0.15)


def test_two_shallow_models_stand_for_a_deep_one() -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    config.num_hidden_layers = 6
    adapter = estimate.AdapterShape("lora", 8, "all-linear")
    extrapolated = estimate.cost_per_token(config, adapter, torch.float32, 64)
    walked = [value / 64 for value in estimate._walk(config, adapter, torch.float32, 64)]
    assert [extrapolated.kept_bytes, extrapolated.forward, extrapolated.step] == pytest.approx(walked, rel=1e-6)


def test_a_step_costs_about_four_operations_a_weight_and_full_training_six() -> None:
    """Kaplan et al. 2020: 2 a weight forward, 4 backward; with the base frozen, its half of the backward is saved."""
    config = load_config(resolve("SmolLM2-360M-Instruct"))
    body = 361_821_120 - 49_152 * 960
    few = estimate.cost_per_token(config, estimate.AdapterShape("lora", 1, "all-linear"), torch.float32, 32)
    full = estimate.cost_per_token(config, estimate.AdapterShape("full", 1, "all-linear"), torch.float32, 32)
    assert few.forward / body == pytest.approx(2, rel=0.05)
    assert few.step / body == pytest.approx(4, rel=0.06)
    assert full.step / body == pytest.approx(6, rel=0.06)


def test_memory_parts() -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    work = estimate.Work((4, 100, 200), 10_000, 5_000, 40)
    cost = estimate.Cost(1e6, 2e8, 4e8)
    parameters = estimate.Parameters(2_442_240, 136_957_248)

    def parts(method: str, dtype: torch.dtype) -> estimate.Memory:
        return estimate.memory(config, parameters, method, dtype, cost, work)

    lora = parts("lora", torch.float32)
    assert lora.weights == pytest.approx(134_515_008 * 4 / 2**30)
    assert lora.adapter == lora.gradients == lora.optimizer / 2 == pytest.approx(2_442_240 * 4 / 2**30)
    assert parts("lora", torch.bfloat16).weights == lora.weights / 2
    embedding = 49_152 * 576
    four_bit = embedding * 2 + (134_515_008 - embedding) * estimate.FOUR_BIT_BYTES
    assert parts("qlora", torch.bfloat16).weights == pytest.approx(four_bit / 2**30)
    assert lora.total == pytest.approx(sum(vars(lora).values()))


def test_more_work_takes_longer() -> None:
    config, cost = load_config(resolve("SmolLM2-135M-Instruct")), estimate.Cost(1e6, 2e8, 4e8)
    less = estimate.seconds(config, "lora", cost, estimate.Work((4, 100, 200), 10_000, 5_000, 40), 1e11)
    more = estimate.seconds(config, "lora", cost, estimate.Work((4, 100, 200), 20_000, 10_000, 80), 1e11)
    assert more == pytest.approx(2 * less)


def test_the_rate_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(rate, "SECONDS", 0.01)
    first = rate.matmul_rate("cpu", torch.float32)
    monkeypatch.setattr(rate, "_measure", lambda *_: 1.0)
    assert rate.matmul_rate("cpu", torch.float32) == pytest.approx(first, abs=1)
    (rate.cache_folder() / rate.FILE).write_text("torn")
    assert rate.matmul_rate("cpu", torch.float32) == 1.0
