"""Batches of an embedding model, and their loss over whole optimizer steps.

In-batch negatives make the loss one of the whole step, so a step is not the sum of its micro-batches: all its texts
become vectors, each distinct text once and short ones beside short ones, and the loss is taken over them together.
Where the step is too large to be held for the backward pass, gradients are cached (GradCache: Gao et al. 2021,
arXiv:2101.06983): vectors first, without what autograd keeps; the gradient of the loss for each vector; then part by
part again. The mathematics is the same.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from luthier.engine.batches import Measured
from luthier.engine.trainer import Material
from luthier.errors import UserError
from luthier.kinds.base import Encoded, Objective, Taught
from luthier.kinds.embedding import losses
from luthier.kinds.embedding.mine import mine
from luthier.kinds.embedding.partners import Partners
from luthier.kinds.embedding.reading import AT_ONCE, HELD, reading
from luthier.kinds.embedding.rows import Example, Text
from luthier.models import sentence

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from luthier.models.load import Base

__all__ = ["collate", "joined", "loss_named", "material", "measure", "pads", "reading"]

SCALE = 20.0
MARGIN = 0.2  # of the triplet loss, in cosine
POOL = 1024  # rows of one validation measurement: each is told from the others in it
Batch = Mapping[str, Tensor]
Loss = Callable[[losses.Step], Tensor]


@dataclass(frozen=True)
class Pool:
    """Rows of the validation side that are measured together."""

    id: str
    rows: list[Example]


def material(
    model: nn.Module,
    train: Encoded,
    validation: Encoded | None,
    tokenizer: PreTrainedTokenizerBase,
    base: Base,
    objective: Objective,
    seed: int,
) -> Taught:
    """Return what the engine trains on.

    Args:
        model: the transformer with its adapter, not trained yet; hard negatives are mined with it. base: its head.
        objective: loss, margin, scale and hard negatives. seed: of the partners of titles.

    Raises:
        UserError: the rows do not have what the loss needs.
    """
    name = loss_named(objective.loss, train.examples)
    loss = _loss(name, objective, train.examples[0].form == "title")
    pad_id = int(tokenizer.pad_token_id or 0)
    teacher = Teacher(sentence.load_head(base), pad_id, loss)
    partners = Partners(train.examples, seed)
    examples, tables, notes = list(train.examples), {}, [f"the loss is {name}"]
    if objective.hard_negatives is not None:
        count, margin = objective.hard_negatives
        examples, table, told = mine(examples, partners, teacher.vectors_of(model), count, margin)
        tables, notes = {"hard-negatives": table}, [*notes, told]
    held_out = _pools(validation.examples, seed) if validation else []
    if validation and not held_out:
        notes.append("the validation split has no two families with two titles each, so nothing is measured on it")
    return Taught(
        Material(
            examples,
            held_out,
            collate,
            teacher.loss_sum,
            measure,
            whole_step=teacher.step,
            vary=partners.vary if train.examples[0].form == "title" else None,
            padded=False,
        ),
        tables,
        notes,
    )


def loss_named(asked: str, examples: Sequence[Example]) -> str:
    """Return the loss for these rows: the one asked for, or for "auto" cosine where pairs have scores.

    Raises:
        UserError: the rows do not have what the loss needs.
    """
    scored = sum(example.score is not None for example in examples)
    if asked == "auto":
        asked = "cosine" if scored else "multiple-negatives"
    if asked == "cosine" and scored < len(examples):
        raise UserError(
            f"The cosine loss needs a score for every pair; {len(examples) - scored} of {len(examples)} have none.",
            "training.loss",
            "Use multiple-negatives, or give pairs with a column score.",
        )
    if asked != "cosine" and scored:
        raise UserError(
            f"The loss {asked} takes every pair for a match, and {scored} of {len(examples)} pairs have scores.",
            "training.loss",
            "Use cosine (or auto), or leave out the pairs that do not match and the column of scores.",
        )
    return asked


def measure(example: Example | Pool) -> Measured:
    """Return the tokens of a row, a title without partner counted with one of its own length, and its weight of 1."""
    if isinstance(example, Pool):
        return Measured(sum(measure(row).tokens for row in example.rows), len(example.rows))
    tokens = sum(len(text.input_ids) for text in example.texts)
    return Measured(tokens + (len(example.input_ids) if example.family >= 0 else 0), 1)


def pads(config: PretrainedConfig) -> bool:  # noqa: ARG001  (a protocol names the argument)  # noqa: ARG001  (the protocol's)
    """Tell whether its micro-batches are padded: they are flat, and padded when a step is read."""
    return False


def collate(examples: Sequence[Example | Pool]) -> dict[str, Tensor]:
    """Return the texts of rows as flat tensors; see `losses.Step`.

    Returns:
        `tokens` [all tokens], `lengths`, `row`, `column`, `near` [texts], `families` [texts, most], `scores` [rows].
    """
    rows = [row for one in examples for row in (one.rows if isinstance(one, Pool) else [one])]
    texts = [text for row in rows for text in row.texts]
    most = max((len(text.families) for text in texts), default=0) or 1
    families = np.full((len(texts), most), -1, dtype=np.int64)
    for place, text in enumerate(texts):
        families[place, : len(text.families)] = text.families
    return {
        "tokens": torch.tensor([token for text in texts for token in text.input_ids], dtype=torch.long),
        "lengths": torch.tensor([len(text.input_ids) for text in texts]),
        "row": torch.tensor([number for number, row in enumerate(rows) for _ in row.texts]),
        "column": torch.tensor([column for row in rows for column in range(len(row.texts))]),
        "near": torch.tensor([text.near for text in texts]),
        "families": torch.from_numpy(families),
        "scores": torch.tensor([math.nan if row.score is None else row.score for row in rows], dtype=torch.float32),
    }


class Teacher:
    """The loss of a step, with the gradients of a step of any size.

    Args:
        head: of the base. pad_id: for padding. loss: sum over the rows of a step.
        at_once, held: see `AT_ONCE` and `HELD`; None chooses by device.
    """

    def __init__(
        self, head: nn.Module, pad_id: int, loss: Loss, at_once: int | None = None, held: int | None = None
    ) -> None:
        self._head, self._pad, self._loss = head, pad_id, loss
        self._at_once, self._held = at_once, held

    def loss_sum(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Return the sum of the loss over the rows of one batch, and their number."""
        vectors = self._vectors(model, batch, self._parts(batch))
        return self._loss(_step(batch, vectors)), len(batch["scores"])

    def step(
        self, model: Any, micro_batches: Sequence[Batch], weight: float, backward: Callable[[Tensor], None]
    ) -> Tensor:
        """Take the gradients of one optimizer step; see `engine.material.Material.whole_step`."""
        batch = joined(micro_batches)
        parts = self._parts(batch)
        config = _config(model)
        size = int(config.hidden_size) * int(config.num_hidden_layers)
        held = self._held or HELD.get(batch["tokens"].device.type, HELD["cuda"])
        if sum(part.padded for part in parts) * size <= held or len(parts) == 1:
            loss = self._loss(_step(batch, self._vectors(model, batch, parts))) / weight
            backward(loss)
            return loss.detach()
        return self._cached(model, batch, parts, weight, backward)

    def vectors_of(self, model: nn.Module) -> Callable[[Sequence[Text]], Tensor]:
        """Return a function from texts to their vectors [texts, dimensions], on the CPU, without gradients."""

        def vectors(texts: Sequence[Text]) -> Tensor:
            batch = collate([Example("", "title", (text,)) for text in texts])
            device = next(model.parameters()).device
            training = model.training
            model.eval()
            with torch.no_grad():
                made = self._vectors(model, {name: value.to(device) for name, value in batch.items()}, None)
            model.train(training)
            return made.cpu()

        return vectors

    def _cached(
        self, model: nn.Module, batch: Batch, parts: list[_Part], weight: float, backward: Callable[[Tensor], None]
    ) -> Tensor:
        """Take the gradients part by part; dropout draws the same numbers both times."""
        seed = int(torch.randint(2**31, (1,)).item())
        with torch.no_grad():
            vectors = self._vectors(model, batch, parts, seed)
        vectors.requires_grad_(True)
        loss = self._loss(_step(batch, vectors)) / weight
        (wanted,) = torch.autograd.grad(loss, vectors)
        for number, part in enumerate(parts):
            made = self._read(model, batch, part, seed + number)
            pulled = torch.zeros_like(made).index_add_(0, part.distinct, wanted[part.texts])
            backward((made * pulled).sum())
        return loss.detach()

    def _vectors(self, model: nn.Module, batch: Batch, parts: list[_Part] | None, seed: int | None = None) -> Tensor:
        """Return the vectors of all texts, in order."""
        parts = self._parts(batch) if parts is None else parts
        made = [
            self._read(model, batch, part, None if seed is None else seed + number)[part.distinct]
            for number, part in enumerate(parts)
        ]
        places = torch.cat([part.texts for part in parts])
        return torch.cat(made)[places.argsort()]

    def _read(self, model: nn.Module, batch: Batch, part: _Part, seed: int | None) -> Tensor:
        """Return the vectors of the distinct texts of a part."""
        if seed is not None:
            torch.manual_seed(seed)
        ids = torch.where(part.mask.bool(), batch["tokens"][part.gather], self._pad)
        read = model(input_ids=ids, attention_mask=part.mask)[0]
        self._head.to(read.device)
        return torch.nn.functional.normalize(self._head(read, part.mask).float(), dim=-1)

    def _parts(self, batch: Batch) -> list[_Part]:
        return _cut(batch, self._at_once or AT_ONCE.get(batch["tokens"].device.type, AT_ONCE["cuda"]))


