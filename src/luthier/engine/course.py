"""Where a training stands: what survives a resume besides weights and optimizer, and its metrics line by line."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import orjson

from luthier.engine.guards import Standing as GuardStanding
from luthier.engine.plateau import Plateau, Standing, take_in
from luthier.run.atomic import write_jsonl


@dataclass
class Course:
    """The standing of a training after a step; stored with every checkpoint.

    Attributes:
        step: last finished optimizer step. tokens: real tokens trained on so far. loss: of the last step.
        seconds: wall time of training, validation and saving included. step_seconds: that of the steps alone.
        best_step, best_loss: evaluation with the lowest validation loss.
        reference: the validation loss that patience is measured against. waited: evaluations since it was set.
        stopped: patience ran out.
        scale: what the rate of the schedule is multiplied by; plateaus and guards lower it.
        plateau: where the reductions of the rate stand. guards: what the guards remember.
        budget: padded tokens of a micro-batch at most, once memory ran out; None: as the settings say.
        oom: `step` and the new `budget` of each time that memory ran out. processes: how many trained.
    """

    step: int = 0
    tokens: int = 0
    loss: float | None = None
    seconds: float = 0.0
    step_seconds: float = 0.0
    best_step: int | None = None
    best_loss: float | None = None
    reference: float | None = None
    waited: int = 0
    stopped: bool = False
    scale: float = 1.0
    plateau: Standing = field(default_factory=Standing)
    guards: GuardStanding = field(default_factory=GuardStanding)
    budget: int | None = None
    oom: list[dict[str, int]] = field(default_factory=list)
    processes: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.guards, dict):
            self.guards = GuardStanding(**self.guards)
        if isinstance(self.plateau, dict):  # as a checkpoint stores it
            self.plateau = Standing(**self.plateau)

    def judge(self, loss: float, patience: int | None, threshold: float, plateau: Plateau | None = None) -> None:
        """Take in a validation loss. Any new lowest loss is the best; patience asks for a fall of over `threshold`.

        Where the rate is reduced now, patience begins anew: the lower rate gets its chance before training stops.
        A loss that is not finite counts as one that did not fall, for patience alone.
        """
        if not math.isfinite(loss):
            self.waited += 1
            self.stopped = patience is not None and self.waited >= patience
            return
        if self.best_loss is None or loss < self.best_loss:
            self.best_step, self.best_loss = self.step, loss
        if self.reference is None or loss < self.reference - threshold:
            self.reference, self.waited = loss, 0
        else:
            self.waited += 1
        if plateau is not None:
            reductions = self.plateau.reductions
            self.plateau, self.scale = take_in(self.plateau, loss, self.scale, plateau)
            self.waited = 0 if self.plateau.reductions > reductions else self.waited
        self.stopped = patience is not None and self.waited >= patience

    @property
    def tokens_per_second(self) -> float:
        """Real tokens per second of the steps alone."""
        return self.tokens / self.step_seconds if self.step_seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the standing as a checkpoint stores it."""
        return asdict(self)


class MetricsLog:
    """metrics.jsonl: one line an optimizer step, one an evaluation; lines after the resumed step are cut off.

    Every line is one write, so that a reader of a living run sees whole lines, and SIGKILL loses none.

    Args:
        path: the file; is replaced and never changed in place, as finished runs may share it. None: write nothing.
        after: keep the lines up to this step.
    """

    def __init__(self, path: Path | None, after: int) -> None:
        self._file: IO[bytes] | None = None
        if path is not None:
            write_jsonl(path, [line for line in whole_lines(path) if line["step"] <= after])
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115, it is closed by __exit__

    def add(self, **values: Any) -> None:
        """Append one line."""
        if self._file is not None:
            self._file.write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))

    def flush(self) -> None:
        """Bring the lines to the disk, so that a power cut after the next checkpoint loses none before it."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file up to the first one that a crash left torn; none when there is no file."""
    lines: list[dict[str, Any]] = []
    if not path.is_file():
        return lines
    for raw in path.read_bytes().splitlines():
        try:
            line = orjson.loads(raw)
        except orjson.JSONDecodeError:
            break
        if not isinstance(line, dict) or "step" not in line:
            break
        lines.append(line)
    return lines
