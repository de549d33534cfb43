"""Runs are named by path, name/latest, name/id or id; a second process is refused."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.errors import UserError
from luthier.run.folder import RunFolder, find_run, list_runs, new_folder
from luthier.run.lock import exclusive, is_held
from luthier.run.record import finish_record, log_event, mark_stage, read_record, start_record


def begun(runs: Path, name: str, at: str) -> RunFolder:
    folder = RunFolder(runs / name / at)
    folder.path.mkdir(parents=True)
    start_record(folder, name, "causal-lm", 42, "digest", ["prepare", "report"])
    return folder


def test_a_run_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    old = begun(tmp_path, "coach", "2026-01-01T10-00-00")
    new = begun(tmp_path, "coach", "2026-01-02T10-00-00")
    other = begun(tmp_path, "titles", "2026-01-03T10-00-00")
    assert find_run("coach/latest", tmp_path) == new
    assert find_run("coach/2026-01-01T10-00-00", tmp_path) == old
    assert find_run("2026-01-03T10-00-00", tmp_path) == other
    assert find_run(str(old.path), tmp_path) == old
    assert list_runs(tmp_path) == [other, new, old]
    assert list_runs(tmp_path, "coach") == [new, old]


def test_an_unknown_run_names_what_there_is(tmp_path: Path) -> None:
    begun(tmp_path, "coach", "2026-01-01T10-00-00")
    with pytest.raises(UserError, match="No run 'couch/latest'") as told:
        find_run("couch/latest", tmp_path)
    assert "coach/latest" in told.value.remedy
    with pytest.raises(UserError) as told:
        find_run("coach/latest", tmp_path / "nothing")
    assert told.value.remedy == "Start one with: luthier run RECIPE"


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path) -> None:
    folders = {new_folder(tmp_path, "coach").path for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.is_dir() for folder in folders)


def test_a_place_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(UserError, match="Cannot create a run folder") as told:
        new_folder(taken, "coach")
    assert "--runs" in told.value.remedy


def test_the_second_process_is_refused_and_a_killed_one_releases(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    script = (
        "import sys, time; from pathlib import Path; from luthier.run.lock import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_held(lock)
    with pytest.raises(UserError, match=f"process {holder.pid}, since") as told, exclusive(lock):
        pytest.fail("two processes hold one lock")
    assert "--new" in told.value.remedy
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not is_held(lock)
    with exclusive(lock):
        assert is_held(lock)


def test_a_lock_that_never_was_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")


def test_the_record_tells_how_a_run_stands(tmp_path: Path) -> None:
    folder = begun(tmp_path, "coach", "2026-01-01T10-00-00")
    assert read_record(folder)["status"] == "waiting"
    with exclusive(folder.lock):
        mark_stage(folder, "prepare", "running")
        assert read_record(folder)["status"] == "running"
    assert read_record(folder)["status"] == "interrupted"
    mark_stage(folder, "prepare", "complete", seconds=1.5)
    finish_record(folder)
    record = read_record(folder)
    assert record["status"] == "partial"
    assert record["stages"][0] == {"name": "prepare", "status": "complete", "seconds": 1.5}
    mark_stage(folder, "report", "failed", error="the disk is full")
    assert read_record(folder)["status"] == "failed"
    mark_stage(folder, "report", "complete")
    finish_record(folder)
    assert read_record(folder)["status"] == "complete"
    assert {"python", "luthier"} <= set(record["versions"])
    assert record["machine"]["cores"] >= 1


def test_events_are_appended_in_order(tmp_path: Path) -> None:
    folder = begun(tmp_path, "coach", "2026-01-01T10-00-00")
    for number in range(3):
        log_event(folder, "tick", number=number)
    import json

    events = [json.loads(line) for line in folder.events.read_text().splitlines()]
    assert [event["number"] for event in events if event["event"] == "tick"] == [0, 1, 2]
