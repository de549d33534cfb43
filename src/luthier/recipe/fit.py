"""Values as the schema takes them: words by the type of their key, paths from the folder of their file, unknown keys.

A bare `yes`, `no`, `on` or `off` is a truth value only where a key takes one, `off`, `none`, `no` and `false` stand for
absence where a key may be absent, and a bare number is text where a key takes text. Quoted words are always text.
"""

from __future__ import annotations

import difflib
import glob
import os
from pathlib import Path
from typing import Any

from luthier.errors import did_you_mean
from luthier.recipe.aliases import accepted_in, advice, aliases
from luthier.recipe.keys import Key, all_keys, children, holds, inner, literals
from luthier.recipe.positions import Entry, Problems

OFF_WORDS = ("off", "none", "no", "false")
ON_WORDS = ("on", "yes", "true")
_TRUTH = {"yes": True, "on": True, "no": False, "off": False}


def fit(root: Entry, problems: Problems) -> dict[str, Any]:
    """Return plain values for the schema to validate; unknown keys are left out and noted in `problems`."""
    return _section(root, "", problems)


def _section(section: Entry, dotted: str, problems: Problems) -> dict[str, Any]:
    known = children(dotted)
    values = {}
    for name, entry in section.value.items():
        path = f"{dotted}.{name}" if dotted else name
        if name not in known:
            problems.add(*_unknown(name, dotted, entry))
            continue
        key = all_keys()[path]
        if key.sections and entry.is_section:
            values[name] = _section(entry, path, problems)
        elif key.sections:
            values[name] = _no_section(key, entry)
        else:
            values[name] = _value(entry, key.field.annotation, key, problems)
    return values


def _no_section(key: Key, entry: Entry) -> Any:
    """Read what stands where a section is expected: nothing, off, or on for its defaults."""
    word = (entry.text or "").lower()
    optional = holds(key.field.annotation, type(None))
    if entry.value is None:
        return None if optional else {}
    if optional and word in OFF_WORDS:
        return None
    return {} if optional and word in ON_WORDS else entry.plain


def _value(entry: Entry, annotation: Any, key: Key, problems: Problems) -> Any:
    if isinstance(entry.value, list):
        kinds = inner(annotation, list) or (Any,)
        return [_value(item, kinds[0], key, problems) for item in entry.value]
    if isinstance(entry.value, dict):
        names, kind = inner(annotation, dict) or (str, Any)
        known = _known_names(entry, names, key, problems)
        return {name: _value(item, kind, key, problems) for name, item in known.items()}
    value = _scalar(entry, annotation)
    return _path(value, entry.place.source.folder, key.path_mode) if isinstance(value, str) else value


def _known_names(entry: Entry, names: Any, key: Key, problems: Problems) -> dict[str, Entry]:
    allowed = literals(names)
    known = {}
    for name, item in entry.value.items():
        if allowed and name not in allowed:
            remedy = did_you_mean(name, allowed, f"Keys there: {', '.join(allowed)}.")
            problems.add(f"'{name}' is not a key of {key.dotted}.", item.place, remedy)
        else:
            known[name] = item
    return known


def _scalar(entry: Entry, annotation: Any) -> Any:
    value, text = entry.value, entry.text
    if text is None or value is None or text in literals(annotation):
        return value if text is None or value is None else text
    word = text.lower()
    if holds(annotation, type(None)) and word in OFF_WORDS:
        return None
    if holds(annotation, bool):
        return _TRUTH.get(word, value)
    if isinstance(value, bool):
        # pydantic would read a truth value as the number 1 or 0.
        return text
    numeric = isinstance(value, int | float) and holds(annotation, int, float)
    return text if holds(annotation, str) and not numeric else value


def _path(text: str, folder: Path, mode: str) -> str:
    """Return a path of the recipe as an absolute one.

    "file": always a path. "if-path": a path when it starts like one (`./`, `../`, `/`, `~`), or when it has a slash and
    exists, so that `org/model` stays a Hub id. Addresses such as `hub://name` stay as they are.
    """
    if not mode or not text or "://" in text:
        return text
    expanded = os.path.expanduser(text)  # noqa: PTH111 (a Path would drop the ./ that says it is a path)
    starts_like_path = expanded.startswith((".", os.sep))
    if mode == "if-path" and not starts_like_path and not ("/" in text and (folder / text).exists()):
        return text
    base = str(folder)
    if glob.has_magic(expanded) and not (folder / expanded).exists():
        base = glob.escape(base)
    return os.path.normpath(os.path.join(base, expanded))  # noqa: PTH118 (a pattern is not a path)


def _unknown(name: str, dotted: str, entry: Entry) -> tuple[str, Any, str]:
    where = dotted or "the recipe"
    if name == "<<":
        return "Merge keys (<<) are not read.", entry.place, "Use `include:`, or write the keys out."
    if name in advice():
        return f"'{name}' has no counterpart here.", entry.place, advice()[name]
    if name == "include":
        return "include stands at the top of a recipe file only.", entry.place, "Move it there."
    return f"'{name}' is not a key of {where}.", entry.place, _suggestion(name, dotted)


def _suggestion(name: str, dotted: str) -> str:
    """Name the same key elsewhere, else the closest one here, else the closest one anywhere."""
    elsewhere = [key for key in all_keys().values() if key.name == name]
    if elsewhere:
        homes = [f"under {key.parent}" if key.parent else "at the top level" for key in elsewhere]
        return f"It belongs {' or '.join(homes)}: write {' or '.join(key.dotted for key in elsewhere)}."
    if name in aliases():
        return f"It is {aliases()[name].key} here."
    here = {**accepted_in(dotted), **{child: child for child in children(dotted)}}
    close = difflib.get_close_matches(name, here, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{here[close[0]]}'?"
    by_name = {key.name: key.dotted for key in all_keys().values()}
    close = difflib.get_close_matches(name, by_name, n=1, cutoff=0.7)
    if close:
        return f"Did you mean '{by_name[close[0]]}'?"
    return f"Remove it. Keys there: {', '.join(children(dotted))}."
