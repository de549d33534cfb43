"""Reading files: every container, every way in which one can be broken, and where sources lead."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
from pathlib import Path

import polars
import pytest

from luthier.data import files
from luthier.data.records import Bad, Record, storable, what
from luthier.data.sources import Cut, data_stem, data_suffix, resolve, source_files
from luthier.errors import UserError

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "ä\nö", "completion": "d"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def write(name: str, content: str | bytes) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(name: str, content: str | bytes) -> list[Record | Bad]:
    return list(files.read(write(name, content)))


def refused(name: str, content: str | bytes) -> UserError:
    with pytest.raises(UserError) as caught:
        read(name, content)
    assert name in caught.value.place
    return caught.value


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a.ndjson", "a", "a.csv"])
def test_json_lines_under_any_name(name: str) -> None:
    assert read(name, LINES) == [Record(1, ROWS[0]), Record(2, ROWS[1])]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a.csv"])
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_under_any_name(name: str, indent: int | None) -> None:
    assert read(name, json.dumps(ROWS, indent=indent)) == [Record(1, ROWS[0]), Record(2, ROWS[1])]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_object_with_one_list(indent: int | None) -> None:
    assert [item.value for item in read("a.json", json.dumps({"version": 1, "data": ROWS}, indent=indent))] == ROWS
    assert [item.value for item in read("a.json", '{"data": [\n{"prompt": "a"}\n]}')] == [{"prompt": "a"}]


def test_one_object_is_one_record() -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    for indent in (None, 1):
        assert read("a.json", json.dumps(row, indent=indent)) == [Record(1, row)]
    assert read("a.jsonl", json.dumps(row)) == [Record(1, row)]


def test_an_object_with_several_lists_is_refused() -> None:
    assert "one, two" in refused("a.json", json.dumps({"one": ROWS, "two": ROWS})).problem


@pytest.mark.parametrize(("name", "pack"), [("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)])
def test_packed_files_by_content(name: str, pack: object) -> None:
    assert read(f"a.jsonl.{name}", pack(LINES.encode())) == read("b.jsonl", LINES)  # type: ignore[operator]
    assert read("c.jsonl", pack(LINES.encode())) == read("b.jsonl", LINES)  # type: ignore[operator]
    csv = "prompt,completion\na,b\n"
    assert read(f"a.csv.{name}", pack(csv.encode())) == [Record(2, ROWS[0])]  # type: ignore[operator]


def test_a_packed_file_that_is_cut_off_is_refused() -> None:
    packed = gzip.compress(LINES.encode() * 1000)
    assert "damaged" in refused("a.jsonl.gz", packed[:-20]).problem
    assert "damaged" in refused("a.jsonl.xz", lzma.compress(LINES.encode())[:-8]).problem


@pytest.mark.parametrize(
    ("name", "sign"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.csv", "|"), ("a.tsv", "\t")]
)
def test_tables(name: str, sign: str) -> None:
    text = f"prompt{sign}completion\na{sign}b\n\n" + f'"x ""y"""{sign}" z "\n'
    assert read(name, text) == [Record(2, ROWS[0]), Record(4, {"prompt": 'x "y"', "completion": " z "})]


def test_line_numbers_hold_across_cells_with_line_ends() -> None:
    text = 'prompt,completion\r\n"one\r\ntwo\r\nthree",b\r\nc,d\r\n"e",\r\nragged\r\n'
    found = read("a.csv", text)
    assert [item.line for item in found] == [2, 5, 6, 7]
    assert found[0].value["prompt"] == "one\r\ntwo\r\nthree"  # type: ignore[union-attr]
    assert found[3] == Bad(7, "ragged", "The row has 1 cells, the header has 2.", ["ragged"])


def test_a_header_with_line_ends_and_without_names() -> None:
    [record] = read("a.csv", '\n,"a\nb", c \n0,1,2\n')
    assert record == Record(4, {"column_1": "0", "a\nb": "1", "c": "2"})


def test_ragged_rows_either_way() -> None:
    found = read("a.csv", "p,c\n1,2\n1\n1,2,3\n4,5\n")
    assert [item.reason if isinstance(item, Bad) else "" for item in found] == ["", "ragged", "ragged", ""]
    assert found[2].raw == ["1", "2", "3"]  # type: ignore[union-attr]


