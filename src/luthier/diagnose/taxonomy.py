"""The taxonomy: categories, sub-categories and criteria of taxonomy.yaml, and the detectors that they name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from luthier.diagnose.case import Case, Ground, Seen
from luthier.diagnose.words import table

Detector = Callable[[Case, Ground], Seen]
Certainty = Literal["measured", "suspected"]


@dataclass(frozen=True)
class Subcategory:
    """One of the 24: the ways in which it shows (`when`) and what explains it away (`unless`).

    Attributes:
        when: alternatives; of one of them all criteria must hold, the first of which is shown as the evidence.
    """

    category: str
    name: str
    title: str
    definition: str
    certainty: Certainty
    when: Sequence[Sequence[str]]
    unless: Sequence[str]


@dataclass(frozen=True)
class Category:
    """One of the eight."""

    name: str
    title: str
    definition: str
    subcategories: Sequence[Subcategory]

    @property
    def certainty(self) -> Certainty:
        """Suspected where all of its sub-categories are."""
        return "suspected" if all(one.certainty == "suspected" for one in self.subcategories) else "measured"


@dataclass(frozen=True)
class Criterion:
    """A detector with the side of its threshold that counts, and the texts that the threshold is set by.

    Attributes:
        flag: "above" or "below". good, bad: names of makers in variants.py; bad None: good texts alone decide.
        at_least: the threshold where no good text comes near it.
        scale: on which half-way is: a logarithmic one for ratios, of which a half is as far from 1 as 2.
    """

    name: str
    detector: str
    flag: Literal["above", "below"]
    good: Sequence[str]
    bad: str | None
    at_least: float | None = None
    scale: Literal["linear", "log"] = "linear"

    def holds(self, value: float, threshold: float) -> bool:
        """Return whether a value lies beyond the threshold."""
        return value > threshold if self.flag == "above" else value < threshold


@lru_cache(maxsize=1)
def categories() -> tuple[Category, ...]:
    """Return the eight categories in their fixed order."""
    return tuple(
        Category(
            one["category"],
            one["title"],
            one["definition"],
            tuple(Subcategory(category=one["category"], **sub) for sub in one["subcategories"]),
        )
        for one in table("taxonomy.yaml")["categories"]
    )


@lru_cache(maxsize=1)
def in_order() -> tuple[Subcategory, ...]:
    """Return the sub-categories in the order in which they are decided: what explains others comes first."""
    order = table("taxonomy.yaml")["order"]
    found = [sub for one in categories() for sub in one.subcategories]
    return tuple(sorted(found, key=lambda sub: order.index(sub.category)))


@lru_cache(maxsize=1)
def criteria() -> Mapping[str, Criterion]:
    """Return the criteria by name."""
    return {name: Criterion(name=name, **given) for name, given in table("taxonomy.yaml")["criteria"].items()}


@lru_cache(maxsize=1)
def detectors() -> Mapping[str, Detector]:
    """Return the detectors by name."""
    from luthier.diagnose.detectors import claims, contradiction, coverage, generic, length, repetition, shape, topics

    needed = {criterion.detector for criterion in criteria().values()}
    modules = (claims, contradiction, coverage, generic, length, repetition, shape, topics)
    return {name: getattr(module, name) for module in modules for name in sorted(needed) if hasattr(module, name)}


def described(name: str) -> dict[str, str]:
    """Return what a detector sees and cannot see, from its docstring."""
    text = inspect.cleandoc(detectors()[name].__doc__ or "")
    parts = re.split(r"\n(?=Sees:|Cannot see:)", text)
    told = {part.partition(":")[0]: " ".join(part.partition(":")[2].split()) for part in parts[1:]}
    return {"title": " ".join(parts[0].split()), "sees": told["Sees"], "cannot_see": told["Cannot see"]}


def as_json() -> list[dict[str, Any]]:
    """Return the taxonomy for summary.json."""
    return [
        {
            "category": one.name,
            "title": one.title,
            "definition": one.definition,
            "subcategories": [
                {"name": sub.name, "title": sub.title, "definition": sub.definition, "certainty": sub.certainty}
                for sub in one.subcategories
            ],
        }
        for one in categories()
    ]
