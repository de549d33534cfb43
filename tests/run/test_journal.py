"""Pieces of long work: kept when it is killed, thrown away when it is other work."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.errors import UserError
from luthier.run.journal import Journal


def test_pieces_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "made" / "work.part"
    journal = Journal(path, {"a": 1})
    journal.add("0", [1, "zwei"])
    journal.add("1", {"x": None})
    again = Journal(path, {"a": 1})
    assert (len(again), again.get("0"), again.get("1"), again.get("2")) == (2, [1, "zwei"], {"x": None}, None)
    again.remove()
    assert not path.exists()
    again.remove()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_line_is_made_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "work.part"
    journal = Journal(path, 1)
    journal.add("0", "whole")
    journal.add("1", "torn by the power cut")
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path, 1)
    assert (again.get("0"), again.get("1")) == ("whole", None)
    again.add("1", "anew")
    assert Journal(path, 1).get("1") == "anew"


def test_pieces_of_other_work_are_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "work.part"
    Journal(path, {"tokens": 12}).add("0", "old")
    assert Journal(path, {"tokens": 13}).get("0") is None
    path.write_bytes(b"no journal at all")
    assert len(Journal(path, 1)) == 0


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError):
        Journal(tmp_path / "file" / "work.part", 1)
