"""What a kind of model is: four modules with the same names in every kind, loaded when they are first used.

    rows    from rows of data to what the model reads, and the proof of what is trained
    model   how the base is loaded
    learn   batches and their loss
    score   which metrics there are, and which way is better

Stages call what these modules declare. Nobody outside `luthier.kinds` asks which kind it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from luthier.data.rows import Row
    from luthier.engine.batches import Measured, Micro
    from luthier.engine.material import Material
    from luthier.models.estimate import Load
    from luthier.models.load import Base
    from luthier.models.vectors import Embedder


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as the model reads them.

    Attributes:
        examples: what `learn.collate` takes, in the order of the rows: the dataclass `Example` of the kind's `rows`,
            whose fields `data.columns` can store; each has the `id` of its row.
        truncated: ids of the rows that lost trained tokens to the length limit, the end of their last answer.
        dropped: (id, reason) of the rows that are not among the examples.
        lengths: tokens of each example's whole row, before truncation, in the order of the examples.
        notes: what the user should know of the rows as a whole.
    """

    examples: Sequence[Any]
    truncated: list[str] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row to look at: its text in pieces, each with whether it is trained. `place` is `file:line`."""

    id: str
    place: str
    pieces: list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class MaskProof:
    """What was proven about the trained tokens of every row.

    Attributes:
        rows: how many rows were proven. trained_tokens, total_tokens: over these rows.
        shown: the first rows, for people.
        truncated: how many rows lost the end of their last answer. dropped: how many rows are not trained on.
        problems: one sentence for each row that was truncated or dropped, with its place. A wrong mask is no entry
            here but a GateError.
    """

    rows: int
    trained_tokens: int
    total_tokens: int
    shown: list[ShownRow]
    truncated: int = 0
    dropped: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Objective:
    """What a training is to reach, as far as a kind lets one choose; None: what the kind takes for best.

    Attributes:
        loss: its name, or "auto". margin: of a loss with a margin. scale: what similarities are multiplied by.
        hard_negatives: (how many a row, how far below the positive) are mined; None: none.
    """

    loss: str = "auto"
    margin: float | None = None
    scale: float | None = None
    hard_negatives: tuple[int, float] | None = None


@dataclass(frozen=True, slots=True)
class Taught:
    """What the engine trains on, and what is to be known of it.

    Attributes:
        material: for `engine.trainer.fit`. tables: name of a file of the stage to its lines. notes: for the user.
        path: which of several ways to the same mathematics was chosen for this model, and why, for run.json.
    """

    material: Material
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    path: Mapping[str, Any] = field(default_factory=dict)


class Rows(Protocol):
    """From rows of data to what the model reads. `tokenizer` is one that `models.load.ready_tokenizer` has seen."""

    def encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Encode rows for training or for measuring the loss."""

    def trained_on(self, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
        """Return the rows of the training side that are trained on, and what to say of the others."""

    def prompts(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Any]:
        """Return what the model is asked, row by row, each with the `id` of its row."""

    def text_lengths(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the tokens of each whole row, before truncation."""

    def end_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Return the tokens at which an answer ends; empty where the kind gives no answers in words."""

    def prove_mask(self, rows: Sequence[Row], encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> MaskProof:
        """Prove that exactly the right tokens are trained, or raise a GateError."""


class Model(Protocol):
    """How the base is loaded, and what a model of the kind gives for a text: "words" or "vectors"."""

    GIVES: str

    def load_base(self, base: Base, dtype: str = "auto", method: str = "lora") -> PreTrainedModel:
        """Load the base model for an adapter of the given method."""

    def load_tokenizer(self, base: Base) -> tuple[PreTrainedTokenizerBase, list[str]]:
        """Load its tokenizer, ready for training, and say what was done to it."""

    def embedder(
        self,
        model: PreTrainedModel,
        base: Base,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        unit: bool = True,
    ) -> Embedder:
        """Return what makes vectors with a model, plain or adapted.

        Raises:
            UserError: the kind gives no vectors.
        """

    def write_merged(
        self,
        model: PreTrainedModel,
        base: Base,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        folder: Path,
    ) -> None:
        """Write a merged model as a plain folder of the library that users load it with."""

    def probe(
        self,
        model: PreTrainedModel,
        base: Base,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        texts: Sequence[str],
    ) -> Any:
        """Return what a model, plain or adapted, gives for texts, to be compared by `alike`."""

    def probe_folder(self, folder: Path, max_length: int, texts: Sequence[str]) -> Any:
        """Return the same of a folder that `write_merged` wrote, loaded without Luthier."""

    def alike(self, before: Any, after: Any) -> dict[str, Any]:
        """Compare two probes; `passed` says whether they agree within rounding."""


class Learn(Protocol):
    """Batches and their loss."""

    def material(
        self,
        model: torch.nn.Module,
        train: Encoded,
        validation: Encoded | None,
        tokenizer: PreTrainedTokenizerBase,
        base: Base,
        objective: Objective,
        seed: int,
    ) -> Taught:
        """Return what the engine trains `model` on; it is not trained yet."""

    def measure(self, example: Any) -> Measured:
        """Return what an example costs and counts."""

    def pads(self, config: PretrainedConfig) -> bool:
        """Tell whether its micro-batches will be padded, as far as the configuration of a base tells."""

    def reading(
        self, config: PretrainedConfig, device: str, rows: Sequence[Measured], micro: Micro
    ) -> tuple[tuple[int, int, int], Load]:
        """Return how rows are read, as far as lengths tell.

        Args:
            device: "cpu", "mps" or "cuda". rows: of one optimizer step, or of the validation. micro: how a step is cut.

        Returns:
            (examples, tokens each, trained tokens) of what is held at once, where that is most, and what is read.
        """


class Score(Protocol):
    """Which metrics there are. Names are those of metrics.json and comparison.json.

    EVIDENCE says how base and tuned are measured: "answers" in words, or "retrieval" by vectors. DIAGNOSIS says how
    failures are sorted, by the same words.
    """

    PRIMARY_METRIC: str
    SECONDARY_METRICS: tuple[str, ...]
    EVIDENCE: str
    DIAGNOSIS: str
    HIGHER_IS_BETTER: Mapping[str, bool]


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        name: as in the recipe. package: where its four modules are.
    """

    name: str
    package: str

    @property
    def rows(self) -> Rows:
        """From rows of data to what the model reads."""
        return cast("Rows", import_module(f"{self.package}.rows"))

    @property
    def model(self) -> Model:
        """How the base is loaded."""
        return cast("Model", import_module(f"{self.package}.model"))

    @property
    def learn(self) -> Learn:
        """Batches and their loss."""
        return cast("Learn", import_module(f"{self.package}.learn"))

    @property
    def score(self) -> Score:
        """Which metrics there are."""
        return cast("Score", import_module(f"{self.package}.score"))

    @property
    def primary_metric(self) -> str:
        """The metric that speaks for the kind."""
        return self.score.PRIMARY_METRIC

    @property
    def secondary_metrics(self) -> tuple[str, ...]:
        """The metrics that guard the primary one: no gain counts that one of them pays for."""
        return self.score.SECONDARY_METRICS

    @property
    def higher_is_better(self) -> Mapping[str, bool]:
        """Each metric's direction."""
        return self.score.HIGHER_IS_BETTER
