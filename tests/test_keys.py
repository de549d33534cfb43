"""Every key counts: each is read by a stage, and by a stage that runs again when it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from luthier.pipeline import STAGES, stage_named
from luthier.recipe.keys import all_keys
from luthier.recipe.load import load_recipe
from luthier.recipe.schema import Recipe
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.run.record import start_record
from tests.scripted import Answer, Request, endpoint, prompt_of
from tests.tiny import make

# What the pipeline itself reads: `name` names the run folder.
READ_BY_THE_PIPELINE = {"name"}


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[str, str]]]:
    """Record (section, key) of each value that is read from a recipe."""
    read: set[tuple[str, str]] = set()
    plain = BaseModel.__getattribute__

    def watched(self: BaseModel, name: str) -> Any:
        if name in type(self).model_fields:
            read.add((type(self).__name__, name))
        return plain(self, name)

    with monkeypatch.context() as patch:
        patch.setattr("luthier.recipe.section.Section.__getattribute__", watched, raising=False)
        yield read


def test_each_key_is_read_by_a_stage_that_declares_it(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make("llama", own_folder / "base")
    lines = ["question,answer,topic"]
    lines += [f"what is thing {n} of {n * n}?,it is {n * 7} and more,topic {n % 2}" for n in range(24)]
    (own_folder / "rows.csv").write_text("\n".join(lines))
    (own_folder / "terms.txt").write_text("thing\n")
    (own_folder / "recipe.yaml").write_text(
        f"name: keys\nmodel: {{base: {base}, system: You help.}}\n"
        "data: {source: rows.csv, max_length: 200, terms: terms.txt, "
        "augment: {method: teacher, target: 20, prompt: ask.txt}, "
        "split: {stratify: topic}}\n"
        "training: {epochs: 1, early_stopping: {patience: 2}, curriculum: {by: topic, order: [topic 0, topic 1]}, "
        "schedule: {name: three-phase, phases: {}, plateau: {}}}\n"
        "evaluation: {max_new_tokens: 4, judge: {criteria: {truth: all of it}, rows: 2}}\n"
    )
    (own_folder / "ask.txt").write_text("Vary {source}.")
    with endpoint(politer) as server, (own_folder / "recipe.yaml").open("a") as file:
        file.write(f"teacher: {{url: {server.url}, model: big, prices: {{}}, tries: 1}}\n")
        file.flush()
        read_by = read_by_stages(own_folder, monkeypatch)
    titles = (f"title {n % 9} of {n}" if n % 2 else f"{n} titles" for n in range(48))
    (own_folder / "rows.csv").write_text(
        "\n".join(["title,family", *(f"{title},family {n // 4}" for n, title in enumerate(titles))])
    )
    (own_folder / "recipe.yaml").write_text(
        f"name: keys\nkind: embedding\nmodel: {{base: {make('bert', own_folder / 'encoder')}}}\n"
        "data: {source: rows.csv, split: {group: family}}\nadapter: {share: 0.5}\n"
        "training: {epochs: 1, loss: triplet, margin: 0.3, hard_negatives: {count: 1}}\n"
    )
    for key, names in read_by_stages(own_folder, monkeypatch).items():
        read_by.setdefault(key, set()).update(names)
    leaves = {key for key in all_keys() if not any(other.startswith(f"{key}.") for other in all_keys())}
    unread = leaves - set(read_by) - READ_BY_THE_PIPELINE
    assert not unread, f"no stage reads {sorted(unread)}"
    for key in leaves & set(read_by):
        for name in read_by[key]:
            declared = stage_named(name).settings
            assert any(key == one or key.startswith(f"{one}.") for one in declared), f"{name} reads {key} undeclared"


def politer(request: Request, _: int) -> Answer:
    """Answer as a teacher that only ever says please."""
    asked = prompt_of(request).removeprefix("Vary ").removesuffix(".")
    return Answer(f'{{"variations": [{{"text": {asked[:-1]} please", "category": "tone"}}]}}')


def read_by_stages(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Walk recipe.yaml along all stages; return each key that is read, and by which of them."""
    recipe = load_recipe("recipe.yaml").recipe
    folder = RunFolder(own_folder / recipe.kind)
    folder.path.mkdir()
    sections: dict[str, list[str]] = {}
    for place, section in sections_of(Recipe):
        sections.setdefault(section, []).append(place)
    read_by: dict[str, set[str]] = {}
    start_record(folder, "keys", recipe.kind, 1, "d", [one.name for one in STAGES])
    folder.recipe.write_text("name: keys\n")
    for stage in STAGES:
        with recorded(monkeypatch) as read:
            module = __import__(f"luthier.stages.{stage.name}", fromlist=[stage.name])
            getattr(module, "inputs", lambda _: [])(recipe)
            getattr(module, stage.name)(recipe, folder, Silent())
        for section, key in read:
            for place in sections[section]:
                read_by.setdefault(f"{place}.{key}".lstrip("."), set()).add(stage.name)
    return read_by


def sections_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, class name) of each section of the schema."""
    yield prefix, section.__name__
    for name, field in section.model_fields.items():
        for inner in classes_in(field.annotation):
            yield from sections_of(inner, f"{prefix}.{name}".lstrip("."))


def classes_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections named in a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in getattr(annotation, "__args__", ()) for one in classes_in(part)]
