"""The keys of a recipe, their types, defaults and limits.

Frozen and strict: an unknown key is an error. Settings that belong together are one model; machinery takes the plain
values, never the recipe. A field's description is its documentation: `luthier recipe show --help` and `luthier init`
print it. `json_schema_extra` holds what the loader must know of a key: "path" ("file": relative paths start from the
recipe's folder; "if-path": so do values that look like a path) and "form" (the pattern of a text in plain words).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Kind = Literal["causal-lm", "embedding"]
ReportFormat = Literal["html"]
Format = Literal[
    "auto", "alpaca", "sharegpt", "messages", "prompt-completion", "text", "preference", "pairs", "triplets", "titles"
]


def _off(value: Any) -> Any:
    """Read the words off/none/false as absence: YAML 1.1 turns a bare `off` into False."""
    return None if value is False or value in ("off", "none") else value


OffOr = BeforeValidator(_off)


class Section(BaseModel):
    """A part of a recipe: immutable, no unknown keys, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


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
    system: str | None = Field(None, description="system message of every conversation that has none")


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

    method: Literal["rules"] = Field("rules", description="rules: question rewordings that keep the answer")
    target: int = Field(ge=1, description="how many training rows there should be in all")


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
    targets: Literal["all-linear"] | list[str] = Field("all-linear", description="names of the modules to adapt")
    allow_unmatched: bool = Field(False, description="go on although a target matches no module")


class Schedule(Section):
    """How the learning rate moves over the steps."""

    name: Literal["constant", "linear", "cosine"] = Field("cosine", description="shape after warm-up")
    warmup: int = Field(0, ge=0, description="optimizer steps from 0 to the peak learning rate")


class EarlyStopping(Section):
    """When to stop before the last step: validation loss no longer improves."""

    patience: int = Field(3, ge=1, description="evaluations without improvement before training stops")
    threshold: float = Field(0.0, ge=0, description="smallest fall of the validation loss that counts")


class Training(Section):
    """How long and how fast to learn."""

    epochs: float = Field(3.0, gt=0, description="passes over the training rows; not read when steps is given")
    steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    batch_size: int = Field(8, ge=1, description="examples per optimizer step")
    learning_rate: float = Field(2.0e-4, gt=0, lt=1, description="peak learning rate")
    schedule: Schedule = Field(default_factory=Schedule)
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay (AdamW)")
    early_stopping: Annotated[EarlyStopping | None, OffOr] = Field(None, description="stop early, or off")
    checkpoint_every: int = Field(100, ge=1, description="optimizer steps between checkpoints and evaluations")
    keep_checkpoints: int = Field(1, ge=1, description="how many checkpoints stay on disk")


class Evaluation(Section):
    """How answers are made and scored."""

    metrics: Literal["auto"] | list[str] = Field("auto", description="auto: all that the kind declares")
    baseline: Literal["base"] = Field("base", description="what the tuned model is compared with")
    max_new_tokens: int = Field(128, ge=1, description="tokens of an answer at most")


class Report(Section):
    """What the reader gets."""

    formats: list[ReportFormat] = Field(default=["html"], min_length=1, description="files to write")


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
    adapter: Adapter = Field(default_factory=Adapter)
    training: Training = Field(default_factory=Training)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    report: Report = Field(default_factory=Report)
