"""Tell the layout of records by their columns, and which column means what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NoReturn

import yaml

from luthier.data.rows import Form
from luthier.errors import UserError, did_you_mean

MISSING = "(column)"
_LISTS = ("messages", "conversations")
_NEGATIVE = re.compile(r"(?:hard_)?neg(?:ative)?s?_?\d*$")
_ORDERED = {"pairs": ("anchor", "positive"), "triplets": ("anchor", "positive", "negative")}
_EXAMPLE = "Name the columns in data.fields, for example {prompt: QUESTION_COLUMN, completion: ANSWER_COLUMN}."


@dataclass(frozen=True, slots=True)
class Layout:
    """How records of one file are read.

    Attributes:
        name: the format: alpaca, sharegpt, messages, prompt-completion, text, preference, pairs, triplets, titles.
        form: the form of the rows it makes.
        fields: what makes up the content: Luthier's field name -> column. Further negatives are `negative_2`, ….
        declared: every other field that the user declared: label name (or `id`, `group`) -> column.
    """

    name: str
    form: Form
    fields: dict[str, str]
    declared: dict[str, str]

    def label_name(self, column: str) -> str | None:
        """Return under which name a column is kept as a label; None when it is content, id or group."""
        if column in self.fields.values():
            return None
        for name, declared in self.declared.items():
            if declared == column:
                return None if name in ("id", "group") else name
        if column in ("id", "group") and column not in self.declared:
            return None
        return f"{column} {MISSING}" if column in self.declared else column

    def column(self, name: str) -> str:
        """Return the column of `id` or `group`."""
        return self.declared.get(name, name)


@dataclass(frozen=True, slots=True)
class _Spec:
    """One entry of layouts.yaml."""

    name: str
    form: Form
    required: dict[str, list[str]]
    optional: dict[str, list[str]]


class _Columns:
    """The columns of a sample of records and what kind of values they hold."""

    def __init__(self, sample: Sequence[Mapping[str, Any]]) -> None:
        self.names = list(dict.fromkeys(name for value in sample for name in value))
        self._sample = sample
        self._lower: dict[str, str] = {}
        for name in self.names:
            self._lower.setdefault(name.lower(), name)

    def named(self, name: str) -> str | None:
        return name if name in self.names else self._lower.get(name)

    def any_of(self, names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(found for name in names if (found := self.named(name)) is not None))

    def values(self, column: str) -> list[Any]:
        return [value[column] for value in self._sample if value.get(column) not in (None, "")]

    def numeric(self, column: str) -> bool:
        values = self.values(column)
        return bool(values) and all(_is_number(value) for value in values)

    def listed(self, column: str) -> bool:
        values = self.values(column)
        return any(isinstance(value, list) or (isinstance(value, str) and value.startswith("[")) for value in values)

    def textual(self, column: str) -> bool:
        values = self.values(column)
        return any(isinstance(value, str) for value in values) and not self.numeric(column)


def detect(sample: Sequence[Mapping[str, Any]], format_: str, fields: Mapping[str, str], place: str) -> Layout:
    """Return the layout of records.

    Args:
        sample: some records of one file, at least one.
        format_: a format name, or `auto`.
        fields: Luthier's field name -> column, as declared by the user.
        place: the file, for messages.

    Raises:
        UserError: the layout is unknown or ambiguous, or the given one (or a declared field) does not fit the columns.
    """
    columns = _Columns(sample)
    specs = _specs() if format_ == "auto" else tuple(spec for spec in _specs() if spec.name == format_)
    if not specs:
        names = list(dict.fromkeys(spec.name for spec in _specs()))
        remedy = did_you_mean(format_, names, f"Formats are auto, {', '.join(names)}.")
        raise UserError(f"{format_!r} is not a format.", "data.format", remedy)
    content = {name for spec in specs for name in (*spec.required, *spec.optional)}
    for name in content & set(fields):
        require_column(name, fields[name], columns.names, place)
    found: list[Layout] = []
    ambiguous: UserError | None = None
    for spec in specs:
        try:
            layout = _fitted(spec, columns, fields, place)
        except UserError as error:
            ambiguous = ambiguous or (None if found else error)
            continue
        found += [layout] if layout else []
    # The layout that makes use of most of the declared fields; the first of layouts.yaml among equals.
    best = max(found, key=lambda layout: len(set(layout.fields) & set(fields)), default=None)
    if ambiguous is not None and (best is None or not set(best.fields) & set(fields)):
        raise ambiguous
    if best is not None:
        return best
    ordered = _by_order(columns, fields, format_)
    return ordered or _unknown(columns, specs, format_, fields, place)


def require_column(name: str, column: str, columns: Sequence[str], place: str) -> None:
    """Raise UserError when the column that a declared field names is not there."""
    if column not in columns:
        found = ", ".join(columns) or "none"
        remedy = did_you_mean(column, columns, "Name one of these columns.")
        raise UserError(f"data.fields.{name} names a column {column!r}; columns found: {found}.", place, remedy)


@cache
def roles() -> dict[str, str]:
    """Return every known name of a role -> user, assistant, system or tool."""
    return {name: role for role, names in _table()["roles"].items() for name in names}


@cache
def _table() -> dict[str, Any]:
    text = resources.files("luthier.data").joinpath("layouts.yaml").read_text("utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    return table


@cache
def _specs() -> tuple[_Spec, ...]:
    return tuple(
        _Spec(entry["name"], entry["form"], entry["required"], entry.get("optional", {}))
        for entry in _table()["layouts"]
    )


def _fitted(spec: _Spec, columns: _Columns, fields: Mapping[str, str], place: str) -> Layout | None:
    """Return the layout if every required field has its column, else None.

    Raises:
        UserError: all are there, but one of them in several columns.
    """
    taken = set(fields.values())
    choices: dict[str, list[str]] = {}
    for name, names in spec.required.items():
        choices[name] = [fields[name]] if name in fields else _choices(name, names, columns, taken)
        if not choices[name]:
            return None
    chosen = {name: found[0] for name, found in choices.items()}
    if any(name in chosen and not columns.listed(chosen[name]) for name in _LISTS):
        return None
    if len(set(chosen.values())) < len(chosen):
        return None
    for name, found in choices.items():
        if len(found) > 1 and spec.form == "chat":
            listed = ", ".join(map(repr, found))
            raise UserError(
                f"The {name} may be any of the columns {listed}.", place, f"Say which: data.fields {{{name}: COLUMN}}."
            )
    for name, names in spec.optional.items():
        found = [fields[name]] if name in fields else columns.any_of([name, *names])
        found = [
            column for column in found if column not in chosen.values() and (name in fields or column not in taken)
        ]
        if found and (name != "score" or name in fields or columns.numeric(found[0])):
            chosen[name] = found[0]
    if spec.form == "triplet":
        chosen |= _further_negatives(columns, chosen, taken)
    return _layout(spec.name, spec.form, chosen, fields)


def _choices(name: str, names: list[str], columns: _Columns, taken: set[str]) -> list[str]:
    own = columns.any_of([name])
    return [column for column in (own or columns.any_of(names)) if column not in taken]


def _further_negatives(columns: _Columns, chosen: dict[str, str], taken: set[str]) -> dict[str, str]:
    rest = [name for name in columns.names if name not in chosen.values() and name not in taken]
    negatives = [name for name in rest if _NEGATIVE.match(name.lower())]
    return {f"negative_{place}": column for place, column in enumerate(negatives, 2)}


def _by_order(columns: _Columns, fields: Mapping[str, str], format_: str) -> Layout | None:
    """Read embedding data by the order of its columns: texts, and a label or score column.

    Unasked, only two texts beside a column of scores are taken so: three texts may be anything.
    """
    score = fields.get("score") or next(
        (name for name in columns.any_of(["score", "scores", "label", "labels"]) if columns.numeric(name)), None
    )
    others = {*fields.values(), "id", "group", *columns.any_of(["score", "scores", "label", "labels"])}
    texts = [name for name in columns.names if name not in others and columns.textual(name)]
    names = _ORDERED.get(format_, ())
    if format_ == "auto" and score is not None and len(texts) == 2:
        names = _ORDERED["pairs"]
    chosen = {name: fields[name] for name in names if name in fields}
    open_names = [name for name in names if name not in fields]
    if not names or len(texts) < len(open_names):
        return None
    chosen |= dict(zip(open_names, texts, strict=False))
    ordered = {name: chosen[name] for name in names}
    if len(names) == 3:
        rest = [name for name in texts if name not in ordered.values() and _NEGATIVE.match(name.lower())]
        ordered |= {f"negative_{place}": column for place, column in enumerate(rest, 2)}
        return _layout("triplets", "triplet", ordered, fields)
    return _layout("pairs", "pair", ordered | ({"score": score} if score else {}), fields)


def _layout(name: str, form: Form, chosen: dict[str, str], fields: Mapping[str, str]) -> Layout:
    return Layout(name, form, chosen, {key: column for key, column in fields.items() if key not in chosen})


def _unknown(
    columns: _Columns, specs: Sequence[_Spec], format_: str, fields: Mapping[str, str], place: str
) -> NoReturn:
    found = ", ".join(columns.names) or "none"
    if format_ == "auto":
        raise UserError(f"The layout of this file is not known; columns found: {found}.", place, _EXAMPLE)
    required = specs[0].required
    absent = [name for name, names in required.items() if name not in fields and not columns.any_of([name, *names])]
    wanted = ", ".join(absent or required)
    remedy = did_you_mean((absent or [""])[0], columns.names)
    raise UserError(
        f"Format {format_} needs {wanted}; columns found: {found}.",
        place,
        f"{remedy} Name its column in data.fields, or choose another data.format.".strip(),
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int | float)
