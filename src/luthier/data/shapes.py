"""Bring one record into the canonical shape of its form, whatever layout it came in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

import orjson

from luthier.data.formats import Layout, roles
from luthier.data.records import what

Message = dict[str, str]


class Unfit(Exception):  # noqa: N818
    """A record that does not fit its layout; `reason` and `detail` as in `Rejected`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def content_of(record: Mapping[str, Any], layout: Layout, system: str | None) -> dict[str, Any]:
    """Return the content of a row (see `Row`).

    Args:
        record: columns of one record.
        layout: which column means what.
        system: system message for conversations that have none.

    Raises:
        Unfit: a field is missing, null, or of the wrong type.
    """
    fields = _Fields(record, layout)
    content = _SHAPES[layout.name](fields)
    if layout.form == "chat":
        content["messages"] = _with_system(content["messages"], fields.optional_text("system") or system or "")
    return content


class _Fields:
    """The fields of one record by Luthier's names."""

    def __init__(self, record: Mapping[str, Any], layout: Layout) -> None:
        self._record = record
        self._columns = layout.fields

    def value(self, name: str) -> Any:
        """Return a required field as found."""
        column = self._columns.get(name, name)
        if column not in self._record:
            found = ", ".join(self._record) or "nothing"
            raise Unfit("missing-field", f"The row has no {column!r}; it has: {found}.")
        value = self._record[column]
        if value is None:
            raise Unfit("missing-field", f"{column!r} is null.")
        return value

    def text(self, name: str) -> str:
        """Return a required field as text."""
        value = self.value(name)
        return value if isinstance(value, str) else as_text(value, self._columns.get(name, name))

    def optional(self, name: str) -> Any:
        """Return a field, None when it is absent, null or an empty text."""
        column = self._columns.get(name)
        value = None if column is None else self._record.get(column)
        return None if value == "" else value

    def optional_text(self, name: str) -> str:
        value = self.optional(name)
        return "" if value is None else as_text(value, self._columns[name])

    def names(self) -> list[str]:
        return list(self._columns)


