"""Threads: as many as there are usable cores, and a word when others keep them busy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from luthier.engine import threads
from luthier.engine.threads import Threads, look_at_cores, usable_cores


def test_a_warning_only_when_others_are_in_the_way() -> None:
    assert Threads(2, None).warning == ""
    assert Threads(2, 0.3).warning == ""
    assert "other programs use 1.9 of the 2 cores" in Threads(2, 1.9).warning
    assert Threads(2, 1.9).told == {"used": 2, "others": 1.9}


def stat(busy: int, idle: int) -> str:
    """A /proc/stat: user nice system idle iowait irq softirq steal guest guest_nice; core 9 is always busy."""
    return f"cpu  1 1 1 1 1 1 1 1 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu1 0 0 0 {idle + busy} 0 0 0 0 0 0\n" + (
        f"cpu9 {10 * busy} 0 0 0 0 0 0 0 0 0\nintr 5\n"
    )


def test_only_the_usable_cores_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stat"
    path.write_text(stat(100, 100))
    monkeypatch.setattr(threads, "STAT", path)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(threads.time, "sleep", lambda seconds: path.write_text(stat(115, 105)) and None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    try:
        assert look_at_cores() == Threads(2, 0.75)  # 15 of the 20 ticks of core 0, none of core 1
    finally:
        torch.set_num_threads(before)


def test_a_system_that_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "STAT", tmp_path / "none")
    assert look_at_cores() == Threads(usable_cores(), None)
