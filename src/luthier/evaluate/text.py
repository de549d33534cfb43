"""Scores of answers against references, item by item and over all. Libraries do the counting.

| metric | counted by | scale |
| --- | --- | --- |
| rouge1, rouge2, rougeL, rougeLsum | rouge-score, F1 (precision and recall kept beside it) | 0–1 |
| bleu | sacrebleu: corpus BLEU; per item sentence BLEU (effective order), which only serves the pairing | 0–100 |
| chrf | sacrebleu | 0–100 |
| meteor | nltk, exact and stem stages only: WordNet is not needed and never fetched | 0–1 |
| exact_match, token_f1 | as in SQuAD: case, punctuation and English articles do not count | 0–1 |
| key_points | share of the row's key points that the answer has, word stems in order | 0–1 |
| semantic | cosine of answer and reference by all-MiniLM-L6-v2, see `evaluate.semantic` | -1–1 |
| perplexity | of the reference answer; per item the mean −log p of its tokens, over all its exponential | nats; ≥ 1 |
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from luthier.errors import UserError, did_you_mean
from luthier.evaluate.words import Script, Tokenizer, sentences, stem, words

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ARTICLES = frozenset({"a", "an", "the"})
SACREBLEU_TOKENIZER: dict[Script, str] = {"latin": "13a", "unicode": "intl", "spaceless": "char"}


@dataclass(frozen=True)
class Item:
    """One answered item, as far as scoring needs it.

    Attributes:
        answer: what the model said; None where the item asks nothing (plain text), which leaves perplexity alone.
        reference: what it should have said.
        nll: sum of −log p over the reference's tokens, in nats. reference_tokens: how many these are; 0: not measured.
        key_points: phrases that a good answer has. Empty: the item declares none.
    """

    answer: str | None
    reference: str
    nll: float | None = None
    reference_tokens: int = 0
    key_points: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """The value of one metric on one item, with what explains it: precision and recall, or the key points found."""

    value: float
    details: dict[str, Any] = field(default_factory=dict)


PerItem = Callable[[Item, Script], Score | None]
OverAll = Callable[[Sequence[Item], Script], dict[str, Any]]
Together = Callable[[Sequence[Item]], "list[Score | None]"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        title: its name for people. per_item: its score of one item, None where it has no value there.
        over_all: its value over a whole test set, where that is more than the mean of the items.
        logarithmic: the per-item values are logarithms of what people read.
        item_title: name of what is scored per item, where that is not the title.
        together: scores all items at once, in place of `per_item`, where one by one would be slow.
    """

    title: str
    per_item: PerItem
    over_all: OverAll | None = None
    logarithmic: bool = False
    item_title: str = ""
    together: Together | None = None


