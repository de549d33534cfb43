"""luthier report RUN --format: the formats of a run that there is."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Luthier
from tests.report import evidence


def test_a_finished_run_is_written_in_other_formats(process: Luthier, own_folder: Path) -> None:
    made = evidence.make(own_folder / "runs" / "coach")
    told = process("report", "coach/latest", "--format", "infographic", "-f", "html", "--json")
    assert told.status == 0, told.err
    assert told.json["files"] == [
        str(made.report / name) for name in ("infographic.svg", "infographic.png", "index.html")
    ]
    assert all(Path(path).is_file() for path in told.json["files"])


def test_an_unknown_format_is_refused(luthier: Luthier, own_folder: Path) -> None:
    evidence.make(own_folder / "runs" / "coach")
    told = luthier("report", "coach/latest", "--format", "pfd")
    assert told.status == 2
    assert "'pdf'" in told.err
    assert luthier("report", "nothing/latest", "--format", "pdf").status == 2
