"""Data sets of the Hugging Face Hub as a source: `hub://name[:config][#split]`."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from luthier.data.records import Bad, Record
from luthier.data.rows import SplitName
from luthier.data.sources import HUB, SIDES
from luthier.errors import UserError

_NAME = re.compile(r"hub://([\w.-]+(?:/[\w.-]+)?)(?::([\w.-]+))?(?:#([\w.-]+))?$")


@dataclass(frozen=True, slots=True)
class Part:
    """One split of a data set, with what an origin needs: names, split, size in bytes, hash of its fingerprint."""

    name: str
    stem: str
    split: SplitName | None
    size: int
    sha256: str
    data: Any

    def records(self) -> Iterator[Record | Bad]:
        """Yield the rows; the line is the position."""
        for position, value in enumerate(self.data, 1):
            yield Record(position, dict(value))


def parts(source: str) -> list[Part]:
    """Load a data set and return its splits. A single one is not taken as given for a split.

    Raises:
        UserError: the name is malformed, `datasets` is not installed, or the data set cannot be loaded.
    """
    match = _NAME.match(source)
    if match is None:
        raise UserError(
            f"{source!r} does not name a data set.", "data.source", f"Write {HUB}owner/name or {HUB}name:config#split."
        )
    name, config, split = match.groups()
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise UserError(
            "Data sets of the Hub need the package datasets.", source, "Install it: pip install datasets"
        ) from error
    try:
        loaded = datasets.load_dataset(name, config, split=split)
    except Exception as error:  # a dozen libraries below raise as many kinds; each means that there is no data
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The data set cannot be loaded: {first}",
            source,
            "Check the name and the network (HF_HUB_OFFLINE); or fetch it elsewhere and name the local files.",
        ) from error
    pieces = {split: loaded} if split else dict(loaded)
    sided = len({SIDES.get(key) for key in pieces}) > 1
    return [_part(name, key, data, SIDES.get(key) if sided else None) for key, data in pieces.items()]


def _part(name: str, key: str, data: Any, split: SplitName | None) -> Part:
    fingerprint = str(getattr(data, "_fingerprint", ""))
    sha256 = hashlib.sha256(fingerprint.encode()).hexdigest()
    size = int(getattr(data, "dataset_size", 0) or 0)
    return Part(f"{HUB}{name}/{key}", f"{name.rpartition('/')[2]}-{key}", split, size, sha256, data)
