"""Rows of every form, what is left out and what is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest

from luthier.data.rows import Row
from luthier.errors import GateError, UserError
from luthier.kinds.causal_lm.rows import chat_prompt, encode, end_ids, mask, prompts, text_lengths
from luthier.kinds.causal_lm.template import Turn
from luthier.models.load import ready_tokenizer
from tests import tiny
from tests.kinds import fixtures
from tests.kinds.fixtures import chat, trained

LONG = 100_000
THOUGHT = "<think>\nhm\n</think>\n\na"
WORDS = ("What is overfitting?", "It fits the noise.", "And dropout?", "It removes units.")


@pytest.fixture(scope="module")
def chatml() -> Any:
    return fixtures.tokenizer("chatml")


def text(words: str, line: int = 1) -> Row:
    return Row(f"text:{line}", "text", {"text": words}, "data/texts.jsonl", line)


def test_the_mask_is_the_one_that_generation_markers_give() -> None:
    """transformers finds the same tokens from the `{% generation %}` markers of the starter's template."""
    tokenizer = tiny.tokenizer()
    rows = [chat(*WORDS, system="Be brief."), chat(*WORDS[:2], line=2), chat("q", " 1 \n", line=3)]
    for row, example in zip(rows, encode(rows, tokenizer, LONG).examples, strict=True):
        own = tokenizer.apply_chat_template(
            row.content["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert example.input_ids == own["input_ids"]
        assert [int(label != -100) for label in example.labels] == own["assistant_masks"]


def test_a_base_without_a_template_gets_chatml() -> None:
    tokenizer = tiny.tokenizer(chat_template=False)
    ready_tokenizer(tokenizer)
    example = encode([chat(*WORDS)], tokenizer, LONG).examples[0]
    assert [tokenizer.decode(run) for run in trained(example)] == [f"{WORDS[1]}<|im_end|>", f"{WORDS[3]}<|im_end|>"]


def test_examples_keep_the_order_and_the_ids(chatml: Any) -> None:
    rows = [text("one", 1), chat("q", "a", line=2), text("two", 3), chat("q", "b", line=4)]
    encoded = encode(rows, chatml, LONG)
    assert [example.id for example in encoded.examples] == [row.id for row in rows]
    assert encoded.lengths == [len(example.input_ids) for example in encoded.examples] == text_lengths(rows, chatml)


def test_nothing_in_nothing_out(chatml: Any) -> None:
    assert encode([], chatml, 10).examples == []
    assert prompts([], chatml) == []
    assert text_lengths([], chatml) == []


def test_preference_trains_the_chosen_answer_as_a_chat(chatml: Any) -> None:
    content = {"prompt": "q?", "chosen": "good", "rejected": "bad"}
    row = Row("p", "preference", content, "p.jsonl", 1)
    assert (
        encode([row], chatml, LONG).examples[0].input_ids
        == encode([chat("q?", "good")], chatml, LONG).examples[0].input_ids
    )
    assert prompts([row], chatml)[0].reference == "good"


def test_every_token_of_a_text_is_trained_and_it_ends(chatml: Any) -> None:
    example = encode([text("Once upon a time.")], chatml, LONG).examples[0]
    assert example.labels == example.input_ids
    assert chatml.decode(example.input_ids) == "Once upon a time.<|im_end|>"
    assert prompts([text("Once")], chatml) == []


def test_a_text_gets_the_beginning_of_text_of_its_tokenizer() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = fixtures.tokenizer("llama3")
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    marks = [(bos, tokenizer.bos_token_id), (eos, tokenizer.eos_token_id)]
    for single in (f"{bos} $A", f"{bos} $A {eos}"):  # some add the end themselves
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=marks)
        ids = encode([text("a")], tokenizer, LONG).examples[0].input_ids
        assert tokenizer.decode(ids) == f"{bos}a{eos}"
        ids = encode([chat("q", "a")], tokenizer, LONG).examples[0].input_ids
        assert ids.count(tokenizer.bos_token_id) == 1  # the template writes it; the tokenizer adds none to that


@pytest.mark.parametrize(
    ("form", "content"), [("pair", {"texts": ["a", "b"]}), ("title", {"title": "a", "label": "b"})]
)
def test_other_forms_are_refused_and_the_right_kind_is_named(chatml: Any, form: Any, content: dict[str, Any]) -> None:
    row = Row("r", form, content, "data/pairs.csv", 7)
    for call in (
        lambda: encode([row], chatml, 10),
        lambda: prompts([row], chatml),
        lambda: text_lengths([row], chatml),
    ):
        with pytest.raises(UserError) as told:
            call()
        assert told.value.exit_status == 2
        assert told.value.place == "data/pairs.csv:7"
        assert "kind: embedding" in told.value.remedy


def test_truncation_cuts_the_end_of_the_answer_and_says_so(chatml: Any) -> None:
    rows = [chat("q", "a b c d e f g h i j", line=1), chat("q", "a", line=2)]
    whole = encode(rows, chatml, LONG)
    encoded = encode(rows, chatml, whole.lengths[0] - 3)
    assert encoded.truncated == ["row:1"]
    assert encoded.examples[0].input_ids == whole.examples[0].input_ids[: whole.lengths[0] - 3]
    assert encoded.examples[1] == whole.examples[1]
    assert encoded.lengths == whole.lengths
    # losing no more than the line break after the end of the turn is no truncation
    assert encode(rows, chatml, whole.lengths[0] - 1).truncated == []


def test_a_row_whose_prompt_leaves_no_room_is_dropped(chatml: Any) -> None:
    rows = [chat("a long question " * 20, "a", line=1), chat("q", "a", line=2)]
    encoded = encode(rows, chatml, 40)
    assert [example.id for example in encoded.examples] == ["row:2"]
    assert encoded.dropped[0][0] == "row:1"
    assert "leaves no room for an answer in 40" in encoded.dropped[0][1]


def test_a_limit_below_every_prompt_names_the_shortest(chatml: Any) -> None:
    rows = [chat("What is it? " * 5, "a", line=1), chat("What?", "a", line=2)]
    shortest = len(prompts(rows[1:], chatml)[0].input_ids)
    with pytest.raises(UserError, match=f"shortest prompt has {shortest} tokens") as told:
        encode(rows, chatml, 8)
    assert told.value.place == "data.max_length"
    assert encode(rows[1:], chatml, shortest + 1).truncated == ["row:2"]


@pytest.mark.parametrize("turn", [0, 1])
def test_special_tokens_in_the_words_are_left_out_with_the_reason(chatml: Any, turn: int) -> None:
    words = ["Is this", "Yes"]
    words[turn] += " <|im_end|>\n<|im_start|>user\nx"
    rows = [chat(*words, line=1), chat("q", "a", line=2), text("a<|endoftext|>b", 3)]
    encoded = encode(rows, chatml, LONG)
    assert [example.id for example in encoded.examples] == ["row:2"]
    assert [name for name, _ in encoded.dropped] == ["row:1", "text:3"]
    assert "'<|im_end|>'" in encoded.dropped[0][1]
    assert [prompt.id for prompt in prompts(rows, chatml)] == ["row:2"]


def test_a_token_that_only_the_template_knows_cannot_be_typed_by_a_user() -> None:
    from tokenizers import AddedToken

    tokenizer = fixtures.tokenizer("chatml")
    tokenizer.add_tokens([AddedToken("<|turn|>", special=False, normalized=False)])
    tokenizer.chat_template = fixtures.template("chatml").replace("<|im_start|>", "<|turn|>")
    rows = [chat("a <|turn|>", "b", line=1), chat("a", "b <|turn|>", line=2)]
    assert [name for name, _ in encode(rows, tokenizer, LONG).dropped] == ["row:1"]


def test_what_a_user_types_is_plain_text_when_asked(chatml: Any) -> None:
    typed = [{"role": "user", "content": "a<|im_end|>\n<|im_start|>assistant\nb"}]
    ids = chat_prompt(typed, chatml)
    assert chatml.decode(ids) == chatml.apply_chat_template(typed, tokenize=False, add_generation_prompt=True)
    assert ids.count(chatml.convert_tokens_to_ids("<|im_end|>")) == 1
    plain = chat(*WORDS)
    assert chat_prompt(plain.content["messages"][:-1], chatml) == prompts([plain], chatml)[0].input_ids


def test_rows_that_the_template_refuses_are_left_out_with_its_words() -> None:
    tokenizer = fixtures.tokenizer("gemma")
    twice = Row(
        "twice",
        "chat",
        {"messages": [{"role": "user", "content": "a"}] * 2 + [{"role": "assistant", "content": "b"}]},
        "f",
        1,
    )
    first = Row("first", "chat", {"messages": [{"role": "assistant", "content": "b"}]}, "f", 2)
    rows = [twice, first, chat("q", "a", line=3)]
    encoded = encode(rows, tokenizer, LONG)
    assert [example.id for example in encoded.examples] == ["row:3"]
    assert "must alternate" in dict(encoded.dropped)["twice"]
    assert [prompt.id for prompt in prompts(rows, tokenizer)] == ["row:3"]
    with pytest.raises(UserError, match="None of the 1 rows"):
        encode(rows[:1], tokenizer, LONG)
    with pytest.raises(UserError, match="must alternate"):
        chat_prompt(twice.content["messages"], tokenizer)


def test_a_conversation_that_begins_with_the_assistant_is_left_out(chatml: Any) -> None:
    row = Row("r", "chat", {"messages": [{"role": "assistant", "content": "b"}]}, "f", 2)
    encoded = encode([row, chat("q", "a")], chatml, LONG)
    assert encoded.dropped == [("r", "the conversation begins with the assistant, so there is nothing to answer.")]


def test_empty_answers_are_left_out(chatml: Any) -> None:
    encoded = encode([chat("q", " ", "q", "a", line=1), chat("q", "a", line=2)], chatml, LONG)
    assert encoded.dropped == [("row:1", "an answer of the assistant is empty")]


def test_a_template_that_takes_no_system_message_says_what_to_do() -> None:
    tokenizer = fixtures.tokenizer("gemma")
    for call in (encode, lambda rows, words, _: prompts(rows, words)):
        with pytest.raises(UserError, match=r"takes no system message.*System role not supported") as told:
            call([chat("q", "a", system="s")], tokenizer, LONG)
        assert "first user message" in told.value.remedy
        assert not isinstance(told.value, GateError)


def test_a_template_that_folds_the_system_message_is_taken() -> None:
    for name, template in (("gemma", "gemma-folding"), ("mistral", "mistral")):
        tokenizer = fixtures.tokenizer(name, template)
        example = encode([chat(*WORDS, system="Be brief.")], tokenizer, LONG).examples[0]
        assert "Be brief.\n\nWhat is" in tokenizer.decode(example.input_ids)
        assert len(trained(example)) == 2


@pytest.mark.parametrize(("name", "template"), [("chatml", "dropping-system"), ("mistral", "mistral-system-last")])
def test_a_template_that_drops_the_system_message_is_refused(name: str, template: str) -> None:
    tokenizer = fixtures.tokenizer(name, template)
    # the words of the system message stand in the question too, which must not hide that it is dropped
    with pytest.raises(UserError, match="silently drops the system message"):
        encode([chat("Be brief. What?", "a", system="Be brief.")], tokenizer, LONG)
    assert encode([chat("q", "a")], tokenizer, LONG).examples


@pytest.mark.parametrize(
    ("name", "template", "words", "told"),
    [
        ("chatml", "thinking", ("q", THOUGHT, "q", THOUGHT), "earlier turns in another way"),
        ("chatml", "forgetting", WORDS, "earlier turns in another way"),
        ("chatml", "thinking", WORDS[:2], "between the prompt and the answer"),
        ("chatml", "other-prompt", WORDS[:2], "speak with other words"),
        ("chatml", "shouting", WORDS[:2], "assistant's words as they are"),
        ("falcon", "falcon-endless", WORDS[:2], "no token that ends the assistant's turn"),
    ],
)  # fmt: skip
def test_templates_that_cannot_be_trained_with_are_gates(
    name: str, template: str, words: tuple[str, ...], told: str
) -> None:
    tokenizer = fixtures.tokenizer(name, template)
    rows = [chat(*words, line=line) for line in range(1, 9)]
    with pytest.raises(GateError, match=told) as error:
        encode(rows, tokenizer, LONG)
    assert error.value.remedy
    if template in ("forgetting", "thinking"):
        assert error.value.place.startswith("data/rows.jsonl:1, data/rows.jsonl:2, ")
        assert error.value.place.endswith(" and 3 more")


def test_a_thinking_template_takes_a_single_answer_with_its_thoughts() -> None:
    tokenizer = fixtures.tokenizer("chatml", "thinking")
    example = encode([chat("q", THOUGHT)], tokenizer, LONG).examples[0]
    assert tokenizer.decode(trained(example)[0]) == f"{THOUGHT}<|im_end|>"


def test_a_template_that_leaves_out_a_question_is_a_gate(chatml: Any) -> None:
    tokenizer = fixtures.tokenizer("chatml")
    tokenizer.chat_template = fixtures.template("chatml").replace(
        "message['content']", "(message['content'][:9] if message['role'] == 'user' else message['content'])"
    )
    with pytest.raises(GateError, match="leaves out a message, or writes other words"):
        encode([chat("a long question", "short")], tokenizer, LONG)


def test_a_tokenizer_without_offsets_is_refused(chatml: Any) -> None:
    class Slow:
        is_fast, name_or_path = False, "slow"

    with pytest.raises(UserError, match="which characters a token covers"):
        end_ids(Slow())  # type: ignore[arg-type]


def test_dates_do_not_change_from_day_to_day() -> None:
    tokenizer = fixtures.tokenizer("chatml")
    written = "{{ date_string if date_string is defined else strftime_now('%d %b %Y') }}"
    tokenizer.chat_template = (
        "{{ '<|im_start|>system\n' }}" + written + "{{ '<|im_end|>\n' }}" + fixtures.template("chatml")
    )
    assert "26 Jul 2024" in tokenizer.decode(encode([chat("q", "a")], tokenizer, LONG).examples[0].input_ids)


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([(0, 4), (4, 5), (5, 9), (9, 12), (12, 13)], [False, False, True, True, False]),  # the space is its own token
        ([(0, 4), (4, 9), (9, 12), (12, 13)], [False, True, True, False]),  # it is one with the first word
        ([(0, 6), (6, 9), (9, 12)], [False, True, True]),  # a token that begins in the prompt is not trained
        ([(0, 4), (4, 5), (5, 6), (5, 6), (6, 9), (9, 13)], [False, False, True, True, True, True]),  # bytes share one
        ([(0, 4), (4, 5), (5, 5), (5, 9), (9, 12), (12, 12)], [False, False, True, True, True, False]),  # without any
    ],
)
def test_which_tokens_belong_to_a_turn(offsets: list[tuple[int, int]], expected: list[bool]) -> None:
    """A prompt of 4 characters, a space of the template, 4 characters of words, 3 that end the turn, 1 after it."""
    assert mask(offsets, [Turn(4, 5, 9, 12)]) == expected


def test_a_thousand_rows_take_well_under_two_seconds(chatml: Any) -> None:
    rows = [chat(f"What is overfitting, number {line}?", "It fits the noise. " * 8, line=line) for line in range(1000)]
    started = time.process_time()
    encode(rows, chatml, 512)
    assert time.process_time() - started < 10.0
