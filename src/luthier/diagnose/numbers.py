"""Numbers with their units, and whether two of them say the same in other notation."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from luthier.diagnose.words import CHARACTERS, Span, table

TOLERANCE = 0.03  # 128 KiB is 131 kB; 8,192 is 8k
DIMENSIONS = ("bytes", "seconds", "share", "meters", "grams", "hertz")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number in a text.

    Attributes:
        value: as written, with its factor (million, k). base: in the base unit of its dimension; `value` without one.
        dimension: "bytes", "seconds", "share" … or "". spelled: whether it is a word, as in "three".
        span: where it stands, unit included.
    """

    value: float
    base: float
    dimension: str
    spelled: bool
    span: Span

    def same(self, other: Quantity) -> bool:
        """Return whether both say the same: equal in the base unit, or, where one has no unit, as written."""
        if self.dimension and other.dimension:
            return self.dimension == other.dimension and _close(self.base, other.base)
        if _close(self.value, other.value) or _close(self.base, other.base):
            return True
        return "share" in (self.dimension, other.dimension) and _close(self.value, other.value)


def quantities(text: str) -> list[Quantity]:
    """Return the numbers of a text: in digits, and small ones in words. Numbers of lists and in names are left out."""
    found = [_digits(match) for match in _pattern().finditer(text[:CHARACTERS]) if match.group("digits")]
    spelled = [_spelled(match) for match in _pattern().finditer(text[:CHARACTERS]) if match.group("word")]
    return sorted([*found, *spelled], key=lambda one: one.span)


def supported(quantity: Quantity, by: Iterable[Quantity]) -> bool:
    """Return whether any of the given numbers says the same."""
    return any(quantity.same(other) for other in by)


def parse_number(text: str) -> float:
    """Return the value of digits with separators: 1,024 and 1.024 are thousands, 9,90 and 9.90 decimals."""
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", text):
        return float(text.replace(",", ""))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?", text):
        return float(text.replace(".", "").replace(",", "."))
    return float(re.sub(r",(?=\d+$)", ".", text).replace(",", ""))


def _digits(match: re.Match[str]) -> Quantity:
    exponent = match.group("exponent")
    value = parse_number(match.group("digits")) * _power(exponent)
    factor = (match.group("factor") or "").casefold()
    value *= float(table("units.yaml")["factors"].get(factor, 1.0))
    unit = (match.group("unit") or "").casefold()
    dimension, size = _units().get(unit, ("", 1.0))
    return Quantity(value, value * size, dimension, False, match.span())


def _power(exponent: str | None) -> float:
    """Return ten to that power, within what a float can hold."""
    return 10.0 ** max(-300, min(300, int((exponent or "0").replace("−", "-"))))


def _spelled(match: re.Match[str]) -> Quantity:
    value = float(table("units.yaml")["words"][match.group("word").casefold()])
    factor = (match.group("wfactor") or "").casefold()
    value *= float(table("units.yaml")["factors"].get(factor, 1.0))
    unit = (match.group("wunit") or "").casefold()
    dimension, size = _units().get(unit, ("", 1.0))
    return Quantity(value, value * size, dimension, True, match.span())


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= TOLERANCE * max(abs(one), abs(other))


@lru_cache(maxsize=1)
def _units() -> dict[str, tuple[str, float]]:
    return {
        str(name): (dimension, float(size))
        for dimension in DIMENSIONS
        for name, size in table("units.yaml")[dimension].items()
    }


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern[str]:
    def either(names: Iterable[object]) -> str:
        return "|".join(re.escape(str(name)) for name in sorted(map(str, names), key=len, reverse=True))

    units, factors, words = _units(), table("units.yaml")["factors"], table("units.yaml")["words"]
    end = r"(?![^\W\d_\u3040-\u9fff])"
    tail = rf"(?:[ \u00a0-]?(?P<{{f}}>{either(factors)}){end})?(?:[ \u00a0-]?(?P<{{u}}>{either(units)}){end})?"
    digits = r"(?<![\w.])(?P<digits>\d+(?:[.,]\d+)*)(?![.,]?\d)(?:(?:e|\s?[x×·*]\s?10\^?)(?P<exponent>[-−+]?\d{1,3}))?"
    spelled = rf"(?<!\w)(?P<word>{either(words)}){end}"
    first = digits + tail.format(f="factor", u="unit")
    second = spelled + tail.format(f="wfactor", u="wunit")
    return re.compile(rf"{first}|{second}", re.IGNORECASE)
