"""Rows, lines and what answers are held against, for the tests of the diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from luthier.data.rows import Row
from luthier.diagnose.answers import diagnose_answers
from luthier.diagnose.base import Diagnosis, Given
from luthier.diagnose.case import Case, Ground, Known
from luthier.diagnose.meaning import choose
from luthier.diagnose.words import Text
from luthier.run.progress import Silent

SUBJECTS = {
    "trees": (
        ("bagging", "bootstrap samples", "variance", "majority vote"),
        ("boosting", "residuals", "bias", "weighted sum"),
        ("pruning", "validation error", "overfitting", "smaller trees"),
        ("random forest", "feature subsets", "correlation", "averaged votes"),
    ),
    "networks": (
        ("dropout", "random units", "co-adaptation", "scaled activations"),
        ("batch normalization", "running averages", "covariate shift", "affine parameters"),
        ("weight decay", "squared weights", "large weights", "smoother functions"),
        ("residual connections", "identity paths", "vanishing gradients", "deeper stacks"),
    ),
}
REFERENCE = (
    "Bagging trains many trees on bootstrap samples of 500 rows. Averaging their votes lowers the variance by about "
    "30 percent. Bias stays the same. The out-of-bag rows give an error estimate for free."
)
QUESTION = "What does bagging do to a decision tree, and what does it not do?"


def row(name: str, topic: str | None, question: str, answer: str) -> Row:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    labels = {} if topic is None else {"topic": topic}
    return Row(name, "chat", {"messages": turns}, "rows.jsonl", 1, labels=labels)


def rows(count: int = 48, topics: bool = True) -> list[Row]:
    """Return good answers of four sentences on two topics."""
    made = []
    for place in range(count):
        topic = sorted(SUBJECTS)[place % 2]
        name, means, cause, effect = SUBJECTS[topic][place // 2 % 4]
        answer = (
            f"In case {place}, {name} works by {means}, which takes {place + 3} minutes on one core. It lowers {cause} "
            f"because the {effect} depend less on single rows. The price is a longer training run. "
            f"I check it on held-out data with {place % 7 + 5} seeds."
        )
        made.append(row(f"r{place}", topic if topics else None, f"How does {name} help in case {place}?", answer))
    return made


def line(answer: Any, name: str = "a", **other: Any) -> dict[str, Any]:
    """Return a line of answers-*.jsonl."""
    return {
        "id": name,
        "group": None,
        "question": QUESTION,
        "reference": REFERENCE,
        "answer": answer,
        "tokens": 50,
        "stopped": True,
        "nll": 1.0,
        "reference_tokens": 50,
        "labels": {"topic": "trees"},
        "error": "",
    } | other


def diagnose(
    answers: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]] | None = None, **given: Any
) -> Diagnosis:
    """Diagnose lines of a tuned model, and of a base where given, by words alone."""
    sides = {"base": list(base if base is not None else answers), "tuned": list(answers)}
    material = {"scores": [], "train": rows(), "validation": rows(30)} | given
    return diagnose_answers(Given(sides, **material), Silent(), "tfidf")


def found(answer: Any, **other: Any) -> set[str]:
    """Return the sub-categories that are found in one answer."""
    return {one["subcategory"] for one in diagnose([line(answer, **other)]).findings if one["side"] == "tuned"}


def ground(count: int = 48) -> Ground:
    known = [
        Known(Text(f"Q {place}"), Text(one.content["messages"][1]["content"]), str(one.labels["topic"]))
        for place, one in enumerate(rows(count))
    ]
    return Ground(known, choose([one.answer for one in known], "tfidf"))


def case(answer: str, question: str = QUESTION, reference: str = REFERENCE, **other: Any) -> Case:
    return Case(Text(question), Text(reference), Text(answer), **({"topic": "trees"} | other))
