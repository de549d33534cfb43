"""The chat template at work: conversations become text, and the assistant's part of that text is found.

A span is found by rendering beginnings of the conversation: what the template writes before the assistant speaks (the
prompt, as the model is given it when it answers), and what it writes once the assistant has spoken. Both must be
beginnings of the whole text, so what is found in them holds for the whole. This works for any template, with or without
generation markers; a template for which it does not hold is refused, because a model trained on its text would later
be asked in other words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from luthier.errors import GateError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]

# Llama 3.x writes today's date unless it is given one; this is the date its template falls back to. A fixed date keeps
# a run the same from day to day. Templates that do not know the name are not affected.
VARIABLES: dict[str, Any] = {"date_string": "26 Jul 2024"}
PROBE: Messages = ({"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Well, I think."})
PROBE_SYSTEM = {"role": "system", "content": "Luthier asks whether this is written."}
FOLD = (
    "Put its words at the start of the first user message instead (and leave model.system out), "
    "or choose a base whose template has a system message."
)


@dataclass(frozen=True, slots=True)
class Turn:
    """Where one turn of the assistant stands, in characters of the rendered text.

    Attributes:
        prompt_end: end of what the model is given when it is to answer.
        words_start: where the assistant's words begin; the template may write spaces before them.
        words_end: where they end. end: after the token that ends the turn.
    """

    prompt_end: int
    words_start: int
    words_end: int
    end: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, with every turn of the assistant, in order."""

    text: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a conversation cannot be trained on.

    Attributes:
        kind: "refused" (the template raised: the row's fault), else the template's: "history", "generation-prompt",
            "words", "lead", "ending", "message". detail: one sentence.
    """

    kind: str
    detail: str


class Template:
    """The chat template of a tokenizer.

    Args:
        tokenizer: a fast one (offsets are needed), with a chat template.

    Raises:
        UserError: the tokenizer is not a fast one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                "This tokenizer cannot say which characters a token covers, so the trained tokens cannot be proven.",
                str(tokenizer.name_or_path),
                "Use a base with a fast tokenizer (a tokenizer.json).",
            )
        self.tokenizer = tokenizer
        source = str(tokenizer.get_chat_template())
        added = tokenizer.added_tokens_decoder.values()
        self.special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
        # Some models mark their turns with tokens that are not declared special.
        self.control = {t.content for t in added if t.content in source and t.content.strip()} - self.special

    @cached_property
    def ending(self) -> str:
        """What the template writes from the end of the assistant's words to the end of the turn, as for `PROBE`.

        Raises:
            UserError: the template cannot write a question and an answer.
            GateError: it changes the words of the answer, or does not end the turn.
        """
        text, words = self.render([PROBE])[0], PROBE[-1]["content"]
        if isinstance(text, Refusal):
            raise UserError(
                f"The chat template of this base is no use: {text.detail}", "chat template", REMEDIES["message"]
            )
        before, found, after = text.rpartition(words)
        mark = self._marks.search(after) if found else None
        if mark is None:
            fault = self._endless(after) if found else _changed(before or after)
            raise GateError(f"{FAULTY} {fault.detail}", "chat template", REMEDIES[fault.kind])
        return after[: mark.end()]

    @cached_property
    def end_id(self) -> int:
        """The token that ends a turn of the assistant."""
        matches = self._marks.findall(self.ending)
        token: Any = self.tokenizer.convert_tokens_to_ids(matches[-1])
        return int(token)

    def look_alike(self, messages: Messages) -> str | None:
        """Return a control token that stands in the words of a message, where it would act as one; None if none does.

        A special token counts in every message. A token that is only known from the template (`<think>`) counts
        outside the assistant's words, except for the one that ends a turn.
        """
        everywhere = self._pattern(self.special | {str(self.tokenizer.convert_ids_to_tokens(self.end_id))})
        others = self._marks
        for message in messages:
            pattern = everywhere if message["role"] == "assistant" else others
            if found := pattern.search(message["content"]):
                return found.group()
        return None

    def render(self, conversations: Sequence[Messages], generation_prompt: bool = False) -> list[str | Refusal]:
        """Render conversations; one that the template does not take gives a Refusal in its place.

        Args:
            conversations: each at least one message. generation_prompt: end with what makes the assistant speak.
        """
        try:
            return self._apply(conversations, generation_prompt) if conversations else []
        except Exception:  # a template is foreign code: it raises jinja's errors and Python's
            return [self._render_one(conversation, generation_prompt) for conversation in conversations]

    def read(self, conversations: Sequence[Messages]) -> list[Rendered | Refusal]:
        """Render conversations and find every turn of the assistant, proven against what comes before and after it."""
        wholes = self.render(conversations)
        spoken = [
            (number, place)
            for number, messages in enumerate(conversations)
            if not isinstance(wholes[number], Refusal)
            for place, message in enumerate(messages)
            if message["role"] == "assistant"
        ]
        asked = [(number, place) for number, place in spoken if place > 0]
        early = [(number, place) for number, place in spoken if place + 1 < len(conversations[number])]
        prompts = dict(zip(asked, self.render([conversations[n][:p] for n, p in asked], True), strict=True))
        begun = dict(zip(early, self.render([conversations[n][: p + 1] for n, p in early]), strict=True))
        turns: list[list[Turn]] = [[] for _ in conversations]
        refused: dict[int, Refusal] = {}
        for number, place in spoken:
            texts = (wholes[number], prompts.get((number, place), FIRST), begun.get((number, place), wholes[number]))
            found = self._turn(texts, conversations[number], place)
            if isinstance(found, Refusal):
                refused.setdefault(number, found)
            else:
                turns[number].append(found)
        return [
            refused.get(number) or self._finish(whole, tuple(turns[number]), conversations[number])
            for number, whole in enumerate(wholes)
        ]

    def ask(self, conversations: Sequence[Messages]) -> list[Rendered | Refusal]:
        """Render conversations that the assistant is to go on with; `turns` are those it has had already."""
        asked = self.render(conversations, generation_prompt=True)
        later = [n for n, messages in enumerate(conversations) if any(m["role"] == "assistant" for m in messages)]
        history = dict(zip(later, self.read([conversations[n] for n in later]), strict=True))
        rendered: list[Rendered | Refusal] = []
        for number, text in enumerate(asked):
            before = history.get(number)
            turns = before.turns if isinstance(before, Rendered) else ()
            rendered.append(text if isinstance(text, Refusal) else Rendered(text, turns))
        return rendered

    def check_system(self) -> None:
        """Prove that the template writes a system message.

        Raises:
            UserError: it refuses a system message, or leaves it out without a word.
        """
        with_system, without = self.render([(PROBE_SYSTEM, *PROBE), PROBE])
        if isinstance(with_system, Refusal):
            if isinstance(without, Refusal):
                raise UserError(without.detail, "chat template", REMEDIES["refused"])
            raise UserError(
                f"The chat template of this base takes no system message: {with_system.detail}", "model.system", FOLD
            )
        if PROBE_SYSTEM["content"] not in with_system:
            raise UserError(
                "The chat template of this base silently drops the system message, so it would not be trained with it.",
                "model.system",
                FOLD,
            )

    def _apply(self, conversations: Sequence[Messages], generation_prompt: bool) -> list[str | Refusal]:
        batch = [list(messages) for messages in conversations]
        rendered = self.tokenizer.apply_chat_template(
            batch,  # type: ignore[arg-type]
            tokenize=False,
            add_generation_prompt=generation_prompt,
            **VARIABLES,
        )
        return list(rendered)

    def _render_one(self, messages: Messages, generation_prompt: bool) -> str | Refusal:
        try:
            return self._apply([messages], generation_prompt)[0]
        except Exception as error:
            return Refusal("refused", f"the chat template does not take it: {error}")

    def _turn(self, texts: Sequence[str | Refusal], messages: Messages, place: int) -> Turn | Refusal:
        """Find one turn, `messages[place]`.

        Args:
            texts: the whole conversation, the prompt that asks for this turn, the conversation up to and with it.
        """
        whole, prompt, beginning = (text if isinstance(text, str) else "" for text in texts)
        if missing := next((text for text in texts if isinstance(text, Refusal)), None):
            return missing
        if not beginning.startswith(prompt):
            return self._not_the_prompt(prompt, beginning, messages[:place])
        words = _find(beginning, len(prompt), messages[place]["content"])
        if isinstance(words, Refusal):
            return words
        mark = self._marks.search(beginning, words[1])
        if mark is None:
            return self._endless(beginning[words[1] :])
        if whole[: mark.end()] != beginning[: mark.end()]:
            return Refusal("history", f"{HISTORY} {_difference(beginning[: mark.end()], whole)}")
        return Turn(len(prompt), words[0], words[1], mark.end())

    def _endless(self, after: str) -> Refusal:
        written = f"only {_cut(after)}" if after else "nothing"
        return Refusal("ending", f"it writes no token that ends the assistant's turn; after the words comes {written}.")

    def _not_the_prompt(self, prompt: str, beginning: str, messages: Messages) -> Refusal:
        """Say why what asks for a turn is not how the conversation with that turn begins."""
        before = self.render([messages])[0]
        same_history = isinstance(before, str) and beginning.startswith(before) and prompt.startswith(before)
        kind, told = ("generation-prompt", GENERATION_PROMPT) if same_history else ("history", HISTORY)
        return Refusal(kind, f"{told} {_difference(prompt, beginning)}")

    def _finish(self, whole: str | Refusal, turns: tuple[Turn, ...], messages: Messages) -> Rendered | Refusal:
        """Return the conversation, once every message is found in its text, in order."""
        if isinstance(whole, Refusal):
            return whole
        if not _holds(whole, messages):
            squeezed = [{**message, "content": "".join(message["content"].split())} for message in messages]
            if not _holds("".join(whole.split()), squeezed):
                return Refusal("message", "it leaves out a message, or writes other words than the message has.")
        return Rendered(whole, turns)

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        """Matches the tokens that a template marks turns with."""
        return self._pattern(self.special | self.control)

    def _pattern(self, words: set[str]) -> re.Pattern[str]:
        longest_first = sorted(words, key=lambda word: (-len(word), word))
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


