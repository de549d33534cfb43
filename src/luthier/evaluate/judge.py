"""A judge's opinion of base and tuned answers: a larger model compares each pair blind, in both orders.

It is kept apart from the metrics: a judge has its own taste, and favours places and lengths. So each pair is put twice,
with the answers exchanged (Zheng et al., 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena"): an answer is
preferred only where it is in both orders, and how often the judge contradicts itself is told beside its verdict.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from luthier.evaluate.compare import compare
from luthier.evaluate.measured import Measured
from luthier.evaluate.sentences import plural
from luthier.run.embedded import objects
from luthier.run.progress import Progress

if TYPE_CHECKING:
    from luthier.models.remote.client import Teacher

LONGEST = 8000  # characters of a text that the judge is shown
HIGHEST = 10
PREFERENCE = "preference"
FIRST, SECOND, TIE = "first", "second", "tie"
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Opinion:
    """One answer of the judge: scores of both answers by criterion, and which is preferred."""

    first: dict[str, int]
    second: dict[str, int]
    preferred: str


@dataclass(frozen=True)
class Judged:
    """What the judge said: `summary` for judge.json, and a line for each pair and order."""

    summary: dict[str, Any]
    lines: list[dict[str, Any]]


def judge(
    base: Sequence[Line],
    tuned: Sequence[Line],
    teacher: Teacher,
    criteria: Mapping[str, str],
    seed: int,
    rows: int | None = None,
    progress: Progress | None = None,
) -> Judged:
    """Put every pair of answers to the judge, twice, and compare base and tuned by what it says.

    Args:
        base, tuned: lines of answers-base.jsonl and answers-tuned.jsonl, in one order.
        teacher: who judges; its answers are kept, and its cap holds.
        criteria: name → what an answer that earns 10 does.
        seed: of the choice of rows and of resampling. rows: how many pairs to judge; None: all.
        progress: where to tell.

    Returns:
        The summary has `verdict` and `sentence` (None and a reason where nothing was usable), `metrics` as in
        comparison.json (preference 1, ½ or 0 a pair; each criterion 0 to 10, the mean of both orders), `position`
        (how often the first or second place was preferred, `bias` = (first − second) / answers, from −1 to 1, and the
        two-sided p of the sign test), `agreement` (share of pairs with the same preference in both orders),
        `score_shift` (mean absolute change of a criterion's score between the orders), `pairs` and `answers`, each
        counted, with what could not be used.

    Raises:
        UserError: the judge cannot be asked, or the cap is reached; what was answered is kept.
    """
    pairs = _drawn(list(zip(base, tuned, strict=True)), rows, seed)
    names = tuple(criteria)
    replies = teacher.ask(
        [_question(pair, exchanged, criteria) for pair in pairs for exchanged in (False, True)],
        lambda text: _wrong(text, names),
        progress,
        "judge",
    )
    opinions = [None if reply.text is None else parse(reply.text, names) for reply in replies]
    both = list(zip(pairs, opinions[::2], opinions[1::2], strict=True))
    failures = Counter(reply.failed for reply in replies if reply.text is None)
    usable = [(pair[0], one, other) for pair, one, other in both if one is not None and other is not None]
    summary = {
        **_verdict(usable, names, seed),
        "model": teacher.settings.model,
        "criteria": dict(criteria),
        "pairs": {"judged": len(usable), "put": len(pairs), "answered by both": _answered(base, tuned)},
        "answers": {"usable": len(opinions) - sum(failures.values()), "unusable": dict(failures.most_common())},
        "position": _position([one for one in opinions if one is not None]),
        "agreement": _share([one.preferred == _exchanged(other) for _, one, other in usable]),
        "score_shift": {name: _shift(usable, name) for name in names},
    }
    return Judged(summary, [line for pair in both for line in _lines(*pair)])


def parse(text: str, criteria: Sequence[str]) -> Opinion:
    """Return what an answer of the judge says; text around the JSON is passed over.

    Raises:
        ValueError: it holds no JSON with a whole number from 0 to 10 for each criterion of both, and a preference.
    """
    wrong = "it holds no JSON"
    for found in objects(text):
        try:
            return _opinion(found, criteria)
        except TypeError as error:
            wrong = str(error)
    raise ValueError(wrong)


def _opinion(found: Any, criteria: Sequence[str]) -> Opinion:
    if set(found) != {FIRST, SECOND, "preferred"}:
        raise TypeError("it has other keys than first, second and preferred")
    for who in (FIRST, SECOND):
        if not isinstance(found[who], dict) or set(found[who]) != set(criteria):
            raise TypeError(f"{who} has other keys than the criteria")
        for score in found[who].values():
            if not isinstance(score, int) or isinstance(score, bool) or not 0 <= score <= HIGHEST:
                raise TypeError("a score is no whole number from 0 to 10")
    if found["preferred"] not in (FIRST, SECOND, TIE):
        raise TypeError("preferred is none of first, second and tie")
    return Opinion(found[FIRST], found[SECOND], found["preferred"])


def _wrong(text: str, criteria: Sequence[str]) -> str | None:
    try:
        parse(text, criteria)
    except ValueError as error:
        return str(error)
    return None


def _drawn(pairs: list[tuple[Line, Line]], rows: int | None, seed: int) -> list[tuple[Line, Line]]:
    """Return the pairs to judge, in the order of the test split: those that both answered, or so many of them."""
    whole = [pair for pair in pairs if all(isinstance(line.get("answer"), str) for line in pair)]
    if rows is None or rows >= len(whole):
        return whole
    return [whole[place] for place in sorted(random.Random(seed).sample(range(len(whole)), rows))]


def _answered(base: Sequence[Line], tuned: Sequence[Line]) -> int:
    return len(_drawn(list(zip(base, tuned, strict=True)), None, 0))


def _question(pair: tuple[Line, Line], exchanged: bool, criteria: Mapping[str, str]) -> Any:
    from luthier.models.remote.client import Question

    first, second = (str(line["answer"]) for line in (reversed(pair) if exchanged else pair))
    texts = {"question": pair[0]["question"], "reference": pair[0]["reference"], "first": first, "second": second}
    filled = {name: json.dumps(str(text)[:LONGEST], ensure_ascii=False) for name, text in texts.items()}
    filled["criteria"] = "\n".join(f"- {name}: {meaning}" for name, meaning in criteria.items())
    template = files("luthier.evaluate").joinpath("judge.txt").read_text(encoding="utf-8")
    prompt = re.sub(r"\{(\w+)\}", lambda match: filled.get(match[1], match[0]), template)  # once: answers hold braces
    message = {"role": "user", "content": prompt.encode("utf-8", "replace").decode()}
    return Question((message,), _schema(tuple(criteria)))


def _schema(criteria: Sequence[str]) -> dict[str, Any]:
    def whole(properties: Mapping[str, Any]) -> dict[str, Any]:
        fixed = {"required": list(properties), "additionalProperties": False}
        return {"type": "object", "properties": dict(properties), **fixed}

    scores = whole({name: {"type": "integer", "enum": list(range(HIGHEST + 1))} for name in criteria})
    return whole({FIRST: scores, SECOND: scores, "preferred": {"type": "string", "enum": [FIRST, SECOND, TIE]}})


def _verdict(usable: Sequence[tuple[Line, Opinion, Opinion]], names: Sequence[str], seed: int) -> dict[str, Any]:
    """Return verdict, sentence and metrics. `one` had base first, `other` tuned first."""
    if not usable:
        return {"verdict": None, "sentence": "The judge gave no usable answer to any pair.", "metrics": {}}
    groups = [line["group"] for line, _, _ in usable]
    outcomes = [_outcome(one, other) for _, one, other in usable]
    measured = {PREFERENCE: Measured("Preference", [1 - won for won in outcomes], outcomes, groups)}
    for name in names:
        before = [(one.first[name] + other.second[name]) / 2 for _, one, other in usable]
        after = [(one.second[name] + other.first[name]) / 2 for _, one, other in usable]
        measured[f"criterion: {name}"] = Measured(name, before, after, groups)
    compared = compare(measured, PREFERENCE, seed)
    told = f"In the opinion of the judge, over {plural(len(usable), 'pair')}: {compared['sentence']}"
    return {"verdict": compared["verdict"], "sentence": told, "metrics": compared["metrics"]}


def _outcome(one: Opinion, other: Opinion) -> float:
    """Return 1 where tuned is preferred in both orders, 0 where base is, else ½."""
    if (one.preferred, other.preferred) == (SECOND, FIRST):
        return 1.0
    return 0.0 if (one.preferred, other.preferred) == (FIRST, SECOND) else 0.5


def _exchanged(other: Opinion) -> str:
    return {FIRST: SECOND, SECOND: FIRST}.get(other.preferred, TIE)


def _position(opinions: Sequence[Opinion]) -> dict[str, Any]:
    from scipy.stats import binomtest

    counted = Counter(one.preferred for one in opinions)
    first, second = counted[FIRST], counted[SECOND]
    told = {name: counted[name] for name in (FIRST, SECOND, TIE)}
    if not opinions:
        return {**told, "bias": None, "p": None}
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return {**told, "bias": (first - second) / len(opinions), "p": p}


def _share(found: Sequence[bool]) -> float | None:
    return sum(found) / len(found) if found else None


def _shift(usable: Sequence[tuple[Line, Opinion, Opinion]], name: str) -> float | None:
    """Return by how much the order of the answers changes a score, on average."""
    changes = [
        abs(left[name] - right[name])
        for _, one, other in usable
        for left, right in ((one.first, other.second), (one.second, other.first))
    ]
    return sum(changes) / len(changes) if changes else None


def _lines(pair: tuple[Line, Line], one: Opinion | None, other: Opinion | None) -> list[dict[str, Any]]:
    lines = []
    for first, second, said in (("base", "tuned", one), ("tuned", "base", other)):
        line: dict[str, Any] = {"id": pair[0]["id"], FIRST: first, "usable": said is not None}
        if said is not None:
            preferred = {FIRST: first, SECOND: second}.get(said.preferred, TIE)
            line |= {"preferred": preferred, "scores": {first: said.first, second: said.second}}
        lines.append(line)
    return lines
