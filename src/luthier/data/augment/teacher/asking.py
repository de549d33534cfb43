"""What a teacher is asked, and what its answer must be."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from luthier.data.rows import Form
from luthier.errors import UserError
from luthier.run.embedded import objects

SOURCE = "{source}"
MOST = 16  # variations in one answer at most
CATEGORY = re.compile(r"^[ \t]*[-*][ \t]+([^:\n]{1,40}):", re.MULTILINE)

FIELDS = ("variations", "text", "category")


class Variation(BaseModel):
    """One variation as the teacher writes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str = Field(min_length=1, max_length=2000)
    category: str = Field(min_length=1, max_length=40)


class Written(BaseModel):
    """A teacher's whole answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    variations: list[Variation] = Field(min_length=1, max_length=MOST)


@dataclass(frozen=True)
class Template:
    """The text that a teacher is given, `{source}` standing for the source as a JSON string.

    Attributes:
        text: the whole template. place: its file, for messages.
    """

    text: str
    place: str

    def filled(self, source: str) -> str:
        """Return the text with a source in its place. As JSON a source cannot end the sentence that it stands in."""
        import json

        plain = source.encode("utf-8", "replace").decode()
        return self.text.replace(SOURCE, json.dumps(plain, ensure_ascii=False))

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The categories that it asks for: its list items up to their colon, `- keywords: …`; () when it has none."""
        return tuple(dict.fromkeys(plain_category(found) for found in CATEGORY.findall(self.text)))

    @property
    def digest(self) -> str:
        """The first 16 digits of the template's sha256: which prompt made a row."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def plain_category(name: str) -> str:
    """Return the name of a category in lower case, without marks around it."""
    return name.strip(" \t*_`\"'").lower()


def template(path: Path | None, form: Form) -> Template:
    """Return the template of a recipe, or the shipped one for a form of rows.

    Raises:
        UserError: the file cannot be read, or has no place for the source.
    """
    if path is None:
        name = "titles.txt" if form == "title" else "questions.txt"
        return Template(files("luthier.data.augment.teacher").joinpath(name).read_text(encoding="utf-8"), name)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        place = f"data.augment.prompt: {path}"
        raise UserError("The prompt template cannot be read.", place, "Name a text file in UTF-8.") from error
    if SOURCE not in text:
        raise UserError("The prompt template has no place for the source.", str(path), f"Put {SOURCE} where it goes.")
    return Template(text, str(path))


def schema(categories: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON schema of an answer, in the words that endpoints with structured output agree on."""
    category = {"type": "string", "enum": list(categories)} if categories else {"type": "string"}
    variation = _object({"text": {"type": "string"}, "category": category})
    return _object({"variations": {"type": "array", "items": variation}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse(text: str) -> list[Variation]:
    """Return the variations of an answer; text around the JSON, such as a code fence or thoughts, is passed over.

    Raises:
        ValueError: it holds no such JSON; the message says what is wrong in a few words.
    """
    wrong = "it holds no JSON"
    for found in objects(text):
        try:
            return Written.model_validate(found).variations
        except ValidationError as error:
            wrong = _told(error)
    raise ValueError(wrong)


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"] if part in FIELDS)  # not its own words
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def wrong_with(text: str) -> str | None:
    """Return why an answer cannot be used, None when it can."""
    try:
        parse(text)
    except ValueError as error:
        return str(error)
    return None