def test_quotes_gone_wrong_cost_their_rows_only() -> None:
    found = read("a.csv", 'p,c\n"a"x,b\nc,d\n"open,e\nf,g\n')
    assert [(item.line, item.reason if isinstance(item, Bad) else "") for item in found] == [
        (2, "malformed"),
        (3, ""),
        (4, "malformed"),
    ]
    assert found[2].raw == '"open,e\nf,g\n', "nothing is lost"  # type: ignore[union-attr]


def test_a_cell_larger_than_the_csv_module_expects() -> None:
    [record] = read("a.csv", f"p,c\n{'x' * 200_000},b\n")
    assert len(record.value["p"]) == 200_000  # type: ignore[union-attr]


def test_columns_of_one_name_are_refused() -> None:
    assert "'p'" in refused("a.csv", "p,c,p\n1,2,3\n").problem


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "p,c\n"), ("a.csv", "p,c"), ("a.json", "[]"), ("a.jsonl", "[]")]
)
def test_no_rows(name: str, content: str) -> None:
    assert "no rows" in refused(name, content).problem


@pytest.mark.parametrize("content", [b"", b"  \n\n ", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.txt"])
def test_empty_files(name: str, content: bytes) -> None:
    assert "empty" in refused(name, content).problem


def test_a_byte_order_mark_is_accepted() -> None:
    for name, text in (("a.jsonl", LINES), ("a.json", json.dumps(ROWS)), ("a.csv", "prompt,completion\na,b\n")):
        assert read(name, b"\xef\xbb\xbf" + text.encode()) == read(name, text)


def test_truncated_json_on_line_k_costs_that_line() -> None:
    found = read("a.jsonl", '{"p": "a"}\n\n{"p": "b\n{"p": "c"}\n{"p": ')
    assert [item.line for item in found] == [1, 3, 4, 5]
    assert isinstance(found[1], Bad)
    assert found[1].reason == "malformed"
    assert "too early" in found[1].detail
    assert found[1].raw == '{"p": "b'
    assert isinstance(found[3], Bad)


def test_a_first_line_that_is_truncated() -> None:
    for name in ("a.jsonl", "a.json", "a.txt"):
        found = read(name, '{"p": "b\n{"p": "c"}\n{"p": "d"}\n')
        assert [isinstance(item, Bad) for item in found] == [True, False, False]


@pytest.mark.parametrize("cut", [10, 60, 75])
def test_a_truncated_array_names_line_and_column(cut: int) -> None:
    error = refused("a.json", json.dumps(ROWS, indent=1)[:cut])
    assert "broken at line" in error.problem
    assert "column" in error.problem
    assert error.place.startswith("a.json:")


def test_rows_that_are_no_objects() -> None:
    found = read("a.jsonl", '1\n"text"\n[1]\nnull\ntrue\n{}\n')
    assert [isinstance(item, Bad) for item in found] == [True] * 5 + [False]
    said = [item.detail for item in found if isinstance(item, Bad)]
    for name, detail in zip(("a number", "text", "a list", "null", "true or false"), said, strict=True):
        assert name in detail
    assert [isinstance(item, Bad) for item in read("a.json", '[{"a": 1}, 2]')] == [False, True]
    assert isinstance(read("a.json", "3")[0], Bad)


def test_what_strict_json_forbids_but_others_write() -> None:
    found = read("a.jsonl", '{"p": NaN, "q": 123456789012345678901234567890}\n{"p": "tab\there\x00"}\n')
    assert found[1] == Record(2, {"p": "tab\there\x00"})
    assert isinstance(found[0], Record)


def test_nesting_without_end() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    found = read("a.jsonl", '{"a": 1}\n{"a": ' + deep + "}\n" + '{"a": ' + "[" * 500 + "]" * 500 + "}\n")
    assert isinstance(found[0], Record)
    assert isinstance(found[1], Bad)
    assert "broken" in refused("b.json", '{"a":\n' + deep + "}").problem


def test_half_a_surrogate_pair() -> None:
    [good, bad] = read("a.jsonl", '{"p": "\\ud83d\\ude00"}\n{"p": "\\ud83d"}\n')
    assert good == Record(1, {"p": "😀"})
    assert isinstance(bad, Bad)
    assert bad.reason == "encoding"
    assert storable(bad.raw) == '{"p": "\\ud83d"}'


def test_one_line_in_another_encoding_costs_that_line() -> None:
    for name, text in (("a.jsonl", '{"p": "é"}\n{"p": "%s"}\n{"p": "ö"}\n'), ("a.csv", "p\né\n%s\nö\n")):
        before, after = text.split("%s")
        found = read(name, before.encode() + b"caf\xe9" + after.encode())
        assert [isinstance(item, Bad) for item in found] == [False, True, False]
        assert isinstance(found[1], Bad)
        assert found[1].reason == "encoding"
        assert "caf\\xe9" in found[1].raw


def test_a_file_in_latin_1_is_refused_with_byte_and_line() -> None:
    jsonl = b'{"p": "x"}\n{"p": "caf\xe9"}\n{"p": "\xfcber"}\n'
    error = refused("a.jsonl", jsonl)
    assert f"byte {jsonl.index(0xE9) + 1}, line 2" in error.problem
    assert "iconv" in error.remedy
    table = b"p,c\nx,y\ncaf\xe9,y\n\xfcber,z\n"
    assert f"byte {table.index(0xE9) + 1}, line 3" in refused("a.csv", table).problem
    array = b'[{"p": "x"},\n {"p": "caf\xe9"}]'
    assert f"byte {array.index(0xE9) + 1}, line 2" in refused("a.json", array).problem
    assert "UTF-8" in refused("a.csv", b"caf\xe9,c\nx,y\n").problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_wide_encodings_are_named(name: str, encoding: str) -> None:
    error = refused(name, LINES.encode(encoding))
    assert encoding[:6].upper() in error.problem
    assert "iconv" in error.remedy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + bytes(100), "Excel"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
        (b"%PDF-1.7\n", "PDF"),
        (bytes(range(256)) * 20, "binary"),
        (b"SQLite format 3\x00", "SQLite"),
    ],
)
def test_binary_content_is_named(content: bytes, said: str) -> None:
    assert said in refused("a.jsonl", content).problem


