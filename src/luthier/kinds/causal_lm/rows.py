"""From rows to the tokens a causal language model reads, and which of them are trained.

A chat row is rendered by the model's own template, as one text, and tokenised with no further special tokens: the
template writes the beginning-of-text token, if the model has one, exactly once. The text is tokenised in pieces that
end where the model is asked, so that the tokens before an answer are those of the prompt; as one text, a line break
before an answer can become another token than the line break that a prompt ends with. (Tokenizers of SentencePiece's
sort put a space in front of each piece; they get the text as a whole.)

Trained are the tokens of the assistant's words and what ends its turn, up to and with the end-of-turn token; what the
template writes after that is not. A token belongs to the span when any of its characters do and it begins after the
prompt: so a space that the template writes before an answer is trained only where the tokenizer makes it one token with
the first word, which is then the token that the model must say.

A preference row is trained as a chat of its prompt and its `chosen` answer; `rejected` is not read. In a text row every
token is trained, and the end-of-text token is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from luthier.data.rows import Row
from luthier.errors import GateError, UserError
from luthier.kinds.base import Encoded, MaskProof, ShownRow
from luthier.kinds.causal_lm.proof import prove_mask
from luthier.kinds.causal_lm.template import FAULTY, REMEDIES, Messages, Refusal, Rendered, Template, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "IGNORED",
    "Encoded",
    "Example",
    "MaskProof",
    "Prompt",
    "ShownRow",
    "chat_prompt",
    "encode",
    "end_ids",
    "prompts",
    "prove_mask",
    "text_lengths",
    "trained_on",
]

IGNORED = -100  # the label that cross-entropy leaves out
FORMS = ("chat", "preference", "text")
SHOWN_PLACES = 5
Tokens = tuple[list[int], list[tuple[int, int]]]  # token ids, and the (start, end) characters of each


@dataclass(frozen=True, slots=True)
class Example:
    """One row for training.

    Attributes:
        id: of the row. input_ids: its tokens. labels: the same tokens where they are trained, -100 elsewhere; a label
            stands at the place of its own token, the shift by one is the loss's.
    """

    id: str
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: all of a conversation up to its last answer, as tokens, and that answer as `reference`."""

    id: str
    input_ids: list[int]
    reference: str


@dataclass(slots=True)
class _Draft:
    row: Row
    input_ids: list[int]
    labels: list[int]


def encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Encode rows for training or for measuring the loss.

    A row longer than `max_length` tokens loses its end. When that takes trained tokens, the row is named in
    `truncated`: it no longer teaches the model to stop. Dropped, with a reason, are rows whose prompt alone fills
    `max_length`, rows whose words hold a special token (it would act as one: end a turn, or begin one), rows that the
    template refuses, and rows with an empty answer.

    Args:
        rows: of the forms chat, preference and text. tokenizer: with padding, end of text and a chat template.
        max_length: tokens of an example at most.

    Raises:
        UserError: a row of another form; no row fits `max_length`, or every row was dropped; the template refuses or
            drops the system message.
        GateError: the template changes earlier turns, the assistant's words, or does not end its turns.
    """
    _check_forms(rows)
    drafts, reasons = _drafts(rows, tokenizer)
    examples, truncated, lengths, shortest = [], [], [], None
    for draft in drafts:
        first = next((place for place, label in enumerate(draft.labels) if label != IGNORED), len(draft.labels))
        if first >= max_length:
            reasons[draft.row.id] = f"its prompt of {first} tokens leaves no room for an answer in {max_length}"
            shortest = min(first, shortest or first)
            continue
        if any(label != IGNORED for label in draft.labels[max_length:]):
            truncated.append(draft.row.id)
        examples.append(Example(draft.row.id, draft.input_ids[:max_length], draft.labels[:max_length]))
        lengths.append(len(draft.input_ids))
    if rows and not examples:
        raise _nothing_left(rows, reasons, shortest, max_length)
    dropped = [(row.id, reasons[row.id]) for row in rows if row.id in reasons]
    return Encoded(examples, truncated, dropped, lengths)


def trained_on(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return all rows: none is held back."""
    return list(rows), []


