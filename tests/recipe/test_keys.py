"""The schema seen from outside: every key is described, and what it takes can be said in words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from luthier.recipe.keys import Key, all_keys, children, describe, holds, inner
from luthier.recipe.positions import resolve


class Other(BaseModel):
    x: int = 1


def key(annotation: Any, **limits: Any) -> Key:
    class Holder(BaseModel):
        value: annotation = Field(**limits)  # type: ignore[valid-type]

    return Key("value", Holder.model_fields["value"], ())


def undescribed(keys: dict[str, Key]) -> list[str]:
    return [
        one.dotted
        for one in keys.values()
        if not one.field.description and not (one.sections and one.sections[0].__doc__)
    ]


def test_every_key_has_a_description() -> None:
    assert undescribed(all_keys()) == []
    assert undescribed({"value": key(int)}) == ["value"]


def test_no_key_is_described_as_something_else() -> None:
    told = [describe(one) for one in all_keys().values()]
    assert not [text for text in told if "another value" in text]
    assert "another value" in describe(key(bytes))


def test_keys_of_sections() -> None:
    assert children("training.schedule")[:2] == ("name", "warmup")
    assert "data.augment.target" in all_keys()
    assert all_keys()["data.augment.target"].parent == "data.augment"
    assert children("name") == ()


@pytest.mark.parametrize(
    ("annotation", "limits", "words"),
    [
        (int, {"ge": 1, "le": 1024}, "a whole number of at least 1 and at most 1024"),
        (float, {"gt": 0, "lt": 1}, "a number above 0 and below 1"),
        (Annotated[float | None, "mark"], {"gt": 0}, "a number above 0, or off"),
        (Literal["a"], {}, "a"),
        (Literal["a", "b", "c"], {}, "one of a, b or c"),
        (str | list[str], {}, "text, or a list, each text"),
        (dict[Literal["a", "b"], str], {}, "a mapping from one of a or b to text"),
        (bool, {}, "true or false"),
    ],
)
def test_types_in_words(annotation: Any, limits: dict[str, Any], words: str) -> None:
    assert describe(key(annotation, **limits)) == words


def test_what_types_hold() -> None:
    assert holds(Literal["a"] | None, str)
    assert holds(Literal["a"] | None, type(None))
    assert not holds(int | list[str], str)
    assert inner(str | list[int], list) == (int,)
    assert inner(str, list) is None


# The core schema of YAML 1.2: https://yaml.org/spec/1.2.2/#103-core-schema
@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("null", None), ("~", None), ("", None), ("true", True), ("False", False), ("0", 0), ("-19", -19), ("0o7", 7),
        ("0x3A", 58), ("007", 7), ("1_000", 1000), ("0.", 0.0), ("-0.0", -0.0), (".5", 0.5), ("+12e03", 12000.0),
        ("-2E+05", -200000.0), ("5e-4", 5e-4), (".inf", float("inf")), ("-.Inf", float("-inf")), ("yes", "yes"),
        ("off", "off"), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"), ("1.2.3", "1.2.3"), ("e5", "e5"), (".", "."),
        ("-", "-"), ("0b1", "0b1"),
    ],
)  # fmt: skip
def test_plain_words(word: str, value: Any) -> None:
    assert resolve(word) == value
    assert type(resolve(word)) is type(value)
