"""Two processes train what one does: the same curve within rounding, alike decisions, one writer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luthier.run import ranks
from tests.engine.launched import case
from tests.tiny import make

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = ("plain", "one row a step", "one validation row", "nan", "memory", "whole step", "resumed", "stopped")
Told = dict[str, dict[str, Any]]


def two(base: Path, folder: Path, *names: str) -> Told:
    out = folder / "2.json"
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "tests.engine.launched"]
    command = [sys.executable, *launcher, base, folder / "2", out, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: Told = json.loads(out.read_text())
    return told


def one(base: Path, folder: Path, *names: str) -> Told:
    return {name: case(name, base, folder / "1" / name) for name in names}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("together")


@pytest.fixture(scope="module")
def outcomes(base: Path, folder: Path) -> tuple[Told, Told]:
    """Return what one process and what two made of all cases."""
    return one(base, folder, *CASES), two(base, folder, *CASES)


@pytest.mark.parametrize("name", [case for case in CASES if case != "stopped"])
def test_two_processes_learn_what_one_does(name: str, outcomes: tuple[Told, Told]) -> None:
    alone, both = (told[name] for told in outcomes)
    assert len(alone["losses"]) == len(both["losses"]) >= 5
    for key in ("losses", "norms", "validation", "weights"):
        assert both[key] == pytest.approx(alone[key], abs=2e-5), key
    assert (alone["world_size"], both["world_size"]) == (1, 2)
    assert alone["steps"] == both["steps"] == 6


def test_the_cases_are_different(outcomes: tuple[Told, Told]) -> None:
    """The comparison above can fail: the cases differ from each other by far more than by the number of processes."""
    alone, _ = outcomes
    assert alone["plain"]["weights"] != pytest.approx(alone["whole step"]["weights"], abs=2e-3)
    assert alone["plain"]["losses"] != pytest.approx(alone["one row a step"]["losses"], abs=2e-3)


def test_the_guards_decide_alike_and_name_the_row(outcomes: tuple[Told, Told]) -> None:
    for told in outcomes:
        assert told["nan"]["guards"] == {"events": 1, "left_out": 1, "returns": 1}
        assert told["nan"]["rows"] == [["bad:1"]]


def test_memory_that_runs_out_on_one_process_halves_on_all(outcomes: tuple[Told, Told]) -> None:
    for told in outcomes:
        assert told["memory"]["oom"][0] == 2


def test_a_wish_to_stop_that_one_process_hears_stops_all_after_the_same_step(outcomes: tuple[Told, Told]) -> None:
    alone, both = (told["stopped"] for told in outcomes)
    assert (alone["stopped"], both["stopped"]) == (143, 143)
    assert alone["losses"] == pytest.approx(both["losses"], abs=2e-5)
    assert len(alone["losses"]) == 3


def test_another_number_of_processes_goes_on_and_says_so(
    base: Path, tmp_path: Path, folder: Path, outcomes: tuple[Told, Told]
) -> None:
    """What two processes began, one ends: the curve is that of one process within rounding."""
    (tmp_path / "1").mkdir()
    (folder / "2" / "stopped").rename(tmp_path / "1" / "resumed")
    told = one(base, tmp_path, "resumed")["resumed"]
    assert told["steps"] == 6
    assert "was made by 2 processes, now 1" in told["notes"][0]
    assert told["losses"] == pytest.approx(outcomes[0]["resumed"]["losses"], abs=2e-5)


def test_alone_there_is_nothing_to_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (ranks.size(), ranks.rank(), ranks.leads()) == (1, 0, True)
    assert ranks.gather({"a": 1}) == [{"a": 1}]
    assert ranks.share("x") == "x"


@pytest.mark.parametrize(("name", "what"), [("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")])
def test_a_divided_model_is_refused(name: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.errors import UserError

    monkeypatch.setenv(name, "true")
    with pytest.raises(UserError, match=f"{what} divides one model"):
        ranks.join()


def test_an_incomplete_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.errors import UserError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="RANK, MASTER_ADDR, MASTER_PORT is not set"):
        ranks.join()
