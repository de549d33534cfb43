"""Further training rows made from the training rows, each traced to its source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from luthier.data.rows import Form, Row


@dataclass(frozen=True, slots=True)
class Refusal:
    """A variation that was made and not taken: one line of refused.jsonl.

    Attributes:
        made_from: id of its source. text: the question or title. category: the sort of change. made_by: the rule.
        reason: a short stable word: those of `quality.REASONS`, "equal" (the text is known), "other-family" (it is a
            title of another family), "near-duplicate" (of another group or a held-out row).
    """

    made_from: str
    text: str
    category: str
    made_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Augmented:
    """What augmentation made.

    Attributes:
        rows: the new rows alone, in the order of their sources. Their `made_from` and `made_by` say where from.
        refused: reason → variants that were made and not taken.
        warnings: plain sentences: rows left alone, a target not reached and why.
        made_by: rule → rows taken from it.
        refusals: what `refused` counts, each with its text.
        categories: id of a new row → its category.
        diversity: category → how many texts it has and how various they are, see `quality.diversity`.
    """

    rows: list[Row]
    refused: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    made_by: dict[str, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    categories: dict[str, str] = field(default_factory=dict)
    diversity: dict[str, dict[str, float]] = field(default_factory=dict)


class Augmenter(Protocol):
    """A way to make further training rows: rules, or a teacher that writes them."""

    def __call__(
        self,
        train: Sequence[Row],
        target: int,
        seed: int,
        others: Sequence[Row] = (),
        *,
        near_threshold: float | None = 0.85,
        max_characters: int = 100_000,
        context: str = "",
        similarity: tuple[float, float] | None = None,
    ) -> Augmented:
        """Return rows that bring `train` to `target` rows, none of them equal or close to one of `others`.

        Args:
            train: the training rows; no other row is ever varied.
            target: training rows wanted in all.
            seed: the same rows and seed give the same variants.
            others: the held-out rows, to be kept clear of.
            near_threshold: Jaccard similarity from which a variant is too close to another group; None: not checked.
            max_characters: above which a variant is refused.
            context: what the rows are about, such as the system message.
            similarity: lowest and highest similarity of a variant to its source (see `quality`); None: by the form.
        """


# Name in the recipe → form of the rows → "module:function" of its Augmenter; "" stands for every other form.
AUGMENTERS = {
    "rules": {"title": "luthier.data.augment.titles.make:augment", "": "luthier.data.augment.rules:augment"},
}


def augmenter_named(method: str, form: Form) -> Augmenter:
    """Return the way of augmenting rows of a form that `data.augment.method` names; imported when it is asked for."""
    ways = AUGMENTERS[method]
    module, _, function = ways.get(form, ways[""]).partition(":")
    found: Augmenter = getattr(import_module(module), function)
    return found
