"""Corpus metrics of thousands of resampled sums, held against sacrebleu's own scores and significance tests."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import Result, _paired_ar_test

from luthier.evaluate import entries as machinery
from luthier.evaluate import resampling
from luthier.evaluate.compare import compare
from luthier.evaluate.corpus import bleu_value, chrf_value, corpus_counts
from luthier.evaluate.measured import Measured
from luthier.evaluate.text import Item, score_items

TEXT = "the model fits noise in training data so that loss on held out data grows again after a while"
WORDS = TEXT.split()
METRICS = {"bleu": BLEU(), "chrf": CHRF()}


def sentences(count: int, keep: float, seed: int) -> list[str]:
    draw, base = random.Random(seed), random.Random(99)
    found = []
    for _ in range(count):
        words = base.choices(WORDS, k=base.randint(3, 14))
        found.append(" ".join(word if draw.random() < keep else draw.choice(WORDS) for word in words))
    return found


REFERENCES = sentences(60, 1.0, 0)
BASE, TUNED = sentences(60, 0.5, 1), sentences(60, 0.62, 2)


def measured(name: str, groups: list[int] | None = None) -> Measured:
    base, tuned = ([Item(*pair) for pair in zip(answers, REFERENCES, strict=True)] for answers in (BASE, TUNED))
    scores = [[score.value for score in score_items(items, name, "latin") if score] for items in (base, tuned)]
    return Measured(name, *scores, groups, corpus=corpus_counts(name, base, tuned, "latin"))


@pytest.mark.parametrize(("name", "value"), [("bleu", bleu_value), ("chrf", chrf_value)])
def test_values_of_sums_equal_sacrebleus(name: str, value) -> None:
    metric, counts = METRICS[name], measured(name).corpus
    assert counts is not None
    draw = np.random.default_rng(0)
    weights = draw.integers(0, 2, (200, 60)) * (draw.random((200, 1)) < 0.9)  # some sums are empty
    weights[:40] *= draw.random((40, 60)) < 0.05  # of one or two sentences: orders without a match
    sums = weights @ counts.base
    expected = [metric._compute_score_from_stats([int(one) for one in row]).score for row in sums]
    assert value(sums) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert (value(sums) == 0).any()


def test_a_published_value() -> None:
    # sacrebleu's own test: matches 9, 7, 5, 3 of 10, 8, 6, 4 in 11 tokens for 11.
    assert bleu_value(np.array([11.0, 11, 9, 7, 5, 3, 10, 8, 6, 4])) == pytest.approx(83.75922397, abs=1e-7)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_entries_hold_corpus_scores_and_their_randomisation_equals_sacrebleus(name: str) -> None:
    metric, one = METRICS[name], measured(name)
    entry = compare({name: one}, name)["metrics"][name]
    scores = [metric.corpus_score(answers, [REFERENCES]).score for answers in (BASE, TUNED)]
    assert (entry["base"], entry["tuned"]) == pytest.approx(tuple(scores), rel=1e-9)
    assert entry["difference"] == pytest.approx(scores[1] - scores[0], rel=1e-9)
    assert entry["decided_by"] == "approximate randomisation"
    counts = np.asarray(metric._extract_corpus_statistics(BASE, [REFERENCES]))
    given = {name: (counts, Result(scores[0]))}
    _, found = _paired_ar_test(given, "tuned", TUNED, [REFERENCES], {name: metric}, n_samples=2_000, seed=3)
    assert entry["tests"]["permutation"] == pytest.approx(found[name].p_value, abs=0.02)


def test_with_sacrebleus_draws_the_randomisation_is_sacrebleus() -> None:
    metric, unit = METRICS["bleu"], machinery.reduce(measured("bleu"))
    chosen = np.random.default_rng(7).integers(2, size=(1_000, 60), dtype=bool)
    permuted = unit.permuted((1.0 - 2 * chosen) @ unit.flipped)[:, None]
    p = resampling.share_as_extreme(permuted, np.array([unit.values.mean()]), 60)
    counts = np.asarray(metric._extract_corpus_statistics(BASE, [REFERENCES]))
    score = metric.corpus_score(BASE, [REFERENCES])
    given = {"bleu": (counts, Result(score.score))}
    _, found = _paired_ar_test(given, "tuned", TUNED, [REFERENCES], {"bleu": metric}, n_samples=1_000, seed=7)
    assert p[0] == pytest.approx(found["bleu"].p_value, rel=1e-9)


def test_the_bootstrap_redraws_the_corpus() -> None:
    metric, unit = METRICS["chrf"], machinery.reduce(measured("chrf"))
    redrawn = unit.redrawn(resampling.resampled_sums(unit.resampled, seed=4, resamples=20))
    drawn = np.random.default_rng(4).integers(0, 60, (20, 60))
    for row, found in zip(drawn, redrawn, strict=True):
        references = [[REFERENCES[at] for at in row]]
        base, tuned = (metric.corpus_score([answers[at] for at in row], references).score for answers in (BASE, TUNED))
        assert found == pytest.approx(tuned - base, rel=1e-9)


def test_groups_are_swapped_and_drawn_as_one() -> None:
    groups = [place // 3 for place in range(60)]
    unit = machinery.reduce(measured("bleu", groups))
    assert unit.flipped.shape == (20, 10)
    entry = compare({"bleu": measured("bleu", groups)}, "bleu")["metrics"]["bleu"]
    alone = compare({"bleu": measured("bleu")}, "bleu")["metrics"]["bleu"]
    assert (entry["n"], entry["items"], entry["difference"]) == (20, 60, pytest.approx(alone["difference"]))
    assert "group by group" in entry["why"]


def test_swapping_mirrors_and_a_model_against_itself_is_no_evidence() -> None:
    one = measured("chrf")
    assert one.corpus is not None
    swapped = Measured(
        "chrf", one.tuned, one.base, corpus=type(one.corpus)(one.corpus.tuned, one.corpus.base, chrf_value)
    )
    there, back = (compare({"chrf": each}, "chrf")["metrics"]["chrf"] for each in (one, swapped))
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["p"] == pytest.approx(there["p"])
    assert back["ci95"] == pytest.approx([-there["ci95"][1], -there["ci95"][0]])
    same = Measured("chrf", one.base, one.base, corpus=type(one.corpus)(one.corpus.base, one.corpus.base, chrf_value))
    entry = compare({"chrf": same}, "chrf")["metrics"]["chrf"]
    assert (entry["verdict"], entry["difference"], entry["p"]) == ("no evidence", 0.0, 1.0)


def test_units_values_are_the_influence_of_each() -> None:
    unit = machinery.reduce(measured("bleu"))
    assert unit.values.mean() == pytest.approx(
        bleu_value(unit.corpus.tuned.sum(0)) - bleu_value(unit.corpus.base.sum(0))
    )
    redrawn = unit.redrawn(resampling.resampled_sums(unit.resampled, 0, 2_000))
    assert unit.values.std(ddof=1) / 60**0.5 == pytest.approx(redrawn.std(), rel=0.15)
