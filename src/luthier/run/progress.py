"""How long work tells where it stands: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Machinery takes a `Progress` as an argument and knows nothing of terminals. All of it goes to standard error, so that
standard output holds only what was asked for.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[..., None]  # advance(count=1, note=""): a note is shown in place of the rate


class Progress(Protocol):
    """What machinery needs to tell: a line, and a task that advances."""

    def say(self, line: str) -> None:
        """Tell one line."""

    def task(self, name: str, total: int | None = None, unit: str = "rows") -> AbstractContextManager[Advance]:
        """Open a task of `total` units (None: unknown) and yield the function that advances it by n units."""


class Silent:
    """Tells nothing: the default of every machinery function, and `--quiet`."""

    def say(self, line: str) -> None:
        """Tell nothing."""

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        """Yield a function that does nothing."""
        yield lambda *_, **__: None


class Lines:
    """Plain lines on standard error, for logs and pipes: at most one every `every` seconds for each task."""

    def __init__(self, every: float = 10.0) -> None:
        self._every = every

    def say(self, line: str) -> None:
        """Print the line."""
        print(line, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        """Print the state now and then, with rate and time left."""
        started = last = time.monotonic()
        done = 0

        def advance(count: int = 1, note: str = "") -> None:
            nonlocal done, last
            done += count
            now = time.monotonic()
            if now - last >= self._every:
                last = now
                self.say(f"  {name}: {_state(done, total, unit, now - started, note)}")

        yield advance
        seconds = time.monotonic() - started
        if seconds >= self._every:
            self.say(f"  {name}: done, {done:,} {unit} in {seconds:.0f} s")


class Bars:
    """A bar for each task, with rate and time left, on a terminal (rich)."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def say(self, line: str) -> None:
        """Print the line above the bars."""
        self._console.print(line, markup=False, highlight=False)

    @contextmanager
    def task(self, name: str, total: int | None = None, unit: str = "rows") -> Iterator[Advance]:
        """Show a bar until the block ends."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        started = time.monotonic()
        done = 0
        with RichProgress(*columns, console=self._console, transient=True) as bars:
            bar = bars.add_task(name, total=total, rate="")

            def advance(count: int = 1, note: str = "") -> None:
                nonlocal done
                done += count
                rate = done / max(time.monotonic() - started, 1e-9)
                bars.update(bar, advance=count, rate=note or f"{rate:,.0f} {unit}/s")

            yield advance


def choose(quiet: bool) -> Progress:
    """Return the way to tell that fits: silent when quiet, bars on a terminal, lines elsewhere."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


def _state(done: int, total: int | None, unit: str, seconds: float, note: str = "") -> str:
    rate = done / max(seconds, 1e-9)
    told = note or f"{rate:,.0f} {unit}/s"
    if total is None:
        return f"{done:,} {unit}, {told}"
    left = (total - done) / rate if rate else 0.0
    return f"{done:,} of {total:,} {unit}, {told}, {left:.0f} s left"
