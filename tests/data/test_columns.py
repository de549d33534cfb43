"""Dataclasses in a file: they come back as they were, and stay on the disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from luthier.data.columns import Columns, pack


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    ids: list[int]
    near: int
    families: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Outer:
    id: str
    ids: list[int]
    texts: tuple[Inner, ...]
    family: int = -1
    score: float | None = None


@dataclasses.dataclass
class Odd:
    what: dict[str, int]


NUMBERS = st.lists(st.integers(-(2**40), 2**40), max_size=5)
INNERS = st.builds(Inner, NUMBERS, st.integers(-5, 2**40), NUMBERS.map(tuple))
OUTERS = st.builds(
    Outer,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    NUMBERS,
    st.lists(INNERS, max_size=3).map(tuple),
    st.integers(-(2**62), 2**62),
    st.none() | st.floats(-9, 9),
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=st.lists(OUTERS, max_size=6))
def test_what_went_in_comes_out(items: list[Outer], tmp_path: Path) -> None:
    path = tmp_path / "items.safetensors"
    save_file(pack(items, Outer), path)
    read = Columns(path, Outer, len(items))
    assert list(read) == items
    assert [read[place] for place in range(len(items))] == items
    assert read[1:] == items[1:]
    assert read[::-1] == items[::-1]
    if items:
        assert read[-1] == items[-1]
    with pytest.raises(IndexError):
        read[len(items)]


def test_small_numbers_take_four_bytes(tmp_path: Path) -> None:
    items = [Inner(list(range(100)), 0, ()) for _ in range(100)]
    save_file(pack(items, Inner), tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 100 * (400 + 8 + 8 + 8) + 2000


def test_a_field_without_a_column_is_refused() -> None:
    with pytest.raises(TypeError, match="has no column"):
        pack([Odd({})], Odd)
