"""What the schema refused, in plain words: one error per key, with its line, what it takes and what it got."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from luthier.errors import did_you_mean
from luthier.recipe.keys import Key, all_keys, children, describe, inner, literals
from luthier.recipe.positions import Entry, Place, Problems
from luthier.recipe.section import ContradictionError
from luthier.recipe.translate import lookup


def explain(error: ValidationError, root: Entry, problems: Problems) -> None:
    """Add the errors of the schema to `problems`, at most one for each key.

    Args:
        error: what pydantic raised for the values of `root`.
        root: the values with their places.
        problems: takes the errors. When part of the recipe could not be read, absent keys are no news.
    """
    seen = set()
    for detail in error.errors(include_url=False, include_input=False):
        dotted = _dotted(detail["loc"])
        if dotted in seen:
            continue
        seen.add(dotted)
        if detail["type"] == "missing":
            if not problems.incomplete:
                _missing(dotted, root, problems)
        elif detail["type"] in ("value_error", "assertion_error"):
            if not problems.incomplete:
                _contradiction(dotted, detail["ctx"]["error"], root, problems)
        else:
            _refused(all_keys()[dotted], root, problems)


def _dotted(loc: tuple[int | str, ...]) -> str:
    """Return the key that an error is about: pydantic mixes the tags of unions and list positions into its names."""
    parts: list[str] = []
    for part in loc:
        if ".".join([*parts, str(part)]) in all_keys():
            parts.append(str(part))
    return ".".join(parts)


def _nearest(dotted: str, root: Entry) -> Place:
    """Return the place of a key, or of the section around it, or of the file."""
    while dotted:
        entry = lookup(root, dotted)
        if entry:
            return entry.place
        dotted = dotted.rpartition(".")[0]
    return root.place


def _missing(dotted: str, root: Entry, problems: Problems) -> None:
    key = all_keys()[dotted]
    needs = f"{key.field.description}." if key.field.description else f"It takes {describe(key)}."
    if key.sections:
        required = [name for name in children(dotted) if all_keys()[f"{dotted}.{name}"].field.is_required()]
        needs = f"It needs at least {', '.join(required)}." if required else needs
    problems.add(f"{dotted} is missing.", _nearest(dotted, root), f"Add it: {needs}")


def _contradiction(dotted: str, error: Exception, root: Entry, problems: Problems) -> None:
    """Tell what a section or key says against itself, with the values that do so."""
    if isinstance(error, ContradictionError):
        problems.add(f"{error}.", _nearest(error.key, root), error.remedy)
        return
    stated = []
    for name in children(dotted):
        path = f"{dotted}.{name}" if dotted else name
        entry, key = lookup(root, path), all_keys()[path]
        if entry and not entry.is_section:
            stated.append(f"{name} {_shown(entry)}")
        elif not entry and isinstance(key.field.default, int | float) and not isinstance(key.field.default, bool):
            stated.append(f"{name} {key.field.default:g} (default)")
    remedy = f"Values now: {', '.join(stated)}." if stated else ""
    problems.add(f"{dotted or 'The recipe'}: {error}.", _nearest(dotted, root), remedy)


def _refused(key: Key, root: Entry, problems: Problems) -> None:
    entry = lookup(root, key.dotted)
    name = f"{entry.alias} ({key.dotted})" if entry and entry.alias else key.dotted
    got = "; it has no value" if entry is None or entry.value is None else f", not {_shown(entry)}"
    if key.is_secret:  # the key itself may stand where its name belongs: it is repeated nowhere
        meant = f"It is the {key.field.description}."
        problems.add(f"{name} must be {describe(key)}.", _nearest(key.dotted, root), meant)
    else:
        problems.add(f"{name} must be {describe(key)}{got}.", _nearest(key.dotted, root), _remedy(key, entry))


def _remedy(key: Key, entry: Entry | None) -> str:
    word = str(entry.plain) if entry else ""
    for child in children(key.dotted):
        dotted = f"{key.dotted}.{child}"
        if word in literals(all_keys()[dotted].field.annotation):
            return f"Did you mean '{dotted}: {word}'?"
    otherwise = _action(key)
    if entry and entry.text and entry.value is not None and inner(key.field.annotation, list):
        otherwise = f"Write a list: {key.name}: [{entry.text}]."
    return did_you_mean(word, [str(one) for one in literals(key.field.annotation)], otherwise)


def _action(key: Key) -> str:
    """Return what to write instead, and what the key means."""
    default = key.field.get_default(call_default_factory=True)
    if key.sections:
        action = "Write its keys below it."
    elif key.field.is_required() or default in ([], {}):
        action = f"Give {describe(key)}."
    elif default is None:
        action = f"Give {describe(key)}, which is the default."
    else:
        action = f"Give {describe(key)}; the default is {_written(default)}."
    return f"{action} It means: {key.field.description}." if key.field.description else action


def _written(value: Any) -> str:
    """Return a default as one would write it in a recipe."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(entry: Entry) -> str:
    value = entry.plain
    if isinstance(value, dict):
        return f"a section with the keys {', '.join(value)}" if value else "an empty section"
    if isinstance(value, list) and not value:
        return "an empty list"
    if entry.text is not None:
        value = entry.text
    text = str(value) if entry.text is not None and not isinstance(entry.value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
