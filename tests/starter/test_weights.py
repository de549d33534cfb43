"""The shipped folder: plain transformers, ChatML specials, answers that stop, small enough, and its evidence."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from luthier import starter
from luthier.starter.evaluate import PROMPTS, answer, continuation

FOLDER = starter.path()


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(FOLDER)


def test_is_llama_with_a_context_of_1024(model: LlamaForCausalLM) -> None:
    assert isinstance(model, LlamaForCausalLM)
    assert model.config.max_position_embeddings == 1024
    assert model.config.tie_word_embeddings
    assert model.config.num_key_value_heads < model.config.num_attention_heads


def test_is_stored_in_bfloat16_and_loads_in_float32(model: LlamaForCausalLM) -> None:
    assert model.dtype == torch.float32, "bfloat16 products are emulated on many CPUs"
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        names = list(weights.keys())
        assert {weights.get_slice(name).get_dtype() for name in names} == {"BF16"}


def test_tokenizer_has_the_specials_and_generation_markers(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [tokenizer.decode([n]) for n in range(3)] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert "{% generation %}" in (tokenizer.chat_template or "")
    assert tokenizer.eos_token == "<|im_end|>"


def test_generation_stops_at_the_end_of_turn_and_of_text(model: LlamaForCausalLM) -> None:
    assert set(model.generation_config.eos_token_id) == {0, 2}


@pytest.mark.parametrize("instruction", ["What is the capital of France?", "Name a colour.", "Who wrote Hamlet?"])
def test_a_greedy_answer_stops(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, instruction: str) -> None:
    text, stopped = answer(model, tokenizer, instruction)
    assert stopped and text.strip()


def test_continues_in_english(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    words = " ".join(continuation(model, tokenizer, prompt, 30) for prompt in PROMPTS).lower().split()
    assert len({"the", "of", "and", "in", "is", "was", "a", "to"} & set(words)) >= 6


def test_reads_a_full_context(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    ids = torch.tensor([tokenizer(card, verbose=False)["input_ids"][:1024]])
    with torch.inference_mode():
        logits = model(ids).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    assert losses[-256:].mean() < losses[:256].mean() + 1.0, "late positions were trained"


def test_evidence_ships_and_says_what_the_card_says() -> None:
    found = json.loads((FOLDER / "training" / "evaluation.json").read_text(encoding="utf-8"))
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"{found['held_out']['bits_per_byte']:.3f}" in card
    assert found["answers_that_stop"]["stopped"] >= 45
    log = [json.loads(line) for line in (FOLDER / "training" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["step"] == max(line.get("decided_steps", 0) for line in log), "trained to the end"


def test_is_small_and_licensed() -> None:
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    assert size < 40 * 2**20
    assert "cc-by-sa-4.0" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_finding_it_imports_nothing_heavy() -> None:
    program = "import sys; from luthier import starter; print(starter.path()); assert 'torch' not in sys.modules"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert Path(found.strip()) == FOLDER