def as_text(value: Any, name: str) -> str:
    """Return a scalar as text: numbers and true/false as JSON writes them.

    Raises:
        Unfit: null, a list, an object or bytes.
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise Unfit("empty", f"{name!r} is null.")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Unfit("malformed", f"{name!r} is {what(value)}, not text.")


def messages_of(value: Any, name: str) -> list[Message]:
    """Return a conversation as a list of {role, content}; role/content and from/value are both understood.

    Raises:
        Unfit: not a list of messages, an unknown role, content that is not text.
    """
    if isinstance(value, str):
        value = _parsed(value, name)
    if not isinstance(value, list):
        raise Unfit("malformed", f"{name!r} is {what(value)}, not a list of messages.")
    if not value:
        raise Unfit("empty", f"{name!r} holds no messages.")
    return [_message(item, f"message {place} of {name!r}") for place, item in enumerate(value, 1)]


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, Mapping):
        raise Unfit("malformed", f"{where} is {what(item)}, not an object.")
    role = item.get("role", item.get("from"))
    if role is None or ("content" not in item and "value" not in item):
        raise Unfit("malformed", f"{where} lacks role and content; it has: {', '.join(map(str, item)) or 'nothing'}.")
    known = roles().get(role.lower()) if isinstance(role, str) else None
    if known is None:
        raise Unfit("malformed", f"{where} has an unknown role {role!r}.")
    content = item["content"] if "content" in item else item["value"]
    return {"role": known, "content": _message_text(content, where)}


def _message_text(content: Any, where: str) -> str:
    """Return the text of a message, also from a list of parts {type: text, text}."""
    if isinstance(content, list) and content:
        texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        if all(isinstance(text, str) for text in texts):
            return "\n".join(str(text) for text in texts)
        raise Unfit("malformed", f"{where} has parts that are not text.")
    return as_text(content, where)


def _parsed(text: str, name: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unfit("malformed", f"{name!r} is text that is not a JSON list of messages.") from error


def _with_system(messages: list[Message], system: str) -> list[Message]:
    """Put the system message first, unless the conversation has one; an empty one is none."""
    messages = [message for message in messages if message["role"] != "system" or message["content"].strip()]
    if not system or any(message["role"] == "system" for message in messages):
        return messages
    return [{"role": "system", "content": system}, *messages]


def _conversation(fields: _Fields, name: str) -> dict[str, Any]:
    return {"messages": messages_of(fields.value(name), name)}


def _turn(fields: _Fields, prompt: str, completion: str) -> dict[str, Any]:
    asked, answered = {"role": "user", "content": prompt}, {"role": "assistant", "content": completion}
    return {"messages": [*_history(fields.optional("history")), asked, answered]}


def _history(value: Any) -> list[Message]:
    """Return earlier turns, given as pairs [user, assistant] or as messages."""
    if isinstance(value, str):
        value = _parsed(value, "history")
    if value is None or value == []:
        return []
    if not isinstance(value, list):
        raise Unfit("malformed", f"'history' is {what(value)}, not a list of turns.")
    if not all(isinstance(turn, list) and len(turn) == 2 for turn in value):
        return messages_of(value, "history")
    return [
        {"role": role, "content": as_text(text, "history")}
        for turn in value
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]


def _alpaca(fields: _Fields) -> dict[str, Any]:
    instruction, further = fields.text("instruction"), fields.optional_text("input")
    prompt = f"{instruction}\n\n{further}" if further.strip() else instruction
    return _turn(fields, prompt, fields.text("output"))


def _prompt_completion(fields: _Fields) -> dict[str, Any]:
    return _turn(fields, fields.text("prompt"), fields.text("completion"))


def _preference(fields: _Fields) -> dict[str, Any]:
    """Return texts: of message lists the last message of each side, and what both sides share as the prompt."""
    sides = [fields.value(name) for name in ("chosen", "rejected")]
    if not all(isinstance(side, list) for side in sides):
        chosen, rejected = fields.text("chosen"), fields.text("rejected")
        return {"prompt": _prompt(fields.value("prompt"), "prompt"), "chosen": chosen, "rejected": rejected}
    lists = [messages_of(side, name) for side, name in zip(sides, ("chosen", "rejected"), strict=True)]
    turns = zip(lists[0][:-1], lists[1][:-1], strict=False)
    shared = [one for one, _ in takewhile(lambda turn: turn[0] == turn[1], turns)]
    prompt = fields.optional("prompt")
    if prompt is None and not shared:
        raise Unfit("missing-field", "There is no 'prompt', and chosen and rejected do not begin alike.")
    asked = _prompt(prompt, "prompt") if prompt is not None else _prompt(shared, "chosen")
    return {"prompt": asked, "chosen": lists[0][-1]["content"], "rejected": lists[1][-1]["content"]}


def _prompt(value: Any, name: str) -> str:
    if not isinstance(value, list):
        return as_text(value, name)
    messages = messages_of(value, name)
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _pair(fields: _Fields) -> dict[str, Any]:
    content: dict[str, Any] = {"texts": [fields.text("anchor"), fields.text("positive")]}
    score = fields.optional("score")
    if score is None:
        return content
    try:
        number = float(score)
    except (TypeError, ValueError) as error:
        raise Unfit("malformed", f"The score is {score!r}, not a number.") from error
    if not math.isfinite(number):
        raise Unfit("malformed", f"The score is {score!r}, not a finite number.")
    return content | {"score": number}


def _triplet(fields: _Fields) -> dict[str, Any]:
    negatives: list[str] = []
    for name in fields.names():
        if not name.startswith("negative"):
            continue
        value = fields.value(name) if name == "negative" else fields.optional(name)
        many = value if isinstance(value, list) else [value]
        negatives += [as_text(one, name) for one in many if one is not None]
    if not negatives:
        raise Unfit("empty", "There is no negative text.")
    return {"texts": [fields.text("anchor"), fields.text("positive"), *negatives]}


_SHAPES: dict[str, Callable[[_Fields], dict[str, Any]]] = {
    "alpaca": _alpaca,
    "sharegpt": lambda fields: _conversation(fields, "conversations"),
    "messages": lambda fields: _conversation(fields, "messages"),
    "prompt-completion": _prompt_completion,
    "text": lambda fields: {"text": fields.text("text")},
    "preference": _preference,
    "pairs": _pair,
    "triplets": _triplet,
    "titles": lambda fields: {"title": fields.text("title"), "label": fields.text("label")},
}
