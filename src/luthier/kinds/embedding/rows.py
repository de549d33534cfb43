"""From rows to the texts an embedding model learns from, and which of them belong together.

An example is a text (the anchor) with the texts that come with it: a positive and negatives, or a second text and a
score. A title has no partner of its own: it has a family, and a partner is drawn from it for each epoch.

Every text knows its families: the label of a title, the anchor of a pair. A text that stands in two families, or is a
near-duplicate of one that does, belongs to both. What shares a family is never taken for a negative.

Of every twenty titles one is held back from training, where its family keeps two others: the known-family figure of the
evaluation is measured on these. Which ones is a function of the titles alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from luthier.data.near import clusters, near_pairs
from luthier.data.rows import Row
from luthier.errors import GateError, UserError
from luthier.kinds.base import Encoded, MaskProof, ShownRow
from luthier.models.vectors import tokenise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "Encoded",
    "Example",
    "MaskProof",
    "Prompt",
    "ShownRow",
    "Text",
    "encode",
    "end_ids",
    "held_back",
    "prompts",
    "prove_mask",
    "text_lengths",
    "trained_on",
]

FORMS = ("title", "pair", "triplet")
NEAR = 0.85  # Jaccard similarity of words from which two texts are one, as for data.near_duplicates
HELD_BACK = 20  # one title in so many
HELD_BACK_MOST = 1000
SHOWN_ROWS = 3
FAMILIES_OF_A_TEXT = 16  # more would be a text that stands everywhere, such as "n/a"


@dataclass(frozen=True, slots=True)
class Text:
    """One text: its tokens, the number of its cluster of near-duplicates, and its families."""

    input_ids: list[int]
    near: int
    families: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One row for training.

    Attributes:
        id: of the row. texts: anchor, positive, negatives…; of a title the anchor alone. form: of the row.
        family: number of the title's family, from which a partner is drawn; -1 where the partner is there.
        score: of a pair, from 0 to 1; None where it has none.
    """

    id: str
    form: str
    texts: tuple[Text, ...]
    family: int = -1
    score: float | None = None

    @property
    def input_ids(self) -> list[int]:
        """Tokens of the anchor."""
        return self.texts[0].input_ids


@dataclass(frozen=True, slots=True)
class Prompt:
    """A text to make a vector of, as tokens. `reference`: what it belongs to."""

    id: str
    input_ids: list[int]
    reference: str


def texts_of(row: Row) -> list[str]:
    """Return the texts of a row: the title alone, or anchor, positive, negatives."""
    return [str(row.content["title"])] if row.form == "title" else [str(text) for text in row.content["texts"]]


