"""The diagnosis of searches: each query by how it fails, confusions, hubs, and a space that has collapsed."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.diagnose import diagnosis_named
from luthier.diagnose.base import Given
from luthier.diagnose.retrieval import confusions, diagnose_retrieval, found_in, hubs_of
from luthier.run.progress import Silent


def line(name: str, family: str, found: list[tuple[str, str]], ranks: list[int], **labels: Any) -> dict[str, Any]:
    """A search: (text, family) in the order found."""
    retrieved = [
        {"id": text, "text": text, "families": [own], "similarity": 0.9 - 0.01 * place, "relevant": own == family}
        for place, (text, own) in enumerate(found)
    ]
    return {
        "id": name,
        "group": family,
        "question": name,
        "reference": "",
        "answer": found[0][0],
        "retrieved": retrieved,
        "relevant": len(ranks),
        "ranks": ranks,
        "labels": labels,
        "error": "",
    }


OTHERS = [(f"other {place}", "cook") for place in range(10)]


@pytest.mark.parametrize(
    ("found", "ranks", "category"),
    [
        ([("ward nurse", "nurse"), *OTHERS[:9]], [1], []),
        ([*OTHERS[:1], ("ward nurse", "nurse"), *OTHERS[1:9]], [2], ["near_miss"]),
        ([*OTHERS[:4], ("ward nurse", "nurse"), *OTHERS[4:9]], [5], ["confused"]),
        (OTHERS, [30], ["missed"]),
        ([("ward nurse", "nurse"), *OTHERS[:9]], [1, 20, 30], ["incomplete"]),
    ],
)
def test_a_search_has_the_first_category_that_fits(found: Any, ranks: list[int], category: list[str]) -> None:
    assert [one["category"] for one in found_in(line("nurse", "nurse", found, ranks), set())] == category


def test_a_wrong_first_text_that_everyone_finds_is_a_hub() -> None:
    search = line("nurse", "nurse", OTHERS, [30])
    assert [one["category"] for one in found_in(search, {"other 0"})] == ["missed", "hub"]
    assert [one["category"] for one in found_in(search, {"other 1"})] == ["missed"]
    assert "'other 0' is found by many queries" in found_in(search, {"other 0"})[1]["sentence"]


def test_hubs_are_texts_found_far_more_often_than_the_others() -> None:
    lines = [line(f"q{n}", "nurse", [("hub", "cook"), (f"text {n}", "nurse")], [2]) for n in range(40)]
    found = hubs_of(lines, corpus=200)
    assert [(hub["id"], hub["queries"]) for hub in found["hubs"]] == [("hub", 40)]
    assert found["skewness"] > 10
    even = hubs_of([line(f"q{n}", "nurse", [(f"text {n}", "nurse")], [1]) for n in range(40)], corpus=40)
    assert even == {"hubs": [], "skewness": 0.0}


def test_confusions_are_counted_with_an_example() -> None:
    lines = [
        line("a", "nurse", [("grill cook", "cook")], [2]),
        line("b", "nurse", [("line cook", "cook")], [3]),
        line("c", "cook", [("ward nurse", "nurse")], [2]),
        line("d", "cook", [("grill cook", "cook")], [1]),
    ]
    first, second = confusions(lines)
    assert (first["asked"], first["found"], first["queries"]) == ("nurse", "cook", 2)
    assert first["example"] == {"question": "a", "answer": "grill cook", "similarity": 0.9, "rank": 2}
    assert (second["asked"], second["queries"]) == ("cook", 1)


def given(**metrics: Any) -> Given:
    bad = [line(f"q{n}", "nurse", OTHERS, [30], category="formatting" if n < 20 else "context") for n in range(24)]
    good = [line(f"q{n}", "nurse", [("ward nurse", "nurse")], [1], category="formatting") for n in range(20)]
    return Given(
        answers={"base": bad, "tuned": [*good, *bad[20:]]},
        scores=[{"id": f"q{n}", "flip": "won"} for n in range(20)],
        train=[],
        validation=[],
        metrics={"corpus": 100, **metrics},
        settings={"training.learning_rate": 0.01},
    )


def test_the_summary_has_the_shape_of_every_diagnosis() -> None:
    from luthier.report.diagnosis import diagnosis_section

    diagnosis = diagnose_retrieval(given(), Silent())
    summary = diagnosis.summary
    assert summary["kind"] == "retrieval"
    assert summary["answers"]["tuned"] == {"items": 24, "asked": 24, "flagged": 4, "clean": 20, "suspected_only": 0}
    assert summary["counts"]["missed"]["by"]["base"]["items"] == 24
    assert summary["flips"]["counts"] == {"fixed": 20, "broken": 0, "still": 4, "clean": 0}
    assert sum(sum(row) for row in summary["flow"]["matrix"]) == 24
    assert {(one["id"], one["side"]) for one in diagnosis.findings if one["category"] == "missed"} == {
        *((f"q{n}", "base") for n in range(24)),
        *((f"q{n}", "tuned") for n in range(20, 24)),
    }
    (pattern,) = [cell for cell in summary["patterns"] if cell["side"] == "tuned" and cell["value"] == "context"]
    assert (pattern["failed"], pattern["n"], pattern["rest_failed"]) == (4, 4, 0)
    assert diagnosis_section(summary).title == "What goes wrong?"
    assert diagnosis_named("retrieval") is diagnose_retrieval


def test_a_collapsed_space_is_told_and_a_lower_rate_proposed() -> None:
    geometry = {"base": {"mean_similarity": 0.2}, "tuned": {"mean_similarity": 0.93}}
    summary = diagnose_retrieval(given(geometry=geometry), Silent()).summary
    (one,) = summary["suggestions"]
    assert (one["key"], one["now"], one["proposed"]) == ("training.learning_rate", 0.01, 0.0025)
    assert any("0.93 on average" in note for note in summary["notes"])
    calm = diagnose_retrieval(
        given(geometry={"base": {"mean_similarity": 0.2}, "tuned": {"mean_similarity": 0.3}}), Silent()
    )
    assert calm.summary["suggestions"] == []


def test_case_that_matters_is_told() -> None:
    summary = diagnose_retrieval(given(sensitivity={"tuned": {"upper_case": 0.7, "lower_case": 0.9}}), Silent()).summary
    assert any("0.70: case matters" in note for note in summary["notes"])
