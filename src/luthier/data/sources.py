"""Resolve `data.source`: files, folders, globs, slices, one source per split, and data sets of the Hub."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.data.rows import SplitName
from luthier.errors import UserError, did_you_mean

Parts = str | Path | Sequence[str | Path]
Source = Parts | Mapping[SplitName, Parts] | Mapping[str, Parts]

HUB = "hub://"
PACKED = (".gz", ".xz", ".bz2", ".zst")
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
SIDES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_SLICE = re.compile(r"\[\s*(?:(-?\d+)(%?))?\s*:\s*(?:(-?\d+)(%?))?\s*\]$")
_SHARD = re.compile(r"[-_.]\d[\w.-]*$")  # train-00000-of-00002


@dataclass(frozen=True, slots=True)
class Cut:
    """A slice of rows: bounds as in Python, or in percent of the rows. None: open."""

    text: str
    start: tuple[int, bool] | None
    stop: tuple[int, bool] | None

    def bounds(self, count: int) -> tuple[int, int]:
        """Return the first position and the one after the last. Percentages round down, so that parts never overlap."""
        start = 0 if self.start is None else self._place(*self.start, count)
        stop = count if self.stop is None else self._place(*self.stop, count)
        return start, max(start, stop)

    @staticmethod
    def _place(number: int, percent: bool, count: int) -> int:
        if percent:
            number = count * min(100, max(0, number if number >= 0 else 100 + number)) // 100
        elif number < 0:
            number += count
        return min(count, max(0, number))


@dataclass(frozen=True, slots=True)
class Piece:
    """Files that are read one after another (or one data set of the Hub), each with the split it is meant for."""

    files: tuple[tuple[Path, SplitName | None], ...]
    cut: Cut | None = None
    hub: str = ""
    side: SplitName | None = None


def source_files(source: Source) -> list[Path]:
    """Return every local file that `source` names, in the order of reading, each once. Hub data sets have none.

    Raises:
        UserError: a file is missing, a glob or a folder holds no data.
    """
    return list(dict.fromkeys(path for piece in resolve(source) for path, _ in piece.files))


def resolve(source: Source) -> list[Piece]:
    """Return the pieces of a source.

    Args:
        source: a path, folder, glob or `hub://name[:config][#split]`, each with an optional slice of its rows
            (`[:90%]`, `[100:200]`, `[-10%:]`); a list of these; or a mapping of splits to these.

    Raises:
        UserError: a file is missing, a glob or a folder holds no data, a split has another name.
    """
    if isinstance(source, Mapping):
        pieces: list[Piece] = []
        for name, part in source.items():
            side = SIDES.get(name.lower())
            if side is None:
                raise UserError(
                    f"{name!r} is not the name of a split.", "data.source", "Use train, validation and test."
                )
            pieces += [_with_side(piece, side) for piece in resolve(part)]
        return pieces
    if isinstance(source, str | Path):
        return [_piece(str(source))]
    return [piece for part in source for piece in resolve(part)]


def data_suffix(path: Path) -> str:
    """Return the suffix that tells the format, lower case, compression left out: `a.JSONL.gz` has `.jsonl`."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def data_stem(path: Path) -> str:
    """Return the name of a file without its data and compression suffixes: `a.jsonl.gz` has `a`."""
    name = path.name
    if name.lower().endswith(PACKED):
        name = name.rpartition(".")[0]
    stem, _, suffix = name.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in (*SUFFIXES, ".txt") else name


def _with_side(piece: Piece, side: SplitName) -> Piece:
    return Piece(tuple((path, side) for path, _ in piece.files), piece.cut, piece.hub, side)


def _piece(text: str) -> Piece:
    cut, name = _cut(text)
    if name.startswith(HUB):
        return Piece((), cut, name)
    path = Path(name).expanduser()
    if path.is_dir():
        return Piece(_folder(path), cut)
    if path.exists():
        return Piece(((path, None),), cut)
    if any(sign in name for sign in "*?["):
        anchor = Path(path.anchor)
        found = sorted(anchor.glob(str(path.relative_to(anchor))))
        files = tuple((match, None) for match in found if match.is_file())
        if not files:
            raise UserError("No file matches this pattern.", name, "Quote the pattern and check the folder.")
        return Piece(files, cut)
    shorter = _without_suffix(path)
    if shorter is None:
        raise _missing(path)
    return Piece(((shorter, None),), cut)


def _cut(text: str) -> tuple[Cut | None, str]:
    match = _SLICE.search(text)
    if match is None or (not text.startswith(HUB) and Path(text).exists()):
        return None, text
    start = (int(match[1]), bool(match[2])) if match[1] else None
    stop = (int(match[3]), bool(match[4])) if match[3] else None
    return Cut(match[0], start, stop), text[: match.start()]


def _is_data(path: Path) -> bool:
    return path.is_file() and data_suffix(path) in SUFFIXES and not path.name.startswith(".")


def _side_of(path: Path) -> SplitName | None:
    return SIDES.get(_SHARD.sub("", data_stem(path)).lower())


def _folder(folder: Path) -> tuple[tuple[Path, SplitName | None], ...]:
    """Return the data files of a folder: those named for splits if there are any, else all, in sorted order."""
    entries = sorted(folder.iterdir())
    files = [entry for entry in entries if _is_data(entry)]
    sided = [(path, _side_of(path)) for path in files if _side_of(path)]
    for inner in entries:
        if inner.is_dir() and inner.name.lower() in SIDES:
            sided += [(path, SIDES[inner.name.lower()]) for path in sorted(inner.iterdir()) if _is_data(path)]
    chosen = sided or [(path, None) for path in files]
    if not chosen:
        names = ", ".join(sorted({entry.suffix or entry.name for entry in entries})[:8]) or "nothing"
        raise UserError(
            f"This folder holds no data files; it holds: {names}.", str(folder), f"Data files end in {_listed()}."
        )
    if len({side for _, side in chosen}) == 1:  # a train file alone is simply the data
        chosen = [(path, None) for path, _ in chosen]
    return tuple(chosen)


def _listed() -> str:
    return ", ".join(SUFFIXES[:-1]) + f" or {SUFFIXES[-1]}"


def _without_suffix(path: Path) -> Path | None:
    if not path.parent.is_dir():
        return None
    found = [entry for entry in sorted(path.parent.iterdir()) if _is_data(entry) and data_stem(entry) == path.name]
    return found[0] if len(found) == 1 else None


def _missing(path: Path) -> UserError:
    folder = path.parent
    if not folder.is_dir():
        return UserError("This folder does not exist.", str(folder), "Check data.source.")
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    close = [*difflib.get_close_matches(data_stem(path), [Path(name).stem for name in names], 2, 0.6)]
    alike = [name for name in names if Path(name).stem in close]
    otherwise = f"The folder {folder.absolute()} holds: {', '.join(names[:8]) or 'nothing'}."
    remedy = f"Did you mean {' or '.join(map(repr, alike))}?" if alike else did_you_mean(path.name, names, otherwise)
    return UserError("This file does not exist.", str(path), remedy)