def encode(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Encode rows for training or for measuring the loss.

    Dropped, with a reason, are titles that are the only one of their family, and rows whose texts are the same to the
    tokenizer: there is nothing to learn from them.

    Args:
        rows: of the forms title, pair and triplet, not mixed. tokenizer: of the base.
        max_length: tokens of a text at most; the base may read fewer.

    Raises:
        UserError: rows of another form or of several.
    """
    form = _form(rows)
    limit = min(max_length, tokenizer.model_max_length)
    words = [texts_of(row) for row in rows]
    texts, lengths = _texts(rows, words, tokenizer, limit)
    drafts = [
        Example(row.id, row.form, tuple(own), _family(row), _score(row)) for row, own in zip(rows, texts, strict=True)
    ]
    reasons = _reasons(drafts)
    examples = [draft for draft in drafts if draft.id not in reasons]
    truncated = [row.id for row, counts in zip(rows, lengths, strict=True) if max(counts) > limit]
    notes: list[str] = []
    if form == "title":
        examples = _with_partners(examples, reasons)
        notes = _shared(rows)
    if form == "pair":
        examples, notes = _scaled(examples)
    kept = {example.id for example in examples}
    return Encoded(
        examples,
        [name for name in truncated if name in kept],
        [(row.id, reasons[row.id]) for row in rows if row.id in reasons],
        [sum(counts) for row, counts in zip(rows, lengths, strict=True) if row.id in kept],
        notes,
    )


def trained_on(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows of the training side that are trained on, and what to say of the others (see `held_back`)."""
    away = set(held_back(rows))
    told = [f"{len(away)} titles are held back from training, to measure search in known families on"] if away else []
    return [row for row in rows if row.id not in away], told


def prompts(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[Prompt]:
    """Return the first text of each row, as tokens, with what it belongs to."""
    _form(rows)
    ids = tokenise(tokenizer, [texts_of(row)[0] for row in rows], tokenizer.model_max_length)
    told = [str(row.content["label"]) if row.form == "title" else texts_of(row)[1] for row in rows]
    return [Prompt(row.id, tokens, reference) for row, tokens, reference in zip(rows, ids, told, strict=True)]


def text_lengths(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens of all texts of each row, before truncation."""
    _form(rows)
    words = [texts_of(row) for row in rows]
    counts = iter(tokenise(tokenizer, [text for own in words for text in own], None))
    return [sum(len(next(counts)) for _ in own) for own in words]


def end_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:  # noqa: ARG001  (the protocol's)
    """Return no tokens: a vector has no end."""
    return []


def prove_mask(rows: Sequence[Row], encoded: Encoded, tokenizer: PreTrainedTokenizerBase) -> MaskProof:
    """Prove that every text of an example says something to the model, and that what is paired differs.

    Every token of a text is read, so there is no mask to prove; what goes wrong here are texts of which the tokenizer
    knows nothing (another script, emoji alone): they all get one vector.

    Raises:
        UserError: no row is left to train on, or titles of one family alone.
        GateError: more than half of the examples have a text of unknown tokens alone.
    """
    _check_enough(rows, encoded)
    special = set(tokenizer.all_special_ids)
    by_id = {row.id: row for row in rows}
    mute = [
        example.id for example in encoded.examples if any(not (set(text.input_ids) - special) for text in example.texts)
    ]
    if encoded.examples and 2 * len(mute) > len(encoded.examples):
        raise GateError(
            f"The base's tokenizer knows no word of {len(mute)} of {len(encoded.examples)} rows: their vectors are all "
            "the same.",
            by_id[mute[0]].place,
            "Choose a base for the language of your texts, such as paraphrase-multilingual-MiniLM-L12-v2.",
        )
    problems = [f"{by_id[name].place}: cut at the length limit" for name in encoded.truncated]
    problems += [f"{by_id[name].place}: its text is unknown to the tokenizer" for name in mute]
    problems += [f"{by_id[name].place}: left out, {reason}" for name, reason in encoded.dropped if name in by_id]
    tokens = sum(len(text.input_ids) for example in encoded.examples for text in example.texts)
    shown = [_show(by_id[example.id]) for example in encoded.examples[:SHOWN_ROWS]]
    return MaskProof(
        len(encoded.examples), tokens, tokens, shown, len(encoded.truncated), len(encoded.dropped), problems
    )


def held_back(rows: Sequence[Row]) -> list[str]:
    """Return the ids of the titles that training leaves out, so that search in known families can be measured.

    One title in twenty, at most 1,000, with what was made from it; the family keeps two other titles at least. Drawn by
    a digest of the title: the same rows give the same titles, in any order.
    """
    titles = [row for row in rows if row.form == "title"]
    left = Counter(str(row.content["label"]) for row in titles if row.made_from is None)
    made: defaultdict[str, list[str]] = defaultdict(list)
    for row in titles:
        if row.made_from is not None:
            made[row.made_from].append(row.id)
    ordered = sorted((row for row in titles if row.made_from is None), key=lambda row: (_digest(row), row.id))
    wanted = min(HELD_BACK_MOST, len(ordered) // HELD_BACK)
    found: list[str] = []
    texts = Counter(_folded(row) for row in ordered)
    for row in ordered:
        if len(found) == wanted:
            break
        family = str(row.content["label"])
        if left[family] > 2 and texts[_folded(row)] == 1:
            left[family] -= 1
            found.append(row.id)
    return [name for first in found for name in (first, *made[first])]


def _form(rows: Sequence[Row]) -> str:
    forms = dict.fromkeys(row.form for row in rows)
    for row in rows:
        if row.form not in FORMS:
            raise UserError(
                f"The kind embedding cannot train on rows of the form {row.form!r}, only on {', '.join(FORMS)}.",
                row.place,
                "Give pairs, triplets, or titles with their families; or set kind: causal-lm.",
            )
    if len(forms) > 1:
        raise UserError(f"The rows have several forms: {', '.join(forms)}.", "data.source", "Give one at a time.")
    return next(iter(forms), "")


def _texts(
    rows: Sequence[Row], words: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, limit: int
) -> tuple[list[list[Text]], list[list[int]]]:
    """Return the texts of each row, and the tokens of each before truncation."""
    distinct = list(dict.fromkeys(text for own in words for text in own))
    whole = dict(zip(distinct, tokenise(tokenizer, distinct, None), strict=True))
    cut = dict(zip(distinct, tokenise(tokenizer, distinct, limit), strict=True))
    near = near_numbers(distinct)
    families = _families(rows, words, near)
    made = {text: Text(cut[text], near[text], families[near[text]]) for text in distinct}
    return [[made[text] for text in own] for own in words], [[len(whole[text]) for text in own] for own in words]


def near_numbers(distinct: Sequence[str]) -> dict[str, int]:
    """Return for each text the number of its cluster of near-duplicates; texts of the same words are in one."""
    members = clusters(near_pairs(distinct, NEAR))
    return {text: members.get(place, place) for place, text in enumerate(distinct)}


def _families(
    rows: Sequence[Row], words: Sequence[Sequence[str]], near: Mapping[str, int]
) -> dict[int, tuple[int, ...]]:
    """Return the families of each cluster of texts: labels of titles, anchors of pairs and triplets."""
    numbers: dict[Hashable, int] = {}
    found: defaultdict[int, dict[int, None]] = defaultdict(dict)
    for row, own in zip(rows, words, strict=True):
        name: Hashable = str(row.content["label"]) if row.form == "title" else near[own[0]]
        number = numbers.setdefault(name, len(numbers))
        # A negative belongs to no family that is known.
        for text in own[:2] if _score(row) is None else ():
            found[near[text]][number] = None
        for text in own:
            found[near[text]].update({})
    return {cluster: tuple(families)[:FAMILIES_OF_A_TEXT] for cluster, families in found.items()}


def _family(row: Row) -> int:
    if row.form != "title":
        return -1
    return int.from_bytes(hashlib.blake2b(str(row.content["label"]).encode(), digest_size=6).digest(), "big")


def _score(row: Row) -> float | None:
    value = row.content.get("score")
    return None if value is None else float(value)


def _reasons(drafts: Sequence[Example]) -> dict[str, str]:
    """Return why rows of given texts have nothing to learn from."""
    reasons = {}
    for draft in drafts:
        if len(draft.texts) > 1 and draft.score is None and draft.texts[0].input_ids == draft.texts[1].input_ids:
            reasons[draft.id] = "its two texts are the same to the tokenizer"
    return reasons


def _with_partners(examples: Sequence[Example], reasons: dict[str, str]) -> list[Example]:
    """Return the titles whose family has another one; the others get a reason."""
    kinds: defaultdict[int, set[tuple[int, ...]]] = defaultdict(set)
    for example in examples:
        kinds[example.family].add(tuple(example.input_ids))
    kept = []
    for example in examples:
        if len(kinds[example.family]) > 1:
            kept.append(example)
        else:
            reasons[example.id] = "its family has no other title to pair it with"
    return kept


def _check_enough(rows: Sequence[Row], encoded: Encoded) -> None:
    if rows and not encoded.examples:
        raise _nothing_left(rows, dict(encoded.dropped))
    if rows and rows[0].form == "title" and len({example.family for example in encoded.examples}) < 2:
        raise UserError(
            "All titles that can be paired are of one family, so there is nothing to tell them from.",
            rows[0].place,
            "Give titles of several families, each with two titles or more.",
        )


def _shared(rows: Sequence[Row]) -> list[str]:
    """Tell which titles stand in several families."""
    labels: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for row in rows:
        labels[_folded(row)][str(row.content["label"])] = None
    shared = [(title, list(names)) for title, names in labels.items() if len(names) > 1]
    if not shared:
        return []
    title, names = shared[0]
    return [
        f"{len(shared)} titles stand in several families, such as {title!r} in {', '.join(names[:3])}: they are not "
        "trained as negatives of these families"
    ]


def _scaled(examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Return pairs with their scores brought to 0 to 1, and say so."""
    import dataclasses

    scores = [example.score for example in examples if example.score is not None]
    if not scores or (min(scores) >= -1 and max(scores) <= 1):
        return list(examples), []
    low, high = min(0.0, *scores), max(scores)
    scaled = [
        example if example.score is None else dataclasses.replace(example, score=(example.score - low) / (high - low))
        for example in examples
    ]
    return scaled, [f"the scores go from {low:g} to {high:g}; they are trained as 0 to 1"]


def _nothing_left(rows: Sequence[Row], reasons: Mapping[str, str]) -> UserError:
    why, count = Counter(reasons.values()).most_common(1)[0]
    return UserError(
        f"None of the {len(rows)} rows can be trained on: of {count}, {why}.",
        rows[0].place,
        "Give families of two titles or more, or pairs of different texts.",
    )


def _show(row: Row) -> ShownRow:
    texts = texts_of(row)
    if row.form == "title":
        return ShownRow(row.id, row.place, [(texts[0], True), (f"  [{row.content['label']}]", False)])
    pieces: list[tuple[str, bool]] = []
    for text in texts:
        pieces += [("  |  ", False)] if pieces else []
        pieces.append((text, True))
    return ShownRow(row.id, row.place, pieces)


def _digest(row: Row) -> str:
    return hashlib.blake2b(f"{row.content['label']}\0{row.content['title']}".encode(), digest_size=8).hexdigest()


def _folded(row: Row) -> str:
    return " ".join(str(row.content["title"]).casefold().split())
