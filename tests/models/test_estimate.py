"""The estimate against what really happens: parameters, bytes kept for the backward pass, operations."""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.models import estimate, machine, rate, walk
from luthier.models.blocks import lean_blocks
from luthier.models.lean import lean_lora
from luthier.models.load import load_causal, load_config, resolve
from luthier.models.lora import attach
from luthier.models.machine import Machine, Seconds
from luthier.models.segments import NAME, confined, flat_inputs, likely
from tests.tiny import CAUSAL, make

LENGTH = 200
HERE = Machine(Seconds(), held=1.5, process=0.5, measured=True)


def really_kept(model: Any) -> int:
    """Run a real forward pass of one row on the path of training; return the bytes that autograd keeps."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    flat = likely(model.get_base_model().config)
    more = flat_inputs(torch.tensor([LENGTH]), NAME) if flat else {}
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with confined(model) if flat else nullcontext(), lean_lora(model), lean_blocks(model), hooks:
        ids = torch.zeros(1, LENGTH, dtype=torch.long)
        model(input_ids=ids, use_cache=False, logits_to_keep=1, **more).logits.sum()
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("architecture", CAUSAL)
def test_what_the_meta_device_counts_is_what_happens(architecture: str, tmp_path: Path) -> None:
    base = resolve(str(make(architecture, tmp_path / architecture)))
    adapter = estimate.AdapterShape("lora", 4, "all-linear")
    cost = estimate.cost_per_token(load_config(base), adapter, torch.float32, LENGTH)
    model = attach(load_causal(base, "float32"), "lora", 4, 8, 0.0, "all-linear", 0)
    model.train()
    assert cost.kept_bytes * LENGTH == pytest.approx(really_kept(model), rel=0.15)


def test_two_shallow_models_stand_for_a_deep_one() -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    config.num_hidden_layers = 6
    adapter = estimate.AdapterShape("lora", 8, "all-linear")
    extrapolated = estimate.cost_per_token(config, adapter, torch.float32, 64)
    walked = [value / 64 for value in walk.walk(config, adapter, torch.float32, 64)]
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


def test_a_lean_adapter_keeps_less_than_another_method() -> None:
    """DoRA keeps PEFT's forward, as it does in training."""
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    lean, dora = (
        estimate.cost_per_token(config, estimate.AdapterShape(method, 8, "all-linear"), torch.float32, 32)
        for method in ("lora", "dora")
    )
    assert lean.kept_bytes < 0.8 * dora.kept_bytes


def test_memory_parts() -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    work = estimate.Work((4, 100, 200))
    cost = estimate.Cost(1e6, 2e8, 4e8)
    parameters = estimate.Parameters(2_442_240, 136_957_248)

    def parts(method: str, dtype: torch.dtype) -> estimate.Memory:
        return estimate.memory(config, parameters, method, dtype, cost, work, HERE)

    lora = parts("lora", torch.float32)
    assert lora.weights == pytest.approx(134_515_008 * 4 / 2**30)
    assert lora.adapter == lora.gradients == lora.optimizer / 2 == pytest.approx(2_442_240 * 4 / 2**30)
    assert lora.activations == pytest.approx(1.5 * 400 * 1e6 / 2**30)
    assert lora.process == 0.5
    assert parts("lora", torch.bfloat16).weights == lora.weights / 2
    embedding = 49_152 * 576
    four_bit = embedding * 2 + (134_515_008 - embedding) * estimate.FOUR_BIT_BYTES
    assert parts("qlora", torch.bfloat16).weights == pytest.approx(four_bit / 2**30)
    assert lora.total == pytest.approx(sum(vars(lora).values()))
    # A frozen head makes its logits in pieces, a trained one all of them.
    assert parts("full", torch.float32).logits == pytest.approx(12 * 200 * 49_152 / 2**30)
    assert lora.logits == pytest.approx(12 * 2**21 / 2**30)


def test_the_pieces_of_logits_are_those_of_the_loss() -> None:
    from luthier.kinds.causal_lm import loss

    assert estimate.PIECE == loss.LOGITS


def test_more_work_is_more_of_each_sort() -> None:
    config, cost = load_config(resolve("SmolLM2-135M-Instruct")), estimate.Cost(1e6, 2e8, 4e8, 1e4)
    parameters = estimate.Parameters(2_442_240, 136_957_248)

    def amounts(times: int, passes: int = 1) -> list[float]:
        load = estimate.Load(40 * times, 10_000 * times, 5_000 * times, 10**6 * times, passes)
        asked = estimate.Work((4, 100, 200), 10 * times, 2 * times, load, load)
        return list(vars(estimate.work(config, parameters, "lora", cost, asked)).values())

    assert all(amount > 0 for amount in amounts(1))
    assert amounts(2) == pytest.approx([2 * amount for amount in amounts(1)])
    # Cached gradients read everything once more, and change nothing of the optimizer's steps.
    assert [more >= once for more, once in zip(amounts(1, 2), amounts(1), strict=True)] == [True] * 9
    assert amounts(1, 2)[0] == pytest.approx(amounts(1)[0] + 10_000 * 2e8)


def test_the_fit_finds_the_constants_that_made_the_times() -> None:
    true = Seconds(product=1e-11, kept=3e-9, layer=2e-3, logit=1e-8, score=1e-10, step=0.01, weight=1e-9)
    draw = random.Random(0)
    sizes = {"product": 1e10, "kept": 1e7, "layer": 20, "logit": 1e6, "score": 1e8, "step": 1, "weight": 1e6}
    observed = []
    for _ in range(16):
        work = {name: size * draw.uniform(0.1, 3) for name, size in sizes.items()}
        observed.append((work, true.times(Seconds(**work))))
    found = machine.fit_seconds(observed)
    assert vars(found) == pytest.approx(vars(true), rel=1e-6)
    # Noise makes no constant negative: more work never takes less time.
    noisy = machine.fit_seconds([(work, took * draw.uniform(0.5, 2)) for work, took in observed])
    assert min(vars(noisy).values()) >= 0


def test_what_ships_is_scaled_by_the_speed_of_this_machine() -> None:
    slow, quick = (machine.shipped("cpu", torch.float32, rate) for rate in (1e10, 2e10))
    assert slow.seconds.product == pytest.approx(2 * quick.seconds.product)
    assert not slow.measured


def test_a_measurement_is_kept_for_this_code_and_this_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    made = Machine(Seconds(product=1e-11), 1.4, 0.6, measured=True)
    assert machine.known("cpu", torch.float32) is None
    machine.remember("cpu", torch.float32, made)
    assert machine.known("cpu", torch.float32) == made
    assert machine.known("cpu", torch.bfloat16) is None
    with monkeypatch.context() as patch:
        patch.setattr(machine, "digest_code", lambda part: "other")
        assert machine.known("cpu", torch.float32) is None
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 64)
        assert machine.known("cpu", torch.float32) is None
    (rate.cache_folder() / machine.FILE).write_text("torn")
    assert machine.known("cpu", torch.float32) is None


def test_the_rate_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(rate, "SECONDS", 0.01)
    first = rate.matmul_rate("cpu", torch.float32)
    monkeypatch.setattr(rate, "_measure", lambda *_: 1.0)
    assert rate.matmul_rate("cpu", torch.float32) == pytest.approx(first, abs=1)
    (rate.cache_folder() / rate.FILE).write_text("torn")
    assert rate.matmul_rate("cpu", torch.float32) == 1.0
