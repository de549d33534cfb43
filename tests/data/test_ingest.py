"""From files to rows: nothing is lost, whatever the files hold."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import orjson
import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.data.ingest import Ingested, ingest, inspect
from luthier.errors import UserError


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def turn(number: int, **more: Any) -> dict[str, Any]:
    return {"question": f"q{number}", "answer": f"a{number}", **more}


def write(name: str, content: str | bytes) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def check(found: Ingested) -> Ingested:
    """What holds for every source."""
    assert sum(file.rows for file in found.files) == len(found.rows)
    assert sum(file.rejected for file in found.files) == len(found.rejected)
    assert len({row.id for row in found.rows}) == len(found.rows)
    for line in [*found.rows, *found.rejected]:
        assert orjson.loads(orjson.dumps(line.to_json()))
    return found


def test_a_row_knows_where_it_comes_from() -> None:
    write("data/q.jsonl", "\n" + lines(turn(1, topic="ml", group="g"), turn(2, id=7, tags=["x"])))
    found = check(ingest("data/q.jsonl"))
    first, second = found.rows
    assert (first.id, first.file, first.line, first.group) == ("q:2", "data/q.jsonl", 2, "g")
    assert first.labels == {"topic": "ml"}
    assert (second.id, second.line, second.group, second.labels) == ("7", 3, None, {"tags": ["x"]})
    assert first.form == "chat"
    assert found.format == "prompt-completion"
    assert found.columns == ["question", "answer", "topic", "group", "id", "tags"]
    assert found.fields == {"prompt": "question", "completion": "answer"}
    assert found.notes == ["Column 'question' is read as prompt.", "Column 'answer' is read as completion."]
    [file] = found.files
    assert file.bytes == Path("data/q.jsonl").stat().st_size
    assert len(file.sha256) == 64


def test_declared_fields() -> None:
    write("a.csv", "frage,antwort,quelle,stufe,nr\nq,a,s1,2,n1\nr,b,s1,3,n2\n")
    fields = {"prompt": "frage", "completion": "antwort", "group": "quelle", "difficulty": "stufe", "id": "nr"}
    found = check(ingest("a.csv", fields=fields))
    assert [(row.id, row.group, row.labels, row.line) for row in found.rows] == [
        ("n1", "s1", {"difficulty": "2"}, 2),
        ("n2", "s1", {"difficulty": "3"}, 3),
    ]
    assert found.notes == []


@pytest.mark.parametrize("field", ["prompt", "topic", "group", "id"])
def test_a_declared_field_that_is_not_there_names_those_found(field: str) -> None:
    write("a.jsonl", lines(turn(1, subject="x")))
    with pytest.raises(UserError) as caught:
        ingest("a.jsonl", fields={field: "subjekt"})
    assert f"data.fields.{field}" in caught.value.problem
    assert "question, answer, subject" in caught.value.problem
    assert "'subject'" in caught.value.remedy


def test_a_label_that_only_a_late_row_has_is_found() -> None:
    write("a.jsonl", lines(*(turn(n) for n in range(1500)), turn(1500, rare="x")))
    assert ingest("a.jsonl", fields={"mark": "rare"}).rows[-1].labels == {"mark": "x"}


def test_rows_that_lack_what_the_others_have() -> None:
    write("a.jsonl", lines(turn(1), {"question": "q"}, {"question": None, "answer": "a"}, turn(4)))
    found = check(ingest("a.jsonl"))
    assert [(row.reason, row.line) for row in found.rejected] == [("missing-field", 2), ("missing-field", 3)]
    assert found.rejected[0].raw == {"question": "q"}


def test_an_id_given_twice_names_the_first() -> None:
    write("a.jsonl", lines(turn(1, id="x"), turn(2, id="x"), turn(3, id="y")))
    write("b.jsonl", lines(turn(4, id="y")))
    found = check(ingest(["a.jsonl", "b.jsonl"]))
    assert [row.reason for row in found.rejected] == ["duplicate-id"] * 2
    assert "a.jsonl:1" in found.rejected[0].detail
    assert "a.jsonl:3" in found.rejected[1].detail


def test_files_of_one_stem_do_not_share_ids() -> None:
    write("x/q.jsonl", lines(turn(1)))
    write("y/q.jsonl", lines(turn(1)))
    assert {row.id for row in check(ingest(["x/q.jsonl", "y/q.jsonl"])).rows} == {"x/q.jsonl:1", "y/q.jsonl:1"}


def test_an_id_or_group_that_is_no_scalar_costs_its_row() -> None:
    write("a.jsonl", lines(turn(1, id=[1]), turn(2, group={"a": 1}), turn(3)))
    assert [row.reason for row in check(ingest("a.jsonl")).rejected] == ["malformed", "malformed"]


def test_not_one_usable_row_gives_counts_and_examples() -> None:
    write("a.jsonl", lines({"question": "q"}, {"question": "r"}, {"answer": "b"}) + '{"question": "cut\n')
    with pytest.raises(UserError) as caught:
        ingest("a.jsonl", format="prompt-completion", fields={"prompt": "question", "completion": "answer"})
    assert "Not one row of 4" in caught.value.problem
    assert "3 missing-field, first at a.jsonl:1" in caught.value.problem
    assert "1 malformed, first at a.jsonl:4" in caught.value.problem
    write("b.jsonl", '{"a\n{"b\n')
    with pytest.raises(UserError, match="2 malformed"):
        ingest("b.jsonl")


def test_splits_by_folder_and_by_mapping() -> None:
    for name in ("train", "valid", "test"):
        write(f"data/{name}.jsonl", lines(turn(1), turn(2)))
    assert [row.split for row in check(ingest("data")).rows] == ["test"] * 2 + ["train"] * 2 + ["validation"] * 2
    found = check(ingest({"train": "data/test.jsonl", "test": ["data/train.jsonl", "data/valid.jsonl"]}))
    assert [row.split for row in found.rows] == ["train"] * 2 + ["test"] * 4
    assert [row.split for row in ingest("data/train.jsonl").rows] == [None, None]


def test_slices() -> None:
    write("data/a.jsonl", lines(*(turn(n) for n in range(6))))
    write("data/b.jsonl", lines(*(turn(n) for n in range(6, 10))))

    def asked(source: Any) -> list[str]:
        return [row.content["messages"][0]["content"][1:] for row in check(ingest(source)).rows]

    assert asked("data/a.jsonl[1:3]") == ["1", "2"]
    assert asked("data/a[-2:]") == ["4", "5"]
    assert asked("data[50%:]") == ["5", "6", "7", "8", "9"]
    assert asked(["data/a.jsonl[:1]", "data/b.jsonl[-25%:]"]) == ["0", "9"]
    assert asked("data/*.jsonl[7:]") == ["7", "8", "9"]
    assert asked("data[:90%]") + asked("data[-10%:]") == [str(n) for n in range(10)]
    with pytest.raises(UserError, match="no rows"):
        ingest("data[20:]")


def test_bad_records_count_in_a_slice() -> None:
    write("a.jsonl", lines(turn(1)) + "{broken\n" + lines(turn(3)))
    found = check(ingest("a.jsonl[:2]"))
    assert (len(found.rows), len(found.rejected)) == (1, 1)
    assert found.rejected[0].raw == "{broken"


def test_the_system_message_is_passed_on() -> None:
    write("a.jsonl", lines(turn(1)))
    assert ingest("a.jsonl", system="Be kind.").rows[0].content["messages"][0]["content"] == "Be kind."


def test_files_that_do_not_go_together() -> None:
    write("a.jsonl", lines(turn(1)))
    write("b.jsonl", lines({"text": "t"}))
    with pytest.raises(UserError) as caught:
        ingest(["a.jsonl", "b.jsonl"])
    assert "b.jsonl is text" in caught.value.problem
    write("c.jsonl", lines({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}))
    assert check(ingest(["a.jsonl", "c.jsonl"])).format == "prompt-completion, messages"


def test_every_container_gives_the_same_rows() -> None:
    rows = [turn(n, topic="t") for n in range(5)]
    write("a.jsonl", lines(*rows))
    write("b.json", json.dumps(rows))
    write("c.jsonl.gz", gzip.compress(lines(*rows).encode()))
    polars.DataFrame(rows).write_csv("d.csv")
    polars.DataFrame(rows).write_csv("e.tsv", separator="\t")
    polars.DataFrame(rows).write_parquet("f.parquet")
    contents = [
        [(row.content, row.labels) for row in check(ingest(name)).rows] for name in sorted(map(str, Path().iterdir()))
    ]
    assert len(contents) == 6
    assert all(content == contents[0] for content in contents)


def test_labels_that_json_cannot_hold_are_kept_as_text() -> None:
    import datetime

    polars.DataFrame([{**turn(1), "when": datetime.date(2026, 5, 1), "raw": b"x"}]).write_parquet("a.parquet")
    assert check(ingest("a.parquet")).rows[0].labels == {"when": "2026-05-01", "raw": "b'x'"}


def test_progress_counts_every_record() -> None:
    class Counting:
        total = 0

        def say(self, line: str) -> None: ...

        def task(self, name: str, total: int | None = None, unit: str = "rows") -> Any:
            from contextlib import nullcontext

            return nullcontext(self.add)

        def add(self, count: int) -> None:
            self.total += count

    write("a.jsonl", lines(*(turn(n) for n in range(2345))))
    counting = Counting()
    ingest("a.jsonl", progress=counting)
    assert counting.total == 2345


def test_inspect() -> None:
    write("a.jsonl", lines(*(turn(n) for n in range(2500))) + "broken\n")
    found = inspect("a.jsonl")
    assert (found.format, found.rows, found.rejected, found.more) == ("prompt-completion", 2000, 0, True)
    assert found.fields == {"prompt": "question", "completion": "answer"}
    assert found.lengths_chars == {"min": 5, "median": 10, "p95": 11, "p99": 11, "max": 11}
    write("b.jsonl", lines(turn(1)) + "broken\n")
    small = inspect("b.jsonl")
    assert (small.rows, small.rejected, small.more) == (1, 1, False)


# ── the Hub ──


class FakeSplit(list[dict[str, Any]]):
    _fingerprint = "abc"
    dataset_size = 12


def fake_datasets(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, split: str | None) -> Any:
        asked.append((name, config, split))
        if isinstance(answer, Exception):
            raise answer
        return answer if split is None else answer[split]

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))  # type: ignore[arg-type]
    return asked


def test_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    data = {"train": FakeSplit([turn(n) for n in range(4)]), "test": FakeSplit([turn(9)])}
    asked = fake_datasets(monkeypatch, data)
    found = check(ingest("hub://owner/name:small"))
    assert asked == [("owner/name", "small", None)]
    assert [row.split for row in found.rows] == ["train"] * 4 + ["test"]
    assert found.rows[0].id == "name-train:1"
    assert found.files[0].file == "hub://owner/name/train"
    sliced = check(ingest("hub://owner/name#train[:50%]"))
    assert asked[-1] == ("owner/name", None, "train")
    assert [row.split for row in sliced.rows] == [None, None]
    assert {row.split for row in ingest({"test": "hub://owner/name#train"}).rows} == {"test"}


def test_hub_failures_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_datasets(monkeypatch, ConnectionError("offline mode is enabled\nmore"))
    with pytest.raises(UserError) as caught:
        ingest("hub://owner/name")
    assert caught.value.problem == "The data set cannot be loaded: offline mode is enabled"
    assert "local files" in caught.value.remedy
    monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="need the package datasets"):
        ingest("hub://owner/name")
    with pytest.raises(UserError, match="does not name a data set"):
        ingest("hub://a/b/c")


# ── anything at all ──

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["prompt", "completion", "messages", "text", "id", "group", "chosen", "rejected", "question", "x"]
)
RECORDS = st.one_of(VALUES, st.dictionaries(NAMES, VALUES, max_size=5), st.fixed_dictionaries({"text": SCALARS}))
ANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY
@given(st.lists(RECORDS, max_size=12), st.sampled_from(["array", "lines"]))
def test_any_json_is_accounted_for_or_explained(values: list[Any], how: str) -> None:
    text = json.dumps(values) if how == "array" else lines(*values)
    write("a.json" if how == "array" else "a.jsonl", text)
    try:
        found = ingest("a.json" if how == "array" else "a.jsonl")
    except UserError as error:
        assert error.problem
        return
    check(found)
    assert len(found.rows) + len(found.rejected) == len(values)


@ANY
@given(st.lists(st.lists(st.text(alphabet='ab,"\n\r;é\x00', max_size=6), min_size=1, max_size=4), max_size=12))
def test_any_table_is_accounted_for_or_explained(table: list[list[str]]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["prompt", "completion"], *table])
    write("a.csv", buffer.getvalue())
    try:
        found = check(ingest("a.csv"))
    except UserError as error:
        assert error.problem
        return
    assert len(found.rows) + len(found.rejected) == len(table)
    fitting = [tuple(row) for row in table if len(row) == 2]
    assert [tuple(m["content"] for m in row.content["messages"]) for row in found.rows] == fitting


@ANY
@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.tsv", "a.parquet", "a.gz", "a.txt"]))
def test_any_bytes_are_read_or_explained(content: bytes, name: str) -> None:
    write(name, content)
    try:
        check(ingest(name))
    except UserError as error:
        assert error.problem


@ANY
@given(st.text(alphabet='prompt,completion"\n{}[]:;\t é', max_size=80), st.sampled_from(["a.csv", "a.jsonl", "a.json"]))
def test_any_text_is_read_or_explained(text: str, name: str) -> None:
    write(name, text)
    try:
        check(ingest(name))
    except UserError as error:
        assert error.problem


@ANY
@given(st.data())
def test_a_file_cut_anywhere_loses_no_whole_row(data: st.DataObject) -> None:
    rows = [turn(n) for n in range(5)]
    content = lines(*rows)
    cut = data.draw(st.integers(1, len(content)))
    write("a.jsonl", content[:cut])
    whole = content[:cut].count("\n")
    try:
        found = check(ingest("a.jsonl"))
    except UserError:
        assert whole == 0
        return
    assert len(found.rows) >= whole
    assert len(found.rows) + len(found.rejected) == whole + (not content[:cut].endswith("\n"))
