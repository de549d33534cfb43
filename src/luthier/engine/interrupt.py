"""How a training is stopped from outside without a loss."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from luthier.run import ranks


class Stop:
    """Whether someone asked to stop, and by which signal.

    Attributes:
        signal: that came, here or to another process; None before. heard: one came here.
        agreed: several processes have agreed to stop, see `together.agree`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.heard = False
        self.agreed = False

    @property
    def wanted(self) -> bool:
        """Whether training is to stop after the step at hand; several processes stop after the same step."""
        return self.agreed if ranks.size() > 1 else self.signal is not None

    def raise_again(self) -> None:
        """End as the signal asked, now that everything is saved.

        Raises:
            KeyboardInterrupt: after Ctrl-C. SystemExit: after SIGTERM, with status 143.
        """
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal is not None:
            raise SystemExit(128 + self.signal)


@contextmanager
def stoppable(say: Callable[[str], None]) -> Iterator[Stop]:
    """Turn the first Ctrl-C or SIGTERM into a wish to stop after the step at hand; a second one ends at once.

    Outside the main thread signals cannot be caught, and the wish never comes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.heard:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        stop.heard = True
        if stop.signal is None:  # another process may have heard it first
            stop.signal = number
            say("  stopping: this step is finished and saved first; once more stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
