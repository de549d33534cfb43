"""Progress goes to standard error: bars on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from luthier.run.progress import Lines, Silent, choose

SCRIPT = """
import time
from luthier.run.progress import choose
progress = choose(quiet=False)
progress.say("reading")
with progress.task("cleaning", total=50, unit="rows") as advance:
    for _ in range(50):
        advance(1); time.sleep(0.01)
"""


def test_quiet_tells_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    progress = choose(quiet=True)
    progress.say("reading")
    with progress.task("cleaning", total=3) as advance:
        advance(3)
    assert capfd.readouterr() == ("", "")
    assert isinstance(progress, Silent)


def test_lines_tell_rate_and_time_left(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Lines(every=0.0)
    with progress.task("cleaning", total=4) as advance:
        advance(1)
    with progress.task("counting") as advance:
        advance(2)
    out, err = capfd.readouterr()
    assert out == ""
    assert "cleaning: 1 of 4 rows" in err
    assert "s left" in err
    assert "counting: 2 rows" in err


def test_lines_are_few(capfd: pytest.CaptureFixture[str]) -> None:
    with Lines(every=60.0).task("cleaning", total=1000) as advance:
        for _ in range(1000):
            advance(1)
    assert capfd.readouterr().err == ""


def test_without_a_terminal_there_are_no_control_characters() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert told.stdout == ""
    assert "\x1b" not in told.stderr
    assert told.stderr == "reading\n"


def test_on_a_terminal_there_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    assert process.wait() == 0
    assert process.stdout is not None
    assert process.stdout.read() == b""
    assert b"cleaning" in seen
    assert b"50/50" in seen
    assert b"rows/s" in seen
