"""Other tools' names into Luthier's.

Each file is translated before files are merged, so that the including file and `--set` win whichever name they use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from luthier.recipe.aliases import Alias, accepted_in, aliases, factors
from luthier.recipe.keys import all_keys, children, literals
from luthier.recipe.positions import Entry, Problems

_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class _Move:
    """An alias found in a file. `said` is how notes name it; a factor has no `alias`, as it has no key of its own."""

    name: str
    said: str
    alias: Alias | None
    entry: Entry


def translate(root: Entry, problems: Problems, notes: list[str]) -> Entry:
    """Return the values of one file, or of the command line, under Luthier's names.

    Args:
        root: a mapping; it stays as it is.
        problems: takes contradictions: two names of one setting, a part of `datasets` that nothing reads.
        notes: takes one line for each alias used: "lora_r is adapter.r here".
    """
    moves: list[_Move] = []
    kept = Entry(_without_aliases(root, "", moves), root.place)
    for move, alias in _multiplied(moves, kept, problems):
        for key, entry in _opened(move, alias, problems, notes):
            _put(kept, key, replace(entry, alias=move.name), problems)
    return kept


def make_room(root: Entry) -> None:
    """Give a share under another tool's name its room.

    `val_size: 0.1` says nothing of training and test: here the test share stays what it is, and what is left is
    trained on, unless the recipe states the share for training itself.
    """
    keys = all_keys()
    for key in keys:
        entry = lookup(root, key)
        alias = aliases().get(entry.alias) if entry else None
        if entry is None or alias is None or not alias.rest or lookup(root, alias.rest):
            continue
        section = alias.rest.rpartition(".")[0]
        others = 0.0
        for name in children(section):
            path = f"{section}.{name}"
            stated = lookup(root, path)
            share = stated.plain if stated else keys[path].field.default
            if path != alias.rest and type(share) in (int, float):
                others += share
        put(root, alias.rest, replace(entry, value=round(1 - others, 12), text=None))


def lookup(root: Entry, dotted: str) -> Entry | None:
    """Return the entry of a dotted name, or None."""
    entry: Entry | None = root
    for name in dotted.split("."):
        entry = entry.value.get(name) if entry and entry.is_section else None
    return entry


def put(root: Entry, dotted: str, entry: Entry) -> None:
    """Set a dotted name; a value that stands where a section is needed is replaced."""
    *parents, name = dotted.split(".")
    section = root
    for parent in parents:
        inside = section.value.get(parent)
        if inside is None or not inside.is_section:
            inside = section.value[parent] = Entry({}, entry.place)
        section = inside
    section.value[name] = entry


def _without_aliases(section: Entry, dotted: str, moves: list[_Move]) -> dict[str, Entry]:
    kept = {}
    taken = accepted_in(dotted)
    for name, entry in section.value.items():
        path = f"{dotted}.{name}" if dotted else name
        key = all_keys().get(path)
        if key and key.sections and entry.is_section:
            kept[name] = replace(entry, value=_without_aliases(entry, path, moves))
        elif key is None and name in taken:
            moves.append(_Move(name, name, aliases()[name], entry))
        elif key is None and name in factors():
            moves.append(_Move(name, name, None, entry))
        else:
            kept[name] = entry
    return kept


def _multiplied(moves: list[_Move], kept: Entry, problems: Problems) -> Iterator[tuple[_Move, Alias]]:
    """Join each `times` pair into one value; a factor that stands alone goes back among the unknown names."""
    factor_moves = {move.name: move for move in moves if move.alias is None}
    used = set()
    for move in moves:
        if move.alias is None:
            continue
        factor = factor_moves.get(move.alias.times)
        if factor is None:
            yield move, move.alias
            continue
        used.add(factor.name)
        wrong = [one for one in (move, factor) if type(one.entry.value) is not int or one.entry.value < 1]
        for one in wrong:
            problem = f"{one.name} must be a whole number of at least 1, not {one.entry.plain}."
            problems.add(problem, one.entry.place, f"Or give the product: {move.alias.key}.")
        if not wrong:
            product = move.entry.value * factor.entry.value
            entry = replace(move.entry, value=product, text=str(product))
            yield replace(move, said=f"{move.name} × {factor.name} = {product}", entry=entry), move.alias
    for name, factor in factor_moves.items():
        if name not in used:
            kept.value[name] = factor.entry


def _opened(move: _Move, alias: Alias, problems: Problems, notes: list[str]) -> Iterator[tuple[str, Entry]]:
    """Yield the Luthier keys that an alias sets, with their values."""
    entry = move.entry
    if alias.parts and isinstance(entry.value, list) and all(item.is_section for item in entry.value):
        yield from _parts(move, alias, problems, notes)
        return
    word = entry.text if entry.text is not None else str(entry.plain)
    values = {written.lower(): value for written, value in alias.values.items()}
    known = next((one for one in (word.lower(), _TRUTH.get(word.lower(), "")) if one in values), None)
    if known is not None:
        value = values[known]
        if value is None:
            notes.append(f"{move.said}: {word} sets nothing here")
            return
        entry = Entry(value, entry.place, text=str(value))
    elif alias.words and isinstance(entry.value, str) and word not in literals(all_keys()[alias.key].field.annotation):
        words = [part.strip() for part in entry.value.split(",")]
        entry = Entry([Entry(part, entry.place, text=part) for part in words], entry.place)
    notes.append(f"{move.said} is {alias.key} here")
    yield alias.key, entry


def _parts(move: _Move, alias: Alias, problems: Problems, notes: list[str]) -> Iterator[tuple[str, Entry]]:
    """Open a list of mappings: one value where all items agree, a list where they differ."""
    found: dict[str, list[Entry]] = {}
    for item in move.entry.value:
        for name, entry in item.value.items():
            if name in alias.parts:
                found.setdefault(name, []).append(entry)
            else:
                known = ", ".join(alias.parts)
                problem = f"'{name}' in {move.name} is not read; {known} are."
                problems.add(problem, entry.place, f"Remove it, or say it under {alias.key.partition('.')[0]}.")
    for name, entries in found.items():
        first, values = entries[0], {str(entry.plain): entry for entry in entries}
        whole = first if len(values) == 1 else Entry(list(values.values()), first.place)
        part = replace(move, said=f"{move.name}[].{name}", entry=whole)
        yield from _opened(part, alias.parts[name], problems, notes)


def _put(root: Entry, key: str, entry: Entry, problems: Problems) -> None:
    there = lookup(root, key)
    parent = lookup(root, key.rpartition(".")[0]) if "." in key else None
    if parent and not parent.is_section and parent.value is not None:
        problem = f"{entry.alias} is {key} here, but {key.rpartition('.')[0]} is '{parent.plain}', not a section."
        problems.add(problem, entry.place, "Keep one of the two.")
    elif there is None:
        put(root, key, entry)
    elif not there.alias or there.plain != entry.plain:
        other = there.alias or key
        where = f"on lines {there.place.line} and {entry.place.line}"
        where = where if there.place.line else "both with --set"
        problem = f"{entry.alias} and {other} are two names of one setting ({key}), given {where}."
        problems.add(problem, entry.place, f"Keep {key}.")