def metric_named(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        UserError: there is none.
    """
    if name not in METRICS:
        raise UserError(
            f"No metric {name!r}.",
            "evaluation.metrics",
            did_you_mean(name, METRICS, f"The metrics are {', '.join(METRICS)}."),
        )
    return METRICS[name]


def key_points(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the key points that a row declares: a list, or one text with ; or line breaks between them."""
    declared = labels.get("key_points")
    if isinstance(declared, str):
        declared = declared.replace("\n", ";").split(";")
    points = declared if isinstance(declared, list | tuple) else []
    return tuple(str(point).strip() for point in points if point is not None and str(point).strip())


def score_items(items: Sequence[Item], name: str, script: Script) -> list[Score | None]:
    """Return the score of each item on one metric; None where the metric has no value for an item."""
    metric = metric_named(name)
    if metric.together is not None:
        return metric.together(items)
    return [metric.per_item(item, script) for item in items]


def score_corpus(
    items: Sequence[Item], name: str, script: Script, scored: Sequence[Score | None] | None = None
) -> dict[str, Any]:
    """Return the value of one metric over all items, with its parts.

    Args:
        scored: what `score_items` returned for these items; None: they are scored here.

    Returns:
        `title`, `value` (None where no item has one), `items` (how many have one), and what the metric adds: precision
        and recall, n-gram precisions, brevity penalty, signature.
    """
    metric = metric_named(name)
    each = score_items(items, name, script) if scored is None else scored
    scores = [score for score in each if score is not None]
    told: dict[str, Any] = {"title": metric.title, "value": None, "items": len(scores)}
    if not scores:
        return told
    if metric.over_all is not None:
        return told | metric.over_all(items, script)
    told["value"] = _mean([score.value for score in scores])
    for part in ("precision", "recall"):
        if part in scores[0].details:
            told[part] = _mean([score.details[part] for score in scores])
    return told


def _rouge(name: str) -> PerItem:
    def per_item(item: Item, script: Script) -> Score | None:
        if item.answer is None:
            return None
        counted = _rouge_scores(item.answer, item.reference, script)[name]
        return Score(counted[2], {"precision": counted[0], "recall": counted[1]})

    return per_item


def _rouge_scores(answer: str, reference: str, script: Script) -> dict[str, tuple[float, float, float]]:
    """Return (precision, recall, F1) by ROUGE type; the last pair is kept, as its four types are asked in turn."""
    key = (answer, reference, script)
    if key not in _last_rouge:
        _last_rouge.clear()
        split_answer, split_reference = "\n".join(sentences(answer)), "\n".join(sentences(reference))
        counted = _rouge_scorer(script).score(split_reference, split_answer)
        _last_rouge[key] = {
            name: (float(one.precision), float(one.recall), float(one.fmeasure)) for name, one in counted.items()
        }
    return _last_rouge[key]


_last_rouge: dict[tuple[str, str, Script], dict[str, tuple[float, float, float]]] = {}


@cache
def _rouge_scorer(script: Script) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGE), tokenizer=Tokenizer(script))


def sacrebleu_metric(name: str, script: Script) -> Any:
    """Return sacrebleu's metric behind "bleu" or "chrf", as it scores a whole test set."""
    return _bleu(script, per_sentence=False) if name == "bleu" else _chrf()


@cache
def _bleu(script: Script, per_sentence: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=SACREBLEU_TOKENIZER[script], effective_order=per_sentence)


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def _bleu_item(item: Item, script: Script) -> Score | None:
    if item.answer is None:
        return None
    counted = _bleu(script, per_sentence=True).sentence_score(item.answer, [item.reference])
    return Score(float(counted.score), {"precisions": list(counted.precisions), "brevity_penalty": counted.bp})


def _bleu_corpus(items: Sequence[Item], script: Script) -> dict[str, Any]:
    answers, references = _pairs(items)
    metric = _bleu(script, per_sentence=False)
    counted = metric.corpus_score(answers, [references])
    return {
        "value": float(counted.score),
        "precisions": [float(precision) for precision in counted.precisions],
        "brevity_penalty": float(counted.bp),
        "answer_tokens": int(counted.sys_len),
        "reference_tokens": int(counted.ref_len),
        "signature": str(metric.get_signature()),
    }


def _chrf_item(item: Item, _: Script) -> Score | None:
    if item.answer is None:
        return None
    return Score(float(_chrf().sentence_score(item.answer, [item.reference]).score))


def _chrf_corpus(items: Sequence[Item], _: Script) -> dict[str, Any]:
    answers, references = _pairs(items)
    value = float(_chrf().corpus_score(answers, [references]).score)
    return {"value": value, "signature": str(_chrf().get_signature())}


class _NoWordNet:
    """Stands for WordNet where METEOR asks for synonyms: there are none."""

    def synsets(self, word: str) -> list[Any]:
        return []


def _meteor_item(item: Item, script: Script) -> Score | None:
    from nltk.translate.meteor_score import single_meteor_score

    if item.answer is None:
        return None
    reference, answer = _treebank(item.reference, script), _treebank(item.answer, script)
    return Score(float(single_meteor_score(reference, answer, wordnet=_NoWordNet())))


def _treebank(text: str, script: Script) -> list[str]:
    from nltk.tokenize import NLTKWordTokenizer

    return list(NLTKWordTokenizer().tokenize(text)) if script == "latin" else words(text)