def test_unknown_formats_are_refused() -> None:
    error = refused("notes.txt", "Dear diary,\ntoday\n")
    assert ".txt" in error.problem
    assert "JSONL" in error.remedy
    assert "suffix none" in refused("notes", "hello").problem


def test_parquet() -> None:
    polars.DataFrame({"prompt": ["a", None], "tags": [["x"], []], "n": [1, 2]}).write_parquet("a.parquet")
    expected = [
        Record(1, {"prompt": "a", "tags": ["x"], "n": 1}),
        Record(2, {"prompt": None, "tags": [], "n": 2}),
    ]
    assert list(files.read(Path("a.parquet"))) == expected
    Path("a.parquet").rename("b.bin")
    assert list(files.read(Path("b.bin"))) == expected, "by content"
    assert "not a Parquet" in refused("c.parquet", LINES).problem
    assert "damaged" in refused("d.parquet", b"PAR1" + b"x" * 50 + b"PAR1").problem
    polars.DataFrame({"prompt": []}).write_parquet("e.parquet")
    with pytest.raises(UserError, match="no rows"):
        list(files.read(Path("e.parquet")))


def test_what_cannot_be_opened_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.jsonl", LINES)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    for call in (lambda: list(files.read(path)), lambda: files.digest(path)):
        with pytest.raises(UserError, match="Permission denied"):
            call()
    with pytest.raises(UserError, match="not a file"):
        list(files.read(Path("nowhere")))


def test_digest() -> None:
    assert files.digest(write("a", LINES)) == (len(LINES.encode()), hashlib.sha256(LINES.encode()).hexdigest())


def test_storable_values() -> None:
    import datetime
    import decimal

    assert storable(float("nan")) is None
    assert storable(2**70) == str(2**70)
    assert storable({"when": datetime.date(2026, 1, 2), 3: decimal.Decimal("1.5")}) == {
        "when": "2026-01-02",
        "3": "1.5",
    }
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    assert isinstance(storable(deep), str)
    assert storable({"half": "\ud83d"}) == '{"half": "\\ud83d"}'
    assert what(b"") == "bytes"


# ── sources ──


