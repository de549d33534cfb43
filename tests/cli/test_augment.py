"""luthier augment: what augmentation would make, for titles and questions, without a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Luthier

TITLES = ["Registered Nurse", "Staff Nurse", "Truck Driver", "Lorry Driver", "Plumber", "Pipefitter", "Cook", "Chef"]


@pytest.fixture
def recipe(own_folder: Path) -> Path:
    lines = [f"{title},{place // 2}" for place, title in enumerate(TITLES)]
    (own_folder / "titles.csv").write_text("\n".join(["title,code", *lines]))
    path = own_folder / "recipe.yaml"
    path.write_text(
        "name: small\nkind: embedding\nmodel: {base: minilm}\n"
        "data: {source: titles.csv, fields: {title: title, label: code, group: code}, augment: {target: 20},\n"
        "       split: {train: 0.5, validation: 0.25, test: 0.25}}\n"
    )
    return path


def test_titles_as_json_and_as_files(recipe: Path, luthier: Luthier, process: Luthier) -> None:
    told = process("augment", recipe, "--json", "--quiet", "--to", "made.csv").json
    assert told["rows"] == len(told["variations"]) == 16  # two of four families are trained on: four titles
    assert {line["source"] for line in told["variations"]} == {"rules"}
    assert sum(figures["variations"] for figures in told["categories"].values()) == 16
    with Path("made.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == told["variations"]
    luthier("augment", recipe, "--quiet", "--to", "made.jsonl")
    assert [json.loads(line) for line in Path("made.jsonl").read_text().splitlines()] == told["variations"]
    assert not Path("runs").exists()


def test_people_see_examples_by_category(recipe: Path, luthier: Luthier) -> None:
    told = luthier("augment", recipe, "--quiet").out
    assert told.startswith("16 variations\n")
    for category in ("keywords", "seniority", "skills", "context", "formatting"):
        assert f"  {category}" in told
    assert " -> " in told
    assert "refused: " in told


def test_a_window_of_similarity_refuses_more(recipe: Path, luthier: Luthier) -> None:
    narrow = luthier("augment", recipe, "--json", "--quiet", "--set", "data.augment.similarity=[0.3, 0.6]").json
    assert narrow["refused"]["too-close"] > 5


def test_what_cannot_be_done_is_told(recipe: Path, luthier: Luthier) -> None:
    off = luthier("augment", recipe, "--set", "data.augment=off")
    assert (off.status, off.out) == (2, "")
    assert "makes no further training rows" in off.err
    assert "--set data.augment.target" in off.err
    suffix = luthier("augment", recipe, "--to", "made.xlsx")
    assert suffix.status == 2
    assert ".csv or .jsonl" in suffix.err
    empty = luthier("augment", recipe, "--set", "data.augment.similarity=[0.9, 0.2]")
    assert empty.status == 2
    assert "lies between 0.9 and 0.2" in empty.err
