"""Dataclass instances in one safetensors file, read back one at a time from the memory map.

Each field is a column. Texts and lists of integers stand end to end in one flat tensor, with the offsets at which each
begins; a tuple of dataclasses is a column of columns. What is read stays on the disk: only offsets and single numbers
are in memory, 8 bytes each.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints, overload

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]
Read = Callable[[int], Any]
OFFSETS = ".offsets"
SMALL = np.iinfo(np.int32)
NOTHING = np.zeros(0, dtype=np.int32)


def pack(items: Sequence[Any], kind: type) -> Arrays:
    """Return the columns of instances of the dataclass `kind`.

    Raises:
        TypeError: a field of another type than str, int, float, float | None, list[int], tuple[int, ...], or a tuple of
            such dataclasses.
    """
    arrays: Arrays = {}
    for name, annotation in _fields(kind).items():
        _pack(arrays, name, annotation, [getattr(item, name) for item in items])
    return arrays


class Columns(Sequence[Any]):
    """The instances of a file, made when they are asked for.

    Args:
        path: a safetensors file of the tensors that `pack` returned. kind: their dataclass. count: how many there are.

    Raises:
        OSError, safetensors.SafetensorError: the file cannot be read.
    """

    def __init__(self, path: Path, kind: type, count: int) -> None:
        from safetensors import safe_open

        self._file = safe_open(path, framework="np")
        self._kind, self._count = kind, count
        self._readers = [_reader(self._file, name, annotation) for name, annotation in _fields(kind).items()]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Any: ...

    @overload
    def __getitem__(self, at: slice) -> list[Any]: ...

    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self._make(place) for place in range(*at.indices(self._count))]
        if not -self._count <= at < self._count:
            raise IndexError(at)
        return self._make(at % self._count)

    def __iter__(self) -> Iterator[Any]:
        return map(self._make, range(self._count))

    def _make(self, place: int) -> Any:
        return self._kind(*(read(place) for read in self._readers))


def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _plain(annotation: Any) -> tuple[Any, bool]:
    """Return a type without its None, and whether it had one."""
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [part for part in get_args(annotation) if part is not type(None)]
        if len(rest) == 1:
            return rest[0], True
    return annotation, False


def _pack(arrays: Arrays, name: str, annotation: Any, values: Sequence[Any]) -> None:
    plain, optional = _plain(annotation)
    if plain is str and not optional:
        texts = [value.encode() for value in values]
        arrays[name + OFFSETS] = _offsets(texts)
        arrays[name] = np.frombuffer(b"".join(texts), dtype=np.uint8)
    elif plain is int and not optional:
        arrays[name] = np.fromiter(values, dtype=np.int64, count=len(values))
    elif plain is float:
        arrays[name] = np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    elif (item := _item(plain)) is int:
        arrays[name + OFFSETS] = _offsets(values)
        arrays[name] = _integers(chain.from_iterable(values))
    elif dataclasses.is_dataclass(item) and isinstance(item, type):
        arrays[name + OFFSETS] = _offsets(values)
        whole = list(chain.from_iterable(values))
        for inner, column in pack(whole, item).items():
            arrays[f"{name}.{inner}"] = column
    else:
        raise TypeError(f"{name}: {annotation} has no column")


def _item(annotation: Any) -> Any:
    """Return what a list or an endless tuple holds, else None."""
    arguments = get_args(annotation)
    if get_origin(annotation) is list or (get_origin(annotation) is tuple and arguments[1:] == (...,)):
        return arguments[0]
    return None


def _offsets(values: Sequence[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(value) for value in values], dtype=np.int64)]).astype(np.int64)


def _integers(values: Iterable[int]) -> NDArray[Any]:
    whole = np.fromiter(values, dtype=np.int64)
    fits = not whole.size or (whole.min() >= SMALL.min and whole.max() <= SMALL.max)
    return whole.astype(np.int32) if fits else whole


def _reader(file: Any, name: str, annotation: Any) -> Read:
    """Return a function from the place of an instance to its value of one field."""
    plain, optional = _plain(annotation)
    if plain is int:
        numbers = file.get_tensor(name)
        return lambda place: int(numbers[place])
    if plain is float:
        return _number_reader(file.get_tensor(name), optional)
    bounds, item = file.get_tensor(name + OFFSETS), _item(plain)
    if dataclasses.is_dataclass(item) and isinstance(item, type):
        inner = [_reader(file, f"{name}.{own}", hint) for own, hint in _fields(item).items()]
        return _nested_reader(bounds, item, inner, get_origin(plain))
    column = file.get_slice(name)

    def stretch(place: int) -> NDArray[Any]:
        start, end = bounds[place], bounds[place + 1]
        return column[start:end] if end > start else NOTHING  # safetensors refuses an empty slice at the end

    if plain is str:
        return lambda place: stretch(place).tobytes().decode()
    if get_origin(plain) is list:
        return lambda place: stretch(place).tolist()
    return lambda place: tuple(stretch(place).tolist())


def _number_reader(whole: NDArray[Any], optional: bool) -> Read:
    def read(place: int) -> float | None:
        value = float(whole[place])
        return None if optional and math.isnan(value) else value

    return read


def _nested_reader(bounds: NDArray[Any], kind: type, inner: Sequence[Read], container: type) -> Read:
    def read(place: int) -> Any:
        return container(kind(*(one(at) for one in inner)) for at in range(bounds[place], bounds[place + 1]))

    return read
