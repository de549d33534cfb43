"""The job titles: what the README says of them holds, and the splits keep families whole."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from luthier.data.augment.listing import COLUMNS
from luthier.recipe.load import load_recipe
from luthier.recipe.names import shipped
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.prepare import prepare

Line = dict[str, str]


def folder_of_recipe() -> Path:
    return shipped()["jobtitles"].parent


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    with (folder_of_recipe() / "data" / "titles.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("jobtitles"))
    prepare(load_recipe("jobtitles").recipe, folder, Silent())
    return folder


def test_there_are_as_many_families_and_titles_as_told(lines: list[Line]) -> None:
    families = Counter(line["family"] for line in lines)
    readme = (folder_of_recipe() / "README.md").read_text(encoding="utf-8")
    assert f"{len(lines):,} titles in {len(families)} families" in readme
    assert len(families) >= 40
    assert len(lines) >= 600
    assert min(families.values()) >= 10
    assert max(families.values()) <= 15
    assert f"span {len({line['sector'] for line in lines})} sectors" in readme
    assert len({(line["family"], line["sector"]) for line in lines}) == len(families)


def test_no_title_is_written_twice_in_whatever_order_of_words(lines: list[Line]) -> None:
    bags = Counter(tuple(sorted(re.findall(r"\w+", line["title"].lower()))) for line in lines)
    assert bags.most_common(1)[0][1] == 1
    assert all(line["title"] == line["title"].strip() and line["title"].isprintable() for line in lines)


def test_hard_neighbours_are_families_of_their_own(lines: list[Line]) -> None:
    families = {line["family"] for line in lines}
    for neighbours in (
        {"data engineer", "data scientist", "data analyst", "machine learning engineer", "database administrator"},
        {"registered nurse", "nursing assistant", "home care worker"},
        {"accountant", "bookkeeper", "auditor", "financial analyst"},
        {"pharmacist", "pharmacy technician"},
        {"truck driver", "delivery driver", "bus driver", "taxi driver"},
        {"receptionist", "hotel front desk agent"},
    ):
        assert neighbours <= families


def test_families_are_whole_and_no_variation_leaves_the_training_side(prepared: RunFolder) -> None:
    report = json.loads(prepared.data_report.read_text())
    recipe = load_recipe("jobtitles").recipe
    assert report["leaks"] == []
    assert report["rejected"] == {}
    assert report["warnings"] == []
    assert recipe.data.augment is not None
    assert report["rows"]["train"] == recipe.data.augment.target
    sides: dict[str, set[str]] = defaultdict(set)
    for name in ("train", "validation", "test"):
        for text in prepared.rows(name).read_text().splitlines():
            row = json.loads(text)
            sides[row["label"]].add(name)
            assert name == "train" or "made_from" not in row["source"]
    assert {len(found) for found in sides.values()} == {1}
    assert len([found for found in sides.values() if found == {"test"}]) >= 15


def test_the_account_of_the_augmentation_adds_up(prepared: RunFolder) -> None:
    told = json.loads(prepared.data_report.read_text())["augmentation"]
    refused = [json.loads(line) for line in prepared.refused.read_text().splitlines()]
    assert dict(Counter(line["reason"] for line in refused)) == told["refused"]
    assert all(set(line) == {"made_from", "text", "category", "made_by", "reason"} for line in refused)
    with prepared.variations.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == told["rows"]
    assert Counter(row["category"] for row in rows) == {
        name: figures["variations"] for name, figures in told["categories"].items()
    }
    assert {(row["source"], row["model"], row["prompt_hash"]) for row in rows} == {("rules", "", "")}
    train = [json.loads(line) for line in prepared.rows("train").read_text().splitlines()]
    assert {row["variation"] for row in rows} == {row["title"] for row in train if "made_from" in row["source"]}


def test_cells_that_a_spreadsheet_would_run_are_guarded(own_folder: Path) -> None:
    lines = ["title,code"] + [f"=cmd Worker {n},{n}" for n in range(3)] + [f"@home Baker {n},{n}" for n in range(3, 8)]
    (own_folder / "own.csv").write_text("\n".join(lines))
    (own_folder / "recipe.yaml").write_text(
        "name: own\nkind: embedding\nmodel: {base: minilm}\n"
        "data: {source: own.csv, fields: {title: title, label: code, group: code}, augment: {target: 40}}\n"
    )
    folder = RunFolder(own_folder / "run")
    prepare(load_recipe("recipe.yaml").recipe, folder, Silent())
    with folder.variations.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(cell.startswith("'=cmd") for cell in cells)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in cells)
    assert '"=cmd Worker' in folder.rows("train").read_text()  # what is trained on stays as it is


def test_the_readmes_examples_are_made_by_the_rules() -> None:
    from luthier.data.augment.titles.reading import in_category

    readme = (folder_of_recipe() / "README.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\| (\w+) \| (.+?) → (.+?) \|$", readme, re.MULTILINE)
    assert len(examples) == 5
    for category, source, variation in examples:
        assert in_category(source, variation, category), (category, source, variation)
