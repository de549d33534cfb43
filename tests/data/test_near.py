"""Near-duplicates: against brute force, in bulk, in other scripts."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections import Counter

import datasketch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data import near
from luthier.data.near import NearPair, bands, clusters, near_pairs, near_pairs_between, shingles, word_ngrams
from luthier.data.words import words


def exact(one: str, other: str) -> float:
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second) if first | second else 0.0


def brute(texts: list[str], threshold: float) -> dict[tuple[int, int], float]:
    """Every pair at or above the threshold, by counting what is shared, with no sketch at all."""
    grams = [shingles(text) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = {}
    for place, found in enumerate(grams):
        for gram in found:
            holders.setdefault(gram, []).append(place)
    shared = Counter(pair for places in holders.values() for pair in itertools.combinations(places, 2))
    similar = {(i, j): n / (len(grams[i]) + len(grams[j]) - n) for (i, j), n in shared.items()}
    return {pair: similarity for pair, similarity in similar.items() if similarity >= threshold}


def corpus(count: int, seed: int) -> list[str]:
    """Random texts and copies, changed a little or much, so that similarities cover the whole range."""
    draw = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(3000)]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randint(20, 120))) for _ in range(count)]
    for text in texts[: count // 2]:
        cells = text.split()
        for _ in range(draw.choice([0, 1, 2, 4, 8, 16])):
            cells[draw.randrange(len(cells))] = draw.choice(vocabulary)
        texts.append(" ".join([*cells, draw.choice(vocabulary)]))
    draw.shuffle(texts)
    return texts


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.85, 0.95])
def test_recall_and_precision_against_brute_force(threshold: float) -> None:
    texts = corpus(500, seed=int(threshold * 100))
    expected = brute(texts, threshold)
    found = {(pair.first, pair.second): pair.similarity for pair in near_pairs(texts, threshold)}
    assert len(expected) > 10
    assert set(found) <= set(expected), "a pair below the threshold"
    assert clusters(near_pairs(texts, threshold)) == clusters([NearPair(*pair, 1.0) for pair in expected])
    assert all(found[pair] == pytest.approx(expected[pair]) for pair in found)


def test_a_pair_at_the_threshold_counts_and_one_just_below_does_not() -> None:
    # Ten words, eight 3-grams; the last word changed leaves 7 shared of 9.
    texts = ["a b c d e f g h i j", "a b c d e f g h i k"]
    assert exact(*texts) == pytest.approx(7 / 9)
    assert near_pairs(texts, 7 / 9) == [NearPair(0, 1, 7 / 9)]
    assert near_pairs(texts, 7 / 9 + 1e-9) == []


def test_between_two_sets_equals_brute_force() -> None:
    texts = corpus(400, seed=1)
    left, right = texts[:250], texts[250:]
    expected = {(i, j - 250) for i, j in brute(texts, 0.7) if i < 250 <= j}
    found = {(pair.first, pair.second) for pair in near_pairs_between(left, right, 0.7)}
    assert len(expected) > 10
    assert found <= expected
    assert len(found) >= 0.99 * len(expected)


def test_copies_on_both_sides_are_all_named() -> None:
    left = ["one two three four five six", "something else altogether here now"] + ["one two three four five six"] * 3
    right = ["one two three four five six"] * 4 + ["nothing like it in the whole world"]
    found = near_pairs_between(left, right, 0.9)
    assert {pair.first for pair in found} == {0, 2, 3, 4}
    assert all(pair.similarity == 1.0 for pair in found)


def test_near_copies_on_both_sides_are_all_named() -> None:
    base = "the quick brown fox jumps over the lazy dog near the old river bank"
    left, right = [base + " today"] * 3, [base + " tomorrow"] * 2
    found = near_pairs_between(left, right, 0.7)
    assert {pair.first for pair in found} == {0, 1, 2}
    assert {pair.second for pair in found} == {0, 1}


def template(number: int) -> str:
    return (
        "Please explain to me in simple words for an interview, without any formula, "
        f"what does the term number {number} mean in practice"
    )


def test_thousands_alike_are_chained_into_one_cluster_in_linear_work(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    jaccard = near._jaccard
    monkeypatch.setattr(near, "_jaccard", lambda one, other: compared.append(1) or jaccard(one, other))
    texts = ["the very same text again and again"] * 2000 + [template(number) for number in range(3000)]
    pairs = near_pairs(texts, 0.6)
    assert len(compared) < 20_000  # all pairs would be 12 million
    found = clusters(pairs)
    assert {found[place] for place in range(2000)} == {0}
    assert {found[place] for place in range(2000, 5000)} == {2000}
    assert len(pairs) < 20_000


def test_thousands_just_below_the_threshold_do_not_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    jaccard = near._jaccard

    def counted(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> float:
        compared.append(len(one))
        return jaccard(one, other)

    monkeypatch.setattr(near, "_jaccard", counted)
    texts = [template(number) for number in range(2000)]
    threshold = exact(texts[0], texts[1]) + 0.01
    assert near_pairs(texts, threshold) == []
    assert near_pairs_between(texts[:1000], texts[1000:], threshold) == []
    # Without giving up, each text meets all before it: three million comparisons.
    assert 100 < len(compared) < 3000 * 64


def test_thousands_alike_on_both_sides_are_each_named() -> None:
    texts = [template(number) for number in range(2000)]
    found = near_pairs_between(texts[:1000], texts[1000:], 0.6)
    assert {pair.first for pair in found} == set(range(1000))
    assert len(found) <= 16_000


def test_texts_without_words_match_nothing() -> None:
    assert near_pairs(["", "", "!!!", "!!!", "a b c"], 0.5) == []
    assert near_pairs([], 0.5) == []
    assert near_pairs_between(["", "?"], ["", "?"], 0.5) == []
    assert near_pairs_between([], ["a"], 0.5) == []


def test_short_texts_are_compared_by_words() -> None:
    assert near_pairs(["senior data engineer", "Data Engineer, senior"], 0.9) == [NearPair(0, 1, 1.0)]
    assert shingles("one two three four") == {("one",), ("two",), ("three",), ("four",)}
    assert ("one", "two", "three") in shingles("one two three four five")


def test_texts_of_equal_words_in_other_order_are_not_alike() -> None:
    assert near_pairs(["a b c d e f g h", "h g f e d c b a"], 0.1) == []


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    texts = [
        "机器学习是人工智能的一个重要分支领域",
        "机器学习是人工智能的一个重要分支方向",
        "今天天气很好我们去公园散步",
    ]
    assert [(pair.first, pair.second) for pair in near_pairs(texts, 0.6)] == [(0, 1)]
    assert words("深度 learning") == ["深", "度", "learning"]


def test_combining_marks_stay_with_their_letters() -> None:
    assert words("हिन्दी में") == ["हिन्दी", "में"]
    assert words("ที่นี่") == ["ที่", "นี่"]


def test_words_are_casefolded() -> None:
    assert words("Straße STRASSE don't") == ["strasse", "strasse", "don", "t"]
    assert words("Don't_stop 42!") == ["don", "t_stop", "42"]


def test_word_ngrams() -> None:
    assert word_ngrams("a b c d", 3) == {("a", "b", "c"), ("b", "c", "d")}
    assert word_ngrams("a b", 3) == {("a",), ("b",)}
    assert word_ngrams("", 3) == set()
    with pytest.raises(ValueError, match="at least 1"):
        word_ngrams("a", 0)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01])
def test_a_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_pairs(["a"], threshold)


def test_bands_find_a_pair_at_the_threshold() -> None:
    for threshold in (0.05, 0.2, 0.5, 0.85, 0.99, 1.0):
        count, rows = bands(threshold)
        assert count * rows <= 256
        assert 1 - (1 - threshold**rows) ** count >= 0.95 or rows == 1
    assert bands(0.85) == (12, 9)


def test_the_seed_does_not_change_the_pairs() -> None:
    texts = corpus(200, seed=3)
    assert near_pairs(texts, 0.9, seed=0) == near_pairs(texts, 0.9, seed=1)


def test_datasketch_finds_the_same_components() -> None:
    texts = corpus(300, seed=7)
    index = datasketch.MinHashLSH(num_perm=128, params=bands(0.8))
    theirs = []
    for place, text in enumerate(texts):
        sketch = datasketch.MinHash(num_perm=128)
        sketch.update_batch(" ".join(gram).encode() for gram in shingles(text))
        theirs += [
            NearPair(int(other), place, 1.0) for other in index.query(sketch) if exact(texts[int(other)], text) >= 0.8
        ]
        index.insert(str(place), sketch)
    assert len(theirs) > 10
    ours, others = clusters(near_pairs(texts, 0.8)), clusters(theirs)
    assert len(ours.items() & others.items()) >= 0.95 * len(ours.items() | others.items())


def test_another_process_finds_the_same_pairs() -> None:
    code = (
        "from luthier.data.near import near_pairs; print(near_pairs(['a b c d e f', 'x y z', 'a b c d e g'] * 3, 0.5))"
    )
    results = set()
    for salt in ("1", "2"):  # the seed of Python's own hash of texts
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        results.add(done.stdout)
    assert len(results) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12).map(" ".join), max_size=30),
    st.sampled_from([0.3, 0.6, 0.9, 1.0]),
)
def test_any_texts_give_only_true_pairs_and_the_components_of_brute_force(texts: list[str], threshold: float) -> None:
    expected = brute(texts, threshold)
    pairs = near_pairs(texts, threshold)
    assert pairs == sorted(set(pairs))
    assert {pair[:2] for pair in pairs} <= set(expected)
    if threshold >= 0.9:  # every copy is in its component
        found = clusters(pairs)
        equal = [pair for pair, similarity in expected.items() if similarity == 1]
        assert all(found[i] == found[j] for i, j in equal)


def test_a_cluster_is_named_by_its_first_text() -> None:
    pairs = [NearPair(4, 9, 1.0), NearPair(2, 9, 1.0), NearPair(5, 6, 1.0)]
    assert clusters(pairs) == {2: 2, 4: 2, 9: 2, 5: 5, 6: 5}
