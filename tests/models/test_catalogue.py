"""The catalogue against published figures, and the reference adapters, all on the meta device."""

from __future__ import annotations

import pytest

from luthier.errors import GateError, UserError
from luthier.models import estimate
from luthier.models.catalogue import entries, entry
from luthier.models.load import empty_model, load_config, resolve
from luthier.models.lora import count_parameters

# As published by their makers (model cards, safetensors indices); the tied embedding counts once.
PUBLISHED = {
    "Falcon-RW-1B": 1_311_625_216,
    "Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen2.5-7B-Instruct": 7_615_616_512,
    "Phi-3-mini-4k-instruct": 3_821_079_552,
    "Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "SmolLM2-135M-Instruct": 134_515_008,
    "SmolLM2-360M-Instruct": 361_821_120,
    "Llama-3.2-1B-Instruct": 1_235_814_400,
    "all-mpnet-base-v2": 109_486_464,
    "all-MiniLM-L6-v2": 22_713_216,
}
FALCON = ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]
MPNET = ["query", "key", "value", "dense"]
REFERENCE = [
    ("Falcon-RW-1B", 8, FALCON, 6_291_456, 1_317_916_672, 0.4774),
    ("tiiuae/falcon-rw-1b", 16, FALCON, 12_582_912, 1_324_208_128, 0.9502),
    ("falcon-rw-1b", 8, ["query_key_value"], 1_572_864, 1_313_198_080, 0.1198),
    ("qwen2.5-3b-instruct", 8, ["q_proj", "k_proj", "v_proj", "o_proj"], 3_686_400, 3_089_625_088, 0.1193),
]


def test_the_catalogue_is_complete() -> None:
    assert {one.name: one.parameters for one in entries()} == PUBLISHED
    assert all(one.licence and one.context and one.config["model_type"] for one in entries())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    config = load_config(resolve(name))
    assert count_parameters(empty_model(config))[1] == PUBLISHED[name]


def test_a_wrong_value_would_be_found() -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    config.intermediate_size += 1
    assert count_parameters(empty_model(config))[1] != PUBLISHED["SmolLM2-135M-Instruct"]


def test_names_are_found_in_any_case() -> None:
    found = entry("QWEN2.5-0.5b-instruct")
    assert found is not None and found.hub_id == "Qwen/Qwen2.5-0.5B-Instruct"
    assert entry("qwen/qwen2.5-0.5b-instruct") is found
    assert entry("qwen") is None


@pytest.mark.parametrize(("base", "r", "targets", "trainable", "total", "percent"), REFERENCE)
def test_reference_adapters(base: str, r: int, targets: list[str], trainable: int, total: int, percent: float) -> None:
    parameters, report = estimate.count(load_config(resolve(base)), estimate.AdapterShape("lora", r, targets))
    assert (parameters.trainable, parameters.total) == (trainable, total)
    assert round(parameters.percent, 4) == percent
    assert [match.name for match in report] == targets


def test_mpnet_stops_and_names_what_would_match() -> None:
    config, adapter = load_config(resolve("all-mpnet-base-v2")), estimate.AdapterShape("lora", 16, MPNET)
    with pytest.raises(GateError) as stopped:
        estimate.count(config, adapter)
    assert stopped.value.exit_status == 3
    assert stopped.value.problem == "query, key, value match nothing in this base; q, k, v, o would."
    parameters, report = estimate.count(config, adapter, allow_unmatched=True)
    assert (parameters.trainable, parameters.total) == (1_499_136, 110_985_600)
    assert [match.matched for match in report] == [0, 0, 0, 25]


@pytest.mark.parametrize(
    ("method", "targets", "place"),
    [("lora", ["word_embeddings"], "adapter.targets"), ("lora", ["lm_head"], "adapter.targets")],
)
def test_embeddings_and_tied_heads_are_refused(method: str, targets: list[str], place: str) -> None:
    with pytest.raises(UserError) as told:
        estimate.count(load_config(resolve("Falcon-RW-1B")), estimate.AdapterShape(method, 8, targets))
    assert told.value.place == place and "query_key_value" in str(told.value)


def test_r_above_a_layer_is_refused() -> None:
    config = load_config(resolve("SmolLM2-135M-Instruct"))
    with pytest.raises(UserError, match=r"r 256 is larger than the layer .*k_proj"):
        estimate.count(config, estimate.AdapterShape("lora", 256, "all-linear"))
