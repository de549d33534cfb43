"""The layers of a recipe: included files, the file itself, the command line; the later ones win, key by key."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from luthier.errors import UserErrors
from luthier.recipe.positions import Entry, Place, Problems, Source, from_python, parse
from luthier.recipe.translate import put, translate

INCLUDE = "include"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_LAST = 1_000_000


@dataclass(slots=True)
class Reading:
    """What reading gathers: problems, notes on aliases, and how many files were read."""

    problems: Problems = field(default_factory=Problems)
    notes: list[str] = field(default_factory=list)
    files: int = 0


def merge(below: Entry, above: Entry) -> Entry:
    """Return the values of both; where both state a value, `above` wins. Sections are merged key by key."""
    if not (below.is_section and above.is_section):
        return above
    merged = dict(below.value)
    for name, entry in above.value.items():
        merged[name] = merge(merged[name], entry) if name in merged else entry
    return replace(above, value=merged)


def read_file(path: Path, shown: str, reading: Reading) -> Entry:
    """Read a recipe file and what it includes.

    Args:
        path: the file.
        shown: how to name it to the user.
        reading: takes problems and notes.

    Returns:
        A mapping under Luthier's names; empty when nothing could be read.
    """
    return _read(path, shown, path.name, reading, ())


def command_line(overrides: Mapping[str, Any], reading: Reading) -> Entry:
    """Return the values of `--set`, or of `overrides` from Python: dotted name → value."""
    place = Place(Source("--set", "--set", Path.cwd(), _LAST))
    root = Entry({}, place)
    for dotted, value in overrides.items():
        if not all(part.strip() for part in dotted.split(".")):
            reading.problems.add(f"'{dotted}' is not the name of a key.", place, "Write --set training.epochs=1.")
        else:
            put(root, dotted, from_python(value, place))
    return translate(root, reading.problems, reading.notes)


def parse_set(settings: Iterable[str]) -> dict[str, Any]:
    """Return the overrides that `--set key.path=value` asks for; values are read as YAML.

    Args:
        settings: the arguments, such as "training.epochs=1", "adapter.targets=[q_proj]", "data.augment=off".

    Raises:
        UserErrors: all arguments that are not `key=value`, or whose value is not YAML.
    """
    problems = Problems()
    overrides: dict[str, Any] = {}
    for setting in settings:
        source = Source(f"--set {setting}", "--set", Path.cwd(), _LAST)
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            problems.add(f"'{setting}' is not a setting.", Place(source), "Write --set key=value.")
            continue
        entry = parse(value, source, problems)
        if entry:
            overrides[name.strip()] = _without_lines(entry, Place(replace(source, shown="--set")))
    if problems.in_order():
        raise UserErrors(problems.in_order())
    return overrides


def _without_lines(entry: Entry, place: Place) -> Entry:
    value = entry.value
    if isinstance(value, dict):
        value = {name: _without_lines(item, place) for name, item in value.items()}
    elif isinstance(value, list):
        value = [_without_lines(item, place) for item in value]
    return Entry(value, place, entry.text)


def _read(path: Path, shown: str, short: str, reading: Reading, above: tuple[Path, ...]) -> Entry:
    source = Source(shown, short, path.absolute().parent, reading.files)
    reading.files += 1
    start = Place(source)
    text = _text(path, start, reading)
    root = None if text is None else parse(text, source, reading.problems)
    if root is None:
        return Entry({}, start)
    if root.value is None:
        reading.problems.lost(
            "The recipe is empty.", start, "Write one with `luthier init`, or start with `name:` and `data:`."
        )
        return Entry({}, start)
    if not root.is_section:
        what = "a list" if isinstance(root.value, list) else "a single text"
        reading.problems.lost(
            f"A recipe is made of `key: value` lines; this is {what}.", root.place, "Start with `name: my-model`."
        )
        return Entry({}, start)
    stated = dict(root.value)
    include = stated.pop(INCLUDE, None)
    below = Entry({}, start)
    for entry in _include_list(include, reading):
        below = merge(below, _included(entry, source, reading, (*above, path.resolve())))
    return merge(below, translate(Entry(stated, start), reading.problems, reading.notes))


def _include_list(include: Entry | None, reading: Reading) -> list[Entry]:
    if include is None:
        return []
    # The line of an item of a list is its own; that of a single value is the line of its key.
    items: list[Entry] = include.value if isinstance(include.value, list) else [include]
    good = [item for item in items if isinstance(item.value, str) and item.value]
    if len(good) < len(items):
        reading.problems.lost("include takes the name of a file, or a list of them.", include.place)
    return good


def _included(entry: Entry, source: Source, reading: Reading, above: tuple[Path, ...]) -> Entry:
    named = Path(entry.value).expanduser()
    path = source.folder / named
    if path.resolve() in above:
        chain = [*(step.name for step in above[above.index(path.resolve()) :]), path.name]
        reading.problems.lost(
            f"Files include each other in a circle: {' → '.join(chain)}.", entry.place, "Remove one of the includes."
        )
        return Entry({}, entry.place)
    if not path.is_file():
        reading.problems.lost(
            f"The included file '{entry.value}' does not exist.", entry.place, f"It was looked for at {path}."
        )
        return Entry({}, entry.place)
    shown, short = (os.path.normpath(Path(name).parent / named) for name in (source.shown, source.short))
    return _read(path, shown, short, reading, above)


def _text(path: Path, start: Place, reading: Reading) -> str | None:
    """Return the text of a file, or note why it cannot be read. A UTF-8 byte order mark is taken off."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        reading.problems.lost(f"The file cannot be read: {error.strerror or error}.", start, "Check its permissions.")
        return None
    if raw.startswith(_UTF16):
        reading.problems.lost("The file is UTF-16, not UTF-8.", start, "Save it as UTF-8 in your editor.")
        return None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(start.source, raw.count(b"\n", 0, error.start) + 1)
        reading.problems.lost(
            f"The file is not UTF-8: the byte 0x{raw[error.start]:02x} on this line is not text.",
            place,
            "Save it as UTF-8 in your editor.",
        )
        return None
