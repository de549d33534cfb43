"""The keys of the schema, found by walking it, so that nothing here is written per key."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from luthier.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the schema.

    Attributes:
        dotted: its full name, `training.schedule.warmup`.
        field: annotation, limits, default and description.
        sections: the section classes it may hold; empty for a key that holds a value.
    """

    dotted: str
    field: FieldInfo
    sections: tuple[type[BaseModel], ...]

    @property
    def name(self) -> str:
        """The last part of the dotted name."""
        return self.dotted.rpartition(".")[2]

    @property
    def parent(self) -> str:
        """The section it stands in; "" at the top."""
        return self.dotted.rpartition(".")[0]

    @property
    def path_mode(self) -> str:
        """What the schema says of paths in it: "file" (always one), "if-path" (when it looks like one), or ""."""
        extra = self.field.json_schema_extra
        return str(extra.get("path", "")) if isinstance(extra, dict) else ""

    @property
    def kind(self) -> str:
        """The one kind of model that reads it, or ""."""
        extra = self.field.json_schema_extra
        return str(extra.get("kind", "")) if isinstance(extra, dict) else ""

    @property
    def form(self) -> str:
        """What the schema says in words of the form of its text, or ""."""
        extra = self.field.json_schema_extra
        return str(extra.get("form", "")) if isinstance(extra, dict) else ""

    @property
    def is_secret(self) -> bool:
        """Whether a wrong value must not be shown."""
        extra = self.field.json_schema_extra
        return bool(extra.get("secret")) if isinstance(extra, dict) else False


def members(annotation: Any) -> list[Any]:
    """Return the alternatives of a type: unions opened, `Annotated` taken off."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for part in get_args(annotation) for member in members(part)]
    return [annotation]


def literals(annotation: Any) -> list[Any]:
    """Return the fixed words (or numbers) that a type allows."""
    return [word for member in members(annotation) if get_origin(member) is Literal for word in get_args(member)]


def holds(annotation: Any, *kinds: type) -> bool:
    """Whether one of `kinds` is among the alternatives; the words of a Literal count as str."""
    alternatives = members(annotation)
    return any(kind in alternatives for kind in kinds) or (
        str in kinds and any(isinstance(word, str) for word in literals(annotation))
    )


def inner(annotation: Any, container: type) -> tuple[Any, ...] | None:
    """Return the type arguments of the first alternative that is `container[…]`, or None."""
    for member in members(annotation):
        if get_origin(member) is container:
            return get_args(member)
    return None


def _sections(annotation: Any) -> tuple[type[BaseModel], ...]:
    return tuple(member for member in members(annotation) if isinstance(member, type) and issubclass(member, BaseModel))


def _walk(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        key = Key(f"{prefix}{name}", field, _sections(field.annotation))
        yield key
        for child in key.sections:
            yield from _walk(child, f"{key.dotted}.")


@cache
def all_keys() -> dict[str, Key]:
    """Return every key of the recipe, sections included: dotted name → key, in the order of the schema."""
    keys: dict[str, Key] = {}
    for key in _walk(Recipe, ""):
        # Alternative sections under one key may share names: the first one speaks for them.
        keys.setdefault(key.dotted, key)
    return keys


@cache
def children(dotted: str) -> tuple[str, ...]:
    """Return the names of the keys of a section ("" for the top level)."""
    return tuple(key.name for key in all_keys().values() if key.parent == dotted)


def describe(key: Key) -> str:
    """Return in plain words what a key takes: "a number above 0 and below 1", "one of 'a' or 'b', or off"."""
    if key.sections:
        text = f"a section with the keys {', '.join(children(key.dotted))}"
        return f"{text}, or off" if holds(key.field.annotation, type(None)) else text
    text = _describe(key.field.annotation, key.field.metadata)
    return f"{text} ({key.form})" if key.form else text


def _describe(annotation: Any, metadata: list[Any]) -> str:
    parts = []
    for member in members(annotation):
        if get_origin(member) is Literal:
            parts.append(_one_of(get_args(member)))
        elif member is not type(None):
            parts.append(_words(member, metadata))
    if holds(annotation, type(None)):
        parts.append("off")
    return ", or ".join(parts)


def _one_of(words: tuple[Any, ...]) -> str:
    shown = [str(word) for word in words]
    return f"one of {', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else shown[0]


def _words(member: Any, metadata: list[Any]) -> str:
    if get_origin(member) is list:
        least = " with at least one item" if any(getattr(mark, "min_length", None) for mark in metadata) else ""
        return f"a list{least}, each {_describe(get_args(member)[0], [])}"
    if get_origin(member) is dict:
        name, value = get_args(member)
        return f"a mapping from {_describe(name, [])} to {_describe(value, [])}"
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return f"{names.get(member, 'another value')}{_limits(metadata)}"


def _limits(metadata: list[Any]) -> str:
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "at most"}
    found = [
        f"{word} {getattr(mark, name):g}"
        for name, word in words.items()
        for mark in metadata
        if getattr(mark, name, None) is not None
    ]
    return f" {' and '.join(found)}" if found else ""