@dataclass(frozen=True)
class _Part:
    """Some distinct texts of a step, read together.

    Attributes:
        gather: [distinct, longest] places in the flat tokens. mask: [distinct, longest], 1 for a token.
        texts: [texts] which texts of the step they are. distinct: [texts] the line of each.
    """

    gather: Tensor
    mask: Tensor
    texts: Tensor
    distinct: Tensor

    @property
    def padded(self) -> int:
        """Padded tokens."""
        return self.mask.numel()


def joined(batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Return several batches as one."""
    if len(batches) == 1:
        return dict(batches[0])
    whole = {
        name: torch.cat([batch[name] for batch in batches])
        for name in ("tokens", "lengths", "column", "near", "scores")
    }
    before = np.cumsum([0, *(len(batch["scores"]) for batch in batches)]).tolist()
    whole["row"] = torch.cat([batch["row"] + start for batch, start in zip(batches, before, strict=False)])
    most = max(batch["families"].shape[1] for batch in batches)
    padded = [
        nn.functional.pad(batch["families"], (0, most - batch["families"].shape[1]), value=-1) for batch in batches
    ]
    whole["families"] = torch.cat(padded)
    return whole


def _cut(batch: Batch, at_once: int) -> list[_Part]:
    """Cut the distinct texts of a step, sorted by length, into parts of at most `at_once` padded tokens."""
    device = batch["tokens"].device
    tokens, lengths = batch["tokens"].cpu().numpy(), batch["lengths"].cpu().numpy()
    ends = np.cumsum(lengths)
    starts = ends - lengths
    first: dict[bytes, int] = {}
    same: defaultdict[int, list[int]] = defaultdict(list)
    for text, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        same[first.setdefault(tokens[start:end].tobytes(), text)].append(text)
    order = sorted(same, key=lambda text: (-lengths[text], text))
    parts: list[_Part] = []
    while order:
        longest = int(lengths[order[0]])
        chosen, order = order[: max(1, at_once // longest)], order[max(1, at_once // longest) :]
        inside = np.arange(longest)[None]
        mask = inside < lengths[chosen][:, None]
        gather = np.where(mask, starts[chosen][:, None] + inside, 0)
        texts = [(text, line) for line, one in enumerate(chosen) for text in same[one]]
        at, lines = (torch.tensor(column, device=device) for column in zip(*texts, strict=True))
        parts.append(
            _Part(torch.from_numpy(gather).to(device), torch.from_numpy(mask.astype(np.int64)).to(device), at, lines)
        )
    return parts


def _step(batch: Batch, vectors: Tensor) -> losses.Step:
    return losses.Step(vectors, batch["row"], batch["column"], batch["near"], batch["families"], batch["scores"])


def _loss(name: str, objective: Objective, titles: bool) -> Loss:
    if name == "cosine":
        return losses.cosine
    if name == "triplet":
        margin = MARGIN if objective.margin is None else objective.margin
        return lambda step: losses.triplet(step, margin)
    scale = SCALE if objective.scale is None else objective.scale
    return lambda step: losses.multiple_negatives(step, scale, both_ways=titles)


def _pools(examples: Sequence[Example], seed: int) -> list[Pool]:
    """Return the validation rows in pools of fixed rows, each title with a partner that stays the same.

    Titles of a single family have nothing to be told from: they make no pool.
    """
    if len({example.family for example in examples if example.form == "title"}) == 1:
        return []
    partners = Partners(examples, seed)
    ready = [partners.vary(example, 0) if example.form == "title" else example for example in examples]
    order = np.random.default_rng([seed, len(ready)]).permutation(len(ready)).tolist()
    return [
        Pool(f"validation {start}", [ready[at] for at in order[start : start + POOL]])
        for start in range(0, len(ready), POOL)
    ]


def _config(model: Any) -> Any:
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model.config
