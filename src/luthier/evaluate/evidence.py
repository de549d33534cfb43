"""How base and tuned are measured: a kind declares which of these ways is its own (`score.EVIDENCE`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import UserError, did_you_mean
from luthier.models import minilm
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.data.rows import Row
    from luthier.evaluate.scoring import Scored
    from luthier.kinds.base import Kind
    from luthier.models.bases import Base

# What a kind declares: "module:function" that takes `Asked` and a progress, and returns `Gathered`.
TABLE = {
    "answers": "luthier.evaluate.worded:gather",
    "retrieval": "luthier.evaluate.retrieval:gather",
}

SEMANTIC = "semantic"


@dataclass(frozen=True)
class Asked:
    """What is to be measured.

    Attributes:
        kind: of model. base, dtype, method: what is loaded, as the recipe says.
        adapters: folders of what was trained, by who answers: "tuned", then "tuned-seed-N" for each further seed.
        test, train: rows of these splits. metrics: their names. primary: the one that decides; where it has no score,
            the first that has one does. baseline: what the tuned model is compared with.
        max_length: tokens of a text at most. max_new_tokens: of an answer. seed: of the recipe.
        folder: of the stage, for part files. vectors: folder for kept vectors.
        identity: what decides the outcome besides the code; work done under another one is not gone on with.
        earlier: test rows of an earlier run that this run has in none of its splits, to see what was forgotten.
        earlier_run: its id, "" where there is none.
    """

    kind: Kind
    base: Base
    dtype: str
    method: str
    adapters: Mapping[str, Path]
    test: Sequence[Row]
    train: Sequence[Row]
    metrics: Sequence[str]
    primary: str
    baseline: str
    max_length: int
    max_new_tokens: int
    seed: int
    folder: Path
    vectors: Path
    identity: Sequence[Any]
    earlier: Sequence[Row] = ()
    earlier_run: str = ""


@dataclass(frozen=True)
class Gathered:
    """What was found: lines of answers-*.jsonl by who answers, their scores, and what to do when all is written.

    `forgetting` is forgetting.json; None where the kind has no text to be forgotten.
    """

    answers: Mapping[str, Sequence[Mapping[str, Any]]]
    scored: Scored
    finish: Callable[[], None]
    forgetting: Mapping[str, Any] | None = None


def gather(asked: Asked, progress: Progress) -> Gathered:
    """Measure base and tuned on the test rows, in the way that the kind declares.

    Raises:
        UserError: nothing in the test rows can be measured.
    """
    module, _, name = TABLE[asked.kind.score.EVIDENCE].partition(":")
    found: Gathered = getattr(import_module(module), name)(asked, progress)
    return found


def choose_metrics(asked: str | Sequence[str], higher_is_better: Mapping[str, bool]) -> list[str]:
    """Return the metrics to measure: all that the kind declares and this machine can compute ("auto"), or those named.

    Raises:
        UserError: the kind has no metric of a name.
    """
    if isinstance(asked, str):
        return [name for name in higher_is_better if name != SEMANTIC or minilm.available()]
    names = list(dict.fromkeys(asked))
    for name in names:
        if name not in higher_is_better:
            known = f"The metrics are {', '.join(higher_is_better)}."
            raise UserError(f"No metric {name!r}.", "evaluation.metrics", did_you_mean(name, higher_is_better, known))
    return names


def choose_roles(
    primary: str, secondary: str | Sequence[str], metrics: Sequence[str], kind: Kind
) -> tuple[str, list[str]]:
    """Return the metric that decides and those that guard it.

    Args:
        primary: its name, or "auto": the kind's. secondary: their names, or "auto": the kind's, as far as they are
            among `metrics`, what is measured. kind: of model.

    Raises:
        UserError: a metric that is named is not measured.
    """
    named = {"evaluation.primary": [] if primary == "auto" else [primary]}
    named["evaluation.secondary"] = [] if isinstance(secondary, str) else list(secondary)
    for key, names in named.items():
        for name in names:
            if name not in metrics:
                measured = f"Measured are {', '.join(metrics)}: see evaluation.metrics."
                raise UserError(f"The metric {name!r} is not measured.", key, did_you_mean(name, metrics, measured))
    decides = kind.primary_metric if primary == "auto" else primary
    guards = kind.secondary_metrics if isinstance(secondary, str) else secondary
    return decides, [name for name in dict.fromkeys(guards) if name in metrics and name != decides]
