"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.errors import StageError, UserError
from luthier.run import atomic
from luthier.run.atomic import (
    read_json,
    read_jsonl,
    remove_leftovers,
    replacing,
    write_json,
    write_jsonl,
    write_text,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: "\ud800" not in repr(value))


@given(value=JSON)
def test_json_comes_back(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == json.loads(path.read_text("utf-8")) == value
    assert [file.name for file in path.parent.iterdir()] == ["value.json"]


@given(rows=st.lists(JSON, max_size=6))
def test_json_lines_come_back_and_are_counted(rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("jsonl") / "rows.jsonl"
    assert write_jsonl(path, rows) == len(rows)
    assert list(read_jsonl(path)) == rows
    assert len(path.read_bytes().splitlines()) == len(rows) or not rows


@given(
    before=st.binary(max_size=50), pieces=st.lists(st.binary(max_size=50), max_size=5), fails_after=st.integers(0, 5)
)
def test_a_reader_sees_the_old_content_or_the_new(
    before: bytes, pieces: list[bytes], fails_after: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever piece an error falls on, the file is what it was before or what it was to become."""
    path = tmp_path_factory.mktemp("file") / "file.bin"
    path.write_bytes(before)
    try:
        with replacing(path) as file:
            for position, piece in enumerate(pieces):
                if position == fails_after:
                    raise KeyError
                file.write(piece)
                assert path.read_bytes() == before
    except KeyError:
        assert path.read_bytes() == before
    else:
        assert path.read_bytes() == b"".join(pieces)
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


def test_a_killed_writer_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    write_text(path, "old")
    script = (
        "import sys; from pathlib import Path; from luthier.run.atomic import replacing\n"
        "with replacing(Path(sys.argv[1]), 'w') as file:\n"
        "    file.write('new' * 100000); file.flush(); print('halfway', flush=True); import time; time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"halfway\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["numbers.txt"]


def test_leftover_folders_go_too(tmp_path: Path) -> None:
    (tmp_path / f"{atomic.TEMPORARY_PREFIX}half" / "inner").mkdir(parents=True)
    (tmp_path / f"{atomic.TEMPORARY_PREFIX}half" / "inner" / "file").write_text("x")
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_and_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    real = os.fsync

    def full(descriptor: int) -> None:
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"x")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StageError, match="disk is full") as told:
        write_text(path, "new")
    assert told.value.exit_status == 1
    assert "Free some space" in told.value.remedy
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, UserError, "Cannot write here"),
        (errno.EROFS, UserError, "Cannot write here"),
        (errno.EIO, StageError, "Writing failed"),
    ],
)
def test_failures_of_the_file_system_are_explained(number: int, kind: type[UserError], words: str) -> None:
    told = atomic.explained(OSError(number, os.strerror(number)), "some/file")
    assert type(told) is kind
    assert words in told.problem
    assert told.place == "some/file"


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="Cannot write here"):
        write_text(tmp_path / "taken" / "file.txt", "x")


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [row["a"] for row in read_jsonl(path)] == [1, 2]
