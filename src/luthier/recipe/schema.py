"""The keys of a recipe, their types, defaults and limits.

Frozen and strict: an unknown key is an error. Settings that belong together are one model; machinery takes the plain
values, never the recipe. A field's description is its documentation: `luthier recipe show --help` and `luthier init`
print it. `json_schema_extra` holds what the loader must know of a key: "path" ("file": relative paths start from the
recipe's folder; "if-path": so do values that look like a path), "form" (the pattern of a text in plain words),
"kind" (the one kind of model that reads it) and "secret" (a wrong value is not shown: it may be one).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from luthier.recipe import phases
from luthier.recipe.pace import Curriculum, EarlyStopping, Schedule
from luthier.recipe.remote import Judge, Teacher
from luthier.recipe.section import ContradictionError, OffOr, Section

Kind = Literal["causal-lm", "embedding"]
ReportFormat = Literal["html", "pdf", "latex", "slides", "infographic"]
Format = Literal[
    "auto", "alpaca", "sharegpt", "messages", "prompt-completion", "text", "preference", "pairs", "triplets", "titles"
]


class Model(Section):
    """The model to start from."""

    base: str = Field(
        "starter",
        min_length=1,
        description="starter, minilm, a catalogue name, a Hub id or a folder",
        json_schema_extra={"path": "if-path"},
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="precision of the base weights"
    )
    system: str | None = Field(
        None,
        description="system message of every conversation that has none",
        json_schema_extra={"kind": "causal-lm"},
    )


class Split(Section):
    """How rows are divided. The three shares add up to 1."""

    train: float = Field(0.70, gt=0, le=1, description="share of the rows to train on")
    validation: float = Field(0.15, ge=0, lt=1, description="share for early stopping and thresholds")
    test: float = Field(0.15, ge=0, lt=1, description="share held out for the evidence")
    stratify: str | None = Field(None, description="field whose proportions every split keeps")
    group: str | None = Field("group", description="field whose equal values never straddle two splits")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train, validation and test add up to {total:g}, not to 1")
        return self


class Augment(Section):
    """Further training rows made from the training rows."""

    method: Literal["rules", "teacher"] = Field(
        "rules", description="rules: questions reworded, titles varied, by word lists; teacher: by a larger model"
    )
    target: int = Field(ge=1, description="how many training rows there should be in all")
    similarity: Annotated[list[float] | None, OffOr] = Field(
        None,
        min_length=2,
        max_length=2,
        description="[lowest, highest] similarity of a variation to its source; off: as suits the form of the rows",
    )

    prompt: str | None = Field(
        None,
        description="text file with what the teacher is asked, {source} standing for the title or question",
        json_schema_extra={"path": "file"},
    )

    @model_validator(mode="after")
    def _prompt_is_read(self) -> Self:
        if self.prompt is not None and self.method != "teacher":
            words = f"The method {self.method} asks nobody, so it does not read a prompt"
            raise ContradictionError(words, "data.augment.prompt", "Remove it, or set method: teacher.")
        return self

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.similarity and not 0 <= self.similarity[0] < self.similarity[1] <= 1:
            words = f"No similarity, 0 to 1, lies between {self.similarity[0]:g} and {self.similarity[1]:g}"
            raise ContradictionError(words, "data.augment.similarity", "Give the lower bound first: [0.3, 0.97].")
        return self


class Overlap(Section):
    """How much of one split may be found again in another."""

    ngram: int = Field(13, ge=2, le=50, description="length in words of the n-grams whose containment is measured")
    threshold: float = Field(0.5, gt=0, le=1, description="share of a row's n-grams that counts as a leak")
    allow: bool = Field(False, description="go on although a leak was found")


class Data(Section):
    """Where the rows come from and how they are made ready."""

    source: str | list[str] | dict[Literal["train", "validation", "test"], str | list[str]] = Field(
        description="file, folder, glob, list of these, one per split, or hub://name",
        json_schema_extra={"path": "file"},
    )
    format: Format = Field("auto", description="layout of the rows; auto detects it by content")
    fields: dict[str, str] = Field(default_factory=dict, description="Luthier's field name: your column name")
    max_length: int = Field(1024, ge=8, description="tokens a row may have before it is truncated")
    max_characters: int = Field(100_000, ge=1, description="characters above which a row is rejected")
    near_duplicates: Annotated[float | None, OffOr] = Field(
        0.85, gt=0, le=1, description="Jaccard similarity of word 3-grams above which rows are near-duplicates, or off"
    )
    split: Split = Field(default_factory=Split)
    overlap: Overlap = Field(default_factory=Overlap)
    augment: Annotated[Augment | None, OffOr] = Field(None, description="further training rows, or off")
    terms: str | None = Field(
        None,
        description="file of technical terms, one a line, for the density in the report",
        json_schema_extra={"path": "file"},
    )


class Adapter(Section):
    """What training adds to the base."""

    method: Literal["lora", "rslora", "dora", "qlora", "full"] = Field("lora", description="full trains every weight")
    r: int = Field(8, ge=1, le=1024, description="rank of the low-rank matrices")
    alpha: float = Field(16, gt=0, description="scale; the update is multiplied by alpha / r (rslora: alpha / sqrt r)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    targets: Literal["all-linear"] | list[Annotated[str, Field(min_length=1)]] = Field(
        "all-linear",
        min_length=1,
        description="names of the modules to adapt",
        json_schema_extra={"form": "the name of a module"},
    )
    allow_unmatched: bool = Field(False, description="go on although a target matches no module")
    share: float = Field(1.0, gt=0, le=1, description="share of what was learned that is kept; the rest stays the base")

    @model_validator(mode="after")
    def _can_be_shared(self) -> Self:
        if self.share < 1 and self.method in ("dora", "full"):
            words = f"adapter.share is {self.share:g}, and {self.method} cannot keep a share"
            raise ContradictionError(words, "adapter.share", "Remove share, or use method: lora.")
        return self


class HardNegatives(Section):
    """Negatives that the base takes for near, mined before training."""

    count: int = Field(2, ge=1, le=32, description="negatives a row")
    margin: float = Field(0.05, ge=0, lt=2, description="how far below the positive's similarity a negative must be")


class Guards(Section):
    """What is done when a training goes wrong. Each event is told in 4-train/guards.jsonl, with its rows."""

    on_nonfinite: Literal["skip", "return", "stop"] = Field(
        "skip", description="loss or gradient no finite number: leave the step out, go back to a checkpoint, or stop"
    )
    on_spike: Literal["skip", "return", "stop"] = Field(
        "skip", description="the same, for a loss or gradient far above its running estimate"
    )
    returns: int = Field(3, ge=0, le=100, description="how often training may go back before it is stopped")
    factor: float = Field(0.5, gt=0, le=1, description="what each return multiplies the learning rate by")


class Training(Section):
    """How long and how fast to learn."""

    epochs: float = Field(3.0, gt=0, description="passes over the training rows; not read when steps is given")
    steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    batch_size: int = Field(8, ge=1, description="examples per optimizer step")
    learning_rate: float = Field(2.0e-4, gt=0, lt=1, description="peak learning rate (three-phase: 5e-4)")
    schedule: Schedule = Field(default_factory=Schedule)
    curriculum: Annotated[Curriculum | None, OffOr] = Field(None, description="easy rows first, or off")
    loss: Literal["auto", "multiple-negatives", "triplet", "cosine"] = Field(
        "auto",
        description="auto: cosine for pairs with scores, else multiple-negatives",
        json_schema_extra={"kind": "embedding"},
    )
    margin: Annotated[float | None, OffOr] = Field(
        None,
        gt=0,
        lt=2,
        description="of the triplet loss: how much nearer the positive is to be (0.2)",
        json_schema_extra={"kind": "embedding"},
    )
    scale: Annotated[float | None, OffOr] = Field(
        None,
        gt=0,
        le=1000,
        description="of multiple-negatives: what cosine is multiplied by, 1 / temperature (20)",
        json_schema_extra={"kind": "embedding"},
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]] | None, OffOr] = Field(
        None, description="train once for each of these, to tell gains from the luck of a seed; off: once, by seed"
    )
    hard_negatives: Annotated[HardNegatives | None, OffOr] = Field(
        None, description="mine hard negatives, or off", json_schema_extra={"kind": "embedding"}
    )
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay (AdamW)")
    early_stopping: Annotated[EarlyStopping | None, OffOr] = Field(None, description="stop early, or off")
    guards: Annotated[Guards | None, OffOr] = Field(
        default_factory=Guards, description="watch loss, gradients and weights, or off: stop where they are not finite"
    )
    compile: bool = Field(
        False, description="let torch.compile make norms and gates: slow to start, on a CPU no quicker"
    )
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints and evaluations")
    keep_checkpoints: int = Field(1, ge=1, description="how many checkpoints stay on disk")

    @model_validator(mode="before")
    @classmethod
    def _peak_of_three_phases(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "learning_rate" in values:
            return values
        schedule = values.get("schedule")
        name = schedule.get("name") if isinstance(schedule, dict) else getattr(schedule, "name", None)
        return {**values, "learning_rate": phases.PEAK} if name == "three-phase" else values

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if self.seeds is None:
            return self
        if len(self.seeds) < 2:
            told = f"{len(self.seeds)} training seeds" if len(self.seeds) != 1 else "One training seed"
            words = f"{told} cannot show how much the result depends on it"
            raise ContradictionError(words, "training.seeds", "Give three or more, such as [1, 2, 3], or use seed.")
        twice = sorted({seed for seed in self.seeds if self.seeds.count(seed) > 1})
        if twice:
            words = f"The training seed {twice[0]} stands there twice, and would give the same model twice"
            raise ContradictionError(words, "training.seeds", "Give each seed once.")
        return self

    @model_validator(mode="after")
    def _loss_reads_it(self) -> Self:
        for key, losses in (("margin", ("triplet",)), ("scale", ("auto", "multiple-negatives"))):
            if getattr(self, key) is not None and self.loss not in losses:
                words = f"The loss {self.loss} does not read {key}; {losses[-1]} does"
                raise ContradictionError(words, f"training.{key}", f"Remove {key}, or set training.loss: {losses[-1]}.")
        return self

    @model_validator(mode="after")
    def _can_be_walked(self) -> Self:
        self.steering()
        plateau, stopping = self.schedule.plateau, self.early_stopping
        if plateau and stopping and stopping.patience < plateau.patience:
            raise ContradictionError(
                f"Training would stop after {stopping.patience} evaluations without improvement, before the learning "
                f"rate is first reduced, after {plateau.patience}",
                "training.early_stopping.patience",
                f"Give it a patience of at least {plateau.patience}, or the plateau a shorter one.",
            )
        if self.steps and self.schedule.warmup >= self.steps:
            raise ContradictionError(
                f"The warm-up of {self.schedule.warmup} steps is not shorter than the training of {self.steps} steps",
                "training.schedule.warmup",
                f"Choose at most {self.steps - 1}, or train for more steps.",
            )
        return self

    def steering(self) -> dict[str, Any]:
        """Return what the engine is told of the learning rate, see `Schedule.steering`."""
        return self.schedule.steering(self.learning_rate)


class Evaluation(Section):
    """How answers are made and scored."""

    metrics: Literal["auto"] | list[str] = Field("auto", description="auto: all that the kind declares")
    primary: str = Field("auto", min_length=1, description="the metric that decides the verdict; auto: the kind's")
    secondary: Literal["auto"] | list[str] = Field(
        "auto", description="metrics that guard the verdict, corrected with it; auto: the kind's; all others explore"
    )
    baseline: Literal["base"] = Field("base", description="what the tuned model is compared with")
    max_new_tokens: int = Field(
        128, ge=1, description="tokens of an answer at most", json_schema_extra={"kind": "causal-lm"}
    )
    judge: Annotated[Judge | None, OffOr] = Field(
        None, description="ask the teacher which answers are better, or off", json_schema_extra={"kind": "causal-lm"}
    )


class Diagnose(Section):
    """What the diagnosis of failures looks for."""

    phrases: str | None = Field(
        None,
        description="file of generic phrases, one a line, beside those that ship with Luthier",
        json_schema_extra={"path": "file", "kind": "causal-lm"},
    )


class Export(Section):
    """What leaves the workbench."""

    merged: bool = Field(True, description="base and adapter in one plain folder, held against what was trained")
    onnx: bool = Field(
        False,
        description="the merged model as an ONNX graph as well; needs luthier[onnx]",
        json_schema_extra={"kind": "embedding"},
    )

    @model_validator(mode="after")
    def _onnx_comes_from_merged(self) -> Self:
        if self.onnx and not self.merged:
            raise ContradictionError("ONNX is made from the merged model", "export.merged", "Set it to true.")
        return self


class Report(Section):
    """What the reader gets."""

    formats: list[ReportFormat] = Field(
        default=["html"],
        min_length=1,
        description="files to write: html, pdf, latex, slides, infographic; all but html need luthier[report]",
    )


class Recipe(Section):
    """A whole recipe, resolved: every key has its value."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="names the run folder",
        json_schema_extra={"form": "letters, digits, dots, dashes, underscores; a letter or digit first; at most 64"},
    )
    kind: Kind = Field("causal-lm", description="the sort of model")
    seed: int = Field(42, ge=0, lt=2**32, description="the one seed of everything that is drawn")
    model: Model = Field(default_factory=Model)
    data: Data
    teacher: Annotated[Teacher | None, OffOr] = Field(
        None, description="a larger model behind an OpenAI-compatible endpoint, or off"
    )
    adapter: Adapter = Field(default_factory=Adapter)
    training: Training = Field(default_factory=Training)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    diagnose: Diagnose = Field(default_factory=Diagnose)
    export: Export = Field(default_factory=Export)
    report: Report = Field(default_factory=Report)

    @model_validator(mode="after")
    def _has_the_teacher_it_asks(self) -> Self:
        augment = self.data.augment
        asked_by = {"data.augment.method": augment is not None and augment.method == "teacher"}
        asked_by["evaluation.judge"] = self.evaluation.judge is not None
        for dotted, asks in asked_by.items():
            if asks and self.teacher is None:
                words = f"{dotted} asks a teacher, and the recipe names none"
                raise ContradictionError(words, dotted, "Add one: teacher: {url: http://127.0.0.1:11434/v1, model: …}.")
        return self

    @model_validator(mode="after")
    def _read_by_the_kind(self) -> Self:
        for dotted, kind in _other_kinds(self, self.kind):
            words = f"{dotted} is read by the kind {kind} alone, and this recipe has kind: {self.kind}"
            raise ContradictionError(words, dotted, f"Remove it, or set kind: {kind}.")
        return self


def _other_kinds(section: Section, kind: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys that differ from their defaults and are read by another kind, with that kind."""
    for name, field in type(section).model_fields.items():
        value, extra = getattr(section, name), field.json_schema_extra
        only = extra.get("kind") if isinstance(extra, dict) else None
        if only not in (None, kind) and value != field.get_default(call_default_factory=True):
            yield f"{prefix}{name}", str(only)
        elif isinstance(value, Section):
            yield from _other_kinds(value, kind, f"{prefix}{name}.")
