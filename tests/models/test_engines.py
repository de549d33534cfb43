"""Answers in batches: what `generate` of transformers says, for every architecture, whatever they are batched with."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.errors import UserError
from luthier.models.engines import Sampling, TextStream, TransformersAnswerer, context_of, decode
from tests import tiny

RANDOM = random.Random(0)
PROMPTS = [[RANDOM.randrange(4, 250) for _ in range(length)] for length in (5, 17, 9, 40, 40, 3)]


def model(architecture: str, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny.make(architecture, folder, seed=3), dtype=torch.float32).eval()


def generated(built: Any, prompt: list[int], tokens: int) -> list[int]:
    """Return what transformers itself generates, unbatched and without an end."""
    ids = torch.tensor([prompt])
    told = built.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=[-1],
        pad_token_id=3,
    )
    return list(told[0, len(prompt) :].tolist())


@pytest.mark.parametrize("architecture", tiny.CAUSAL)
def test_batched_greedy_answers_equal_generate(architecture: str, tmp_path: Path) -> None:
    built = model(architecture, tmp_path)
    expected = [generated(built, prompt, 16) for prompt in PROMPTS]
    # Ends that occur at different places, so that rows leave the batch one after another.
    ends = {expected[0][4], expected[3][9], expected[5][12]}
    answers = TransformersAnswerer(built, 3, sorted(ends)).answer(PROMPTS, 16)
    for answer, whole in zip(answers, expected, strict=True):
        place = next((at for at, token in enumerate(whole) if token in ends), None)
        assert answer.ids == whole[:place]
        assert answer.stopped == (place is not None)
    assert any(answer.stopped for answer in answers)
    assert list(TransformersAnswerer(built, 3, [999]).stream(PROMPTS[1], 16)) == expected[1]


@pytest.mark.parametrize("architecture", tiny.CAUSAL)
def test_log_loss_equals_one_example_at_a_time(architecture: str, tmp_path: Path) -> None:
    built = model(architecture, tmp_path)
    examples = [(ids, [-100] * (len(ids) // 2) + ids[len(ids) // 2 :]) for ids in PROMPTS]
    found = TransformersAnswerer(built, 3, [2]).log_loss([*examples, ([5, 6], [-100, -100]), ([], [])])
    assert found[-2:] == [(0.0, 0), (0.0, 0)]
    for (ids, labels), (nll, tokens) in zip(examples, found[:-2], strict=True):
        with torch.no_grad():
            logits = built(torch.tensor([ids])).logits[0, :-1]
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:]), reduction="sum")
        assert nll == pytest.approx(expected.item(), rel=1e-5)
        assert tokens == sum(label != -100 for label in labels[1:])


def test_a_prompt_that_fills_the_context(tmp_path: Path) -> None:
    answerer = TransformersAnswerer(model("gpt2", tmp_path), 3, [999])
    assert answerer.context == tiny.CONTEXT
    full, nearly, short = [5] * tiny.CONTEXT, [5] * (tiny.CONTEXT - 2), [5, 6]
    answers = answerer.answer([full, nearly, short], 6)
    assert [len(answer.ids) for answer in answers] == [0, 2, 6]
    with pytest.raises(UserError, match="has room for 512"):
        list(answerer.stream(full, 6))
    assert context_of(tiny.config("falcon", 300)) is None  # ALiBi: no limit


def test_sampling_is_a_function_of_its_seed(tmp_path: Path) -> None:
    answerer = TransformersAnswerer(model("llama", tmp_path), 3, [2])
    first, again, other = (
        [answer.ids for answer in answerer.answer(PROMPTS, 8, Sampling(1.0, 0.9, seed))] for seed in (1, 1, 2)
    )
    assert first == again != other
    greedy = [answer.ids for answer in answerer.answer(PROMPTS, 8)]
    # A share so small holds the likeliest token alone.
    assert [answer.ids for answer in answerer.answer(PROMPTS, 8, Sampling(1.0, 1e-6, 5))] == greedy


@pytest.mark.parametrize(("temperature", "top_p"), [(-1.0, 1.0), (float("nan"), 1.0), (1.0, 0.0), (1.0, 1.5)])
def test_settings_out_of_range_are_told(temperature: float, top_p: float) -> None:
    with pytest.raises(UserError):
        Sampling(temperature, top_p)


@pytest.mark.parametrize("text", ["plain words, and more", "naïve café 😀 done", "过拟合", "two\nlines  and spaces "])
def test_streamed_pieces_are_the_text_and_whole_characters(text: str) -> None:
    words = tiny.tokenizer()
    ids = words.encode(text, add_special_tokens=False)
    stream = TextStream(words)
    pieces = [stream.add(token) for token in ids] + [stream.rest()]
    assert "".join(pieces) == decode(words, ids) == text
    assert not any("�" in piece for piece in pieces)


def test_bytes_that_are_no_character_are_not_held_back_for_ever() -> None:
    words = tiny.tokenizer()
    half = words.encode("过", add_special_tokens=False)[0]
    stream = TextStream(words)
    assert any(stream.add(half) for _ in range(6))
