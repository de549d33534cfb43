"""Any subset of valid values survives dump → load; the values are drawn from the schema itself."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.recipe.fit import OFF_WORDS
from luthier.recipe.keys import Key, all_keys, members
from luthier.recipe.load import Loaded, digest, dump, load_recipe
from luthier.recipe.pace import READ_BY
from luthier.recipe.schema import Recipe

WORDS = st.sampled_from(
    [
        "off",
        "no",
        "None",
        "yes",
        "1e5",
        "010",
        "12:30",
        "null",
        "~",
        "a: b",
        "# x",
        "- y",
        "é ü 字",
        " x ",
        "a\nb\n",
        "\x85",
        "\u2028x",
        "\r\n",
        "'",
        "{}",
    ]
)
TEXT = WORDS | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAME = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
COMMON = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def limit(metadata: list[Any], *names: str) -> float | None:
    found = [getattr(mark, name) for mark in metadata for name in names if getattr(mark, name, None) is not None]
    return found[0] if found else None


def numbers(kind: type, metadata: list[Any]) -> st.SearchStrategy[Any]:
    low, high = limit(metadata, "ge", "gt"), limit(metadata, "le", "lt")
    low, high = 0 if low is None else low, 10**6 if high is None else high
    if kind is int:
        return st.integers(int(low), int(high) - (limit(metadata, "lt") is not None))
    return st.floats(
        low, high, exclude_min=limit(metadata, "gt") is not None, exclude_max=limit(metadata, "lt") is not None
    )


def values_of(annotation: Any, metadata: list[Any], key: Key) -> st.SearchStrategy[Any]:
    """Return a strategy for all that a type allows."""
    return st.one_of([_of(member, metadata, key) for member in members(annotation)])


def _of(member: Any, metadata: list[Any], key: Key) -> st.SearchStrategy[Any]:
    kind = get_origin(member) or member
    if kind is type(None):
        return st.none()
    if kind is Literal:
        return st.sampled_from(get_args(member))
    if kind is list:
        return st.lists(values_of(get_args(member)[0], [], key), min_size=1, max_size=3)
    if kind is dict:
        fewest = int(limit(metadata, "min_length") or 0)
        return st.dictionaries(*[values_of(part, [], key) for part in get_args(member)], min_size=fewest, max_size=3)
    if kind is bool:
        return st.booleans()
    if kind in (int, float):
        return numbers(kind, metadata)
    assert kind is str, f"{key.dotted} holds a type that this test cannot draw"
    if any(getattr(mark, "pattern", None) for mark in metadata):
        return st.sampled_from(["auto", "HF_TOKEN", "OWN_API_KEY"]) if key.is_secret else NAME
    return {"file": NAME.map(lambda name: f"/data/{name}"), "if-path": NAME}.get(key.path_mode, TEXT)


@st.composite
def shares(draw: st.DrawFn) -> dict[str, float]:
    train = draw(st.floats(0.1, 1.0))
    validation = draw(st.floats(0, 1)) * (1 - train)
    return {"train": train, "validation": validation, "test": max(1 - train - validation, 0.0)}


@st.composite
def recipes(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a subset of all keys with valid values, as a flat mapping of dotted names."""
    flat: dict[str, Any] = {}
    off: list[str] = []
    for dotted, key in all_keys().items():
        required = key.field.is_required()
        if any(dotted.startswith(f"{section}.") for section in off) or dotted in SHARES:
            continue
        if key.sections and type(None) in members(key.field.annotation) and draw(st.booleans()):
            off.append(dotted)
        elif not key.sections and (required or draw(st.booleans())):
            flat[dotted] = draw(values_of(key.field.annotation, key.field.metadata, key))
    if draw(st.booleans()):
        flat |= {f"data.split.{name}": share for name, share in draw(shares()).items()}
    return agreeing(flat, draw)


