"""Batch prediction: columns kept, errors per row, goes on after a kill, nothing for a spreadsheet to run."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import polars
import pytest
import typer
from typer.testing import CliRunner

from luthier.cli import talk
from luthier.errors import UserError
from luthier.models.engines import TransformersAnswerer
from luthier.run.atomic import read_jsonl, write_jsonl
from luthier.serve.batch import Asked, predict
from luthier.serve.load import RunModel

PROMPTS = ["What is overfitting?", "How does dropout help?", "Why do we split data?"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    write_jsonl(path, [{"id": place, "prompt": text, "tags": ["a"]} for place, text in enumerate(PROMPTS)])
    return path


def test_rows_keep_their_columns_and_get_answers(coach: RunModel, source: Path) -> None:
    done = predict(coach, source)
    assert (done.output.name, done.rows, done.answered, done.failed) == ("in.answers.jsonl", 3, 3, 0)
    rows = list(read_jsonl(done.output))
    assert list(rows[0]) == ["id", "prompt", "tags", "answer", "error"]
    assert [row["answer"] for row in rows] == coach.answer(PROMPTS)
    assert [row["error"] for row in rows] == [None] * 3
    assert not list(source.parent.glob("*.part"))


def test_errors_cost_a_row_and_not_the_file(coach: RunModel, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    conversation = [{"role": "user", "content": PROMPTS[0]}]
    values: list[Any] = [PROMPTS[0], "", "  ", None, 42, {"a": 1}, True, "long " * 900, conversation, [], [{"role": 1}]]
    lines = [json.dumps({"id": place, "prompt": value}) for place, value in enumerate(values)]
    path.write_text("\n".join([*lines, '{"id": 99}', "{broken", '["no object"]']) + "\n")
    done = predict(coach, path)
    rows = list(read_jsonl(done.output))
    assert (done.rows, done.answered, done.failed) == (14, 3, 11)
    assert [bool(row["error"]) for row in rows] == [place not in (0, 4, 8) for place in range(14)]
    assert rows[8]["answer"] == rows[0]["answer"] == coach.answer([PROMPTS[0]])[0]
    told = [row["error"] for row in rows]
    for place, words in ((1, "empty"), (3, "empty"), (5, "neither"), (7, "room for 512"), (11, "no 'prompt'")):
        assert words in told[place]
    assert "Line 13" in told[12]
    assert "{broken" in told[12]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".json"])
def test_formats(coach: RunModel, tmp_path: Path, source: Path, suffix: str) -> None:
    first = predict(coach, source, tmp_path / f"first{suffix}")
    frame = polars.DataFrame({"n": [1.5, 2.5, 3.5], "question": PROMPTS})
    path = tmp_path / f"table{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path)
    elif suffix == ".json":
        path.write_text(json.dumps(frame.to_dicts()))
    else:
        frame.write_csv(path, separator="," if suffix == ".csv" else "\t")
    done = predict(coach, path, asked=Asked(base=True))
    assert (first.answered, done.answered, done.column) == (3, 3, "question")
    assert done.output.suffix == suffix
    if suffix == ".parquet":
        again = polars.read_parquet(done.output)
        assert again.columns == ["n", "question", "answer", "error"]
        assert again["n"].to_list() == [1.5, 2.5, 3.5]
        assert again["answer"].to_list() == coach.answer(PROMPTS, base=True)


def test_an_answer_column_of_the_input_is_kept(coach: RunModel, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    write_jsonl(path, [{"question": PROMPTS[0], "answer": "the reference"}])
    done = predict(coach, path)
    assert (done.answer_column, done.error_column) == ("model_answer", "error")
    assert next(read_jsonl(done.output))["answer"] == "the reference"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_cells_that_a_spreadsheet_would_run_are_quoted(
    coach: RunModel, tmp_path: Path, formula: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coach, "decode", lambda ids: formula)
    path = tmp_path / "in.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["prompt", "mine"], [PROMPTS[0], "-5"]])

    def cells(output: Path) -> dict[str, str]:
        with open(output, newline="") as file:
            return next(csv.DictReader(file))

    guarded = cells(predict(coach, path).output)
    assert guarded["answer"] == f"'{formula}"
    assert guarded["mine"] == "-5"  # the user's own table comes back as it was
    assert cells(predict(coach, path, tmp_path / "raw.csv", raw=True).output)["answer"] == formula
    write_jsonl(tmp_path / "foreign.jsonl", [{"prompt": PROMPTS[0], "theirs": "=1+1", "number": -5}])
    foreign = cells(predict(coach, tmp_path / "foreign.jsonl", tmp_path / "foreign.csv").output)
    assert (foreign["theirs"], foreign["number"]) == ("'=1+1", "-5")


class KilledError(Exception):
    pass


def test_killed_it_goes_on_with_the_same_bytes(
    coach: RunModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.jsonl"
    write_jsonl(path, [{"prompt": f"{PROMPTS[place % 3]} {place}"} for place in range(70)])
    whole = predict(coach, path, tmp_path / "whole.jsonl").output.read_bytes()
    answer, calls = TransformersAnswerer.answer, 0

    def dying(self: TransformersAnswerer, *rest: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KilledError
        return answer(self, *rest)

    monkeypatch.setattr(TransformersAnswerer, "answer", dying)
    with pytest.raises(KilledError):
        predict(coach, path, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    assert (tmp_path / "out.jsonl.part").exists()
    done = predict(coach, path, tmp_path / "out.jsonl")
    assert (done.resumed, done.output.read_bytes()) == (64, whole)
    assert not (tmp_path / "out.jsonl.part").exists()


def test_what_cannot_be_is_told(coach: RunModel, source: Path, tmp_path: Path) -> None:
    predict(coach, source)
    cases: list[tuple[Path, Path | None, Asked, str]] = [
        (source, None, Asked(), "already"),
        (source, source, Asked(), "replace the input"),
        (source, tmp_path / "x.docx", Asked(), "format of the output"),
        (source, tmp_path / "x.csv", Asked(column="promt"), "'prompt'"),
        (tmp_path / "no.csv", None, Asked(), "not a file"),
        (source, tmp_path / "x.csv", Asked(max_new_tokens=0), "at least 1"),
    ]
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    cases.append((tmp_path / "odd.csv", None, Asked(), "--column"))
    for path, output, asked, words in cases:
        with pytest.raises(UserError) as raised:
            predict(coach, path, output, asked)
        assert words in str(raised.value)
    assert predict(coach, source, overwrite=True).answered == 3


def test_the_verb(runs: Path, source: Path) -> None:
    app = typer.Typer()
    talk.register(app)
    told = CliRunner().invoke(app, ["predict", "coach/latest", str(source), "--runs", str(runs), "--json", "-q"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["rows"], found["answered"], found["column"]) == (3, 3, "prompt")
    assert Path(found["output"]).is_file()
