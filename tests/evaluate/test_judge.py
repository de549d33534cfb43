"""The judge: blind, in both orders, kept apart; what it cannot answer is counted and not guessed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.errors import UserError
from luthier.evaluate.judge import Judged, judge, parse
from luthier.models.remote.client import Prices, Settings, Teacher
from luthier.report.judge import judge_section
from tests.scripted import Answer, Request, endpoint, prompt_of

CRITERIA = {"accuracy": "States nothing false.", "clarity": "A beginner follows it."}
COUNT = 24


def lines(who: str, answers: list[str | None] | None = None) -> list[dict[str, Any]]:
    told = answers or [f"{who} says {n} {{second}}" for n in range(COUNT)]
    return [
        {"id": f"q{n}", "group": None, "question": f"what is {n}?", "reference": f"it is {n}", "answer": said}
        for n, said in enumerate(told)
    ]


BASE, TUNED = lines("old"), lines("new")


def judged(
    folder: Path, opinion: Callable[[str, str], Any], rows: int | None = None, **more: Any
) -> tuple[Judged, list[Request]]:
    """Judge the answers; `opinion` gets the first and the second answer, and returns (first, second, preferred)."""

    def script(request: Request, _number: int) -> Answer:
        shown = dict(line.split(" answer: ") for line in prompt_of(request).splitlines() if " answer: " in line)
        said = opinion(json.loads(shown["First"]), json.loads(shown["Second"]))
        return Answer(said if isinstance(said, str) else as_json(*said))

    async def sleep(_seconds: float) -> None:
        return

    with endpoint(script) as server:
        settings = Settings(server.url, "wise", None, temperature=0.0, **more)
        found = judge(BASE, TUNED, Teacher(settings, folder, sleep), CRITERIA, 3, rows)
        return found, server.asked


def as_json(first: int, second: int, preferred: str) -> str:
    return json.dumps(
        {"first": dict.fromkeys(CRITERIA, first), "second": dict.fromkeys(CRITERIA, second), "preferred": preferred}
    )


def test_a_judge_that_always_prefers_the_first_has_said_nothing(tmp_path):
    found, asked = judged(tmp_path, lambda *_: (9, 2, "first"))
    assert len(asked) == 2 * COUNT
    assert found.summary["position"] == {"first": 48, "second": 0, "tie": 0, "bias": 1.0, "p": pytest.approx(2 / 2**48)}
    assert found.summary["agreement"] == 0.0
    assert found.summary["score_shift"] == {"accuracy": 7.0, "clarity": 7.0}
    assert found.summary["verdict"] == "no evidence"
    assert {entry["verdict"] for entry in found.summary["metrics"].values()} == {"no evidence"}
    assert found.summary["metrics"]["criterion: accuracy"]["base"] == 5.5
    section = judge_section(found.summary)
    assert any("favours the first place" in getattr(block, "text", "") for block in section.blocks)


@pytest.mark.parametrize(("likes", "verdict", "won"), [("new", "improved", 1.0), ("old", "worse", 0.0)])
def test_a_consistent_judge_gives_the_right_sign(likes, verdict, won, tmp_path):
    found, asked = judged(tmp_path, lambda first, _: (9, 4, "first") if first.startswith(likes) else (4, 9, "second"))
    summary = found.summary
    assert summary["verdict"] == verdict
    assert summary["metrics"]["preference"]["tuned"] == won
    assert summary["metrics"]["criterion: clarity"]["tuned"] == (9 if won else 4)
    assert summary["metrics"]["criterion: clarity"]["verdict"] == verdict
    assert (summary["agreement"], summary["position"]["bias"]) == (1.0, 0.0)
    assert summary["score_shift"] == {"accuracy": 0.0, "clarity": 0.0}
    assert "opinion of the judge" in summary["sentence"]
    assert {line["preferred"] for line in found.lines} == {"tuned" if won else "base"}
    assert len(found.lines) == 2 * COUNT
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert not any("favours" in getattr(block, "text", "") for block in judge_section(summary).blocks)
    prompts = [prompt_of(request) for request in asked]
    assert not any("base" in prompt or "tuned" in prompt for prompt in prompts)  # blind
    assert {request["temperature"] for request in asked} == {0.0}


def test_a_judge_that_draws_lots_finds_nothing(tmp_path):
    draw = random.Random(5)
    found, _ = judged(
        tmp_path, lambda *_: (draw.randrange(11), draw.randrange(11), draw.choice(["first", "second", "tie"]))
    )
    assert found.summary["verdict"] != "improved"
    assert abs(found.summary["position"]["bias"]) < 0.5
    assert found.summary["agreement"] < 0.7


def test_what_cannot_be_used_is_counted_and_not_guessed(tmp_path):
    def opinion(first: str, second: str) -> Any:
        if "says 3 " in first:
            return "I prefer the first."
        if "says 4 " in first and first.startswith("old"):
            return as_json(11, 0, "first")
        return (4, 9, "second") if second.startswith("new") else (9, 4, "first")

    found, asked = judged(tmp_path, opinion)
    summary = found.summary
    assert summary["pairs"] == {"judged": COUNT - 2, "put": COUNT, "answered by both": COUNT}
    assert summary["answers"]["usable"] == 2 * COUNT - 3
    assert sum(summary["answers"]["unusable"].values()) == 3
    assert any("whole number from 0 to 10" in why for why in summary["answers"]["unusable"])
    assert summary["metrics"]["preference"]["items"] == COUNT - 2
    assert [line["id"] for line in found.lines if not line["usable"]] == ["q3", "q3", "q4"]
    assert len(asked) == 2 * COUNT + 3 * 2  # each put three times in all


def test_a_judge_that_says_nothing_usable_has_no_verdict(tmp_path):
    found, _ = judged(tmp_path, lambda *_: "Both are fine.")
    assert found.summary["verdict"] is None
    assert found.summary["metrics"] == {}
    assert found.summary["agreement"] is None
    assert judge_section(found.summary).finding == "The judge gave no usable answer to any pair."


def test_a_second_judging_asks_nothing_and_says_the_same(tmp_path):
    draw = random.Random(1)
    with endpoint(lambda *_: Answer(as_json(draw.randrange(11), draw.randrange(11), "first"))) as server:
        settings = Settings(server.url, "wise", None, temperature=0.0)
        first, second = (judge(BASE, TUNED, Teacher(settings, tmp_path), CRITERIA, 3) for _ in range(2))
        assert len(server.asked) == 2 * COUNT
    assert second == first


def test_some_rows_are_drawn_by_the_seed(tmp_path):
    found, asked = judged(tmp_path, lambda *_: (5, 5, "tie"), rows=6)
    assert len(asked) == 12
    assert found.summary["pairs"] == {"judged": 6, "put": 6, "answered by both": COUNT}
    assert found.summary["agreement"] == 1.0
    assert found.summary["position"]["bias"] == 0.0


def test_the_cap_holds(tmp_path):
    with pytest.raises(UserError, match="cap"):
        judged(tmp_path, lambda *_: (5, 5, "tie"), prices=Prices(10.0, 10.0, 0.1))


def test_rows_that_one_side_did_not_answer_are_left_out(tmp_path):
    base = lines("old", [None, *(f"old {n}" for n in range(11))])
    tuned = lines("new", [*(f"new {n}" for n in range(11)), None])
    with endpoint(lambda *_: Answer(as_json(5, 5, "tie"))) as server:
        found = judge(base, tuned, Teacher(Settings(server.url, "wise", None), tmp_path), CRITERIA, 0)
    assert found.summary["pairs"]["put"] == 10


GOOD = {"first": {"a": 1, "b": 2}, "second": {"a": 3, "b": 4}, "preferred": "tie"}


@pytest.mark.parametrize(
    "change",
    [
        {"preferred": "both"},
        {"preferred": None},
        {"preferred": ["first"]},
        {"first": {"a": 1}},
        {"first": {"a": 1, "b": 2, "c": 3}},
        {"first": {"a": 1, "b": 2.5}},
        {"first": {"a": 1, "b": True}},
        {"first": {"a": 1, "b": "2"}},
        {"first": {"a": -1, "b": 2}},
        {"second": [1, 2]},
        {"reason": "because"},
    ],
)
def test_what_is_no_opinion_is_refused(change):
    assert parse(f"Well: {json.dumps(GOOD)}.", ("a", "b")).second == {"a": 3, "b": 4}
    with pytest.raises(ValueError, match=r"^it |^first |^second |^a score|^preferred "):
        parse(json.dumps({**GOOD, **change}), ("a", "b"))


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"first": 1}', "{" * 10_000, '{"a":' * 10_000])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"^it |^first |^second |^a score|^preferred "):
        parse(text, ("a",))
