"""Bytes go round, digits stand alone, and the chat template marks what the assistant says."""

import pytest
from tests.starter.conftest import WORDS
from transformers import PreTrainedTokenizerFast

from luthier.starter.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([" ".join(WORDS)] * 20 + ["In 1984 and 2024."], vocabulary=320)


@pytest.mark.parametrize(
    "text", ["plain", "  two  spaces\n\tand a tab ", "naïve 日本語 🙂", "\x00\x7f", "12.5 % of 1,000"]
)
def test_round_trips_any_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_splits_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = tokenizer.tokenize("in 1984 x2024")
    assert [piece for piece in pieces if any(c.isdigit() for c in piece)] == list("19842024")


def test_pre_tokenizer_is_the_one_llama_cpp_knows(tokenizer: PreTrainedTokenizerFast) -> None:
    import json

    found = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]["pretokenizers"]
    assert found[0] == {"type": "Digits", "individual_digits": True}
    assert found[1]["type"] == "ByteLevel" and found[1]["use_regex"] and not found[1]["add_prefix_space"]


def test_specials_are_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for special in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert len(tokenizer(special)["input_ids"]) == 1
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_template_renders_turns_and_injects_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "user", "content": "Hi"}]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    with_system = tokenizer.apply_chat_template([{"role": "system", "content": "Be kind"}, *turns], tokenize=False)
    assert with_system == "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"


def test_generation_markers_cover_the_answer_and_its_end(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "the old bridge"}]
    found = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    said = [token for token, mine in zip(found["input_ids"], found["assistant_masks"], strict=True) if mine]
    assert tokenizer.decode(said) == "the old bridge<|im_end|>"