def agreeing(flat: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """Take out of the training what contradicts itself, as no recipe may."""
    kind = flat.get("kind", "causal-lm")
    flat = {dotted: value for dotted, value in flat.items() if not of_another_kind(dotted, kind)}
    readers = {"training.margin": ("triplet",), "training.scale": ("auto", "multiple-negatives")}
    for dotted, losses in readers.items():
        if flat.get("training.loss", "auto") not in losses:
            flat.pop(dotted, None)
    if flat.get("adapter.method") in ("dora", "full"):
        flat.pop("adapter.share", None)
    if flat.get("data.augment.similarity"):
        flat["data.augment.similarity"] = [draw(st.floats(0, 0.5)), draw(st.floats(0.5, 1, exclude_min=True))]
    flat = teaching(seeding(flat, draw))
    name = flat.get(f"{SCHEDULE}.name", "cosine")
    unread = tuple(f"{SCHEDULE}.{key}" for key, shapes in READ_BY.items() if name not in shapes)
    flat = {key: value for key, value in flat.items() if not key.startswith((*unread, f"{SCHEDULE}.phases."))}
    if name == "three-phase" and draw(st.booleans()):
        flat |= draw(phases(flat.get("training.learning_rate", 5e-4)))
    if (flat.get("training.steps") or 10**9) <= flat.get(f"{SCHEDULE}.warmup", 0):
        del flat[f"{SCHEDULE}.warmup"]
    stopping = any(key.startswith("training.early_stopping.") for key in flat)
    if stopping and (name == "plateau" or any(key.startswith(f"{SCHEDULE}.plateau.") for key in flat)):
        flat["training.early_stopping.patience"] = flat.get(f"{SCHEDULE}.plateau.patience", 2) + draw(st.integers(0, 5))
    order = flat.get("training.curriculum.order")
    if order is not None:
        flat["training.curriculum.order"] = list(dict.fromkeys(order))
    return flat


def seeding(flat: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """Give training seeds that differ, and take out an export that is made of what is not exported."""
    if flat.get("training.seeds") is not None:
        flat["training.seeds"] = draw(st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=3, unique=True))
    if flat.get("export.merged") is False:
        flat.pop("export.onnx", None)
    return flat


def teaching(flat: dict[str, Any]) -> dict[str, Any]:
    """Take out what asks a teacher that is not there, a prompt that nobody reads, and a cap without prices."""
    if not any(key.startswith("teacher.") for key in flat):
        flat = {key: value for key, value in flat.items() if not key.startswith("evaluation.judge.")}
        if flat.get("data.augment.method") == "teacher":
            flat["data.augment.method"] = "rules"
    if flat.get("data.augment.method") != "teacher":
        flat.pop("data.augment.prompt", None)
    if not any(flat.get(f"teacher.prices.{name}") for name in ("prompt", "completion")):
        flat.pop("teacher.cap", None)
    return flat


def of_another_kind(dotted: str, kind: str) -> bool:
    """Whether a key, or a section around it, is read by another kind alone."""
    parts = dotted.split(".")
    around = [all_keys()[".".join(parts[: end + 1])].field.json_schema_extra for end in range(len(parts))]
    return any(isinstance(extra, dict) and extra.get("kind", kind) != kind for extra in around)


@st.composite
def phases(draw: st.DrawFn, peak: float) -> dict[str, Any]:
    """Draw phases that follow each other: bounds that rise, rates that go on where the phase before ends."""
    names = ("exploration", "exploitation", "refinement")
    ends = sorted((draw(st.floats(0.01, 1.0)) * peak for _ in names), reverse=True)
    drawn: dict[str, Any] = {}
    for name, bound, start, end in zip(names, (0.25, 0.75, 1.0), (peak, *ends), ends, strict=False):
        drawn |= {f"{SCHEDULE}.phases.{name}.until": bound, f"{SCHEDULE}.phases.{name}.end": end}
        if draw(st.booleans()):
            drawn[f"{SCHEDULE}.phases.{name}.start"] = start
        drawn[f"{SCHEDULE}.phases.{name}.shape"] = draw(st.sampled_from(["linear", "cosine", "exponential"]))
    return drawn if min(ends) > 0 else {}


SCHEDULE = "training.schedule"
SHARES = ("data.split.train", "data.split.validation", "data.split.test")


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for dotted, value in flat.items():
        *parents, name = dotted.split(".")
        section = tree
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = value
    return tree


@COMMON
@given(flat=recipes())
def test_any_subset_survives_dump_and_load(flat: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(nested(flat))
    Path("recipe.yaml").write_text(dump(Loaded(recipe, {})), encoding="utf-8")
    again = load_recipe("recipe.yaml")
    assert again.recipe == recipe
    assert digest(again.recipe) == digest(recipe)


def takes_off(dotted: str) -> bool:
    """Whether the bare words off and none stand for absence in a key."""
    return type(None) in members(all_keys()[dotted].field.annotation)


@COMMON
@given(flat=recipes())
def test_any_subset_may_come_from_python(flat: dict[str, Any]) -> None:
    absent = [key for key, value in flat.items() if str(value).lower() in OFF_WORDS]
    meant = {key: value for key, value in flat.items() if key not in absent or not takes_off(key)}
    Path("recipe.yaml").write_text("name: demo\ndata: {source: rows.jsonl}\n")
    loaded = load_recipe("recipe.yaml", meant)
    assert loaded.recipe == Recipe.model_validate(nested(meant))
    stated = {key for key, origin in loaded.origins.items() if origin == "--set"}
    assert all(any(key == one or key.startswith(f"{one}.") for one in meant) for key in stated)


def test_the_drawn_types_are_those_of_annotated_fields() -> None:
    key = all_keys()["training.epochs"]
    with pytest.raises(AssertionError, match="cannot draw"):
        _of(bytes, [], key)
    assert members(Annotated[int | None, "x"]) == [int, type(None)]
