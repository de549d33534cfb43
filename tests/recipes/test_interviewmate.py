"""The InterviewMate data: what its README says of the rows holds, and its splits are even and leak-free."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from luthier.recipe.load import load_recipe
from luthier.recipe.names import shipped
from luthier.run.folder import RunFolder
from luthier.run.progress import Silent
from luthier.stages.prepare import prepare

Line = dict[str, Any]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    path = shipped()["interviewmate"].parent / "data" / "questions.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_there_are_302_sources_and_603_variations(lines: list[Line]) -> None:
    assert Counter(line["variation"] == "source" for line in lines) == {True: 302, False: 603}
    sources = {line["id"] for line in lines if line["variation"] == "source"}
    assert {line["source_id"] for line in lines} == sources
    assert len({line["id"] for line in lines}) == 905
    assert set(Counter(line["topic"] for line in lines if line["variation"] == "source").values()) == {40, 34}
    assert len({line["topic"] for line in lines}) == 8


def test_every_row_keeps_to_the_brief(lines: list[Line]) -> None:
    for line in lines:
        assert 60 <= len(line["answer"].split()) <= 160, line["id"]
        assert line["difficulty"] in (1, 2, 3), line["id"]
        assert 3 <= len(line["key_points"]) <= 5, line["id"]
        for point in line["key_points"]:
            assert point.lower() in line["answer"].lower(), (line["id"], point)


def test_no_answer_opens_like_many_others(lines: list[Line]) -> None:
    openings = Counter((line["topic"], *line["answer"].lower().split()[:3]) for line in lines)
    assert openings.most_common(1)[0][1] <= 3


def test_the_splits_are_even_by_topic_and_no_group_stands_astride(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    prepare(load_recipe("interviewmate").recipe, folder, Silent())
    report = json.loads(folder.data_report.read_text())
    assert report["leaks"] == []
    assert report["rejected"] == {}
    assert report["rows"]["train"] == 905  # 228 steps of 8 in two epochs, as the reference had
    sides: dict[str, set[str]] = defaultdict(set)
    topics: dict[str, Counter[str]] = defaultdict(Counter)
    for name in ("train", "validation", "test"):
        for text in folder.rows(name).read_text().splitlines():
            row = json.loads(text)
            sides[row["group"]].add(name)
            if "made_from" not in row["source"]:
                topics[row["labels"]["topic"]][name] += 1
    assert {len(found) for found in sides.values()} == {1}
    wanted = {"train": 0.70, "validation": 0.15, "test": 0.15}
    for topic, counts in topics.items():
        for name, share in wanted.items():
            assert abs(counts[name] / counts.total() - share) <= 0.02, (topic, name)
    statistics = report["statistics"]
    assert statistics["splits"]["all"]["truncation"]["rows"] == 0
    assert statistics["splits"]["test"]["terms"]["per_question"] > 1


def test_the_recipes_readme_gives_the_measured_figures(tmp_path: Path, lines: list[Line]) -> None:
    readme = (shipped()["interviewmate"].parent / "README.md").read_text(encoding="utf-8")
    mean = sum(len(line["question"]) for line in lines) / len(lines)
    assert f"| 97.6 | {mean:.1f} |" in readme