def test_a_missing_file_names_what_is_near() -> None:
    write("data/questions.jsonl", LINES)
    with pytest.raises(UserError) as caught:
        resolve("data/question.jsonl")
    assert "questions.jsonl" in caught.value.remedy
    with pytest.raises(UserError) as caught:
        resolve("data/questions.json")
    assert "questions.jsonl" in caught.value.remedy
    with pytest.raises(UserError) as caught:
        resolve("data/zzz.csv")
    assert "holds: questions.jsonl" in caught.value.remedy
    with pytest.raises(UserError, match="folder does not exist"):
        resolve("nowhere/a.jsonl")


def test_folders() -> None:
    for name in ("b.jsonl", "a.csv", "notes.md", ".hidden.jsonl"):
        write(f"plain/{name}", LINES)
    assert [path.name for path in source_files("plain")] == ["a.csv", "b.jsonl"]
    for name in ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "val.jsonl", "TEST.csv.gz", "x.jsonl"):
        write(f"sided/{name}", LINES)
    [piece] = resolve("sided")
    assert [(path.name, side) for path, side in piece.files] == [
        ("TEST.csv.gz", "test"),
        ("train-00000-of-00002.parquet", "train"),
        ("train-00001-of-00002.parquet", "train"),
        ("val.jsonl", "validation"),
    ]
    write("inner/train/1.jsonl", LINES)
    write("inner/dev/1.jsonl", LINES)
    assert [side for _, side in resolve("inner")[0].files] == ["validation", "train"]
    write("lone/train.jsonl", LINES)
    assert resolve("lone")[0].files[0][1] is None, "a train file alone is simply the data"
    write("none/readme.md", "x")
    with pytest.raises(UserError, match="no data files"):
        resolve("none")


def test_globs_lists_and_splits() -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv"):
        write(f"data/{name}", LINES)
    assert [path.name for path in source_files("data/*.jsonl")] == ["a.jsonl", "b.jsonl"]
    assert [path.name for path in source_files("data/[bc].*")] == ["b.jsonl", "c.csv"]
    assert [path.name for path in source_files(str(Path("data/*.csv").absolute()))] == ["c.csv"]
    assert source_files(["data/c.csv", "data/*.jsonl", "data/c.csv"]) == [
        Path("data/c.csv"),
        Path("data/a.jsonl"),
        Path("data/b.jsonl"),
    ]
    pieces = resolve({"train": ["data/a.jsonl", "data/b.jsonl"], "dev": "data/c.csv"})
    assert [side for piece in pieces for _, side in piece.files] == ["train", "train", "validation"]
    assert len(source_files({"train": "data", "test": "data/a.jsonl"})) == 3
    with pytest.raises(UserError, match="No file matches"):
        resolve("data/*.tsv")
    with pytest.raises(UserError, match="not the name of a split"):
        resolve({"holdout": "data/a.jsonl"})


def test_a_name_without_its_suffix() -> None:
    write("data/train.jsonl.gz", LINES)
    assert source_files("data/train[:50%]") == [Path("data/train.jsonl.gz")]


def test_a_file_whose_name_looks_like_a_slice() -> None:
    write("a[1:2]", LINES)
    [piece] = resolve("a[1:2]")
    assert piece.cut is None


@pytest.mark.parametrize("text", ["[:90%]", "[10:20]", "[-10%:]", "[:]", "[5:]", "[:-5]", "[50%:20%]", "[-200%:]"])
@pytest.mark.parametrize("count", [0, 1, 7, 15, 100])
def test_slices_are_as_in_python(text: str, count: int) -> None:
    write("a.jsonl", LINES)
    cut = resolve(f"a.jsonl{text}")[0].cut
    assert cut is not None
    start, stop = cut.bounds(count)
    assert 0 <= start <= stop <= count
    if "%" not in text:
        assert list(range(count))[start:stop] == eval(f"list(range({count})){text}")


def test_slices_in_percent_make_parts_that_fit() -> None:
    assert Cut("", (25, True), (90, True)).bounds(1000) == (250, 900)
    for count in range(40):
        _, stop = Cut("", None, (90, True)).bounds(count)
        for rest in (Cut("", (90, True), None), Cut("", (-10, True), None)):
            assert rest.bounds(count) == (stop, count)


def test_stems_and_suffixes() -> None:
    names = {"a.b.jsonl.gz": ("a.b", ".jsonl"), "A.CSV": ("A", ".csv"), "notes": ("notes", ""), "v1.2": ("v1.2", ".2")}
    for name, expected in names.items():
        assert (data_stem(Path(name)), data_suffix(Path(name))) == expected
