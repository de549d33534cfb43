"""When activations are recomputed, and how large a micro-batch is."""

from __future__ import annotations

import pytest
import torch

from luthier.models import activations
from luthier.models.activations import FEWEST, decide, token_budget
from luthier.models.estimate import AdapterShape, count
from luthier.models.load import load_config, resolve

ADAPTER = AdapterShape("lora", 8, "all-linear")


@pytest.mark.parametrize(("there", "on"), [(1.0, True), (8.0, False), (4096.0, False)])
def test_only_where_the_estimate_exceeds_the_machine(there: float, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    parameters, report = count(config, ADAPTER)
    adapter = AdapterShape("lora", 8, [match.name for match in report])
    monkeypatch.setattr(activations, "machine_memory", lambda device: there)
    made = decide(config, adapter, parameters, torch.float32, (1, 2048, 1000), "cpu")
    assert made.on is on
    assert made.told["there"] == there
    # Far from the limit nothing is estimated, as that takes a second.
    assert (made.needed is None) is (there == 4096.0)
    if made.needed is not None:
        assert made.on is (made.needed > activations.SHARE * there)


def test_the_short_cut_never_hides_a_need() -> None:
    """The bound that spares the estimate is above what the estimate says of each architecture."""
    from luthier.models import estimate, machine

    for name in ("SmolLM2-135M-Instruct", "falcon-rw-1b", "starter"):
        config = load_config(resolve(name))
        _, report = count(config, ADAPTER)
        adapter = AdapterShape("lora", 8, [match.name for match in report])
        cost = estimate.cost_per_token(config, adapter, torch.float32, 64)
        bound = config.num_hidden_layers * config.hidden_size * activations.KEPT_AT_MOST * 4
        assert machine.shipped("cpu", torch.float32, rate=1.0).held * cost.kept_bytes < bound, name


def test_unknown_memory_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "machine_memory", lambda device: None)
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    parameters, _ = count(config, ADAPTER)
    assert decide(config, ADAPTER, parameters, torch.float32, (1, 10**6, 1), "cpu").on is False


def test_micro_batches_are_smaller_for_larger_models() -> None:
    starter, large = (load_config(resolve(name)) for name in ("starter", "falcon-rw-1b"))
    assert token_budget(starter, "cpu") > token_budget(large, "cpu") == FEWEST
    assert token_budget(starter, "cuda") == 0


def test_the_memory_of_this_machine_is_told() -> None:
    there = activations.machine_memory("cpu")
    assert there is None or 0.1 < there < 10**5
