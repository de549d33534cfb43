"""How difficult each training row is, for a curriculum: by a field of the rows, by length, or by the base's loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from luthier.errors import UserError
from luthier.run import ranks
from luthier.run.atomic import read_json, write_json
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.engine.material import Material

SHOWN = 5
MEASURED = ("length", "loss")  # what is measured; any other word names a field of the rows


def from_labels(labels: Sequence[tuple[str, Any]], field: str, order: Sequence[str] = ()) -> list[float]:
    """Return difficulties from a field of the rows: its number, or its place in `order`.

    Args:
        labels: (place of the row, its value) row by row. field: its name, for messages. order: from easy to hard.

    Raises:
        UserError: rows without the field or with nothing in it, a value that is no number or not in `order`, or all
            values equal.
    """
    places = {value: float(place) for place, value in enumerate(order)}
    missing = [place for place, value in labels if value is None or _is_blank(value, places)]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(labels)} training rows have no field {field!r}, by which they are to be ordered.",
            ", ".join(missing[:SHOWN]),
            "Give it to every row, map it under data.fields, or choose another training.curriculum.by.",
        )
    found = [places.get(str(value)) if order else _number(value) for _, value in labels]
    wrong = {str(value): place for (place, value), one in zip(labels, found, strict=True) if one is None}
    if wrong:
        shown = ", ".join(repr(value) for value in list(wrong)[:SHOWN])
        problem = f"are not in training.curriculum.order, which is {', '.join(order)}" if order else "are no numbers"
        remedy = "Add them to training.curriculum.order, the easiest first."
        raise UserError(f"Values of {field!r} {problem}: {shown}.", next(iter(wrong.values())), remedy)
    return check([one for one in found if one is not None], field)


def check(difficulties: list[float], by: str) -> list[float]:
    """Return difficulties that say which rows are easier.

    Raises:
        UserError: one is not finite, or all are equal.
    """
    if not all(map(math.isfinite, difficulties)):
        raise UserError(
            f"Some rows have a {by} that is not finite, so they cannot be ordered by it.",
            "training.curriculum.by",
            "Choose another measure.",
        )
    if len(set(difficulties)) < 2:
        raise UserError(
            f"All {len(difficulties)} training rows have the same {by}, so there is no easy and hard among them.",
            "training.curriculum.by",
            "Choose another measure, or remove training.curriculum.",
        )
    return difficulties


def by_length(material: Material) -> list[float]:
    """Return the tokens of each example.

    Raises:
        UserError: all are of one length.
    """
    return check([float(material.measure(example).tokens) for example in material.train], "length")


def by_loss(model: Any, material: Material, path: Path, progress: Progress) -> list[float]:
    """Return the loss of the untrained model on each example, alone and without dropout, per trained item.

    Args:
        model: on its device, its adapter without effect. path: keeps the losses, so that a resumed run has the same
            ones; those of another model or other examples are measured again.

    Raises:
        UserError: a loss is not finite, or all are equal.
    """
    from luthier.engine.identity import fingerprint_of

    ranks.join()
    losses: list[float] = []
    if ranks.leads():
        mark = fingerprint_of(model, material.train, (), {}, 0)
        losses = _kept(path, mark) or _losses(model, material, progress)
        write_json(path, {"fingerprint": mark, "losses": losses})
    return check(list(ranks.share(losses)), "loss")


def _kept(path: Path, mark: str) -> list[float]:
    try:
        kept = read_json(path)
        return list(kept["losses"]) if kept["fingerprint"] == mark else []
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return []


def _losses(model: Any, material: Material, progress: Progress) -> list[float]:
    import torch

    device, training, found = next(model.parameters()).device, model.training, []
    model.eval()
    with (
        torch.no_grad(),
        material.around(model),
        progress.task("difficulty", len(material.train), "rows") as advance,
    ):
        for example in material.train:
            whole = example if material.vary is None else material.vary(example, 0)
            tensors = {name: value.to(device) for name, value in material.collate([whole]).items()}
            loss, weight = material.loss_sum(model, tensors)
            found.append(float(loss) / float(weight))
            advance(1)
    model.train(training)
    return found


def _is_blank(value: Any, places: Mapping[str, float]) -> bool:
    """Tell whether a cell of a table was left empty; an order that names the empty text has a place for it."""
    return isinstance(value, str) and not value.strip() and value not in places


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None
