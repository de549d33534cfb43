"""The walk along the stages: what is skipped, what runs again and why, and what earlier runs give."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from luthier import pipeline
from luthier.errors import GateError, UserError
from luthier.pipeline import Stage, Walk, walk
from luthier.recipe.load import load_recipe
from luthier.recipe.schema import Recipe
from luthier.run.atomic import read_json, write_text
from luthier.run.folder import RunFolder
from luthier.run.progress import Progress
from luthier.run.record import read_record

calls: list[str] = []
fails: dict[str, Exception] = {}


def module(name: str, folder: str, outside: str | None = None) -> ModuleType:
    """Return a stage that copies what it reads, fails when told to, and counts its calls."""
    made = ModuleType(f"luthier.stages.{name}")

    def run(recipe: Recipe, run_folder: RunFolder, progress: Progress) -> None:
        calls.append(name)
        write_text(run_folder.path / folder / "out.txt", f"{name} {recipe.seed} {recipe.training.batch_size}")
        if name in fails:
            raise fails[name]

    setattr(made, name, run)
    if outside:
        made.inputs = lambda recipe: [Path(outside)]  # type: ignore[attr-defined]
    return made


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch, own_folder: Path) -> None:
    calls.clear()
    fails.clear()
    (own_folder / "rows.csv").write_text("prompt,completion\na,b\n")
    (own_folder / "recipe.yaml").write_text("name: small\ndata: {source: rows.csv}\n")
    outside = str(own_folder / "rows.csv")
    for name, folder, path in (("first", "1-first", outside), ("second", "2-second", None), ("last", "3-last", None)):
        monkeypatch.setitem(sys.modules, f"luthier.stages.{name}", module(name, folder, path))
    table = (
        Stage("first", "1-first", "make the first", settings=("seed",), code=("errors.py",)),
        Stage("second", "2-second", "make the second", settings=("training.batch_size",), reads=("first",)),
        Stage("last", "3-last", "tell it", settings=("name",), reads=("first", "second"), adoptable=False),
    )
    monkeypatch.setattr(pipeline, "STAGES", table)


def go(until: str | None = None, new: bool = False, **overrides: object) -> Walk:
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return walk(load_recipe("recipe.yaml", settings), Path("runs"), until=until, new=new)


def told(walked: Walk) -> list[str]:
    return [outcome.status for outcome in walked.outcomes]


def test_the_second_walk_skips_everything() -> None:
    first = go()
    assert told(first) == ["done", "done", "done"]
    again = go()
    assert told(again) == ["skipped", "skipped", "skipped"]
    assert again.folder == first.folder
    assert calls == ["first", "second", "last"]
    assert read_record(first.folder)["status"] == "complete"


def test_a_changed_key_runs_only_what_reads_it() -> None:
    before = go()
    after = go(training__batch_size=4)
    assert after.folder != before.folder
    assert told(after) == ["adopted", "done", "done"]
    assert (before.folder.path / "2-second" / "out.txt").read_text().endswith("8")
    assert (after.folder.path / "2-second" / "out.txt").read_text().endswith("4")
    assert read_record(after.folder)["stages"][0]["adopted_from"] == before.folder.id


def test_a_key_that_no_stage_reads_adopts_everything_but_the_page() -> None:
    go()
    assert told(go(training__learning_rate=0.5)) == ["adopted", "adopted", "done"]


def test_a_changed_file_runs_what_reads_it_in_a_new_run_and_says_so(own_folder: Path) -> None:
    before = go()
    (own_folder / "rows.csv").write_text("prompt,completion\nc,d\n")
    after = go()
    assert after.folder != before.folder
    assert told(after)[0] == "done"
    assert read_record(before.folder)["status"] == "complete"


def test_equal_output_upstream_changes_nothing_downstream(own_folder: Path) -> None:
    """The first stage runs again as its input changed, but writes the same: the second has nothing new to read."""
    go()
    (own_folder / "rows.csv").write_text("prompt,completion\nc,d\n")
    assert told(go()) == ["done", "adopted", "done"]


def test_a_damaged_output_is_made_again() -> None:
    before = go()
    (before.folder.path / "2-second" / "out.txt").write_text("changed by hand")
    after = go()
    assert told(after) == ["adopted", "done", "done"]


def test_an_incomplete_run_goes_on_in_its_folder() -> None:
    fails["second"] = RuntimeError("boom")
    with pytest.raises(RuntimeError):
        go()
    [record] = [read_record(folder) for folder in pipeline.list_runs(Path("runs").absolute())]
    assert record["status"] == "failed"
    assert record["stages"][1]["error"] == "RuntimeError: boom"
    fails.clear()
    after = go()
    assert told(after) == ["skipped", "done", "done"]
    assert after.folder.id == record["id"]


def test_why_a_stage_runs_again_is_told(own_folder: Path) -> None:
    fails["last"] = RuntimeError("boom")
    with pytest.raises(RuntimeError):
        go()
    fails.clear()
    (own_folder / "rows.csv").write_text("prompt,completion\nc,d\n")
    outcome = go().outcomes[0]
    assert outcome.why == f"file {own_folder / 'rows.csv'} changed"


def test_a_gate_stops_the_run_and_stays_stopped() -> None:
    fails["first"] = GateError("The splits share rows.")
    with pytest.raises(GateError):
        go()
    [folder] = pipeline.list_runs(Path("runs").absolute())
    assert read_record(folder)["status"] == "stopped"
    assert not (folder.path / "1-first" / "manifest.json").exists()


def test_until_walks_part_of_the_way() -> None:
    part = go(until="first")
    assert calls == ["first"]
    assert read_record(part.folder)["status"] == "partial"
    whole = go()
    assert whole.folder == part.folder
    assert told(whole) == ["skipped", "done", "done"]


def test_new_starts_afresh() -> None:
    before = go()
    after = go(new=True)
    assert after.folder != before.folder
    assert told(after) == ["done", "done", "done"]


def test_a_missing_stage_before_is_named(own_folder: Path) -> None:
    walked = go(until="first")
    (walked.folder.path / "1-first" / "manifest.json").unlink()
    with pytest.raises(UserError, match="first is not complete") as error:
        pipeline.fingerprint(pipeline.stage_named("second"), load_recipe("recipe.yaml").recipe, walked.folder)
    assert error.value.remedy == "Run: luthier first small"


def test_an_unknown_stage_is_named() -> None:
    with pytest.raises(UserError, match="No stage 'secnd'") as error:
        go(until="secnd")
    assert "second" in error.value.remedy


def test_a_second_walk_on_one_folder_is_refused() -> None:
    from luthier.run.lock import exclusive

    fails["second"] = RuntimeError("boom")
    with pytest.raises(RuntimeError):
        go()
    [folder] = pipeline.list_runs(Path("runs").absolute())
    with exclusive(folder.lock), pytest.raises(UserError, match="Another process is working on this run"):
        go()


def test_the_resolved_recipe_is_kept_and_loads_again() -> None:
    walked = go(training__batch_size=4)
    again = load_recipe(walked.folder.recipe)
    assert again.recipe == load_recipe("recipe.yaml", {"training.batch_size": 4}).recipe
    assert read_json(walked.folder.record)["seed"] == 42


def test_every_stage_of_the_real_table_has_its_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for stage in pipeline.STAGES:
        assert callable(getattr(pipeline._module(stage), stage.name))
        for part in stage.code:
            assert (pipeline.digest_code.__wrapped__(part)) != pipeline.digest_value("")