def _squad_words(text: str, script: Script) -> list[str]:
    """Normalise as the SQuAD 2.0 script does: lower case, no punctuation, no articles; split at spaces."""
    if script != "latin":
        return words(text)
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return [word for word in bare.split() if word not in ARTICLES]


_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _exact_match(item: Item, script: Script) -> Score | None:
    if item.answer is None:
        return None
    return Score(float(_squad_words(item.answer, script) == _squad_words(item.reference, script)))


def _token_f1(item: Item, script: Script) -> Score | None:
    if item.answer is None:
        return None
    said, meant = _squad_words(item.answer, script), _squad_words(item.reference, script)
    if not said or not meant:
        same = float(said == meant)
        return Score(same, {"precision": same, "recall": same})
    common = sum((Counter(said) & Counter(meant)).values())
    precision, recall = common / len(said), common / len(meant)
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return Score(f1, {"precision": precision, "recall": recall})


def _key_points(item: Item, _: Script) -> Score | None:
    if item.answer is None or not item.key_points:
        return None
    said = [stem(word) for word in words(item.answer)]
    found = [point for point in item.key_points if _contains(said, [stem(word) for word in words(point)])]
    missing = [point for point in item.key_points if point not in found]
    return Score(len(found) / len(item.key_points), {"found": found, "missing": missing})


def _contains(said: Sequence[str], phrase: Sequence[str]) -> bool:
    """Tell whether the words of `phrase` stand in `said` one after another. A phrase of no words is nowhere."""
    width = len(phrase)
    return width > 0 and any(said[at : at + width] == phrase for at in range(len(said) - width + 1))


def _perplexity_item(item: Item, _: Script) -> Score | None:
    if item.nll is None or item.reference_tokens == 0:
        return None
    mean = item.nll / item.reference_tokens
    return Score(mean, {"perplexity": _exp(mean), "tokens": item.reference_tokens})


def _perplexity_corpus(items: Sequence[Item], _: Script) -> dict[str, Any]:
    measured = [item for item in items if item.nll is not None and item.reference_tokens]
    tokens = sum(item.reference_tokens for item in measured)
    nll = math.fsum(item.nll for item in measured if item.nll is not None)
    return {"value": _exp(nll / tokens), "nll_per_token": nll / tokens, "tokens": tokens}


def _pairs(items: Sequence[Item]) -> tuple[list[str], list[str]]:
    answered = [(item.answer, item.reference) for item in items if item.answer is not None]
    return [answer for answer, _ in answered], [reference for _, reference in answered]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))  # e^709 is the largest number a double holds


def _semantic_item(item: Item, _script: Script) -> Score | None:
    return _semantic([item])[0]


def _semantic(items: Sequence[Item]) -> list[Score | None]:
    from luthier.evaluate.semantic import similarities

    found: list[Score | None] = [None] * len(items)
    places = [place for place, item in enumerate(items) if item.answer is not None]
    values = similarities([items[place].answer or "" for place in places], [items[place].reference for place in places])
    for place, value in zip(places, values, strict=True):
        found[place] = Score(value)
    return found


METRICS: dict[str, Metric] = {
    "rouge1": Metric("ROUGE-1", _rouge("rouge1")),
    "rouge2": Metric("ROUGE-2", _rouge("rouge2")),
    "rougeL": Metric("ROUGE-L", _rouge("rougeL")),
    "rougeLsum": Metric("ROUGE-Lsum", _rouge("rougeLsum")),
    "bleu": Metric("BLEU", _bleu_item, _bleu_corpus, item_title="Sentence BLEU"),
    "chrf": Metric("chrF", _chrf_item, _chrf_corpus),
    "meteor": Metric(f"METEOR (nltk {version('nltk')}, no WordNet)", _meteor_item),
    "exact_match": Metric("Exact match", _exact_match),
    "token_f1": Metric("Token F1", _token_f1),
    "key_points": Metric("Key-point coverage", _key_points),
    "semantic": Metric("Semantic similarity (MiniLM cosine)", _semantic_item, together=_semantic),
    "perplexity": Metric("Perplexity", _perplexity_item, _perplexity_corpus, logarithmic=True),
}
