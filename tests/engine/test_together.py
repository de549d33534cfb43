"""Two processes train what one does, each with the whole base or a part of it: the same curve, alike decisions."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from luthier.engine import together
from luthier.engine.course import Course
from luthier.engine.guarding import Guarding
from luthier.engine.guards import GuardSettings, Seen
from luthier.run import ranks
from tests.engine.launched import case
from tests.tiny import make

ROOT = Path(__file__).resolve().parent.parent.parent
CASES = (
    *("plain", "late", "one row a step", "scaled, one row a step", "one validation row", "nan", "memory"),
    *("whole step", "several passes", "resumed", "stopped"),
)
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")  # each on a free port
LAUNCH = (sys.executable, *TORCHRUN, "-m", "tests.engine.launched")
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
Told = dict[str, dict[str, Any]]


def two(base: Path, folder: Path, *names: str, **environment: str) -> Told:
    out = folder / "2.json"
    command = [*LAUNCH, base, folder / "2", out, *names]
    heard = {**os.environ, **environment}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=heard, check=False, timeout=600)
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


@pytest.fixture(scope="module")
def divided(base: Path, folder: Path) -> Told:
    """Return what two processes made that each held a part of the base."""
    (folder / "divided").mkdir()
    return two(base, folder / "divided", *(name for name in CASES if name != "memory"), **FSDP)


@pytest.mark.parametrize("name", [case for case in CASES if case != "stopped"])
def test_two_processes_learn_what_one_does(name: str, outcomes: tuple[Told, Told]) -> None:
    alone, both = (told[name] for told in outcomes)
    assert len(alone["losses"]) == len(both["losses"]) >= 5
    for key in ("losses", "norms", "validation", "weights"):
        assert both[key] == pytest.approx(alone[key], abs=2e-5), key
    assert (alone["world_size"], both["world_size"]) == (1, 2)
    assert alone["steps"] == both["steps"] == 6


@pytest.mark.parametrize("name", [case for case in CASES if case not in ("memory", "stopped")])
def test_a_divided_base_learns_the_same(name: str, outcomes: tuple[Told, Told], divided: Told) -> None:
    alone, both = outcomes[0][name], divided[name]
    for key in ("losses", "norms", "validation", "weights"):
        assert both[key] == pytest.approx(alone[key], abs=2e-5), key
    assert len(both["losses"]) >= 5
    assert both["division"] == {"processes": 2, "layers": 2, "share": pytest.approx(0.5, abs=0.02)}
    assert (both["guards"], both["rows"]) == (outcomes[1][name]["guards"], outcomes[1][name]["rows"])


def test_a_divided_base_stops_and_goes_on_like_any(
    base: Path, folder: Path, outcomes: tuple[Told, Told], divided: Told
) -> None:
    """What was begun with a divided base is ended by two processes with a whole one."""
    assert (divided["stopped"]["stopped"], len(divided["stopped"]["losses"])) == (143, 3)
    (folder / "on" / "2").mkdir(parents=True)
    (folder / "divided" / "2" / "stopped").rename(folder / "on" / "2" / "resumed")
    told = two(base, folder / "on", "resumed")["resumed"]
    assert told["losses"] == pytest.approx(outcomes[0]["resumed"]["losses"], abs=2e-5)
    assert told["notes"] == []


def test_memory_that_runs_out_in_a_divided_base_ends_all(base: Path, tmp_path: Path) -> None:
    words = [*LAUNCH, base, tmp_path / "2", tmp_path / "2.json", "memory"]
    heard = {**os.environ, **FSDP}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=heard, check=False, timeout=600)
    assert done.returncode != 0
    assert "Memory ran out at step 2, while the base is divided" in done.stderr


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


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}, "FSDP 1"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "Offloading"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "DeepSpeed"),
    ],
)
def test_a_division_that_is_not_done_is_refused(
    asked: dict[str, str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.errors import UserError

    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{what} is asked for"):
        ranks.join()


def test_one_process_divides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**FSDP, "LUTHIER_DIVIDES": ""}.items():
        monkeypatch.setenv(name, value)
    ranks.join()
    assert not ranks.divides()
    assert os.environ["ACCELERATE_USE_FSDP"] == "false"


def test_a_process_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end on another machine ends nobody here, so waiting has to have an end."""
    from luthier.errors import StageError

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "MEETING", timedelta(seconds=2))
    with pytest.raises(StageError, match="Not all of 2 processes came"):
        ranks.join()


def test_what_all_processes_report_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a loss over the whole step each has all rows."""
    monkeypatch.setattr(ranks, "gather", lambda value: [value, value])
    course = Course()
    guarding = Guarding(torch.nn.Linear(1, 1), course, tmp_path, GuardSettings(), None)
    seen = Seen(1, 0.1, math.nan, 1.0, chance=None, sample=None, scale=None, zeros=None)
    course.guards.loss.add(1.0)
    assert guarding.judge(seen, [math.nan], [["a", "b"], ["c"]]) == "non-finite loss"
    assert course.guards.events[0]["rows"] == ["a", "b", "c"]


def test_a_process_that_is_gone_is_known_by_its_errors() -> None:
    assert ranks.lost(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert ranks.lost(torch.distributed.DistNetworkError("the server socket has failed"))
    assert not ranks.lost(RuntimeError("The size of tensor a (3) must match"))


def test_what_no_process_has_a_gradient_of_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient of zero would have the optimizer decay it, which one process does not."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(ranks, "add_up", lambda tensors: [one.mul_(2) for one in tensors])
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    used.grad = torch.ones(2)
    loss = together.add_gradients([used, unused], [torch.tensor(1.5)], torch.device("cpu"))
    assert (used.grad.tolist(), unused.grad, float(loss)) == ([2.0, 2.0], None, 3.0)


def test_an_incomplete_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from luthier.errors import UserError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="RANK, MASTER_ADDR, MASTER_PORT is not set"):
        ranks.join()
