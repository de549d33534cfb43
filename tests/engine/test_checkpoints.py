"""Checkpoints: whole or not there, verified, kept and passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.engine import checkpoints
from luthier.engine.course import Course, MetricsLog, whole_lines
from luthier.errors import StageError


def fill(aside: Path) -> None:
    (aside / "weights").write_bytes(b"x" * 1000)


def put(folder: Path, step: int, best: int | None = None, fingerprint: str = "f") -> Path:
    return checkpoints.write(folder, step, fill, {"step": step, "best_step": best}, fingerprint)


def test_what_was_written_is_found(tmp_path: Path) -> None:
    put(tmp_path, 9)
    put(tmp_path, 10)
    found = checkpoints.newest_whole(tmp_path, "f")
    assert (found.path, found.state["step"], found.notes) == (tmp_path / "checkpoint-10", 10, ())


def test_nothing_there() -> None:
    assert checkpoints.newest_whole(Path("nowhere"), "f") == checkpoints.Found(None, {})


def truncate(path: Path) -> None:
    (path / "weights").write_bytes(b"x" * 10)


def flip(path: Path) -> None:
    (path / "weights").write_bytes(b"x" * 999 + b"y")


def remove(path: Path) -> None:
    (path / "weights").unlink()


def unmark(path: Path) -> None:
    (path / "checkpoint.json").unlink()


def tear(path: Path) -> None:
    (path / "checkpoint.json").write_text('{"step": 1')


@pytest.mark.parametrize("harm", [truncate, flip, remove, unmark, tear])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, harm: object) -> None:
    put(tmp_path, 5)
    harm(put(tmp_path, 6))  # type: ignore[operator]
    found = checkpoints.newest_whole(tmp_path, "f")
    assert found.path == tmp_path / "checkpoint-5"
    assert "checkpoint-6 was not used" in found.notes[0]
    assert checkpoints.steps_on_disk(tmp_path) == [5]


def test_a_checkpoint_whose_best_is_damaged_is_not_used(tmp_path: Path) -> None:
    put(tmp_path, 3, best=3)
    flip(put(tmp_path, 6, best=6))
    put(tmp_path, 9, best=6)
    assert checkpoints.newest_whole(tmp_path, "f").path == tmp_path / "checkpoint-3"


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    put(tmp_path, 3, fingerprint="other")
    found = checkpoints.newest_whole(tmp_path, "f")
    assert found.path is None
    assert "other data, settings" in found.notes[0]


def test_a_failure_while_writing_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    put(tmp_path, 3)

    def full(aside: Path) -> None:
        fill(aside)
        raise OSError(28, "No space left on device")

    with pytest.raises(StageError, match="disk is full"):
        checkpoints.write(tmp_path, 3, full, {}, "f")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]
    assert checkpoints.damage(tmp_path / "checkpoint-3") is None


def test_retention_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (1, 2, 10, 20):
        put(tmp_path, step)
    checkpoints.retain(tmp_path, 2, {1})
    assert checkpoints.steps_on_disk(tmp_path) == [20, 10, 1]


def test_metrics_after_the_resumed_step_are_cut_and_torn_lines_go(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path, 0) as log:
        for step in (1, 2, 3):
            log.add(step=step, loss=1.0)
    with open(path, "ab") as file:
        file.write(b'{"step": 4, "lo')
    before = path.stat().st_ino
    with MetricsLog(path, 2) as log:
        log.add(step=3, loss=2.0)
    assert [(line["step"], line["loss"]) for line in whole_lines(path)] == [(1, 1.0), (2, 1.0), (3, 2.0)]
    assert path.stat().st_ino != before, "a run that shares the file must not see it change"


@pytest.mark.parametrize(
    ("threshold", "losses", "best", "stopped"),
    [
        (0.0, [3, 2, 1], 3, False),
        (0.0, [3, 2, 2, 2], 2, True),
        (0.0, [3, 2, 2.5, 1.9], 4, False),
        (0.5, [3, 2.9, 2.8], 3, True),
        (0.5, [3, 2.7, 2.4], 3, False),
    ],
)
def test_patience_and_best(threshold: float, losses: list[float], best: int, stopped: bool) -> None:
    course = Course()
    for step, loss in enumerate(losses, 1):
        course.step = step
        course.judge(loss, 2, threshold)
    assert (course.best_step, course.stopped) == (best, stopped)
