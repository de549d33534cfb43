"""Who answers: token ids in, token ids out, in batches, greedy or sampled, with a key-value cache.

A loop of its own instead of `generate`: finished rows leave the batch, the host does little per token, and the answer
depends on nothing but the model, the prompt and the settings given here (no generation_config.json is read).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from luthier.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LONGEST_CHARACTER = 4  # bytes, hence tokens at most, of a character in UTF-8: what is longer is no character
LOGIT_CELLS = 2**26  # numbers in the logits of one scoring batch: 256 MiB as float32


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: 0 takes the likeliest token (greedy). top_p: sample among the likeliest tokens that together hold
            this share of the probability (Holtzman et al. 2020). seed: of the draws.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise UserError(f"A temperature of {self.temperature:g} is not between 0 and 100.", "temperature", "")
        if not 0 < self.top_p <= 1:
            raise UserError(f"A top_p of {self.top_p:g} is not above 0 and at most 1.", "top_p", "")


@dataclass(frozen=True)
class Generated:
    """One answer. `ids`: its tokens, without the one that ends it. `stopped`: it ended by itself, not by the limit."""

    ids: list[int]
    stopped: bool


class Answerer(Protocol):
    """What can answer prompts given as token ids."""

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: Sampling = Sampling()
    ) -> list[Generated]:
        """Answer each prompt, in order."""

    def stream(self, prompt: Sequence[int], max_new_tokens: int, sampling: Sampling = Sampling()) -> Iterator[int]:
        """Yield the tokens of one answer as they come, without the one that ends it."""

    def log_loss(self, examples: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, int]]:
        """Return for each (input_ids, labels) the sum of −log p over the labelled tokens, and their number."""


class TransformersAnswerer:
    """Answers with a causal language model of transformers, plain or with a PEFT adapter.

    Args:
        model: on its device, in its precision; is put into evaluation mode. pad_id: any token, it is masked.
        end_ids: tokens that end an answer. batch: prompts answered at once.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int, end_ids: Sequence[int], batch: int = 32) -> None:
        self.model: Any = model.eval()  # type: ignore[no-untyped-call]
        self.batch = batch
        self._pad = pad_id
        self._ends = frozenset(end_ids)
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
        accepted = inspect.signature(inner.forward).parameters
        self._takes_positions = "position_ids" in accepted
        self._takes_keep = "logits_to_keep" in accepted
        self._config = inner.config
        self.context = context_of(inner.config)
        self.vocabulary = int(inner.config.vocab_size)

    def room(self, prompt_tokens: int, max_new_tokens: int) -> int:
        """Return how many new tokens fit after a prompt, at most `max_new_tokens`; 0 or less: none fits."""
        return max_new_tokens if self.context is None else min(max_new_tokens, self.context - prompt_tokens)

    def plan(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the places of the prompts in batches of like length: a function of the lengths alone."""
        order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
        return [order[start : start + self.batch] for start in range(0, len(order), self.batch)]

    def answer(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: Sampling = Sampling()
    ) -> list[Generated]:
        """Answer each prompt, in order. A prompt that fills the model's context gets an empty answer, not stopped.

        The rounding of a batched product depends on the shape of the batch, so that a greedy answer may differ between
        batches where two tokens are nearly equally likely. With the same prompts in the same call it is the same.

        Args:
            prompts: token ids, none empty. max_new_tokens: of each answer. sampling: default greedy.
        """
        answers: list[Generated] = [Generated([], False)] * len(prompts)
        fitting = [place for place in range(len(prompts)) if self.room(len(prompts[place]), 1) > 0]
        for places in self.plan([prompts[place] for place in fitting]):
            chosen = [fitting[place] for place in places]
            for place, generated in zip(
                chosen, self._answer_batch([prompts[at] for at in chosen], max_new_tokens, sampling), strict=True
            ):
                answers[place] = generated
        return answers

    def stream(self, prompt: Sequence[int], max_new_tokens: int, sampling: Sampling = Sampling()) -> Iterator[int]:
        """Yield the tokens of one answer as they come, without the one that ends it.

        Raises:
            UserError: the prompt fills the model's context.
        """
        if self.room(len(prompt), max_new_tokens) <= 0:
            raise UserError(
                f"The conversation has {len(prompt)} tokens, and the model has room for {self.context}.",
                "",
                "Shorten it, or begin anew.",
            )
        for _, token in self._steps([prompt], max_new_tokens, sampling):
            if token in self._ends:
                return
            yield token

    def log_loss(self, examples: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, int]]:
        """Return for each (input_ids, labels) the sum of −log p of the labelled tokens in nats, and their number.

        Labels stand at the place of their own token; -100 is not counted, nor is the first token of all. An example
        beyond the model's context, or without labels, gives (0.0, 0).
        """
        found: list[tuple[float, int]] = [(0.0, 0)] * len(examples)
        order = sorted(range(len(examples)), key=lambda place: (len(examples[place][0]), place))
        usable = [
            place
            for place in order
            if self.room(len(examples[place][0]), 1) >= 0 and any(label >= 0 for label in examples[place][1][1:])
        ]
        for places in self._by_size(usable, examples):
            for place, result in zip(places, self._log_loss_batch([examples[place] for place in places]), strict=True):
                found[place] = result
        return found

    def _answer_batch(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: Sampling
    ) -> list[Generated]:
        ids: list[list[int]] = [[] for _ in prompts]
        stopped = [False] * len(prompts)
        for row, token in self._steps(prompts, max_new_tokens, sampling):
            if token in self._ends:
                stopped[row] = True
            else:
                ids[row].append(token)
        return [Generated(*one) for one in zip(ids, stopped, strict=True)]

    def _steps(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, sampling: Sampling
    ) -> Iterator[tuple[int, int]]:
        """Yield (row, token) step by step, the ending tokens included; a row that ended yields no more."""
        limits = [self.room(len(prompt), max_new_tokens) for prompt in prompts]
        choose = _chooser(sampling, self.model.device)
        batch = _Batch(*self._left_padded(prompts), max_new_tokens, self._config)
        for step in range(max(limits, default=0)):
            tokens = choose(self._forward(batch))
            ended = []
            for at, (row, token) in enumerate(zip(batch.rows, tokens.tolist(), strict=True)):
                if row is None:
                    continue
                yield row, token
                if token in self._ends or step + 1 >= limits[row]:
                    ended.append(at)
            if not batch.advance(tokens, ended):
                return

    @torch.inference_mode()
    def _forward(self, batch: _Batch) -> torch.Tensor:
        """Return the float32 logits of the next token, [rows, vocabulary]."""
        settings: dict[str, Any] = {"logits_to_keep": 1} if self._takes_keep else {}
        if self._takes_positions:
            settings["position_ids"] = batch.positions[:, batch.read : batch.end]
        mask = batch.mask[:, : batch.end] if batch.padded else None
        told = self.model(
            input_ids=batch.ids, attention_mask=mask, past_key_values=batch.cache, use_cache=True, **settings
        )
        logits: torch.Tensor = told.logits[:, -1].float()
        return logits

    @torch.inference_mode()
    def _log_loss_batch(self, examples: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, int]]:
        ids, mask = self._left_padded([example[0] for example in examples])
        keep = max(_answer_width(labels) for _, labels in examples)
        targets = torch.full((len(examples), keep), -100, dtype=torch.long)
        for row, (_, labels) in enumerate(examples):
            tail = list(labels[1:][-keep:])
            targets[row, keep - len(tail) :] = torch.tensor(tail, dtype=torch.long)
        settings: dict[str, Any] = {"logits_to_keep": keep + 1} if self._takes_keep else {}
        if self._takes_positions:
            settings["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        full = bool(mask.all())
        told = self.model(input_ids=ids, attention_mask=None if full else mask, use_cache=False, **settings)
        logits = told.logits[:, -keep - 1 : -1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.to(logits.device).flatten(), ignore_index=-100, reduction="none"
        )
        sums = losses.view(targets.shape).double().sum(1).tolist()
        return list(zip(sums, (targets != -100).sum(1).tolist(), strict=True))

    def _left_padded(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(sequence) for sequence in sequences)
        ids = torch.full((len(sequences), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            ids[row, width - len(sequence) :] = torch.tensor(sequence, dtype=torch.long)
            mask[row, width - len(sequence) :] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def _by_size(
        self, order: Sequence[int], examples: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> Iterator[list[int]]:
        """Cut an order of examples, short to long, into batches whose logits fit."""
        batch: list[int] = []
        widest = 0
        for place in order:
            ids, labels = examples[place]
            width = _answer_width(labels) + 1 if self._takes_keep else len(ids)
            cells = (len(batch) + 1) * max(widest, width) * self.vocabulary
            if batch and (len(batch) == self.batch or cells > LOGIT_CELLS):
                yield batch
                batch, widest = [], 0
            batch.append(place)
            widest = max(widest, width)
        if batch:
            yield batch


class _Batch:
    """Prompts being answered together: what the next step reads.

    Attributes:
        rows: which prompt each row answers, None where it has ended. ids: tokens to read next, [rows, new].
        read, end: how many columns were read before this step, and are after it. padded: some prompt is shorter.
    """

    def __init__(self, ids: torch.Tensor, mask: torch.Tensor, max_new_tokens: int, config: Any) -> None:
        from transformers.cache_utils import DynamicCache

        self.ids = ids
        self.padded = not bool(mask.all())
        self.mask = torch.nn.functional.pad(mask, (0, max_new_tokens), value=1)
        self.positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.cache = DynamicCache(config=config)
        self.rows: list[int | None] = list(range(len(ids)))
        self.read, self.end = 0, ids.shape[1]

    def advance(self, tokens: torch.Tensor, ended: Sequence[int]) -> bool:
        """Take the chosen tokens, [rows], and let rows go that ended. Returns whether any is left."""
        for at in ended:
            self.rows[at] = None
        going = [at for at, row in enumerate(self.rows) if row is not None]
        self.ids, self.read, self.end = tokens[:, None], self.end, self.end + 1
        if going and len(going) <= 0.75 * len(self.rows):  # letting rows go copies the cache: wait until it pays
            kept = torch.tensor(going, device=tokens.device)
            self.cache.batch_select_indices(kept)
            self.ids, self.mask, self.positions = self.ids[kept], self.mask[kept], self.positions[kept]
            self.rows = [self.rows[at] for at in going]
        return bool(going)


class TextStream:
    """Turns tokens that come one by one into text, holding back what is not a whole character yet."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0  # the tokens before are told; those from here to `_told` give the next ones their context
        self._told = 0

    def add(self, token: int) -> str:
        """Return the text that this token completes; "" while a character is unfinished."""
        self._ids.append(token)
        before = decode(self._tokenizer, self._ids[self._start : self._told])
        now = decode(self._tokenizer, self._ids[self._start :])
        unfinished = now.endswith("�") and len(self._ids) - self._told < LONGEST_CHARACTER
        if unfinished or len(now) <= len(before):
            return ""
        self._start, self._told = self._told, len(self._ids)
        return now[len(before) :]

    def rest(self) -> str:
        """Return what was held back, at the end of the answer."""
        before = decode(self._tokenizer, self._ids[self._start : self._told])
        return decode(self._tokenizer, self._ids[self._start :])[len(before) :]


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of an answer's tokens, without special tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def context_of(config: Any) -> int | None:
    """Return how many tokens a model can hold, None where its configuration sets no limit (ALiBi)."""
    if getattr(config, "alibi", False):
        return None
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(limit) if limit else None


def _answer_width(labels: Sequence[int]) -> int:
    """Return how many places from the end the first label is."""
    first = next(place for place, label in enumerate(labels) if place and label >= 0)
    return len(labels) - first


def _chooser(sampling: Sampling, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from logits, [rows, vocabulary], to the next tokens, [rows]."""
    if sampling.temperature == 0:
        return lambda logits: logits.argmax(-1)
    generator = torch.Generator("cpu").manual_seed(sampling.seed)

    def choose(logits: torch.Tensor) -> torch.Tensor:
        probabilities = torch.softmax(logits.cpu() / sampling.temperature, dim=-1)
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # what the likelier tokens hold: the first one always stays
        ordered = ordered.masked_fill(before >= sampling.top_p, 0.0)
        drawn = torch.multinomial(ordered, 1, generator=generator)
        return tokens.gather(-1, drawn).squeeze(-1).to(device)

    return choose