def prompts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """Return what the model is asked, for the rows that have a question.

    Left out are text rows, which ask nothing, and the rows that `encode` drops for their words or their roles.

    Raises:
        UserError: a row of another form; the template refuses or drops the system message.
    """
    _check_forms(rows)
    template = Template(tokenizer)
    asking = [row for row in rows if row.form != "text"]
    conversations = [_messages(row) for row in asking]
    _check_system(template, conversations)
    kept = [
        (row, messages)
        for row, messages in zip(asking, conversations, strict=True)
        if template.look_alike(messages) is None and len(messages) > 1
    ]
    asked = template.ask([messages[:-1] for _, messages in kept])
    whole = template.render([messages for _, messages in kept])
    answered = [
        (row, messages[-1]["content"], one)
        for (row, messages), one, full in zip(kept, asked, whole, strict=True)
        if isinstance(one, Rendered) and isinstance(full, str) and messages[-1]["content"].strip()
    ]
    encoded = _tokenise_turns(tokenizer, [one for _, _, one in answered])
    return [Prompt(row.id, ids, words) for (row, words, _), (ids, _) in zip(answered, encoded, strict=True)]


def chat_prompt(messages: Messages, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of a conversation that the assistant is to go on with: for chat, batch prediction and serving.

    Special tokens in the words of a message are read as plain text, so that no one can end or begin a turn by typing
    them. Without such words the tokens are those of `prompts`.

    Raises:
        UserError: the template does not take the conversation.
    """
    template = Template(tokenizer)
    if template.look_alike(messages) is None:
        asked = template.ask([messages])[0]
        if isinstance(asked, Refusal):
            raise UserError(f"This cannot be asked: {asked.detail}", "", REMEDIES["refused"])
        return _tokenise_turns(tokenizer, [asked])[0][0]
    ids = tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        add_generation_prompt=True,
        return_dict=False,
        sanitize_control_tokens=True,
    )
    return [int(token) for token in ids]  # type: ignore[arg-type]


def text_lengths(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of each whole rendered row, before truncation; 0 for a row that the template refuses.

    Raises:
        UserError: a row of another form.
    """
    _check_forms(rows)
    template = Template(tokenizer)
    chats = [row for row in rows if row.form != "text"]
    rendered = [text if isinstance(text, str) else "" for text in template.render([_messages(row) for row in chats])]
    found = {row.id: len(ids) for row, (ids, _) in zip(chats, _tokenise(tokenizer, rendered), strict=True)}
    found |= {draft.row.id: len(draft.input_ids) for draft in _text_drafts(rows, tokenizer)}
    return [found[row.id] for row in rows]


def end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens at which an answer ends: what the template ends a turn with, and the end-of-text token.

    Raises:
        GateError: the template does not end a turn.
    """
    template, eos = Template(tokenizer), cast("int", tokenizer.eos_token_id)
    return list(dict.fromkeys([template.end_id, eos]))


def mask(offsets: Sequence[tuple[int, int]], turns: Sequence[Turn]) -> list[bool]:
    """Tell for each token whether it is trained.

    Args:
        offsets: (start, end) characters of each token, in order; tokens of one character share it, and a token that
            the tokenizer adds has none (start = end). turns: in order, not overlapping.
    """
    trained, number = [False] * len(offsets), 0
    for token, (start, end) in enumerate(offsets):
        while number < len(turns) and start >= turns[number].end:
            number += 1
        if number == len(turns):
            break
        turn = turns[number]
        if start >= turn.prompt_end:
            trained[token] = end > turn.words_start or start == end == turn.words_start
    return trained


def _drafts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> tuple[list[_Draft], dict[str, str]]:
    """Return the rows as tokens, in order, and the reasons of those left out."""
    reasons: dict[str, str] = {}
    drafts = {draft.row.id: draft for draft in _text_drafts(rows, tokenizer)}
    chats = [row for row in rows if row.form != "text"]
    if chats:
        drafts |= {draft.row.id: draft for draft in _chat_drafts(chats, tokenizer, reasons)}
    for row in rows:
        if row.form == "text" and (token := _special_in(row.content["text"], tokenizer)):
            reasons[row.id] = f"its text holds the special token {token!r}"
    return [drafts[row.id] for row in rows if row.id not in reasons], reasons


def _chat_drafts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, reasons: dict[str, str]) -> list[_Draft]:
    template = Template(tokenizer)
    conversations = [_messages(row) for row in rows]
    _check_system(template, conversations)
    kept = []
    for row, messages in zip(rows, conversations, strict=True):
        if token := template.look_alike(messages):
            reasons[row.id] = f"its words hold the special token {token!r}, which would act as one"
        elif any(m["role"] == "assistant" and not m["content"].strip() for m in messages):
            reasons[row.id] = "an answer of the assistant is empty"
        else:
            kept.append((row, messages))
    read = template.read([messages for _, messages in kept])
    _check_template([(row, one) for (row, _), one in zip(kept, read, strict=True)])
    found: list[tuple[Row, Rendered]] = []
    for (row, _), one in zip(kept, read, strict=True):
        if isinstance(one, Refusal):
            reasons[row.id] = one.detail
        else:
            found.append((row, one))
    drafts = []
    for (row, one), (ids, offsets) in zip(found, _tokenise_turns(tokenizer, [one for _, one in found]), strict=True):
        trained = mask(offsets, one.turns)
        drafts.append(_Draft(row, ids, [token if use else IGNORED for token, use in zip(ids, trained, strict=True)]))
    return drafts


def _text_drafts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[_Draft]:
    texts = [row for row in rows if row.form == "text"]
    eos = cast("int", tokenizer.eos_token_id)
    encoded = _tokenise(tokenizer, [row.content["text"] for row in texts], add_special_tokens=True)
    drafts = []
    for row, (ids, _) in zip(texts, encoded, strict=True):
        whole = ids if ids and ids[-1] == eos else [*ids, eos]
        drafts.append(_Draft(row, whole, list(whole)))
    return drafts


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], add_special_tokens: bool = False
) -> list[Tokens]:
    """Return the tokens of each text and their characters."""
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        add_special_tokens=add_special_tokens,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # a row longer than the model's context is counted, not warned of
    )
    return list(zip(encoded["input_ids"], encoded["offset_mapping"], strict=True))


def _tokenise_turns(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[Rendered]) -> list[Tokens]:
    """Tokenise conversations in pieces that end with their prompts; offsets are those of the whole text."""
    if not _joins_cleanly(tokenizer):
        return _tokenise(tokenizer, [one.text for one in rendered])
    edges = [[0, *(turn.prompt_end for turn in one.turns), len(one.text)] for one in rendered]
    pieces = [one.text[a:b] for one, places in zip(rendered, edges, strict=True) for a, b in pairwise(places)]
    tokens = iter(_tokenise(tokenizer, pieces))
    joined: list[Tokens] = []
    for places in edges:
        ids, offsets = next(tokens)
        for start, (more, spans) in zip(places[1:-1], tokens, strict=False):
            ids += more
            offsets += [(a + start, b + start) for a, b in spans]
        joined.append((ids, offsets))
    return joined


def _joins_cleanly(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tell whether text tokenised in pieces is the text again (not so where each piece gets a space in front)."""
    first, second, both = (ids for ids, _ in _tokenise(tokenizer, ["a\n", "b", "a\nb"]))
    return first + second == both


def _messages(row: Row) -> list[dict[str, str]]:
    if row.form == "preference":
        return [
            {"role": "user", "content": str(row.content["prompt"])},
            {"role": "assistant", "content": str(row.content["chosen"])},
        ]
    return [{"role": message["role"], "content": message["content"]} for message in row.content["messages"]]


def _special_in(text: str, tokenizer: PreTrainedTokenizerBase) -> str | None:
    return next((token for token in tokenizer.all_special_tokens if token in text), None)


def _check_forms(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.form not in FORMS:
            raise UserError(
                f"The kind causal-lm cannot train on rows of the form {row.form!r}, only on {', '.join(FORMS)}.",
                row.place,
                "Set kind: embedding, which trains on pairs, triplets and titles, or give prompts with completions.",
            )


def _check_system(template: Template, conversations: Sequence[Messages]) -> None:
    if any(message["role"] == "system" for messages in conversations for message in messages):
        template.check_system()


def _check_template(read: Sequence[tuple[Row, Rendered | Refusal]]) -> None:
    """Raise a GateError when the template, and not a row, is at fault."""
    refused = [(row, one) for row, one in read if isinstance(one, Refusal) and one.kind != "refused"]
    if not refused:
        return
    kind, detail = refused[0][1].kind, refused[0][1].detail
    places = [row.place for row, one in refused if one.kind == kind]
    more = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
    raise GateError(
        f"{FAULTY} {detail}",
        f"{', '.join(places[:SHOWN_PLACES])}{more}",
        REMEDIES[kind],
    )


def _nothing_left(rows: Sequence[Row], reasons: dict[str, str], shortest: int | None, max_length: int) -> UserError:
    if shortest is not None:
        return UserError(
            f"No row fits data.max_length: the shortest prompt has {shortest} tokens, the limit is {max_length}, and "
            "no room is left for an answer.",
            "data.max_length",
            f"Set data.max_length well above {shortest}.",
        )
    return UserError(
        f"None of the {len(rows)} rows can be trained on; the first: {reasons[rows[0].id]}.",
        rows[0].place,
        "Mend the rows, or choose a base whose chat template takes them.",
    )
