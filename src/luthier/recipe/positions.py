"""YAML with positions: every value keeps the file and the line that state it.

Plain words are read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), not by YAML 1.1 as
PyYAML does: `5e-4` is a number, `010` is ten, `12:30` and `2026-01-01` are text, and `on`, `off`, `yes`, `no` stay
words until the key they belong to says what they mean. Digits may be grouped: `100_000`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from luthier.errors import UserError

MAX_DEPTH = 20
MAX_VALUES = 20_000

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]{0,60}")
_BASED = re.compile(r"0o[0-7]{1,60}|0x[0-9a-fA-F]{1,60}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "map", "seq")}


@dataclass(frozen=True, slots=True)
class Source:
    """A file, or the command line, that states values.

    Attributes:
        shown: how errors name it: the path as the user gave it, or "--set".
        short: how origins name it: the path from the folder of the recipe, or "--set".
        folder: absolute; relative paths stated here start from it.
        order: errors are listed by it, then by line.
    """

    shown: str
    short: str
    folder: Path
    order: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is stated. `line` is 1-based; 0 where there are no lines."""

    source: Source
    line: int = 0

    def __str__(self) -> str:
        return f"{self.source.shown}:{self.line}" if self.line else self.source.shown

    @property
    def origin(self) -> str:
        """The place as `luthier recipe show` prints it."""
        return f"{self.source.short}:{self.line}" if self.line else self.source.short


@dataclass(frozen=True, slots=True)
class Entry:
    """A value with its place.

    Attributes:
        value: a dict of entries, a list of entries, or a plain Python value.
        place: where it is stated.
        text: the word as it was written, for unquoted scalars; None for quoted ones, mappings and lists.
        alias: the name of another tool under which it was given, or "".
    """

    value: Any
    place: Place
    text: str | None = None
    alias: str = ""

    @property
    def is_section(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.value, dict)

    @property
    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {name: entry.plain for name, entry in self.value.items()}
        if isinstance(self.value, list):
            return [entry.plain for entry in self.value]
        return self.value


class Problems:
    """The errors found so far, each with its place, to be reported together."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int, UserError]] = []
        self.incomplete = False

    def add(self, problem: str, place: Place, remedy: str = "") -> None:
        """Note an error."""
        error = UserError(problem, str(place), remedy)
        self._found.append((place.source.order, place.line, error))

    def lost(self, problem: str, place: Place, remedy: str = "") -> None:
        """Note an error that keeps part of the recipe from being read, so that absent keys say nothing."""
        self.incomplete = True
        self.add(problem, place, remedy)

    def in_order(self) -> list[UserError]:
        """Return the errors by file and line."""
        return [error for _, _, error in sorted(self._found, key=lambda found: found[:2])]


class _Loader(yaml.SafeLoader):
    """Resolves nothing by itself: `resolve` does, once the style of the scalar is known."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


def resolve(word: str) -> Any:
    """Return the Python value of an unquoted word: None, bool, int, float or the word itself."""
    lowered = word.lower()
    if lowered in ("", "~", "null"):
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    if _INTEGER.fullmatch(word):
        return int(word.replace("_", ""))
    if _BASED.fullmatch(word):
        return int(word, 0)
    if _FLOAT.fullmatch(word):
        return float(word.replace("_", ""))
    return float(_SPECIAL[lowered]) if lowered in _SPECIAL else word


def parse(text: str, source: Source, problems: Problems) -> Entry | None:
    """Read one YAML document. Returns None where it cannot be read, and the value None where there is nothing.

    Args:
        text: the document.
        source: what states it.
        problems: takes what is wrong: syntax, duplicate keys, tags, keys that are not words.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problems.lost(*_explained(error, text, source))
        return None
    return Entry(None, Place(source), text="") if node is None else _Reader(source, problems).read(node)


def from_python(value: Any, place: Place) -> Entry:
    """Wrap a Python value; paths become text, tuples become lists."""
    if isinstance(value, Entry):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        return Entry({str(name): from_python(item, place) for name, item in value.items()}, place)
    if isinstance(value, list | tuple):
        return Entry([from_python(item, place) for item in value], place)
    return Entry(value, place, text=str(value).lower() if isinstance(value, bool) else str(value))


class _Reader:
    """Turns composed nodes into entries."""

    def __init__(self, source: Source, problems: Problems) -> None:
        self._source = source
        self._problems = problems
        self._count = 0

    def read(self, node: yaml.Node, depth: int = 0) -> Entry:
        place = self._place(node)
        self._count += 1
        # An anchor may contain itself, or repeat itself into billions of values.
        if depth > MAX_DEPTH or self._count > MAX_VALUES:
            if self._count < 2 * MAX_VALUES:
                self._problems.lost(
                    "The values are nested too deeply, or an anchor repeats itself.", place, "Write them out."
                )
                self._count = 2 * MAX_VALUES
            return Entry(None, place)
        if node.tag not in _PLAIN_TAGS:
            self._problems.add(f"Tags such as {node.tag} are not read.", place, "Remove the tag; keep the value.")
        if isinstance(node, yaml.MappingNode):
            return Entry(self._mapping(node, depth), place)
        if isinstance(node, yaml.SequenceNode):
            return Entry([self.read(item, depth + 1) for item in node.value], place)
        if getattr(node, "style", None):
            return Entry(node.value, place)
        return Entry(resolve(node.value), place, text=node.value)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            place = self._place(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.add("A key must be one word.", place, "Write `key: value`.")
                continue
            name = str(key_node.value)
            if name in lines:
                self._problems.add(
                    f"'{name}' is given twice: on line {lines[name]} and on line {place.line}.", place, "Keep one."
                )
                continue
            lines[name] = place.line
            entry = self.read(value_node, depth + 1)
            # The line of the key, not of the value: that is where the reader looks.
            entries[name] = Entry(entry.value, place, entry.text)
        return entries

    def _place(self, node: yaml.Node) -> Place:
        return Place(self._source, node.start_mark.line + 1)


def _explained(error: yaml.YAMLError, text: str, source: Source) -> tuple[str, Place, str]:
    """Put PyYAML's words into plain ones: problem, place, remedy."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"A control character (number {error.character}) stands here.", Place(source, line), "Remove it."
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = Place(source, mark.line + 1 if mark else 1)
    what = str(getattr(error, "problem", None) or error)
    for words, problem, remedy in _SYNTAX:
        if words in what:
            return problem, place, remedy
    return f"This is not YAML: {what}.", place, "Compare the indentation and the quotes with the lines above."


_SYNTAX = (
    (
        "'\\t' that cannot start",
        "A tab stands where spaces are needed.",
        "YAML indents with spaces: replace the tab by two spaces for each level.",
    ),
    (
        "mapping values are not allowed",
        "A colon stands where none is expected.",
        "Put text that holds `: ` in quotes, and check that the line is indented like its neighbours.",
    ),
    (
        "could not find expected ':'",
        "A key without a colon, or a text that goes on without being indented.",
        "Write `key: value`, with a space after the colon.",
    ),
    (
        "expected <block end>",
        "The indentation does not fit the lines above, or quotes or brackets end too early.",
        "Indent the keys of one section by the same number of spaces.",
    ),
    (
        "found unexpected end of stream",
        "A quote is opened here or above and never closed.",
        "Close it; an apostrophe inside '…' is written twice.",
    ),
    ("expected ',' or", "A bracket is opened and never closed, or a comma is missing.", "Close it on the same line."),
    ("but found another document", "There is a second document after `---`.", "Keep one recipe in a file."),
    ("found undefined alias", "A word starts with `*`, the sign of an anchor, and there is none.", "Put it in quotes."),
)
