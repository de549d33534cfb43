"""`luthier run` and its relatives, from the outside."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from luthier.pipeline import STAGES
from tests.cli import forked
from tests.cli.conftest import Luthier

STAGE_NAMES = [stage.name for stage in STAGES]


def run_folder(own_folder: Path) -> Path:
    [folder] = (own_folder / "runs" / "small").iterdir()
    return folder


def test_a_run_is_whole_and_the_second_skips_everything(process: Luthier, recipe: Path, own_folder: Path) -> None:
    first = process("run", recipe, "--json")
    assert first.status == 0, first.err
    assert first.json["status"] == "complete"
    assert [stage["outcome"] for stage in first.json["stages"]] == ["done"] * len(STAGE_NAMES)
    folder = run_folder(own_folder)
    record = json.loads((folder / "run.json").read_text())
    assert [(stage["name"], stage["status"]) for stage in record["stages"]] == [(n, "complete") for n in STAGE_NAMES]
    for stage in STAGES:
        assert (folder / stage.folder / "manifest.json").is_file()
    started = time.monotonic()
    again = process("run", recipe)
    assert time.monotonic() - started < 30  # under 2 s alone; other tests run beside it
    assert again.status == 0
    assert [line for line in again.err.splitlines() if "unchanged, skipped" in line] == [
        f"{name}: unchanged, skipped" for name in STAGE_NAMES
    ]
    assert "report:" in again.out


def test_the_same_recipe_gives_the_same_bytes(process: Luthier, recipe: Path, own_folder: Path) -> None:
    """In two processes, which hash words differently."""
    for runs in ("one", "two"):
        assert process("prepare", recipe, "--runs", runs).status == 0
    [one], [two] = ((own_folder / runs / "small").iterdir() for runs in ("one", "two"))
    files = [path.name for path in sorted((one / "1-data").iterdir()) if path.name != "manifest.json"]
    assert len(files) == 5
    for name in files:
        assert (one / "1-data" / name).read_bytes() == (two / "1-data" / name).read_bytes(), name


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_it_always_ends_whole(
    luthier: Luthier, recipe: Path, own_folder: Path, seed: int
) -> None:
    """SIGKILL at five random moments of one run, twice: each start goes on, and the end is a complete run."""
    draw, told = random.Random(seed), own_folder / "told.txt"
    for _ in range(5):
        started = forked.start("run", recipe, "--quiet", told=told)
        time.sleep(draw.uniform(0.1, 2.0))
        started.kill()
        started.join()
        assert not told.exists() or "Traceback" not in told.read_text()
    ended = luthier("run", recipe, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["status"] == "complete"
    folder = Path(ended.json["run"])
    assert not list(folder.rglob(".writing-*"))
    rows = [
        json.loads(line)
        for name in ("train", "validation", "test")
        for line in (folder / "1-data" / f"{name}.jsonl").open()
    ]
    assert len({row["id"] for row in rows}) == 60
    assert {stage["status"] for stage in json.loads((folder / "run.json").read_text())["stages"]} == {"complete"}


def test_a_second_process_on_the_run_is_refused(
    luthier: Luthier, process: Luthier, recipe: Path, own_folder: Path
) -> None:
    from luthier.run.lock import exclusive

    assert luthier("prepare", recipe).status == 0
    with exclusive(run_folder(own_folder) / ".lock"):
        told = process("run", recipe)
    assert told.status == 2
    assert "Another process is working on this run" in told.err
    assert "--new" in told.err


def test_runs_lists_what_there_is(luthier: Luthier, process: Luthier, recipe: Path) -> None:
    assert process("runs").out == "No runs in runs. Start one with: luthier run RECIPE\n"
    assert luthier("prepare", recipe).status == 0
    [row] = luthier("runs", "--json").json
    assert row["run"].startswith("small/")
    assert (row["status"], row["stages_complete"]) == ("partial", 1)
    told = luthier("runs", "small")
    assert "partial" in told.out
    assert f"1 of {len(STAGE_NAMES)}" in told.out


def test_quiet_and_json_keep_the_streams_apart(process: Luthier, recipe: Path) -> None:
    told = process("prepare", recipe, "--json", "--quiet")
    assert told.err == ""
    assert set(told.json) == {"run", "status", "stages"}


def test_set_overrides_and_is_told_by_show(luthier: Luthier, recipe: Path) -> None:
    told = luthier("recipe", "show", recipe, "--set", "data.split.test=0.3", "--set", "data.split.train=0.55", "--json")
    assert told.status == 0
    assert "--set" in told.out
    assert "0.55" in told.out


def test_errors_are_json_for_scripts(process: Luthier) -> None:
    told = process("run", "nowhere.yaml", "--json")
    assert told.status == 2
    assert told.json["exit_status"] == 2
    assert told.json["errors"][0]["problem"]
    assert "luthier:" in told.err


def test_an_unwritable_place_for_runs(luthier: Luthier, recipe: Path, own_folder: Path) -> None:
    (own_folder / "taken").write_text("a file, not a folder")
    told = luthier("run", recipe, "--runs", "taken")
    assert told.status == 2
    assert "--runs" in told.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_for_runs(luthier: Luthier, recipe: Path, own_folder: Path) -> None:
    (own_folder / "locked").mkdir(mode=0o500)
    told = luthier("run", recipe, "--runs", "locked")
    assert told.status == 2
    assert "Permission denied" in told.err


def test_the_version_and_an_unknown_verb(process: Luthier) -> None:
    from luthier import __version__

    assert process("--version").out == f"luthier {__version__}\n"
    assert process("trian").status == 2


def test_doctor_looks_at_everything(luthier: Luthier, process: Luthier) -> None:
    told = process("doctor", "--json")
    names = [check["name"] for check in told.json]
    assert names[:6] == ["Python", "libraries", "machine", "starter", "working folder", "disk"]
    assert told.status == (0 if all(check["ok"] for check in told.json) else 1)
    assert "1. ok   Python" in luthier("doctor").out