FAULTY = "The chat template of this base cannot be trained with:"
FIRST = Refusal("refused", "the conversation begins with the assistant, so there is nothing to answer.")
HISTORY = "it writes earlier turns in another way once more of the conversation follows."
GENERATION_PROMPT = "it makes the assistant speak with other words than it writes before an answer that is there."
PLAIN = (
    "A model tuned on this text would later be asked in other words. Give the base a chat template that writes every "
    "turn once and leaves it (a chat_template.jinja beside its tokenizer; ChatML does), or choose another base"
)
REMEDIES = {
    "refused": "Mend the order of the roles in the row, or choose a base whose chat template takes it.",
    "history": f"{PLAIN}; rows with a single answer and no system message may pass.",
    "generation-prompt": f"{PLAIN}.",
    "lead": f"{PLAIN}.",
    "words": "Write the answers as the template does, or give the base a template that writes the words as they are.",
    "message": "Give the base a chat template that writes every message, or choose another base.",
    "ending": "A model tuned on this would never stop. Give the base a chat template that ends each answer with one "
    "token of its tokenizer (a chat_template.jinja beside it; ChatML does), or choose another base.",
}


def _find(text: str, start: int, content: str) -> tuple[int, int] | Refusal:
    """Return where `content` stands in `text` from `start` on, after nothing but white space.

    Templates may strip the white space around the words; so the words are looked for as they are, and then stripped.
    """
    blank = len(text) - len(text[start:].lstrip())
    for words in (content, content.strip(), content.rstrip(), content.lstrip()):
        for place in range(start, blank + 1):
            if text.startswith(words, place):
                return place, place + len(words)
    place = text.find(content.strip(), start)
    if place < 0:
        return _changed(text[start:])
    return Refusal(
        "lead",
        f"it writes {_cut(text[start:place])} between the prompt and the answer, which the prompt of a later question "
        "would not have.",
    )


def _changed(text: str) -> Refusal:
    return Refusal("words", f"it does not write the assistant's words as they are: {_cut(text)}.")


def _holds(text: str, messages: Messages) -> bool:
    place = 0
    for message in messages:
        words = message["content"].strip()
        place = text.find(words, place)
        if place < 0:
            return False
        place += len(words)
    return True


def _difference(one: str, other: str) -> str:
    """Show where two texts part."""
    length = min(len(one), len(other))
    place = next((n for n in range(length) if one[n] != other[n]), length)
    start = max(0, place - 24)
    return f"Once: {_cut(one[start:])}, then: {_cut(other[start:])}."


def _cut(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[:length] + "…")
