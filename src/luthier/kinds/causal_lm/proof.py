"""Mask proof: what is trained is exactly what the assistant says, and the token that ends its turn.

The proof reads the labels alone, turns them back into text and holds them against the rows; it does not repeat the
arithmetic that made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from luthier.data.rows import Row
from luthier.errors import GateError
from luthier.kinds.base import Encoded, MaskProof, ShownRow
from luthier.kinds.causal_lm.template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from luthier.kinds.causal_lm.rows import Example

SHOWN_ROWS = 3
SHOWN_PLACES = 5


def prove_mask(rows: Sequence[Row], encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> MaskProof:
    """Prove the mask of every row.

    For each turn of the assistant there is one run of trained tokens; decoded, it is the assistant's words and what
    ends the turn (white space apart, which tokenizers add and take at the edges), and its last token is the
    end-of-turn token. A truncated row has the beginning of that. In a text row every token is trained.

    Args:
        rows: the rows that were encoded. encoded: what `encode` returned for them. tokenizer: the one it used.

    Raises:
        GateError: a row has nothing trained, everything trained, other tokens trained than the assistant's, or a
            masked end-of-turn token, each named by its place; or every row is truncated.
    """
    by_id = {row.id: row for row in rows}
    cut = set(encoded.truncated)
    prover = _Prover(tokenizer)
    wrong = []
    for example in encoded.examples:
        row = by_id[example.id]
        fault = prover.fault(row, example, row.id in cut)
        if fault:
            wrong.append((row.place, fault))
    if wrong:
        raise _wrong_mask(wrong, len(encoded.examples))
    if encoded.examples and len(cut) == len(encoded.examples):
        raise _all_truncated(encoded)
    problems = [
        f"{by_id[name].place}: cut at the length limit, so its end is not trained" for name in encoded.truncated
    ]
    problems += [f"{by_id[name].place}: left out, {reason}" for name, reason in encoded.dropped]
    return MaskProof(
        rows=len(encoded.examples),
        trained_tokens=sum(label >= 0 for example in encoded.examples for label in example.labels),
        total_tokens=sum(len(example.input_ids) for example in encoded.examples),
        shown=[_show(by_id[example.id], example, tokenizer) for example in encoded.examples[:SHOWN_ROWS]],
        truncated=len(encoded.truncated),
        dropped=len(encoded.dropped),
        problems=problems,
    )


class _Prover:
    """Holds what is the same for every row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.template: Template | None = None

    def fault(self, row: Row, example: Example, truncated: bool) -> str | None:
        """Return what is wrong with the mask of a row; None when nothing is."""
        runs = _runs(example)
        if not any(trained for trained, _ in runs):
            return "nothing is trained"
        if any(label not in (-100, token) for token, label in zip(example.input_ids, example.labels, strict=True)):
            return "a label is not the token at its place"
        if row.form == "text":
            return self._text_fault(runs, truncated)
        if all(trained for trained, _ in runs):
            return "everything is trained, the question too"
        return self._chat_fault(row, [ids for trained, ids in runs if trained], truncated)

    def _text_fault(self, runs: list[tuple[bool, list[int]]], truncated: bool) -> str | None:
        if len(runs) > 1:
            return "a token of the text is masked"
        if runs[0][1][-1] != self.tokenizer.eos_token_id and not truncated:
            return "the end-of-text token is not trained"
        return None

    def _chat_fault(self, row: Row, runs: list[list[int]], truncated: bool) -> str | None:
        template = self.template = self.template or Template(self.tokenizer)
        answers = _answers(row)
        if len(runs) > len(answers) or (len(runs) < len(answers) and not truncated):
            return f"{len(answers)} answers, but {len(runs)} runs of trained tokens"
        for number, (ids, words) in enumerate(zip(runs, answers, strict=False)):
            partial = truncated and number == len(runs) - 1
            if ids[-1] != template.end_id and not partial:
                return "the end-of-turn token is masked"
            if not self._says(ids, words + template.ending, partial):
                return "the trained tokens are not the assistant's words"
        return None

    def _says(self, ids: list[int], words: str, partial: bool) -> bool:
        """Tell whether tokens, decoded, are the words; for a tokenizer that changes text, as it changes these words."""
        said, meant = _squeeze(self._decode(ids)), _squeeze(words)
        if partial:
            said = said.rstrip("\ufffd")  # cut inside a character
        if said == meant or (partial and meant.startswith(said)):
            return True
        again: Any = self.tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"]
        changed = _squeeze(self._decode(again))
        return said == changed or (partial and changed.startswith(said))

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _runs(example: Example) -> list[tuple[bool, list[int]]]:
    """Return the tokens in runs of trained and masked ones."""
    pairs = zip(example.input_ids, example.labels, strict=True)
    return [(trained, [token for token, _ in run]) for trained, run in groupby(pairs, lambda pair: pair[1] != -100)]


def _answers(row: Row) -> list[str]:
    if row.form == "preference":
        return [str(row.content["chosen"])]
    return [message["content"] for message in row.content["messages"] if message["role"] == "assistant"]


def _show(row: Row, example: Example, tokenizer: PreTrainedTokenizerBase) -> ShownRow:
    pieces = [
        (str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)), trained)
        for trained, ids in _runs(example)
    ]
    return ShownRow(row.id, row.place, pieces)


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _wrong_mask(wrong: list[tuple[str, str]], rows: int) -> GateError:
    faults = list(dict.fromkeys(fault for _, fault in wrong))
    places = [f"{place} ({fault})" for place, fault in wrong[:SHOWN_PLACES]]
    more = f" and {len(wrong) - SHOWN_PLACES} more" if len(wrong) > SHOWN_PLACES else ""
    return GateError(
        f"The mask proof failed for {len(wrong)} of {rows} rows: {'; '.join(faults)}.",
        ", ".join(places) + more,
        "Training on this would teach the model something else than its answers. Look at these rows; if they are in "
        "order, the base's tokenizer or chat template is not: choose another base.",
    )


def _all_truncated(encoded: Encoded) -> GateError:
    longest = max(encoded.lengths, default=0)
    middle = sorted(encoded.lengths)[len(encoded.lengths) // 2] if encoded.lengths else 0
    return GateError(
        "Every row is cut at data.max_length, so no row keeps the token that ends an answer: the model would not learn "
        "to stop.",
        "data.max_length",
        f"Raise data.max_length: half of the rows have more than {middle - 1} tokens, the longest has {longest}.",
    )
