"""What stops a training before it does harm, and how it is stopped from outside without a loss."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from luthier.errors import StageError

SHOWN_IDS = 16


def check_finite(
    step: int, learning_rate: float, losses: Sequence[float], norm: float, ids: Sequence[Sequence[str]]
) -> None:
    """Stop when the loss or the gradient of a step is not a finite number; the model is as it was before the step.

    Args:
        step: from 1. learning_rate: of this step. losses: one for each micro-batch. norm: of the whole gradient.
        ids: the row ids of each micro-batch.

    Raises:
        StageError: names the step, the rate, the rows and what to do.
    """
    guilty = [part for loss, part in zip(losses, ids, strict=True) if not math.isfinite(loss)]
    if not guilty and math.isfinite(norm):
        return
    what = f"The loss is {sum(losses)}" if guilty else f"The gradient has norm {norm}"
    rows = [row for part in (guilty or ids) for row in part]
    shown = ", ".join(rows[:SHOWN_IDS]) + (f" and {len(rows) - SHOWN_IDS} more" if len(rows) > SHOWN_IDS else "")
    raise StageError(
        f"{what} at step {step}, with learning rate {learning_rate:.3g}. Training stopped before this step was taken.",
        f"rows {shown}",
        _remedy(step),
    )


def _remedy(step: int) -> str:
    if step == 1:
        return "Nothing was learned yet, so check these rows, the weights of the base model, and model.dtype."
    return "Lower training.learning_rate or lengthen the warm-up, and check these rows."


def check_validation(step: int, learning_rate: float, loss: float) -> None:
    """Stop when the validation loss is not a finite number.

    Raises:
        StageError: names the step, the rate and what to do.
    """
    if not math.isfinite(loss):
        raise StageError(
            f"The validation loss is {loss} after step {step}, with learning rate {learning_rate:.3g}.",
            "the validation rows",
            "Lower training.learning_rate, and check the validation rows.",
        )


class Stop:
    """Whether someone asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None

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
        if stop.signal is not None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        stop.signal = number
        say("  stopping: this step is finished and saved first; once more stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
